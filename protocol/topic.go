package protocol

import (
	"cmp"
	"encoding/hex"
	"slices"
	"strings"
)

// DefaultPrefix is the first level of every topic unless configured otherwise.
const DefaultPrefix = "heimdall"

// version is the second part of every topic.
const version = "v1"

// Online and Offline are the payloads of the status topics.
const (
	Online  = "online"
	Offline = "offline"
)

// Topics builds and reads the topics under a prefix. The zero value uses DefaultPrefix.
type Topics struct {
	Prefix string // one or more levels, as ValidPrefix allows
}

// TopicClass says what travels on a topic.
type TopicClass uint8

// The classes of topic.
const (
	TopicUnknown         TopicClass = iota
	TopicStatus                     // online or offline
	TopicInfo                       // Info, JSON
	TopicState                      // State, JSON
	TopicRecord                     // one Record
	TopicBatch                      // many Records
	TopicAck                        // Ack
	TopicCommand                    // Command
	TopicJSON                       // one Record in JSON, from a collector
	TopicCollectorStatus            // online or offline
)

// Topic is what a topic's name says.
type Topic struct {
	Class     TopicClass
	Station   string           // but for TopicCollectorStatus
	Kind      Kind             // of TopicRecord and TopicJSON
	Spool     [SpoolBytes]byte // of TopicAck
	Collector string           // of TopicCollectorStatus
}

func (t Topics) base() string {
	if t.Prefix == "" {
		return DefaultPrefix + "/" + version + "/"
	}
	return t.Prefix + "/" + version + "/"
}

// Status is where a station's presence is retained.
func (t Topics) Status(station string) string { return t.base() + station + "/status" }

// Info is where a station describes itself.
func (t Topics) Info(station string) string { return t.base() + station + "/info" }

// State is where a station's condition is retained.
func (t Topics) State(station string) string { return t.base() + station + "/state" }

// Record is where a station publishes records of one kind.
func (t Topics) Record(station string, kind Kind) string {
	return t.base() + station + "/" + string(kind)
}

// Batch is where a station publishes many records at once.
func (t Topics) Batch(station string) string { return t.base() + station + "/batch" }

// Ack is where collectors acknowledge one spool of a station.
func (t Topics) Ack(station string, spool [SpoolBytes]byte) string {
	return t.base() + station + "/ack/" + hex.EncodeToString(spool[:])
}

// Command is where collectors send a station its orders.
func (t Topics) Command(station string) string { return t.base() + station + "/command" }

// JSON is where collectors mirror accepted records of one kind.
func (t Topics) JSON(station string, kind Kind) string {
	return t.base() + station + "/json/" + string(kind)
}

// JSONFilter is all that collectors mirror of a station.
func (t Topics) JSONFilter(station string) string { return t.base() + station + "/json/#" }

// All is everything of this version.
func (t Topics) All() string { return t.base() + "#" }

// CollectorStatus is where a collector's presence is retained.
func (t Topics) CollectorStatus(collector string) string {
	return t.base() + "collector/" + collector + "/status"
}

// AgentFilters is all that a station subscribes: its acknowledgements, its orders, the presence of collectors.
func (t Topics) AgentFilters(station string) []string {
	return []string{t.base() + station + "/ack/#", t.Command(station), t.CollectorStatus("+")}
}

// RecordFilters is what collectors subscribe to share the records of all stations: one filter a kind and one for
// batches. With an empty group they are not shared, and each collector gets everything.
func (t Topics) RecordFilters(group string) []string {
	share := ""
	if group != "" {
		share = "$share/" + group + "/"
	}
	filters := []string{share + t.Batch("+")}
	for _, k := range Kinds() {
		filters = append(filters, share+t.Record("+", k))
	}
	return filters
}

// StationFilters is what every collector subscribes for itself: status, info and state of all stations. Brokers do
// not hand retained messages to shared subscriptions, so these are never shared.
func (t Topics) StationFilters() []string {
	return []string{t.Status("+"), t.Info("+"), t.State("+")}
}

