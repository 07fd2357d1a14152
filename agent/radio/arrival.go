package radio

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// arrivalClock is the clock of a stream that carries no times: there is only when samples arrive. A sample arrives when it was
// taken and a fixed delay has passed, or later, by whatever held it up; never earlier. So the truth is the lower envelope of
// lateness (arrival less index/rate): its slope is the error of the rate, its level the time of the samples. Lateness that
// comes and goes is a queue. Lateness that stays is samples that are missing: what comes after a loss is late for good.
//
// [Moon99] Moon, Skelly, Towsley: Estimation and removal of clock skew from network delay measurements, INFOCOM 1999.
// [Zhang02] Zhang, Liu, Xia: Clock synchronization algorithms for network measurements, INFOCOM 2002.
//
// Durations are those of the monotonic clock; the wall clock only says when it all was.
type arrivalClock struct {
	nominalHz float64
	queue     time.Duration // how old samples may be at best when they arrive: stated as uncertainty
	wall      wallBase

	origin time.Time // of the monotonic axis: the first arrival
	first  uint64    // number of a sample, for which x is 0
	nowNs  float64   // the last arrival

	bucket  point    // the least late arrival since bucketNs
	sinceNs float64  // when the bucket began
	calm    arrivals // the least late arrivals of past buckets that were as usual
	late    []point  // and of those since then that were not
	coarse  arrivals // the least late of each second, for the slope
	fourth  int      // buckets in the coarse one that is being filled
	track   arrivals // all buckets, for the rate

	levelNs  float64 // lateness on the envelope at pivotNs
	pivotNs  float64
	slope    float64 // of the envelope: nominal rate over true rate, less one
	spanNs   float64 // what the slope was taken over
	usualNs  float64 // three quarters of calm buckets are less late than that
	slewNs   float64 // what at adds to the envelope, so that times do not jump; it fades
	fallenNs float64 // how far times have moved down in this segment
	lost     uint64  // found since news was asked
	jump     bool    // the same for a new segment
}

// point is an arrival: when, and the time of its sample since the first one at the nominal rate.
type point struct{ atNs, xNs float64 }

func (p point) lateNs() float64 { return p.atNs - p.xNs }

const (
	// bucketNs is the stretch of which only the least late arrival counts.
	bucketNs = 250e6
	// learnBuckets are needed before lateness means anything.
	learnBuckets = 8
	// leastLateNs is the lateness below which nothing is suspected on the quietest link.
	leastLateNs = 400e3
	// fallNs is how far arrivals come before the envelope when it was none.
	fallNs = 2e6
	// unusual times the upper quartile of lateness is more than chance: five quartiles are 7 standard deviations of a
	// lateness with exponential distribution.
	unusual = 5
	// lossNs is how long lateness must stay to be a loss, and lossShare that in units of the lateness itself: a large queue
	// takes its time to drain. What stays for longest is no queue whatever it does.
	lossNs, lossShare, longestNs = 1e9, 5, 60e9
	// slewTimeNs is the time in which corrections of the time fade in.
	slewTimeNs = 2e9
	// mostLagNs ends a connection: the server's queue is about to overflow, and a new connection begins with an empty one.
	mostLagNs = 2e9
	// slopeNs is the least stretch for a slope, slopeToldNs for one that is told, and slopeKnown the error that it may have.
	slopeNs, slopeToldNs, slopeKnown = 5e9, 10e9, 10e-6
	// absurd is the deviation of the rate that no oscillator has, and absurdNs how long it is looked at.
	absurd, absurdNs = 5e-3, 7e9
)

// newArrivalClock is a clock for samples of a nominal rate, of which the freshest have waited for up to queue.
func newArrivalClock(nominalHz float64, queue time.Duration, wall Wall) *arrivalClock {
	return &arrivalClock{
		nominalHz: nominalHz, queue: queue, wall: wallBase{read: wall},
		calm: newArrivals(80), coarse: newArrivals(256), track: newArrivals(32), late: make([]point, 0, int(longestNs/bucketNs)+1),
	}
}

// put hands samples that arrived at an instant of the monotonic clock to the intake, with their times and with what the clock
// has found. The error says why the connection should end.
func (c *arrivalClock) put(in *intake, raw []byte, arrived time.Time) error {
	c.observe(in.index()+uint64(len(raw)/in.width), arrived)
	lost, jump := c.news()
	if jump {
		tuning, _ := in.applied()
		in.begin(tuning, 0)
	}
	in.lost(lost, false, "missing")
	in.put(raw, c.at(in.index()))
	in.lag(c.lag())
	if ppm := c.ppm(); !math.IsNaN(ppm) {
		in.ppm(ppm)
		in.rate(c.rateHz())
	}
	return c.fault()
}

