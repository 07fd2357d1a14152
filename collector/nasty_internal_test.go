package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/fulgidus/heimdall/packaging/service"
	"github.com/fulgidus/heimdall/protocol"
)

// nastyNetwork is a collector to which one station for each nasty text has said all that a station can say with it.
type nastyNetwork struct {
	*whole
	t      *testing.T
	texts  []string
	log    output
	client mqtt.Client
}

func nastyStation(i int) string { return fmt.Sprintf("nasty-%03d", i) }

// arrived is a text as it is after it came through JSON: what is no UTF-8 is replaced.
func arrived(s string) string { return string([]rune(s)) }

// storable tells whether the collector takes a text in what a station says of itself.
func storable(s string) bool { return !strings.ContainsRune(s, 0) }

func newNastyNetwork(t *testing.T, format string) *nastyNetwork {
	t.Helper()
	n := &nastyNetwork{t: t, texts: nasty()}
	n.whole = beginCollector(t, openLogging(t, testConfig(t), service.NewLogger(&n.log, "debug", format))).ready(t)
	n.client = mqtt.NewClient(mqtt.NewClientOptions().AddBroker(n.BrokerURL()).SetClientID("nasty").SetAutoReconnect(false))
	n.wait(n.client.Connect())
	t.Cleanup(func() { n.client.Disconnect(0) })
	return n
}

func (n *nastyNetwork) wait(token mqtt.Token) {
	n.t.Helper()
	if !token.WaitTimeout(30*time.Second) || token.Error() != nil {
		n.t.Fatalf("MQTT: %v", token.Error())
	}
}

// say publishes everything.
func (n *nastyNetwork) say() {
	n.t.Helper()
	topics := protocol.Topics{Prefix: "heimdall"}
	var last mqtt.Token
	for i, s := range n.texts {
		id := nastyStation(i)
		info := protocol.Info{
			Station: id, Name: s, Version: s, Capabilities: []string{s},
			Receivers: []protocol.ReceiverInfo{{ID: s, Name: s, Source: s, Hardware: s, Plan: []protocol.PlanStep{{Name: s}}}},
		}
		state := protocol.State{
			Time: s, State: s, Reason: s, Since: s, TimeQuality: s,
			Receivers: map[string]protocol.ReceiverState{s: {Steps: map[string]protocol.StepState{s: {}}}},
		}
		record := &protocol.Record{
			Station: &id, Spool: []byte("12345678"), Seq: new(uint64(1)), Time: new(time.Now().UnixNano()), Receiver: &s, Step: &s,
			Body: &protocol.Record_Measurement{Measurement: &protocol.Measurement{Samples: new(uint64(i + 1)), PowerDbfs: new(float32(-40))}},
		}
		if !utf8.ValidString(s) { // protobuf refuses to write it
			record.Receiver, record.Step = new("r0"), nil
		}
		publish := func(topic string, payload []byte, err error) {
			if err != nil {
				n.t.Fatalf("%q: %v", s, err)
			}
			last = n.client.Publish(topic, 1, false, payload)
		}
		text, err := json.Marshal(info)
		publish(topics.Info(id), text, err)
		text, err = json.Marshal(state)
		publish(topics.State(id), text, err)
		publish(topics.Status(id), []byte(s), nil)
		publish(topics.Record(id, protocol.KindHealth), []byte(s), nil)
		text, err = protocol.Encode(record)
		publish(topics.Record(id, protocol.KindMeasurement), text, err)
	}
	n.wait(last)
}

// listed reads a list.
func listed[T any](n *nastyNetwork, list string) []T {
	n.t.Helper()
	var page struct{ Items []T }
	if err := n.remote.call(n.t.Context(), http.MethodGet, "/api/v1/"+list, nil, &page); err != nil {
		n.t.Fatal(err)
	}
	return page.Items
}

