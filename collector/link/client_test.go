package link_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/fulgidus/heimdall/collector/link"
	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

// brokers are those that every test of the session must pass with.
func brokers(t *testing.T, test func(t *testing.T, url string)) {
	t.Run("mosquitto", func(t *testing.T) { test(t, servers.Mosquitto(t).URL) })
	t.Run("embedded", func(t *testing.T) { test(t, embedded(t, slog.New(slog.DiscardHandler)).URL()) })
}

// startClient runs a client and waits for its session.
func startClient(t *testing.T, cfg link.Config) *link.Client {
	t.Helper()
	c := newClient(t, cfg)
	background(t, c.Run)
	eventually(t, "session with the broker", func() bool { return c.Ready() == nil })
	return c
}

func newClient(t *testing.T, cfg link.Config) *link.Client {
	t.Helper()
	if cfg.Handle == nil {
		cfg.Handle = func(m link.Message) { m.Ack() }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	c, err := link.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// peer is another client of the broker: a station, or somebody who listens.
func peer(t *testing.T, url, id string) mqtt.Client {
	t.Helper()
	o := mqtt.NewClientOptions().AddBroker(url).SetClientID(id).SetAutoReconnect(false).SetProtocolVersion(4)
	c := mqtt.NewClient(o)
	wait(t, c.Connect())
	t.Cleanup(func() { c.Disconnect(250) })
	return c
}

func wait(t *testing.T, token mqtt.Token) {
	t.Helper()
	if !token.WaitTimeout(10*time.Second) || token.Error() != nil {
		t.Fatalf("MQTT: %v", token.Error())
	}
}

// inbox collects messages.
type inbox struct {
	mu   sync.Mutex // guards got
	got  map[string]int
	last map[string]string
}

func (b *inbox) take(m link.Message) {
	b.note(m.Topic, m.Payload)
	m.Ack()
}

func (b *inbox) note(topic string, payload []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.got == nil {
		b.got, b.last = map[string]int{}, map[string]string{}
	}
	b.got[topic+" "+string(payload)]++
	b.last[topic] = string(payload)
}

func (b *inbox) counts() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.got)
}

func (b *inbox) lastOf(topic string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last[topic]
}

func TestClient_ReceivesAllThatStationsSend(t *testing.T) {
	brokers(t, func(t *testing.T, url string) {
		station := peer(t, url, "heimdall-agent-north")
		wait(t, station.Publish("heimdall/v1/north/info", 1, true, "retained before"))
		var got inbox
		startClient(t, link.Config{URL: url, ID: "one", SharedGroup: "collectors", Handle: got.take})

		want := map[string]int{"heimdall/v1/north/info retained before": 1}
		for _, class := range append([]string{"batch", "status", "state"}, kinds()...) {
			topic := "heimdall/v1/north/" + class
			wait(t, station.Publish(topic, 1, false, "x"))
			want[topic+" x"] = 1
		}
		wait(t, station.Publish("heimdall/v1/north/command", 1, false, "not for collectors"))
		eventually(t, "all messages", func() bool { return len(got.counts()) >= len(want) })
		g := got.counts()
		// mochi confirms a publish before it delivers it, so who subscribes in between gets it both ways.
		if before := "heimdall/v1/north/info retained before"; g[before] == 2 {
			g[before] = 1
		}
		if !maps.Equal(g, want) {
			t.Errorf("got %v, want %v", g, want)
		}
	})
}

func kinds() []string {
	var s []string
	for _, k := range protocol.Kinds() {
		s = append(s, string(k))
	}
	return s
}

