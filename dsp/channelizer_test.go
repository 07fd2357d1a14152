package dsp_test

import (
	"encoding/binary"
	"errors"
	"math"
	"math/cmplx"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fulgidus/heimdall/dsp"
)

// channelTone is exp(2πi·(hz/rate·index + phase)) from index `from` on, in float64 before the last rounding.
func channelTone(n int, hz, rate float64, from int64) []complex64 {
	x := make([]complex64, n)
	for i := range x {
		turns := math.Mod(hz/rate*float64(from+int64(i)), 1)
		x[i] = complex64(cmplx.Rect(1, 2*math.Pi*turns))
	}
	return x
}

func newChannelizer(t *testing.T, ch dsp.Channel) *dsp.Channelizer {
	t.Helper()
	c, err := dsp.NewChannelizer(ch)
	if err != nil {
		t.Fatalf("channelizer %+v: %v", ch, err)
	}
	return c
}

func channelize(c *dsp.Channelizer, src []complex64, from int64) []complex64 {
	c.Start(from)
	dst := make([]complex64, c.MaxOutput(len(src)))
	return dst[:c.Process(dst, src)]
}

func rms(x []complex64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += float64(real(v))*float64(real(v)) + float64(imag(v))*float64(imag(v))
	}
	return math.Sqrt(sum / float64(len(x)))
}

func levelDB(x []complex64) float64 { return 20 * math.Log10(rms(x)+1e-30) }

// The decimations of the tests: powers of two, a product, a prime and a large product.
var channelWidths = []struct {
	name         string
	rate, width  float64
	decimation   int
	rejectionsDB []float64
}{
	{"half band", 240e3, 96e3, 2, []float64{80, 100}},
	{"four half bands", 240e3, 12e3, 16, []float64{80, 100}},
	{"2·3", 12000, 1600, 6, []float64{80, 100}},
	{"prime 19", 240e3, 10e3, 19, []float64{80, 100}},
	{"3·3·17", 2.4e6, 12.5e3, 153, []float64{80, 100}},
	{"64·3", 2.4e6, 10e3, 192, []float64{100}},
}

func TestChannelizer_RippleAndAlias(t *testing.T) {
	for _, w := range channelWidths {
		for _, rejection := range w.rejectionsDB {
			t.Run(w.name, func(t *testing.T) {
				shift := w.rate * 0.137
				c := newChannelizer(t, dsp.Channel{SampleRateHz: w.rate, ShiftHz: shift, BandwidthHz: w.width, RejectionDB: rejection})
				if c.Decimation() != w.decimation {
					t.Fatalf("decimation: got %d, want %d", c.Decimation(), w.decimation)
				}
				n := 2*c.Reach() + 64*c.Decimation()
				response := func(offset float64) float64 {
					return levelDB(channelize(c, channelTone(n, shift+offset, w.rate, 0), 0))
				}

				low, high := math.Inf(1), math.Inf(-1)
				for k := -20; k <= 20; k++ {
					db := response(0.4 * c.RateHz() * float64(k) / 20)
					low, high = math.Min(low, db), math.Max(high, db)
				}
				// The contract is 0.05 dB; a filter with 80 dB of rejection has a ripple of about 0.002 dB.
				if high-low > 0.01 || math.Abs(high) > 0.01 {
					t.Errorf("pass band: %.5f to %.5f dB, want within 0.01 dB", low, high)
				}

				// From where aliases reach the pass band to the far end of the input, and just beside every multiple of
				// the output rate, where the stages fold.
				worst, at := math.Inf(-1), 0.0
				check := func(offset float64) {
					if math.Abs(offset) < 0.6*c.RateHz() || math.Abs(shift+offset) > w.rate/2 {
						return
					}
					if db := response(offset); db > worst {
						worst, at = db, offset
					}
				}
				for k := range 120 {
					check((float64(k)/120 - 0.63) * w.rate)
				}
				for m := -min(12, w.decimation); m <= min(12, w.decimation); m++ {
					for _, f := range []float64{-0.4, -0.21, 0, 0.21, 0.4} {
						check((float64(m) + f) * c.RateHz())
					}
				}
				if worst > -rejection {
					t.Errorf("worst alias: %.1f dB at %.0f Hz from the centre, want below %.0f", worst, at, -rejection)
				}
			})
		}
	}
}

