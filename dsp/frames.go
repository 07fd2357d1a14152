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

// rawFrames does the same with bytes as a receiver delivers them.
type rawFrames struct {
	bytes []byte // of a frame
	fill  int    // of bytes: what came before and waits
}

// each calls use with every frame that raw completes, one after the other, and with how much of raw there is up to its end. It copies
// only frames that reach over the end of a block; a frame is valid during the call only.
func (f *rawFrames) each(raw []byte, use func(frame []byte, end int)) {
	half, at := len(f.bytes)/2, 0
	for f.fill > 0 { // the frame begins before raw
		took := copy(f.bytes[f.fill:], raw[at:])
		if f.fill+took < len(f.bytes) {
			f.fill += took
			return
		}
		use(f.bytes, at+took)
		at += max(0, half-f.fill)
		f.fill = copy(f.bytes, f.bytes[min(half, f.fill):f.fill])
	}
	for ; len(raw)-at >= len(f.bytes); at += half {
		use(raw[at:at+len(f.bytes)], at+len(f.bytes))
	}
	f.fill = copy(f.bytes, raw[at:])
}
