package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/protocol"
)

// AcquireCmd asks several stations for the same stretch of time.
type AcquireCmd struct {
	remote    `embed:""`
	Frequency configs.Hertz    `arg:"" name:"freq" help:"Centre frequency, like 145.5M or 77.5k."`
	Duration  configs.Duration `arg:"" help:"Length, like 10s."`
	Stations  []string         `help:"Only these stations, separated by commas; all that take orders otherwise." placeholder:"A,B"`
	Start     string           `help:"Start at this time (RFC 3339, UTC); as soon as all can start together otherwise." placeholder:"T"`
	Bandwidth configs.Hertz    `help:"Cut out this bandwidth; the receivers' whole passband otherwise." placeholder:"HZ"`
	IQ        bool             `name:"iq" help:"Record the IQ too."`
	Wait      bool             `help:"Wait for the result. Ends with 0 if at least one station is done."`
	JSON      bool             `name:"json" help:"Print the acquisition as JSON."`
	Priority  int              `help:"Higher goes first." hidden:""`
	Label     string           `help:"A few words to find it by."`
}

// Help begins with the example.
func (AcquireCmd) Help() string {
	return "Example:  heimdall-collector acquire 145.5M 10s --bandwidth 12.5k --iq --wait"
}

// Run is called by the command line.
func (c AcquireCmd) Run(ctx context.Context, s streams) error {
	req := protocol.AcquisitionRequest{
		FrequencyHz: float64(c.Frequency), DurationS: c.Duration.Seconds(), StartTime: c.Start,
		Stations: c.Stations, IQ: c.IQ, Priority: c.Priority, Label: c.Label,
	}
	if c.Bandwidth != 0 {
		hz := float64(c.Bandwidth)
		req.BandwidthHz = &hz
	}
	a, err := c.acquire(ctx, req)
	if err != nil {
		return err
	}
	if !c.Wait {
		return c.printBegun(s.out, a)
	}
	progress := progressLine{w: s.err}
	a, err = c.watch(ctx, a.ID, func(a *protocol.Acquisition) {
		progress.show(acquisitionState(a), fmt.Sprintf(", %.0f %%", a.Progress))
	})
	progress.end()
	if err != nil {
		return err
	}
	if err := c.print(ctx, s.out, a); err != nil {
		return err
	}
	if a.State != protocol.AcquisitionDone {
		return errReported
	}
	return nil
}

// acquisitionState counts the stations in each state, in the order in which they pass them.
func acquisitionState(a *protocol.Acquisition) string {
	count := make(map[protocol.StationState]int)
	for _, s := range a.Stations {
		count[s.State]++
	}
	var parts []string
	for _, state := range []protocol.StationState{
		protocol.StationQueued, protocol.StationSent, protocol.StationAccepted, protocol.StationCapturing, protocol.StationUploading,
		protocol.StationDone, protocol.StationRefused, protocol.StationFailed, protocol.StationExpired, protocol.StationCancelled,
	} {
		if n := count[state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, state))
		}
	}
	return fmt.Sprintf("%s %s: %s", a.ID, a.State, strings.Join(parts, ", "))
}

// printBegun says how to go on, for nothing has been heard yet.
func (c AcquireCmd) printBegun(w io.Writer, a *protocol.Acquisition) error {
	if c.JSON {
		return json.NewEncoder(w).Encode(a)
	}
	_, err := fmt.Fprintf(w, "acquisition %s %s: %s\n  result  %s/api/v1/acquisitions/%s (with --wait this command waits for it)\n",
		a.ID, a.State, plural(len(a.Stations), "station"), c.base(), a.ID)
	return err
}

func (c AcquireCmd) print(ctx context.Context, w io.Writer, a *protocol.Acquisition) error {
	if c.JSON {
		return json.NewEncoder(w).Encode(a)
	}
	fmt.Fprintf(w, "acquisition %s %s\n", a.ID, a.State)
	return printAcquisition(ctx, w, c.remote, a)
}

// heard is the part of a measurement that a table shows.
type heard struct {
	PowerDBFS        *float64 `json:"power_dbfs"`
	NoiseFloorDBFSHz *float64 `json:"noise_floor_dbfs_hz"`
	SNRDB            *float64 `json:"snr_db"`
	BandwidthHz      *float64 `json:"occupied_bandwidth_hz"`
}

// printAcquisition is the table of what each station heard.
func printAcquisition(ctx context.Context, w io.Writer, r remote, a *protocol.Acquisition) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "  station\tlevel dBFS\tfloor dBFS/Hz\tSNR dB\tbandwidth\tstart (uncertainty)\trecording")
	byName := func(a, b protocol.AcquisitionStation) int { return strings.Compare(a.Station, b.Station) }
	for _, s := range slices.SortedFunc(slices.Values(a.Stations), byName) {
		if s.State != protocol.StationDone {
			fmt.Fprintf(t, "  %s\t%s\t%s\n", s.Station, s.State, s.Message)
			continue
		}
		h, err := measurementOf(s)
		if err != nil {
			return err
		}
		start, size := "", "none"
		if s.Recording != "" {
			rec := new(protocol.Recording)
			if err := r.call(ctx, "GET", "/api/v1/recordings/"+s.Recording, nil, rec); err != nil {
				return err
			}
			size = configs.Bytes(rec.Bytes).String()
			start = startOf(rec)
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Station, number(h.PowerDBFS), number(h.NoiseFloorDBFSHz), number(h.SNRDB), hertz(h.BandwidthHz), start, size)
	}
	return t.Flush()
}

// measurementOf finds the measurement in a station's result.
func measurementOf(s protocol.AcquisitionStation) (heard, error) {
	var h heard
	if len(s.Measurement) == 0 {
		return h, nil
	}
	if err := json.Unmarshal(s.Measurement, &h); err != nil {
		return h, fmt.Errorf("read the measurement of %s: %w", s.Station, err)
	}
	return h, nil
}

// startOf is the time of day of a recording's first sample and how far it may be off.
func startOf(rec *protocol.Recording) string {
	at, err := time.Parse(time.RFC3339Nano, rec.Start)
	if err != nil {
		return rec.Start
	}
	uncertainty := time.Duration(rec.TimeUncertaintyS * float64(time.Second))
	return fmt.Sprintf("%s (%s)", at.UTC().Format("15:04:05.000000000"), uncertainty)
}

func number(v *float64) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f", *v)
}

func hertz(v *float64) string {
	if v == nil {
		return "-"
	}
	return inThree(*v).String()
}

// inThree rounds a width to three digits: more of it is never sure.
func inThree(hz float64) configs.Hertz {
	text := strconv.FormatFloat(hz, 'e', 2, 64)
	rounded, err := strconv.ParseFloat(text, 64)
	if err != nil { // FormatFloat writes nothing else
		return configs.Hertz(hz)
	}
	return configs.Hertz(rounded)
}

// plural counts things: 1 station, 7 stations.
func plural[N int | uint64](n N, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
