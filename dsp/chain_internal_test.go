package dsp

import (
	"math/rand/v2"
	"testing"
	"time"

	"gonum.org/v1/gonum/dsp/fourier"
)

const chainBins = 4096

// BenchmarkChain is cu8, Hann, 4096 bins, half overlap: conversion, window, transform, power, sum. Each engine is measured
// between two runs of gonum's transform in double precision, because the machine's speed wanders: trust the ratio.
func BenchmarkChain(b *testing.B) {
	raw := randomCodes(2 << 20)
	for _, e := range runnableEngines() {
		b.Run(e.name, func(b *testing.B) {
			w := welchOn(b, e)
			before := gonumMsps(raw)
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				w.WriteRaw(raw, CU8)
			}
			msps := float64(b.N) * float64(len(raw)/2) / b.Elapsed().Seconds() / 1e6
			b.ReportMetric(msps, "Msps")
			b.ReportMetric(2*msps/(before+gonumMsps(raw)), "x_gonum")
		})
	}
}

// gonumMsps is how fast the same chain is in double precision, in a tenth of a second.
func gonumMsps(raw []byte) float64 {
	fft, win := fourier.NewCmplxFFT(chainBins), Hann(chainBins)
	x, y, sum := make([]complex128, chainBins), make([]complex128, chainBins), make([]float64, chainBins)
	start, samples := time.Now(), 0
	for at := 0; time.Since(start) < 100*time.Millisecond; at = (at + chainBins) % (len(raw) - 2*chainBins) {
		for i := range x {
			w := float64(win.Coefficients[i])
			x[i] = complex((float64(raw[at+2*i])-127.5)*w, (float64(raw[at+2*i+1])-127.5)*w)
		}
		for k, c := range fft.Coefficients(y, x) {
			sum[k] += real(c)*real(c) + imag(c)*imag(c)
		}
		samples += chainBins / 2
	}
	return float64(samples) / time.Since(start).Seconds() / 1e6
}

func welchOn(t testing.TB, e engine) *Welch {
	t.Helper()
	w, err := newWelch(chainBins, e)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func randomCodes(bytes int) []byte {
	raw, rng := make([]byte, bytes), rand.New(rand.NewPCG(1, 1))
	for i := range raw {
		raw[i] = byte(rng.Uint32())
	}
	return raw
}

// runnableEngines are those that this processor has.
func runnableEngines() []engine {
	engines := []engine{portable}
	for _, e := range kernelEngines() {
		if e.needs == "" {
			engines = append(engines, e)
		}
	}
	return engines
}
