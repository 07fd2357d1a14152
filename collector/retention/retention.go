// Package retention removes what is older than it is to be kept.
//
// Age counts from arrival, by the database's clock. What goes is entered as released in the transaction that removes it. A
// transaction takes as many rows as can be removed in a fraction of the lease, for it keeps the lease from being renewed; after
// it comes a pause as long as the work, so that records are committed meanwhile. Recordings go in two steps: first their rows,
// which leave behind a note of their objects, then the objects, then the note. So a crash leaves no row whose object is gone,
// and no object that nobody knows of.
//
// What cannot be removed stops nothing else: it is told of once, and tried again later and later.
package retention

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"time"

	"github.com/fulgidus/heimdall/packaging/failpoint"
	"github.com/fulgidus/heimdall/protocol"
)

// Store removes rows, under a lease. Keep is how long ago what goes must have arrived; most bounds a transaction; the
// number is how many rows went, and 0 that nothing is left.
//
// An error with a method Transient is the database's. All others mean that the lease is lost.
type Store interface {
	Length() time.Duration // of the lease, when it is not renewed
	Records
	Recordings
	RemoveAudit(ctx context.Context, keep time.Duration, most int) (int, error)
}

// Records removes what stations sent.
type Records interface {
	Spools(ctx context.Context) ([]protocol.Stream, error)
	RemoveRecords(ctx context.Context, kind protocol.Kind, stream protocol.Stream, keep time.Duration, most int) (int, error)
	RemoveRejected(ctx context.Context, keep time.Duration, most int) (int, error)
}

// Recordings removes recordings' rows, and remembers which objects still have to go. Both lists are in order, and go on after
// a name.
type Recordings interface {
	OldRecordings(ctx context.Context, keep time.Duration, after string, most int) (ids []string, err error)
	RemoveRecording(ctx context.Context, id string, most int) (int, error)
	RemovedRecordings(ctx context.Context, after string, most int) (keys []string, err error)
	ForgetRecording(ctx context.Context, key string) error
	// OldestRecordings are those stored longer ago than keep, the oldest first, up to so many bytes; at least one where there is one.
	OldestRecordings(ctx context.Context, keep time.Duration, bytes int64) (ids []string, err error)
}

// Objects removes a recording's objects. Those that are not there are no error.
type Objects interface {
	Check(ctx context.Context) error // whether objects can be reached at all
	Remove(ctx context.Context, key string) error
}

// Keep is how long things are kept; 0 means for ever.
type Keep struct {
	Records   map[protocol.Kind]time.Duration
	Recording time.Duration // also chunks of captures that never became one
	Rejected  time.Duration
	Audit     time.Duration
	// Excess is how many bytes of recordings have to go for want of room, the oldest first; nil: there is no bound.
	Excess func(ctx context.Context) (int64, error)
}

const (
	listed      = 50 // names at a time
	objectLimit = 30 * time.Second
	pauseShort  = time.Second
	pauseLong   = 6 * time.Hour
	pauseOf     = 50 // a pause is this part of the shortest time that something is kept
	// pauseRoom is between two looks at the room for recordings.
	pauseRoom = time.Minute
	// spared is how long a recording stays, whatever the room: somebody has just asked for it.
	spared       = time.Hour
	retryFirst   = 10 * time.Second
	retryLongest = 10 * time.Minute
)

// Retention removes what is old.
type Retention struct {
	keep    Keep
	objects Objects
	log     *slog.Logger

	// Only the goroutine of Run uses these, and the next one.
	most     int                 // rows of the next transaction
	troubles map[string]*trouble // what could not be removed, by its name
	passes   int
	retries  int // passes in a row with something in trouble
	inARow   int // pieces of this pass that began to fail, one after the other
}

// New makes a Retention.
func New(keep Keep, objects Objects, log *slog.Logger) *Retention {
	return &Retention{keep: keep, objects: objects, log: log, most: sliceMost, troubles: make(map[string]*trouble)}
}

// Run removes what is old, again and again, until ctx ends or the lease of the store is lost. It returns which.
func (r *Retention) Run(ctx context.Context, store Store) error {
	for {
		removed, err := r.Pass(ctx, store)
		if removed > 0 {
			r.log.InfoContext(ctx, "removed what is older than it is kept", "rows", removed)
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(r.pause()):
		}
	}
}

// pause is how long to wait after all that is old was removed: a row is kept at most a fiftieth longer than asked. What could
// not be removed is tried again earlier.
func (r *Retention) pause() time.Duration {
	pause := pauseLong
	for _, keep := range r.keep.Records {
		if keep > 0 {
			pause = min(pause, keep/pauseOf)
		}
	}
	for _, keep := range []time.Duration{r.keep.Recording, r.keep.Rejected, r.keep.Audit} {
		if keep > 0 {
			pause = min(pause, keep/pauseOf)
		}
	}
	if r.keep.Excess != nil {
		pause = min(pause, pauseRoom)
	}
	if len(r.troubles) == 0 {
		r.retries = 0
		return max(pause, pauseShort)
	}
	retry := min(retryLongest, retryFirst<<min(r.retries, 10))
	r.retries++
	return max(pauseShort, min(pause, retry/2+rand.N(retry/2)))
}

// Pass removes all that is old now and can be removed, and tells how many rows that were. Its error says that the lease is
// lost or ctx ended.
func (r *Retention) Pass(ctx context.Context, store Store) (removed int, err error) {
	r.passes++
	r.inARow = 0
	// Objects last: that their store is away is no reason to keep rows.
	for _, part := range []func(context.Context, Store) (int, error){r.records, r.rejected, r.audit, r.recordings, r.removedRecordings, r.crowded} {
		n, err := part(ctx, store)
		removed += n
		if errors.Is(err, errEnough) {
			return removed, nil
		}
		if err != nil {
			return removed, err
		}
	}
	maps.DeleteFunc(r.troubles, func(_ string, t *trouble) bool { return t.pass != r.passes }) // what is gone by itself
	return removed, nil
}

