package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"

	"github.com/fulgidus/heimdall/agent/identity"
	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/configs/wholefile"
	"github.com/fulgidus/heimdall/protocol"
)

// ofBroker are the keys of mqtt that an identity decides.
var ofBroker = map[string]bool{"url": true, "username": true, "password": true, "ca": true, "cert": true, "key": true, "prefix": true}

// brokerLines is what an identity puts into mqtt.
func brokerLines(g *identity.Granted, files identity.Files) string {
	text := fmt.Sprintf("  url: %q\n", g.MQTT.URL)
	if strings.HasPrefix(g.MQTT.URL, "mqtts://") {
		if files.BrokerCA != "" {
			text += fmt.Sprintf("  ca: %q\n", files.BrokerCA)
		}
		text += fmt.Sprintf("  cert: %q\n  key: %q\n", files.Station, files.Station)
	}
	if prefix := g.MQTT.Prefix; prefix != "" && prefix != DefaultConfig().MQTT.Prefix {
		text += fmt.Sprintf("  prefix: %q\n", prefix)
	}
	return text
}

// joinConfig writes into a configuration how the station reaches its network. What else it says stays, to the letter.
func joinConfig(path string, g *identity.Granted, files identity.Files) error {
	old, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		text := fmt.Sprintf("# Written by heimdall-agent enroll. configs/agent.yaml of the source, or the package's example, has every key.\nstation:\n  id: %s\nmqtt:\n%s"+
			"# A receiver is missing, for instance:\n# receivers:\n#   - {id: r0, source: \"rtlsdr://0\"}\n", g.Station, brokerLines(g, files))
		return writeText(path, text)
	}
	if err != nil {
		return err
	}
	text, err := withBroker(string(old), brokerLines(g, files))
	if err == nil {
		err = onlyBroker(path, string(old), text, g, files)
	}
	if err != nil {
		return fmt.Errorf("%w: write this into %s yourself:\nmqtt:\n%s", err, path, brokerLines(g, files))
	}
	return keepMode(path, text)
}

// joinable refuses a configuration that joinConfig would not know how to change, whatever the collector grants.
func joinable(path string) error {
	old, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	cfg := DefaultConfig()
	if err := configs.Decode(path, old, &cfg); err != nil {
		return err
	}
	g := &identity.Granted{Enrolment: protocol.Enrolment{
		Station: cfg.Station.ID, MQTT: protocol.EnrolmentMQTT{URL: "mqtts://collector.example.org:8883", Prefix: cfg.MQTT.Prefix},
	}}
	files := identity.FilesIn(cfg.Spool.Path)
	text, err := withBroker(string(old), brokerLines(g, files))
	if err == nil {
		err = onlyBroker(path, string(old), text, g, files)
	}
	if err != nil {
		return fmt.Errorf("%s: %w: write it like this, with what else is to stay in it on lines of its own, and enrol then:\nmqtt:\n  format: %s", path, err, cfg.MQTT.Format)
	}
	return nil
}

// writable refuses a place where no configuration can be written.
func writable(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write the configuration: %w; run it with sudo, or name another place with --config", err)
	}
	part := path + wholefile.Suffix
	f, err := os.OpenFile(part, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write the configuration: %w; run it with sudo, or name another place with --config", err)
	}
	return errors.Join(f.Close(), os.Remove(part))
}

var (
	mqttBlock = regexp.MustCompile(`^mqtt:\s*(#.*)?$`)
	mqttOther = regexp.MustCompile(`^["']?mqtt["']?\s*:`)
	child     = regexp.MustCompile(`^( +)([a-z_]+):`)
)

// withBroker puts lines at the beginning of mqtt, in place of those of the same keys.
func withBroker(text, lines string) (string, error) {
	var out []string
	inside, found, indent := false, false, ""
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		line = strings.TrimRight(line, "\r")
		switch {
		case mqttBlock.MatchString(line):
			inside, found = true, true
			out = append(out, line, strings.TrimRight(lines, "\n"))
			continue
		case mqttOther.MatchString(line):
			return "", errors.New("mqtt is written in one line")
		case line != "" && line[0] != ' ' && line[0] != '#':
			inside = false
		}
		if m := child.FindStringSubmatch(line); inside && m != nil {
			if indent == "" {
				indent = m[1]
			}
			if m[1] == indent && ofBroker[m[2]] {
				continue
			}
			if m[1] == indent && indent != "  " {
				return "", errors.New("mqtt is indented by other than two spaces")
			}
		}
		out = append(out, line)
	}
	if !found {
		out = append(out, "mqtt:", strings.TrimRight(lines, "\n"))
	}
	return strings.Join(out, "\n") + "\n", nil
}

// onlyBroker makes sure that the new text says what it should, and of all else the same as the old one.
func onlyBroker(path, old, text string, g *identity.Granted, files identity.Files) error {
	before, after := DefaultConfig(), DefaultConfig()
	if err := configs.Decode(path, []byte(old), &before); err != nil {
		return err
	}
	if err := configs.Decode(path, []byte(text), &after); err != nil {
		return err
	}
	want := before
	want.MQTT = MQTTConfig{URL: g.MQTT.URL, Format: before.MQTT.Format, Prefix: g.MQTT.Prefix, HomeAssistant: before.MQTT.HomeAssistant}
	if strings.HasPrefix(g.MQTT.URL, "mqtts://") {
		want.MQTT.CA, want.MQTT.Cert, want.MQTT.Key = files.BrokerCA, files.Station, files.Station
	}
	switch {
	case before.Station.ID != g.Station:
		return fmt.Errorf("station.id is %s, and the certificate is for %s", before.Station.ID, g.Station)
	case !reflect.DeepEqual(after, want):
		return errors.New("mqtt is written in an unusual way")
	}
	return nil
}

// keepMode replaces a file by another that those may read who could read it.
func keepMode(path, text string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	err = wholefile.Write(path, []byte(text), info.Mode().Perm(), func(part string) error { return sameOwner(info, part) })
	if err != nil {
		return fmt.Errorf("write the configuration: %w; run it with sudo", err)
	}
	return nil
}
