package protocol_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fulgidus/heimdall/protocol"
)

func TestTopics_NamesOfTheContract(t *testing.T) {
	var topics protocol.Topics
	for got, want := range map[string]string{
		topics.Status("giaveno"):                              "heimdall/v1/giaveno/status",
		topics.Info("giaveno"):                                "heimdall/v1/giaveno/info",
		topics.State("giaveno"):                               "heimdall/v1/giaveno/state",
		topics.Record("giaveno", protocol.KindIQ):             "heimdall/v1/giaveno/iq",
		topics.Batch("giaveno"):                               "heimdall/v1/giaveno/batch",
		topics.Ack("giaveno", spool):                          "heimdall/v1/giaveno/ack/9f3c5a1e77b0c214",
		topics.Command("giaveno"):                             "heimdall/v1/giaveno/command",
		topics.JSON("giaveno", protocol.KindDetection):        "heimdall/v1/giaveno/json/detection",
		topics.CollectorStatus("main"):                        "heimdall/v1/collector/main/status",
		protocol.Topics{Prefix: "club/rf"}.Status("giaveno"):  "club/rf/v1/giaveno/status",
		protocol.HomeAssistant{}.Device("giaveno"):            "homeassistant/device/heimdall-giaveno/config",
		protocol.HomeAssistant{}.Devices():                    "homeassistant/device/+/config",
		protocol.HomeAssistant{Prefix: "club/ha"}.Status():    "club/ha/status",
		strings.Join(topics.AgentFilters("giaveno"), " "):     "heimdall/v1/giaveno/ack/# heimdall/v1/giaveno/command heimdall/v1/collector/+/status",
		strings.Join(topics.StationFilters(), " "):            "heimdall/v1/+/status heimdall/v1/+/info heimdall/v1/+/state",
		strings.Join(topics.RecordFilters("ingest")[:2], " "): "$share/ingest/heimdall/v1/+/batch $share/ingest/heimdall/v1/+/measurement",
		strings.Join(topics.RecordFilters("")[8:], " "):       "heimdall/v1/+/site",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// allTopics builds one topic of each sort, with what Parse must say of it.
func allTopics(topics protocol.Topics) map[string]protocol.Topic {
	all := map[string]protocol.Topic{
		topics.Status("giaveno"):       {Class: protocol.TopicStatus, Station: "giaveno"},
		topics.Info("giaveno"):         {Class: protocol.TopicInfo, Station: "giaveno"},
		topics.State("giaveno"):        {Class: protocol.TopicState, Station: "giaveno"},
		topics.Batch("giaveno"):        {Class: protocol.TopicBatch, Station: "giaveno"},
		topics.Command("giaveno"):      {Class: protocol.TopicCommand, Station: "giaveno"},
		topics.Ack("giaveno", spool):   {Class: protocol.TopicAck, Station: "giaveno", Spool: spool},
		topics.CollectorStatus("main"): {Class: protocol.TopicCollectorStatus, Collector: "main"},
	}
	for _, kind := range protocol.Kinds() {
		all[topics.Record("giaveno", kind)] = protocol.Topic{Class: protocol.TopicRecord, Station: "giaveno", Kind: kind}
		all[topics.JSON("giaveno", kind)] = protocol.Topic{Class: protocol.TopicJSON, Station: "giaveno", Kind: kind}
	}
	return all
}

func TestTopics_ParseReadsWhatIsBuilt(t *testing.T) {
	for _, topics := range []protocol.Topics{{}, {Prefix: "club/rf"}} {
		for topic, want := range allTopics(topics) {
			got, err := topics.Parse(topic)
			if err != nil {
				t.Errorf("%s: %v", topic, err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", topic, diff)
			}
		}
	}
}

func TestTopics_ParseRefuses(t *testing.T) {
	var topics protocol.Topics
	for _, topic := range []string{
		"", "heimdall", "heimdall/v1", "heimdall/v1/", "heimdall/v2/giaveno/status", "other/v1/giaveno/status",
		"heimdall/v1/giaveno", "heimdall/v1/giaveno/", "heimdall/v1/giaveno/unknown", "heimdall/v1/giaveno/status/",
		"heimdall/v1/Giaveno/status", "heimdall/v1/../status", "heimdall/v1/+/status", "heimdall/v1/g/status",
		"heimdall/v1/collector/status", "heimdall/v1/fix/last", "heimdall/v1/acquisition/1", "heimdall/v1/all/status",
		"heimdall/v1/collector/MAIN/status", "heimdall/v1/collector//status", "heimdall/v1/collector/main/info",
		"heimdall/v1/giaveno/ack", "heimdall/v1/giaveno/ack/9f3c", "heimdall/v1/giaveno/ack/9F3C5A1E77B0C214",
		"heimdall/v1/giaveno/ack/zzzzzzzzzzzzzzzz", "heimdall/v1/giaveno/json", "heimdall/v1/giaveno/json/batch",
		"heimdall/v1/giaveno/json/measurement/x", "heimdall/v1/giaveno/foo/measurement",
	} {
		if got, err := topics.Parse(topic); code(err) != protocol.CodeMalformed {
			t.Errorf("%q: got %+v, %v; want an error", topic, got, err)
		}
	}
}

func TestValidStation(t *testing.T) {
	for _, id := range []string{"aa", "0-", "giaveno", "hb9-dl1abc", strings.Repeat("a", 32)} {
		if err := protocol.ValidStation(id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
	for _, id := range []string{"", "a", "-a", "Aa", "a_b", "a b", "à", "a/b", "a+", "a#", strings.Repeat("a", 33), "collector", "fix", "acquisition", "all"} {
		if err := protocol.ValidStation(id); code(err) != protocol.CodeMalformed {
			t.Errorf("%q: got %v, want an error", id, err)
		}
	}
}

func TestValidPrefix(t *testing.T) {
	for _, prefix := range []string{"heimdall", "club/rf", "Ünïcode"} {
		if err := protocol.ValidPrefix(prefix); err != nil {
			t.Errorf("%q: %v", prefix, err)
		}
	}
	for _, prefix := range []string{"", "/a", "a/", "a//b", "a b", "a+", "#", "$SYS", "a\x00", "\xff", strings.Repeat("a", 257)} {
		if err := protocol.ValidPrefix(prefix); code(err) != protocol.CodeMalformed {
			t.Errorf("%q: got %v, want an error", prefix, err)
		}
	}
}

func TestKind_KnownAreTheListed(t *testing.T) {
	for _, k := range protocol.Kinds() {
		if !k.Known() {
			t.Errorf("%s is not known", k)
		}
	}
	for _, k := range []protocol.Kind{"", "batch", "status"} {
		if k.Known() {
			t.Errorf("%q is known", k)
		}
	}
	for name, m := range golden(t) {
		if rec, ok := m.(*protocol.Record); ok && !rec.Kind().Known() {
			t.Errorf("%s: kind %q is not known", name, rec.Kind())
		}
	}
	if got := new(protocol.Record).Kind(); got != "" {
		t.Errorf("an empty record's kind is %q", got)
	}
	if got := (&protocol.Record{Station: new("giaveno"), Spool: []byte{1}}).Stream(); got != (protocol.Stream{Station: "giaveno"}) {
		t.Errorf("a short spool gives %v", got)
	}
}
