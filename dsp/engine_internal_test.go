package dsp

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gonum.org/v1/gonum/dsp/fourier"
)

var rawFormats = []Format{CU8, CS8, CS16, CF32}

// TestEngines_RunTheSuite runs the tests of what rests on the engines once more on each that was not chosen, without the race detector,
// which would take most of the time there and finds nothing else than on the one that was.
func TestEngines_RunTheSuite(t *testing.T) {
	if os.Getenv(engineSetting) != "" {
		return // one is forced: this is such a run, or the caller's own
	}
	now, err := Engine()
	if err != nil {
		t.Fatal(err)
	}
	tests := filepath.Join(t.TempDir(), "dsp.test")
	if out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", tests, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, e := range runnableEngines() {
		if e.name == now {
			continue
		}
		t.Run(e.name, func(t *testing.T) {
			c := exec.CommandContext(t.Context(), tests, "-test.run", "Welch|Detector|Channelizer|Meter", "-test.count=1")
			c.Env = append(os.Environ(), engineSetting+"="+e.name)
			if out, err := c.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func TestChooseEngine(t *testing.T) {
	engines := runnableEngines()
	best := engines[len(engines)-1].name
	for setting, want := range map[string]string{"": best, "generic": "generic", best: best} {
		if e, err := chooseEngine(setting); err != nil || e.name != want {
			t.Errorf("%q: got %q, %v, want %q", setting, e.name, err, want)
		}
	}
	if _, err := chooseEngine("fast"); err == nil || !strings.Contains(err.Error(), "HEIMDALL_DSP=fast: ") || !strings.Contains(err.Error(), "generic") {
		t.Errorf("an unknown engine gave %v, want an error that names the setting and the mend", err)
	}
	for _, e := range kernelEngines() {
		if _, err := chooseEngine(e.name); (err != nil) != (e.needs != "") {
			t.Errorf("%s, which needs %q: got %v", e.name, e.needs, err)
		}
	}
}

// TestSegment_AgreesWithDoublePrecision compares every engine with a transform in double precision, and so with each other.
func TestSegment_AgreesWithDoublePrecision(t *testing.T) {
	for _, e := range runnableEngines() {
		for n := MinFFT; n <= 65536; n *= 2 {
			for _, format := range rawFormats {
				t.Run(fmt.Sprint(e.name, n, format), func(t *testing.T) {
					testSegment(t, e, n, format, randomRaw(n, format))
				})
			}
			t.Run(fmt.Sprint(e.name, n, "quiet floats"), func(t *testing.T) { // have a kernel of their own
				re, im := make([]float32, n), make([]float32, n)
				Convert(re, im, randomRaw(n, CS16), CS16)
				var raw []byte
				for i := range re {
					raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(re[i]))
					raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(im[i]))
				}
				testSegment(t, e, n, CF32, raw)
			})
		}
	}
}

func testSegment(t *testing.T, e engine, n int, format Format, raw []byte) {
	t.Helper()
	window := Hann(n).Coefficients
	s, twin := segmentOn(t, e, window), segmentOn(t, portable, window)
	re, im := make([]float32, n), make([]float32, n)
	Convert(re, im, raw, format)
	x := make([]complex128, n)
	for i, w := range window {
		x[i] = complex(float64(re[i])*float64(w), float64(im[i])*float64(w))
	}
	want := fourier.NewCmplxFFT(n).Coefficients(nil, x)

	// Odd addresses, and sums that go on.
	fromRaw, fromFloats, fromTwin := make([]float32, n), make([]float32, n), make([]float32, n)
	for range 2 {
		s.addRaw(fromRaw, nil, append(make([]byte, 1, 1+len(raw)), raw...)[1:], format)
		s.add(fromFloats, re, im)
		twin.addRaw(fromTwin, nil, raw, format)
	}
	exact := func(k int32) float64 { return 2 * (real(want[k])*real(want[k]) + imag(want[k])*imag(want[k])) }
	byBin := make([]float64, n)
	for i, k := range twin.order() {
		byBin[k] = float64(fromTwin[i])
	}
	for name, got := range map[string][]float32{"raw": fromRaw, "floats": fromFloats} {
		if e := relativeError(got, s.order(), exact); e > 1e-6 { // -120 dB
			t.Errorf("%s: relative error %.2g against double precision, want at most 1e-6", name, e)
		}
		if e := relativeError(got, s.order(), func(k int32) float64 { return byBin[k] }); e > 1e-5 {
			t.Errorf("%s: relative error %.2g against the portable code, want at most 1e-5", name, e)
		}
	}
}

// relativeError is the RMS of the difference over the RMS of what is wanted.
func relativeError(got []float32, order []int32, want func(bin int32) float64) float64 {
	var diff, power float64
	for i, k := range order {
		d := float64(got[i]) - want(k)
		diff += d * d
		power += want(k) * want(k)
	}
	return math.Sqrt(diff / power)
}

// TestSegment_KeepsAndSorts adds frames one after the other: what is kept of each adds up to the sum, to the last bit, and both are
// sorted as the order says.
func TestSegment_KeepsAndSorts(t *testing.T) {
	for _, e := range runnableEngines() {
		for n := MinFFT; n <= 32768; n *= 2 {
			for _, format := range rawFormats {
				s := segmentOn(t, e, Hann(n).Coefficients)
				acc, kept, want, sorted := make([]float32, n), make([]float32, n), make([]float32, n), make([]float32, n)
				for range 3 {
					raw, alone := randomRaw(n, format), make([]float32, n)
					s.addRaw(acc, kept, raw, format)
					s.addRaw(alone, nil, raw, format)
					for i, v := range kept {
						want[i] += v
						if acc[i] != want[i] || v != alone[i] {
							t.Fatalf("%s, %d, %s: sum %d is %g, kept is %g; want %g and %g", e.name, n, format, i, acc[i], v, want[i], alone[i])
						}
					}
				}
				s.sort(sorted, acc)
				for i, k := range s.order() {
					if at := (int(k) + n/2) % n; sorted[at] != acc[i] {
						t.Fatalf("%s, %d: bin %d is %g, want %g", e.name, n, at, sorted[at], acc[i])
					}
				}
			}
		}
	}
}

// TestOver has values under, at and over their limits, and those that are none, in each place.
func TestOver(t *testing.T) {
	nan := float32(math.NaN())
	for _, e := range runnableEngines() {
		for _, n := range []int{16, 64, 192, 1024} {
			values, limits := make([]float32, n), make([]float32, n)
			for i := range values {
				values[i], limits[i] = []float32{1, 2, 3, nan, 1}[i%5], []float32{2, 2, 2, 2, nan}[i%5]
			}
			marks := make([]uint64, (n+63)/64)
			marks[0] = math.MaxUint64
			e.over(marks, values, limits)
			for i := range 64 * len(marks) {
				want := i < n && i%5 != 0
				if got := marks[i/64]>>(i%64)&1 == 1; got != want {
					t.Fatalf("%s, %d of %d, %g against %g: got %v", e.name, i, n, values[i%n], limits[i%n], got)
				}
			}
		}
	}
}

// TestSegment_EveryCode has frames of a single code for I and another for Q: all their power is at 0 Hz.
func TestSegment_EveryCode(t *testing.T) {
	const n = 256
	for _, e := range runnableEngines() {
		for format, zero := range map[Format]float64{CU8: 127.5, CS8: 0} {
			s := segmentOn(t, e, Rectangular(n).Coefficients)
			for c := range 256 {
				i, q := byte(c), byte(255-c*7)
				raw, acc := make([]byte, 2*n), make([]float32, n)
				for at := 0; at < len(raw); at += 2 {
					raw[at], raw[at+1] = i, q
				}
				s.addRaw(acc, nil, raw, format)
				a, b := float64(i)-zero, float64(q)-zero
				if format == CS8 {
					a, b = float64(int8(i)), float64(int8(q))
				}
				want := (a*a + b*b) * n * n * StepOf(format) * StepOf(format)
				for at, k := range s.order() {
					switch got := float64(acc[at]); {
					case k == 0 && math.Abs(got-want) > 1e-5*want, k != 0 && got > 1e-5*want:
						t.Fatalf("%s %s, codes %d and %d: bin %d has %g, want %g at 0 Hz", e.name, format, i, q, k, got, want)
					}
				}
			}
		}
	}
}

// TestSegment_FloatsThatAreNone must not spoil a spectrum: they count as Convert has them.
func TestSegment_FloatsThatAreNone(t *testing.T) {
	const n = 1024
	raw := randomRaw(n, CF32)
	for i, v := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), 3e38, -3e38, math.SmallestNonzeroFloat32} {
		binary.LittleEndian.PutUint32(raw[4*(37*i+1):], math.Float32bits(v))
	}
	window := Hann(n).Coefficients
	twin, want := segmentOn(t, portable, window), make([]float32, n)
	twin.addRaw(want, nil, raw, CF32)
	byBin := make([]float64, n)
	for i, k := range twin.order() {
		byBin[k] = float64(want[i])
	}
	for _, e := range runnableEngines() {
		s, got := segmentOn(t, e, window), make([]float32, n)
		s.addRaw(got, nil, raw, CF32)
		if e := relativeError(got, s.order(), func(k int32) float64 { return byBin[k] }); !(e < 1e-5) {
			t.Errorf("relative error %.2g, want at most 1e-5", e)
		}
	}
}

