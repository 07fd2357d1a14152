package recorder

import (
	"context"
	"math"
	"runtime"
	"slices"
	"sync"
	"time"
)

// turns lets as many captures compute at once as there are processors. Of those that wait, the one goes first whose samples
// would be overwritten first: all stay about as far behind the receiver, and what else the agent does waits for few.
type turns struct {
	mu      sync.Mutex // guards the fields below
	busy    int
	waiting []*turn
	pace    map[bool]*pace // of channels, true, and of whole passbands
}

// turn is one that is waited for.
type turn struct {
	due   time.Time     // when the samples would be overwritten
	given chan struct{} // closed when it has come
}

// pace is how long the samples of late took: sums in which the older count less and less.
type pace struct{ busyS, samples float64 }

const (
	// lateS is how much computing the sums are about. Other programs take a processor for tenths of a second at a time, which must
	// not look like the rule.
	lateS = 1
	// knownS is how much computing tells what samples cost.
	knownS = 0.2
)

func newTurns() *turns {
	return &turns{pace: map[bool]*pace{true: {}, false: {}}}
}

// width is how many have their turn at once.
func (t *turns) width() int { return runtime.GOMAXPROCS(0) }

// take waits for a turn.
func (t *turns) take(ctx context.Context, due time.Time) error {
	t.mu.Lock()
	if t.busy < t.width() {
		t.busy++
		t.mu.Unlock()
		return nil
	}
	w := &turn{due: due, given: make(chan struct{})}
	t.waiting = append(t.waiting, w)
	t.mu.Unlock()
	select {
	case <-w.given:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if at := slices.Index(t.waiting, w); at >= 0 {
		t.waiting = slices.Delete(t.waiting, at, at+1)
	} else {
		t.pass()
	}
	return context.Cause(ctx)
}

// give ends a turn.
func (t *turns) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pass()
}

// learn notes how long so many samples took.
func (t *turns) learn(channel bool, samples int, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	keep := math.Exp(-took.Seconds() / lateS)
	p := t.pace[channel]
	p.busyS, p.samples = p.busyS*keep+took.Seconds(), p.samples*keep+float64(samples)
}

// pass hands a turn on. The caller holds mu.
func (t *turns) pass() {
	if len(t.waiting) == 0 {
		t.busy--
		return
	}
	first := slices.MinFunc(t.waiting, func(a, b *turn) int { return a.due.Compare(b.due) })
	t.waiting = slices.DeleteFunc(t.waiting, func(w *turn) bool { return w == first })
	close(first.given)
}

// costS is how long a sample takes in a turn, by what captures of late took; known once there were enough of them.
func (t *turns) costS(channel bool) (s float64, known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.pace[channel]
	return p.busyS / p.samples, p.busyS >= knownS
}

// work is a capture's side of it: whether it has its turn.
type work struct {
	turns   *turns
	channel bool
	due     time.Time
	on      bool
	begun   bool // not its first turn, in which it also prepares itself
	since   time.Time
	samples int // taken in this turn
}

// begin waits for a turn for samples that would be overwritten when due.
func (w *work) begin(ctx context.Context, due time.Time, samples int) error {
	if err := w.turns.take(ctx, due); err != nil {
		return err
	}
	w.on, w.due, w.since, w.samples = true, due, time.Now(), samples
	return nil
}

// end gives the turn back.
func (w *work) end() {
	if w.on {
		if w.begun {
			w.turns.learn(w.channel, w.samples, time.Since(w.since))
		}
		w.on, w.begun = false, true
		w.turns.give()
	}
}

// aside gives the turn back for something that only waits.
func (w *work) aside(ctx context.Context, wait func() error) error {
	if !w.on {
		return wait()
	}
	w.end()
	if err := wait(); err != nil {
		return err
	}
	return w.begin(ctx, w.due, 0)
}
