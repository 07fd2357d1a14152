package recorder_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/agent/history"
	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/agent/recorder"
	"github.com/fulgidus/heimdall/agent/timetable"
	"github.com/fulgidus/heimdall/dsp"
	"github.com/fulgidus/heimdall/protocol"
)

var errDisk = errors.New("disk is full")

func TestCapture_Refuses(t *testing.T) {
	span := 100000 / rate
	for _, tc := range []struct {
		name    string
		station func(*station)
		order   func(*protocol.Capture)
		code    string
		says    string
	}{
		{
			"above the passband", nil, func(o *protocol.Capture) { o.CenterHz = proto.Float64(center + 121e3) },
			recorder.ReasonOutOfPassband, "145.621 MHz: receiver \"main\" heard 145.38 MHz to 145.62 MHz then: order a frequency inside",
		},
		{
			"channel over the edge", nil, func(o *protocol.Capture) {
				o.CenterHz, o.BandwidthHz = proto.Float64(center+115e3), proto.Float64(12.5e3)
			},
			recorder.ReasonOutOfPassband, "145.615 MHz with a bandwidth of 12.5 kHz: receiver",
		},
		{
			"before the history", nil, func(o *protocol.Capture) { o.Start = proto.Int64(epoch.Add(-2 * time.Second).UnixNano()) },
			recorder.ReasonHistoryExceeded, "2026-11-24T01:59:58.123456789Z is 2s before the history begins: start at 2026-11-24T02:00:00.124Z or later",
		},
		{
			"years before the history", nil, func(o *protocol.Capture) { o.Start = proto.Int64(epoch.AddDate(-7, 0, 0).UnixNano()) },
			recorder.ReasonHistoryExceeded, "is 2557 days before the history begins: start at 2026-11-24T02:00:00.124Z or later",
		},
		{
			"recorded timeline", func(s *station) { s.info.Timeline = false }, nil,
			recorder.ReasonNotLive, "give its source an anchor",
		},
		{"no duration", nil, func(o *protocol.Capture) { o.DurationS = nil }, recorder.ReasonBadDuration, "duration_s 0: want more than 0"},
		{"negative duration", nil, func(o *protocol.Capture) { o.DurationS = proto.Float64(-1) }, recorder.ReasonBadDuration, "-1"},
		{"NaN duration", nil, func(o *protocol.Capture) { o.DurationS = proto.Float64(math.NaN()) }, recorder.ReasonBadDuration, "NaN"},
		{"endless", nil, func(o *protocol.Capture) { o.DurationS = proto.Float64(math.Inf(1)) }, recorder.ReasonBadDuration, "Inf"},
		{
			"longer than allowed", func(s *station) { s.set.MaxDuration = time.Second },
			func(o *protocol.Capture) { o.DurationS = proto.Float64(1.5) },
			recorder.ReasonBadDuration, "at most 1s at once",
		},
		{
			"for weeks", nil, func(o *protocol.Capture) { o.DurationS, o.Iq = proto.Float64(1e6), nil },
			recorder.ReasonBadDuration, "at most 24h0m0s at once",
		},
		{
			"too large", func(s *station) { s.set.MaxBytes = 960005 }, func(o *protocol.Capture) { o.DurationS = proto.Float64(2) },
			recorder.ReasonTooLarge, "1.8 MiB of IQ are more than the 937.5 KiB allowed: at most 1 s fit",
		},
		{"no bandwidth", nil, func(o *protocol.Capture) { o.BandwidthHz = proto.Float64(0) }, recorder.ReasonBadBandwidth, "bandwidth_hz 0"},
		{"far too narrow", nil, func(o *protocol.Capture) { o.BandwidthHz = proto.Float64(1e-6) }, recorder.ReasonBadBandwidth, "too narrow"},
		{"frequency", nil, func(o *protocol.Capture) { o.CenterHz = proto.Float64(math.NaN()) }, recorder.ReasonBadFrequency, "center_hz NaN"},
		{
			"next year", nil, func(o *protocol.Capture) { o.Start = proto.Int64(epoch.AddDate(1, 0, 0).UnixNano()) },
			recorder.ReasonBadStart, "more than a day ahead",
		},
		{"other receiver", nil, func(o *protocol.Capture) { o.Receiver = proto.String("hf") }, recorder.ReasonUnknownReceiver, `receiver "hf"`},
		{"no receivers", func(s *station) { s.set.Receivers = nil }, nil, recorder.ReasonReceiverOffline, "no receiver"},
		{
			"not connected", func(s *station) { s.live = false },
			func(o *protocol.Capture) { o.Start = proto.Int64(timeOf(99000).UnixNano()) },
			recorder.ReasonReceiverOffline, "not connected",
		},
		{
			"nothing yet", func(s *station) { s.set.Receivers[0].History = history.New(0) },
			func(o *protocol.Capture) { o.Start = nil },
			recorder.ReasonReceiverOffline, "not connected",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newStation(t, tc.station)
			fill(s.ring, tones, 0, 100000)
			o := order(timeOf(10), span/10)
			if tc.order != nil {
				tc.order(o)
			}
			r := s.capture(t, o)
			last := r.last()
			if len(r.replies) != 1 || last.GetState() != protocol.Reply_STATE_REFUSED || last.GetReasonCode() != tc.code {
				t.Errorf("got %v, want one refusal with %s", r.replies, tc.code)
			}
			if !strings.Contains(last.GetMessage(), tc.says) {
				t.Errorf("message %q does not say %q", last.GetMessage(), tc.says)
			}
			if tc.code == recorder.ReasonHistoryExceeded && last.GetEarliestStart() != epoch.UnixNano() {
				t.Errorf("earliest start: got %d, want %d", last.GetEarliestStart(), epoch.UnixNano())
			}
		})
	}
}

