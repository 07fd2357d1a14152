package radio_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/cmplx"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gonum.org/v1/gonum/dsp/fourier"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/dsp"
	"github.com/fulgidus/heimdall/protocol"
)

// samples turns blocks into numbers, full scale 1.
func samples(blocks []radio.Block) []complex128 {
	var out []complex128
	for i := range blocks {
		b := &blocks[i]
		for j := range b.Samples() {
			switch b.Format {
			case dsp.CU8:
				out = append(out, complex((float64(b.Raw[2*j])-127.5)/127.5, (float64(b.Raw[2*j+1])-127.5)/127.5))
			case dsp.CS8:
				out = append(out, complex(float64(int8(b.Raw[2*j]))/128, float64(int8(b.Raw[2*j+1]))/128))
			case dsp.CS16:
				x, y := int16(binary.LittleEndian.Uint16(b.Raw[4*j:])), int16(binary.LittleEndian.Uint16(b.Raw[4*j+2:]))
				out = append(out, complex(float64(x)/32768, float64(y)/32768))
			case dsp.CF32:
				x, y := binary.LittleEndian.Uint32(b.Raw[8*j:]), binary.LittleEndian.Uint32(b.Raw[8*j+4:])
				out = append(out, complex(float64(math.Float32frombits(x)), float64(math.Float32frombits(y))))
			case dsp.FormatUnknown:
			}
		}
	}
	return out
}

func powerDB(x []complex128) float64 {
	sum := 0.0
	for _, v := range x {
		sum += real(v)*real(v) + imag(v)*imag(v)
	}
	return 10 * math.Log10(sum/float64(len(x)))
}

