//go:build amd64 && !purego

package dsp

import (
	"encoding/binary"
	"fmt"
	"math"
	"testing"
)

// TestKernelSegment_StaysInItsWork surrounds the buffer between the passes by canaries.
func TestKernelSegment_StaysInItsWork(t *testing.T) {
	for _, e := range kernelEngines() {
		if e.needs != "" {
			t.Logf("this processor has no %s", e.needs)
			continue
		}
		for n := minKernelFrame; n <= maxKernelFrame; n *= 2 {
			t.Run(fmt.Sprint(e.name, n), func(t *testing.T) { staysInItsWork(t, e, n) })
		}
	}
}

func staysInItsWork(t *testing.T, e engine, n int) {
	t.Helper()
	const guard, canary = 64, 12345
	s := segmentOn(t, e, Hann(n).Coefficients).(*kernelSegment)
	size := len(s.work)
	guarded := make([]float32, size+2*guard)
	for i := range guarded {
		guarded[i] = canary
	}
	s.work = guarded[guard : guard+size]
	for _, format := range rawFormats {
		s.addRaw(make([]float32, n), make([]float32, n), randomRaw(n, format), format)
	}
	for i, v := range guarded {
		row := (i - guard) % (2*n/s.radix + lineSize) // and the line of padding behind each row
		if (i < guard || i >= guard+size || row >= 2*n/s.radix) && v != canary {
			t.Fatalf("element %d of %d was written", i-guard, size)
		}
	}
}

// TestLoud has one float among quiet ones at each place of a vector: 2 and more, and what is no number, must be seen.
func TestLoud(t *testing.T) {
	if kernelEngines()[0].needs != "" {
		return
	}
	quiet := []float32{0, 1.5, -1.9999999, math.SmallestNonzeroFloat32, -1}
	raw := make([]byte, 2*128)
	for at := 0; at < len(raw); at += 4 {
		binary.LittleEndian.PutUint32(raw[at:], math.Float32bits(quiet[at/4%len(quiet)]))
	}
	if loud(&raw[0], len(raw)) != 0 {
		t.Error("quiet floats are loud")
	}
	for _, v := range []float32{2, -2, 3e38, float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN())} {
		for at := 0; at < len(raw); at += 4 {
			before := binary.LittleEndian.Uint32(raw[at:])
			binary.LittleEndian.PutUint32(raw[at:], math.Float32bits(v))
			if loud(&raw[0], len(raw)) == 0 {
				t.Errorf("%g in place %d was not seen", v, at/4)
			}
			binary.LittleEndian.PutUint32(raw[at:], before)
		}
	}
}
