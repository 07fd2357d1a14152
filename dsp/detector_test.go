package dsp_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fulgidus/heimdall/dsp"
)

// The detector is tested at one million samples a second: 512 bins of 1953 Hz, a row each 1024 samples.
const (
	bins  = 512
	milli = 1000 // samples in a millisecond
	row   = 2 * bins
)

func detectorConfig() dsp.DetectorConfig {
	return dsp.DetectorConfig{Bins: bins, GapSamples: 10 * milli, EnergySamples: milli / 2}
}

// scene are signals and what a detector must make of them.
type scene struct {
	samples int
	signals []dsp.Signal
}

// detect runs a scene through a detector in blocks of one size and returns all events.
func detect(t testing.TB, cfg dsp.DetectorConfig, s scene, size int) []dsp.Event {
	t.Helper()
	return detectIn(t, cfg, floats(s.samples, s.signals...), size)
}

// floatBytes are those of a sample in floats.
const floatBytes = 8

// floats are samples of some signals.
func floats(n int, signals ...dsp.Signal) []byte {
	x := make([]complex128, n)
	for _, s := range signals {
		s(x, 0)
	}
	return dsp.Quantise(nil, x, dsp.CF32)
}

func detectIn(t testing.TB, cfg dsp.DetectorConfig, raw []byte, size int) []dsp.Event {
	t.Helper()
	d, err := dsp.NewDetector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var all []dsp.Event
	for block := range slices.Chunk(raw, size*floatBytes) {
		all = append(all, d.WriteRaw(block, dsp.CF32)...)
	}
	return append(all, d.Flush()...)
}

// gates are stretches in milliseconds.
func gates(ms ...float64) (g [][2]uint64) {
	for i := 0; i < len(ms); i += 2 {
		g = append(g, [2]uint64{uint64(ms[i] * milli), uint64(ms[i+1] * milli)})
	}
	return g
}

// noise is the background of all scenes: -40 dBFS in all, -67 dBFS a cell.
func noise() dsp.Signal { return dsp.WhiteNoise(math.Sqrt(0.5e-4), 1) }

func TestDetector_Burst(t *testing.T) {
	got := detect(t, detectorConfig(), scene{400 * milli, []dsp.Signal{noise(), dsp.Gated(dsp.Tone(0.01, 0.2), gates(100.3, 125.6))}}, 10000)
	if len(got) != 1 {
		t.Fatalf("%d events, want 1: %+v", len(got), got)
	}
	e := got[0]
	near(t, "start", e.Start, 100.3*milli, 0.3*milli)
	near(t, "end", e.End, 125.6*milli, 0.3*milli)
	near(t, "centre, bins", e.Center, 0.2*bins, 0.05)
	near(t, "level dBFS", dsp.DB(e.Power), -40, 0.3)
	if !e.Line || e.Open || e.Clipped || e.Lasting || e.ID != 1 {
		t.Errorf("%+v", e)
	}
	// A tone over the noise of the bins that hold it: its main lobe has four, 99 % lie in 3.4 bins.
	near(t, "SNR dB", dsp.DB(e.Power/e.Noise), -40+67-dsp.DB(4), 1)
}

func TestDetector_BlockSplitInvariant(t *testing.T) {
	raw := floats(700*milli, noise(), dsp.Tone(0.05, -0.31),
		dsp.Gated(dsp.Tone(0.1, 0.2), gates(20, 45, 300, 304, 306, 310)),
		dsp.Gated(dsp.QPSK(0.01, 20, 0.35, 3), gates(200, 420)))
	want := detectIn(t, detectorConfig(), raw, len(raw))
	if len(want) < 3 {
		t.Fatalf("%d events: %+v", len(want), want)
	}
	// The sum of a window's power is rounded where a block ends.
	same := cmpopts.EquateApprox(1e-9, 1e-9)
	for _, size := range []int{700 * milli / 7, 4096, 1023, 77} {
		if diff := cmp.Diff(want, detectIn(t, detectorConfig(), raw, size), same); diff != "" {
			t.Errorf("blocks of %d: %s", size, diff)
		}
	}
}

