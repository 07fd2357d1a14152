//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package spool

import (
	"os"
	"syscall"
)

// unlock takes back bbolt's lock. Closing the file is not enough while it is mapped into memory, and only bbolt could
// undo that.
func unlock(f *os.File) { _ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }
