package dsp

import "math"

// FloorQuantile is the quantile that noise floors are read from: low enough that half the cells may be occupied.
const FloorQuantile = 0.2

// QuantileBias is the quantile q of a bin of noise averaged over k Hann frames at half overlap, divided by its mean.
// A floor read as a quantile is divided by it. Using the value of one average for many puts the floor 4 to 9 dB too high.
func QuantileBias(k int, q float64) float64 {
	l := EffectiveAverages(max(k, 1))
	return GammaQuantile(l, q) / l
}

// histogram buckets: the exponent and the first four bits of the mantissa of a float32, at most 0.26 dB wide.
const (
	mantissaBits = 4
	bucketShift  = 23 - mantissaBits
	buckets      = 1 << (8 + mantissaBits)
)

// Histogram counts positive powers in buckets of the bits of a float32 and reads quantiles without sorting.
type Histogram struct {
	count     [buckets]uint32
	low, high uint32 // buckets with values lie from low to high-1
	total     uint64
}

// Add counts values. Zeros and negative values count as the lowest.
func (h *Histogram) Add(values []float32) {
	low, high := h.low, h.high
	if h.total == 0 {
		low = buckets
	}
	for _, v := range values {
		b := math.Float32bits(v)
		if int32(b) < 0 {
			b = 0
		}
		i := b >> bucketShift & (buckets - 1)
		h.count[i]++
		low, high = min(low, i), max(high, i+1)
	}
	h.low, h.high = low, high
	h.total += uint64(len(values))
}

// Merge counts the values of another histogram.
func (h *Histogram) Merge(o *Histogram) {
	if o.total == 0 {
		return
	}
	if h.total == 0 {
		h.low = buckets
	}
	for i := o.low; i < o.high; i++ {
		h.count[i] += o.count[i]
	}
	h.low, h.high = min(h.low, o.low), max(h.high, o.high)
	h.total += o.total
}

// Reset forgets all values.
func (h *Histogram) Reset() {
	if h.total > 0 {
		clear(h.count[h.low:h.high])
	}
	h.low, h.high, h.total = 0, 0, 0
}

// Quantile is the value below which the fraction q of the values lie, interpolated inside its bucket; NaN without values.
func (h *Histogram) Quantile(q float64) float64 {
	if h.total == 0 {
		return math.NaN()
	}
	want := q * float64(h.total)
	below := 0.0
	for i := h.low; i < h.high; i++ {
		n := h.count[i]
		if n > 0 && below+float64(n) >= want {
			lo := math.Float32frombits(i << bucketShift)
			hi := math.Float32frombits((i + 1) << bucketShift)
			if !(hi <= math.MaxFloat32) {
				return float64(lo)
			}
			return float64(lo) + (float64(hi)-float64(lo))*max(0, (want-below)/float64(n))
		}
		below += float64(n)
	}
	return math.NaN()
}

// NoiseFloor is the noise density of an averaged spectrum: its low quantile over frequency, divided by bias, the QuantileBias of
// FloorQuantile. The caller leaves out what is no noise: the skirts of the receiver's filter and a spike at 0 Hz.
func NoiseFloor(psd []float64, bias float64, h *Histogram) float64 {
	h.Reset()
	// Densities may lie below the range of float32; the scale is taken out around the largest.
	top := 0.0
	for _, v := range psd {
		top = max(top, v)
	}
	if len(psd) == 0 || top == 0 {
		return 0
	}
	var chunk [256]float32
	for at := 0; at < len(psd); at += len(chunk) {
		n := min(len(chunk), len(psd)-at)
		for i, v := range psd[at : at+n] {
			chunk[i] = float32(v / top)
		}
		h.Add(chunk[:n])
	}
	return h.Quantile(FloorQuantile) * top / bias
}
