package main

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/fulgidus/heimdall/protocol"
)

// testConfig embeds everything below a fresh directory, on free ports.
func testConfig(t *testing.T) Config {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Data = filepath.Join(t.TempDir(), "heimdall-data")
	cfg.MQTT.Embedded.Listen, cfg.HTTP.Listen = "127.0.0.1:0", "127.0.0.1:0"
	cfg.embed()
	return cfg
}

// configFile writes a configuration whose store, archive and broker are those of testConfig.
func configFile(t *testing.T, cfg Config) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "collector.yaml")
	text := fmt.Sprintf("data: %q\nmqtt: {url: %q, embedded: {listen: %q}}\nhttp: {listen: %q}\nstore: {url: %q}\narchive: {url: %q}\nlog: {format: json}\n",
		cfg.Data, cfg.MQTT.URL, cfg.MQTT.Embedded.Listen, cfg.HTTP.Listen, string(cfg.Store.URL), cfg.Archive.URL)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func openCollector(t *testing.T, cfg Config) *Collector {
	t.Helper()
	return openLogging(t, cfg, slog.New(slog.DiscardHandler))
}

func openLogging(t *testing.T, cfg Config, log *slog.Logger) *Collector {
	t.Helper()
	c, err := Open(t.Context(), cfg, "test", log)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// whole is a running collector.
type whole struct {
	*Collector
	remote remote
	// stop ends it, once, and gives what Run returned.
	stop func() error
}

func startCollector(t *testing.T, cfg Config) *whole {
	t.Helper()
	return beginCollector(t, openCollector(t, cfg))
}

// beginCollector runs a collector until the test ends.
func beginCollector(t *testing.T, c *Collector) *whole {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1) // Run returns once
	go func() { done <- c.Run(ctx) }()
	w := &whole{Collector: c, remote: remote{URL: "http://" + c.HTTPAddr()}}
	w.stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() {
		if err := w.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return w
}

// ready waits until the collector can do all its work.
func (w *whole) ready(t *testing.T) *whole {
	t.Helper()
	eventually(t, "ready", func() bool { return w.remote.call(t.Context(), http.MethodGet, "/readyz", nil, nil) == nil })
	return w
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// output is what a command writes while a test reads it.
type output struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// player is a station that does what it is told at once: it measures, and hands over eight samples.
type player struct {
	t      *testing.T
	id     string
	client mqtt.Client
	seq    atomic.Uint64
	// spoilt has it hand over other samples than its manifest says.
	spoilt atomic.Bool
}

func playStation(t *testing.T, url, id string) *player {
	t.Helper()
	return playStationAs(t, mqtt.NewClientOptions().AddBroker(url), id)
}

// playStationAs is for brokers that want to know who somebody is.
func playStationAs(t *testing.T, o *mqtt.ClientOptions, id string) *player {
	t.Helper()
	p := &player{t: t, id: id}
	p.client = mqtt.NewClient(o.SetClientID("heimdall-agent-" + id).SetAutoReconnect(false).SetOrderMatters(false))
	p.wait(p.client.Connect())
	t.Cleanup(func() { p.client.Disconnect(0) })
	topics := protocol.Topics{Prefix: "heimdall"}
	p.wait(p.client.Subscribe(topics.Command(id), 1, p.obey))
	p.wait(p.client.Publish(topics.Status(id), 1, true, protocol.Online))
	info := fmt.Sprintf(`{"station":%q,"receivers":[{"id":"r0","center_hz":145500000,"sample_rate_hz":2400000,"live":true}],"capabilities":["capture"],"version":"1"}`, id)
	p.wait(p.client.Publish(topics.Info(id), 1, true, info))
	return p
}

func (p *player) wait(token mqtt.Token) {
	p.t.Helper()
	if !token.WaitTimeout(10*time.Second) || token.Error() != nil {
		p.t.Fatalf("MQTT: %v", token.Error())
	}
}

// publish sends a record under the next number.
func (p *player) publish(rec *protocol.Record) mqtt.Token {
	rec.Station, rec.Spool, rec.Seq = &p.id, []byte("12345678"), new(p.seq.Add(1))
	if rec.Time == nil {
		rec.Time = new(time.Now().UnixNano())
	}
	payload, err := protocol.Encode(rec)
	if err != nil {
		p.t.Error(err)
	}
	return p.client.Publish(protocol.Topics{Prefix: "heimdall"}.Record(p.id, rec.Kind()), 1, false, payload)
}

func (p *player) reply(cmd *protocol.Command, state protocol.Reply_State, capture *protocol.CaptureManifest) {
	p.publish(&protocol.Record{Body: &protocol.Record_Reply{Reply: &protocol.Reply{
		CommandId: cmd.Id, Acquisition: cmd.GetCapture().Acquisition, State: &state, Capture: capture,
	}}})
}

func (p *player) obey(_ mqtt.Client, m mqtt.Message) {
	cmd, err := protocol.DecodeCommand(m.Payload())
	if err != nil || cmd.GetCapture() == nil {
		p.t.Errorf("command %v: %v", cmd, err)
		return
	}
	order := cmd.GetCapture()
	p.reply(cmd, protocol.Reply_STATE_ACCEPTED, nil)
	manifest := &protocol.CaptureManifest{
		Id: cmd.Id, Receiver: new("r0"), Start: order.Start, DurationS: order.DurationS, CenterHz: order.CenterHz, SampleRateHz: new(15625.0),
		Format: new("ci16_le"), TimeQuality: protocol.TimeQuality_TIME_QUALITY_NTP.Enum(), TimeUncertaintyS: new(0.004),
		Measurement: &protocol.Measurement{PowerDbfs: new(float32(-40)), NoiseFloorDbfsHz: new(float32(-110)), SnrDb: new(float32(21.5)), OccupiedBandwidthHz: new(11200.0)},
	}
	if order.GetIq() {
		samples := bytes.Repeat([]byte{1, 0, 2, 0}, 8)
		sum := sha512.Sum512(samples)
		if p.spoilt.Load() {
			samples[0]++
		}
		manifest.Chunks, manifest.Bytes, manifest.Samples, manifest.Sha512 = new(uint32(1)), new(uint64(len(samples))), new(uint64(8)), sum[:]
		p.publish(&protocol.Record{Body: &protocol.Record_Iq{Iq: &protocol.IqChunk{
			CaptureId: cmd.Id, Index: new(uint32(0)), FirstSample: new(uint64(0)), Samples: new(uint32(8)), Data: samples,
		}}})
	}
	p.reply(cmd, protocol.Reply_STATE_DONE, manifest)
}

func (p *player) measure() {
	p.t.Helper()
	p.wait(p.publish(&protocol.Record{Receiver: new("r0"), Step: new("2m"), Body: &protocol.Record_Measurement{Measurement: &protocol.Measurement{
		DurationS: new(1.0), CenterHz: new(145.5e6), SampleRateHz: new(2.4e6), PowerDbfs: new(float32(-31.5)), NoiseFloorDbfsHz: new(float32(-104.25)),
	}}}))
}

func (p *player) detect() {
	p.t.Helper()
	p.wait(p.publish(&protocol.Record{Receiver: new("r0"), Step: new("2m"), Body: &protocol.Record_Detection{Detection: &protocol.Detection{
		DurationS: new(0.125), CenterHz: new(145.5e6), LowHz: new(145.494e6), HighHz: new(145.506e6), BandwidthHz: new(12e3), PowerDbfs: new(float32(-50)), SnrDb: new(float32(18)),
	}}}))
}

// stored waits until the collector has so many records of a kind.
func (w *whole) stored(t *testing.T, list string, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d %s", n, list), func() bool {
		var page struct{ Items []json.RawMessage }
		err := w.remote.call(t.Context(), http.MethodGet, "/api/v1/"+list, nil, &page)
		return err == nil && len(page.Items) >= n
	})
}

