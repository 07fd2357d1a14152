package main

import (
	"bytes"
	"fmt"
	"strings"
)

// passes writes the radix-8 passes of the transform, unrolled for spans known at compile time, from one description
// of the butterfly. With a constant span the compiler needs two base registers and no bounds checks.
func passes() []byte {
	var b bytes.Buffer
	b.WriteString(header)
	b.WriteString("package dsp\n\n")
	b.WriteString("const halfSqrt2 = float32(0.70710678118654752440)\n")
	for _, span := range []int{4096, 512, 64} {
		spanPass(&b, span)
	}
	anyPass(&b)
	lastPass(&b, "pass8x8", "is the last pass of a transform: butterflies without twiddle factors.", "re, im []float32",
		func(k int) string { return fmt.Sprintf("r[%d], m[%d] = y%dr, y%di\n", k, k, k, k) }, "")
	lastPass(&b, "pass8x8Power", "is the last pass, adding |X|^2 to acc instead of storing X.", "acc, re, im []float32",
		func(k int) string { return fmt.Sprintf("a[%d] += y%dr*y%dr + y%di*y%di\n", k, k, k, k, k) }, "acc")
	return b.Bytes()
}

// spanPass writes one pass over blocks of span values: y_k of the butterfly at j goes to j + k span/8, multiplied by
// exp(-2 pi i j k/span).
func spanPass(b *bytes.Buffer, span int) {
	q := span / 8
	fmt.Fprintf(b, "\n// pass8x%d splits blocks of %d into eight of %d each.\n", span, span, q)
	fmt.Fprintf(b, "func pass8x%d(re, im []float32, twiddles *[%d][14]float32) {\n", span, q)
	fmt.Fprintf(b, "for len(re) >= %d && len(im) >= %d {\n", span, span)
	fmt.Fprintf(b, "r, m := (*[%d]float32)(re), (*[%d]float32)(im)\n", span, span)
	fmt.Fprintf(b, "for j := range %d {\n", q)
	b.WriteString("t := &twiddles[j]\n")
	butterfly(b, func(k int) (string, string) {
		at := at("j", k*q)
		return "r[" + at + "]", "m[" + at + "]"
	}, func(k int) string {
		at := at("j", k*q)
		return turned("r["+at+"], m["+at+"]", k)
	})
	fmt.Fprintf(b, "}\nre, im = re[%d:], im[%d:]\n}\n}\n", span, span)
}

// anyPass writes the same pass for a span known only at run time.
func anyPass(b *bytes.Buffer) {
	b.WriteString(`
// pass8 splits blocks of 8 len(twiddles) into eight.
func pass8(re, im []float32, twiddles [][14]float32) {
q := len(twiddles)
for len(re) >= 8*q && len(im) >= 8*q {
`)
	for k := range 8 {
		fmt.Fprintf(b, "r%d, m%d := re[%d*q:][:q], im[%d*q:][:q]\n", k, k, k, k)
	}
	b.WriteString("for j := range twiddles {\nt := &twiddles[j]\n")
	butterfly(b, func(k int) (string, string) {
		return fmt.Sprintf("r%d[j]", k), fmt.Sprintf("m%d[j]", k)
	}, func(k int) string {
		return turned(fmt.Sprintf("r%d[j], m%d[j]", k, k), k)
	})
	b.WriteString("}\nre, im = re[8*q:], im[8*q:]\n}\n}\n")
}

// turned assigns y_k times its twiddle factor.
func turned(to string, k int) string {
	if k == 0 {
		return to + " = y0r, y0i\n"
	}
	return fmt.Sprintf("%s = y%dr*t[%d]-y%di*t[%d], y%dr*t[%d]+y%di*t[%d]\n",
		to, k, 2*k-2, k, 2*k-1, k, 2*k-1, k, 2*k-2)
}

func lastPass(b *bytes.Buffer, name, comment, params string, store func(k int) string, acc string) {
	fmt.Fprintf(b, "\n// %s %s\nfunc %s(%s) {\n", name, comment, name, params)
	cond, step, first := "len(re) >= 8 && len(im) >= 8", "re, im = re[8:], im[8:]\n", ""
	if acc != "" {
		cond += " && len(acc) >= 8"
		step = "acc, re, im = acc[8:], re[8:], im[8:]\n"
		first = "a := (*[8]float32)(acc)\n"
	}
	fmt.Fprintf(b, "for %s {\nr, m := (*[8]float32)(re), (*[8]float32)(im)\n%s", cond, first)
	butterfly(b, func(k int) (string, string) { return fmt.Sprintf("r[%d]", k), fmt.Sprintf("m[%d]", k) }, store)
	b.WriteString(step + "}\n}\n")
}

func at(base string, offset int) string {
	if offset == 0 {
		return base
	}
	return fmt.Sprintf("%s+%d", base, offset)
}

// butterfly writes the discrete Fourier transform of eight values: sums and differences of x_k and x_(k+4), then two
// transforms of four. The differences are turned by the eighth roots of unity.
func butterfly(b *bytes.Buffer, load func(k int) (re, im string), store func(k int) string) {
	for k := range 4 {
		ar, ai := load(k)
		br, bi := load(k + 4)
		fmt.Fprintf(b, "s%dr, d%dr := %s+%s, %s-%s\n", k, k, ar, br, ar, br)
		fmt.Fprintf(b, "s%di, d%di := %s+%s, %s-%s\n", k, k, ai, bi, ai, bi)
	}
	four := func(first int, x [4]string) { // outputs first, first+2, first+4, first+6
		const text = `pNr, qNr := Ar+Cr, Ar-Cr
pNi, qNi := Ai+Ci, Ai-Ci
uNr, vNr := Br+Dr, Br-Dr
uNi, vNi := Bi+Di, Bi-Di
y0r, y0i := pNr+uNr, pNi+uNi
y4r, y4i := pNr-uNr, pNi-uNi
y2r, y2i := qNr+vNi, qNi-vNr
y6r, y6i := qNr-vNi, qNi+vNr
`
		names := []string{"A", x[0], "B", x[1], "C", x[2], "D", x[3], "N", fmt.Sprint(first)}
		for k := 0; k < 8; k += 2 {
			names = append(names, fmt.Sprintf("y%d", k), fmt.Sprintf("y%d", k+first))
		}
		b.WriteString(strings.NewReplacer(names...).Replace(text))
	}
	four(0, [4]string{"s0", "s1", "s2", "s3"})
	for _, k := range []int{0, 2, 4, 6} {
		b.WriteString(store(k))
	}
	b.WriteString(`t1r, t1i := (d1r+d1i)*halfSqrt2, (d1i-d1r)*halfSqrt2
t2r, t2i := d2i, -d2r
t3r, t3i := (d3i-d3r)*halfSqrt2, -(d3i+d3r)*halfSqrt2
`)
	four(1, [4]string{"d0", "t1", "t2", "t3"})
	for _, k := range []int{1, 3, 5, 7} {
		b.WriteString(store(k))
	}
}