// observe notes that all samples before an index, lost ones counted, have arrived at an instant of the monotonic clock.
func (c *arrivalClock) observe(index uint64, arrived time.Time) {
	if c.origin.IsZero() {
		c.origin, c.first = arrived, index
		c.bucket = point{}
	}
	if c.wall.look(arrived.Sub(c.origin)) {
		c.jump = true
	}
	p := point{float64(arrived.Sub(c.origin)), c.xNs(index)}
	c.slewNs *= math.Exp((c.nowNs - p.atNs) / slewTimeNs)
	c.nowNs = p.atNs
	if p.atNs-c.sinceNs >= bucketNs {
		c.close()
		c.bucket, c.sinceNs = p, p.atNs
	} else if p.lateNs() < c.bucket.lateNs() {
		c.bucket = p
	}
	if r := c.residualNs(p); r < 0 {
		if r < -fallNs {
			c.forget()
		}
		c.moveTo(c.levelNs+r, c.pivotNs, c.slope)
	}
}

// forget begins anew: what was taken for the envelope was a queue.
func (c *arrivalClock) forget() {
	c.calm.clear()
	c.coarse.clear()
	c.late, c.fourth = c.late[:0], 0
}

// learn notes the arrival of samples that nobody counts: the next one has the index.
func (c *arrivalClock) learn(index, samples uint64, arrived time.Time) {
	c.observe(index+samples, arrived)
	c.first -= samples
}

// xNs is the time of a sample since the first, at the nominal rate.
func (c *arrivalClock) xNs(index uint64) float64 {
	return float64(int64(index-c.first)) / c.nominalHz * 1e9
}

// envelopeNs is the lateness of the envelope.
func (c *arrivalClock) envelopeNs(xNs float64) float64 { return c.levelNs + c.slope*(xNs-c.pivotNs) }

// residualNs is how late an arrival is beyond the envelope.
func (c *arrivalClock) residualNs(p point) float64 { return p.lateNs() - c.envelopeNs(p.xNs) }

// limitNs is the lateness that is more than chance.
func (c *arrivalClock) limitNs() float64 {
	if c.calm.count < learnBuckets {
		return math.Inf(1)
	}
	return max(leastLateNs, unusual*c.usualNs)
}

// moveTo sets the envelope. Upwards times go on where they were and follow it slowly; downwards at once, because nothing was
// taken after it arrived. Where they move by more than they are uncertain they jump.
func (c *arrivalClock) moveTo(levelNs, pivotNs, slope float64) {
	x := c.nowNs - c.levelNs
	before := c.envelopeNs(x) + c.slewNs
	c.levelNs, c.pivotNs, c.slope = levelNs, pivotNs, slope
	c.slewNs = before - c.envelopeNs(x)
	if c.slewNs > 0 {
		c.fallenNs += c.slewNs
		c.slewNs = 0
	}
	if max(-c.slewNs, c.fallenNs) > float64(c.queue) {
		c.slewNs, c.fallenNs, c.jump = 0, 0, true
	}
}

// close judges the bucket that has ended.
func (c *arrivalClock) close() {
	b := c.bucket
	c.track.add(b)
	if c.residualNs(b) > c.limitNs() {
		if len(c.late) == cap(c.late) {
			c.late = c.late[:copy(c.late, c.late[1:])]
		}
		c.late = append(c.late, b)
		c.findLoss()
		return
	}
	// What was a little late for a moment is how late arrivals are on this link.
	for _, p := range c.late[max(0, len(c.late)-learnBuckets):] {
		if c.residualNs(p) < unusual*c.limitNs() {
			c.calm.add(p)
		}
	}
	c.late = c.late[:0]
	c.accept(b)
}

// accept takes a bucket as usual and draws the envelope again.
func (c *arrivalClock) accept(b point) {
	c.calm.add(b)
	if c.fourth == 0 {
		c.coarse.add(b)
	} else if newest := c.coarse.newest(); c.residualNs(b) < c.residualNs(*newest) {
		*newest = b
	}
	c.fourth = (c.fourth + 1) % 4
	slope := c.slope
	if c.fourth == 0 {
		if s, spanNs := c.coarse.slope(); spanNs >= slopeNs {
			slope, c.spanNs = s, spanNs
		}
	}
	level := math.Inf(1)
	for i := range c.calm.count {
		p := c.calm.at(i)
		level = min(level, p.lateNs()-slope*(p.xNs-b.xNs))
	}
	c.moveTo(level, b.xNs, slope)
	c.usualNs = c.calm.quartile(c.residualNs)
}

