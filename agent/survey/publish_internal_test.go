package survey

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/agent/history"
	"github.com/fulgidus/heimdall/agent/timetable"
	"github.com/fulgidus/heimdall/protocol"
)

// store numbers records as a spool does.
type store struct {
	mu      sync.Mutex // guards the fields below
	records []*protocol.Record
	fail    func(attempt int) error
	tries   int
}

func (s *store) Publish(_ context.Context, r *protocol.Record) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tries++
	if s.fail != nil {
		if err := s.fail(s.tries); err != nil {
			return "", err
		}
	}
	s.records = append(s.records, proto.CloneOf(r))
	return fmt.Sprintf("torino-00ff-%d", len(s.records)), nil
}

func newQueue(to Publisher) *publishQueue {
	return &publishQueue{publisher: to, log: slog.New(slog.DiscardHandler), records: make(chan queued, 100), ids: map[trackKey]string{}}
}

func detection(open bool) *protocol.Record {
	return &protocol.Record{Body: &protocol.Record_Detection{Detection: &protocol.Detection{Open: proto.Bool(open)}}}
}

func measurement() *protocol.Record {
	return &protocol.Record{Body: &protocol.Record_Measurement{Measurement: &protocol.Measurement{}}}
}

func TestPublishQueue_DetectionsKeepTheIDOfTheirFirstRecord(t *testing.T) {
	to := &store{}
	q := newQueue(to)
	for _, item := range []queued{
		{detection(true), trackKey{1, 1}},  // 1
		{measurement(), trackKey{}},        // 2
		{detection(true), trackKey{1, 2}},  // 3
		{detection(true), trackKey{1, 1}},  // 4: of 1
		{detection(true), trackKey{2, 1}},  // 5: another Analyzer's track 1
		{detection(false), trackKey{1, 1}}, // 6: the last of 1
		{detection(false), trackKey{1, 2}}, // 7: of 3
		{detection(false), trackKey{1, 9}}, // 8: the only one
		{detection(false), trackKey{2, 1}}, // 9: of 5
		{detection(true), trackKey{1, 1}},  // 10: a new one under an old number
	} {
		q.records <- item
	}
	close(q.records)
	if left := q.run(t.Context()); left != 0 {
		t.Errorf("%d records left", left)
	}
	var got []string
	for _, r := range to.records {
		got = append(got, r.GetDetection().GetDetectionId())
	}
	want := []string{"", "", "", "torino-00ff-1", "", "torino-00ff-1", "torino-00ff-3", "", "torino-00ff-5", ""}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("detection ids (-want +got):\n%s", diff)
	}
	if len(q.ids) != 1 {
		t.Errorf("%d emissions remembered, want only the open one", len(q.ids))
	}
}

func TestPublishQueue_OffersARecordUntilItIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to := &store{fail: func(attempt int) error {
			if attempt < 15 {
				return errors.New("disk is full")
			}
			return nil
		}}
		q := newQueue(to)
		q.records <- queued{measurement(), trackKey{}}
		close(q.records)
		began := time.Now()
		if left := q.run(t.Context()); left != 0 || len(to.records) != 1 {
			t.Errorf("%d left, %d stored", left, len(to.records))
		}
		if took := time.Since(began); took < 10*time.Second || took > 50*time.Second {
			t.Errorf("15 attempts took %v, want pauses that grow to 5 s", took)
		}
	})
}

func TestPublishQueue_CountsWhatIsLeftAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to := &store{fail: func(int) error { return errors.New("disk is full") }}
		q := newQueue(to)
		for range 3 {
			q.records <- queued{measurement(), trackKey{}}
		}
		close(q.records)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		began := time.Now()
		if left := q.run(ctx); left != 3 {
			t.Errorf("%d left, want 3", left)
		}
		if took := time.Since(began); took > drainTime+time.Second {
			t.Errorf("took %v, want no more than %v", took, drainTime)
		}
	})
}

// A full queue holds the survey up, visibly, and loses nothing.
func TestEmit_WaitsWhenTheQueueIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Survey{queue: newQueue(&store{}), status: newStatus(Plan{{Name: "a"}})}
		s.queue.records = make(chan queued, 2)
		go func() {
			time.Sleep(3 * time.Second) // in the bubble's time
			for range s.queue.records {
			}
		}()
		s.emit([]Emission{{Record: measurement()}, {Record: measurement()}, {Record: measurement()}}, 1)
		close(s.queue.records)
		s.set.History = newTestRing()
		if h := s.Health(); h.Stalls != 1 || h.Stalled != 3*time.Second {
			t.Errorf("got %d stalls of %v, want one of 3s", h.Stalls, h.Stalled)
		}
	})
}

