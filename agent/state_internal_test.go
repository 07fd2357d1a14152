package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/agent/clock"
	"github.com/fulgidus/heimdall/agent/quota"
	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/protocol"
)

// stateOf has so many receivers with so many measured steps each.
func stateOf(reason string, receivers, steps int) protocol.State {
	s := protocol.State{
		Time: "2026-11-24T02:00:00.000000000Z", State: "degraded", Reason: reason, Since: "2026-11-24T02:00:00.000000000Z",
		Receivers: map[string]protocol.ReceiverState{}, TimeQuality: "ntp", TimeUncertaintyS: 0.012345,
	}
	for r := range receivers {
		rx := protocol.ReceiverState{Connected: true, Steps: map[string]protocol.StepState{}}
		for step := range steps {
			level := -71.25
			rx.Steps[fmt.Sprintf("step-%d", step)] = protocol.StepState{PowerDBFS: &level, NoiseFloorDBFSHz: &level, SNRDB: &level}
		}
		s.Receivers[fmt.Sprintf("receiver-%d", r)] = rx
	}
	return s
}

func TestEncodeState_StaysUnderOneKiB(t *testing.T) {
	long := strings.Repeat("dial tcp: no route to hōst; ", 100)
	for name, c := range map[string]struct {
		state                  protocol.State
		reason, receivers, all int // what is left: bytes of the reason, receivers, steps in all
	}{
		"small":          {stateOf("why", 1, 3), 3, 1, 3},
		"many steps":     {stateOf("why", 1, 20), 3, 1, 0},
		"long reason":    {stateOf(long, 1, 3), reasonBytes, 1, 3},
		"many receivers": {stateOf("why", 40, 1), 3, 0, 0},
		"everything":     {stateOf(long, 40, 20), reasonBytes, 0, 0},
	} {
		text, err := encodeState(c.state)
		if err != nil || len(text) >= 1024 {
			t.Errorf("%s: %d bytes, want under 1024; %v", name, len(text), err)
		}
		var got protocol.State
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		steps := 0
		for _, r := range got.Receivers {
			steps += len(r.Steps)
		}
		// A cut reason loses at most one letter's bytes more, and gains an ellipsis.
		if n := len(got.Reason); n < c.reason-1 || n > c.reason+len("…") || len(got.Receivers) != c.receivers || steps != c.all {
			t.Errorf("%s: a reason of %d bytes, %d receivers, %d steps; want %d, %d, %d", name, n, len(got.Receivers), steps, c.reason, c.receivers, c.all)
		}
		if got.State != "degraded" || got.TimeQuality != "ntp" {
			t.Errorf("%s: %s", name, text)
		}
	}
}

func TestCondition_SinceFollowsTheWord(t *testing.T) {
	here := newSite(t, "")
	now := time.Hour
	a := here.openWith(t, clock.New(clock.Config{Elapsed: func() time.Duration { return now }}))
	defer a.Close()
	first := a.condition()
	if first.word != "running" || first.since != now {
		t.Errorf("got %+v, want running since %v", first, now)
	}
	now += time.Minute
	if again := a.condition(); again != first {
		t.Errorf("got %+v, want %+v still", again, first)
	}
	a.last.word = "degraded"
	if back := a.condition(); back.since != now {
		t.Errorf("got %+v, want running since %v", back, now)
	}
}

// A station is paused for as long as its pause lasts, however long the agent has run.
func TestStatus_SaysHowLongItHasBeenSo(t *testing.T) {
	st := status{
		Station: "torino", Version: "1", UptimeS: 94,
		State: protocol.State{State: "paused", Reason: "guests", Since: "2026-11-24T02:00:00.000000000Z", Time: "2026-11-24T02:00:02.000000000Z"},
	}
	var said bytes.Buffer
	if err := st.print(&said); err != nil || !strings.HasPrefix(said.String(), "torino paused for 2s: guests (version 1, up 1m34s)\n") {
		t.Errorf("%v: %s", err, said.String())
	}
}

// Collectors ask a station for what it announces: it announces what it does.
func TestInfo_CapabilitiesAreCarriedOut(t *testing.T) {
	for control, want := range map[string][]string{
		"": {}, "control: {allow: [tune]}": {"tune"}, "control: {allow: [tune, capture]}": {"capture", "tune"},
	} {
		a := newSite(t, control).open(t)
		if diff := cmp.Diff(want, a.info().Capabilities); diff != "" {
			t.Errorf("%s (-want +got):\n%s", control, diff)
		}
		a.Close()
	}
}

func TestDue(t *testing.T) {
	r := &reporter{agent: &Agent{}}
	for after, want := range map[time.Duration]bool{0: false, time.Minute - 1: false, time.Minute: true} {
		if got := r.due(time.Second, time.Second+after); got != want {
			t.Errorf("%v after: got %v, want %v", after, got, want)
		}
	}
	if !r.due(0, time.Second) {
		t.Error("what was never done is not due")
	}
	// Of 8 MiB a day a tenth is 419 states and healths of 2,000 bytes.
	r.agent.daily, r.agent.cfg.Delivery.DailyBytes = new(quota.Budget), new(configs.Bytes(8<<20))
	if r.due(time.Second, time.Second+205*time.Second) || !r.due(time.Second, time.Second+207*time.Second) {
		t.Errorf("with daily_bytes it is due each %v", r.agent.reportEvery())
	}
}

func TestPublisher_NamesTheRecord(t *testing.T) {
	here := newSite(t, "")
	a := here.open(t)
	defer a.Close()
	for _, want := range []uint64{1, 2} {
		id, err := a.publisher.Publish(t.Context(), a.health())
		if wanted := fmt.Sprintf("torino-%x-%d", a.spool.Identity(), want); err != nil || id != wanted {
			t.Errorf("got %q, %v; want %q", id, err, wanted)
		}
	}
	bad := &protocol.Record{Receiver: proto.String("\xff")}
	if _, err := a.publisher.Publish(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "encode") {
		t.Errorf("a record that is no UTF-8: got %v", err)
	}
	a.Close()
	if err := a.publisher.Put(t.Context(), a.health()); err == nil || !strings.Contains(err.Error(), "spool a health") {
		t.Errorf("a closed spool: got %v", err)
	}
}
