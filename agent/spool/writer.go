package spool

import (
	"context"
	"errors"
	"slices"
	"strings"
	"syscall"
	"time"

	bolterrors "go.etcd.io/bbolt/errors"

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
)

// How long to wait after a commit that failed: doubling from the first to the last.
const (
	firstRetry = 250 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// outage is the state of a disk that does not take commits. Only the writer uses it.
type outage struct {
	since    time.Time // zero: all is well
	attempts int
	retryAt  time.Time
	lastSaid time.Time
	full     bool  // for want of room
	free     int64 // bytes on the disk then
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
		if waits && (wait <= 0 || s.roomCame()) {
			s.noteWorking(time.Now())
			s.writeMu.Lock()
			s.attempt()
			s.writeMu.Unlock()
			s.noteWorking(time.Time{})
			wait, waits = s.due(time.Now())
		}
		if !waits {
			wait = time.Hour // nothing waits: the next record kicks
		}
		if s.outage.full {
			wait = min(wait, roomEvery)
		}
		timer.Reset(max(wait, 0))
	}
}

func (s *Spool) noteWorking(since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.working = since
}

// Working is how long the writer has been at one commit, with all that belongs to it; 0 while it waits for something to do or
// for the time of the next attempt.
func (s *Spool) Working() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.working.IsZero() {
		return 0
	}
	return time.Since(s.working)
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
	s.mu.Lock()
	s.fault = err
	s.mu.Unlock()
	if err == nil {
		if !s.outage.since.IsZero() {
			s.log.Info("the spool's disk takes commits again", "after", now.Sub(s.outage.since).Round(time.Second))
		}
		s.outage = outage{}
		s.compactNow(now)
		return
	}
	s.mu.Lock()
	s.await(false) // also where nothing but what the writer itself has to do is left
	s.mu.Unlock()
	if s.outage.since.IsZero() {
		s.outage.since = now
	}
	s.outage.retryAt = now.Add(min(firstRetry<<min(s.outage.attempts, 10), lastRetry))
	s.outage.attempts++
	s.outage.full = IsFull(err)
	s.outage.free, _ = FreeBytes(s.dir)
	if now.Sub(s.outage.lastSaid) >= time.Minute {
		s.log.Error("the spool's disk takes no commit; records wait in memory", "error", err, "attempts", s.outage.attempts)
		s.outage.lastSaid = now
	}
}

// flush commits until nothing waits and the limit is kept; final, also what may wait. The caller holds writeMu.
func (s *Spool) flush(final bool) error {
	defer func() {
		now := time.Now()
		s.sayFull(now)
		s.sayShed(now, final)
	}()
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
		case IsFull(err) && rounds < 3:
			if shedErr := s.shedForRoom(rounds == 2); shedErr != nil {
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
		reason := protocol.Gap_REASON_QUOTA
		if !s.room.fullAt.IsZero() {
			reason = protocol.Gap_REASON_DISK_FULL
		}
		return s.shedOldest(over+s.highMark()/shedShare, reason)
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
	for i := range s.given { // what was asked of the former file is asked of this one
		s.given[i].epoch = s.epochNumber(s.given[i].epoch.number)
	}
	for i := range s.moves {
		s.moves[i].epoch = s.epochNumber(s.moves[i].epoch.number)
	}
	s.memory = memory
	s.memos = nil
	for id, m := range memory.replies {
		s.memos = append(s.memos, recollection{id: id, memo: m})
	}
	s.renew()
	return nil
}

// IsFull tells whether err means that there is no room. What keeps its file from growing, bbolt hands on as a text only.
func IsFull(err error) bool {
	if err == nil {
		return false
	}
	if errors.Is(err, bolterrors.ErrMaxSizeReached) {
		return true
	}
	return slices.ContainsFunc([]error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG}, func(full error) bool {
		return errors.Is(err, full) || strings.Contains(err.Error(), full.Error())
	})
}
