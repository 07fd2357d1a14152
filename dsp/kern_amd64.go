//go:build amd64 && !purego

package dsp

import (
	"math"
	"slices"
	"unsafe"

	"golang.org/x/sys/cpu"
)

// Frames that the kernels serve. Shorter ones have no two passes; longer ones would hold up the scheduler, which cannot
// interrupt assembly: the longest call takes some ten microseconds.
const (
	minKernelFrame = 128
	maxKernelFrame = 16384
)

// The layout that the kernels share with gen: lines of eight real and eight imaginary parts, a line behind each row.
const lineSize = 2 * lanes

// kernelEngines are those with kernels in assembly.
func kernelEngines() []engine {
	avx2 := engine{name: "avx2", segment: newAVX2Segment, filters: newAVX2Filters, sums: avx2Sums, gather: avx2Gather, nths: avx2Nths, over: avx2Over}
	if !cpu.X86.HasAVX2 || !cpu.X86.HasFMA {
		avx2.needs = "AVX2 and FMA"
	}
	avx512 := avx2
	avx512.name, avx512.segment = "avx512", newAVX512Segment
	if x := &cpu.X86; !x.HasAVX512F || !x.HasAVX512BW || !x.HasAVX512DQ || !x.HasAVX512VL || avx2.needs != "" {
		avx512.needs = "AVX-512 F, BW, DQ and VL"
	}
	return []engine{avx2, avx512}
}

// passes are the kernels of a frame on one processor.
type passes struct {
	first    func(radix int) firstKernels
	middle   func(row, factors *float32, span, blocks int)
	last     func(acc, row, factors *float32, blocks, gap int)
	lastKept func(acc, row, factors *float32, blocks, gap int, kept *float32)
}

type rawKernel = func(rows *float32, src *byte, window, factors *float32, part int)

// firstKernels are the first passes of one radix.
type firstKernels struct {
	split func(rows, re, im, window, factors *float32, part int)
	raw   [CF32 + 1]rawKernel // by Format
	quiet rawKernel           // CF32 below 2
}

// firstKernelsOf are those of a radix.
func firstKernelsOf(radix int) firstKernels {
	type raw = [CF32 + 1]rawKernel
	switch radix {
	case 2:
		return firstKernels{first2Split, raw{CU8: first2CU8, CS8: first2CS8, CS16: first2CS16, CF32: first2CF32}, first2Quiet}
	case 4:
		return firstKernels{first4Split, raw{CU8: first4CU8, CS8: first4CS8, CS16: first4CS16, CF32: first4CF32}, first4Quiet}
	}
	return firstKernels{first8Split, raw{CU8: first8CU8, CS8: first8CS8, CS16: first8CS16, CF32: first8CF32}, first8Quiet}
}

// firstWideKernelsOf are those with the registers of AVX-512. Floats that need mending are for AVX2.
func firstWideKernelsOf(radix int) firstKernels {
	type raw = [CF32 + 1]rawKernel
	switch radix {
	case 2:
		return firstKernels{first2SplitWide, raw{CU8: first2CU8Wide, CS8: first2CS8Wide, CS16: first2CS16Wide, CF32: first2CF32}, first2QuietWide}
	case 4:
		return firstKernels{first4SplitWide, raw{CU8: first4CU8Wide, CS8: first4CS8Wide, CS16: first4CS16Wide, CF32: first4CF32}, first4QuietWide}
	}
	return firstKernels{first8SplitWide, raw{CU8: first8CU8Wide, CS8: first8CS8Wide, CS16: first8CS16Wide, CF32: first8CF32}, first8QuietWide}
}

// kernelSegment is the plan of a frame: a first pass of radix 2, 4 or 8 that leaves so many rows, then radix-8 passes within
// each row while it is in the cache, the last two of them together.
type kernelSegment struct {
	n, radix    int
	passes      passes
	kernels     firstKernels
	window      []float32 // in the order that the first pass takes it
	scaled      []float32 // window over the full scale of the raw format
	scaledFor   Format
	work        []float32
	first, last []float32 // twiddle factors
	middles     []middlePass
	bins        []int32
	blocks      []int // of 64 bins: where each begins, in bytes, by the frequency of its first
}

// middlePass is one on blocks of span values.
type middlePass struct {
	span    int
	factors []float32
}

func newAVX2Segment(n int, window []float32) (segment, error) {
	return newKernelSegment(n, window, passes{firstKernelsOf, middle8, last64, last64Kept})
}

func newAVX512Segment(n int, window []float32) (segment, error) {
	return newKernelSegment(n, window, passes{firstWideKernelsOf, middle8Wide, last64Wide, last64KeptWide})
}