// listen reads n samples of a station from an instant on, as fast as possible. The receiver itself starts earlier
// when it is told to, to show that the start does not matter.
func listen(t testing.TB, path, station string, from time.Time, earlier time.Duration, n int, more string) ([]complex128, radio.Info) {
	t.Helper()
	r := newSource(t, fmt.Sprintf("sim:%s?station=%s&pace=fast&start=%s%s", path, station, from.Add(-earlier).Format(time.RFC3339Nano), more))
	info := start(t, r)
	var out []complex128
	for len(out) < n {
		var b radio.Block
		if err := r.Read(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
		skip := int(math.Round(from.Sub(b.Time).Seconds() * b.Tuning.SampleRateHz))
		if x := samples([]radio.Block{b}); skip < len(x) {
			out = append(out, x[max(0, skip):]...)
		}
	}
	return out[:n], info
}

// spectrum averages the power of n-point Hann-windowed transforms, lowest frequency first, as dB relative to full
// scale a hertz.
func spectrum(x []complex128, n int, rateHz float64) []float64 {
	fft := fourier.NewCmplxFFT(n)
	sum, energy := make([]float64, n), 0.0
	w := make([]float64, n)
	for i := range w {
		w[i] = 0.5 - 0.5*math.Cos(2*math.Pi*float64(i)/float64(n))
		energy += w[i] * w[i]
	}
	seg, count := make([]complex128, n), 0
	for at := 0; at+n <= len(x); at += n / 2 {
		for i := range seg {
			seg[i] = x[at+i] * complex(w[i], 0)
		}
		for i, v := range fft.Coefficients(nil, seg) {
			sum[(i+n/2)%n] += real(v)*real(v) + imag(v)*imag(v)
		}
		count++
	}
	for i := range sum {
		sum[i] = 10 * math.Log10(sum[i]/float64(count)/energy/rateHz)
	}
	return sum
}

var sceneStart = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// equator is how far two places on the equator lie apart: a chord of the ellipsoid's circle.
func equator(lonA, lonB float64) float64 {
	return 2 * 6378137 * math.Sin((lonB-lonA)/2*math.Pi/180)
}

const silent = "noise: {floor_dbfs_hz: -200}\npath: {reference_dbfs: 60}\n"

// residualDelay is how much later b hears what a hears, in samples, by the slope of the cross spectrum's phase over
// the part of the band that holds power.
func residualDelay(a, b []complex128) float64 {
	n := len(a)
	fft := fourier.NewCmplxFFT(n)
	window := func(x []complex128) []complex128 {
		y := make([]complex128, n)
		for i := range y {
			y[i] = x[i] * complex(0.5-0.5*math.Cos(2*math.Pi*float64(i)/float64(n)), 0)
		}
		return fft.Coefficients(nil, y)
	}
	fa, fb := window(a), window(b)
	cross := make([]complex128, n)
	for i := range cross {
		cross[i] = fa[i] * cmplx.Conj(fb[i])
	}
	delay := 0.0
	for range 8 { // the phase is small after the first rounds, so that a straight line is exact
		var mean complex128
		for i, c := range cross {
			mean += c * cmplx.Exp(complex(0, -2*math.Pi*freq(i, n)*delay))
		}
		var sw, sf, sff, sp, sfp float64
		for i, c := range cross {
			v := c * cmplx.Exp(complex(0, -2*math.Pi*freq(i, n)*delay)) * cmplx.Conj(mean)
			w, f, p := cmplx.Abs(c), freq(i, n), cmplx.Phase(v)
			sw, sf, sff, sp, sfp = sw+w, sf+w*f, sff+w*f*f, sp+w*p, sfp+w*f*p
		}
		delay += (sw*sfp - sf*sp) / (sw*sff - sf*sf) / (2 * math.Pi)
	}
	return delay
}

func freq(i, n int) float64 {
	if i >= n/2 {
		i -= n
	}
	return float64(i) / float64(n)
}

// TestSim_StationsHearOneSky compares two receivers that were started at different moments: the delay between them
// must be the path difference to a hundredth of a sample.
func TestSim_StationsHearOneSky(t *testing.T) {
	for _, modulation := range []string{
		"{kind: fm, deviation_hz: 2500}", "{kind: noise, bandwidth_hz: 100k}", "{kind: qpsk, baud: 48k}",
		"{kind: fsk, baud: 9600, deviation_hz: 4800}", "{kind: ook, baud: 4800}",
	} {
		t.Run(strings.Fields(modulation)[1], func(t *testing.T) {
			path := write(t, "scene.yaml", []byte(silent+"seed: 5\nstations:\n"+
				"  near: {position: [0, 0], rate: 240k, format: cf32}\n  far: {position: [0, 1], rate: 240k, format: cf32}\n"+
				"emitters: [{id: e, position: [0, 0.1], center: 145.5M, power_dbm: 20, modulation: "+modulation+"}]\n"))
			const n = 1 << 16
			wantSamples := (equator(0.1, 1) - equator(0, 0.1)) / 299792458 * 240e3
			whole := int(math.Round(wantSamples))
			a, _ := listen(t, path, "near", sceneStart, 0, n, "")
			b, _ := listen(t, path, "far", sceneStart, 1234567*time.Microsecond, n+whole, "")
			got := residualDelay(a, b[whole:]) + float64(whole)
			if math.Abs(got-wantSamples) > 0.01 {
				t.Errorf("far hears it %.4f samples after near, want %.4f within 0.01", got, wantSamples)
			}
		})
	}
}

// TestSim_LevelFollowsPath compares the level of a tone with the path loss worked out here.
func TestSim_LevelFollowsPath(t *testing.T) {
	const hz, light = 145.5e6, 299792458.0
	distance := equator(0, 0.5)
	free := 20 * math.Log10(4*math.Pi*distance*hz/light)
	free1km := 20 * math.Log10(4*math.Pi*1000*hz/light)
	for _, c := range []struct {
		path string
		want float64
	}{
		{"{model: free_space, reference_dbfs: 60}", 30 - free + 60},
		{"{model: log_distance, exponent: 3.5, reference_dbfs: 90}", 30 - free1km - 35*math.Log10(distance/1000) + 90},
	} {
		for _, format := range []string{"cf32", "cs16", "cs8", "cu8"} {
			for _, gain := range []float64{0, 10} {
				text := fmt.Sprintf("noise: {floor_dbfs_hz: -200}\npath: %s\nstations: {aa: {position: [0, 0], rate: 240k, gain_db: %v, format: %s}}\n"+
					"emitters: [{id: e, position: [0, 0.5], center: 145.53127M, power_dbm: 30, modulation: {kind: tone}}]\n", c.path, gain, format)
				x, info := listen(t, write(t, "scene.yaml", []byte(text)), "aa", sceneStart, 0, 100000, "&center=145.5M")
				want := c.want + gain + 20*math.Log10(hz/145.53127e6)
				// 8 bits add noise of their own: half a percent of these levels.
				if got := powerDB(x); math.Abs(got-want) > 0.1 {
					t.Errorf("%s, %s, gain %v dB: level %.3f dBFS, want %.3f within 0.1", c.path, format, gain, got, want)
				}
				if info.Tuning.GainDB != gain {
					t.Errorf("gain is said to be %v dB, want %v", info.Tuning.GainDB, gain)
				}
				ps := spectrum(x, 8192, 240e3)
				peak := 0
				for i, p := range ps {
					if p > ps[peak] {
						peak = i
					}
				}
				if got := (float64(peak) - 4096) * 240e3 / 8192; math.Abs(got-31270) > 15 {
					t.Errorf("tone at %.0f Hz, want 31270", got)
				}
			}
		}
	}
}

// TestSim_NoiseIsWhiteNormalAndItsOwn checks level, spectrum, distribution and independence of the noise.
func TestSim_NoiseIsWhiteNormalAndItsOwn(t *testing.T) {
	path := write(t, "scene.yaml", []byte("seed: 1\nnoise: {floor_dbfs_hz: -80}\nstations:\n"+
		"  aa: {position: [0, 0], rate: 1M, format: cf32}\n  bb: {position: [0, 0], rate: 1M, format: cf32, gain_db: 6}\n"))
	const n = 1 << 20
	a, _ := listen(t, path, "aa", sceneStart, 0, n, "&center=100M")
	b, _ := listen(t, path, "bb", sceneStart, 0, n, "&center=100M")
	// The relative error of a power over n complex samples is 1/√n: 0.004 dB.
	if got := powerDB(a) - 60; math.Abs(got+80) > 0.02 {
		t.Errorf("floor %.3f dBFS/Hz, want -80", got)
	}
	if got := powerDB(b) - 60; math.Abs(got+74) > 0.02 {
		t.Errorf("floor with 6 dB of gain %.3f dBFS/Hz, want -74", got)
	}
	for i, p := range spectrum(a, 256, 1e6) {
		if math.Abs(p+80) > 0.5 { // 8192 averages: 0.07 dB
			t.Errorf("bin %d at %.2f dBFS/Hz, want -80 within 0.5", i, p)
		}
	}
	sigma := math.Sqrt(math.Pow(10, -8) * 1e6 / 2)
	var beyond3, beyond4 int
	var fourth float64
	var across complex128
	for i, v := range a {
		for _, x := range []float64{real(v) / sigma, imag(v) / sigma} {
			fourth += x * x * x * x
			if math.Abs(x) > 3 {
				beyond3++
			}
			if math.Abs(x) > 4 {
				beyond4++
			}
		}
		across += v * cmplx.Conj(b[i])
	}
	draws := 2.0 * n
	if got := fourth / draws; math.Abs(got-3) > 0.03 { // its standard deviation is √(96/draws) = 0.007
		t.Errorf("kurtosis %.4f, want 3", got)
	}
	if got, want := float64(beyond3)/draws, 0.0027; math.Abs(got/want-1) > 0.06 {
		t.Errorf("share beyond 3 standard deviations %.5f, want %.5f", got, want)
	}
	if got, want := float64(beyond4)/draws, 6.33e-5; math.Abs(got/want-1) > 0.4 {
		t.Errorf("share beyond 4 standard deviations %.2e, want %.2e", got, want)
	}
	if got := cmplx.Abs(across) / n / (2 * sigma * sigma * 2); got > 0.005 { // √(1/n) = 0.001
		t.Errorf("two stations' noise correlates by %.4f", got)
	}
}

func TestSim_SameTimeSameSamples(t *testing.T) {
	path := write(t, "scene.yaml", []byte(testScene))
	a, _ := listen(t, path, "aa", sceneStart, 0, 30000, "")
	b, _ := listen(t, path, "aa", sceneStart, 777*time.Millisecond, 30000, "")
	for i := range a {
		if a[i] != b[i] {
			t.Fatalf("sample %d differs by when the receiver was started: %v and %v", i, a[i], b[i])
		}
	}
}

// TestSim_Schedule looks for the edges of bursts, at the emitter's time plus the path.
func TestSim_Schedule(t *testing.T) {
	path := write(t, "scene.yaml", []byte(silent+"epoch: 2026-03-04T05:06:07Z\nstations: {aa: {position: [0, 0], rate: 240k, format: cf32}}\n"+
		"emitters: [{id: e, position: [0, 1], center: 145.5M, power_dbm: 30, modulation: {kind: tone}, schedule: {start: 100ms, every: 50ms, duration: 10ms}}]\n"))
	x, _ := listen(t, path, "aa", sceneStart, 0, 240e3, "")
	full := 0.0
	for _, v := range x {
		full = math.Max(full, cmplx.Abs(v))
	}
	var edges []float64 // seconds at which half the amplitude is crossed
	for i := 1; i < len(x); i++ {
		if (cmplx.Abs(x[i-1]) > full/2) != (cmplx.Abs(x[i]) > full/2) {
			edges = append(edges, float64(i)/240e3)
		}
	}
	delay := equator(0, 1) / 299792458
	if len(edges) != 36 {
		t.Fatalf("%d edges in a second, want 36: 18 bursts from 100 ms on", len(edges))
	}
	for i, at := range edges {
		want := 0.1 + 0.05*float64(i/2) + delay + 0.0001 // half-way up a ramp of 200 µs
		if i%2 == 1 {
			want += 0.01 - 0.0002
		}
		if math.Abs(at-want) > 1.0/240e3 {
			t.Errorf("edge %d at %.6f s, want %.6f within a sample", i, at, want)
		}
	}
}

// TestSim_ClockErrors checks that a wrong clock shows as it would: a shifted arrival, a shifted frequency.
func TestSim_ClockErrors(t *testing.T) {
	path := write(t, "scene.yaml", []byte(silent+"epoch: 2026-03-04T05:06:07Z\nstations:\n"+
		"  good: {position: [0, 0], rate: 240k, format: cf32}\n"+
		"  late: {position: [0, 0], rate: 240k, format: cf32, clock: {offset_s: 0.002}}\n"+
		"  fast: {position: [0, 0], rate: 240k, format: cf32, clock: {ppm: 20, quality: ntp, sigma_s: 0.001}}\n"+
		"emitters: [{id: e, position: [0, 0.2], center: 100M, power_dbm: 30, modulation: {kind: tone}, schedule: {start: 20ms}}]\n"))
	first := func(station string) (int, []complex128, radio.Info) {
		x, info := listen(t, path, station, sceneStart, 0, 48000, "")
		for i, v := range x {
			if cmplx.Abs(v) > 0.001 {
				return i, x, info
			}
		}
		t.Fatalf("%s hears nothing", station)
		return 0, nil, info
	}
	good, _, _ := first("good")
	late, _, _ := first("late")
	if late-good != 480 {
		t.Errorf("a clock 2 ms fast hears the burst %d samples later, want 480", late-good)
	}
	_, x, info := first("fast")
	if got, want := info.Tuning.SampleRateHz, 240e3*1.00002; math.Abs(got-want) > 1e-6 {
		t.Errorf("rate %v Hz, want %v", got, want)
	}
	if got := info.TimeQuality.Short(); got != "ntp" {
		t.Errorf("time quality %q, want ntp", got)
	}
	// 20 ppm of 100 MHz are 2000 Hz downwards.
	var turn complex128
	for i := 30000; i < 40000; i++ {
		turn += x[i+1] * cmplx.Conj(x[i])
	}
	if got := cmplx.Phase(turn) / (2 * math.Pi) * info.Tuning.SampleRateHz; math.Abs(got+2000) > 0.2 {
		t.Errorf("tone at %.2f Hz, want -2000", got)
	}
}

// TestSim_Bandwidths checks that each modulation fills the width it should, in which 99 % of its power lies.
func TestSim_Bandwidths(t *testing.T) {
	for _, c := range []struct {
		modulation  string
		least, most float64
	}{
		{"{kind: tone}", 0, 600},
		{"{kind: fm, deviation_hz: 2500}", 6e3, 14e3},
		{"{kind: fsk, baud: 1200, deviation_hz: 4500}", 9e3, 13e3},
		{"{kind: ook, baud: 2000}", 2e3, 20e3},
		{"{kind: qpsk, baud: 20k}", 18e3, 27e3},
		{"{kind: noise, bandwidth_hz: 50k}", 45e3, 60e3},
	} {
		path := write(t, "scene.yaml", []byte(silent+"stations: {aa: {position: [0, 0], rate: 240k, format: cf32}}\n"+
			"emitters: [{id: e, position: [0, 0.1], center: 145.5M, power_dbm: 30, modulation: "+c.modulation+"}]\n"))
		x, _ := listen(t, path, "aa", sceneStart, 0, 1<<18, "")
		ps := spectrum(x, 1024, 240e3)
		total, cum, low, high := 0.0, 0.0, -1, 0
		for _, p := range ps {
			total += math.Pow(10, p/10)
		}
		for i, p := range ps {
			cum += math.Pow(10, p/10)
			if low < 0 && cum > 0.005*total {
				low = i
			}
			if cum < 0.995*total {
				high = i + 1
			}
		}
		if got := float64(high-low) * 240e3 / 1024; got < c.least || got > c.most {
			t.Errorf("%s: 99 %% of the power in %.0f Hz, want %.0f to %.0f", c.modulation, got, c.least, c.most)
		}
		if got, want := powerDB(x), 30-20*math.Log10(4*math.Pi*equator(0, 0.1)*145.5e6/299792458)+60; c.modulation[7:10] != "ook" && math.Abs(got-want) > 0.1 {
			t.Errorf("%s: level %.2f dBFS, want %.2f", c.modulation, got, want)
		}
	}
}

// TestSim_RealTime uses fake time: blocks come when their last sample has been taken, and a reader that sleeps loses
// whole blocks and is told so.
func TestSim_RealTime(t *testing.T) {
	path := write(t, "scene.yaml", []byte(strings.Replace(testScene, "rate: 240k, format: cs16", "rate: 8k, format: cs16", 1)))
	synctest.Test(t, func(t *testing.T) {
		r := newSource(t, "sim:"+path+"?station=aa&buffer=500ms")
		info := start(t, r)
		if !info.Live || !info.Timeline {
			t.Errorf("Live %v and Timeline %v, want both", info.Live, info.Timeline)
		}
		var b radio.Block
		next := uint64(0)
		for i := range 10 {
			if err := r.Read(t.Context(), &b); err != nil {
				t.Fatal(err)
			}
			if late := time.Since(b.End()); late < 0 || late > time.Microsecond {
				t.Errorf("block %d came %v after its end", i, late)
			}
			next = b.Index + uint64(b.Samples())
		}
		time.Sleep(3 * time.Second)
		if err := r.Read(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
		if b.LostBefore != 2500*8 || !b.LostExact || b.Index != next+b.LostBefore || b.Segment != 0 {
			t.Errorf("after 3 s of sleep with 500 ms of buffer: lost %d (exact %v), index %d, segment %d; want 20000, true, %d, 0",
				b.LostBefore, b.LostExact, b.Index, b.Segment, next+20000)
		}
		if got := r.Health().Lost["overrun"]; got != 20000 {
			t.Errorf("health counts %d samples lost to overrun, want 20000", got)
		}
	})
}

func BenchmarkSim_DemoStation(b *testing.B) {
	benchmarkScene(b, "../../packaging/demo/scene.yaml", "torino", "&center=145.5M")
}

func BenchmarkSim_WideStation(b *testing.B) {
	benchmarkScene(b, "../../packaging/demo/scene.yaml", "torino", "&center=145.5M&rate=10M")
}

func benchmarkScene(b *testing.B, path, station, more string) {
	r := newSource(b, "sim:"+path+"?station="+station+"&pace=fast&start=2026-01-01T00:00:00Z"+more)
	start(b, r)
	var block radio.Block
	total := 0
	for b.Loop() {
		if err := r.Read(b.Context(), &block); err != nil {
			b.Fatal(err)
		}
		total += block.Samples()
	}
	b.SetBytes(int64(len(block.Raw)))
	b.ReportMetric(float64(total)/b.Elapsed().Seconds()/1e6, "Msps")
}

// stepScene has one slow station with a clock as given.
func stepScene(t *testing.T, clock string) string {
	t.Helper()
	return write(t, "scene.yaml", []byte("seed: 1\nepoch: 1999-01-01T00:00:00Z\nnoise: {floor_dbfs_hz: -90}\n"+
		"stations: {aa: {position: [0, 0, 0], clock: "+clock+", rate: 8k, format: cs16}}\n"+
		"emitters: [{id: e, position: [0, 0.1, 0], center: 100M, modulation: {kind: tone}, power_dbm: 0}]\n"))
}

// Where the wall clock is set, the samples go on and their times jump, in a new segment; nothing waits and nothing is lost.
func TestSim_GoesAlongWithTheWallClock(t *testing.T) {
	path := stepScene(t, "{quality: system}")
	for _, step := range []time.Duration{-time.Hour, -time.Second, -100 * time.Millisecond, 100 * time.Millisecond, time.Second, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			var moved time.Duration
			r := newSourceWith(t, "sim:"+path+"?station=aa", radio.Options{
				Wall: func() (time.Time, protocol.TimeQuality, time.Duration) {
					quality := protocol.TimeQuality_TIME_QUALITY_NTP
					if moved != 0 {
						quality = protocol.TimeQuality_TIME_QUALITY_UNSET
					}
					return time.Now().Round(0).Add(moved), quality, 0
				},
			})
			start(t, r)
			var before, after radio.Block
			for range 5 {
				if err := r.Read(t.Context(), &before); err != nil {
					t.Fatal(err)
				}
			}
			if before.Segment != 0 || before.TimeQuality != protocol.TimeQuality_TIME_QUALITY_SYSTEM {
				t.Errorf("segment %d, quality %v; want 0, system", before.Segment, before.TimeQuality)
			}
			moved = step
			began := time.Now()
			if err := r.Read(t.Context(), &after); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > 200*time.Millisecond {
				t.Errorf("a step of %v: waited %v for the next block", step, took)
			}
			// Times lie on the grid of the samples, 125 us wide.
			if off := after.Time.Sub(before.End()) - step; off < 0 || off > 125*time.Microsecond {
				t.Errorf("a step of %v: the next block begins %v after the one before", step, after.Time.Sub(before.End()))
			}
			if after.Segment != 1 || after.LostBefore != 0 || after.Index != before.Index+uint64(before.Samples()) {
				t.Errorf("a step of %v: segment %d, index %d after %d samples, %d lost; want a new segment and no loss", step, after.Segment, after.Index, before.Index+uint64(before.Samples()), after.LostBefore)
			}
			if after.TimeQuality != protocol.TimeQuality_TIME_QUALITY_UNSET {
				t.Errorf("quality %v while the clock is unset, want unset", after.TimeQuality)
			}
			if err := r.Tune(t.Context(), radio.Tuning{CenterHz: 101e6}); err != nil {
				t.Fatal(err)
			}
			if err := r.Read(t.Context(), &after); err != nil {
				t.Fatal(err)
			}
			if off := time.Now().Add(step).Sub(after.End()); off < -time.Millisecond || off > time.Millisecond {
				t.Errorf("a step of %v, retuned: the block's end is %v from now", step, off)
			}
		})
	}
}

// A simulated receiver with a clock of its own does not care for the computer's.
func TestSim_HasItsOwnClock(t *testing.T) {
	r := newSourceWith(t, "sim:"+stepScene(t, "{}")+"?station=aa", radio.Options{
		Wall: func() (time.Time, protocol.TimeQuality, time.Duration) {
			return time.Now(), protocol.TimeQuality_TIME_QUALITY_UNSET, 0
		},
	})
	start(t, r)
	var b radio.Block
	if err := r.Read(t.Context(), &b); err != nil || b.TimeQuality != protocol.TimeQuality_TIME_QUALITY_SIMULATED {
		t.Errorf("quality %v, %v; want simulated", b.TimeQuality, err)
	}
}
