package store

import (
	"context"
	"database/sql"

	"github.com/fulgidus/heimdall/protocol"
)

// Verdict is what became of the numbers of one spool, from 1 to the highest known.
type Verdict struct {
	Station   string                    `json:"station"`
	Spool     [protocol.SpoolBytes]byte `json:"-"`
	First     uint64                    `json:"first"` // lowest settled number; 0 when there is none
	Last      uint64                    `json:"last"`  // highest that the collector knows of
	Stored    uint64                    `json:"stored"`
	Released  uint64                    `json:"released"` // stored once, and removed by retention
	Gaps      uint64                    `json:"gaps"`     // declared lost and not stored
	Rejected  uint64                    `json:"rejected"` // also those whose rows retention has removed
	Pending   uint64                    `json:"pending"`  // still in the agent's spool
	Missing   uint64                    `json:"missing"`
	Duplicate uint64                    `json:"duplicate"` // rows beyond one for a number

	Owed            uint64          `json:"-"` // of the missing: never settled here, so that retiring the spool declares them
	MissingRanges   protocol.Ranges `json:"-"`
	DuplicateRanges protocol.Ranges `json:"-"`
}

// OK tells whether nothing is missing and nothing is there twice.
func (v Verdict) OK() bool { return v.Missing == 0 && v.Duplicate == 0 }

// Verify accounts for every number of every spool of a station, or of all when it is empty. It compares the ledger with
// the rows themselves. A spool of which no number is known is left out: somebody gave up all that it may have held, but no more
// is known of it, as after a trial under another station's name.
//
// Pending is what the agent's newest health record still held. A number that the agent gave after it made that record
// cannot be in it: as long as it is not settled, it counts as pending, too. With final, pending counts as missing.
func (db *DB) Verify(ctx context.Context, station string, final bool) ([]Verdict, error) {
	// One snapshot, or a record that comes meanwhile would be in one table and not in the other.
	tx, err := db.read.BeginTx(ctx, db.backend.snapshot())
	if err != nil {
		return nil, wrap(err, "verify")
	}
	defer func() { _ = tx.Rollback() }() // it only reads
	all, err := db.ledgersOf(ctx, tx, station)
	if err != nil {
		return nil, wrap(err, "verify")
	}
	verdicts := make([]Verdict, 0, len(all))
	for _, l := range all {
		v, err := db.verify(ctx, tx, l, final)
		if err != nil {
			return nil, wrap(err, "verify spool %x of %s", l.stream.Spool, l.stream.Station)
		}
		if v.Last > 0 || v.Stored > 0 {
			verdicts = append(verdicts, v)
		}
	}
	return verdicts, nil
}

func (db *DB) verify(ctx context.Context, q querier, l *ledger, final bool) (Verdict, error) {
	v := Verdict{Station: l.stream.Station, Spool: l.stream.Spool}
	present, rows, err := db.rowsOf(ctx, q, l.stream)
	if err != nil {
		return v, err
	}
	refused, err := db.refusedOf(ctx, q, l.stream)
	if err != nil {
		return v, err
	}
	released, err := db.releasedOf(ctx, q, l.stream)
	if err != nil {
		return v, err
	}
	last, settled, pending, missing := l.owed()
	v.First, v.Last = settled.First(), last
	if final {
		missing = missing.Union(pending)
	}
	v.Owed = missing.Count()
	// The ledger is a promise; the rows are the proof.
	missing = missing.Union(l.received.Subtract(released).Subtract(present)).Union(l.rejected.Subtract(released).Subtract(refused))
	v.Stored, v.Duplicate = rows, rows-present.Count()
	v.Released, v.Gaps, v.Rejected, v.Pending = released.Subtract(l.rejected).Count(), l.declared().Count(), l.rejected.Count(), pending.Count()
	v.Missing, v.MissingRanges = missing.Count(), missing
	if v.Duplicate > 0 {
		v.DuplicateRanges, err = db.duplicatesOf(ctx, q, l.stream)
	}
	return v, err
}

