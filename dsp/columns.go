package dsp

import "math"

// columnLanes is how many columns are looked at together, and rowsAtOnce what their rows are a multiple of.
const (
	columnLanes = 16
	rowsAtOnce  = 4
)

// columns are the values of some bins over time, to find the n-th smallest of each: row after row, columnLanes values in each.
type columns struct {
	values []float32
	rows   int
	column []float32 // one of them
}

func newColumns(rows int) columns {
	padded := (rows + rowsAtOnce - 1) / rowsAtOnce * rowsAtOnce
	return columns{values: make([]float32, padded*columnLanes), column: make([]float32, rows)}
}

// nths finds in each column of c the value that would stand at index k if its values, none of them negative, were sorted. last are values
// near them: those of the last time.
type nths func(dst, last *[columnLanes]float32, c *columns, k int)

func (c *columns) reset() { c.rows = 0 }

// gather copies columnLanes values of each of some rows, which begin stride values apart, and has those that follow brought near.
type gather func(dst, src []float32, stride, rows int)

// add takes the next rows.
func (c *columns) add(e engine, values []float32, stride, rows int) {
	e.gather(c.values[c.rows*columnLanes:(c.rows+rows)*columnLanes], values, stride, rows)
	c.rows += rows
}

func portableGather(dst, src []float32, stride, rows int) {
	for r := range rows {
		copy(dst[r*columnLanes:][:columnLanes], src[r*stride:])
	}
}

// pad completes the last rows that are looked at together, with what is under nothing.
func (c *columns) pad() (rows int) {
	rows = (c.rows + rowsAtOnce - 1) / rowsAtOnce * rowsAtOnce
	rest := c.values[c.rows*columnLanes : rows*columnLanes]
	for i := range rest {
		rest[i] = float32(math.Inf(1))
	}
	return rows
}

func portableNths(dst, _ *[columnLanes]float32, c *columns, k int) {
	column := c.column[:c.rows]
	for i := range dst {
		for r := range column {
			column[r] = c.values[r*columnLanes+i]
		}
		dst[i] = selectNth(column, k)
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

// A search looks for a value among others by counting those under a pivot. Bits of floats that are not negative are ordered as
// the floats are.
type search struct {
	low, high           uint32 // no more values than are asked for lie under low, more under high
	underLow, underHigh int    // how many do
	pivot               uint32
	step                uint32 // to the next pivot while only one side of the value is known; 0 at first
	lowKnown, highKnown bool
	straight            int // pivots that may still be taken on a straight line between both sides
}

const (
	valueStep = 1 << 18 // a little more than neighbours of some hundred averages of four frames lie apart
	mostStep  = 1 << 30 // a pivot and it still fit into 32 bits
	straights = 6       // where they do not find a value, bisection does
)

func newSearch(near float32) search {
	return search{high: math.Float32bits(float32(math.Inf(1))), pivot: math.Float32bits(near), straight: straights}
}

// narrow takes how many values lie under the pivot, and the highest of them. It tells the value at index k, or has the next pivot
// ready.
func (s *search) narrow(under int, top float32, k int) (value float32, found bool) {
	switch {
	case under == k+1:
		return top, true
	case under > k:
		s.high, s.underHigh, s.highKnown = s.pivot, under, true
	default:
		s.low, s.underLow, s.lowKnown = s.pivot, under, true
	}
	width := s.high - s.low
	if width <= 1 {
		return math.Float32frombits(s.low), true
	}
	if s.lowKnown && s.highKnown {
		s.pivot = s.low + width/2
		if s.straight--; s.straight >= 0 {
			part := uint64(width) * uint64(k+1-s.underLow) / uint64(s.underHigh-s.underLow)
			s.pivot = s.low + uint32(min(max(1, part), uint64(width)-1))
		}
		return 0, false
	}
	if s.step == 0 {
		s.step = valueStep * uint32(max(k+1-under, under-k-1))
	}
	s.step = min(s.step, mostStep)
	if s.lowKnown {
		s.pivot = s.low + min(width/2, s.step)
	} else {
		s.pivot = s.high - min((width+1)/2, s.step)
	}
	s.step *= 2
	return 0, false
}
