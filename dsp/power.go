package dsp

// segment adds |X|^2 of windowed frames to sums, in an order of its own. It has buffers, so it serves one goroutine.
type segment interface {
	// add takes a frame of n samples.
	add(acc, re, im []float32)
	// addRaw takes a frame of n samples in a receiver's format. kept, unless it is nil, gets what is added.
	addRaw(acc, kept []float32, raw []byte, format Format)
	// order is the frequency, 0 to n-1, of each position of acc.
	order() []int32
	// sort writes src in the order of frequency: 0 Hz is in the middle.
	sort(dst, src []float32)
}

// portableSegment converts, multiplies and transforms one after the other.
type portableSegment struct {
	fft    *FFT
	window []float32
	re, im []float32
}

func newPortableSegment(n int, window []float32) (segment, error) {
	fft, err := NewFFT(n)
	if err != nil {
		return nil, err
	}
	return &portableSegment{fft: fft, window: window, re: make([]float32, n), im: make([]float32, n)}, nil
}

func (s *portableSegment) order() []int32 { return s.fft.order }

func (s *portableSegment) add(acc, re, im []float32) {
	dstRe, dstIm, window, im := s.re[:len(re)], s.im[:len(re)], s.window[:len(re)], im[:len(re)]
	for i, w := range window {
		dstRe[i] = re[i] * w
		dstIm[i] = im[i] * w
	}
	s.fft.AddPower(acc, s.re, s.im)
}

func (s *portableSegment) addRaw(acc, kept []float32, raw []byte, format Format) {
	Convert(s.re, s.im, raw, format)
	if kept == nil {
		s.add(acc, s.re, s.im)
		return
	}
	clear(kept)
	s.add(kept, s.re, s.im)
	for i, v := range kept {
		acc[i] += v
	}
}

func (s *portableSegment) sort(dst, src []float32) { sortBy(s.fft.order, dst, src) }

func sortBy(order []int32, dst, src []float32) {
	n := int32(len(order))
	for i, k := range order {
		dst[(k+n/2)&(n-1)] = src[i]
	}
}
