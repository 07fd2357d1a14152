package dsp

import "math"

// Window is a window's coefficients with the sums that every scaling needs [Harris78].
type Window struct {
	Coefficients []float32
	Sum          float64 // coherent gain times length
	SumSquares   float64
}

// Hann is the periodic Hann window 0.5 - 0.5 cos(2 pi i/n): coherent gain 0.5, equivalent noise bandwidth 1.5 bins.
func Hann(n int) Window { return cosineWindow(n, 0.5, 0.5) }

// Rectangular is the window that does nothing.
func Rectangular(n int) Window { return cosineWindow(n, 1) }

// BlackmanHarris is the periodic minimum four-term Blackman-Harris window: side lobes at -92 dB, 2.0 bins wide.
func BlackmanHarris(n int) Window { return cosineWindow(n, 0.35875, 0.48829, 0.14128, 0.01168) }

// cosineWindow is sum_k (-1)^k a_k cos(2 pi k i/n).
func cosineWindow(n int, a ...float64) Window {
	w := Window{Coefficients: make([]float32, n)}
	for i := range w.Coefficients {
		v, sign := 0.0, 1.0
		for k, c := range a {
			v += sign * c * math.Cos(2*math.Pi*float64(k)*float64(i)/float64(n))
			sign = -sign
		}
		w.Coefficients[i] = float32(v)
		w.Sum += v
		w.SumSquares += v * v
	}
	return w
}

// CoherentGain is the amplitude a tone keeps: the mean of the window.
func (w Window) CoherentGain() float64 { return w.Sum / float64(len(w.Coefficients)) }

// ENBW is the equivalent noise bandwidth in bins.
func (w Window) ENBW() float64 {
	return float64(len(w.Coefficients)) * w.SumSquares / (w.Sum * w.Sum)
}
