package main

import (
	"fmt"
	"os"
)

const mostSpoolBytes = 2 << 30

// spoolLimit is the configured limit, or 2 GiB.
func spoolLimit(cfg SpoolConfig) (int64, error) {
	if err := os.MkdirAll(cfg.Path, 0o700); err != nil {
		return 0, fmt.Errorf("spool.path: %q: %w; name a directory that this account may make", cfg.Path, err)
	}
	if cfg.Limit != 0 {
		return int64(cfg.Limit), nil
	}
	return mostSpoolBytes, nil
}
