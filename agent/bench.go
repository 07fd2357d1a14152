package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/agent/survey"
	"github.com/fulgidus/heimdall/dsp"
	"github.com/fulgidus/heimdall/protocol"
)

// BenchCmd measures how fast this computer surveys.
type BenchCmd struct {
	JSON bool `name:"json" xor:"form" help:"Print JSON."`
	TSV  bool `name:"tsv" xor:"form" help:"Print a line a case: name, Msps, median and best, with tabs between."`
	// Only is a case's name, or what follows "heimdall_" in it.
	Only string `name:"only" placeholder:"CASE" help:"Measure one case, for example cu8_4096."`

	// effort is what a test lessens; zero: fullEffort.
	effort effort
}

// effort is how much is computed.
type effort struct {
	samples int           // of a signal
	rounds  int           // of a case
	least   time.Duration // of a round
}

func fullEffort() effort { return effort{samples: 1 << 20, rounds: 15, least: 20 * time.Millisecond} }

// stickHz is the rate that an RTL-SDR is mostly used at.
const stickHz = 2.4e6

// Help begins with the example.
func (BenchCmd) Help() string {
	return "Example:  heimdall-agent bench\n\nMeasures one core, in its own time: what else runs meanwhile counts little. It needs no configuration."
}

// speed is how fast one case is, in million samples a second of a core.
type speed struct {
	Name   string  `json:"name"`
	Text   string  `json:"-"`
	Median float64 `json:"median_msps"`
	Best   float64 `json:"best_msps"`
}

// benchReport is what the command found.
type benchReport struct {
	Engine string  `json:"engine"`
	CPUs   int     `json:"cpus"`
	Cases  []speed `json:"cases"`
	// Carries is the sample rate that one core surveys, detection included, and Share what a stick at 2.4 Msps takes of it.
	// Absent when one case is measured.
	Carries float64 `json:"carries_msps,omitzero"`
	Share   float64 `json:"core_share_at_2400_ksps,omitzero"`
}

// Run is called by the command line.
func (c BenchCmd) Run(ctx context.Context, s streams) error {
	if c.effort == (effort{}) {
		c.effort = fullEffort()
	}
	engine, err := dsp.Engine()
	if err != nil {
		return usageError{err}
	}
	cases, err := c.cases()
	if err != nil {
		return err
	}
	report := benchReport{Engine: engine, CPUs: runtime.NumCPU()}
	runtime.LockOSThread() // whose time is taken
	defer runtime.UnlockOSThread()
	computed := threadTime()
	progress := progressLine{w: s.err}
	defer progress.end()
	for _, one := range cases {
		progress.show("measuring " + one.text)
		work, err := one.prepare()
		if err != nil {
			return fmt.Errorf("prepare %s: %w", one.name, err)
		}
		v, err := c.effort.measure(ctx, computed, work)
		if err != nil {
			progress.end()
			err = fmt.Errorf("stopped after %d of %d cases: %w", len(report.Cases), len(cases), err)
			if c.TSV || c.JSON || len(report.Cases) == 0 { // a program would take a part for the whole
				return err
			}
			return errors.Join(report.print(s.out), err)
		}
		v.Name, v.Text = one.name, one.text
		report.Cases = append(report.Cases, v)
		if c.TSV {
			fmt.Fprintf(s.out, "%s\tMsps\t%.3f\t%.3f\n", v.Name, v.Median, v.Best)
		}
	}
	if c.Only == "" {
		report.Carries = report.Cases[len(report.Cases)-1].Median
		report.Share = stickHz / 1e6 / report.Carries
	}
	switch {
	case c.TSV:
		return nil
	case c.JSON:
		return json.NewEncoder(s.out).Encode(report)
	}
	return report.print(s.out)
}

// cases are those that are measured.
func (c BenchCmd) cases() ([]benchCase, error) {
	all := benchCases(c.effort.samples)
	if c.Only == "" {
		return all, nil
	}
	var known []string
	for _, one := range all {
		if one.name == c.Only || strings.HasSuffix(one.name, "_"+c.Only) {
			return []benchCase{one}, nil
		}
		words := strings.Split(one.name, "_")
		known = append(known, strings.Join(words[2:], "_"))
	}
	return nil, usageError{fmt.Errorf("--only %s: want one of %s", c.Only, strings.Join(known, ", "))}
}

