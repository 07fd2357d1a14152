package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/agent/clock"
	"github.com/fulgidus/heimdall/agent/recorder"
	"github.com/fulgidus/heimdall/protocol"
)

const year = 365 * 24 * time.Hour

// computer is one whose wall clock a test sets.
type computer struct {
	offset atomic.Int64
	clock  *clock.Clock
}

// newComputer makes one whose wall clock is so far from the true time. A year ago is implausible to it.
func newComputer(offset time.Duration) *computer {
	c := new(computer)
	c.set(offset)
	c.clock = clock.New(clock.Config{
		Floor: time.Now().Add(-year / 2).UTC(), Kernel: func() (bool, time.Duration) { return false, 0 },
		Wall: func() time.Time { return time.Now().Round(0).Add(time.Duration(c.offset.Load())) },
	})
	return c
}

func (c *computer) set(offset time.Duration) { c.offset.Store(int64(offset)) }

// systemSite has a receiver that takes its times from the computer's clock.
func systemSite(t *testing.T, more string) site {
	t.Helper()
	here := newSite(t, more)
	write(t, filepath.Join(filepath.Dir(here.config), "sky.yaml"), strings.Replace(sky, "clock: {sigma_s: 40e-9}", "clock: {quality: system}", 1))
	return here
}

// jumps are how far each measurement begins from the end of the one before it, where that is not at once.
func jumps(t *testing.T, measurements []*protocol.Record) []time.Duration {
	t.Helper()
	var all []time.Duration
	end := time.Time{}
	for _, r := range measurements {
		at := time.Unix(0, r.GetTime())
		// Times lie on the samples of a scene, 4 us apart; the clocks are read a moment after one another.
		if jump := at.Sub(end); !end.IsZero() && jump.Abs() > 20*time.Millisecond {
			all = append(all, jump.Round(100*time.Millisecond))
		}
		end = at.Add(time.Duration(r.GetMeasurement().GetDurationS() * 1e9))
		if lost := r.GetMeasurement().GetLostSamples(); lost > 0 {
			t.Errorf("%d samples lost at %v", lost, at)
		}
	}
	return all
}

func TestAgent_ClockUnsetAtBoot(t *testing.T) {
	here := systemSite(t, "control: {allow: [capture]}")
	pi := newComputer(-50 * year)
	began := time.Now()
	a, stop := here.startWith(t, pi.clock)
	eventually(t, "records wait for the clock", func() error {
		if n := a.publisher.held.size(); n < 20 {
			return fmt.Errorf("%d wait", n)
		}
		return nil
	})
	if stats := a.spool.Stats(); stats.LastSeq != 0 {
		t.Errorf("%d records were numbered before the clock is set", stats.LastSeq)
	}
	st, err := askStatus(t.Context(), here.state)
	if err != nil || st.State.State != "degraded" || st.State.TimeQuality != "unset" || st.Clock.Set || st.State.Backlog < 20 {
		t.Errorf("%+v, %v", st.State, err)
	}
	text, err := output(t, StatusCmd{configFlag: configFlag{here.config}})
	if err != nil || !strings.Contains(text, "torino degraded") || !strings.Contains(text, "clock not set: ") {
		t.Errorf("%v: %s", err, text)
	}
	cmd := ordered(capture(0.1))
	a.orders.take(t.Context(), cmd)
	if reply := lastReply(t, a, cmd); reply.GetState() != protocol.Reply_STATE_REFUSED || reply.GetReasonCode() != recorder.ReasonClockUncertain {
		t.Errorf("got %v, want refused, clock_uncertain", reply)
	}
	held := a.publisher.held.size()

	pi.set(0)
	eventually(t, "what waited is stored", func() error {
		if a.publisher.held.size() > 0 || a.spool.Stats().LastSeq < uint64(held+20) {
			return fmt.Errorf("%+v", a.spool.Stats())
		}
		return nil
	})
	if is := a.condition(); is.word != "running" {
		t.Errorf("the station is %+v, want running", is)
	}
	stop()
	ended := time.Now()

	byKind := here.records(t)
	for kind, records := range byKind {
		last := uint64(0)
		for _, r := range records {
			if r.GetSeq() < last {
				t.Errorf("%s %d comes after %d", kind, r.GetSeq(), last)
			}
			last = r.GetSeq()
			if kind == protocol.KindReply {
				continue // the refusal did not wait
			}
			at := time.Unix(0, r.GetTime())
			if at.Before(began) || at.After(ended) || r.GetTimeQuality() != protocol.TimeQuality_TIME_QUALITY_SYSTEM {
				t.Errorf("%s %d at %v ±%g s, %v; it was made from %v to %v", kind, r.GetSeq(), at, r.GetTimeUncertaintyS(), r.GetTimeQuality(), began, ended)
			}
		}
	}
	if len(byKind[protocol.KindGap]) > 0 || len(byKind[protocol.KindSite]) != 1 {
		t.Errorf("gaps %v, %d sites; want none and one", byKind[protocol.KindGap], len(byKind[protocol.KindSite]))
	}
	if all := jumps(t, byKind[protocol.KindMeasurement]); len(all) > 0 {
		t.Errorf("the times of measurements jump by %v", all)
	}
	if h := byKind[protocol.KindHealth][0]; h.GetHealth().GetNow() != h.GetTime() || h.GetHealth().GetClock().GetQuality() != protocol.TimeQuality_TIME_QUALITY_UNSET {
		t.Errorf("the first health: %v", h)
	}
}

