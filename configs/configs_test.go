package configs_test

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fulgidus/heimdall/configs"
)

type station struct {
	ID       string   `yaml:"id"`
	Position *point   `yaml:"position"`
	Tags     []string `yaml:"tags"`
}

type point struct {
	Lat float64 `yaml:"lat"`
	Lon float64 `yaml:"lon"`
}

type example struct {
	Station station          `yaml:"station"`
	Center  configs.Hertz    `yaml:"center"`
	Dwell   configs.Duration `yaml:"dwell"`
	Limit   configs.Bytes    `yaml:"limit"`
	Count   int              `yaml:"count"`
	Bits    uint8            `yaml:"bits"`
	On      bool             `yaml:"on"`
	Steps   map[string]point `yaml:"steps"`
	Key     configs.Secret   `yaml:"key"`
}

func (e *example) Check(report func(field, message string)) {
	if e.Station.ID == "" {
		report("station.id", "give the station an id")
	}
	if e.Count < 0 {
		report("count", "want at least 0")
	}
	if e.Station.Position != nil && e.Station.Position.Lat > 90 {
		report("station.position.lat", "want -90 to 90")
	}
}

func TestDecode_EveryKind(t *testing.T) {
	got := example{Count: 7}
	err := configs.Decode("x.yaml", []byte(`
# a comment
station: {id: torino, position: {lat: 45.044, lon: 7.672}, tags: [a, "b"]}
center: 145.5M
dwell: 250ms
limit: 64MiB
bits: 0x10
on: true
key: hush
steps:
  vhf: {lat: 1}
`), &got)
	if err != nil {
		t.Fatal(err)
	}
	want := example{
		Station: station{ID: "torino", Position: &point{Lat: 45.044, Lon: 7.672}, Tags: []string{"a", "b"}},
		Center:  145.5e6, Dwell: configs.Duration(250 * time.Millisecond), Limit: 64 << 20, Count: 7, Bits: 16, On: true,
		Steps: map[string]point{"vhf": {Lat: 1}}, Key: "hush",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("decoded (-want +got):\n%s", diff)
	}
	if got.Key.String() != "***" {
		t.Errorf("a secret prints as %q", got.Key.String())
	}
}

func TestDecode_AllFaultsAtOnce(t *testing.T) {
	var e example
	err := configs.Decode("agent.yaml", []byte(`station:
  idd: torino
  position: {lat: 95, lon: x}
  position: {lat: 1}
center: 145.5Q
dwell: soon
count: -3
bits: 300
on: maybe
limit: [1]
steps: 4
colour: red
key: &a hush
`), &e)
	var faults configs.Faults
	if !errors.As(err, &faults) {
		t.Fatalf("got %v, want Faults", err)
	}
	want := []string{
		`agent.yaml:2:3: station.idd: unknown key; did you mean id?`,
		`agent.yaml:2:3: station.id: give the station an id`,
		`agent.yaml:3:19: station.position.lat: "95": want -90 to 90`,
		`agent.yaml:3:28: station.position.lon: "x": want a number`,
		`agent.yaml:4:3: station.position: "position": this key was already set in line 3; keep one`,
		`agent.yaml:5:9: center: "145.5Q": "145.5Q" is no frequency; write it like 145.5M, 12.5k or 77500`,
		`agent.yaml:6:8: dwell: "soon": "soon" is no duration; write it like 10s, 250ms, 1h30m or 30d`,
		`agent.yaml:7:8: count: "-3": want at least 0`,
		`agent.yaml:8:7: bits: "300": want a whole number that is not negative`,
		`agent.yaml:9:5: on: "maybe": want true or false`,
		`agent.yaml:10:8: limit: want one value, not a list or a mapping`,
		`agent.yaml:11:8: steps: "4": want a mapping of names to values`,
		`agent.yaml:12:1: colour: unknown key; known here: station, center, dwell, limit, count, bits, on, steps, key`,
		`agent.yaml:13:6: key: "&": anchors, aliases and tags are not used here; write the value itself`,
	}
	if diff := cmp.Diff(want, strings.Split(err.Error(), "\n")); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
}