// measure has work done again and again, each time over the signal; computed is threadTime's.
func (e effort) measure(ctx context.Context, computed func() time.Duration, work func()) (speed, error) {
	work() // tables and buffers are made, caches filled
	rates := make([]float64, e.rounds)
	for i := range rates {
		if err := ctx.Err(); err != nil {
			return speed{}, err
		}
		began, samples := computed(), 0
		took := time.Duration(0)
		for took <= 0 || took < e.least {
			work()
			samples += e.samples
			took = computed() - began
		}
		rates[i] = float64(samples) / took.Seconds() / 1e6
	}
	slices.Sort(rates)
	return speed{Median: rates[len(rates)/2], Best: rates[len(rates)-1]}, nil
}

func (r benchReport) print(w io.Writer) error {
	fmt.Fprintf(w, "One core of %d, engine %s (HEIMDALL_DSP chooses another); million samples a second, median and best of all rounds:\n\n    Msps     best\n", r.CPUs, r.Engine)
	for _, v := range r.Cases {
		fmt.Fprintf(w, "%8.1f %8.1f  %s\n", v.Median, v.Best, v.Text)
	}
	if r.Carries == 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "\nA core surveys up to %.1f Msps with detection. A stick at 2.4 Msps takes %.1f %% of it, beside reading the samples.\n",
		r.Carries, 100*r.Share)
	return err
}

// benchCase is one thing that is measured.
type benchCase struct {
	name, text string
	prepare    func() (work func(), err error)
}

// benchCases are the spectrum in each format and size, and last the whole survey.
func benchCases(samples int) []benchCase {
	var all []benchCase
	for _, f := range []struct {
		name   string
		format dsp.Format
	}{{"cu8", dsp.CU8}, {"ci16", dsp.CS16}, {"cf32", dsp.CF32}} {
		signal := sync.OnceValue(func() []byte { return benchSignal(f.format, samples) })
		for _, bins := range []int{4096, 256, 512, 1024, 16384} {
			all = append(all, benchCase{
				fmt.Sprintf("chain_heimdall_%s_%d", f.name, bins),
				fmt.Sprintf("spectrum of %d bins from %s", bins, f.name),
				func() (func(), error) {
					w, err := dsp.NewWelch(bins)
					raw := signal()
					return func() { w.WriteRaw(raw, f.format) }, err
				},
			})
		}
	}
	return append(
		all,
		benchCase{"survey_heimdall_cu8_measurement", "survey without detection", func() (func(), error) {
			return surveyWork(survey.Config{FFT: 4096, Detect: survey.Detect{Off: true}}, samples)
		}},
		benchCase{"survey_heimdall_cu8_detection", "survey with detection", func() (func(), error) {
			return surveyWork(survey.Config{FFT: 4096}, samples)
		}},
	)
}

// benchSignal is noise with a line in it.
func benchSignal(format dsp.Format, n int) []byte {
	samples := make([]complex128, n)
	for _, add := range []dsp.Signal{dsp.WhiteNoise(0.02, 1), dsp.Tone(0.1, 0.1)} {
		add(samples, 0)
	}
	return dsp.Quantise(nil, samples, format)
}

// surveyWork is the survey of a stick's stream.
func surveyWork(cfg survey.Config, samples int) (func(), error) {
	a, err := survey.NewAnalyzer(cfg)
	if err != nil {
		return nil, err
	}
	b := &radio.Block{
		Raw: benchSignal(dsp.CU8, samples), Format: dsp.CU8, Time: time.Unix(0, 0), TimeQuality: protocol.TimeQuality_TIME_QUALITY_NTP,
		TimeUncertainty: time.Millisecond, Tuning: radio.Tuning{CenterHz: 145e6, SampleRateHz: stickHz},
	}
	return func() {
		a.Write(b)
		b.Index += uint64(samples)
		b.Time = b.Time.Add(radio.SamplesDuration(float64(samples), stickHz))
	}, nil
}
