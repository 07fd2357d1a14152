package main

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fulgidus/heimdall/agent/recorder"
	"github.com/fulgidus/heimdall/configs"
)

func TestLoadConfig_ShippedExampleNamesEveryKey(t *testing.T) {
	path := filepath.Join("..", "configs", "agent.yaml")
	cfg, err := LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keysOf(reflect.TypeFor[Config]()) {
		if !strings.Contains(string(text), key+":") {
			t.Errorf("the example does not show the key %s", key)
		}
	}
	// What the example calls a default is one.
	want := DefaultConfig()
	if diff := cmp.Diff(want.Delivery, cfg.Delivery); diff != "" {
		t.Errorf("delivery (-default +example):\n%s", diff)
	}
	var bare ReceiverConfig
	bare.setDefaults()
	got := cfg.Receivers[0]
	got.ID, got.Name, got.Source, got.Antenna, got.Plan = "", "", "", "", nil
	if diff := cmp.Diff(bare, got); diff != "" {
		t.Errorf("receiver (-default +example):\n%s", diff)
	}
}

// The shipped example can be tried as it is, from the root of the repository.
func TestConfig_ShippedExampleHasASource(t *testing.T) {
	t.Chdir("..")
	cfg, err := LoadConfig(filepath.Join("configs", "agent.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := cfg.examine(t.Context()); err != nil {
		t.Error(err)
	}
}

// keysOf lists the keys of a configuration and of all that it holds.
func keysOf(typ reflect.Type) []string {
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct {
		return nil
	}
	var keys []string
	for i := range typ.NumField() {
		if key := typ.Field(i).Tag.Get("yaml"); key != "" {
			keys = append(append(keys, key), keysOf(typ.Field(i).Type)...)
		}
	}
	return keys
}

const goodConfig = `station: {id: torino}
receivers:
  - {id: r0, source: "sim:scene.yaml?station=torino"}
spool: {path: /tmp/x}
`

// TestLoadConfig_Broken is thirty ways to write a configuration wrongly: each is told with its place, the key and the mend.
func TestLoadConfig_Broken(t *testing.T) {
	receiver := func(more string) string {
		return "station: {id: torino}\nreceivers: [{id: r0, source: \"sim:s.yaml?station=a\", " + more + "}]\n"
	}
	with := func(more string) string { return goodConfig + more }
	for name, c := range map[string]struct{ text, want string }{
		"empty":                {"", "station.id: want 2 to 32 of a-z"},
		"no station":           {"receivers: [{id: r0, source: \"sim:s?station=a\"}]", "station.id: "},
		"capital station":      {"station: {id: Torino}\nreceivers: [{id: r0, source: \"sim:s?station=a\"}]", `:1:15: station.id: "Torino"`},
		"reserved station":     {"station: {id: collector}\nreceivers: [{id: r0, source: \"sim:s?station=a\"}]", `:1:15: station.id: "collector"`},
		"no receivers":         {"station: {id: torino}", "receivers: list at least one, for instance {id: r0, source: file:"},
		"unknown key":          {with("colour: red"), ":5:1: colour: unknown key"},
		"misspelt key":         {with("delivry: {ack: broker}"), "did you mean delivery?"},
		"two of a key":         {with("station: {id: x2}"), "already set in line 1"},
		"tabs":                 {"station:\n\tid: x", ":2:"},
		"unclosed":             {"station: {id: x", ":1:"},
		"latitude":             {"station: {id: torino, position: {lat: 95, lon: 7}}\nreceivers: [{id: r0, source: \"sim:s?station=a\"}]", `station.position.lat: "95": want degrees`},
		"zero position":        {"station: {id: torino, position: {lat: 0, lon: 0}}\nreceivers: [{id: r0, source: \"sim:s?station=a\"}]", "Gulf of Guinea"},
		"publish":              {"station: {id: torino, position: {lat: 45, lon: 7, publish: city}}\nreceivers: [{id: r0, source: \"sim:s?station=a\"}]", `station.position.publish: "city": want exact, 10km or hidden`},
		"broker without port":  {with("mqtt: {url: broker}"), `mqtt.url: "broker": want mqtt://host:1883`},
		"password in the URL":  {with("mqtt: {url: \"mqtt://u:p@h\"}"), `mqtt.url: "mqtt://***@h": leave user and password out of the URL; use mqtt.username and mqtt.password`},
		"password, no scheme":  {with("mqtt: {url: \"u:p@h\"}"), `mqtt.url: "***@h": want mqtt://host:1883`},
		"password, a slash":    {with("mqtt: {url: \"mqtt://u:1/p@h\"}"), `mqtt.url: "mqtt://***@h": want mqtt://host:1883`},
		"password, a hash":     {with("mqtt: {url: \"mqtt://u:1#p@h\"}"), `mqtt.url: "mqtt://***@h": want mqtt://host:1883`},
		"wildcard prefix":      {with("mqtt: {prefix: \"a/#\"}"), "mqtt.prefix"},
		"wire format":          {with("mqtt: {format: xml}"), `mqtt.format: "xml": want protobuf or json`},
		"no bytes a day":       {with("delivery: {daily_bytes: 0}"), `delivery.daily_bytes: "0": want at least 1MiB, of which keep-alives take a part, or leave it out for no limit`},
		"keep":                 {with("delivery: {keep: 31d}"), `delivery.keep: "31d": want 0s to 30d`},
		"keep for ever":        {with("delivery: {keep: 900000d}"), `delivery.keep: "900000d": want 0s to 30d`},
		"keep what":            {with("delivery: {keep: long}"), `"long" is no duration`},
		"half a certificate":   {with("mqtt: {url: \"mqtts://h\", cert: a.pem}"), "needs both"},
		"missing secret":       {with("mqtt: {password: \"file:/nowhere/pw\"}"), "mqtt.password"},
		"receiver id":          {"station: {id: torino}\nreceivers: [{id: R 0, source: \"sim:s?station=a\"}]", `receivers[0].id: "R 0"`},
		"same receiver id":     {"station: {id: torino}\nreceivers:\n  - {id: a, source: \"sim:s?station=a\"}\n  - {id: a, source: \"sim:s?station=a\"}", ":4:10: receivers[1].id"},
		"unknown source":       {"station: {id: torino}\nreceivers: [{id: r0, source: \"gopher://x\"}]", "receivers[0].source"},
		"source parameter":     {"station: {id: torino}\nreceivers: [{id: r0, source: \"sim:s?station=a&rate=x\"}]", `x.yaml:2:30: receivers[0].source.rate: "x": want a number of Hz`},
		"second of a source":   {"station: {id: torino}\nreceivers: [{id: r0, source: \"sim:s?station=a&rate=x&colour=red\"}]", `x.yaml:2:30: receivers[0].source.colour: "red": unknown parameter`},
		"scheme":               {"station: {id: torino}\nreceivers: [{id: r0, source: \"ftp://x\"}]", `x.yaml:2:30: receivers[0].source: "ftp://x": unknown`},
		"ppm of a simulation":  {receiver("ppm: 17"), `receivers[0].ppm: "17": a source of this kind cannot correct it`},
		"endless merging":      {receiver("detect: {merge_gap: 1y}"), "receivers[0].detect.merge_gap: \"1y\": want 0s to 1m0s"},
		"endless minimum":      {receiver("detect: {min_duration: -1s}"), "receivers[0].detect.min_duration: \"-1s\": want 0s to 1m0s"},
		"endless hold":         {receiver("detect: {hold: 2d}"), "receivers[0].detect.hold: \"2d\": want 0s to 24h0m0s"},
		"no source":            {"station: {id: torino}\nreceivers: [{id: r0}]", "receivers[0].source"},
		"fft":                  {receiver("fft: 1000"), `receivers[0].fft: "1000": want a power of two`},
		"bins":                 {receiver("spectrum: {bins: 3}"), "receivers[0].spectrum.bins"},
		"history":              {receiver("history: 1KiB"), "want 1MiB to 64GiB"},
		"history size":         {receiver("history: 1EiB"), "\"1EiB\" is too large: want at most 1 PiB"},
		"history unit":         {receiver("history: lots"), "no amount of bytes"},
		"threshold":            {receiver("detect: {threshold: 99}"), "receivers[0].detect.threshold"},
		"gain":                 {receiver("gain: loud"), "receivers[0].gain"},
		"frequency":            {receiver("plan: [{name: a, center: 145.5X}]"), "write it like 145.5M"},
		"rate and bandwidth":   {receiver("plan: [{name: a, rate: 1M, bandwidth: 1M}]"), "give rate or bandwidth"},
		"nameless steps":       {receiver("plan: [{center: 1M}, {center: 2M}]"), "needs a name for each"},
		"dwell":                {receiver("plan: [{name: a, dwell: soon}]"), "no duration"},
		"measurement too fast": {receiver("measurement: {every: 1ms}"), "want at least 10ms"},
		"no rate":              {receiver("plan: [{rate: 0}]"), `:2:68: receivers[0].plan[0].rate: "0": want samples`},
		"spectrum before":      {receiver("spectrum: {every: -1s}"), `receivers[0].spectrum.every: "-1s": want 0s`},
		"measurement never":    {receiver("measurement: {every: 0s}"), `receivers[0].measurement.every: "0s": want a duration above 0`},
		"measurement too rare": {receiver("measurement: {every: 40d}"), `receivers[0].measurement.every: "40d": want at least 10ms and at most 1h`},
		"two calibrations":     {receiver("calibration: {offset_db: 0, table: [{frequency: 1M, offset_db: 1}]}"), "calibration.offset_db: \"0\": give offset_db or table"},
		"calibration point":    {receiver("calibration: {table: [{frequency: 1M}]}"), "calibration.table[0].offset_db: missing"},
		"no capture":           {with("control: {max_duration: 0s}"), `control.max_duration: "0s": want a duration above 0`},
		"endless time-out":     {with("delivery: {timeout: 30d}"), `delivery.timeout: "30d": want at least 1s and at most 1h`},
		"clock without unit":   {with("clock: {uncertainty: 5}"), `clock.uncertainty: "5": want a unit`},
		"CA without TLS":       {with("mqtt: {url: \"mqtt://h\", ca: ca.pem}"), `mqtt.ca: "ca.pem": is only used with TLS`},
		"no account":           {with("mqtt: {url: \"mqtt://h\", password: hush}"), ":5:8: mqtt.username: missing"},
		"empty secret":         {with("mqtt: {password: \"file:/dev/null\"}"), "/dev/null is empty"},
		"port":                 {with("mqtt: {url: \"mqtt://h:99999\"}"), `mqtt.url: "mqtt://h:99999": want a port`},
		"ack":                  {with("delivery: {ack: never}"), "want collector or broker"},
		"window":               {with("delivery: {window: 0}"), "want 1 to 10000"},
		"time-out":             {with("delivery: {timeout: 10ms}"), "want at least 1s"},
		"spool limit":          {"station: {id: torino}\nreceivers: [{id: r0, source: \"sim:s?station=a\"}]\nspool: {limit: 1kB}", "spool.limit: \"1kB\": want at least 1MiB; where the disk under spool.path"},
		"allow":                {with("control: {allow: [transmit]}"), "want capture or tune"},
		"band":                 {with("control: {frequencies: [145M]}"), "want a band like 144M-146M"},
		"hours":                {with("control: {hours: always}"), "want local times"},
		"clock":                {with("clock: {uncertainty: 0s}"), "clock.uncertainty"},
		"log level":            {with("log: {level: loud}"), "want debug, info, warn or error"},
		"a list for a mapping": {"- 1", "want a mapping"},
		"binary":               {"\x00\x01\x02", "x.yaml:"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.yaml")
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := LoadConfig(path)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v\nwant an error with %q", err, c.want)
			}
			if err != nil && !errors.As(err, new(configs.Faults)) {
				t.Errorf("got %T, want configs.Faults", err)
			}
		})
	}
}

