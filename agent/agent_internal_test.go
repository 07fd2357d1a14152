package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/fulgidus/heimdall/agent/spool"
	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

func TestAgent_SurveysTellsAndStops(t *testing.T) {
	here := newSite(t, "")
	a, stop := here.start(t)
	st := here.hears(t)

	if st.State.State != "running" || st.State.Reason != "" || st.Station != "torino" || st.Info.Position.LatitudeDeg != 45 {
		t.Errorf("status %+v", st)
	}
	rx := st.State.Receivers["r0"]
	// The carrier stands 19 dB over all of the noise and takes less than a percent of the band.
	if level := *rx.Steps["all"].PowerDBFS; !rx.Connected || level < -23 || level > -21 {
		t.Errorf("receiver %+v with a level of %.1f dBFS, want -22", rx, level)
	}
	if got := st.Info.Receivers[0]; got.Source != "sim" || got.CenterHz != skyCenterHz || !got.Live {
		t.Errorf("info of the receiver %+v", got)
	}
	if mode := modeOf(t, controlPath(here.state)); mode != 0o600 {
		t.Errorf("the control socket has mode %o, want 600", mode)
	}

	text, err := output(t, StatusCmd{configFlag: configFlag{here.config}})
	for _, want := range []string{"torino running for", "receiver r0: simulated receiver torino at 145.5 MHz, 240 ksps", "all: level -2", "none configured (mqtt.url)"} {
		if err != nil || !strings.Contains(text, want) {
			t.Errorf("%v: no %q in\n%s", err, want, text)
		}
	}
	text, err = output(t, StatusCmd{configFlag: configFlag{here.config}, JSON: true})
	if err != nil || linesOf[status](t, text)[0].Spool.Identity != fmt.Sprintf("%x", a.spool.Identity()) {
		t.Errorf("%v: %s", err, text)
	}

	stop()
	if _, err := os.Stat(controlPath(here.state)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the control socket is still there: %v", err)
	}
	byKind := here.records(t)
	for _, kind := range []protocol.Kind{protocol.KindMeasurement, protocol.KindSpectrum, protocol.KindDetection, protocol.KindHealth, protocol.KindSite} {
		if len(byKind[kind]) == 0 {
			t.Errorf("the spool holds no %s", kind)
			continue
		}
		if r := byKind[kind][0]; r.GetStation() != "torino" {
			t.Errorf("%s of station %q", kind, r.GetStation())
		}
	}
	if m := byKind[protocol.KindMeasurement][0].GetMeasurement(); m.GetPeakHz() < 145.5199e6 || m.GetPeakHz() > 145.5201e6 {
		t.Errorf("peak at %.0f Hz, want 145520000", m.GetPeakHz())
	}
}

// Without a centre of its own a simulated receiver stands on the first emitter, whose tone is then at 0 Hz. A simulation has
// no spike there, so it is heard.
func TestAgent_HearsAToneAtItsCentre(t *testing.T) {
	here := newSite(t, "")
	text, err := os.ReadFile(here.config)
	if err != nil {
		t.Fatal(err)
	}
	write(t, here.config, strings.Replace(string(text), "&center=145.5M", "", 1))
	_, stop := here.start(t)
	here.hears(t)
	stop()
	byKind := here.records(t)
	m := byKind[protocol.KindMeasurement][0].GetMeasurement()
	if m.GetPeakHz() < 145.5199e6 || m.GetPeakHz() > 145.5201e6 || m.GetCenterHz() != 145.52e6 || len(byKind[protocol.KindDetection]) == 0 {
		t.Errorf("peak at %.0f Hz and %d detections around %.0f Hz, want the tone at 145520000 Hz", m.GetPeakHz(), len(byKind[protocol.KindDetection]), m.GetCenterHz())
	}
}

