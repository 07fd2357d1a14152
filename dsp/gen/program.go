package main

import (
	"fmt"
	"slices"
)

// A program is one description of a piece of a transform: straight-line operations on values that are written once. Each
// back end turns it into its own text: golang.go into portable Go on single numbers, avx2.go into assembly on eight at once.
type program struct {
	ops []op
}

// value is the result of an operation, by its index in the program.
type value int

// pair is a complex number.
type pair struct{ re, im value }

// place is the k-th element of an array that a back end knows by name. A back end may split it into parts. Where a loop makes two turns
// at once, it is that of the first or of the second.
type place struct {
	array         string
	k, part, turn int
}

// op is one operation. Every back end must know its code.
type op struct {
	code code
	args []value
	at   place // of load, store and accumulate
	imm  int   // of the codes that only vectors need
}

type code int

const (
	load       code = iota // at; moved next to its use by back ends: no store to the same place may lie between
	store                  // args[0] to at
	accumulate             // args[0]^2 + args[1]^2 is added to at
	add                    // args[0] + args[1]
	sub                    // args[0] - args[1]
	addRoot                // args[0] + args[1] sqrt(1/2)
	subRoot                // args[0] - args[1] sqrt(1/2)
	turnedRe               // args[0] args[2] - args[1] args[3]: real part of a product
	turnedIm               // args[0] args[3] + args[1] args[2]: its imaginary part
	mulAdd                 // args[0] args[1] + args[2]
	subMul                 // args[2] - args[0] args[1]
	squares                // args[0]^2 + args[1]^2

	// Sums that one program after the other adds to: a back end keeps them in place.
	addProduct // args[0] args[1] is added to at
	sum        // at

	// Of vectors only: the instruction's own meaning, see avx2.go.
	mul
	and
	smaller
	larger
	compare
	unpackLow
	unpackHigh
	shuffle
	halves
	quarters
	alternate
	pick // bytes of args[0], as those of args[1] say
	join
	both // 16 bytes of at to each half
	shiftLeft
	shiftSigned
	toFloat
	spread    // one number of at to all lanes
	addPairs  // of args[0], then of args[1]
	storeLow  // half of args[0] to at
	storeHigh // the other half
)

// sums is the array of addProduct and sum.
const sums = "sums"

func (p *program) append(o op) value {
	p.ops = append(p.ops, o)
	return value(len(p.ops) - 1)
}

func (p *program) of(c code, args ...value) value { return p.append(op{code: c, args: args}) }

func (p *program) with(imm int, c code, args ...value) value {
	return p.append(op{code: c, args: args, imm: imm})
}

func (p *program) load(array string, k, part int) value {
	return p.append(op{code: load, at: place{array: array, k: k, part: part}})
}

// constant is one that lies in memory under that name. All of a program's uses are of one value, so that it may stay in a register.
func (p *program) constant(name string) value {
	for i, o := range p.ops {
		if o.code == load && o.at.array == name {
			return value(i)
		}
	}
	return p.load(name, 0, 0)
}

func (p *program) store(v value, array string, k, part int) {
	p.append(op{code: store, args: []value{v}, at: place{array: array, k: k, part: part}})
}

// times is a complex product.
func (p *program) times(x, w pair) pair {
	return pair{p.of(turnedRe, x.re, x.im, w.re, w.im), p.of(turnedIm, x.re, x.im, w.re, w.im)}
}

// sumDifference is x + y and x - y.
func (p *program) sumDifference(x, y pair) (sum, difference pair) {
	sum.re, difference.re = p.of(add, x.re, y.re), p.of(sub, x.re, y.re)
	sum.im, difference.im = p.of(add, x.im, y.im), p.of(sub, x.im, y.im)
	return sum, difference
}

// level is the first of a transform: it makes x_j + x_k and x_j - x_k.
type level func(j, k int) (sum, difference pair)

// plain is that of the numbers themselves.
func (p *program) plain(x func(j int) pair) level {
	return func(j, k int) (sum, difference pair) { return p.sumDifference(x(j), x(k)) }
}

// windowed is that of numbers times a window. The products of x_k are fused with the additions: half of the multiplications cost nothing, and
// additions, which fewer parts of a processor do than fused ones, are saved.
func (p *program) windowed(x func(j int) pair, window func(j int) value) level {
	return func(j, k int) (sum, difference pair) {
		a, v := x(j), window(j)
		a = pair{p.of(mul, a.re, v), p.of(mul, a.im, v)}
		b, w := x(k), window(k)
		sum.re, difference.re = p.of(mulAdd, b.re, w, a.re), p.of(subMul, b.re, w, a.re)
		sum.im, difference.im = p.of(mulAdd, b.im, w, a.im), p.of(subMul, b.im, w, a.im)
		return sum, difference
	}
}

