package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"strings"
	"time"
	"unicode"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/configs"
)

// ProbeCmd says what a source URL leads to.
type ProbeCmd struct {
	Source string        `arg:"" optional:"" help:"Source URL, as in receivers[].source."`
	Scan   bool          `help:"Find receivers on this computer and beside it instead, and print a configuration for them."`
	Listen time.Duration `help:"How long to listen." default:"3s" placeholder:"D"`
	JSON   bool          `name:"json" help:"Print JSON."`
}

// Help begins with the example.
func (ProbeCmd) Help() string {
	return "Example:  heimdall-agent probe kiwi://kiwi.local\n\n" +
		"Asks the source what it is, then listens to it as it is tuned now, for a few seconds, as one more listener.\n" +
		"--scan looks at the USB bus, at the ports of rtl_tcp, SpyServer and KiwiSDR on this computer and on neighbours that it\n" +
		"knows already, at OpenWebRX's programs, and asks by multicast DNS for KiwiSDRs and radiods.\n" +
		"Sources, and their parameters: agent/radio/README.md."
}

// Run is called by the command line.
func (c ProbeCmd) Run(ctx context.Context, s streams) error {
	switch {
	case c.Scan && c.Source != "":
		return usageError{errors.New("give a source or --scan, not both")}
	case c.Scan:
		return c.scan(ctx, s)
	case c.Source == "":
		return usageError{errors.New("name a source, such as rtltcp://127.0.0.1:1234, or look for some with --scan")}
	}
	if c.Listen <= 0 || c.Listen > time.Hour {
		return usageError{fmt.Errorf("--listen %s: want a time above 0 and up to 1h", c.Listen)}
	}
	if _, err := radio.Open(c.Source, radio.Options{}); err != nil {
		return usageError{err}
	}
	wall := newClock(Config{}, slog.New(slog.DiscardHandler))
	found, err := radio.Probe(ctx, c.Source, radio.Options{Wall: wallOf(wall)}, c.Listen, nil)
	report := newProbeReport(found)
	if c.JSON {
		if err != nil {
			report.Error = err.Error()
		}
		return errors.Join(json.NewEncoder(s.out).Encode(report), err)
	}
	return errors.Join(report.print(s.out), err)
}

// probeReport is a radio.Report as it is shown. What is unknown is absent.
type probeReport struct {
	Source           string       `json:"source,omitempty"`
	Hardware         string       `json:"hardware,omitempty"`
	Format           string       `json:"format,omitempty"`
	CenterHz         *float64     `json:"center_hz,omitempty"`
	SampleRateHz     float64      `json:"sample_rate_hz,omitempty"` // as measured
	GainDB           *float64     `json:"gain_db,omitempty"`
	Tunable          bool         `json:"tunable"`
	Range            *probeRange  `json:"range,omitempty"`
	TimeQuality      string       `json:"time_quality,omitempty"`
	TimeUncertaintyS float64      `json:"time_uncertainty_s,omitempty"`
	Samples          uint64       `json:"samples"`
	LostSamples      uint64       `json:"lost_samples"`
	RatePPM          *float64     `json:"rate_ppm,omitempty"`
	LagS             float64      `json:"lag_s,omitempty"`
	Facts            []radio.Fact `json:"facts,omitempty"`
	Notes            []string     `json:"notes,omitempty"`
	Error            string       `json:"error,omitempty"`

	uncertainty string // TimeUncertaintyS for people
}

type probeRange struct {
	LowHz      float64 `json:"low_hz"`
	HighHz     float64 `json:"high_hz"`
	LowRateHz  float64 `json:"low_rate_hz"`
	HighRateHz float64 `json:"high_rate_hz"`
}

func newProbeReport(f radio.Report) probeReport {
	r := probeReport{Facts: f.Facts, Notes: f.Info.Notes}
	if f.Info.Source == "" {
		return r
	}
	r.Source, r.Hardware, r.Format, r.Tunable = f.Info.Source, f.Info.Hardware, f.Info.Format.String(), f.Info.Tunable
	r.CenterHz, r.SampleRateHz = &f.Info.Tuning.CenterHz, f.Info.Tuning.SampleRateHz
	if gain := f.Info.Tuning.GainDB; !math.IsNaN(gain) {
		r.GainDB = &gain
	}
	if g := f.Info.Range; f.Info.Tunable {
		r.Range = &probeRange{g.LowHz, g.HighHz, g.LowRateHz, g.HighRateHz}
	}
	r.Samples, r.LostSamples, r.LagS = f.Samples, f.Lost, f.Health.Lag.Seconds()
	if f.Samples == 0 {
		return r
	}
	r.SampleRateHz, r.TimeQuality, r.TimeUncertaintyS = f.RateHz, f.TimeQuality.Short(), f.TimeUncertainty.Seconds()
	r.uncertainty = f.TimeUncertainty.String()
	if ppm := f.Health.RatePPM; !math.IsNaN(ppm) {
		r.RatePPM = &ppm
	}
	return r
}

// print writes a line for each thing that is known.
func (r probeReport) print(w io.Writer) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-9s %s\n", name, oneLine(fmt.Sprintf(format, args...)))
	}
	for _, f := range r.Facts {
		line(f.Name, "%s", f.Text)
	}
	if r.Source != "" {
		line("device", "%s", r.Hardware)
		line("tuning", "%s, %s, %s%s", configs.Hertz(*r.CenterHz), samplesPerSecond(r.SampleRateHz), r.Format, r.gain())
		if r.Range != nil {
			line("range", "%s to %s, %s to %s", configs.Hertz(r.Range.LowHz), configs.Hertz(r.Range.HighHz),
				samplesPerSecond(r.Range.LowRateHz), samplesPerSecond(r.Range.HighRateHz))
		} else {
			line("range", "cannot be tuned from here")
		}
	}
	if r.Samples > 0 {
		line("time", "%s ±%s%s", r.TimeQuality, r.uncertainty, r.serves())
		line("heard", "%d samples, %d lost%s", r.Samples, r.LostSamples, r.clock())
	}
	for _, note := range r.Notes {
		line("note", "%s", note)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// oneLine is what a stranger said, without the characters that would begin another line or move a terminal's cursor.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)
}

func (r probeReport) gain() string {
	if r.GainDB == nil {
		return ""
	}
	return fmt.Sprintf(", gain %.1f dB", *r.GainDB)
}

// serves says what the times are good for.
func (r probeReport) serves() string {
	switch r.TimeQuality {
	case "gnss":
		return ": good for TDoA, beside the receiver's own delay"
	case "ntp", "system":
		return ": good for levels and detections, not for TDoA"
	}
	return ""
}

// clock is how the samples' clock and their way here did.
func (r probeReport) clock() string {
	var s string
	if r.RatePPM != nil {
		s = fmt.Sprintf(", rate %+.1f ppm", math.Round(*r.RatePPM*10)/10+0) // no -0.0
	}
	if r.LagS > 0 {
		s += fmt.Sprintf(", %.3f s late", r.LagS)
	}
	return s
}
