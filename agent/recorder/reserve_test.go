package recorder_test

import (
	"context"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/agent/history"
	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/agent/recorder"
	"github.com/fulgidus/heimdall/agent/timetable"
	"github.com/fulgidus/heimdall/protocol"
)

const (
	blockSamples = 12000 // 50 ms
	uhf          = 433.92e6
)

// tuner surveys a receiver as agent/survey does, in the time of a synctest bubble: it goes where its timetable says. The
// first block after a retune settles.
type tuner struct {
	ring  *history.Ring
	table *timetable.Table
	plan  radio.Tuning
	// lost drops the blocks of these numbers; behind them the receiver is at its plan's tuning for one block.
	lost map[uint64]bool
	// setBack is the first block whose time is read from a clock that was set back by an hour; 0: none.
	setBack uint64
}

func newTuner() *tuner {
	u := &tuner{ring: history.New(8 << 20), table: new(timetable.Table), plan: radio.Tuning{CenterHz: center, SampleRateHz: rate}}
	u.table.Open(u.plan, 50*time.Millisecond, []radio.Tuning{u.plan}, 0, timeOf(0))
	return u
}

// run delivers blocks until the context ends.
func (u *tuner) run(ctx context.Context) {
	at, flags, segment, gone := u.plan, radio.Flags(0), uint32(1), uint64(0)
	for n := uint64(0); ctx.Err() == nil; n++ {
		time.Sleep(50 * time.Millisecond)
		if u.lost[n] {
			gone += blockSamples
			at, flags = u.plan, 0
			continue
		}
		b := block(func(float64) complex128 { return 0.25 }, n*blockSamples, blockSamples)
		b.Tuning.CenterHz, b.Tuning.SampleRateHz, b.Flags, b.Segment, b.LostBefore = at.CenterHz, at.SampleRateHz, flags, segment, gone
		if u.setBack > 0 && n >= u.setBack {
			b.Time = b.Time.Add(-time.Hour)
		}
		if gone > 0 {
			segment++
			b.Segment = segment
		}
		gone, flags = 0, 0
		u.ring.Append(b)
		if to, _ := u.table.Turn(b.End(), u.plan); !to.Near(at) {
			at, flags, segment = to, radio.Settling, segment+1
		}
	}
}

// tunable is a station whose receivers can be tuned, 200 ms old.
func tunable(t *testing.T, change func(*station), tuners ...*tuner) *station {
	t.Helper()
	s := newStation(t, func(s *station) {
		s.set.Receivers, s.set.MayTune = nil, true
		s.info.Tunable = true
		s.info.Range = radio.Range{LowHz: 24e6, HighHz: 1.7e9, LowRateHz: 225e3, HighRateHz: 3.2e6, Settling: 50 * time.Millisecond}
		if change != nil {
			change(s)
		}
		for i, u := range tuners {
			s.set.Receivers = append(s.set.Receivers, recorder.Receiver{
				ID: string(rune('a' + i)), History: u.ring, Table: u.table, Info: func() (radio.Info, bool) { return s.info, true },
			})
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for _, u := range tuners {
		running.Go(func() { u.run(ctx) })
	}
	time.Sleep(200*time.Millisecond + time.Millisecond)
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return s
}

func uhfOrder(start, seconds float64) *protocol.Capture {
	o := order(epoch.Add(time.Duration(start*1e9)), seconds)
	o.CenterHz, o.BandwidthHz = proto.Float64(uhf), proto.Float64(12.5e3)
	return o
}

func TestCapture_Retunes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newTuner()
		s := tunable(t, nil, u)
		last := s.capture(t, uhfOrder(1, 2)).last()
		m := last.GetCapture()
		if last.GetState() != protocol.Reply_STATE_DONE || last.GetReasonCode() != "" || m.GetTuning().GetCenterHz() != uhf || m.GetCenterHz() != uhf {
			t.Fatalf("got %v, want a capture at %.0f Hz", last, uhf)
		}
		if late := time.Unix(0, m.GetStart()).Sub(epoch.Add(time.Second)); late < 0 || late > 5*time.Microsecond || m.GetDurationS() < 1.9999 || len(m.GetGaps()) > 0 {
			t.Errorf("it begins %v late, lasts %v s, with gaps %v", late, m.GetDurationS(), m.GetGaps())
		}
		time.Sleep(200 * time.Millisecond)
		if at := u.ring.Span().Tuning; at.CenterHz != center {
			t.Errorf("afterwards the receiver is at %.0f Hz, want its plan", at.CenterHz)
		}
	})
}

