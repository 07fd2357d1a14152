package spool

import (
	"fmt"

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

// freeBytes is how much room there is for this account on the disk that a folder is on; false when that is not known.
func freeBytes(dir string) (int64, bool) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, false
	}
	return int64(fs.Bavail) * int64(fs.Bsize), true //nolint:unconvert // of another type on 32-bit machines
}
