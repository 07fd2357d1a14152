package survey_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/agent/survey"
	"github.com/fulgidus/heimdall/dsp"
	"github.com/fulgidus/heimdall/protocol"
)

// fs is the rate of the synthetic recordings, and bin one bin of 4096 there.
const (
	fs  = 2.4e6
	bin = fs / 4096
)

// truth says what a synthetic recording holds.
type recording struct {
	format  dsp.Format
	rate    float64
	samples int
	signals []dsp.Signal
}

// play streams a recording through an Analyzer in blocks of ugly sizes and returns all records.
func play(t testing.TB, cfg survey.Config, r recording) found {
	t.Helper()
	if r.rate == 0 {
		r.rate = fs
	}
	if r.format == dsp.FormatUnknown {
		r.format = dsp.CU8
	}
	if cfg.Detect.ReportEvery == 0 {
		cfg.Detect.ReportEvery = -1
	}
	a, err := survey.NewAnalyzer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var f found
	sizes := []int{65536, 1, 40001, 4096, 777}
	samples := make([]complex128, sizes[0])
	var raw []byte
	for at, i := 0, 0; at < r.samples; i++ {
		n := min(sizes[i%len(sizes)], r.samples-at)
		clear(samples[:n])
		for _, s := range r.signals {
			s(samples[:n], uint64(at))
		}
		raw = dsp.Quantise(raw[:0], samples[:n], r.format)
		f.add(a.Write(&radio.Block{
			Raw: raw, Format: r.format, Index: uint64(at),
			Time: time.Unix(1700000000, 0).Add(radio.SamplesDuration(float64(at), r.rate)), TimeQuality: protocol.TimeQuality_TIME_QUALITY_NTP,
			Tuning: radio.Tuning{SampleRateHz: r.rate, CenterHz: math.NaN()},
		}))
		at += n
	}
	f.add(a.Flush())
	return f
}

// found sorts records by kind.
type found struct {
	measurements []*protocol.Measurement
	spectra      []*protocol.Spectrum
	detections   []detection
}

type detection struct {
	*protocol.Detection
	startS float64
	track  uint64
}

func (f *found) add(emissions []survey.Emission) {
	for _, e := range emissions {
		switch b := e.Record.Body.(type) {
		case *protocol.Record_Measurement:
			f.measurements = append(f.measurements, b.Measurement)
		case *protocol.Record_Spectrum:
			f.spectra = append(f.spectra, b.Spectrum)
		case *protocol.Record_Detection:
			f.detections = append(f.detections, detection{b.Detection, e.StartS, e.Track})
		}
	}
}

// one is the only measurement.
func (f *found) one(t testing.TB) *protocol.Measurement {
	t.Helper()
	if len(f.measurements) != 1 {
		t.Fatalf("%d measurements, want 1", len(f.measurements))
	}
	return f.measurements[0]
}

func near(t testing.TB, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance) {
		t.Errorf("%s: got %.4f, want %.4f within %.4f", what, got, want, tolerance)
	}
}

func has(flags []protocol.Flag, want protocol.Flag) bool {
	for _, f := range flags {
		if f == want {
			return true
		}
	}
	return false
}

// noiseFor is white noise of the given density, as a generator.
func noiseFor(dbfsHz float64, seed uint64) dsp.Signal {
	return dsp.WhiteNoise(math.Sqrt(dsp.FromDB(dbfsHz)*fs/2), seed)
}

func TestAnalyzer_Tone(t *testing.T) { // vectors 1 and 2
	f := play(t, survey.Config{}, recording{samples: 240 * 4096, signals: []dsp.Signal{dsp.Tone(0.25, 771.37/4096)}})
	m := f.one(t)
	near(t, "power dBFS", float64(m.GetPowerDbfs()), -12.051, 0.05)
	near(t, "peak Hz", m.GetPeakHz(), 771.37*bin, 5)
	near(t, "peak dBFS", float64(m.GetPeakDbfs()), -12.05, 0.05)
	if len(f.detections) != 1 {
		t.Fatalf("%d detections, want 1", len(f.detections))
	}
	d := f.detections[0]
	near(t, "start s", d.startS, 0, 1e-3)
	near(t, "length s", d.GetDurationS(), 240*4096/fs, 1e-3)
	near(t, "centre Hz", d.GetCenterHz(), 771.37*bin, 100)
	near(t, "level dBFS", float64(d.GetPowerDbfs()), -12.05, 0.1)
}

