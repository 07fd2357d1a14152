package dsp_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"gonum.org/v1/gonum/dsp/fourier"
	"gonum.org/v1/gonum/dsp/window"
	"gonum.org/v1/gonum/mathext"

	"github.com/fulgidus/heimdall/dsp"
)

func near(t testing.TB, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance) {
		t.Errorf("%s: got %.6g, want %.6g within %.3g", what, got, want, tolerance)
	}
}

// split makes separate real and imaginary parts of a signal.
func split(n int, signals ...dsp.Signal) (re, im []float32) {
	x := make([]complex128, n)
	for _, s := range signals {
		s(x, 0)
	}
	re, im = make([]float32, n), make([]float32, n)
	for i, v := range x {
		re[i], im[i] = float32(real(v)), float32(imag(v))
	}
	return re, im
}

func welch(t testing.TB, n int, re, im []float32) *dsp.Welch {
	t.Helper()
	w, err := dsp.NewWelch(n)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(re, im)
	return w
}

func TestWindow_Constants(t *testing.T) {
	for _, v := range []struct {
		name       string
		window     dsp.Window
		gain, enbw float64
	}{
		{"Hann", dsp.Hann(4096), 0.5, 1.5},
		{"rectangular", dsp.Rectangular(64), 1, 1},
		{"Blackman-Harris", dsp.BlackmanHarris(4096), 0.35875, 2.0044},
	} {
		near(t, v.name+" gain", v.window.CoherentGain(), v.gain, 1e-9)
		near(t, v.name+" ENBW", v.window.ENBW(), v.enbw, 1e-4)
	}
	// gonum's is the symmetric form: that of one more point without the last is the periodic one.
	ones := make([]float64, 257)
	for i := range ones {
		ones[i] = 1
	}
	for i, w := range window.Hann(ones)[:256] {
		near(t, "Hann", float64(dsp.Hann(256).Coefficients[i]), w, 1e-7)
	}
}

func TestWelch_Parseval(t *testing.T) {
	re, im := split(512*2048, dsp.WhiteNoise(0.1, 1), dsp.Tone(0.2, 0.123))
	w := welch(t, 2048, re, im)
	psd := make([]float64, 2048)
	w.PSD(psd, 1e6)
	sum, power := 0.0, 0.0
	for _, v := range psd {
		sum += v * 1e6 / 2048
	}
	for i := range re {
		power += float64(re[i])*float64(re[i]) + float64(im[i])*float64(im[i])
	}
	near(t, "power dBFS", dsp.DB(sum), dsp.DB(power/float64(len(re))), 0.01)
	if w.Averages() != 1023 || w.Size() != 2048 || math.Abs(w.ENBW()-1.5) > 1e-9 {
		t.Errorf("%d averages of %d bins, ENBW %g", w.Averages(), w.Size(), w.ENBW())
	}
}

func TestWelch_AgreesWithDoublePrecision(t *testing.T) {
	const n, frames = 1024, 20
	re, im := split(n/2*(frames+1), dsp.WhiteNoise(0.1, 2), dsp.Tone(0.5, 0.2))
	w := welch(t, n, re, im)
	got := make([]float64, n)
	w.PSD(got, 1)
	want := make([]float64, n)
	fft, win, x := fourier.NewCmplxFFT(n), dsp.Hann(n), make([]complex128, n)
	for f := range frames {
		for i := range x {
			x[i] = complex(float64(re[f*n/2+i]), float64(im[f*n/2+i])) * complex(float64(win.Coefficients[i]), 0)
		}
		for k, c := range fft.Coefficients(nil, x) {
			want[(k+n/2)%n] += (real(c)*real(c) + imag(c)*imag(c)) / (frames * win.SumSquares)
		}
	}
	diff, power := 0.0, 0.0
	for i := range got {
		diff += (got[i] - want[i]) * (got[i] - want[i])
		power += want[i] * want[i]
	}
	if e := dsp.DB(diff / power); e > maxErrorDB {
		t.Errorf("error %.1f dB, want at most %d", e, maxErrorDB)
	}
}

func TestWelch_BlockSplitInvariant(t *testing.T) {
	const n = 512
	re, im := split(40*n+77, dsp.WhiteNoise(0.1, 3))
	want := make([]float64, n)
	welch(t, n, re, im).PSD(want, 1)
	got := make([]float64, n)
	for size := 1; size <= 5000; size = size*3/2 + 1 {
		w := welch(t, n, nil, nil)
		for at := 0; at < len(re); at += size {
			end := min(at+size, len(re))
			w.Write(re[at:end], im[at:end])
		}
		w.PSD(got, 1)
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("blocks of %d: bin %d is %g, want %g", size, i, got[i], want[i])
			}
		}
	}
}

