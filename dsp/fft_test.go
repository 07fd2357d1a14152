package dsp_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/dsp/fourier"

	"github.com/fulgidus/heimdall/dsp"
)

// maxErrorDB is the largest RMS error against a double-precision transform: float32 gives -137 dB at 4096.
const maxErrorDB = -120

func TestFFT_AgreesWithDoublePrecision(t *testing.T) {
	for n := dsp.MinFFT; n <= 65536; n *= 2 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			re, im, x := randomSamples(n, uint64(n))
			want := fourier.NewCmplxFFT(n).Coefficients(nil, x)
			f := mustFFT(t, n)
			gotRe, gotIm := make([]float32, n), make([]float32, n)
			f.Forward(gotRe, gotIm, append([]float32(nil), re...), append([]float32(nil), im...))
			if got := errorDB(gotRe, gotIm, want); got > maxErrorDB {
				t.Errorf("forward: error %.1f dB, want at most %d dB", got, maxErrorDB)
			}
			backRe, backIm := make([]float32, n), make([]float32, n)
			f.Inverse(backRe, backIm, gotRe, gotIm)
			if got := errorDB(backRe, backIm, x); got > maxErrorDB {
				t.Errorf("inverse: error %.1f dB, want at most %d dB", got, maxErrorDB)
			}
			power := make([]float32, n)
			f.AddPower(power, re, im)
			for i, k := range f.Order() {
				w := real(want[k])*real(want[k]) + imag(want[k])*imag(want[k])
				if math.Abs(float64(power[i])-w) > 1e-4*(w+float64(n)) {
					t.Fatalf("power of bin %d: got %g, want %g", k, power[i], w)
				}
			}
		})
	}
}

func TestFFT_RefusesLengths(t *testing.T) {
	for _, n := range []int{-8, 0, 4, 12, 4095, 1 << 21} {
		if _, err := dsp.NewFFT(n); err == nil {
			t.Errorf("length %d was accepted", n)
		}
	}
	if got := mustFFT(t, 64).Size(); got != 64 {
		t.Errorf("size: got %d, want 64", got)
	}
}

func TestFFT_AllocatesNothing(t *testing.T) {
	for _, n := range []int{256, 1024, 4096, 32768} {
		f := mustFFT(t, n)
		re, im, _ := randomSamples(n, 1)
		acc := make([]float32, n)
		if a := testing.AllocsPerRun(10, func() { f.AddPower(acc, re, im) }); a != 0 {
			t.Errorf("length %d: %v allocations a transform, want 0", n, a)
		}
	}
}

func BenchmarkFFT4096(b *testing.B) {
	f := mustFFT(b, 4096)
	re, im, _ := randomSamples(4096, 1)
	acc := make([]float32, 4096)
	b.SetBytes(4096 * 8)
	for b.Loop() {
		f.AddPower(acc, re, im)
		clear(re)
	}
}

// BenchmarkGonumFFT4096 is the oracle's speed, to read BenchmarkFFT4096 against.
func BenchmarkGonumFFT4096(b *testing.B) {
	f := fourier.NewCmplxFFT(4096)
	_, _, x := randomSamples(4096, 1)
	y := make([]complex128, 4096)
	b.SetBytes(4096 * 8)
	for b.Loop() {
		f.Coefficients(y, x)
	}
}

func mustFFT(t testing.TB, n int) *dsp.FFT {
	t.Helper()
	f, err := dsp.NewFFT(n)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func randomSamples(n int, seed uint64) (re, im []float32, x []complex128) {
	rng := rand.New(rand.NewPCG(seed, 1))
	re, im, x = make([]float32, n), make([]float32, n), make([]complex128, n)
	for i := range x {
		re[i], im[i] = float32(rng.NormFloat64()), float32(rng.NormFloat64())
		x[i] = complex(float64(re[i]), float64(im[i]))
	}
	return re, im, x
}

// errorDB is the RMS of the difference over the RMS of what is wanted.
func errorDB(re, im []float32, want []complex128) float64 {
	var diff, power float64
	for i, w := range want {
		a, b := float64(re[i])-real(w), float64(im[i])-imag(w)
		diff += a*a + b*b
		power += real(w)*real(w) + imag(w)*imag(w)
	}
	return dsp.DB(diff / power)
}
