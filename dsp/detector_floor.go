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
	windowCells    = 4096 // cells that tell the level of a window: more rows than that takes are passed over
)

// floorTracker estimates the noise floor of every bin: a quantile over time and a window of frequency, kept from
// climbing emissions by a limit on its slope, refined by each bin's own quantile over time.
type floorTracker struct {
	level  []float32 // what a cell is compared with: noise, spurs, and a spike at 0 Hz
	base   []float32 // what is taken off an emission's power: noise, and a spike at 0 Hz
	noise  []float32
	known  bool
	maskDC bool
	bias   float64 // of the quantile of a cell

	shape     FloorShape
	under     FloorShape // the same under lasting emissions
	windows   []float64  // the level of each window of shape
	levels    []float64  // of those that the last fit asked for, in that order
	low, high int        // the passband
	mean      []float64  // own, in double precision
	levelDB   []float64  // level in decibels
	localDB   []float64  // shape in decibels
	quantile  []float32  // of each bin over time
	own       []float32  // the noise that it tells, smoothed
	ownDB     []float64
	free      []span // bins of a window that are not high most of the time
	columns   columns
	earlier   *Histogram // of the halves of a window
	later     *Histogram
}

func newFloorTracker(n int, maskDC bool) floorTracker {
	shape := NewFloorShape(n)
	return floorTracker{
		level: make([]float32, n), base: make([]float32, n), noise: make([]float32, n), maskDC: maskDC,
		bias: QuantileBias(rowFrames, FloorQuantile), shape: shape, windows: make([]float64, len(shape.local)), under: NewFloorShape(n), high: n, mean: make([]float64, n),
		levelDB: make([]float64, n), localDB: make([]float64, n),
		quantile: make([]float32, n), own: make([]float32, n), ownDB: make([]float64, n),
		columns: newColumns(slabRows + lagRows), earlier: &Histogram{}, later: &Histogram{},
	}
}

func (f *floorTracker) reset() { f.known = false }

// update follows rows from to end-1.
func (f *floorTracker) update(d *Detector, from, end int64, held func(bin int) bool) {
	f.ownLevels(d, from, end)
	f.passband(d.cfg.Step)
	f.fit(d, from, end)
	f.fitUnder(d, from, end)
	n, rows := len(f.level), int(end-from)
	rise := math.Inf(1)
	if f.known {
		rise = riseDBPerRow * float64(rows)
	}
	for i := range f.level {
		local, level := f.localDB[i], f.localDB[i]
		masked := f.maskDC && i >= n/2-dcReach && i <= n/2+dcReach
		switch own := f.ownDB[i]; {
		case masked:
			level = max(own, local)
		case rows >= ownFloorRows && own <= local+aboveWideDB:
			level = max(local-belowLocalDB, own)
		case rows >= ownFloorRows:
			level = min(own, local+f.most(i, local))
		}
		f.follow(i, level, rise, held)
		f.noise[i] = f.level[i]
		if quiet := min(local, f.under.DB(i)); quiet < f.levelDB[i] {
			f.noise[i] = float32(FromDB(quiet))
		}
		f.base[i] = f.noise[i]
		if masked {
			f.base[i] = f.level[i]
		}
	}
	f.known = true
}

// fit reads the noise over frequency.
func (f *floorTracker) fit(d *Detector, from, end int64) {
	f.levels = f.levels[:0]
	half := f.shape.half()
	f.shape.Fit(f.low, f.high, func(low, high int) float64 {
		var level float64
		if low%half == 0 && high == low+2*half {
			level = f.windows[low/half]
		} else { // the passband is narrower than a window
			level = f.windowLevel(d, from, end, span{low, high - 1})
		}
		f.levels = append(f.levels, level)
		return level
	})
	for i := range f.localDB {
		f.localDB[i] = f.shape.DB(i)
	}
}

// windowLevel is the noise in some bins.
func (f *floorTracker) windowLevel(d *Detector, from, end int64, free ...span) float64 {
	bins := 0
	for _, s := range free {
		bins += s.high - s.low + 1
	}
	h := f.earlier
	h.Reset()
	for r, every := from, countedEvery(end-from, bins); r < end; r += every {
		cells := d.row(r).cells
		for _, s := range free {
			h.Add(cells[s.low : s.high+1])
		}
	}
	return h.Quantile(FloorQuantile) / f.bias
}

