package radio

import (
	"math"
	"time"
)

// sampleClock is the clock of a stream whose samples carry time stamps: a straight line through the stamps of the last minute,
// found by least squares. A stamp counts when agreeing of them in a row fit together, or when it fits the line; others are
// refused. Stamps that go on fitting together but not the line tell that samples are missing, when they are late by whole ones;
// else they began a new time: the line begins anew with them, and times go over to it slowly where the step is a small one.
type sampleClock struct {
	nominalHz float64
	nominalNs float64 // one sample
	gateNs    float64 // stamps fit together when they differ by less from what their samples say
	floorNs   float64 // least uncertainty

	base  time.Time // of the first stamp
	first uint64    // its sample
	last  stamp     // the latest stamp, whether it counted or not
	row   []stamp   // stamps in a row that fit together and not the line
	kept  []stamp   // ring of those that the line is fitted to
	next  int       // where in kept the next one goes

	atNs, periodNs float64 // the line: ns = atNs + periodNs · (sample − mid)
	mid            int64
	rmsNs          float64
	measured       bool  // periodNs is, since the line began
	fittedAt       int64 // ns of the stamp at which it was fitted last
	known          bool
	refused        uint64
	jumped         bool   // the line began anew
	lost           uint64 // samples found missing since missing was asked

	slewNs   float64 // what at adds to the line, so that times do not jump; it fades
	slewFrom int64   // sample
	accepted int64   // sample of the latest stamp that counted
}

const (
	// agreeing stamps in a row are believed.
	agreeing = 4
	// keptStamps at the rate of a KiwiSDR, 23 a second, are a minute.
	keptStamps = 1400
	// outlier times the usual residual is refused, and nothing below so many times the least uncertainty: fresh positions move
	// a receiver's stamps a little, which the line is to follow.
	outlier, absorbed = 5, 20
	// trimmed times the residual of all is not used for the line.
	trimmed = 3
	// refitNs is how old a line may be.
	refitNs = int64(time.Second)
	// wholeShare of a sample is how near the scatter may come to it, so that lateness by whole samples means something; mostMissing
	// seconds of them may be.
	wholeShare, mostMissing = 0.125, 10
	// slopeError is what a measured rate may be wrong by; as long as it could be more, the rate stays what it was.
	slopeError = 1e-6
)

// newSampleClock is a clock for samples of a nominal rate whose stamps scatter by less than gate, and are known to no better
// than floor.
func newSampleClock(nominalHz float64, gate, floor time.Duration) *sampleClock {
	return &sampleClock{
		nominalHz: nominalHz, nominalNs: 1e9 / nominalHz, gateNs: float64(gate), floorNs: float64(floor), periodNs: 1e9 / nominalHz,
		row: make([]stamp, 0, agreeing), kept: make([]stamp, 0, keptStamps),
	}
}

// observe takes the stamp of a sample. Indices count lost samples, and grow.
func (c *sampleClock) observe(index uint64, at time.Time) {
	if c.base.IsZero() {
		c.base, c.first = at, index
	}
	s := stamp{int64(index - c.first), int64(at.Sub(c.base))}
	inRow := len(c.row) > 0 && c.fits(c.last, s)
	c.last = s
	switch {
	case c.known && math.Abs(c.residual(s)) < c.limitNs():
		c.keep(s)
		c.refused += uint64(len(c.row))
		c.row = c.row[:0]
		if s.ns-c.fittedAt >= refitNs {
			c.fit()
		}
		return
	case inRow:
		c.row = append(c.row, s)
	default:
		c.refused += uint64(len(c.row))
		c.row = append(c.row[:0], s)
	}
	if len(c.row) == agreeing {
		c.restart()
	}
}

// fits tells whether two stamps are as far apart as their samples.
func (c *sampleClock) fits(a, b stamp) bool {
	return math.Abs(float64(b.ns-a.ns)-c.periodNs*float64(b.sample-a.sample)) < c.gateNs
}

// doubts tells whether the latest stamps were neither believed nor refused yet.
func (c *sampleClock) doubts() bool { return len(c.row) > 0 || !c.known }

// restart begins the line with the stamps in a row, or finds that samples are missing before them.
func (c *sampleClock) restart() {
	if n := c.wholeSamples(); n > 0 {
		c.shift(n)
		return
	}
	if c.known {
		step := c.residual(c.last)
		c.slewNs, c.slewFrom = c.fadedNs(c.last.sample)-step, c.last.sample
		if math.Abs(c.slewNs) > c.gateNs {
			c.slewNs, c.jumped = 0, true
		}
	}
	c.known, c.measured = true, false
	c.kept, c.next = c.kept[:0], 0
	for _, s := range c.row {
		c.keep(s)
	}
	c.row = c.row[:0]
	c.fit()
}

// wholeSamples is how many samples the stamps in a row say are missing: all are late by as many. 0: that is not what they say.
func (c *sampleClock) wholeSamples() int64 {
	if !c.measured || c.limitNs() > wholeShare*c.periodNs {
		return 0
	}
	n := math.Round(c.residual(c.row[0]) / c.periodNs)
	if n < 1 || n > mostMissing*c.nominalHz {
		return 0
	}
	for _, s := range c.row {
		if math.Abs(c.residual(s)-n*c.periodNs) > c.limitNs() {
			return 0
		}
	}
	return int64(n)
}

