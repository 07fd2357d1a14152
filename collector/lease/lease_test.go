package lease_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fulgidus/heimdall/collector/lease"
)

// row is a lease as a database keeps it.
type row struct {
	mu    sync.Mutex // guards all below
	epoch int
	until time.Time
	away  bool // the database does not answer
}

var (
	errHeld = errors.New("another one has it")
	errLost = errors.New("lost")
)

// awayError is trouble that passes.
type awayError struct{}

func (awayError) Error() string   { return "away" }
func (awayError) Transient() bool { return true }

type held struct {
	*row
	epoch  int
	length time.Duration
}

func (r *row) take(_ context.Context, length time.Duration) (*held, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away {
		return nil, awayError{}
	}
	if time.Now().Before(r.until) {
		return nil, errHeld
	}
	r.epoch++
	r.until = time.Now().Add(length)
	return &held{row: r, epoch: r.epoch, length: length}, nil
}

func (h *held) write(until time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.away:
		return awayError{}
	case h.epoch != h.row.epoch || !time.Now().Before(h.until):
		return errLost
	}
	h.until = until
	return nil
}

func (h *held) Renew(context.Context) error   { return h.write(time.Now().Add(h.length)) }
func (h *held) Release(context.Context) error { return h.write(time.Now()) }

// job counts how many run at once, and how often one began.
type job struct {
	mu          sync.Mutex // guards both
	runs, begun int
	most        int
	fail        chan error // ends the running one
}

func (j *job) run(ctx context.Context, _ *held) error {
	j.mu.Lock()
	j.runs++
	j.begun++
	j.most = max(j.most, j.runs)
	j.mu.Unlock()
	defer func() {
		j.mu.Lock()
		j.runs--
		j.mu.Unlock()
	}()
	select {
	case <-ctx.Done():
		return nil
	case err := <-j.fail:
		return err
	}
}

func (j *job) count() (runs, begun int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.runs, j.begun
}

func TestKeeper_OneWorksAndAnotherTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		database := &row{}
		j := &job{fail: make(chan error)}
		start := func() (stop func()) {
			ctx, cancel := context.WithCancel(t.Context())
			k := &lease.Keeper[*held]{Take: database.take, Elsewhere: errHeld, Jobs: []func(context.Context, *held) error{j.run, j.run}, Log: slog.New(slog.DiscardHandler)}
			done := make(chan error, 1) // the one result
			go func() { done <- k.Run(ctx) }()
			return func() {
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
		}
		stopOne, stopTwo := start(), start()
		time.Sleep(10 * time.Minute)
		if runs, begun := j.count(); runs != 2 || begun != 2 {
			t.Errorf("after 10 minutes %d jobs run and %d began, want the 2 of one collector", runs, begun)
		}
		stopOne() // whichever has it
		time.Sleep(15 * time.Second)
		stopThree := start()
		time.Sleep(16 * time.Second)
		if runs, begun := j.count(); runs != 2 || begun > 4 {
			t.Errorf("%d jobs run and %d began after one collector ended", runs, begun)
		}
		stopTwo()
		stopThree()
		if runs, _ := j.count(); runs != 0 || j.most != 2 {
			t.Errorf("%d jobs run at the end, and at most %d did at once", runs, j.most)
		}
	})
}

func TestKeeper_ShortTroubleEndsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		database := &row{}
		j := &job{fail: make(chan error)}
		k := &lease.Keeper[*held]{Take: database.take, Elsewhere: errHeld, Jobs: []func(context.Context, *held) error{j.run}, Length: 30 * time.Second, Log: slog.New(slog.DiscardHandler)}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1) // the one result
		go func() { done <- k.Run(ctx) }()
		away := func(on bool) {
			database.mu.Lock()
			defer database.mu.Unlock()
			database.away = on
		}
		expect := func(when string, wantRuns, wantBegun int) {
			t.Helper()
			if runs, begun := j.count(); runs != wantRuns || begun != wantBegun {
				t.Errorf("%s: %d jobs run and %d began, want %d and %d", when, runs, begun, wantRuns, wantBegun)
			}
		}
		time.Sleep(time.Minute)
		away(true)
		time.Sleep(15 * time.Second)
		away(false)
		time.Sleep(time.Minute)
		expect("after 15 s without the database", 1, 1)
		away(true)
		time.Sleep(45 * time.Second)
		expect("while the database is away for longer than the lease", 0, 1)
		away(false)
		time.Sleep(20 * time.Second)
		expect("when it is back", 1, 2)
		database.mu.Lock()
		database.epoch++ // somebody else took it
		database.mu.Unlock()
		time.Sleep(11 * time.Second)
		expect("after the lease was lost", 0, 2)
		time.Sleep(2 * time.Minute)
		expect("after it was free again", 1, 3)
		j.fail <- errors.New("the job cannot go on")
		time.Sleep(time.Second)
		expect("after a job ended", 0, 3)
		time.Sleep(20 * time.Second)
		expect("some time after a job ended", 1, 4)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		database.mu.Lock()
		defer database.mu.Unlock()
		if time.Now().Before(database.until) {
			t.Error("the lease was not given back at the end")
		}
	})
}

// TestKeeper_TellsWhyNobodyWorks looks at the log: that another collector works is no news, that nobody can is.
func TestKeeper_TellsWhyNobodyWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		database := &row{until: time.Now().Add(5 * time.Minute)} // another collector has it
		var log strings.Builder
		j := &job{fail: make(chan error)}
		k := &lease.Keeper[*held]{
			Take: database.take, Elsewhere: errHeld, Jobs: []func(context.Context, *held) error{j.run}, Log: slog.New(slog.NewTextHandler(&log, nil)),
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1) // the one result
		go func() { done <- k.Run(ctx) }()
		lines := func(when string, want ...string) {
			t.Helper()
			synctest.Wait()
			got := strings.Split(strings.TrimSpace(log.String()), "\n")
			log.Reset()
			if len(got) != max(1, len(want)) {
				t.Errorf("%s: %d lines, want %d: %q", when, len(got), len(want), got)
			}
			for i := range min(len(got), len(want)) {
				if !strings.Contains(got[i], want[i]) {
					t.Errorf("%s: line %q, want one with %q", when, got[i], want[i])
				}
			}
		}
		away := func(on bool) {
			database.mu.Lock()
			defer database.mu.Unlock()
			database.away = on
		}
		time.Sleep(time.Minute)
		lines("while another one has it", "")
		for range 2 { // each outage is told of
			away(true)
			time.Sleep(time.Minute)
			lines("while the database is away", "level=WARN msg=\"cannot ask for the lease for this group's jobs, trying again\" error=away")
			away(false)
			time.Sleep(20 * time.Second)
			lines("when it is back", "level=INFO msg=\"the lease for this group's jobs can be asked for again\" faults=")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