func TestWelch_HolesAndResets(t *testing.T) {
	re, im := split(4096, dsp.WhiteNoise(0.1, 3))
	w := welch(t, 1024, re[:1536], im[:1536])
	w.Break()
	w.Write(re[:1000], im[:1000])
	if got := w.Averages(); got != 2 {
		t.Errorf("%d frames, want 2: none spans the hole", got)
	}
	sum := make([]float64, 1024)
	if n := w.Drain(sum); n != 2 || w.Averages() != 0 {
		t.Errorf("drained %d frames, %d left", n, w.Averages())
	}
	psd := make([]float64, 1024)
	w.PSD(psd, 1)
	if !math.IsNaN(psd[0]) {
		t.Errorf("density %g of no frame", psd[0])
	}
	if !(sum[5]*w.Density(2, 1) > 0) {
		t.Error("nothing was drained")
	}
	if _, err := dsp.NewWelch(100); err == nil {
		t.Error("100 bins were accepted")
	}
}

// TestWelch_Drain takes as many frames as single precision holds and some more, over sums that are no longer wanted.
func TestWelch_Drain(t *testing.T) {
	const n, frames = 128, 300
	re, im := split(n/2*(frames+1), dsp.WhiteNoise(0.1, 3), dsp.Tone(0.1, 0.2))
	want, got := make([]float64, n), slices.Repeat([]float64{1}, n)
	welch(t, n, re, im).PSD(want, 1)
	w := welch(t, n, re, im)
	if k := w.Drain(got); k != frames {
		t.Fatalf("drained %d frames, want %d", k, frames)
	}
	for i := range got {
		got[i] *= w.Density(frames, 1)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateApprox(1e-12, 0)); diff != "" {
		t.Error(diff)
	}
}

func TestWelch_AllocatesNothing(t *testing.T) {
	re, im := split(16384, dsp.WhiteNoise(0.1, 3))
	w := welch(t, 4096, re, im)
	if a := testing.AllocsPerRun(5, func() { w.Write(re, im) }); a != 0 {
		t.Errorf("%v allocations a block", a)
	}
}

// TestEffectiveAverages measures the scatter of averaged spectra of noise against 18 K^2/(19 K - 1).
func TestEffectiveAverages(t *testing.T) {
	const n = 64
	re, im := split(n/2*40000, dsp.WhiteNoise(0.1, 9))
	for _, k := range []int{1, 4, 8, 16, 64} {
		var sum, squares float64
		cells := 0
		psd := make([]float64, n)
		step := n / 2 * (k + 1)
		for at := 0; at+step <= len(re); at += step {
			welch(t, n, re[at:at+step], im[at:at+step]).PSD(psd, 1)
			for _, v := range psd {
				sum += v
				squares += v * v
				cells++
			}
		}
		mean := sum / float64(cells)
		got := mean * mean / (squares/float64(cells) - mean*mean)
		// The estimate of a variance from c cells that are correlated with their neighbours scatters by about 3/sqrt(c).
		near(t, fmt.Sprint("K = ", k), got/dsp.EffectiveAverages(k), 1, math.Max(0.02, 4/math.Sqrt(float64(cells))))
	}
	near(t, "large K", dsp.EffectiveAverages(100000)/100000, 18.0/19, 1e-5)
}

func TestQuantileBias_Table(t *testing.T) {
	for _, v := range []struct {
		k    int
		q, c float64
	}{
		{1, 0.1, -9.773},
		{1, 0.2, -6.514},
		{1, 0.5, -1.592},
		{4, 0.1, -3.699},
		{4, 0.2, -2.474},
		{8, 0.2, -1.613},
		{16, 0.2, -1.077},
		{32, 0.5, -0.048},
		{64, 0.2, -0.503},
		{1171, 0.2, -0.112},
		{0, 0.5, -1.592},
	} {
		near(t, fmt.Sprint(v.k, v.q), dsp.DB(dsp.QuantileBias(v.k, v.q)), v.c, 0.001)
	}
}

