package quota_test

import (
	"log/slog"
	"math"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/agent/quota"
	"github.com/fulgidus/heimdall/protocol"
)

const mb = 1e6

var midnight = time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)

// world is a station with a clock that a test moves, on a link that carries everything at once.
type world struct {
	now    time.Time
	set    bool
	path   string
	budget *quota.Budget
	thin   *quota.Thinner
	seq    uint64
	stored map[protocol.Kind]int
	made   map[protocol.Kind]int
	left   map[protocol.Kind]uint64 // by gaps
	wire   float64
}

func newWorld(t *testing.T, limit int64) *world {
	t.Helper()
	w := &world{now: midnight, set: true, path: filepath.Join(t.TempDir(), "daily"), left: map[protocol.Kind]uint64{}}
	w.open(limit)
	return w
}

func (w *world) open(limit int64) {
	w.stored, w.made = map[protocol.Kind]int{}, map[protocol.Kind]int{}
	w.budget = quota.Open(w.path, limit, w.seq, func() (time.Time, bool) { return w.now, w.set }, slog.New(slog.DiscardHandler))
	w.thin = quota.NewThinner(w.budget)
}

// send is what a link does with bytes.
func (w *world) send(n int) {
	w.wire += float64(n)
	w.budget.Wrote(n)
}

// record has one stored and sent, if there is room.
func (w *world) record(r *protocol.Record) {
	kind := r.Kind()
	r.Time = proto.Int64(w.now.UnixNano())
	w.made[kind]++
	if r = w.thin.Take(r); r == nil {
		return
	}
	w.stored[kind]++
	w.deliver(kind, r)
}

func (w *world) deliver(kind protocol.Kind, r *protocol.Record) {
	w.seq++
	w.budget.Stored(w.seq, proto.Size(r))
	if w.budget.MaySend(kind, w.seq, proto.Size(r)) {
		w.send(proto.Size(r) + 60)
	}
}

func (w *world) tell(all bool) {
	for _, gap := range w.thin.Gaps(w.now, all) {
		kind := protocol.Kind(gap.GetLane())
		w.left[kind] += gap.GetRecords()
		w.deliver(protocol.KindGap, &protocol.Record{Body: &protocol.Record_Gap{Gap: gap}})
	}
}

func measurement() *protocol.Record {
	return &protocol.Record{Receiver: proto.String("r0"), Step: proto.String("all"), Body: &protocol.Record_Measurement{Measurement: &protocol.Measurement{
		CenterHz: proto.Float64(145.5e6), SampleRateHz: proto.Float64(240e3), Samples: proto.Uint64(240e3), PowerDbfs: proto.Float32(-20), NoiseFloorDbfsHz: proto.Float32(-95),
	}}}
}

func spectrum() *protocol.Record {
	return &protocol.Record{Body: &protocol.Record_Spectrum{Spectrum: &protocol.Spectrum{Levels: make([]byte, 900)}}}
}

func detection() *protocol.Record {
	return &protocol.Record{Body: &protocol.Record_Detection{Detection: &protocol.Detection{CenterHz: proto.Float64(1)}}}
}

func health() *protocol.Record {
	return &protocol.Record{Body: &protocol.Record_Health{Health: &protocol.Health{Version: proto.String("test")}}}
}

// step is how long a measurement of day takes.
const step = 4 * time.Second

// day lets one pass, with a spectrum each twelve seconds, a detection each twenty and health each minute.
func (w *world) day() {
	for end := w.now.Add(24 * time.Hour); w.now.Before(end); w.now = w.now.Add(step) {
		at := int(w.now.Sub(midnight).Seconds())
		m := measurement()
		m.GetMeasurement().Samples = proto.Uint64(uint64(step.Seconds() * 240e3))
		w.record(m)
		if at%12 == 0 {
			w.record(spectrum())
		}
		if at%20 == 0 {
			w.record(detection())
		}
		if at%60 == 0 {
			w.record(health())
			w.send(900) // state
			w.tell(false)
			w.send(2) // keep-alive
			w.send(2)
		}
	}
}