// Where the agent stops before the clock was set nothing is lost: records are in order, with right distances, from the
// build date on, and say that their time is unset.
func TestAgent_StopsWhileTheClockIsUnset(t *testing.T) {
	here := systemSite(t, "")
	pi := newComputer(-50 * year)
	a, stop := here.startWith(t, pi.clock)
	eventually(t, "records wait for the clock", func() error {
		if n := a.publisher.held.size(); n < 20 {
			return fmt.Errorf("%d wait", n)
		}
		return nil
	})
	stop()
	byKind := here.records(t)
	n := 0
	for _, records := range byKind {
		n += len(records)
	}
	first := byKind[protocol.KindMeasurement][0]
	if since := time.Unix(0, first.GetTime()).Sub(pi.clock.Floor()); n < 20 || since < 0 || since > time.Minute || first.GetTimeQuality() != protocol.TimeQuality_TIME_QUALITY_UNSET || first.TimeUncertaintyS != nil {
		t.Errorf("%d records, the first measurement %v", n, first)
	}
	if all := jumps(t, byKind[protocol.KindMeasurement]); len(all) > 0 {
		t.Errorf("the times of measurements jump by %v", all)
	}
	first.Spool, first.Seq = make([]byte, protocol.SpoolBytes), proto.Uint64(1)
	if err := protocol.Validate(first, time.Now()); err != nil {
		t.Errorf("a collector refuses it: %v", err)
	}
}

// The survey goes on through every step; what was stored keeps its time.
func TestAgent_ClockSteps(t *testing.T) {
	here := systemSite(t, "")
	box := newComputer(0)
	a, stop := here.startWith(t, box.clock)
	here.hears(t)
	more := func() {
		t.Helper()
		from := a.spool.Stats().LastSeq
		eventually(t, "the survey goes on", func() error {
			if n := a.spool.Stats().LastSeq; n < from+5 {
				return fmt.Errorf("%d records", n-from)
			}
			return nil
		})
	}
	var want []time.Duration
	for _, step := range []time.Duration{-time.Hour, -time.Second, time.Second, time.Hour, 10 * year} {
		for _, offset := range []time.Duration{step, 0} {
			box.set(offset)
			more()
		}
		want = append(want, step, -step)
	}
	if total, last := a.clock.Steps(); total != 10 || last != -10*year {
		t.Errorf("%d steps, the last of %v; want 10, the last of -10 years", total, last)
	}
	box.set(-10 * year) // before the program was built: not followed
	more()
	box.set(0)
	more()
	st, err := askStatus(t.Context(), here.state)
	if err != nil || !st.Clock.Set || st.Clock.StepsTotal != 11 || st.Clock.LastStepS != -10*year.Seconds() {
		t.Errorf("%+v, %v", st.Clock, err)
	}
	findings, err := checkOf(t, CheckCmd{configFlag: configFlag{here.config}})
	if err != nil || verdictOf(findings, "clock") != "warn" {
		t.Errorf("%+v, %v", findings, err)
	}
	if c := a.health().GetHealth().GetClock(); c.GetStepsTotal() != 11 || c.GetLastStepS() != -10*year.Seconds() {
		t.Errorf("health: %v", c)
	}
	stop()

	got := jumps(t, here.records(t)[protocol.KindMeasurement])
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the times of measurements jump by\n%v, want\n%v", got, want)
	}
}

func TestClockStatus_Says(t *testing.T) {
	for _, c := range []struct {
		status clockStatus
		want   string
	}{
		{clockStatus{Set: true, Quality: "ntp", UncertainS: 0.003}, "ntp ±3ms"},
		{clockStatus{Set: true, Quality: "system", UncertainS: 1, StepsTotal: 1, LastStepS: 3600}, "system ±1s; it stepped by +1h0m0s"},
		{clockStatus{HeldRecords: 7, StepsTotal: 2, LastStepS: -1}, "not set: 7 records wait in memory until it is; it stepped 2 times, last by -1s"},
	} {
		if got := c.status.String(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}
