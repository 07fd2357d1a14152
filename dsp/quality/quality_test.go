package main

import (
	"bytes"
	"encoding/xml"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mathext"

	"github.com/fulgidus/heimdall/dsp"
)

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance) {
		t.Errorf("%s: got %.6g, want %.6g within %.3g", what, got, want, tolerance)
	}
}

// TestNoise_IsWhiteAndGaussian: what the detector is tried on must be what it says.
func TestNoise_IsWhiteAndGaussian(t *testing.T) {
	table := newNoiseTable()
	power, kurtosis := table.moments()
	const step = 1 / 127.5
	near(t, "power", power, 2*(noiseSigma*noiseSigma+step*step/12), 1e-5)
	near(t, "kurtosis", kurtosis, 0, 2e-3)
	near(t, "change of 1e-10 by it", noiseExcess(kurtosis, bins, math.Log(1e10)), 0, 1e-3)

	raw := make([]byte, 1<<20)
	newNoise(table, 1, 2).fill(raw)
	re, im := make([]float32, len(raw)/2), make([]float32, len(raw)/2)
	dsp.Convert(re, im, raw, dsp.CU8)
	n := float64(len(re))
	for lag := range 4 {
		var real2, imag2, cross float64
		for i := range len(re) - lag {
			real2 += float64(re[i] * re[i+lag])
			imag2 += float64(im[i] * im[i+lag])
			cross += float64(re[i] * im[i+lag])
		}
		want := 0.0
		if lag == 0 {
			want = 1
		}
		tolerance := 5 * math.Sqrt(2/n)
		near(t, "correlation of I", 2*real2/n/power, want, tolerance)
		near(t, "correlation of Q", 2*imag2/n/power, want, tolerance)
		near(t, "correlation of I and Q", 2*cross/n/power, 0, tolerance)
	}
}

// TestNoise_Excess holds the first term of the series against cells of a signal that is far from Gaussian.
func TestNoise_Excess(t *testing.T) {
	const n, kurtosis = 64, -2 // each sample is one of two values
	over, cells := 0, 0
	w, psd := must(dsp.NewWelch(n)), make([]float64, n)
	ratio := math.Log(1e2)
	re, im := make([]float32, n), make([]float32, n)
	source := newNoise(newNoiseTable(), 3, 0).rng
	for range 40000 {
		for i := range re {
			r := source.Uint64()
			re[i], im[i] = float32(int(r&1)*2-1), float32(int(r>>1&1)*2-1)
		}
		w.Reset()
		w.Break()
		w.Write(re, im)
		w.PSD(psd, 1)
		for _, v := range psd {
			cells++
			if v > ratio*2 {
				over++
			}
		}
	}
	near(t, "excess", float64(over)/float64(cells)*1e2-1, noiseExcess(kurtosis, n, ratio), 0.025)
	if noiseExcess(kurtosis, n, ratio) > -0.05 {
		t.Error("the test is too weak to tell")
	}
}

func TestBound(t *testing.T) {
	// A pulse of unknown phase needs 13.2 dB to be found nine times in ten at 1e-6 [Marcum60].
	near(t, "0.9 at 1e-6, one dimension", boundDB(1, 1e-6, 0.9), 13.18, 0.05)
	near(t, "0.5 at 1e-6, one dimension", boundDB(1, 1e-6, 0.5), 11.24, 0.05)
	// For many dimensions the sum is Gaussian: t = M + z sqrt(M), and the energy adds up to it.
	const m = 1e5
	z := 4.753 // of 1e-6
	near(t, "0.5 at 1e-6, many dimensions", fromDB(boundDB(m, 1e-6, 0.5))/(z*math.Sqrt(m)), 1, 0.01)
	near(t, "no burst", energyDetection(4, 1e-9, energyThreshold(4, 1e-3)), 1e-3, 1e-6)
	near(t, "an hour of one dimension", hourlyPfa(1, 1), 1.157e-10, 1e-13)
	near(t, "threshold of one dimension", energyThreshold(1, 1e-6), -math.Log(1e-6), 1e-6)
	low, high := poissonInterval(4)
	near(t, "least of 4", mathext.GammaIncRegComp(4, low), 0.975, 1e-9)
	near(t, "most of 4", mathext.GammaIncRegComp(5, high), 0.025, 1e-9)
}

// TestCellDetection holds the curve of a cell against a simulation of four overlapped frames.
func TestCellDetection(t *testing.T) {
	for snrDB, pd := range map[float64]float64{6: 0.04, 8: 0.35, 9: 0.68, 10: 0.92, 12: 1} {
		near(t, "four frames", cellDetection(4, fromDB(snrDB), fromDB(8.98)), pd, 0.02)
	}
	near(t, "and back", cellDB(4, 8.98, 0.5), 8.42, 0.1)
}

