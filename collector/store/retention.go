package store

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/fulgidus/heimdall/packaging/failpoint"
	"github.com/fulgidus/heimdall/protocol"
)

// aheadOfReceived is more than a record's time may lie after its arrival, so that rows that arrived before a time are looked
// for among those made before a little later, by an index, and in the chunks of that time.
const aheadOfReceived = 10 * time.Minute

// Spools lists the spools that have rows which retention may remove.
func (l *Lease) Spools(ctx context.Context) ([]protocol.Stream, error) {
	var streams []protocol.Stream
	err := l.db.forEach(ctx, l.db.read, "SELECT station, spool FROM spool WHERE received <> released ORDER BY station, spool", nil, func(rows *sql.Rows) error {
		var s protocol.Stream
		var spool []byte
		err := rows.Scan(&s.Station, &spool)
		copy(s.Spool[:], spool)
		streams = append(streams, s)
		return err
	})
	return streams, wrap(err, "list spools")
}

// RemoveRecords removes the oldest rows of a kind and spool that were received longer ago than keep, most of them at the
// most, and tells how many. Their numbers go into the spool's released in the same transaction. Chunks of captures are left
// alone while they belong to a recording: [Lease.RemoveRecording] takes both.
func (l *Lease) RemoveRecords(ctx context.Context, kind protocol.Kind, stream protocol.Stream, keep time.Duration, most int) (int, error) {
	t := l.db.tables[kind]
	var slice removal
	err := l.transact(ctx, func(tx *sql.Tx, now time.Time) error {
		slice = removal{db: l.db, tx: tx, stream: stream, table: t.name, before: now.Add(-keep)}
		if err := slice.lock(ctx); err != nil {
			return err
		}
		if err := slice.find(ctx, most); err != nil || len(slice.seqs) == 0 {
			return err
		}
		if err := slice.addUp(ctx); err != nil {
			return wrap(err, "add up %s", t.name)
		}
		return slice.remove(ctx)
	})
	if err != nil {
		return 0, leaseError(err, "remove old rows of %s", t.name)
	}
	if len(slice.seqs) > 0 {
		l.db.refreshHours(ctx, t.name, slice.first, slice.last)
	}
	return len(slice.seqs), nil
}

// removal is some rows of one table and spool on their way out.
type removal struct {
	db          *DB
	tx          *sql.Tx
	stream      protocol.Stream
	table       string
	before      time.Time // of arrival
	seqs        []int64
	first, last time.Time // of the rows
}

// lock keeps records of the spool out until the transaction ends, as every commit locks this row first.
func (r *removal) lock(ctx context.Context) error {
	_, err := r.db.exec(ctx, r.tx, "SELECT 1 FROM spool WHERE station = $1 AND spool = $2 FOR UPDATE", r.stream.Station, r.stream.Spool[:])
	return wrap(err, "lock the ledger")
}

func (r *removal) find(ctx context.Context, most int) error {
	whole := ""
	if r.table == "iq_chunk" {
		whole = " AND NOT EXISTS (SELECT 1 FROM recording WHERE recording.station = t.station AND recording.capture_id = t.capture_id)"
	}
	err := r.db.forEach(ctx, r.tx, "SELECT seq, time FROM "+r.table+` AS t
		WHERE station = $1 AND spool = $2 AND time < $3 AND received < $4`+whole+fmt.Sprintf(" ORDER BY time, seq LIMIT %d", most),
		[]any{r.stream.Station, r.stream.Spool[:], r.before.Add(aheadOfReceived), r.before}, r.add)
	return wrap(err, "look for old rows of %s", r.table)
}

// add takes a row of seq and time.
func (r *removal) add(rows *sql.Rows) error {
	var seq int64
	var at time.Time
	if err := rows.Scan(&seq, scanTime{&at}); err != nil {
		return err
	}
	if len(r.seqs) == 0 || at.Before(r.first) {
		r.first = at
	}
	if len(r.seqs) == 0 || at.After(r.last) {
		r.last = at
	}
	r.seqs = append(r.seqs, seq)
	return nil
}

// remove enters the numbers as released and deletes their rows.
func (r *removal) remove(ctx context.Context) error {
	var numbers protocol.Ranges
	low, high := int64(math.MaxInt64), int64(0)
	for _, seq := range r.seqs {
		numbers.Add(uint64(seq))
		low, high = min(low, seq), max(high, seq)
	}
	if err := r.release(ctx, numbers); err != nil {
		return wrap(err, "enter %d rows of %s as released", len(r.seqs), r.table)
	}
	failpoint.Hit("store.released")
	from, args := r.db.backend.list(7, r.seqs)
	// The bounds spare a compressed chunk from being unpacked as a whole.
	args = append([]any{r.stream.Station, r.stream.Spool[:], low, high, r.first, r.last}, args...)
	result, err := r.db.exec(ctx, r.tx, "DELETE FROM "+r.table+` WHERE station = $1 AND spool = $2 AND seq >= $3 AND seq <= $4
		AND time >= $5 AND time <= $6 AND seq IN (SELECT c1 FROM `+from+")", args...)
	if err != nil {
		return wrap(err, "delete from %s", r.table)
	}
	if n, err := result.RowsAffected(); err == nil && n < int64(len(r.seqs)) {
		return &Error{Class: ClassAll, Err: fmt.Errorf("deleted %d of %d rows of %s", n, len(r.seqs), r.table)}
	}
	return nil
}