// TestNasty has a station for each of two hundred texts that have fooled programs say it wherever a station can say something, and looks
// at every view of it: each text is that text in each, and nothing but that.
func TestNasty(t *testing.T) {
	t.Parallel()
	n := newNastyNetwork(t, "text")
	if len(n.texts) < 200 {
		t.Fatalf("%d texts", len(n.texts))
	}
	var tapped, events output
	watching, stopWatching := context.WithCancel(t.Context())
	defer stopWatching()
	watched := make(chan error, 2) // one for each
	go func() { watched <- TapCmd{remote: n.remote}.Run(watching, streams{out: &tapped, err: io.Discard}) }()
	go func() { watched <- n.watch(watching, &events) }()
	eventually(t, "both watch", func() bool {
		open, _ := n.events.Clients()
		return open == 2
	})

	n.say()
	taken := 0
	for _, s := range n.texts {
		if storable(s) {
			taken++
		}
	}
	eventually(t, "all is read", func() bool {
		said := 0
		for _, s := range listed[protocol.Station](n, "stations") {
			if s.Name != "" && s.State != "" {
				said++
			}
		}
		return said >= taken && n.ingest.Stats().Waiting == 0 && n.ingest.Stats().Messages >= uint64(5*len(n.texts))
	})
	n.stations(t)
	n.measurements(t)
	n.metrics(t)
	n.pages(t)
	n.commands(t)
	eventually(t, "the live view has shown all", func() bool {
		return strings.Count(tapped.String(), "\n") >= len(listed[struct{}](n, "measurements?limit=1000"))
	})
	stopWatching()
	if err := errors.Join(<-watched, <-watched); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	harmless(t, "tap", tapped.String())
	n.sse(t, events.String())
	n.logged(t)
	if err := n.store.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

// watch notes the stream of events as it comes.
func (n *nastyNetwork) watch(ctx context.Context, to io.Writer) error {
	resp, err := n.remote.send(ctx, http.MethodGet, "/api/v1/events", nil, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(to, resp.Body)
	return err
}

// stations are the same texts in JSON and in CSV.
func (n *nastyNetwork) stations(t *testing.T) {
	t.Helper()
	byID := map[string]protocol.Station{}
	for _, s := range listed[protocol.Station](n, "stations") {
		byID[s.ID] = s
	}
	cells := n.csv(t, "/api/v1/stations", "id")
	for i, text := range n.texts {
		s, want := byID[nastyStation(i)], arrived(text)
		if !storable(text) {
			want = "" // refused, with a reason
		}
		if s.Name != want || s.Version != want || s.Reason != want || want != "" && (s.Receivers[0].Hardware != want || s.Receivers[0].Plan[0].Name != want || s.Capabilities[0] != want) {
			t.Errorf("station of %q: %+v", text, s)
		}
		if got := cells[nastyStation(i)]["name"]; got != inCell(want) {
			t.Errorf("name %q in CSV: %q, want %q", text, got, inCell(want))
		}
	}
}

// inCell is a text as a reader of CSV finds it.
func inCell(s string) string {
	if s != "" && strings.Contains("=+-@\t\r", s[:1]) {
		s = "'" + s
	}
	return strings.ReplaceAll(s, "\r\n", "\n") // which the reader does
}

// csv reads a list as CSV, by a column. No cell is a formula: those that begin like one are numbers.
func (n *nastyNetwork) csv(t *testing.T, path, by string) map[string]map[string]string {
	t.Helper()
	resp, err := n.remote.send(t.Context(), http.MethodGet, path, nil, http.Header{"Accept": {"text/csv"}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	all, err := csv.NewReader(resp.Body).ReadAll()
	if err != nil || len(all) == 0 {
		t.Fatalf("%s: %d rows, %v", path, len(all), err)
	}
	number := regexp.MustCompile(`^-[0-9.]+(e[+-]?[0-9]+)?$`)
	rows := map[string]map[string]string{}
	for _, cells := range all[1:] {
		row := map[string]string{}
		for i, cell := range cells {
			if cell != "" && strings.Contains("=+-@\t\r", cell[:1]) && (!number.MatchString(cell) || all[0][i] == "receiver") {
				t.Errorf("%s, column %s: a formula: %q", path, all[0][i], cell)
			}
			row[all[0][i]] = cell
		}
		rows[row[by]] = row
	}
	return rows
}

// measurements are refused with a reason, or have their texts.
func (n *nastyNetwork) measurements(t *testing.T) {
	t.Helper()
	received := map[string]string{}
	for _, m := range listed[struct{ Station, Receiver string }](n, "measurements?limit=1000") {
		received[m.Station] = m.Receiver
	}
	cells := n.csv(t, "/api/v1/measurements", "station")
	kept := 0
	for i, text := range n.texts {
		receiver, ok := received[nastyStation(i)]
		if !ok {
			continue
		}
		if kept++; utf8.ValidString(text) && receiver != text {
			t.Errorf("receiver %q came as %q", text, receiver)
		}
		if strings.ContainsFunc(receiver, unicode.IsControl) {
			t.Errorf("a receiver with control characters was taken: %q", receiver)
		}
		if got := cells[nastyStation(i)]["receiver"]; utf8.ValidString(text) && got != inCell(text) {
			t.Errorf("receiver %q in CSV: %q", text, got)
		}
	}
	if refused := len(n.texts) - kept; kept < 140 || refused < 30 {
		t.Errorf("%d measurements taken, %d refused: the rule for texts is not what this test knows", kept, refused)
	}
}

var (
	metricLine = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*(\{([a-zA-Z_][a-zA-Z0-9_]*="(\\["\\n]|[^"\\])*",?)*\})? ([0-9.e+-]+|[+-]?Inf|NaN)$`)
	comment    = regexp.MustCompile(`^# (HELP|TYPE) [a-zA-Z_:]`)
)

// metrics has lines that Prometheus can read, of stations that there are.
func (n *nastyNetwork) metrics(t *testing.T) {
	t.Helper()
	_, text := n.get(t, "/metrics")
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if !metricLine.MatchString(line) && !comment.MatchString(line) {
			t.Errorf("metrics: %q", line)
		}
		if strings.HasPrefix(line, "forged") || strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("metrics: %q", line)
		}
	}
	if strings.Count(text, "heimdall_collector_station_info{") < 200 || !strings.Contains(text, `state="other"`) {
		t.Error("the metrics are not of these stations")
	}
}

// pages for browsers show nothing that a station said.
func (n *nastyNetwork) pages(t *testing.T) {
	t.Helper()
	for _, path := range []string{"/", "/docs"} {
		resp, err := n.remote.send(t.Context(), http.MethodGet, path, nil, http.Header{"Accept": {"text/html"}})
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !strings.Contains(resp.Header.Get("Content-Type"), "text/html") {
			t.Fatalf("%s: %v, %v", path, resp.Header, err)
		}
		for _, part := range []string{"alert(1)", "evil", "onerror", "nasty-0"} {
			if bytes.Contains(text, []byte(part)) {
				t.Errorf("%s shows %q", path, part)
			}
		}
	}
	// What a client says comes back as data, whatever it is.
	for _, text := range n.texts {
		resp, err := http.Get(n.remote.URL + "/api/v1/stations/" + escapePath(text) + "?" + escapePath(text))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if kind := resp.Header.Get("Content-Type"); err != nil || strings.Contains(kind, "html") && resp.StatusCode != http.StatusMovedPermanently || resp.StatusCode >= 500 {
			t.Errorf("%q: %s, %s, %v: %s", text, resp.Status, kind, err, body)
		}
	}
}

// escapePath writes every byte as %XX.
func escapePath(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}

// commands print lines for people.
func (n *nastyNetwork) commands(t *testing.T) {
	t.Helper()
	var out output
	if err := (StationListCmd{remote: n.remote}).Run(t.Context(), streams{out: &out, err: io.Discard}); err != nil {
		t.Error(err)
	}
	harmless(t, "station list", out.String())
	if lines, want := strings.Count(out.String(), "\n"), len(listed[protocol.Station](n, "stations")); lines != want+1 {
		t.Errorf("station list has %d lines of %d stations", lines, want)
	}
	verdicts, err := n.store.Verify(t.Context(), "", false)
	if err != nil {
		t.Fatal(err)
	}
	out = output{}
	if err := (VerifyCmd{}).print(&out, verdicts); err != nil {
		t.Error(err)
	}
	harmless(t, "verify", out.String())
	for _, text := range n.texts {
		out = output{}
		exitCode(problem{Title: text, Status: http.StatusBadGateway, Detail: text}, &out)
		a := &protocol.Acquisition{ID: "a", Stations: []protocol.AcquisitionStation{{Station: "torino", State: protocol.StationFailed, Message: text}}}
		newAcquisitionProgress(&out, false).show(a)
		if err := printAcquisition(t.Context(), &out, n.remote, a); err != nil {
			t.Error(err)
		}
		harmless(t, "errors and acquisitions", out.String())
	}
}

// harmless tells whether text does nothing to a terminal but show lines.
func harmless(t *testing.T, what, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if i := strings.IndexFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 || !utf8.ValidString(line) {
			t.Errorf("%s steers a terminal: %q", what, line)
		}
	}
}

// sse is made of its fields only, and each event's data is one line of JSON.
func (n *nastyNetwork) sse(t *testing.T, text string) {
	t.Helper()
	fields := []string{"id:", "event:", "data:", "retry:", ":"}
	names := map[string]int{}
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimSuffix(line, "\r")
		i := slices.IndexFunc(fields, func(f string) bool { return strings.HasPrefix(line, f) })
		if i < 0 && line != "" {
			t.Errorf("a line of the stream: %q", line)
		}
		if name, ok := strings.CutPrefix(line, "event:"); ok {
			names[strings.TrimSpace(name)]++
		}
		if data, ok := strings.CutPrefix(line, "data:"); ok && !json.Valid([]byte(data)) && strings.HasSuffix(text, "\n\n") {
			t.Errorf("data: %q", data)
		}
	}
	if names["station"] < 200 || names["record"] < 100 || names["forged"] > 0 {
		t.Errorf("events: %v", names)
	}
}

