package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/fulgidus/heimdall/protocol"
)

// acquisitionProgress shows how an acquisition goes: on a terminal a line per station that changes in place, elsewhere a
// line for each change, as text or as JSON.
type acquisitionProgress struct {
	board board
	w     io.Writer
	json  bool
	state protocol.AcquisitionState
	seen  map[string]protocol.StationState
}

func newAcquisitionProgress(w io.Writer, asJSON bool) *acquisitionProgress {
	return &acquisitionProgress{board: board{w: w}, w: w, json: asJSON, seen: make(map[string]protocol.StationState)}
}

func (p *acquisitionProgress) show(a *protocol.Acquisition) {
	if columns, rows, ok := terminalSize(p.w); ok && !p.json {
		p.board.draw(acquisitionLines(a, rows), columns, rows)
		return
	}
	for _, s := range byStation(a) {
		if p.seen[s.Station] != s.State {
			p.seen[s.Station] = s.State
			p.stationChanged(a, &s)
		}
	}
	if p.state != a.State && !p.json {
		p.state = a.State
		fmt.Fprintln(p.w, acquisitionState(a))
	}
}

// stationChange is a line of JSON.
type stationChange struct {
	Acquisition string                    `json:"acquisition"`
	State       protocol.AcquisitionState `json:"state"`
	Progress    float64                   `json:"progress"`
	Station     struct {
		Station    string                `json:"station"`
		State      protocol.StationState `json:"state"`
		ReasonCode string                `json:"reason_code,omitempty"`
		Message    string                `json:"message,omitempty"`
	} `json:"station"`
}

func (p *acquisitionProgress) stationChanged(a *protocol.Acquisition, s *protocol.AcquisitionStation) {
	if !p.json {
		fmt.Fprintln(p.w, stationLine(s, 0))
		return
	}
	line := stationChange{Acquisition: a.ID, State: a.State, Progress: a.Progress}
	line.Station.Station, line.Station.State, line.Station.ReasonCode, line.Station.Message = s.Station, s.State, s.ReasonCode, s.Message
	if text, err := json.Marshal(line); err == nil { // strings and one number, which came as JSON
		fmt.Fprintf(p.w, "%s\n", text)
	}
}

// acquisitionLines are the whole and each station. Where there is no room for all, those that still have something to do
// come first.
func acquisitionLines(a *protocol.Acquisition, rows int) []string {
	stations := byStation(a)
	width := 0
	for _, s := range stations {
		width = max(width, len(s.Station))
	}
	if len(stations)+1 >= rows {
		settled := func(s protocol.AcquisitionStation) bool { return s.State.Settled() }
		unsettled := slices.DeleteFunc(slices.Clone(stations), settled)
		stations = append(unsettled, slices.DeleteFunc(stations, func(s protocol.AcquisitionStation) bool { return !settled(s) })...)
	}
	lines := []string{fmt.Sprintf("acquisition %s, %.0f %%", acquisitionState(a), a.Progress)}
	for i := range stations {
		lines = append(lines, "  "+stationLine(&stations[i], width))
	}
	return lines
}

// stationLine is a station, its state, and what it says.
func stationLine(s *protocol.AcquisitionStation, width int) string {
	line := fmt.Sprintf("%-*s  %-9s", width, s.Station, s.State)
	if s.Message != "" {
		line += "  " + s.Message
	}
	return plain(strings.TrimRight(line, " "))
}

// byStation are the stations by name.
func byStation(a *protocol.Acquisition) []protocol.AcquisitionStation {
	return slices.SortedFunc(slices.Values(a.Stations), func(a, b protocol.AcquisitionStation) int { return strings.Compare(a.Station, b.Station) })
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