func TestGammaQuantile_AgreesWithGonum(t *testing.T) {
	for _, shape := range []float64{0.5, 1, 3.84, 15.2, 60.7, 1109} {
		for _, p := range []float64{1e-6, 0.01, 0.2, 0.5, 0.9, 0.999999} {
			want := mathext.GammaIncRegInv(shape, p)
			near(t, fmt.Sprint(shape, p), dsp.GammaQuantile(shape, p)/want, 1, 1e-8)
		}
	}
	if v := dsp.GammaQuantile(1, 0); v != 0 {
		t.Errorf("quantile 0: %g", v)
	}
	if v := dsp.GammaQuantile(1, 1); !math.IsInf(v, 1) {
		t.Errorf("quantile 1: %g", v)
	}
	if v := dsp.GammaQuantile(-1, 0.5); !math.IsNaN(v) {
		t.Errorf("negative shape: %g", v)
	}
}

func TestThreshold_Table(t *testing.T) {
	for _, v := range []struct {
		k    int
		pfa  float64
		want float64
	}{
		{1, 1e-3, 8.39},
		{1, 1e-10, 13.62},
		{2, 1e-6, 9.44},
		{3, 1e-8, 9.38},
		{4, 1e-3, 5.27},
		{4, 1e-6, 7.52},
		{4, 1e-10, 9.35},
		{6, 1e-5, 5.94},
		{8, 1e-9, 7.02},
		{16, 1e-4, 3.55},
		{32, 1e-6, 3.28},
		{64, 1e-3, 1.60},
		{64, 1e-10, 3.14},
		{1, 5.79e-11, 13.72},
		{4, 2.31e-10, 9.21},
		{8, 4.63e-10, 7.14}, // one false cell an hour
		{0, 1e-3, 8.39},
	} {
		near(t, fmt.Sprint(v.k, v.pfa), dsp.DB(dsp.Threshold(v.k, v.pfa)), v.want, 0.008)
	}
	// Between the rows of the table and beyond it the threshold falls smoothly.
	last := math.Inf(1)
	for k := 1; k < 200; k++ {
		v := dsp.Threshold(k, 1e-6)
		if v >= last {
			t.Errorf("threshold of %d averages %g, of one fewer %g", k, v, last)
		}
		last = v
	}
}

// TestThreshold_FalseAlarms counts cells of noise over the threshold for 1e-3.
func TestThreshold_FalseAlarms(t *testing.T) {
	const n, pfa = 256, 1e-3
	re, im := split(n*8000, dsp.WhiteNoise(0.1, 5))
	for _, k := range []int{1, 4, 8} {
		limit, over, cells := dsp.Threshold(k, pfa)*0.02, 0, 0
		psd := make([]float64, n)
		step := n / 2 * (k + 1)
		for at := 0; at+step <= len(re); at += step {
			welch(t, n, re[at:at+step], im[at:at+step]).PSD(psd, 1)
			for _, v := range psd {
				cells++
				if v > limit {
					over++
				}
			}
		}
		got, want := float64(over)/float64(cells), pfa
		near(t, fmt.Sprint("K = ", k), got, want, 5*math.Sqrt(want/float64(cells)*2))
	}
}

func TestNoiseFloor_Unbiased(t *testing.T) {
	var h dsp.Histogram
	for _, k := range []int{1, 4, 16, 120} {
		rng := rand.New(rand.NewPCG(uint64(k), 7))
		psd := make([]float64, 4096)
		for i := range psd {
			// The mean of k frames is drawn as what it is: overlapped Hann frames of noise.
			psd[i] = 1e-9 * gamma(rng, dsp.EffectiveAverages(k))
		}
		near(t, fmt.Sprint("K = ", k, " dB"), dsp.DB(dsp.NoiseFloor(psd, dsp.QuantileBias(k, dsp.FloorQuantile), &h)/1e-9), 0, 0.05+0.5/float64(k)) // three standard deviations
		for i := range 1200 {                                                                                                                       // 29 % occupied
			psd[i] = 1
		}
		near(t, fmt.Sprint("K = ", k, " occupied dB"), dsp.DB(dsp.NoiseFloor(psd, dsp.QuantileBias(k, dsp.FloorQuantile), &h)/1e-9), 0.5, 1.2)
	}
	if v := dsp.NoiseFloor(nil, 1, &h); v != 0 {
		t.Errorf("floor of nothing: %g", v)
	}
	if v := dsp.NoiseFloor(make([]float64, 10), 1, &h); v != 0 {
		t.Errorf("floor of silence: %g", v)
	}
}

// gamma draws a gamma variable of mean 1 by Marsaglia and Tsang's method.
func gamma(rng *rand.Rand, shape float64) float64 {
	if shape <= 1.0000001 {
		return rng.ExpFloat64()
	}
	d := shape - 1.0/3
	c := 1 / math.Sqrt(9*d)
	for {
		x := rng.NormFloat64()
		v := (1 + c*x) * (1 + c*x) * (1 + c*x)
		if v > 0 && math.Log(rng.Float64()) < x*x/2+d-d*v+d*math.Log(v) {
			return d * v / shape
		}
	}
}

