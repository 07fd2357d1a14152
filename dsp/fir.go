package dsp

import "math"

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
	half   []float32 // taps, middle first; of a factor of 2 every second one beside the middle is zero
	taps   []float32 // the same as kernels want them: see kernelTaps

	in       parts // unused input lies from begin to end
	begin, n int
}

// newDecimator keeps the band up to passEnd clean, in cycles a sample of the output: what would fold into it is
// stopDB down.
func newDecimator(factor int, passEnd, stopDB float64) *decimator {
	d := &decimator{factor: factor}
	f := float64(factor)
	d.half = kaiserLowpass(passEnd/f, (1-passEnd)/f, stopDB)
	if last := len(d.half) - 1; factor == 2 && last%2 == 0 {
		d.half = d.half[:last] // its end is one of the zeros
	}
	d.taps = kernelTaps(factor, d.half)
	d.in = newParts(2*d.window() + channelChunk + 4*factor + filterSlack)
	return d
}

// kernelTaps are, of a half band, those that are not zero: the middle, then the others from the first to the last. Of other
// filters they are all from the first to the last, and zeros up to whole vectors.
func kernelTaps(factor int, half []float32) []float32 {
	var taps []float32
	reach := len(half) - 1
	if factor == 2 {
		taps = append(taps, half[0])
		for k := -reach; k <= reach; k += 2 {
			taps = append(taps, half[max(k, -k)])
		}
		return taps
	}
	for k := -reach; k <= reach; k++ {
		taps = append(taps, half[max(k, -k)])
	}
	return append(taps, make([]float32, -len(taps)&(lanes-1))...)
}

// reach is how many inputs before and after its centre an output depends on.
func (d *decimator) reach() int { return len(d.half) - 1 }

// window is how many inputs an output depends on.
func (d *decimator) window() int { return 2*d.reach() + 1 }

func (d *decimator) reset() { d.begin, d.n = 0, 0 }

// room is where the next inputs go, of which no more than channelChunk come at once.
func (d *decimator) room() parts {
	if d.begin+d.n+channelChunk+4*d.factor+filterSlack > len(d.in.re) {
		d.in.move(d.begin, d.n)
		d.begin = 0
	}
	return d.in.from(d.begin + d.n)
}

// process takes n inputs, which are in room, and returns how many outputs it wrote.
func (d *decimator) process(f filters, out parts, n int) int {
	d.n += n
	outputs := 0
	if d.n >= d.window() {
		outputs = (d.n-d.window())/d.factor + 1
		f.decimate(out, d.in.from(d.begin), outputs, d)
	}
	d.begin += outputs * d.factor // a window is longer than factor: not beyond what is there
	d.n -= outputs * d.factor
	return outputs
}
