package api_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/protocol"
)

// listener is an open stream of events.
type listener struct {
	lines *bufio.Scanner
	close func()
}

// listen opens a stream and waits until the hub knows it.
func listen(t *testing.T, w *world, server *httptest.Server, query string) *listener {
	t.Helper()
	before, _ := w.config.Events.Clients()
	r, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+"/api/v1/events"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = answer.Body.Close() })
	if answer.StatusCode != http.StatusOK || answer.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("status %d, %v", answer.StatusCode, answer.Header)
	}
	if open, _ := w.config.Events.Clients(); open != before+1 {
		t.Fatalf("%d clients, want %d", open, before+1)
	}
	return &listener{lines: bufio.NewScanner(answer.Body), close: func() { _ = answer.Body.Close() }}
}

// next is the name and the data of the next event; empty at the end.
func (l *listener) next() (name, data string) {
	for l.lines.Scan() {
		line := l.lines.Text()
		if v, ok := strings.CutPrefix(line, "event: "); ok {
			name = v
		}
		if v, ok := strings.CutPrefix(line, "data: "); ok {
			data = v
		}
		if line == "" && name != "" {
			return name, data
		}
	}
	return "", ""
}

// until waits for a condition.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not within 20 s", what)
		}
	}
}

func startServer(t *testing.T, w *world) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(w.handler(t))
	t.Cleanup(server.Close)
	return server
}

func tell(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("tell: %v", err)
	}
}

func TestEvents_AllThatHappensReachesTheClient(t *testing.T) {
	w := newWorld()
	server := startServer(t, w)
	hub := w.config.Events
	l := listen(t, w, server, "")
	tell(t, hub.Record(protocol.StoredRecord{Record: measured(1), Received: noon}))
	tell(t, hub.Acquisition(&protocol.Acquisition{ID: "a", State: protocol.AcquisitionRunning}))
	tell(t, hub.Station(&protocol.Station{ID: "torino", Status: "offline"}))
	for _, want := range [][2]string{
		{"record", `{"station":"torino","spool":"382072616e646f6d","seq":1,"time":"2026-11-24T12:00:00.000000000Z","measurement":{"snr_db":12.5},"received":"2026-11-24T12:00:00.000000000Z"}`},
		{"acquisition", `{"id":"a","state":"running","progress":0,"requested":"","request":{"frequency_hz":0,"duration_s":0},"stations":[]}`},
		{"station", `{"id":"torino","number":0,"status":"offline","receivers":[],"capabilities":[]}`},
	} {
		if name, data := l.next(); name != want[0] || data != want[1] {
			t.Errorf("event %s: %s\nwant  %s: %s", name, data, want[0], want[1])
		}
	}
	l.close()
	until(t, "the client is gone", func() bool { open, _ := hub.Clients(); return open == 0 })
}

func TestEvents_SamplesAndTruePlacesAreNotTold(t *testing.T) {
	w := newWorld()
	server := startServer(t, w)
	l := listen(t, w, server, "")
	for _, secret := range []*protocol.Record{
		{Station: proto.String("torino"), Body: &protocol.Record_Site{Site: &protocol.Site{LatitudeDeg: proto.Float64(45)}}},
		{Station: proto.String("torino"), Body: &protocol.Record_Iq{Iq: &protocol.IqChunk{Data: []byte("samples")}}},
		{Station: proto.String("torino")},
		measured(9),
	} {
		tell(t, w.config.Events.Record(protocol.StoredRecord{Record: secret, Received: noon}))
	}
	if _, data := l.next(); !strings.Contains(data, `"seq":9`) {
		t.Errorf("first event: %s", data)
	}
}

func TestEvents_Filters(t *testing.T) {
	w := newWorld()
	server := startServer(t, w)
	gap := &protocol.Record{Station: proto.String("genova"), Body: &protocol.Record_Gap{Gap: &protocol.Gap{}}}
	for query, want := range map[string]string{
		"?event=station":                "station torino",
		"?event=record&kind=gap":        "record genova",
		"?kind=gap,health&event=record": "record genova",
		"?station=torino":               "record torino",
		"?event=acquisition,station":    "acquisition",
	} {
		l := listen(t, w, server, query)
		tell(t, w.config.Events.Record(protocol.StoredRecord{Record: gap, Received: noon}))
		tell(t, w.config.Events.Record(protocol.StoredRecord{Record: measured(1), Received: noon}))
		tell(t, w.config.Events.Acquisition(&protocol.Acquisition{ID: "a"}))
		tell(t, w.config.Events.Station(&protocol.Station{ID: "torino"}))
		name, data := l.next()
		wantName, wantStation, _ := strings.Cut(want, " ")
		if name != wantName || !strings.Contains(data, wantStation) {
			t.Errorf("%s: %s %s, want %s", query, name, data, want)
		}
		l.close()
		until(t, "the client is gone", func() bool { open, _ := w.config.Events.Clients(); return open == 0 })
	}
}