func TestAnalyzer_ToneBetweenBins(t *testing.T) { // vector 3
	f := play(t, survey.Config{SpectrumEvery: -1}, recording{samples: 240 * 4096, signals: []dsp.Signal{dsp.Tone(0.25, 1000.5/4096)}})
	near(t, "power dBFS", float64(f.one(t).GetPowerDbfs()), -12.05, 0.05)
	near(t, "peak dBFS", float64(f.one(t).GetPeakDbfs()), -12.05, 0.05)
	levels, err := f.spectra[0].LevelsDBFSHz()
	if err != nil {
		t.Fatal(err)
	}
	// The highest bin reads the tone 1.42 dB low; as a density it is lower by the noise bandwidth of 1.5 bins. The
	// spectrum is coded in steps of 0.5 dB.
	near(t, "highest bin dBFS", levels[2048+1000]+dsp.DB(1.5*bin), -13.475, 0.3)
}

func TestAnalyzer_WhiteNoise(t *testing.T) { // vectors 4 and 5
	for _, v := range []struct{ sigma, total, floor float64 }{{0.1, -16.987, -80.79}, {0.02, -30.91, -94.71}} {
		f := play(t, survey.Config{}, recording{samples: 240 * 4096, signals: []dsp.Signal{dsp.WhiteNoise(v.sigma, 4)}})
		m := f.one(t)
		near(t, "power dBFS", float64(m.GetPowerDbfs()), v.total, 0.1)
		near(t, "floor dBFS/Hz", float64(m.GetNoiseFloorDbfsHz()), v.floor, 0.1)
		if m.PeakHz != nil || m.SnrDb != nil || len(m.Flags) > 0 {
			t.Errorf("sigma %g: an emission at %g Hz and flags %v in noise", v.sigma, m.GetPeakHz(), m.Flags)
		}
		if len(f.detections) != 0 {
			t.Errorf("sigma %g: %d detections in noise", v.sigma, len(f.detections))
		}
	}
}

func TestAnalyzer_MinuteOfNoise(t *testing.T) { // vector 6
	f := play(t, survey.Config{MeasurementEvery: time.Second}, recording{samples: noiseSeconds * fs, signals: []dsp.Signal{dsp.WhiteNoise(0.05, 6)}})
	if len(f.detections) > 1 {
		t.Errorf("%d events in a minute of noise, want at most one", len(f.detections))
	}
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, m := range f.measurements {
		lo, hi = math.Min(lo, float64(m.GetNoiseFloorDbfsHz())), math.Max(hi, float64(m.GetNoiseFloorDbfsHz()))
	}
	if len(f.measurements) != noiseSeconds || hi-lo > 0.1 {
		t.Errorf("%d measurements, floor from %.2f to %.2f dBFS/Hz; want one a second within 0.1 dB", len(f.measurements), lo, hi)
	}
}

func TestAnalyzer_SilentConverter(t *testing.T) { // vector 7
	for _, code := range []byte{127, 128} {
		f := play(t, survey.Config{SpectrumEvery: -1, MaskDC: true}, recording{samples: 240 * 4096, signals: []dsp.Signal{
			func(dst []complex128, _ uint64) {
				for i := range dst {
					dst[i] = complex(1, 1) * complex((float64(code)-127.5)/127.5, 0)
				}
			},
		}})
		m := f.one(t)
		near(t, "power dBFS", float64(m.GetPowerDbfs()), -45.12, 0.01)
		near(t, "DC dBFS", dsp.DB(math.Pow(float64(m.GetDcI()), 2)+math.Pow(float64(m.GetDcQ()), 2)), -45.12, 0.01)
		if !has(m.Flags, protocol.Flag_FLAG_GAIN_TOO_LOW) {
			t.Errorf("code %d: flags %v, want gain_too_low", code, m.Flags)
		}
		if len(f.detections) != 0 || m.PeakHz != nil {
			t.Errorf("code %d: %d detections, peak at %g Hz, want none", code, len(f.detections), m.GetPeakHz())
		}
		if v := float64(m.GetNoiseFloorDbfsHz()); math.IsNaN(v) || math.IsInf(v, 0) {
			t.Errorf("code %d: floor %v", code, v)
		}
	}
}

