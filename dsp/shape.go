package dsp

import "math"

// How a floor follows frequency.
const (
	floorWindows = 16  // windows across the band, half overlapped
	leastWindow  = 8   // bins of a window at least
	slopeDB      = 1.0 // most the floor rises from one half window to the next: the flank of an emission is steeper
	skirtWindows = 3   // half windows at each end that may lie lower without pulling the others down
)

// FloorShape is a noise floor over frequency: its level in overlapped windows, kept from climbing emissions by a limit
// on its slope. Filter skirts at the ends of the band may lie lower.
type FloorShape struct {
	bins           int
	local, limited []float64 // dB
}

// NewFloorShape makes a shape for n bins.
func NewFloorShape(n int) FloorShape {
	windows := 2*floorWindows - 1
	for n/(windows+1)*2 < leastWindow && windows > 3 {
		windows = (windows+1)/2 - 1
	}
	return FloorShape{bins: n, local: make([]float64, windows), limited: make([]float64, windows)}
}

// Fit reads the level of each window: level gives it for some bins, first to end-1, or NaN where it cannot tell: there
// the floor runs straight between the windows around. Without any level the shape stays as it was. Bins outside the passband, low to
// high-1, do not count; the floor goes on there as it is at the passband's edge.
func (s *FloorShape) Fit(low, high int, level func(first, end int) float64) {
	half := s.half()
	from, to := (low+half-1)/half, high/half-2 // windows within the passband
	if to < from {
		from = min(max(0, (low+high)/2/half-1), len(s.local)-1)
		to = from
		s.local[from] = DB(level(low, high))
	} else {
		for w := from; w <= to; w++ {
			s.local[w] = DB(level(w*half, (w+2)*half))
		}
	}
	if !bridge(s.local[from : to+1]) {
		return
	}
	skirt := min(skirtWindows, (to-from+1)/4)
	for w := from; w <= to; w++ {
		s.limited[w] = s.local[w]
		for v := from + skirt; v <= to-skirt; v++ {
			s.limited[w] = min(s.limited[w], s.local[v]+slopeDB*math.Abs(float64(v-w)))
		}
	}
	for w := range s.limited {
		s.limited[w] = s.limited[min(max(w, from), to)]
	}
}

// bridge replaces NaN by straight lines between the levels around, held at the ends. It tells whether there was a level.
func bridge(levels []float64) bool {
	last := -1
	for i, v := range levels {
		if math.IsNaN(v) {
			continue
		}
		for k := last + 1; k < i; k++ {
			levels[k] = v
			if last >= 0 {
				levels[k] = levels[last] + (v-levels[last])*float64(k-last)/float64(i-last)
			}
		}
		last = i
	}
	for k := last + 1; k < len(levels) && last >= 0; k++ {
		levels[k] = levels[last]
	}
	return last >= 0
}

func (s *FloorShape) half() int { return s.bins / (len(s.local) + 1) }

// DB is the floor at a bin in decibels, interpolated between the windows.
func (s *FloorShape) DB(bin int) float64 {
	x := (float64(bin)+0.5)/float64(s.half()) - 1 // the centre of window w is at half windows w+1
	w := int(max(0, min(x, float64(len(s.limited)-2))))
	t := max(0, min(x-float64(w), 1))
	return s.limited[w] + t*(s.limited[w+1]-s.limited[w])
}

// Powers fills dst with the floor at each bin. A straight line in decibels is a geometric series.
func (s *FloorShape) Powers(dst []float64) {
	half := s.half()
	for at := 0; at < s.bins; at += half {
		part := dst[at:min(at+half, s.bins)]
		step := (s.DB(at+half-1) - s.DB(at)) / float64(max(half-1, 1))
		power, ratio := FromDB(s.DB(at)), FromDB(step)
		for i := range part {
			part[i] = power
			power *= ratio
		}
	}
}
