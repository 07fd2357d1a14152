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
)

const badPrefix = "spool.bad-"

// fileSlack is room in the file for what gives up records: deletes need pages, too.
const fileSlack = 32 << 20

// maxFileBytes bounds the bbolt file above the limit on records: pages are never full, and a file fragments.
func (s *Spool) maxFileBytes() int {
	most := s.limit + s.limit/2 + fileSlack
	return int(min(most, int64(math.MaxInt)/2))
}

// openFile opens the file and takes stock of it, replacing it when it is damaged.
func (s *Spool) openFile() error {
	path := filepath.Join(s.dir, fileName)
	os.Remove(path + ".new") // left by a crash; what stays is removed before it is in the way
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		if err := s.firstFile(path); err != nil {
			return err
		}
	} else {
		os.Remove(path + readySuffix) // made ready for a file that is still there: if that is damaged, it is made again
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
	if waits := c.records(); waits > 0 && c.station != "" && c.station != s.station {
		return nil, nil, &StationError{Path: path, Station: c.station, Records: waits}
	}
	if st, err = openStore(path, s.maxFileBytes(), false); err != nil {
		return nil, nil, err
	}
	size, err := sizeOf(st.file)
	st.db.MaxSize = max(st.db.MaxSize, int(size)+fileSlack) // it may have been made under a higher limit
	if err == nil && c.format != fileFormat {
		err = st.update(upgrade)
	}
	if err == nil && c.station != s.station {
		err = s.takeOver(st, c)
	}
	if err != nil {
		st.abandon()
		return nil, nil, fmt.Errorf("convert the spool file: %w", err)
	}
	st.touch(mostTouched) // bbolt looked at all of it
	return st, c, nil
}

// takeOver makes a file this station's. One that was another's goes on under a new identity: the numbers of the old one are
// that station's.
func (s *Spool) takeOver(st *store, c *contents) error {
	if c.station != "" {
		c.epochs = append(c.epochs, epochAfter(c.epochs))
	}
	return st.update(func(tx *bbolt.Tx) error {
		return errors.Join(putIdentities(tx, c.epochs), putStation(tx, s.station))
	})
}

// firstFile gives the spool a file when it has none: the replacement of a damaged one that a crash left ready, or a new one. When
// there was one once, that declares all numbers it may have given.
func (s *Spool) firstFile(path string) error {
	err := s.rename(path+readySuffix, path)
	if err == nil {
		return nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("go on with the spool file that was made ready: %w", err)
	}
	known := identitiesBeside(path)
	fresh := epochAfter(known)
	if len(known) == 0 {
		return s.makeFile(path, []*epoch{fresh}, nil)
	}
	s.log.Error("the spool file is gone: a new one begins, and a Gap says so", "path", path)
	return s.makeFile(path, append(slices.Clone(known), fresh), func(st *store) error {
		_, err := s.declareIn(st, known, fresh)
		return err
	})
}

// makeFile makes a file with some identities and what fill adds, if it is not nil. It gets its name only when it is whole, so
// that a crash leaves none or all of it.
func (s *Spool) makeFile(path string, epochs []*epoch, fill func(*store) error) error {
	fresh := filepath.Join(s.dir, fileName+".new")
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove an unfinished spool file: %w", err)
	}
	st, err := openStore(fresh, s.maxFileBytes(), false)
	if err != nil {
		return err
	}
	err = st.update(func(tx *bbolt.Tx) error { return prepare(tx, s.station, epochs) })
	if err == nil && fill != nil {
		err = fill(st)
	}
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
