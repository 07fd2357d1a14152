// Package clock is the agent's one source of wall time.
//
// Whatever becomes data (the time of a record, of a block, of a reply) is read here, by Now or Reading. Whatever is a
// duration (a time-out, a back-off, an age, an uptime) is a difference of two Elapsed, or of two time.Now, which carry a
// monotonic reading: those no step can touch. A time from here carries none, so that the two are not mixed by mistake.
//
// A clock is unset while the system's wall clock says a time before the program was built, as at boot on a computer
// without a battery. Until it is set, Now counts from the build date by the monotonic clock: such times are in order and
// their differences are right, and Correct makes them true once the clock is set. It is set once: a wall clock that later
// falls before the build date is not followed, the time goes on by the monotonic clock until it is plausible again.
//
// A step is a change of the wall clock against the monotonic one by more than 50 ms. It is followed, counted and logged;
// what was stamped before keeps its time. On Linux the monotonic clock is CLOCK_BOOTTIME: it counts suspended time as the
// wall clock does, and an NTP client slews both alike, so that neither looks like a step. Elsewhere the end of a suspend
// does. The wall clock is compared at every reading and once a second by Run; a timerfd with TFD_TIMER_CANCEL_ON_SET would
// tell of a step at once, but not of its size, and on one system only.
package clock

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

const (
	// leastStep is the change that counts as a step; less is how NTP clients without slewing set a clock each hour.
	leastStep = 50 * time.Millisecond
	// lookEvery is how long a step can stay unseen while nobody asks for the time.
	lookEvery = time.Second
	// kernelEvery is how old the kernel's word on its clock may be.
	kernelEvery = time.Second
	// sayEvery is the least pause between two log lines on steps.
	sayEvery = time.Minute
	// driftPPM bounds a computer's own clock while no wall clock is followed: quartzes keep within 100 ppm.
	driftPPM = 100
)

// Config is what a Clock needs. Zero values take the defaults named.
type Config struct {
	Floor       time.Time     // the wall clock is implausible before it; BuildDate()
	Uncertainty time.Duration // how far a clock may be off that the kernel does not call synchronised; 1 s
	Log         *slog.Logger  // nil: silent

	// For tests; nil: the system's.
	Wall    func() time.Time
	Elapsed func() time.Duration // since any moment, never stepping
	Kernel  func() (synchronised bool, mostError time.Duration)
}

// Clock is the agent's clock. Its methods may be called from any goroutine.
type Clock struct {
	cfg Config
	set chan struct{} // closed when the clock is set; carries nothing

	// mu guards the fields below.
	mu         sync.Mutex
	origin     time.Time     // the wall time at Elapsed 0, as followed now
	system     time.Time     // what the wall clock said last
	isSet      bool          // for good
	setAt      time.Time     // when it was set; zero when it was from the start
	correction time.Duration // from times read while unset to true ones
	alone      time.Duration // Elapsed since when the wall clock is implausible and not followed; 0: it is followed
	steps      uint32
	lastStep   time.Duration
	said       time.Duration // Elapsed when a step was logged last; 0: never
	kernel     kernelState
}

// kernelState is what the kernel last said of its clock.
type kernelState struct {
	asked        time.Duration // Elapsed; 0: never
	synchronised bool
	mostError    time.Duration
}

// Reading is a time, and how well it is known.
type Reading struct {
	Time        time.Time // UTC, without a monotonic reading
	System      time.Time // what the system's wall clock says, also when it is implausible
	Quality     protocol.TimeQuality
	Uncertainty time.Duration // 0 while the clock is unset: not known
	Set         bool
}

// New makes a clock and reads it once.
func New(cfg Config) *Clock {
	if cfg.Floor.IsZero() {
		cfg.Floor = BuildDate()
	}
	if cfg.Uncertainty <= 0 {
		cfg.Uncertainty = time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Wall == nil {
		cfg.Wall = systemWall()
	}
	if cfg.Elapsed == nil {
		cfg.Elapsed = systemElapsed(time.Now())
	}
	if cfg.Kernel == nil {
		cfg.Kernel = kernelClock
	}
	c := &Clock{cfg: cfg, set: make(chan struct{})}
	at, wall, _ := c.read()
	if c.isSet = c.plausible(wall); c.isSet {
		c.origin = wall.Add(-at)
		close(c.set)
	} else {
		c.origin = cfg.Floor.Add(-at)
		cfg.Log.Warn("the clock is not set: what needs the time of day waits", "clock_says", wall.Format(time.RFC3339), "built", cfg.Floor.Format(time.RFC3339))
	}
	return c
}

// Run watches for steps, and for the clock being set, until the context ends.
func (c *Clock) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		c.Now()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Now is the wall time, UTC. While the clock is unset it counts from the build date.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, _ := c.look()
	return now
}

