package main

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fulgidus/heimdall/collector/authority"
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
	want := "it can no longer be cancelled: every station has begun, or is at its end\n"
	if !strings.HasSuffix(errs.String(), want) || !strings.Contains(errs.String(), `to see it     curl -s -H "Authorization: Bearer $HEIMDALL_TOKEN" http`) || strings.Contains(errs.String(), "geheim") {
		t.Errorf("got %q, want it to end with %q", errs.String(), want)
	}
}

func TestAcquireCmd_SaysWhatCanBeCancelled(t *testing.T) {
	t.Setenv("HEIMDALL_TOKEN", "geheim")
	const order = `  curl -s -H "Authorization: Bearer $HEIMDALL_TOKEN" -X DELETE http://there/api/v1/acquisitions/a1` + "\n"
	for _, c := range []struct {
		states []protocol.StationState
		want   string
	}{
		{[]protocol.StationState{protocol.StationQueued, protocol.StationAccepted}, "\nto cancel it" + order},
		{[]protocol.StationState{protocol.StationSent, protocol.StationCapturing, protocol.StationDone}, "\nto cancel what has not begun (1 of 3 stations)" + order},
		{[]protocol.StationState{protocol.StationUploading, protocol.StationRefused}, "\nit can no longer be cancelled: every station has begun, or is at its end\n"},
	} {
		var out strings.Builder
		AcquireCmd{remote: remote{URL: "http://there"}}.explainBreak(&out, underWay(0, c.states...))
		if !strings.HasSuffix(out.String(), c.want) {
			t.Errorf("%v: got %q, want it to end with %q", c.states, out.String(), c.want)
		}
	}
}

// The line for a shell trusts whom the command trusts.
func TestAcquireCmd_SaysHowToGoOnWithTLS(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("HEIMDALL_TOKEN", "")
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "it runs") }))
	defer server.Close()
	try := func() {
		t.Helper()
		var out strings.Builder
		AcquireCmd{remote: remote{URL: server.URL}}.explainBreak(&out, underWay(0, protocol.StationDone))
		_, line, _ := strings.Cut(out.String(), "to see it     curl ")
		line, _, _ = strings.Cut(line, "\n")
		if got, err := exec.CommandContext(t.Context(), "sh", "-c", "curl "+line).CombinedOutput(); err != nil || string(got) != "it runs" {
			t.Errorf("%s: %v: %s", line, err, got)
		}
	}
	file := filepath.Join(DefaultConfig().Data, caName, authority.CertificateName)
	pemText := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, pemText, 0o600)); err != nil {
		t.Fatal(err)
	}
	try()
	elsewhere := filepath.Join(t.TempDir(), "a ca.pem")
	if err := os.Rename(file, elsewhere); err != nil {
		t.Fatal(err)
	}
	t.Setenv(authorityVariable, elsewhere)
	try()
}

func TestPrintAcquisition_ColumnsStayWhereMessagesStand(t *testing.T) {
	a := &protocol.Acquisition{Stations: []protocol.AcquisitionStation{
		{Station: "torino", State: protocol.StationDone, Message: "was retuned in the middle", Measurement: json.RawMessage(
			`{"time":"2026-11-24T02:00:00.25Z","time_uncertainty_s":0.004,"power_dbfs":-40,"noise_floor_dbfs_hz":-110,"snr_db":21.5,"occupied_bandwidth_hz":11200}`)},
		{Station: "genova", State: protocol.StationRefused, Message: "no receiver of this station covers 145.5 MHz"},
	}}
	var out strings.Builder
	if err := printAcquisition(t.Context(), &out, remote{}, a); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"  station  level dBFS  floor dBFS/Hz  SNR dB  bandwidth  start (uncertainty)       recording",
		"  genova   refused",
		"  torino   -40.0       -110.0         21.5    11.2 kHz   02:00:00.250000000 (4ms)  none",
		"  genova refused: no receiver of this station covers 145.5 MHz", "  torino done: was retuned in the middle", "",
	}
	got := strings.Split(out.String(), "\n")
	for i := range got {
		got[i] = strings.TrimRight(got[i], " ")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCommandLine_NamesTheFlagThatIsWrong(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"acquire 145.5M 5s --start 5s", `--start: "5s" is no time; write one like 2026-11-24T02:00:00Z, or how long ago it was, like -30s`},
		{"acquire 145.5M 5s --start", "--start: a time is missing"},
		{"recordings --from tomorrow", `--from: "tomorrow" is no time`},
		{"acquire 145.5M 5s --bandwidth -1", `--bandwidth: "-1" is no frequency; write one like 145.5M, 12.5k or 77500`},
		{"acquire 145.5 5s", "<freq>: 145.5 without a unit is 145.5 Hz: write 145.5M"},
		{"acquire 1090 5s", "<freq>: 1090 without a unit is 1.09 kHz: write 1090M or 1090k, or 1090Hz"},
		{"recordings --min 144 --max 146M", "--min: 144 without a unit is 144 Hz"},
		{"acquire 145.5M 5s --bandwidth", "--bandwidth: a frequency is missing"},
		{"acquire 145.5M 5s --stations ,", "--stations: an empty name"},
		{"acquire 145.5M 5s --stations torino,,genova", "--stations: an empty name"},
	} {
		if _, errs, code := runLine(t, strings.Fields(c.args)...); code != exitUsage || !strings.Contains(errs, c.want) {
			t.Errorf("%s ends with %d: %s, want %q", c.args, code, errs, c.want)
		}
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"acquire", "145.5M", "5s", "--start", ""}, `--start: "" is no time`},
		{[]string{"acquire", "145.5M", "5s", "--label="}, "--label: an empty value; write one, or leave it out"},
		{[]string{"acquire", "145.5M", "5s", "--stations="}, "--stations: an empty name"},
		{[]string{"acquire", "", "5s"}, "<freq>"},
		{[]string{"recordings", "--from="}, `--from: "" is no time`},
		{[]string{"recordings", "--station="}, "--station: an empty name"},
		{[]string{"recordings", "--acquisition", ""}, "--acquisition: an empty value"},
		{[]string{"export", "recordings", ""}, "<id>: an empty name"},
		{[]string{"export", "recordings", "--station", "torino", "-o", ""}, "--output: an empty value"},
		{[]string{"export", "health", "--url="}, "--url: an empty value"},
	} {
		if _, errs, code := runLine(t, c.args...); code != exitUsage || !strings.Contains(errs, c.want) {
			t.Errorf("%q ends with %d: %s, want %q", c.args, code, errs, c.want)
		}
	}
	if out, _, _ := runLine(t, "acquire", "--help"); !strings.Contains(out, "--priority=N") {
		t.Errorf("the help is silent on --priority:\n%s", out)
	}
}

// What is low and meant is not refused: a width, and what has its unit.
func TestCommandLine_TakesLowFrequencies(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, `{"title":"%s"}`, strings.ReplaceAll(string(text), `"`, "'"))
	}))
	defer server.Close()
	if _, errs, code := runLine(t, "acquire", "900Hz", "5s", "--bandwidth", "500", "--url", server.URL); code != exitFailed || !strings.Contains(errs, "'frequency_hz':900,") || !strings.Contains(errs, "'bandwidth_hz':500") {
		t.Errorf("ends with %d: %s", code, errs)
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
