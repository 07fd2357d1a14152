package main

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/agent/recorder"
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
