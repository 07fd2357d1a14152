package spool

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"github.com/fulgidus/heimdall/packaging/failpoint"
	"github.com/fulgidus/heimdall/protocol"
)

const (
	// ackedEvery is how often it is written which records are acknowledged: those of that long are sent again after a
	// crash, which a collector drops. Writing it with every acknowledgement would be a page more a commit.
	ackedEvery = 30 * time.Second
	// mostNoted is how many ranges are written of one identity, the widest: 16 KiB at most.
	mostNoted = 1000
	// purgeBatch is how many kept records leave in one commit, which bounds memory and how long it takes.
	purgeBatch = 8000
	// keptSteps is in how many steps what is kept leaves.
	keptSteps = 60
	// leastPurge is how many kept records are removed at least when room is needed.
	leastPurge = 256
)

// longAgo is a time from which on everything is due.
var longAgo = time.Unix(0, 0)

// keptSince says when records were acknowledged: from one time on, and before another.
type keptSince struct {
	from, at time.Time
	epoch    *epoch
	ranges   protocol.Ranges
}

// resend is a wish to send kept records again.
type resend struct {
	epoch  *epoch
	ranges protocol.Ranges
	done   chan resent // capacity 1, told once
}

type resent struct {
	again, gone uint64
	err         error
}

// settle takes acknowledged records out of the account of what is held: they are kept a while, or die at once when
// none are kept. mu must be held.
func (s *Spool) settle(e *epoch, settled protocol.Ranges) {
	if s.keep <= 0 {
		e.dying = e.dying.Union(settled)
	} else {
		e.acked = e.acked.Union(settled)
	}
	s.await(false)
}

// weighRanges is what the records of an epoch with the given numbers take, by lane.
func (s *Spool) weighRanges(e *epoch, ranges protocol.Ranges) (amounts [laneCount]amount, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		amounts = [laneCount]amount{}
		for lane := range laneCount {
			eachKey(tx, lane, e.number, ranges, func(_ place, v []byte) {
				size, _ := weigh(v)
				amounts[lane].add(1, size)
			})
		}
		return nil
	})
	var touched int64
	for _, a := range amounts {
		touched += a.bytes
	}
	s.touch(touched)
	return amounts, err
}

// keepAcked makes kept records of those acknowledged. Only the writer calls it; it writes nothing.
func (s *Spool) keepAcked() error {
	s.mu.Lock()
	epochs := slices.Clone(s.epochs)
	s.mu.Unlock()
	for _, e := range epochs {
		s.mu.Lock()
		acked := e.acked
		s.mu.Unlock()
		if acked.Empty() {
			continue
		}
		amounts, err := s.weighRanges(e, acked)
		if err != nil {
			return err
		}
		s.mu.Lock()
		acked = acked.Subtract(e.dying) // given up meanwhile
		e.acked = e.acked.Subtract(acked)
		cut(&e.held, acked)
		join(&e.kept, acked)
		e.sent, e.offered = e.sent.Subtract(acked), e.offered.Subtract(acked)
		s.shift(amounts, 1)
		s.keptFrom(time.Now(), e, acked)
		if s.ackedDirty.IsZero() {
			s.ackedDirty = time.Now()
		}
		s.mu.Unlock()
	}
	return nil
}

// shift moves amounts from held to kept, or back with -1. mu must be held.
func (s *Spool) shift(amounts [laneCount]amount, sign int64) {
	for i, a := range amounts {
		s.lanes[i].held.add(-sign*a.records, -sign*a.bytes)
		s.kept.add(sign*a.records, sign*a.bytes)
		s.used -= sign * a.bytes
	}
}

// keptFrom notes since when records are kept. mu must be held.
func (s *Spool) keptFrom(at time.Time, e *epoch, ranges protocol.Ranges) {
	if n := len(s.keptSince); n > 0 {
		last := &s.keptSince[n-1]
		if last.epoch == e && at.Sub(last.from) < s.keep/keptSteps {
			last.at = at
			join(&last.ranges, ranges)
			return
		}
	}
	s.keptSince = append(s.keptSince, keptSince{at, at, e, ranges.Clone()})
}

