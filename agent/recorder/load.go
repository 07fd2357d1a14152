package recorder

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fulgidus/heimdall/agent/history"
	"github.com/fulgidus/heimdall/dsp"
)

const (
	// headroom is the part of the processors' time that is promised: captures also wait for the disk, and the survey goes on.
	headroom = 0.75
	// trialCost is how much longer than its filter, by which the first one is judged, a sample of a capture takes.
	trialCost = 4
	// trialLasts is how long the trial is, or trialPieces if that is shorter: others' share of the processors shows in it.
	trialLasts  = 30 * time.Millisecond
	trialPieces = 1024
	// lookEvery is how often it is seen whether what was accepted can still be done.
	lookEvery = 250 * time.Millisecond
	// heldLasts is how long a held stretch is relied on, which stays for minutes.
	heldLasts = 30 * time.Second
)

// load is what captures that were accepted still have to compute.
type load struct {
	mu     sync.Mutex // guards the fields below
	tasks  []*task    // as they were accepted
	looked time.Time  // when it was seen whether they can be done

	trial func() float64 // seconds a sample, on this computer
}

// task is one capture's part of it.
type task struct {
	history *history.Ring
	rateHz  float64
	end     time.Time
	reach   time.Duration // how long after it was heard a sample is still there
	channel bool
	urgency int32
	giveUp  func()       // ends the capture
	done    atomic.Int64 // Unix nanoseconds of the first sample that is still to be taken
}

func newLoad() *load { return &load{trial: sync.OnceValue(trial)} }

// trial times the filter of a narrow channel.
func trial() float64 {
	chz, err := dsp.NewChannelizer(dsp.Channel{SampleRateHz: 16, ShiftHz: 3, BandwidthHz: 0.8, RejectionDB: 80})
	if err != nil {
		return 0
	}
	in, out := make([]byte, pieceSamples*dsp.CU8.BytesPerSample()), make([]complex64, chz.MaxOutput(pieceSamples))
	began, pieces := time.Now(), 0
	for ; pieces == 0 || pieces < trialPieces && time.Since(began) < trialLasts; pieces++ {
		chz.ProcessRaw(out, in, dsp.CU8)
	}
	return time.Since(began).Seconds() / float64(pieces*pieceSamples) * trialCost
}

// span is a stretch that is to be computed: seconds from now, and the part of a turn that it needs.
type span struct{ from, to, reach, part float64 }

// left is what of a task is still to be computed.
func (t *task) left(costS float64) span {
	newest := t.history.Span().To
	from := time.Unix(0, t.done.Load()).Sub(newest).Seconds()
	to := t.end.Sub(newest).Seconds()
	return span{from: from, to: math.Max(from, to), reach: t.reach.Seconds(), part: costS * t.rateHz}
}

// due is when a sample of a time would be overwritten.
func (t *task) due(at time.Time) time.Time {
	return time.Now().Add(t.reach - t.history.Span().To.Sub(at))
}

// newTask describes a capture that is about to be accepted.
func newTask(j *job) *task {
	ring, rate := j.receiver.History, j.info.Tuning.SampleRateHz
	bytes := rate * float64(j.info.Format.BytesPerSample())
	t := &task{
		history: ring, rateHz: rate, end: j.end(), channel: j.bandwidthHz > 0,
		reach: time.Duration(float64(ring.LeastBytes()) / bytes * 1e9),
	}
	t.done.Store(j.start.UnixNano())
	if now := ring.Span(); j.past && j.start.Before(now.From) {
		t.reach = now.To.Sub(j.start) + heldLasts
	}
	return t
}

// admit takes a capture on, when with it all can be computed before their samples are overwritten. Else it tells how much
// later it would have to start. One that is alone is always taken on: nothing shows better whether it can be done.
func (l *load) admit(t *task, turns *turns) (later time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	spans := append([]span{t.left(l.costS(t, turns))}, l.left(turns)...)
	capacity := headroom * float64(turns.width())
	if len(l.tasks) == 0 || carries(spans, capacity) {
		l.tasks = append(l.tasks, t)
		return 0, true
	}
	return time.Duration(laterBy(spans, capacity) * 1e9), false
}

// costS is what a sample of a task costs. The caller holds mu.
func (l *load) costS(t *task, turns *turns) float64 {
	if s, known := turns.costS(t.channel); known {
		return s
	}
	return l.trial()
}

// left is what of all tasks is still to be computed. The caller holds mu.
func (l *load) left(turns *turns) []span {
	spans := make([]span, len(l.tasks))
	for i, t := range l.tasks {
		spans[i] = t.left(l.costS(t, turns))
	}
	return spans
}

// look gives captures up when samples take longer than when they were accepted, because of other programs, so that the others
// come out whole: the least urgent, and of those the one that came last. The last one left goes on.
func (l *load) look(turns *turns) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.looked) < lookEvery {
		return
	}
	l.looked = time.Now()
	for spans := l.left(turns); len(spans) > 1 && !carries(spans, float64(turns.width())); {
		least := 0
		for i, t := range l.tasks {
			if t.urgency <= l.tasks[least].urgency {
				least = i
			}
		}
		l.tasks[least].giveUp()
		l.tasks, spans = slices.Delete(l.tasks, least, least+1), slices.Delete(spans, least, least+1)
	}
}

func (l *load) remove(t *task) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tasks = slices.DeleteFunc(l.tasks, func(other *task) bool { return other == t })
}

// count is how many there are.
func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.tasks)
}

// carries tells whether so many processors can compute all of the spans in time, the most urgent samples first. A sample is there
// from when it is heard, and until its reach later. That works when in no stretch of time more has to be computed than that
// stretch has room for: what comes within and is gone at its end. A span that needs more than all processors by itself counts
// for all of them: it is tried. The stretches that matter begin where a span begins and end where the last sample of one is gone.
func carries(spans []span, processors float64) bool {
	var begins, ends []float64
	for _, s := range spans {
		begins, ends = append(begins, math.Max(0, s.from)), append(ends, s.to+s.reach)
	}
	for _, begin := range distinct(begins) {
		for _, end := range distinct(ends) {
			need := 0.0
			for _, s := range spans {
				from, to := s.from, math.Min(s.to, end-s.reach)
				if begin > 0 { // what was heard before now is part of what is to be computed from now on
					from = math.Max(from, begin)
				}
				need += math.Min(s.part, processors) * math.Max(0, to-from)
			}
			if need > processors*math.Max(0, end-begin)*(1+1e-9) {
				return false
			}
		}
	}
	return true
}

// distinct sorts times, and takes those within a hundredth of a second for one: captures come in crowds.
func distinct(timesS []float64) []float64 {
	slices.Sort(timesS)
	return slices.CompactFunc(timesS, func(a, b float64) bool { return math.Abs(b-a) < 0.01 })
}

// laterBy is how much later the first of the spans has to begin: at the end of one of the others, or when the last of them is
// gone.
func laterBy(spans []span, processors float64) float64 {
	own := spans[0]
	var ends []float64
	last := 0.0
	for _, other := range spans[1:] {
		ends = append(ends, other.to-own.from)
		last = math.Max(last, other.to+other.reach-own.from)
	}
	for _, by := range distinct(ends) {
		spans[0].from, spans[0].to = own.from+by, own.to+by
		if by > 0 && carries(spans, processors) {
			return by
		}
	}
	return last
}
