package radio

import (
	"math"
	"math/bits"
	"time"
)

// instant is a time since a scene's epoch: whole seconds and the rest in [0, 1). It keeps a tenth of a femtosecond
// over centuries, where one float64 of seconds keeps some hundred nanoseconds.
type instant struct {
	sec  int64
	frac float64
}

// plus adds seconds.
func (t instant) plus(s float64) instant {
	whole := math.Floor(s)
	f := t.frac + (s - whole)
	carry := math.Floor(f)
	return instant{t.sec + int64(whole) + int64(carry), f - carry}
}

// cycles is how often a thing of hz has turned since the epoch: whole turns, and the rest in [0, 1). The frequency's
// whole hertz meet whole seconds in integers; what is left is exact to some 1e-8 of a turn.
func (t instant) cycles(hz float64) (whole int64, frac float64) {
	hzWhole := math.Floor(hz)
	hzFrac := hz - hzWhole
	rest := hzFrac*float64(t.sec) + hz*t.frac
	turns := math.Floor(rest)
	return int64(hzWhole)*t.sec + int64(turns), rest - turns
}

// ns splits an instant into whole nanoseconds and the rest of one, in seconds.
func (t instant) ns() (int64, float64) {
	f := t.frac * 1e9
	whole := math.Floor(f)
	return t.sec*1e9 + int64(whole), (f - whole) * 1e-9
}

// instantOf is the inverse of ns.
func instantOf(ns int64, restS float64) instant {
	sec := ns / 1e9
	if ns%1e9 < 0 {
		sec--
	}
	return instant{sec, 0}.plus(float64(ns-sec*1e9)*1e-9 + restS)
}

// grid numbers the samples of a clock from a scene's epoch on: sample n is n/rate after it. All stations of one rate
// share one grid, so captures of the same time have the same sample times.
type grid struct {
	epoch time.Time
	rate  uint64 // samples per million seconds
}

func newGrid(epoch time.Time, rateHz float64) grid {
	return grid{epoch, uint64(math.Round(rateHz * 1e6))}
}

func (g grid) rateHz() float64 { return float64(g.rate) / 1e6 }

// at is sample n's time since the epoch, exact.
func (g grid) at(n uint64) instant {
	hi, lo := bits.Mul64(n, 1e6)
	sec, rem := bits.Div64(hi, lo, g.rate)
	return instant{int64(sec), float64(rem) / float64(g.rate)}
}

// time is sample n's time to the nearest nanosecond.
func (g grid) time(n uint64) time.Time {
	t := g.at(n)
	return g.epoch.Add(time.Duration(t.sec)*time.Second + time.Duration(math.Round(t.frac*1e9)))
}

// firstAt is the first sample whose time is not before t; t must not lie before the epoch.
func (g grid) firstAt(t time.Time) uint64 {
	hi, lo := bits.Mul64(uint64(t.Sub(g.epoch)), g.rate)
	n, rem := bits.Div64(hi, lo, 1e15)
	if rem > 0 {
		n++
	}
	return n
}
