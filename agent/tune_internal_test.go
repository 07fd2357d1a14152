package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/agent/recorder"
	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

// elsewhereHz is a frequency far from what the site's receiver hears.
const elsewhereHz = 433.92e6

// elsewhere orders half a second there, some time from now.
func elsewhere(in time.Duration) *protocol.Capture {
	order := capture(0.5)
	order.CenterHz, order.BandwidthHz = proto.Float64(elsewhereHz), proto.Float64(12.5e3)
	order.Start = proto.Int64(time.Now().Add(in).UnixNano())
	return order
}

// follows waits until the station's receiver is at a frequency.
func (s site) follows(t *testing.T, a *Agent, centerHz float64) {
	t.Helper()
	eventually(t, fmt.Sprintf("the receiver is at %.0f Hz", centerHz), func() error {
		if at := a.receivers[0].history.Span().Tuning.CenterHz; at != centerHz {
			return fmt.Errorf("it is at %.0f Hz", at)
		}
		return nil
	})
}

// A capture beside the passband takes the receiver there; measurements of the plan stop meanwhile and go on afterwards.
func TestOrders_Retune(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	here := newSite(t, "control: {allow: [capture, tune], deny: [868M-869M]}")
	a, stop := here.start(t)
	here.hears(t)
	if got := here.hears(t).Info.Capabilities; !slices.Equal(got, []string{"capture", "tune"}) {
		t.Errorf("capabilities %v", got)
	}

	denied := elsewhere(2 * time.Second)
	denied.CenterHz = proto.Float64(868.3e6)
	cmd := ordered(denied)
	a.orders.take(t.Context(), cmd)
	if reply := lastReply(t, a, cmd); reply.GetReasonCode() != "frequency_denied" {
		t.Errorf("got %v, want what the owner says", reply)
	}

	order := elsewhere(2 * time.Second)
	cmd = ordered(order)
	a.orders.take(t.Context(), cmd)
	reply := lastReply(t, a, cmd)
	m := reply.GetCapture()
	if reply.GetState() != protocol.Reply_STATE_DONE || m.GetTuning().GetCenterHz() != elsewhereHz || len(m.GetGaps()) > 0 || math.Abs(m.GetDurationS()-0.5) > 1e-3 {
		t.Fatalf("got %v, want half a second without a gap", reply)
	}
	if late := time.Duration(m.GetStart() - order.GetStart()); late < 0 || late > 100*time.Microsecond {
		t.Errorf("it begins %v late", late)
	}
	here.follows(t, a, skyCenterHz)
	before := a.spool.Stats().LastSeq
	eventually(t, "the plan goes on", func() error {
		if a.spool.Stats().LastSeq < before+5 {
			return fmt.Errorf("%d records", a.spool.Stats().LastSeq-before)
		}
		return nil
	})
	stop()

	from, to := m.GetStart(), m.GetStart()+int64(5e8)
	after := 0
	for _, r := range here.records(t)[protocol.KindMeasurement] {
		x := r.GetMeasurement()
		if x.GetCenterHz() != skyCenterHz {
			t.Errorf("the plan measured %.0f Hz", x.GetCenterHz())
		}
		if end := r.GetTime() + int64(x.GetDurationS()*1e9); end > from && r.GetTime() < to {
			t.Errorf("a measurement from %v to %v, while the receiver was elsewhere", time.Unix(0, r.GetTime()), time.Unix(0, end))
		}
		if r.GetTime() >= to {
			after++
		}
	}
	if after == 0 {
		t.Error("nothing was measured afterwards")
	}
}

// The word to record includes the steps of the plan: the receiver jumps to one and stays for longer than its dwell.
func TestOrders_HoldAStep(t *testing.T) {
	here := newSite(t, "control: {allow: [capture]}")
	text, err := os.ReadFile(here.config)
	if err != nil {
		t.Fatal(err)
	}
	plan := "plan: [{name: all, center: 145.5M, dwell: 200ms}, {name: uhf, center: 433.9M, dwell: 200ms}, {name: hf, center: 14M, dwell: 200ms}], fft:"
	write(t, here.config, strings.Replace(string(text), "fft:", plan, 1))
	a, _ := here.start(t)
	here.hears(t)
	order := elsewhere(2 * time.Second)
	order.DurationS = proto.Float64(1.5)
	cmd := ordered(order)
	a.orders.take(t.Context(), cmd)
	reply := lastReply(t, a, cmd)
	m := reply.GetCapture()
	late := time.Duration(m.GetStart() - m.GetAskedStart()).Seconds() // a busy computer tunes late, and says so
	if reply.GetState() != protocol.Reply_STATE_DONE || reply.GetReasonCode() != "" || m.GetTuning().GetCenterHz() != 433.9e6 || late > 0.05 || math.Abs(late+m.GetDurationS()-1.5) > 1e-3 {
		t.Errorf("got %v, want 1.5 s at the plan's step", reply)
	}
	for _, hz := range []float64{skyCenterHz, 433.9e6, 14e6} {
		here.follows(t, a, hz)
	}
}

