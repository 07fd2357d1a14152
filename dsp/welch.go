package dsp

import "math"

// flushFrames is how many frames may pile up in single precision: after that many, adding one more loses 2^-24 of the
// sum each time, far below the converter's noise.
const flushFrames = 256

// Welch averages the power spectra of Hann-windowed frames at half overlap [Welch67]. Blocks may have any size: the
// result depends on the samples only. Writing allocates nothing but a
// frame of bytes when the format changes.
type Welch struct {
	segment segment
	window  Window
	in      frames
	raw     rawFrames
	format  Format    // of raw; unknown while samples come as floats
	recent  []float32 // of the last frames, single precision, in the segment's order
	pending int       // frames in recent
	sorted  []float32 // recent in the order of frequency
	sum     []float64 // of all before, in the order of frequency
	count   int       // frames in sum and recent
}

// NewWelch makes an estimator of n bins, a power of two from MinFFT to MaxFFT: others are an error. It also returns Engine's.
func NewWelch(n int) (*Welch, error) {
	e, err := chosen()
	if err != nil {
		return nil, err
	}
	return newWelch(n, e)
}

func newWelch(n int, e engine) (*Welch, error) {
	if err := checkLength(n); err != nil {
		return nil, err
	}
	window := Hann(n)
	segment, err := e.segment(n, window.Coefficients)
	if err != nil {
		return nil, err
	}
	return &Welch{segment: segment, window: window, in: newFrames(n), recent: make([]float32, n), sorted: make([]float32, n), sum: make([]float64, n)}, nil
}

// Size is the number of bins.
func (w *Welch) Size() int { return len(w.sum) }

// ENBW is the equivalent noise bandwidth of a bin, in bins: 1.5.
func (w *Welch) ENBW() float64 { return w.window.ENBW() }

// Write adds samples.
func (w *Welch) Write(re, im []float32) {
	w.expect(FormatUnknown)
	for len(re) > 0 {
		n, ready := w.in.take(re, im)
		re, im = re[n:], im[n:]
		if !ready {
			continue
		}
		w.segment.add(w.recent, w.in.re, w.in.im)
		w.in.advance()
		w.counted()
	}
}

// WriteRaw adds samples as a receiver delivers them: with Convert and Write the result is the same, but slower. A tail
// shorter than one sample is left out. No frame holds samples of two formats, or of WriteRaw and of Write.
func (w *Welch) WriteRaw(raw []byte, format Format) {
	if format.BytesPerSample() == 0 {
		return
	}
	w.expect(format)
	raw = raw[:len(raw)-len(raw)%format.BytesPerSample()]
	w.raw.each(raw, func(frame []byte, _ int) {
		w.segment.addRaw(w.recent, nil, frame, format)
		w.counted()
	})
}

// expect drops what waits in another format.
func (w *Welch) expect(format Format) {
	if format == w.format {
		return
	}
	w.Break()
	w.format = format
	w.raw.bytes = make([]byte, w.Size()*format.BytesPerSample())
}

func (w *Welch) counted() {
	w.count++
	if w.pending++; w.pending == flushFrames {
		w.flush()
	}
}

func (w *Welch) flush() {
	w.segment.sort(w.sorted, w.recent)
	for i, v := range w.sorted {
		w.sum[i] += float64(v)
	}
	clear(w.recent)
	w.pending = 0
}

// Break marks a hole in the stream: no frame spans it.
func (w *Welch) Break() {
	w.in.clear()
	w.raw.fill = 0
}

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
	for i, v := range w.sum {
		dst[i] = v * scale
	}
}

// Drain writes the sum of |X|^2 over the frames since the last Reset or Drain to sum, lowest frequency first, starts anew
// and returns how many frames they were. Density turns such sums into a power spectral density.
func (w *Welch) Drain(sum []float64) int {
	w.flush()
	copy(sum, w.sum)
	frames := w.count
	w.Reset()
	return frames
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
