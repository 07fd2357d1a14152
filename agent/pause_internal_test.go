package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

func TestOwnSwitch(t *testing.T) {
	now := time.Date(2026, 11, 24, 2, 0, 0, 0, time.UTC)
	s := ownSwitch{filepath.Join(t.TempDir(), "state")}
	if was, err := s.resume(now); was || err != nil || s.read() != nil {
		t.Errorf("it was set from the beginning: %v, %v", was, err)
	}
	if err := s.pause(now, "guests"); err != nil {
		t.Fatal(err)
	}
	if err := s.pause(now.Add(time.Hour), "others"); err != nil {
		t.Fatal(err)
	}
	if p := s.read(); p == nil || !p.Since.Equal(now) || p.says() != "guests" {
		t.Errorf("got %+v", p)
	}
	if was, err := s.resume(now.Add(2 * time.Hour)); !was || err != nil || s.read() != nil {
		t.Errorf("%v, %v", was, err)
	}
	over, err := s.over()
	if err != nil || len(over) != 1 || !over[0].Since.Equal(now) || over[0].Until.Sub(now) != 2*time.Hour {
		t.Errorf("%+v, %v", over, err)
	}
	for name, text := range map[string]string{"empty": "", "no JSON": "please", "half": `{"since":"2026`, "another": `{"reason":"x"}`, "old": `{"since":null}`} {
		write(t, s.paused(), text)
		if p := s.read(); p == nil || time.Since(p.Since).Abs() > time.Minute || p.says() == "" {
			t.Errorf("%s: a file of that name does not pause: %+v", name, p)
		}
	}
	write(t, s.resumed(), "{\"since\":\"2026-11-24T02:00:00Z\",\"until\":\"2026-11-24T03:00:00Z\"}\n{\"since\":\"2026-11-2")
	if over, err := s.over(); len(over) != 1 || err != nil {
		t.Errorf("%+v, %v", over, err)
	}
}

// stateIn is the station's retained state.
func stateIn(text []byte) (protocol.State, error) {
	var s protocol.State
	err := json.Unmarshal(text, &s)
	return s, err
}

func TestPause(t *testing.T) {
	broker := servers.Mosquitto(t)
	latest, _ := retained(t, broker.URL)
	here := newSite(t, "control: {allow: [capture]}\nmqtt: {url: \""+broker.URL+"\"}")
	a, stop := here.start(t)
	here.hears(t)
	later := capture(0.1)
	later.Start = proto.Int64(time.Now().Add(time.Hour).UnixNano())
	waiting := ordered(later)
	a.orders.take(t.Context(), waiting)
	eventually(t, "the capture is under way", func() error {
		if !a.orders.isRunning(waiting.GetId()) {
			return fmt.Errorf("it is not")
		}
		return nil
	})

	said, err := output(t, PauseCmd{configFlag: configFlag{here.config}, Reason: "guests"})
	if err != nil || !strings.Contains(said, "its receivers are closed") {
		t.Fatalf("pause: %q, %v", said, err)
	}
	if a.receivers[0].survey.Health().Connected || a.receivers[0].history.Span().Blocks != 0 {
		t.Error("the receiver is open, or its history is not empty, when pause says so")
	}
	if reply := lastReply(t, a, waiting); reply.GetState() != protocol.Reply_STATE_FAILED || reply.GetReasonCode() != "paused" {
		t.Errorf("a capture under way: %v", reply)
	}
	refused := ordered(capture(0.1))
	a.orders.take(t.Context(), refused)
	if reply := lastReply(t, a, refused); reply.GetState() != protocol.Reply_STATE_REFUSED || reply.GetReasonCode() != "paused" {
		t.Errorf("a capture meanwhile: %v", reply)
	}
	isPaused := func() error {
		s, err := stateIn(latest("heimdall/v1/torino/state"))
		if err != nil || s.State != "paused" || s.Reason != "guests" || string(latest("heimdall/v1/torino/status")) != "online" {
			return fmt.Errorf("%+v (%w)", s, err)
		}
		return nil
	}
	eventually(t, "everybody sees so", isPaused)
	since, _ := stateIn(latest("heimdall/v1/torino/state"))
	stop()
	a, stop = here.start(t)
	eventually(t, "it is still so after a restart", func() error {
		if string(latest("heimdall/v1/torino/status")) != "online" {
			return fmt.Errorf("offline")
		}
		return isPaused()
	})
	again, _ := stateIn(latest("heimdall/v1/torino/state"))
	if d := protocolTime(t, again.Since).Sub(protocolTime(t, since.Since)).Abs(); d > 2*time.Second {
		t.Errorf("paused since %s, and after the restart since %s", since.Since, again.Since)
	}
	if said, err := tapFor(t, here.config, time.Second); err != nil || strings.Count(said, "\n") != 1 || !strings.Contains(said, "paused since ") || !strings.Contains(said, "(guests)") {
		t.Errorf("tap: %q, %v", said, err)
	}
	findings := checkRunning(a.status())
	if findings[0].Verdict != "warn" || !strings.Contains(findings[0].Detail, "the station is paused: guests") {
		t.Errorf("check: %v", findings)
	}
	if said, err := output(t, ResumeCmd{configFlag{here.config}}); err != nil || said != "the station listens again\n" {
		t.Fatalf("resume: %q, %v", said, err)
	}
	eventually(t, "it measures again", func() error {
		if st := a.receivers[0].survey.State(); st.Steps["all"].SNRDB == nil {
			return fmt.Errorf("%+v", st)
		}
		return nil
	})
	stop()
	gaps := 0
	records := here.records(t)
	for _, r := range records[protocol.KindGap] {
		g := r.GetGap()
		if g.GetReason() != protocol.Gap_REASON_PAUSED {
			continue
		}
		gaps++
		from, to := time.Unix(0, g.GetFrom()), time.Unix(0, g.GetTo())
		if len(g.GetRanges()) > 0 || g.Records != nil || to.Before(from) {
			t.Errorf("%v, want times and no ranges", g)
		}
		for _, m := range records[protocol.KindMeasurement] {
			if at := time.Unix(0, m.GetTime()); at.After(from.Add(time.Second)) && at.Before(to.Add(-time.Millisecond)) { // since is in whole seconds
				t.Errorf("a measurement of %v, in a pause from %v to %v", at, from, to)
			}
		}
	}
	if gaps != 1 {
		t.Errorf("%d gaps tell of one pause", gaps)
	}
}