// dft is the discrete Fourier transform of 2, 4 or 8 values, y_k = sum_j x_j exp(-2 pi i j k/n). It asks for each pair x_j, x_(j+n/2) when
// it needs it and hands each y_k out as soon as it is known, so that few values wait at any time.
func (p *program) dft(radix int, x level, out func(k int, y pair)) {
	switch radix {
	case 2:
		sum, difference := x(0, 1)
		out(0, sum)
		out(1, difference)
	case 4:
		p.dft4(x, out)
	case 8:
		p.dft8(x, out)
	default:
		panic(fmt.Sprintf("radix %d", radix))
	}
}

func (p *program) dft4(x level, out func(k int, y pair)) {
	s0, d0 := x(0, 2)
	s1, d1 := x(1, 3)
	y0, y2 := p.sumDifference(s0, s1)
	out(0, y0)
	out(2, y2)
	out(1, pair{p.of(add, d0.re, d1.im), p.of(sub, d0.im, d1.re)})
	out(3, pair{p.of(sub, d0.re, d1.im), p.of(add, d0.im, d1.re)})
}

// dft8 is two transforms of four: of the sums of x_j and x_(j+4), and of their differences turned by the eighth roots of
// unity. Of those two are a rotation by 45 degrees; its factor sqrt(1/2) waits until the last sum, where it costs nothing.
func (p *program) dft8(x level, out func(k int, y pair)) {
	var s, d [4]pair
	for j := range s {
		s[j], d[j] = x(j, j+4)
	}
	p.dft4(p.plain(func(j int) pair { return s[j] }), func(k int, y pair) { out(2*k, y) })
	a := pair{p.of(add, d[1].re, d[1].im), p.of(sub, d[1].im, d[1].re)} // sqrt(2) exp(-i pi/4) d1
	b := pair{p.of(sub, d[3].im, d[3].re), p.of(add, d[3].im, d[3].re)} // conjugate of sqrt(2) exp(-3 i pi/4) d3
	u := pair{p.of(add, a.re, b.re), p.of(sub, a.im, b.im)}
	v := pair{p.of(sub, a.re, b.re), p.of(add, a.im, b.im)}
	e := pair{p.of(add, d[0].re, d[2].im), p.of(sub, d[0].im, d[2].re)} // d0 - i d2
	f := pair{p.of(sub, d[0].re, d[2].im), p.of(add, d[0].im, d[2].re)}
	out(1, pair{p.of(addRoot, e.re, u.re), p.of(addRoot, e.im, u.im)})
	out(5, pair{p.of(subRoot, e.re, u.re), p.of(subRoot, e.im, u.im)})
	out(3, pair{p.of(addRoot, f.re, v.im), p.of(subRoot, f.im, v.re)})
	out(7, pair{p.of(subRoot, f.re, v.im), p.of(addRoot, f.im, v.re)})
}

// pass is the butterfly of a pass: from, the transform, the twiddle factors but for y_0, and to.
func (p *program) pass(radix int, from level, factor func(k int) pair, to func(k int, y pair)) {
	p.dft(radix, from, func(k int, y pair) {
		if k > 0 && factor != nil {
			y = p.times(y, factor(k))
		}
		to(k, y)
	})
}

// uses is where each value is used, in order. A load may be moved up to its last use: it panics where a store to the same
// place lies between.
func (p *program) uses() [][]int {
	uses := make([][]int, len(p.ops))
	for i, o := range p.ops {
		for _, a := range o.args {
			if !slices.Contains(uses[a], i) {
				uses[a] = append(uses[a], i)
			}
		}
	}
	for i, o := range p.ops {
		if o.code != store {
			continue
		}
		for j, l := range p.ops[:i] {
			if l.code == load && l.at == o.at && slices.Max(uses[j]) > i {
				panic(fmt.Sprintf("%v is read after it was written", o.at))
			}
		}
	}
	return uses
}

// apart is how many operations the second of two turns is behind the first: near enough that one has work to do while the other waits, and far
// enough that they do not need the most registers together. Measured on Zen 4.
const apart = 50

// twice is two turns of a loop, operation by operation.
func twice(p *program) *program {
	q := &program{}
	var values [2][]value
	emit := func(turn, i int) {
		if i < 0 || i >= len(p.ops) {
			return
		}
		o := p.ops[i]
		o.at.turn = turn
		o.args = slices.Clone(o.args)
		for k, a := range o.args {
			o.args[k] = values[turn][a]
		}
		values[turn] = append(values[turn], q.append(o))
	}
	for i := range len(p.ops) + apart {
		emit(0, i)
		emit(1, i-apart)
	}
	return q
}
