package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fulgidus/heimdall/agent/link"
	"github.com/fulgidus/heimdall/agent/survey"
	"github.com/fulgidus/heimdall/protocol"
)

// HomeAssistantConfig is whether, and where, the station describes itself to Home Assistant.
type HomeAssistantConfig struct {
	Enabled bool   `yaml:"enabled"`
	Prefix  string `yaml:"prefix"`
}

// device is a discovery message for all entities of a station, with the names that Home Assistant gives the parts.
type device struct {
	Device       map[string]any       `json:"dev"`
	Origin       map[string]any       `json:"o"`
	Components   map[string]component `json:"cmps"`
	StateTopic   string               `json:"state_topic"`
	Availability string               `json:"availability_topic"`
	// AvailabilityTemplate makes of anything but the two words that the station is not there.
	AvailabilityTemplate string `json:"availability_template"`
	QoS                  int    `json:"qos"`
}

// component is one entity. What a state does not say is none in its template, which Home Assistant shows as unknown.
type component struct {
	Platform    string   `json:"p"`
	UniqueID    string   `json:"unique_id"`
	Name        string   `json:"name"`
	Template    string   `json:"value_template"`
	ExpireAfter int      `json:"expire_after"` // s
	Class       string   `json:"device_class,omitempty"`
	StateClass  string   `json:"state_class,omitempty"`
	Unit        string   `json:"unit_of_measurement,omitempty"`
	Category    string   `json:"entity_category,omitempty"`
	Precision   *int     `json:"suggested_display_precision,omitempty"`
	Options     []string `json:"options,omitempty"`
}

const diagnostic = "diagnostic"

// topics are those of Home Assistant.
func (c HomeAssistantConfig) topics() protocol.HomeAssistant {
	return protocol.HomeAssistant{Prefix: c.Prefix}
}

// discoveryTopic is where the station describes itself.
func (c Config) discoveryTopic() string { return c.MQTT.HomeAssistant.topics().Device(c.Station.ID) }

// discovery describes the station's entities. expire is how long a state holds.
func discovery(cfg Config, version string, expire time.Duration) ([]byte, error) {
	topics, id := protocol.Topics{Prefix: cfg.MQTT.Prefix}, "heimdall-"+cfg.Station.ID
	name := cfg.Station.Name
	if name == "" {
		name = cfg.Station.ID
	}
	d := device{
		Device:     map[string]any{"ids": []string{id}, "name": "Heimdall " + name, "mf": "Heimdall", "mdl": programName, "sw": version},
		Origin:     map[string]any{"name": programName, "sw": version, "url": "https://github.com/fulgidus/heimdall"},
		Components: map[string]component{},
		StateTopic: topics.State(cfg.Station.ID), Availability: topics.Status(cfg.Station.ID),
		AvailabilityTemplate: "{{ value if value == 'online' else 'offline' }}",
	}
	add := func(key string, c component) {
		if c.Platform == "" {
			c.Platform = "sensor"
		}
		c.UniqueID, c.ExpireAfter = id+"-"+key, int(expire.Seconds())
		d.Components[key] = c
	}
	stationEntities(add)
	for _, r := range cfg.Receivers {
		receiverEntities(r, add)
	}
	return json.Marshal(d)
}

// of is a template for a value of the state; none where there is none.
func of(path ...string) string { return "{{ " + within(path) + " }}" }

// within finds a value by names, each of which may be missing.
func within(path []string) string {
	var b strings.Builder
	b.WriteString("value_json")
	for _, name := range path[:len(path)-1] {
		fmt.Fprintf(&b, ".get('%s', {})", name)
	}
	fmt.Fprintf(&b, ".get('%s')", path[len(path)-1])
	return b.String()
}

// truth is a template of a binary sensor: ON where a condition on v holds.
func truth(condition string, path ...string) string {
	return "{% set v = " + within(path) + " %}{{ none if v is none else ('ON' if " + condition + " else 'OFF') }}"
}