// The owner is asked for the band that the recording would hold: without a bandwidth, all that the receiver hears.
func TestCapture_AsksTheOwnerForTheWholeBand(t *testing.T) {
	for name, tc := range map[string]struct {
		bandwidthHz      float64
		wantLow, wantTop float64
	}{
		"channel":        {12.5e3, center - rate/15/2, center + rate/15/2}, // all that its samples show
		"wide channel":   {100e3, center - rate/2, center + rate/2},        // too wide for a lower rate: nothing is cut off
		"whole passband": {0, center - rate/2, center + rate/2},
	} {
		t.Run(name, func(t *testing.T) {
			var low, top float64
			s := newStation(t, func(s *station) {
				s.set.Permit = func(r recorder.Reveals) (code, message string) {
					low, top = r.LowHz, r.HighHz
					return "frequency_denied", "the owner denies 100 % of it"
				}
			})
			fill(s.ring, tones, 0, 100000)
			o := order(timeOf(1000), 0.1)
			if tc.bandwidthHz > 0 {
				o.BandwidthHz = &tc.bandwidthHz
			}
			last := s.capture(t, o).last()
			if last.GetState() != protocol.Reply_STATE_REFUSED || last.GetReasonCode() != "frequency_denied" || last.GetMessage() != "the owner denies 100 % of it" {
				t.Errorf("got %v, want the owner's refusal", last)
			}
			if low != tc.wantLow || top != tc.wantTop {
				t.Errorf("asked for %.0f to %.0f Hz, want %.0f to %.0f", low, top, tc.wantLow, tc.wantTop)
			}
		})
	}
}

func TestCapture_DisconnectedReceiverStillHasItsPast(t *testing.T) {
	s := newStation(t, func(s *station) { s.live = false })
	fill(s.ring, tones, 0, 100000)
	r := s.capture(t, order(timeOf(1000), 0.1))
	if !slices.Equal(r.data, rawOf(tones, 1000, 25000)) {
		t.Errorf("ended as %v", r.last())
	}
}

