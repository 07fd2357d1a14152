package dsp

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/cmplx"
	"math/rand/v2"
	"slices"
	"testing"
)

const filterCanary = 12345

// guarded are parts with room for n numbers and the slack, at an alignment, between canaries.
func guarded(n, alignment int) (inner parts, untouched func() bool) {
	const guard = 16
	begin, end := guard+alignment, guard+alignment+n+filterSlack
	make1 := func() []float32 {
		s := make([]float32, end+guard)
		for i := range s {
			s[i] = filterCanary
		}
		return s
	}
	re, im := make1(), make1()
	return parts{re[begin:end:end], im[begin:end:end]}, func() bool {
		for _, s := range [][]float32{re, im} {
			outside := append(slices.Clone(s[:begin]), s[end:]...)
			if slices.ContainsFunc(outside, func(v float32) bool { return v != filterCanary }) {
				return false
			}
		}
		return true
	}
}

func noiseParts(n int) parts {
	rng, p := rand.New(rand.NewPCG(uint64(n), 3)), newParts(n)
	for i := range p.re {
		p.re[i], p.im[i] = float32(rng.NormFloat64()), float32(rng.NormFloat64())
	}
	return p
}

// farthest is the largest difference of n samples from what they should be.
func farthest(got parts, n int, want func(i int) complex128) float64 {
	worst := 0.0
	for i := range n {
		worst = max(worst, cmplx.Abs(complex(float64(got.re[i]), float64(got.im[i]))-want(i)))
	}
	return worst
}

// TestFilters_Mix has every engine turn samples of every format, length and alignment: against double precision.
func TestFilters_Mix(t *testing.T) {
	o := newOscillator(-123.4567, 1000)
	phase := func(index int64) complex128 {
		return cmplx.Rect(1, 2*math.Pi*math.Mod(-0.1234567*float64(index), 1))
	}
	for _, e := range runnableEngines() {
		f := e.filters()
		for _, format := range rawFormats {
			for n := range 70 {
				raw := append(make([]byte, 1+n%3), randomRaw(n, format)...)[1+n%3:] // odd addresses
				before := string(raw)
				x := newParts(n)
				Convert(x.re, x.im, raw, format)
				index := int64(n*n - 99)
				turn, of := o.turn(index, n)
				out, untouched := guarded(n, n%8)
				f.mix(out, raw[:of*format.BytesPerSample()], format, turn)
				worst := farthest(out, of, func(i int) complex128 {
					return complex(float64(x.re[i]), float64(x.im[i])) * phase(index+int64(i))
				})
				if worst > 1e-6 || !untouched() || string(raw) != before {
					t.Fatalf("%s, %d of %s: off by %.2g, want at most 1e-6; neighbours untouched: %v, samples: %v",
						e.name, n, format, worst, untouched(), string(raw) == before)
				}
			}
		}
	}
}

// TestFilters_Turn is the same in place.
func TestFilters_Turn(t *testing.T) {
	for _, e := range runnableEngines() {
		f := e.filters()
		for _, shift := range []float64{0, 77} {
			o := newOscillator(shift, 1000)
			for n := 1; n < 70; n++ {
				x := noiseParts(n)
				out, untouched := guarded(n, n%8)
				copy(out.re, x.re)
				copy(out.im, x.im)
				turn, of := o.turn(int64(n), n)
				f.turn(out, of, turn)
				worst := farthest(out, of, func(i int) complex128 {
					return complex(float64(x.re[i]), float64(x.im[i])) * cmplx.Rect(1, 2*math.Pi*shift/1000*float64(n+i))
				})
				if worst > 1e-6 || !untouched() {
					t.Fatalf("%s, %d by %g: off by %.2g, want at most 1e-6; neighbours untouched: %v", e.name, n, shift, worst, untouched())
				}
			}
		}
	}
}

