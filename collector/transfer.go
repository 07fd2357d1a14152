package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// transfer is a file of the collector on its way here.
type transfer struct {
	remote
	path string
	// arrived is told of every byte; nil: nobody is.
	arrived func(n int)
}

const (
	transferTries = 6 // in a row without a byte
	transferPause = 500 * time.Millisecond
	longestPause  = 10 * time.Second
)

// copy writes the file from an offset to its end. Where the connection breaks it asks for the rest. A file that ends at
// the offset, or before, is at its end.
func (t transfer) copy(ctx context.Context, w io.Writer, from int64) error {
	for failures := 0; ; {
		n, err := t.copyOnce(ctx, w, from)
		from += n
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case n > 0:
			failures = 0
		}
		failures++
		if failures == transferTries || errors.As(err, new(writeError)) || !passing(err) {
			return err
		}
		timer := time.NewTimer(min(transferPause<<(failures-1), longestPause))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}

// writeError is a fault of where the file goes to, which no other try would mend.
type writeError struct{ error }

func (e writeError) Unwrap() error { return e.error }

// copyOnce writes what one answer gives, and tells how much that was.
func (t transfer) copyOnce(ctx context.Context, w io.Writer, from int64) (written int64, err error) {
	header := http.Header{}
	if from > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", from))
	}
	resp, err := t.send(ctx, http.MethodGet, t.path, nil, header)
	if p, ok := errors.AsType[problem](err); ok && p.Status == http.StatusRequestedRangeNotSatisfiable {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if from > 0 && resp.StatusCode != http.StatusPartialContent {
		return 0, usageError{fmt.Errorf("%s sends %s from its start, not from byte %d: what stands between removes ranges", t.base(), t.path, from)}
	}
	buffer := make([]byte, 64<<10)
	for {
		n, readErr := resp.Body.Read(buffer)
		if n > 0 {
			if _, err := w.Write(buffer[:n]); err != nil {
				return written, writeError{err}
			}
			written += int64(n)
			if t.arrived != nil {
				t.arrived(n)
			}
		}
		if errors.Is(readErr, io.EOF) {
			return written, nil
		}
		if readErr != nil {
			return written, fmt.Errorf("read %s: %w", t.path, readErr)
		}
	}
}
