package main

import (
	"bytes"
	"fmt"
	"slices"
)

// The kernels of amd64 with AVX2 and FMA, fused so that a frame is swept three times: sample format, window and first
// pass; radix-8 passes in the middle; the last two passes, |X|^2 and sum.
//
// They work on lines of eight real and eight imaginary parts, one cache line: passes then read and write whole vectors.
// The first pass leaves radix rows, a line of padding behind each, so that those it writes at once do not compete for the
// same part of the cache. The other passes stay within a row. Only the last two passes mix the elements of a line, and turn an 8 x 8
// square of them in registers; so the bins end in an order of their own.

const (
	lanes       = 8
	lineBytes   = 64
	factorBytes = 7 * lineBytes // of one butterfly of eight lanes
)

// source is a sample format that a kernel reads.
type source struct {
	name  string
	bytes int // of a sample, in each of its arrays
	read  func(p *program, k int) pair
	// codes is read where that is less work: it leaves signed codes at the top of their words. See codeStep.
	codes func(p *program, k int) pair
}

// Constants in memory, a vector each.
var constants = []struct {
	name  string
	words [lanes]uint32
}{
	{"root", all(0x3f3504f3)},   // sqrt(1/2)
	{"floats", all(0x47000000)}, // 32768: its second byte counts ones
	{"zero", all(0x47007f80)},   // 32768 + 127.5: zero of unsigned codes
	{"floatI", picked(0x0b800080, 0x200, 4)},
	{"floatQ", picked(0x0b800180, 0x200, 4)},
	{"topI", picked(0x00808080, 0x2000000, 8)},
	{"topQ", picked(0x01808080, 0x2000000, 8)},
	{"top16", all(0xffff0000)}, // the Q of a pair
	{"most", all(0x49742400)},  // 1e6: see mostFloat
	{"least", all(0xc9742400)}, // -1e6
	{"one", all(0x3f800000)},
}

func all(bits uint32) [lanes]uint32 { return picked(bits, 0, lanes) }

// picked is what pick takes: for each byte of a word the place in its half where it comes from, 0x80 for none. It goes up by step a word, and
// begins again after so many.
func picked(first, step uint32, again int) (words [lanes]uint32) {
	for i := range words {
		words[i] = first + uint32(i%again)*step
	}
	return words
}

var sources = []source{
	{"Split", 4, func(p *program, k int) pair { return pair{p.load("re", k, 0), p.load("im", k, 0)} }, nil},
	{"CU8", 2, unsigned, nil},
	{"CS8", 2, func(p *program, k int) pair {
		x := signed(p, k)
		return pair{p.of(toFloat, p.with(24, shiftSigned, x.re)), p.of(toFloat, p.with(24, shiftSigned, x.im))}
	}, func(p *program, k int) pair {
		x := signed(p, k)
		return pair{p.of(toFloat, x.re), p.of(toFloat, x.im)}
	}},
	{"CS16", 4, func(p *program, k int) pair {
		codes := p.load("src", k, 0)
		re, im := p.with(16, shiftSigned, p.with(16, shiftLeft, codes)), p.with(16, shiftSigned, codes)
		return pair{p.of(toFloat, re), p.of(toFloat, im)}
	}, func(p *program, k int) pair {
		codes := p.load("src", k, 0)
		re, im := p.with(16, shiftLeft, codes), p.of(and, codes, p.constant("top16"))
		return pair{p.of(toFloat, re), p.of(toFloat, im)}
	}},
	{"CF32", 8, func(p *program, k int) pair {
		a, b := p.load("src", k, 0), p.load("src", k, 1)
		return pair{finite(p, p.with(0xd8, quarters, p.with(0x88, shuffle, a, b))), finite(p, p.with(0xd8, quarters, p.with(0xdd, shuffle, a, b)))}
	}, nil},
}

// rawSources are those that receivers have.
var rawSources = sources[1:]

// summedSources are those that sumsKernel is for: CU8 has codesKernel.
var summedSources = rawSources[1:]

