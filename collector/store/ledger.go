package store

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"maps"
	"slices"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// ledger says which numbers of a spool are settled: a row of the table spool. What was released since it was received is
// left in the database: it may be a set of millions, and no commit needs it.
type ledger struct {
	stream protocol.Stream
	// received are stored as records, or were until retention; rejected are stored as such; gapped were declared lost and
	// are neither. The three have nothing in common.
	received, rejected, gapped protocol.Ranges
	pending                    protocol.Ranges // what the newest health record held, less what is settled
	conflict                   protocol.Ranges // came again with other content
	lastSeq                    uint64          // highest number given, by the newest health record; 0 without one
	healthSeq                  uint64          // that record's own
	firstTime, lastTime        time.Time       // received
}

// ledgers are the rows that a transaction has locked.
type ledgers map[protocol.Stream]*ledger

const ledgerColumns = `station, spool, CAST(received AS text), CAST(rejected AS text), CAST(gapped AS text),
	CAST(pending AS text), CAST(conflict AS text), coalesce(last_seq, 0), coalesce(health_seq, 0),
	first_received, last_received`

func scanLedger(rows *sql.Rows) (*ledger, error) {
	var l ledger
	var spool []byte
	err := rows.Scan(&l.stream.Station, &spool, scanRanges{&l.received}, scanRanges{&l.rejected}, scanRanges{&l.gapped},
		scanRanges{&l.pending}, scanRanges{&l.conflict}, &l.lastSeq, &l.healthSeq,
		scanTime{&l.firstTime}, scanTime{&l.lastTime})
	copy(l.stream.Spool[:], spool)
	return &l, err
}

func compareStreams(a, b protocol.Stream) int {
	return cmp.Or(cmp.Compare(a.Station, b.Station), bytes.Compare(a.Spool[:], b.Spool[:]))
}

// lockLedgers makes the missing rows and locks all, in one order for all transactions, so that none waits for one that
// waits for it.
func (db *DB) lockLedgers(ctx context.Context, tx *sql.Tx, now time.Time, streams map[protocol.Stream]bool) (ledgers, error) {
	locked := make(ledgers, len(streams))
	if len(streams) == 0 {
		return locked, nil
	}
	var stations []string
	var spools [][]byte
	for _, s := range slices.SortedFunc(maps.Keys(streams), compareStreams) {
		stations, spools = append(stations, s.Station), append(spools, s.Spool[:])
	}
	from, args := db.backend.list(1, stations, spools)
	at := placeholder(len(args) + 1)
	_, err := db.exec(ctx, tx, "INSERT INTO spool (station, spool, first_received, last_received) SELECT c1, c2, "+
		at+"::timestamptz, "+at+"::timestamptz FROM "+from+" WHERE true ON CONFLICT DO NOTHING", append(args, now)...)
	if err != nil {
		return nil, wrap(err, "make ledgers")
	}
	err = db.forEach(ctx, tx, "SELECT "+ledgerColumns+" FROM spool WHERE (station, spool) IN (SELECT c1, c2 FROM "+from+
		") ORDER BY station, spool FOR UPDATE", args, func(rows *sql.Rows) error {
		l, err := scanLedger(rows)
		locked[l.stream] = l
		return err
	})
	return locked, wrap(err, "lock ledgers")
}

// settle restores what holds between the sets of a ledger: what is stored wins.
func (l *ledger) settle() {
	l.gapped = l.gapped.Subtract(l.received).Subtract(l.rejected)
	l.pending = l.pending.Subtract(l.received).Subtract(l.rejected).Subtract(l.gapped)
}

// last is the highest number that is known to have been given. A Gap that goes on to the end of all numbers says nothing of
// it: the station does not know how far they went.
func (l *ledger) last() uint64 {
	declared := l.gapped
	if declared.Last() == protocol.MaxSeq {
		declared = declared[:len(declared)-1]
	}
	return max(l.received.Last(), l.rejected.Last(), declared.Last(), l.pending.Last(), l.lastSeq)
}

// settled is all that is stored, rejected or declared lost, of the numbers known to have been given.
func (l *ledger) settled() protocol.Ranges {
	return l.received.Union(l.rejected).Union(l.declared())
}

// declared is what was declared lost of the numbers known to have been given.
func (l *ledger) declared() protocol.Ranges {
	last := l.last()
	if last == 0 {
		return nil
	}
	return l.gapped.Intersect(protocol.Ranges{{From: 1, To: last}})
}