func TestCapture_RefusesToTune(t *testing.T) {
	for _, tc := range []struct {
		name    string
		station func(*station)
		order   *protocol.Capture
		code    string
		says    string
		earlier float64 // the earliest start, s; 0: none is said
	}{
		{"not allowed", func(s *station) { s.set.MayTune = false }, uhfOrder(1, 1), recorder.ReasonOutOfPassband, "control.allow: [capture, tune]", 0},
		{"in the past", nil, uhfOrder(0.05, 0.05), recorder.ReasonOutOfPassband, "heard 145.38 MHz to 145.62 MHz then", 0},
		{"too near", nil, uhfOrder(0.27, 1), recorder.ReasonTooSoon, "start 2026-11-24T02:00:00.394Z: receiver \"a\" has to be tuned", 0.3},
		{"since a while ago", nil, uhfOrder(0.1, 1), recorder.ReasonTooSoon, "", 0.3},
		{"out of range", nil, &protocol.Capture{Start: uhfOrder(1, 1).Start, CenterHz: proto.Float64(2.4e9), DurationS: proto.Float64(1)}, recorder.ReasonOutOfPassband, "can be tuned to 24 MHz to 1.7 GHz", 0},
		{"too wide", nil, &protocol.Capture{Start: uhfOrder(1, 1).Start, CenterHz: proto.Float64(uhf), BandwidthHz: proto.Float64(10e6), DurationS: proto.Float64(1)}, recorder.ReasonOutOfPassband, "at up to 3.2 MHz", 0},
		{"the owner denies it", func(s *station) {
			s.set.Permit = func(r recorder.Reveals) (string, string) {
				if r.LowHz > 200e6 {
					return "frequency_denied", "no"
				}
				return "", ""
			}
		}, uhfOrder(1, 1), "frequency_denied", "no", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := newTuner()
				s := tunable(t, tc.station, u)
				r := s.capture(t, tc.order)
				last := r.last()
				if len(r.replies) != 1 || last.GetState() != protocol.Reply_STATE_REFUSED || last.GetReasonCode() != tc.code || !strings.Contains(last.GetMessage(), tc.says) {
					t.Errorf("got %v, want refused with %s that says %q", r.replies, tc.code, tc.says)
				}
				earliest := 0.0
				if at := last.GetEarliestStart(); at != 0 {
					earliest = time.Unix(0, at).Sub(epoch).Seconds()
				}
				if math.Abs(earliest-tc.earlier) > 1e-3 {
					t.Errorf("earliest start at %v s, want %v", earliest, tc.earlier)
				}
				time.Sleep(time.Second)
				if at := u.ring.Span().Tuning; at.CenterHz != center {
					t.Errorf("the receiver went to %.0f Hz", at.CenterHz)
				}
			})
		})
	}
}

// A receiver that is just being connected has no timetable yet, and no samples.
func TestCapture_WhileTheReceiverIsConnected(t *testing.T) {
	for _, mayTune := range []bool{false, true} {
		s := newStation(t, func(s *station) {
			s.set.MayTune, s.info.Tunable = mayTune, true
			s.info.Range = radio.Range{LowHz: 24e6, HighHz: 1.7e9, LowRateHz: 225e3, HighRateHz: 3.2e6}
			s.set.Receivers[0].Table = new(timetable.Table)
		})
		if last := s.capture(t, order(epoch.Add(time.Minute), 1)).last(); last.GetReasonCode() != recorder.ReasonReceiverOffline {
			t.Errorf("may tune %v: %v, want receiver_offline", mayTune, last)
		}
	}
}

// What was refused as too near is done at the time that the refusal named; without a start it is done as soon as that.
func TestCapture_AtTheEarliestStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := tunable(t, nil, newTuner())
		again := uhfOrder(0.2, 0.5)
		again.Start = s.capture(t, again).last().EarliestStart
		if last := s.capture(t, again).last(); last.GetState() != protocol.Reply_STATE_DONE || math.Abs(last.GetCapture().GetDurationS()-0.5) > 1e-3 {
			t.Errorf("at the earliest start: %v", last)
		}
		soon := uhfOrder(0, 0.5)
		soon.Start = nil
		began := time.Now()
		last := s.capture(t, soon).last()
		if took := time.Since(began); last.GetState() != protocol.Reply_STATE_DONE || took > 800*time.Millisecond {
			t.Errorf("without a start: %v after %v", last, took)
		}
	})
}

