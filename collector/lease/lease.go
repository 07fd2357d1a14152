// Package lease does the work that only one collector of a group may do at a time: while this one has the lease.
//
// The lease is a row in the database that all collectors of a group share. It is asked for until it is free, renewed while
// the work goes on, and given back at the end. That a holder which lost it without noticing can write nothing is not shown
// here but by the database, which checks the lease in each transaction of the work.
package lease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Length is how long a lease lasts when it is not renewed. After a collector was killed or stopped, another one does its work
// within that and the pause between two requests, half of it at the most: 12 s.
const Length = 8 * time.Second

// Held is a lease that this process has.
type Held interface {
	Renew(ctx context.Context) error
	Release(ctx context.Context) error
}

// Keeper keeps a lease and works under it.
type Keeper[L Held] struct {
	// Take asks for the lease.
	Take func(ctx context.Context, length time.Duration) (L, error)
	// Elsewhere is the error of Take that says that another process has the lease, as all but one of a group hear all the time.
	Elsewhere error
	// Jobs do the work, each until its context ends. One that returns earlier ends the others: the lease is then given back and
	// asked for again.
	Jobs []func(ctx context.Context, lease L) error
	// Length is how long a lease lasts when it is not renewed; 0 means [Length].
	Length time.Duration
	Log    *slog.Logger

	working     atomic.Bool
	taken, lost atomic.Uint64
}

// Stats is what became of a Keeper's requests.
type Stats struct {
	Working     bool   // it has the lease
	Taken, Lost uint64 // how often it got the lease, and lost it before it gave it back
}

// Stats may be called from any goroutine.
func (k *Keeper[L]) Stats() Stats {
	return Stats{Working: k.working.Load(), Taken: k.taken.Load(), Lost: k.lost.Load()}
}

// Run takes the lease whenever it is free, and works while it has it, until ctx ends.
func (k *Keeper[L]) Run(ctx context.Context) error {
	if k.Length <= 0 {
		k.Length = Length
	}
	faults := 0 // since Take last worked
	for {
		held, err := k.Take(ctx, k.Length)
		faults = k.tell(ctx, faults, err)
		if err == nil {
			k.work(ctx, held)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(k.Length/3 + rand.N(k.Length/6)):
		}
	}
}

// tell logs the first of the faults in a row that keep everybody from the jobs, and their end. It counts them.
func (k *Keeper[L]) tell(ctx context.Context, faults int, err error) int {
	switch {
	case ctx.Err() != nil:
		return faults
	case err == nil || errors.Is(err, k.Elsewhere):
		if faults > 0 {
			k.Log.InfoContext(ctx, "the lease for this group's jobs can be asked for again", "faults", faults)
		}
		return 0
	case faults == 0:
		k.Log.WarnContext(ctx, "cannot ask for the lease for this group's jobs, trying again", "error", err)
	}
	return faults + 1
}

// work does the jobs until one of them ends, the lease is lost or ctx ends.
func (k *Keeper[L]) work(ctx context.Context, held L) {
	began := time.Now()
	k.taken.Add(1)
	k.working.Store(true)
	defer k.working.Store(false)
	k.Log.InfoContext(ctx, "this collector does the jobs of its group")
	term, end := context.WithCancelCause(ctx)
	defer end(nil)
	var jobs sync.WaitGroup
	for _, job := range k.Jobs {
		jobs.Go(func() { end(job(term, held)) })
	}
	jobs.Go(func() { end(k.renew(term, held)) })
	jobs.Wait()

	farewell, cancel := context.WithTimeout(context.WithoutCancel(ctx), k.Length/6)
	defer cancel()
	if err := held.Release(farewell); err != nil {
		k.Log.DebugContext(ctx, "the lease was not given back", "error", err)
	}
	if why := context.Cause(term); ctx.Err() == nil && why != nil {
		k.lost.Add(1)
		k.Log.WarnContext(ctx, "this collector no longer does the jobs of its group", "error", why, "after_s", time.Since(began).Seconds())
	}
}

// renew extends the lease until that fails for as long as it lasts. A moment's trouble with the database ends nothing.
func (k *Keeper[L]) renew(ctx context.Context, held L) error {
	valid := time.Now().Add(k.Length) // the database began to count before
	pause := k.Length / 3
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		asked := time.Now()
		limited, cancel := context.WithDeadline(ctx, valid)
		err := held.Renew(limited)
		cancel()
		var lost interface{ Transient() bool }
		switch {
		case err == nil:
			valid, pause = asked.Add(k.Length), k.Length/3
		case ctx.Err() != nil:
			return ctx.Err()
		case !errors.As(err, &lost) || !lost.Transient(), !time.Now().Before(valid):
			return fmt.Errorf("renew the lease: %w", err)
		default:
			pause = k.Length / 15
		}
	}
}
