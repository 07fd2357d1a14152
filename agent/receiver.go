package main

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/fulgidus/heimdall/agent/history"
	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/agent/survey"
	"github.com/fulgidus/heimdall/agent/timetable"
	"github.com/fulgidus/heimdall/protocol"
)

// receiver is one radio of the station with what belongs to it.
type receiver struct {
	cfg     ReceiverConfig
	history *history.Ring
	table   *timetable.Table
	survey  *survey.Survey
}

func newReceiver(cfg ReceiverConfig, to survey.Publisher, wall radio.Wall, hosts *radio.Hosts, log *slog.Logger) (*receiver, error) {
	r := &receiver{cfg: cfg, history: history.NewHolding(int(*cfg.History), time.Duration(*cfg.Detect.Hold)), table: new(timetable.Table)}
	settings := survey.Settings{
		Receiver: cfg.ID,
		Open: func() (radio.Receiver, error) {
			return radio.Open(cfg.source(), radio.Options{Wall: wall, Hosts: hosts, Log: log.With("component", "radio", "receiver", cfg.ID)})
		},
		Plan:      cfg.plan(),
		Analyzer:  cfg.analyzer(),
		History:   r.history,
		Keeper:    r.history,
		Table:     r.table,
		Publisher: to,
		Now:       func() time.Time { now, _, _ := wall(); return now },
		Log:       log.With("component", "survey"), // which adds the receiver
	}
	if cfg.Gain != "" && cfg.Gain != "auto" {
		gain, err := parseGain(cfg.Gain)
		if err != nil {
			return nil, fmt.Errorf("receivers %s gain %q: %w", cfg.ID, cfg.Gain, err)
		}
		settings.GainDB = &gain
	}
	var err error
	r.survey, err = survey.New(settings)
	return r, err
}

// plan is the configured plan; a bandwidth asks for a rate a quarter above it.
func (r ReceiverConfig) plan() survey.Plan {
	var plan survey.Plan
	for _, s := range r.Plan {
		rate := float64(s.Rate)
		if s.Bandwidth != 0 {
			rate = 1.25 * float64(s.Bandwidth)
		}
		name := s.Name
		if name == "" {
			name = survey.WholePassband
		}
		plan = append(plan, survey.Step{Name: name, CenterHz: float64(s.Center), RateHz: rate, Dwell: time.Duration(s.Dwell)})
	}
	return plan
}

func (r ReceiverConfig) analyzer() survey.Config {
	return survey.Config{
		FFT:              r.FFT,
		MeasurementEvery: time.Duration(r.Measurement.Every),
		SpectrumEvery:    time.Duration(*r.Spectrum.Every),
		SpectrumBins:     min(r.Spectrum.Bins, r.FFT),
		Detect: survey.Detect{
			ThresholdDB: r.Detect.Threshold,
			MinDuration: time.Duration(r.Detect.MinDuration),
			MergeGap:    time.Duration(*r.Detect.MergeGap),
		},
		Calibration: r.Calibration.survey(),
	}
}

// survey is nil for a receiver that is not calibrated.
func (c *CalibrationConfig) survey() *survey.Calibration {
	if c == nil {
		return nil
	}
	calibration := &survey.Calibration{UncertaintyDB: c.UncertaintyDB}
	if c.OffsetDB != nil {
		calibration.OffsetDB = *c.OffsetDB
	}
	for _, p := range c.Table {
		calibration.Table = append(calibration.Table, survey.CalibrationPoint{FrequencyHz: float64(p.Frequency), OffsetDB: *p.OffsetDB})
	}
	return calibration
}

// info is how the station describes the receiver to others. The source's address stays at home: only its kind is told.
func (r *receiver) info() protocol.ReceiverInfo {
	kind, _, _ := strings.Cut(r.cfg.Source, ":")
	info := protocol.ReceiverInfo{ID: r.cfg.ID, Name: r.cfg.Name, Source: kind}
	if found, _ := r.survey.Info(); found.Source != "" {
		info.Hardware, info.CenterHz, info.SampleRateHz, info.Live = found.Hardware, found.Tuning.CenterHz, found.Tuning.SampleRateHz, found.Timeline
		if found.Tunable {
			info.RetuneS = r.table.Lead().Seconds()
		}
	}
	for _, s := range r.cfg.plan() {
		info.Plan = append(info.Plan, protocol.PlanStep{Name: s.Name, CenterHz: s.CenterHz, RateHz: s.RateHz, DwellS: s.Dwell.Seconds()})
	}
	return info
}