func TestCapture_ChoosesTheReceiver(t *testing.T) {
	s := newStation(t, func(s *station) {
		add := func(id string, centerHz, rateHz float64) {
			ring := history.New(0)
			b := block(tones, 0, 60000)
			b.Tuning.CenterHz, b.Tuning.SampleRateHz = centerHz, rateHz
			ring.Append(b)
			info := radio.Info{Timeline: true, Format: dsp.CS16, Tuning: b.Tuning}
			s.set.Receivers = append(s.set.Receivers, recorder.Receiver{
				ID: id, History: ring, Info: func() (radio.Info, bool) { return info, true },
			})
		}
		add("wide", center, 2.4e6)
		add("uhf", 433.92e6, 250e3)
	})
	fill(s.ring, tones, 0, 60000)
	for _, tc := range []struct {
		receiver          string
		centerHz, widthHz float64
		want, code        string
	}{
		{"", center + 10e3, 0, "main", ""}, // the narrowest that covers it
		{"", center + 200e3, 0, "wide", ""},
		{"", center + 115e3, 12.5e3, "wide", ""},
		{"wide", center, 0, "wide", ""},
		{"", 433.9e6, 0, "uhf", ""},
		{"uhf", center, 0, "", recorder.ReasonOutOfPassband},
		{"", 868e6, 0, "", recorder.ReasonOutOfPassband},
	} {
		o := order(timeOf(100), 0.001)
		o.CenterHz, o.Receiver = &tc.centerHz, &tc.receiver
		if tc.widthHz > 0 {
			o.BandwidthHz = &tc.widthHz
		}
		last := s.capture(t, o).last()
		if last.GetCapture().GetReceiver() != tc.want || last.GetReasonCode() != tc.code {
			t.Errorf("%q at %.0f Hz: got %q, %q, want %q, %q", tc.receiver, tc.centerHz, last.GetCapture().GetReceiver(), last.GetReasonCode(), tc.want, tc.code)
		}
	}
}

func TestCapture_EndsEarlyWithWhatThereIs(t *testing.T) {
	for _, tc := range []struct {
		name, code string
		end        func(*station)
	}{
		{"silence", recorder.ReasonNoSamples, func(*station) {}},
		{"recording ended", recorder.ReasonNoSamples, func(s *station) { s.ring.End() }},
		{"retuned", recorder.ReasonRetuned, func(s *station) {
			b := block(tones, 30000, 1000)
			b.Segment, b.Tuning.CenterHz = 2, 433.92e6
			s.ring.Append(b)
		}},
	} {
		for _, o := range []*protocol.Capture{order(timeOf(20000), 1), channelOrder(timeOf(20000), 1)} {
			s := newStation(t, func(s *station) { s.set.Patience = 50 * time.Millisecond })
			fill(s.ring, tones, 0, 30000)
			tc.end(s)
			r := s.capture(t, o)
			m := r.last().GetCapture()
			if r.last().GetState() != protocol.Reply_STATE_DONE || r.last().GetReasonCode() != tc.code {
				t.Fatalf("%s: ended as %v", tc.name, r.last())
			}
			if said := r.last().GetMessage(); tc.code == recorder.ReasonRetuned && !strings.Contains(said, "was retuned to 433.92 MHz in the middle") {
				t.Errorf("%s: it says %q", tc.name, said)
			}
			if o.BandwidthHz == nil && !slices.Equal(r.data, rawOf(tones, 20000, 30000)) || o.BandwidthHz != nil && m.GetSamples() != 667 {
				t.Errorf("%s: %d samples, want those there were", tc.name, m.GetSamples())
			}
			if want := float64(m.GetSamples()) / m.GetSampleRateHz(); m.GetDurationS() != want {
				t.Errorf("%s: duration %v s, want %v", tc.name, m.GetDurationS(), want)
			}
		}
	}
}

func TestCapture_EndLiesInAGap(t *testing.T) {
	s := newStation(t, nil)
	fill(s.ring, tones, 0, 30000)
	fill(s.ring, tones, 50000, 60000)
	for _, o := range []*protocol.Capture{order(timeOf(20000), 15000/rate), channelOrder(timeOf(20000), 15000/rate)} {
		r := s.capture(t, o)
		m := r.last().GetCapture()
		if got, want := float64(m.GetSamples())/m.GetSampleRateHz(), 10000/rate; math.Abs(got-want) > 1/m.GetSampleRateHz() || len(m.GetGaps()) != 0 {
			t.Errorf("%v s of samples and gaps %v, want %v s and none: nothing follows", got, m.GetGaps(), want)
		}
	}
}

