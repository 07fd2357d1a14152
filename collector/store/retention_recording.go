package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// OldRecordings lists recordings that were stored longer ago than keep, by their ids from after one on, most of them at the
// most.
func (l *Lease) OldRecordings(ctx context.Context, keep time.Duration, after string, most int) ([]string, error) {
	var now time.Time
	if err := l.db.queryRow(ctx, l.db.read, "SELECT clock_timestamp()").Scan(scanTime{&now}); err != nil {
		return nil, wrap(err, "ask for the time")
	}
	ids, err := l.names(ctx, fmt.Sprintf("SELECT id FROM recording WHERE stored < $1 AND id > $2 ORDER BY id LIMIT %d", most), now.Add(-keep), after)
	return ids, wrap(err, "list old recordings")
}

// OldestRecordings lists recordings that were stored longer ago than keep, the oldest first, up to so many bytes; at least
// one where there is one.
func (l *Lease) OldestRecordings(ctx context.Context, keep time.Duration, bytes int64) (ids []string, err error) {
	var now time.Time
	if err := l.db.queryRow(ctx, l.db.read, "SELECT clock_timestamp()").Scan(scanTime{&now}); err != nil {
		return nil, wrap(err, "ask for the time")
	}
	err = l.db.forEach(ctx, l.db.read, "SELECT id, bytes FROM recording WHERE stored < $1 ORDER BY stored, id LIMIT 1000", []any{now.Add(-keep)}, func(rows *sql.Rows) error {
		var id string
		var size int64
		if err := rows.Scan(&id, &size); err != nil || bytes <= 0 {
			return err
		}
		ids, bytes = append(ids, id), bytes-size
		return nil
	})
	return ids, wrap(err, "list the oldest recordings")
}

// names are the values of a query's one column.
func (l *Lease) names(ctx context.Context, query string, args ...any) (names []string, err error) {
	err = l.db.forEach(ctx, l.db.read, query, args, func(rows *sql.Rows) error {
		var name string
		err := rows.Scan(&name)
		names = append(names, name)
		return err
	})
	return names, err
}

// RemoveRecording removes the rows of the chunks that a recording was made of, whose numbers go into released, most of them at
// the most, and the recording's own with the last ones. It tells how many rows went; none when nothing is left. The
// objects still have to go: [Lease.RemovedRecordings] names them.
func (l *Lease) RemoveRecording(ctx context.Context, id string, most int) (removed int, err error) {
	err = l.transact(ctx, func(tx *sql.Tx, now time.Time) error {
		var acquisition string
		err := l.db.queryRow(ctx, tx, "SELECT coalesce(acquisition, '') FROM recording WHERE id = $1", id).Scan(&acquisition)
		if errors.Is(err, sql.ErrNoRows) {
			removed = 0
			return nil
		}
		if err != nil {
			return err
		}
		removed, err = l.removeRecording(ctx, tx, now, id, acquisition, most)
		return err
	})
	if err != nil {
		return 0, leaseError(err, "remove recording %s", id)
	}
	return removed, nil
}

func (l *Lease) removeRecording(ctx context.Context, tx *sql.Tx, now time.Time, id, acquisition string, most int) (removed int, err error) {
	// Whoever changes an acquisition locks it first.
	if _, err := l.db.exec(ctx, tx, "SELECT 1 FROM acquisition WHERE id = $1 FOR UPDATE", acquisition); err != nil {
		return 0, err
	}
	var station, capture, key string
	err = l.db.queryRow(ctx, tx, "SELECT station, capture_id, key FROM recording WHERE id = $1 FOR UPDATE", id).Scan(&station, &capture, &key)
	if err != nil {
		return 0, err
	}
	if removed, err = l.removeChunks(ctx, tx, station, capture, most); err != nil || removed == most {
		return removed, err // there may be more
	}
	for _, statement := range []struct {
		sql  string
		args []any
	}{
		{"INSERT INTO recording_removed (key, removed) VALUES ($1, $2) ON CONFLICT DO NOTHING", []any{key, now}},
		{"UPDATE acquisition_station SET recording = '' WHERE acquisition = $1 AND station = $2 AND recording = $3", []any{acquisition, station, id}},
		{"DELETE FROM recording WHERE id = $1", []any{id}},
	} {
		if _, err := l.db.exec(ctx, tx, statement.sql, statement.args...); err != nil {
			return 0, err
		}
	}
	return removed + 1, nil
}

// removeChunks removes rows of a capture's chunks, and tells how many. They may be of several spools, for a new identity takes unsent ones over.
func (l *Lease) removeChunks(ctx context.Context, tx *sql.Tx, station, capture string, most int) (removed int, err error) {
	var streams []protocol.Stream
	err = l.db.forEach(ctx, tx, "SELECT DISTINCT spool FROM iq_chunk WHERE station = $1 AND capture_id = $2 ORDER BY spool",
		[]any{station, capture}, func(rows *sql.Rows) error {
			var spool []byte
			err := rows.Scan(&spool)
			s := protocol.Stream{Station: station}
			copy(s.Spool[:], spool)
			streams = append(streams, s)
			return err
		})
	if err != nil {
		return 0, err
	}
	for _, stream := range streams {
		slice := removal{db: l.db, tx: tx, stream: stream, table: "iq_chunk"}
		if err := slice.lock(ctx); err != nil {
			return 0, err
		}
		err := l.db.forEach(ctx, tx, fmt.Sprintf("SELECT seq, time FROM iq_chunk WHERE station = $1 AND spool = $2 AND capture_id = $3 LIMIT %d", most-removed),
			[]any{station, stream.Spool[:], capture}, slice.add)
		if err != nil {
			return 0, err
		}
		if len(slice.seqs) == 0 {
			continue
		}
		if err := slice.remove(ctx); err != nil {
			return 0, err
		}
		removed += len(slice.seqs)
	}
	return removed, nil
}

// RemovedRecordings lists the keys of removed recordings whose objects may still be there, from after one on, most of them at
// the most.
func (l *Lease) RemovedRecordings(ctx context.Context, after string, most int) ([]string, error) {
	keys, err := l.names(ctx, fmt.Sprintf("SELECT key FROM recording_removed WHERE key > $1 ORDER BY key LIMIT %d", most), after)
	return keys, wrap(err, "list removed recordings")
}

// ForgetRecording notes that the objects of a removed recording are gone.
func (l *Lease) ForgetRecording(ctx context.Context, key string) error {
	err := l.transact(ctx, func(tx *sql.Tx, _ time.Time) error {
		_, err := l.db.exec(ctx, tx, "DELETE FROM recording_removed WHERE key = $1", key)
		return err
	})
	return leaseError(err, "forget recording %s", key)
}