func TestChannelizer_BlockSplitInvariant(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	src := make([]complex64, 30011)
	for i := range src {
		src[i] = complex(float32(rng.NormFloat64()), float32(rng.NormFloat64()))
	}
	for _, w := range channelWidths[:5] {
		ch := dsp.Channel{SampleRateHz: w.rate, ShiftHz: w.rate * 0.2, BandwidthHz: w.width}
		c := newChannelizer(t, ch)
		want := channelize(c, src, -977)
		for _, size := range []int{1, 7, 1023, 4096, 4097, len(src) / 7} {
			c.Start(-977)
			got := make([]complex64, 0, len(want))
			room := make([]complex64, c.MaxOutput(size))
			for from := 0; from < len(src); from += size {
				n := c.Process(room, src[from:min(from+size, len(src))])
				got = append(got, room[:n]...)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s in blocks of %d differs from one block:\n%.400s", w.name, size, diff)
			}
		}
	}
}

// A Gaussian pulse whose middle lies between two samples must come out where it went in: the time of output k is that of
// input index first + k·n, to a thousandth of an input sample.
func TestChannelizer_PulseKeepsItsTime(t *testing.T) {
	for _, w := range channelWidths {
		c := newChannelizer(t, dsp.Channel{SampleRateHz: w.rate, ShiftHz: -0.21 * w.rate, BandwidthHz: w.width})
		n := float64(c.Decimation())
		from := int64(-c.Reach())
		middle := 40.37 * n // input samples after index 0
		sigma := 3 * n      // a spectrum 0.05 output samples wide: all in the pass band
		src := make([]complex64, int(80*n)+2*c.Reach())
		for i := range src {
			at := float64(from + int64(i))
			envelope := math.Exp(-(at - middle) * (at - middle) / (2 * sigma * sigma))
			turns := math.Mod(-0.21*at, 1)
			src[i] = complex64(complex(envelope, 0) * cmplx.Rect(1, 2*math.Pi*turns))
		}

		out := channelize(c, src, from)
		first := from + int64(c.Reach()) // index of the first output: 0
		sum, moment := 0.0, 0.0
		for k, v := range out {
			e := cmplx.Abs(complex128(v))
			sum += e
			moment += e * float64(first+int64(k)*int64(c.Decimation()))
		}
		if got := moment / sum; math.Abs(got-middle) > 1e-3*n {
			t.Errorf("%s: pulse at input sample %.4f, want %.4f", w.name, got, middle)
		}
	}
}

// A chirp's phase at each output must be that of the chirp at the stated input sample: this fails for any error of delay
// or of the oscillator's phase.
func TestChannelizer_ChirpKeepsItsPhase(t *testing.T) {
	const rate, shift = 240e3, 31234.5
	c := newChannelizer(t, dsp.Channel{SampleRateHz: rate, ShiftHz: shift, BandwidthHz: 12e3})
	sweep := func(at float64) float64 { // turns: -4 kHz to 4 kHz in 0.2 s around the shift
		s := at / rate
		return -4000*s + 0.5*40000*s*s
	}
	from := int64(-c.Reach())
	src := make([]complex64, 48000+2*c.Reach())
	for i := range src {
		at := float64(from + int64(i))
		src[i] = complex64(cmplx.Rect(1, 2*math.Pi*math.Mod(shift/rate*at+sweep(at), 1)))
	}
	for k, v := range channelize(c, src, from) {
		want := cmplx.Rect(1, 2*math.Pi*sweep(float64(k*c.Decimation())))
		// 1e-4 is a twentieth of an input sample's phase at 4 kHz, and 100 times the rounding of float32.
		if d := cmplx.Abs(complex128(v) - want); d > 1e-4 {
			t.Fatalf("output %d: %v, want %v (off by %.2e)", k, v, want, d)
		}
	}
}

func TestChannelizer_NoAllocations(t *testing.T) {
	c := newChannelizer(t, dsp.Channel{SampleRateHz: 2.4e6, ShiftHz: 1e5, BandwidthHz: 12.5e3})
	src := channelTone(16384, 1e5, 2.4e6, 0)
	dst := make([]complex64, c.MaxOutput(len(src)))
	if n := testing.AllocsPerRun(10, func() { c.Process(dst, src) }); n != 0 {
		t.Errorf("allocations a block: got %v, want 0", n)
	}
}

