package quota

import (
	"math"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/protocol"
)

// tellEvery is how much time one Gap speaks of.
const tellEvery = time.Hour

// Thinner leaves records out for which the budget has no room, and gives account of them. Measurements become averages.
type Thinner struct {
	budget *Budget

	// mu guards the fields below.
	mu      sync.Mutex
	pending map[place]*protocol.Record // measurements that wait to be averaged with the next one
	gaps    map[protocol.Kind]*protocol.Gap
}

// place is what measurements must have in common to be averaged.
type place struct{ receiver, step string }

// NewThinner makes one.
func NewThinner(b *Budget) *Thinner {
	return &Thinner{budget: b, pending: map[place]*protocol.Record{}, gaps: map[protocol.Kind]*protocol.Gap{}}
}

// Take gives the record that is to be stored in the place of one; nil: none is now.
func (t *Thinner) Take(r *protocol.Record) *protocol.Record {
	t.mu.Lock()
	defer t.mu.Unlock()
	kind, bytes := r.Kind(), int64(proto.Size(r))
	m := r.GetMeasurement()
	if m == nil {
		if t.budget.Afford(kind, bytes+messageBytes) {
			return r
		}
		t.leaveOut(kind, r, bytes)
		return nil
	}
	at := place{r.GetReceiver(), r.GetStep()}
	if before := t.pending[at]; before != nil {
		delete(t.pending, at)
		t.leaveOut(kind, before, int64(proto.Size(before))) // as a record of its own
		if follows(before, r) {
			r = average(before, r)
		}
	}
	if t.budget.Afford(kind, bytes+messageBytes) {
		return r
	}
	t.pending[at] = r
	return nil
}

// Gaps gives account of what was left out: of what is older than an hour, or of all, with the averages that were under way.
func (t *Thinner) Gaps(now time.Time, all bool) []*protocol.Gap {
	t.mu.Lock()
	defer t.mu.Unlock()
	if all {
		for at, r := range t.pending {
			t.leaveOut(protocol.KindMeasurement, r, int64(proto.Size(r)))
			delete(t.pending, at)
		}
	}
	var told []*protocol.Gap
	for _, kind := range Order() {
		if gap := t.gaps[kind]; gap != nil && (all || now.Sub(time.Unix(0, gap.GetFrom())) >= tellEvery) {
			told = append(told, gap)
			delete(t.gaps, kind)
		}
	}
	return told
}

// leaveOut counts a record that is not stored. The caller holds mu.
func (t *Thinner) leaveOut(kind protocol.Kind, r *protocol.Record, bytes int64) {
	gap := t.gaps[kind]
	if gap == nil {
		gap = &protocol.Gap{
			Reason: protocol.Gap_REASON_QUOTA.Enum(), Lane: proto.String(string(kind)), Records: new(uint64), Bytes: new(uint64),
			From: proto.Int64(r.GetTime()), To: proto.Int64(r.GetTime()),
		}
		t.gaps[kind] = gap
	}
	*gap.Records++
	*gap.Bytes += uint64(bytes)
	*gap.From, *gap.To = min(*gap.From, r.GetTime()), max(*gap.To, r.GetTime())
}

// longestAverage bounds what one measurement may be about.
const longestAverage = time.Hour

// follows tells whether a measurement begins where another one ended, at the same tuning.
func follows(a, b *protocol.Record) bool {
	x, y := a.GetMeasurement(), b.GetMeasurement()
	end := a.GetTime() + int64(lengthS(x)*1e9)
	return time.Duration(b.GetTime()-end).Abs() < 50*time.Millisecond && lengthS(x)+lengthS(y) <= longestAverage.Seconds() &&
		x.GetCenterHz() == y.GetCenterHz() && math.Abs(x.GetSampleRateHz()-y.GetSampleRateHz()) <= 1e-3*x.GetSampleRateHz() &&
		(x.PowerDbfs == nil) == (y.PowerDbfs == nil) && (x.NoiseFloorDbfsHz == nil) == (y.NoiseFloorDbfsHz == nil)
}

func lengthS(m *protocol.Measurement) float64 {
	if m.DurationS != nil || m.GetSampleRateHz() <= 0 {
		return m.GetDurationS()
	}
	return float64(m.GetSamples()+m.GetLostSamples()) / m.GetSampleRateHz()
}

// average is one measurement for both stretches. Powers are averaged, not decibels; the strongest emission is that of the stretch in
// which it was stronger.
func average(a, b *protocol.Record) *protocol.Record {
	x, y := a.GetMeasurement(), b.GetMeasurement()
	strong := x
	if x.PeakDbfs == nil || y.PeakDbfs != nil && y.GetPeakDbfs() > x.GetPeakDbfs() {
		strong = y
	}
	m := proto.CloneOf(strong)
	first, second := float64(x.GetSamples()), float64(y.GetSamples())
	if first+second == 0 {
		first, second = 1, 1
	}
	share := second / (first + second)
	mean := func(p, q *float32) *float32 {
		if p == nil || q == nil {
			return nil
		}
		return proto.Float32(float32(float64(*p)*(1-share) + float64(*q)*share))
	}
	level := func(p, q *float32) *float32 {
		if p == nil || q == nil {
			return nil
		}
		return proto.Float32(float32(10 * math.Log10(math.Pow(10, float64(*p)/10)*(1-share)+math.Pow(10, float64(*q)/10)*share)))
	}
	m.DurationS = proto.Float64(lengthS(x) + lengthS(y))
	m.Samples, m.LostSamples = proto.Uint64(x.GetSamples()+y.GetSamples()), proto.Uint64(x.GetLostSamples()+y.GetLostSamples())
	m.ClippedFraction = mean(x.ClippedFraction, y.ClippedFraction)
	m.DcI, m.DcQ = mean(x.DcI, y.DcI), mean(x.DcQ, y.DcQ)
	m.PowerDbfs, m.NoiseFloorDbfsHz = level(x.PowerDbfs, y.PowerDbfs), level(x.NoiseFloorDbfsHz, y.NoiseFloorDbfsHz)
	m.PowerDbm, m.NoiseFloorDbmHz = level(x.PowerDbm, y.PowerDbm), level(x.NoiseFloorDbmHz, y.NoiseFloorDbmHz)
	m.Flags = slices.Compact(slices.Sorted(slices.Values(slices.Concat(x.Flags, y.Flags))))
	out := proto.CloneOf(a)
	out.Body = &protocol.Record_Measurement{Measurement: m}
	return out
}
