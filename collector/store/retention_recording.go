package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// RemoveRecordings removes the rows of the oldest recordings that were stored longer ago than keep, most of them at the
// most, together with the chunks that they were made of, whose numbers go into released. It tells how many. The objects
// still have to go: [Lease.RemovedRecordings] names them.
func (l *Lease) RemoveRecordings(ctx context.Context, keep time.Duration, most int) (removed int, err error) {
	type recording struct{ id, acquisition string }
	for range most {
		var r recording
		err := l.transact(ctx, func(tx *sql.Tx, now time.Time) error {
			err := l.db.queryRow(ctx, tx, "SELECT id, coalesce(acquisition, '') FROM recording WHERE stored < $1 ORDER BY stored, id LIMIT 1", now.Add(-keep)).
				Scan(&r.id, &r.acquisition)
			if err != nil {
				return err
			}
			return l.removeRecording(ctx, tx, now, r.id, r.acquisition)
		})
		if errors.Is(err, sql.ErrNoRows) {
			return removed, nil
		}
		if err != nil {
			return removed, leaseError(err, "remove recording %s", r.id)
		}
		removed++
	}
	return removed, nil
}

func (l *Lease) removeRecording(ctx context.Context, tx *sql.Tx, now time.Time, id, acquisition string) error {
	// Whoever changes an acquisition locks it first.
	if _, err := l.db.exec(ctx, tx, "SELECT 1 FROM acquisition WHERE id = $1 FOR UPDATE", acquisition); err != nil {
		return err
	}
	var station, capture, key string
	err := l.db.queryRow(ctx, tx, "SELECT station, capture_id, key FROM recording WHERE id = $1 FOR UPDATE", id).Scan(&station, &capture, &key)
	if err != nil {
		return err
	}
	if err := l.removeChunks(ctx, tx, station, capture); err != nil {
		return err
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
			return err
		}
	}
	return nil
}

// removeChunks removes the rows of a capture's chunks. They may be of several spools, for a new identity takes unsent ones over.
func (l *Lease) removeChunks(ctx context.Context, tx *sql.Tx, station, capture string) error {
	var streams []protocol.Stream
	err := l.db.forEach(ctx, tx, "SELECT DISTINCT spool FROM iq_chunk WHERE station = $1 AND capture_id = $2 ORDER BY spool",
		[]any{station, capture}, func(rows *sql.Rows) error {
			var spool []byte
			err := rows.Scan(&spool)
			s := protocol.Stream{Station: station}
			copy(s.Spool[:], spool)
			streams = append(streams, s)
			return err
		})
	if err != nil {
		return err
	}
	for _, stream := range streams {
		slice := removal{db: l.db, tx: tx, stream: stream, table: "iq_chunk"}
		if err := slice.lock(ctx); err != nil {
			return err
		}
		err := l.db.forEach(ctx, tx, "SELECT seq, time FROM iq_chunk WHERE station = $1 AND spool = $2 AND capture_id = $3",
			[]any{station, stream.Spool[:], capture}, slice.add)
		if err != nil {
			return err
		}
		if len(slice.seqs) == 0 {
			continue
		}
		if err := slice.remove(ctx); err != nil {
			return err
		}
	}
	return nil
}

// RemovedRecordings lists the keys of removed recordings whose objects may still be there.
func (l *Lease) RemovedRecordings(ctx context.Context, most int) ([]string, error) {
	var keys []string
	err := l.db.forEach(ctx, l.db.read, fmt.Sprintf("SELECT key FROM recording_removed ORDER BY removed, key LIMIT %d", most), nil, func(rows *sql.Rows) error {
		var key string
		err := rows.Scan(&key)
		keys = append(keys, key)
		return err
	})
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
