package main

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/agent/recorder"
	"github.com/fulgidus/heimdall/protocol"
)

func capture(seconds float64) *protocol.Capture {
	return &protocol.Capture{
		Acquisition: proto.String("a1"), CenterHz: proto.Float64(skyCenterHz), DurationS: &seconds, Iq: proto.Bool(true),
	}
}

func ordered(order any) *protocol.Command {
	cmd := &protocol.Command{Id: proto.String(uuid.Must(uuid.NewV7()).String()), Expires: proto.Int64(time.Now().Add(time.Minute).UnixNano())}
	switch o := order.(type) {
	case *protocol.Capture:
		cmd.Order = &protocol.Command_Capture{Capture: o}
	case *protocol.Cancel:
		cmd.Order = &protocol.Command_Cancel{Cancel: o}
	case *protocol.Resend:
		cmd.Order = &protocol.Command_Resend{Resend: o}
	case *protocol.Tune:
		cmd.Order = &protocol.Command_Tune{Tune: o}
	}
	return cmd
}

// lastReply waits until a command has its last reply.
func lastReply(t *testing.T, a *Agent, cmd *protocol.Command) *protocol.Reply {
	t.Helper()
	reply := new(protocol.Reply)
	eventually(t, "the command has its last reply", func() error {
		text, _ := a.spool.Recall(cmd.GetId())
		if err := proto.Unmarshal(text, reply); err != nil {
			return err
		}
		if !reply.GetState().Final() || a.orders.isRunning(cmd.GetId()) {
			return fmt.Errorf("%v", reply)
		}
		return nil
	})
	return reply
}

func TestOrders(t *testing.T) {
	here := newSite(t, "control: {allow: [capture], deny: [145.6M-145.7M], max_duration: 2h}")
	a, stop := here.start(t)
	here.hears(t)
	expect := func(order any, state protocol.Reply_State, code string) *protocol.Command {
		t.Helper()
		cmd := ordered(order)
		a.orders.take(t.Context(), cmd)
		reply := lastReply(t, a, cmd)
		if reply.GetState() != state || reply.GetReasonCode() != code {
			t.Errorf("%T: got %v, want %v %q", order, reply, state, code)
		}
		return cmd
	}
	refused, done := protocol.Reply_STATE_REFUSED, protocol.Reply_STATE_DONE

	// The passband ends at 145.62 MHz, 20 kHz inside what the owner denies. Half of it does not reach there, but 100 kHz are recorded
	// at the receiver's rate, with all that it hears.
	expect(capture(0.1), refused, "frequency_denied")
	wide := capture(0.1)
	wide.BandwidthHz = proto.Float64(100e3)
	expect(wide, refused, "frequency_denied")
	narrow := capture(0.1)
	narrow.BandwidthHz = proto.Float64(90e3)
	recorded := expect(narrow, done, "")
	expect(capture(3*3600), refused, "too_long")
	expect(&protocol.Tune{CenterHz: proto.Float64(145e6)}, refused, "not_allowed")
	resent := lastReply(t, a, expect(&protocol.Resend{Ranges: protocol.Ranges{{From: 1, To: 1}}.Wire()}, done, ""))
	if want := "1 of these records were still here and are sent again; 0 are gone"; resent.GetMessage() != want {
		t.Errorf("got %q, want %q", resent.GetMessage(), want)
	}
	expect(&protocol.Resend{Spool: make([]byte, 8)}, refused, "unknown_spool")
	expect(&protocol.Cancel{Id: proto.String("nobody")}, refused, "not_running")

	// Nothing in an order is an address or a path here.
	for _, where := range []string{"http://169.254.169.254/latest/meta-data/", "file:///etc/passwd", "../../etc/passwd", "exec:/bin/sh", "rtltcp://evil:1234", "$(id)"} {
		elsewhere := capture(0.1)
		elsewhere.BandwidthHz, elsewhere.Receiver = proto.Float64(90e3), &where
		expect(elsewhere, refused, "unknown_receiver")
	}
	early := ordered(narrow)
	early.Issued = proto.Int64(time.Now().Add(time.Hour).UnixNano())
	a.orders.take(t.Context(), early)
	if reply := lastReply(t, a, early); reply.GetReasonCode() != "issued_ahead" {
		t.Errorf("an order of the future: %v", reply)
	}

	later := capture(0.1)
	later.BandwidthHz, later.Start = proto.Float64(90e3), proto.Int64(time.Now().Add(time.Hour).UnixNano())
	waiting := ordered(later)
	a.orders.take(t.Context(), waiting)
	eventually(t, "the capture is under way", func() error {
		if !a.orders.isRunning(waiting.GetId()) {
			return fmt.Errorf("it is not")
		}
		return nil
	})
	a.orders.take(t.Context(), waiting) // comes again: is under way already
	expect(&protocol.Cancel{Id: waiting.Id}, done, "")
	if reply := lastReply(t, a, waiting); reply.GetState() != protocol.Reply_STATE_CANCELLED {
		t.Errorf("got %v, want cancelled", reply)
	}

	a.orders.take(t.Context(), recorded) // comes again after its end
	interrupted := ordered(capture(1))
	half, err := proto.Marshal(&protocol.Reply{CommandId: interrupted.Id, State: protocol.Reply_STATE_CAPTURING.Enum()})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.spool.Remember(t.Context(), interrupted.GetId(), half); err != nil {
		t.Fatal(err)
	}
	a.orders.take(t.Context(), interrupted) // was under way when the agent stopped
	if reply := lastReply(t, a, interrupted); reply.GetState() != protocol.Reply_STATE_FAILED || reply.GetReasonCode() != recorder.ReasonInterrupted {
		t.Errorf("got %v, want failed, interrupted", reply)
	}
	stop()

	byKind := here.records(t)
	manifests, chunks := 0, 0
	for _, r := range byKind[protocol.KindReply] {
		if m := r.GetReply(); m.GetCommandId() == recorded.GetId() && m.GetCapture() != nil {
			manifests++
			chunks = int(m.GetCapture().GetChunks())
			// The carrier alone: 20 kHz from the centre, inside the channel.
			if level := m.GetCapture().GetMeasurement().GetPowerDbfs(); level < -23 || level > -21 {
				t.Errorf("the capture was measured at %.1f dBFS, want -22", level)
			}
		}
	}
	if got := len(byKind[protocol.KindIQ]); manifests != 2 || chunks == 0 || got != chunks {
		t.Errorf("%d manifests of %d chunks and %d chunks, want the manifest twice and the chunks once", manifests, chunks, got)
	}
}