// findLoss takes lateness that stays, and neither grows nor shrinks, for samples that are missing.
func (c *arrivalClock) findLoss() {
	last := c.late[len(c.late)-1]
	since := func(ns float64) []point {
		i := slices.IndexFunc(c.late, func(p point) bool { return last.atNs-p.atNs <= ns })
		return c.late[i:]
	}
	leastNs := c.leastNs(since(lossNs))
	stretch := min(max(lossNs, lossShare*leastNs), longestNs)
	if last.atNs-c.late[0].atNs < stretch {
		return
	}
	evidence := since(stretch)
	half := len(evidence) / 2
	steady := half > 1 && math.Abs(c.leastNs(evidence[:half])-c.leastNs(evidence[half:])) < c.limitNs()
	if !steady && last.atNs-c.late[0].atNs < longestNs {
		return
	}
	n := uint64(math.Round(c.leastNs(evidence) * 1e-9 * c.nominalHz))
	c.lost += n
	shift := float64(n) / c.nominalHz * 1e9
	for _, p := range evidence {
		c.calm.add(point{p.atNs, p.xNs + shift})
	}
	c.bucket.xNs += shift
	c.late = c.late[:0]
	c.track.clear()
}

// leastNs is the least lateness beyond the envelope.
func (c *arrivalClock) leastNs(points []point) float64 {
	least := math.Inf(1)
	for _, p := range points {
		least = min(least, c.residualNs(p))
	}
	return least
}

// news is what was found since it was asked last: how many samples are missing, which whoever counts has to add to the index
// now, and whether times jump, so that a new segment has to begin.
func (c *arrivalClock) news() (lost uint64, jump bool) {
	lost, jump = c.lost, c.jump
	c.lost, c.jump = 0, false
	return lost, jump
}

// indexAt is the first sample that was taken after an instant of the monotonic clock.
func (c *arrivalClock) indexAt(instant time.Time) uint64 {
	if c.origin.IsZero() {
		return 0
	}
	ns := float64(instant.Sub(c.origin))
	x := (ns - c.levelNs - c.slewNs + c.slope*c.pivotNs) / (1 + c.slope)
	return uint64(max(0, int64(c.first)+int64(math.Ceil(x*1e-9*c.nominalHz))))
}

// at is when a sample was taken.
func (c *arrivalClock) at(index uint64) moment {
	x := c.xNs(index)
	ns := x + c.envelopeNs(x) + c.slewNs
	m := c.wall.at(time.Duration(math.Round(ns)))
	m.Uncertainty += c.queue + c.lag() + time.Duration(math.Abs(c.slewNs))
	return m
}

// lag is how late samples come beyond what is usual.
func (c *arrivalClock) lag() time.Duration {
	if len(c.late) == 0 {
		return 0
	}
	return time.Duration(c.residualNs(c.late[len(c.late)-1]))
}

// rateHz is the measured sample rate, the nominal one until ppm is known.
func (c *arrivalClock) rateHz() float64 {
	if math.IsNaN(c.ppm()) {
		return c.nominalHz
	}
	return c.nominalHz / (1 + c.slope)
}

// ppm is the deviation of the measured rate; NaN until it is known to some 10 ppm.
func (c *arrivalClock) ppm() float64 {
	if c.spanNs < slopeToldNs || max(c.usualNs, leastLateNs/unusual) > slopeKnown*c.spanNs {
		return math.NaN()
	}
	return (1/(1+c.slope) - 1) * 1e6
}

// fault is why this connection should end: samples come at another rate than they should, or much too late.
func (c *arrivalClock) fault() error {
	if hz := c.absurdHz(); hz > 0 {
		return fmt.Errorf("samples come at %s, not at %s: it runs at another rate, or the link is too slow for this one", formatHertz(hz), formatHertz(c.nominalHz))
	}
	if len(c.late) == 0 {
		return nil
	}
	last := c.late[len(c.late)-1]
	if last.atNs-c.late[0].atNs < lossNs {
		return nil
	}
	for i := len(c.late) - 1; i >= 0 && last.atNs-c.late[i].atNs <= lossNs; i-- {
		if c.residualNs(c.late[i]) < mostLagNs {
			return nil
		}
	}
	return fmt.Errorf("samples come %.1f s late: a queue on the way is filling up, and a new connection begins with an empty one", c.residualNs(last)*1e-9)
}

