package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/fulgidus/heimdall/packaging/failpoint"
	"github.com/fulgidus/heimdall/protocol"
)

// Commit stores records and rejections in one transaction and tells, for each spool it touched, what is settled there.
// Fresh tells which records were not in before; the others were left as they are. When a repeat has another content than
// what is stored under its number, the acknowledgement names the conflict.
//
// Nothing is stored when err is not nil, unless the connection broke during the commit itself; calling again with the
// same arguments is right in both cases. The error is an [*Error]: of [ClassRecord] when the call would succeed without
// one of its records.
func (db *DB) Commit(ctx context.Context, received time.Time, records []*protocol.Record, rejected []protocol.Rejection,
) (fresh []bool, acks map[protocol.Stream]*protocol.Ack, err error) {
	received = received.UTC().Truncate(time.Microsecond)
	entries, err := newEntries(records, &received)
	if err != nil {
		return nil, nil, err
	}
	refusals := newRefusals(rejected)
	if len(entries)+len(refusals) == 0 {
		return nil, nil, nil
	}
	work := func(copies bool) error {
		return db.transactOn(ctx, func(tx transaction) error {
			tx.copies = copies
			c := &commit{db: db, tx: tx, received: received, entries: entries, refusals: refusals, fresh: make([]bool, len(entries))}
			failpoint.Hit("store.begun")
			if err := c.run(ctx); err != nil {
				return err
			}
			fresh, acks = c.fresh, c.acks()
			return nil
		})
	}
	if err = work(true); errors.Is(err, errThere) {
		err = work(false)
	}
	if err != nil {
		return nil, nil, wrap(err, "commit %d records and %d rejections", len(records), len(rejected))
	}
	return fresh, acks, nil
}

// newEntries checks that every record has an identity and prepares it for storing.
func newEntries(records []*protocol.Record, received *time.Time) ([]*entry, error) {
	entries := make([]*entry, len(records))
	rows := make([]entry, len(records))
	for i, rec := range records {
		if err := protocol.ValidStation(rec.GetStation()); err != nil {
			return nil, refuse("record %d: %w", i, err)
		}
		if len(rec.GetSpool()) != protocol.SpoolBytes {
			return nil, refuse("record %d: spool: %x: want %d bytes", i, rec.GetSpool(), protocol.SpoolBytes)
		}
		if seq := rec.GetSeq(); seq == 0 || seq > protocol.MaxSeq {
			return nil, refuse("record %d: seq: %d: want 1 to %d", i, seq, uint64(protocol.MaxSeq))
		}
		if rec.Time == nil {
			return nil, refuse("record %d: time: missing: every record has one", i)
		}
		if rec.Kind() == "" {
			return nil, refuse("record %d: it holds nothing that this version knows", i)
		}
		entries[i] = &rows[i]
		rows[i] = entry{rec: rec, stream: rec.Stream(), seq: rec.GetSeq(), digest: protocol.Digest(rec), received: received}
		rows[i].time, rows[i].timeNS = micros(rec.GetTime())
	}
	return entries, nil
}

// commit is the work of one transaction.
type commit struct {
	db       *DB
	tx       transaction
	received time.Time
	entries  []*entry
	refusals []refusal
	fresh    []bool // of entries
	ledgers  ledgers
}

func (c *commit) run(ctx context.Context) error {
	if err := c.db.addStations(ctx, c.tx.Tx, c.received, stationsOf(c.entries)); err != nil {
		return err
	}
	streams, err := c.streams()
	if err != nil {
		return err
	}
	if c.ledgers, err = c.db.lockLedgers(ctx, c.tx.Tx, c.received, streams); err != nil {
		return err
	}
	fresh, repeats := c.sort()
	if err := c.findConflicts(ctx, repeats); err != nil {
		return err
	}
	if err := c.account(fresh); err != nil {
		return err
	}
	if err := c.insert(ctx, fresh); err != nil {
		return err
	}
	failpoint.Hit("store.inserted")
	if err := c.reject(ctx); err != nil {
		return err
	}
	if err := c.db.saveLedgers(ctx, c.tx.Tx, c.received, c.ledgers); err != nil {
		return err
	}
	failpoint.Hit("store.accounted")
	return nil
}

// streams are all spools whose ledger the transaction may change: those of the records and rejections, and those that
// gap records speak of.
func (c *commit) streams() (map[protocol.Stream]bool, error) {
	streams := make(map[protocol.Stream]bool)
	for _, e := range c.entries {
		streams[e.stream] = true
		if gap := e.rec.GetGap(); gap != nil {
			about, err := gapStream(e)
			if err != nil {
				return nil, err
			}
			streams[about] = true
		}
	}
	for _, r := range c.refusals {
		if r.numbered {
			streams[r.stream] = true
		}
	}
	return streams, nil
}

// gapStream is the spool that a gap record speaks of: its own unless it names another of the same station.
func gapStream(e *entry) (protocol.Stream, error) {
	about := e.stream
	if spool := e.rec.GetGap().Spool; len(spool) > 0 {
		if len(spool) != protocol.SpoolBytes {
			return about, refuse("gap.spool: %x: want %d bytes", spool, protocol.SpoolBytes)
		}
		about.Spool = [protocol.SpoolBytes]byte(spool)
	}
	return about, nil
}

