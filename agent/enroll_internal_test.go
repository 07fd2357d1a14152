package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fulgidus/heimdall/agent/identity"
	"github.com/fulgidus/heimdall/packaging/answers"
	"github.com/fulgidus/heimdall/protocol"
)

func grantedTo(station string) (*identity.Granted, identity.Files) {
	g := &identity.Granted{Enrolment: protocol.Enrolment{Station: station, MQTT: protocol.EnrolmentMQTT{URL: "mqtts://collector.example.org:8883", Prefix: "heimdall"}}}
	return g, identity.Files{Station: "/var/lib/heimdall-agent/identity/station.pem", BrokerCA: "/var/lib/heimdall-agent/identity/broker-ca.pem"}
}

// What an enrolment sets is set; every other line stays as its owner wrote it.
func TestJoinConfig_KeepsTheRest(t *testing.T) {
	const head = "# my station\nstation: {id: torino, name: \"Mole\"} # do not touch\n"
	const tail = "receivers:\n  - id: r0\n    source: rtltcp://127.0.0.1:1234\n    # url: not this one\nlog: {level: warn}\n"
	g, files := grantedTo("torino")
	set := "mqtt:\n" + brokerLines(g, files)
	for name, c := range map[string]struct{ before, after string }{
		"no broker":  {head + tail, head + tail + set},
		"one before": {head + "mqtt:\n  url: mqtt://old:1883 # the old one\n  username: me\n  password: secret\n" + tail, head + set + tail},
		"with more":  {head + "mqtt:\n  # how\n  format: json\n  url: mqtt://old:1883\n\n" + tail, head + set + "  # how\n  format: json\n\n" + tail},
		"last":       {head + tail + "mqtt:\n  url: mqtt://old:1883", head + tail + set},
		"enrolled":   {head + set + tail, head + set + tail},
	} {
		path := filepath.Join(t.TempDir(), "agent.yaml")
		if err := os.WriteFile(path, []byte(c.before), 0o640); err != nil {
			t.Fatal(err)
		}
		if err := joinConfig(path, g, files); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != c.after {
			t.Errorf("%s: %v\n%s\nwant\n%s", name, err, got, c.after)
		}
		if mode := modeOf(t, path); mode != 0o640 {
			t.Errorf("%s: mode %o", name, mode)
		}
	}
}

// What cannot be changed with certainty is left as it is, with the lines to write by hand.
func TestJoinConfig_LeavesWhatItDoesNotUnderstand(t *testing.T) {
	const receiver = "receivers: [{id: r0, source: \"rtltcp://127.0.0.1:1234\"}]\n"
	g, files := grantedTo("torino")
	for name, text := range map[string]string{
		"one line":        "station: {id: torino}\nmqtt: {url: \"mqtt://old:1883\", format: json}\n" + receiver,
		"quoted":          "station: {id: torino}\n\"mqtt\":\n  url: mqtt://old:1883\n" + receiver,
		"four spaces":     "station: {id: torino}\nmqtt:\n    format: json\n    url: mqtt://old:1883\n" + receiver,
		"over lines":      "station: {id: torino}\nmqtt:\n  url:\n    mqtt://old:1883\n" + receiver,
		"another station": "station: {id: genova}\n" + receiver,
	} {
		path := filepath.Join(t.TempDir(), "agent.yaml")
		if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
		err := joinConfig(path, g, files)
		if err == nil || !strings.Contains(err.Error(), "url: \"mqtts://collector.example.org:8883\"") {
			t.Errorf("%s: %v", name, err)
		}
		if got, _ := os.ReadFile(path); string(got) != text {
			t.Errorf("%s: it was changed to\n%s", name, got)
		}
	}
}

// Where there is no configuration yet, one is begun; it says what is missing.
func TestJoinConfig_BeginsOne(t *testing.T) {
	g, files := grantedTo("torino")
	path := filepath.Join(t.TempDir(), "heimdall", "agent.yaml")
	if err := joinConfig(path, g, files); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadConfig(path); err == nil || !strings.Contains(err.Error(), "receivers") || strings.Count(err.Error(), "\n") > 0 {
		t.Errorf("all but a receiver should be there: %v", err)
	}
}