func TestEvents_ASlowClientIsDroppedAndNobodyWaits(t *testing.T) {
	w := newWorld()
	server := startServer(t, w)
	hub := w.config.Events
	slow := listen(t, w, server, "") // it reads nothing
	big := &protocol.Station{ID: "torino", Name: strings.Repeat("a", 100_000)}
	sent := 0
	until(t, "the slow client is dropped", func() bool {
		for range 100 {
			sent++
			tell(t, hub.Station(big))
		}
		open, dropped := hub.Clients()
		return open == 0 && dropped == 1
	})
	got := 0
	for name, _ := slow.next(); name != ""; name, _ = slow.next() {
		got++
	}
	if got >= sent {
		t.Errorf("%d events of %d arrived", got, sent)
	}
}

func TestEvents_EndWithTheHub(t *testing.T) {
	w := newWorld()
	server := startServer(t, w)
	l := listen(t, w, server, "")
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.config.Events.Run(ctx) }()
	stop()
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}
	if name, _ := l.next(); name != "" {
		t.Errorf("event %s after the end", name)
	}
	tell(t, w.config.Events.Station(&protocol.Station{ID: "torino"}))
	if p := problem(t, get(t, w.handler(t), "GET", "/api/v1/events")); p.Status != http.StatusServiceUnavailable {
		t.Errorf("a stream afterwards: %+v", p)
	}
	w.config.Events.Close() // twice is safe
}

func TestEvents_AndFilesOutliveTheTimeoutsOfTheServer(t *testing.T) {
	const timeout = 250 * time.Millisecond // a busy computer takes 30 ms to send a request
	w := newWorld()
	content := strings.Repeat("0123456789", 2<<20) // more than what the kernel takes off the server's hands
	w.files[recordingKey+".sigmf-data"] = content
	server := httptest.NewUnstartedServer(w.handler(t))
	server.Config.ReadTimeout, server.Config.WriteTimeout = timeout, timeout
	server.Start()
	t.Cleanup(server.Close)
	l := listen(t, w, server, "")
	r, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+"/api/v1/recordings/"+captureID+".sigmf-data", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	<-time.After(3 * timeout) // the server's patience is over
	if got, err := io.ReadAll(answer.Body); err != nil || len(got) != len(content) {
		t.Errorf("file: %d bytes of %d, %v", len(got), len(content), err)
	}
	tell(t, w.config.Events.Station(&protocol.Station{ID: "torino"}))
	if name, _ := l.next(); name != "station" {
		t.Errorf("event %q", name)
	}
}

func TestEvents_WhatCannotBeWrittenIsAnError(t *testing.T) {
	w := newWorld()
	server := startServer(t, w)
	hub := w.config.Events
	broken := &protocol.Acquisition{Stations: []protocol.AcquisitionStation{{Measurement: []byte("{")}}}
	tell(t, hub.Acquisition(broken)) // nobody listens: it is not even written
	listen(t, w, server, "")
	if err := hub.Acquisition(broken); err == nil {
		t.Error("no error")
	}
}

func BenchmarkHub(b *testing.B) {
	for _, clients := range []int{0, 10} {
		b.Run(fmt.Sprint(clients), func(b *testing.B) {
			w := newWorld()
			server := httptest.NewServer(w.handler(b))
			defer server.Close()
			for range clients {
				r, err := http.NewRequestWithContext(b.Context(), "GET", server.URL+"/api/v1/events", nil)
				if err != nil {
					b.Fatal(err)
				}
				answer, err := server.Client().Do(r)
				if err != nil {
					b.Fatal(err)
				}
				defer answer.Body.Close()
			}
			stored := protocol.StoredRecord{Record: measured(1), Received: noon}
			for b.Loop() {
				if err := w.config.Events.Record(stored); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
