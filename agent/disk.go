package main

import (
	"fmt"
	"os"
)

const (
	mostSpoolBytes = 2 << 30
	spoolShare     = 5 // the spool takes at most a fifth of the disk
)

// spoolLimit is the configured limit, or the smaller of 2 GiB and 20 % of the disk that the spool's directory is on. It
// makes the directory: before, its disk is not known.
func spoolLimit(cfg SpoolConfig) (int64, error) {
	if err := os.MkdirAll(cfg.Path, 0o700); err != nil {
		return 0, fmt.Errorf("spool.path: %q: %w; name a directory that this account may make", cfg.Path, err)
	}
	if cfg.Limit != 0 {
		return int64(cfg.Limit), nil
	}
	disk, err := diskBytes(cfg.Path)
	if err != nil {
		return 0, fmt.Errorf("ask for the size of the disk under %s: %w; spool.limit does without", cfg.Path, err)
	}
	return int64(min(mostSpoolBytes, disk/spoolShare)), nil
}
