// Package timetable holds who has a receiver at which tuning, and when.
//
// A receiver is stepped through its plan until somebody needs it elsewhere, or needs it to stay. Whoever wants samples of a
// stretch of time reserves the receiver for it; the survey, which alone tunes the receiver, asks with every block where the
// receiver has to be (Turn). Reservations of one tuning share the receiver; of two tunings, one comes first. All times are
// those of samples. A Table does no I/O and has no clock of its own.
package timetable

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/fulgidus/heimdall/agent/radio"
)

const (
	// mostReservations bounds a Table.
	mostReservations = 256
	// slack is how much later than the receiver's own settling samples may count: this program may be kept waiting.
	slack = 50 * time.Millisecond
)

// Request says what somebody needs.
type Request struct {
	Order    string // who asks, for people
	Tuning   radio.Tuning
	From, To time.Time // samples of this stretch are to be settled at the tuning
	Priority int32
	// Displaced is called, once, when a more urgent reservation takes the place of this one before it began. It must not wait.
	Displaced func(*BusyError)
}

// BusyError says that the receiver is elsewhere at that time.
type BusyError struct {
	Holder   Request   // of what is in the way
	Earliest time.Time // when a stretch of this length could begin
}

func (e *BusyError) Error() string {
	return fmt.Sprintf("order %s has the receiver at %.0f Hz until %s", e.Holder.Order, e.Holder.Tuning.CenterHz, e.Holder.To.UTC().Format(time.RFC3339Nano))
}

// SoonError says that the receiver cannot be there in time.
type SoonError struct {
	Earliest time.Time // when a stretch of this length could begin
}

func (e *SoonError) Error() string {
	return fmt.Sprintf("the receiver is there at %s", e.Earliest.UTC().Format(time.RFC3339Nano))
}

// Reservation is a receiver's promise.
type Reservation struct {
	Request
	table *Table
}

// Table is the timetable of one receiver. Its methods may be called from any goroutine.
type Table struct {
	// mu guards the fields below.
	mu    sync.Mutex
	clock time.Time      // end of the newest sample; before the first one, when the receiver was opened
	lead  time.Duration  // from the block with which a retune is decided on until samples count
	steps []radio.Tuning // of the plan
	aim   radio.Tuning   // where the receiver is, or is on its way to
	ready time.Time      // samples at aim count from then on; zero: they always did
	moved bool           // aim was set before there was a clock of samples
	away  *Reservation   // what has taken the receiver off its plan; nil when nothing has
	all   []*Reservation // by From
}

// Open says that the receiver was connected: at which tuning it is, what it takes to tune it, and the plan's tunings, of which
// the one numbered step is next. It returns where the receiver has to be. now stands for the time of samples until there are
// some.
func (t *Table) Open(at radio.Tuning, settling time.Duration, steps []radio.Tuning, step int, now time.Time) (to radio.Tuning, held bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pass(now)
	t.lead, t.steps = settling+slack, slices.Clone(steps)
	t.aim = at
	to, held = t.turn(steps[step])
	t.moved = !to.Near(at)
	return to, held
}

// Turn says where the receiver has to be after the sample that ended at end: where the plan wants it, or at a reserved tuning.
func (t *Table) Turn(end time.Time, plan radio.Tuning) (to radio.Tuning, held bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pass(end)
	t.all = slices.DeleteFunc(t.all, func(r *Reservation) bool { return !r.To.After(end) })
	if t.moved {
		t.moved, t.ready = false, end.Add(t.lead)
	}
	return t.turn(plan)
}

// pass lets time go on to now. Where the times of samples go back, because the clock was set that they are read from, so does
// that from which on they count. The caller holds mu.
func (t *Table) pass(now time.Time) {
	if back := t.clock.Sub(now); back > 0 && !t.ready.IsZero() {
		t.ready = t.ready.Add(-back)
	}
	t.clock = now
}

// turn aims the receiver at what is due. The caller holds mu.
func (t *Table) turn(plan radio.Tuning) (to radio.Tuning, held bool) {
	to, t.away = plan, nil
	if r := t.due(); r != nil {
		to, held = r.Tuning, true
		if !to.Near(plan) {
			t.away = r
		}
	}
	if !to.Near(t.aim) {
		t.ready = t.clock.Add(t.lead)
	}
	t.aim = to
	return to, held
}

// due is a reservation whose turn it is; nil when there is none. The caller holds mu.
func (t *Table) due() *Reservation {
	for _, r := range t.all {
		if t.begun(r) && r.To.After(t.clock) {
			return r
		}
	}
	return nil
}

// begun tells whether the receiver is, or goes, where a reservation wants it. The caller holds mu.
func (t *Table) begun(r *Reservation) bool { return !r.From.Add(-t.lead).After(t.clock) }

// Reserve promises the receiver for a stretch. Its errors are a *SoonError, when the receiver cannot be there in time, and a
// *BusyError, when others have it elsewhere. With displace, reservations of lower priority that have not begun give way.
func (t *Table) Reserve(q Request, displace bool) (*Reservation, error) {
	displaced, r, err := t.reserve(q, displace)
	for _, d := range displaced {
		if d.Displaced != nil {
			d.Displaced(t.busy(d.Request))
		}
	}
	return r, err
}