func TestDetector_Scenes(t *testing.T) {
	burst := func(amplitude, f float64, ms ...float64) dsp.Signal {
		return dsp.Gated(dsp.Tone(amplitude, f), gates(ms...))
	}
	fsk := func(dst []complex128, first uint64) { // 2 kbit/s, +-20 kHz
		for i := range dst {
			n := first + uint64(i)
			f := 0.18 + 0.04*float64(n/500*2654435761>>5&1)
			dsp.Tone(0.1, f)(dst[i:i+1], n)
		}
	}
	type span struct{ start, end float64 } // ms
	for _, v := range []struct {
		name   string
		cfg    func(*dsp.DetectorConfig)
		s      scene
		events []span
	}{
		{"noise", nil, scene{1000 * milli, []dsp.Signal{noise()}}, nil},
		{"a pause of 5 ms", nil, scene{300 * milli, []dsp.Signal{noise(), burst(0.05, 0.1, 100, 110, 115, 130)}}, []span{{100, 130}}},
		{"a pause of 15 ms", nil, scene{300 * milli, []dsp.Signal{noise(), burst(0.05, 0.1, 100, 110, 125, 130)}}, []span{{100, 110}, {125, 130}}},
		{"a pulse of 1 ms", nil, scene{300 * milli, []dsp.Signal{noise(), burst(0.3, 0.1, 100, 101)}}, []span{{100, 101}}},
		{"a strong burst with hard edges", nil, scene{300 * milli, []dsp.Signal{noise(), burst(0.9, 0.1, 100, 150)}}, []span{{100, 150}}},
		{"strong keying, half a millisecond", nil, scene{300 * milli, []dsp.Signal{noise(), func(dst []complex128, first uint64) {
			for i := range dst {
				if n := first + uint64(i); n/500%2 == 0 && n > 100*milli && n < 150*milli {
					dsp.Tone(0.5, 0.1)(dst[i:i+1], n)
				}
			}
		}}}, []span{{100.3, 149.6}}},
		{"two carriers with the same schedule, far apart", nil, scene{300 * milli, []dsp.Signal{noise(), burst(0.05, 0.1, 100, 150), burst(0.05, -0.3, 100, 150)}}, []span{{100, 150}, {100, 150}}},
		{"shift keying", nil, scene{300 * milli, []dsp.Signal{noise(), dsp.Gated(fsk, gates(100, 150))}}, []span{{100, 150}}},
		{"two tones at once, near", nil, scene{300 * milli, []dsp.Signal{noise(), burst(0.05, 0.1, 100, 150), burst(0.05, 0.12, 100, 150)}}, []span{{100, 150}}},
		{"a spur 35 dB down within a burst", nil, scene{300 * milli, []dsp.Signal{noise(), burst(0.9, 0.1, 100, 150), burst(0.015, -0.3, 110, 140)}}, []span{{100, 150}}},
		{"a weak burst within a lasting carrier", nil, scene{300 * milli, []dsp.Signal{noise(), dsp.Tone(0.9, 0.1), burst(0.015, -0.3, 110, 140)}}, []span{{110, 140}, {0, 300}}},
		{"a tail 40 dB down", nil, scene{400 * milli, []dsp.Signal{noise(), burst(0.9, 0.1, 100, 150), burst(0.009, 0.1, 150, 250)}}, []span{{100, 150}}},
		{"back after its tail", nil, scene{400 * milli, []dsp.Signal{noise(), burst(0.9, 0.1, 100, 150, 250, 300), burst(0.009, 0.1, 150, 250)}}, []span{{100, 150}, {250, 300}}},
		{"on at the start for 5 ms", nil, scene{300 * milli, []dsp.Signal{noise(), burst(0.1, 0.1, 0, 5)}}, nil},
		{"on at the start for 50 ms", nil, scene{300 * milli, []dsp.Signal{noise(), burst(0.1, 0.1, 0, 50)}}, []span{{0, 50}}},
		{"on at the end", nil, scene{300 * milli, []dsp.Signal{noise(), burst(0.1, 0.1, 250, 300)}}, []span{{250, 300}}},
		{"an impulse", nil, scene{300 * milli, []dsp.Signal{noise(), burst(60, 0.1, 100.5, 100.502)}}, nil},
		{"an impulse in a lasting carrier", nil, scene{300 * milli, []dsp.Signal{noise(), dsp.Tone(0.05, -0.3), burst(60, 0.1, 100.5, 100.502)}}, []span{{0, 300}}},
		{"a spike at 0 Hz, masked", func(c *dsp.DetectorConfig) { c.MaskDC = true }, scene{300 * milli, []dsp.Signal{noise(), dsp.Tone(0.1, 0)}}, nil},
		{"a carrier at 0 Hz, kept", nil, scene{300 * milli, []dsp.Signal{noise(), dsp.Tone(0.1, 0)}}, []span{{0, 300}}},
		{"a burst near the masked spike", func(c *dsp.DetectorConfig) { c.MaskDC = true }, scene{400 * milli, []dsp.Signal{noise(), dsp.Tone(0.02, 0), burst(0.1, 0.002, 100, 120)}}, []span{{100, 120}}},
		{"a wide lasting signal", nil, scene{600 * milli, []dsp.Signal{noise(), dsp.NoiseBand(2e-3, 0.1, 0.3, 5)}}, []span{{0, 600}}},
		{"a wide burst", nil, scene{600 * milli, []dsp.Signal{noise(), dsp.Gated(dsp.NoiseBand(2e-3, 0.1, 0.4, 5), gates(100, 200))}}, []span{{100, 200}}},
		{"a clipped burst", func(c *dsp.DetectorConfig) { c.RailLevel = 1 }, scene{300 * milli, []dsp.Signal{noise(), burst(2, 0.1, 100, 150), clip}}, []span{{100, 150}}},
	} {
		t.Run(v.name, func(t *testing.T) {
			cfg := detectorConfig()
			if v.cfg != nil {
				v.cfg(&cfg)
			}
			got := detect(t, cfg, v.s, 8192)
			if len(got) != len(v.events) {
				t.Fatalf("%d events, want %d: %+v", len(got), len(v.events), got)
			}
			for i, w := range v.events {
				near(t, fmt.Sprint("start of ", i, " ms"), got[i].Start/milli, w.start, 0.6)
				near(t, fmt.Sprint("end of ", i, " ms"), got[i].End/milli, w.end, 0.6)
			}
		})
	}
}