func (db *DB) saveLedgers(ctx context.Context, tx *sql.Tx, now time.Time, all ledgers) error {
	if len(all) == 0 {
		return nil
	}
	n := len(all)
	stations, spools := make([]string, 0, n), make([][]byte, 0, n)
	var sets [5][]string
	lasts, healths := make([]int64, 0, n), make([]int64, 0, n)
	for _, l := range all {
		l.settle()
		stations, spools = append(stations, l.stream.Station), append(spools, l.stream.Spool[:])
		for i, set := range []protocol.Ranges{l.received, l.rejected, l.gapped, l.pending, l.conflict} {
			sets[i] = append(sets[i], set.String())
		}
		lasts, healths = append(lasts, int64(l.lastSeq)), append(healths, int64(l.healthSeq))
	}
	from, args := db.backend.list(1, stations, spools, sets[0], sets[1], sets[2], sets[3], sets[4], lasts, healths)
	_, err := db.exec(ctx, tx, `UPDATE spool SET received = c3::int8multirange, rejected = c4::int8multirange,
		gapped = c5::int8multirange, pending = c6::int8multirange, conflict = c7::int8multirange,
		last_seq = nullif(c8, 0), health_seq = nullif(c9, 0), last_received = `+placeholder(len(args)+1)+`::timestamptz
		FROM `+from+` WHERE spool.station = c1 AND spool.spool = c2`, append(args, now)...)
	return wrap(err, "save ledgers")
}

// told is what an acknowledgement has room for: the lowest ranges, and of the higher ones those with numbers that somebody
// waits for. Were it the lowest alone, a station with many holes could fill its window with records that are in, and would
// never hear of it.
func told(settled, awaited protocol.Ranges) protocol.Ranges {
	if len(settled) <= protocol.MaxAckRanges {
		return settled
	}
	lowest := settled.Head(protocol.MaxAckRanges)
	var higher protocol.Ranges
	at := 0 // in settled
	for _, r := range awaited.Intersect(settled).Subtract(lowest) {
		for settled[at].To < r.From {
			at++
		}
		higher.AddRange(settled[at].From, settled[at].To)
		if len(higher) == protocol.MaxAckRanges/2 {
			break
		}
	}
	return settled.Head(protocol.MaxAckRanges - len(higher)).Union(higher)
}

// ack is what the collector may say of the spool, to somebody who waits for some numbers.
func (l *ledger) ack(awaited protocol.Ranges) *protocol.Ack {
	a := &protocol.Ack{
		Spool:    bytes.Clone(l.stream.Spool[:]),
		Settled:  told(l.settled(), awaited).Wire(),
		Rejected: l.rejected.Head(protocol.MaxAckRanges).Wire(),
	}
	if n := l.rejected.Count(); n > 0 {
		a.RejectedCount = &n
	}
	if !l.conflict.Empty() {
		a.Conflict = &protocol.SeqRange{From: new(l.conflict.First()), To: new(l.conflict.Last())}
	}
	return a
}

// acks are those of the spools that a commit touched.
func (c *commit) acks() map[protocol.Stream]*protocol.Ack {
	numbers := make(map[protocol.Stream][]protocol.Range, len(c.ledgers))
	for _, e := range c.entries {
		numbers[e.stream] = append(numbers[e.stream], protocol.Range{From: e.seq, To: e.seq})
	}
	for _, r := range c.refusals {
		if r.numbered {
			numbers[r.stream] = append(numbers[r.stream], protocol.Range{From: r.Seq, To: r.Seq})
		}
	}
	acks := make(map[protocol.Stream]*protocol.Ack, len(c.ledgers))
	for stream, l := range c.ledgers {
		acks[stream] = l.ack(protocol.NewRanges(numbers[stream]...))
	}
	return acks
}

const (
	// ackLifetime is how long after a spool's last record its acknowledgement is worth keeping on the broker.
	ackLifetime = 30 * 24 * time.Hour
	// clearFor is how long after that it is told again that the acknowledgement is to be cleared.
	clearFor = 30 * 24 * time.Hour
)

// Acks tells again what is settled in every spool; nil for one that had no record for 30 days, whose acknowledgement is
// to be cleared. Spools without one for 60 days are left out.
func (db *DB) Acks(ctx context.Context) (map[protocol.Stream]*protocol.Ack, error) {
	all, err := db.ledgersOf(ctx, db.read, "")
	if err != nil {
		return nil, err
	}
	acks := make(map[protocol.Stream]*protocol.Ack, len(all))
	for _, l := range all {
		if l.stream.Spool == ownSpool {
			continue // no agent waits for it
		}
		switch age := time.Since(l.lastTime); {
		case age < ackLifetime:
			acks[l.stream] = l.ack(nil)
		case age < ackLifetime+clearFor:
			acks[l.stream] = nil
		}
	}
	return acks, nil
}

// ledgersOf reads the ledgers of a station, or of all when it is empty, in order.
func (db *DB) ledgersOf(ctx context.Context, q querier, station string) ([]*ledger, error) {
	var all []*ledger
	err := db.forEach(ctx, q, "SELECT "+ledgerColumns+" FROM spool WHERE $1::text = '' OR station = $1::text ORDER BY station, spool",
		[]any{station}, func(rows *sql.Rows) error {
			l, err := scanLedger(rows)
			all = append(all, l)
			return err
		})
	return all, wrap(err, "read ledgers")
}
