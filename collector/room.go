package main

import (
	"context"
	"strings"
)

// excess tells how many bytes of recordings there are beyond limits.store; nil when nothing bounds them.
func (c *Collector) excess() func(context.Context) (int64, error) {
	limit := c.cfg.Limits.Store
	folder, local := strings.CutPrefix(c.cfg.Archive.URL, "file:")
	switch {
	case limit.Bytes > 0:
		return func(ctx context.Context) (int64, error) {
			n, err := c.store.RecordingBytes(ctx)
			return n - int64(limit.Bytes), err
		}
	case limit.Part > 0 && local:
		return func(context.Context) (int64, error) {
			total, free, err := diskRoom(folder)
			if err != nil {
				return 0, err
			}
			return int64(float64(total)*(1-limit.Part)) - int64(free), nil // what is to be free and is not
		}
	}
	return nil
}
