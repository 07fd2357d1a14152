package main

import (
	"bytes"
	"fmt"
	"slices"
)

// The kernels of a channeliser work on real and imaginary parts apart. mix turns raw samples into floats and shifts them in
// frequency, eight at a time. halfBand is one on numbers whose even and odd ones were parted before: halveVectors outputs
// of eight at a time, tap by tap. dotTaps is any other decimating filter: four outputs at a time, eight taps by eight.

const (
	halveVectors = 4 // outputs of halfBand at a time, in vectors
	dotOutputs   = 4 // outputs of dotTaps at a time
)

// mixProgram reads eight samples and turns them by the oscillator's phasors, which are those of a table times a common one.
func mixProgram(s source) *program {
	p := &program{}
	x := s.read(p, 0)
	turn, base := pair{p.load("turnRe", 0, 0), p.load("turnIm", 0, 0)}, pair{p.load("base", 0, 0), p.load("base", 0, 1)}
	y := p.times(x, p.times(turn, base))
	p.store(y.re, "outRe", 0, 0)
	p.store(y.im, "outIm", 0, 0)
	return p
}

// partProgram parts the even of 16 numbers from the odd.
func partProgram() *program {
	p := &program{}
	a, b := p.load("src", 0, 0), p.load("src", 0, 1)
	p.store(p.with(0xd8, quarters, p.with(0x88, shuffle, a, b)), "even", 0, 0)
	p.store(p.with(0xd8, quarters, p.with(0xdd, shuffle, a, b)), "odd", 0, 0)
	return p
}

// joinProgram makes eight complex numbers of their parts.
func joinProgram() *program {
	p := &program{}
	re, im := p.load("re", 0, 0), p.load("im", 0, 0)
	low, high := p.of(unpackLow, re, im), p.of(unpackHigh, re, im)
	p.store(p.with(0x20, halves, low, high), "dst", 0, 0)
	p.store(p.with(0x31, halves, low, high), "dst", 0, 1)
	return p
}

// tapProgram adds the product of a tap and the numbers of an array to the sums.
func tapProgram(array string) *program {
	p := &program{}
	t := p.append(op{code: spread, at: place{array: "tap", k: 0}})
	for k := range halveVectors {
		p.append(op{code: addProduct, args: []value{t, p.load(array, k, 0)}, at: place{array: sums, k: k}})
	}
	return p
}

// dotProgram adds the products of eight taps and the numbers of each output's window to the sums.
func dotProgram() *program {
	p := &program{}
	t := p.load("tap", 0, 0)
	for part, array := range []string{"re", "im"} {
		for k := range dotOutputs {
			p.append(op{code: addProduct, args: []value{t, p.load(array, k, 0)}, at: place{array: sums, k: part*dotOutputs + k}})
		}
	}
	return p
}

// dotEnd adds up the lanes of the sums, and stores the outputs' real parts and imaginary parts.
func dotEnd() *program {
	p := &program{}
	total := func(first int) value {
		s := func(k int) value { return p.append(op{code: sum, at: place{array: sums, k: first + k}}) }
		return p.of(addPairs, p.of(addPairs, s(0), s(1)), p.of(addPairs, s(2), s(3)))
	}
	re, im := total(0), total(dotOutputs)
	all := p.of(add, p.with(0x20, halves, re, im), p.with(0x31, halves, re, im))
	p.append(op{code: storeLow, args: []value{all}, at: place{array: "outRe", k: 0}})
	p.append(op{code: storeHigh, args: []value{all}, at: place{array: "outIm", k: 0}})
	return p
}

// channelPlaces are operands in the registers that the kernels below have. CX counts the samples, or numbers, that are done.
func channelPlaces(operands map[string]string) func(place) string {
	return func(p place) string {
		if f, ok := fixed(p); ok {
			return f
		}
		return fmt.Sprintf("%d%s", (p.k+p.part)*vectorBytes, operands[p.array])
	}
}

// channelKernels writes the assembly.
func channelKernels() []byte {
	var b bytes.Buffer
	kernelFile(&b)
	for _, s := range sources {
		mixKernel(&b, s)
	}
	eachKernel(&b, "evenOdd", partProgram(), [][2]string{{"even", "DI"}, {"odd", "DX"}, {"src", "SI"}, {"groups", "AX"}}, map[string]string{
		"src": "(SI)(CX*8)", "even": "(DI)(CX*4)", "odd": "(DX)(CX*4)",
	})
	eachKernel(&b, "interleave", joinProgram(), [][2]string{{"dst", "DI"}, {"re", "SI"}, {"im", "DX"}, {"groups", "AX"}}, map[string]string{
		"dst": "(DI)(CX*8)", "re": "(SI)(CX*4)", "im": "(DX)(CX*4)",
	})
	halveKernel(&b)
	dotsKernel(&b)
	return b.Bytes()
}

// mixKernel reads src, or re and im, in groups of eight samples.
func mixKernel(b *bytes.Buffer, s source) {
	args := [][2]string{{"outRe", "DI"}, {"outIm", "DX"}, {"src", "SI"}, {"turnRe", "R8"}, {"turnIm", "R9"}, {"base", "R10"}, {"groups", "AX"}}
	if s.name == "Split" {
		args = slices.Replace(args, 2, 3, [2]string{"re", "SI"}, [2]string{"im", "R11"})
	}
	eachKernel(b, "mix"+s.name, mixProgram(s), args, map[string]string{
		"src": fmt.Sprintf("(SI)(CX*%d)", s.bytes), "re": "(SI)(CX*4)", "im": "(R11)(CX*4)",
		"turnRe": "(R8)(CX*4)", "turnIm": "(R9)(CX*4)", "base": "(R10)", "outRe": "(DI)(CX*4)", "outIm": "(DX)(CX*4)",
	})
}

