package spool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/fulgidus/heimdall/packaging/failpoint"
	"github.com/fulgidus/heimdall/packaging/oracle"
	"github.com/fulgidus/heimdall/protocol"
)

// When a commit is due after the first record that waits for it.
const (
	calmCommit   = 2 * time.Second        // the link is up and little happens
	promptCommit = 100 * time.Millisecond // the link is down, much waits, or a backlog leaves, which takes long enough as it is
	busyCommit   = 25 * time.Millisecond  // above busyRate
	iqCommit     = 5 * time.Millisecond   // IQ: a recorder that waits for each chunk still gets 6 MB/s through
	manyRecords  = 256
	manyBytes    = 64 << 10
	busyRate     = 50 // records a second
)

// How long to wait after a commit that failed: doubling from the first to the last.
const (
	firstRetry = 250 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// pace estimates how many records pass in a second.
type pace struct {
	began        time.Time // of the first second
	second       int64     // the one being counted, from 0
	now, before  int
	beforeSecond int64
}

func (p *pace) count(at time.Time, records int) {
	if p.began.IsZero() {
		p.began = at
	}
	if sec := p.secondOf(at); sec != p.second {
		p.before, p.beforeSecond = p.now, p.second
		p.now, p.second = 0, sec
	}
	p.now += records
}

func (p *pace) secondOf(at time.Time) int64 { return int64(at.Sub(p.began) / time.Second) }

func (p *pace) busy(at time.Time) bool {
	if p.began.IsZero() {
		return false
	}
	sec := p.secondOf(at)
	if p.second == sec && p.now > busyRate {
		return true
	}
	return p.second == sec-1 && p.now > busyRate || p.second == sec && p.beforeSecond == sec-1 && p.before > busyRate
}

// outage is the state of a disk that does not take commits. Only the writer uses it.
type outage struct {
	since    time.Time // zero: all is well
	attempts int
	retryAt  time.Time
	lastSaid time.Time
}

// Run writes until ctx ends, then commits what waits. It never fails because of the disk: it retries, and what memory
// cannot hold meanwhile is given up and declared.
func (s *Spool) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			s.writeMu.Lock()
			defer s.writeMu.Unlock()
			return s.flush(true)
		case <-s.kick:
		case <-timer.C:
		}
		wait, waits := s.due(time.Now())
		if waits && wait <= 0 {
			s.writeMu.Lock()
			s.attempt()
			s.writeMu.Unlock()
			wait, waits = s.due(time.Now())
		}
		if !waits {
			wait = time.Hour // nothing waits: the next record kicks
		}
		timer.Reset(max(wait, 0))
	}
}

// due tells in how long the next commit is to be made; false when nothing waits for one.
func (s *Spool) due(now time.Time) (time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.since.IsZero() && s.ackedDirty.IsZero() || s.closed {
		return 0, false
	}
	since, wait := s.since, calmCommit
	switch {
	case since.IsZero():
		since, wait = s.ackedDirty, ackedEvery
	case s.urgent:
		wait = 0
	case s.hasty:
		wait = iqCommit
	case s.coming.busy(now):
		wait = busyCommit
	case !s.linkUp || s.leaving.busy(now) || len(s.waiting) >= manyRecords || s.waitingBytes >= manyBytes:
		wait = promptCommit
	}
	at := since.Add(wait)
	if at.Before(s.outage.retryAt) {
		at = s.outage.retryAt
	}
	return at.Sub(now), true
}

// attempt flushes and keeps account of how that goes.
func (s *Spool) attempt() {
	err := s.flush(false)
	now := time.Now()
	if err == nil {
		if !s.outage.since.IsZero() {
			s.log.Info("the spool's disk takes commits again", "after", now.Sub(s.outage.since).Round(time.Second))
		}
		s.outage = outage{}
		s.compactNow(now)
		return
	}
	if s.outage.since.IsZero() {
		s.outage.since = now
	}
	s.outage.retryAt = now.Add(min(firstRetry<<min(s.outage.attempts, 10), lastRetry))
	s.outage.attempts++
	if now.Sub(s.outage.lastSaid) >= time.Minute {
		s.log.Error("the spool's disk takes no commit; records wait in memory", "error", err, "attempts", s.outage.attempts)
		s.outage.lastSaid = now
	}
}

// flush commits until nothing waits and the limit is kept; final, also what may wait. The caller holds writeMu.
func (s *Spool) flush(final bool) error {
	for rounds := 0; ; rounds++ {
		if err := s.repair(); err != nil {
			return err
		}
		if err := s.heed(); err != nil {
			s.noteDamage(err)
			return err
		}
		err := s.commit(final)
		switch {
		case errors.Is(err, errDamaged) && rounds < 3:
			s.noteDamage(err)
			continue
		case isFull(err) && rounds < 3:
			if shedErr := s.shedForRoom(); shedErr != nil {
				return errors.Join(err, shedErr)
			}
			continue
		case err != nil:
			return err
		}
		more, err := s.tidy()
		if err != nil {
			s.noteDamage(err)
			return err
		}
		if !more {
			return nil
		}
	}
}

// heed turns what others asked for into what a commit is to write.
func (s *Spool) heed() error {
	if err := s.resendKept(); err != nil {
		return err
	}
	if err := s.keepAcked(); err != nil {
		return err
	}
	return s.surrenderGiven()
}

// tidy does what needs everything to be committed first: moves, and shedding over the limit. It tells whether there is
// something to commit now.
func (s *Spool) tidy() (bool, error) {
	s.mu.Lock()
	moves := s.moves
	s.moves = nil
	s.mu.Unlock()
	for i, m := range moves {
		if err := s.move(m); err != nil {
			s.mu.Lock()
			s.moves = append(moves[i:], s.moves...)
			s.mu.Unlock()
			return false, err
		}
	}
	more, err := s.expire(time.Now())
	if err == nil {
		err = s.makeRoom()
	}
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	if more {
		s.await(false)
	}
	over := s.used - s.highMark()
	s.mu.Unlock()
	if over > 0 {
		return s.shedOldest(over+s.highMark()/shedShare, protocol.Gap_REASON_QUOTA)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting) > 0 && len(moves) > 0, nil
}

func (s *Spool) noteDamage(err error) {
	if !errors.Is(err, errDamaged) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.damage = err
	s.await(true)
}

// repair replaces the file if a reader or the writer found it damaged.
func (s *Spool) repair() error {
	s.mu.Lock()
	found := s.damage
	s.damage = nil
	s.mu.Unlock()
	if found == nil {
		return nil
	}
	if !errors.Is(found, errDamaged) { // a disk that cannot be read just now
		s.mu.Lock()
		s.renew()
		s.mu.Unlock()
		return found
	}
	s.fileMu.Lock()
	s.store.abandon()
	s.fileMu.Unlock()
	s.segments.close()
	s.mu.Lock()
	memory, known := s.memory, s.epochs
	for _, e := range known {
		e.noted = widest(e.settled(), mostNoted)
	}
	s.mu.Unlock()
	if err := s.replace(found, known); err != nil {
		s.mu.Lock()
		s.damage = found
		s.mu.Unlock()
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.memory = memory
	s.memos = nil
	for id, m := range memory.replies {
		s.memos = append(s.memos, recollection{id: id, memo: m})
	}
	s.renew()
	return nil
}

// isFull tells whether err means that there is no room.
func isFull(err error) bool {
	return errors.Is(err, bolterrors.ErrMaxSizeReached) || errors.Is(err, syscall.ENOSPC) ||
		errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

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
