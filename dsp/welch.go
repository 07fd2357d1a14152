package dsp

import "math"

// flushFrames is how many frames may pile up in single precision: after that many, adding one more loses 2^-24 of the
// sum each time, far below the converter's noise.
const flushFrames = 256

// Welch averages the power spectra of Hann-windowed frames at half overlap [Welch67]. Blocks may have any size: the
// result depends on the samples only. Buffers are made once; Write does not allocate.
type Welch struct {
	fft            *FFT
	window         Window
	in             frames
	workRe, workIm []float32
	recent         []float32 // of the last frames, single precision, in the transform's order
	pending        int       // frames in recent
	sum            []float64 // of all before, in the transform's order
	count          int       // frames in sum and recent
}

// NewWelch makes an estimator of n bins, a power of two from MinFFT to MaxFFT.
func NewWelch(n int) (*Welch, error) {
	fft, err := NewFFT(n)
	if err != nil {
		return nil, err
	}
	return &Welch{
		fft: fft, window: Hann(n), in: newFrames(n),
		workRe: make([]float32, n), workIm: make([]float32, n),
		recent: make([]float32, n), sum: make([]float64, n),
	}, nil
}

// Size is the number of bins.
func (w *Welch) Size() int { return w.fft.n }

// ENBW is the equivalent noise bandwidth of a bin, in bins: 1.5.
func (w *Welch) ENBW() float64 { return w.window.ENBW() }

// Write adds samples.
func (w *Welch) Write(re, im []float32) {
	for len(re) > 0 {
		n, ready := w.in.take(re, im)
		re, im = re[n:], im[n:]
		if !ready {
			continue
		}
		w.in.windowed(w.workRe, w.workIm, w.window.Coefficients)
		w.fft.AddPower(w.recent, w.workRe, w.workIm)
		w.in.advance()
		w.count++
		if w.pending++; w.pending == flushFrames {
			w.flush()
		}
	}
}

func (w *Welch) flush() {
	for i, v := range w.recent {
		w.sum[i] += float64(v)
	}
	clear(w.recent)
	w.pending = 0
}

// Break marks a hole in the stream: no frame spans it.
func (w *Welch) Break() { w.in.clear() }

// Averages is the number of frames so far.
func (w *Welch) Averages() int { return w.count }

// PSD writes the mean power spectral density in full scale squared per hertz, lowest frequency first; bin Size()/2 is
// 0 Hz. The sum of all bins times rate/Size() is the mean |x|^2 [Parseval]. Without a frame it writes NaN.
func (w *Welch) PSD(dst []float64, sampleRateHz float64) {
	w.flush()
	scale := math.NaN()
	if w.count > 0 {
		scale = 1 / (float64(w.count) * sampleRateHz * w.window.SumSquares)
	}
	half := w.fft.n / 2
	for i, k := range w.fft.order {
		dst[(int(k)+half)%w.fft.n] = w.sum[i] * scale
	}
}

// Drain adds the sum of |X|^2 over the frames since the last Reset or Drain to sum, lowest frequency first, starts anew
// and returns how many frames they were. Density turns such sums into a power spectral density.
func (w *Welch) Drain(sum []float64) int {
	w.flush()
	half := w.fft.n / 2
	for i, k := range w.fft.order {
		sum[(int(k)+half)%w.fft.n] += w.sum[i]
	}
	n := w.count
	w.Reset()
	return n
}

// Density is what a sum of |X|^2 over so many frames is multiplied by to be a power spectral density.
func (w *Welch) Density(frames int, sampleRateHz float64) float64 {
	return 1 / (float64(frames) * sampleRateHz * w.window.SumSquares)
}

// Reset starts a new average. Samples that wait for their frame are kept: consecutive averages share one stream.
func (w *Welch) Reset() {
	clear(w.recent)
	clear(w.sum)
	w.count, w.pending = 0, 0
}

// EffectiveAverages is the number of independent looks in k Hann frames at half overlap, 18 k^2/(19 k - 1) [Welch67].
func EffectiveAverages(k int) float64 {
	f := float64(k)
	return 18 * f * f / (19*f - 1)
}
