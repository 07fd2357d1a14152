package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// StationListCmd shows how the stations are.
type StationListCmd struct {
	remote `embed:""`
	JSON   bool `name:"json" help:"One JSON station a line."`
}

// Help begins with the example.
func (StationListCmd) Help() string {
	return "Example:  heimdall-collector station list\n\nWhether each station is connected and why not, when it was last heard of, how well it knows the time, what it still holds, which part of its samples was lost since its agent started, and its version."
}

// Run is called by the command line.
func (c StationListCmd) Run(ctx context.Context, s streams) error {
	var list struct{ Items []protocol.Station }
	if err := c.call(ctx, http.MethodGet, "/api/v1/stations", nil, &list); err != nil {
		return err
	}
	stations := list.Items
	if c.JSON {
		out := json.NewEncoder(s.out)
		for i := range stations {
			if err := out.Encode(&stations[i]); err != nil {
				return err
			}
		}
		return nil
	}
	if len(stations) == 0 {
		_, err := fmt.Fprintln(s.err, "no station has connected yet")
		return err
	}
	return printStations(s.out, stations, time.Now())
}

func printStations(w io.Writer, stations []protocol.Station, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "station\tstatus\tlast seen\tclock\tspool\tlost\tversion\twhy")
	for i := range stations {
		s := &stations[i]
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", plain(s.ID), plain(statusOf(s)), ago(s.LastSeen, now), plain(clockOf(s)), spoolOf(s), lossOf(s), plain(cmp.Or(s.Version, "-")), plain(whyOf(s, now)))
	}
	return t.Flush()
}

// statusOf is the connection, and the condition where that is not the usual one.
func statusOf(s *protocol.Station) string {
	switch s.State {
	case protocol.StateSuspended, protocol.StateRevoked, protocol.StateRemoved, protocol.StateLeft:
		return s.Status + ", " + s.State
	case "", "running":
		return s.Status
	}
	if s.Status == protocol.Online {
		return s.Status + ", " + s.State
	}
	return s.Status
}

func ago(at string, now time.Time) string {
	seen, err := protocol.ParseTime(at)
	if err != nil {
		return "never"
	}
	return roughly(now.Sub(seen)) + " ago"
}

// roughly is a length of time in its largest unit: 42 s, 7 min, 3 h, 12 d.
func roughly(d time.Duration) string {
	switch d = max(d, 0); {
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%.0f min", d.Minutes())
	case d < 48*time.Hour:
		return fmt.Sprintf("%.0f h", d.Hours())
	}
	return fmt.Sprintf("%.0f d", d.Hours()/24)
}

func clockOf(s *protocol.Station) string {
	if s.Clock == nil || s.Clock.Quality == "" {
		return "-"
	}
	if s.Clock.UncertaintyS <= 0 {
		return s.Clock.Quality
	}
	return s.Clock.Quality + " ±" + inSeconds(s.Clock.UncertaintyS)
}

func spoolOf(s *protocol.Station) string {
	d := s.Delivery
	switch {
	case d == nil:
		return "-"
	case d.Backlog == 0:
		return "empty"
	}
	return fmt.Sprintf("%d since %s, %.1f %% used", d.Backlog, roughly(time.Duration(min(d.BacklogAgeS, math.MaxInt32)*float64(time.Second))), 100*d.SpoolUsedRatio)
}

// lossOf is the part of its samples that a station lost, over all of its receivers.
func lossOf(s *protocol.Station) string {
	var had, lost float64
	for _, r := range s.Reception {
		had, lost = had+float64(r.SamplesTotal), lost+float64(r.LostSamplesTotal)
	}
	switch {
	case had+lost == 0:
		return "-"
	case lost == 0:
		return "none"
	}
	return short(max(100*lost/(had+lost), 0.0001)) + " %"
}

// whyOf is what is to be known of a station that is not as it should be.
func whyOf(s *protocol.Station, now time.Time) string {
	switch {
	case s.Reason != "":
		return s.Reason
	case s.LastSeen == "":
		return "no agent has connected"
	case s.Status == protocol.Online:
		return ""
	case s.State == "stopped":
		return "stopped " + ago(s.Since, now)
	}
	return "its connection was lost: the computer is off, or its network or the broker is away"
}

// inSeconds is a small time with its unit, in two digits: 1.8 ms.
func inSeconds(s float64) string {
	for _, unit := range []struct {
		name string
		of   float64
	}{{"s", 1}, {"ms", 1e-3}, {"µs", 1e-6}} {
		if s >= unit.of {
			return short(s/unit.of) + " " + unit.name
		}
	}
	return short(s*1e9) + " ns"
}

// short is a number in two digits.
func short(v float64) string {
	if v >= 10 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.2g", v)
}
