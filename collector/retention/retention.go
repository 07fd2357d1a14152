// Package retention removes what is older than it is to be kept.
//
// Age counts from arrival, by the database's clock. What goes is entered as released in the transaction that removes it, a
// bounded number of rows at a time (of recordings: one, with all its chunks), with pauses as long as the work, so that records are committed meanwhile. Recordings go
// in two steps: first their rows, which leave behind a note of their objects, then the objects, then the note. So a crash
// leaves no row whose object is gone, and no object that nobody knows of.
package retention

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/fulgidus/heimdall/packaging/failpoint"
	"github.com/fulgidus/heimdall/protocol"
)

// Store removes rows, under a lease. Keep is how long ago what goes must have arrived; most bounds a transaction; the
// number is how many went.
type Store interface {
	Spools(ctx context.Context) ([]protocol.Stream, error)
	RemoveRecords(ctx context.Context, kind protocol.Kind, stream protocol.Stream, keep time.Duration, most int) (int, error)
	RemoveAudit(ctx context.Context, keep time.Duration, most int) (int, error)
	Recordings
}

// Recordings removes recordings' rows, and remembers which objects still have to go.
type Recordings interface {
	RemoveRecordings(ctx context.Context, keep time.Duration, most int) (int, error)
	RemovedRecordings(ctx context.Context, most int) (keys []string, err error)
	ForgetRecording(ctx context.Context, key string) error
}

// Objects removes a recording's objects. Those that are not there are no error.
type Objects interface {
	Remove(ctx context.Context, key string) error
}

// Keep is how long things are kept; 0 means for ever.
type Keep struct {
	Records   map[protocol.Kind]time.Duration
	Recording time.Duration // also chunks of captures that never became one
	Audit     time.Duration
}

const (
	slice        = 5000 // rows of a transaction
	recordings   = 50   // at a time
	pauseShort   = time.Second
	pauseLong    = 6 * time.Hour
	pauseOf      = 50 // a pause is this part of the shortest time that something is kept
	retryFirst   = 10 * time.Second
	retryLongest = 10 * time.Minute
)

// Retention removes what is old.
type Retention struct {
	keep    Keep
	objects Objects
	log     *slog.Logger
}

// New makes a Retention.
func New(keep Keep, objects Objects, log *slog.Logger) *Retention {
	return &Retention{keep: keep, objects: objects, log: log}
}

// Run removes what is old, again and again, until ctx ends or the lease of the store is lost. It returns which.
func (r *Retention) Run(ctx context.Context, store Store) error {
	faults := 0
	for {
		removed, err := r.Pass(ctx, store)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var passing interface{ Transient() bool }
		pause := r.pause()
		switch {
		case err == nil:
			faults = 0
			if removed > 0 {
				r.log.InfoContext(ctx, "removed what is older than it is kept", "rows", removed)
			}
		case errors.As(err, &passing) && !passing.Transient():
			r.log.ErrorContext(ctx, "cannot remove what is old", "error", err)
		case !errors.As(err, &passing) && !errors.Is(err, errObjects):
			return err // the lease is lost
		default:
			if faults == 0 {
				r.log.WarnContext(ctx, "cannot remove what is old, trying again", "error", err)
			}
			pause = min(retryLongest, retryFirst<<min(faults, 10))
			faults++
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// pause is how long to wait after all that is old was removed: a row is kept at most a fiftieth longer than asked.
func (r *Retention) pause() time.Duration {
	pause := pauseLong
	for _, keep := range r.keep.Records {
		if keep > 0 {
			pause = min(pause, keep/pauseOf)
		}
	}
	for _, keep := range []time.Duration{r.keep.Recording, r.keep.Audit} {
		if keep > 0 {
			pause = min(pause, keep/pauseOf)
		}
	}
	return max(pause, pauseShort)
}

// errObjects marks errors of the object store, which end nothing.
var errObjects = errors.New("the object store")

// Pass removes all that is old now, and tells how many rows that were.
func (r *Retention) Pass(ctx context.Context, store Store) (removed int, err error) {
	var objects error // that the object store is away is no reason to keep records
	if r.keep.Recording > 0 {
		n, err := r.recordings(ctx, store)
		if removed += n; err != nil && !errors.Is(err, errObjects) {
			return removed, err
		}
		objects = err
	}
	n, err := r.records(ctx, store)
	if removed += n; err != nil {
		return removed, err
	}
	if r.keep.Audit > 0 {
		n, err := r.repeat(ctx, func() (int, error) { return store.RemoveAudit(ctx, r.keep.Audit, slice) })
		if removed += n; err != nil {
			return removed, err
		}
	}
	return removed, objects
}

// records removes rows of records. Chunks of captures are kept as long as recordings are.
func (r *Retention) records(ctx context.Context, store Store) (removed int, err error) {
	spools, err := store.Spools(ctx)
	if err != nil {
		return 0, err
	}
	for _, kind := range protocol.Kinds() {
		keep := r.keep.Records[kind]
		if kind == protocol.KindIQ {
			keep = r.keep.Recording
		}
		if keep <= 0 {
			continue
		}
		for _, stream := range spools {
			n, err := r.repeat(ctx, func() (int, error) { return store.RemoveRecords(ctx, kind, stream, keep, slice) })
			if removed += n; err != nil {
				return removed, err
			}
		}
	}
	return removed, nil
}

// recordings removes recordings, and the objects of those removed before a crash.
func (r *Retention) recordings(ctx context.Context, store Recordings) (removed int, err error) {
	return r.repeat(ctx, func() (int, error) {
		n, err := store.RemoveRecordings(ctx, r.keep.Recording, recordings)
		if err != nil {
			return n, err
		}
		keys, err := store.RemovedRecordings(ctx, recordings)
		if err != nil {
			return n, err
		}
		for _, key := range keys {
			failpoint.Hit("retention.row_removed")
			if err := r.objects.Remove(ctx, key); err != nil {
				return n, fmt.Errorf("%w: %w", errObjects, err)
			}
			failpoint.Hit("retention.objects_removed")
			if err := store.ForgetRecording(ctx, key); err != nil {
				return n, err
			}
		}
		return max(n, len(keys)), nil
	})
}

// repeat calls remove until nothing is left, and rests in between as long as it worked.
func (r *Retention) repeat(ctx context.Context, remove func() (int, error)) (removed int, err error) {
	for {
		began := time.Now()
		n, err := remove()
		if removed += n; err != nil || n == 0 {
			return removed, err
		}
		select {
		case <-ctx.Done():
			return removed, ctx.Err()
		case <-time.After(time.Since(began)):
		}
	}
}
