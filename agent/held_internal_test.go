package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/agent/clock"
	"github.com/fulgidus/heimdall/agent/spool"
	"github.com/fulgidus/heimdall/protocol"
)

// shelf takes what is passed on, and numbers it.
type shelf struct {
	records []*protocol.Record
	err     error
}

func (s *shelf) store(_ context.Context, r *protocol.Record, _ bool) (string, error) {
	if s.err != nil {
		return "", s.err
	}
	s.records = append(s.records, proto.CloneOf(r))
	return fmt.Sprintf("torino-00-%d", len(s.records)), nil
}

func (s *shelf) kinds() string {
	var all []string
	for _, r := range s.records {
		all = append(all, string(r.Kind()))
	}
	return strings.Join(all, " ")
}

// newHolding makes a holder in front of a shelf, on a computer whose clock was never set.
func newHolding(limit int64) (*held, *shelf, *computer) {
	pi, to := newComputer(-50*year), new(shelf)
	h := newHeld(publisher{station: "torino", clock: pi.clock}, slog.New(slog.DiscardHandler))
	h.limit, h.store = limit, to.store
	return h, to, pi
}

// made is a record with the clock's time.
func made(c *clock.Clock, body *protocol.Record) *protocol.Record { return stamp(body, c.Reading()) }

func measured() *protocol.Record {
	return &protocol.Record{Body: &protocol.Record_Measurement{Measurement: &protocol.Measurement{PowerDbfs: proto.Float32(-20)}}}
}

func painted() *protocol.Record {
	return &protocol.Record{Body: &protocol.Record_Spectrum{Spectrum: &protocol.Spectrum{StartHz: proto.Float64(1)}}}
}

func detected(id string, open bool) *protocol.Record {
	d := &protocol.Detection{CenterHz: proto.Float64(1)}
	if id != "" {
		d.DetectionId = &id
	}
	if open {
		d.Open = &open
	}
	return &protocol.Record{Body: &protocol.Record_Detection{Detection: d}}
}

