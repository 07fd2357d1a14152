package link_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/agent/link"
	"github.com/fulgidus/heimdall/packaging/servers"
)

// Two agents of one station push each other out, until one of them finds out and leaves the other alone.
func TestLink_DuplicateIdentity(t *testing.T) {
	broker := servers.Mosquitto(t)
	c := newCollector(t, "main")
	c.online(broker.URL)
	var text safeBuffer
	patient := func(c *link.Config) {
		c.MaxAway = 12 * time.Second
		c.Log = slog.New(slog.NewTextHandler(&text, nil))
	}
	away, here := startAgent(t, broker.URL, patient), startAgent(t, broker.URL, patient)
	eventually(t, "one of them knows of the other", func() bool { return away.DuplicateIdentity() || here.DuplicateIdentity() })
	if here.DuplicateIdentity() {
		away, here = here, away
	}
	if got := text.String(); !strings.Contains(got, "another client uses this station's id") || !strings.Contains(got, "client_id=heimdall-agent-torino") {
		t.Errorf("nothing in the log about it:\n%s", got)
	}
	never(t, "the one that knows came back at once", away.Connected)
	if here.DuplicateIdentity() {
		t.Error("both stay away")
	}
	here.add(t, 1, 50)
	eventually(t, "all of the one that is there acknowledged", here.empty)

	here.stop()
	away.add(t, 51, 100)
	eventually(t, "the other came back and delivered", away.empty)
	eventually(t, "it knows that it is alone", func() bool { return !away.DuplicateIdentity() && away.Connected() })
	if numbers, _ := c.count(away.spool.Identity()); numbers != 50 {
		t.Errorf("%d records arrived, want 50", numbers)
	}
}

// A link that breaks again and again looks like a rival, but nobody answers.
func TestLink_BreaksWithoutARival(t *testing.T) {
	broker := servers.Mosquitto(t)
	p, url := through(t, broker, 1)
	a := startAgent(t, url, nil)
	for range 6 {
		eventually(t, "connected", a.Connected)
		p.Cut()
		eventually(t, "noticed", func() bool { return !a.Connected() })
	}
	eventually(t, "connected", a.Connected)
	if a.DuplicateIdentity() {
		t.Error("a rival where there is none")
	}
}
