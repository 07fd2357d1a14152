package main

import (
	"bytes"
	"fmt"
)

// The kernels that make a few numbers of many: each lane has sums of its own, which the caller adds up.

const (
	groups      = 4  // of eight samples that the sums take at once: each has a sum of squares, so that none waits for another
	rowsAtOnce  = 4  // that are compared at once
	columnLanes = 16 // columns that are: a line of the cache
)

// sumsProgram adds up squares, I and Q, and keeps the highest and the lowest of both.
func sumsProgram(s source) *program {
	p := &program{}
	var re, im, high, low value
	for g := range groups {
		x := s.read(p, g)
		p.append(op{code: accumulate, args: []value{x.re, x.im}, at: place{array: "totals", k: g}})
		most, least := p.of(larger, x.re, x.im), p.of(smaller, x.re, x.im)
		if g == 0 {
			re, im, high, low = x.re, x.im, most, least
			continue
		}
		re, im = p.of(add, re, x.re), p.of(add, im, x.im)
		high, low = p.of(larger, high, most), p.of(smaller, low, least)
	}
	for i, r := range []struct {
		c code
		v value
	}{{add, re}, {add, im}, {larger, high}, {smaller, low}} {
		p.store(p.of(r.c, r.v, p.load("totals", groups+i, 0)), "totals", groups+i, 0)
	}
	return p
}

// sumsKernel is sumsProgram on blocks of samples.
func sumsKernel(b *bytes.Buffer, s source) {
	text, frame := assemble(sumsProgram(s), func(p place) string {
		switch f, ok := fixed(p); {
		case ok:
			return f
		case p.array == "totals":
			return fmt.Sprintf("%d(DI)", p.k*vectorBytes)
		}
		return fmt.Sprintf("%d(SI)", p.k*lanes*s.bytes+p.part*vectorBytes)
	})
	kernel(b, "sums"+s.name, frame, [][2]string{{"sums", "DI"}, {"src", "SI"}, {"blocks", "CX"}})
	fmt.Fprintf(b, "\nnext:\n%s", text)
	fmt.Fprintf(b, "\tADDQ $%d, SI\n\tDECQ CX\n\tJNZ  next\n", groups*lanes*s.bytes)
	b.WriteString(kernelEnd)
}

// codesKernel does it for unsigned codes of 8 bits, in whole numbers. It sums the squares of the codes themselves, the codes of I and Q together, and those
// of Q: the rest is arithmetic. Of the highest and of the lowest it leaves eight.
func codesKernel(b *bytes.Buffer) {
	kernel(b, "sumsCodes", 0, [][2]string{{"sums", "DI"}, {"src", "SI"}, {"blocks", "CX"}})
	b.WriteString("\tVPXOR Y0, Y0, Y0\n\tVPXOR Y1, Y1, Y1\n\tVPXOR Y2, Y2, Y2\n\tVPXOR Y3, Y3, Y3\n")
	b.WriteString("\tVPXOR Y4, Y4, Y4\n\tVPCMPEQB Y5, Y5, Y5\n\tVPXOR Y6, Y6, Y6\n\nnext:\n")
	b.WriteString("\tVMOVDQU (SI), Y7\n\tVPMAXUB Y7, Y4, Y4\n\tVPMINUB Y7, Y5, Y5\n")
	b.WriteString("\tVPSADBW Y6, Y7, Y8\n\tVPADDQ Y8, Y2, Y2\n\tVPSRLW $8, Y7, Y7\n\tVPSADBW Y6, Y7, Y7\n\tVPADDQ Y7, Y3, Y3\n")
	for half := range 2 {
		fmt.Fprintf(b, "\tVPMOVZXBW %d(SI), Y7\n\tVPMADDWD Y7, Y7, Y7\n\tVPADDD Y7, Y%d, Y%d\n", half*vectorBytes/2, half, half)
	}
	fmt.Fprintf(b, "\tADDQ $%d, SI\n\tDECQ CX\n\tJNZ  next\n\tVPADDD Y1, Y0, Y0\n", vectorBytes)
	for at, r := range []int{0, 2, 3} {
		fmt.Fprintf(b, "\tVMOVDQU Y%d, %d(DI)\n", r, at*vectorBytes)
	}
	for at, s := range []struct {
		register    int
		instruction string
	}{{4, "VPMAXUB"}, {5, "VPMINUB"}} {
		fmt.Fprintf(b, "\tVEXTRACTI128 $1, Y%d, X7\n\t%s X7, X%[1]d, X%[1]d\n", s.register, s.instruction)
		fmt.Fprintf(b, "\tVPSRLDQ $8, X%d, X7\n\t%s X7, X%[1]d, X%[1]d\n\tVMOVQ X%[1]d, %[3]d(DI)\n", s.register, s.instruction, 3*vectorBytes+at*8)
	}
	b.WriteString(kernelEnd)
}