// Two orders of two tunings at one time: the first has the receiver, whatever it hears anyway; the second is told when; another
// receiver does it at once.
func TestCapture_Busy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := newTuner(), newTuner()
		s := tunable(t, nil, one)
		both := tunable(t, nil, one, two)
		var running sync.WaitGroup
		running.Go(func() {
			if last := s.capture(t, order(epoch.Add(time.Second), 1)).last(); last.GetState() != protocol.Reply_STATE_DONE {
				t.Errorf("the plan's own frequency: %v", last)
			}
		})
		running.Go(func() {
			if last := s.capture(t, channelOrder(epoch.Add(1500*time.Millisecond), 1)).last(); last.GetState() != protocol.Reply_STATE_DONE {
				t.Errorf("side by side with it: %v", last)
			}
		})
		synctest.Wait()
		last := s.capture(t, uhfOrder(1.5, 1)).last()
		// Until 2.5 s and the reach of a filter, then 100 ms to get there.
		if at := time.Unix(0, last.GetEarliestStart()).Sub(epoch).Seconds(); last.GetReasonCode() != recorder.ReasonBusy || at < 2.6 || at > 2.65 {
			t.Errorf("got %v, want busy until about 2.6 s", last)
		}
		if last := both.capture(t, uhfOrder(1.5, 0.5)).last(); last.GetCapture().GetReceiver() != "b" {
			t.Errorf("with two receivers: %v, want it from the free one", last)
		}
		running.Wait()
	})
}

func TestCapture_GivesWayToAMoreUrgentOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := tunable(t, nil, newTuner())
		var running sync.WaitGroup
		running.Go(func() {
			r := s.capture(t, uhfOrder(2, 1))
			last := r.last()
			if last.GetState() != protocol.Reply_STATE_REFUSED || last.GetReasonCode() != recorder.ReasonBusy || r.states()[0] != "ACCEPTED" {
				t.Errorf("displaced: %v, want accepted and then refused, busy", r.replies)
			}
			if at := time.Unix(0, last.GetEarliestStart()).Sub(epoch).Seconds(); at < 2.6 || at > 2.65 {
				t.Errorf("it could start at %v s, want 2.6", at)
			}
		})
		synctest.Wait()
		urgent := order(epoch.Add(1500*time.Millisecond), 1)
		urgent.Priority = proto.Int32(1)
		if last := s.capture(t, urgent).last(); last.GetState() != protocol.Reply_STATE_DONE || last.GetCapture().GetTuning().GetCenterHz() != center {
			t.Errorf("the urgent one: %v", last)
		}
		running.Wait()
	})
}

// A cancelled order gives the receiver back at once.
func TestCapture_CancelledGivesTheReceiverBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newTuner()
		s := tunable(t, nil, u)
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(recorder.ErrCancelled) })
		if err := s.Capture(ctx, command("c", uhfOrder(0.5, 3600))); err != nil {
			t.Fatal(err)
		}
		if last := s.sink.result(t, "c").last(); last.GetState() != protocol.Reply_STATE_CANCELLED {
			t.Errorf("got %v, want cancelled", last)
		}
		time.Sleep(200 * time.Millisecond)
		if at := u.ring.Span().Tuning; at.CenterHz != center {
			t.Errorf("the receiver is still at %.0f Hz", at.CenterHz)
		}
	})
}

// Lost in the middle and back at its plan for a while, the receiver leaves a gap: what it heard elsewhere, and while settling,
// is none of the capture's.
func TestCapture_ReceiverIsLostMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newTuner()
		u.lost = map[uint64]bool{30: true, 31: true}
		s := tunable(t, nil, u)
		o := uhfOrder(1, 2)
		o.BandwidthHz = nil
		last := s.capture(t, o).last()
		m := last.GetCapture()
		// Two blocks are lost, one is of the plan, one settles: 1.5 s to 1.7 s, of samples that ended at 3 s all the same.
		if len(m.GetGaps()) != 1 || m.GetGaps()[0].GetLost() != 4*blockSamples || m.GetGaps()[0].GetExact() || math.Abs(m.GetDurationS()-2) > 1e-4 {
			t.Fatalf("got %v, want one gap of %d samples in 2 s", last, 4*blockSamples)
		}
		if at := time.Unix(0, m.GetGaps()[0].GetTime()).Sub(timeOf(34 * blockSamples)).Abs(); at > time.Nanosecond {
			t.Errorf("the gap ends %v off", at)
		}
	})
}