// sort tells new records from repeats, and enters the new ones as received.
func (c *commit) sort() (fresh, repeats []*entry) {
	type identity struct {
		protocol.Stream
		seq uint64
	}
	here := make(map[identity]*entry) // new in this very batch
	for i, e := range c.entries {
		l := c.ledgers[e.stream]
		switch id := (identity{e.stream, e.seq}); {
		case here[id] != nil:
			if here[id].digest != e.digest {
				l.conflict.Add(e.seq)
			}
		case l.received.Contains(e.seq):
			repeats = append(repeats, e)
		case l.rejected.Contains(e.seq):
			// Refused before, and settled so.
		default:
			here[id] = e
			l.received.Add(e.seq)
			c.fresh[i] = true
			fresh = append(fresh, e)
		}
	}
	return fresh, repeats
}

// account enters what gap and health records say of their spools.
func (c *commit) account(fresh []*entry) error {
	for _, e := range fresh {
		if gap := e.rec.GetGap(); gap != nil {
			lost, err := rangesOf("gap.ranges", gap.Ranges)
			if err != nil {
				return err
			}
			about, err := gapStream(e)
			if err != nil {
				return err
			}
			l := c.ledgers[about]
			l.gapped = l.gapped.Union(lost)
		}
		l := c.ledgers[e.stream]
		health := e.rec.GetHealth()
		if len(health.GetSpool()) > 0 && !bytes.Equal(health.GetSpool(), e.stream.Spool[:]) {
			continue // made under an earlier identity and moved here: its numbers are none of this spool
		}
		if health != nil && e.seq > l.healthSeq {
			held, err := rangesOf("health.unacked", health.Unacked)
			if err != nil {
				return err
			}
			l.pending, l.healthSeq = held, e.seq
			l.lastSeq = min(health.GetLastSeq(), protocol.MaxSeq)
		}
	}
	return nil
}

// insert adds the new records to their tables, one statement a kind.
func (c *commit) insert(ctx context.Context, fresh []*entry) error {
	byKind := make(map[protocol.Kind][]*entry)
	for _, e := range fresh {
		kind := e.rec.Kind()
		byKind[kind] = append(byKind[kind], e)
	}
	for _, kind := range protocol.Kinds() {
		if len(byKind[kind]) == 0 {
			continue
		}
		t := c.db.tables[kind]
		if err := c.db.backend.insert(ctx, c.tx, t, byKind[kind]); err != nil {
			return wrapData(err, "insert into %s", t.name)
		}
	}
	return nil
}

// findConflicts compares repeats with what is stored under their numbers. Of what retention removed nothing is left to compare
// with: such a repeat is looked for and not found.
func (c *commit) findConflicts(ctx context.Context, repeats []*entry) error {
	byKind := make(map[protocol.Kind][]*entry)
	for _, e := range repeats {
		kind := e.rec.Kind()
		byKind[kind] = append(byKind[kind], e)
	}
	var other []*entry // not the same record: of another time or kind, or not there
	for _, kind := range protocol.Kinds() {
		if len(byKind[kind]) == 0 {
			continue
		}
		unlike, err := c.compare(ctx, c.db.tables[kind].name, byKind[kind], true)
		if err != nil {
			return err
		}
		other = append(other, unlike...)
	}
	if len(other) == 0 {
		return nil
	}
	for _, kind := range protocol.Kinds() {
		if _, err := c.compare(ctx, c.db.tables[kind].name, other, false); err != nil {
			return err
		}
	}
	return nil
}

// compare looks repeats up in one table, enters those with another digest as conflicts and gives back those that are not
// there. With sameTime it finds only rows of the very same time, which spares a hypertable the search of all its chunks.
func (c *commit) compare(ctx context.Context, table string, repeats []*entry, sameTime bool) (unlike []*entry, err error) {
	n := len(repeats)
	stations, spools, seqs, times := make([]string, n), make([][]byte, n), make([]int64, n), make([]time.Time, n)
	type identity struct {
		protocol.Stream
		seq uint64
	}
	asked := make(map[identity][]*entry, n)
	first, last := repeats[0].time, repeats[0].time
	for i, e := range repeats {
		stations[i], spools[i], seqs[i], times[i] = e.stream.Station, e.stream.Spool[:], int64(e.seq), e.time
		id := identity{e.stream, e.seq}
		asked[id] = append(asked[id], e)
		if e.time.Before(first) {
			first = e.time
		}
		if e.time.After(last) {
			last = e.time
		}
	}
	from, args := c.db.backend.list(1, stations, spools, seqs, times)
	query := "SELECT t.station, t.spool, t.seq, t.digest FROM " + from + " JOIN " + table +
		" AS t ON t.station = c1 AND t.spool = c2 AND t.seq = c3"
	if sameTime {
		low, high := len(args)+1, len(args)+2
		query += " AND t.time = c4 AND t.time >= " + placeholder(low) + " AND t.time <= " + placeholder(high)
		args = append(args, first, last)
	}
	err = c.db.forEach(ctx, c.tx, query, args, func(rows *sql.Rows) error {
		var id identity
		var spool, digest []byte
		if err := rows.Scan(&id.Station, &spool, &id.seq, &digest); err != nil {
			return err
		}
		copy(id.Spool[:], spool)
		for _, e := range asked[id] {
			if string(digest) != string(e.digest[:]) {
				c.ledgers[id.Stream].conflict.Add(id.seq)
			}
		}
		delete(asked, id)
		return nil
	})
	if err != nil {
		return nil, wrap(err, "compare repeats with %s", table)
	}
	for _, entries := range asked {
		unlike = append(unlike, entries...)
	}
	return unlike, nil
}