func TestObserve_LatestOfEveryStep(t *testing.T) {
	s := &Survey{queue: newQueue(&store{}), status: newStatus(Plan{{Name: "a"}, {Name: "b"}})}
	s.set.History, s.set.Receiver, s.set.Table = newTestRing(), "main", new(timetable.Table)
	snapshots, cancel := s.Subscribe()
	level := func(r *protocol.Record, step string, power float32) *protocol.Record {
		r.Step = &step
		if m := r.GetMeasurement(); m != nil {
			m.PowerDbfs = &power
		}
		return r
	}
	s.emit([]Emission{
		{Record: level(detection(true), "a", 0), Track: 1},
		{Record: level(detection(true), "a", 0), Track: 1},
		{Record: level(detection(false), "a", 0), Track: 1},
		{Record: level(detection(false), "a", 0), Track: 2},
		{Record: level(measurement(), "a", -40)},
		{Record: level(measurement(), "b", -50)},
		{Record: level(measurement(), "unknown", -60)},
		{Record: &protocol.Record{Step: proto.String("a"), Body: &protocol.Record_Spectrum{}}},
	}, 1)
	state := s.State()
	if a := state.Steps["a"]; *a.PowerDBFS != -40 || a.DetectionsTotal != 2 || a.SNRDB != nil {
		t.Errorf("step a: got %+v, want -40 dBFS and 2 detections", a)
	}
	if b := state.Steps["b"]; *b.PowerDBFS != -50 || b.DetectionsTotal != 0 || len(state.Steps) != 2 {
		t.Errorf("step b: got %+v of %d steps", b, len(state.Steps))
	}
	first := <-snapshots
	if first.Receiver != "main" || first.Step != "a" || first.Measurement.GetMeasurement().GetPowerDbfs() != -40 ||
		first.Detections != 2 || first.Detection.GetDetection().GetOpen() {
		t.Errorf("snapshot: got %+v", first)
	}
	if second := <-snapshots; second.Step != "b" || second.Detection != nil {
		t.Errorf("second snapshot: got %+v", second)
	}
	for range 3 * snapshotQueue { // a subscriber that does not read holds nothing up
		s.emit([]Emission{{Record: level(measurement(), "a", -40)}}, 1)
	}
	cancel()
	cancel()
	n := 0
	for range snapshots {
		n++
	}
	if n != snapshotQueue {
		t.Errorf("%d snapshots waited, want %d", n, snapshotQueue)
	}
}

// keeper notes what it is told.
type keeper struct{ told []string }

func (k *keeper) Hold(start time.Time, duration time.Duration, snrDB float64) {
	k.told = append(k.told, fmt.Sprintf("%s %v %v dB", start.Format("15:04:05.000"), duration, snrDB))
}

// The keeper learns of every emission whose time is known, each time that a record speaks of it.
func TestEmit_TellsTheKeeper(t *testing.T) {
	k := &keeper{}
	s := &Survey{queue: newQueue(&store{}), status: newStatus(Plan{{Name: "a"}}), set: Settings{Keeper: k}}
	at := time.Date(2026, 11, 24, 2, 0, 0, 250e6, time.UTC).UnixNano()
	of := func(open bool, seconds float64) Emission {
		r := detection(open)
		r.Time, r.GetDetection().DurationS, r.GetDetection().SnrDb = &at, &seconds, proto.Float32(12.5)
		return Emission{Record: r, Track: 1}
	}
	timed := measurement()
	timed.Time = &at
	s.emit([]Emission{of(true, 10), {Record: timed}, of(false, 13.5), {Record: detection(false), Track: 2}}, 1)
	if diff := cmp.Diff([]string{"02:00:00.250 10s 12.5 dB", "02:00:00.250 13.5s 12.5 dB"}, k.told); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	s.set.Keeper = nil
	s.emit([]Emission{of(false, 1)}, 1)
}

func TestBackOff_GrowsToItsLimit(t *testing.T) {
	for attempt := range 100 {
		d := backOff(attempt, time.Second, time.Minute)
		most := time.Minute
		if attempt < 6 {
			most = time.Second << attempt
		}
		if d < most/2 || d > most {
			t.Errorf("attempt %d: %v, want between %v and %v", attempt, d, most/2, most)
		}
	}
}

func newTestRing() *history.Ring { return history.New(1 << 16) }
