package dsp

import (
	"math"
	"sort"
)

// How cells make an event.
const (
	minSeeds   = 3    // cells over the threshold below which an event is dropped
	fadedRatio = 1e-3 // of its plateau: a tail weaker than this does not prolong an event
	narrowRows = 64   // an event that was narrow for so long is never broad
)

// span is a closed range of bins.
type span struct{ low, high int }

func (s span) touches(low, high int) bool { return low <= s.high+1 && high >= s.low-1 }

func (s span) union(o span) span { return span{min(s.low, o.low), max(s.high, o.high)} }

// track is one event being followed.
type track struct {
	id        uint64
	first     int64 // row it began in
	last      int64 // last row with a cell, tails counted
	active    int64 // last row that was no tail
	firstSeed int64
	lastSeed  int64
	seeds     int // cells over the threshold in rows on end
	confirmed bool
	clipped   bool
	broad     bool

	lastSpan   span // of its runs in the last row
	firstSpan  span // of its cells over the threshold, in the first and the last row that had any
	seedSpan   span
	box        [2]span    // of all its runs, in this and the previous generation
	plateau    [2]float64 // highest power of a row, likewise
	turn       int64      // row in which this generation began
	energy     float64    // sum of its rows' powers,
	activeRows int        // and their number

	start, end       float64
	startCut, endCut bool // it was on at the first or the last sample there is
	startKnown       bool
	endKnown         bool
	reportedAt       int64 // sample; 0: never
	closedRow        int64
	settled          bool // reported or dropped; others are still compared with it

	sum      []float64 // per bin, over the rows it was active in
	count    []int32
	rows     int
	loudEnd  int64 // sample: a broad event's last over the floor
	took     int64 // row in which it last got a run
	rowPower float64
	rowSeeds int

	held      int64 // row waiting to be added: edges are left out
	hasHeld   bool
	best      int64 // row with the most power: all there is of an event that is nothing but edges
	bestPower float64
}

// join gives a run to the event it continues, makes one event of those it connects, or starts one.
func (d *Detector) join(q *run, r int64) {
	touched := d.touched(q)
	alone := q.seeds == 0 && len(touched) == 0 && !d.wide // as are most cells of noise: it continues nothing
	for i := 0; i < len(d.open) && !alone; i++ {
		t := d.open[i]
		if t == q.track || !t.continues(q, touched, r) {
			continue
		}
		faded := q.power < fadedRatio*t.level()
		if t.broad {
			faded = !d.loud(r)
		}
		if !faded && d.quiet(t, r) {
			d.again(i, r)
			i--
			continue
		}
		if q.track == nil {
			q.track, q.faded = t, faded
			continue
		}
		if faded || q.faded {
			continue // a tail connects nothing
		}
		q.track = d.unite(q.track, t)
		i = -1
	}
	if q.track == nil {
		q.track = d.begin(q, r)
	}
}

// again ends the open event i, whose tail still lasts when it comes back, and in a broad one's place starts the next.
func (d *Detector) again(i int, r int64) {
	d.hand(d.open[i], nil)
	t := *d.open[i] // what is closed unconfirmed may be the fresh one
	d.close(i)
	if !t.broad {
		return
	}
	n := d.fresh()
	n.first, n.last, n.active, n.turn = r, r-1, r-1, r
	n.lastSpan, n.box, n.plateau = t.lastSpan, t.box, t.plateau
	n.firstSeed, n.lastSeed = -1, -1
	first, end := d.energy.loud(d.row(r).start, d.row(r).start+int64(2*d.cfg.Bins))
	n.broad, n.start, n.startKnown, n.loudEnd = true, float64(first), true, end
	d.open = append(d.open, n)
}

// touched are the runs of the row before that lie next to a run. They are found once for all events: a rise of the noise makes
// hundreds of runs and of events at once.
func (d *Detector) touched(q *run) []run {
	first := sort.Search(len(d.before), func(i int) bool { return d.before[i].high >= q.low-1 })
	end := first
	for end < len(d.before) && d.before[end].low <= q.high+1 {
		end++
	}
	return d.before[first:end]
}

// continues tells whether a run of row r carries on an event: next to its cells of the row before, of which touched are those
// next to the run, or over the threshold within its recent bandwidth after a pause. All in the band of a broad one is its own.
func (t *track) continues(q *run, touched []run, r int64) bool {
	if t.broad {
		return t.recent().touches(q.low, q.high)
	}
	if t.last >= r-1 {
		for i := range touched {
			if touched[i].track == t {
				return true
			}
		}
	}
	return q.seeds > 0 && t.firstSeed >= 0 && t.recent().touches(q.seedLow, q.seedHigh)
}