// shift counts missing samples before the stamps in a row, which then fit the line.
func (c *sampleClock) shift(n int64) {
	for _, s := range c.row {
		s.sample += n
		c.keep(s)
		c.last = s
	}
	c.row, c.lost = c.row[:0], c.lost+uint64(n)
}

func (c *sampleClock) keep(s stamp) {
	c.accepted = s.sample
	if len(c.kept) < cap(c.kept) {
		c.kept = append(c.kept, s)
		return
	}
	c.kept[c.next] = s
	c.next = (c.next + 1) % len(c.kept)
}

// limitNs is the residual of a stamp that does not fit the line.
func (c *sampleClock) limitNs() float64 {
	if !c.measured {
		return c.gateNs
	}
	return min(c.gateNs, max(outlier*c.rmsNs, absorbed*c.floorNs))
}

func (c *sampleClock) residual(s stamp) float64 {
	return float64(s.ns) - c.atNs - c.periodNs*float64(s.sample-c.mid)
}

// fit puts the line through what is kept, then once more through what is not far off the first.
func (c *sampleClock) fit() {
	newest, oldest := c.kept[(c.next+len(c.kept)-1)%len(c.kept)], c.kept[c.next%len(c.kept)]
	c.fittedAt = newest.ns
	c.mid = oldest.sample + (newest.sample-oldest.sample)/2
	c.leastSquares(oldest, math.Inf(1))
	c.leastSquares(oldest, max(trimmed*c.rmsNs, absorbed*c.floorNs))
}

// leastSquares puts the line through the kept stamps that are no further than limitNs from it now. Its slope is followed when
// it is sure enough: over a short span it would be the stamps' scatter.
func (c *sampleClock) leastSquares(base stamp, limitNs float64) {
	var n, sx, sy, sxx, sxy, syy float64
	for _, s := range c.kept {
		if math.Abs(c.residual(s)) > limitNs {
			continue
		}
		x := float64(s.sample - c.mid)
		y := float64(s.ns-base.ns) - c.nominalNs*float64(s.sample-base.sample) // small, so that its squares keep their digits
		n, sx, sy, sxx, sxy, syy = n+1, sx+x, sy+y, sxx+x*x, sxy+x*y, syy+y*y
	}
	if n < agreeing {
		return
	}
	mx, my := sx/n, sy/n
	sxx, sxy, syy = sxx-n*mx*mx, sxy-n*mx*my, syy-n*my*my
	slope := sxy / sxx
	scatter := math.Sqrt(max(0, syy-slope*sxy) / n)
	if sure := n > agreeing && scatter/math.Sqrt(sxx) < slopeError*c.nominalNs; sure {
		c.measured = true
	} else {
		slope = c.periodNs - c.nominalNs
		scatter = math.Sqrt(max(0, syy-2*slope*sxy+slope*slope*sxx) / n)
	}
	c.periodNs = c.nominalNs + slope
	c.atNs = float64(base.ns) + c.nominalNs*float64(c.mid-base.sample) + my - slope*mx
	c.rmsNs = scatter
}

// at is the time of a sample, of no quality: that is the stamps'. It is false before stamps were believed.
func (c *sampleClock) at(index uint64) (moment, bool) {
	if !c.known {
		return moment{}, false
	}
	n := int64(index - c.first)
	slew := c.fadedNs(n)
	ns := c.atNs + c.periodNs*float64(n-c.mid) + slew
	unsure := max(c.rmsNs, c.floorNs) + math.Abs(slew) + slopeError*float64(c.age(index))
	return moment{Time: c.base.Add(time.Duration(math.Round(ns))), Uncertainty: time.Duration(unsure)}, true
}

// fadedNs is what is left at a sample of the last step.
func (c *sampleClock) fadedNs(sample int64) float64 {
	if c.slewNs == 0 {
		return 0
	}
	return c.slewNs * math.Exp(-max(0, float64(sample-c.slewFrom))*c.nominalNs/slewTimeNs)
}

// age is how long before a sample the latest stamp was that counted.
func (c *sampleClock) age(index uint64) time.Duration {
	return time.Duration(max(0, float64(int64(index-c.first)-c.accepted)*c.nominalNs))
}

// rateHz is the measured sample rate, nominal before there are stamps.
func (c *sampleClock) rateHz() float64 { return 1e9 / c.periodNs }

// ppm is the measured rate against the nominal one; NaN before there are stamps.
func (c *sampleClock) ppm() float64 {
	if !c.known {
		return math.NaN()
	}
	return (c.rateHz()/c.nominalHz - 1) * 1e6
}

// news tells once that the line began anew and is far from the old one: times before and after do not belong together.
func (c *sampleClock) news() (jumped bool) {
	jumped, c.jumped = c.jumped, false
	return jumped
}

// missing is how many samples were found to be missing since it was asked last, before the stamps that were in doubt: whoever
// counts has to add them to the index there.
func (c *sampleClock) missing() (n uint64) {
	n, c.lost = c.lost, 0
	return n
}
