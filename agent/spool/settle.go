package spool

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"github.com/fulgidus/heimdall/packaging/failpoint"
	"github.com/fulgidus/heimdall/protocol"
)

// surrender is a wish to give up records by number.
type surrender struct {
	epoch  *epoch
	ranges protocol.Ranges
	reason protocol.Gap_Reason
}

// move is a wish to give records of one identity new numbers under another.
type move struct {
	epoch  *epoch
	lowest uint64
}

// moveBatch is how many records get new numbers in one commit.
const moveBatch = 1000

// Ack says that records of an identity are settled: they leave with the next commit. It counts only for what was handed
// out since the spool was opened: the number of a record that was never sent from here may have been acknowledged for
// another content, when this file is a copy of another. A number that was never given proves that it is: then nothing
// is deleted, and what is unacknowledged goes on under a new identity.
func (s *Spool) Ack(spool [protocol.SpoolBytes]byte, settled protocol.Ranges) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.epochOf(spool)
	if e == nil || settled.Empty() {
		return
	}
	if settled.Last() >= e.next {
		if e != s.current() && e.held.Empty() {
			return
		}
		s.log.Warn("records were acknowledged that this spool never made: it is an old copy; a new identity begins",
			"acknowledged", settled.Last(), "last_made", e.next-1)
		s.askMove(e, 1)
		return
	}
	settled = settled.Intersect(e.held).Intersect(e.offered).Subtract(e.dying).Subtract(e.acked)
	if !settled.Empty() {
		s.leaving.count(time.Now(), int(settled.Count()))
		s.acknowledged += settled.Count()
		s.settle(e, settled)
	}
}

// GiveUp deletes records and declares them in a Gap with the given reason, in one commit.
func (s *Spool) GiveUp(spool [protocol.SpoolBytes]byte, seqs protocol.Ranges, reason protocol.Gap_Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.epochOf(spool); e != nil {
		s.given = append(s.given, surrender{e, seqs.Clone(), reason})
		s.await(true)
	}
}

// Conflict says that the number lowest of an identity, and perhaps later ones, is stored elsewhere with another
// content. The unacknowledged records from there on get numbers under a new identity, and a Gap tells which they were.
func (s *Spool) Conflict(spool [protocol.SpoolBytes]byte, lowest uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.epochOf(spool)
	if e == nil || lowest == 0 || e != s.current() && e.held.Last() < lowest {
		return
	}
	s.log.Warn("numbers of this spool are in use elsewhere: a new identity begins", "lowest", lowest)
	s.askMove(e, lowest)
}

func (s *Spool) askMove(e *epoch, lowest uint64) {
	for i := range s.moves {
		if s.moves[i].epoch == e {
			s.moves[i].lowest = min(s.moves[i].lowest, lowest)
			return
		}
	}
	s.moves = append(s.moves, move{e, lowest})
	s.await(true)
}

// surrenderGiven turns wishes to give up records into losses. Only the writer calls it.
func (s *Spool) surrenderGiven() error {
	s.mu.Lock()
	given := s.given
	s.given = nil
	s.mu.Unlock()
	for i, g := range given {
		if err := s.surrender(g); err != nil {
			s.mu.Lock()
			s.given = append(given[i:], s.given...)
			s.mu.Unlock()
			return err
		}
	}
	return nil
}

