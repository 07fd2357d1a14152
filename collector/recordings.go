package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/protocol"
)

// RecordingsCmd lists recordings.
type RecordingsCmd struct {
	remote      `embed:""`
	selection   `embed:""`
	Acquisition string `help:"Only the recordings of this acquisition." placeholder:"ID"`
	JSON        bool   `name:"json" help:"One JSON recording a line."`
}

// Help begins with the example.
func (RecordingsCmd) Help() string {
	return "Example:  heimdall-collector recordings --station torino --from -2h\n\nNewest first. Get one with `heimdall-collector export recordings ID`."
}

// Run is called by the command line.
func (c RecordingsCmd) Run(ctx context.Context, s streams) error {
	t := newRecordingTable(s.out)
	show := t.show
	if c.JSON {
		show = printRecordings(s.out)
	}
	choice := recordingChoice{selection: c.selection, Acquisition: c.Acquisition}
	if err := c.chosen(ctx, s.err, choice, show); err != nil {
		return err
	}
	if t.rows == 0 && !c.JSON {
		_, err := fmt.Fprintln(s.err, choice.nothing())
		return err
	}
	return nil
}

// recordingChoice is some recordings: those that are named, those of an acquisition, or those of a selection.
type recordingChoice struct {
	selection
	IDs         []string
	Acquisition string
}

// nothing says that none are chosen.
func (c recordingChoice) nothing() string {
	switch {
	case c.Acquisition != "":
		return "acquisition " + c.Acquisition + " has no recordings"
	case !c.none():
		return "no recording matches " + c.words()
	}
	return "no recordings; acquire with --iq makes them"
}

// check refuses a choice that says two things.
func (c recordingChoice) check() error {
	ways := 0
	for _, used := range []bool{len(c.IDs) > 0, c.Acquisition != "", !c.none()} {
		if used {
			ways++
		}
	}
	if ways > 1 {
		return usageError{errors.New("name recordings, or an --acquisition, or select by --station, --from, --to, --min and --max: one of these")}
	}
	return nil
}

// chosen hands over the recordings of a choice, some at a time. It says on w which of an acquisition's are not there, and why.
func (r remote) chosen(ctx context.Context, w io.Writer, c recordingChoice, each func([]protocol.Recording) error) error {
	if err := c.check(); err != nil {
		return err
	}
	ids := c.IDs
	if c.Acquisition != "" {
		var err error
		if ids, err = r.recordingsOf(ctx, w, c.Acquisition); err != nil {
			return err
		}
	} else if len(ids) == 0 {
		if err := r.known(ctx, c.Stations); err != nil {
			return err
		}
		return pages(ctx, r, "/api/v1/recordings", c.query(), each)
	}
	for _, id := range ids {
		rec := new(protocol.Recording)
		err := r.call(ctx, http.MethodGet, "/api/v1/recordings/"+url.PathEscape(id), nil, rec)
		if gone(err) && c.Acquisition != "" { // retention removes the recording, not what is known of the acquisition
			fmt.Fprintf(w, "recording %s is no longer kept\n", id)
			continue
		}
		if err == nil {
			err = each([]protocol.Recording{*rec})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// recordingsOf lists the recordings of an acquisition, by station, and accounts for the stations that have none.
func (r remote) recordingsOf(ctx context.Context, w io.Writer, acquisition string) ([]string, error) {
	a := new(protocol.Acquisition)
	if err := r.call(ctx, http.MethodGet, "/api/v1/acquisitions/"+url.PathEscape(acquisition), nil, a); err != nil {
		return nil, err
	}
	if !a.Request.IQ {
		fmt.Fprintln(w, "this acquisition did not ask for IQ")
		return nil, nil
	}
	var ids []string
	for _, s := range byStation(a) {
		if s.Recording == "" {
			fmt.Fprintf(w, "%s has no recording: %s\n", s.Station, plain(strings.TrimRight(string(s.State)+", "+s.Message, ", ")))
			continue
		}
		ids = append(ids, s.Recording)
	}
	return ids, nil
}

// gone tells whether the collector says that there is no such thing.
func gone(err error) bool {
	p, ok := errors.AsType[problem](err)
	return ok && p.Status == http.StatusNotFound
}

func printRecordings(w io.Writer) func([]protocol.Recording) error {
	out := json.NewEncoder(w)
	return func(list []protocol.Recording) error {
		for i := range list {
			if err := out.Encode(&list[i]); err != nil {
				return err
			}
		}
		return nil
	}
}

// recordingTable is recordings for people. It is written as it comes: a long list neither waits nor fills the memory.
type recordingTable struct {
	out  *tabwriter.Writer
	rows int
}

func newRecordingTable(w io.Writer) *recordingTable {
	return &recordingTable{out: tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
}

func (t *recordingTable) show(list []protocol.Recording) error {
	if t.rows == 0 && len(list) > 0 {
		fmt.Fprintln(t.out, "id\tstation\tstart (uncertainty)\tcentre\trate\tlength\tsize\tlost samples")
	}
	t.rows += len(list)
	for i := range list {
		r := &list[i]
		fmt.Fprintf(t.out, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\n", r.ID, r.Station, r.Start[:min(len(r.Start), len(time.DateOnly))]+" "+startOf(r.Start, &r.TimeUncertaintyS),
			inHertz(r.CenterHz), inHertz(r.SampleRateHz), seconds(r.DurationS), configs.Bytes(r.Bytes), r.LostSamples)
	}
	return t.out.Flush()
}

// seconds is a length of time for people, to the millisecond.
func seconds(s float64) time.Duration {
	return time.Duration(s * float64(time.Second)).Round(time.Millisecond)
}
