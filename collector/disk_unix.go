//go:build darwin || freebsd || linux

package main

import "golang.org/x/sys/unix"

// diskRoom is how many bytes the disk of a path has for this account in all, and how many of them are free.
func diskRoom(path string) (total, free uint64, err error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return 0, 0, err
	}
	block := uint64(fs.Bsize)
	free = uint64(fs.Bavail) * block //nolint:unconvert // of other types elsewhere
	return (fs.Blocks-fs.Bfree)*block + free, free, nil
}
