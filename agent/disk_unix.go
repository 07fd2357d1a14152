//go:build !windows

package main

import "golang.org/x/sys/unix"

// diskBytes is the size of the disk that a directory is on.
func diskBytes(dir string) (uint64, error) {
	var fs unix.Statfs_t
	err := unix.Statfs(dir, &fs)
	return fs.Blocks * uint64(fs.Bsize), err
}
