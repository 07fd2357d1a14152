package radio

import (
	"math"
	"time"
)

// sampleClock is the clock of a stream whose samples carry time stamps: a straight line through the stamps of the last minute,
// found by least squares. A stamp counts when agreeing of them in a row fit together, or when it fits the line; others are
// refused. Stamps that go on fitting together but not the line began a new time: the line begins anew with them.
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
	jumped         bool // the line began anew
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

// restart begins the line with the stamps in a row.
func (c *sampleClock) restart() {
	if c.known && math.Abs(c.residual(c.last)) > c.gateNs {
		c.jumped = true
	}
	c.known, c.measured = true, false
	c.kept, c.next = c.kept[:0], 0
	for _, s := range c.row {
		c.keep(s)
	}
	c.row = c.row[:0]
	c.fit()
}

func (c *sampleClock) keep(s stamp) {
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
	ns := c.atNs + c.periodNs*float64(int64(index-c.first)-c.mid)
	return moment{Time: c.base.Add(time.Duration(math.Round(ns))), Uncertainty: time.Duration(max(c.rmsNs, c.floorNs))}, true
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

// news tells once that the line began anew: times before and after do not belong together.
func (c *sampleClock) news() (jumped bool) {
	jumped, c.jumped = c.jumped, false
	return jumped
}
