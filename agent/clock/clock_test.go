package clock_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fulgidus/heimdall/agent/clock"
	"github.com/fulgidus/heimdall/protocol"
)

const (
	hour = time.Hour
	year = 365 * 24 * hour
)

var built = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// bench is a computer's two clocks, in a test's hands.
type bench struct {
	wall         time.Time
	elapsed      time.Duration
	synchronised bool
	asked        int // how often the kernel was
}

func (b *bench) pass(d time.Duration) { b.wall, b.elapsed = b.wall.Add(d), b.elapsed+d }

func (b *bench) config() clock.Config {
	return clock.Config{
		Floor: built, Uncertainty: 2 * time.Second,
		Wall:    func() time.Time { return b.wall },
		Elapsed: func() time.Duration { return b.elapsed },
		Kernel:  func() (bool, time.Duration) { b.asked++; return b.synchronised, 3 * time.Millisecond },
	}
}

// running is a bench whose clock is right and has been for an hour.
func running() *bench { return &bench{wall: built.Add(23 * 24 * hour), elapsed: hour} }

func TestClock_FollowsSteps(t *testing.T) {
	for _, step := range []time.Duration{-hour, -time.Second, time.Second, hour, 10 * year, -51 * time.Millisecond, 51 * time.Millisecond} {
		b := running()
		c := clock.New(b.config())
		b.pass(time.Minute)
		if now := c.Now(); !now.Equal(b.wall) {
			t.Fatalf("says %v, want %v", now, b.wall)
		}
		b.wall = b.wall.Add(step)
		if now := c.Now(); !now.Equal(b.wall) {
			t.Errorf("after a step of %v: %v, want %v", step, now, b.wall)
		}
		b.pass(time.Minute)
		total, last := c.Steps()
		if r := c.Reading(); total != 1 || last != step || !r.Set || !r.Time.Equal(b.wall) {
			t.Errorf("a step of %v: %d steps, the last of %v; %+v", step, total, last, r)
		}
	}
}

// What NTP clients do all day is no step, and many small changes do not add up to one.
func TestClock_SlewIsNoStep(t *testing.T) {
	b := running()
	c := clock.New(b.config())
	for range 100 {
		b.pass(time.Second)
		b.wall = b.wall.Add(49 * time.Millisecond)
		if now := c.Now(); !now.Equal(b.wall) {
			t.Fatalf("says %v, want %v", now, b.wall)
		}
	}
	if total, last := c.Steps(); total != 0 || last != 0 {
		t.Errorf("%d steps, the last of %v; want none", total, last)
	}
}

// A wall clock that falls before the build date is not followed: the time that was known goes on.
func TestClock_GoesOnAlone(t *testing.T) {
	b := running()
	b.synchronised = true
	c := clock.New(b.config())
	right := b.wall
	b.wall = b.wall.Add(-10 * year)
	c.Now()
	b.pass(10 * hour)
	r := c.Reading()
	if want := right.Add(10 * hour); !r.Set || !r.Time.Equal(want) {
		t.Errorf("says %v, want %v", r.Time, want)
	}
	// 100 ppm of ten hours are 3.6 s.
	if want := 5600 * time.Millisecond; r.Quality != protocol.TimeQuality_TIME_QUALITY_SYSTEM || r.Uncertainty != want {
		t.Errorf("%v ±%v, want system ±%v", r.Quality, r.Uncertainty, want)
	}
	if total, last := c.Steps(); total != 1 || last != -10*year {
		t.Errorf("%d steps, the last of %v; want one of -10 years", total, last)
	}
	b.wall = right.Add(10*hour + 3*time.Second) // set again, 3 s from where the monotonic clock is
	if r := c.Reading(); !r.Time.Equal(b.wall) || r.Quality != protocol.TimeQuality_TIME_QUALITY_NTP {
		t.Errorf("says %v %v, want %v ntp", r.Time, r.Quality, b.wall)
	}
	if total, last := c.Steps(); total != 2 || last != 3*time.Second {
		t.Errorf("%d steps, the last of %v; want a second one of 3 s", total, last)
	}
}

