package dsp

// Occupied is the occupied bandwidth of an emission: what holds the given share of its power, half the rest out on
// each side [SM.443]. Positions are in bins, counted from the centre of bin 0 of the spectrum.
type Occupied struct {
	Low, High float64
	Power     float64 // sum of the bins' excess over the floor, in the spectrum's unit
}

// OccupiedBandwidth finds the occupied bandwidth in psd[low:high+1] holding the given share, 0.99 by the standard.
// excess(k) is the spectrum over its floor, and may be negative: noise must cancel, so nothing is clamped. Where the
// running sum is not monotonic the first crossing from the left and the last from the right count. ok is false when
// there is no power over the floor.
func OccupiedBandwidth(low, high int, share float64, excess func(k int) float64) (o Occupied, ok bool) {
	total := 0.0
	for k := low; k <= high; k++ {
		total += excess(k)
	}
	if !(total > 0) || high < low {
		return Occupied{}, false
	}
	out := (1 - share) / 2 * total
	o.Power = total
	o.Low = crossing(low, high, 1, out, excess)
	o.High = crossing(high, low, -1, out, excess)
	return o, o.High >= o.Low
}

// crossing walks from one end until the running sum reaches want, and interpolates inside the bin.
func crossing(from, to, step int, want float64, excess func(k int) float64) float64 {
	sum := 0.0
	for k := from; ; k += step {
		e := excess(k)
		if sum+e >= want && e > 0 {
			return float64(k) + float64(step)*((want-sum)/e-0.5)
		}
		sum += e
		if k == to {
			return float64(to)
		}
	}
}