// TestFilters_Decimate compares every engine with the sums in double precision, and what is computed of one output with
// what it is among many, which must be the same to the last bit.
func TestFilters_Decimate(t *testing.T) {
	for _, tc := range []struct {
		factor int
		pass   float64
		stopDB float64
		counts []int
	}{
		{2, 0.4, 86, []int{1, 2, 31, 32, 33, 256, 257, 700}},
		{2, 0.4, 106, []int{64}},
		{2, 0.05, 86, []int{1, 300}},
		{3, 0.01, 86, []int{1, 2, 3, 4, 5, 63}},
		{5, 0.4, 106, []int{7}},
		{17, 0.4, 86, []int{1, 6, 9}},
		{1301, 0.4, 86, []int{1, 5}}, // longer than one call takes
	} {
		d := newDecimator(tc.factor, tc.pass, tc.stopDB)
		taps := fullTaps(d.half)
		for _, n := range tc.counts {
			for alignment := range 3 {
				size := (n-1)*tc.factor + d.window()
				in := noiseParts(alignment + size + 4*tc.factor + filterSlack).from(alignment)
				copied := parts{slices.Clone(in.re), slices.Clone(in.im)}
				for _, e := range runnableEngines() {
					f := e.filters()
					out, untouched := guarded(n, alignment)
					f.decimate(out, in, n, d)
					worst := farthest(out, n, func(j int) complex128 {
						var sum complex128
						for k, tap := range taps {
							sum += complex(tap*float64(in.re[j*tc.factor+k]), tap*float64(in.im[j*tc.factor+k]))
						}
						return sum
					})
					if worst > 1e-6 || !untouched() {
						t.Errorf("%s, by %d, %d outputs: off by %.2g, want at most 1e-6; neighbours untouched: %v", e.name, tc.factor, n, worst, untouched())
					}
					if !slices.Equal(in.re, copied.re) || !slices.Equal(in.im, copied.im) {
						t.Errorf("%s, by %d, %d outputs: the input was changed", e.name, tc.factor, n)
					}
					one := newParts(1 + filterSlack)
					for j := range n {
						f.decimate(one, in.from(j*tc.factor), 1, d)
						if one.re[0] != out.re[j] || one.im[0] != out.im[j] {
							t.Fatalf("%s, by %d: output %d is %g%+gi alone, %g%+gi among %d", e.name, tc.factor, j, one.re[0], one.im[0], out.re[j], out.im[j], n)
						}
					}
				}
			}
		}
	}
}

func fullTaps(half []float32) []float64 {
	var taps []float64
	for k := 1 - len(half); k < len(half); k++ {
		taps = append(taps, float64(half[max(k, -k)]))
	}
	return taps
}

func TestFilters_Join(t *testing.T) {
	x := noiseParts(70)
	for _, e := range runnableEngines() {
		f := e.filters()
		for n := range 60 {
			dst := make([]complex64, n+2)
			f.join(dst[1:1+n], x.from(n%5))
			for i, v := range dst[1 : 1+n] {
				if want := complex(x.re[n%5+i], x.im[n%5+i]); v != want {
					t.Fatalf("%s, %d of %d: %v, want %v", e.name, i, n, v, want)
				}
			}
			if dst[0] != 0 || dst[n+1] != 0 {
				t.Fatalf("%s, %d: a neighbour was written", e.name, n)
			}
		}
	}
}

// TestChannelizer_Raw has every engine cut channels out of raw samples, whole and in ugly pieces, which are the same to the last
// bit; and compares with the same of converted samples by the portable code.
func TestChannelizer_Raw(t *testing.T) {
	for _, width := range []float64{240e3, 96e3, 30e3, 12e3, 10e3, 1.3e3} {
		ch := Channel{SampleRateHz: 240e3, ShiftHz: 31234.5, BandwidthHz: width, RejectionDB: 80}
		for _, format := range rawFormats {
			raw := randomRaw(20011, format)
			samples := make([]complex64, 20011)
			ConvertComplex(samples, raw, format)
			twin := channelizerOn(t, portable, ch)
			twin.Start(-777)
			want := make([]complex64, twin.MaxOutput(len(samples)))
			want = want[:twin.Process(want, samples)]

			for _, e := range runnableEngines() {
				c := channelizerOn(t, e, ch)
				whole := rawPieces(c, raw, format, len(samples))
				for _, size := range []int{1, 7, 1023, 4097} {
					if got := rawPieces(c, raw, format, size); !slices.Equal(got, whole) {
						t.Errorf("%s, %g Hz, %s: in pieces of %d it differs", e.name, width, format, size)
					}
				}
				if len(whole) != len(want) {
					t.Fatalf("%s, %g Hz, %s: %d samples, want %d", e.name, width, format, len(whole), len(want))
				}
				for i, v := range whole {
					if d := cmplx.Abs(complex128(v) - complex128(want[i])); d > 3e-6 {
						t.Fatalf("%s, %g Hz, %s, sample %d: off by %.2g, want at most 3e-6", e.name, width, format, i, d)
					}
				}
			}
		}
	}
}

