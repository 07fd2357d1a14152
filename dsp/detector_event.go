package dsp

import "math"

// What an event is, and what belongs to a stronger one.
const (
	standRatio    = 0.63 // of the threshold: what some bin of the mean spectrum must reach
	sameRows      = 2    // starts and ends nearer than this are the same
	productRatio  = 0.1  // of a clipped event's power: below it is a product of clipping
	copyRatio     = 0.01 // of an event with the same start and end: below it is its image or spur
	spurRatio     = 1e-3 // of an event around it in time: below it is splatter or a spur of transmitter or receiver
	twinRatio     = 0.5  // of a clipped event with the same start and end: below it is a product of clipping
	keptRows      = 64   // rows that a reported event is remembered for, so that others are known to belong to it
	decideRows    = 1024 // rows to wait for the end of a strong event that may have made a weak one
	lobeRatio     = 0.1  // of a short event around it in time and beside it in frequency: below it is its side lobe
	lineShare     = 0.35 // of the power in one line makes it the carrier
	secondLine    = 0.25 // a second line this strong against the first: a shift-keyed pair, no carrier
	occupiedShare = 0.99
	pairSpacing   = 4 // widths between two events with the same start and end that are one, shift-keyed
)

// findStart places the start where the amplitude crosses half its plateau, between the frames around the first row
// over the threshold: a Hann frame centred on an edge holds half the amplitude.
func (d *Detector) findStart(t *track) {
	t.start, t.startCut = d.edge(t.firstSeed, t.firstSpan, 1)
	t.startKnown = true
}

func (d *Detector) findEnd(t *track) {
	if t.broad {
		t.end, t.endCut, t.endKnown = float64(t.loudEnd), t.loudEnd >= d.position, true
		return
	}
	t.end, t.endCut = d.edge(max(t.lastSeed, t.active-1), t.seedSpan, -1)
	t.endKnown = true
}

// edgeReach is how many rows to each side an edge is looked for.
const edgeReach = 2

// edge looks from two rows outside a row to two rows inside it; step 1 is a start, -1 an end. No hole in the samples is
// crossed. cut tells that the samples end before the event does.
func (d *Detector) edge(at int64, bins span, step int64) (sample float64, cut bool) {
	var when, amplitude [(2*edgeReach + 1) * rowFrames]float64
	n, plateau := 0, 0.0
	half := int64(d.cfg.Bins / 2)
	outer, inner := d.along(at, -step), d.along(at, step)
	for r := outer; r != inner+step; r += step {
		for j := range int64(rowFrames) {
			f := j
			if step < 0 {
				f = rowFrames - 1 - j
			}
			when[n] = float64(d.row(r).start + (f+1)*half)
			amplitude[n] = math.Sqrt(math.Max(0, d.excess(d.row(r).frames[f], bins)))
			if (r-at)*step >= 0 {
				plateau = math.Max(plateau, amplitude[n])
			}
			n++
		}
	}
	inside := 0
	for inside < n-1 && amplitude[inside] < 0.75*plateau {
		inside++
	}
	for i := inside; i > 0; i-- {
		if amplitude[i-1] < plateau/2 {
			f := (plateau/2 - amplitude[i-1]) / (amplitude[i] - amplitude[i-1])
			return when[i-1] + f*(when[i]-when[i-1]), false
		}
	}
	switch {
	case step > 0 && outer == 0:
		return 0, true
	case step < 0 && outer == d.stored-1:
		return float64(d.position), true
	}
	return when[0] - float64(step*half), false
}

// along walks from a row while rows are there and follow one another without a hole, at most edgeReach rows.
func (d *Detector) along(at, step int64) int64 {
	for range edgeReach {
		next := at + step
		if next < 0 || next >= d.stored || next <= d.stored-ringRows {
			break
		}
		if (d.row(next).start-d.row(at).start)*step != int64(2*d.cfg.Bins) {
			break
		}
		at = next
	}
	return at
}

func (d *Detector) excess(frame []float32, bins span) float64 {
	sum := 0.0
	for i := bins.low; i <= bins.high; i++ {
		sum += float64(d.power(frame, i) - d.floor.base[i])
	}
	return sum
}