// TestCells: the table's probabilities from 1e-3 to 1e-5, within what chance allows.
func TestCells(t *testing.T) {
	for _, c := range cellRates(newNoiseTable(), 1, 0, 4<<20) {
		expected := c.cells * c.pfa
		if expected < 20 {
			continue
		}
		near(t, "cells over the threshold", c.over, expected, 6*math.Sqrt(expected))
	}
}

func TestFalseEvents(t *testing.T) {
	table := newNoiseTable()
	const samples = 16 << 20
	if f := countEvents(table, 1, 0, samples, surveyDB); f.events > 0 {
		t.Errorf("%d false events in %.3g cells at %g dB", f.events, f.cells(), surveyDB)
	}
	// The measurement sees what there is: at a low threshold noise does make events.
	if f := countEvents(table, 1, 0, samples/4, 4.5); f.events < 10 {
		t.Errorf("%d false events at 4.5 dB, want many", f.events)
	}
}

// TestDetection: how much more energy than the bound is needed, and that the bound is one.
func TestDetection(t *testing.T) {
	table := newNoiseTable()
	for _, v := range []struct {
		burst      burst
		most, loss float64 // dB over the bound at 0.5
	}{{burst{2, 0}, 5.7, 0.3}, {burst{2, 256}, 4.5, 0.3}} {
		c := measureCurve(table, v.burst, surveyDB, 80, 1)
		if got := c.lossDB(0.5); !(got > v.loss && got < v.most) {
			t.Errorf("%s, %g ms: %.2f dB over the bound, want %.1f to %.1f", v.burst.name(), v.burst.ms, got, v.loss, v.most)
		}
		if last := c.points[len(c.points)-1]; last.pd() < curveMost {
			t.Errorf("%s, %g ms: of strong bursts %.3f are found", v.burst.name(), v.burst.ms, last.pd())
		}
	}
	if p := newStage(table, burst{0.5, 16}, 80).detections(surveyDB, 34, 1); p.pd() < 0.97 {
		t.Errorf("strong pulses of half a millisecond: %.3f are found", p.pd())
	}
}

// TestBoxes: the search of boxes is no better than the bound and not far from it, and noise has it as wrong as it may be.
func TestBoxes(t *testing.T) {
	table := newNoiseTable()
	b := burst{2, 256}
	c := curve{burst: b, boxes: true}
	wave, all := b.waveform(), boxes(1)
	if p := boxTrials(table, b, wave, all, c.boundAt(0.9)+3, 60, 1); p.pd() < 0.95 {
		t.Errorf("%.3f found 3 dB over the bound's 0.9", p.pd())
	}
	if p := boxTrials(table, b, wave, all, c.boundAt(0.5)-1, 60, 1); p.pd() > 0.4 {
		t.Errorf("%.3f found 1 dB under the bound's 0.5", p.pd())
	}
	const trials, perHour = 300, 1e5
	most := trials * perHour * patchFrames * patchBins / (2 * hour)
	p := boxTrials(table, b, wave, boxes(perHour), math.Inf(-1), trials, 1)
	if got := float64(p.found); got > most || got < most/6 {
		t.Errorf("%g patches of noise hold a box, want at most %.0f and not far fewer", got, most)
	}
}

// TestEstimates holds bias and spread against their limits.
func TestEstimates(t *testing.T) {
	table := newNoiseTable()
	var all []estimate
	all = append(all, floorEstimates(table, 64, 0, 20, 1), floorEstimates(table, 16, 0.3, 20, 1))
	all = append(all, toneEstimates(table, 30, 200, 1)...)
	all = append(all, spectrumEstimates(table, 20, 10, 1)...)
	all = append(all, burstEstimates(table, burst{20, 0}, 20, 24, 1)...)
	all = append(all, burstEstimates(table, burst{20, 50}, 20, 12, 1)...)
	most := map[[2]string][2]float64{ // bias, and rms over its limit
		{"floor", "64 frames, 0 % occupied"}:       {0.03, 2.5},
		{"floor", "16 frames, 30 % occupied"}:      {0.4, 15},
		{"centre", "line, one frame"}:              {0.01, 2.2},
		{"level", "line, one frame"}:               {0.1, 1.6},
		{"level", "48 kBd, 64 frames of 4096"}:     {0.03, 0.3},
		{"centre", "48 kBd, 64 frames of 4096"}:    {100, 1.2},
		{"bandwidth", "48 kBd, 64 frames of 4096"}: {1, 1},
		{"floor", "carrier, 20 ms"}:                {0.1, 0.3},
		{"level", "carrier, 20 ms"}:                {0.1, 1.8},
		{"start", "carrier, 20 ms"}:                {40, 3},
		{"stop", "carrier, 20 ms"}:                 {40, 3},
		{"centre", "carrier, 20 ms"}:               {10, 60},
		{"floor", "48 kBd, 20 ms"}:                 {0.2, 0.4},
		{"level", "48 kBd, 20 ms"}:                 {0.1, 4},
		{"start", "48 kBd, 20 ms"}:                 {150, 0.5},
		{"stop", "48 kBd, 20 ms"}:                  {150, 0.5},
		{"centre", "48 kBd, 20 ms"}:                {150, 1.2},
		{"bandwidth", "48 kBd, 20 ms"}:             {4, 1},
	}
	if len(all) != len(most) {
		t.Errorf("%d estimates, want %d", len(all), len(most))
	}
	for _, e := range all {
		m, ok := most[[2]string{e.of, e.at}]
		if !ok || !(math.Abs(e.bias) <= m[0] && e.rms <= m[1]*e.limit) {
			t.Errorf("%s, %s: bias %.3g %s, rms %.3g, limit %.3g; at most %v", e.of, e.at, e.bias, e.unit, e.rms, e.limit, m)
		}
		// No estimate may be better than a bound.
		if e.bound == "Cramér–Rao" && e.rms < 0.8*e.limit {
			t.Errorf("%s, %s: rms %.3g %s beats its bound %.3g", e.of, e.at, e.rms, e.unit, e.limit)
		}
	}
}

