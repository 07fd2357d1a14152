package radio

import (
	"math"
	"sort"
	"time"
)

// timeline maps sample numbers to UTC: a straight line through one point. Numbers are taken relative to that
// point, so that one float64 holds nanoseconds over months.
type timeline struct {
	sample   int64     // a sample number
	time     time.Time // the whole nanoseconds of its time
	offsetNs float64   // what is left of it
	periodNs float64   // one sample; 0: times are unknown
}

// known tells whether the line says anything.
func (l timeline) known() bool { return l.periodNs > 0 && !l.time.IsZero() }

// at is the time of a sample, to the nearest nanosecond.
func (l timeline) at(sample int64) time.Time {
	return l.time.Add(time.Duration(math.Round(l.offsetNs + float64(sample-l.sample)*l.periodNs)))
}

// firstAt is the first sample whose time is not before t.
func (l timeline) firstAt(t time.Time) int64 {
	n := l.sample + int64(math.Floor((float64(t.Sub(l.time))-l.offsetNs)/l.periodNs)) - 1
	for l.at(n).Before(t) {
		n++
	}
	return n
}

// stamp is a sample number with the time that a receiver gave it, in nanoseconds on some scale.
type stamp struct {
	sample int64
	ns     int64
}

// maxStamps bounds the memory of a fit: 1 MiB, however long a recording is.
const maxStamps = 1 << 16

// stamps gathers stamps of one segment in bounded memory: when full, every second one goes and from then on only
// as many are kept.
type stamps struct {
	kept  []stamp
	every int // keep one of so many
	seen  int
}

func (s *stamps) add(st stamp) {
	if s.every == 0 {
		s.every = 1
	}
	if s.seen%s.every == 0 {
		if len(s.kept) == maxStamps {
			for i := range maxStamps / 2 {
				s.kept[i] = s.kept[2*i]
			}
			s.kept = s.kept[:maxStamps/2]
			s.every *= 2
		}
		if s.seen%s.every == 0 {
			s.kept = append(s.kept, st)
		}
	}
	s.seen++
}

// fitted is a straight line through stamps: ns = atNs + periodNs × (sample − mid).
type fitted struct {
	mid      int64
	baseNs   int64
	atNs     float64 // over baseNs
	periodNs float64
	rmsNs    float64 // of the residuals kept
	kept     int
}

// gateFloorNs is the residual below which no stamp is an outlier: GNSS stamps wander by 16 to 75 ns rms.
const gateFloorNs = 100

// fitLine fits by least squares and drops what lies beyond five robust standard deviations (1.4826 MAD), at least
// gateFloorNs, until the set is stable. It refuses (ok false) when under two stamps or under half of them are left.
func fitLine(all []stamp) (line fitted, ok bool) {
	in := all
	residuals := make([]float64, len(all))
	for range 20 {
		if len(in) < 2 || len(in)*2 < len(all) {
			return fitted{}, false
		}
		line = leastSquares(in)
		sq := 0.0
		for i, s := range in {
			r := line.residual(s)
			residuals[i] = math.Abs(r)
			sq += r * r
		}
		line.rmsNs, line.kept = math.Sqrt(sq/float64(len(in))), len(in)
		spread := append([]float64(nil), residuals[:len(in)]...)
		sort.Float64s(spread)
		gate := math.Max(5*1.4826*spread[len(spread)/2], gateFloorNs)
		if spread[len(spread)-1] < gate {
			return line, true
		}
		var next []stamp
		for i, s := range in {
			if residuals[i] < gate {
				next = append(next, s)
			}
		}
		in = next
	}
	return line, true
}

func (f fitted) residual(s stamp) float64 {
	return float64(s.ns-f.baseNs) - f.atNs - f.periodNs*float64(s.sample-f.mid)
}

func leastSquares(in []stamp) fitted {
	f := fitted{mid: in[len(in)/2].sample, baseNs: in[len(in)/2].ns}
	n := float64(len(in))
	var sx, sy float64
	for _, s := range in {
		sx += float64(s.sample - f.mid)
		sy += float64(s.ns - f.baseNs)
	}
	mx, my := sx/n, sy/n
	var sxx, sxy float64
	for _, s := range in {
		dx := float64(s.sample-f.mid) - mx
		sxx += dx * dx
		sxy += dx * (float64(s.ns-f.baseNs) - my)
	}
	if sxx > 0 {
		f.periodNs = sxy / sxx
	}
	f.atNs = my - f.periodNs*mx
	return f
}