// records removes rows of records. Chunks of captures are kept as long as recordings are.
func (r *Retention) records(ctx context.Context, store Store) (removed int, err error) {
	var spools []protocol.Stream
	err = r.must(ctx, "the list of spools", func() error {
		spools, err = store.Spools(ctx)
		return err
	})
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
			name := fmt.Sprintf("%s of %s, spool %s", kind, stream.Station, hex.EncodeToString(stream.Spool[:]))
			n, err := r.slices(ctx, store, name, func(ctx context.Context, most int) (int, error) {
				return store.RemoveRecords(ctx, kind, stream, keep, most)
			})
			if removed += n; err != nil {
				return removed, err
			}
		}
	}
	return removed, nil
}

func (r *Retention) rejected(ctx context.Context, store Store) (removed int, err error) {
	if r.keep.Rejected <= 0 {
		return 0, nil
	}
	return r.slices(ctx, store, "what was rejected", func(ctx context.Context, most int) (int, error) {
		return store.RemoveRejected(ctx, r.keep.Rejected, most)
	})
}

func (r *Retention) audit(ctx context.Context, store Store) (removed int, err error) {
	if r.keep.Audit <= 0 {
		return 0, nil
	}
	return r.slices(ctx, store, "the audit", func(ctx context.Context, most int) (int, error) { return store.RemoveAudit(ctx, r.keep.Audit, most) })
}

// recordings removes the rows of recordings.
func (r *Retention) recordings(ctx context.Context, store Store) (removed int, err error) {
	if r.keep.Recording <= 0 {
		return 0, nil
	}
	list := func(after string) ([]string, error) { return store.OldRecordings(ctx, r.keep.Recording, after, listed) }
	err = r.each(ctx, "the list of old recordings", list, func(id string) error {
		n, err := r.removeAll(ctx, store, []string{id})
		removed += n
		return err
	})
	return removed, err
}

// crowded removes the oldest recordings, rows and objects, while there are more than there is room for.
func (r *Retention) crowded(ctx context.Context, store Store) (removed int, err error) {
	if r.keep.Excess == nil {
		return 0, nil
	}
	for {
		var ids []string
		err := r.must(ctx, "the room for recordings", func() error {
			excess, err := r.keep.Excess(ctx)
			if err != nil {
				return fmt.Errorf("%w: %w", errObjects, err)
			}
			if ids = nil; excess > 0 {
				ids, err = store.OldestRecordings(ctx, spared, excess)
			}
			return err
		})
		if err != nil || len(ids) == 0 {
			return removed, err
		}
		r.log.WarnContext(ctx, "more recordings than there is room for: the oldest are removed (limits.store)", "recordings", len(ids))
		n, err := r.removeAll(ctx, store, ids)
		removed += n
		if err != nil || n == 0 {
			return removed, err
		}
		if _, err := r.removedRecordings(ctx, store); err != nil {
			return removed, err
		}
		if left, err := store.RemovedRecordings(ctx, "", 1); err != nil || len(left) > 0 {
			return removed, err // what removes no objects makes no room
		}
	}
}

// removeAll removes the rows of recordings.
func (r *Retention) removeAll(ctx context.Context, store Store, ids []string) (removed int, err error) {
	for _, id := range ids {
		n, err := r.slices(ctx, store, "recording "+id, func(ctx context.Context, most int) (int, error) { return store.RemoveRecording(ctx, id, most) })
		removed += n
		if err != nil {
			return removed, err
		}
	}
	return removed, nil
}

// removedRecordings removes the objects of recordings whose rows are gone.
func (r *Retention) removedRecordings(ctx context.Context, store Store) (removed int, err error) {
	if r.keep.Recording <= 0 && r.keep.Excess == nil {
		return 0, nil
	}
	checked := false
	list := func(after string) ([]string, error) { return store.RemovedRecordings(ctx, after, listed) }
	err = r.each(ctx, "the list of removed recordings", list, func(key string) error {
		if !checked { // or each of them would be told of when the object store is away
			if err := r.must(ctx, "the object store", func() error { return r.object(ctx, r.objects.Check) }); err != nil {
				return err
			}
			checked = true
		}
		return r.piece(ctx, "objects of "+key, func() error {
			failpoint.Hit("retention.row_removed")
			if err := r.object(ctx, func(ctx context.Context) error { return r.objects.Remove(ctx, key) }); err != nil {
				return err
			}
			failpoint.Hit("retention.objects_removed")
			return store.ForgetRecording(ctx, key)
		})
	})
	return 0, err
}

// object bounds what is asked of the object store.
func (r *Retention) object(ctx context.Context, do func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, objectLimit)
	defer cancel()
	if err := do(limited); err != nil {
		return fmt.Errorf("%w: %w", errObjects, err)
	}
	return nil
}

// each calls do for each name of a list that comes in parts.
func (r *Retention) each(ctx context.Context, what string, list func(after string) ([]string, error), do func(name string) error) error {
	for after := ""; ; {
		var names []string
		err := r.must(ctx, what, func() (err error) {
			names, err = list(after)
			return err
		})
		if err != nil || len(names) == 0 {
			return err
		}
		for _, name := range names {
			if err := do(name); err != nil {
				return err
			}
		}
		after = names[len(names)-1]
	}
}
