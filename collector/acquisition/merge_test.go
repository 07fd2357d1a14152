package acquisition_test

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fulgidus/heimdall/collector/acquisition"
	"github.com/fulgidus/heimdall/protocol"
)

func TestCreate_JoinsWhatAsksTheSame(t *testing.T) {
	soon := func(q *protocol.AcquisitionRequest) { q.StartTime = time.Now().Add(time.Hour).Format(time.RFC3339) }
	for _, c := range []struct {
		name          string
		first, second func(*protocol.AcquisitionRequest)
		after         time.Duration
		joins         bool
	}{
		{name: "as soon as all can", joins: true},
		{name: "at the same start", first: soon, second: soon, joins: true},
		{name: "when it has started", after: time.Second},
		{name: "at another start", first: soon},
		{name: "of the past", first: func(q *protocol.AcquisitionRequest) { q.StartTime = "2000-01-01T23:00:00Z" }, second: func(q *protocol.AcquisitionRequest) { q.StartTime = "2000-01-01T23:00:00Z" }},
		{name: "under another label", second: func(q *protocol.AcquisitionRequest) { q.Label = "mine" }},
		{name: "longer", second: func(q *protocol.AcquisitionRequest) { q.DurationS = 6 }},
		{name: "elsewhere", second: func(q *protocol.AcquisitionRequest) { q.FrequencyHz++ }},
		{name: "with a bandwidth", second: func(q *protocol.AcquisitionRequest) { q.BandwidthHz = new(12.5e3) }},
		{name: "with IQ", second: func(q *protocol.AcquisitionRequest) { q.IQ = true }},
		{name: "of more weight", second: func(q *protocol.AcquisitionRequest) { q.Priority = 1 }},
		{name: "of other stations", second: func(q *protocol.AcquisitionRequest) { q.Stations = []string{"north"} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, nil, func(t *testing.T, r *rig) {
				one, two := fiveSeconds, fiveSeconds
				if c.first != nil {
					c.first(&one)
				}
				if c.second != nil {
					c.second(&two)
				}
				a := r.create(t, one)
				issued := r.commands.issues()
				rest(c.after)
				b := r.create(t, two)
				if joined := a.ID == b.ID; joined != c.joins {
					t.Errorf("joined: %v, want %v", joined, c.joins)
				}
				if more := r.commands.issues() - issued; (more == 0) != c.joins {
					t.Errorf("%d commands for the second", more)
				}
			})
		})
	}
}

func TestCreate_JoinsWhatComesAtOnce(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		const each = 20
		var mu sync.Mutex
		ids := map[string]int{}
		var posts sync.WaitGroup
		for i := range 3 * each {
			posts.Go(func() {
				req := fiveSeconds
				req.FrequencyHz += float64(i % 3)
				a, err := r.Create(t.Context(), req)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				ids[a.ID]++
			})
		}
		posts.Wait()
		synctest.Wait() // the commands are sent after the answers
		for id, n := range ids {
			if n != each {
				t.Errorf("%d have acquisition %s, want %d", n, id, each)
			}
		}
		if n := r.commands.issues(); n != 3*2 {
			t.Errorf("%d commands, want one for each of three acquisitions and two stations", n)
		}
	})
}

func TestCreate_JoinsNothingThatIsCancelled(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		req := fiveSeconds
		req.StartTime = time.Now().Add(time.Hour).Format(time.RFC3339)
		a := r.create(t, req)
		r.cancel(t, a)
		b := r.create(t, req)
		if a.ID == b.ID {
			t.Error("joined what is cancelled")
		}
		for _, station := range []string{"north", "south"} {
			r.reply(b, station, protocol.Reply_STATE_REFUSED, no("out_of_passband"))
		}
		if c := r.create(t, req); c.ID == b.ID {
			t.Error("joined what has failed")
		}
	})
}

func TestCreate_JoinsWhatAnotherProcessBegan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(24 * time.Hour)
		one, other := newRig(nil), newRig(nil)
		other.db = one.db
		other.Conductor = acquisition.New(acquisition.Config{Store: one.db, Commander: other.commands, Stations: fixture()})
		stopOne, stopOther := one.run(t), other.run(t)
		req := fiveSeconds
		req.StartTime = time.Now().Add(time.Hour).Format(time.RFC3339)
		a := one.create(t, req)
		rest(11 * time.Second)
		if b := other.create(t, req); a.ID != b.ID {
			t.Error("not joined")
		}
		stopOne()
		stopOther()
	})
}

// One that the store refuses spoils no other that came with it, and a store that is away fails all.
func TestCreate_EachHasItsOwnError(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		r.db.bad = "refused"
		r.db.mu.Lock() // whoever is first waits here, and the others for him
		errs := make([]error, 6)
		var posts sync.WaitGroup
		for i := range errs {
			posts.Go(func() {
				req := fiveSeconds
				req.FrequencyHz += float64(i)
				switch i {
				case 4:
					req.Label = "refused"
				case 5:
					req.DurationS = -1
				}
				_, errs[i] = r.Create(t.Context(), req)
			})
		}
		r.db.mu.Unlock()
		posts.Wait()
		for i, err := range errs {
			var refused refusedError
			var faults protocol.FieldErrors
			switch {
			case i < 4 && err != nil, i == 4 && !errors.As(err, &refused), i == 5 && !errors.As(err, &faults):
				t.Errorf("request %d: %v", i, err)
			}
		}
		r.db.fail(errors.New("connection refused"))
		for range 3 {
			posts.Go(func() {
				if _, err := r.Create(t.Context(), fiveSeconds); err == nil {
					t.Error("created without a store")
				}
			})
		}
		posts.Wait()
	})
}
