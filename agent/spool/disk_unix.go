//go:build darwin || freebsd || linux

package spool

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// FreeBytes is how much room there is for this account on the disk that a folder is on; false when that is not known.
func FreeBytes(dir string) (int64, bool) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, false
	}
	return int64(fs.Bavail) * int64(fs.Bsize), true //nolint:unconvert // of other types elsewhere
}

// allocated is what a file takes of the disk. The file of bbolt grows in steps, and has holes until they are written.
func allocated(info os.FileInfo) int64 {
	const block = 512 // bytes, whatever the file system's are
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return int64(stat.Blocks) * block //nolint:unconvert // of other types elsewhere
	}
	return info.Size()
}