// clip holds samples at full scale, as a converter does.
func clip(dst []complex128, _ uint64) {
	for i, v := range dst {
		dst[i] = complex(math.Max(-1, math.Min(1, real(v))), math.Max(-1, math.Min(1, imag(v))))
	}
}

func TestDetector_ClippedIsMarked(t *testing.T) {
	cfg := detectorConfig()
	cfg.RailLevel = 1
	got := detect(t, cfg, scene{300 * milli, []dsp.Signal{noise(), dsp.Gated(dsp.Tone(2, 0.1), gates(100, 150)), clip}}, 8192)
	if len(got) != 1 || !got[0].Clipped {
		t.Errorf("%+v, want one clipped event", got)
	}
}

// TestDetector_BroadPulses: messages of 0.1 ms of wide noise, several a millisecond, in two clusters. No cell stands out for long; the whole power tells when it is on.
func TestDetector_BroadPulses(t *testing.T) {
	pulses := func(power float64, every int, ms ...float64) dsp.Signal {
		var g [][2]uint64
		for _, s := range gates(ms...) {
			for at := s[0]; at < s[1]; at += uint64(every) {
				g = append(g, [2]uint64{at, at + 100})
			}
		}
		return dsp.Gated(dsp.NoiseBand(power, -0.45, 0.45, 6), g)
	}
	// Faint messages with a carrier go on before, between and after: visible in a cell, not in the whole power.
	var sparse [][2]uint64
	for at := uint64(70 * milli); at < 300*milli; at += 1700 {
		sparse = append(sparse, [2]uint64{at, at + 100})
	}
	faint := dsp.Gated(dsp.Tone(0.03, 0.05), sparse)
	got := detect(t, detectorConfig(), scene{500 * milli, []dsp.Signal{
		noise(), pulses(20e-4, 400, 100, 160, 220, 270), faint,
	}}, 8192)
	if len(got) != 2 {
		t.Fatalf("%d events, want two clusters: %+v", len(got), got)
	}
	for i, w := range [][2]float64{{100, 160}, {220, 270}} {
		near(t, "start ms", got[i].Start/milli, w[0], 1)
		near(t, "end ms", got[i].End/milli, w[1], 1)
		if got[i].High-got[i].Low < 0.7*bins {
			t.Errorf("%g bins wide, want nearly all", got[i].High-got[i].Low)
		}
	}
}

