package dsp

// filters are the inner loops of a Channelizer, which an engine has. They work on real and imaginary parts apart. What is
// written has room for filterSlack more numbers, which may be spoiled; what is read goes on beyond what counts: by filterSlack and
// four times the factor of a decimator, with numbers that are finite.
type filters interface {
	// mix writes raw samples of full scale 1, as Convert has them, turned in frequency.
	mix(out parts, raw []byte, format Format, t turn)
	// turn turns n samples in place.
	turn(x parts, n int, t turn)
	// decimate writes n outputs of a decimator.
	decimate(out, in parts, n int, d *decimator)
	// join writes complex numbers.
	join(dst []complex64, x parts)
}

// filterSlack is the most that is written or read beyond what counts, but for the factor.
const filterSlack = 32

// parts are the real and the imaginary parts of samples.
type parts struct{ re, im []float32 }

func newParts(n int) parts { return parts{make([]float32, n), make([]float32, n)} }

// from leaves out the first n.
func (p parts) from(n int) parts { return parts{p.re[n:], p.im[n:]} }

// move copies n samples from a place to the begin.
func (p parts) move(from, n int) {
	copy(p.re[:n], p.re[from:])
	copy(p.im[:n], p.im[from:])
}

// portableFilters are those in Go.
type portableFilters struct{}

func newPortableFilters() filters { return portableFilters{} }

func (portableFilters) mix(out parts, raw []byte, format Format, t turn) {
	n := Convert(out.re, out.im, raw, format)
	portableFilters{}.turn(out, n, t)
}

func (portableFilters) turn(x parts, n int, t turn) {
	if t.still {
		return
	}
	baseRe, baseIm := float32(real(t.base)), float32(imag(t.base))
	re, im, turnRe, turnIm := x.re[:n], x.im[:n], t.re[:n], t.im[:n]
	for i, a := range re {
		u, v := turnRe[i], turnIm[i]
		u, v = u*baseRe-v*baseIm, u*baseIm+v*baseRe
		b := im[i]
		re[i], im[i] = a*u-b*v, a*v+b*u
	}
}

func (portableFilters) decimate(out, in parts, n int, d *decimator) {
	if d.factor == 2 {
		halveChannel(out.re[:n], in.re, d.half)
		halveChannel(out.im[:n], in.im, d.half)
		return
	}
	for j := range n {
		out.re[j] = dot(in.re[j*d.factor:], d.half)
		out.im[j] = dot(in.im[j*d.factor:], d.half)
	}
}

// halveChannel is the half band: every second tap beside the middle is zero.
func halveChannel(out, in, half []float32) {
	reach := len(half) - 1
	middle := half[0]
	for j := range out {
		w := in[2*j:][:2*reach+1]
		before, after := w[:reach], w[reach+1:]
		after = after[:len(before)]
		var sum float32
		for k := 0; k < len(before); k += 2 {
			sum += half[k+1] * (before[len(before)-1-k] + after[k])
		}
		out[j] = middle*w[reach] + sum
	}
}

// dotRun is how many taps are summed in float32 before the sum is added up in float64, which keeps the rounding of
// long filters 120 dB below full scale.
const dotRun = 128

// dot is a symmetric filter's output for the window that in begins with. half is the taps from the middle on: samples are
// paired before they are multiplied.
func dot(in, half []float32) float32 {
	reach := len(half) - 1
	before, after := in[:reach], in[reach+1:][:reach]
	taps := half[1:][:reach]
	total := float64(half[0] * in[reach])
	for from := 0; from < reach; from += dotRun {
		to := min(from+dotRun, reach)
		b, a, t := before[reach-to:reach-from], after[from:to], taps[from:to]
		a, t = a[:len(b)], t[:len(b)]
		var s0, s1 float32
		k, j := 0, len(b)-1
		for ; j >= 1; k, j = k+2, j-2 {
			s0 += t[k] * (b[j] + a[k])
			s1 += t[k+1] * (b[j-1] + a[k+1])
		}
		if j == 0 {
			s0 += t[k] * (b[0] + a[k])
		}
		total += float64(s0) + float64(s1)
	}
	return float32(total)
}

func (portableFilters) join(dst []complex64, x parts) {
	re, im := x.re[:len(dst)], x.im[:len(dst)]
	for i := range dst {
		dst[i] = complex(re[i], im[i])
	}
}