// TestRun: the whole program, small; the same figures on one core as on three.
func TestRun(t *testing.T) {
	chart := filepath.Join(t.TempDir(), "chart.svg")
	tables := func(workers int, only string) string {
		var out bytes.Buffer
		s := settings{seed: 7, samples: 1 << 17, trials: 4, workers: workers, only: only, chart: chart}
		if err := run(s, &out, io.Discard); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	for _, only := range []string{"cells", "events"} {
		if a, b := tables(1, only), tables(3, only); a != b || !strings.Contains(a, "95 %") {
			t.Errorf("%s on one core:\n%s\non three:\n%s", only, a, b)
		}
	}
	if _, err := os.Stat(chart); err == nil {
		t.Error("a part of the run has drawn the chart")
	}
}

func TestSettings_Check(t *testing.T) {
	good := settings{samples: 1e10, trials: 200, workers: 2}
	if err := good.check(nil); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(s *settings){
		"-only all: want cells":       func(s *settings) { s.only = "all" },
		"-samples 1000: want 1024":    func(s *settings) { s.samples = 1000 },
		"-samples +Inf: want 1024":    func(s *settings) { s.samples = math.Inf(1) },
		"-samples NaN: want 1024":     func(s *settings) { s.samples = math.NaN() },
		"-trials 1: want 2":           func(s *settings) { s.trials = 1 },
		"-workers 0: want 1":          func(s *settings) { s.workers = 0 },
		"-threshold -3: want 1 to 40": func(s *settings) { s.thresholdDB = -3 },
		"-threshold NaN: want 1":      func(s *settings) { s.thresholdDB = math.NaN() },
	} {
		s := good
		change(&s)
		if err := s.check(nil); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if err := good.check([]string{"cells"}); err == nil || !strings.HasPrefix(err.Error(), `argument "cells": `) {
		t.Errorf("a word without a flag: %v", err)
	}
}

// TestReport_Print: every table, from figures made up.
func TestReport_Print(t *testing.T) {
	r := report{
		cells:  []cellRate{{averages: 4, pfa: 1e-3, cells: 1e6, over: 1000, squares: 1200}},
		events: []falseEvents{{thresholdDB: 7, samples: hour, events: 2}},
		curves: []curve{{burst: burst{2, 0}, thresholdDB: hourlyDB, points: []detectionPoint{{14, 0, 100}, {18, 100, 100}}}},
		trades: []trade{{hourlyDB, detectionPoint{17, 5, 10}}},
		estimates: []estimate{
			newEstimate("level", "carrier, 20 ms", 20, "dB", []float64{0.1, -0.1}, 0.05, "Cramér–Rao"),
			newEstimate("floor", "8 frames", math.NaN(), "dB", []float64{0.1}, 0.05, "Cramér–Rao"),
		},
	}
	var out bytes.Buffer
	r.print(&out)
	for _, want := range []string{
		"| 4 | 1e-03 | 1e+06 | 1000.0 | 1000 | 1.0000 | 0.9332 to 1.0703 |",
		"| 7 | 1.73e+10 | 1.000 | 2 | 2 | 0.24 to 7.2 |",
		"| 7 | 2 ms | carrier | 1 | 13.5 | 16.0 |",
		"| 17 | 7 | 5 | 10 | 0.500 |",
		"| level | carrier, 20 ms | 20 | dB | +0 | 0.1 | 0.05 | 2.00 | Cramér–Rao | 2 |",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
	chart := filepath.Join(t.TempDir(), "chart.svg")
	if err := r.draw(chart); err != nil {
		t.Fatal(err)
	}
	svg, err := os.ReadFile(chart)
	if err != nil {
		t.Fatal(err)
	}
	if err := xml.Unmarshal(svg, new(struct{})); err != nil {
		t.Errorf("the chart: %v", err)
	}
	if err := r.draw(t.TempDir()); err == nil {
		t.Error("a folder was taken for the chart")
	}
}