// What the noise does between the pulses of a broad event is no part of its mean.
func TestDetector_BroadPulsesPower(t *testing.T) {
	const power = 20e-4
	var on [][2]uint64
	for at := uint64(100*row + bins/2); at < 400*row; at += 8 * row {
		on = append(on, [2]uint64{at, at + 2*row})
	}
	cfg := detectorConfig()
	cfg.EnergySamples = bins / 2 // so that no window around a pulse begins in the row before
	got := detect(t, cfg, scene{500 * milli, []dsp.Signal{noise(), dsp.Gated(dsp.NoiseBand(power, -0.45, 0.45, 6), on)}}, 8192)
	if len(got) != 1 {
		t.Fatalf("%d events, want one: %+v", len(got), got)
	}
	near(t, "level dBFS", dsp.DB(got[0].Power), dsp.DB(power), 0.5) // the first row of each pulse is not full
}

func TestDetector_ConnectedEventsBecomeOne(t *testing.T) {
	// Two carriers are bridged by a wide signal between them.
	got := detect(t, detectorConfig(), scene{400 * milli, []dsp.Signal{
		noise(),
		dsp.Gated(dsp.Tone(0.05, 0.1), gates(100, 200)), dsp.Gated(dsp.Tone(0.05, 0.14), gates(120, 220)),
		dsp.Gated(dsp.NoiseBand(2.5e-3, 0.09, 0.15, 5), gates(150, 180)),
	}}, 8192)
	if len(got) != 1 {
		t.Fatalf("%d events, want 1: %+v", len(got), got)
	}
	near(t, "start ms", got[0].Start/milli, 100, 0.6)
	near(t, "end ms", got[0].End/milli, 220, 0.6)
}

func TestDetector_MostOpen(t *testing.T) {
	cfg := detectorConfig()
	cfg.MaxOpen = 3
	signals := []dsp.Signal{noise()}
	for i := range 8 {
		signals = append(signals, dsp.Gated(dsp.Tone(0.01*float64(i+1), -0.4+0.1*float64(i)), gates(100+float64(i)*3, 200)))
	}
	got := detect(t, cfg, scene{300 * milli, signals}, 8192)
	if len(got) != 3 {
		t.Fatalf("%d events, want the 3 strongest: %+v", len(got), got)
	}
	for _, e := range got {
		if e.Center < 0 {
			t.Errorf("a weak one at %g bins was kept", e.Center)
		}
	}
}

func TestDetector_ReportsWhileOpen(t *testing.T) {
	cfg := detectorConfig()
	cfg.ReportSamples = 100 * milli
	got := detect(t, cfg, scene{900 * milli, []dsp.Signal{noise(), dsp.Gated(dsp.Tone(0.1, 0.1), gates(100, 550))}}, 5000)
	if len(got) < 4 {
		t.Fatalf("%d reports of 450 ms on air: %+v", len(got), got)
	}
	for i, e := range got {
		if e.ID != got[0].ID || e.Start != got[0].Start || e.Open == (i == len(got)-1) {
			t.Errorf("report %d: %+v", i, e)
		}
		if i > 0 && e.End <= got[i-1].End {
			t.Errorf("report %d ends at %g, the one before at %g", i, e.End, got[i-1].End)
		}
	}
	near(t, "end ms", got[len(got)-1].End/milli, 550, 0.6)
}