// release adds to the spool's released. PostgreSQL makes the union itself, for kinds that are kept for different times make
// it a set of millions.
func (r *removal) release(ctx context.Context, numbers protocol.Ranges) error {
	union := "released + $3::int8multirange"
	if _, ok := r.db.backend.(postgresBackend); !ok {
		released, err := r.db.releasedOf(ctx, r.tx, r.stream)
		if err != nil {
			return err
		}
		union, numbers = "$3", released.Union(numbers)
	}
	_, err := r.db.exec(ctx, r.tx, "UPDATE spool SET released = "+union+" WHERE station = $1 AND spool = $2",
		r.stream.Station, r.stream.Spool[:], numbers.String())
	return err
}

// RemoveRejected removes rows of what was rejected longer ago than keep, most of them at the most, and tells how many. The
// numbers of those that have one go into their spools' released in the same transaction.
func (l *Lease) RemoveRejected(ctx context.Context, keep time.Duration, most int) (removed int, err error) {
	err = l.transact(ctx, func(tx *sql.Tx, now time.Time) error {
		removed = 0
		spools, nameless, err := l.oldRejected(ctx, tx, now.Add(-keep), most)
		if err != nil {
			return err
		}
		for _, stream := range slices.SortedFunc(maps.Keys(spools), compareStreams) { // as commits lock them
			r := removal{db: l.db, tx: tx, stream: stream, table: "rejected", seqs: spools[stream]}
			if err := r.lock(ctx); err != nil {
				return err
			}
			if err := r.removeRejected(ctx); err != nil {
				return err
			}
			removed += len(r.seqs)
		}
		for station, digests := range nameless {
			from, args := l.db.backend.list(2, digests)
			_, err := l.db.exec(ctx, tx, "DELETE FROM rejected WHERE station = $1 AND seq IS NULL AND digest IN (SELECT c1 FROM "+from+")",
				append([]any{station}, args...)...)
			if err != nil {
				return err
			}
			removed += len(digests)
		}
		return nil
	})
	if err != nil {
		return 0, leaseError(err, "remove old rejections")
	}
	return removed, nil
}

// oldRejected looks for what was rejected before a time: the numbers of spools, and of each station the digests of what has
// no number.
func (l *Lease) oldRejected(ctx context.Context, tx *sql.Tx, before time.Time, most int) (map[protocol.Stream][]int64, map[string][][]byte, error) {
	spools, nameless := make(map[protocol.Stream][]int64), make(map[string][][]byte)
	err := l.db.forEach(ctx, tx, fmt.Sprintf("SELECT station, spool, seq, digest FROM rejected WHERE received < $1 LIMIT %d", most), []any{before},
		func(rows *sql.Rows) error {
			var station string
			var spool, digest []byte
			var seq sql.NullInt64
			if err := rows.Scan(&station, &spool, &seq, &digest); err != nil {
				return err
			}
			if !seq.Valid {
				nameless[station] = append(nameless[station], digest)
				return nil
			}
			stream := protocol.Stream{Station: station}
			copy(stream.Spool[:], spool)
			spools[stream] = append(spools[stream], seq.Int64)
			return nil
		})
	return spools, nameless, wrap(err, "look for old rejections")
}

func (r *removal) removeRejected(ctx context.Context) error {
	var numbers protocol.Ranges
	for _, seq := range r.seqs {
		numbers.Add(uint64(seq))
	}
	if err := r.release(ctx, numbers); err != nil {
		return wrap(err, "enter %d rejections as released", len(r.seqs))
	}
	from, args := r.db.backend.list(3, r.seqs)
	_, err := r.db.exec(ctx, r.tx, "DELETE FROM rejected WHERE station = $1 AND spool = $2 AND seq IN (SELECT c1 FROM "+from+")",
		append([]any{r.stream.Station, r.stream.Spool[:]}, args...)...)
	return wrap(err, "delete from rejected")
}

// RemoveAudit removes the oldest entries of the audit that are older than keep, and tells how many.
func (l *Lease) RemoveAudit(ctx context.Context, keep time.Duration, most int) (int, error) {
	var removed int64
	err := l.transact(ctx, func(tx *sql.Tx, now time.Time) error {
		result, err := l.db.exec(ctx, tx, `DELETE FROM audit WHERE time <= (SELECT max(time) FROM
			(SELECT time FROM audit WHERE time < $1 ORDER BY time LIMIT `+fmt.Sprint(most)+`) AS oldest)`, now.Add(-keep))
		if err != nil {
			return err
		}
		removed, err = result.RowsAffected()
		return err
	})
	return int(removed), leaseError(err, "remove old entries of the audit")
}
