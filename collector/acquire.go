package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
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
	Start     moment           `help:"Start at this time (RFC 3339), or so long ago, like -30s, as far as the stations remember; as soon as all can start together otherwise." placeholder:"T"`
	Bandwidth configs.Hertz    `help:"Cut out this bandwidth; the receivers' whole passband otherwise." placeholder:"HZ"`
	IQ        bool             `name:"iq" help:"Record the IQ too."`
	Wait      bool             `help:"Wait for the result. Ends with 0 if at least one station is done."`
	JSON      bool             `name:"json" help:"Print the acquisition as one line of JSON. With --wait, changes on the way are lines of JSON on stderr."`
	Priority  int              `help:"A whole number; a higher one takes a receiver from a lower one that has not begun. Otherwise 0." placeholder:"N"`
	Label     string           `help:"A few words to find it by."`
}

// Help begins with the example.
func (AcquireCmd) Help() string {
	return "Example:  heimdall-collector acquire 145.5M 10s --bandwidth 12.5k --iq --wait\n\n" +
		"With --start -30s the stations give what they still remember of that time. Ctrl-C ends the wait and not the acquisition."
}

// Run is called by the command line.
func (c AcquireCmd) Run(ctx context.Context, s streams) error {
	req := protocol.AcquisitionRequest{
		FrequencyHz: float64(c.Frequency), DurationS: c.Duration.Seconds(), StartTime: string(c.Start),
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
	id := a.ID
	progress := newAcquisitionProgress(s.err, c.JSON)
	latest := a
	a, err = c.watch(ctx, id, func(a *protocol.Acquisition) {
		latest = a
		progress.show(a)
	})
	if ctx.Err() != nil {
		c.explainBreak(s.err, latest)
		return waitEndedError{id, ctx.Err()}
	}
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

// waitEndedError is the end of a wait for an acquisition that goes on.
type waitEndedError struct {
	id  string
	why error
}

func (e waitEndedError) Error() string {
	return "no longer waiting for acquisition " + e.id + ", which goes on without this command"
}

func (e waitEndedError) Unwrap() error { return e.why }

// explainBreak says how to go on after the wait was broken off. What a station has begun to capture it captures to the end.
func (c AcquireCmd) explainBreak(w io.Writer, a *protocol.Acquisition) {
	curl, address := c.curl(), c.base()+"/api/v1/acquisitions/"+a.ID
	fmt.Fprintf(w, "to see it     %s %s\n", curl, address)
	waiting := 0
	for _, s := range a.Stations {
		if !s.State.Settled() && s.State != protocol.StationCapturing && s.State != protocol.StationUploading {
			waiting++
		}
	}
	switch waiting {
	case 0:
		fmt.Fprintln(w, "it can no longer be cancelled: every station has begun, or is at its end")
	case len(a.Stations):
		fmt.Fprintf(w, "to cancel it  %s -X DELETE %s\n", curl, address)
	default:
		fmt.Fprintf(w, "to cancel what has not begun (%d of %s)  %s -X DELETE %s\n", waiting, plural(len(a.Stations), "station"), curl, address)
	}
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
	Time             string   `json:"time"`
	TimeUncertaintyS *float64 `json:"time_uncertainty_s"`
	PowerDBFS        *float64 `json:"power_dbfs"`
	NoiseFloorDBFSHz *float64 `json:"noise_floor_dbfs_hz"`
	SNRDB            *float64 `json:"snr_db"`
	BandwidthHz      *float64 `json:"occupied_bandwidth_hz"`
}

// printAcquisition is the table of what each station heard, and below it what stations say: words would push its columns apart.
func printAcquisition(ctx context.Context, w io.Writer, r remote, a *protocol.Acquisition) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "  station\tlevel dBFS\tfloor dBFS/Hz\tSNR dB\tbandwidth\tstart (uncertainty)\trecording")
	var said []string
	for _, s := range byStation(a) {
		if s.Message != "" {
			said = append(said, plain(fmt.Sprintf("  %s %s: %s", s.Station, s.State, s.Message)))
		}
		if s.State != protocol.StationDone {
			fmt.Fprintf(t, "  %s\t%s\t\t\t\t\t\n", s.Station, s.State)
			continue
		}
		h, err := measurementOf(s)
		if err != nil {
			return err
		}
		start, size := startOf(h.Time, h.TimeUncertaintyS), "none"
		if s.Recording != "" {
			rec := new(protocol.Recording)
			if err := r.call(ctx, "GET", "/api/v1/recordings/"+s.Recording, nil, rec); err != nil {
				return err
			}
			size = configs.Bytes(rec.Bytes).String()
			start = startOf(rec.Start, &rec.TimeUncertaintyS)
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Station, number(h.PowerDBFS), number(h.NoiseFloorDBFSHz), number(h.SNRDB), hertz(h.BandwidthHz), start, size)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, line := range said {
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
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

// startOf is the time of day of a first sample and how far it may be off, where that is known.
func startOf(text string, uncertaintyS *float64) string {
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return text
	}
	start := at.UTC().Format("15:04:05.000000000")
	if uncertaintyS == nil {
		return start
	}
	return fmt.Sprintf("%s (%s)", start, time.Duration(*uncertaintyS*float64(time.Second)))
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