// close ends the open event i, which none of the row's runs belongs to; it waits for a few rows to be compared with others that ended
// with it.
func (d *Detector) close(i int) {
	t := d.open[i]
	d.remove(i)
	if !t.confirmed {
		d.idle = append(d.idle, t)
		return
	}
	if !t.startKnown {
		d.findStart(t)
	}
	if !t.endKnown {
		d.findEnd(t)
	}
	t.end = math.Max(t.end, t.start+float64(d.cfg.Bins/2))
	if t.rows == 0 && t.bestPower > 0 {
		d.add(t, t.best)
	}
	if t.rows == 0 && t.hasHeld {
		d.add(t, t.held) // the best was too long ago
	}
	t.closedRow = d.processed
	d.pending = append(d.pending, t)
}

// settle reports the events that ended long enough before row r, weakest first: it may belong to a stronger one. What
// was reported stays a while to be compared with.
func (d *Detector) settle(r int64) {
	for {
		var next *track
		for _, t := range d.pending {
			due := r == math.MaxInt64 || r-t.closedRow > 2*sameRows && !d.undecided(t, r)
			if due && !t.settled && (next == nil || t.power() < next.power()) {
				next = t
			}
		}
		if next == nil {
			break
		}
		next.settled = true
		d.gather(next)
		if next.reportedAt > 0 || !d.settling(next) && d.stands(next) && !d.belongs(next) {
			d.events = append(d.events, d.describe(next))
		}
	}
	kept := d.pending[:0]
	for _, t := range d.pending {
		if t.settled && r-t.closedRow > keptRows {
			d.idle = append(d.idle, t)
			continue
		}
		kept = append(kept, t)
	}
	d.pending = kept
}

// settling tells whether an event was on at the first sample and ended so soon that it cannot be told from the
// receiver's own settling.
func (d *Detector) settling(t *track) bool {
	return t.startCut && !t.endCut && t.end <= float64(d.cfg.GapSamples)
}

// stands tells whether an event's mean spectrum rises over the floor somewhere as its cells did: a hump of the noise
// has cells over the threshold now and then, but not on the whole.
func (d *Detector) stands(t *track) bool {
	if d.quantised && t.power() < d.cfg.Step*d.cfg.Step/6 {
		return false // without noise to dither it, the quantiser makes lines of its error
	}
	least := d.threshold * standRatio
	box := d.around(t.recent())
	for k := box.low; k <= box.high; k++ {
		if t.count[k] > 0 && t.sum[k]/float64(t.count[k]) >= least*float64(d.floor.level[k]) {
			return true
		}
	}
	return false
}

// undecided tells whether a much stronger event that t may be a spur of is still on air.
func (d *Detector) undecided(t *track, r int64) bool {
	for _, o := range d.open {
		if o.confirmed && o.startKnown && !o.startCut && r-o.firstSeed < decideRows &&
			t.start >= o.start-d.near() && t.power() < spurRatio*o.power() {
			return true
		}
	}
	return false
}

// near is how many samples two edges may be apart to be the same.
func (d *Detector) near() float64 { return float64(sameRows * 2 * d.cfg.Bins) }

// gather takes in the weaker events that belong to one and ended with it, before it is reported.
func (d *Detector) gather(o *track) {
	for _, t := range d.pending {
		if !t.settled && t.reportedAt == 0 && t.power() <= o.power() && d.part(t, o) {
			t.settled = true
		}
	}
}

// belongs tells whether an event is part of another.
func (d *Detector) belongs(t *track) bool {
	for _, o := range d.pending {
		if o != t && t.power() <= o.power() && d.part(t, o) {
			return true
		}
	}
	for _, o := range d.open {
		if o.confirmed && o.clipped && o.startKnown && t.start >= o.start-d.near() && t.power() < productRatio*o.power() {
			return true
		}
	}
	return false
}

