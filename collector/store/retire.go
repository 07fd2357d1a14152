package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// ownSpool holds the records that collectors make about a station.
var ownSpool = [protocol.SpoolBytes]byte{}

// errNothingOwed ends a retirement without a trace.
var errNothingOwed = errors.New("the spool owes nothing")

// RetireSpool declares all that a spool still owes as abandoned, by a Gap record of the collectors' own, and notes who did
// so in the audit. It tells which numbers that were; none is no error, and notes nothing. What arrives all the same is
// stored as ever. [ErrNotFound] says that nothing is known of the spool.
func (db *DB) RetireSpool(ctx context.Context, stream protocol.Stream, actor string) (owed protocol.Ranges, err error) {
	now := time.Now().UTC().Truncate(time.Microsecond)
	err = db.transact(ctx, func(tx *sql.Tx) error {
		err := db.queryRow(ctx, tx, "SELECT 1 FROM spool WHERE station = $1 AND spool = $2", stream.Station, stream.Spool[:]).Scan(new(int))
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNotFound
		}
		if err != nil {
			return err
		}
		own := protocol.Stream{Station: stream.Station, Spool: ownSpool}
		locked, err := db.lockLedgers(ctx, tx, now, map[protocol.Stream]bool{stream: true, own: true})
		if err != nil {
			return err
		}
		_, _, pending, missing := locked[stream].owed()
		if owed = pending.Union(missing); owed.Empty() {
			return stopError{errNothingOwed} // the collectors' own spool is not made, either
		}
		free := protocol.Ranges{{From: 1, To: protocol.MaxSeq}}.Subtract(locked[own].received).Subtract(locked[own].rejected)
		gap := &protocol.Record{
			Station: &stream.Station, Spool: ownSpool[:], Seq: new(free.First()), Time: new(now.UnixNano()),
			Body: &protocol.Record_Gap{Gap: &protocol.Gap{
				Spool: stream.Spool[:], Ranges: owed.Wire(), Records: new(owed.Count()), Reason: protocol.Gap_REASON_ABANDONED.Enum(),
			}},
		}
		entries, err := newEntries([]*protocol.Record{gap}, &now)
		if err != nil {
			return err
		}
		c := &commit{db: db, tx: transaction{Tx: tx}, received: now, entries: entries, fresh: make([]bool, 1)}
		if err := c.run(ctx); err != nil {
			return err
		}
		return db.audit(ctx, tx, now, actor, "retire-spool", fmt.Sprintf("%s %x", stream.Station, stream.Spool),
			map[string]any{"abandoned": owed.String(), "records": owed.Count()})
	})
	if stop, ok := errors.AsType[stopError](err); ok && errors.Is(stop.err, errNothingOwed) {
		return nil, nil
	}
	return owed, wrap(err, "retire spool %x of %s", stream.Spool, stream.Station)
}