// The owner's rules hold for all that a recording would reveal: all of its band, and all of its time, also a past one. The station's
// hours begin two seconds after its receiver does.
func TestOrders_OwnersRules(t *testing.T) {
	begin := time.Now().Truncate(time.Minute).Add(time.Minute)
	pi := newComputer(time.Until(begin.Add(-2 * time.Second)))
	hours := begin.Local().Format("15:04") + "-" + begin.Local().Add(2*time.Minute).Format("15:04")
	here := systemSite(t, "control: {allow: [capture, tune], frequencies: [145.4M-145.7M, 433M-434M], deny: [145.56M-145.58M], hours: \""+hours+"\", max_duration: 100s}")
	a, stop := here.startWith(t, pi.clock)
	here.hears(t)
	early := ordered(capture(0.1))
	a.orders.take(t.Context(), early)
	if reply := lastReply(t, a, early); reply.GetReasonCode() != outsideHours && pi.clock.Now().Before(begin) {
		t.Errorf("before the hours: got %v", reply)
	}
	eventually(t, "the hours have begun", func() error {
		if to := a.receivers[0].history.Span().To; to.Before(begin.Add(time.Second)) {
			return fmt.Errorf("it is %v", to)
		}
		return nil
	})
	for name, c := range map[string]struct {
		centerHz, bandwidthHz, seconds float64
		start                          time.Duration // from the beginning of the hours
		want                           string
	}{
		"of the hours":         {145.5e6, 12.5e3, 0.1, 100 * time.Millisecond, ""},
		"of before":            {145.5e6, 12.5e3, 0.1, -time.Second, outsideHours},
		"begun before":         {145.5e6, 12.5e3, 0.3, -100 * time.Millisecond, outsideHours},
		"for after":            {145.5e6, 12.5e3, 0.1, 3 * time.Minute, outsideHours},
		"going on after":       {145.5e6, 12.5e3, 90, 40 * time.Second, outsideHours},
		"too long":             {145.5e6, 12.5e3, 101, 100 * time.Millisecond, "too_long"},
		"the whole passband":   {145.5e6, 0, 0.1, 100 * time.Millisecond, "frequency_not_allowed"},
		"as good as the whole": {145.5e6, 150e3, 0.1, 100 * time.Millisecond, "frequency_not_allowed"},
		"what is denied":       {145.57e6, 5e3, 0.1, 100 * time.Millisecond, "frequency_denied"},
		"beside what is":       {145.55e6, 25e3, 0.1, 100 * time.Millisecond, "frequency_denied"},
		"a retune":             {868e6, 12.5e3, 0.1, 20 * time.Second, "frequency_not_allowed"},
		"one over the edge":    {433.95e6, 200e3, 0.1, 20 * time.Second, "frequency_not_allowed"},
	} {
		order := &protocol.Capture{CenterHz: &c.centerHz, DurationS: &c.seconds, Start: proto.Int64(begin.Add(c.start).UnixNano())}
		if c.bandwidthHz > 0 {
			order.BandwidthHz = &c.bandwidthHz
		}
		cmd := ordered(order)
		a.orders.take(t.Context(), cmd)
		if reply := lastReply(t, a, cmd); reply.GetReasonCode() != c.want || c.want != "" && !strings.Contains(reply.GetMessage(), "(control.") {
			t.Errorf("%s: got %v, want %q and which rule", name, reply, c.want)
		}
	}
	for name, c := range map[string]struct {
		centerHz, seconds float64
		want              string
	}{
		"to what is denied":       {145.57e6, 1, "frequency_denied"},
		"into the night":          {433.5e6, 99.9 * 60, "too_long"},
		"where nobody is to hear": {868e6, 1, "frequency_not_allowed"},
	} {
		cmd := ordered(&protocol.Tune{CenterHz: &c.centerHz, DurationS: &c.seconds})
		a.orders.take(t.Context(), cmd)
		if reply := lastReply(t, a, cmd); reply.GetReasonCode() != c.want {
			t.Errorf("to tune %s: got %v, want %q", name, reply, c.want)
		}
	}
	stop()
}