// firstSources are those of first passes: floats that need no mending have one of their own.
var firstSources = append(slices.Clone(sources), source{name: "Quiet", bytes: 8, read: quietFloats})

// unsigned makes floats of codes without converting: each becomes the second byte of the float 32768. The other bytes are picked from that float, which
// takes the place of the codes of the other four samples in each half.
func unsigned(p *program, k int) pair {
	codes := p.append(op{code: both, at: place{array: "src", k: k}})
	codes = p.with(0x4, alternate, codes, p.constant("floats"))
	re, im := p.of(pick, codes, p.constant("floatI")), p.of(pick, codes, p.constant("floatQ"))
	return pair{p.of(sub, re, p.constant("zero")), p.of(sub, im, p.constant("zero"))}
}

// signed has the codes at the top of words.
func signed(p *program, k int) pair {
	codes := p.append(op{code: both, at: place{array: "src", k: k}})
	return pair{p.of(pick, codes, p.constant("topI")), p.of(pick, codes, p.constant("topQ"))}
}

// quietFloats takes I and Q apart: of samples 0, 1, 4, 5 and of 2, 3, 6, 7.
func quietFloats(p *program, k int) pair {
	a, b := p.append(op{code: join, at: place{array: "half", k: k}}), p.append(op{code: join, at: place{array: "half", k: k, part: 1}})
	return pair{p.with(0x88, shuffle, a, b), p.with(0xdd, shuffle, a, b)}
}

// finite is zero for infinities and values that are no number, and holds the others down: x - x is zero for numbers only.
func finite(p *program, x value) value {
	d := p.of(sub, x, x)
	x = p.of(and, x, p.with(equal, compare, d, d))
	return p.of(larger, p.of(smaller, x, p.constant("most")), p.constant("least"))
}

func factor(p *program) func(k int) pair {
	return func(k int) pair { return pair{p.load("factor", k-1, 0), p.load("factor", k-1, 1)} }
}

func storeLine(p *program) func(k int, y pair) {
	return func(k int, y pair) {
		p.store(y.re, "line", k, 0)
		p.store(y.im, "line", k, 1)
	}
}

func loadLine(p *program) func(k int) pair {
	return func(k int) pair { return pair{p.load("line", k, 0), p.load("line", k, 1)} }
}

func firstProgram(s source, radix int) *program {
	p := &program{}
	read := s.read
	if s.codes != nil {
		read = s.codes
	}
	samples := p.windowed(func(k int) pair { return read(p, k) }, func(k int) value { return p.load("window", k, 0) })
	p.pass(radix, samples, factor(p), storeLine(p))
	return p
}

func middleProgram() *program {
	p := &program{}
	p.pass(8, p.plain(loadLine(p)), factor(p), storeLine(p))
	return p
}

// lastProgram is the passes of span 64 and 8 of 64 values. The eight lanes are the butterflies of the first; the square is
// turned so that they become those of the second. What is added may be kept as well.
func lastProgram(kept bool) *program {
	p := &program{}
	var re, im [8]value
	p.pass(8, p.plain(loadLine(p)), factor(p), func(k int, y pair) { re[k], im[k] = y.re, y.im })
	re, im = turnedSquare(p, re), turnedSquare(p, im)
	p.pass(8, p.plain(func(k int) pair { return pair{re[k], im[k]} }), nil, func(k int, y pair) {
		if !kept {
			p.append(op{code: accumulate, args: []value{y.re, y.im}, at: place{array: "acc", k: k}})
			return
		}
		own := p.of(squares, y.re, y.im)
		p.store(own, "kept", k, 0)
		p.store(p.of(add, own, p.load("acc", k, 0)), "acc", k, 0)
	})
	return p
}

// turnProgram makes rows of columns, of eight lines.
func turnProgram() *program {
	p := &program{}
	var x [8]value
	for k := range x {
		x[k] = p.load("in", k, 0)
	}
	for k, y := range turnedSquare(p, x) {
		p.store(y, "out", k, 0)
	}
	return p
}