// TestSegment_StaysInItsBuffers surrounds what a segment writes by canaries, and sees that it changes nothing it reads.
func TestSegment_StaysInItsBuffers(t *testing.T) {
	const guard, canary = 64, 12345
	for _, e := range runnableEngines() {
		for n := MinFFT; n <= 32768; n *= 2 {
			s := segmentOn(t, e, Hann(n).Coefficients)
			guarded := func() []float32 {
				b := make([]float32, n+2*guard)
				for i := range b {
					b[i] = canary
				}
				return b
			}
			acc, re, im, kept, sorted := guarded(), guarded(), guarded(), guarded(), guarded()
			inner := func(b []float32) []float32 { return b[guard : guard+n] }
			s.add(inner(acc), inner(re), inner(im))
			for _, format := range rawFormats {
				raw := randomRaw(n, format)
				before := string(raw)
				s.addRaw(inner(acc), nil, raw, format)
				s.addRaw(inner(acc), inner(kept), raw, format)
				s.sort(inner(sorted), inner(kept))
				if string(raw) != before {
					t.Errorf("%s, %d, %s: samples were changed", e.name, n, format)
				}
			}
			for i := range acc {
				outside := i < guard || i >= guard+n
				if re[i] != canary || im[i] != canary || outside && (acc[i] != canary || kept[i] != canary || sorted[i] != canary) {
					t.Fatalf("%s, %d: element %d was written", e.name, n, i-guard)
				}
			}
		}
	}
}

