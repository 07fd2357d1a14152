package dsp_test

import (
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/dsp/fourier"

	"github.com/fulgidus/heimdall/dsp"
)

// BenchmarkSurveyChain is cu8, Hann, 4096 bins, half overlap: conversion, window, transform, power, sum.
func BenchmarkSurveyChain(b *testing.B) {
	raw := make([]byte, 2<<20)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range raw {
		raw[i] = byte(rng.Uint32())
	}
	w, err := dsp.NewWelch(4096)
	if err != nil {
		b.Fatal(err)
	}
	re, im := make([]float32, 8192), make([]float32, 8192)
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		for at := 0; at < len(raw); at += 2 * len(re) {
			n := dsp.Convert(re, im, raw[at:], dsp.CU8)
			w.Write(re[:n], im[:n])
		}
	}
	b.ReportMetric(float64(b.N)*(1<<20)/b.Elapsed().Seconds()/1e6, "Msps")
}

// BenchmarkGonumChain is the same with gonum, in double precision.
func BenchmarkGonumChain(b *testing.B) {
	const n = 4096
	raw := make([]byte, 2<<16)
	fft, win := fourier.NewCmplxFFT(n), dsp.Hann(n)
	x, y, sum := make([]complex128, n), make([]complex128, n), make([]float64, n)
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		for at := 0; at+2*n <= len(raw); at += n {
			for i := range x {
				w := float64(win.Coefficients[i])
				x[i] = complex((float64(raw[at+2*i])-127.5)*w, (float64(raw[at+2*i+1])-127.5)*w)
			}
			for k, c := range fft.Coefficients(y, x) {
				sum[k] += real(c)*real(c) + imag(c)*imag(c)
			}
		}
	}
	b.ReportMetric(float64(b.N)*(1<<16)/b.Elapsed().Seconds()/1e6, "Msps")
}