// expire removes records that were kept long enough, some in each commit, and tells whether there are more.
func (s *Spool) expire(now time.Time) (more bool, err error) {
	since := now.Add(-s.keep)
	old := func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.keptSince) > 0 && !s.keptSince[0].at.After(since)
	}
	if !old() {
		return false, nil
	}
	if err := s.purge(purgeBatch, since); err != nil {
		return false, err
	}
	return old(), nil
}

// makeRoom removes kept records, the oldest first, until everything is below the mark from which on records are given up.
func (s *Spool) makeRoom() error {
	for {
		s.mu.Lock()
		over, kept := s.used+s.kept.bytes-s.highMark(), s.kept
		s.mu.Unlock()
		if over <= 0 || kept.records <= 0 {
			return nil
		}
		over += s.highMark() / shedShare
		n := over / max(kept.bytes/kept.records, 1)
		if err := s.purge(uint64(min(max(n, leastPurge), purgeBatch)), time.Now()); err != nil {
			return err
		}
	}
}

// oldest takes out the numbers of up to most of the records that are kept longest and since before a time, of one
// identity. mu must be held.
func (s *Spool) oldest(most uint64, before time.Time) (*epoch, protocol.Ranges) {
	var e *epoch
	var chosen protocol.Ranges
	for len(s.keptSince) > 0 && most > 0 {
		first := &s.keptSince[0]
		if e != nil && first.epoch != e || first.at.After(before) {
			break
		}
		e = first.epoch
		part := lowest(first.ranges, most)
		most -= part.Count()
		chosen = chosen.Union(part)
		if cut(&first.ranges, part); first.ranges.Empty() {
			s.keptSince = s.keptSince[1:]
		}
	}
	return e, chosen
}

// lowest is the lowest numbers of a set, at most most of them.
func lowest(r protocol.Ranges, most uint64) protocol.Ranges {
	var out protocol.Ranges
	for _, part := range r {
		if most == 0 {
			break
		}
		to := min(part.To, part.From+most-1)
		out.AddRange(part.From, to)
		most -= to - part.From + 1
	}
	return out
}

// purge deletes up to most of the records that are kept longest, and since before a time. Nothing tells of it: they have
// arrived.
func (s *Spool) purge(most uint64, before time.Time) error {
	s.mu.Lock()
	e, ranges := s.oldest(most, before)
	if len(s.keptSince) == 0 && ranges.Empty() {
		s.kept = amount{} // by the account nothing is left
	}
	s.mu.Unlock()
	if ranges.Empty() {
		return nil
	}
	var w written
	err := s.update(func(tx *bbolt.Tx) (err error) {
		w = written{}
		for lane := range laneCount {
			err = errors.Join(err, w.remove(tx, lane, e.number, ranges))
		}
		failpoint.Hit("spool.purge")
		// The last record may be among them. What comes meanwhile is numbered without waiting for this.
		return errors.Join(err, putEpoch(tx, &epoch{number: e.number, identity: e.identity, next: e.durable + 1}))
	})
	var touched int64
	for _, a := range w.amounts {
		touched -= a.bytes
	}
	s.store.touch(touched)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.keptSince = slices.Insert(s.keptSince, 0, keptSince{epoch: e, ranges: ranges})
		return fmt.Errorf("remove acknowledged records: %w", err)
	}
	s.commits++
	cut(&e.kept, ranges)
	for _, a := range w.amounts {
		s.kept.add(a.records, a.bytes)
	}
	for _, file := range w.released {
		s.segments.release(file)
	}
	return nil
}

// Resend makes records of an identity go out again, as far as they are still here: those acknowledged and kept, and
// those sent and not yet acknowledged. No ranges mean all there are. It tells how many go out again and how many of the
// numbers are gone; ErrUnknownSpool when the identity is not one of this file.
func (s *Spool) Resend(ctx context.Context, spool [protocol.SpoolBytes]byte, ranges protocol.Ranges) (again, gone uint64, err error) {
	done := make(chan resent, 1) // the writer tells once and never waits
	s.mu.Lock()
	e := s.epochOf(spool)
	switch {
	case s.closed:
		err = ErrClosed
	case e == nil:
		err = ErrUnknownSpool
	default:
		if ranges.Empty() {
			ranges = e.kept.Union(e.held)
		}
		s.resends = append(s.resends, resend{e, ranges.Clone(), done})
		s.await(true)
	}
	s.mu.Unlock()
	if err != nil {
		return 0, 0, err
	}
	select {
	case r := <-done:
		return r.again, r.gone, r.err
	case <-ctx.Done():
		return 0, 0, fmt.Errorf("wait for the spool: %w", ctx.Err())
	}
}

