package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

const (
	mostSpoolBytes = 2 << 30
	spoolShare     = 5 // the spool takes at most a fifth of the disk
)

// spoolLimit is the configured limit, or the smaller of 2 GiB and 20 % of the disk that the spool's directory is on. It
// makes nothing; where the directory is still to be made, it tells whether it can be.
func spoolLimit(cfg SpoolConfig) (int64, error) {
	dir, err := standing(cfg.Path)
	if err != nil {
		return 0, fmt.Errorf("spool.path: %q: %w; name a directory that this account may make", cfg.Path, err)
	}
	if cfg.Limit != 0 {
		return int64(cfg.Limit), nil
	}
	disk, err := diskBytes(dir)
	if err != nil {
		return 0, fmt.Errorf("ask for the size of the disk under %s: %w; spool.limit does without", cfg.Path, err)
	}
	return int64(min(mostSpoolBytes, disk/spoolShare)), nil
}

// standing is the lowest directory of a path that is there already, and may be written.
func standing(path string) (string, error) {
	dir := filepath.Clean(path)
	for {
		info, err := os.Stat(dir)
		switch above := filepath.Dir(dir); {
		case errors.Is(err, os.ErrNotExist) && above != dir:
			dir = above
		case err != nil:
			return "", err
		case !info.IsDir():
			return "", fmt.Errorf("%s is a file", dir)
		default:
			return dir, mayWrite(dir)
		}
	}
}