// turnedSquare makes rows of columns: of pairs of rows, of fours, then of all eight.
func turnedSquare(p *program, x [8]value) (y [8]value) {
	var twos, fours [8]value
	for i := 0; i < 8; i += 2 {
		twos[i], twos[i+1] = p.of(unpackLow, x[i], x[i+1]), p.of(unpackHigh, x[i], x[i+1])
	}
	for i := 0; i < 8; i += 4 {
		for j := range 2 {
			fours[i+2*j] = p.with(0x44, shuffle, twos[i+j], twos[i+j+2])
			fours[i+2*j+1] = p.with(0xee, shuffle, twos[i+j], twos[i+j+2])
		}
	}
	for i := range 4 {
		y[i], y[i+4] = p.with(0x20, halves, fours[i], fours[i+4]), p.with(0x31, halves, fours[i], fours[i+4])
	}
	return y
}

// strided is the memory operand base + offset + k times what the registers hold, which are the multiples 1, 3, 5 and 7 of it.
func strided(base string, k, offset int, multiples [4]string) string {
	operand := fmt.Sprintf("(%s)", base)
	if offset > 0 {
		operand = fmt.Sprint(offset) + operand
	}
	if k == 0 {
		return operand
	}
	scale := 1
	for ; k%2 == 0; k /= 2 {
		scale *= 2
	}
	return fmt.Sprintf("%s(%s*%d)", operand, multiples[k/2], scale)
}

// fixed is the memory operand of a constant.
func fixed(p place) (string, bool) {
	for _, c := range constants {
		if c.name == p.array {
			return c.name + "<>(SB)", true
		}
	}
	return "", false
}

// factorAt is the memory operand of a twiddle factor; the next turn's are so many lines further on.
func factorAt(p place, lines int) string {
	return fmt.Sprintf("%d(R8)", (p.turn*lines+p.k)*lineBytes+p.part*vectorBytes)
}

// firstPlaces are the operands of a first pass. The multiples in BX, R9, R10 and R11 are of the smallest stride there is.
func firstPlaces(s source, radix int) func(place) string {
	unit := min(s.bytes, 4)
	multiples := [4]string{"BX", "R9", "R10", "R11"}
	return func(p place) string {
		if f, ok := fixed(p); ok {
			return f
		}
		further := p.turn * lanes * s.bytes
		switch p.array {
		case "factor":
			return factorAt(p, radix-1)
		case "line": // two bases, four strides apart
			base := [2]string{"DI", "AX"}[p.k/4]
			operand := fmt.Sprintf("%d(%s)", p.turn*lineBytes+p.part*vectorBytes, base)
			return operand + [4]string{"", "(R12*1)", "(R12*2)", "(R13*1)"}[p.k%4]
		case "window":
			return fmt.Sprintf("%d(DX)", (p.turn*radix+p.k)*vectorBytes)
		case "im":
			return strided("R14", p.k*s.bytes/unit, further, multiples)
		case "half":
			return strided("SI", p.k*s.bytes/unit, further+p.part*vectorBytes/2, multiples)
		}
		return strided("SI", p.k*s.bytes/unit, further+p.part*vectorBytes, multiples)
	}
}

func middlePlaces(p place) string {
	if f, ok := fixed(p); ok {
		return f
	}
	if p.array == "factor" {
		return factorAt(p, 7)
	}
	return strided("DI", p.k, p.turn*lineBytes+p.part*vectorBytes, [4]string{"BX", "R9", "R10", "R11"})
}

func lastPlaces(p place) string {
	if f, ok := fixed(p); ok {
		return f
	}
	switch p.array {
	case "factor":
		return factorAt(p, 0)
	case "acc":
		return fmt.Sprintf("%d(DI)", (8*p.turn+p.k)*vectorBytes)
	case "kept":
		return fmt.Sprintf("%d(DX)", (8*p.turn+p.k)*vectorBytes)
	}
	return fmt.Sprintf("%d(SI)", p.k*lineBytes+p.part*vectorBytes) + [2]string{"", "(BX*1)"}[p.turn]
}

