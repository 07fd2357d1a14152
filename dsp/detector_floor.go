package dsp

import "math"

// How the floor follows time.
const (
	aboveLocalDB   = 6.0  // most a bin's own floor may lie above its surroundings: beyond, it is an emission
	aboveWideDB    = 1.0  // the same inside a wide emission,
	wideDB         = 8.0  // which lies this far above its surroundings in most of the bins
	wideReach      = 4    // on each side
	lastingDB      = 4.0  // over its surroundings: such a bin's own floor is no noise
	leastFree      = 4    // bins of noise that tell its level
	belowLocalDB   = 12.0 // most it may lie below: filter skirts
	riseDBPerRow   = 1e-3 // how fast the floor follows what may be an emission
	ownFloorRows   = 32   // rows needed before a bin's own quantile is trusted
	dcReach        = 2    // bins on each side of 0 Hz that a spike there spreads over
	followDB       = 1.0  // a change up to this much is followed at once
	followFraction = 0.5
)

// floorTracker estimates the noise floor of every bin: a quantile over time and a window of frequency, kept from
// climbing emissions by a limit on its slope, refined by each bin's own quantile over time.
type floorTracker struct {
	level  []float32 // what a cell is compared with: noise, spurs, and a spike at 0 Hz
	base   []float32 // what is taken off an emission's power: noise, and a spike at 0 Hz
	noise  []float32
	known  bool
	maskDC bool

	shape     FloorShape
	under     FloorShape // the same under lasting emissions
	levels    []float64  // of shape's windows, in the order in which they were asked for
	low, high int        // the passband
	mean      []float64  // own, in double precision
	own       []float32
	column    [slabRows + lagRows]float32
	histogram Histogram
}

func newFloorTracker(n int, maskDC bool) floorTracker {
	return floorTracker{
		level: make([]float32, n), base: make([]float32, n), noise: make([]float32, n), own: make([]float32, n), maskDC: maskDC,
		shape: NewFloorShape(n), under: NewFloorShape(n), high: n, mean: make([]float64, n),
	}
}

func (f *floorTracker) reset() { f.known = false }

// update follows rows from to end-1.
func (f *floorTracker) update(d *Detector, from, end int64, held func(bin int) bool) {
	n := len(f.level)
	bias := QuantileBias(rowFrames, FloorQuantile)
	f.ownLevels(d, from, end)
	f.passband(d.cfg.Step)
	f.levels = f.levels[:0]
	f.shape.Fit(f.low, f.high, func(low, high int) float64 {
		f.histogram.Reset()
		for r := from; r < end; r++ {
			f.histogram.Add(d.row(r).cells[low:high])
		}
		level := f.histogram.Quantile(FloorQuantile) / bias
		f.levels = append(f.levels, level)
		return level
	})
	f.fitUnder(d, from, end)
	rows := int(end - from)
	rise := math.Inf(1)
	if f.known {
		rise = riseDBPerRow * float64(rows)
	}
	for i := range f.level {
		local := f.shape.DB(i)
		level := local
		masked := f.maskDC && i >= n/2-dcReach && i <= n/2+dcReach
		if rows >= ownFloorRows || masked {
			own := DB(float64(f.own[i]))
			if masked {
				level = math.Max(own, local)
			} else {
				level = math.Max(local-belowLocalDB, math.Min(own, local+f.most(i, local)))
			}
		}
		f.follow(i, level, rise, held)
		f.noise[i] = min(f.level[i], float32(FromDB(min(local, f.under.DB(i)))))
		f.base[i] = f.noise[i]
		if masked {
			f.base[i] = f.level[i]
		}
	}
	f.known = true
}

// fitUnder reads the noise without the bins that lie high most of the time: under a lasting emission the noise is that
// beside it. Windows without such bins are as they are in shape.
func (f *floorTracker) fitUnder(d *Detector, from, end int64) {
	bias := QuantileBias(rowFrames, FloorQuantile)
	window := -1
	f.under.Fit(f.low, f.high, func(low, high int) float64 {
		window++
		free := 0
		for i := low; i < high; i++ {
			if !f.lasting(i) {
				free++
			}
		}
		switch {
		case free == high-low:
			return f.levels[window]
		case free < max(leastFree, (high-low)/4):
			return math.NaN()
		}
		f.histogram.Reset()
		for i := low; i < high; i++ {
			if f.lasting(i) {
				continue
			}
			for r := from; r < end; r++ {
				f.histogram.Add(d.row(r).cells[i : i+1])
			}
		}
		return f.histogram.Quantile(FloorQuantile) / bias
	})
}

// lasting tells whether a bin lies high most of the time.
func (f *floorTracker) lasting(bin int) bool {
	return DB(float64(f.own[bin])) > f.shape.DB(bin)+lastingDB
}

// most is how far a bin's own level may lie above its surroundings. A line may be a spur of the receiver; a stretch of
// bins that all lie high is an emission, and only the unevenness of the floor is allowed for.
func (f *floorTracker) most(bin int, local float64) float64 {
	high, bins := 0, 0
	limit := float32(FromDB(local + wideDB))
	for k := max(0, bin-wideReach); k <= min(len(f.own)-1, bin+wideReach); k++ {
		bins++
		if f.own[k] > limit {
			high++
		}
	}
	if 2*high > bins {
		return aboveWideDB
	}
	return aboveLocalDB
}

// passband finds the bins that carry noise at all.
func (f *floorTracker) passband(step float64) {
	for i, v := range f.own {
		f.mean[i] = float64(v)
	}
	f.low, f.high = Passband(f.mean, step*step/6/float64(len(f.own)))
}

// follow moves one bin's level towards a new estimate.
func (f *floorTracker) follow(i int, level, rise float64, held func(bin int) bool) {
	if f.known {
		old := DB(float64(f.level[i]))
		switch change := level - old; {
		case change > followDB && held(i):
			level = old
		case change > followDB:
			level = old + math.Min(change, rise)
		default:
			level = old + followFraction*change
		}
	}
	f.level[i] = float32(FromDB(level))
}

// ownLevels fills own: each bin's quantile over time, smoothed over three bins.
func (f *floorTracker) ownLevels(d *Detector, from, end int64) {
	column := f.column[:end-from]
	bias := float32(QuantileBias(rowFrames, FloorQuantile))
	k := int(FloorQuantile * float64(len(column)))
	for i := range f.own {
		for r := range column {
			column[r] = d.row(from + int64(r)).cells[i]
		}
		f.own[i] = selectNth(column, k) / bias
	}
	previous := f.own[0]
	for i := 1; i < len(f.own)-1; i++ {
		here := f.own[i]
		f.own[i] = min(here, (previous+here+f.own[i+1])/3)
		previous = here
	}
}

// selectNth is the value that would stand at index k of the sorted values, which it reorders [Hoare61].
func selectNth(v []float32, k int) float32 {
	lo, hi := 0, len(v)-1
	for lo < hi {
		pivot := v[(lo+hi)/2]
		i, j := lo, hi
		for i <= j {
			for v[i] < pivot {
				i++
			}
			for v[j] > pivot {
				j--
			}
			if i <= j {
				v[i], v[j] = v[j], v[i]
				i++
				j--
			}
		}
		switch {
		case k <= j:
			hi = j
		case k >= i:
			lo = i
		default:
			return v[k]
		}
	}
	return v[k]
}
