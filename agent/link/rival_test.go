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
	t.Parallel()
	const mostAway = 12 * time.Second
	broker := servers.Mosquitto(t)
	c := newCollector(t, "main")
	c.online(broker.URL)
	start := func() (*agent, *safeBuffer) {
		var log safeBuffer
		return startAgent(t, broker.URL, func(c *link.Config) {
			c.MaxAway = mostAway
			c.Timeout, c.KeepAlive = 0, 0 // the defaults: a busy machine ends no connection
			c.Log = slog.New(slog.NewTextHandler(&log, nil))
		}), &log
	}
	away, awayLog := start()
	here, hereLog := start()
	eventually(t, "one of them knows of the other", func() bool { return away.DuplicateIdentity() || here.DuplicateIdentity() })
	if here.DuplicateIdentity() {
		away, awayLog, here, hereLog = here, hereLog, away, awayLog
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

	const rival, connected = "another client uses this station's id", "connected to the broker"
	if !strings.Contains(awayLog.String(), "client_id=heimdall-agent-torino") {
		t.Errorf("nothing in the log about it:\n%s", awayLog)
	}
	knew := firstAfter(t, awayLog, time.Time{}, rival)
	back := firstAfter(t, awayLog, knew, connected)
	if stayed := back.Sub(knew); stayed < mostAway/6 {
		t.Errorf("it stayed away for %v, want at least %v", stayed, mostAway/6)
	}
	if told := firstAfter(t, hereLog, time.Time{}, rival); !told.IsZero() && told.Before(back) {
		t.Errorf("both stayed away: one from %v to %v, the other from %v", knew, back, told)
	}
}

// firstAfter is when a message was first logged after some time; zero when it was not.
func firstAfter(t *testing.T, log *safeBuffer, after time.Time, message string) time.Time {
	t.Helper()
	for line := range strings.Lines(log.String()) {
		if !strings.Contains(line, message) {
			continue
		}
		stamp, _, _ := strings.Cut(strings.TrimPrefix(line, "time="), " ")
		at, err := time.Parse(time.RFC3339Nano, stamp)
		if err != nil {
			t.Fatal(err)
		}
		if at.After(after) {
			return at
		}
	}
	return time.Time{}
}

// A link that breaks again and again looks like a rival, but nobody answers.
func TestLink_BreaksWithoutARival(t *testing.T) {
	t.Parallel()
	broker := servers.Mosquitto(t)
	p, url := through(t, broker, 1)
	var log safeBuffer
	a := startAgent(t, url, func(c *link.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	connections := func() int { return strings.Count(log.String(), "connected to the broker") }
	for i := range 6 {
		eventually(t, "connected", func() bool { return connections() > i && a.Connected() })
		p.Cut()
	}
	eventually(t, "connected", func() bool { return connections() > 6 && a.Connected() })
	if a.DuplicateIdentity() {
		t.Error("a rival where there is none")
	}
}
