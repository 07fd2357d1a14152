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

// add takes the next row, of columnLanes values.
func (c *columns) add(row []float32) {
	copy(c.values[c.rows*columnLanes:][:columnLanes], row)
	c.rows++
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

// A bisection looks for a value among others by counting those under a pivot. Bits of floats that are not negative are ordered as
// the floats are.
type bisection struct {
	low, high uint32 // no more values than are asked for lie under low, more under high
	pivot     uint32
	step      uint32 // to the next pivot while only one side of the value is known
	lowKnown  bool
	highKnown bool
}

const (
	firstStep = 1 << 19 // what a level mostly changes by: a sixteenth of an octave
	mostStep  = 1 << 30 // a pivot and it still fit into 32 bits
)

func newBisection(near float32) bisection {
	return bisection{high: math.Float32bits(float32(math.Inf(1))), pivot: math.Float32bits(near), step: firstStep}
}

// narrow takes how many values lie under the pivot, and the highest of them. It tells the value at index k, or has the next pivot
// ready.
func (b *bisection) narrow(under int, top float32, k int) (value float32, found bool) {
	switch {
	case under == k+1:
		return top, true
	case under > k:
		b.high, b.highKnown = b.pivot, true
	default:
		b.low, b.lowKnown = b.pivot, true
	}
	if b.high-b.low <= 1 {
		return math.Float32frombits(b.low), true
	}
	b.pivot = b.low + (b.high-b.low)/2
	if b.lowKnown == b.highKnown {
		return 0, false
	}
	if b.lowKnown {
		b.pivot = min(b.pivot, b.low+b.step)
	} else {
		b.pivot = max(b.pivot, b.high-min(b.high, b.step))
	}
	b.step = min(2*b.step, mostStep)
	return 0, false
}