func TestLoadConfig_Environment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.yaml")
	if err := os.WriteFile(path, []byte(goodConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HEIMDALL_AGENT_MQTT_PASSWORD", "hush")
	if _, err := LoadConfig(path); err == nil || !strings.Contains(err.Error(), "HEIMDALL_AGENT_MQTT_PASSWORD: mqtt.username is missing") {
		t.Errorf("a password without an account: %v", err)
	}
	t.Setenv("HEIMDALL_AGENT_MQTT_USERNAME", "torino")
	cfg, err := LoadConfig(path)
	if err != nil || cfg.MQTT.Password != "hush" || cfg.MQTT.Username != "torino" {
		t.Errorf("got %q, %q, %v", cfg.MQTT.Username, string(cfg.MQTT.Password), err)
	}
	t.Setenv("HEIMDALL_AGENT_MQTT_PASSWORD", "file:/nowhere")
	if _, err := LoadConfig(path); err == nil || !strings.Contains(err.Error(), "HEIMDALL_AGENT_MQTT_PASSWORD") {
		t.Errorf("got %v, want an error naming the variable", err)
	}
	t.Setenv("HEIMDALL_AGENT_CONFIG", "/from/env.yaml")
	if got, err := findConfig(""); got != "/from/env.yaml" || err != nil {
		t.Errorf("findConfig: %q, %v", got, err)
	}
	if got, _ := findConfig("flag.yaml"); got != "flag.yaml" {
		t.Errorf("findConfig: %q", got)
	}
}

func TestControlConfig_Judge(t *testing.T) {
	noon := time.Date(2026, 11, 24, 12, 0, 0, 0, time.Local)
	open := ControlConfig{Allow: []string{"capture"}}
	bounded := ControlConfig{Allow: []string{"capture"}, Hours: "08:00-22:30", MaxDuration: Interval(10 * time.Second)}
	for name, c := range map[string]struct {
		rules   ControlConfig
		order   string
		seconds float64
		at      time.Time
		want    string
	}{
		"to tune":           {open, "tune", 1, noon, "not_allowed"},
		"tune allowed":      {ControlConfig{Allow: []string{"capture", "tune"}}, "tune", 1, noon, ""},
		"nothing allowed":   {ControlConfig{}, "capture", 1, noon, "not_allowed"},
		"all allowed":       {open, "capture", 1e5, noon, ""},
		"inside":            {bounded, "capture", 10, noon, ""},
		"too long":          {bounded, "capture", 10.1, noon, "too_long"},
		"at night":          {bounded, "capture", 1, noon.Add(11 * time.Hour), "outside_hours"},
		"over midnight":     {ControlConfig{Allow: []string{"capture"}, Hours: "22:00-06:00"}, "capture", 1, noon.Add(11 * time.Hour), ""},
		"not over midnight": {ControlConfig{Allow: []string{"capture"}, Hours: "22:00-06:00"}, "capture", 1, noon, "outside_hours"},
	} {
		got := ""
		if no := c.rules.judge(c.order, c.seconds, c.at); no != nil {
			got = no.code
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestControlConfig_Permit(t *testing.T) {
	noon := time.Date(2026, 11, 24, 12, 0, 0, 0, time.Local)
	rules := ControlConfig{Frequencies: []Band{{144e6, 146e6}}, Deny: []Band{{145.8e6, 145.9e6}}}
	daily := ControlConfig{Hours: "08:00-22:30"}
	nightly := ControlConfig{Hours: "22:00-06:00"}
	const low, high = 145e6, 145.0125e6
	for name, c := range map[string]struct {
		rules     ControlConfig
		low, high float64
		from      time.Duration // from noon
		length    time.Duration
		want      string
	}{
		"no rules":         {ControlConfig{}, 1e6, 2e9, 0, 0, ""},
		"inside":           {rules, low, high, 0, 0, ""},
		"over the edge":    {rules, 145.99e6, 146.001e6, 0, 0, "frequency_not_allowed"},
		"all of it":        {rules, 143e6, 147e6, 0, 0, "frequency_not_allowed"},
		"denied":           {rules, 145.79e6, 145.801e6, 0, 0, "frequency_denied"},
		"touching it":      {rules, 145.7e6, 145.8e6, 0, 0, "frequency_denied"},
		"around it":        {rules, 145.7e6, 146e6, 0, 0, "frequency_denied"},
		"by day":           {daily, low, high, 0, time.Minute, ""},
		"to the last hour": {daily, low, high, 10 * time.Hour, 30 * time.Minute, ""},
		"beyond it":        {daily, low, high, 10 * time.Hour, 30*time.Minute + 1, outsideHours},
		"for the night":    {daily, low, high, 11 * time.Hour, time.Second, outsideHours},
		"of the night":     {daily, low, high, -11 * time.Hour, time.Second, outsideHours},
		"of the morning":   {daily, low, high, -4 * time.Hour, time.Second, ""},
		"just before":      {daily, low, high, -4*time.Hour - 1, time.Second, outsideHours},
		"over the night":   {daily, low, high, 9 * time.Hour, 20 * time.Hour, outsideHours},
		"a day":            {daily, low, high, 0, 24 * time.Hour, outsideHours},
		"all the night":    {nightly, low, high, 10 * time.Hour, 8 * time.Hour, ""},
		"and the morning":  {nightly, low, high, 10 * time.Hour, 8*time.Hour + 1, outsideHours},
	} {
		got, message := c.rules.permit(recorder.Reveals{LowHz: c.low, HighHz: c.high, From: noon.Add(c.from), To: noon.Add(c.from + c.length)})
		if got != c.want {
			t.Errorf("%s: got %q (%s), want %q", name, got, message, c.want)
		}
	}
	_, message := rules.permit(recorder.Reveals{LowHz: 145.79e6, HighHz: 145.801e6})
	if want := "145.79 MHz to 145.801 MHz"; !strings.Contains(message, want) {
		t.Errorf("%q does not say %q", message, want)
	}
}

func TestPublishedPosition_HidesInsideACell(t *testing.T) {
	height := 600.0
	exact := &PositionConfig{Lat: 45.03, Lon: 7.27, HeightM: &height, Publish: "exact"}
	if p := publishedPosition(exact); p.LatitudeDeg != 45.03 || p.LongitudeDeg != 7.27 || p.HeightM != 600 {
		t.Errorf("exact: %+v", p)
	}
	if publishedPosition(&PositionConfig{Publish: "hidden"}) != nil || publishedPosition(nil) != nil {
		t.Error("a hidden position is published")
	}
	a := publishedPosition(&PositionConfig{Lat: 45.03, Lon: 7.27, Publish: "10km"})
	b := publishedPosition(&PositionConfig{Lat: 45.031, Lon: 7.271, Publish: "10km"})
	if diff := cmp.Diff(a, b); diff != "" {
		t.Errorf("neighbours in one cell differ:\n%s", diff)
	}
	// The centre of a cell of 10 km is at most its half diagonal away: 7.1 km, 0.064 degrees of latitude.
	if a.LatitudeDeg == 45.03 || a.LatitudeDeg < 45.03-0.046 || a.LatitudeDeg > 45.03+0.046 {
		t.Errorf("latitude %g is exact or too far", a.LatitudeDeg)
	}
}
