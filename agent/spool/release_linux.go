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