// eachKernel does the program for each of the groups in AX. CX counts eight for each.
func eachKernel(b *bytes.Buffer, name string, p *program, args [][2]string, operands map[string]string) {
	text, frame := assemble(p, channelPlaces(operands))
	kernel(b, name, frame, args)
	fmt.Fprintf(b, "\tXORQ CX, CX\n\nnext:\n%s\tADDQ $8, CX\n\tDECQ AX\n\tJNZ  next\n", text)
	b.WriteString(kernelEnd)
}

// halveKernel gives out[j] = taps[0] odd[j] + the sum over m < count of taps[1+m] even[j+m].
func halveKernel(b *bytes.Buffer) {
	places := channelPlaces(map[string]string{"even": "(R10)", "odd": "(DX)", "tap": "(R9)"})
	middle := unspilled(tapProgram("odd"), places)
	side := unspilled(tapProgram("even"), places)
	kernel(b, "halfBand", 0, [][2]string{{"out", "DI"}, {"even", "SI"}, {"odd", "DX"}, {"taps", "R8"}, {"count", "BX"}, {"groups", "AX"}})
	b.WriteString("\ngroup:\n\tMOVQ R8, R9\n\tMOVQ SI, R10\n\tMOVQ BX, CX\n")
	clearSums(b, halveVectors)
	fmt.Fprintf(b, "%s\ntap:\n\tADDQ $4, R9\n%s\tADDQ $4, R10\n\tDECQ CX\n\tJNZ  tap\n", middle, side)
	for k := range halveVectors {
		fmt.Fprintf(b, "\tVMOVUPS %s, %d(DI)\n", name(k), k*vectorBytes)
	}
	for _, r := range []string{"SI", "DX", "DI"} {
		fmt.Fprintf(b, "\tADDQ $%d, %s\n", halveVectors*vectorBytes, r)
	}
	b.WriteString("\tDECQ AX\n\tJNZ  group\n" + kernelEnd)
}

// dotsKernel gives four outputs a group, step bytes apart: the products of 8 lines taps and as many numbers.
func dotsKernel(b *bytes.Buffer) {
	offsets := [dotOutputs]string{"", "(R9*1)", "(R9*2)", "(R11*1)"}
	operands := channelPlaces(map[string]string{"tap": "(R13)", "outRe": "(DI)", "outIm": "(DX)"})
	places := func(p place) string {
		switch p.array {
		case "re":
			return "(R10)" + offsets[p.k]
		case "im":
			return "(R12)" + offsets[p.k]
		}
		return operands(p)
	}
	body := unspilled(dotProgram(), places)
	end := unspilled(dotEnd(), places)
	kernel(b, "dotTaps", 0, [][2]string{
		{"outRe", "DI"}, {"outIm", "DX"}, {"re", "SI"}, {"im", "CX"}, {"taps", "R8"}, {"lines", "BX"}, {"step", "R9"}, {"groups", "AX"},
	})
	b.WriteString("\tLEAQ (R9)(R9*2), R11\n\ngroup:\n\tMOVQ SI, R10\n\tMOVQ CX, R12\n\tMOVQ R8, R13\n\tMOVQ BX, R14\n")
	clearSums(b, 2*dotOutputs)
	fmt.Fprintf(b, "\nline:\n%s", body)
	for _, r := range []string{"R10", "R12", "R13"} {
		fmt.Fprintf(b, "\tADDQ $%d, %s\n", vectorBytes, r)
	}
	fmt.Fprintf(b, "\tDECQ R14\n\tJNZ  line\n%s\tLEAQ (SI)(R9*4), SI\n\tLEAQ (CX)(R9*4), CX\n\tADDQ $16, DI\n\tADDQ $16, DX\n\tDECQ AX\n\tJNZ  group\n", end)
	b.WriteString(kernelEnd)
}

func clearSums(b *bytes.Buffer, n int) {
	for k := range n {
		fmt.Fprintf(b, "\tVXORPS %s, %s, %s\n", name(k), name(k), name(k))
	}
}

// channelDeclarations writes the Go side of the assembly.
func channelDeclarations() []byte {
	var b bytes.Buffer
	b.WriteString(header + "//go:build amd64 && !purego\n\npackage dsp\n")
	declare := func(signature string) { fmt.Fprintf(&b, "\n//go:noescape\nfunc %s\n", signature) }
	for _, s := range sources {
		params := "src *byte"
		if s.name == "Split" {
			params = "re, im *float32"
		}
		declare(fmt.Sprintf("mix%s(outRe, outIm *float32, %s, turnRe, turnIm, base *float32, groups int)", s.name, params))
	}
	declare("evenOdd(even, odd, src *float32, groups int)")
	declare("interleave(dst *complex64, re, im *float32, groups int)")
	declare("halfBand(out, even, odd, taps *float32, count, groups int)")
	declare("dotTaps(outRe, outIm, re, im, taps *float32, lines, step, groups int)")
	return b.Bytes()
}