func mustPublish(t *testing.T, h *held, r *protocol.Record) string {
	t.Helper()
	id, err := h.publish(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// What has its own time does not wait, and neither does a recording without times, which counts from 1970.
func TestHeld_OnlyWhatTheClockStamped(t *testing.T) {
	h, to, pi := newHolding(mostHeld)
	own := measured()
	own.Time, own.TimeQuality = proto.Int64(time.Now().UnixNano()), protocol.TimeQuality_TIME_QUALITY_SIMULATED.Enum()
	file := measured()
	file.Time, file.TimeQuality = proto.Int64(7), protocol.TimeQuality_TIME_QUALITY_UNSET.Enum()
	reply := &protocol.Record{Time: proto.Int64(pi.clock.Now().UnixNano()), Body: &protocol.Record_Reply{Reply: &protocol.Reply{}}}
	for _, r := range []*protocol.Record{own, file, reply} {
		was := proto.CloneOf(r)
		if id := mustPublish(t, h, r); strings.HasPrefix(id, placeholder) || !proto.Equal(to.records[len(to.records)-1], was) {
			t.Errorf("%v became %s %v", was, id, to.records[len(to.records)-1])
		}
	}
	if id := mustPublish(t, h, made(pi.clock, measured())); !strings.HasPrefix(id, placeholder) || len(to.records) != 3 || h.size() != 1 {
		t.Errorf("a record of an unset clock became %s; %d wait", id, h.size())
	}
}

// The first record after the clock was set comes after all that waited, also when it comes at once.
func TestHeld_ReleasesInOrder(t *testing.T) {
	h, to, pi := newHolding(mostHeld)
	for _, r := range []*protocol.Record{measured(), painted(), measured(), detected("", false), painted()} {
		mustPublish(t, h, made(pi.clock, r))
	}
	late := made(pi.clock, measured()) // still waits for its publisher when the clock is set
	pi.set(0)
	mustPublish(t, h, made(pi.clock, painted()))
	mustPublish(t, h, late)
	if got := to.kinds(); got != "measurement spectrum measurement detection spectrum spectrum measurement" {
		t.Errorf("stored %s", got)
	}
	for i, r := range to.records {
		if off := time.Since(time.Unix(0, r.GetTime())); off < 0 || off > time.Minute || r.GetTimeQuality() != protocol.TimeQuality_TIME_QUALITY_SYSTEM {
			t.Errorf("record %d is %v old, %v", i, off, r.GetTimeQuality())
		}
		if i > 0 && i < 5 && r.GetTime() < to.records[i-1].GetTime() {
			t.Errorf("record %d is earlier than the one before it", i)
		}
	}
	h.run(t.Context()) // finds nothing
	if len(to.records) != 7 || !h.passed.Load() {
		t.Errorf("%d records, passed %v", len(to.records), h.passed.Load())
	}
}

// Records of one emission name its first record by its number, whether they waited or not.
func TestHeld_DetectionIDs(t *testing.T) {
	h, to, pi := newHolding(mostHeld)
	first := mustPublish(t, h, made(pi.clock, detected("", true)))
	other := mustPublish(t, h, made(pi.clock, detected("", true)))
	mustPublish(t, h, made(pi.clock, detected(first, true)))
	pi.set(0)
	mustPublish(t, h, made(pi.clock, detected(other, false)))
	mustPublish(t, h, made(pi.clock, detected(first, true)))
	mustPublish(t, h, made(pi.clock, detected(first, false)))
	var got []string
	for _, r := range to.records {
		got = append(got, r.GetDetection().GetDetectionId())
	}
	if want := []string{"", "", "torino-00-1", "torino-00-2", "torino-00-1", "torino-00-1"}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("ids %q, want %q", got, want)
	}
	if len(h.names.known) > 0 {
		t.Errorf("ended emissions are remembered: %v", h.names.known)
	}
}

// When memory is full spectra go before all else, the oldest first, and a Gap tells how many; sites stay.
func TestHeld_IsBounded(t *testing.T) {
	h, to, pi := newHolding(10 << 10)
	site := &protocol.Record{Body: &protocol.Record_Site{Site: &protocol.Site{LatitudeDeg: proto.Float64(45)}}}
	mustPublish(t, h, made(pi.clock, site))
	lost := mustPublish(t, h, made(pi.clock, detected("", true)))
	began := pi.clock.Now()
	for range 40 {
		mustPublish(t, h, made(pi.clock, painted()))
	}
	for range 100 {
		mustPublish(t, h, made(pi.clock, measured()))
	}
	if h.bytes > h.limit || h.bytes < h.limit-1000 {
		t.Errorf("%d bytes held, want just under %d", h.bytes, h.limit)
	}
	wait := h.size()
	pi.set(0)
	mustPublish(t, h, made(pi.clock, detected(lost, true)))
	mustPublish(t, h, made(pi.clock, detected(lost, false)))

	if got := to.kinds(); !strings.HasPrefix(got, "gap gap gap site measurement measurement") || strings.Contains(got, "spectrum") {
		t.Errorf("stored %s", got)
	}
	given := uint64(0)
	for i, want := range []struct {
		lane    spool.Lane
		records uint64
	}{{spool.LaneDetection, 1}, {spool.LaneMeasurement, uint64(142 - 41 - wait)}, {spool.LaneSpectrum, 40}} {
		gap := to.records[i].GetGap()
		given += gap.GetRecords()
		if gap.GetLane() != string(want.lane) || gap.GetRecords() != want.records || gap.GetReason() != protocol.Gap_REASON_QUOTA || len(gap.GetRanges()) > 0 || gap.GetBytes() == 0 {
			t.Errorf("gap %d: %v, want %d of %s", i, gap, want.records, want.lane)
		}
		if from := pi.clock.Correct(began).Time.Add(-time.Second).UnixNano(); gap.GetFrom() < from || gap.GetTo() > time.Now().UnixNano() || gap.GetTo() < gap.GetFrom() {
			t.Errorf("gap %d from %v to %v", i, time.Unix(0, gap.GetFrom()), time.Unix(0, gap.GetTo()))
		}
	}
	if stored := uint64(len(to.records) - 3 - 2); given+stored != 142 {
		t.Errorf("%d given up and %d stored of 142", given, stored)
	}
	// The emission's first record was given up: the first one that is stored names the others.
	ends := to.records[len(to.records)-2:]
	if first, second := ends[0].GetDetection().DetectionId, ends[1].GetDetection().GetDetectionId(); first != nil || second != fmt.Sprintf("torino-00-%d", len(to.records)-1) {
		t.Errorf("ids %v and %q", first, second)
	}
}

// What cannot be stored now is kept and offered again; what never can be is left out.
func TestHeld_KeepsWhatCannotBeStoredYet(t *testing.T) {
	h, to, pi := newHolding(mostHeld)
	for range 3 {
		mustPublish(t, h, made(pi.clock, measured()))
	}
	pi.set(0)
	to.err = spool.ErrClosed
	if err := h.end(t.Context()); !errors.Is(err, spool.ErrClosed) || h.size() != 3 {
		t.Errorf("%v, %d wait; want %v and 3", err, h.size(), spool.ErrClosed)
	}
	h.run(t.Context())
	if _, err := h.publish(t.Context(), made(pi.clock, detected("held-9", true))); !errors.Is(err, spool.ErrClosed) {
		t.Errorf("got %v, want %v", err, spool.ErrClosed)
	}
	to.err = nil
	if err := h.end(t.Context()); err != nil || h.size() != 0 || len(to.records) != 3 {
		t.Errorf("%v, %d wait, %d stored", err, h.size(), len(to.records))
	}
	to.err = errors.New("no space")
	again := made(pi.clock, detected("held-9", true))
	if _, err := h.publish(t.Context(), again); !errors.Is(err, to.err) || again.GetDetection().GetDetectionId() != "held-9" {
		t.Errorf("%v, %v", err, again)
	}

	h, to, pi = newHolding(mostHeld)
	mustPublish(t, h, made(pi.clock, measured()))
	pi.set(0)
	to.err = errors.New("too large")
	if err := h.end(t.Context()); err != nil || h.size() != 0 {
		t.Errorf("%v, %d wait; want it left out", err, h.size())
	}
	h, _, pi = newHolding(mostHeld)
	bad := made(pi.clock, measured())
	bad.Receiver = proto.String("\xff")
	if _, err := h.publish(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "encode a measurement") {
		t.Errorf("got %v", err)
	}
}
