//go:build amd64 && !purego

package dsp

import (
	"fmt"
	"testing"
)

// TestAVX2Segment_StaysInItsWork surrounds the buffer between the passes by canaries.
func TestAVX2Segment_StaysInItsWork(t *testing.T) {
	avx2 := kernelEngines()[0]
	if avx2.needs != "" {
		t.Logf("this processor has no %s", avx2.needs)
		return
	}
	const guard, canary = 64, 12345
	for n := minKernelFrame; n <= maxKernelFrame; n *= 2 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			s := segmentOn(t, avx2, Hann(n).Coefficients).(*avx2Segment)
			size := len(s.work)
			guarded := make([]float32, size+2*guard)
			for i := range guarded {
				guarded[i] = canary
			}
			s.work = guarded[guard : guard+size]
			for _, format := range rawFormats {
				s.addRaw(make([]float32, n), randomRaw(n, format), format)
			}
			for i, v := range guarded {
				row := (i - guard) % (2*n/s.radix + lineSize) // and the line of padding behind each row
				if (i < guard || i >= guard+size || row >= 2*n/s.radix) && v != canary {
					t.Fatalf("element %d of %d was written", i-guard, size)
				}
			}
		})
	}
}
