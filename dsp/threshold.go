package dsp

import "math"

// Threshold is the ratio to the mean that one bin of noise, averaged over k Hann frames at half overlap, exceeds with
// probability pfa. Up to 64 averages it comes from an exact table for pfa from 0.1 to 1e-12; beyond, from the gamma
// distribution with the effective number of averages, whose far tail is then right to 0.02 dB.
func Threshold(k int, pfa float64) float64 {
	k = max(k, 1)
	last := len(thresholdAverages) - 1
	if k > thresholdAverages[last] {
		return GammaQuantile(EffectiveAverages(k), 1-pfa) / EffectiveAverages(k)
	}
	decades := math.Max(1, math.Min(-math.Log10(pfa), float64(len(thresholdDB[0]))))
	i := 0
	for thresholdAverages[i+1] < k && i+1 < last {
		i++
	}
	lo, hi := float64(thresholdAverages[i]), float64(thresholdAverages[i+1])
	f := math.Log(float64(k)/lo) / math.Log(hi/lo)
	// In the logarithm the threshold in dB falls almost as the power -1/2 of the averages: interpolate its logarithm.
	a, b := decadeDB(&thresholdDB[i], decades), decadeDB(&thresholdDB[i+1], decades)
	return FromDB(a * math.Pow(b/a, f))
}

// decadeDB reads a row of the table between its columns with a parabola through the nearest three.
func decadeDB(row *[12]float64, decades float64) float64 {
	i := min(max(int(decades)-1, 0), len(row)-3)
	x := decades - 1 - float64(i)
	a, b, c := row[i], row[i+1], row[i+2]
	return a + x*(b-a) + x*(x-1)/2*(a-2*b+c)
}

// GammaQuantile is the x below which a gamma variable of the given shape and scale 1 falls with probability p.
func GammaQuantile(shape, p float64) float64 {
	switch {
	case math.IsNaN(p) || shape <= 0:
		return math.NaN()
	case p <= 0:
		return 0
	case p >= 1:
		return math.Inf(1)
	}
	lg, _ := math.Lgamma(shape)
	density := func(x float64) float64 { return math.Exp((shape-1)*math.Log(x) - x - lg) }
	lo, hi := 0.0, shape+10*math.Sqrt(shape)+100
	x := shape // beside its median
	for range 200 {
		excess := gammaLower(shape, x) - p
		if excess < 0 {
			lo = x
		} else {
			hi = x
		}
		next := x - excess/density(x) // Newton's
		if !(next > lo && next < hi) {
			next = (lo + hi) / 2
		}
		step := math.Abs(next - x)
		x = next
		if step <= 1e-13*x {
			break
		}
	}
	return x
}

// gammaLower is the regularised lower incomplete gamma function P(a, x): its series below a+1, else its continued
// fraction by Lentz's method.
func gammaLower(a, x float64) float64 {
	if x <= 0 {
		return 0
	}
	lg, _ := math.Lgamma(a)
	front := math.Exp(a*math.Log(x) - x - lg)
	if x < a+1 {
		term := 1 / a
		sum := term
		for n := 1.0; n < 10000 && term > sum*1e-17; n++ {
			term *= x / (a + n)
			sum += term
		}
		return front * sum
	}
	const tiny = 1e-300
	b := x + 1 - a
	c, d := 1/tiny, 1/b
	h := d
	for n := 1.0; n < 10000; n++ {
		an := -n * (n - a)
		b += 2
		d = 1 / nonZero(an*d+b, tiny)
		c = nonZero(b+an/c, tiny)
		h *= d * c
		if math.Abs(d*c-1) < 1e-16 {
			break
		}
	}
	return 1 - front*h
}

func nonZero(x, tiny float64) float64 {
	if math.Abs(x) < tiny {
		return tiny
	}
	return x
}