// absurdHz is the rate at which samples come where that is another one than the nominal: in each of the last seconds lateness
// has grown, or shrunk, by more than any oscillator is off. 0: it is not.
func (c *arrivalClock) absurdHz() float64 {
	const parts = 4
	each := c.track.count / parts
	if each == 0 || c.track.newest().atNs-c.track.at(0).atNs < absurdNs {
		return 0
	}
	var least [parts]point
	for i := range parts {
		least[i] = *c.track.at(i * each)
		for j := range each {
			if p := *c.track.at(i*each + j); p.lateNs() < least[i].lateNs() {
				least[i] = p
			}
		}
	}
	faster, slower := 0, 0
	for i := 1; i < parts; i++ {
		growth := (least[i].lateNs() - least[i-1].lateNs()) / (least[i].atNs - least[i-1].atNs)
		switch {
		case growth > absurd:
			slower++
		case growth < -absurd:
			faster++
		}
	}
	// A queue that drains comes faster than the rate too, but late.
	if slower < parts-1 && (faster < parts-1 || len(c.late) > 0) {
		return 0
	}
	from, to := least[0], least[parts-1]
	hz := c.nominalHz * (to.xNs - from.xNs) / (to.atNs - from.atNs)
	digits := math.Pow10(3 - int(math.Floor(math.Log10(hz))))
	return math.Round(hz*digits) / digits // four are all there is to it
}

// wallBase is what the wall clock says of the origin of a monotonic axis.
type wallBase struct {
	read        Wall
	base        time.Time // the wall time of the origin; zero before the first look
	doubt       time.Time // what it would be after a step that was seen once
	quality     protocol.TimeQuality
	uncertainty time.Duration
}

// look reads the wall clock, elapsed after the origin, and tells whether it was set since the last look. A step is believed
// when it is seen twice: the program may have been held up between two clocks. Smaller changes are followed slowly.
func (w *wallBase) look(elapsed time.Duration) (stepped bool) {
	const alike, gain = 5 * time.Millisecond, 64
	now, quality, uncertainty := w.read()
	base := now.Round(0).Add(-elapsed)
	w.quality, w.uncertainty = quality, uncertainty
	change := base.Sub(w.base)
	switch {
	case w.base.IsZero():
		w.base = base
	case change.Abs() < leastStep:
		w.base = w.base.Add(min(max(change, -time.Millisecond), time.Millisecond) / gain)
		w.doubt = time.Time{}
	case base.Sub(w.doubt).Abs() < alike:
		w.base, w.doubt = base, time.Time{}
		return true
	default:
		w.doubt = base
	}
	return false
}

// at is the wall time so long after the origin, of arrivals.
func (w *wallBase) at(elapsed time.Duration) moment {
	quality := protocol.TimeQuality_TIME_QUALITY_ARRIVAL
	if w.quality == protocol.TimeQuality_TIME_QUALITY_UNSET {
		quality = w.quality
	}
	return moment{Time: w.base.Add(elapsed), Uncertainty: w.uncertainty, Quality: quality}
}

// arrivals are the newest of a series, in order.
type arrivals struct {
	ring    []point
	first   int
	count   int
	scratch []float64
	hull    []point
}

func newArrivals(n int) arrivals {
	return arrivals{ring: make([]point, n), scratch: make([]float64, 0, n), hull: make([]point, 0, n)}
}

func (w *arrivals) at(i int) *point { return &w.ring[(w.first+i)%len(w.ring)] }

func (w *arrivals) newest() *point { return w.at(w.count - 1) }

func (w *arrivals) clear() { w.first, w.count = 0, 0 }

func (w *arrivals) add(p point) {
	if w.count == len(w.ring) {
		w.first = (w.first + 1) % len(w.ring)
		w.count--
	}
	w.count++
	*w.newest() = p
}

// quartile is the upper one of a function of the points.
func (w *arrivals) quartile(of func(point) float64) float64 {
	w.scratch = w.scratch[:0]
	for i := range w.count {
		w.scratch = append(w.scratch, of(*w.at(i)))
	}
	slices.Sort(w.scratch)
	return w.scratch[w.count*3/4]
}

// slope is that of lateness over x along the lower convex hull where it passes the middle: the line below all points that is
// nearest to them ([Moon99], [Zhang02]: how clocks are compared over delays that only add). spanNs is how long the points last.
func (w *arrivals) slope() (slope, spanNs float64) {
	hull, sum := w.hull[:0], 0.0
	for i := range w.count {
		p := *w.at(i)
		sum += p.xNs
		for len(hull) >= 2 && !turnsUp(hull[len(hull)-2], hull[len(hull)-1], p) {
			hull = hull[:len(hull)-1]
		}
		hull = append(hull, p)
	}
	middle := sum / float64(w.count)
	for i := 1; i < len(hull); i++ {
		if hull[i].xNs >= middle {
			return (hull[i].lateNs() - hull[i-1].lateNs()) / (hull[i].xNs - hull[i-1].xNs), hull[len(hull)-1].xNs - hull[0].xNs
		}
	}
	return 0, 0
}

// turnsUp tells whether the way from a over b to c bends upwards.
func turnsUp(a, b, c point) bool {
	return (b.lateNs()-a.lateNs())*(c.xNs-b.xNs) < (c.lateNs()-b.lateNs())*(b.xNs-a.xNs)
}
