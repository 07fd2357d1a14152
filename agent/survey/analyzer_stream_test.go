package survey_test

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/agent/survey"
	"github.com/fulgidus/heimdall/dsp"
	"github.com/fulgidus/heimdall/protocol"
)

// low is a rate at which tests are quick.
const low = 250e3

var start = time.Date(2026, 11, 24, 2, 0, 0, 0, time.UTC)

// raw makes the bytes of a recording at the low rate.
func raw(samples int, signals ...dsp.Signal) []byte {
	x := make([]complex128, samples)
	for _, s := range signals {
		s(x, 0)
	}
	return dsp.Quantise(nil, x, dsp.CU8)
}

// block is a block of a recording from one sample to another.
func block(data []byte, from, to int) *radio.Block {
	return &radio.Block{
		Raw: data[2*from : 2*to], Format: dsp.CU8, Index: uint64(from),
		Time: start.Add(radio.SamplesDuration(float64(from), low)), TimeQuality: protocol.TimeQuality_TIME_QUALITY_NTP,
		TimeUncertainty: time.Millisecond, Tuning: radio.Tuning{CenterHz: 433.92e6, SampleRateHz: low},
	}
}

func analyzer(t testing.TB, cfg survey.Config) *survey.Analyzer {
	t.Helper()
	a, err := survey.NewAnalyzer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAnalyzer_BlockSplitInvariant(t *testing.T) {
	data := raw(300001, dsp.WhiteNoise(0.02, 1), dsp.Tone(0.03, -0.3),
		dsp.Gated(dsp.Tone(0.3, 0.1), [][2]uint64{{50000, 60000}, {150001, 153000}}))
	run := func(size func(i int) int) []survey.Emission {
		a := analyzer(t, survey.Config{Receiver: "r0", Step: "ism", MeasurementEvery: 250 * time.Millisecond, SpectrumEvery: 500 * time.Millisecond, SpectrumBins: 1024, MaskDC: true})
		var all []survey.Emission
		for at, i := 0, 0; at < len(data)/2; i++ {
			n := min(size(i), len(data)/2-at)
			all = append(all, a.Write(block(data, at, at+n))...)
			at += n
		}
		return append(all, a.Flush()...)
	}
	whole := run(func(int) int { return len(data) })
	if len(whole) < 5+3+3 {
		t.Fatalf("%d records, want 5 measurements, 3 spectra and 3 detections at least", len(whole))
	}
	for name, size := range map[string]func(int) int{
		"sevenths": func(int) int { return len(data) / 14 },
		"ugly":     func(i int) int { return 1 + i*i*7919%5000 },
		"single":   func(i int) int { return 1 + i%2 },
	} {
		if diff := cmp.Diff(whole, run(size), protocmp.Transform()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestAnalyzer_Records(t *testing.T) {
	data := raw(300000, dsp.WhiteNoise(0.02, 1), dsp.Gated(dsp.Tone(0.3, 0.1), [][2]uint64{{50000, 60000}}))
	a := analyzer(t, survey.Config{Receiver: "r0", Step: "ism", MeasurementEvery: time.Second, SpectrumEvery: time.Second, SpectrumBins: 512})
	all := append([]survey.Emission(nil), a.Write(block(data, 0, 150000))...)
	all = append(all, a.Write(block(data, 150000, 300000))...)
	all = append(all, a.Flush()...)
	kinds := map[protocol.Kind]int{}
	for _, e := range all {
		r := e.Record
		kinds[r.Kind()]++
		if r.GetReceiver() != "r0" || r.GetStep() != "ism" || r.GetTimeQuality() != protocol.TimeQuality_TIME_QUALITY_NTP || r.GetTimeUncertaintyS() != 1e-3 {
			t.Errorf("record %v", r)
		}
		if at := time.Unix(0, r.GetTime()).Sub(start).Seconds(); math.Abs(at-e.StartS) > 1e-6 {
			t.Errorf("%s: time %.6f s after the start, start_s %.6f", r.Kind(), at, e.StartS)
		}
		r.Station, r.Spool, r.Seq = ptr("giaveno"), []byte("12345678"), ptr(uint64(1))
		if err := protocol.Validate(r, start.Add(time.Hour)); err != nil {
			t.Errorf("%s: %v", r.Kind(), err)
		}
		if d := r.GetDetection(); d != nil {
			near(t, "start s", e.StartS, 0.2, 1e-3)
			near(t, "length s", d.GetDurationS(), 0.04, 1e-3)
			near(t, "centre Hz", d.GetCenterHz(), 433.92e6+25e3, 100)
			near(t, "level dBFS", float64(d.GetPowerDbfs()), -10.46, 0.2)
			if d.Open != nil || d.DetectionId != nil || e.Track == 0 {
				t.Errorf("detection %v, track %d", d, e.Track)
			}
		}
		if s := r.GetSpectrum(); s != nil && e.StartS == 0 {
			near(t, "first bin Hz", s.GetStartHz(), 433.92e6-low/2+(low/512-low/4096)/2, 1e-3)
			near(t, "duration s", s.GetDurationS(), 1, 1e-9)
			near(t, "noise bandwidth", float64(s.GetEnbwBins()), 1.0, 0.01)
		}
	}
	if kinds[protocol.KindMeasurement] != 2 || kinds[protocol.KindSpectrum] != 2 || kinds[protocol.KindDetection] != 1 {
		t.Errorf("%v, want 2 measurements, 2 spectra, 1 detection", kinds)
	}
}

func ptr[T any](v T) *T { return &v }

func TestAnalyzer_OpenDetections(t *testing.T) {
	const seconds = 5
	data := raw(seconds*low, dsp.WhiteNoise(0.02, 1), dsp.Gated(dsp.Tone(0.3, 0.1), [][2]uint64{{low, 4 * low}}))
	a := analyzer(t, survey.Config{MeasurementEvery: time.Second, Detect: survey.Detect{ReportEvery: time.Second}})
	var got []survey.Emission
	for at := 0; at < seconds*low; at += 10000 {
		got = append(got, a.Write(block(data, at, at+10000))...)
	}
	got = append(got, a.Flush()...)
	var times []int64
	var lengths []float64
	var open []bool
	for _, e := range got {
		d := e.Record.GetDetection()
		if d == nil {
			continue
		}
		times, lengths, open = append(times, e.Record.GetTime()), append(lengths, d.GetDurationS()), append(open, d.GetOpen())
		if e.Track != 1 || times[0] != e.Record.GetTime() {
			t.Errorf("report %d: track %d, begins %d ns after the first", len(times), e.Track, e.Record.GetTime()-times[0])
		}
	}
	if diff := cmp.Diff([]bool{true, true, false}, open); diff != "" {
		t.Fatalf("3 s on air, reported each second: %s", diff)
	}
	for i := 1; i < len(lengths); i++ {
		if lengths[i] <= lengths[i-1] {
			t.Errorf("lengths %v do not grow", lengths)
		}
	}
	near(t, "length at the end s", lengths[len(lengths)-1], 3, 2e-3)
	near(t, "start s", float64(times[0]-start.UnixNano())/1e9, 1, 2e-3)
}

func TestAnalyzer_LostSamples(t *testing.T) {
	data := raw(2*low, dsp.WhiteNoise(0.02, 1), dsp.Tone(0.3, 0.1))
	a := analyzer(t, survey.Config{MeasurementEvery: 2 * time.Second})
	first := block(data, 0, 100000)
	rest := block(data, 101000, 2*low)
	rest.LostBefore, rest.LostExact = 1000, true
	all := append([]survey.Emission(nil), a.Write(first)...)
	all = append(all, a.Write(rest)...)
	all = append(all, a.Flush()...)
	var f found
	f.add(all)
	m := f.one(t)
	if m.GetLostSamples() != 1000 || m.GetSamples() != 2*low-1000 {
		t.Errorf("%d samples, %d lost; want %d and 1000", m.GetSamples(), m.GetLostSamples(), int(2*low)-1000)
	}
	near(t, "duration s", m.GetDurationS(), 2, 1e-9)
	if len(f.detections) != 1 {
		t.Fatalf("%d detections, want one across a hole of 4 ms", len(f.detections))
	}
	near(t, "length s", f.detections[0].GetDurationS(), 2, 2e-3)
}

func TestAnalyzer_SegmentsEndDetections(t *testing.T) {
	data := raw(2*low, dsp.WhiteNoise(0.02, 1), dsp.Tone(0.3, 0.1))
	a := analyzer(t, survey.Config{})
	var f found
	f.add(a.Write(block(data, 0, low)))
	next := block(data, low, 2*low)
	next.Segment = 1
	f.add(a.Write(next))
	f.add(a.Flush())
	if len(f.detections) != 2 || len(f.measurements) != 1 {
		t.Fatalf("%d detections and %d measurements, want 2 and 1", len(f.detections), len(f.measurements))
	}
	near(t, "second start s", f.detections[1].startS, 1, 2e-3)
}

func TestAnalyzer_RetuneEndsTheStretch(t *testing.T) {
	data := raw(4*low, dsp.WhiteNoise(0.02, 1), dsp.Tone(0.3, 0.1))
	a := analyzer(t, survey.Config{})
	var f found
	f.add(a.Write(block(data, 0, low)))
	settling := block(data, low, low+5000)
	settling.Tuning.CenterHz, settling.Flags, settling.Segment = 868e6, radio.Settling, 1
	f.add(a.Write(settling))
	next := block(data, low+5000, 2*low)
	next.Tuning.CenterHz, next.Segment = 868e6, 1
	f.add(a.Write(next))
	faster := block(data, 2*low, 3*low)
	faster.Tuning.SampleRateHz, faster.Segment = 2*low, 2
	f.add(a.Write(faster))
	f.add(a.Flush())
	var got []float64
	for _, m := range f.measurements {
		got = append(got, m.GetCenterHz(), m.GetSampleRateHz(), float64(m.GetSamples()))
	}
	want := []float64{433.92e6, low, low, 868e6, low, low - 5000, 433.92e6, 2 * low, low}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAnalyzer_LongHoleEndsTheMeasurement(t *testing.T) {
	data := raw(low, dsp.WhiteNoise(0.02, 1))
	a := analyzer(t, survey.Config{MeasurementEvery: time.Second})
	var f found
	f.add(a.Write(block(data, 0, low/2)))
	late := block(data, low/2, low)
	late.Index = 1000 * low
	f.add(a.Write(late))
	f.add(a.Flush())
	if len(f.measurements) != 2 || f.measurements[0].GetDurationS() > 1 || f.measurements[1].GetDurationS() > 1 {
		t.Errorf("%v", f.measurements)
	}
}

func TestAnalyzer_Reset(t *testing.T) {
	data := raw(low, dsp.WhiteNoise(0.02, 1), dsp.Tone(0.3, 0.1))
	a := analyzer(t, survey.Config{})
	a.Reset()
	if got := a.Flush(); len(got) != 0 {
		t.Errorf("%d records from nothing", len(got))
	}
	a.Write(block(data, 0, low/2))
	a.Reset()
	if got := a.Flush(); len(got) != 0 {
		t.Errorf("%d records after a reset", len(got))
	}
	var f found
	f.add(a.Write(block(data, low/2, low)))
	f.add(a.Flush())
	if m := f.one(t); m.GetSamples() != low/2 || len(f.detections) != 1 || f.detections[0].startS != 0 {
		t.Errorf("%v %v", m, f.detections)
	}
}

func TestAnalyzer_LowRate(t *testing.T) {
	// A receiver of 12 kHz has 12000 samples in a measurement: 4096 bins would leave four averages.
	const rate = 12000
	x := make([]complex128, 10*rate)
	dsp.WhiteNoise(0.001, 1)(x, 0)
	dsp.Tone(0.05, 0.05)(x, 0)
	data := dsp.Quantise(nil, x, dsp.CS16)
	a := analyzer(t, survey.Config{MeasurementEvery: time.Second, SpectrumEvery: 5 * time.Second, SpectrumBins: 4096})
	var f found
	f.add(a.Write(&radio.Block{Raw: data, Format: dsp.CS16, Tuning: radio.Tuning{SampleRateHz: rate, CenterHz: math.NaN()}}))
	f.add(a.Flush())
	if len(f.measurements) != 10 || len(f.spectra) != 2 || len(f.detections) != 1 {
		t.Fatalf("%d measurements, %d spectra, %d detections; want 10, 2, 1", len(f.measurements), len(f.spectra), len(f.detections))
	}
	for _, m := range f.measurements {
		near(t, "peak Hz", m.GetPeakHz(), 600, 0.2)
		near(t, "peak dBFS", float64(m.GetPeakDbfs()), -26.02, 0.1)
		if m.CenterHz != nil {
			t.Errorf("centre %g Hz of an unknown one", m.GetCenterHz())
		}
	}
	near(t, "centre Hz", f.detections[0].GetCenterHz(), 600, 20)
}

func TestAnalyzer_Calibration(t *testing.T) {
	data := raw(low, dsp.WhiteNoise(0.02, 1), dsp.Tone(0.3, 0.1))
	for _, v := range []struct {
		cal  survey.Calibration
		want float64
	}{
		{survey.Calibration{OffsetDB: -30, UncertaintyDB: 2}, -30},
		{survey.Calibration{OffsetDB: -30, UncertaintyDB: 2, Table: []survey.CalibrationPoint{{400e6, -20}, {467.84e6, -40}}}, -30},
		{survey.Calibration{UncertaintyDB: 2, Table: []survey.CalibrationPoint{{500e6, -20}, {600e6, -40}}}, -20},
		{survey.Calibration{UncertaintyDB: 2, Table: []survey.CalibrationPoint{{100e6, -20}, {200e6, -40}}}, -40},
	} {
		a := analyzer(t, survey.Config{Calibration: &v.cal})
		var f found
		f.add(a.Write(block(data, 0, low)))
		f.add(a.Flush())
		m, d := f.one(t), f.detections[0]
		near(t, "offset dB", float64(m.GetPowerDbm()-m.GetPowerDbfs()), v.want, 0.011)
		near(t, "floor's offset dB", float64(m.GetNoiseFloorDbmHz()-m.GetNoiseFloorDbfsHz()), v.want, 0.011)
		near(t, "peak's offset dB", float64(m.GetPeakDbm()-m.GetPeakDbfs()), v.want, 0.03)
		near(t, "detection's offset dB", float64(d.GetPowerDbm()-d.GetPowerDbfs()), v.want, 0.03)
		if m.GetCalibrationUncertaintyDb() != 2 || d.GetCalibrationUncertaintyDb() != 2 {
			t.Error("no uncertainty beside the calibrated levels")
		}
	}
}

func TestAnalyzer_ReceiversOwnLevel(t *testing.T) {
	data := raw(low, dsp.WhiteNoise(0.02, 1), dsp.Tone(0.3, 0.1))
	stated := block(data, 0, low)
	stated.Tuning.FullScaleDBm = -53
	for _, v := range []struct {
		cal         *survey.Calibration
		want, sigma float64
	}{{nil, -53, 3}, {&survey.Calibration{OffsetDB: -30, UncertaintyDB: 2}, -30, 2}} {
		a := analyzer(t, survey.Config{Calibration: v.cal})
		var f found
		f.add(a.Write(stated))
		f.add(a.Flush())
		m, d := f.one(t), f.detections[0]
		near(t, "offset dB", float64(m.GetPowerDbm()-m.GetPowerDbfs()), v.want, 0.011)
		near(t, "detection's offset dB", float64(d.GetPowerDbm()-d.GetPowerDbfs()), v.want, 0.03)
		near(t, "uncertainty dB", float64(m.GetCalibrationUncertaintyDb()), v.sigma, 0)
	}
}

func TestAnalyzer_MinDuration(t *testing.T) {
	data := raw(low, dsp.WhiteNoise(0.02, 1), dsp.Gated(dsp.Tone(0.3, 0.1), [][2]uint64{{50000, 51000}, {100000, 110000}}))
	a := analyzer(t, survey.Config{Detect: survey.Detect{MinDuration: 20 * time.Millisecond}})
	var f found
	f.add(a.Write(block(data, 0, low)))
	f.add(a.Flush())
	if len(f.detections) != 1 {
		t.Errorf("%d detections, want the one of 40 ms", len(f.detections))
	}
	a = analyzer(t, survey.Config{Detect: survey.Detect{Off: true}})
	f = found{}
	f.add(a.Write(block(data, 0, low)))
	f.add(a.Flush())
	if len(f.detections) != 0 || len(f.measurements) != 1 {
		t.Errorf("%d detections with detection off", len(f.detections))
	}
}

func TestAnalyzer_UnusableBlocks(t *testing.T) {
	a := analyzer(t, survey.Config{})
	for _, b := range []*radio.Block{
		{},
		{Raw: []byte{1, 2}, Format: dsp.CU8},
		{Raw: []byte{1}, Format: dsp.CU8, Tuning: radio.Tuning{SampleRateHz: 1e6}},
		{Raw: []byte{1, 2}, Tuning: radio.Tuning{SampleRateHz: 1e6}},
		{Raw: []byte{1, 2}, Format: dsp.CU8, Tuning: radio.Tuning{SampleRateHz: math.NaN()}},
	} {
		if got := a.Write(b); len(got) != 0 {
			t.Errorf("%d records from %+v", len(got), b)
		}
	}
	if got := a.Flush(); len(got) != 0 {
		t.Errorf("%d records from nothing", len(got))
	}
}

func TestNewAnalyzer_Refuses(t *testing.T) {
	for _, cfg := range []survey.Config{
		{FFT: 1000},
		{FFT: 32},
		{FFT: 1 << 17},
		{SpectrumBins: 100},
		{SpectrumBins: 1 << 20},
		{Detect: survey.Detect{ThresholdDB: 1}},
		{Detect: survey.Detect{ThresholdDB: math.NaN()}},
		{Detect: survey.Detect{MaxEmissions: -1}},
	} {
		if _, err := survey.NewAnalyzer(cfg); err == nil {
			t.Errorf("%+v was accepted", cfg)
		}
	}
}

func TestAnalyzer_AllocatesNothingPerBlock(t *testing.T) {
	data := raw(low, dsp.WhiteNoise(0.02, 1), dsp.Tone(0.3, 0.1))
	a := analyzer(t, survey.Config{MeasurementEvery: time.Hour, Detect: survey.Detect{ReportEvery: -1}})
	b := block(data, 0, low)
	write := func() {
		a.Write(b)
		b.Index += low
	}
	for range 3 {
		write()
	}
	if n := testing.AllocsPerRun(5, write); n != 0 {
		t.Errorf("%v allocations a block, want 0", n)
	}
}

func BenchmarkAnalyzer(b *testing.B) {
	data := raw(1<<20, dsp.WhiteNoise(0.02, 1), dsp.Tone(0.1, 0.1))
	for name, cfg := range map[string]survey.Config{
		"measurement": {Detect: survey.Detect{Off: true}},
		"detection":   {Detect: survey.Detect{ReportEvery: -1}},
	} {
		b.Run(name, func(b *testing.B) {
			a := analyzer(b, cfg)
			blk := block(data, 0, 1<<20)
			blk.Tuning.SampleRateHz = fs
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				a.Write(blk)
				blk.Index += 1 << 20
			}
			b.ReportMetric(float64(b.N)*(1<<20)/b.Elapsed().Seconds()/1e6, "Msps")
		})
	}
}

func FuzzAnalyzer(f *testing.F) {
	f.Add(uint8(dsp.CU8), 250e3, []byte("some samples"), uint16(100), uint16(3))
	f.Add(uint8(dsp.CF32), 12e3, []byte{0, 0, 0x80, 0x7f, 1, 2, 3, 4}, uint16(1), uint16(0))
	f.Add(uint8(dsp.CS16), 1e-3, []byte{0xff, 0x7f, 0, 0x80}, uint16(7), uint16(60000))
	f.Fuzz(func(t *testing.T, format uint8, rate float64, pattern []byte, size, lost uint16) {
		if len(pattern) == 0 || rate > 1e7 {
			return
		}
		data := make([]byte, 0, 300000)
		for len(data) < 200000 {
			data = append(data, pattern...)
			data = append(data, byte(len(data)>>3), byte(len(data)>>9))
		}
		a := analyzer(t, survey.Config{MeasurementEvery: 50 * time.Millisecond, SpectrumEvery: 100 * time.Millisecond, SpectrumBins: 256, MaskDC: true})
		check := func(emissions []survey.Emission) {
			for _, e := range emissions {
				e.Record.Station, e.Record.Spool, e.Record.Seq = ptr("giaveno"), []byte("12345678"), ptr(uint64(1))
				if err := protocol.Validate(e.Record, start.Add(1e6*time.Hour)); err != nil {
					t.Fatalf("%v: %v", err, e.Record)
				}
			}
		}
		index, step := uint64(0), 8*(int(size)+1)
		for at := 0; at < len(data); at += step {
			b := radio.Block{
				Raw: data[at:min(at+step, len(data))], Format: dsp.Format(format), Index: index, Time: start,
				TimeQuality: protocol.TimeQuality_TIME_QUALITY_NTP, Tuning: radio.Tuning{SampleRateHz: rate, CenterHz: 1e6},
			}
			if at > len(data)/2 {
				b.LostBefore, b.Index = uint64(lost), index+uint64(lost)
			}
			check(a.Write(&b))
			index = b.Index + uint64(b.Samples())
		}
		check(a.Flush())
	})
}