// countedEvery is how many rows there are to each that tells the level of a window.
func countedEvery(rows int64, bins int) int64 { return max(1, rows*int64(bins)/windowCells) }

// count takes the columns from a bin on for the windows, while they are near. Windows overlap by half, so each half is counted once.
func (f *floorTracker) count(bin int) {
	half := f.shape.half()
	every := int(countedEvery(int64(f.columns.rows), 2*half))
	for at, width := 0, min(half, columnLanes); at < columnLanes; at += width {
		if (bin+at)%half == 0 {
			f.earlier, f.later = f.later, f.earlier
			f.later.Reset()
		}
		for r := 0; r < f.columns.rows; r += every {
			f.later.Add(f.columns.values[r*columnLanes+at:][:width])
		}
		if end := bin + at + width; end%half == 0 && end > half {
			f.earlier.Merge(f.later)
			f.windows[end/half-2] = f.earlier.Quantile(FloorQuantile) / f.bias
		}
	}
}

// fitUnder reads the noise without the bins that lie high most of the time: under a lasting emission the noise is that
// beside it. Windows without such bins are as they are in shape.
func (f *floorTracker) fitUnder(d *Detector, from, end int64) {
	window := -1
	f.under.Fit(f.low, f.high, func(low, high int) float64 {
		window++
		switch free := f.freeBins(low, high); {
		case free == high-low:
			return f.levels[window]
		case free < max(leastFree, (high-low)/4):
			return math.NaN()
		default:
			return f.windowLevel(d, from, end, f.free...)
		}
	})
}

// freeBins fills free with those of a window that do not lie high most of the time, and returns their number.
func (f *floorTracker) freeBins(low, high int) int {
	f.free = f.free[:0]
	bins := 0
	for i := low; i < high; i++ {
		if f.ownDB[i] > f.localDB[i]+lastingDB {
			continue
		}
		bins++
		if last := len(f.free) - 1; last >= 0 && f.free[last].high == i-1 {
			f.free[last].high = i
			continue
		}
		f.free = append(f.free, span{i, i})
	}
	return bins
}

// most is how far a bin's own level may lie above its surroundings. A line may be a spur of the receiver; a stretch of
// bins that all lie high is an emission, and only the unevenness of the floor is allowed for.
func (f *floorTracker) most(bin int, local float64) float64 {
	high, bins := 0, 0
	for k := max(0, bin-wideReach); k <= min(len(f.own)-1, bin+wideReach); k++ {
		bins++
		if f.ownDB[k] > local+wideDB {
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
		old := f.levelDB[i]
		switch change := level - old; {
		case change > followDB && held(i):
			level = old
		case change > followDB:
			level = old + min(change, rise)
		default:
			level = old + followFraction*change
		}
	}
	f.levelDB[i] = level
	f.level[i] = float32(FromDB(level))
}

// ownLevels fills own: each bin's quantile over time, smoothed over three bins.
func (f *floorTracker) ownLevels(d *Detector, from, end int64) {
	bias := float32(f.bias)
	k := int(FloorQuantile * float64(end-from))
	for bin := 0; bin < len(f.own); bin += columnLanes {
		f.columns.reset()
		for r := from; r < end; { // around the end of the ring
			first := int(r % ringRows)
			rows := min(int(end-r), ringRows-first)
			f.columns.add(d.engine, d.cells[first*d.stride()+bin:], d.stride(), rows)
			r += int64(rows)
		}
		level := (*[columnLanes]float32)(f.quantile[bin:])
		d.engine.nths(level, level, &f.columns, k)
		f.count(bin)
	}
	for i, v := range f.quantile {
		f.own[i] = v / bias
		if i > 0 && i < len(f.own)-1 {
			f.own[i] = min(v, (f.quantile[i-1]+v+f.quantile[i+1])/3) / bias
		}
		f.ownDB[i] = DB(float64(f.own[i]))
	}
}