// rawPieces is the channel from index -777 on, with a byte of no sample behind each piece.
func rawPieces(c *Channelizer, raw []byte, format Format, size int) []complex64 {
	c.Start(-777)
	room := make([]complex64, c.MaxOutput(size))
	var got []complex64
	for width := format.BytesPerSample(); len(raw) > 0; {
		n := min(size*width, len(raw))
		got = append(got, room[:c.ProcessRaw(room, append(raw[:n:n], 1), format)]...)
		raw = raw[n:]
	}
	return got
}

func channelizerOn(t testing.TB, e engine, ch Channel) *Channelizer {
	t.Helper()
	c, err := newChannelizer(ch, e)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestChannelizer_FloatsThatAreNone must leave no trace: they count as zero, raw or not.
func TestChannelizer_FloatsThatAreNone(t *testing.T) {
	const n = 5000
	raw, clean := randomRaw(n, CF32), randomRaw(n, CF32)
	for i, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		at := 8 * (701*i + n - 1500)
		binary.LittleEndian.PutUint32(raw[at:], math.Float32bits(float32(v)))
		binary.LittleEndian.PutUint32(clean[at:], 0)
	}
	x := make([]complex64, n)
	for i := range x {
		x[i] = complex(math.Float32frombits(binary.LittleEndian.Uint32(raw[8*i:])), math.Float32frombits(binary.LittleEndian.Uint32(raw[8*i+4:])))
	}
	for _, e := range runnableEngines() {
		c := channelizerOn(t, e, Channel{SampleRateHz: 48e3, ShiftHz: 1e3, BandwidthHz: 6e3})
		dst := make([]complex64, c.MaxOutput(n))
		run := func(process func() int) []complex64 {
			c.Start(0)
			return slices.Clone(dst[:process()])
		}
		want := run(func() int { return c.ProcessRaw(dst, clean, CF32) })
		for name, got := range map[string][]complex64{
			"raw":     run(func() int { return c.ProcessRaw(dst, raw, CF32) }),
			"complex": run(func() int { return c.Process(dst, x) }),
		} {
			for i, v := range got {
				if d := cmplx.Abs(complex128(v) - complex128(want[i])); !(d < 1e-5) {
					t.Fatalf("%s, %s: sample %d is %v, want %v", e.name, name, i, v, want[i])
				}
			}
		}
	}
}

func TestChannelizer_AllocatesNothing(t *testing.T) {
	raw, x := randomCodes(2*16384), make([]complex64, 16384)
	for _, e := range runnableEngines() {
		for _, width := range []float64{12.5e3, 250e3, 2.4e6} {
			t.Run(fmt.Sprint(e.name, width), func(t *testing.T) {
				c := channelizerOn(t, e, Channel{SampleRateHz: 2.4e6, ShiftHz: 1e5, BandwidthHz: width})
				dst := make([]complex64, c.MaxOutput(len(x)))
				if n := testing.AllocsPerRun(10, func() { c.ProcessRaw(dst, raw, CU8); c.Process(dst, x) }); n != 0 {
					t.Errorf("allocations a block: got %v, want 0", n)
				}
			})
		}
	}
}

func TestOscillator_DoesNotDrift(t *testing.T) {
	at := func(o *oscillator, index int64) complex128 {
		turn, of := o.turn(index, 1)
		if of != 1 {
			t.Fatalf("index %d: factors of %d samples, want 1", index, of)
		}
		return complex(float64(turn.re[0]), float64(turn.im[0])) * turn.base
	}
	// 1/3 of the rate has no finite binary fraction: at index 3·2⁴⁰ the phase must still be a whole turn.
	o := newOscillator(100, 300)
	for _, index := range []int64{0, 3, 3 << 20, 3 << 40, -3 << 40} {
		if d := cmplx.Abs(at(o, index) - 1); d > 1e-6 {
			t.Errorf("index %d: off by %.1e", index, d)
		}
	}
	if still := newOscillator(0, 300); at(still, 12345) != 1 {
		t.Errorf("no shift: got %v, want 1", at(still, 12345))
	}
	// Across several exact phases.
	for left, index := 5000, int64(777); left > 0; {
		turn, of := o.turn(index, left)
		for i := range of {
			want := cmplx.Rect(1, 2*math.Pi*float64((index+int64(i))%3)/3)
			if got := complex(float64(turn.re[i]), float64(turn.im[i])) * turn.base; cmplx.Abs(got-want) > 1e-6 {
				t.Fatalf("index %d: %v, want %v", index+int64(i), got, want)
			}
		}
		left, index = left-of, index+int64(of)
	}
}
