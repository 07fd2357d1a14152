//go:build !windows

package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

const (
	mostSpoolBytes = 2 << 30
	spoolShare     = 5 // the spool takes at most a fifth of the disk
)

// spoolLimit is the configured limit, or the smaller of 2 GiB and 20 % of the disk that the directory is on.
func spoolLimit(cfg SpoolConfig) (int64, error) {
	if err := os.MkdirAll(cfg.Path, 0o700); err != nil {
		return 0, fmt.Errorf("spool.path: %q: %w; name a directory that this account may make", cfg.Path, err)
	}
	if cfg.Limit != 0 {
		return int64(cfg.Limit), nil
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(cfg.Path, &fs); err != nil {
		return 0, fmt.Errorf("ask for the size of the disk under %s: %w", cfg.Path, err)
	}
	return min(mostSpoolBytes, int64(fs.Blocks*uint64(fs.Bsize)/spoolShare)), nil
}