func TestDetector_LostSamples(t *testing.T) {
	raw := floats(400*milli, noise(), dsp.Gated(dsp.Tone(0.05, 0.1), gates(100, 300)))
	d, err := dsp.NewDetector(detectorConfig())
	if err != nil {
		t.Fatal(err)
	}
	all := append([]dsp.Event(nil), d.WriteRaw(raw[:150*milli*floatBytes], dsp.CF32)...)
	d.Skip(5 * milli)
	all = append(all, d.WriteRaw(raw[155*milli*floatBytes:250*milli*floatBytes], dsp.CF32)...)
	d.Skip(20 * milli)
	all = append(all, d.WriteRaw(raw[270*milli*floatBytes:], dsp.CF32)...)
	if d.Position() != 400*milli || d.Bins() != bins {
		t.Errorf("position %d, %d bins", d.Position(), d.Bins())
	}
	all = append(all, d.Flush()...)
	if len(all) != 2 {
		t.Fatalf("%d events, want two: a hole of 20 ms ends one: %+v", len(all), all)
	}
	near(t, "start ms", all[0].Start/milli, 100, 0.6)
	near(t, "end before the hole ms", all[0].End/milli, 250, 1.5)
	near(t, "start after the hole ms", all[1].Start/milli, 270, 1.5)
	near(t, "end ms", all[1].End/milli, 300, 0.6)
	// A hole longer than all memory.
	d.Skip(1 << 40)
	if got := d.Flush(); len(got) != 0 {
		t.Errorf("%d events in a hole", len(got))
	}
}

// TestDetector_TailsAndFormats: bytes of no sample behind a block, and samples of no format, count as nothing; a change of format
// within a frame costs no more than the row.
func TestDetector_TailsAndFormats(t *testing.T) {
	x := make([]complex128, 400*milli)
	noise()(x, 0)
	dsp.Gated(dsp.Tone(0.05, 0.1), gates(50, 80, 250, 280))(x, 0)
	d, err := dsp.NewDetector(detectorConfig())
	if err != nil {
		t.Fatal(err)
	}
	var all []dsp.Event
	write := func(part []complex128, format dsp.Format) {
		for block := range slices.Chunk(part, 1001) {
			all = append(all, d.WriteRaw(append(dsp.Quantise(nil, block, format), 0xff), format)...)
			all = append(all, d.WriteRaw([]byte{1, 2, 3, 4}, dsp.FormatUnknown)...)
		}
	}
	change := 151*milli + bins/3
	write(x[:change], dsp.CS8)
	write(x[change:], dsp.CF32)
	if d.Position() != int64(len(x)) {
		t.Errorf("position %d after %d samples", d.Position(), len(x))
	}
	if all = append(all, d.Flush()...); len(all) != 2 {
		t.Fatalf("%d events, want two bursts: %+v", len(all), all)
	}
	for i, w := range [][2]float64{{50, 80}, {250, 280}} {
		near(t, "start ms", all[i].Start/milli, w[0], 0.6)
		near(t, "end ms", all[i].End/milli, w[1], 0.6)
		near(t, "level dBFS", dsp.DB(all[i].Power), dsp.DB(0.05*0.05), 0.3)
	}
}

func TestDetector_StartsAnew(t *testing.T) {
	raw := floats(300*milli, noise(), dsp.Gated(dsp.Tone(0.05, 0.1), gates(100, 300)))
	d, err := dsp.NewDetector(detectorConfig())
	if err != nil {
		t.Fatal(err)
	}
	d.WriteRaw(raw, dsp.CF32)
	d.Reset()
	if got := d.Flush(); len(got) != 0 {
		t.Errorf("%d events after a reset", len(got))
	}
	for i := range 2 {
		d.WriteRaw(raw, dsp.CF32)
		got := d.Flush()
		if len(got) != 1 || got[0].ID != uint64(i+1) {
			t.Fatalf("stretch %d: %+v", i, got)
		}
		near(t, "start ms", got[0].Start/milli, 100, 0.6)
	}
}