// The log ends with a word on the end, and says of each line once which receiver it is about.
func TestAgent_LogsItsEnd(t *testing.T) {
	here := newSite(t, "")
	var text bytes.Buffer
	a, err := OpenAgent(t.Context(), here.load(t), "test", slog.New(slog.NewTextHandler(&text, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1) // one value
	go func() { ended <- a.Run(ctx) }()
	here.hears(t)
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(text.String()), "\n")
	if last := lines[len(lines)-1]; !strings.Contains(last, `msg="station has stopped"`) || !strings.Contains(last, "records_waiting=") {
		t.Errorf("the last line is %s", last)
	}
	for _, line := range lines {
		if strings.Count(line, "receiver=r0") > 1 {
			t.Errorf("the receiver twice in %s", line)
		}
	}
}

func modeOf(t *testing.T, path string) os.FileMode {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().Perm()
}

func TestOpenAgent_RefusesWhatIsTaken(t *testing.T) {
	here := newSite(t, "")
	a := here.open(t)
	defer a.Close()
	_, err := OpenAgent(t.Context(), here.load(t), "test", slog.New(slog.DiscardHandler))
	if locked := new(spool.LockedError); !errors.As(err, &locked) {
		t.Errorf("got %v, want a spool.LockedError", err)
	}

	cfg := here.load(t)
	cfg.Spool.Path = here.config + "/below a file"
	if _, err := OpenAgent(t.Context(), cfg, "test", slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "spool.path") {
		t.Errorf("got %v, want an error naming spool.path", err)
	}
	cfg = here.load(t)
	cfg.Spool.Path, cfg.MQTT.URL, cfg.MQTT.CA = t.TempDir(), "mqtts://localhost", "/nowhere/ca.pem"
	if _, err := OpenAgent(t.Context(), cfg, "test", slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "/nowhere/ca.pem") {
		t.Errorf("got %v, want an error naming the file", err)
	}
	reopened, err := OpenAgent(t.Context(), withPath(here.load(t), cfg.Spool.Path), "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatalf("a failed start keeps the state directory: %v", err)
	}
	reopened.Close()
}

func withPath(cfg Config, path string) Config {
	cfg.Spool.Path = path
	return cfg
}

func TestTap_OfARunningAgent(t *testing.T) {
	here := newSite(t, "")
	here.start(t)
	here.hears(t)
	for _, asJSON := range []bool{true, false} {
		line := firstLine(t, TapCmd{configFlag: configFlag{here.config}, JSON: asJSON})
		if !asJSON {
			for _, want := range []string{"r0 all  level -2", "SNR ", " at 145.5", " MHz  detections", "clock simulated ±40ns", "acknowledged 0"} {
				if !strings.Contains(line, want) {
					t.Errorf("no %q in %s", want, line)
				}
			}
			continue
		}
		got := linesOf[tapLine](t, line)[0]
		if got.Receiver != "r0" || got.Step != "all" || got.TimeQuality != "simulated" || got.PowerDBFS == nil || got.Backlog == nil {
			t.Errorf("%s", line)
		}
	}
}

// firstLine runs a command until it has written a line.
func firstLine(t *testing.T, c command) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w := io.Pipe()
	ended := make(chan error, 1) // one value
	go func() { ended <- c.Run(ctx, streams{out: w, err: io.Discard}); w.Close() }()
	line, err := bufio.NewReader(r).ReadString('\n')
	cancel()
	go io.Copy(io.Discard, r)
	if ran := <-ended; err != nil || ran != nil {
		t.Fatalf("%q: %v, %v", line, err, ran)
	}
	return line
}

// A reader of the tap sees its end when the agent stops, not a torn connection: the agent waits for its answers.
func TestTap_EndsWithTheAgent(t *testing.T) {
	here := newSite(t, "")
	_, stop := here.start(t)
	here.hears(t)
	body, err := askAgent(t.Context(), here.state, "/tap")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	lines := bufio.NewReader(body)
	if _, err := lines.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	stop()
	for err == nil {
		_, err = lines.ReadString('\n')
	}
	if !errors.Is(err, io.EOF) { // a torn connection is io.ErrUnexpectedEOF
		t.Errorf("got %v, want %v", err, io.EOF)
	}
}

func TestTap_WithoutAnAgent(t *testing.T) {
	here := newSite(t, "")
	got := linesOf[tapLine](t, firstLine(t, TapCmd{configFlag: configFlag{here.config}, JSON: true}))[0]
	if got.Receiver != "r0" || got.Backlog != nil || got.Acknowledged != nil {
		t.Errorf("%+v", got)
	}
	if _, err := os.Stat(here.state); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a view left a state directory: %v", err)
	}
}

func TestTapLine_OfAnotherVersion(t *testing.T) {
	for _, l := range []tapLine{{}, {Time: "noon"}, {Time: "2026-11-24T02:00:00"}} {
		if got := l.String(); !strings.Contains(got, "level - dBFS") {
			t.Errorf("%+v: %s", l, got)
		}
	}
}

func TestReadTap_EndsWithTheAgent(t *testing.T) {
	for text, wantErr := range map[string]bool{
		`{"receiver":"r0"}` + "\n": false, `{"receiver":"r0"}` + "\n" + `{"rece`: false, `{"receiver":"r0"}` + "\nBANG": true,
	} {
		shown := 0
		err := readTap(t.Context(), strings.NewReader(text), func(tapLine) error { shown++; return nil })
		if (err != nil) != wantErr || shown != 1 {
			t.Errorf("%q: %d lines, %v", text, shown, err)
		}
	}
	full := errors.New("disk full")
	if err := readTap(t.Context(), strings.NewReader(`{}`), func(tapLine) error { return full }); !errors.Is(err, full) {
		t.Errorf("got %v, want what the output says", err)
	}
}

