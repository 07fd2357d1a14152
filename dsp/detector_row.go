package dsp

import (
	"math"
	"math/bits"
	"slices"
)

// How the cells of one row are judged.
const (
	strongRatio   = 100  // a cell this far over the floor may splatter when it is keyed
	strongCells   = 6    // strongest cells of a row whose splatter is looked at
	keyedRatio    = 4    // between frames of a row: more is a keyed signal
	splatterGain  = 4    // margin over the splatter of a hard edge
	splatterBins  = 3    // nearer than this it is the emission's own main lobe
	broadShare    = 0.5  // of the band at once: an impulse if it does not last
	impulseFrames = 3    // frames that an impulse falls into at most
	broadPart     = 0.25 // of the band: a run wider than this makes its event broad,
	broadSpread   = 0.2  // if this part of its power lies more than a quarter of that from its peak
	solidBins     = 8    // a run wider than this must be over the threshold as a whole in some frame
)

// run is a row's stretch of cells over the lower threshold.
type run struct {
	low, high int // bins, inclusive
	seeds     int
	seedLow   int
	seedHigh  int
	peak      float32
	power     float64 // excess over the noise
	top       int     // bin of the peak
	solid     bool    // over the threshold as a whole in some frame
	faded     bool    // the tail of its event
	track     *track
}

// look finds the runs of one row and follows the events.
func (d *Detector) look(r int64) {
	now := d.row(r)
	d.before, d.runs = d.runs, d.before
	cells := d.collect(now, d.low)
	if len(d.runs) > 0 && d.raiseForSplatter(r) {
		cells = d.collect(now, d.limit)
	}
	if float64(cells) > broadShare*float64(d.cfg.Bins) && d.impulse(r) {
		d.runs = d.runs[:0]
		d.bridge(r)
	}
	d.wide = slices.ContainsFunc(d.open, func(t *track) bool { return t.broad })
	for i := range d.runs {
		d.weigh(&d.runs[i], now)
		d.join(&d.runs[i], r)
	}
	d.spread(r, now)
	for i := 0; i < len(d.open); {
		if d.age(d.open[i], r) {
			d.close(i)
			continue
		}
		i++
	}
	d.settle(r)
	d.reportOpen(r)
}

// bridge carries events over a row that an impulse hides.
func (d *Detector) bridge(r int64) {
	for _, t := range d.open {
		if t.last == r-1 {
			t.last = r
		}
		if t.active == r-1 {
			t.active = r
		}
	}
}

// weigh sums a run's power. A wide one has cells over the threshold by chance when it is only near it: it counts if
// some frame is over the threshold as a whole.
func (d *Detector) weigh(q *run, now *row) {
	noise := 0.0
	for i := q.low; i <= q.high; i++ {
		q.power += float64(now.cells[i])
		noise += float64(d.floor.level[i])
	}
	q.power -= noise
	if q.seeds > 0 && q.high-q.low >= solidBins {
		if q.solid = d.loudest(now, span{q.low, q.high}) >= d.threshold*noise; !q.solid {
			q.seeds = 0
		}
	}
}

// loudest is the highest power that a frame of the row has in a range of bins.
func (d *Detector) loudest(r *row, s span) float64 {
	top := 0.0
	for _, f := range r.frames {
		sum := 0.0
		for k := s.low; k <= s.high; k++ {
			sum += float64(d.power(f, k))
		}
		top = math.Max(top, sum)
	}
	return top
}

// broad tells whether a run is so wide, and its power so spread, that cells do not tell when the emission is on.
func (d *Detector) broad(q *run, now *row) bool {
	if float64(q.high-q.low) <= broadPart*float64(d.cfg.Bins) || !q.solid {
		return false
	}
	near, reach := 0.0, int(broadPart/4*float64(d.cfg.Bins))
	for i := max(q.low, q.top-reach); i <= min(q.high, q.top+reach); i++ {
		near += float64(now.cells[i])
	}
	return q.power-near > broadSpread*q.power
}

