package spool

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"github.com/fulgidus/heimdall/packaging/failpoint"
	"github.com/fulgidus/heimdall/protocol"
)

const badPrefix = "spool.bad-"

// maxFileBytes bounds the bbolt file above the limit on records: pages are never full, and a file fragments.
func (s *Spool) maxFileBytes() int {
	const slack = 32 << 20
	most := s.limit + s.limit/2 + slack
	return int(min(most, int64(math.MaxInt)/2))
}

// openFile opens the file and takes stock of it, replacing it when it is damaged.
func (s *Spool) openFile() error {
	path := filepath.Join(s.dir, fileName)
	os.Remove(path + ".new") // left by a crash; what stays is removed before it is in the way
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		if err := s.makeFile(path, newEpoch(1)); err != nil {
			return err
		}
	}
	st, c, err := s.openSound(path)
	switch {
	case err == nil:
		if err := s.adopt(st, c); err != nil {
			return err
		}
		s.compact(st, mostCopiedFirst)
		return nil
	case errors.Is(err, errDamaged):
		return s.replace(err, nil)
	}
	return err
}

// openSound opens a file for writing after it was proved sound.
func (s *Spool) openSound(path string) (*store, *contents, error) {
	st, err := openStore(path, 0, true)
	if err != nil {
		return nil, nil, err
	}
	c, err := st.load()
	if err := errors.Join(err, st.close()); err != nil {
		return nil, nil, err
	}
	if st, err = openStore(path, s.maxFileBytes(), false); err != nil {
		return nil, nil, err
	}
	if c.format != fileFormat {
		err = st.update(upgrade)
	}
	if err != nil {
		st.abandon()
		return nil, nil, fmt.Errorf("convert the spool file: %w", err)
	}
	st.touch(mostTouched) // bbolt looked at all of it
	return st, c, nil
}

// makeFile makes a file with one identity in it. It gets its name only when it is whole, so that a crash leaves none
// or all of it.
func (s *Spool) makeFile(path string, epochs ...*epoch) error {
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove an unfinished spool file: %w", err)
	}
	st, err := openStore(fresh, s.maxFileBytes(), false)
	if err != nil {
		return err
	}
	err = st.update(func(tx *bbolt.Tx) error { return prepare(tx, epochs) })
	if err = errors.Join(err, st.close()); err == nil {
		err = s.rename(fresh, path)
	}
	if err != nil {
		return fmt.Errorf("make a spool file: %w", err)
	}
	return nil
}

// rename gives a finished file its name, durably.
func (s *Spool) rename(fresh, path string) error {
	failpoint.Hit("spool.rename")
	if err := os.Rename(fresh, path); err != nil {
		return err
	}
	failpoint.Hit("spool.renamed")
	return syncDir(s.dir)
}

// adopt makes st, with the given contents, the file in use.
func (s *Spool) adopt(st *store, c *contents) error {
	segs, err := openSegments(filepath.Join(s.dir, iqName), c.segments)
	if err != nil {
		return errors.Join(err, st.close())
	}
	s.noteIdentities(c.epochs)
	s.fileMu.Lock()
	s.store = st
	s.fileMu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.segments = segs
	s.epochs, s.memory, s.used, s.kept, s.keptSince = c.epochs, c.memory, 0, amount{}, nil
	for i := range s.lanes {
		l := c.lanes[i]
		s.lanes[i] = lane{held: l.held, last: l.last}
		s.used += l.held.bytes
		s.kept.add(l.kept.records, l.kept.bytes)
	}
	for _, e := range s.epochs { // for how long they were kept before is not known
		if e.noted = nil; !e.kept.Empty() {
			s.keptFrom(time.Now(), e, e.kept)
		}
	}
	s.demote(s.end())
	return nil
}

// replace moves a damaged file aside, takes over what can be read of it, and begins a new identity with Gap records
// that tell what is lost. known are the identities when they are known from before, nil when the file was just opened.
func (s *Spool) replace(cause error, known []*epoch) error {
	path := filepath.Join(s.dir, fileName)
	aside, err := s.moveAside(path)
	if err != nil {
		return err
	}
	readable := !errors.Is(cause, errFormat)
	var from *salvager
	var wanted map[uint32]protocol.Ranges
	sure := true // how far the numbers of the identities went
	if readable {
		if from, err = newSalvager(aside); err != nil {
			return err
		}
		defer from.close()
		if known == nil {
			known, sure = from.epochs()
		} else {
			wanted = map[uint32]protocol.Ranges{}
			for _, e := range known {
				wanted[e.number] = e.held.Union(e.kept)
			}
		}
	}
	failpoint.Hit("spool.aside")
	number := uint32(1)
	for _, e := range known {
		number = max(number, e.number+1)
	}
	if err := s.makeFile(path, append(slices.Clone(known), newEpoch(number))...); err != nil {
		return err
	}
	st, err := openStore(path, s.maxFileBytes(), false)
	if err != nil {
		return err
	}
	if readable {
		if err := from.salvage(st, known, wanted); err != nil {
			return errors.Join(err, st.close())
		}
	}
	c, err := st.load()
	if err != nil {
		return errors.Join(err, st.close())
	}
	if err := s.adopt(st, c); err != nil {
		return err
	}
	s.log.Error("the spool file was damaged: it was moved aside, and what could be read was taken over",
		"error", cause, "moved_to", aside, "records", s.Stats().Records)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gaps = map[gapKey]*openGap{}
	for _, e := range known {
		s.epochNumber(e.number).durable = e.durable
		s.declareLost(s.epochNumber(e.number))
	}
	if len(known) == 0 || !sure {
		s.declare(loss{reason: protocol.Gap_REASON_SPOOL_LOST, epoch: s.current()})
	}
	return nil
}

// declareLost writes which numbers of an identity are no longer here. Acknowledged ones are among them, because the
// damaged file is no witness: at the collector, stored wins.
func (s *Spool) declareLost(e *epoch) {
	var given protocol.Ranges
	given.AddRange(1, e.durable)
	for lost := given.Subtract(e.held).Subtract(e.kept); !lost.Empty(); {
		part := lost.Head(maxGapRanges)
		lost = lost[len(part):]
		s.declare(loss{reason: protocol.Gap_REASON_SPOOL_LOST, epoch: e, ranges: part})
	}
}

// moveAside renames the damaged file and removes those moved aside before: one is enough to look into.
func (s *Spool) moveAside(path string) (string, error) {
	older, _ := filepath.Glob(filepath.Join(s.dir, badPrefix+"*")) // fails only for a bad pattern
	aside := filepath.Join(s.dir, badPrefix+s.now().UTC().Format("20060102T150405.000000000Z")+".db")
	if err := os.Rename(path, aside); err != nil {
		return "", fmt.Errorf("move the damaged spool aside: %w", err)
	}
	for _, name := range older {
		os.Remove(name)
	}
	return aside, syncDir(s.dir)
}