// turnPlaces has a register for each line that is read, and two bases, four strides apart, for those that are written.
func turnPlaces(p place) string {
	if p.array == "in" {
		return fmt.Sprintf("(R%d)", 8+p.k)
	}
	return [2]string{"(DI)", "(SI)"}[p.k/4] + [4]string{"", "(DX*1)", "(DX*2)", "(AX*1)"}[p.k%4]
}

// kernels writes the assembly.
func kernels() []byte {
	var b bytes.Buffer
	kernelFile(&b)
	passKernels(&b, avx2)
	turnKernel(&b)
	loudKernel(&b)
	for _, s := range summedSources {
		sumsKernel(&b, s)
	}
	codesKernel(&b)
	gatherKernel(&b)
	aboveKernel(&b)
	belowKernel(&b)
	overKernel(&b)
	return b.Bytes()
}

// wideKernels writes that of the passes with the registers of AVX-512.
func wideKernels() []byte {
	var b bytes.Buffer
	kernelFile(&b)
	passKernels(&b, avx512)
	return b.Bytes()
}

func passKernels(b *bytes.Buffer, cpu processor) {
	for _, s := range firstSourcesOf(cpu) {
		for _, radix := range radices {
			firstKernel(b, cpu, s, radix)
		}
	}
	middleKernel(b, cpu)
	lastKernel(b, cpu, false)
	lastKernel(b, cpu, true)
}

// firstSourcesOf leaves out what compares into a register of masks on that processor: floats that need mending, which hardly anything has.
func firstSourcesOf(cpu processor) []source {
	return slices.DeleteFunc(slices.Clone(firstSources), func(s source) bool { return cpu == avx512 && s.name == "CF32" })
}

// kernelFile begins a file of assembly, with the constants.
func kernelFile(b *bytes.Buffer) {
	b.WriteString(header + "//go:build amd64 && !purego\n\n#include \"textflag.h\"\n")
	for _, c := range constants {
		b.WriteString("\n")
		for at := 0; at < lanes; at += 2 {
			fmt.Fprintf(b, "DATA %s<>+%d(SB)/8, $0x%08x%08x\n", c.name, 4*at, c.words[at+1], c.words[at])
		}
		fmt.Fprintf(b, "GLOBL %s<>(SB), RODATA|NOPTR, $%d\n", c.name, vectorBytes)
	}
}

// radices of a first pass.
var radices = []int{2, 4, 8}

// kernel begins a function: its head, and what its arguments are loaded into. With a frame R15 is taken.
func kernel(b *bytes.Buffer, name string, frame int, args [][2]string) {
	size := 8 * len(args)
	if name == "loud" {
		size += 4 // its result
	}
	fmt.Fprintf(b, "\nTEXT ·%s(SB), NOSPLIT, $%d-%d\n", name, frame, size)
	for i, a := range args {
		fmt.Fprintf(b, "\tMOVQ %s+%d(FP), %s\n", a[0], 8*i, a[1])
	}
	if frame > 0 { // vectors that lie across two lines of the cache cost twice
		b.WriteString("\tLEAQ 31(SP), R15\n\tANDQ $~31, R15\n")
	}
}

func multiplesOfBX(b *bytes.Buffer) {
	b.WriteString("\tLEAQ (BX)(BX*2), R9\n\tLEAQ (BX)(BX*4), R10\n\tLEAQ (R9)(BX*4), R11\n")
}

const kernelEnd = "\tVZEROUPPER\n\tRET\n"

