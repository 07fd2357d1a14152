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
	n      int
	passes []func(re, im []float32)
	order  []int32 // order[i] is the frequency of what Permuted leaves at i
}

// NewFFT makes the tables for length n, a power of two from MinFFT to MaxFFT.
func NewFFT(n int) (*FFT, error) {
	if n < MinFFT || n > MaxFFT || n&(n-1) != 0 {
		return nil, fmt.Errorf("transform length %d: want a power of two from %d to %d", n, MinFFT, MaxFFT)
	}
	f := &FFT{n: n}
	radices := f.plan()
	f.order = make([]int32, n)
	for i := range f.order {
		f.order[i] = int32(digitReversed(i, n, radices))
	}
	return f, nil
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

// pass2 splits blocks of 2 len(t) into two.
func pass2(re, im []float32, t [][2]float32) {
	q := len(t)
	for len(re) >= 2*q {
		r0, r1 := re[:q], re[q:][:q]
		m0, m1 := im[:q], im[q:][:q]
		for j := range t {
			w := &t[j]
			dr, di := r0[j]-r1[j], m0[j]-m1[j]
			r0[j], m0[j] = r0[j]+r1[j], m0[j]+m1[j]
			r1[j], m1[j] = dr*w[0]-di*w[1], dr*w[1]+di*w[0]
		}
		re, im = re[2*q:], im[2*q:]
	}
}

// pass4 splits blocks of 4 len(t) into four.
func pass4(re, im []float32, t [][6]float32) {
	q := len(t)
	for len(re) >= 4*q {
		r0, r1, r2, r3 := re[:q], re[q:][:q], re[2*q:][:q], re[3*q:][:q]
		m0, m1, m2, m3 := im[:q], im[q:][:q], im[2*q:][:q], im[3*q:][:q]
		for j := range t {
			w := &t[j]
			pr, qr, pi, qi := r0[j]+r2[j], r0[j]-r2[j], m0[j]+m2[j], m0[j]-m2[j]
			ur, vr, ui, vi := r1[j]+r3[j], r1[j]-r3[j], m1[j]+m3[j], m1[j]-m3[j]
			r0[j], m0[j] = pr+ur, pi+ui
			ar, ai := qr+vi, qi-vr
			r1[j], m1[j] = ar*w[0]-ai*w[1], ar*w[1]+ai*w[0]
			ar, ai = pr-ur, pi-ui
			r2[j], m2[j] = ar*w[2]-ai*w[3], ar*w[3]+ai*w[2]
			ar, ai = qr-vi, qi+vr
			r3[j], m3[j] = ar*w[4]-ai*w[5], ar*w[5]+ai*w[4]
		}
		re, im = re[4*q:], im[4*q:]
	}
}
