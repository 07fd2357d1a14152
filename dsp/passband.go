package dsp

// How a digital filter's stop band is told from noise.
const (
	silentRatio   = 4    // over the quantiser's own noise: below it nothing but the quantiser is there
	flankRatio    = 100  // over the quantiser's noise that the band reaches just inside its edges
	flankPart     = 64   // of all bins that the edge may take
	leastStopBand = 0.1  // of all bins, on both sides together
	leastPassband = 0.05 // of all bins
)

// Passband finds the bins, low to high-1, that a digital filter before the quantiser let through. Outside them the
// spectrum lies at the quantiser's own noise, quantiser in the unit of psd: it tells nothing of the receiver's noise
// floor. A narrow filter in a receiver such as the KiwiSDR leaves half the band like that. Without such a stop band, or
// without a steep edge between, all bins count: a low gain alone looks different.
func Passband(psd []float64, quantiser float64) (low, high int) {
	n := len(psd)
	if quantiser <= 0 {
		return 0, n
	}
	silent := silentRatio * quantiser
	for low < n && psd[low] <= silent {
		low++
	}
	high = n
	for high > low && psd[high-1] <= silent {
		high--
	}
	flank := max(1, n/flankPart)
	if n-(high-low) < int(leastStopBand*float64(n)) || high-low < max(int(leastPassband*float64(n)), 4*flank) {
		return 0, n
	}
	if low > 0 && psd[low+flank] < flankRatio*quantiser || high < n && psd[high-1-flank] < flankRatio*quantiser {
		return 0, n
	}
	return low + flank, high - flank
}