func TestAskAgent_SaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	if _, err := askAgent(t.Context(), dir, "/status"); !errors.Is(err, errNotRunning) {
		t.Errorf("no socket: got %v, want %v", err, errNotRunning)
	}
	l, err := net.Listen("unix", controlPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close() // as kill -9 leaves it
	if _, err := askAgent(t.Context(), dir, "/status"); !errors.Is(err, errNotRunning) {
		t.Errorf("socket of a killed agent: got %v, want %v", err, errNotRunning)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := askAgent(cancelled, dir, "/status"); errors.Is(err, errNotRunning) || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v, want %v", err, context.Canceled)
	}
	serve(t, dir, func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("no JSON")) })
	if _, err := askStatus(t.Context(), dir); err == nil || errors.Is(err, errNotRunning) {
		t.Errorf("garbage: got %v", err)
	}
}

func TestAskAgent_OfAnotherVersion(t *testing.T) {
	dir := t.TempDir()
	serve(t, dir, http.NotFound)
	_, err := askStatus(t.Context(), dir)
	if err == nil || !strings.Contains(err.Error(), "/status: it answers 404") {
		t.Errorf("got %v, want the answer and the question", err)
	}
}

// serve listens where an agent would.
func serve(t *testing.T, dir string, handle http.HandlerFunc) {
	t.Helper()
	os.Remove(controlPath(dir))
	l, err := net.Listen("unix", controlPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handle, ReadHeaderTimeout: time.Second}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
}

func TestStatus_WithoutAnAgent(t *testing.T) {
	here := newSite(t, "")
	_, err := output(t, StatusCmd{configFlag: configFlag{here.config}})
	if !errors.Is(err, errNotRunning) || !strings.Contains(err.Error(), "heimdall-agent run") {
		t.Errorf("got %v, want %v and how to start it", err, errNotRunning)
	}
}

// retained keeps the latest payload of each topic below a station.
func retained(t *testing.T, url string) (latest func(topic string) []byte, publish func(topic, payload string)) {
	t.Helper()
	seen := make(chan mqtt.Message, 1000) // far more than a test sees
	o := mqtt.NewClientOptions().AddBroker("tcp://" + strings.TrimPrefix(url, "mqtt://")).SetClientID("spectator")
	client := mqtt.NewClient(o)
	settle := func(token mqtt.Token) {
		t.Helper()
		if !token.WaitTimeout(10*time.Second) || token.Error() != nil {
			t.Fatal(token.Error())
		}
	}
	settle(client.Connect())
	t.Cleanup(func() { client.Disconnect(0) })
	settle(client.Subscribe("heimdall/v1/torino/#", 1, func(_ mqtt.Client, m mqtt.Message) { seen <- m }))
	last := map[string][]byte{}
	latest = func(topic string) []byte {
		for {
			select {
			case m := <-seen:
				last[m.Topic()] = m.Payload()
			default:
				return last[topic]
			}
		}
	}
	return latest, func(topic, payload string) { settle(client.Publish(topic, 1, true, payload)) }
}

func TestAgent_TellsTheBroker(t *testing.T) {
	broker := servers.Mosquitto(t)
	latest, publish := retained(t, broker.URL)
	here := newSite(t, "mqtt: {url: \""+broker.URL+"\"}")
	_, stop := here.start(t)

	reason := func(want string) {
		t.Helper()
		eventually(t, "the state's reason is "+want, func() error {
			var s protocol.State
			text := latest("heimdall/v1/torino/state")
			if err := json.Unmarshal(text, &s); err != nil {
				return err
			}
			if s.State != "running" || s.Reason != want || len(text) >= stateBytes {
				return fmt.Errorf("%s", text)
			}
			return nil
		})
	}
	reason("no collector is online: records are kept here until one is")
	var info protocol.Info
	if err := json.Unmarshal(latest("heimdall/v1/torino/info"), &info); err != nil || info.Name != "Torino" {
		t.Errorf("info: %+v, %v", info, err)
	}
	findings, err := checkOf(t, CheckCmd{configFlag: configFlag{here.config}})
	if err != nil || verdictOf(findings, "broker") != "ok" || verdictOf(findings, "collector") != "warn" {
		t.Errorf("without a collector: %+v, %v", findings, err)
	}
	publish("heimdall/v1/collector/c1/status", "online")
	reason("")
	findings, err = checkOf(t, CheckCmd{configFlag: configFlag{here.config}})
	if err != nil || verdictOf(findings, "collector") != "ok" {
		t.Errorf("with a collector: %+v, %v", findings, err)
	}
	text, err := output(t, StatusCmd{configFlag: configFlag{here.config}})
	if err != nil || !strings.Contains(text, "a collector is online") {
		t.Errorf("%v: %s", err, text)
	}
	publish("heimdall/v1/collector/c1/status", "offline")
	reason("no collector is online: records are kept here until one is")
	stop()
	eventually(t, "the station is offline", func() error {
		if text := latest("heimdall/v1/torino/status"); string(text) != protocol.Offline {
			return fmt.Errorf("status %q", text)
		}
		return nil
	})
}