// logged is a line a message, without anything that steers a terminal.
func (n *nastyNetwork) logged(t *testing.T) {
	t.Helper()
	text := n.log.String()
	harmless(t, "log", text)
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "time=") {
			t.Errorf("a line of the log: %q", line)
		}
	}
	if strings.Count(text, "a record is rejected") < 100 {
		t.Errorf("the log does not tell of what was rejected:\n%s", text)
	}
}

// TestNasty_JSONLog sends the same to a collector whose log is JSON: each line is an object of one message.
func TestNasty_JSONLog(t *testing.T) {
	t.Parallel()
	n := newNastyNetwork(t, "json")
	n.say()
	eventually(t, "all is read", func() bool {
		return n.ingest.Stats().Waiting == 0 && n.ingest.Stats().Messages >= uint64(5*len(n.texts))
	})
	eventually(t, "the log tells of what was rejected", func() bool { return strings.Count(n.log.String(), "a record is rejected") >= 100 })
	text := n.log.String()
	harmless(t, "log", text)
	for line := range strings.Lines(text) {
		var entry struct{ Level, Msg string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Msg == "" || entry.Level == "ERROR" {
			t.Errorf("a line of the log: %q, %v", line, err)
		}
	}
}

// TestNasty_Recordings orders acquisitions with nasty words from a station that answers with some, and reads their SigMF.
func TestNasty_Recordings(t *testing.T) {
	t.Parallel()
	w := startCollector(t, testConfig(t)).ready(t)
	playStation(t, w.BrokerURL(), "torino")
	eventually(t, "torino takes orders", func() bool {
		s, err := w.store.Station(t.Context(), "torino")
		return err == nil && len(s.Capabilities) > 0 && s.Status == protocol.Online
	})
	ordered := map[string]bool{}
	for _, text := range nasty() {
		if len(ordered) >= 40 {
			break
		}
		a, err := w.remote.acquire(t.Context(), protocol.AcquisitionRequest{FrequencyHz: 145.5e6, DurationS: 0.01, IQ: true, Label: text})
		if err != nil { // some are refused, by their name
			if !strings.Contains(err.Error(), "label") {
				t.Errorf("label %q: %v", text, err)
			}
			continue
		}
		if a.Request.Label != text {
			t.Errorf("label %q came back as %q", text, a.Request.Label)
		}
		ordered[a.ID] = true
	}
	w.stored(t, "recordings", len(ordered))
	var list struct{ Items []protocol.Recording }
	if err := w.remote.call(t.Context(), http.MethodGet, "/api/v1/recordings?limit=1000", nil, &list); err != nil || len(list.Items) < 20 {
		t.Fatalf("%d recordings, %v", len(list.Items), err)
	}
	for _, r := range list.Items {
		status, text := w.get(t, "/api/v1/recordings/"+r.ID+".sigmf-meta")
		var meta struct {
			Global map[string]any `json:"global"`
		}
		if err := json.Unmarshal([]byte(text), &meta); err != nil || status != http.StatusOK || meta.Global["core:version"] == nil {
			t.Errorf("%s: %d, %v: %s", r.ID, status, err, text)
		}
	}
}
