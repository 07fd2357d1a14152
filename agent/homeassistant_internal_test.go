package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/google/go-cmp/cmp"

	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

// rendered is what templates make of a payload, by the engine of Home Assistant.
func rendered(t *testing.T, payload string, templates map[string]string) map[string]string {
	t.Helper()
	asked, err := json.Marshal(map[string]any{"payload": payload, "templates": templates})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "python3", filepath.Join("testdata", "render.py"))
	cmd.Stdin = bytes.NewReader(asked)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("python3 with jinja2, which packaging/servers/install.sh installs: %v\n%s", err, said.String())
	}
	var all map[string]string
	if err := json.Unmarshal(out, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// described is a station's device, with its templates.
func described(t *testing.T, payload []byte) (device, map[string]string) {
	t.Helper()
	var d device
	if err := json.Unmarshal(payload, &d); err != nil {
		t.Fatalf("%s: %v", payload, err)
	}
	templates := map[string]string{}
	for key, c := range d.Components {
		templates[key] = c.Template
	}
	return d, templates
}

// Every template gives the number that a state holds, and none where it holds none.
func TestDiscovery_Templates(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Station.ID = "torino"
	cfg.Receivers = []ReceiverConfig{{ID: "r0", Name: "VHF"}, {ID: "r-1", Plan: []StepConfig{{Name: "2m"}, {Name: "70-cm"}}}}
	payload, err := discovery(cfg, "1.2.3", 3*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	d, templates := described(t, payload)
	state := protocol.State{
		Time: "2026-11-24T02:00:00.000000000Z", State: "degraded", Reason: "it's cold", Since: "2026-11-24T01:00:00.000000000Z",
		TimeQuality: "ntp", TimeUncertaintyS: 0.0018, Backlog: 117, BacklogAgeS: 12.5, SpoolUsedRatio: 0.1234, TemperatureC: new(41.5),
		Receivers: map[string]protocol.ReceiverState{
			"r0": {Connected: true, LostSamplesTotal: 42, HistoryS: 8.7, Steps: map[string]protocol.StepState{
				"all": {PowerDBFS: new(-21.98), NoiseFloorDBFSHz: new(-95.1), SNRDB: new(18.4), DetectionsTotal: 3},
			}},
			"r-1": {Steps: map[string]protocol.StepState{"2m": {PowerDBFS: new(0.0)}}},
		},
	}
	text, err := json.Marshal(state)
	if err != nil {
		t.Fatal(err)
	}
	station := map[string]string{
		"state": "degraded", "problem": "ON", "time-uncertainty": "0.0018", "backlog": "117", "backlog-age": "12.5", "spool": "12.34", "temperature": "41.5",
	}
	want := map[string]string{
		"r0-connected": "ON", "r0-lost": "42", "r0-history": "8.7",
		"r0-all-level": "-21.98", "r0-all-floor": "-95.1", "r0-all-snr": "18.4", "r0-all-detections": "3",
		"r-1-connected": "OFF", "r-1-lost": "0", "r-1-history": "0",
		"r-1-2m-level": "0", "r-1-2m-floor": "None", "r-1-2m-snr": "None", "r-1-2m-detections": "0",
		"r-1-70-cm-level": "None", "r-1-70-cm-floor": "None", "r-1-70-cm-snr": "None", "r-1-70-cm-detections": "None",
	}
	for key, value := range station {
		want[key] = value
	}
	if diff := cmp.Diff(want, rendered(t, string(text), templates)); diff != "" {
		t.Errorf("of a state (-want +got):\n%s", diff)
	}
	for key, value := range rendered(t, "{}", templates) {
		if value != "None" {
			t.Errorf("%s: %q of a state that says nothing", key, value)
		}
	}
	for payload, want := range map[string]string{"online": "online", "offline": "offline", "": "offline", "x": "offline"} {
		if got := rendered(t, payload, map[string]string{"a": d.AvailabilityTemplate})["a"]; got != want {
			t.Errorf("status %q: available as %q, want %q", payload, got, want)
		}
	}
	seen := map[string]bool{}
	for key, c := range d.Components {
		if seen[c.UniqueID] || !strings.HasPrefix(c.UniqueID, "heimdall-torino-") || c.ExpireAfter != 180 || c.Name == "" {
			t.Errorf("%s: %+v", key, c)
		}
		seen[c.UniqueID] = true
	}
	if d.StateTopic != "heimdall/v1/torino/state" || d.Availability != "heimdall/v1/torino/status" || d.Origin["name"] != "heimdall-agent" {
		t.Errorf("%+v", d)
	}
}

// On a real broker: the device appears, and goes when it is switched off or the station leaves.
func TestDiscovery_AtTheBroker(t *testing.T) {
	broker := servers.Mosquitto(t)
	const topic = "homeassistant/device/heimdall-torino/config"
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + strings.TrimPrefix(broker.URL, "mqtt://")).SetClientID("homeassistant"))
	settle := func(token mqtt.Token) {
		t.Helper()
		if !token.WaitTimeout(10*time.Second) || token.Error() != nil {
			t.Fatal(token.Error())
		}
	}
	settle(client.Connect())
	t.Cleanup(func() { client.Disconnect(0) })
	seen := make(chan []byte, 100) // far more than come
	settle(client.Subscribe(topic, 1, func(_ mqtt.Client, m mqtt.Message) { seen <- m.Payload() }))
	next := func(what string) []byte {
		t.Helper()
		select {
		case payload := <-seen:
			return payload
		case <-time.After(20 * time.Second):
			t.Fatalf("nothing is published %s", what)
			return nil
		}
	}
	enabled := "mqtt: {url: \"" + broker.URL + "\", homeassistant: {enabled: true}}"
	here := newSite(t, enabled)
	a, stop := here.start(t)
	here.hears(t)
	d, templates := described(t, next("at first"))
	if d.Device["sw"] != "test" || d.Device["name"] != "Heimdall Torino" {
		t.Errorf("%+v", d.Device)
	}
	text, err := encodeState(a.state(a.condition()))
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range rendered(t, string(text), templates) {
		if value == "None" && key != "temperature" {
			t.Errorf("%s is unknown of the state that the agent sends: %s", key, text)
		}
	}
	eventually(t, "the agent remembers where it is", func() error {
		_, err := os.Stat(discoveryMark(here.load(t)))
		return err
	})
	stop()

	config, err := os.ReadFile(here.config)
	if err != nil {
		t.Fatal(err)
	}
	write(t, here.config, strings.Replace(string(config), "enabled: true", "enabled: false", 1))
	_, stop = here.start(t)
	if payload := next("when it is switched off"); len(payload) > 0 {
		t.Errorf("switched off, and published: %s", payload)
	}
	eventually(t, "the agent forgets where it was", func() error {
		if described := describedAt(here.load(t)); described != "" {
			return fmt.Errorf("at %s", described)
		}
		return nil
	})
	stop()

	write(t, here.config, string(config))
	_, stop = here.start(t)
	next("when it is switched on")
	stop()
	said, err := output(t, LeaveCmd{configFlag{here.config}})
	if err != nil || !strings.Contains(said, "emptied "+topic) {
		t.Errorf("leave: %q, %v", said, err)
	}
	if payload := next("by leave"); len(payload) > 0 {
		t.Errorf("left, and published: %s", payload)
	}
}
