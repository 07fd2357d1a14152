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
	keys   []int16   // scratch of a kernel
}

func newColumns(rows int) columns {
	padded := (rows + rowsAtOnce - 1) / rowsAtOnce * rowsAtOnce
	return columns{values: make([]float32, padded*columnLanes), column: make([]float32, rows), keys: make([]int16, padded*columnLanes)}
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
	for i := range dst {
		dst[i] = c.nth(i, k)
	}
}

// nth looks for the value of one column.
func (c *columns) nth(i, k int) float32 {
	column := c.column[:c.rows]
	for r := range column {
		column[r] = c.values[r*columnLanes+i]
	}
	return selectNth(column, k)
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