// What could not be kept or written is found before the collector is told of the code. Here nobody answers at its address.
func TestEnroll_RefusesBeforeTheCodeIsUsed(t *testing.T) {
	code := protocol.EnrolmentCode{Host: protocol.EnrolmentHost("127.0.0.1", "9"), Secret: [16]byte{9, 8, 7}}
	const receiver = "receivers: [{id: r0, source: \"rtltcp://127.0.0.1:1234\"}]\n"
	for name, c := range map[string]struct {
		config  string // empty: none
		prepare func(t *testing.T, config, state string)
		want    string
	}{
		"all is well":      {config: receiver, want: "reach the collector"},
		"one line":         {config: "mqtt: {url: \"mqtt://old:1883\", format: json}\n" + receiver, want: "agent.yaml: mqtt is written in one line: write it like this, with what else is to stay in it on lines of its own, and enrol then:\nmqtt:\n  format: json"},
		"no configuration": {want: "agent.yaml is not there: `heimdall-agent setup --config "},
		"config": {config: receiver, prepare: func(t *testing.T, config, _ string) {
			if err := os.Mkdir(config+".new", 0o700); err != nil {
				t.Fatal(err)
			}
		}, want: "write the configuration: "},
		"state": {config: receiver, prepare: func(t *testing.T, _, state string) {
			if err := os.WriteFile(state, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, want: "keep the identity in "},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file, config, state := filepath.Join(dir, "code"), filepath.Join(dir, "agent.yaml"), filepath.Join(dir, "state")
			if err := os.WriteFile(file, []byte(code.Reveal()), 0o600); err != nil {
				t.Fatal(err)
			}
			if c.config != "" {
				if err := os.WriteFile(config, fmt.Appendf(nil, "station: {id: torino}\nspool: {path: %q}\n%s", state, c.config), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if c.prepare != nil {
				c.prepare(t, config, state)
			}
			var said bytes.Buffer
			err := EnrollCmd{configFlag: configFlag{Config: config}, Code: file}.Run(t.Context(), streams{out: &said, err: &said})
			if err == nil || !strings.Contains(err.Error(), c.want) || said.Len() > 0 {
				t.Errorf("%v, said %q; want %s", err, said.String(), c.want)
			}
			if _, err := os.Stat(config); (err == nil) != (c.config != "") {
				t.Errorf("the configuration: %v", err)
			}
		})
	}
}

// What comes after an enrolment depends on whether an agent runs, and on whether its configuration is another one now.
func TestEnroll_SaysWhatIsNext(t *testing.T) {
	here := newSite(t, "mqtt:\n  url: mqtt://127.0.0.1:9\n")
	before := here.load(t)
	if said := nextOf(t.Context(), before, here.config); !strings.HasPrefix(said, "start the agent: ") || !strings.Contains(said, here.config) {
		t.Errorf("no agent runs: %s", said)
	}
	here.start(t)
	if said := nextOf(t.Context(), before, here.config); !strings.HasPrefix(said, "nothing: ") {
		t.Errorf("the same configuration: %s", said)
	}
	before.MQTT.URL = "mqtt://old:1883"
	if said := nextOf(t.Context(), before, here.config); !strings.HasPrefix(said, "restart the agent") {
		t.Errorf("another configuration: %s", said)
	}
}

func FuzzWithBroker(f *testing.F) {
	f.Add("station: {id: torino}\nmqtt:\n  url: mqtt://old:1883\nreceivers: [{id: r0, source: \"rtltcp://127.0.0.1:1234\"}]\n")
	f.Add("mqtt:\n  a: |\n    url: x\n")
	f.Add("mqtt:")
	g, files := grantedTo("torino")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := withBroker(text, brokerLines(g, files))
		if err == nil && !strings.Contains(got, "url: \"mqtts://collector.example.org:8883\"") {
			t.Errorf("%q became %q", text, got)
		}
	})
}

// A code comes from a file or from whoever types it, never from the command line; nothing that is said repeats it.
func TestReadCode(t *testing.T) {
	code := protocol.EnrolmentCode{Host: "collector.example.org", Secret: [16]byte{9, 8, 7}}
	secret := strings.Split(code.Reveal(), ".")[4]
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := file("good", code.Reveal()+"\n")
	var said bytes.Buffer
	for _, from := range []string{good, "-"} {
		got, err := readCode(t.Context(), from, answers.New(strings.NewReader(code.Reveal()+"\n")), &said)
		if err != nil || got != code {
			t.Errorf("%s: %v, %v", from, got, err)
		}
	}
	for name, from := range map[string]string{
		"argument": code.Reveal(), "mistyped": file("bad", code.Reveal()+"x"), "absent": filepath.Join(dir, "none"), "typed wrong": "-",
	} {
		_, err := readCode(t.Context(), from, answers.New(strings.NewReader("x"+code.Reveal())), &said)
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if strings.Contains(said.String(), secret) {
		t.Errorf("said: %s", said.String())
	}
}