func TestCapture_BeginsInAGap(t *testing.T) {
	s := newStation(t, nil)
	fill(s.ring, tones, 0, 30000)
	fill(s.ring, tones, 50000, 60000)
	r := s.capture(t, order(timeOf(35000), 20000/rate))
	if !slices.Equal(r.data, rawOf(tones, 50000, 55000)) {
		t.Errorf("%d bytes, want samples 50000 to 55000", len(r.data))
	}
	if m := r.last().GetCapture(); m.GetStart() != timeOf(50000).UnixNano() || len(m.GetGaps()) != 0 {
		t.Errorf("start %d, gaps %v", m.GetStart(), m.GetGaps())
	}
	r = s.capture(t, order(timeOf(35000), 5000/rate))
	if r.last().GetState() != protocol.Reply_STATE_FAILED || r.last().GetReasonCode() != recorder.ReasonNoSamples {
		t.Errorf("all lost: ended as %v", r.last())
	}
}

func TestCapture_FailsWithAReason(t *testing.T) {
	for _, tc := range []struct {
		name    string
		station func(*station)
		state   protocol.Reply_State
		code    string
	}{
		{"silence from the start", func(s *station) { s.set.Patience = 20 * time.Millisecond }, protocol.Reply_STATE_FAILED, recorder.ReasonNoSamples},
		{"overwritten", func(s *station) {
			s.sink.seen = func(r *protocol.Record) {
				if r.GetReply().GetState() == protocol.Reply_STATE_CAPTURING {
					s.ring.Clear()
				}
			}
			fill(s.ring, tones, 100000, 110000)
		}, protocol.Reply_STATE_FAILED, recorder.ReasonOverwritten},
		{"overwritten before it began", func(s *station) {
			fill(s.ring, tones, 100000, 110000)
			s.sink.seen = func(r *protocol.Record) {
				if r.GetReply().GetState() == protocol.Reply_STATE_ACCEPTED {
					s.ring.Clear()
					fill(s.ring, tones, 110000, 120000)
				}
			}
		}, protocol.Reply_STATE_REFUSED, recorder.ReasonHistoryExceeded},
		{"retuned before it began", func(s *station) {
			s.sink.seen = func(r *protocol.Record) {
				if r.GetReply().GetState() == protocol.Reply_STATE_ACCEPTED {
					b := block(tones, 90000, 20000)
					b.Tuning.CenterHz = 433.92e6
					s.ring.Append(b)
				}
			}
		}, protocol.Reply_STATE_FAILED, recorder.ReasonOutOfPassband},
		{"counted twice", func(s *station) {
			fill(s.ring, tones, 0, 101000)
			b := block(tones, 100500, 5000)
			b.Segment = 3
			s.ring.Append(b)
		}, protocol.Reply_STATE_DONE, recorder.ReasonInternal},
		{"meter", func(s *station) {
			fill(s.ring, tones, 0, 110000)
			s.set.NewMeter = func(string, radio.Info) (recorder.Meter, error) { return nil, errDisk }
		}, protocol.Reply_STATE_FAILED, recorder.ReasonInternal},
		{"meter refuses", func(s *station) {
			fill(s.ring, tones, 0, 110000)
			s.set.NewMeter = func(string, radio.Info) (recorder.Meter, error) { return &meter{refuses: errDisk}, nil }
		}, protocol.Reply_STATE_FAILED, recorder.ReasonInternal},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newStation(t, tc.station)
			last := s.capture(t, order(timeOf(100000), 5000/rate)).last()
			if last.GetState() != tc.state || last.GetReasonCode() != tc.code || last.GetMessage() == "" {
				t.Errorf("ended as %v, want %v with %s", last, tc.state, tc.code)
			}
		})
	}
}

func TestCapture_CancelAndInterrupt(t *testing.T) {
	stopped := errors.New("agent stops")
	for _, tc := range []struct {
		cause error
		state protocol.Reply_State
		code  string
	}{
		{recorder.ErrCancelled, protocol.Reply_STATE_CANCELLED, ""},
		{stopped, protocol.Reply_STATE_FAILED, recorder.ReasonInterrupted},
	} {
		s := newStation(t, nil)
		fill(s.ring, tones, 0, 10000)
		ctx, cancel := context.WithCancelCause(t.Context())
		s.sink.seen = func(r *protocol.Record) {
			if r.GetReply().GetState() == protocol.Reply_STATE_CAPTURING {
				cancel(tc.cause)
			}
		}
		if err := s.Capture(ctx, command("c1", order(timeOf(5000), 1))); err != nil {
			t.Fatal(err)
		}
		last := s.sink.result(t, "c1").last()
		if last.GetState() != tc.state || last.GetReasonCode() != tc.code {
			t.Errorf("%v: ended as %v", tc.cause, last)
		}
	}
}