// get is the status and the body of an answer.
func (w *whole) get(t *testing.T, path string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.remote.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// TestCollector_MissesStations: a station that was online when the collector was killed, and of which the broker knows nothing any
// more, is offline soon after the next start; one that is there stays online.
func TestCollector_MissesStations(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	before := openCollector(t, cfg)
	_, err := before.store.Migrate(t.Context())
	err = errors.Join(err, before.store.SaveStatus(t.Context(), "milano", true, time.Now().Add(-time.Hour)), before.close())
	if err != nil {
		t.Fatal(err)
	}
	w := startCollector(t, cfg).ready(t)
	playStation(t, w.BrokerURL(), "torino")
	status := func(id string) string {
		var s protocol.Station
		if err := w.remote.call(t.Context(), http.MethodGet, "/api/v1/stations/"+id, nil, &s); err != nil {
			return ""
		}
		return s.Status
	}
	eventually(t, "torino is online", func() bool { return status("torino") == protocol.Online })
	eventually(t, "milano is offline", func() bool { return status("milano") == protocol.Offline })
	if got := status("torino"); got != protocol.Online {
		t.Errorf("torino is %s", got)
	}
}

// TestCollector_RemovesAStationWithoutAnAccount: nothing of it stays at the broker, and it is shown as removed until it comes again.
// One that leaves by itself is shown as one that left.
func TestCollector_RemovesAStationWithoutAnAccount(t *testing.T) {
	t.Parallel()
	w := startCollector(t, testConfig(t)).ready(t)
	topics := protocol.Topics{Prefix: "heimdall"}
	for _, id := range []string{"torino", "genova"} {
		p := playStation(t, w.BrokerURL(), id)
		p.wait(p.client.Publish(topics.State(id), 1, true, `{"state":"running"}`))
	}
	shows := func(want ...string) {
		t.Helper()
		out := ""
		eventually(t, strings.Join(want, ", "), func() bool {
			out, _, _ = runCommand(t, "station", "list", "--url", w.remote.URL)
			return !slices.ContainsFunc(want, func(line string) bool { return !strings.Contains(out, line) })
		})
		if strings.Contains(out, "its connection was lost") {
			t.Errorf("the list is\n%s", out)
		}
	}
	shows("genova   online ", "torino   online ")
	var retained sync.Map // topics that are not empty
	other := playStation(t, w.BrokerURL(), "cuneo").client
	finish(t, other.Subscribe("heimdall/v1/torino/+", 1, func(_ mqtt.Client, m mqtt.Message) {
		if retained.Store(m.Topic(), true); len(m.Payload()) == 0 {
			retained.Delete(m.Topic())
		}
	}))
	held := func() (n int) {
		retained.Range(func(any, any) bool { n++; return true })
		return n
	}
	eventually(t, "status, info and state of torino", func() bool { return held() == 3 })
	if out, errs, code := runCommand(t, "station", "remove", "torino", "--url", w.remote.URL); code != 0 {
		t.Fatalf("remove: exit code %d\n%s%s", code, out, errs)
	}
	eventually(t, "nothing of torino is left at the broker", func() bool { return held() == 0 })
	for _, topic := range []string{topics.Status("genova"), topics.Info("genova"), topics.State("genova")} { // as heimdall-agent leave does
		finish(t, other.Publish(topic, 1, true, ""))
	}
	shows("torino   offline, removed ", "genova   offline, left ")
	if out, errs, code := runCommand(t, "station", "remove", "nosuch", "--url", w.remote.URL); code != 1 || !strings.Contains(errs, "heimdall-collector station list") {
		t.Errorf("remove nosuch: exit code %d\n%s%s", code, out, errs)
	}
}