func TestClient_SharesRecordsAndNotConditions(t *testing.T) {
	brokers(t, func(t *testing.T, url string) {
		var first, second inbox
		startClient(t, link.Config{URL: url, ID: "one", SharedGroup: "collectors", Handle: first.take})
		startClient(t, link.Config{URL: url, ID: "two", SharedGroup: "collectors", Handle: second.take})
		station := peer(t, url, "heimdall-agent-north")
		const n = 200
		for i := range n {
			wait(t, station.Publish("heimdall/v1/north/measurement", 1, false, fmt.Sprint(i)))
		}
		wait(t, station.Publish("heimdall/v1/north/state", 0, true, "s"))
		eventually(t, "all messages", func() bool { return len(first.counts())+len(second.counts()) >= n+2 })

		a, b := first.counts(), second.counts()
		for i := range n {
			key := fmt.Sprintf("heimdall/v1/north/measurement %d", i)
			if a[key]+b[key] != 1 {
				t.Errorf("record %d came %d times, want once for both together", i, a[key]+b[key])
			}
		}
		// Each broker chooses in its own way; a collector that gets next to nothing would show that nothing is shared.
		if len(a) < n/10 || len(b) < n/10 {
			t.Errorf("the collectors got %d and %d messages of %d: they do not share", len(a), len(b), n)
		}
		for _, g := range []map[string]int{a, b} {
			if g["heimdall/v1/north/state s"] != 1 {
				t.Errorf("a station's state came %d times to one collector, want once", g["heimdall/v1/north/state s"])
			}
		}
	})
}

func TestClient_PublishesAndTellsItsPresence(t *testing.T) {
	brokers(t, func(t *testing.T, url string) {
		var got inbox
		listener := peer(t, url, "somebody")
		wait(t, listener.Subscribe("heimdall/v1/#", 1, func(_ mqtt.Client, m mqtt.Message) { got.note(m.Topic(), m.Payload()) }))
		const status = "heimdall/v1/collector/one/status"

		c := newClient(t, link.Config{URL: url, ID: "one"})
		stop := background(t, c.Run)
		eventually(t, "online", func() bool { return got.lastOf(status) == "online" })
		eventually(t, "session", func() bool { return c.Ready() == nil })

		if err := c.Publish(t.Context(), "heimdall/v1/north/ack/0102030405060708", true, []byte("ack")); err != nil {
			t.Error(err)
		}
		if err := c.PublishOnce(t.Context(), "heimdall/v1/north/json/gap", []byte("{}")); err != nil {
			t.Error(err)
		}
		eventually(t, "both messages", func() bool {
			return got.lastOf("heimdall/v1/north/ack/0102030405060708") == "ack" && got.lastOf("heimdall/v1/north/json/gap") == "{}"
		})

		// Somebody, or the will of an earlier connection that comes late, says that the collector is offline.
		before := got.counts()[status+" online"]
		wait(t, listener.Publish(status, 1, true, "offline"))
		eventually(t, "online again", func() bool { return got.counts()[status+" online"] > before && got.lastOf(status) == "online" })

		stop()
		eventually(t, "offline", func() bool { return got.lastOf(status) == "offline" })
		if err := c.Publish(t.Context(), "heimdall/v1/north/command", false, nil); !errors.Is(err, link.ErrNotConnected) {
			t.Errorf("publish after the end: %v, want ErrNotConnected", err)
		}
		if c.Ready() == nil {
			t.Error("ready after the end")
		}
	})
}

// A message is confirmed to the broker when its receiver says so and not before: until then the broker sends no more
// than its window. 2000 is what the test's Mosquitto allows.
func TestClient_AcknowledgesWhenToldTo(t *testing.T) {
	url := servers.Mosquitto(t).URL
	var mu sync.Mutex
	var held []func()
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(held)
	}
	startClient(t, link.Config{URL: url, ID: "one", Handle: func(m link.Message) {
		mu.Lock()
		defer mu.Unlock()
		held = append(held, m.Ack)
	}})
	station := peer(t, url, "heimdall-agent-north")
	const window, n = 2000, 2500
	for range n {
		station.Publish("heimdall/v1/north/measurement", 1, false, "x")
	}
	eventually(t, "a full window", func() bool { return count() == window })
	time.Sleep(200 * time.Millisecond) // time in which more would come if the window were open
	if c := count(); c != window {
		t.Errorf("%d messages came unacknowledged, want %d", c, window)
	}
	mu.Lock()
	first := held
	mu.Unlock()
	for _, ack := range first {
		ack()
	}
	eventually(t, "the rest", func() bool { return count() == n })
}