// A cancel, or the agent's end, that comes while the last reply is stored changes nothing about it.
func TestCapture_EndsWhileItIsCancelled(t *testing.T) {
	s := newStation(t, nil)
	fill(s.ring, tones, 0, 100000)
	ctx, cancel := context.WithCancelCause(t.Context())
	s.sink.seen = func(r *protocol.Record) {
		if r.GetReply().GetState() == protocol.Reply_STATE_DONE {
			cancel(recorder.ErrCancelled)
		}
	}
	if err := s.Capture(ctx, command("c1", order(timeOf(5000), 0.1))); err != nil {
		t.Errorf("the last reply counts as not stored: %v", err)
	}
	if r := s.sink.result(t, "c1"); r.last().GetState() != protocol.Reply_STATE_DONE {
		t.Errorf("ended as %v, want done", r.last())
	}
}

func TestCapture_Expired(t *testing.T) {
	s := newStation(t, nil)
	fill(s.ring, tones, 0, 10000)
	cmd := command("late", order(timeOf(5000), 1))
	cmd.Expires = proto.Int64(timeOf(199999).UnixNano())
	if err := s.Capture(t.Context(), cmd); err != nil {
		t.Fatal(err)
	}
	if r := s.sink.result(t, "late"); r.last().GetState() != protocol.Reply_STATE_EXPIRED || len(r.replies) != 1 {
		t.Errorf("got %v, want expired", r.replies)
	}
}

// A sink that fails at some point: the failure is the last reply's, or, when that cannot be stored either, the caller's.
func TestCapture_SinkFails(t *testing.T) {
	for _, state := range []string{"ACCEPTED", "CAPTURING", "UPLOADING", "chunk", "DONE"} {
		for _, o := range []*protocol.Capture{order(timeOf(5000), 0.1), channelOrder(timeOf(5000), 0.3)} {
			s := newStation(t, nil)
			fill(s.ring, tones, 0, 100000)
			s.sink.fail = func(r *protocol.Record) error {
				name := strings.TrimPrefix(r.GetReply().GetState().String(), "STATE_")
				if r.GetIq() != nil {
					name = "chunk"
				}
				if name == state {
					return errDisk
				}
				return nil
			}
			err := s.Capture(t.Context(), command("c1", o))
			if state == "DONE" {
				if !errors.Is(err, errDisk) {
					t.Errorf("%s: got %v, want the sink's error", state, err)
				}
				continue
			}
			last := s.sink.result(t, "c1").last()
			if err != nil || last.GetState() != protocol.Reply_STATE_FAILED || !strings.Contains(last.GetMessage(), "disk is full") {
				t.Errorf("%s: got %v and %v", state, err, last)
			}
		}
	}
}

func TestCapture_TooManyGaps(t *testing.T) {
	s := newStation(t, nil)
	for i := range uint64(1500) {
		s.ring.Append(block(tones, 40*i, 20))
	}
	for _, o := range []*protocol.Capture{order(timeOf(0), 0.2), channelOrder(timeOf(0), 0.2)} {
		last := s.capture(t, o).last()
		if last.GetState() != protocol.Reply_STATE_DONE || len(last.GetCapture().GetGaps()) > 1000 || proto.Size(last) > 100<<10 {
			t.Errorf("%d gaps in %d bytes", len(last.GetCapture().GetGaps()), proto.Size(last))
		}
	}
}