func TestAnalyzer_QPSK(t *testing.T) { // vectors 8 and 9
	for _, v := range []struct{ snr, low, high, offset float64 }{
		{20, 56.0e3 * 0.99, 56.0e3 * 1.01, 100},
		{10, 56.0e3 * 0.97, 57.0e3 * 1.03, 400},
	} {
		t.Run(fmt.Sprint(v.snr, " dB"), func(t *testing.T) {
			// The density of the signal is its power over the symbol rate.
			density := -20 - dsp.DB(48e3) - v.snr
			f := play(t, survey.Config{}, recording{samples: 480 * 4096, signals: []dsp.Signal{
				dsp.Shifted(dsp.QPSK(0.01, 50, 0.35, 8), 310e3/fs), noiseFor(density, 8),
			}})
			m := f.one(t)
			if b := m.GetOccupiedBandwidthHz(); b < v.low || b > v.high {
				t.Errorf("occupied bandwidth %.0f Hz, want %.0f to %.0f", b, v.low, v.high)
			}
			near(t, "centre Hz", (m.GetOccupiedLowHz()+m.GetOccupiedHighHz())/2, 310e3, v.offset)
			near(t, "floor dBFS/Hz", float64(m.GetNoiseFloorDbfsHz()), density, 0.15)
			// Over the occupied bandwidth of 56 kHz instead of 48 kHz the noise is 0.67 dB more.
			near(t, "SNR dB", float64(m.GetSnrDb()), v.snr-0.67-0.04, 0.5)
			if len(f.detections) != 1 {
				t.Fatalf("%d detections, want 1", len(f.detections))
			}
			d := f.detections[0]
			near(t, "detection level dBFS", float64(d.GetPowerDbfs()), -20, 0.15)
			near(t, "detection centre Hz", d.GetCenterHz(), 310e3, 1500)
			near(t, "detection bandwidth Hz", d.GetBandwidthHz(), 56e3, 6e3)
		})
	}
}

func TestAnalyzer_MSK(t *testing.T) { // vector 10
	f := play(t, survey.Config{}, recording{samples: 480 * 4096, signals: []dsp.Signal{
		dsp.Shifted(dsp.MSK(0.3, 24, 10), 200e3/fs), dsp.WhiteNoise(0.005, 10),
	}})
	near(t, "occupied bandwidth Hz", f.one(t).GetOccupiedBandwidthHz(), 118.2e3, 0.02*118.2e3)
}

func TestAnalyzer_NoiseBand(t *testing.T) { // vector 11
	// 200 kHz of flat noise 20 dB over a floor of -90 dBFS/Hz.
	f := play(t, survey.Config{}, recording{samples: 480 * 4096, signals: []dsp.Signal{
		dsp.NoiseBand(dsp.FromDB(-70)*200e3, -100e3/fs, 100e3/fs, 11), noiseFor(-90, 12),
	}})
	m := f.one(t)
	near(t, "occupied bandwidth Hz", m.GetOccupiedBandwidthHz(), 198e3, 1980)
	near(t, "lower edge Hz", m.GetOccupiedLowHz(), -99e3, 1000)
	near(t, "upper edge Hz", m.GetOccupiedHighHz(), 99e3, 1000)
	if len(f.detections) != 1 {
		t.Errorf("%d detections, want 1", len(f.detections))
	}
}

// bursts are tone bursts of 20 ms every 100 ms, each divided by a gap in its middle.
func bursts(gapS float64) (stretches [][2]uint64) {
	at := func(s float64) uint64 { return uint64(math.Round(s * fs)) }
	for i := range 7 {
		s := 0.0413 + 0.1*float64(i)
		if gapS == 0 {
			stretches = append(stretches, [2]uint64{at(s), at(s + 0.02)})
			continue
		}
		stretches = append(stretches, [2]uint64{at(s), at(s + 0.01)}, [2]uint64{at(s + 0.01 + gapS), at(s + 0.02 + gapS)})
	}
	return stretches
}

