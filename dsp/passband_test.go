package dsp_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/fulgidus/heimdall/dsp"
)

func TestPassband(t *testing.T) {
	band := func(low, high int, inside float64) []float64 {
		psd := make([]float64, 512)
		for i := range psd {
			psd[i] = 1
			if i >= low && i < high {
				psd[i] = inside
			}
		}
		return psd
	}
	// slope is a band of 1e4 whose edges rise by a factor each bin, from the bins given.
	slope := func(low, high int, factor float64) []float64 {
		psd := band(low, high, 1e4)
		for i := low; i < high; i++ {
			psd[i] = math.Min(1e4, math.Pow(factor, float64(min(i-low+1, high-i))))
			psd[i] = math.Max(psd[i], 5)
		}
		return psd
	}
	// A carrier so strong that the window lets it through into the stop band, 10 dB over the quantiser at the edges.
	leaking := slope(128, 384, 100)
	for k := range leaking {
		d := math.Abs(float64(k - 256))
		if d < 2 {
			leaking[k] = 1e16
			continue
		}
		a := 1e8 / (math.Pi * d * (d*d - 1))
		leaking[k] += a * a
	}
	for _, v := range []struct {
		name      string
		psd       []float64
		quantiser float64
		low, high int
	}{
		{"a filter of half the band", band(128, 384, 1e4), 1, 136, 376},
		{"at one side", band(0, 384, 1e4), 1, 0, 376},
		{"floats", band(128, 384, 1e4), 0, 0, 512},
		{"no stop band", band(10, 505, 1e4), 1, 0, 512},
		{"a low gain", band(0, 0, 1), 1, 0, 512},
		{"a narrow emission", band(250, 260, 1e6), 1, 0, 512},
		{"no steep edge", band(128, 384, 10), 1, 0, 512},
		{"a gentle slope", slope(128, 384, 1.3), 1, 0, 512}, // 18 bins until it is clear of the quantiser
		{"a slope of a few bins", slope(128, 384, 100), 1, 137, 375},
		{"a carrier's leakage in the stop band", leaking, 1, 137, 375},
	} {
		low, high := dsp.Passband(v.psd, v.quantiser)
		if v.high < 512 && v.low == 0 && low == 8 { // an edge of the band is no flank
			low = 0
		}
		if low != v.low || high != v.high {
			t.Errorf("%s: %d to %d, want %d to %d", v.name, low, high, v.low, v.high)
		}
	}
}

func TestFloorShape(t *testing.T) {
	const n = 1024
	// A tilt of 6 dB across the band, 20 dB lower skirts, and an emission 300 bins wide.
	truth := func(k int) float64 { return 6 * float64(k) / n }
	level := func(low, high int) float64 {
		least := math.Inf(1)
		for k := low; k < high; k++ {
			v := truth(k)
			if k < 50 || k > n-50 {
				v -= 20
			}
			if k >= 400 && k < 700 {
				v += 30
			}
			least = math.Min(least, v)
		}
		return dsp.FromDB(least)
	}
	s := dsp.NewFloorShape(n)
	s.Fit(0, n, level)
	for k := 150; k < n-150; k += 10 {
		near(t, fmt.Sprint("bin ", k, " dB"), s.DB(k), truth(k), 7)
	}
	near(t, "skirt dB", s.DB(5), -20, 1)
	s.Fit(500, 530, level) // narrower than a window
	near(t, "one window dB", s.DB(0), dsp.DB(level(500, 530)), 1e-9)
	s.Fit(0, n, func(low, high int) float64 { // nothing can be told below 150, around the middle and over n-150
		if low < 150 || high > n-150 || low < 600 && high > 400 {
			return math.NaN()
		}
		return dsp.FromDB(truth((low + high) / 2))
	})
	for k := 200; k < n-200; k += 10 {
		near(t, fmt.Sprint("across what is not known, bin ", k, " dB"), s.DB(k), truth(k), 0.1)
	}
	near(t, "beyond the last known dB", s.DB(5), truth(192), 0.1)
	before := s.DB(500)
	s.Fit(0, n, func(int, int) float64 { return math.NaN() })
	near(t, "nothing known dB", s.DB(500), before, 0)
	small := dsp.NewFloorShape(16)
	small.Fit(0, 16, func(int, int) float64 { return 1 })
	near(t, "few bins dB", small.DB(8), 0, 1e-9)
}

func TestFloorShape_Powers(t *testing.T) {
	for _, n := range []int{4, 16, 64, 100, 4096} {
		s := dsp.NewFloorShape(n)
		s.Fit(0, n, func(low, high int) float64 { return dsp.FromDB(-90 + 20*math.Sin(float64(low+high))) })
		got := make([]float64, n)
		s.Powers(got)
		for k, v := range got {
			if want := dsp.FromDB(s.DB(k)); math.Abs(v/want-1) > 1e-12 {
				t.Errorf("bin %d of %d: %g, want %g", k, n, v, want)
			}
		}
	}
}