func (s *Spool) surrender(g surrender) error {
	s.mu.Lock()
	g.ranges = g.ranges.Intersect(g.epoch.held).Subtract(g.epoch.acked)
	s.mu.Unlock()
	losses := make([]loss, laneCount)
	err := s.view(func(tx *bbolt.Tx) error {
		for i := range losses {
			losses[i] = loss{reason: g.reason, epoch: g.epoch, lane: laneNames[i]}
			l := &losses[i]
			eachKey(tx, i, g.epoch.number, g.ranges, func(p place, v []byte) {
				size, _ := weigh(v)
				l.add(p.seq, size, statedTime(v))
			})
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range losses {
		l.ranges = l.ranges.Subtract(g.epoch.dying)
		s.lose(l)
	}
	return nil
}

// lose deletes the records of l with the commit that declares them. mu must be held.
func (s *Spool) lose(l loss) {
	l.epoch.dying = l.epoch.dying.Union(l.ranges)
	s.declareAll(l)
	failpoint.Hit("spool.shed")
}

// declareAll declares l in as many Gap records as its ranges need. mu must be held.
func (s *Spool) declareAll(l loss) {
	s.countShed(l)
	for len(l.ranges) > maxGapRanges {
		part := l
		part.ranges, part.records, part.bytes = l.ranges.Head(maxGapRanges), 0, 0 // how many of each is in the last
		l.ranges = l.ranges[maxGapRanges:]
		s.declare(part)
	}
	if !l.ranges.Empty() {
		s.declare(l)
	}
}

// eachKey visits the records of an epoch and lane whose numbers are in ranges.
func eachKey(tx *bbolt.Tx, lane int, epoch uint32, ranges protocol.Ranges, visit func(place, []byte)) {
	cursor := tx.Bucket(laneBucket(lane)).Cursor()
	for _, r := range ranges {
		for k, v := cursor.Seek(place{epoch, r.From}.key()); k != nil; k, v = cursor.Next() {
			p, ok := placeOf(k)
			if !ok || p.epoch != epoch || p.seq > r.To {
				break
			}
			visit(p, v)
		}
	}
}

// move gives records new numbers under the current identity, or under a new one when the current is in question. Only
// the writer calls it, with nothing left to commit; nothing can be queued meanwhile.
func (s *Spool) move(m move) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.epoch == s.current() {
		if err := s.beginEpoch(); err != nil {
			return err
		}
	}
	to := s.current()
	for lane := range laneCount {
		from := m.lowest
		for {
			moved, err := s.moveSome(m.epoch, to, lane, from)
			if err != nil {
				return err
			}
			if moved.Empty() {
				break
			}
			from = moved.Last() + 1
		}
	}
	s.gaps = map[gapKey]*openGap{}
	s.renumberWaiting(m)
	s.reread()
	return nil
}

// beginEpoch begins a new identity. It is on disk before anything gets a number of it: records of an identity that the file does
// not name would be nobody's.
func (s *Spool) beginEpoch() error {
	epochs := append(slices.Clone(s.epochs), epochAfter(s.epochs))
	failpoint.Hit("spool.identity")
	if err := s.update(func(tx *bbolt.Tx) error { return putIdentities(tx, epochs) }); err != nil {
		return fmt.Errorf("begin a new identity: %w", err)
	}
	s.epochs = epochs
	s.noteIdentities(epochs)
	return nil
}

// moveSome moves up to moveBatch records of a lane in one commit and tells which numbers they had.
func (s *Spool) moveSome(from, to *epoch, lane int, lowest uint64) (protocol.Ranges, error) {
	var moved protocol.Ranges
	next, gapCost, grown := to.next, int64(0), int64(0)
	err := s.update(func(tx *bbolt.Tx) (err error) {
		moved, next, grown = nil, to.next, 0
		rows := takeRows(tx, lane, from, lowest)
		if len(rows) == 0 {
			return nil
		}
		bucket := tx.Bucket(laneBucket(lane))
		for _, r := range rows {
			key := place{to.number, next}.key()
			next++
			if r.kind == protocol.KindGap {
				payload := ofSpool(r.payload, from.identity)
				grown += int64(len(payload) - len(r.payload))
				r.payload = payload
			}
			err = errors.Join(err, bucket.Delete(r.place.key()), bucket.Put(key, r.encode(key)))
			moved.Add(r.place.seq)
		}
		at, now := place{to.number, next}, s.now()
		next++
		payload, encodeErr := s.encodeGap(loss{
			reason: protocol.Gap_REASON_CONFLICT, epoch: from, lane: laneNames[lane], ranges: moved,
		}, at, now)
		gap := record{kind: protocol.KindGap, time: now.UnixNano(), payload: payload}.encode(at.key())
		gapCost, _ = weigh(gap)
		written := *to
		written.next = next
		return errors.Join(err, encodeErr, tx.Bucket(laneBucket(LaneGap.index())).Put(at.key(), gap), putEpoch(tx, &written))
	})
	if err != nil || moved.Empty() {
		return nil, err
	}
	s.commits++
	from.held = from.held.Subtract(moved)
	from.sent = from.sent.Subtract(moved)
	from.offered = from.offered.Subtract(moved)
	to.held.AddRange(to.next, next-1)
	to.next, to.durable = next, next-1
	failpoint.Hit("spool.moved")
	s.lanes[lane].last = later(s.lanes[lane].last, place{to.number, next - 2})
	gaps := &s.lanes[LaneGap.index()]
	gaps.last = place{to.number, next - 1}
	gaps.held.add(1, gapCost+grown)
	s.used += gapCost + grown
	return moved, nil
}

// takeRows reads records to move. Corrupt ones stay: they are found out when their turn to be sent comes.
func takeRows(tx *bbolt.Tx, lane int, from *epoch, lowest uint64) []stored {
	var rows []stored
	wanted := from.held.Subtract(from.dying).Subtract(from.acked)
	cursor := tx.Bucket(laneBucket(lane)).Cursor()
	for k, v := cursor.Seek(place{from.number, lowest}.key()); k != nil && len(rows) < moveBatch; k, v = cursor.Next() {
		p, ok := placeOf(k)
		if !ok || p.epoch != from.number {
			break
		}
		if r, err := decodeRecord(k, v); err == nil && wanted.Contains(p.seq) {
			rows = append(rows, stored{p, r})
		}
	}
	return rows
}

// renumberWaiting gives new numbers to what was queued under the old ones and never committed.
func (s *Spool) renumberWaiting(m move) {
	var moved protocol.Ranges
	for _, e := range s.waiting {
		if e.place.epoch == m.epoch.number && e.place.seq >= m.lowest {
			moved.Add(e.place.seq)
			s.number(e)
			if e.kind == protocol.KindGap {
				e.payload = ofSpool(e.payload, m.epoch.identity)
			}
		}
	}
	if moved.Empty() {
		return
	}
	slices.SortStableFunc(s.waiting, func(a, b *entry) int {
		if a.place.less(b.place) {
			return -1
		}
		return 1
	})
	s.declare(loss{reason: protocol.Gap_REASON_CONFLICT, epoch: m.epoch, ranges: moved})
}
