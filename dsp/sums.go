package dsp

import (
	"encoding/binary"
	"math"
)

// sumsBlock is how many samples are summed at once: so few that the sums of 8-bit codes are exact in single precision,
// and that a code at the converter's rails has only a short stretch looked at in detail.
const sumsBlock = 4096

// sums is what some samples add up to. Engines reckon in codes (unsigned ones less 127.5), or, for floats, in full scale.
type sums struct {
	i, q, squares float64
	high, low     float64 // highest and lowest code of both I and Q
}

// sum adds up at most sumsBlock samples with the engine chosen, in full scale. Where none could be chosen, somebody else says so.
func sum(raw []byte, format Format) sums {
	e, err := chosen()
	if err != nil {
		e = portable
	}
	s := e.sums(raw, format)
	if step := StepOf(format); step > 0 {
		s.i *= step
		s.q *= step
		s.squares = s.squares * step * step
		s.high *= step
		s.low *= step
	}
	return s
}

func portableSums(raw []byte, format Format) sums {
	switch format {
	case CU8:
		return sumsOfCU8(raw)
	case CS8:
		return sumsOfCS8(raw)
	case CS16:
		return sumsOfCS16(raw)
	case CF32:
		return sumsOfCF32(raw)
	case FormatUnknown:
	}
	return noSums()
}

// sumsOfCU8 reckons in twice the code less 255: so everything is an integer.
func sumsOfCU8(raw []byte) sums {
	var i, q, squares int64
	high, low := int64(math.MinInt64), int64(math.MaxInt64)
	for ; len(raw) >= 2; raw = raw[2:] {
		x, y := int64(raw[0])*2-255, int64(raw[1])*2-255
		i += x
		q += y
		squares += x*x + y*y
		high, low = max(high, x, y), min(low, x, y)
	}
	return sums{float64(i) / 2, float64(q) / 2, float64(squares) / 4, float64(high) / 2, float64(low) / 2}
}

func sumsOfCS8(raw []byte) sums {
	var i, q, squares int64
	high, low := int64(math.MinInt64), int64(math.MaxInt64)
	for ; len(raw) >= 2; raw = raw[2:] {
		x, y := int64(int8(raw[0])), int64(int8(raw[1]))
		i += x
		q += y
		squares += x*x + y*y
		high, low = max(high, x, y), min(low, x, y)
	}
	return sums{float64(i), float64(q), float64(squares), float64(high), float64(low)}
}

func sumsOfCS16(raw []byte) sums {
	var i, q, squares int64
	high, low := int64(math.MinInt64), int64(math.MaxInt64)
	for ; len(raw) >= 4; raw = raw[4:] {
		v := binary.LittleEndian.Uint32(raw)
		x, y := int64(int16(v)), int64(int16(v>>16))
		i += x
		q += y
		squares += x*x + y*y
		high, low = max(high, x, y), min(low, x, y)
	}
	return sums{float64(i), float64(q), float64(squares), float64(high), float64(low)}
}

func sumsOfCF32(raw []byte) sums {
	s := noSums()
	for ; len(raw) >= 8; raw = raw[8:] {
		v := binary.LittleEndian.Uint64(raw)
		x, y := float64(finite(uint32(v))), float64(finite(uint32(v>>32)))
		s.i += x
		s.q += y
		s.squares += x*x + y*y
		s.high, s.low = max(s.high, x, y), min(s.low, x, y)
	}
	return s
}

// with is both together.
func (s sums) with(o sums) sums {
	return sums{s.i + o.i, s.q + o.q, s.squares + o.squares, max(s.high, o.high), min(s.low, o.low)}
}

func noSums() sums { return sums{high: math.Inf(-1), low: math.Inf(1)} }

// rails are the lowest and the highest sample of a format, full scale 1; floats have none.
func rails(format Format) (low, high float64) {
	step := StepOf(format)
	switch format {
	case CU8:
		return -127.5 * step, 127.5 * step
	case CS8:
		return math.MinInt8 * step, math.MaxInt8 * step
	case CS16:
		return math.MinInt16 * step, math.MaxInt16 * step
	case CF32, FormatUnknown:
	}
	return math.Inf(-1), math.Inf(1)
}