func TestOrders_RetuneNotAllowed(t *testing.T) {
	here := newSite(t, "control: {allow: [capture]}")
	a, _ := here.start(t)
	here.hears(t)
	cmd := ordered(elsewhere(2 * time.Second))
	a.orders.take(t.Context(), cmd)
	if reply := lastReply(t, a, cmd); reply.GetReasonCode() != recorder.ReasonOutOfPassband {
		t.Errorf("got %v, want out_of_passband", reply)
	}
}

// Over a real broker: an order to tune takes the receiver there, everybody sees so, and a cancel brings it back.
func TestOrders_TuneAndCancel(t *testing.T) {
	broker := servers.Mosquitto(t)
	latest, _ := retained(t, broker.URL)
	here := newSite(t, "control: {allow: [capture, tune]}\nmqtt: {url: \""+broker.URL+"\"}")
	a, stop := here.start(t)
	here.hears(t)
	send := commander(t, broker.URL)
	tune := ordered(&protocol.Tune{CenterHz: proto.Float64(elsewhereHz), DurationS: proto.Float64(600)})
	send(tune)

	here.follows(t, a, elsewhereHz)
	eventually(t, "the state says who holds the receiver", func() error {
		var s protocol.State
		text := latest("heimdall/v1/torino/state")
		if err := json.Unmarshal(text, &s); err != nil {
			return err
		}
		if away := s.Receivers["r0"].Away; away == nil || away.Order != tune.GetId() || away.CenterHz != elsewhereHz || len(text) >= stateBytes {
			return fmt.Errorf("%s", text)
		}
		return nil
	})
	var line tapLine
	for line.Away == nil { // the first may be of what was measured before
		line = linesOf[tapLine](t, firstLine(t, TapCmd{configFlag: configFlag{here.config}, JSON: true}))[0]
	}
	if want := "r0 off its plan, at 433.92 MHz for order " + tune.GetId(); line.Receiver != "r0" || !strings.Contains(line.String(), want) {
		t.Errorf("tap: %s, want it to say %q", line, want)
	}
	text, err := output(t, StatusCmd{configFlag: configFlag{here.config}})
	wants := []string{
		"receiver r0: simulated receiver torino at 433.92 MHz, ",
		"off its plan, at 433.92 MHz for order " + tune.GetId() + " until ", "; its plan is at 145.5 MHz\n",
	}
	for _, want := range wants {
		if err != nil || !strings.Contains(text, want) {
			t.Errorf("status: %v, no %q in\n%s", err, want, text)
		}
	}
	if _, until, _ := strings.Cut(text, tune.GetId()+" until "); !regexp.MustCompile(`^\S{19}Z; `).MatchString(until) {
		t.Errorf("status: the time is not in whole seconds in\n%s", text)
	}
	beside := ordered(elsewhere(time.Second)) // the same tuning
	send(beside)
	if reply := lastReply(t, a, beside); reply.GetState() != protocol.Reply_STATE_DONE {
		t.Errorf("a capture at the same tuning: %v", reply)
	}
	other := ordered(capture(0.5))
	other.GetCapture().Start = proto.Int64(time.Now().Add(time.Second).UnixNano())
	send(other)
	reply := lastReply(t, a, other)
	if in := time.Until(time.Unix(0, reply.GetEarliestStart())); reply.GetReasonCode() != recorder.ReasonBusy || in < 500*time.Second || in > 600*time.Second {
		t.Errorf("a capture of the plan meanwhile: %v, want busy for ten minutes", reply)
	}

	cancel := ordered(&protocol.Cancel{Id: tune.Id})
	send(cancel)
	if reply := lastReply(t, a, tune); reply.GetState() != protocol.Reply_STATE_CANCELLED {
		t.Errorf("got %v, want cancelled", reply)
	}
	here.follows(t, a, skyCenterHz)
	stop()
}

// commander sends commands to the station as a collector does, in the form for people.
func commander(t *testing.T, url string) func(*protocol.Command) {
	t.Helper()
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + strings.TrimPrefix(url, "mqtt://")).SetClientID("commander"))
	settle := func(token mqtt.Token) {
		t.Helper()
		if !token.WaitTimeout(10*time.Second) || token.Error() != nil {
			t.Fatal(token.Error())
		}
	}
	settle(client.Connect())
	t.Cleanup(func() { client.Disconnect(0) })
	return func(cmd *protocol.Command) {
		t.Helper()
		text, err := protocol.MarshalJSON(cmd)
		if err != nil {
			t.Fatal(err)
		}
		settle(client.Publish("heimdall/v1/torino/command", 1, false, text))
	}
}