// quiet tells whether an event has paused for longer than its pauses may be.
func (d *Detector) quiet(t *track, r int64) bool {
	oldest := max(0, d.stored-ringRows+1)
	if t.active < oldest {
		return true
	}
	if t.broad {
		from := d.row(r).start
		if first, to := d.energy.loud(from, from+int64(2*d.cfg.Bins)); to > 0 {
			from = first
		}
		return from-t.loudEnd > int64(d.cfg.GapSamples)
	}
	return d.row(r).start-d.row(t.active).start > int64(d.cfg.GapSamples)+int64(2*d.cfg.Bins)
}

func (t *track) recent() span { return t.box[0].union(t.box[1]) }

// power is the mean of an event's rows.
func (t *track) power() float64 { return t.energy / float64(max(t.activeRows, 1)) }

func (t *track) level() float64 { return math.Max(t.plateau[0], t.plateau[1]) }

// begin starts an event. When too many are open the weakest makes room, if it is weaker.
func (d *Detector) begin(q *run, r int64) *track {
	if len(d.open) >= d.cfg.MaxOpen {
		weakest := 0
		for i, t := range d.open {
			if t.power() < d.open[weakest].power() {
				weakest = i
			}
		}
		if d.open[weakest].power() >= q.power {
			return nil
		}
		d.drop(weakest)
	}
	t := d.fresh()
	t.first, t.last, t.active, t.turn = r, r, r, r
	t.lastSpan = span{q.low, q.high}
	t.box = [2]span{t.lastSpan, t.lastSpan}
	t.firstSeed, t.lastSeed = -1, -1
	d.open = append(d.open, t)
	return t
}

func (d *Detector) fresh() *track {
	n := len(d.idle)
	if n == 0 {
		return &track{sum: make([]float64, d.cfg.Bins), count: make([]int32, d.cfg.Bins)}
	}
	t := d.idle[n-1]
	d.idle = d.idle[:n-1]
	if t.rows > 0 {
		clear(t.sum)
		clear(t.count)
	}
	*t = track{sum: t.sum, count: t.count}
	return t
}

// drop gives up an event.
func (d *Detector) drop(i int) {
	d.hand(d.open[i], nil)
	d.idle = append(d.idle, d.open[i])
	d.remove(i)
}

func (d *Detector) remove(i int) {
	last := len(d.open) - 1
	d.open[i] = d.open[last]
	d.open = d.open[:last]
}

// hand gives the runs of one event to another, or to none.
func (d *Detector) hand(from, to *track) {
	for _, runs := range [2][]run{d.runs, d.before} {
		for i := range runs {
			if runs[i].track == from {
				runs[i].track = to
			}
		}
	}
}

// unite makes one event of two; the one reported already, else the older, keeps its name.
func (d *Detector) unite(a, b *track) *track {
	if named, other := a.reportedAt > 0, b.reportedAt > 0; other && !named || other == named && b.first < a.first {
		a, b = b, a
	}
	a.absorb(b)
	d.hand(b, a)
	for i, t := range d.open {
		if t == b {
			d.drop(i)
			break
		}
	}
	return a
}

// absorb adds another event's cells.
func (t *track) absorb(b *track) {
	t.first = min(t.first, b.first)
	if b.firstSeed >= 0 && (t.firstSeed < 0 || b.firstSeed < t.firstSeed) {
		t.firstSeed, t.firstSpan, t.start, t.startKnown, t.startCut = b.firstSeed, b.firstSpan, b.start, b.startKnown, b.startCut
	}
	if b.lastSeed > t.lastSeed {
		t.lastSeed, t.seedSpan, t.end, t.endKnown, t.endCut = b.lastSeed, b.seedSpan, b.end, b.endKnown, b.endCut
	}
	switch {
	case b.last > t.last:
		t.last, t.lastSpan = b.last, b.lastSpan
	case b.last == t.last:
		t.lastSpan = t.lastSpan.union(b.lastSpan)
	}
	t.active = max(t.active, b.active)
	for i := range t.box {
		t.box[i] = t.box[i].union(b.box[i])
		t.plateau[i] = math.Max(t.plateau[i], b.plateau[i])
	}
	t.energy += b.energy
	t.activeRows = max(t.activeRows, b.activeRows)
	t.seeds += b.seeds
	if b.broad && !t.broad {
		t.broad, t.loudEnd, t.start, t.startKnown = true, b.loudEnd, b.start, b.startKnown
	}
	t.loudEnd = max(t.loudEnd, b.loudEnd)
	t.confirmed = t.confirmed || b.confirmed || t.seeds >= minSeeds
	t.clipped = t.clipped || b.clipped
	if b.rows > 0 {
		for i, n := range b.count {
			t.sum[i] += b.sum[i]
			t.count[i] += n
		}
	}
	t.rows = max(t.rows, b.rows)
	if b.hasHeld && (!t.hasHeld || b.held > t.held) {
		t.held, t.hasHeld = b.held, true
	}
	if b.bestPower > t.bestPower {
		t.best, t.bestPower = b.best, b.bestPower
	}
}

