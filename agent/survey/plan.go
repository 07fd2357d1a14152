package survey

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/fulgidus/heimdall/agent/radio"
)

// WholePassband is the name of the only step when a plan has none.
const WholePassband = "all"

// retuneWait is how many seconds of samples may arrive before a retune shows in them. A full queue of an rtl_tcp server
// holds 32 s.
const retuneWait = 40 * time.Second

// Step is one thing to survey.
type Step struct {
	Name     string
	CenterHz float64       // 0: where the receiver is
	RateHz   float64       // 0: as the receiver has it
	Dwell    time.Duration // how long before the next step; 0 only in a plan of one step
}

// Plan is what a receiver surveys, in order and round again. A plan of one step surveys the whole passband without
// a pause.
type Plan []Step

// Validate reports every fault of the plan.
func (p Plan) Validate() error {
	var faults []error
	seen := map[string]bool{}
	for i, s := range p {
		if s.Name == "" {
			faults = append(faults, fmt.Errorf("step %d: name is empty: give it one", i+1))
		} else if seen[s.Name] {
			faults = append(faults, fmt.Errorf("step %d: name %q is taken by an earlier step", i+1, s.Name))
		}
		seen[s.Name] = true
		if !(s.CenterHz >= 0) || math.IsInf(s.CenterHz, 0) {
			faults = append(faults, fmt.Errorf("step %q: center %g Hz: want a frequency", s.Name, s.CenterHz))
		}
		if !(s.RateHz >= 0) || math.IsInf(s.RateHz, 0) {
			faults = append(faults, fmt.Errorf("step %q: rate %g Hz: want a sample rate", s.Name, s.RateHz))
		}
		if s.Dwell < 0 || s.Dwell == 0 && len(p) > 1 {
			faults = append(faults, fmt.Errorf("step %q: dwell %v: want more than 0 where there are several steps", s.Name, s.Dwell))
		}
	}
	return errors.Join(faults...)
}

// stepper decides which step a block belongs to and when the next one's turn has come. It does no I/O and has no clock: time
// is counted in samples.
type stepper struct {
	plan   Plan
	gainDB float64 // NaN: as it is

	step    int
	wanted  *radio.Tuning // a retune was asked and has not shown in the samples yet
	segment uint32        // that of the last block
	seen    bool          // segment is set
	begun   bool          // from is set
	from    uint64        // index where the dwell, or the wait for a retune, began
}

// current is the step whose turn it is.
func (d *stepper) current() Step { return d.plan[d.step] }

// aim notes that the receiver was asked to go from one tuning to that of the current step, and returns it. It is false when
// nothing has to be asked.
func (d *stepper) aim(from radio.Tuning) (radio.Tuning, bool) {
	s := d.current()
	to := from
	if s.CenterHz > 0 {
		to.CenterHz = s.CenterHz
	}
	if s.RateHz > 0 {
		to.SampleRateHz = s.RateHz
	}
	if !math.IsNaN(d.gainDB) {
		to.GainDB = d.gainDB
	}
	d.begun = false
	sameGain := math.IsNaN(d.gainDB) || to.GainDB == from.GainDB
	if near(from, to) && sameGain {
		return to, false
	}
	d.wanted = &to
	return to, true
}

// take says whether the block belongs to the current step and whether the step's time is over with it. It returns an
// error when a retune does not show.
func (d *stepper) take(b *radio.Block) (use, done bool, err error) {
	if !d.begun {
		d.begun, d.from = true, b.Index
	}
	changed := d.seen && b.Segment != d.segment
	d.segment, d.seen = b.Segment, true
	elapsed := radio.SamplesDuration(float64(b.Index-d.from)+float64(b.Samples()), b.Tuning.SampleRateHz)
	if d.wanted != nil {
		if !changed && !near(b.Tuning, *d.wanted) {
			if elapsed > retuneWait {
				return false, false, fmt.Errorf("tune to %.0f Hz: the samples are still from %.0f Hz", d.wanted.CenterHz, b.Tuning.CenterHz)
			}
			return false, false, nil
		}
		d.wanted, d.from = nil, b.Index
		elapsed = radio.SamplesDuration(float64(b.Samples()), b.Tuning.SampleRateHz)
	}
	if b.Flags&radio.Settling != 0 {
		d.begun = false
		return false, false, nil
	}
	dwell := d.current().Dwell
	return true, len(d.plan) > 1 && elapsed >= dwell, nil
}

// advance gives the next step its turn.
func (d *stepper) advance() {
	d.step = (d.step + 1) % len(d.plan)
	d.begun = false
}

// near tells whether two tunings are the same but for the grid of the synthesiser and a measured rate.
func near(a, b radio.Tuning) bool {
	return math.Abs(a.CenterHz-b.CenterHz) <= 1e-3*b.SampleRateHz && math.Abs(a.SampleRateHz-b.SampleRateHz) <= 1e-3*b.SampleRateHz
}
