package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/fulgidus/heimdall/agent/discover"
	"github.com/fulgidus/heimdall/packaging/answers"
	"github.com/fulgidus/heimdall/packaging/servers"
)

// typed is an interview whose answers are typed already.
func typed(lines string, out *bytes.Buffer) *interview {
	return &interview{in: answers.New(strings.NewReader(lines)), out: out, scan: func() []discover.Found { return nil }}
}

// Five questions make a configuration that runs; an answer that is wrong is asked for again.
func TestSetup_Transcript(t *testing.T) {
	broker := servers.Mosquitto(t)
	sky := skyOf(t)
	path := filepath.Join(t.TempDir(), "heimdall", "agent.yaml")
	var out bytes.Buffer
	i := typed(strings.Join([]string{
		"rtltcp://127.0.0.1:1", "", // what does not answer, then what was found
		"somewhere", "45.03411, 7.29310 612m", "e",
		"Torino!", "hb9-dl1abc",
		"x", "b", "http://127.0.0.1", "-", broker.URL, "dl1abc", "se\"cret",
		"y", "",
	}, "\n"), &out)
	i.scan = func() []discover.Found { return []discover.Found{{Source: sky, What: "a sky\x1b[2J"}} }
	if err := i.station(t.Context(), "", path); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, want := range []string{
		"1/5 Receiver   [" + sky + "]", "simulated receiver torino: 240 ksps for 3s, 0 samples lost",
		`"somewhere": want a locator`, "shown to others as: (e)xact, (1)0 km, (h)idden? [1]", "3/5 Name       station id",
		`"x": want c, b or n`, "mqtt.url: want mqtt://host:1883", "no collector is there", "5/5 May the network order recordings of IQ here? [y/N]",
		"Wrote " + path + ". It listens to 240 ksps around 145.52 MHz", "Spool holds about ", "History reaches back 2 min.\nThis plan sends about ",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "cret") || strings.Contains(out.String(), "\x1b") {
		t.Errorf("a password or a stranger's control characters are shown:\n%s", out.String())
	}
	cfg, err := LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	p := cfg.Station.Position
	if cfg.Station.ID != "hb9-dl1abc" || p.Lat != 45.03411 || p.Lon != 7.2931 || *p.HeightM != 612 || p.Publish != "exact" {
		t.Errorf("station %+v at %+v", cfg.Station, p)
	}
	if cfg.MQTT.URL != broker.URL || cfg.MQTT.Username != "dl1abc" || cfg.MQTT.Password != `se"cret` || cfg.MQTT.Format != "json" || cfg.Delivery.Ack != "broker" {
		t.Errorf("broker %+v, %+v", cfg.MQTT, cfg.Delivery)
	}
	if cfg.Receivers[0].Source != sky || !cfg.Control.allows("capture") || cfg.Control.allows("tune") {
		t.Errorf("receiver %+v, control %+v", cfg.Receivers[0], cfg.Control)
	}
	if mode := modeOf(t, path); mode != 0o640 {
		t.Errorf("the configuration has mode %o, want 640", mode)
	}
	if err := typed("", &out).station(t.Context(), sky, path); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("a second time: %v", err)
	}
}

// Without a code, or with a broker that is away, there is a way back to the choice; an address that was typed is proposed again.
func TestSetup_ChoiceIsTakenBack(t *testing.T) {
	var out bytes.Buffer
	_, broker, err := typed("hut\nc\nnonsense\n\nb\nmqtt://127.0.0.1:9\n-\nn\nn\n", &out).network(t.Context())
	if err != nil || broker != "" || strings.Count(out.String(), "4/5 Send to") != 3 || !strings.Contains(out.String(), "n for another choice: [mqtt://127.0.0.1:9]") {
		t.Errorf("%q, %v\n%s", broker, err, out.String())
	}
}

// The place that a receiver says is taken unless another one is typed, or - for none. A question that cannot be read ends it all.
func TestSetup_PlaceOfTheReceiver(t *testing.T) {
	for typing, want := range map[string]string{"\n\n": "lat: 47.1702", "-\n": "", "45.5 7.25\nh\n": "lat: 45.5", "somewhere\n-\n": ""} {
		text, err := typed(typing, new(bytes.Buffer)).place(t.Context(), "47.1702, 8.5310")
		if err != nil || !strings.Contains(text, want) || want == "" && text != "" {
			t.Errorf("%q: %q, %v, want %q", typing, text, err, want)
		}
	}
	hungUp := errors.New("hung up")
	i := &interview{in: answers.New(iotest.ErrReader(hungUp)), out: new(bytes.Buffer)}
	if _, err := i.place(t.Context(), ""); !errors.Is(err, hungUp) {
		t.Errorf("where nothing can be read: %v", err)
	}
}