// owed divides the numbers from 1 to the last known one: those that are settled, those that the agent is known or free to
// hold still, and those that should be settled and are not.
func (l *ledger) owed() (last uint64, settled, pending, missing protocol.Ranges) {
	settled, last = l.settled(), l.last()
	pending = l.pending.Subtract(settled)
	if horizon := max(l.lastSeq, l.healthSeq); l.healthSeq > 0 && horizon < last {
		pending = pending.Union(protocol.Ranges{{From: horizon + 1, To: last}}).Subtract(settled)
	}
	if last > 0 {
		missing = protocol.Ranges{{From: 1, To: last}}.Subtract(settled).Subtract(pending)
	}
	return last, settled, pending, missing
}

// Holes tells of each spool which numbers should be settled here by what its agent said last, and are not. In a database
// that only went forward there are none. Of a spool without a health record nothing is known, so nothing is said.
func (db *DB) Holes(ctx context.Context) (map[protocol.Stream]protocol.Ranges, error) {
	all, err := db.ledgersOf(ctx, db.read, "")
	if err != nil {
		return nil, err
	}
	holes := make(map[protocol.Stream]protocol.Ranges)
	for _, l := range all {
		if _, _, _, missing := l.owed(); l.healthSeq > 0 && !missing.Empty() {
			holes[l.stream] = missing
		}
	}
	return holes, nil
}

// rowsOf is which numbers of a spool have rows, and how many rows there are. Neighbours are joined by the server: a
// number less its place in the order is the same for all of one range.
func (db *DB) rowsOf(ctx context.Context, q querier, stream protocol.Stream) (present protocol.Ranges, rows uint64, err error) {
	return db.islands(ctx, q, "record", stream)
}

// releasedOf is which numbers of a spool retention has removed.
func (db *DB) releasedOf(ctx context.Context, q querier, stream protocol.Stream) (released protocol.Ranges, err error) {
	err = db.queryRow(ctx, q, "SELECT CAST(released AS text) FROM spool WHERE station = $1 AND spool = $2", stream.Station, stream.Spool[:]).
		Scan(scanRanges{&released})
	return released, err
}

// refusedOf is which numbers of a spool are in the table of rejections.
func (db *DB) refusedOf(ctx context.Context, q querier, stream protocol.Stream) (protocol.Ranges, error) {
	present, _, err := db.islands(ctx, q, "rejected", stream)
	return present, err
}

func (db *DB) islands(ctx context.Context, q querier, table string, stream protocol.Stream) (present protocol.Ranges, rows uint64, err error) {
	err = db.forEach(ctx, q, `SELECT min(seq), max(seq), CAST(sum(n) AS bigint)
		FROM (SELECT seq, n, seq - row_number() OVER (ORDER BY seq) AS island
			FROM (SELECT seq, count(*) AS n FROM `+table+` WHERE station = $1 AND spool = $2 GROUP BY seq) AS numbers) AS islands
		GROUP BY island ORDER BY 1`, []any{stream.Station, stream.Spool[:]}, func(r *sql.Rows) error {
		var from, to, n uint64
		if err := r.Scan(&from, &to, &n); err != nil {
			return err
		}
		present.AddRange(from, to)
		rows += n
		return nil
	})
	return present, rows, err
}

func (db *DB) duplicatesOf(ctx context.Context, q querier, stream protocol.Stream) (twice protocol.Ranges, err error) {
	err = db.forEach(ctx, q, "SELECT seq FROM record WHERE station = $1 AND spool = $2 GROUP BY seq HAVING count(*) > 1 ORDER BY seq LIMIT 10000",
		[]any{stream.Station, stream.Spool[:]}, func(r *sql.Rows) error {
			var seq uint64
			err := r.Scan(&seq)
			twice.Add(seq)
			return err
		})
	return twice, err
}
