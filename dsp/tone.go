package dsp

import "math"

// ToneAt places a tone between the bins of a Hann-windowed power spectrum around its largest bin i. With r the
// amplitude ratio of the larger neighbour to the peak, the tone lies (2r-1)/(r+1) bins away towards it: exact without
// noise, where a parabola is up to 0.016 bins wrong. The power the tone reads, scalloping corrected, comes from the
// window's main lobe sin(pi d)/(pi d (1-d^2)). noise, the floor of a bin, is taken off before. psd wraps around.
func ToneAt(psd []float64, i int, noise float64) (offsetBins, peak float64) {
	n := len(psd)
	at := func(k int) float64 { return math.Max(0, psd[(k+n)%n]-noise) }
	top, left, right := at(i), at(i-1), at(i+1)
	if top <= 0 {
		return 0, 0
	}
	neighbour, side := right, 1.0
	if left > right {
		neighbour, side = left, -1
	}
	r := math.Sqrt(neighbour / top)
	d := math.Max(0, math.Min((2*r-1)/(r+1), 0.5))
	return side * d, top / HannResponse(d)
}

// HannResponse is the power response of a Hann-windowed transform to a tone d bins off the bin's centre, 1 at 0.
func HannResponse(d float64) float64 {
	d = math.Abs(d)
	switch {
	case d < 1e-9:
		return 1
	case math.Abs(d-1) < 1e-9:
		return 0.25
	}
	a := math.Sin(math.Pi*d) / (math.Pi * d * (1 - d*d))
	return a * a
}

// GroupENBW is the equivalent noise bandwidth of the mean of so many neighbouring Hann bins, in widths of the group: its
// white-noise power over that of a tone in its middle.
func GroupENBW(bins int) float64 {
	sum := 0.0
	for i := range bins {
		sum += HannResponse(float64(i) - float64(bins-1)/2)
	}
	return 1.5 / sum
}