func TestHistogram_Quantiles(t *testing.T) {
	var h dsp.Histogram
	if !math.IsNaN(h.Quantile(0.5)) {
		t.Error("a quantile of nothing")
	}
	values := make([]float32, 10001)
	for i := range values {
		values[i] = float32(i) * 1e-12
	}
	h.Add(values)
	for _, q := range []float64{0.01, 0.2, 0.5, 0.99, 1} {
		near(t, fmt.Sprint(q), h.Quantile(q)/(q*1e-8), 1, 0.03) // half a bucket
	}
	h.Reset()
	h.Add([]float32{-1, 0, float32(math.Inf(1)), math.MaxFloat32})
	if v := h.Quantile(0.25); v != 0 && v > 1e-37 {
		t.Errorf("lowest of negative and zero: %g", v)
	}
	if v := h.Quantile(1); math.IsNaN(v) {
		t.Error("infinity gave no quantile")
	}
	if v := h.Quantile(2); !math.IsNaN(v) {
		t.Errorf("quantile beyond 1: %g", v)
	}
}

func TestToneAt_ExactWithoutNoise(t *testing.T) {
	const n = 1024
	win := dsp.Hann(n)
	fft := fourier.NewCmplxFFT(n)
	for f := 99.5; f <= 101.5; f += 0.1 {
		x := make([]complex128, n)
		dsp.Tone(0.3, f/n)(x, 0)
		for i := range x {
			x[i] *= complex(float64(win.Coefficients[i]), 0)
		}
		psd := make([]float64, n)
		top := 0
		for k, c := range fft.Coefficients(nil, x) {
			psd[k] = (real(c)*real(c) + imag(c)*imag(c)) / (win.Sum * win.Sum)
			if psd[k] > psd[top] {
				top = k
			}
		}
		offset, peak := dsp.ToneAt(psd, top, 0)
		near(t, "frequency, bins", float64(top)+offset, f, 1e-5)
		near(t, "level dBFS", dsp.DB(peak), dsp.DB(0.09), 1e-4)
	}
	if offset, peak := dsp.ToneAt(make([]float64, 8), 3, 0); offset != 0 || peak != 0 {
		t.Errorf("a tone in nothing: %g %g", offset, peak)
	}
	near(t, "scalloping dB", dsp.DB(dsp.HannResponse(0.5)), -1.4236, 1e-4)
	near(t, "one bin off dB", dsp.DB(dsp.HannResponse(1)), -6.0206, 1e-4)
}

func TestGroupENBW(t *testing.T) {
	near(t, "one bin", dsp.GroupENBW(1), 1.5, 1e-12)
	near(t, "four bins", dsp.GroupENBW(4), 1.0009, 1e-3)
}

func TestOccupiedBandwidth(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	const n, first, width = 2048, 800, 400
	for _, v := range []struct{ snr, tolerance float64 }{{1000, 0.6}, {100, 1}, {10, 4}} {
		psd := make([]float64, n)
		for i := range psd {
			psd[i] = gamma(rng, 60)
			if i >= first && i < first+width {
				psd[i] *= 1 + v.snr
			}
		}
		excess := func(k int) float64 { return psd[k] - 1 }
		o, ok := dsp.OccupiedBandwidth(first-50, first+width+50, 0.99, excess)
		if !ok {
			t.Fatal("nothing found")
		}
		near(t, fmt.Sprint("SNR ", v.snr, " width"), o.High-o.Low, 396, v.tolerance)
		near(t, fmt.Sprint("SNR ", v.snr, " centre"), (o.High+o.Low)/2, first+width/2-0.5, v.tolerance)
	}
	if _, ok := dsp.OccupiedBandwidth(0, 10, 0.99, func(int) float64 { return -1 }); ok {
		t.Error("a bandwidth of less than nothing")
	}
	if _, ok := dsp.OccupiedBandwidth(10, 0, 0.99, func(int) float64 { return 1 }); ok {
		t.Error("a bandwidth of an empty range")
	}
}

func TestDB(t *testing.T) {
	near(t, "one", dsp.DB(1), 0, 0)
	near(t, "zero", dsp.DB(0), dsp.FloorDBFS, 0)
	near(t, "negative", dsp.DB(-1), dsp.FloorDBFS, 0)
	near(t, "back", dsp.FromDB(dsp.DB(0.123)), 0.123, 1e-12)
	if !math.IsNaN(dsp.DB(math.NaN())) {
		t.Error("a level of what is unknown")
	}
}