// Who writes YAML by hand is told where its form is wrong and how it is written, and nothing of what stands there.
func TestDecode_ExplainsIndentation(t *testing.T) {
	const tab, rule = "there is a tab: indentation is by spaces", "indentation is by spaces, and the keys of one block stand in one column"
	for text, want := range map[string]string{
		"station:\n\tid: hush\n":               "a.yaml:2:1: " + tab,
		"station:\n  id: hush\n \ttags: [x]\n": "a.yaml:3:2: " + tab,
		"station:\n  id: hush\n   tags: [x]\n": "a.yaml:2:7: this line, or the one below it, ",
		"station:\n  id: hush\n tags: [x]\n":   "a.yaml:3:2: this line, or the one below it, ",
		" count: 1\nkey: hush\n":               "a.yaml:2:1: this line, or the one below it, ",
		"key: hush\n  count: 1\n":              rule,
		"key: hu: sh\n":                        "a value with a colon and a space in it is written in quotes",
		"count: 1\nkey hush\n":                 "a.yaml:2:1: this line, or the one below it, ",
		"station:\n  id:hush\n":                "a.yaml:2:3: station: want a mapping with the keys id, position, tags, each with a colon and a space",
		"key: |hush\ncount: 1\n":               "a.yaml:1:6: after | or > the line ends",
		"key: \"hush\\q\"\n":                   "a.yaml:1:12: found unknown escape character",
		"key: \"hush\n":                        "a.yaml:1:6: could not find end character of double-quoted text",
		"station: {id: hush\n":                 "a.yaml:1:10: could not find flow mapping end token",
	} {
		err := configs.Decode("a.yaml", []byte(text), new(example))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// What is shown of a fault may be pasted anywhere.
func TestDecode_KeepsSecrets(t *testing.T) {
	for text, want := range map[string]string{
		"mqtt://torino:hush@host":           "mqtt://***@host",
		"postgres://torino:hu/sh@host/db":   "postgres://***@host/db",
		"mqtts://host:8883":                 "mqtts://host:8883",
		"file:///a?anchor=2017-11-27@2026":  "file:///a?anchor=2017-11-27@2026",
		"sim:scene.yaml?station=torino@x":   "sim:scene.yaml?station=torino@x",
		"s3://key:hush@bucket?endpoint=a@b": "s3://***@b",
	} {
		var faults configs.Faults
		if err := configs.Decode("x.yaml", []byte("station: {id: a}\ncount: "+text+"\n"), &example{}); !errors.As(err, &faults) || faults[0].Value != want {
			t.Errorf("%s: %v, want it shown as %s", text, err, want)
		}
	}
	var faults configs.Faults
	if err := configs.Decode("x.yaml", []byte("key: hush\n"), &picky{}); !errors.As(err, &faults) || faults[0].Value != "***" {
		t.Errorf("%v, want the secret as stars", err)
	}
	for text, want := range map[string]string{"torino:hush@host": "***@host", "torino:hu@sh@host:1883": "***@host:1883", "host:1883": "host:1883"} {
		if err := configs.Decode("x.yaml", []byte("url: "+text+"\n"), &picky{}); !errors.As(err, &faults) || faults[0].Value != want {
			t.Errorf("%s: %v, want it shown as %s", text, err, want)
		}
	}
}

// picky refuses whatever secret and address it is given.
type picky struct {
	Key configs.Secret `yaml:"key"`
	URL string         `yaml:"url"`
}

func (p *picky) Check(report func(field, message string)) {
	if p.Key != "" {
		report("key", "want another")
	}
	if p.URL != "" {
		report("url", "want another")
	}
}

// A file that is something else may be a key or a list of passwords: nothing of it is repeated.
func TestDecode_RepeatsNothingOfAnotherFile(t *testing.T) {
	for name, text := range map[string]string{
		"a private key":       "-----BEGIN PRIVATE KEY-----\nc4naryMIGHAgEAMBMGByqGSM49\n-----END PRIVATE KEY-----\n",
		"a list of passwords": "root:c4nary:20228:0:99999:7:::\ndaemon:*:20228:0:99999:7:::\n",
		"another's settings":  "password: c4nary\nlisten: 1\n",
	} {
		err := configs.Decode("x.yaml", []byte(text), &example{})
		if err == nil || !strings.Contains(err.Error(), "want a mapping with the keys station") || strings.Contains(err.Error(), "c4nary") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	err := configs.Decode("x.yaml", []byte("count: "+strings.Repeat("x", 1000)), &example{})
	if err == nil || len(err.Error()) > 300 {
		t.Errorf("a long value: got %v", err)
	}
}

func TestDecode_Syntax(t *testing.T) {
	for text, want := range map[string]string{
		"station: {id: torino\n":       "x.yaml:1:",
		"station: {id: a}\n---\nb: 1":  "second document",
		"- 1\n- 2":                     "want a mapping with the keys station",
		"center: [1, 2":                "x.yaml:1:",
		"station: \"unfinished string": "x.yaml:1:",
	} {
		err := configs.Decode("x.yaml", []byte(text), &example{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want an error with %q", text, err, want)
		}
	}
	if err := configs.Decode("x.yaml", []byte("# nothing\n"), &struct{}{}); err != nil {
		t.Errorf("a file of comments: %v", err)
	}
}

func TestRead_SecretFromFile(t *testing.T) {
	dir := t.TempDir()
	secret, file := filepath.Join(dir, "pw"), filepath.Join(dir, "c.yaml")
	if err := os.WriteFile(secret, []byte("hush\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("station: {id: a}\nkey: file:"+secret), 0o600); err != nil {
		t.Fatal(err)
	}
	var e example
	if err := configs.Read(file, &e); err != nil || e.Key != "hush" {
		t.Errorf("got %q, %v", string(e.Key), err)
	}
	if err := configs.Decode("c", []byte("station: {id: a}\nkey: file:/nowhere/at/all"), &e); err == nil {
		t.Error("a secret's missing file was accepted")
	}
	if err := configs.Read(filepath.Join(dir, "none"), &e); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want not exist", err)
	}
}

func TestQuantities(t *testing.T) {
	for text, want := range map[string]float64{
		"145.5M": 145.5e6, "12.5k": 12500, "77500": 77500, "2.4 MHz": 2.4e6, "1.0905G": 1.0905e9, "77.5kHz": 77500, "-100": -100, "433.92M": 433920000,
	} {
		var h configs.Hertz
		if err := h.UnmarshalText([]byte(text)); err != nil || float64(h) != want {
			t.Errorf("Hertz %q: got %v, %v; want %v", text, float64(h), err, want)
		}
	}
	for text, want := range map[string]time.Duration{
		"10s": 10 * time.Second, "250ms": 250 * time.Millisecond, "1.5": 1500 * time.Millisecond, "30d": 720 * time.Hour, "1y": 8760 * time.Hour, "10 s": 10 * time.Second, "2w": 336 * time.Hour,
	} {
		var d configs.Duration
		if err := d.UnmarshalText([]byte(text)); err != nil || time.Duration(d) != want {
			t.Errorf("Duration %q: got %v, %v; want %v", text, d, err, want)
		}
	}
	for text, want := range map[string]int64{"64MiB": 64 << 20, "2GiB": 2 << 30, "500kB": 500000, "7": 7, "1 TiB": 1 << 40, "1PiB": 1 << 50} {
		var b configs.Bytes
		if err := b.UnmarshalText([]byte(text)); err != nil || int64(b) != want {
			t.Errorf("Bytes %q: got %v, %v; want %v", text, int64(b), err, want)
		}
	}
	for _, text := range []string{"", "M", "NaN", "1e400", "five", "--1"} {
		if new(configs.Hertz).UnmarshalText([]byte(text)) == nil || new(configs.Duration).UnmarshalText([]byte(text)) == nil || new(configs.Bytes).UnmarshalText([]byte(text)) == nil {
			t.Errorf("%q was accepted", text)
		}
	}
	for _, text := range []string{"900000d", "-900000d", "9000000h", "9999999999999m", "99999999999999s", "293y"} {
		if err := new(configs.Duration).UnmarshalText([]byte(text)); !errors.Is(err, configs.ErrTooLong) {
			t.Errorf("%q: got %v, want %v", text, err, configs.ErrTooLong)
		}
	}
	for want, got := range map[string]string{
		"12.001145 kHz": configs.Hertz(12001.144970001233).String(), "77.50029 kHz": configs.Hertz(77500.28999999999).String(),
		"12.001145001 MHz": configs.Hertz(12001145.001).String(), "1e+30 Hz": configs.Hertz(1e30).String(), "100 Hz": configs.Hertz(100).String(), "0 Hz": configs.Hertz(0).String(),
		"145.5 MHz": configs.Hertz(145.5e6).String(), "12.5 kHz": configs.Hertz(12500).String(), "50 Hz": configs.Hertz(50).String(),
		"64 MiB": configs.Bytes(64 << 20).String(), "1.5 GiB": configs.Bytes(3 << 29).String(), "12 B": configs.Bytes(12).String(), "10s": configs.Duration(10 * time.Second).String(),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("station: {id: torino, position: {lat: 45.044, lon: 7.672}}\ncenter: 145.5M\nsteps:\n  a: {lat: 1}\n"))
	f.Add([]byte("a: &x [*x]\n? b\n: c\n--- \n"))
	f.Add([]byte("station: |\n  x\nkey: !!str 5\n<<: 4"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var e example
		if err := configs.Decode("x", data, &e); err != nil && err.Error() == "" {
			t.Error("an error without words")
		}
	})
}

// FuzzQuantities reads any text as each quantity: what is read is finite, and what it prints reads as nearly the same.
func FuzzQuantities(f *testing.F) {
	for _, s := range []string{"145.5M", "12.5 kHz", "1e308G", "-7", "10s", "1h30m", "30d", "0.5y", "9223372036854775807ns", "64MiB", "1.5 GiB", "8E6TB", "1e-320"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var hz, hzAgain configs.Hertz
		if hz.UnmarshalText([]byte(s)) == nil {
			if math.IsInf(float64(hz), 0) || math.IsNaN(float64(hz)) {
				t.Errorf("%q became %v Hz", s, float64(hz))
			}
			if err := hzAgain.UnmarshalText([]byte(hz.String())); err != nil || math.Abs(float64(hzAgain-hz)) > math.Max(1e-3, 1e-12*math.Abs(float64(hz))) {
				t.Errorf("%q prints as %q, which reads as %v, %v", s, hz, float64(hzAgain), err)
			}
		}
		var d, dAgain configs.Duration
		if d.UnmarshalText([]byte(s)) == nil {
			if negative := strings.Contains(s, "-"); d < 0 && !negative || d > 0 && negative && !strings.ContainsAny(s, "eE") {
				t.Errorf("%q became %v: it wrapped", s, d)
			}
			if err := dAgain.UnmarshalText([]byte(d.String())); err != nil || dAgain != d {
				t.Errorf("%q prints as %q, which reads as %v, %v", s, d, dAgain, err)
			}
		}
		var b, bAgain configs.Bytes
		if b.UnmarshalText([]byte(s)) == nil {
			if b < 0 {
				t.Errorf("%q became %d bytes", s, int64(b))
			}
			if err := bAgain.UnmarshalText([]byte(b.String())); err != nil {
				t.Errorf("%q prints as %q, which does not read: %v", s, b, err)
			}
		}
	})
}
