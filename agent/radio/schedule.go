package radio

import (
	"math"
	"time"
)

// schedule says when an emitter is on, in nanoseconds since the scene's epoch.
type schedule struct {
	always                  bool
	start, every, durationN int64
}

// maxRampS is how long an emission takes to rise and to fall, inside its duration; a quarter of short ones.
const maxRampS = 200e-6

func newSchedule(s *SceneSchedule) schedule {
	if s == nil {
		return schedule{always: true}
	}
	return schedule{start: int64(time.Duration(s.Start)), every: int64(time.Duration(s.Every)), durationN: int64(time.Duration(s.Duration))}
}

// interval is a run of samples of a chunk during which an emitter is on.
type interval struct {
	from, to  int
	burst     int64
	local     instant // time since the burst began, at sample from
	durationS float64 // of the burst; 0: endless
}

// next is the first stretch at or after sample at of a chunk in which the emitter is on; to ≤ from when there is none.
// t is the emitter's time at the chunk's sample 0.
func (s schedule) next(t instant, step float64, n, at int) interval {
	if at >= n {
		return interval{}
	}
	if s.always {
		return interval{from: at, to: n, local: t.plus(float64(at) * step)}
	}
	ns, rest := t.plus(float64(at) * step).ns()
	since := ns - s.start
	burst := int64(0)
	if s.every > 0 {
		burst = int64(math.Floor(float64(since) / float64(s.every)))
		for since < burst*s.every {
			burst--
		}
		for since >= (burst+1)*s.every {
			burst++
		}
		burst = max(burst, 0)
	}
	local := since - burst*s.every
	if s.durationN > 0 && local >= s.durationN {
		if s.every == 0 {
			return interval{}
		}
		burst, local = burst+1, local-s.every
	}
	from := at
	if local < 0 { // the burst begins later
		wait := (float64(-local)*1e-9 - rest) / step
		if wait >= float64(n-at) {
			return interval{}
		}
		from = at + int(math.Ceil(wait))
		if from >= n {
			return interval{}
		}
	}
	on := interval{from: from, to: n, burst: burst, durationS: float64(s.durationN) * 1e-9}
	on.local = instantOf(local, rest).plus(float64(from-at) * step)
	if s.durationN > 0 {
		left := (on.durationS - float64(on.local.sec) - on.local.frac) / step
		if left < float64(n-from) {
			on.to = from + max(1, int(math.Ceil(left)))
		}
	}
	return on
}

// gate lets a burst's amplitude rise and fall.
func (on interval) gate(amplitude []float32, step float64) {
	u := float64(on.local.sec) + on.local.frac
	ramp := maxRampS
	if on.durationS > 0 {
		ramp = math.Min(ramp, on.durationS/4)
	}
	for i := range amplitude {
		x := u + float64(i)*step
		if x >= ramp {
			break
		}
		amplitude[i] *= float32(smooth(x / ramp))
	}
	if on.durationS == 0 {
		return
	}
	for i := len(amplitude) - 1; i >= 0; i-- {
		x := on.durationS - u - float64(i)*step
		if x >= ramp {
			break
		}
		amplitude[i] *= float32(smooth(math.Max(x, 0) / ramp))
	}
}
