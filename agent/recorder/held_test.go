package recorder_test

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/agent/history"
	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/agent/recorder"
	"github.com/fulgidus/heimdall/dsp"
	"github.com/fulgidus/heimdall/protocol"
)

// heard is a receiver of 2.4 Msps with the default history, a minute after a burst of 200 ms that a detection told of.
func heard(t *testing.T, changes ...func(*recorder.Settings)) (s *station, sample func(index uint64) []byte, began time.Time) {
	t.Helper()
	const msps, size = 2.4e6, 65536
	at := func(index uint64) time.Time { return epoch.Add(radio.SamplesDuration(float64(index), msps)) }
	sample = func(index uint64) []byte { // two bytes that tell which one it is within 2^16, and where in the minutes
		mixed := index * 0x9e3779b97f4a7c15
		return []byte{byte(mixed >> 32), byte(mixed >> 40)}
	}
	ring := history.NewHolding(history.DefaultLimitBytes, 5*time.Minute)
	s = newStation(t, func(s *station) {
		s.ring = ring
		s.info.Format, s.info.Tuning.SampleRateHz = dsp.CU8, msps
		s.set.Receivers[0].History = ring
		s.set.Now = func() time.Time { return ring.Span().To }
		for _, change := range changes {
			change(&s.set)
		}
	})
	began = epoch.Add(10*time.Second + 123456*time.Microsecond)
	told := began.Add(200*time.Millisecond + 12*time.Millisecond)
	b := &radio.Block{Format: dsp.CU8, Segment: 1, TimeQuality: protocol.TimeQuality_TIME_QUALITY_NTP, Raw: make([]byte, 2*size)}
	b.Tuning = radio.Tuning{CenterHz: center, SampleRateHz: msps}
	around := func(index uint64) bool { return at(index).Sub(began).Abs() < 2*time.Second }
	for asked := false; at(b.Index).Before(told.Add(60 * time.Second)); b.Index += size {
		b.Time = at(b.Index)
		if around(b.Index) {
			for k := range uint64(size) {
				copy(b.Raw[2*k:], sample(b.Index+k))
			}
		}
		ring.Append(b)
		if !asked && b.Time.After(told) {
			asked = true
			ring.Hold(began, 200*time.Millisecond, 17)
		}
	}
	return s, sample, began
}

// A burst that was heard a minute ago is recorded whole, byte for byte, though the history reaches back ten seconds.
func TestCapture_OfADetectionAMinuteAgo(t *testing.T) {
	s, sample, began := heard(t)
	if back := s.ring.Span().Duration(); back < 10*time.Second || back > 14*time.Second {
		t.Errorf("the history reaches back %v", back)
	}
	start := began.Add(-500 * time.Millisecond)
	r := s.capture(t, order(start, 1.2))
	m := r.last().GetCapture()
	if m == nil {
		t.Fatalf("ended as %v", r.last())
	}
	if late := time.Unix(0, m.GetStart()).Sub(start); late < 0 || late > 417*time.Nanosecond {
		t.Errorf("starts %v late, want less than a sample", late)
	}
	first := uint64(time.Unix(0, m.GetStart()).Sub(epoch).Seconds()*2.4e6 + 0.5)
	want := make([]byte, 0, 2*2880000)
	for index := first; index < first+2880000; index++ {
		want = append(want, sample(index)...)
	}
	if !slices.Equal(r.data, want) || len(m.GetGaps()) != 0 || m.GetSamples() != 2880000 {
		t.Errorf("%d bytes and %d gaps: not the samples of then", len(r.data), len(m.GetGaps()))
	}

	// A channel is cut out to the last sample that is held: behind it, where the filter reaches out, is silence.
	held := s.ring.Held()[0]
	channel := order(start, held.To.Sub(start).Seconds()-1/15686.)
	channel.BandwidthHz = proto.Float64(12500)
	last := s.capture(t, channel).last()
	if m := last.GetCapture(); m.GetDurationS() < 1.2 || math.Abs(m.GetDurationS()-channel.GetDurationS()) > 1/15686. || len(m.GetGaps()) != 0 {
		t.Errorf("channel of %v s: ended as %v", channel.GetDurationS(), last)
	}
}

// What reaches out of the held stretch is refused with what there is.
func TestCapture_MoreThanIsHeld(t *testing.T) {
	s, _, began := heard(t)
	for name, stretch := range map[string]struct {
		from    time.Duration
		seconds float64
	}{"begins before": {-2 * time.Second, 2}, "ends after": {-500 * time.Millisecond, 3}, "between": {5 * time.Second, 0.5}, "into the present": {0, 65}} {
		last := s.capture(t, order(began.Add(stretch.from), stretch.seconds)).last()
		if last.GetState() != protocol.Reply_STATE_REFUSED || last.GetReasonCode() != recorder.ReasonHistoryExceeded {
			t.Errorf("%s: ended as %v", name, last)
			continue
		}
		if says := "02:00:09.6"; !strings.Contains(last.GetMessage(), "around detections, nearest to it, "+says) {
			t.Errorf("%s: the message %q does not say %q", name, last.GetMessage(), says)
		}
		if earliest := time.Unix(0, last.GetEarliestStart()); !earliest.Equal(s.ring.Span().From) {
			t.Errorf("%s: earliest start is %v, want %v", name, earliest, s.ring.Span().From)
		}
	}
}

// What is held around a detection is the owner's as everything else: he is asked for all of its time and band.
func TestCapture_OfWhatIsHeldAsksTheOwner(t *testing.T) {
	var asked recorder.Reveals
	s, _, began := heard(t, func(set *recorder.Settings) {
		set.Permit = func(r recorder.Reveals) (code, message string) {
			asked = r
			return "outside_hours", "not then"
		}
	})
	start := began.Add(-500 * time.Millisecond)
	r := s.capture(t, order(start, 1.2))
	if last := r.last(); last.GetState() != protocol.Reply_STATE_REFUSED || last.GetReasonCode() != "outside_hours" || len(r.data) > 0 {
		t.Errorf("ended as %v", last)
	}
	want := recorder.Reveals{LowHz: center - 1.2e6, HighHz: center + 1.2e6, From: start, To: start.Add(1200 * time.Millisecond)}
	if asked != want {
		t.Errorf("asked for %+v, want %+v", asked, want)
	}
}
