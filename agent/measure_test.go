package main

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/dsp"
)

// line is one JSON line of the measure command.
type line struct {
	Kind       string    `json:"kind"`
	File       string    `json:"file"`
	Time       string    `json:"time"`
	StartS     float64   `json:"start_s"`
	DurationS  float64   `json:"duration_s"`
	CenterHz   *float64  `json:"center_hz"`
	LowHz      float64   `json:"low_hz"`
	HighHz     float64   `json:"high_hz"`
	RateHz     float64   `json:"sample_rate_hz"`
	Samples    uint64    `json:"samples"`
	PeakHz     *float64  `json:"peak_hz"`
	PowerDBFS  *float64  `json:"power_dbfs"`
	SnrDB      *float64  `json:"snr_db"`
	Flags      []string  `json:"flags"`
	StepHz     float64   `json:"step_hz"`
	BandHz     float64   `json:"occupied_bandwidth_hz"`
	LevelsDBFS []float64 `json:"dbfs_hz"`
	Quality    string    `json:"time_quality"`
}

// measureJSON runs the command and returns its lines by kind.
func measureJSON(t *testing.T, c MeasureCmd) (byKind map[string][]line, stderr string, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	c.JSON = true
	err = c.Run(t.Context(), streams{out: &out, err: &errs})
	byKind = map[string][]line{}
	for _, text := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		if text == "" {
			continue
		}
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		byKind[l.Kind] = append(byKind[l.Kind], l)
	}
	return byKind, errs.String(), err
}

