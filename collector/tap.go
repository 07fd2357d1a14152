package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/url"
	"slices"

	"github.com/fulgidus/heimdall/collector/api"
	"github.com/fulgidus/heimdall/configs"
)

// TapCmd shows records as they are stored.
type TapCmd struct {
	remote  `embed:""`
	Station string `help:"Only this station." placeholder:"S"`
	Kind    string `help:"Only this kind of record." placeholder:"K"`
	JSON    bool   `name:"json" help:"One JSON record a line."`
}

// Help begins with the example.
func (TapCmd) Help() string {
	return "Example:  heimdall-collector tap --station torino --kind detection"
}

// Run is called by the command line.
func (c TapCmd) Run(ctx context.Context, s streams) error {
	query := url.Values{"event": {api.EventRecord}}
	if c.Station != "" {
		query.Set("station", c.Station)
	}
	if c.Kind != "" {
		query.Set("kind", c.Kind)
	}
	return c.events(ctx, query, api.EventRecord, func(data []byte) error {
		if c.JSON {
			_, err := fmt.Fprintf(s.out, "%s\n", data)
			return err
		}
		return printRecord(s.out, data)
	})
}

// heardSpectrum is the part of a spectrum that a line shows.
type heardSpectrum struct {
	StartHz float64   `json:"start_hz"` // centre of the first bin
	StepHz  float64   `json:"step_hz"`
	DBFSHz  []float64 `json:"dbfs_hz"`
}

// String is the band, the bins and their median level.
func (s *heardSpectrum) String() string {
	if len(s.DBFSHz) == 0 {
		return "spectrum without bins"
	}
	levels := slices.Sorted(slices.Values(s.DBFSHz))
	n := len(levels)
	median := (levels[(n-1)/2] + levels[n/2]) / 2
	half := s.StepHz / 2
	last := s.StartHz + s.StepHz*float64(n-1)
	return fmt.Sprintf("spectrum %s to %s, %s of %s, median %.1f dBFS/Hz", inHertz(s.StartHz-half), inHertz(last+half), plural(n, "bin"), inThree(s.StepHz), median)
}

// inHertz rounds a frequency to whole hertz.
func inHertz(hz float64) configs.Hertz { return configs.Hertz(math.Round(hz)) }

// printRecord is one line for people: who, when, what, and the numbers that matter.
func printRecord(w io.Writer, data []byte) error {
	var head struct {
		Time, Station, Receiver, Step string
		Seq                           uint64
		Measurement                   *heard
		Detection                     *struct {
			CenterHz  float64 `json:"center_hz"`
			DurationS float64 `json:"duration_s"`
			PowerDBFS float64 `json:"power_dbfs"`
			SNRDB     float64 `json:"snr_db"`
		}
		Spectrum *heardSpectrum
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return fmt.Errorf("read a record: %w", err)
	}
	where := plain(fmt.Sprintf("%s  %-16s %-8s", head.Time, head.Station, head.Step))
	var err error
	switch {
	case head.Measurement != nil:
		_, err = fmt.Fprintf(w, "%s level %s dBFS  floor %s dBFS/Hz  SNR %s dB\n", where, number(head.Measurement.PowerDBFS), number(head.Measurement.NoiseFloorDBFSHz), number(head.Measurement.SNRDB))
	case head.Detection != nil:
		d := head.Detection
		_, err = fmt.Fprintf(w, "%s heard %s for %.3f s, %.1f dBFS, SNR %.1f dB\n", where, inHertz(d.CenterHz), d.DurationS, d.PowerDBFS, d.SNRDB)
	case head.Spectrum != nil:
		_, err = fmt.Fprintf(w, "%s %s\n", where, head.Spectrum)
	default:
		_, err = fmt.Fprintf(w, "%s record %d\n", where, head.Seq)
	}
	return err
}
