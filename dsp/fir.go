package dsp

import "math"

// firRun is how many taps are summed in float32 before the sum is added up in float64, which keeps the rounding of
// long filters 120 dB below full scale.
const firRun = 128

// kaiserLowpass is the right half, middle first, of a symmetric low-pass of unit gain at 0 Hz. passEnd and stopStart
// are in cycles a sample; the attenuation beyond stopStart, and the ripple up to passEnd, are stopDB below unity.
// Order and window after J. F. Kaiser (1974); his estimate of the order is a little low for short filters, so those
// are measured and lengthened until they hold.
func kaiserLowpass(passEnd, stopStart, stopDB float64) []float32 {
	const short = 64
	order := (stopDB - 7.95) / (2.285 * 2 * math.Pi * (stopStart - passEnd))
	half := max(1, int(math.Ceil(order/2)))
	taps := kaiserTaps(half, passEnd+stopStart, stopDB)
	for half <= short && stopbandDB(taps, stopStart) > -stopDB {
		half++
		taps = kaiserTaps(half, passEnd+stopStart, stopDB)
	}
	out := make([]float32, len(taps))
	for k, t := range taps {
		out[k] = float32(t)
	}
	return out
}

// kaiserTaps is a windowed sinc whose two-sided width at half amplitude is width, in cycles a sample.
func kaiserTaps(half int, width, stopDB float64) []float64 {
	beta := 0.1102 * (stopDB - 8.7)
	taps := make([]float64, half+1)
	sum := 0.0
	for k := range taps {
		x := float64(k) / float64(half)
		taps[k] = width * sinc(width*float64(k)) * besselI0(beta*math.Sqrt(1-x*x))
		sum += 2 * taps[k]
	}
	sum -= taps[0]
	for k := range taps {
		taps[k] /= sum
	}
	return taps
}

// stopbandDB is the highest response from stopStart to half the sample rate.
func stopbandDB(taps []float64, stopStart float64) float64 {
	points := 16 * len(taps)
	worst := 0.0
	for p := range points + 1 {
		f := stopStart + (0.5-stopStart)*float64(p)/float64(points)
		response := taps[0]
		for k, t := range taps[1:] {
			response += 2 * t * math.Cos(2*math.Pi*f*float64(k+1))
		}
		worst = max(worst, math.Abs(response))
	}
	return 20 * math.Log10(worst)
}

// sinc is sin(πx)/(πx), exactly 0 at whole numbers other than 0.
func sinc(x float64) float64 {
	if x == 0 {
		return 1
	}
	if x == math.Trunc(x) {
		return 0
	}
	return math.Sin(math.Pi*x) / (math.Pi * x)
}

// besselI0 is the modified Bessel function of order 0 by its power series, which ends for every x.
func besselI0(x float64) float64 {
	sum, term := 1.0, 1.0
	for k := 1.0; term > sum*1e-17; k++ {
		term *= (x / (2 * k)) * (x / (2 * k))
		sum += term
	}
	return sum
}

// decimator is a symmetric low-pass that keeps every factor-th output. Its first output is centred on input number
// reach(): nothing is computed from samples that were not given.
type decimator struct {
	factor int
	taps   []float32 // middle first
	stride int       // 2 when every second tap beside the middle is zero (half band), else 1

	buf []complex64 // unused input, oldest first; never grows beyond its capacity
}

// newDecimator keeps the band up to passEnd clean, in cycles a sample of the output: what would fold into it is
// stopDB down.
func newDecimator(factor int, passEnd, stopDB float64) *decimator {
	d := &decimator{factor: factor, stride: 1}
	f := float64(factor)
	d.taps = kaiserLowpass(passEnd/f, (1-passEnd)/f, stopDB)
	if factor == 2 {
		d.stride = 2
	}
	window := 2*d.reach() + 1
	d.buf = make([]complex64, 0, 2*window+channelChunk)
	return d
}

// reach is how many inputs before and after its centre an output depends on.
func (d *decimator) reach() int { return len(d.taps) - 1 }

func (d *decimator) reset() { d.buf = d.buf[:0] }

// process consumes src and returns how many outputs it wrote to dst.
func (d *decimator) process(dst, src []complex64) int {
	window := 2*d.reach() + 1
	n := 0
	for len(src) > 0 {
		k := min(cap(d.buf)-len(d.buf), len(src))
		d.buf = append(d.buf, src[:k]...)
		src = src[k:]

		at := 0
		for ; at+window <= len(d.buf); at += d.factor {
			dst[n] = d.dot(d.buf[at : at+window])
			n++
		}
		d.buf = d.buf[:copy(d.buf, d.buf[at:])] // a window is longer than factor, so at lies within
	}
	return n
}

// dot is the filter's output for one window of inputs. Taps are symmetric, so samples are paired before they are
// multiplied.
func (d *decimator) dot(w []complex64) complex64 {
	half := d.reach()
	before, after := w[:half], w[half+1:]
	mid, gain := w[half], d.taps[0]
	sumRe, sumIm := float64(gain*real(mid)), float64(gain*imag(mid))
	for from := 1; from <= half; from += firRun {
		var re, im float32
		for k := from; k < min(from+firRun, half+1); k += d.stride {
			t, a, b := d.taps[k], before[half-k], after[k-1]
			re += t * (real(a) + real(b))
			im += t * (imag(a) + imag(b))
		}
		sumRe += float64(re)
		sumIm += float64(im)
	}
	return complex(float32(sumRe), float32(sumIm))
}