func TestClock_UnsetAtBoot(t *testing.T) {
	b := &bench{wall: time.Unix(42, 0), elapsed: 42 * time.Second}
	c := clock.New(b.config())
	first := c.Reading()
	if first.Set || first.Quality != protocol.TimeQuality_TIME_QUALITY_UNSET || first.Uncertainty != 0 || !first.Time.Equal(built) {
		t.Fatalf("got %+v, want unset, from %v on", first, built)
	}
	b.pass(time.Minute)
	b.wall = b.wall.Add(5 * year) // still implausible: differences stay those of the monotonic clock
	b.pass(time.Minute)
	second := c.Now()
	if d := second.Sub(first.Time); d != 2*time.Minute {
		t.Errorf("%v between the readings, want 2 min", d)
	}
	if r := c.Correct(first.Time); r.Set || !r.Time.Equal(first.Time) || r.Quality != protocol.TimeQuality_TIME_QUALITY_UNSET {
		t.Errorf("an unset clock makes %+v of %v", r, first.Time)
	}
	select {
	case <-c.Set():
		t.Error("says that it is set")
	default:
	}

	b.pass(time.Minute)
	b.wall = built.Add(23 * 24 * hour)
	set := b.wall
	if r := c.Reading(); !r.Set || !r.Time.Equal(set) || r.Quality != protocol.TimeQuality_TIME_QUALITY_SYSTEM || r.Uncertainty != 2*time.Second {
		t.Errorf("got %+v, want %v system ±2s", r, set)
	}
	<-c.Set()
	b.pass(time.Hour)
	b.wall = b.wall.Add(time.Second) // a later step does not move what was before
	for was, want := range map[time.Time]time.Time{first.Time: set.Add(-3 * time.Minute), second: set.Add(-time.Minute)} {
		// The computer's clock may be 100 ppm off until it is set: 6 ms a minute.
		uncertainty := 2*time.Second + set.Sub(want)/10000
		if got := c.Correct(was); !got.Set || !got.Time.Equal(want) || got.Uncertainty != uncertainty || got.Quality != protocol.TimeQuality_TIME_QUALITY_SYSTEM {
			t.Errorf("%v is %+v, want %v ±%v", was, got, want, uncertainty)
		}
	}
	if total, _ := c.Steps(); total != 1 {
		t.Errorf("%d steps, want 1: that the clock was set is none", total)
	}
}

// Where a process is held up between reading the two clocks, the difference is no step.
func TestClock_HeldUpBetweenReadings(t *testing.T) {
	b := running()
	stop := 0
	cfg := b.config()
	cfg.Wall = func() time.Time {
		w := b.wall
		if stop > 0 {
			stop--
			b.pass(30 * time.Second)
		}
		return w
	}
	c := clock.New(cfg)
	for _, times := range []int{1, 4, 5, 100} {
		stop = times
		c.Now()
		stop = 0
		if now := c.Now(); !now.Equal(b.wall) {
			t.Errorf("held up %d times: says %v, want %v", times, now, b.wall)
		}
	}
	if total, last := c.Steps(); total > 0 {
		t.Errorf("%d steps, the last of %v; want none", total, last)
	}
}

// A subtraction of two readings must be of wall times: none may carry a monotonic reading.
func TestClock_ReadingsAreWallTimes(t *testing.T) {
	c := clock.New(clock.Config{Floor: time.Unix(0, 0)})
	now := c.Now()
	if now != now.Round(0) || now.Location() != time.UTC {
		t.Errorf("%v carries a monotonic reading or a zone", now)
	}
	if d := time.Since(now).Abs(); d > time.Minute {
		t.Errorf("%v from the system's time", d)
	}
	if a, b := c.Elapsed(), c.Elapsed(); a <= 0 || b < a {
		t.Errorf("elapsed %v, then %v", a, b)
	}
}

func TestClock_AsksTheKernelOnceASecond(t *testing.T) {
	b := running()
	c := clock.New(b.config())
	for range 100 {
		b.pass(20 * time.Millisecond)
		c.Reading()
	}
	if b.asked != 2 {
		t.Errorf("asked %d times in 2 s, want 2", b.asked)
	}
	b.synchronised = true
	b.pass(time.Second)
	if r := c.Reading(); r.Quality != protocol.TimeQuality_TIME_QUALITY_NTP || r.Uncertainty != 3*time.Millisecond {
		t.Errorf("got %+v, want ntp ±3ms", r)
	}
}

func TestRun_SeesStepsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var step atomic.Int64
		var log bytes.Buffer
		began := time.Now()
		c := clock.New(clock.Config{
			Floor: time.Unix(0, 0), Log: slog.New(slog.NewTextHandler(&log, nil)),
			Wall:    func() time.Time { return time.Now().Round(0).Add(time.Duration(step.Load())) },
			Elapsed: func() time.Duration { return time.Since(began) + hour },
			Kernel:  func() (bool, time.Duration) { return false, 0 },
		})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1) // one value
		go func() { ended <- c.Run(ctx) }()
		for range 10 {
			time.Sleep(2 * time.Second)
			step.Add(int64(time.Second))
		}
		time.Sleep(2*time.Minute + time.Millisecond)
		synctest.Wait()
		if n := strings.Count(log.String(), "level=WARN"); n != 1 {
			t.Errorf("%d lines in 20 s, want 1:\n%s", n, log.String())
		}
		step.Add(-int64(hour))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if text := log.String(); !strings.Contains(text, "step_s=-3600 steps_total=11") {
			t.Errorf("the log does not tell of the step:\n%s", text)
		}
		if total, last := c.Steps(); total != 11 || last != -hour {
			t.Errorf("%d steps, the last of %v; want 11, the last of -1 h", total, last)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