func (t *Table) reserve(q Request, displace bool) (displaced []*Reservation, r *Reservation, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	yields := func(r *Reservation) bool { return displace && r.Priority < q.Priority && !t.begun(r) }
	if from, inTime := t.reachable(q); !inTime {
		return nil, nil, &SoonError{t.earliest(q, from, yields)}
	}
	for _, r := range t.all {
		if !t.conflict(r, q) {
			continue
		}
		if !yields(r) {
			return nil, nil, &BusyError{r.Request, t.earliest(q, q.From, yields)}
		}
		displaced = append(displaced, r)
	}
	if len(t.all)-len(displaced) >= mostReservations {
		first := slices.MinFunc(t.all, func(a, b *Reservation) int { return a.To.Compare(b.To) })
		return nil, nil, &BusyError{first.Request, t.earliest(q, first.To.Add(t.lead), yields)}
	}
	t.all = slices.DeleteFunc(t.all, func(r *Reservation) bool { return slices.Contains(displaced, r) })
	r = &Reservation{q, t}
	t.all = append(t.all, r)
	slices.SortStableFunc(t.all, func(a, b *Reservation) int { return a.From.Compare(b.From) })
	return displaced, r, nil
}

// reachable tells whether the receiver can be at a tuning in time, and from when on. The caller holds mu.
func (t *Table) reachable(q Request) (from time.Time, inTime bool) {
	from = t.clock.Add(t.lead)
	if q.Tuning.Near(t.aim) && !t.moved {
		from = t.ready
	}
	return from, !q.From.Before(from)
}

// conflict tells whether a reservation keeps the receiver from serving a request. The caller holds mu.
func (t *Table) conflict(r *Reservation, q Request) bool {
	return !r.Tuning.Near(q.Tuning) && r.From.Add(-t.lead).Before(q.To) && q.From.Add(-t.lead).Before(r.To)
}

// earliest is when a stretch as long as asked could begin, not before from. The caller holds mu.
func (t *Table) earliest(q Request, from time.Time, yields func(*Reservation) bool) time.Time {
	length := q.To.Sub(q.From)
	blocked := func() *Reservation {
		at := q
		at.From, at.To = from, from.Add(length)
		for _, r := range t.all {
			if t.conflict(r, at) && !yields(r) {
				return r
			}
		}
		return nil
	}
	for r := blocked(); r != nil; r = blocked() {
		from = r.To.Add(t.lead)
	}
	return from
}

// busy says what took the place of a request, and when it could begin now.
func (t *Table) busy(q Request) *BusyError {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := &BusyError{Earliest: t.earliest(q, q.From, func(*Reservation) bool { return false })}
	for _, r := range t.all {
		if t.conflict(r, q) {
			e.Holder = r.Request
			break
		}
	}
	return e
}

// Earliest is when a stretch of the request's length could begin, from now on, without displacing anybody.
func (t *Table) Earliest(q Request) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	from, _ := t.reachable(q)
	if t.clock.After(from) {
		from = t.clock
	}
	return t.earliest(q, from, func(*Reservation) bool { return false })
}

// Release ends a reservation before its time. It may be called more than once.
func (r *Reservation) Release() {
	r.table.mu.Lock()
	defer r.table.mu.Unlock()
	r.table.all = slices.DeleteFunc(r.table.all, func(o *Reservation) bool { return o == r })
	if r.table.away == r {
		r.table.away = nil
	}
}

// Place is a tuning at which the receiver can serve somebody without leaving what is planned.
type Place struct {
	radio.Tuning
	// Cost orders places by how much is disturbed: 0 nothing, 1 the plan stays at a step for longer, 2 it jumps to another.
	Cost int
}

// Places are the tunings that are reserved already for some part of a stretch, where the receiver is now, and the steps of the
// plan; the cheapest first.
func (t *Table) Places(from, to time.Time) []Place {
	t.mu.Lock()
	defer t.mu.Unlock()
	var places []Place
	add := func(tuning radio.Tuning, cost int) {
		if !slices.ContainsFunc(places, func(p Place) bool { return p.Near(tuning) }) {
			places = append(places, Place{tuning, cost})
		}
	}
	for _, r := range t.all {
		if r.From.Before(to) && from.Before(r.To) {
			add(r.Tuning, 0)
		}
	}
	for _, step := range t.steps {
		switch {
		case len(t.steps) == 1:
			add(step, 0)
		case step.Near(t.aim):
			add(step, 1)
		default:
			add(step, 2)
		}
	}
	slices.SortStableFunc(places, func(a, b Place) int { return cmp.Compare(a.Cost, b.Cost) })
	return places
}

// Lead is how long it takes to have the receiver elsewhere; 0 before it was opened.
func (t *Table) Lead() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lead
}

// Away tells what has taken the receiver off its plan; false when it follows it.
func (t *Table) Away() (Request, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.away == nil {
		return Request{}, false
	}
	return t.away.Request, true
}
