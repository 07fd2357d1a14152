package dsp

// frames cuts a stream of samples into frames of n that overlap by half, whatever the size of the blocks it comes in.
type frames struct {
	re, im []float32
	fill   int
}

func newFrames(n int) frames {
	return frames{re: make([]float32, n), im: make([]float32, n)}
}

// take copies samples until a frame is full. It returns how many it took, and whether a frame is ready; after using
// it the caller must advance.
func (f *frames) take(re, im []float32) (n int, ready bool) {
	n = copy(f.re[f.fill:], re)
	copy(f.im[f.fill:], im[:n])
	f.fill += n
	return n, f.fill == len(f.re)
}

// advance drops the first half of a full frame.
func (f *frames) advance() {
	h := len(f.re) / 2
	copy(f.re, f.re[h:])
	copy(f.im, f.im[h:])
	f.fill = len(f.re) - h
}

// clear drops what waits: no frame spans a hole.
func (f *frames) clear() { f.fill = 0 }

// windowed multiplies the frame by a window into dst.
func (f *frames) windowed(dstRe, dstIm, window []float32) {
	re, im := f.re, f.im
	dstRe, dstIm, window, im = dstRe[:len(re)], dstIm[:len(re)], window[:len(re)], im[:len(re)]
	for i, w := range window {
		dstRe[i] = re[i] * w
		dstIm[i] = im[i] * w
	}
}