// A station at twice its daily_bytes ends the day within it: everything that matters more is there, and what is not is declared.
func TestBudget_ADayAtTwiceTheLimit(t *testing.T) {
	w := newWorld(t, 1000*mb)
	w.day()
	w.now = w.now.Add(-step)
	full := float64(w.budget.Account().UsedBytes)
	if w.budget.Account().LeftOut != nil || w.stored[protocol.KindMeasurement] != 21600 {
		t.Fatalf("with room for everything: %+v, %v", w.budget.Account(), w.stored)
	}
	for name, c := range map[string]struct {
		part    float64
		leftOut []protocol.Kind
	}{
		"half":      {1. / 2, []protocol.Kind{protocol.KindSpectrum}},
		"a quarter": {1. / 4, []protocol.Kind{protocol.KindSpectrum, protocol.KindMeasurement}},
		"most":      {0.8, []protocol.Kind{protocol.KindSpectrum}},
	} {
		w := newWorld(t, int64(full*c.part))
		w.day()
		w.now = w.now.Add(-step)
		account := w.budget.Account()
		used := float64(account.UsedBytes) / float64(account.LimitBytes)
		if used > 1 || used < 0.9 || account.UsedUp {
			t.Errorf("%s: %.1f %% of the limit used", name, 100*used)
		}
		for _, kind := range c.leftOut {
			if !slices.Contains(account.LeftOut, kind) {
				t.Errorf("%s: left out %v, not %s", name, account.LeftOut, kind)
			}
		}
		w.tell(true)
		for _, kind := range quota.Order()[1:] {
			if w.made[kind]-w.stored[kind] != int(w.left[kind]) {
				t.Errorf("%s: %d of %d %ss are stored, and %d declared", name, w.stored[kind], w.made[kind], kind, w.left[kind])
			}
		}
		if w.stored[protocol.KindDetection] != w.made[protocol.KindDetection] || w.stored[protocol.KindHealth] != w.made[protocol.KindHealth] {
			t.Errorf("%s: detections or health are left out: %v of %v", name, w.stored, w.made)
		}
		if w.stored[protocol.KindMeasurement] == 0 || name == "most" && w.stored[protocol.KindMeasurement] < 21500 {
			t.Errorf("%s: %d measurements", name, w.stored[protocol.KindMeasurement])
		}
		w.now = w.now.Add(step)
		if next := w.budget.Account(); next.UsedBytes != 0 || next.LeftOut != nil || !w.budget.Afford(protocol.KindSpectrum, 1000) {
			t.Errorf("%s: the next day begins with %+v", name, next)
		}
	}
}

// What a day leaves out is spread over it: no hour is without measurements, and in each there is about as much.
func TestBudget_IsOfTheWholeDay(t *testing.T) {
	w := newWorld(t, 8*mb)
	var hourly []int
	for range 24 {
		before := w.stored[protocol.KindMeasurement]
		for end := w.now.Add(time.Hour); w.now.Before(end); w.now = w.now.Add(time.Second) {
			w.record(measurement())
		}
		hourly = append(hourly, w.stored[protocol.KindMeasurement]-before)
	}
	if low, high := slices.Min(hourly[2:]), slices.Max(hourly[2:]); low < 500 || float64(high) > 1.2*float64(low) {
		t.Errorf("measurements an hour: %v", hourly)
	}
}

// Should more be sent than could be foreseen, everything stops before the limit, over a restart too.
func TestBudget_UsedUp(t *testing.T) {
	w := newWorld(t, mb)
	for range 1000 {
		if w.budget.UsedUp() {
			break
		}
		w.send(5000)
	}
	if account := w.budget.Account(); !account.UsedUp || account.UsedBytes > mb || w.budget.MaySend(protocol.KindReply, 1, 10) {
		t.Errorf("%+v, and a record may be sent", account)
	}
	w.open(mb) // as after a crash
	if account := w.budget.Account(); !account.UsedUp || account.UsedBytes > 1.01*mb {
		t.Errorf("after a crash: %+v", account)
	}
	w.set, w.now = false, midnight.AddDate(-1, 0, 0)
	if !w.budget.UsedUp() {
		t.Error("a clock that is not set begins a day")
	}
	w.set, w.now = true, midnight.Add(24*time.Hour)
	if w.budget.UsedUp() || w.budget.Account().UsedBytes != 0 {
		t.Errorf("the next day: %+v", w.budget.Account())
	}
}

