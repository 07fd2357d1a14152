// Package survey turns a receiver's samples into measurements.
//
// A Survey is the only owner of one receiver: it opens it, reads it, steps it through its plan and opens it again when it
// fails. Where the timetable says that somebody has reserved the receiver, it holds it there meanwhile, measuring on when that
// is a step of the plan. Every block goes into the history; blocks that belong to a step go through that step's Analyzer, and
// the records it makes go to the Publisher. An Analyzer is the measuring half alone: it knows nothing of receivers and clocks, so that
// `measure` on a file and `run` on a radio give the same numbers.
package survey

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/fulgidus/heimdall/agent/history"
	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/agent/timetable"
	"github.com/fulgidus/heimdall/protocol"
)

// Back-off between attempts to open a receiver.
const (
	firstRetry = time.Second
	lastRetry  = time.Minute
)

// Settings say what to survey, with what, and where the results go.
type Settings struct {
	Receiver string // id
	// Open makes the receiver, without I/O; it is called before every attempt to connect.
	Open func() (radio.Receiver, error)
	Plan Plan // empty: the whole passband as one step named WholePassband
	// GainDB is asked of the receiver when it is tuned; nil leaves it as it is.
	GainDB *float64
	// Analyzer configures every step's Analyzer; Receiver and Step are filled in, and MaskDC too unless MaskDC is set here.
	Analyzer Config
	MaskDC   *bool // nil: what the receiver says of itself

	History *history.Ring
	// Keeper keeps the samples around emissions; nil: they stay no longer than everything else.
	Keeper Keeper
	// Table says who has reserved the receiver; nil: nobody can.
	Table     *timetable.Table
	Publisher Publisher
	Now       func() time.Time // the station's clock; nil: the system's
	Log       *slog.Logger
}

// Keeper keeps the samples around an emission longer than the rest. It is told of an emission while it lasts, with a growing
// duration, and when it has ended.
type Keeper interface {
	Hold(start time.Time, duration time.Duration, snrDB float64)
}

// Survey surveys one receiver. Run does the work; the other methods may be called from any goroutine at any time.
type Survey struct {
	set   Settings
	log   *slog.Logger
	queue *publishQueue // remade by each Run

	// Only Run's goroutine uses these.
	join      joint
	waiting   batch
	analyzers uint64 // made so far
	totals    radio.Health

	// mu guards the fields below.
	mu     sync.Mutex
	status status
}

// New checks the settings. It does no I/O.
func New(set Settings) (*Survey, error) {
	if set.Open == nil || set.History == nil || set.Publisher == nil {
		return nil, fmt.Errorf("survey of receiver %q: a receiver, a history and a publisher are needed", set.Receiver)
	}
	if len(set.Plan) == 0 {
		set.Plan = Plan{{Name: WholePassband}}
	}
	if err := set.Plan.Validate(); err != nil {
		return nil, fmt.Errorf("plan of receiver %q: %w", set.Receiver, err)
	}
	if _, err := NewAnalyzer(set.Analyzer); err != nil {
		return nil, fmt.Errorf("receiver %q: %w", set.Receiver, err)
	}
	if set.Table == nil {
		set.Table = new(timetable.Table)
	}
	if set.Now == nil {
		set.Now = time.Now
	}
	if set.Log == nil {
		set.Log = slog.New(slog.DiscardHandler)
	}
	return &Survey{
		set:    set,
		log:    set.Log.With("receiver", set.Receiver),
		totals: radio.Health{Lost: map[string]uint64{}},
		status: newStatus(set.Plan),
	}, nil
}

// Run surveys until the context ends, or a recording does; both are no error. Whatever was under way is measured and
// published before it returns. It may be called again after it has returned.
func (s *Survey) Run(ctx context.Context) error {
	s.queue = &publishQueue{
		publisher: s.set.Publisher,
		log:       s.log,
		records:   make(chan queued, queueLength),
		ids:       map[trackKey]string{},
	}
	s.join.begin()
	left := make(chan int, 1) // one value, sent when publishing has ended
	go func() { left <- s.queue.run(ctx) }()

	s.connectAndRead(ctx)
	close(s.queue.records)
	if n := <-left; n > 0 {
		s.update(func(st *status) { st.unpublished += uint64(n) })
		return fmt.Errorf("survey of receiver %q: %d records could not be stored before the end", s.set.Receiver, n)
	}
	return nil
}

// connectAndRead holds the receiver open, with pauses between attempts, until the context or a recording ends.
func (s *Survey) connectAndRead(ctx context.Context) {
	failures := 0
	var wait time.Duration
	for {
		begun := time.Now()
		delivered, err := s.session(ctx)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, io.EOF) {
			s.set.History.End()
			s.log.InfoContext(ctx, "recording ended")
			for _, f := range radio.Faults(err) {
				s.log.WarnContext(ctx, "recording is not what its description promises", "error", f)
			}
			return
		}
		if delivered && time.Since(begun) >= min(wait, lastRetry) { // one that fails again at once is not hammered for a few samples
			failures = 0
		}
		if failures%10 == 0 {
			s.log.WarnContext(ctx, "receiver is not available, trying on", "attempts", failures+1, "error", err)
		}
		wait = backOff(failures, firstRetry, lastRetry)
		if no, refused := errors.AsType[*radio.Refusal](err); refused {
			wait = max(wait, no.After)
		}
		if !pause(ctx, wait) {
			return
		}
		failures++
	}
}