func TestChannel_Decimation(t *testing.T) {
	for _, tc := range []struct {
		rate, width float64
		want        int
	}{
		{2.4e6, 12.5e3, 153}, // 15.686 kHz; 154 would give 15.584, below 1.25·12.5
		{240e3, 19200, 10},   // exactly 1.25
		{12001.135, 5000, 1},
		{12001.135, 12000, 1}, // wider than 0.8 of the rate: all there is
		{12001.135, 4800.454, 2},
		{0.3, 0.08, 3},
	} {
		got, err := dsp.Channel{SampleRateHz: tc.rate, BandwidthHz: tc.width}.Decimation()
		if err != nil || got != tc.want {
			t.Errorf("%g Hz of %g Hz: got %d, %v, want %d", tc.width, tc.rate, got, err, tc.want)
		}
	}
}

func TestNewChannelizer_Refuses(t *testing.T) {
	nan := math.NaN()
	for name, ch := range map[string]dsp.Channel{
		"no rate":          {BandwidthHz: 1},
		"infinite rate":    {SampleRateHz: math.Inf(1), BandwidthHz: 1},
		"no bandwidth":     {SampleRateHz: 1e6},
		"NaN bandwidth":    {SampleRateHz: 1e6, BandwidthHz: nan},
		"wide":             {SampleRateHz: 1e6, BandwidthHz: 1.1e6},
		"shift outside":    {SampleRateHz: 1e6, BandwidthHz: 1e4, ShiftHz: 5.1e5},
		"NaN shift":        {SampleRateHz: 1e6, BandwidthHz: 1e4, ShiftHz: nan},
		"large prime":      {SampleRateHz: 20011, BandwidthHz: 0.8},
		"absurdly narrow":  {SampleRateHz: 1e9, BandwidthHz: 1e-3},
		"negative rate":    {SampleRateHz: -1, BandwidthHz: 1},
		"tiny rate":        {SampleRateHz: 5e-324, BandwidthHz: 1},
		"negative minimum": {SampleRateHz: 1e6, BandwidthHz: -1e4},
	} {
		if _, err := dsp.NewChannelizer(ch); !errors.Is(err, dsp.ErrBandwidth) {
			t.Errorf("%s: got %v, want ErrBandwidth", name, err)
		}
	}
}

func TestChannelizer_WholeBandOnlyShifts(t *testing.T) {
	c := newChannelizer(t, dsp.Channel{SampleRateHz: 12000, ShiftHz: 500, BandwidthHz: 10000})
	if c.Decimation() != 1 || c.Reach() != 0 || c.RateHz() != 12000 {
		t.Fatalf("decimation %d, reach %d, rate %g: want 1, 0, 12000", c.Decimation(), c.Reach(), c.RateHz())
	}
	for k, v := range channelize(c, channelTone(5000, 500, 12000, 0), 0) {
		if cmplx.Abs(complex128(v)-1) > 1e-6 {
			t.Fatalf("sample %d: %v, want 1", k, v)
		}
	}
}

func TestAppendCS16(t *testing.T) {
	nan := float32(math.NaN())
	src := []complex64{complex(0, 0.5), complex(1, -1), complex(2, -2), complex(nan, 2.5/16384), complex(-3, 0)}
	got, clipped := dsp.AppendCS16([]byte{9}, src, 2)
	want := []int16{0, 8192, 16384, -16384, 32767, -32768, 0, 2, -32768, 0} // 2 is at the rail: 32768 does not fit
	codes := make([]int16, 0, len(want))
	for i := 1; i < len(got); i += 2 {
		codes = append(codes, int16(binary.LittleEndian.Uint16(got[i:])))
	}
	if diff := cmp.Diff(want, codes); diff != "" || got[0] != 9 {
		t.Errorf("codes (-want +got):\n%s", diff)
	}
	if clipped != 3 {
		t.Errorf("clipped: got %d, want 3 (one above the rail, one below, one not a number)", clipped)
	}
}