func TestClient_ComesBackAfterTheBroker(t *testing.T) {
	broker := servers.Mosquitto(t)
	var greeted sync.WaitGroup
	greeted.Add(2) // once a connection
	var got inbox
	var log logged
	c := startClient(t, link.Config{
		URL: broker.URL, ID: "one", SharedGroup: "g", Handle: got.take, Log: slog.New(slog.NewTextHandler(&log, nil)),
		Connected: func(context.Context, time.Time) error { greeted.Done(); return nil },
	})
	broker.Kill()
	eventually(t, "the loss to be noticed", func() bool { return c.Ready() != nil })
	if err := c.Publish(t.Context(), "heimdall/v1/north/command", false, nil); !errors.Is(err, link.ErrNotConnected) {
		t.Errorf("publish without broker: %v, want ErrNotConnected", err)
	}
	if err := broker.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "session", func() bool { return c.Ready() == nil })
	greeted.Wait()
	station := peer(t, broker.URL, "heimdall-agent-north")
	wait(t, station.Publish("heimdall/v1/north/gap", 1, false, "after"))
	eventually(t, "a message after", func() bool { return got.counts()["heimdall/v1/north/gap after"] == 1 })
	if n := strings.Count(log.String(), "no session with the broker, trying again"); n != 1 {
		t.Errorf("one outage was logged %d times as a warning, want once:\n%s", n, log.String())
	}
}

func TestClient_TriesAgainWhenGreetingFails(t *testing.T) {
	url := embedded(t, slog.New(slog.DiscardHandler)).URL()
	var mu sync.Mutex
	calls := 0
	startClient(t, link.Config{URL: url, ID: "one", Connected: func(context.Context, time.Time) error {
		mu.Lock()
		defer mu.Unlock()
		if calls++; calls == 1 {
			return errors.New("not yet")
		}
		return nil
	}})
	eventually(t, "a second greeting", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return calls == 2
	})
}

func TestNewClient_RefusesWhatIsNoBroker(t *testing.T) {
	for _, url := range []string{"", "localhost:1883", "http://host", "mqtt://", "mqtt://%zz", "://"} {
		if _, err := link.NewClient(link.Config{URL: url, ID: "one"}); err == nil || !strings.Contains(err.Error(), "mqtt.url") {
			t.Errorf("url %q: %v, want an error that names mqtt.url", url, err)
		}
	}
	if _, err := link.NewClient(link.Config{URL: "mqtt://host", ID: "Not An Id"}); err == nil {
		t.Error("an id with spaces was accepted")
	}
	if _, err := link.NewClient(link.Config{URL: "mqtts://user:secret@host", ID: "one"}); err != nil {
		t.Errorf("an address without port: %v", err)
	}
}

// TestClient_APublishEndsWithItsConnection kills a broker that has not confirmed yet. Who waits for it hears so at once, and
// not only after the time-out, so that it can publish again as soon as there is a broker.
func TestClient_APublishEndsWithItsConnection(t *testing.T) {
	broker := servers.Mosquitto(t)
	c := startClient(t, link.Config{URL: broker.URL, ID: "one", SharedGroup: "g"})
	const n, limit = 40, 3 * time.Second
	for range 3 {
		broker.Pause()
		done := make(chan error, n) // the results
		for i := range n {
			go func() {
				done <- c.Publish(t.Context(), fmt.Sprintf("heimdall/v1/north/ack/%016x", i), true, make([]byte, 20_000))
			}()
		}
		time.Sleep(100 * time.Millisecond) // in which all of them begin
		began := time.Now()
		broker.Kill()
		for range n {
			select {
			case err := <-done:
				if err == nil {
					t.Error("confirmed by a broker that stands still")
				}
			case <-time.After(limit - time.Since(began)):
				t.Fatalf("a publish did not end within %v of its connection", limit)
			}
		}
		t.Logf("all ended after %v", time.Since(began))
		if err := broker.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "session", func() bool { return c.Ready() == nil })
		if err := c.Publish(t.Context(), "heimdall/v1/north/ack/0102030405060708", true, []byte("ack")); err != nil {
			t.Error(err)
		}
	}
}