// TestDetector_FloorFollows: the noise falls by 6 dB, then rises by 3 dB for good.
func TestDetector_FloorFollows(t *testing.T) {
	level := func(dst []complex128, first uint64) {
		n := make([]complex128, len(dst))
		noise()(n, first)
		for i := range dst {
			gain := 2.0
			switch at := first + uint64(i); {
			case at > 2000*milli:
				gain = 1.41
			case at > 1000*milli:
				gain = 1
			}
			dst[i] += n[i] * complex(gain, 0)
		}
	}
	got := detect(t, detectorConfig(), scene{4000 * milli, []dsp.Signal{level, dsp.Gated(dsp.Tone(0.02, 0.2), gates(1800, 1820, 3700, 3720))}}, 8192)
	if len(got) != 2 {
		t.Fatalf("%d events, want the two bursts: %+v", len(got), got)
	}
	near(t, "noise of four bins, dBFS", dsp.DB(got[0].Noise), -67+dsp.DB(4), 1)
}

func TestDetector_Passband(t *testing.T) {
	cfg := detectorConfig()
	cfg.Step = 1.0 / 32768
	x := make([]complex128, 400*milli)
	dsp.NoiseBand(1e-5, -0.2, 0.2, 3)(x, 0)
	dsp.Gated(dsp.Tone(0.01, 0.1), gates(100, 120))(x, 0)
	raw := dsp.Quantise(nil, x, dsp.CS16)
	d, err := dsp.NewDetector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	got := append(append([]dsp.Event(nil), d.WriteRaw(raw, dsp.CS16)...), d.Flush()...)
	if len(got) != 1 {
		t.Fatalf("%d events, want the burst: the filter's passband is no emission: %+v", len(got), got)
	}
	// The noise of four bins of the passband, 0.4 of the band.
	near(t, "noise dBFS", dsp.DB(got[0].Noise), -50-dsp.DB(0.4*bins)+dsp.DB(3.5), 1)
}

// TestDetector_NoiseUnderALastingEmission: a carrier with sidebands that fill most of a window of the floor has the SNR
// over the noise beside it.
func TestDetector_NoiseUnderALastingEmission(t *testing.T) {
	signals := []dsp.Signal{noise(), dsp.NoiseBand(2e-3, 0.1, 0.14, 5)}
	got := detect(t, detectorConfig(), scene{600 * milli, signals}, 4096)
	if len(got) != 1 {
		t.Fatalf("%d events, want 1: %+v", len(got), got)
	}
	want := 2e-3 / (1e-4 * (got[0].High - got[0].Low) / bins)
	near(t, "SNR dB", dsp.DB(got[0].Power/got[0].Noise), dsp.DB(want), 0.5)
}

func TestDetector_UnditheredSpurs(t *testing.T) {
	cfg := detectorConfig()
	cfg.Step = dsp.StepOf(dsp.CU8)
	x := make([]complex128, 300*milli)
	dsp.Tone(0.3, 0.1234)(x, 0)
	raw := dsp.Quantise(nil, x, dsp.CU8)
	d, err := dsp.NewDetector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if got := append(append([]dsp.Event(nil), d.WriteRaw(raw, dsp.CU8)...), d.Flush()...); len(got) != 1 || !got[0].Lasting {
		t.Errorf("%+v, want the tone alone", got)
	}
}

func TestNewDetector_Refuses(t *testing.T) {
	for _, n := range []int{-16, 0, 8, 100, 1 << 17} {
		if _, err := dsp.NewDetector(dsp.DetectorConfig{Bins: n}); err == nil || !strings.Contains(err.Error(), "a power of two from 16 to 65536") {
			t.Errorf("%d bins gave %v, want an error that says how many there may be", n, err)
		}
	}
	for _, n := range []int{16, 65536} {
		if _, err := dsp.NewDetector(dsp.DetectorConfig{Bins: n}); err != nil {
			t.Error(err)
		}
	}
}