func TestOrders_NotAllowed(t *testing.T) {
	here := newSite(t, "")
	a, _ := here.start(t)
	cmd := ordered(capture(1))
	a.orders.take(t.Context(), cmd)
	reply := lastReply(t, a, cmd)
	if reply.GetState() != protocol.Reply_STATE_REFUSED || reply.GetReasonCode() != "not_allowed" || reply.GetAcquisition() != "a1" || !strings.Contains(reply.GetMessage(), "control.allow") {
		t.Errorf("got %v", reply)
	}
}

func TestOrders_Bounded(t *testing.T) {
	here := newSite(t, "control: {allow: [capture]}")
	a, stop := here.start(t)
	here.hears(t)
	start := proto.Int64(time.Now().Add(time.Hour).UnixNano())
	for i := range mostOrders + 1 {
		order := capture(0.1)
		order.Start = start
		cmd := ordered(order)
		a.orders.take(t.Context(), cmd)
		if i == mostOrders {
			if reply := lastReply(t, a, cmd); reply.GetReasonCode() != "busy" {
				t.Errorf("capture %d: got %v, want busy", i+1, reply)
			}
			continue
		}
		eventually(t, "the capture is under way", func() error {
			if !a.orders.isRunning(cmd.GetId()) {
				return fmt.Errorf("it is not")
			}
			return nil
		})
	}
	stop() // ends them all
	failed := 0
	for _, r := range here.records(t)[protocol.KindReply] {
		if r.GetReply().GetReasonCode() == recorder.ReasonInterrupted {
			failed++
		}
	}
	if failed != mostOrders {
		t.Errorf("%d captures say that they were interrupted, want %d", failed, mostOrders)
	}
}

// A flood of commands is left for their repetitions; the link that brings them never waits.
func TestOrders_TakeNeverWaits(t *testing.T) {
	here := newSite(t, "")
	a := here.open(t)
	defer a.Close()
	o := newOrders(a, slog.New(slog.DiscardHandler))
	for range 2 * waitingOrders {
		o.take(t.Context(), ordered(&protocol.Resend{}))
	}
	if got := len(o.commands); got != waitingOrders {
		t.Errorf("%d commands wait, want %d", got, waitingOrders)
	}
}

// TestOrders_Interrupted: an order that was under way when the agent was killed gets its last word when the agent is back, though
// nobody asks again.
func TestOrders_Interrupted(t *testing.T) {
	here := newSite(t, "control: {allow: [capture]}")
	a, stop := here.start(t)
	interrupted := ordered(capture(1))
	half, err := proto.Marshal(&protocol.Reply{CommandId: interrupted.Id, State: protocol.Reply_STATE_CAPTURING.Enum()})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.spool.Remember(t.Context(), interrupted.GetId(), half); err != nil {
		t.Fatal(err)
	}
	stop()
	a, stop = here.start(t)
	if reply := lastReply(t, a, interrupted); reply.GetState() != protocol.Reply_STATE_FAILED || reply.GetReasonCode() != recorder.ReasonInterrupted {
		t.Errorf("got %v, want failed, interrupted", reply)
	}
	stop()
}