// session opens the receiver and reads it to its end or failure. delivered says whether samples came.
func (s *Survey) session(ctx context.Context) (delivered bool, err error) {
	rx, err := s.set.Open()
	if err != nil {
		s.disconnected(err, nil)
		return false, err
	}
	info, err := rx.Open(ctx)
	if err != nil {
		err = errors.Join(err, rx.Close())
		s.disconnected(err, nil)
		return false, err
	}
	s.log.InfoContext(ctx, "receiver is open", "source", info.Source, "center_hz", info.Tuning.CenterHz, "rate_hz", info.Tuning.SampleRateHz)
	s.join.reopen()

	delivered, err = s.read(ctx, rx, info)
	health := rx.Health()
	if closeErr := rx.Close(); closeErr != nil {
		err = errors.Join(err, fmt.Errorf("close: %w", closeErr))
	}
	if ctx.Err() != nil {
		s.disconnected(nil, &health)
	} else {
		s.disconnected(err, &health)
	}
	return delivered, err
}

// disconnected adds a session's account to the totals.
func (s *Survey) disconnected(err error, session *radio.Health) {
	if session != nil {
		s.totals.SamplesTotal += session.SamplesTotal
		for reason, n := range session.Lost {
			s.totals.Lost[reason] += n
		}
	}
	totals := addHealth(s.totals, radio.Health{RatePPM: math.NaN()})
	s.update(func(st *status) {
		st.connected, st.health = false, totals
		if err != nil && !errors.Is(err, io.EOF) {
			st.err = err
		}
	})
}

// read surveys an open receiver.
func (s *Survey) read(ctx context.Context, rx radio.Receiver, info radio.Info) (delivered bool, err error) {
	steps, err := s.steps(ctx, info)
	if err != nil {
		return false, err
	}
	defer s.rest()
	defer func() { s.flush(steps, steps.place) }()
	to, held := s.set.Table.Open(info.Tuning, info.Range.Settling, steps.tunings(), steps.step, s.set.Now())
	s.update(func(st *status) { st.connected, st.info, st.err = true, info, nil }) // from now on it can be reserved
	steps.move(steps.step, to, held)
	if err := steps.retune(ctx, rx, info.Tuning); err != nil {
		return false, err
	}
	var sinceHealth, sinceShown uint64
	for {
		s.rest()
		block := s.waiting.next()
		if err := rx.Read(ctx, block); err != nil {
			return delivered, err
		}
		s.work()
		delivered = true
		if lost := s.join.block(block, info.Timeline, time.Now()); lost > 0 {
			s.totals.Lost["disconnected"] += lost
		}
		s.set.History.Append(block)

		use, done, err := steps.take(block)
		if err != nil {
			return true, err
		}
		if use && s.waiting.add() {
			s.analyze(steps, steps.place)
		}
		if err := s.follow(ctx, rx, steps, block, steps.next(done)); err != nil {
			return true, err
		}
		if sinceShown += uint64(block.Samples()); steps.place == elsewhere && float64(sinceShown) >= block.Tuning.SampleRateHz {
			sinceShown = 0
			s.showAway(block.End())
		}
		if sinceHealth += uint64(block.Samples()); float64(sinceHealth) >= block.Tuning.SampleRateHz/2 {
			sinceHealth = 0
			health := addHealth(s.totals, rx.Health())
			s.update(func(st *status) { st.health = health })
		}
	}
}

// follow takes the receiver where it has to be after a block; next is the step whose turn it is by the plan.
func (s *Survey) follow(ctx context.Context, rx radio.Receiver, st *steps, b *radio.Block, next int) error {
	to, held := s.set.Table.Turn(b.End(), st.tuning(next))
	before := st.place
	if !st.move(next, to, held) {
		return nil
	}
	s.flush(st, before)
	s.rest()
	defer s.work()
	return st.retune(ctx, rx, b.Tuning)
}

// analyze hands the blocks that wait to the Analyzer of their step.
func (s *Survey) analyze(st *steps, step int) {
	blocks := s.waiting.take()
	for i := range blocks {
		s.work()
		s.emit(st.analyzers[step].Write(&blocks[i]), st.keys[step])
	}
}

// flush closes what is under way of a step.
func (s *Survey) flush(st *steps, step int) {
	if step != elsewhere {
		s.analyze(st, step)
		s.emit(st.analyzers[step].Flush(), st.keys[step])
	}
}

// steps is a session's stepper with an Analyzer for each step.
type steps struct {
	stepper
	analyzers []*Analyzer
	keys      []uint64
}