func stationEntities(add func(string, component)) {
	add("state", component{Name: "State", Class: "enum", Options: []string{"running", "paused", "degraded", "stopped"}, Category: diagnostic, Template: of("state")})
	add("problem", component{Platform: "binary_sensor", Name: "Problem", Class: "problem", Category: diagnostic, Template: truth("v == 'degraded'", "state")})
	add("time-uncertainty", component{Name: "Time uncertainty", Class: "duration", Unit: "s", StateClass: "measurement", Category: diagnostic, Precision: new(6), Template: of("time_uncertainty_s")})
	add("backlog", component{Name: "Records waiting", StateClass: "measurement", Category: diagnostic, Template: of("backlog")})
	add("backlog-age", component{Name: "Oldest record waiting", Class: "duration", Unit: "s", StateClass: "measurement", Category: diagnostic, Template: of("backlog_age_s")})
	percent := "{% set v = " + within([]string{"spool_used_ratio"}) + " %}{{ none if v is none else (v * 100) | round(3) }}"
	add("spool", component{Name: "Spool used", Unit: "%", StateClass: "measurement", Category: diagnostic, Precision: new(1), Template: percent})
	add("temperature", component{Name: "Temperature", Class: "temperature", Unit: "°C", StateClass: "measurement", Category: diagnostic, Template: of("temperature_c")})
}

func receiverEntities(r ReceiverConfig, add func(string, component)) {
	name := r.Name
	if name == "" {
		name = r.ID
	}
	at := func(key string) []string { return []string{"receivers", r.ID, key} }
	add(r.ID+"-connected", component{Platform: "binary_sensor", Name: name + " connected", Class: "connectivity", Category: diagnostic, Template: truth("v", at("connected")...)})
	add(r.ID+"-lost", component{Name: name + " samples lost", StateClass: "total_increasing", Category: diagnostic, Template: of(at("lost_samples_total")...)})
	add(r.ID+"-history", component{Name: name + " history", Class: "duration", Unit: "s", StateClass: "measurement", Category: diagnostic, Template: of(at("history_s")...)})
	steps := []string{survey.WholePassband}
	if plan := r.plan(); len(plan) > 0 {
		steps = nil
		for _, s := range plan {
			steps = append(steps, s.Name)
		}
	}
	for _, step := range steps {
		label := name
		if len(steps) > 1 {
			label += " " + step
		}
		in := func(key string) string { return of("receivers", r.ID, "steps", step, key) }
		add(r.ID+"-"+step+"-level", component{Name: label + " level", Unit: "dBFS", StateClass: "measurement", Precision: new(1), Template: in("power_dbfs")})
		add(r.ID+"-"+step+"-floor", component{Name: label + " noise floor", Unit: "dBFS/Hz", StateClass: "measurement", Precision: new(1), Template: in("noise_floor_dbfs_hz")})
		add(r.ID+"-"+step+"-snr", component{Name: label + " SNR", Class: "signal_strength", Unit: "dB", StateClass: "measurement", Precision: new(1), Template: in("snr_db")})
		add(r.ID+"-"+step+"-detections", component{Name: label + " detections", StateClass: "total_increasing", Template: in("detections_total")})
	}
}

// expiry is after how many reports without one a state no longer holds.
const expiry = 3

// discoveryMark remembers where the station described itself, so that it is taken back there when it no longer does.
func discoveryMark(cfg Config) string { return filepath.Join(cfg.Spool.Path, "homeassistant") }

// describedAt is where the station described itself before; empty: nowhere.
func describedAt(cfg Config) string {
	text, err := os.ReadFile(discoveryMark(cfg))
	topic := strings.TrimSpace(string(text))
	if err != nil || topic == "" || strings.ContainsAny(topic, "+#\x00") {
		return ""
	}
	return topic
}

// retainedElsewhere are the messages for Home Assistant: what the station is, or that it no longer is there.
func (a *Agent) retainedElsewhere() ([]link.Retained, string, error) {
	topic, before, on := a.cfg.discoveryTopic(), describedAt(a.cfg), a.cfg.MQTT.HomeAssistant.Enabled
	var all []link.Retained
	if before != "" && (!on || before != topic) {
		all = append(all, link.Retained{Topic: before, Done: func() {
			if !on {
				_ = os.Remove(discoveryMark(a.cfg)) // else it is taken back once more
			}
		}})
	}
	if !on {
		return all, "", nil
	}
	payload, err := discovery(a.cfg, a.version, expiry*a.reportEvery())
	if err != nil {
		return nil, "", fmt.Errorf("describe the station to Home Assistant: %w", err)
	}
	mark := func() {
		if err := os.WriteFile(discoveryMark(a.cfg), []byte(topic+"\n"), 0o600); err != nil {
			a.log.Warn("cannot remember that Home Assistant knows the station: leave and a changed prefix will not take it back", "error", err)
		}
	}
	all = append(all, link.Retained{Topic: topic, Payload: payload, Done: mark})
	return all, a.cfg.MQTT.HomeAssistant.topics().Status(), nil
}
