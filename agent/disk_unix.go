//go:build !windows

package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// diskBytes is the size of the disk that a directory is on.
func diskBytes(dir string) (uint64, error) {
	var fs unix.Statfs_t
	err := unix.Statfs(dir, &fs)
	return fs.Blocks * uint64(fs.Bsize), err
}

// mayWrite tells whether files can be made in a directory.
func mayWrite(dir string) error {
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return &os.PathError{Op: "write to", Path: dir, Err: err}
	}
	return nil
}