func TestDetector_AllocatesNothing(t *testing.T) {
	raw := floats(600*milli, noise(), dsp.Tone(0.05, -0.3), dsp.Gated(dsp.Tone(0.05, 0.1), gates(100, 120, 300, 320)))
	d, err := dsp.NewDetector(detectorConfig())
	if err != nil {
		t.Fatal(err)
	}
	for range 12 {
		d.WriteRaw(raw, dsp.CF32)
	}
	if a := testing.AllocsPerRun(3, func() { d.WriteRaw(raw, dsp.CF32) }); a != 0 {
		t.Errorf("%v allocations a block", a)
	}
}

func BenchmarkDetector(b *testing.B) {
	x := make([]complex128, 1<<20)
	noise()(x, 0)
	dsp.Tone(0.05, 0.1)(x, 0)
	raw := dsp.Quantise(nil, x, dsp.CU8)
	d, err := dsp.NewDetector(detectorConfig())
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		d.WriteRaw(raw, dsp.CU8)
	}
	b.ReportMetric(float64(b.N)*(1<<20)/b.Elapsed().Seconds()/1e6, "Msps")
}

// BenchmarkDetector_NoiseRises is what follows a rise of the noise by 4 dB: until the floor has followed, each row has some hundred runs, and most of
// them begin an event.
func BenchmarkDetector_NoiseRises(b *testing.B) {
	x := make([]complex128, 1000*milli)
	noise()(x, 0)
	low := dsp.Quantise(nil, x, dsp.CS16)
	for i := range x {
		x[i] *= complex(math.Sqrt(dsp.FromDB(4)), 0)
	}
	high := dsp.Quantise(nil, x, dsp.CS16)
	cfg := detectorConfig()
	cfg.Bins = 1024 // as for 2.4 Msps
	d, err := dsp.NewDetector(cfg)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		b.StopTimer()
		d.Flush()
		d.WriteRaw(low, dsp.CS16)
		b.StartTimer()
		d.WriteRaw(high, dsp.CS16)
	}
	b.ReportMetric(float64(b.N*len(x))/b.Elapsed().Seconds()/1e6, "Msps")
}

// TestDetector_ShortPulses: pulses of half a row, wherever in a row they fall, are found and have their own level,
// though they have edge rows only.
func TestDetector_ShortPulses(t *testing.T) {
	const power = 0.01
	for phase := range 8 {
		start := uint64(100*milli + phase*row/8)
		got := detect(t, detectorConfig(), scene{300 * milli, []dsp.Signal{
			noise(), dsp.Gated(dsp.Tone(math.Sqrt(power), 0.1), [][2]uint64{{start, start + bins}}),
		}}, 8192)
		if len(got) != 1 {
			t.Fatalf("phase %d of 8: %d events, want 1: %+v", phase, len(got), got)
		}
		// A row of two and a half frames holds one of them, or half of one when the pulse lies across two rows.
		if level := dsp.DB(got[0].Power / power); level < -8 || level > 0 {
			t.Errorf("phase %d of 8: level %.1f dB under the pulse's", phase, level)
		}
	}
}

// TestDetector_Meter: what a detector gives its meter is what the meter would have summed itself.
func TestDetector_Meter(t *testing.T) {
	for _, format := range []dsp.Format{dsp.CU8, dsp.CS16} {
		x := make([]complex128, 100_000)
		dsp.WhiteNoise(0.3, 1)(x, 0)
		raw := dsp.Quantise(nil, x, format)
		var own, given dsp.Meter
		own.Write(raw, format)
		cfg := detectorConfig()
		cfg.Meter = &given
		d, err := dsp.NewDetector(cfg)
		if err != nil {
			t.Fatal(err)
		}
		for at, size := 0, 1; at < len(raw); size = size*3 + 1 {
			end := min(at+size*format.BytesPerSample(), len(raw))
			d.WriteRaw(raw[at:end], format)
			at = end
		}
		if own.RailFraction() == 0 || given.Samples() != own.Samples() || given.RailFraction() != own.RailFraction() ||
			given.ClippedFraction() != own.ClippedFraction() || math.Abs(given.Power()/own.Power()-1) > 1e-6 {
			t.Errorf("%s: got %+v, want %+v", format, given, own)
		}
	}
}
