package dsp

import "math"

// How the whole power of the band is judged.
const (
	energyWindows = 2048
	energyOffDB   = 6.0 // over its floor: a broad event lasts as long as its power
)

// energyMeter sums the whole power in short windows. A broad emission of short pulses is faint in every cell, and its
// power tells better when it is on.
type energyMeter struct {
	size     int64
	powers   [energyWindows]float32 // mean |x|^2 of window k at k modulo the length
	at       int64                  // next sample
	sum      float64
	filled   int64   // samples in sum
	rail     float64 // |I| or |Q| of a sample at the converter's rails; 0: never
	railedAt int64   // last sample that may have been; -1: none
	meter    *Meter  // gets the sums too
	floor    float64
	over     float64 // power from which a window is loud
	quiet    Histogram
	scratch  [1]float32
}

func newEnergyMeter(size int, rail float64, meter *Meter) energyMeter {
	return energyMeter{size: int64(size), rail: rail, railedAt: -1, meter: meter}
}

func (e *energyMeter) write(raw []byte, format Format) {
	width := int64(format.BytesPerSample())
	for len(raw) > 0 {
		n := min(int64(len(raw))/width, e.size-e.at%e.size, sumsBlock)
		part := raw[:n*width]
		s := sum(part, format)
		if e.meter != nil {
			e.meter.add(s, part, format)
		}
		e.sum += s.squares
		e.filled += n
		e.at += n
		raw = raw[n*width:]
		if e.rail > 0 && max(s.high, -s.low) >= e.rail {
			e.railedAt = e.at - 1
		}
		if e.at%e.size == 0 {
			e.end(e.at/e.size - 1)
		}
	}
}

// end finishes a window; one that lacks samples says nothing.
func (e *energyMeter) end(k int64) {
	p := float32(0)
	if e.filled == e.size {
		p = float32(e.sum / float64(e.size))
	}
	e.powers[k%energyWindows] = p
	e.sum, e.filled = 0, 0
}

func (e *energyMeter) skip(samples int64) {
	to := e.at + samples
	for k := e.at / e.size; k < to/e.size && k <= e.at/e.size+energyWindows; k++ {
		e.end(k)
	}
	e.sum, e.filled = 0, 0
	e.at = to
}

func (e *energyMeter) reset() { *e = newEnergyMeter(int(e.size), e.rail, e.meter) }

// update reads the floor, a low quantile, of the windows between two samples. noise, the sum of all cells' floors, holds
// it down where something is always on.
func (e *energyMeter) update(from, to int64, noise float64) {
	e.quiet.Reset()
	for k := max(0, (from+e.size-1)/e.size, to/e.size-energyWindows); k < to/e.size; k++ {
		if p := e.powers[k%energyWindows]; p > 0 {
			e.scratch[0] = p
			e.quiet.Add(e.scratch[:])
		}
	}
	q := math.Min(e.quiet.Quantile(FloorQuantile), noise*FromDB(followDB))
	switch {
	case math.IsNaN(q):
	case e.floor == 0:
		e.floor = q
	default:
		e.floor += followFraction * (math.Min(q, e.floor*FromDB(followDB)) - e.floor)
	}
	e.over = FromDB(energyOffDB) * e.floor
}

func (e *energyMeter) isLoud(k int64) bool {
	return k >= 0 && k >= e.at/e.size-energyWindows && k < e.at/e.size &&
		float64(e.powers[k%energyWindows]) > e.over
}

// loud finds the windows over the floor that begin between two samples: from the first one's first sample to the last
// one's end; zero if there is none.
func (e *energyMeter) loud(from, to int64) (first, end int64) {
	for k := (from + e.size - 1) / e.size; k*e.size < to; k++ {
		if e.isLoud(k) {
			if end == 0 {
				first = k * e.size
			}
			end = (k + 1) * e.size
		}
	}
	return first, end
}

// since walks back from a sample through windows over the floor, across pauses of at most gap samples.
func (e *energyMeter) since(sample, gap int64) int64 {
	start := sample
	for k := sample / e.size; k >= 0 && start-(k+1)*e.size <= gap; k-- {
		if e.isLoud(k) {
			start = k * e.size
		}
		if k < e.at/e.size-energyWindows {
			break
		}
	}
	return start
}