// How fine and how far aboveKernel looks, in bits of a float: neighbours of some hundred averages of four frames lie some 2^18 apart.
const (
	keyShift = 11
	keySteps = 13 // 3 dB on each side
)

// aboveKernel looks, in each column, for a pivot just above the value at index k of the sorted ones. Bits of floats that are not negative are ordered
// as the floats are: of their distance from a value near by it makes keys of sixteen bits, and of these it finds the value's bit by bit. Where that is not near
// enough, or other values have the same key, the pivot is a wrong one: who counts what is under it knows.
func aboveKernel(b *bytes.Buffer) {
	kernel(b, "above", 0, [][2]string{{"pivots", "DI"}, {"near", "DX"}, {"values", "SI"}, {"keys", "R8"}, {"rows", "CX"}, {"k", "AX"}})
	b.WriteString("\tVMOVDQU (DX), Y0\n\tVMOVDQU 32(DX), Y1\n\tMOVQ R8, R9\n\tMOVQ CX, R10\n\nkeys:\n")
	for half := range 2 {
		fmt.Fprintf(b, "\tVMOVDQU %d(SI), Y%d\n\tVPSUBD Y%d, Y%[2]d, Y%[2]d\n\tVPSRAD $%[4]d, Y%[2]d, Y%[2]d\n", half*vectorBytes, 2+half, half, keyShift)
	}
	b.WriteString("\tVPACKSSDW Y3, Y2, Y2\n\tVMOVDQU Y2, (R9)\n")
	fmt.Fprintf(b, "\tADDQ $%d, SI\n\tADDQ $%d, R9\n\tDECQ R10\n\tJNZ  keys\n\n", columnLanes*4, vectorBytes)
	b.WriteString("\tNOTL AX\n\tVMOVD AX, X2\n\tVPBROADCASTW X2, Y2\n") // -k-1
	fmt.Fprintf(b, "\tMOVL $%d, AX\n\tVMOVD AX, X3\n\tVPBROADCASTW X3, Y3\n", 1<<(keySteps-1))
	b.WriteString("\tVPXOR Y4, Y4, Y4\n\tVPSUBW Y3, Y4, Y4\n") // the lowest key
	fmt.Fprintf(b, "\tMOVQ $%d, BX\n\nstep:\n", keySteps)
	b.WriteString("\tVPADDW Y3, Y4, Y5\n\tVPXOR Y6, Y6, Y6\n\tVPXOR Y7, Y7, Y7\n\tMOVQ R8, R9\n\tMOVQ CX, R10\n\ncount:\n")
	for r := range rowsAtOnce {
		fmt.Fprintf(b, "\tVPCMPGTW %d(R9), Y5, Y%d\n\tVPADDW Y%[2]d, Y%[3]d, Y%[3]d\n", r*vectorBytes, 8+r, 6+r%2)
	}
	fmt.Fprintf(b, "\tADDQ $%d, R9\n\tSUBQ $%d, R10\n\tJNZ  count\n\n", rowsAtOnce*vectorBytes, rowsAtOnce)
	b.WriteString("\tVPADDW Y7, Y6, Y6\n\tVPCMPGTW Y2, Y6, Y6\n\tVPAND Y3, Y6, Y6\n\tVPADDW Y6, Y4, Y4\n\tVPSRLW $1, Y3, Y3\n\tDECQ BX\n\tJNZ  step\n\n")
	b.WriteString("\tVPCMPEQD Y5, Y5, Y5\n")
	for half, unpack := range []string{"VPUNPCKLWD", "VPUNPCKHWD"} {
		fmt.Fprintf(b, "\t%s Y4, Y4, Y6\n\tVPSRAD $16, Y6, Y6\n\tVPSUBD Y5, Y6, Y6\n\tVPSLLD $%d, Y6, Y6\n", unpack, keyShift)
		fmt.Fprintf(b, "\tVPADDD Y%d, Y6, Y6\n\tVMOVDQU Y6, %d(DI)\n", half, half*vectorBytes)
	}
	b.WriteString(kernelEnd)
}

