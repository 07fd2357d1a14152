//go:build amd64 && !purego

package dsp

// Limits of one call, which the scheduler cannot interrupt: some ten microseconds.
const (
	halfBandBlock = 256 // outputs; a multiple of halfBandGroup
	halfBandGroup = 32
	dotGroup      = 4
	dotMostLines  = 1 << 12
)

// avx2Filters has the kernels' scratch.
type avx2Filters struct {
	base      [lineSize]float32 // of a turn, to all lanes
	tail      [8 * lanes]byte   // samples that are no whole vector
	even, odd []float32
	some      parts
}

func newAVX2Filters() filters {
	return &avx2Filters{some: newParts(dotGroup)}
}

// mixers are the kernels by Format.
var mixers = [CF32 + 1]func(outRe, outIm *float32, src *byte, turnRe, turnIm, base *float32, groups int){
	CU8: mixCU8, CS8: mixCS8, CS16: mixCS16, CF32: mixCF32,
}

func (f *avx2Filters) mix(out parts, raw []byte, format Format, t turn) {
	scale := StepOf(format)
	if scale == 0 {
		scale = 1
	}
	f.setBase(t, scale)
	kernel, width := mixers[format], format.BytesPerSample()
	n := len(raw) / width
	whole := n / lanes * lanes
	if whole > 0 {
		kernel(&out.re[0], &out.im[0], &raw[0], &t.re[0], &t.im[0], &f.base[0], whole/lanes)
	}
	if n > whole {
		copy(f.tail[:], raw[whole*width:n*width])
		kernel(&out.re[whole], &out.im[whole], &f.tail[0], &t.re[whole], &t.im[whole], &f.base[0], 1)
	}
}

func (f *avx2Filters) turn(x parts, n int, t turn) {
	f.setBase(t, 1)
	mixSplit(&x.re[0], &x.im[0], &x.re[0], &x.im[0], &t.re[0], &t.im[0], &f.base[0], (n+lanes-1)/lanes)
}

func (f *avx2Filters) setBase(t turn, scale float64) {
	re, im := float32(real(t.base)*scale), float32(imag(t.base)*scale)
	for i := range lanes {
		f.base[i], f.base[lanes+i] = re, im
	}
}

func (f *avx2Filters) decimate(out, in parts, n int, d *decimator) {
	if d.factor == 2 {
		f.halve(out.re, in.re, n, d)
		f.halve(out.im, in.im, n, d)
		return
	}
	lines := len(d.taps) / lanes
	most := max(1, dotMostLines/lines) * dotGroup
	for at := 0; at < n; at += most {
		f.dots(out.from(at), in.from(at*d.factor), min(most, n-at), d)
	}
}

// halve parts the even from the odd numbers, block by block.
func (f *avx2Filters) halve(out, in []float32, n int, d *decimator) {
	reach := d.reach()
	need := halfBandBlock + reach + 2*lanes
	if len(f.even) < need {
		f.even, f.odd = lineAligned(need), lineAligned(need)
	}
	for at := 0; at < n; at += halfBandBlock {
		groups := (min(halfBandBlock, n-at) + halfBandGroup - 1) / halfBandGroup
		numbers := 2*min(halfBandBlock, n-at) + 2*reach
		evenOdd(&f.even[0], &f.odd[0], &in[2*at], (numbers+2*lanes-1)/(2*lanes))
		halfBand(&out[at], &f.even[0], &f.odd[reach/2], &d.taps[0], len(d.taps)-1, groups)
	}
}

// dots writes outputs, four at a time. Of a filter that is too long for one call the parts are added up.
func (f *avx2Filters) dots(out, in parts, n int, d *decimator) {
	lines := len(d.taps) / lanes
	groups := (n + dotGroup - 1) / dotGroup
	dotTaps(&out.re[0], &out.im[0], &in.re[0], &in.im[0], &d.taps[0], min(lines, dotMostLines), 4*d.factor, groups)
	for from := dotMostLines; from < lines; from += dotMostLines {
		at := from * lanes
		dotTaps(&f.some.re[0], &f.some.im[0], &in.re[at], &in.im[at], &d.taps[at], min(lines-from, dotMostLines), 4*d.factor, 1)
		for i := range dotGroup {
			out.re[i] += f.some.re[i]
			out.im[i] += f.some.im[i]
		}
	}
}

func (f *avx2Filters) join(dst []complex64, x parts) {
	whole := len(dst) / lanes * lanes
	if whole > 0 {
		interleave(&dst[0], &x.re[0], &x.im[0], whole/lanes)
	}
	portableFilters{}.join(dst[whole:], x.from(whole))
}
