package recorder

import (
	"context"
	"errors"
	"math"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/agent/history"
	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/dsp"
)

func TestCarries(t *testing.T) {
	live := func(from, part float64) span { return span{from: from, to: from + 5, reach: 10, part: part} }
	for _, tc := range []struct {
		name  string
		spans []span
		want  bool
		later float64 // of the first, where it does not fit
	}{
		{"one", []span{live(0, 0.9)}, true, 0},
		{"one that nothing carries", []span{live(0, 10)}, true, 0},
		{"with the time until the last sample is gone", []span{live(0, 1), live(0, 1), live(0, 1)}, true, 0},
		{"more than that", []span{live(0, 1), live(0, 1), live(0, 1), live(0, 0.1)}, false, 5},
		{"one after the other", []span{live(5, 1), live(0, 1), live(0, 1), live(0, 1)}, true, 0},
		{"of the past, nearly gone", []span{{from: -9, to: -4, reach: 10, part: 0.7}, {from: -9, to: -4, reach: 10, part: 0.6}}, false, 5},
		{"of the past, early enough", []span{{from: -9, to: -4, reach: 10, part: 0.6}, {from: -9, to: -4, reach: 10, part: 0.6}}, true, 0},
		{"one behind the other, taken already", []span{{12, 22, 0.001, 9}, {2, 12, 0.001, 9}, {12, 22, 0.001, 9}}, false, 10},
		{"a long one beside", []span{live(10, 1), {from: -5, to: 3600, reach: 10, part: 0.5}}, true, 0},
		{"a long one in the way", []span{{from: 10, to: 100, reach: 10, part: 0.9}, {from: -5, to: 3600, reach: 10, part: 0.5}}, false, 3590},
	} {
		spans := slices.Clone(tc.spans)
		if got := carries(spans, 1); got != tc.want {
			t.Errorf("%s: got %v, want %v", tc.name, got, tc.want)
		}
		if tc.later == 0 {
			continue
		}
		if got := laterBy(spans, 1); math.Abs(got-tc.later) > 0.02 {
			t.Errorf("%s: later by %.2f s, want %.2f s", tc.name, got, tc.later)
		}
	}
}

// As many compute as there are processors; then it is the turn of the one whose samples are gone first, whoever came first.
func TestTurns_MostUrgentFirst(t *testing.T) {
	turns := newTurns()
	now := time.Now()
	for range runtime.GOMAXPROCS(0) {
		if err := turns.take(t.Context(), now); err != nil {
			t.Fatal(err)
		}
	}
	came := make(chan int)
	leaving, leave := context.WithCancelCause(t.Context())
	left := make(chan error)
	for i, due := range []time.Duration{3, 1, 2} {
		go func() {
			if err := turns.take(t.Context(), now.Add(due)); err != nil {
				t.Error(err)
			}
			came <- i
		}()
	}
	go func() { left <- turns.take(leaving, now.Add(-1)) }()
	for waiting := 0; waiting < 4; runtime.Gosched() {
		turns.mu.Lock()
		waiting = len(turns.waiting)
		turns.mu.Unlock()
	}
	gone := errors.New("gone")
	leave(gone)
	if err := <-left; !errors.Is(err, gone) {
		t.Errorf("one that left got %v", err)
	}
	for _, want := range []int{1, 2, 0} {
		turns.learn(true, pieceSamples, time.Millisecond)
		turns.give()
		if got := <-came; got != want {
			t.Errorf("the turn of %d, want that of %d", got, want)
		}
	}
	for range runtime.GOMAXPROCS(0) {
		turns.give()
	}
	if turns.busy != 0 {
		t.Errorf("%d have a turn, want none", turns.busy)
	}
	if s, known := turns.costS(true); known || math.Abs(s-1e-3/pieceSamples) > 1e-12 {
		t.Errorf("a sample costs %g s, known: %v", s, known)
	}
}

// When samples come to cost more than could be known, the least urgent captures that came last are given up, as many as must be.
func TestLoad_GivesUpTheLast(t *testing.T) {
	const rate = 1e6
	ring := history.New(20e6) // five seconds of 16-bit pairs
	ring.Append(&radio.Block{Format: dsp.CS16, Time: time.Unix(1000, 0), Raw: make([]byte, 4000), Tuning: radio.Tuning{SampleRateHz: rate}})
	turns, l := newTurns(), newLoad()
	l.trial = func() float64 { return 1e-8 }
	var given []int
	for i, urgency := range []int32{0, 0, 1, 0} {
		j := &job{receiver: Receiver{History: ring}, info: radio.Info{Format: dsp.CS16}, start: ring.Span().To, duration: 5, bandwidthHz: 1e4}
		j.info.Tuning.SampleRateHz = rate
		task := newTask(j)
		task.urgency, task.giveUp = urgency, func() { given = append(given, i) }
		if _, ok := l.admit(task, turns); !ok {
			t.Fatalf("capture %d is not taken on", i)
		}
	}
	if l.look(turns); len(given) != 0 {
		t.Errorf("given up at first: %v", given)
	}
	// Two can be computed in the ten seconds until all is gone: each has 5e6 samples.
	perSample := 10 * float64(turns.width()) / 2.5 / 5e6
	turns.learn(true, 1e6, time.Duration(perSample*1e15))
	if l.look(turns); len(given) != 0 {
		t.Errorf("looked again at once: %v", given)
	}
	l.looked = time.Time{}
	if l.look(turns); !slices.Equal(given, []int{3, 1}) {
		t.Errorf("given up: %v, want 3, then 1", given)
	}
	if l.count() != 2 {
		t.Errorf("%d are left, want 2", l.count())
	}
}
