package survey

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/protocol"
)

// snapshotQueue is how many snapshots a subscriber may be behind; then it misses the newest ones.
const snapshotQueue = 8

// Health is a survey's running account, over all connections.
type Health struct {
	radio.Health
	Info        radio.Info    // of the present or last connection; zero before the first
	History     time.Duration // how far back the history reaches
	Held        int           // stretches around detections that stay beyond that
	Stalls      uint64        // how often the survey waited for the publisher
	Stalled     time.Duration // and for how long in all
	Unpublished uint64        // records given up at the end of a run
}

// Snapshot is what a receiver hears now, for a live view; or, while it is off its plan and nothing is measured, why.
type Snapshot struct {
	Receiver, Step string
	Measurement    *protocol.Record // the latest; the subscriber's own copy. Nil while nothing is measured
	Detection      *protocol.Record // the latest of this step; nil before the first
	Detections     uint64           // emissions so far
	History        time.Duration    // how far back the history reaches
	Held           int              // stretches around detections that stay beyond that

	Time time.Time              // of the sample that the rest is true of
	Away *protocol.ReceiverAway // what keeps the receiver off its plan
}

// status is what other goroutines may ask for.
type status struct {
	connected   bool
	info        radio.Info
	health      radio.Health
	err         error
	stalls      uint64
	stalled     time.Duration
	unpublished uint64
	working     time.Time // since when Run is at a block; zero: it waits for others

	steps       map[string]*stepStatus
	subscribers map[chan Snapshot]struct{}
}

// stepStatus is the latest of one step.
type stepStatus struct {
	state     protocol.StepState
	tracks    map[trackKey]struct{} // open emissions, counted already
	detection *protocol.Record
}

func newStatus(plan Plan) status {
	st := status{
		health:      radio.Health{RatePPM: math.NaN()},
		steps:       map[string]*stepStatus{},
		subscribers: map[chan Snapshot]struct{}{},
	}
	for _, s := range plan {
		st.steps[s.Name] = &stepStatus{tracks: map[trackKey]struct{}{}}
	}
	return st
}

func (s *Survey) update(change func(*status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.status)
}

// work and rest note whether Run is at a block, or waits for the receiver or the publisher.
func (s *Survey) work() { s.update(func(st *status) { st.working = time.Now() }) }
func (s *Survey) rest() { s.update(func(st *status) { st.working = time.Time{} }) }

// Working is how long the survey has been at one block; 0 while it waits for the receiver or for the publisher.
func (s *Survey) Working() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status.working.IsZero() {
		return 0
	}
	return time.Since(s.status.working)
}

// observe notes what a record says. The record is copied where it is kept, because its publisher completes it later.
func (s *Survey) observe(e Emission, key trackKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	step, ok := s.status.steps[e.Record.GetStep()]
	if !ok {
		return
	}
	switch e.Record.Kind() {
	case protocol.KindMeasurement:
		m := e.Record.GetMeasurement()
		step.state.PowerDBFS = widen(m.PowerDbfs)
		step.state.NoiseFloorDBFSHz = widen(m.NoiseFloorDbfsHz)
		step.state.SNRDB = widen(m.SnrDb)
		s.tell(e.Record, step)
	case protocol.KindDetection:
		if _, counted := step.tracks[key]; !counted {
			step.state.DetectionsTotal++
			step.tracks[key] = struct{}{}
		}
		if !e.Record.GetDetection().GetOpen() {
			delete(step.tracks, key)
		}
		step.detection = proto.CloneOf(e.Record)
	default:
	}
}

// tell gives every subscriber a snapshot. The caller holds mu.
func (s *Survey) tell(measurement *protocol.Record, step *stepStatus) {
	if len(s.status.subscribers) == 0 {
		return
	}
	history, held := s.set.History.Span().Duration(), len(s.set.History.Held())
	s.show(func() Snapshot {
		return Snapshot{
			Receiver:    s.set.Receiver,
			Step:        measurement.GetStep(),
			Measurement: proto.CloneOf(measurement),
			Detection:   proto.CloneOf(step.detection),
			Detections:  step.state.DetectionsTotal,
			History:     history,
			Held:        held,
			Time:        time.Unix(0, measurement.GetTime()),
		}
	})
}

// show gives every subscriber a snapshot of its own. The caller holds mu.
func (s *Survey) show(snapshot func() Snapshot) {
	for ch := range s.status.subscribers {
		select {
		case ch <- snapshot():
		default:
		}
	}
}

