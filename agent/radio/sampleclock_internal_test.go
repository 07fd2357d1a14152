package radio

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// stampsEvery gives a clock the stamps of n frames of 512 samples, from one on, as their receiver would give them.
func stampsEvery(c *sampleClock, from, n int, stampOf func(frame int) time.Time) {
	for k := from; k < from+n; k++ {
		c.observe(uint64(k)*512, stampOf(k))
	}
}

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// trueTime is when a sample of a receiver was taken whose rate is off by so much.
func trueTime(index uint64, nominalHz, ppm float64) time.Time {
	return epoch.Add(time.Duration(math.Round(float64(index) / (nominalHz * (1 + ppm*1e-6)) * 1e9)))
}

func TestSampleClock(t *testing.T) {
	const nominal = 12001.135
	for _, tc := range []struct {
		name      string
		ppm       float64
		scatter   time.Duration // rms
		gate      time.Duration
		floor     time.Duration
		frames    int
		within    time.Duration // of the truth
		withinPPM float64
	}{
		{"GNSS stamps", 0.3, 50 * time.Nanosecond, 100 * time.Microsecond, 50 * time.Nanosecond, 600, 60 * time.Nanosecond, 0.01},
		{"GNSS stamps, an hour", -2, 70 * time.Nanosecond, 100 * time.Microsecond, 50 * time.Nanosecond, 84_000, 60 * time.Nanosecond, 0.001},
		{"a few stamps", 0, 50 * time.Nanosecond, 100 * time.Microsecond, 50 * time.Nanosecond, 8, 200 * time.Nanosecond, 1},
		{"stamps of a computer's clock", 20, 3 * time.Millisecond, 50 * time.Millisecond, time.Millisecond, 1400, 2 * time.Millisecond, 21},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			c := newSampleClock(nominal, tc.gate, tc.floor)
			stampsEvery(c, 0, tc.frames, func(k int) time.Time {
				return trueTime(uint64(k)*512, nominal, tc.ppm).Add(time.Duration(rng.NormFloat64() * float64(tc.scatter)))
			})
			last := uint64(tc.frames-1) * 512
			got, ok := c.at(last)
			if off := got.Time.Sub(trueTime(last, nominal, tc.ppm)); !ok || off.Abs() > tc.within {
				t.Errorf("the last sample is off by %v, want %v at most", off, tc.within)
			}
			if off := c.ppm() - tc.ppm; math.Abs(off) > tc.withinPPM {
				t.Errorf("measured %v ppm, want %v", c.ppm(), tc.ppm)
			}
			if got.Uncertainty < tc.floor || got.Uncertainty > tc.floor+2*tc.scatter {
				t.Errorf("states ±%v", got.Uncertainty)
			}
			if c.news() || c.refused > uint64(tc.frames)/1000 {
				t.Errorf("began anew, or refused %d stamps", c.refused)
			}
		})
	}
}

func TestSampleClock_Refuses(t *testing.T) {
	const nominal = 12001.135
	c := newSampleClock(nominal, 100*time.Microsecond, 50*time.Nanosecond)
	stale := epoch.Add(-3 * time.Hour)
	stampsEvery(c, 0, 300, func(k int) time.Time {
		switch {
		case k < 2:
			return stale // as KiwiSDRs begin
		case k%50 == 7:
			return trueTime(uint64(k)*512, nominal, 0).Add(30 * time.Microsecond)
		}
		return trueTime(uint64(k)*512, nominal, 0)
	})
	got, ok := c.at(299 * 512)
	if off := got.Time.Sub(trueTime(299*512, nominal, 0)); !ok || off.Abs() > 10*time.Nanosecond {
		t.Errorf("off by %v", off)
	}
	if c.news() || c.refused < 6 {
		t.Errorf("began anew, or refused only %d stamps", c.refused)
	}
}

func TestSampleClock_NoStamps(t *testing.T) {
	c := newSampleClock(12000, 100*time.Microsecond, 50*time.Nanosecond)
	stampsEvery(c, 0, 100, func(int) time.Time { return epoch }) // hidden: always the same
	if _, ok := c.at(0); ok || !math.IsNaN(c.ppm()) || math.Abs(c.rateHz()-12000) > 1e-9 {
		t.Errorf("believes stamps that do not move: %v ppm, %v Hz", c.ppm(), c.rateHz())
	}
}

