//go:build !windows

package main

import (
	"io/fs"
	"os"
	"syscall"
)

// sameOwner gives a file to the owner and the group of another one, where this account may.
func sameOwner(of fs.FileInfo, path string) error {
	owner, ok := of.Sys().(*syscall.Stat_t)
	if !ok || os.Getuid() != 0 {
		return nil
	}
	return os.Chown(path, int(owner.Uid), int(owner.Gid))
}