// tapFor is all that tap says in a while.
func tapFor(t *testing.T, config string, d time.Duration) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	var said bytes.Buffer
	err := TapCmd{configFlag: configFlag{config}}.Run(ctx, streams{out: &said, err: &said})
	return said.String(), err
}

func protocolTime(t *testing.T, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// The switch needs no agent; what it did is declared when there is one.
func TestPause_WithoutAnAgent(t *testing.T) {
	here := newSite(t, "")
	said, err := output(t, PauseCmd{configFlag: configFlag{here.config}})
	if err != nil || !strings.Contains(said, "no agent runs here") {
		t.Fatalf("pause: %q, %v", said, err)
	}
	if said, err := output(t, TapCmd{configFlag: configFlag{here.config}}); err == nil || said != "" || !strings.Contains(err.Error(), "paused since ") || !strings.Contains(err.Error(), "resume` ends it") {
		t.Errorf("tap: %q, %v", said, err)
	}
	findings := checkStation(t.Context(), here.load(t), newComputer(0).clock)
	if findings[0].Verdict != "warn" || !strings.Contains(findings[0].Detail, "is not tried") {
		t.Errorf("check: %v", findings)
	}
	if _, err := output(t, ResumeCmd{configFlag{here.config}}); err != nil {
		t.Fatal(err)
	}
	if said, err := output(t, ResumeCmd{configFlag{here.config}}); err != nil || said != "the station was not paused\n" {
		t.Errorf("resume: %q, %v", said, err)
	}
	_, stop := here.start(t)
	here.hears(t)
	stop()
	gaps := here.records(t)[protocol.KindGap]
	if len(gaps) != 1 || gaps[0].GetGap().GetReason() != protocol.Gap_REASON_PAUSED {
		t.Errorf("%v, want one that tells of the pause", gaps)
	}
	if _, err := os.Stat(ownSwitch{here.state}.resumed()); err == nil {
		t.Error("it would be declared again")
	}
}

func TestLeave(t *testing.T) {
	broker := servers.Mosquitto(t)
	here := newSite(t, "mqtt: {url: \""+broker.URL+"\"}")
	latest, _ := retained(t, broker.URL)
	_, stop := here.start(t)
	here.hears(t)
	if _, err := output(t, LeaveCmd{configFlag{here.config}}); err == nil || !strings.Contains(err.Error(), "stop it first") {
		t.Errorf("while the agent runs: %v", err)
	}
	topics := retainedTopics(here.load(t))
	eventually(t, "it has retained something", func() error {
		for _, topic := range topics {
			if len(latest(topic)) == 0 {
				return fmt.Errorf("nothing on %s", topic)
			}
		}
		return nil
	})
	stop()
	said, err := output(t, LeaveCmd{configFlag{here.config}})
	if err != nil || !strings.Contains(said, "What stays: ") {
		t.Fatalf("leave: %q, %v", said, err)
	}
	eventually(t, "nothing is retained", func() error {
		for _, topic := range topics {
			if text := latest(topic); len(text) > 0 {
				return fmt.Errorf("%s on %s", text, topic)
			}
		}
		return nil
	})
}