// Parse reads a topic as delivered by a broker; filters are not topics. The error is an *Error.
func (t Topics) Parse(topic string) (Topic, error) {
	rest, ok := strings.CutPrefix(topic, t.base())
	if !ok {
		return Topic{}, refuse(CodeMalformed, "topic", topic, "want one that begins with %s", t.base())
	}
	levels := strings.Split(rest, "/")
	if len(levels) == 3 && levels[0] == "collector" && levels[2] == "status" {
		if err := ValidCollector(levels[1]); err != nil {
			return Topic{}, err
		}
		return Topic{Class: TopicCollectorStatus, Collector: levels[1]}, nil
	}
	if err := ValidStation(levels[0]); err != nil {
		return Topic{}, err
	}
	out := Topic{Station: levels[0]}
	switch len(levels) {
	case 2:
		out.Class, out.Kind = classOf(levels[1])
	case 3:
		if levels[1] == "ack" {
			spool, err := ParseSpool(levels[2])
			if err != nil {
				return Topic{}, err
			}
			out.Class, out.Spool = TopicAck, spool
		}
		if kind := Kind(levels[2]); levels[1] == "json" && kind.Known() {
			out.Class, out.Kind = TopicJSON, kind
		}
	}
	if out.Class == TopicUnknown {
		return Topic{}, refuse(CodeMalformed, "topic", topic, "no topic of version %s", version)
	}
	return out, nil
}

// classOf reads the last level of a station's two-level topic.
func classOf(level string) (TopicClass, Kind) {
	switch level {
	case "status":
		return TopicStatus, ""
	case "info":
		return TopicInfo, ""
	case "state":
		return TopicState, ""
	case "batch":
		return TopicBatch, ""
	case "command":
		return TopicCommand, ""
	}
	if kind := Kind(level); kind.Known() {
		return TopicRecord, kind
	}
	return TopicUnknown, ""
}

// ParseSpool reads a spool identity from its 16 hex digits. The error is an *Error.
func ParseSpool(s string) ([SpoolBytes]byte, error) {
	var spool [SpoolBytes]byte
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != SpoolBytes || s != strings.ToLower(s) {
		return spool, refuse(CodeMalformed, "spool", s, "want 16 lower-case hex digits")
	}
	copy(spool[:], b)
	return spool, nil
}

// ValidStation refuses what is no station id: [a-z0-9][a-z0-9-]{1,31}, and none of the words that topics reserve.
// The error is an *Error.
func ValidStation(id string) error {
	switch id {
	case "collector", "fix", "acquisition", "all":
		return refuse(CodeMalformed, "station", id, "reserved: choose another id")
	}
	if len(id) < 2 || !slug(id) {
		return refuse(CodeMalformed, "station", id, "want 2 to 32 of a-z, 0-9 and -, not beginning with -")
	}
	return nil
}

// HomeAssistant are the topics on which stations describe themselves to a Home Assistant, below its discovery prefix.
type HomeAssistant struct{ Prefix string }

// DefaultHomeAssistant is Home Assistant's own discovery prefix.
const DefaultHomeAssistant = "homeassistant"

// Device is where a station's description is retained.
func (h HomeAssistant) Device(station string) string { return h.device("heimdall-" + station) }

// Devices is where Home Assistant looks for descriptions.
func (h HomeAssistant) Devices() string { return h.device("+") }

// Status is where Home Assistant says that it has started.
func (h HomeAssistant) Status() string { return h.base() + "status" }

func (h HomeAssistant) device(id string) string { return h.base() + "device/" + id + "/config" }

func (h HomeAssistant) base() string { return cmp.Or(h.Prefix, DefaultHomeAssistant) + "/" }

// ValidCollector refuses what is no collector id: [a-z0-9][a-z0-9-]{0,31}. The error is an *Error.
func ValidCollector(id string) error {
	if !slug(id) {
		return refuse(CodeMalformed, "collector", id, "want 1 to 32 of a-z, 0-9 and -, not beginning with -")
	}
	return nil
}

// ValidPrefix refuses what cannot stand before all topics. The error is an *Error.
func ValidPrefix(prefix string) error {
	bad := prefix == "" || len(prefix) > MaxTextBytes || prefix[0] == '$' || strings.ContainsAny(prefix, "+# ") ||
		slices.Contains(strings.Split(prefix, "/"), "") || textFault(prefix) != ""
	if bad {
		return refuse(CodeMalformed, "prefix", prefix, "want levels without + # or space, such as heimdall or club/heimdall")
	}
	return nil
}

// slug tells whether id is 1 to 32 of a-z, 0-9 and -, not beginning with -.
func slug(id string) bool {
	if id == "" || len(id) > 32 || id[0] == '-' {
		return false
	}
	for i := range len(id) {
		if c := id[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}
