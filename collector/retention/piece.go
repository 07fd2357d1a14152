package retention

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

const (
	sliceMost  = 5000 // rows of a transaction
	sliceLeast = 10
	// sliceOf is the part of a lease's length that a transaction may take. The lease is due for renewal after a third of it, and
	// waits for the transaction.
	sliceOf = 4
	enough  = 3 // pieces that begin to fail in a row end a pass
)

var (
	// errObjects marks errors of the object store.
	errObjects = errors.New("the object store")
	// errSlow marks transactions that took too long.
	errSlow = errors.New("too slow")
	// errEnough ends a pass that is not worth going on with.
	errEnough = errors.New("too much fails")
)

// trouble is what is known of something that could not be removed.
type trouble struct {
	faults int
	pass   int // the last one in which it failed
}

// piece does one thing. That it fails is told of when it is news, and is no error: an error ends the pass.
func (r *Retention) piece(ctx context.Context, name string, do func() error) error {
	err := do()
	t := r.troubles[name]
	switch {
	case err == nil:
		r.inARow = 0
		if t != nil {
			r.log.InfoContext(ctx, "what could not be removed before is no trouble any more", "what", name, "faults", t.faults)
			delete(r.troubles, name)
		}
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case lost(err):
		return err
	case t == nil:
		t = &trouble{}
		r.troubles[name] = t
		r.log.Log(ctx, level(err), "cannot remove what is old, trying again later", "what", name, "error", err)
		r.inARow++ // only what is news, or old troubles would keep all behind them from their turn
	}
	t.faults++
	t.pass = r.passes
	if r.inARow >= enough {
		return errEnough
	}
	return nil
}

// must is piece for what the rest of the pass needs.
func (r *Retention) must(ctx context.Context, name string, do func() error) error {
	err := r.piece(ctx, name, do)
	if err == nil && r.troubles[name] != nil {
		return errEnough
	}
	return err
}

// level is how loudly to tell of an error: what does not go away by itself is somebody's work.
func level(err error) slog.Level {
	var database interface{ Transient() bool }
	if errors.As(err, &database) && !database.Transient() {
		return slog.LevelError
	}
	return slog.LevelWarn
}

// lost tells whether an error means that the lease is lost.
func lost(err error) bool {
	var database interface{ Transient() bool }
	return !errors.As(err, &database) && !errors.Is(err, errObjects) && !errors.Is(err, errSlow)
}

// slices is a piece that goes in transactions: it calls remove until nothing is left, with fewer rows where that takes too
// long, and rests in between as long as it worked.
func (r *Retention) slices(ctx context.Context, store Store, name string, remove func(ctx context.Context, most int) (int, error)) (removed int, err error) {
	limit := store.Length() / sliceOf
	err = r.piece(ctx, name, func() error {
		for {
			began := time.Now()
			n, err := r.slice(ctx, limit, remove)
			removed += n
			if err != nil || n == 0 {
				return err
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Since(began)):
			}
		}
	})
	return removed, err
}

// slice removes rows in one transaction, as many as can be in time.
func (r *Retention) slice(ctx context.Context, limit time.Duration, remove func(ctx context.Context, most int) (int, error)) (int, error) {
	for {
		began := time.Now()
		limited, cancel := context.WithTimeout(ctx, limit)
		n, err := remove(limited, r.most)
		late := limited.Err() != nil
		cancel()
		took := time.Since(began)
		switch {
		case err == nil:
			if n >= r.most && took < limit/4 {
				r.most = min(sliceMost, r.most+r.most/4+1)
			}
			return n, nil
		case ctx.Err() != nil || !late:
			return 0, err
		case r.most == sliceLeast:
			return 0, fmt.Errorf("%w: %d rows took more than %v: %w", errSlow, r.most, limit, err)
		}
		r.most = max(r.most/2, sliceLeast)
		r.log.DebugContext(ctx, "removing rows takes too long, trying fewer at a time", "rows", r.most, "took_ms", took.Milliseconds())
		select { // others had to wait meanwhile
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(took):
		}
	}
}
