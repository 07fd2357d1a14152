package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"

	"github.com/fulgidus/heimdall/packaging/failpoint"
)

// bbolt never gives disk back: after a long outage the file stays as large as the backlog was. It is copied to a new one
// when more than three quarters of a file above smallFile are free, and not more than so much is to be copied: the writer
// waits for it.
const (
	smallFile       = 32 << 20
	mostCopiedInUse = 32 << 20
	mostCopiedFirst = 128 << 20 // when the spool is opened
	copyBatch       = 1 << 20   // bytes in one transaction of the copy
	compactEvery    = time.Minute
	// retireAfter is how long the former file stays locked: whoever opened it before it lost its name gives up by then.
	retireAfter = 2 * lockWait
)

// retired is a file that lost its name to a copy.
type retired struct {
	store *store
	at    time.Time
}

// sparse tells whether a file is worth being copied, and how many bytes that would be.
func (s *store) sparse() (live int64, worth bool) {
	var total int64
	if err := s.view(func(tx *bbolt.Tx) error { total = tx.Size(); return nil }); err != nil {
		return 0, false
	}
	stats := s.db.Stats()
	free := int64(stats.FreePageN+stats.PendingPageN) * int64(s.db.Info().PageSize)
	return total - free, total > smallFile && free > total/4*3
}

// compactNow and then copies a file that is mostly free, while little happens. The caller holds writeMu; a failure costs
// nothing, as the file in use stays as it is until the copy is whole.
func (s *Spool) compactNow(now time.Time) {
	if s.retired.store != nil && now.Sub(s.retired.at) >= retireAfter {
		s.retire()
	}
	if now.Sub(s.compactedAt) < compactEvery {
		return
	}
	s.compactedAt = now
	s.compact(s.store, mostCopiedInUse)
}

// compact copies st to a file that takes its name, if that is worth it, and makes it the file in use.
func (s *Spool) compact(st *store, most int64) {
	live, worth := st.sparse()
	if !worth || live > most || s.retired.store != nil {
		return
	}
	if room, known := FreeBytes(s.dir); known && room < 2*live+mostReserveBytes {
		s.log.Debug("the spool file is mostly free, but there is no room for a copy", "bytes", live, "room", room)
		return
	}
	began := time.Now()
	fresh, err := s.copyFile(st)
	if err != nil {
		s.log.Warn("the spool file could not be made smaller", "error", err)
		return
	}
	s.fileMu.Lock()
	s.store = fresh
	s.fileMu.Unlock()
	s.retired = retired{st, time.Now()}
	s.log.Info("the spool file was made smaller", "bytes", live, "took", time.Since(began).Round(time.Millisecond))
}

// copyFile makes a copy, whole and on disk, and gives it the name of the file.
func (s *Spool) copyFile(st *store) (*store, error) {
	path := filepath.Join(s.dir, fileName)
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove an unfinished spool file: %w", err)
	}
	to, err := openStore(fresh, s.maxFileBytes(), false)
	if err != nil {
		return nil, err
	}
	failpoint.Hit("spool.compact")
	err = guard(func() error {
		to.db.NoSync = true // nothing counts before all of it is there
		if err := bbolt.Compact(to.db, st.db, copyBatch); err != nil {
			return err
		}
		failpoint.Hit("spool.copied")
		to.db.NoSync = false
		return to.db.Sync()
	})
	st.touch(mostTouched)
	if err != nil {
		err = fmt.Errorf("copy the spool file: %w", err)
	} else if err = os.Rename(fresh, path); err == nil {
		failpoint.Hit("spool.renamed")
		// From here on the copy is the file, whatever happens; nothing may be promised before its name is on disk.
		s.unnamed = true
		return to, nil
	}
	if errors.Is(err, errDamaged) {
		to.abandon()
	} else {
		err = errors.Join(err, to.close())
	}
	os.Remove(fresh)
	return nil, err
}

// name makes sure that the name of the file in use is on disk: after a power cut the former file would be back otherwise,
// without what was committed since.
func (s *Spool) name() error {
	if !s.unnamed {
		return nil
	}
	if err := syncDir(s.dir); err != nil {
		return err
	}
	s.unnamed = false
	return nil
}

// update writes to the file in use.
func (s *Spool) update(fn func(*bbolt.Tx) error) error {
	if err := s.name(); err != nil {
		return err
	}
	return s.store.update(fn)
}

// retire closes the file that lost its name.
func (s *Spool) retire() {
	if s.retired.store == nil {
		return
	}
	if err := s.retired.store.close(); err != nil {
		s.log.Debug("the former spool file could not be closed", "error", err)
	}
	s.retired = retired{}
}