// collect fills runs with the stretches over a limit and returns the number of cells.
func (d *Detector) collect(now *row, limit []float32) int {
	d.runs = d.runs[:0]
	d.engine.over(d.marks, now.cells, limit)
	total := 0
	for at, marks := range d.marks {
		total += bits.OnesCount64(marks)
		for ; marks != 0; marks &= marks - 1 {
			d.take(now, limit, 64*at+bits.TrailingZeros64(marks))
		}
	}
	return total
}

// take adds a cell over a limit to the runs.
func (d *Detector) take(now *row, limit []float32, cell int) {
	v := now.cells[cell]
	if n := len(d.runs); n == 0 || cell-d.runs[n-1].high > d.cfg.JoinBins+1 {
		d.runs = append(d.runs, run{low: cell, seedLow: -1})
	}
	q := &d.runs[len(d.runs)-1]
	q.high = cell
	if v > q.peak {
		q.peak, q.top = v, cell
	}
	if v >= limit[cell]*d.ratio {
		q.seeds++
		q.seedHigh = cell
		if q.seedLow < 0 {
			q.seedLow = cell
		}
	}
}

func portableOver(marks []uint64, values, limits []float32) {
	clear(marks)
	limits = limits[:len(values)]
	for i, v := range values {
		if !(v < limits[i]) {
			marks[i/64] |= 1 << (i % 64)
		}
	}
}

// raiseForSplatter raises limit around strong cells that are switched on or off within the row: a hard edge in a Hann
// window spreads as 1/(pi d) in amplitude over d bins, which is no emission there.
func (d *Detector) raiseForSplatter(r int64) bool {
	now := d.row(r)
	var strong [strongCells]int
	n := 0
	for _, q := range d.runs {
		for i := q.low; i <= q.high; i++ {
			v := now.cells[i]
			if v < strongRatio*d.floor.noise[i] || i > 0 && now.cells[i-1] > v || i+1 < len(now.cells) && now.cells[i+1] > v {
				continue
			}
			n = insertStrong(&strong, n, i, now.cells)
		}
	}
	raised := false
	for _, k := range strong[:n] {
		top, keyed := d.keyed(r, k)
		if !keyed {
			continue
		}
		if !raised {
			copy(d.limit, d.low)
		}
		raised = true
		level := top * splatterGain / (math.Pi * math.Pi)
		for i := range d.limit {
			if dist := i - k; dist >= splatterBins || dist <= -splatterBins {
				d.limit[i] = max(d.limit[i], level/float32(dist*dist))
			}
		}
	}
	return raised
}

// insertStrong keeps the strongest cells, strongest first.
func insertStrong(strong *[strongCells]int, n, cell int, cells []float32) int {
	at := n
	for at > 0 && cells[strong[at-1]] < cells[cell] {
		at--
	}
	if at == strongCells {
		return n
	}
	n = min(n+1, strongCells)
	copy(strong[at+1:n], strong[at:n-1])
	strong[at] = cell
	return n
}

// keyed tells whether a cell's level changes within the row and the frames around it, and its highest level there.
func (d *Detector) keyed(r int64, cell int) (top float32, keyed bool) {
	bottom := float32(math.Inf(1))
	look := func(frame []float32) {
		v := d.power(frame, cell)
		top, bottom = max(top, v), min(bottom, v)
	}
	for _, f := range d.row(r).frames {
		look(f)
	}
	if r > 0 && r > d.stored-ringRows {
		look(d.row(r - 1).frames[rowFrames-1])
	}
	if r+1 < d.stored {
		look(d.row(r + 1).frames[0])
	}
	return top, top > keyedRatio*bottom
}

// impulse tells whether a broad row stands alone in time: switching noise, not an emission. A short pulse falls into at
// most three of the half-overlapped frames around.
func (d *Detector) impulse(r int64) bool {
	broad := 0
	for o := max(0, r-1, d.stored-ringRows+1); o <= min(r+1, d.stored-1); o++ {
		for _, f := range d.row(o).frames {
			over := 0
			for i, v := range f {
				if v*rowFrames >= d.low[d.bins[i]] {
					over++
				}
			}
			if float64(over) > broadShare*float64(d.cfg.Bins) {
				broad++
			}
		}
	}
	return broad <= impulseFrames
}