func TestSegment_AllocatesNothing(t *testing.T) {
	for _, e := range runnableEngines() {
		w := welchOn(t, e)
		raw := randomCodes(1 << 16)
		w.WriteRaw(raw, CU8)
		if a := testing.AllocsPerRun(10, func() { w.WriteRaw(raw, CU8) }); a != 0 {
			t.Errorf("%s: %v allocations a block, want 0", e.name, a)
		}
	}
}

// TestWelch_WriteRaw cuts the bytes in ugly places and changes the format: the sums are those of converted samples.
func TestWelch_WriteRaw(t *testing.T) {
	for _, e := range runnableEngines() {
		for _, format := range rawFormats {
			raw := randomRaw(5*chainBins+77, format)
			whole, pieces, floats := welchOn(t, e), welchOn(t, e), welchOn(t, e)
			whole.WriteRaw(append(raw, 1), format) // and a byte of no sample
			pieces.WriteRaw(randomRaw(99, CS8), CS8)
			pieces.Write(make([]float32, 99), make([]float32, 99))
			for at, size := 0, 1; at < len(raw); size = size*3 + 1 {
				end := min(at+size*format.BytesPerSample(), len(raw))
				pieces.WriteRaw(raw[at:end], format)
				at = end
			}
			whole.WriteRaw(raw, FormatUnknown)
			re, im := make([]float32, 5*chainBins+77), make([]float32, 5*chainBins+77)
			Convert(re, im, raw, format)
			floats.Write(re, im)
			a, b, c := make([]float64, chainBins), make([]float64, chainBins), make([]float64, chainBins)
			if na, nb, nc := whole.Drain(a), pieces.Drain(b), floats.Drain(c); na != 9 || nb != na || nc != na {
				t.Fatalf("%s, %s: %d, %d and %d frames, want 9", e.name, format, na, nb, nc)
			}
			for i := range a {
				if a[i] != b[i] || math.Abs(a[i]-c[i]) > 1e-4*c[i]+1e-3 {
					t.Fatalf("%s, %s, bin %d: whole %g, in pieces %g, converted %g", e.name, format, i, a[i], b[i], c[i])
				}
			}
		}
	}
}

func segmentOn(t testing.TB, e engine, window []float32) segment {
	t.Helper()
	s, err := e.segment(len(window), window)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// randomRaw is n samples of noise in a format: all codes, or floats about 1.
func randomRaw(n int, format Format) []byte {
	if format != CF32 {
		return randomCodes(n * format.BytesPerSample())
	}
	rng := rand.New(rand.NewPCG(uint64(n), 7))
	raw := make([]byte, 0, n*8)
	for range 2 * n {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(float32(rng.NormFloat64())))
	}
	return raw
}