// firstKernel is the first pass on a window of samples. part is how many values a row gets.
func firstKernel(b *bytes.Buffer, cpu processor, s source, radix int) {
	text, frame := cpu.assemble(cpu.scheduled(firstProgram(s, radix)), firstPlaces(s, radix))
	args := [][2]string{{"rows", "DI"}, {"src", "SI"}, {"window", "DX"}, {"factors", "R8"}, {"part", "CX"}}
	if s.name == "Split" {
		args = [][2]string{{"rows", "DI"}, {"re", "SI"}, {"im", "R14"}, {"window", "DX"}, {"factors", "R8"}, {"part", "CX"}}
	}
	kernel(b, fmt.Sprintf("first%d%s%s", radix, s.name, cpu.suffix), frame, args)
	fmt.Fprintf(b, "\tMOVQ CX, BX\n\tSHLQ $%d, BX\n", map[int]int{2: 1, 4: 2}[min(s.bytes, 4)])
	multiplesOfBX(b)
	fmt.Fprintf(b, "\tLEAQ %d(CX*8), R12\n\tLEAQ (R12)(R12*2), R13\n\tLEAQ (DI)(R12*4), AX\n\tSHRQ $3, CX\n", lineBytes)
	fmt.Fprintf(b, "\nnext:\n%s", text)
	fmt.Fprintf(b, "\tADDQ $%d, SI\n\tADDQ $%d, DI\n\tADDQ $%d, AX\n\tADDQ $%d, DX\n\tADDQ $%d, R8\n",
		cpu.turns*lanes*s.bytes, cpu.turns*lineBytes, cpu.turns*lineBytes, cpu.turns*radix*vectorBytes, cpu.turns*(radix-1)*lineBytes)
	if s.name == "Split" {
		fmt.Fprintf(b, "\tADDQ $%d, R14\n", cpu.turns*lanes*s.bytes)
	}
	again(b, cpu)
	b.WriteString(kernelEnd)
}

// again ends a loop over CX turns, which are even.
func again(b *bytes.Buffer, cpu processor) {
	if cpu.turns == 1 {
		b.WriteString("\tDECQ CX\n\tJNZ  next\n")
		return
	}
	fmt.Fprintf(b, "\tSUBQ $%d, CX\n\tJNZ  next\n", cpu.turns)
}

// middleKernel is a radix-8 pass on blocks of span values that follow one another.
func middleKernel(b *bytes.Buffer, cpu processor) {
	text, frame := cpu.assemble(cpu.scheduled(middleProgram()), middlePlaces)
	kernel(b, "middle8"+cpu.suffix, frame, [][2]string{{"row", "DI"}, {"factors", "DX"}, {"span", "BX"}, {"blocks", "SI"}})
	multiplesOfBX(b) // an eighth of span values is span bytes
	b.WriteString("\nblock:\n\tMOVQ DX, R8\n\tMOVQ BX, CX\n\tSHRQ $6, CX\n")
	fmt.Fprintf(b, "\nnext:\n%s", text)
	fmt.Fprintf(b, "\tADDQ $%d, DI\n\tADDQ $%d, R8\n", cpu.turns*lineBytes, cpu.turns*factorBytes)
	again(b, cpu)
	b.WriteString("\tADDQ R11, DI\n\tDECQ SI\n\tJNZ  block\n" + kernelEnd)
}

// lastKernel is the passes of span 64 and 8 on blocks of 64 values, gap bytes apart, and adds |X|^2. It stays in the program's own order: any
// other needs more registers.
func lastKernel(b *bytes.Buffer, cpu processor, kept bool) {
	text, frame := cpu.assemble(lastProgram(kept), lastPlaces)
	name, args := "last64", [][2]string{{"acc", "DI"}, {"row", "SI"}, {"factors", "R8"}, {"blocks", "CX"}, {"gap", "BX"}}
	if kept {
		name, args = "last64Kept", append(args, [2]string{"kept", "DX"})
	}
	kernel(b, name+cpu.suffix, frame, args)
	fmt.Fprintf(b, "\tADDQ $%d, BX\n\nnext:\n%s", 8*lineBytes, text)
	if kept {
		fmt.Fprintf(b, "\tADDQ $%d, DX\n", cpu.turns*8*vectorBytes)
	}
	fmt.Fprintf(b, "\tADDQ $%d, DI\n\tLEAQ (SI)(BX*%d), SI\n", cpu.turns*8*vectorBytes, cpu.turns)
	again(b, cpu)
	b.WriteString(kernelEnd)
}