// showAway tells subscribers that nothing is measured, and why.
func (s *Survey) showAway(at time.Time) {
	away := s.away()
	if away == nil {
		return
	}
	history, held := s.set.History.Span().Duration(), len(s.set.History.Held())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.show(func() Snapshot {
		return Snapshot{Receiver: s.set.Receiver, History: history, Held: held, Time: at, Away: away}
	})
}

// away says what keeps the receiver off its plan; nil: nothing.
func (s *Survey) away() *protocol.ReceiverAway {
	by, away := s.set.Table.Away()
	if !away {
		return nil
	}
	return &protocol.ReceiverAway{Order: by.Order, CenterHz: by.Tuning.CenterHz, Until: protocol.FormatTime(by.To)}
}

// Subscribe gives a snapshot with every measurement from now on, and every second while the receiver is off its plan, until
// cancel is called; then the channel is closed. A subscriber that is snapshotQueue behind misses some.
func (s *Survey) Subscribe() (snapshots <-chan Snapshot, cancel func()) {
	ch := make(chan Snapshot, snapshotQueue)
	s.update(func(st *status) { st.subscribers[ch] = struct{}{} })
	return ch, func() {
		s.update(func(st *status) {
			if _, subscribed := st.subscribers[ch]; subscribed {
				delete(st.subscribers, ch)
				close(ch)
			}
		})
	}
}

// Health is the account so far. Counts of the present connection are up to half a second old.
func (s *Survey) Health() Health {
	span, held := s.set.History.Span(), len(s.set.History.Held())
	s.mu.Lock()
	defer s.mu.Unlock()
	h := Health{
		Health: s.status.health, Info: s.status.info, History: span.Duration(), Held: held,
		Stalls: s.status.stalls, Stalled: s.status.stalled, Unpublished: s.status.unpublished,
	}
	h.Lost = maps.Clone(h.Lost)
	h.Connected = s.status.connected
	h.Err = s.status.err
	return h
}

// Info describes the receiver; false while it is not connected.
func (s *Survey) Info() (radio.Info, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status.info, s.status.connected
}

// State is the receiver's part of the station's state, with the latest measurement of every step.
func (s *Survey) State() protocol.ReceiverState {
	h := s.Health()
	state := protocol.ReceiverState{Connected: h.Connected, HistoryS: h.History.Seconds(), Held: uint64(h.Held), Steps: map[string]protocol.StepState{}, Away: s.away()}
	for _, n := range h.Lost {
		state.LostSamplesTotal += n
	}
	if !math.IsNaN(h.RatePPM) {
		state.RatePPM = &h.RatePPM
	}
	state.LagS = math.Round(h.Lag.Seconds()*1e3) / 1e3
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, step := range s.status.steps {
		state.Steps[name] = step.state
	}
	return state
}

// ReceiverHealth is Health as a station's Health record carries it.
func (s *Survey) ReceiverHealth() *protocol.ReceiverHealth {
	h := s.Health()
	r := &protocol.ReceiverHealth{
		Receiver:     proto.String(s.set.Receiver),
		Connected:    proto.Bool(h.Connected),
		SamplesTotal: proto.Uint64(h.SamplesTotal),
		HistoryS:     proto.Float64(h.History.Seconds()),
	}
	for _, reason := range slices.Sorted(maps.Keys(h.Lost)) {
		r.Lost = append(r.Lost, &protocol.Loss{Reason: proto.String(reason), Samples: proto.Uint64(h.Lost[reason])})
	}
	if !math.IsNaN(h.RatePPM) {
		r.RatePpm = proto.Float64(h.RatePPM)
	}
	if h.Lag > 0 {
		r.LagS = proto.Float64(h.Lag.Seconds())
	}
	if h.Err != nil {
		r.Error = proto.String(protocol.CleanText(h.Err.Error(), protocol.MaxMessageTextBytes))
	}
	return r
}

// addHealth is the account of earlier connections and the present one together.
func addHealth(before, now radio.Health) radio.Health {
	sum := now
	sum.SamplesTotal += before.SamplesTotal
	sum.Lost = maps.Clone(before.Lost)
	for reason, n := range now.Lost {
		sum.Lost[reason] += n
	}
	return sum
}

// widen keeps absent what is absent, and gives the number that the shorter one is written as: -94.44, not what its binary
// form says beyond that.
func widen(v *float32) *float64 {
	if v == nil {
		return nil
	}
	w, err := strconv.ParseFloat(strconv.FormatFloat(float64(*v), 'g', -1, 32), 64)
	if err != nil { // of no number
		w = float64(*v)
	}
	return &w
}
