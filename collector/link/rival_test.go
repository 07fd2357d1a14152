package link_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/fulgidus/heimdall/collector/link"
	"github.com/fulgidus/heimdall/packaging/servers"
)

const standsBy = "another collector uses this id, so this one stands by"

// Two collectors of one id push each other out, until one of them finds out and stands by. It takes over when the other ends.
func TestClient_StandsByForItsRival(t *testing.T) {
	url := servers.Mosquitto(t).URL
	var got inbox
	listener := peer(t, url, "somebody")
	const status = "heimdall/v1/collector/one/status"
	wait(t, listener.Subscribe(status, 1, func(_ mqtt.Client, m mqtt.Message) { got.note(m.Topic(), m.Payload()) }))
	var log logged
	var both [2]*link.Client
	var stops [2]func()
	for i := range both {
		both[i] = newClient(t, link.Config{URL: url, ID: "one", SharedGroup: "g", Log: slog.New(slog.NewTextHandler(&log, nil))})
		stops[i] = background(t, both[i].Run)
	}

	knows := func(c *link.Client) bool {
		return c.Ready() != nil && strings.Contains(c.Ready().Error(), `uses the id "one"`)
	}
	// Four sessions of one of them, and as many pauses, which double.
	for deadline := time.Now().Add(time.Minute); !knows(both[0]) && !knows(both[1]); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("they push each other out for a minute:\n%s", log.String())
		}
	}
	here, away := 0, 1
	if knows(both[here]) {
		here, away = away, here
	}
	eventually(t, "the other is connected", func() bool { return both[here].Ready() == nil && got.lastOf(status) == "online" })
	if text := log.String(); strings.Count(text, standsBy) != 1 || !strings.Contains(text, "id=one") {
		t.Errorf("want one line about it:\n%s", text)
	}
	sessions := strings.Count(log.String(), `msg="session with the broker"`)

	// A third one's question, which is contradicted, is no reason to come back.
	before := got.counts()[status+" online"]
	wait(t, listener.Publish(status, 1, true, "offline"))
	eventually(t, "contradicted", func() bool { return got.counts()[status+" online"] > before })
	for until := time.Now().Add(7 * time.Second); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		if both[here].Ready() != nil || !knows(both[away]) {
			t.Fatalf("here: %v, away: %v", both[here].Ready(), both[away].Ready())
		}
	}
	if n := strings.Count(log.String(), `msg="session with the broker"`); n != sessions {
		t.Errorf("%d sessions since one of them stands by", n-sessions)
	}

	eventually(t, "the winner warns", func() bool {
		return strings.Contains(log.String(), `level=WARN msg="another collector seems to use this id`)
	})

	stops[here]()
	eventually(t, "the other takes over", func() bool { return both[away].Ready() == nil && got.lastOf(status) == "online" })
}

// A connection that somebody ends again and again looks like a rival, but nobody answers.
func TestClient_AsksNobody(t *testing.T) {
	url := servers.Mosquitto(t).URL
	var log logged
	c := startClient(t, link.Config{URL: url, ID: "one", SharedGroup: "g", Log: slog.New(slog.NewTextHandler(&log, nil))})
	for range 5 {
		eventually(t, "a session", func() bool { return c.Ready() == nil })
		peer(t, url, "heimdall-collector-one").Disconnect(0)
		eventually(t, "noticed", func() bool { return c.Ready() != nil })
	}
	eventually(t, "a session", func() bool { return c.Ready() == nil })
	if strings.Contains(log.String(), "another collector") {
		t.Errorf("a rival where there is none:\n%s", log.String())
	}
}
