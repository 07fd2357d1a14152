package spool

import (
	"fmt"
	"os"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// release gives the pages of the file that were looked at back to the system: mapped pages count as memory of this
// process until then, and a backlog is larger than what an agent may take. They stay in the system's cache.
func (s *store) release() error {
	return s.db.View(func(tx *bbolt.Tx) error { // inside a transaction, as bbolt moves the map only without readers
		_, _, err := unix.Syscall(unix.SYS_MADVISE, tx.DB().Info().Data, uintptr(tx.Size()), unix.MADV_DONTNEED)
		if err != 0 {
			return fmt.Errorf("release the pages of the spool file: %w", err)
		}
		return nil
	})
}

// adviseCache keeps the system from caching the file in pieces larger than a page: of such a piece it writes all, or counts
// it as written, when one page of it changes. What reads ahead makes them, and what made the first pages at once; those are
// dropped as long as nobody has them mapped.
func adviseCache(f *os.File, unmapped bool) {
	const firstPages = 4
	fd := int(f.Fd())
	_ = unix.Fadvise(fd, 0, 0, unix.FADV_RANDOM) // advice: nothing depends on it
	if unmapped {
		_ = unix.Fadvise(fd, 0, int64(firstPages*os.Getpagesize()), unix.FADV_DONTNEED)
	}
}