// Where the receiver has a spike at its centre, a narrow band is heard beside it.
func TestCapture_RetunesBesideTheSpike(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := tunable(t, func(s *station) { s.info.MaskDC = true }, newTuner())
		m := s.capture(t, uhfOrder(1, 0.2)).last().GetCapture()
		if got, want := m.GetTuning().GetCenterHz(), uhf-rate/4; math.Abs(got-want) > 1 || m.GetCenterHz() != uhf {
			t.Errorf("tuned to %.0f Hz for %.0f Hz, want %.0f", got, m.GetCenterHz(), want)
		}
	})
}

func tuneCommand(id string, order *protocol.Tune) *protocol.Command {
	return &protocol.Command{Id: &id, Order: &protocol.Command_Tune{Tune: order}}
}

// tune orders one and returns its replies.
func (s *station) tune(t *testing.T, order *protocol.Tune) result {
	t.Helper()
	id := uuid.NewString()
	if err := s.Tune(t.Context(), tuneCommand(id, order)); err != nil {
		t.Fatal(err)
	}
	return s.sink.result(t, id)
}

func TestTune_HoldsTheReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newTuner()
		s := tunable(t, nil, u)
		began := time.Now()
		s.sink.seen = func(r *protocol.Record) {
			if r.GetReply().GetState() != protocol.Reply_STATE_CAPTURING {
				return
			}
			if took := time.Since(began); took > 300*time.Millisecond || !strings.Contains(r.GetReply().GetMessage(), `"a" is at 433.92 MHz, 250 kHz of samples, until 2026-11-24T02:00:02`) {
				t.Errorf("there after %v: %v", took, r.GetReply())
			}
			if at := u.ring.Span().Tuning; at.CenterHz != uhf || at.SampleRateHz != 250e3 {
				t.Errorf("the receiver is at %+v", at)
			}
		}
		r := s.tune(t, &protocol.Tune{CenterHz: proto.Float64(uhf), SampleRateHz: proto.Float64(250e3), DurationS: proto.Float64(2)})
		if diff := cmp.Diff([]string{"ACCEPTED", "CAPTURING", "DONE"}, r.states()); diff != "" {
			t.Errorf("states (-want +got): %s\n%v", diff, r.last())
		}
		if took := time.Since(began); took < 2*time.Second || took > 2300*time.Millisecond {
			t.Errorf("it took %v, want 2 s and the retune", took)
		}
		time.Sleep(200 * time.Millisecond)
		if at := u.ring.Span().Tuning; at.CenterHz != center {
			t.Errorf("afterwards the receiver is at %.0f Hz, want its plan", at.CenterHz)
		}
	})
}

// Nobody has a receiver for longer because the clock was set back.
func TestTune_EndsThoughTheClockIsSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newTuner()
		u.setBack = 20
		s := tunable(t, func(s *station) { s.set.Patience = time.Second }, u)
		began := time.Now()
		r := s.tune(t, &protocol.Tune{CenterHz: proto.Float64(uhf), DurationS: proto.Float64(2)})
		if took := time.Since(began); r.last().GetState() != protocol.Reply_STATE_DONE || took > 4*time.Second {
			t.Errorf("got %v after %v, want done after 2 s and the patience", r.last(), took)
		}
		time.Sleep(200 * time.Millisecond)
		if at := u.ring.Span().Tuning; at.CenterHz != center {
			t.Errorf("afterwards the receiver is at %.0f Hz, want its plan", at.CenterHz)
		}
	})
}

func TestTune_IsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newTuner()
		s := tunable(t, nil, u)
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(recorder.ErrCancelled) })
		began := time.Now()
		if err := s.Tune(ctx, tuneCommand("c", &protocol.Tune{CenterHz: proto.Float64(uhf)})); err != nil {
			t.Fatal(err)
		}
		if last := s.sink.result(t, "c").last(); last.GetState() != protocol.Reply_STATE_CANCELLED || time.Since(began) != time.Second {
			t.Errorf("got %v after %v, want cancelled at once", last, time.Since(began))
		}
		time.Sleep(200 * time.Millisecond)
		if at := u.ring.Span().Tuning; at.CenterHz != center {
			t.Errorf("the receiver is still at %.0f Hz", at.CenterHz)
		}
	})
}

