package dsp

import "math"

// How a digital filter's stop band is told from noise.
const (
	silentRatio   = 4    // over the quantiser's own noise and the window's leakage: below it nothing else is there
	flankRatio    = 100  // over the quantiser's noise that the band reaches just inside its edges
	flankStep     = 4    // a bin this far over its outer neighbour is still on the filter's slope
	flankPart     = 64   // of all bins that the edge may take,
	flankBins     = 8    // or this many: the window rounds a steep edge off
	leastStopBand = 0.1  // of all bins, on both sides together
	leastPassband = 0.05 // of all bins
)

// Passband finds the bins, low to high-1, that a digital filter before the quantiser let through. Outside them the
// spectrum, of Hann-windowed frames, lies at the quantiser's own noise, quantiser in the unit of psd, or at what the
// window leaks there from stronger bins: it tells nothing of the receiver's noise floor. A narrow filter in a receiver
// such as the KiwiSDR leaves half the band like that. Without such a stop band, or without a steep edge between, all bins
// count: a low gain alone looks different.
func Passband(psd []float64, quantiser float64) (low, high int) {
	n := len(psd)
	if quantiser <= 0 {
		return 0, n
	}
	silent := func(k int) bool {
		return psd[k] <= silentRatio*quantiser || psd[k] <= silentRatio*(quantiser+leakageAt(psd, k))
	}
	for low < n && silent(low) {
		low++
	}
	high = n
	for high > low && silent(high-1) {
		high--
	}
	flank := max(1, n/flankPart)
	if n-(high-low) < int(leastStopBand*float64(n)) || high-low < max(int(leastPassband*float64(n)), 4*flank) {
		return 0, n
	}
	inner, ok := climb(psd, low, 1, quantiser)
	outer, also := climb(psd, high-1, -1, quantiser)
	if !ok || !also || outer-inner < 2*flank {
		return 0, n
	}
	return inner + flank, outer + 1 - flank
}

// climb walks from the first bin that is not silent up the filter's slope. ok is false when the slope is not steep, or too
// low. An end of the spectrum has no slope.
func climb(psd []float64, from, step int, quantiser float64) (top int, ok bool) {
	n := len(psd)
	if from == 0 && step > 0 || from == n-1 && step < 0 {
		return from, true
	}
	most := max(n/flankPart, flankBins)
	for k := range most {
		at := from + k*step
		next := at + step
		if next < 0 || next >= n {
			break
		}
		if psd[at] >= flankRatio*quantiser && psd[next] < flankStep*psd[at] {
			return at, true
		}
	}
	return from, false
}

// leakageAt bounds what the window lets through into bin k from the others: a line d bins away is seen at
// (1/(π d (d²-1)))² of its density. Nearer than two bins it is the main lobe. The three bins of a line's own main lobe add
// up to 1.5 times its density, which covers what a line between two bins loses.
func leakageAt(psd []float64, k int) float64 {
	sum := 0.0
	for j, v := range psd {
		d := math.Abs(float64(j - k))
		if d < 2 {
			continue
		}
		r := 1 / (math.Pi * d * (d*d - 1))
		sum += v * r * r
	}
	return sum
}
