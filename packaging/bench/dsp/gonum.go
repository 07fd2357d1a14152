//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"time"

	"gonum.org/v1/gonum/dsp/fourier"

	"github.com/fulgidus/heimdall/dsp"
)

// How much the peer in Go measures, as those in C do.
const (
	gonumSamples = 1 << 17
	gonumRounds  = 15
	gonumLeast   = 20 * time.Millisecond
)

// runGonum is the peer in Go: gonum's transform in double precision. It takes a case.
func runGonum(w io.Writer, args []string) error {
	runtime.LockOSThread() // whose time is taken
	defer runtime.UnlockOSThread()
	fmt.Fprintln(w, "# complex128")
	for _, c := range allCases() {
		if len(args) > 0 && args[0] != c.String() {
			continue
		}
		rates := make([]float64, gonumRounds)
		chain := gonumChain(c)
		chain()
		for i := range rates {
			began, samples, took := threadTime(), 0, time.Duration(0)
			for took < gonumLeast {
				samples += chain()
				took = threadTime() - began
			}
			rates[i] = float64(samples) / took.Seconds() / 1e6
		}
		slices.Sort(rates)
		fmt.Fprintf(w, "chain_gonum_%s\tMsps\t%.3f\t%.3f\n", c, rates[len(rates)/2], rates[len(rates)-1])
	}
	return nil
}

// gonumChain is the work of a case. It returns how many new samples it had.
func gonumChain(c chainCase) func() int {
	fft := fourier.NewCmplxFFT(c.bins)
	x, y, sum := make([]complex128, c.bins), make([]complex128, c.bins), make([]float64, c.bins)
	hann := make([]float64, c.bins)
	for i := range hann {
		hann[i] = 0.5 - 0.5*math.Cos(2*math.Pi*float64(i)/float64(c.bins))
	}
	format := map[string]dsp.Format{"cu8": dsp.CU8, "ci16": dsp.CS16, "cf32": dsp.CF32}[c.format]
	samples := make([]complex128, gonumSamples)
	dsp.WhiteNoise(0.2, 1)(samples, 0)
	raw := dsp.Quantise(nil, samples, format)
	frame := c.bins * format.BytesPerSample()
	return func() int {
		frames := 0
		for at := 0; at+frame <= len(raw); at += frame / 2 {
			windowed(x, raw[at:at+frame], hann, format)
			for k, v := range fft.Coefficients(y, x) {
				sum[k] += real(v)*real(v) + imag(v)*imag(v)
			}
			frames++
		}
		return frames * c.bins / 2
	}
}

// windowed fills x with the samples of a frame times a window. The scale of codes is left to the sum.
func windowed(x []complex128, raw []byte, window []float64, format dsp.Format) {
	switch format {
	case dsp.CU8:
		for i, w := range window {
			x[i] = complex((float64(raw[2*i])-127.5)*w, (float64(raw[2*i+1])-127.5)*w)
		}
	case dsp.CS16:
		for i, w := range window {
			v := binary.LittleEndian.Uint32(raw[4*i:])
			x[i] = complex(float64(int16(v))*w, float64(int16(v>>16))*w)
		}
	default:
		for i, w := range window {
			v := binary.LittleEndian.Uint64(raw[8*i:])
			x[i] = complex(float64(math.Float32frombits(uint32(v)))*w, float64(math.Float32frombits(uint32(v>>32)))*w)
		}
	}
}