func newKernelSegment(n int, window []float32, p passes) (segment, error) {
	if n < minKernelFrame || n > maxKernelFrame {
		return newPortableSegment(n, window)
	}
	f, err := NewFFT(n)
	if err != nil {
		return nil, err
	}
	s := &kernelSegment{n: n, radix: f.radices[0], passes: p, scaled: lineAligned(n)}
	s.kernels = p.first(s.radix)
	part := n / s.radix
	s.window = kernelWindow(window, s.radix)
	s.first = kernelFactors(n, s.radix)
	for span := part; span > 64; span /= 8 {
		s.middles = append(s.middles, middlePass{span, kernelFactors(span, 8)})
	}
	s.last = kernelFactors(64, 8)
	s.work = lineAligned(s.radix * (2*part + lineSize))
	// The last kernel leaves the bins of each block of 64 by their last digit first.
	s.bins = make([]int32, n)
	for i := range s.bins {
		low, high := i%8, i/8%8
		s.bins[i] = f.order[i&^63+8*low+high]
	}
	s.blocks = make([]int, n/64)
	for at := 0; at < n; at += 64 {
		s.blocks[s.bins[at]] = 4 * at
	}
	return s, nil
}

// kernelWindow has what one butterfly of eight lanes needs side by side: a single stream through the cache.
func kernelWindow(window []float32, radix int) []float32 {
	part := len(window) / radix
	table := lineAligned(len(window))[:0]
	for at := 0; at < part; at += lanes {
		for k := range radix {
			table = append(table, window[k*part+at:][:lanes]...)
		}
	}
	return table
}

// kernelFactors is exp(-2 pi i j k/span) for k from 1 to radix-1 in lines, one for each eight j.
func kernelFactors(span, radix int) []float32 {
	table := lineAligned(2 * (radix - 1) * span / radix)[:0]
	for at := 0; at < span/radix; at += lanes {
		for k := 1; k < radix; k++ {
			var line [lineSize]float32
			for i := range lanes {
				sin, cos := math.Sincos(-2 * math.Pi * float64((at+i)*k%span) / float64(span))
				line[i], line[lanes+i] = float32(cos), float32(sin)
			}
			table = append(table, line[:]...)
		}
	}
	return table
}

// lineAligned is a slice of n numbers that begins with a line of the cache.
func lineAligned(n int) []float32 {
	s := make([]float32, n+lineSize-1)
	skip := -int(uintptr(unsafe.Pointer(&s[0]))/4) & (lineSize - 1)
	return s[skip:][:n:n]
}

func (s *kernelSegment) order() []int32 { return s.bins }

func (s *kernelSegment) add(acc, re, im []float32) {
	re, im = re[:s.n], im[:s.n]
	s.kernels.split(&s.work[0], &re[0], &im[0], &s.window[0], &s.first[0], s.n/s.radix)
	s.rest(acc, nil)
}

// sort is a transposition: within a block frequencies are as far apart as there are blocks.
func (s *kernelSegment) sort(dst, src []float32) {
	dst, src = dst[:s.n], src[:s.n]
	blocks := len(s.blocks)
	if blocks%8 != 0 {
		sortBy(s.bins, dst, src)
		return
	}
	for at := 0; at < blocks; at += 8 {
		turn8(&dst[s.n/2+at], &src[0], &s.blocks[at], 4*blocks, 4)
		turn8(&dst[at], &src[32], &s.blocks[at], 4*blocks, 4)
	}
}

func (s *kernelSegment) addRaw(acc, kept []float32, raw []byte, format Format) {
	raw = raw[:s.n*format.BytesPerSample()]
	if s.scaledFor != format {
		s.scale(format)
	}
	kernel := s.kernels.raw[format]
	if format == CF32 && loud(&raw[0], len(raw)) == 0 {
		kernel = s.kernels.quiet
	}
	kernel(&s.work[0], &raw[0], &s.scaled[0], &s.first[0], s.n/s.radix)
	s.rest(acc, kept)
}

// scale makes the window that turns what a kernel makes of a format's codes into samples of full scale 1.
func (s *kernelSegment) scale(format Format) {
	step := codeStep(format)
	for i, w := range s.window {
		s.scaled[i] = float32(float64(w) * step)
	}
	s.scaledFor = format
}

// codeStep is what one is worth of the numbers that first passes make of codes: they leave signed ones at the top of a word of 32 bits.
func codeStep(format Format) float64 {
	switch format {
	case CU8:
		return StepOf(CU8)
	case CS8, CS16:
		return 0x1p-31
	case CF32, FormatUnknown:
	}
	return 1
}

// rest is the passes within the rows.
func (s *kernelSegment) rest(acc, kept []float32) {
	acc = acc[:s.n]
	if kept != nil {
		kept = kept[:s.n]
	}
	part := s.n / s.radix
	if part == 64 { // a block each row
		s.end(acc, kept, 0, s.radix, lineSize*4)
		return
	}
	for r := range s.radix {
		row := &s.work[r*(2*part+lineSize)]
		for i := range s.middles {
			m := &s.middles[i]
			s.passes.middle(row, &m.factors[0], m.span, part/m.span)
		}
		s.end(acc, kept, r, part/64, 0)
	}
}