// spread tells the events of a row what they got.
func (d *Detector) spread(r int64, now *row) {
	for _, t := range d.open {
		t.rowPower, t.rowSeeds = 0, 0
	}
	for i := range d.runs {
		q := &d.runs[i]
		if q.track == nil {
			continue
		}
		if !q.track.take(q, r) {
			q.track = nil
			continue
		}
		if t := q.track; !q.faded && !t.broad && r-t.first < narrowRows && d.broad(q, now) {
			d.broaden(t, r)
		}
	}
	for _, t := range d.open {
		if t.last != r {
			continue
		}
		t.plateau[0] = math.Max(t.plateau[0], t.rowPower)
		if t.active == r {
			t.energy += t.rowPower
			t.activeRows++
		}
		if t.broad {
			if _, to := d.energy.loud(now.start, now.start+int64(2*d.cfg.Bins)); to > 0 {
				t.loudEnd = to
			}
		}
		if t.rowSeeds > 0 {
			t.clipped = t.clipped || now.clipped
		}
		if t.seeds >= minSeeds {
			t.confirmed = true
		}
	}
}

// take adds a run of row r to its event, unless it is noise somewhere in a wide band.
func (t *track) take(q *run, r int64) bool {
	if t.broad && q.faded && q.seeds == 0 {
		return false
	}
	here := span{q.low, q.high}
	if t.last == r && t.took == r {
		t.lastSpan = t.lastSpan.union(here)
	} else {
		t.lastSpan = here
	}
	t.last, t.took = r, r
	if q.faded {
		return true
	}
	t.active = r
	t.endKnown = false
	t.box[0] = t.box[0].union(here)
	t.rowPower += q.power
	if q.seeds == 0 {
		return true
	}
	seeds := span{q.seedLow, q.seedHigh}
	if t.firstSeed < 0 {
		t.firstSeed, t.firstSpan = r, seeds
	}
	switch {
	case t.lastSeed == r:
		seeds = seeds.union(t.seedSpan)
	case t.lastSeed < r-2:
		t.seeds = 0 // what is scattered in time does not add up
	}
	t.lastSeed, t.seedSpan = r, seeds
	t.seeds += q.seeds
	t.rowSeeds += q.seeds
	return true
}

// broaden makes an event one that is timed by its whole power: what came before was its faint beginning.
func (d *Detector) broaden(t *track, r int64) {
	t.broad = true
	t.loudEnd = d.row(r).start + int64(2*d.cfg.Bins)
	if t.reportedAt > 0 {
		return
	}
	from := d.row(r).start
	if first, to := d.energy.loud(from, from+int64(2*d.cfg.Bins)); to > 0 {
		from = first
	}
	t.start = float64(d.energy.since(from, int64(d.cfg.GapSamples)))
	t.startKnown, t.startCut = true, t.start == 0
	t.hasHeld, t.rows, t.bestPower = false, 0, 0
	clear(t.sum)
	clear(t.count)
}

// loud tells whether the whole power is over its floor in a row.
func (d *Detector) loud(r int64) bool {
	_, to := d.energy.loud(d.row(r).start, d.row(r).start+int64(2*d.cfg.Bins))
	return to > 0
}

// age adds the row to an event's mean, finds its edges when their surroundings are known, and tells whether it is over.
func (d *Detector) age(t *track, r int64) (over bool) {
	if t.active == r {
		d.hold(t, r)
	}
	if r-t.turn >= slabRows {
		t.box[1], t.box[0] = t.box[0], t.lastSpan
		t.plateau[1], t.plateau[0] = t.plateau[0], 0
		t.turn = r
	}
	if t.firstSeed < 0 {
		return t.last < r
	}
	if !t.startKnown && r-t.firstSeed >= 3 {
		d.findStart(t)
	}
	if !t.endKnown && r-t.active == 3 {
		d.findEnd(t)
	}
	if t.broad && r-t.active > slabRows {
		d.hand(t, nil) // what goes on in its band is no tail any more
		return true
	}
	return r-t.last >= 4 && d.quiet(t, r)
}

// hold keeps the row until the next one shows that it was no edge, then adds it.
func (d *Detector) hold(t *track, r int64) {
	if t.hasHeld && t.held == r-1 && t.held != t.first {
		d.add(t, t.held)
	}
	t.held, t.hasHeld = r, true
	if t.rowPower > t.bestPower {
		t.best, t.bestPower = r, t.rowPower
	}
}

func (d *Detector) add(t *track, r int64) {
	if r <= d.stored-ringRows {
		return
	}
	box := d.around(t.recent())
	cells := d.row(r).cells
	for i := box.low; i <= box.high; i++ {
		t.sum[i] += float64(cells[i])
		t.count[i]++
	}
	t.rows++
}

// around is the range that an event's bandwidth is looked for in.
func (d *Detector) around(s span) span {
	wide := max((s.high-s.low+1)/4, 8)
	return span{max(0, s.low-wide), min(d.cfg.Bins-1, s.high+wide)}
}