// Reading is the wall time and how well it is known.
func (c *Clock) Reading() Reading {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, at := c.look()
	r := Reading{Time: now, System: c.system, Set: c.isSet, Quality: protocol.TimeQuality_TIME_QUALITY_UNSET}
	if c.isSet {
		r.Quality, r.Uncertainty = c.quality(at)
	}
	return r
}

// Elapsed is the time since some moment before the clock was made, suspended time included where the system counts it. No
// step changes it.
func (c *Clock) Elapsed() time.Duration { return c.cfg.Elapsed() }

// Set is closed when the clock is set.
func (c *Clock) Set() <-chan struct{} { return c.set }

// Floor is the time before which the wall clock is implausible.
func (c *Clock) Floor() time.Time { return c.cfg.Floor }

// Correct is a reading from while the clock was unset as it is known now: its true time once the clock is set, and the same
// time until then. What the computer's own clock may have gone wrong between that reading and the setting adds to the
// uncertainty.
func (c *Clock) Correct(t time.Time) Reading {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, at := c.look()
	r := Reading{Time: t.Add(c.correction), System: c.system, Set: c.isSet, Quality: protocol.TimeQuality_TIME_QUALITY_UNSET}
	if c.isSet {
		r.Quality, r.Uncertainty = c.quality(at)
		r.Uncertainty += drift(max(0, c.setAt.Sub(r.Time)))
	}
	return r
}

// drift is by how much a computer's own clock may go wrong in a while.
func drift(d time.Duration) time.Duration { return d / 1e6 * driftPPM }

// Steps is how often the wall clock stepped since the clock was made, and by how much last, positive when forward. That
// the clock was set is no step.
func (c *Clock) Steps() (total uint32, last time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.look()
	return c.steps, c.lastStep
}

func (c *Clock) plausible(wall time.Time) bool { return !wall.Before(c.cfg.Floor) }

// read reads both clocks. Where the process was held up between them it tries again; sure is false when they are not of one
// moment all the same.
func (c *Clock) read() (at time.Duration, wall time.Time, sure bool) {
	const tries, together = 5, time.Millisecond
	for range tries {
		before := c.cfg.Elapsed()
		wall = c.cfg.Wall().UTC().Round(0)
		at = c.cfg.Elapsed()
		if at-before <= together {
			return at, wall, true
		}
	}
	return at, wall, false
}

// look reads the clocks and follows the wall clock. The caller holds mu.
func (c *Clock) look() (now time.Time, at time.Duration) {
	at, wall, sure := c.read()
	c.system = wall
	if !sure {
		return c.origin.Add(at), at
	}
	origin := wall.Add(-at)
	change := origin.Sub(c.origin)
	switch {
	case !c.plausible(wall):
		if c.isSet && c.alone == 0 {
			c.alone = at
			c.count(change, at, "the wall clock fell before this program was built: going on without it")
		}
		return c.origin.Add(at), at
	case !c.isSet:
		c.isSet, c.setAt, c.correction = true, wall, change
		c.cfg.Log.Info("the clock is set", "time", wall.Format(time.RFC3339Nano))
		close(c.set)
	case change.Abs() > leastStep:
		c.count(change, at, "the wall clock stepped: records keep the time that they have")
	}
	c.alone, c.origin = 0, origin
	return wall, at
}

// count notes a step. The caller holds mu.
func (c *Clock) count(change, at time.Duration, message string) {
	c.steps++
	c.lastStep = change.Round(time.Millisecond) // the clocks are not read at one instant
	c.kernel.asked = 0
	if c.said == 0 || at-c.said >= sayEvery {
		c.said = at
		//nolint:sloglint // the message is one of two constants of look
		c.cfg.Log.Warn(message, "step_s", c.lastStep.Seconds(), "steps_total", c.steps)
	}
}

// quality is how well the time is known that is followed now. The caller holds mu.
func (c *Clock) quality(at time.Duration) (protocol.TimeQuality, time.Duration) {
	if c.alone != 0 {
		return protocol.TimeQuality_TIME_QUALITY_SYSTEM, c.cfg.Uncertainty + drift(at-c.alone)
	}
	if k := &c.kernel; k.asked == 0 || at-k.asked >= kernelEvery {
		k.synchronised, k.mostError = c.cfg.Kernel()
		k.asked = at
	}
	// A kernel that does not call itself synchronised is usual in containers and virtual machines: its clock is plausible,
	// to the configured uncertainty.
	if !c.kernel.synchronised {
		return protocol.TimeQuality_TIME_QUALITY_SYSTEM, c.cfg.Uncertainty
	}
	return protocol.TimeQuality_TIME_QUALITY_NTP, c.kernel.mostError
}
