package spool

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"github.com/fulgidus/heimdall/packaging/failpoint"
	"github.com/fulgidus/heimdall/packaging/oracle"
	"github.com/fulgidus/heimdall/protocol"
)

// batch is what one commit writes.
type batch struct {
	entries  []*entry
	dying    map[*epoch]protocol.Ranges
	memos    []recollection
	memoDone []chan error
	epochs   []epoch                    // with the numbers given up to this batch
	acked    map[uint32]protocol.Ranges // what is acknowledged of each, if that is to be written
	since    time.Time
	urgent   bool
}

// take is all that waits; nil when nothing does.
func (s *Spool) take(final bool) *batch {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := &batch{
		entries: s.waiting, memos: s.memos, memoDone: s.memoDone, dying: map[*epoch]protocol.Ranges{},
		since: s.since, urgent: s.urgent,
	}
	for _, e := range s.epochs {
		if !e.dying.Empty() {
			b.dying[e] = e.dying.Clone()
		}
		b.epochs = append(b.epochs, epoch{number: e.number, identity: e.identity, next: e.next})
	}
	b.acked = s.noteAcked(time.Now(), final)
	s.waiting, s.waitingBytes, s.memos, s.memoDone = nil, 0, nil, nil
	s.since, s.urgent, s.hasty = time.Time{}, false, false
	if len(s.given)+len(s.moves)+len(s.resends) > 0 || s.damage != nil {
		s.await(true) // came since the writer last looked
	}
	if len(b.entries)+len(b.memos)+len(b.dying)+len(b.acked) == 0 {
		return nil
	}
	return b
}

// commit makes one transaction of all that waits.
func (s *Spool) commit(final bool) error {
	b := s.take(final)
	if b == nil {
		return nil
	}
	failpoint.Hit("spool.taken")
	done, err := s.write(b)
	if err != nil {
		s.putBack(b)
		return err
	}
	failpoint.Hit("spool.committed")
	s.finish(b, done)
	s.reserve()
	return nil
}

// putBack undoes take.
func (s *Spool) putBack(b *batch) {
	for _, e := range b.entries {
		if e.ref != nil {
			s.segments.release(e.ref.file)
			e.ref = nil
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = append(b.entries, s.waiting...)
	s.waitingBytes = 0
	for _, e := range s.waiting {
		s.waitingBytes += int64(len(e.payload))
	}
	s.memos = append(b.memos, s.memos...)
	s.memoDone = append(b.memoDone, s.memoDone...)
	if b.acked != nil {
		s.ackedDirty = longAgo
	}
	s.since, s.urgent = b.since, s.urgent || b.urgent // how soon no longer matters: the next attempt has its own time
}

// written is what a commit changed.
type written struct {
	amounts  [laneCount]amount
	touched  [laneCount]bool // lanes that got records
	released []uint32        // segment file of each deleted chunk
}

func (s *Spool) write(b *batch) (written, error) {
	iq := LaneIQ.index()
	for _, e := range b.entries {
		if e.lane != iq {
			continue
		}
		ref, err := s.segments.add(e.payload)
		if err != nil {
			return written{}, err
		}
		e.ref = ref
	}
	if err := s.segments.sync(); err != nil {
		return written{}, err
	}
	failpoint.Hit("spool.segment_synced")
	var w written
	err := s.update(func(tx *bbolt.Tx) (err error) {
		w = written{}
		for e, ranges := range b.dying {
			for lane := range laneCount {
				err = errors.Join(err, w.remove(tx, lane, e.number, ranges))
			}
		}
		for _, e := range b.entries {
			err = errors.Join(err, w.put(tx, e))
		}
		for _, m := range b.memos {
			err = errors.Join(err, m.write(tx))
		}
		if len(b.dying) > 0 { // the last record may be among them
			for i := range b.epochs {
				err = errors.Join(err, putEpoch(tx, &b.epochs[i]))
			}
			failpoint.Hit("spool.delete")
		}
		for number, acked := range b.acked {
			err = errors.Join(err, putAcked(tx, number, acked))
		}
		return errors.Join(err, putNext(tx, w.touched, &b.epochs[len(b.epochs)-1]))
	})
	if err != nil {
		return written{}, fmt.Errorf("commit %d records: %w", len(b.entries), err)
	}
	return w, nil
}

func (w *written) put(tx *bbolt.Tx, e *entry) error {
	key := e.place.key()
	r := record{kind: e.kind, time: e.time, payload: e.payload, ref: e.ref}
	value := r.encode(key)
	bucket := tx.Bucket(laneBucket(e.lane))
	bucket.FillPercent = fillPercent
	if e.version > 1 { // a Gap record that grew
		if old := bucket.Get(key); old != nil {
			size, _ := weigh(old)
			w.amounts[e.lane].add(-1, -size)
		}
	}
	size, _ := weigh(value)
	w.amounts[e.lane].add(1, size)
	w.touched[e.lane] = true
	return bucket.Put(key, value)
}

func (w *written) remove(tx *bbolt.Tx, lane int, epoch uint32, ranges protocol.Ranges) (err error) {
	var keys [][]byte
	eachKey(tx, lane, epoch, ranges, func(p place, v []byte) {
		size, ref := weigh(v)
		if ref != nil {
			w.released = append(w.released, ref.file)
		}
		w.amounts[lane].add(-1, -size)
		keys = append(keys, p.key())
	})
	bucket := tx.Bucket(laneBucket(lane))
	for _, key := range keys {
		err = errors.Join(err, bucket.Delete(key))
	}
	return err
}

// finish makes a commit known.
func (s *Spool) finish(b *batch, w written) {
	for _, file := range w.released {
		s.segments.release(file)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.commits++
	s.age(time.Now())
	for e, ranges := range b.dying {
		e.dying = e.dying.Subtract(ranges)
		cut(&e.held, ranges)
		e.acked = e.acked.Subtract(ranges)
		e.sent = e.sent.Subtract(ranges)
		e.offered = e.offered.Subtract(ranges)
	}
	for i := range s.lanes {
		s.lanes[i].held.add(w.amounts[i].records, w.amounts[i].bytes)
		s.used += w.amounts[i].bytes
	}
	for _, e := range b.entries {
		ep := s.epochNumber(e.place.epoch)
		ep.held.Add(e.place.seq)
		ep.durable = max(ep.durable, e.place.seq)
		s.lanes[e.lane].last = later(s.lanes[e.lane].last, e.place)
		if e.version > 0 {
			s.grown(e)
		}
		e.tell(nil)
	}
	for _, done := range b.memoDone {
		done <- nil
	}
	if len(b.entries) > 0 {
		oracle.Commit(b.epochs[len(b.epochs)-1].identity, b.epochs[len(b.epochs)-1].next-1)
		s.renew()
	}
}

// grown notes that a content of a Gap record is on disk and makes it be looked at.
func (s *Spool) grown(e *entry) {
	for _, gap := range s.gaps {
		if gap.place == e.place {
			gap.durable = max(gap.durable, e.version)
		}
	}
	l := &s.lanes[e.lane]
	l.back = earlier(l.back, e.place)
	s.turn++
}

// age notes now and then which records are durable, so that they can be told from newer ones later.
func (s *Spool) age(now time.Time) {
	if n := len(s.marks); n == 0 || now.Sub(s.marks[n-1].at) >= markEvery {
		s.marks = append(s.marks, mark{now, s.end()})
	}
	if len(s.marks) > 2*int(liveAge/markEvery) {
		s.marks = slices.Delete(s.marks, 0, 1)
	}
}