// What the started agent has come to is told: the first acknowledgement, where there is somebody to give one.
func TestSetup_SaysWhenItRuns(t *testing.T) {
	t.Parallel()
	broker, other := servers.Mosquitto(t), servers.Mosquitto(t) // two agents of one station push each other out
	for name, tc := range map[string]struct{ more, says string }{
		"acknowledged by the broker": {"mqtt: {url: " + broker.URL + "}\ndelivery: {ack: broker}\n", `^running: first record acknowledged after \d+\.\d s$`},
		"no collector is there":      {"mqtt: {url: " + other.URL + "}\n", `^running, but no record is acknowledged yet: mqtt://.* no collector is online: records are kept here$`},
		"without a broker":           {"", `^running: what is heard is kept here, for want of a broker \(mqtt.url\)$`},
		"it does not run":            {"", `^started, but it does not answer yet$`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, tc.more)
			i := typed("", new(bytes.Buffer))
			i.config = s.load(t)
			if name != "it does not run" {
				s.start(t)
				s.hears(t)
			}
			if said := i.running(t.Context(), 4*time.Second); !regexp.MustCompile(tc.says).MatchString(said) {
				t.Errorf("%q, want %s", said, tc.says)
			}
		})
	}
}

// With --yes nothing is asked: a station that keeps what it hears, at a place that nobody knows, taking no orders.
func TestSetup_Yes(t *testing.T) {
	sky := skyOf(t)
	path := filepath.Join(t.TempDir(), "agent.yaml")
	var out bytes.Buffer
	i := typed("", &out)
	i.yes = true
	if err := i.station(t.Context(), sky, path); err != nil {
		t.Fatal(err)
	}
	cfg, err := LoadConfig(path)
	if err != nil || cfg.Station.ID != stationID() || cfg.Station.Position != nil || cfg.MQTT.URL != "" || len(cfg.Control.Allow) > 0 {
		t.Errorf("%+v, %v", cfg, err)
	}

	nothing := typed("", &out)
	nothing.yes = true
	if err := nothing.station(t.Context(), "", filepath.Join(t.TempDir(), "agent.yaml")); err == nil || !strings.Contains(err.Error(), "name a source") {
		t.Errorf("without a receiver: %v", err)
	}
	if err := typed("", &out).station(t.Context(), sky, filepath.Join(t.TempDir(), "agent.yaml")); !errors.Is(err, answers.ErrNone) {
		t.Errorf("without answers: %v", err)
	}
}

func TestParsePlace(t *testing.T) {
	for text, want := range map[string][3]float64{ // latitude, longitude, uncertainty in km
		"45.03411 7.29310":  {45.03411, 7.2931, 0},
		"-45.5,-7.25,  12m": {-45.5, -7.25, 0},
		"JN35ua":            {45.020833, 7.708333, 4.012},
		"jn35":              {45.5, 7, 95.742},
		"JN35UA12":          {45.010417, 7.679167, 0.401},
	} {
		p, err := parsePlace(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		km := 0.0
		if p.UncertaintyM != nil {
			km = *p.UncertaintyM / 1e3
		}
		if abs(p.Lat-want[0]) > 1e-5 || abs(p.Lon-want[1]) > 1e-5 || abs(km-want[2]) > 0.01*want[2] {
			t.Errorf("%q: %g %g ±%g km, want %v", text, p.Lat, p.Lon, km, want)
		}
	}
	for _, text := range []string{"x", "1 2 3 4", "91 7", "45 abc", "JN35u", "ZZ00", "0 0", "JN35ü", "NaN 7", "45 7 Infm"} {
		if _, err := parsePlace(text); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
	if p, err := parsePlace(" "); p != nil || err != nil {
		t.Errorf("nothing gives %v, %v", p, err)
	}
}

func FuzzParsePlace(f *testing.F) {
	for _, text := range []string{"45.03411 7.29310 612m", "JN35ua12", "", "NaN NaN", "1e308 Inf"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parsePlace(text)
		if err == nil && p != nil && !(p.Lat >= -90 && p.Lat <= 90 && p.Lon >= -180 && p.Lon <= 180) {
			t.Errorf("%q became %+v", text, p)
		}
	})
}

func abs(v float64) float64 { return max(v, -v) }

// A configuration that cannot be written, or is none, leaves nothing behind.
func TestWriteConfig_Refuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.yaml")
	if _, err := writeConfig(path, "station: {id: X}\n"); err == nil {
		t.Error("a faulty one was written")
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is there: %v", err)
	}
}