// Floats keep their level, whatever it is: the scale follows the first samples.
func TestCapture_FloatScale(t *testing.T) {
	for _, tc := range []struct{ level, scale float64 }{{0.25, 2}, {1, 2}, {1e-4, 0x1p-5}, {40, 256}, {0, 2}} {
		s := newStation(t, func(s *station) { s.info.Format = dsp.CF32 })
		b := block(tones, 0, 0)
		b.Format = dsp.CF32
		for k := range 60000 {
			x := channelTruth(float64(k)) * complex(tc.level/0.25, 0)
			b.Raw = binary.LittleEndian.AppendUint32(b.Raw, math.Float32bits(float32(real(x))))
			b.Raw = binary.LittleEndian.AppendUint32(b.Raw, math.Float32bits(float32(imag(x))))
		}
		s.ring.Append(b)
		o := channelOrder(timeOf(10000), 0.1)
		o.CenterHz = proto.Float64(center)
		m := s.capture(t, o).last().GetCapture()
		if m.GetScale() != tc.scale {
			t.Errorf("level %g: scale %g, want %g", tc.level, m.GetScale(), tc.scale)
		}
		want := 20 * math.Log10(tc.level)
		if p := float64(m.GetMeasurement().GetPowerDbfs()); tc.level > 0 && math.Abs(p-want) > 0.01 {
			t.Errorf("level %g: measured %.3f dBFS, want %.3f", tc.level, p, want)
		}
	}
}

// What exceeds the first samples by more than the scale allows is held at the rail, and the measurement says so.
func TestCapture_FloatClips(t *testing.T) {
	s := newStation(t, func(s *station) { s.info.Format = dsp.CF32 })
	b := block(tones, 0, 0)
	b.Format = dsp.CF32
	for k := range 60000 {
		level := float32(1e-4)
		if k > 40000 {
			level = 1
		}
		b.Raw = binary.LittleEndian.AppendUint32(b.Raw, math.Float32bits(level))
		b.Raw = binary.LittleEndian.AppendUint32(b.Raw, 0)
	}
	s.ring.Append(b)
	o := channelOrder(timeOf(20000), 0.15)
	o.CenterHz = proto.Float64(center)
	m := s.capture(t, o).last().GetCapture()
	if diff := cmp.Diff([]protocol.Flag{protocol.Flag_FLAG_CLIPPED}, m.GetMeasurement().GetFlags()); diff != "" {
		t.Errorf("flags (-want +got):\n%s", diff)
	}
}

// A channel that covers nearly the whole passband is only shifted.
func TestCapture_WholeBandAsChannel(t *testing.T) {
	s := newStation(t, nil)
	fill(s.ring, tones, 0, 60000)
	o := order(timeOf(100), 0.1)
	o.BandwidthHz = proto.Float64(200e3)
	r := s.capture(t, o)
	x := decode(r.data, r.last().GetCapture().GetScale())
	if len(x) != 24000 {
		t.Fatalf("%d samples, want 24000", len(x))
	}
	for k, v := range x {
		want := tones(float64(100 + k))
		if d := math.Hypot(real(v-want), imag(v-want)); d > 1e-4 { // both roundings
			t.Fatalf("sample %d: got %v, want %v", k, v, want)
		}
	}
}

func TestNew_Refuses(t *testing.T) {
	if _, err := recorder.New(recorder.Settings{Sink: &sink{}}); err == nil {
		t.Error("no error without a clock")
	}
	if _, err := recorder.New(recorder.Settings{Now: time.Now}); err == nil {
		t.Error("no error without a sink")
	}
	if _, err := recorder.New(recorder.Settings{Now: time.Now, Sink: &sink{}}); err != nil {
		t.Errorf("defaults: %v", err)
	}
}