func TestTune_Refuses(t *testing.T) {
	hz := proto.Float64
	for _, tc := range []struct {
		name    string
		station func(*station)
		order   *protocol.Tune
		code    string
	}{
		{"fixed", func(s *station) { s.info.Tunable = false }, &protocol.Tune{CenterHz: hz(uhf)}, recorder.ReasonNotTunable},
		{"recorded times", func(s *station) { s.info.Timeline = false }, &protocol.Tune{CenterHz: hz(uhf)}, recorder.ReasonNotLive},
		{"out of range", nil, &protocol.Tune{CenterHz: hz(2.4e9)}, recorder.ReasonOutOfPassband},
		{"rate out of range", nil, &protocol.Tune{CenterHz: hz(uhf), SampleRateHz: hz(1e3)}, recorder.ReasonOutOfPassband},
		{"no frequency", nil, &protocol.Tune{CenterHz: hz(math.NaN())}, recorder.ReasonBadFrequency},
		{"too long", nil, &protocol.Tune{CenterHz: hz(uhf), DurationS: hz(3601)}, recorder.ReasonBadDuration},
		{"other receiver", nil, &protocol.Tune{CenterHz: hz(uhf), Receiver: proto.String("z")}, recorder.ReasonUnknownReceiver},
		{"the owner denies the edge", func(s *station) {
			s.set.Permit = func(r recorder.Reveals) (string, string) {
				if r.HighHz > uhf+rate/2-1 {
					return "frequency_denied", "no"
				}
				return "", ""
			}
		}, &protocol.Tune{CenterHz: hz(uhf)}, "frequency_denied"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := tunable(t, tc.station, newTuner())
				if r := s.tune(t, tc.order); len(r.replies) != 1 || r.last().GetState() != protocol.Reply_STATE_REFUSED || r.last().GetReasonCode() != tc.code {
					t.Errorf("got %v, want refused with %s", r.replies, tc.code)
				}
			})
		})
	}
}

// An order for now does not wait for a receiver while another one is free.
func TestTune_TakesTheFreeReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := newTuner(), newTuner()
		s := tunable(t, nil, one, two)
		var running sync.WaitGroup
		running.Go(func() { s.tune(t, &protocol.Tune{CenterHz: proto.Float64(868e6), DurationS: proto.Float64(10)}) })
		synctest.Wait()
		began := time.Now()
		r := s.tune(t, &protocol.Tune{CenterHz: proto.Float64(uhf), DurationS: proto.Float64(1)})
		if took := time.Since(began); r.last().GetState() != protocol.Reply_STATE_DONE || took > 1500*time.Millisecond {
			t.Errorf("got %v after %v, want it from the free receiver at once", r.last(), took)
		}
		running.Wait()
	})
}

// An order for now waits for a receiver that others have, unless it would expire meanwhile.
func TestTune_WaitsItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := tunable(t, nil, newTuner())
		var running sync.WaitGroup
		running.Go(func() { s.tune(t, &protocol.Tune{CenterHz: proto.Float64(868e6), DurationS: proto.Float64(3)}) })
		synctest.Wait()
		short := tuneCommand("short", &protocol.Tune{CenterHz: proto.Float64(uhf), DurationS: proto.Float64(1)})
		short.Expires = proto.Int64(epoch.Add(2 * time.Second).UnixNano())
		if err := s.Tune(t.Context(), short); err != nil {
			t.Fatal(err)
		}
		last := s.sink.result(t, "short").last()
		if at := time.Unix(0, last.GetEarliestStart()).Sub(epoch).Seconds(); last.GetReasonCode() != recorder.ReasonBusy || math.Abs(at-3.5) > 0.1 {
			t.Errorf("expires before: %v, want busy until 3.5 s", last)
		}
		if r := s.tune(t, &protocol.Tune{CenterHz: proto.Float64(uhf), DurationS: proto.Float64(1)}); r.last().GetState() != protocol.Reply_STATE_DONE {
			t.Errorf("without an expiry: %v", r.last())
		}
		running.Wait()
	})
}
