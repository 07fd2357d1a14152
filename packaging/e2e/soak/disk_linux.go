package soak

import (
	"fmt"
	"os"
	"syscall"
)

// canMount tells whether this process may make a small disk.
func canMount() bool { return os.Getuid() == 0 }

// mountDisk makes a disk of so many bytes.
func mountDisk(path string, bytes int) error {
	return syscall.Mount("none", path, "tmpfs", 0, fmt.Sprintf("size=%d", bytes))
}

func unmountDisk(path string) error { return syscall.Unmount(path, syscall.MNT_DETACH) }
