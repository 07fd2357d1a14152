package main

import (
	"bytes"
	"fmt"
	"math"
	"math/big"
)

const precision = 400 // bits: the alternating sum cancels most of them at 64 averages

var (
	tableAverages = []int{1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64}
	tableDecades  = 12
	half          = big.NewFloat(0.5).SetPrec(precision)
	piDigits      = "3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482534211706798214808651328230664709384460955058223172535940812848111745028410270193852110555964462294895493038196"
)

// thresholds writes the exact detection thresholds for means of overlapped Hann frames, in decibels over the mean.
func thresholds() []byte {
	var b bytes.Buffer
	b.WriteString(header)
	b.WriteString("package dsp\n\n")
	b.WriteString("// thresholdAverages are the numbers of averages with a row in thresholdDB.\n")
	fmt.Fprintf(&b, "var thresholdAverages = [...]int{")
	for i, k := range tableAverages {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprint(&b, k)
	}
	b.WriteString("}\n\n")
	fmt.Fprintf(&b, "// thresholdDB[i][d-1] is exceeded by noise alone with probability 10^-d, in dB over its mean.\n")
	fmt.Fprintf(&b, "var thresholdDB = [...][%d]float64{\n", tableDecades)
	for _, k := range tableAverages {
		b.WriteString("{")
		for d := 1; d <= tableDecades; d++ {
			if d > 1 {
				b.WriteString(", ")
			}
			fmt.Fprintf(&b, "%.4f", thresholdDB(k, math.Pow(10, -float64(d))))
		}
		fmt.Fprintf(&b, "}, // %d\n", k)
	}
	b.WriteString("}\n")
	return b.Bytes()
}

// thresholdDB finds the ratio to the mean that k overlapped averages of noise exceed with probability pfa. The
// logarithm of the tail is almost straight, so that the secant method needs few steps.
func thresholdDB(k int, pfa float64) float64 {
	tail, want := newTail(k), math.Log(pfa)
	x0, x1 := 1.0, 1.5
	y0, y1 := tail.logAbove(x0)-want, tail.logAbove(x1)-want
	for math.Abs(x1-x0) > 1e-9 && y1 != y0 {
		x0, x1 = x1, x1-y1*(x1-x0)/(y1-y0)
		y0, y1 = y1, tail.logAbove(x1)-want
	}
	return 10 * math.Log10(x1)
}

// tail is the distribution of the mean of k Hann frames at half overlap on white noise. Neighbouring frames have
// coherence 1/6, so the mean is a sum of independent exponentials whose means are the eigenvalues of a tridiagonal
// matrix, 1 + cos(pi i/(k+1))/3, over k. Its upper tail is a sum of exponentials with alternating weights.
type tail struct {
	k              int
	lambda, weight []*big.Float
}

func newTail(k int) *tail {
	t := &tail{k: k}
	pi, _, err := big.ParseFloat(piDigits, 10, precision, big.ToNearestEven)
	if err != nil {
		panic(err)
	}
	for i := 1; i <= k; i++ {
		angle := new(big.Float).SetPrec(precision).Mul(pi, big.NewFloat(float64(i)))
		angle.Quo(angle, big.NewFloat(float64(k+1)))
		l := cos(angle)
		l.Quo(l, big.NewFloat(3))
		l.Add(l, big.NewFloat(1))
		t.lambda = append(t.lambda, l)
	}
	for i := range k {
		w := big.NewFloat(1).SetPrec(precision)
		for j := range k {
			if j != i {
				d := new(big.Float).Sub(t.lambda[i], t.lambda[j])
				w.Mul(w, d.Quo(t.lambda[i], d))
			}
		}
		t.weight = append(t.weight, w)
	}
	return t
}

// above is the probability that the mean exceeds ratio times its expectation.
func (t *tail) above(ratio float64) *big.Float {
	sum := new(big.Float).SetPrec(precision)
	for i, l := range t.lambda {
		x := big.NewFloat(ratio * float64(t.k)).SetPrec(precision)
		e := expNeg(x.Quo(x, l))
		sum.Add(sum, e.Mul(e, t.weight[i]))
	}
	return sum
}

// logAbove is the natural logarithm of above.
func (t *tail) logAbove(ratio float64) float64 {
	mantissa := new(big.Float)
	exponent := t.above(ratio).MantExp(mantissa)
	m, _ := mantissa.Float64()
	return math.Log(m) + float64(exponent)*math.Ln2
}

// cos sums the Taylor series.
func cos(x *big.Float) *big.Float {
	sum, term := big.NewFloat(1).SetPrec(precision), big.NewFloat(1).SetPrec(precision)
	square := new(big.Float).Mul(x, x)
	for n := 2; n < 160; n += 2 {
		term.Mul(term, square)
		term.Quo(term, big.NewFloat(float64(n*(n-1))))
		term.Neg(term)
		sum.Add(sum, term)
	}
	return sum
}

// expNeg is exp(-x) for x >= 0: halved until small, Taylor series, squared back.
func expNeg(x *big.Float) *big.Float {
	x, halvings := new(big.Float).Neg(x), 0
	for x.MantExp(nil) > -8 {
		x.Mul(x, half)
		halvings++
	}
	sum, term := big.NewFloat(1).SetPrec(precision), big.NewFloat(1).SetPrec(precision)
	for n := 1; n < 90; n++ {
		term.Mul(term, x)
		term.Quo(term, big.NewFloat(float64(n)))
		sum.Add(sum, term)
	}
	for range halvings {
		sum.Mul(sum, sum)
	}
	return sum
}