// ErrUnknownSpool says that an identity is not one of this spool.
var ErrUnknownSpool = errors.New("no spool of this identity is here")

// resendKept carries out what Resend asked for. Only the writer calls it.
func (s *Spool) resendKept() error {
	s.mu.Lock()
	asked := s.resends
	s.resends = nil
	s.mu.Unlock()
	for i, r := range asked {
		if err := s.takeBack(r); err != nil {
			s.mu.Lock()
			s.resends = append(asked[i:], s.resends...)
			s.mu.Unlock()
			return err
		}
	}
	return nil
}

func (s *Spool) takeBack(r resend) error {
	s.mu.Lock()
	e := s.epochNumber(r.epoch.number) // another one when the file was replaced meanwhile
	back := r.ranges.Intersect(e.kept)
	s.mu.Unlock()
	amounts, err := s.weighRanges(e, back)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e.kept, e.held = e.kept.Subtract(back), e.held.Union(back)
	s.shift(amounts, -1)
	for i := range s.keptSince {
		if k := &s.keptSince[i]; k.epoch == e {
			k.ranges = k.ranges.Subtract(back)
		}
	}
	s.retry(e, r.ranges)
	var given protocol.Ranges
	given.AddRange(1, e.durable)
	asked := r.ranges.Intersect(given)
	here := asked.Intersect(e.held).Count()
	if !back.Empty() {
		s.ackedDirty = longAgo // with the next commit
		s.await(true)
	}
	r.done <- resent{again: here, gone: asked.Count() - here}
	return nil
}

// noteAcked is what to write of the acknowledged numbers, when it is time to; nil otherwise. mu must be held.
func (s *Spool) noteAcked(now time.Time, final bool) map[uint32]protocol.Ranges {
	if s.ackedDirty.IsZero() || !final && now.Sub(s.ackedDirty) < ackedEvery {
		return nil
	}
	s.ackedDirty = time.Time{}
	acked := map[uint32]protocol.Ranges{}
	for _, e := range s.epochs {
		acked[e.number] = widest(e.settled(), mostNoted)
	}
	return acked
}

// widest is the widest ranges of a set, at most most of them.
func widest(r protocol.Ranges, most int) protocol.Ranges {
	if len(r) <= most {
		return r
	}
	sorted := slices.SortedFunc(slices.Values(r), func(a, b protocol.Range) int { return cmp.Compare(b.To-b.From, a.To-a.From) })
	return protocol.NewRanges(sorted[:most]...)
}

// putAcked writes which numbers of an identity are acknowledged: CRC-32C, then for each range how far it begins above
// the end of the one before, and its length, both as varints.
func putAcked(tx *bbolt.Tx, number uint32, acked protocol.Ranges) error {
	var b []byte
	end := uint64(0)
	for _, r := range acked {
		b = binary.AppendUvarint(b, r.From-end)
		b = binary.AppendUvarint(b, r.To-r.From)
		end = r.To
	}
	key := binary.BigEndian.AppendUint32(nil, number)
	value := binary.BigEndian.AppendUint32(nil, checksum(key, b))
	return tx.Bucket(bucketMeta).Bucket(bucketAcked).Put(key, append(value, b...))
}

// readAcked reads what putAcked wrote. What is not as written counts as nothing: those records are sent again.
func readAcked(key, value []byte) protocol.Ranges {
	if len(value) < 4 || checksum(key, value[4:]) != binary.BigEndian.Uint32(value) {
		return nil
	}
	var acked protocol.Ranges
	end := uint64(0)
	for b := value[4:]; len(b) > 0; {
		up, n := binary.Uvarint(b)
		if n <= 0 {
			return nil
		}
		length, m := binary.Uvarint(b[n:])
		if m <= 0 {
			return nil
		}
		b = b[n+m:]
		acked.AddRange(end+up, end+up+length)
		end += up + length
	}
	return acked
}