// turnKernel makes rows, stride bytes apart, of columns of eight blocks, which begin so many bytes behind src.
func turnKernel(b *bytes.Buffer) {
	text := unspilled(turnProgram(), turnPlaces)
	kernel(b, "turn8", 0, [][2]string{{"dst", "DI"}, {"src", "SI"}, {"blocks", "BX"}, {"stride", "DX"}, {"squares", "CX"}})
	for k := range 8 {
		fmt.Fprintf(b, "\tMOVQ %d(BX), R%d\n\tADDQ SI, R%d\n", 8*k, 8+k, 8+k)
	}
	b.WriteString("\tLEAQ (DX)(DX*2), AX\n\tLEAQ (DI)(DX*4), SI\n")
	fmt.Fprintf(b, "\nnext:\n%s", text)
	for k := range 8 {
		fmt.Fprintf(b, "\tADDQ $%d, R%d\n", vectorBytes, 8+k)
	}
	b.WriteString("\tLEAQ (DI)(DX*8), DI\n\tLEAQ (SI)(DX*8), SI\n\tDECQ CX\n\tJNZ  next\n" + kernelEnd)
}

// loudKernel looks whether some float is 2 or more, infinite or no number: only then some exponent, and with it the sum of all by
// "or", has its highest bit.
func loudKernel(b *bytes.Buffer) {
	kernel(b, "loud", 0, [][2]string{{"src", "SI"}, {"bytes", "CX"}})
	b.WriteString("\tVXORPS Y0, Y0, Y0\n\tVXORPS Y1, Y1, Y1\n\nnext:\n")
	for v := range 4 {
		fmt.Fprintf(b, "\tVORPS %d(SI), Y%d, Y%d\n", v*vectorBytes, v%2, v%2)
	}
	fmt.Fprintf(b, "\tADDQ $%d, SI\n\tSUBQ $%d, CX\n\tJNZ  next\n", 4*vectorBytes, 4*vectorBytes)
	b.WriteString("\tVORPS Y0, Y1, Y0\n\tVPSLLD $1, Y0, Y0\n\tVMOVMSKPS Y0, AX\n\tMOVL AX, signs+16(FP)\n" + kernelEnd)
}

// declarations writes the Go side of the assembly.
func declarations() []byte {
	var b bytes.Buffer
	b.WriteString(header + "//go:build amd64 && !purego\n\npackage dsp\n")
	passDeclarations(&b, avx2)
	declare(&b, "turn8(dst, src *float32, blocks *int, stride, squares int)")
	declare(&b, "loud(src *byte, bytes int) (signs uint32)")
	for _, s := range summedSources {
		declare(&b, "sums"+s.name+"(sums *float32, src *byte, blocks int)")
	}
	declare(&b, "sumsCodes(sums *codeSums, src *byte, blocks int)")
	declare(&b, "gatherRows(dst, src *float32, stride, rows int)")
	declare(&b, "above(pivots, near, values *float32, keys *int16, rows, k int)")
	declare(&b, "below(counts, tops, block, pivots *float32, rows int)")
	declare(&b, "over(marks *uint64, values, limits *float32, n int)")
	passDeclarations(&b, avx512)
	return b.Bytes()
}

func passDeclarations(b *bytes.Buffer, cpu processor) {
	for _, s := range firstSourcesOf(cpu) {
		for _, radix := range radices {
			params := "src *byte"
			if s.name == "Split" {
				params = "re, im *float32"
			}
			declare(b, fmt.Sprintf("first%d%s%s(rows *float32, %s, window, factors *float32, part int)", radix, s.name, cpu.suffix, params))
		}
	}
	declare(b, "middle8"+cpu.suffix+"(row, factors *float32, span, blocks int)")
	declare(b, "last64"+cpu.suffix+"(acc, row, factors *float32, blocks, gap int)")
	declare(b, "last64Kept"+cpu.suffix+"(acc, row, factors *float32, blocks, gap int, kept *float32)")
}

func declare(b *bytes.Buffer, function string) {
	fmt.Fprintf(b, "\n//go:noescape\nfunc %s\n", function)
}