// Whatever a command says, to capture or to tune, the answer is a reply and never a panic.
func FuzzCapture(f *testing.F) {
	f.Add(int64(5000), 0.01, center, 12500.0, true)
	f.Add(int64(-1e15), math.Inf(1), math.NaN(), -1.0, false)
	f.Add(int64(math.MaxInt64), 1e300, 1e300, 1e-300, true)
	f.Add(int64(math.MinInt64), 5e-324, 0.0, math.Inf(1), true)
	ring := history.New(1 << 20)
	fill(ring, tones, 0, 100000)
	ring.End()
	info := radio.Info{Timeline: true, Format: dsp.CS16}
	tunable, table := info, new(timetable.Table)
	tunable.Tunable, tunable.Tuning = true, radio.Tuning{CenterHz: center, SampleRateHz: rate}
	tunable.Range = radio.Range{LowHz: 1e6, HighHz: 1e9, LowRateHz: 1e3, HighRateHz: 1e7}
	table.Open(tunable.Tuning, time.Millisecond, []radio.Tuning{tunable.Tuning}, 0, timeOf(100000))
	f.Fuzz(func(t *testing.T, start int64, duration, centerHz, widthHz float64, iq bool) {
		to := &sink{}
		rec, err := recorder.New(recorder.Settings{
			Receivers: []recorder.Receiver{
				{ID: "main", History: ring, Info: func() (radio.Info, bool) { return info, true }},
				{ID: "tuned", History: ring, Info: func() (radio.Info, bool) { return tunable, true }, Table: table},
			},
			MayTune: true,
			Sink:    to, Now: func() time.Time { return timeOf(100000) }, Patience: time.Millisecond,
		})
		if err != nil {
			t.Fatal(err)
		}
		id := uuid.NewString()
		o := &protocol.Capture{Start: proto.Int64(start), DurationS: &duration, CenterHz: &centerHz, BandwidthHz: &widthHz, Iq: &iq}
		if err := rec.Capture(t.Context(), command(id, o)); err != nil {
			t.Fatal(err)
		}
		tune := &protocol.Tune{CenterHz: &centerHz, SampleRateHz: &widthHz, DurationS: &duration}
		if err := rec.Tune(t.Context(), tuneCommand(id+"t", tune)); err != nil {
			t.Fatal(err)
		}
		for _, command := range []string{id, id + "t"} {
			switch last := to.result(t, command).last(); last.GetState() {
			case protocol.Reply_STATE_DONE, protocol.Reply_STATE_REFUSED, protocol.Reply_STATE_FAILED:
			default:
				t.Errorf("%v ended as %v", command, last)
			}
		}
	})
}

// The meter is told how long the stretch is, and masks the receiver's spike only where it is.
func TestCapture_MeterKnowsWhatComes(t *testing.T) {
	for _, tc := range []struct {
		order  *protocol.Capture
		masked bool
		length time.Duration
	}{
		{order(timeOf(100), 0.1), true, radio.SamplesDuration(24000, rate)},
		{channelOrder(timeOf(100), 0.1), false, radio.SamplesDuration(1600, rate/15)},
	} {
		var got meter
		masked := false
		s := newStation(t, func(s *station) {
			s.info.MaskDC = true
			s.set.NewMeter = func(_ string, info radio.Info) (recorder.Meter, error) {
				masked = info.MaskDC
				return &got, nil
			}
		})
		fill(s.ring, tones, 0, 60000)
		s.capture(t, tc.order)
		if masked != tc.masked || got.expected != tc.length {
			t.Errorf("bandwidth %v: masked %v, length %v, want %v, %v", tc.order.GetBandwidthHz(), masked, got.expected, tc.masked, tc.length)
		}
	}
}

// A computer that is too slow for all captures at once is told of as such: what helps then is fewer of them.
func TestCapture_OverwrittenSaysHowManyRan(t *testing.T) {
	for _, tc := range []struct {
		captures int
		want     string
	}{
		{1, "order a narrower band"},
		{3, "3 captures ran at once here: order fewer at a time"},
	} {
		s := newStation(t, nil)
		fill(s.ring, tones, 100000, 110000)
		var captures sync.WaitGroup
		began := 0 // each begins when the one before reads, and those before the last wait for samples then
		begin := func() {
			id := fmt.Sprint(began)
			began++
			captures.Go(func() {
				if err := s.Capture(t.Context(), command(id, channelOrder(timeOf(105000), 1))); err != nil {
					t.Error(err)
				}
			})
		}
		s.sink.seen = func(r *protocol.Record) {
			switch {
			case r.GetReply().GetState() != protocol.Reply_STATE_CAPTURING:
			case began < tc.captures:
				begin()
			default:
				s.ring.Clear()
				s.ring.End()
			}
		}
		begin()
		captures.Wait()
		last := s.sink.result(t, fmt.Sprint(tc.captures-1)).last()
		if last.GetReasonCode() != recorder.ReasonOverwritten || !strings.Contains(last.GetMessage(), tc.want) {
			t.Errorf("of %d captures the last ended as %v, want overwritten with %q", tc.captures, last, tc.want)
		}
	}
}