// part tells whether an event is part of a stronger one that has ended, and adds it there if it is more than its spur.
func (d *Detector) part(t, o *track) bool {
	near := d.near()
	within := t.start >= o.start-near && t.end <= o.end+near
	same := math.Abs(t.start-o.start) <= near && math.Abs(t.end-o.end) <= near && (!t.startCut || !t.endCut)
	lobe := d.spacing(t, o) < 1 && t.power() < lobeRatio*o.power() && o.end-o.start < float64(decideRows*2*d.cfg.Bins)
	switch {
	case within && o.clipped && t.power() < productRatio*o.power(),
		same && t.power() < copyRatio*o.power(),
		same && o.clipped && t.power() < twinRatio*o.power(),
		within && lobe,
		within && t.power() < spurRatio*o.power() && (!o.startCut || !o.endCut):
		return true
	case same && d.spacing(t, o) < pairSpacing:
		o.absorb(t)
		return true
	}
	return false
}

// spacing is the gap in frequency between two events, in widths of the wider.
func (d *Detector) spacing(a, b *track) float64 {
	x, y := a.recent(), b.recent()
	gap := max(x.low, y.low) - min(x.high, y.high)
	return float64(gap) / float64(max(x.high-x.low+1, y.high-y.low+1))
}

// reportOpen reports the events that have lasted long enough since they were last reported.
func (d *Detector) reportOpen(r int64) {
	if d.cfg.ReportSamples <= 0 {
		return
	}
	now := d.row(r).start
	for _, t := range d.open {
		if !t.confirmed || !t.startKnown || t.active != r {
			continue
		}
		if now-max(t.reportedAt, int64(t.start)) >= int64(d.cfg.ReportSamples) {
			t.reportedAt = now
			e := d.describe(t)
			e.End, e.Open = float64(now), true
			d.events = append(d.events, e)
		}
	}
}

// describe makes an event of what was followed.
func (d *Detector) describe(t *track) Event {
	if t.id == 0 {
		d.lastID++
		t.id = d.lastID
	}
	e := Event{ID: t.id, Start: t.start, End: t.end, Clipped: t.clipped, Lasting: t.startCut && t.endCut}
	excess := func(k int) float64 {
		if t.count[k] == 0 {
			return 0
		}
		return t.sum[k]/float64(t.count[k]) - float64(d.floor.base[k])
	}
	box := d.around(t.recent())
	o, ok := OccupiedBandwidth(box.low, box.high, occupiedShare, excess)
	if ok {
		wide := (o.High-o.Low)/4 + 2
		low, high := max(box.low, int(o.Low-wide)), min(box.high, int(math.Ceil(o.High+wide)))
		if p, ok := OccupiedBandwidth(low, high, occupiedShare, excess); ok {
			o = p
		}
	} else {
		o = Occupied{Low: float64(t.recent().low) - 0.5, High: float64(t.recent().high) + 0.5}
	}
	middle := float64(d.cfg.Bins / 2)
	e.Low, e.High, e.Power = o.Low-middle, o.High-middle, o.Power
	e.Center = (e.Low + e.High) / 2
	for k := max(0, int(math.Round(o.Low))); k <= min(d.cfg.Bins-1, int(math.Round(o.High))); k++ {
		within := math.Min(o.High, float64(k)+0.5) - math.Max(o.Low, float64(k)-0.5)
		e.Noise += float64(d.floor.noise[k]) * math.Max(0, within)
	}
	if line, ok := d.line(box, o.Power, excess); ok {
		e.Center, e.Line = line-middle, true
	}
	return e
}

// line finds the carrier: one line that holds much of the power and has no equal.
func (d *Detector) line(box span, power float64, excess func(k int) float64) (at float64, ok bool) {
	top := box.low
	for k := box.low; k <= box.high; k++ {
		if excess(k) > excess(top) {
			top = k
		}
	}
	var around [3]float64
	for i := range around {
		if k := top + i - 1; k >= 0 && k < d.cfg.Bins {
			around[i] = excess(k)
		}
	}
	offset, peak := ToneAt(around[:], 1, 0)
	if peak*d.window.ENBW() < lineShare*power {
		return 0, false
	}
	for k := box.low; k <= box.high; k++ {
		if (k < top-3 || k > top+3) && excess(k) > secondLine*peak {
			return 0, false
		}
	}
	return float64(top) + offset, true
}