func TestSampleClock_BeginsAnew(t *testing.T) {
	const nominal = 12001.135
	for _, tc := range []struct {
		step   time.Duration
		jumped bool
	}{{500 * time.Nanosecond, false}, {5 * time.Microsecond, false}, {1040 * time.Microsecond, true}, {-time.Hour, true}} {
		c := newSampleClock(nominal, 100*time.Microsecond, 50*time.Nanosecond)
		stampsEvery(c, 0, 2000, func(k int) time.Time {
			at := trueTime(uint64(k)*512, nominal, 0)
			if k >= 400 {
				at = at.Add(tc.step)
			}
			return at
		})
		got, _ := c.at(2000 * 512)
		if off := got.Time.Sub(trueTime(2000*512, nominal, 0)) - tc.step; off.Abs() > 100*time.Nanosecond {
			t.Errorf("step of %v: off by %v at the end", tc.step, off)
		}
		if jumped := c.news(); jumped != tc.jumped {
			t.Errorf("step of %v: began anew: %v", tc.step, jumped)
		}
	}
}

// TestSampleClock_NeverLeaps: what a step moves, it moves slowly, and says so.
func TestSampleClock_NeverLeaps(t *testing.T) {
	const nominal, step = 12001.135, 40 * time.Microsecond
	c := newSampleClock(nominal, 100*time.Microsecond, 50*time.Nanosecond)
	before, widest := time.Duration(0), time.Duration(0)
	stampsEvery(c, 0, 2000, func(k int) time.Time {
		at := trueTime(uint64(k)*512, nominal, 0)
		if k >= 400 {
			at = at.Add(step)
		}
		if got, ok := c.at(uint64(k) * 512); ok {
			off := got.Time.Sub(trueTime(uint64(k)*512, nominal, 0))
			if moved := (off - before).Abs(); moved > 2*time.Microsecond {
				t.Fatalf("times moved by %v at stamp %d", moved, k)
			}
			if k > 410 && (off-step).Abs() > got.Uncertainty {
				t.Fatalf("off by %v at stamp %d, states ±%v", off-step, k, got.Uncertainty)
			}
			before, widest = off, max(widest, got.Uncertainty)
		}
		return at
	})
	if c.news() || widest < step/2 || (before-step).Abs() > 100*time.Nanosecond {
		t.Errorf("began anew, or stated ±%v at most, or is off by %v at the end", widest, before-step)
	}
}

func TestSampleClock_MissingSamples(t *testing.T) {
	const nominal = 12001.135
	for _, missing := range []uint64{1, 2, 512, 40_000} {
		c := newSampleClock(nominal, 100*time.Microsecond, 50*time.Nanosecond)
		rng := rand.New(rand.NewPCG(3, 4))
		gone, told, doubted := uint64(0), uint64(0), 0
		for k := range uint64(1000) {
			if k == 500 {
				gone = missing
			}
			scatter := time.Duration(rng.NormFloat64() * 50)
			c.observe(k*512+told, trueTime(k*512+gone, nominal, 0.4).Add(scatter))
			if c.doubts() && k > 4 {
				doubted++
			}
			told += c.missing()
		}
		got, _ := c.at(999*512 + told)
		if off := got.Time.Sub(trueTime(999*512+missing, nominal, 0.4)); told != missing || off.Abs() > 100*time.Nanosecond || c.news() {
			t.Errorf("%d samples were missing, found %d; off by %v at the end", missing, told, off)
		}
		if doubted != agreeing-1 {
			t.Errorf("%d samples were missing: in doubt for %d stamps, want %d", missing, doubted, agreeing-1)
		}
	}
	// Late by what is no whole sample: another time.
	c := newSampleClock(nominal, 100*time.Microsecond, 50*time.Nanosecond)
	stampsEvery(c, 0, 1000, func(k int) time.Time {
		at := trueTime(uint64(k)*512, nominal, 0)
		if k >= 500 {
			at = at.Add(8366 * time.Microsecond) // 100.4 of them
		}
		return at
	})
	if c.missing() != 0 || !c.news() {
		t.Error("a step of 100.4 samples is taken for a loss")
	}
}

func TestSampleClock_GrowsUnsure(t *testing.T) {
	const nominal = 12001.135
	c := newSampleClock(nominal, 100*time.Microsecond, 50*time.Nanosecond)
	stampsEvery(c, 0, 100, func(k int) time.Time { return trueTime(uint64(k)*512, nominal, 0) })
	for _, seconds := range []int{0, 1, 60} {
		index := 99*512 + uint64(seconds)*12001
		got, _ := c.at(index)
		want := 50*time.Nanosecond + time.Duration(seconds)*time.Microsecond
		if (got.Uncertainty-want).Abs() > want/10 || (c.age(index)-time.Duration(seconds)*time.Second).Abs() > time.Millisecond {
			t.Errorf("%d s after the last stamp: ±%v, age %v; want ±%v", seconds, got.Uncertainty, c.age(index), want)
		}
	}
}

func BenchmarkSampleClock(b *testing.B) {
	c := newSampleClock(12000, 100*time.Microsecond, 50*time.Nanosecond)
	b.ReportAllocs()
	k := uint64(0)
	for b.Loop() {
		c.observe(k*512, trueTime(k*512, 12000, 1))
		c.at(k * 512)
		k++
	}
}