// steps makes the Analyzers of a session. A plan of several steps on a source that cannot be tuned comes down to the first.
func (s *Survey) steps(ctx context.Context, info radio.Info) (*steps, error) {
	plan := s.set.Plan
	if len(plan) > 1 && !info.Tunable {
		s.log.WarnContext(ctx, "source cannot be tuned: surveying its whole passband under the first step's name", "step", plan[0].Name)
		plan = plan[:1]
	}
	st := &steps{stepper: stepper{plan: plan, gainDB: math.NaN(), home: info.Tuning}}
	if s.set.GainDB != nil {
		st.gainDB = *s.set.GainDB
	}
	for _, step := range plan {
		cfg := s.set.Analyzer
		cfg.Receiver, cfg.Step, cfg.MaskDC = s.set.Receiver, step.Name, info.MaskDC
		if s.set.MaskDC != nil {
			cfg.MaskDC = *s.set.MaskDC
		}
		a, err := NewAnalyzer(cfg)
		if err != nil {
			return nil, fmt.Errorf("step %q: %w", step.Name, err)
		}
		s.analyzers++
		st.analyzers, st.keys = append(st.analyzers, a), append(st.keys, s.analyzers)
	}
	return st, nil
}

// retune asks for where the receiver has to be when it is elsewhere. A source with one fixed tuning stays there.
func (st *steps) retune(ctx context.Context, rx radio.Receiver, from radio.Tuning) error {
	to, needed := st.aim(from)
	if !needed {
		return nil
	}
	err := rx.Tune(ctx, to)
	if errors.Is(err, radio.ErrNotTunable) {
		st.wanted = nil
		return nil
	}
	if err != nil {
		return fmt.Errorf("tune to %.0f Hz: %w", to.CenterHz, err)
	}
	return nil
}

// emit notes what the records say and hands them to the publisher. It waits while the queue is full.
func (s *Survey) emit(emissions []Emission, analyzer uint64) {
	for _, e := range emissions {
		item := queued{record: e.Record}
		if e.Track != 0 {
			item.track = trackKey{analyzer, e.Track}
		}
		s.observe(e, item.track)
		s.keep(e.Record)
		select {
		case s.queue.records <- item:
			continue
		default:
		}
		// The publishing goroutine always goes on: it gives up waiting records drainTime after the context's end.
		began := time.Now()
		s.rest()
		s.queue.records <- item
		s.work()
		stalled := time.Since(began)
		s.update(func(st *status) { st.stalls, st.stalled = st.stalls+1, st.stalled+stalled })
	}
}

// keep tells the Keeper of an emission. One whose time is not known cannot be asked for.
func (s *Survey) keep(r *protocol.Record) {
	if d := r.GetDetection(); d != nil && r.Time != nil && s.set.Keeper != nil {
		s.set.Keeper.Hold(time.Unix(0, r.GetTime()).UTC(), time.Duration(d.GetDurationS()*1e9), float64(d.GetSnrDb()))
	}
}

// joint numbers the samples of successive connections as one stream: each Open begins again at segment 0, index 0.
type joint struct {
	segment  uint32 // added to the receiver's own
	index    uint64
	next     uint32 // first free segment number
	end      uint64 // index after the last block
	endTime  time.Time
	seen     time.Time // when the last block came; monotonic
	reopened bool
	awaited  bool // blocks came since begin: what is missing until the next is lost
}

// begin notes that nobody wanted samples before now: those are not lost.
func (j *joint) begin() { j.awaited = false }

// reopen notes that the next block is the first of a new connection.
func (j *joint) reopen() { j.reopened = true }

// block renumbers a block that comes now. After a new connection it returns how many samples were lost, by the clock.
func (j *joint) block(b *radio.Block, timeline bool, now time.Time) (lost uint64) {
	if j.reopened {
		j.reopened = false
		if pause := j.pause(b, now).Seconds(); j.awaited && timeline && pause > 0 {
			lost = uint64(math.Round(pause * b.Tuning.SampleRateHz))
		}
		j.segment, j.index = j.next-b.Segment, j.end+lost-b.Index
		if lost > 0 {
			b.LostBefore, b.LostExact = lost, false
		}
	}
	b.Segment += j.segment
	b.Index += j.index
	j.awaited = true
	j.next, j.end, j.endTime, j.seen = b.Segment+1, b.Index+uint64(b.Samples()), b.End(), now
	return lost
}

// believed is how far the times of blocks and the monotonic clock may differ on a pause: deliveries are late by less.
const believed = time.Second

// pause is the time between the last block's end and this one's beginning. It is that of their times, unless those were read
// from a wall clock that was set meanwhile.
func (j *joint) pause(b *radio.Block, now time.Time) time.Duration {
	byTimes, passed := b.Time.Sub(j.endTime), now.Sub(j.seen)-b.End().Sub(b.Time)
	switch b.TimeQuality {
	case protocol.TimeQuality_TIME_QUALITY_NTP, protocol.TimeQuality_TIME_QUALITY_SYSTEM, protocol.TimeQuality_TIME_QUALITY_UNSET:
		if (byTimes - passed).Abs() > believed {
			return passed
		}
	default:
	}
	return byTimes
}