func TestBudget_SurvivesRestarts(t *testing.T) {
	w := newWorld(t, 10*mb)
	w.send(123456)
	used := w.budget.Account().UsedBytes
	if err := w.budget.Close(); err != nil {
		t.Fatal(err)
	}
	w.open(10 * mb)
	if got := w.budget.Account().UsedBytes; got != used || used < 123456 {
		t.Errorf("%d bytes, before the restart %d", got, used)
	}
	w.send(1000)
	w.open(10 * mb) // killed
	if got := w.budget.Account().UsedBytes; got < used+1000 || got > used+1000+100e3 {
		t.Errorf("%d bytes after a crash, of at least %d", got, used+1000)
	}
}

// Records of earlier days are sent with what today's leave.
func TestBudget_Backlog(t *testing.T) {
	w := newWorld(t, 10*mb)
	w.seq = 100
	w.open(10 * mb)
	w.now = midnight.Add(12 * time.Hour)
	if !w.budget.MaySend(protocol.KindMeasurement, 50, 1000) {
		t.Error("a record of yesterday may not be sent though there is room")
	}
	for w.budget.Afford(protocol.KindSpectrum, 1000) {
		w.send(10000)
	}
	w.budget.Stored(101, 1000)
	if w.budget.MaySend(protocol.KindMeasurement, 50, 1000) || !w.budget.MaySend(protocol.KindMeasurement, 101, 1000) || !w.budget.MaySend(protocol.KindReply, 50, 1000) {
		t.Error("want records of today and old replies to be sent, and other old ones to wait")
	}
}

func TestThinner_AveragesPowers(t *testing.T) {
	w := newWorld(t, 10*mb)
	w.now = midnight.Add(time.Hour)
	for w.budget.Afford(protocol.KindMeasurement, 200) {
		w.send(1000)
	}
	made := func(powerDBFS float32, peak *float32, after time.Duration) *protocol.Record {
		r := measurement()
		r.Time = proto.Int64(w.now.Add(after).UnixNano())
		m := r.GetMeasurement()
		m.PowerDbfs, m.PeakDbfs, m.Flags = &powerDBFS, peak, []protocol.Flag{protocol.Flag_FLAG_CLIPPED}
		if peak != nil {
			m.SnrDb = proto.Float32(30)
		}
		return r
	}
	if w.thin.Take(made(-20, nil, 0)) != nil || w.thin.Take(made(-10, proto.Float32(-12), time.Second)) != nil {
		t.Fatal("there is no room, and one is stored")
	}
	w.now = midnight.Add(10 * time.Hour)
	r := w.thin.Take(made(-20, nil, time.Second+time.Second-9*time.Hour))
	m := r.GetMeasurement()
	// (0.01 + 0.1 + 0.01)/3 is -13.98 dB.
	if m == nil || math.Abs(float64(m.GetPowerDbfs())+13.98) > 0.01 || m.GetDurationS() != 3 || m.GetSamples() != 720e3 || m.GetSnrDb() != 30 || len(m.Flags) != 1 {
		t.Errorf("got %v", r)
	}
	if r.GetTime() != midnight.Add(time.Hour).UnixNano() {
		t.Errorf("it begins at %v", time.Unix(0, r.GetTime()).UTC())
	}
	gaps := w.thin.Gaps(w.now, true)
	if len(gaps) != 1 || gaps[0].GetRecords() != 2 || gaps[0].GetLane() != "measurement" || gaps[0].GetReason() != protocol.Gap_REASON_QUOTA {
		t.Errorf("gaps %v", gaps)
	}
}
