package exposition

import (
	"math"
	"slices"
	"sync"
)

// Histogram counts observations by upper bounds. Its methods may be called from any goroutine.
type Histogram struct {
	bounds []float64 // rising; what is above the last one is counted too

	mu     sync.Mutex // guards all below
	counts []uint64   // by bound, not summed up
	sum    float64
}

// NewHistogram makes one with these upper bounds.
func NewHistogram(bounds ...float64) *Histogram {
	bounds = append(slices.Clone(bounds), math.Inf(1))
	return &Histogram{bounds: bounds, counts: make([]uint64, len(bounds))}
}

// Observe counts a value. One that is no number is left out.
func (h *Histogram) Observe(v float64) {
	if math.IsNaN(v) {
		return
	}
	i, _ := slices.BinarySearch(h.bounds, v)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counts[i]++
	h.sum += v
}

// Sample is what was observed so far, with labels as pairs of name and value.
func (h *Histogram) Sample(labels ...string) Sample {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := Of(h.sum, labels...)
	var below uint64
	for i, n := range h.counts {
		below += n
		s.Buckets = append(s.Buckets, Bucket{UpperBound: h.bounds[i], Count: below})
	}
	return s
}

// Distribution is a family of histograms.
func Distribution(name, help string, samples ...Sample) Family {
	return Family{Name: name, Help: help, Type: HistogramType, Samples: samples}
}