// end is the last two passes, from a row on.
func (s *kernelSegment) end(acc, kept []float32, row, blocks, gap int) {
	part := s.n / s.radix
	values := &s.work[row*(2*part+lineSize)]
	if kept == nil {
		s.passes.last(&acc[row*part], values, &s.last[0], blocks, gap)
		return
	}
	s.passes.lastKept(&acc[row*part], values, &s.last[0], blocks, gap, &kept[row*part])
}

// avx2Over takes what is no multiple of 64 to the portable code.
func avx2Over(marks []uint64, values, limits []float32) {
	if len(values)%64 != 0 {
		portableOver(marks, values, limits)
		return
	}
	_, _ = marks[len(values)/64-1], limits[len(values)-1]
	over(&marks[0], &values[0], &limits[0], len(values))
}

// laneSums are the sums of the kernels in the layout of gen: squares of each of four groups, I, Q, highest and lowest.
type laneSums [8][lanes]float32

// avx2Sums leaves what makes no whole turn of the kernel to the portable code.
func avx2Sums(raw []byte, format Format) sums {
	atOnce := summedAtOnce
	if format == CU8 {
		atOnce = codesAtOnce
	}
	turn := atOnce * format.BytesPerSample()
	turns := len(raw) / turn
	if turns == 0 {
		return portableSums(raw, format)
	}
	total := noSums()
	if rest := raw[turns*turn:]; len(rest) > 0 {
		total = portableSums(rest, format)
	}
	if format == CU8 {
		var s codeSums
		sumsCodes(&s, &raw[0], turns)
		return total.with(s.sums(turns * atOnce))
	}
	s := laneSums{6: filled(float32(math.Inf(-1))), 7: filled(float32(math.Inf(1)))}
	switch format {
	case CS8:
		sumsCS8(&s[0][0], &raw[0], turns)
	case CS16:
		sumsCS16(&s[0][0], &raw[0], turns)
	case CF32:
		sumsCF32(&s[0][0], &raw[0], turns)
	case CU8, FormatUnknown:
	}
	high, low := s[6][0], s[7][0]
	for l := range lanes {
		total.squares += float64(s[0][l]) + float64(s[1][l]) + float64(s[2][l]) + float64(s[3][l])
		total.i += float64(s[4][l])
		total.q += float64(s[5][l])
		high, low = max(high, s[6][l]), min(low, s[7][l])
	}
	total.high, total.low = max(total.high, float64(high)), min(total.low, float64(low))
	return total
}

// codeSums are the sums of the kernel on unsigned codes in the layout of gen.
type codeSums struct {
	squares   [lanes]uint32
	all, q    [4]uint64 // of I and Q together, and of Q
	high, low [8]uint8
}

// sums is for codes less 127.5, of n samples.
func (s *codeSums) sums(n int) sums {
	const zero = 127.5
	var squares, all, q uint64
	for _, v := range s.squares {
		squares += uint64(v)
	}
	for i, v := range s.all {
		all, q = all+v, q+s.q[i]
	}
	return sums{
		i: float64(all-q) - zero*float64(n), q: float64(q) - zero*float64(n),
		squares: float64(squares) - 2*zero*float64(all) + 2*zero*zero*float64(n),
		high:    float64(slices.Max(s.high[:])) - zero, low: float64(slices.Min(s.low[:])) - zero,
	}
}

// How many samples a turn of the kernels takes: that of unsigned codes, and the others.
const (
	codesAtOnce  = 2 * lanes
	summedAtOnce = 4 * lanes
)

func filled(v float32) [lanes]float32 { return [lanes]float32{v, v, v, v, v, v, v, v} }

func avx2Gather(dst, src []float32, stride, rows int) {
	_, _ = dst[rows*columnLanes-1], src[(rows-1)*stride+columnLanes-1]
	gatherRows(&dst[0], &src[0], 4*stride, rows)
}

// avx2Nths looks for the values of all columns at once, near those of the last time. Those that are elsewhere, or lie too near to others, are
// looked for one by one.
func avx2Nths(dst, last *[columnLanes]float32, c *columns, k int) {
	var pivots, counts, tops [columnLanes]float32
	rows := c.pad()
	above(&pivots[0], &last[0], &c.values[0], &c.keys[0], rows, k)
	below(&counts[0], &tops[0], &c.values[0], &pivots[0], rows)
	for i, v := range tops {
		if int(counts[i]) != k+1 {
			v = c.nth(i, k)
		}
		dst[i] = v
	}
}
