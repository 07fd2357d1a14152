package dsp

import (
	"encoding/binary"
	"math"
	"testing"
)

// TestSums_AgreeWithConvertedSamples compares every engine, at every length and alignment, with the converted samples in double
// precision.
func TestSums_AgreeWithConvertedSamples(t *testing.T) {
	for _, e := range runnableEngines() {
		for _, format := range rawFormats {
			width := format.BytesPerSample()
			raw := randomRaw(sumsBlock+3, format)
			for n := 1; n <= sumsBlock; n += 1 + n/9 {
				part := raw[:n*width]
				if n%2 == 1 {
					part = append(make([]byte, 1), part...)[1:]
				}
				got, want := e.sums(part, format), sumsOfConverted(part, format)
				relative := 1e-6
				if width == 2 {
					relative = 0 // of 8-bit codes all is exact
				}
				most := relative * math.Sqrt(want.squares*float64(n)) // that I or Q can add up to
				if got.high != want.high || got.low != want.low || math.Abs(got.squares-want.squares) > relative*want.squares ||
					math.Abs(got.i-want.i) > most || math.Abs(got.q-want.q) > most {
					t.Fatalf("%s, %s, %d samples: got %+v, want %+v", e.name, format, n, got, want)
				}
			}
		}
	}
}

// TestSums_FloatsThatAreNone has them in each place of a vector, and in what is left over behind the last.
func TestSums_FloatsThatAreNone(t *testing.T) {
	for _, n := range []int{1, 31, 32, 33, 100} {
		for at := range 2 * n {
			for _, v := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), 3e38, -3e38} {
				raw := randomRaw(n, CF32)
				binary.LittleEndian.PutUint32(raw[4*at:], math.Float32bits(v))
				want := sumsOfConverted(raw, CF32)
				for _, e := range runnableEngines() {
					got := e.sums(raw, CF32)
					most := 1e-6 * math.Sqrt(want.squares*float64(n))
					if got.high != want.high || got.low != want.low || !(math.Abs(got.squares-want.squares) <= 1e-6*want.squares) ||
						!(math.Abs(got.i-want.i) <= most) || !(math.Abs(got.q-want.q) <= most) {
						t.Fatalf("%s, %d samples, %g in place %d: got %+v, want %+v", e.name, n, v, at, got, want)
					}
				}
			}
		}
	}
}

// sumsOfConverted goes by Convert.
func sumsOfConverted(raw []byte, format Format) sums {
	n := len(raw) / format.BytesPerSample()
	re, im := make([]float32, n), make([]float32, n)
	Convert(re, im, raw, format)
	step := StepOf(format)
	if step == 0 {
		step = 1
	}
	s := noSums()
	for k := range re {
		// Codes are whole or half numbers.
		i, q := float64(re[k])/step, float64(im[k])/step
		if format != CF32 {
			i, q = math.Round(2*i)/2, math.Round(2*q)/2
		}
		s.i += i
		s.q += q
		s.squares += i*i + q*q
		s.high, s.low = max(s.high, i, q), min(s.low, i, q)
	}
	return s
}

// TestSums_Extremes are those of a block that would not fit into single precision if its sums were longer.
func TestSums_Extremes(t *testing.T) {
	for _, e := range runnableEngines() {
		for _, code := range []byte{0, 255} {
			raw := make([]byte, 2*sumsBlock)
			for i := range raw {
				raw[i] = code
			}
			want := sums{squares: 2 * 127.5 * 127.5 * sumsBlock, high: float64(code) - 127.5, low: float64(code) - 127.5}
			want.i, want.q = want.high*sumsBlock, want.high*sumsBlock
			if got := e.sums(raw, CU8); got != want {
				t.Errorf("%s, code %d: got %+v, want %+v", e.name, code, got, want)
			}
		}
	}
}
