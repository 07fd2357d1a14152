package dsp

import (
	"fmt"
	"math"
	"math/bits"
)

// Transform sizes.
const (
	MinFFT = 8
	MaxFFT = 1 << 20
)

// FFT is a discrete Fourier transform of one power-of-two length on split real and imaginary float32. It decimates in
// frequency, in place, with radix-8 passes after at most two others. It holds tables only, so one FFT may serve
// several goroutines.
type FFT struct {
	n       int
	passes  []func(re, im []float32)
	radices []int   // of all passes
	order   []int32 // order[i] is the frequency of what Permuted leaves at i
}

// NewFFT makes the tables for length n, a power of two from MinFFT to MaxFFT.
func NewFFT(n int) (*FFT, error) {
	if err := checkLength(n); err != nil {
		return nil, err
	}
	f := &FFT{n: n}
	f.radices = f.plan()
	f.order = make([]int32, n)
	for i := range f.order {
		f.order[i] = int32(digitReversed(i, n, f.radices))
	}
	return f, nil
}

func checkLength(n int) error {
	if n < MinFFT || n > MaxFFT || n&(n-1) != 0 {
		return fmt.Errorf("transform length %d: want a power of two from %d to %d", n, MinFFT, MaxFFT)
	}
	return nil
}

// plan chooses the passes before the last radix-8 one and returns the radices of all.
func (f *FFT) plan() []int {
	var radices []int
	span := f.n
	if odd := bits.TrailingZeros(uint(f.n)) % 3; odd != 0 {
		radix := 1 << odd
		f.passes = append(f.passes, newPass(span, radix))
		radices = append(radices, radix)
		span /= radix
	}
	for ; span > 8; span /= 8 {
		f.passes = append(f.passes, newPass(span, 8))
		radices = append(radices, 8)
	}
	return append(radices, 8)
}

// newPass is one pass over blocks of span values.
func newPass(span, radix int) func(re, im []float32) {
	switch radix {
	case 2:
		t := twiddlesOf[[2]float32](span)
		return func(re, im []float32) { pass2(re, im, t) }
	case 4:
		t := twiddlesOf[[6]float32](span)
		return func(re, im []float32) { pass4(re, im, t) }
	}
	t := twiddlesOf[[14]float32](span)
	switch span {
	case 4096:
		return func(re, im []float32) { pass8x4096(re, im, (*[512][14]float32)(t)) }
	case 512:
		return func(re, im []float32) { pass8x512(re, im, (*[64][14]float32)(t)) }
	case 64:
		return func(re, im []float32) { pass8x64(re, im, (*[8][14]float32)(t)) }
	}
	return func(re, im []float32) { pass8(re, im, t) }
}

// twiddlesOf is a table of exp(-2 pi i j k/span) for j below span/radix and k from 1 to radix-1, as pairs.
func twiddlesOf[T [2]float32 | [6]float32 | [14]float32](span int) []T {
	var row T
	radix := len(row)/2 + 1
	table := make([]T, span/radix)
	for j := range table {
		for k := 1; k < radix; k++ {
			s, c := math.Sincos(-2 * math.Pi * float64(j*k%span) / float64(span))
			table[j][2*k-2], table[j][2*k-1] = float32(c), float32(s)
		}
	}
	return table
}

// digitReversed is the frequency that decimation in frequency leaves at position i.
func digitReversed(i, n int, radices []int) int {
	frequency, weight := 0, 1
	for _, r := range radices {
		n /= r
		frequency += i / n * weight
		weight *= r
		i %= n
	}
	return frequency
}

// Size is the transform's length.
func (f *FFT) Size() int { return f.n }

// Order returns the frequency, 0 to n-1, of each position that Permuted fills. The caller must not change it.
func (f *FFT) Order() []int32 { return f.order }

// Permuted transforms in place and leaves the bins in the order of Order.
func (f *FFT) Permuted(re, im []float32) {
	re, im = re[:f.n], im[:f.n]
	for _, pass := range f.passes {
		pass(re, im)
	}
	pass8x8(re, im)
}

// AddPower transforms in place like Permuted, but adds |X|^2 to acc, in the order of Order, and leaves re and im
// without meaning.
func (f *FFT) AddPower(acc, re, im []float32) {
	re, im = re[:f.n], im[:f.n]
	for _, pass := range f.passes {
		pass(re, im)
	}
	pass8x8Power(acc[:f.n], re, im)
}

// Forward transforms (re, im), which it destroys, into (dstRe, dstIm) in natural order.
func (f *FFT) Forward(dstRe, dstIm, re, im []float32) {
	f.Permuted(re, im)
	for i, k := range f.order {
		dstRe[k], dstIm[k] = re[i], im[i]
	}
}

// Inverse is Forward with the sign of the exponent turned, divided by n.
func (f *FFT) Inverse(dstRe, dstIm, re, im []float32) {
	f.Forward(dstIm, dstRe, im, re)
	scale := 1 / float32(f.n)
	for i := range f.n {
		dstRe[i] *= scale
		dstIm[i] *= scale
	}
}