func TestMeasure_RealRecordings(t *testing.T) {
	folder := filepath.Join("..", "..", "shared", "realdata")
	if _, err := os.Stat(folder); err != nil {
		t.Skip("the recordings are not here:", err)
	}
	var known map[string]struct {
		Rate   float64 `json:"sample_rate"`
		Bursts []struct {
			Start float64 `json:"start_ms"`
			Len   float64 `json:"len_ms"`
			Peak  float64 `json:"peak_offset_hz"`
		} `json:"bursts"`
	}
	text, err := os.ReadFile(filepath.Join(folder, "measured.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &known); err != nil {
		t.Fatal(err)
	}
	for _, v := range []struct {
		file      string
		centerHz  float64
		carrier   bool // the events' centres are a carrier's
		stateless bool // the file states no rate
	}{
		{"adsb_modes1_1090M_2M.cu8", 1090e6, false, false},
		{"sensibleliving_g001_433.92M_250k.cu8", 433.92e6, true, false},
		{"sensibleliving_g004_433.92M_250k.cu8", 433.92e6, true, false},
		{"skylink_g001_433.92M_250k.cu8", 433.92e6, true, false},
		{"wmbus_issue48_868.625M_2400k.cu8", 868.625e6, false, false},
		{"enocean.cf32", 0, true, true},
		{"elektromaten.cs8", 0, true, true},
		{"homematic.cs16", 0, false, true},
		{"V16-beacon-NB-IoT-uplink.sigmf-data", 832.344126e6, false, false},
	} {
		t.Run(v.file, func(t *testing.T) {
			cmd := MeasureCmd{Files: []string{filepath.Join(folder, v.file)}}
			if v.stateless {
				cmd.Rate = new(configs.Hertz(1e6))
			}
			got, stderr, err := measureJSON(t, cmd)
			if err != nil || len(got["measurement"]) != 1 {
				t.Fatalf("%d measurements, %v, %s", len(got["measurement"]), err, stderr)
			}
			want, detections := known[v.file].Bursts, got["detection"]
			if len(detections) != len(want) {
				t.Fatalf("%d detections, want %d: %+v", len(detections), len(want), detections)
			}
			for i, w := range want {
				d := detections[i]
				if math.Abs(d.StartS*1e3-w.Start) > 2 || math.Abs(d.DurationS*1e3-w.Len) > 2 {
					t.Errorf("burst %d: %.2f ms long %.2f ms, want %.1f and %.1f within 2 ms", i, d.StartS*1e3, d.DurationS*1e3, w.Start, w.Len)
				}
				offset := *d.CenterHz - v.centerHz
				if v.carrier && math.Abs(offset-w.Peak) > 1500 {
					t.Errorf("burst %d: carrier %.0f Hz, want %.0f within 1500", i, offset, w.Peak)
				}
				// A shift-keyed burst is one event over both tones.
				if low, high := d.LowHz-v.centerHz, d.HighHz-v.centerHz; w.Peak < low-1500 || w.Peak > high+1500 {
					t.Errorf("burst %d: %.0f to %.0f Hz does not hold the peak at %.0f Hz", i, low, high, w.Peak)
				}
			}
			if m := got["measurement"][0]; v.stateless != (m.CenterHz == nil) || m.RateHz != known[v.file].Rate {
				t.Errorf("measurement at %v Hz, rate %g; want rate %g", m.CenterHz, m.RateHz, known[v.file].Rate)
			}
		})
	}
}

func TestMeasure_AnnotatedBeacon(t *testing.T) {
	folder := filepath.Join("..", "..", "shared", "realdata")
	meta := filepath.Join(folder, "V16-beacon-NB-IoT-uplink.sigmf-meta")
	text, err := os.ReadFile(meta)
	if err != nil {
		t.Skip("the recordings are not here:", err)
	}
	var truth struct {
		Annotations []struct {
			Start   float64 `json:"core:sample_start"`
			Count   float64 `json:"core:sample_count"`
			LowHz   float64 `json:"core:freq_lower_edge"`
			HighHz  float64 `json:"core:freq_upper_edge"`
			Comment string  `json:"core:comment"`
		} `json:"annotations"`
	}
	if err := json.Unmarshal(text, &truth); err != nil {
		t.Fatal(err)
	}
	got, _, err := measureJSON(t, MeasureCmd{Files: []string{meta}})
	if err != nil {
		t.Fatal(err)
	}
	if m := got["measurement"][0]; m.Time != "2025-11-15T17:34:32.232000000Z" || m.Quality != "recorded" {
		t.Errorf("time %s (%s)", m.Time, m.Quality)
	}
	const rate = 640e3
	for _, a := range truth.Annotations {
		inside := false
		for _, d := range got["detection"] {
			middle := (a.LowHz + a.HighHz) / 2
			inside = inside || a.Start/rate >= d.StartS-2e-3 && (a.Start+a.Count)/rate <= d.StartS+d.DurationS+2e-3 &&
				middle >= d.LowHz && middle <= d.HighHz
		}
		if !inside {
			t.Errorf("%s at sample %.0f, %.0f to %.0f Hz, is inside no detection", a.Comment, a.Start, a.LowHz, a.HighHz)
		}
	}
}

func TestMeasure_TimeSignal(t *testing.T) {
	for _, v := range []struct {
		station string
		first   time.Time // the second frame's stamp: the first one's is stale
		rate    float64
		within  float64 // dB, between the signal to noise ratios of measurement and detection
	}{
		// The noise falls by 12 dB after 5 of its 29 s. A quantile over time sees the quiet, a mean spectrum
		// the mean: (5·16 + 24)/29 of it, 5.5 dB.
		{"DF0KL", time.Date(2017, 11, 27, 10, 41, 56, 171899011, time.UTC), 12001.14497, 6.5},
		{"F1JEK", time.Date(2017, 11, 27, 10, 41, 56, 404513837, time.UTC), 12001.20192, 3},
		{"HB9RYZ", time.Date(2017, 11, 27, 10, 41, 55, 995459620, time.UTC), 12001.13215, 3},
	} {
		t.Run(v.station, func(t *testing.T) {
			path := filepath.Join("..", "..", "shared", "realdata", "20171127T104156Z_77500_"+v.station+"_iq.wav")
			if _, err := os.Stat(path); err != nil {
				t.Skip("the recordings are not here:", err)
			}
			got, _, err := measureJSON(t, MeasureCmd{Files: []string{path}})
			if err != nil {
				t.Fatal(err)
			}
			m := got["measurement"][0]
			first, err := time.Parse(time.RFC3339Nano, m.Time)
			if err != nil || first.Sub(v.first).Abs() > time.Microsecond {
				t.Errorf("first good time stamp %s, want %s within 1 us", m.Time, v.first)
			}
			if math.Abs(m.RateHz-v.rate) > 0.005 {
				t.Errorf("rate %.5f Hz, want %.5f within 0.005", m.RateHz, v.rate)
			}
			if m.PeakHz == nil || math.Abs(*m.PeakHz-77500) > 0.2 {
				t.Errorf("carrier at %v Hz, want 77500 within 0.2", m.PeakHz)
			}
			perHz := func(l line, widthHz float64) float64 { return *l.SnrDB + dsp.DB(widthHz) }
			lasting := 0
			for _, d := range got["detection"] {
				if d.StartS == 0 && math.Abs(d.DurationS-m.DurationS) < 0.02 && math.Abs(*d.CenterHz-77500) < 1500 {
					lasting++
					if got, want := perHz(d, d.HighHz-d.LowHz), perHz(m, m.BandHz); math.Abs(got-want) > v.within {
						t.Errorf("detection %.1f dB over the noise of one hertz, measurement %.1f: want the same within %.0f dB", got, want, v.within)
					}
				}
			}
			if lasting != 1 {
				t.Errorf("%d detections as long as the recording, want the carrier: %+v", lasting, got["detection"])
			}
		})
	}
}

// tone writes a recording of a tone in noise.
func tone(t *testing.T, name string, samples int, tail ...byte) string {
	t.Helper()
	x := make([]complex128, samples)
	dsp.Tone(0.3, 0.1)(x, 0)
	dsp.WhiteNoise(0.02, 1)(x, 0)
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, append(dsp.Quantise(nil, x, dsp.CU8), tail...), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestMeasure_JSON(t *testing.T) {
	path := tone(t, "g001_433.92M_250k.cu8", 100000)
	got, stderr, err := measureJSON(t, MeasureCmd{Files: []string{path}, Spectrum: true, FFT: new(1024)})
	if err != nil || stderr != "" {
		t.Fatal(err, stderr)
	}
	m, d, s := got["measurement"], got["detection"], got["spectrum"]
	if len(m) != 1 || len(d) != 1 || len(s) != 1 {
		t.Fatalf("%d measurements, %d detections, %d spectra, want one of each", len(m), len(d), len(s))
	}
	if m[0].File != path || m[0].Time != "" || m[0].Samples != 100000 || *m[0].CenterHz != 433.92e6 {
		t.Errorf("measurement %+v", m[0])
	}
	if math.Abs(*m[0].PeakHz-433.945e6) > 5 {
		t.Errorf("peak at %.1f Hz, want 433945000 within 5", *m[0].PeakHz)
	}
	if d[0].StartS != 0 || math.Abs(d[0].DurationS-0.4) > 1e-3 {
		t.Errorf("detection from %g s, %g s long; want 0 and 0.4", d[0].StartS, d[0].DurationS)
	}
	if len(s[0].LevelsDBFS) != 1024 || math.Abs(s[0].StepHz-250e3/1024) > 1e-6 {
		t.Errorf("spectrum of %d bins, step %g Hz", len(s[0].LevelsDBFS), s[0].StepHz)
	}
}

func TestMeasure_Table(t *testing.T) {
	var out, errs bytes.Buffer
	for _, name := range []string{"g001_433.92M_250k.cu8", "plain.cu8"} {
		c := MeasureCmd{Files: []string{tone(t, name, 50000)}, Rate: new(configs.Hertz(250e3)), Spectrum: true}
		if err := c.Run(t.Context(), streams{out: &out, err: &errs}); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"centre 433.92 MHz", "433.945000 MHz", "+25.000 kHz", "centre unknown", "dBFS/Hz", "200.00 ms", "strongest", "averages"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in the table:\n%s", want, out.String())
		}
	}
}

func TestMeasure_Tails(t *testing.T) { // vector 17
	for n := range 6 {
		path := tone(t, "cut_433M_250k.cu8", 0, make([]byte, n)...)
		got, stderr, err := measureJSON(t, MeasureCmd{Files: []string{path}})
		if n < 2 {
			if !errors.Is(err, errReported) || !strings.Contains(stderr, filepath.Base(path)) {
				t.Errorf("%d bytes: %v, %q; want an error that names the file", n, err, stderr)
			}
			continue
		}
		if err != nil {
			t.Errorf("%d bytes: %v %s", n, err, stderr)
			continue
		}
		if m := got["measurement"]; len(m) != 1 || m[0].Samples != uint64(n/2) {
			t.Errorf("%d bytes: %+v", n, m)
		}
	}
	got, _, err := measureJSON(t, MeasureCmd{Files: []string{tone(t, "odd_433M_250k.cu8", 50000, 1)}})
	if err != nil || len(got["measurement"]) != 1 {
		t.Fatalf("odd tail: %v, %v", got, err)
	}
	if m := got["measurement"][0]; len(m.Flags) != 1 || m.Flags[0] != "odd_tail" || m.Samples != 50000 {
		t.Errorf("odd tail: flags %v, %d samples", m.Flags, m.Samples)
	}
}

func TestMeasure_Refusals(t *testing.T) {
	good := tone(t, "g001_433.92M_250k.cu8", 5000)
	for _, v := range []struct {
		cmd   MeasureCmd
		usage bool
		want  string
	}{
		{MeasureCmd{Files: []string{good}, FFT: new(1000)}, true, "fft 1000"},
		{MeasureCmd{Files: []string{good}, FFT: new(0)}, true, "fft 0"},
		{MeasureCmd{Files: []string{good}, Format: "cu9"}, true, "cu9"},
		{MeasureCmd{Files: []string{good}, Rate: new(configs.Hertz(-1))}, true, "--rate"},
		{MeasureCmd{Files: []string{filepath.Join(t.TempDir(), "none.cu8")}, Rate: new(configs.Hertz(1e6))}, false, "none.cu8"},
	} {
		_, stderr, err := measureJSON(t, v.cmd)
		if err == nil || errors.As(err, new(usageError)) != v.usage {
			t.Errorf("%+v: %v, usage %v", v.cmd, err, v.usage)
			continue
		}
		if text := stderr + err.Error(); !strings.Contains(text, v.want) {
			t.Errorf("%+v: %q does not name %q", v.cmd, text, v.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (MeasureCmd{Files: []string{good}}).Run(ctx, streams{out: &bytes.Buffer{}, err: &bytes.Buffer{}}); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

// A recording that is not what its description says is measured all the same, and told at the end.
func TestMeasure_HashThatDiffers(t *testing.T) {
	raw, err := os.ReadFile(tone(t, "g001_433.92M_250k.cu8", 50000))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "x.sigmf-data")
	meta := fmt.Sprintf(`{"global": {"core:datatype": "cu8", "core:version": "1.2.0", "core:sample_rate": 250000, "core:sha512": "%x"},
		"captures": [{"core:sample_start": 0, "core:frequency": 77500}], "annotations": []}`, sha512.Sum512(raw))
	write(t, strings.TrimSuffix(path, "data")+"meta", meta)
	for _, part := range []int{len(raw), len(raw) / 4} {
		write(t, path, string(raw[:part]))
		got, stderr, err := measureJSON(t, MeasureCmd{Files: []string{path}})
		if len(got["measurement"]) != 1 {
			t.Fatalf("%d bytes: %d measurements, %v, %s", part, len(got["measurement"]), err, stderr)
		}
		if whole := part == len(raw); whole != (err == nil) || whole == strings.Contains(stderr, "core:sha512") {
			t.Errorf("%d of %d bytes: ended with %v and %q", part, len(raw), err, stderr)
		}
	}
}

func TestHertz_ForPeople(t *testing.T) {
	for got, want := range map[string]string{
		hertz(77493, true): "77.493 kHz", hertz(433.945e6, true): "433.945000 MHz", hertz(-25000, false): "-25.000 kHz",
		bandwidth(12): "12.0 Hz", bandwidth(12500): "12.50 kHz",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestMeasure_DCMask(t *testing.T) {
	x := make([]complex128, 100000)
	dsp.WhiteNoise(0.02, 1)(x, 0)
	dsp.Tone(0.1, 0)(x, 0)
	path := filepath.Join(t.TempDir(), "spike_433M_250k.cu8")
	if err := os.WriteFile(path, dsp.Quantise(nil, x, dsp.CU8), 0o600); err != nil {
		t.Fatal(err)
	}
	for dc, want := range map[string]int{"": 0, "mask": 0, "keep": 1} {
		got, _, err := measureJSON(t, MeasureCmd{Files: []string{path}, DC: dc})
		if err != nil {
			t.Fatal(err)
		}
		peak := 0
		if got["measurement"][0].PeakHz != nil {
			peak = 1
		}
		if len(got["detection"]) != want || peak != want {
			t.Errorf("dc %q: %d detections, %d peaks, want %d", dc, len(got["detection"]), peak, want)
		}
	}
}

func TestProgressBar(t *testing.T) {
	if got := progressBar("x", 0.5); !strings.HasPrefix(got, "x [=") || !strings.HasSuffix(got, "] 50 %") {
		t.Errorf("got %q", got)
	}
	if got := progressBar("x", 2); !strings.HasSuffix(got, "100 %") {
		t.Errorf("got %q", got)
	}
}