func TestAnalyzer_Bursts(t *testing.T) { // vectors 12 and 13
	for _, v := range []struct {
		gapS  float64
		count int
	}{{0, 7}, {0.005, 7}, {0.015, 14}} {
		t.Run(fmt.Sprint(v.gapS), func(t *testing.T) {
			// 20 dB in a bin of 4096: tone power over the noise of 1.5 bins.
			noise := -30 - 20 - dsp.DB(1.5*bin)
			gates := bursts(v.gapS)
			f := play(t, survey.Config{}, recording{samples: int(0.8 * fs), signals: []dsp.Signal{
				dsp.Gated(dsp.Tone(math.Sqrt(1e-3), 0.123), gates), noiseFor(noise, 12),
			}})
			if len(f.detections) != v.count {
				t.Fatalf("%d events, want %d: %v", len(f.detections), v.count, f.detections)
			}
			for i, d := range f.detections {
				first, last := gates[i*len(gates)/v.count], gates[(i+1)*len(gates)/v.count-1]
				near(t, fmt.Sprint("start of ", i, " ms"), d.startS*1e3, float64(first[0])/fs*1e3, 0.5)
				near(t, fmt.Sprint("stop of ", i, " ms"), (d.startS+d.GetDurationS())*1e3, float64(last[1])/fs*1e3, 0.5)
				near(t, "centre Hz", d.GetCenterHz(), 0.123*fs, 200)
			}
		})
	}
}

func TestAnalyzer_Clipping(t *testing.T) { // vector 14
	f := play(t, survey.Config{}, recording{samples: 240 * 4096, signals: []dsp.Signal{dsp.Tone(1.2, 771.37/4096)}})
	m := f.one(t)
	near(t, "clipped fraction", float64(m.GetClippedFraction()), 0.377, 0.01)
	near(t, "power dBFS", float64(m.GetPowerDbfs()), 0.89, 0.05)
	if !has(m.Flags, protocol.Flag_FLAG_CLIPPED) || !has(m.Flags, protocol.Flag_FLAG_OVERLOAD) {
		t.Errorf("flags %v, want clipped and overload", m.Flags)
	}
	if len(f.detections) != 1 {
		t.Errorf("%d detections of one clipped tone: its harmonics are none", len(f.detections))
	}

	f = play(t, survey.Config{}, recording{samples: 240 * 4096, signals: []dsp.Signal{dsp.Tone(1, 771.37/4096)}})
	m = f.one(t)
	near(t, "power dBFS at full scale", float64(m.GetPowerDbfs()), 0, 0.05)
	if has(m.Flags, protocol.Flag_FLAG_CLIPPED) || !has(m.Flags, protocol.Flag_FLAG_OVERLOAD) {
		t.Errorf("flags %v of a full-scale tone, want overload and not clipped", m.Flags)
	}
}

func TestAnalyzer_TwoTones(t *testing.T) { // vector 15
	f := play(t, survey.Config{}, recording{format: dsp.CS16, samples: 240 * 4096, signals: []dsp.Signal{
		dsp.Tone(0.5, 700.3/4096), dsp.Tone(0.5e-3, 720.3/4096),
	}})
	if len(f.detections) != 2 {
		t.Fatalf("%d detections, want two tones", len(f.detections))
	}
	strong, weak := f.detections[0], f.detections[1]
	if weak.GetPowerDbfs() > strong.GetPowerDbfs() {
		strong, weak = weak, strong
	}
	near(t, "strong level dBFS", float64(strong.GetPowerDbfs()), -6.02, 0.3)
	near(t, "weak level dBFS", float64(weak.GetPowerDbfs()), -66.02, 0.3)
	near(t, "weak centre Hz", weak.GetCenterHz(), 720.3*bin, 100)
}

func TestAnalyzer_GainStep(t *testing.T) { // vector 16
	half := uint64(300 * 4096)
	tone := dsp.Tone(0.05, 771.37/4096)
	f := play(t, survey.Config{MeasurementEvery: time.Duration(300 * 4096 / fs * 1e9)}, recording{samples: 600 * 4096, signals: []dsp.Signal{
		tone, dsp.Gated(tone, [][2]uint64{{half, math.MaxUint64}}), dsp.WhiteNoise(0.01, 16),
	}})
	if len(f.measurements) < 2 {
		t.Fatalf("%d measurements, want 2", len(f.measurements))
	}
	a, b := f.measurements[0], f.measurements[1]
	near(t, "first level dBFS", float64(a.GetPeakDbfs()), -26.02, 0.2)
	near(t, "second level dBFS", float64(b.GetPeakDbfs()), -20.0, 0.2)
	near(t, "floor after the step dBFS/Hz", float64(b.GetNoiseFloorDbfsHz()), float64(a.GetNoiseFloorDbfsHz()), 0.2)
	if len(f.detections) != 1 {
		t.Errorf("%d detections, want the one tone", len(f.detections))
	}
}
