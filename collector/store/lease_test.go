package store_test

import (
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/collector/store"
)

// takeLease waits until a lease can be had.
func takeLease(t *testing.T, db *store.DB, holder string, length time.Duration) *store.Lease {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		l, err := db.TakeLease(t.Context(), "jobs", holder, length)
		if err == nil {
			return l
		}
		if !errors.Is(err, store.ErrLeaseHeld) || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func testLease(t *testing.T, s *server) {
	one, two := s.open(t), s.open(t)
	first := takeLease(t, one, "one", time.Minute)
	for _, holder := range []string{"two", "one"} { // also a second part of the same process is another one
		if _, err := two.TakeLease(t.Context(), "jobs", holder, time.Minute); !errors.Is(err, store.ErrLeaseHeld) {
			t.Errorf("%s takes a lease that is held: %v", holder, err)
		}
	}
	if other, err := two.TakeLease(t.Context(), "other jobs", "two", time.Minute); err != nil || other.Epoch() != 1 {
		t.Errorf("a lease of another name: %v", err)
	}
	if err := errors.Join(first.Renew(t.Context()), first.Release(t.Context())); err != nil {
		t.Fatal(err)
	}
	if err := first.Renew(t.Context()); !errors.Is(err, store.ErrLeaseLost) {
		t.Errorf("renewed after it was given back: %v", err)
	}
	second := takeLease(t, two, "two", 100*time.Millisecond)
	if second.Epoch() <= first.Epoch() {
		t.Errorf("epoch %d after %d", second.Epoch(), first.Epoch())
	}
	// Paused past its end, a holder is refused, whether another one took over or not.
	waitFor(t, "the lease ends", func() bool {
		return errors.Is(second.Renew(t.Context()), store.ErrLeaseLost) || pause(110*time.Millisecond)
	})
	third := takeLease(t, one, "one", time.Minute)
	wrote := false
	for name, l := range map[string]*store.Lease{"first": first, "second": second} {
		err := l.Transact(t.Context(), func(*sql.Tx, time.Time) error { wrote = true; return nil })
		if !errors.Is(err, store.ErrLeaseLost) || wrote {
			t.Errorf("the %s holder writes: %v", name, err)
		}
	}
	// A restored database may give an epoch again; the holder's name tells the two apart.
	s.exec(t, "UPDATE lease SET epoch = 1, until = (SELECT until FROM lease WHERE name = 'jobs') WHERE name = 'jobs'")
	if err := third.Renew(t.Context()); !errors.Is(err, store.ErrLeaseLost) {
		t.Errorf("the lease of a time that is undone: %v", err)
	}
	s.exec(t, "DELETE FROM lease")
	if err := third.Release(t.Context()); !errors.Is(err, store.ErrLeaseLost) {
		t.Errorf("a lease without a row: %v", err)
	}
}

// pause waits, and is never true.
func pause(d time.Duration) bool {
	<-time.After(d)
	return false
}

func waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// testLeaseOfOne lets four processes work under one lease, pausing as a stopped process does: between two transactions, and
// inside of one. No work of an older epoch may follow that of a newer one.
func testLeaseOfOne(t *testing.T, s *server) {
	s.open(t)
	s.exec(t, "CREATE TABLE work (n integer PRIMARY KEY, epoch bigint NOT NULL)")
	defer s.exec(t, "DROP TABLE work")
	var refused, done atomic.Int64
	began := time.Now()
	var wg sync.WaitGroup
	for w := range 4 {
		db := s.open(t)
		wg.Go(func() {
			random := rand.New(rand.NewPCG(7, uint64(w)))
			for refused.Load() < 5 || done.Load() < 40 {
				if time.Since(began) > 30*time.Second {
					return
				}
				l, err := db.TakeLease(t.Context(), "jobs", fmt.Sprint("collector ", w), 60*time.Millisecond)
				if err != nil {
					if !errors.Is(err, store.ErrLeaseHeld) {
						t.Error(err)
						return
					}
					pause(5 * time.Millisecond)
					continue
				}
				for range 10 {
					err := l.Transact(t.Context(), func(tx *sql.Tx, _ time.Time) error {
						_, err := tx.ExecContext(t.Context(), fmt.Sprintf("INSERT INTO work (n, epoch) SELECT count(*) + 1, %d FROM work", l.Epoch()))
						if random.IntN(4) == 0 {
							pause(time.Duration(random.Int64N(int64(100 * time.Millisecond))))
						}
						return err
					})
					if errors.Is(err, store.ErrLeaseLost) {
						refused.Add(1)
						break
					}
					if err != nil {
						t.Error(err)
						return
					}
					done.Add(1)
					if random.IntN(3) == 0 {
						pause(time.Duration(random.Int64N(int64(100 * time.Millisecond))))
					}
				}
			}
		})
	}
	wg.Wait()
	epochs := s.number(t, "SELECT count(DISTINCT epoch) FROM work")
	t.Logf("%d transactions under %d leases, %d refused", done.Load(), epochs, refused.Load())
	if refused.Load() < 5 || epochs < 2 {
		t.Errorf("%d transactions were refused and %d leases given: too few to show anything", refused.Load(), epochs)
	}
	if n := s.number(t, "SELECT count(*) FROM work"); n != done.Load() {
		t.Errorf("%d transactions are stored, %d were committed", n, done.Load())
	}
	if n := s.number(t, "SELECT count(*) FROM work AS a JOIN work AS b ON b.n = a.n + 1 WHERE b.epoch < a.epoch"); n != 0 {
		t.Errorf("%d times work of an older lease followed that of a newer one", n)
	}
}
