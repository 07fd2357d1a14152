package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/protocol"
)

// recorded has two stations record, and gives the acquisition.
func recorded(t *testing.T, r remote) *protocol.Acquisition {
	t.Helper()
	a, err := r.acquire(t.Context(), protocol.AcquisitionRequest{FrequencyHz: 145.5e6, DurationS: 1, IQ: true, Stations: []string{"torino", "genova"}})
	if err != nil {
		t.Fatal(err)
	}
	if a, err = r.watch(t.Context(), a.ID, func(*protocol.Acquisition) {}); err != nil || a.State != protocol.AcquisitionDone {
		t.Fatalf("%+v, %v", a, err)
	}
	return a
}

func TestRecordingsCmd_ListsForPeopleAndMachines(t *testing.T) {
	w, _ := played(t)
	list := func(c RecordingsCmd) (out, errs string, err error) {
		t.Helper()
		var o, e output
		c.remote = w.remote
		err = c.Run(t.Context(), streams{out: &o, err: &e})
		return o.String(), e.String(), err
	}
	if out, errs, err := list(RecordingsCmd{}); err != nil || out != "" || errs != "no recordings; acquire with --iq makes them\n" {
		t.Errorf("nothing yet: %q, %q, %v", out, errs, err)
	}
	first, second := recorded(t, w.remote), recorded(t, w.remote)
	out, _, err := list(RecordingsCmd{})
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if err != nil || len(lines) != 5 || strings.Join(strings.Fields(lines[0]), " ") != "id station start (uncertainty) centre rate length size lost samples" {
		t.Fatalf("%v\n%s", err, out)
	}
	ids := map[string]string{} // station by id
	for _, s := range slices.Concat(first.Stations, second.Stations) {
		ids[s.Recording] = s.Station
	}
	newest := time.Now().Add(time.Hour)
	for _, line := range lines[1:] {
		f := strings.Fields(line)
		if want := ids[f[0]]; want == "" || f[1] != want || strings.Join(f[4:], " ") != "(4ms) 145.5 MHz 15.625 kHz 1s 32 B 0" {
			t.Errorf("row %q", line)
		}
		start, err := time.Parse("2006-01-02 15:04:05.000000000", f[2]+" "+f[3])
		if err != nil || start.After(newest) {
			t.Errorf("row %q after %v: %v", line, newest, err)
		}
		newest = start
	}

	out, _, err = list(RecordingsCmd{Acquisition: first.ID, JSON: true})
	var got []string
	for decoder := json.NewDecoder(strings.NewReader(out)); decoder.More(); {
		var r protocol.Recording
		if err := decoder.Decode(&r); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		got = append(got, r.Acquisition+" "+r.ID)
	}
	var want []string
	for _, s := range byStation(first) {
		want = append(want, first.ID+" "+s.Recording)
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	out, _, err = list(RecordingsCmd{selection: selection{Stations: []string{"genova"}, Max: 146e6}, JSON: true})
	if err != nil || strings.Count(out, `"station":"genova"`) != 2 || strings.Count(out, "\n") != 2 {
		t.Errorf("one station: %v, %s", err, out)
	}
	if out, _, err = list(RecordingsCmd{selection: selection{Min: 146e6}}); err != nil || out != "" {
		t.Errorf("another band: %v, %s", err, out)
	}
	if _, errs, err := list(RecordingsCmd{selection: selection{Min: 146e6}}); err != nil || errs != "no recording matches --min 146MHz\n" {
		t.Errorf("another band: %v, %s", err, errs)
	}
	for _, c := range []struct {
		cmd  RecordingsCmd
		want string
		code int
	}{
		{RecordingsCmd{Acquisition: first.ID, selection: selection{Min: 1}}, "one of these", exitUsage},
		{RecordingsCmd{selection: selection{Stations: []string{"genova", "nix"}}}, "--station nix: no station of this id has ever connected", exitFailed},
		{RecordingsCmd{Acquisition: "a1"}, "id: a1: no such acquisition", exitFailed},
		{RecordingsCmd{selection: selection{From: "noon"}}, "from: noon: write a time like", exitUsage},
	} {
		if _, _, err := list(c.cmd); err == nil || !strings.Contains(err.Error(), c.want) || exitCode(err, io.Discard) != c.code {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}

func TestChosen_SaysWhichRecordingsAreGone(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/api/v1/acquisitions/a1":
			fmt.Fprint(w, `{"id":"a1","state":"done","request":{"iq":true},"stations":[{"station":"torino","state":"done","recording":"r1"},
				{"station":"genova","state":"refused","message":"paused"},{"station":"lecco","state":"expired"},{"station":"aosta","recording":"r3"},{"station":"udine","recording":"r3"}]}`)
		case "/api/v1/acquisitions/a2":
			fmt.Fprint(w, `{"id":"a2","state":"done","stations":[{"station":"torino","state":"done"}]}`)
		case "/api/v1/recordings/r3":
			fmt.Fprint(w, `{"id":"r3"}`)
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	var got []string
	collect := func(list []protocol.Recording) error {
		for _, r := range list {
			got = append(got, r.ID)
		}
		return nil
	}
	var said strings.Builder
	r := remote{URL: server.URL}
	err := r.chosen(t.Context(), &said, recordingChoice{Acquisition: "a1"}, collect)
	if err != nil || said.String() != "genova has no recording: refused, paused\nlecco has no recording: expired\nrecording r1 is no longer kept\n" || strings.Join(got, " ") != "r3 r3" {
		t.Errorf("%v, %q, %q", err, said.String(), got)
	}
	said.Reset()
	err = r.chosen(t.Context(), &said, recordingChoice{Acquisition: "a2"}, collect)
	if err != nil || said.String() != "this acquisition did not ask for IQ\n" || len(got) != 2 {
		t.Errorf("without IQ: %v, %q, %q", err, said.String(), got)
	}
	if err := r.chosen(t.Context(), &said, recordingChoice{IDs: []string{"r1"}}, collect); !gone(err) {
		t.Errorf("a recording that was asked for by name: %v", err)
	}
}

func TestPages_ReadsAllAndEnds(t *testing.T) {
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		switch q := r.URL.Query(); q.Get("cursor") {
		case "":
			fmt.Fprintf(w, `{"items":[%q],"next_cursor":"two"}`, q.Get("station")+q.Get("limit"))
		case "two":
			fmt.Fprint(w, `{"items":["b","c"],"next_cursor":"three"}`)
		default:
			fmt.Fprint(w, `{"items":[],"next_cursor":"three"}`) // a collector that never comes to an end
		}
	}))
	defer server.Close()
	var got []string
	query := url.Values{"station": {"torino"}}
	err := pages(t.Context(), remote{URL: server.URL}, "/list", query, func(items []string) error {
		got = append(got, items...)
		return nil
	})
	if diff := cmp.Diff([]string{"torino1000", "b", "c"}, got); diff != "" || len(query) != 1 {
		t.Errorf("query %v (-want +got):\n%s", query, diff)
	}
	if err == nil || !strings.Contains(err.Error(), "the same page again") || asked != 3 {
		t.Errorf("%v after %d pages", err, asked)
	}
}

func TestSelection_Query(t *testing.T) {
	s := selection{Stations: []string{"torino", "genova"}, From: "2026-11-24", To: "2026-11-25T02:00:00Z", Min: 77.5e3, Max: configs.Hertz(145.5e6)}
	if got, want := s.query().Encode(), "from=2026-11-24&max_hz=145500000&min_hz=77500&station=torino%2Cgenova&to=2026-11-25T02%3A00%3A00Z"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if !(selection{}).none() || s.none() {
		t.Error("nothing and something are taken for each other")
	}
}
