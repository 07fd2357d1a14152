package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/protocol"
)

func underWay(progress float64, states ...protocol.StationState) *protocol.Acquisition {
	a := &protocol.Acquisition{ID: "a1", State: protocol.AcquisitionRunning, Progress: progress}
	for i, state := range states {
		s := protocol.AcquisitionStation{Station: fmt.Sprintf("station-%d", i+1), State: state}
		if state == protocol.StationRefused {
			s.ReasonCode, s.Message = "out_of_passband", "145.5 MHz is not covered"
		}
		a.Stations = append(a.Stations, s)
	}
	return a
}

func TestBoard_ChangesInPlace(t *testing.T) {
	var out strings.Builder
	b := board{w: &out}
	draw := func(want string, lines ...string) {
		t.Helper()
		out.Reset()
		b.draw(lines, 10, 4)
		if out.String() != want {
			t.Errorf("%q: got %q, want %q", lines, out.String(), want)
		}
	}
	draw("\x1b[Kone\n\x1b[Ktwo\n\x1b[J", "one", "two")
	draw("", "one", "two")                                                                     // nothing new
	draw("\x1b[2A\r\x1b[Kone\n\x1b[J", "one")                                                  // what stood below goes
	draw("\x1b[1A\r\x1b[Kdegrees °\n\x1b[Ktoo long \n\x1b[J", "degrees °C", "too long for it") // a wrapped line could not be drawn over
	draw("\x1b[2A\r\x1b[K1\n\x1b[K2\n\x1b[K  and 3 m\n\x1b[J", "1", "2", "3", "4", "5")        // nor one that scrolled away
	draw("\x1b[3A\r\x1b[K1\n\x1b[K2\n\x1b[K3\n\x1b[J", "1", "2", "3")
}

func TestAcquisitionLines_UnsettledFirstWhereThereIsNoRoom(t *testing.T) {
	a := underWay(37.4, protocol.StationDone, protocol.StationUploading, protocol.StationRefused)
	want := []string{
		"acquisition a1 running: 1 uploading, 1 done, 1 refused, 37 %", "  station-1  done", "  station-2  uploading",
		"  station-3  refused    145.5 MHz is not covered",
	}
	if diff := cmp.Diff(want, acquisitionLines(a, 24)); diff != "" {
		t.Errorf("room for all (-want +got):\n%s", diff)
	}
	want[1], want[2] = want[2], want[1]
	if diff := cmp.Diff(want, acquisitionLines(a, 4)); diff != "" {
		t.Errorf("no room for all (-want +got):\n%s", diff)
	}
}

func TestAcquisitionProgress_ALineForEachChange(t *testing.T) {
	steps := []*protocol.Acquisition{
		underWay(0, protocol.StationQueued, protocol.StationQueued), underWay(0, protocol.StationQueued, protocol.StationQueued),
		underWay(30, protocol.StationCapturing, protocol.StationRefused), underWay(60, protocol.StationCapturing, protocol.StationRefused),
	}
	var text, machine strings.Builder
	forPeople, forMachines := newAcquisitionProgress(&text, false), newAcquisitionProgress(&machine, true)
	for _, a := range steps {
		forPeople.show(a)
		forMachines.show(a)
	}
	want := "station-1  queued\nstation-2  queued\na1 running: 2 queued\nstation-1  capturing\nstation-2  refused    145.5 MHz is not covered\n"
	if text.String() != want {
		t.Errorf("got  %q\nwant %q", text.String(), want)
	}
	lines := strings.Split(strings.TrimSpace(machine.String()), "\n")
	var last stationChange
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || len(lines) != 4 || last.Acquisition != "a1" || last.Progress != 30 ||
		last.Station.Station != "station-2" || last.Station.State != protocol.StationRefused || last.Station.ReasonCode != "out_of_passband" {
		t.Errorf("%v: %s", err, machine.String())
	}
}

func TestAcquireCmd_BrokenOffSaysHowToGoOn(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"id":"a1","state":"running","stations":[{"station":"torino","state":"capturing"}]}`)
	}))
	defer server.Close()
	t.Setenv("HEIMDALL_TOKEN", "geheim")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var errs output
	ended := make(chan error, 1) // Run returns once
	cmd := AcquireCmd{remote: remote{URL: server.URL}, Frequency: 145.5e6, Duration: configs.Duration(time.Second), Wait: true}
	go func() { ended <- cmd.Run(ctx, streams{out: io.Discard, err: &errs}) }()
	eventually(t, "progress", func() bool { return strings.Contains(errs.String(), "torino  capturing\n") })
	cancel()
	err := <-ended
	if !errors.Is(err, context.Canceled) || err.Error() != "no longer waiting for acquisition a1, which goes on without this command" {
		t.Errorf("got %v", err)
	}
	want := `curl -s -H "Authorization: Bearer $HEIMDALL_TOKEN" -X DELETE ` + server.URL + "/api/v1/acquisitions/a1\n"
	if !strings.HasSuffix(errs.String(), want) || strings.Contains(errs.String(), "geheim") {
		t.Errorf("got %q, want it to end with %q", errs.String(), want)
	}
}

func TestWatch_OutlivesARestartOfTheCollector(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		switch asked.Add(1) {
		case 1:
			fmt.Fprint(w, `{"id":"a1","state":"running"}`)
		case 2:
			http.Error(w, "starting", http.StatusServiceUnavailable)
		case 3:
			panic(http.ErrAbortHandler) // the connection breaks
		case 4:
			fmt.Fprint(w, `{"id":"a1","state":"done"}`)
		default:
			http.Error(w, "none", http.StatusNotFound)
		}
	}))
	defer server.Close()
	r := remote{URL: server.URL}
	if a, err := r.watch(t.Context(), "a1", func(*protocol.Acquisition) {}); err != nil || a.State != protocol.AcquisitionDone {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := r.watch(t.Context(), "a1", func(*protocol.Acquisition) {}); err == nil || asked.Load() != 5 {
		t.Errorf("an acquisition that is not there: %v after %d questions", err, asked.Load())
	}
}

func TestCommandLine_TakesTimesAgo(t *testing.T) {
	var body protocol.AcquisitionRequest
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		fmt.Fprint(w, `{"id":"a1","state":"queued"}`)
	}))
	defer server.Close()
	before := time.Now()
	var errs output
	if code := run([]string{"acquire", "145.5M", "5s", "--start", "-30s", "--url", server.URL}, streams{out: io.Discard, err: &errs}); code != 0 {
		t.Fatalf("ends with %d: %s", code, errs.String())
	}
	start, err := time.Parse(time.RFC3339Nano, body.StartTime)
	if ago := before.Sub(start); err != nil || ago > 30*time.Second || ago < 20*time.Second {
		t.Errorf("start_time %s (%v), want 30 s before %s", body.StartTime, err, before)
	}
	for _, wrong := range []string{"--wait", "-yesterday", "--5s"} {
		if code := run([]string{"acquire", "145.5M", "5s", "--start", wrong, "--url", server.URL}, streams{out: io.Discard, err: &errs}); code != exitUsage {
			t.Errorf("--start %s ends with %d", wrong, code)
		}
	}
	if !strings.Contains(errs.String(), `"-yesterday" is no time; write one like`) {
		t.Errorf("got %s", errs.String())
	}
}

func TestTerminalSize_NoTerminal(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for name, w := range map[string]io.Writer{"file": file, "buffer": &output{}} {
		if _, _, ok := terminalSize(w); ok {
			t.Errorf("a %s is called a terminal", name)
		}
	}
}
