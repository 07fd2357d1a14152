package main

import (
	"bytes"
	"fmt"
)

// passes writes the portable passes of the transform. Those of the radix-8 spans that most transforms have are unrolled
// for a span known at compile time: the compiler then needs two base registers and no bounds checks.
func passes() []byte {
	var b bytes.Buffer
	b.WriteString(header)
	b.WriteString("package dsp\n\n")
	b.WriteString("const halfSqrt2 = float32(0.70710678118654752440)\n")
	for _, span := range []int{4096, 512, 64} {
		spanPass(&b, span)
	}
	for _, radix := range []int{2, 4, 8} {
		anyPass(&b, radix)
	}
	lastPass(&b, "pass8x8", "is the last pass of a transform: butterflies without twiddle factors.", false)
	lastPass(&b, "pass8x8Power", "is the last pass, adding |X|^2 to acc instead of storing X.", true)
	return b.Bytes()
}

// inPlace is a pass over the arrays r and m with the factors t.
func inPlace(radix int) *program {
	p := &program{}
	p.pass(radix, p.plain(func(k int) pair { return pair{p.load("r", k, 0), p.load("m", k, 0)} }),
		func(k int) pair { return pair{p.load("t", 2*k-2, 0), p.load("t", 2*k-1, 0)} },
		func(k int, y pair) {
			p.store(y.re, "r", k, 0)
			p.store(y.im, "m", k, 0)
		})
	return p
}

// spanPass writes one pass over blocks of span values: y_k of the butterfly at j goes to j + k span/8, multiplied by
// exp(-2 pi i j k/span).
func spanPass(b *bytes.Buffer, span int) {
	q := span / 8
	fmt.Fprintf(b, "\n// pass8x%d splits blocks of %d into eight of %d each.\n", span, span, q)
	fmt.Fprintf(b, "func pass8x%d(re, im []float32, twiddles *[%d][14]float32) {\n", span, q)
	fmt.Fprintf(b, "for len(re) >= %d && len(im) >= %d {\n", span, span)
	fmt.Fprintf(b, "r, m := (*[%d]float32)(re), (*[%d]float32)(im)\n", span, span)
	fmt.Fprintf(b, "for j := range %d {\nt := &twiddles[j]\n", q)
	b.WriteString(goText(inPlace(8), func(p place) string {
		if p.array == "t" {
			return fmt.Sprintf("t[%d]", p.k)
		}
		return fmt.Sprintf("%s[j+%d]", p.array, p.k*q)
	}))
	fmt.Fprintf(b, "}\nre, im = re[%d:], im[%d:]\n}\n}\n", span, span)
}

// anyPass writes the same pass for a span known only at run time.
func anyPass(b *bytes.Buffer, radix int) {
	fmt.Fprintf(b, "\n// pass%d splits blocks of %d len(twiddles) into %d.\n", radix, radix, radix)
	fmt.Fprintf(b, "func pass%d(re, im []float32, twiddles [][%d]float32) {\nq := len(twiddles)\n", radix, 2*radix-2)
	fmt.Fprintf(b, "for len(re) >= %d*q && len(im) >= %d*q {\n", radix, radix)
	for k := range radix {
		fmt.Fprintf(b, "r%d, m%d := re[%d*q:][:q], im[%d*q:][:q]\n", k, k, k, k)
	}
	b.WriteString("for j := range twiddles {\nt := &twiddles[j]\n")
	b.WriteString(goText(inPlace(radix), func(p place) string {
		if p.array == "t" {
			return fmt.Sprintf("t[%d]", p.k)
		}
		return fmt.Sprintf("%s%d[j]", p.array, p.k)
	}))
	fmt.Fprintf(b, "}\nre, im = re[%d*q:], im[%d*q:]\n}\n}\n", radix, radix)
}

func lastPass(b *bytes.Buffer, name, comment string, power bool) {
	params, cond, step := "re, im []float32", "len(re) >= 8 && len(im) >= 8", "re, im = re[8:], im[8:]\n"
	p := &program{}
	to := func(k int, y pair) {
		p.store(y.re, "r", k, 0)
		p.store(y.im, "m", k, 0)
	}
	if power {
		params, cond, step = "acc, "+params, cond+" && len(acc) >= 8", "acc, re, im = acc[8:], re[8:], im[8:]\n"
		to = func(k int, y pair) {
			p.append(op{code: accumulate, args: []value{y.re, y.im}, at: place{array: "a", k: k}})
		}
	}
	p.pass(8, p.plain(func(k int) pair { return pair{p.load("r", k, 0), p.load("m", k, 0)} }), nil, to)
	fmt.Fprintf(b, "\n// %s %s\nfunc %s(%s) {\nfor %s {\n", name, comment, name, params, cond)
	b.WriteString("r, m := (*[8]float32)(re), (*[8]float32)(im)\n")
	if power {
		b.WriteString("a := (*[8]float32)(acc)\n")
	}
	b.WriteString(goText(p, func(p place) string { return fmt.Sprintf("%s[%d]", p.array, p.k) }))
	b.WriteString(step + "}\n}\n")
}