// belowProgram counts, in each column, the values under that column's pivot, and keeps the highest of them.
func belowProgram() *program {
	p := &program{}
	for half := range columnLanes / lanes {
		pivot := p.load("pivots", half, 0)
		var count, top value
		for r := range rowsAtOnce {
			v := p.load("block", r, half)
			under := p.with(lessThan, compare, v, pivot)
			one, value := p.of(and, under, p.constant("one")), p.of(and, under, v)
			if r == 0 {
				count, top = one, value
				continue
			}
			count, top = p.of(add, count, one), p.of(larger, top, value)
		}
		p.store(p.of(add, count, p.load("counts", half, 0)), "counts", half, 0)
		p.store(p.of(larger, top, p.load("tops", half, 0)), "tops", half, 0)
	}
	return p
}

// belowKernel is belowProgram on a block of rows.
func belowKernel(b *bytes.Buffer) {
	bases := map[string]string{"counts": "DI", "tops": "DX", "pivots": "R8"}
	text, frame := assemble(belowProgram(), func(p place) string {
		if f, ok := fixed(p); ok {
			return f
		}
		if base, ok := bases[p.array]; ok {
			return fmt.Sprintf("%d(%s)", p.k*vectorBytes, base)
		}
		return fmt.Sprintf("%d(SI)", p.k*columnLanes*4+p.part*vectorBytes)
	})
	kernel(b, "below", frame, [][2]string{{"counts", "DI"}, {"tops", "DX"}, {"block", "SI"}, {"pivots", "R8"}, {"rows", "CX"}})
	fmt.Fprintf(b, "\nnext:\n%s", text)
	fmt.Fprintf(b, "\tADDQ $%d, SI\n\tSUBQ $%d, CX\n\tJNZ  next\n", rowsAtOnce*columnLanes*4, rowsAtOnce)
	b.WriteString(kernelEnd)
}

// gatherKernel copies a line of each row, and asks for the line behind it, which is wanted next: rows are so far apart that the
// processor does not see it coming.
func gatherKernel(b *bytes.Buffer) {
	kernel(b, "gatherRows", 0, [][2]string{{"dst", "DI"}, {"src", "SI"}, {"stride", "DX"}, {"rows", "CX"}})
	b.WriteString("\nnext:\n")
	for v := range columnLanes / lanes {
		fmt.Fprintf(b, "\tVMOVUPS %d(SI), Y%d\n\tVMOVUPS Y%d, %d(DI)\n", v*vectorBytes, v, v, v*vectorBytes)
	}
	fmt.Fprintf(b, "\tPREFETCHT0 %d(SI)\n\tADDQ DX, SI\n\tADDQ $%d, DI\n\tDECQ CX\n\tJNZ  next\n", columnLanes*4, columnLanes*4)
	b.WriteString(kernelEnd)
}

// overKernel marks the values that are not under their limits, a bit each.
func overKernel(b *bytes.Buffer) {
	kernel(b, "over", 0, [][2]string{{"marks", "DI"}, {"values", "SI"}, {"limits", "DX"}, {"n", "CX"}})
	b.WriteString("\nnext:\n")
	for v := range 8 {
		fmt.Fprintf(b, "\tVMOVUPS %d(SI), Y%d\n\tVCMPPS $%d, %d(DX), Y%d, Y%d\n", v*vectorBytes, v, notLessThan, v*vectorBytes, v, v)
		fmt.Fprintf(b, "\tVMOVMSKPS Y%d, AX\n\tMOVB AX, %d(DI)\n", v, v)
	}
	fmt.Fprintf(b, "\tADDQ $8, DI\n\tADDQ $%d, SI\n\tADDQ $%d, DX\n\tSUBQ $%d, CX\n\tJNZ  next\n", 8*vectorBytes, 8*vectorBytes, 8*lanes)
	b.WriteString(kernelEnd)
}
