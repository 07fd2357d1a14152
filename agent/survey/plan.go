package survey

import (
	"errors"
	"fmt"
	"math"
	"slices"
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
	gainDB float64      // NaN: as it is
	home   radio.Tuning // where the receiver was when it was opened: what a step leaves open

	step   int          // whose turn it is
	place  int          // the step that the receiver is at, or on its way to; elsewhere when it is held at none
	target radio.Tuning // where that is

	wanted  *radio.Tuning // a retune was asked and has not shown in the samples yet
	segment uint32        // that of the last block
	seen    bool          // segment is set
	begun   bool          // from is set
	from    uint64        // index where the dwell, or the wait for a retune, began
}

// elsewhere is a stepper's place when the receiver is held where no step of the plan is.
const elsewhere = -1

// tuning is that of a step.
func (d *stepper) tuning(step int) radio.Tuning {
	t := d.home
	if hz := d.plan[step].CenterHz; hz > 0 {
		t.CenterHz = hz
	}
	if hz := d.plan[step].RateHz; hz > 0 {
		t.SampleRateHz = hz
	}
	return t
}

// tunings are those of all steps.
func (d *stepper) tunings() []radio.Tuning {
	all := make([]radio.Tuning, len(d.plan))
	for i := range d.plan {
		all[i] = d.tuning(i)
	}
	return all
}

// next is the step whose turn it is after a block; done tells that the present one's dwell is over.
func (d *stepper) next(done bool) int {
	if done && d.place == d.step {
		return (d.step + 1) % len(d.plan)
	}
	return d.step
}

// move gives a step its turn or, when somebody holds the receiver, keeps that for later. It is false when nothing changes.
func (d *stepper) move(next int, to radio.Tuning, held bool) bool {
	place := next
	if held {
		next, place = d.step, d.placeOf(to)
	}
	changed := next != d.step || place != d.place || !to.Near(d.target)
	d.step, d.place, d.target = next, place, to
	if changed {
		d.begun = false
	}
	return changed
}

// placeOf is a step with a tuning, the present one if it has; or elsewhere.
func (d *stepper) placeOf(t radio.Tuning) int {
	if d.place != elsewhere && t.Near(d.tuning(d.place)) {
		return d.place
	}
	return slices.IndexFunc(d.tunings(), t.Near)
}

// aim notes that the receiver was asked to go from a tuning to the target, and returns what to ask for. It is false when
// nothing has to be asked.
func (d *stepper) aim(from radio.Tuning) (radio.Tuning, bool) {
	to := d.target
	if d.wanted != nil {
		from = *d.wanted // it is on its way there
	}
	to.GainDB = from.GainDB
	if !math.IsNaN(d.gainDB) {
		to.GainDB = d.gainDB
	}
	sameGain := math.IsNaN(d.gainDB) || to.GainDB == from.GainDB
	if from.Near(to) && sameGain {
		return to, false
	}
	d.wanted = &to
	return to, true
}

// take says whether the block belongs to the step that the receiver is at and whether the step's time is over with it. It
// returns an error when a retune does not show.
func (d *stepper) take(b *radio.Block) (use, done bool, err error) {
	if !d.begun {
		d.begun, d.from = true, b.Index
	}
	// A new segment that begins with a transient is the answer to a retune; others begin after a loss.
	answered := d.seen && b.Segment != d.segment && b.Flags&radio.Settling != 0
	d.segment, d.seen = b.Segment, true
	elapsed := radio.SamplesDuration(float64(b.Index-d.from)+float64(b.Samples()), b.Tuning.SampleRateHz)
	if d.wanted != nil {
		if !answered && !b.Tuning.Near(*d.wanted) {
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
	if d.place == elsewhere {
		return false, false, nil
	}
	return true, len(d.plan) > 1 && elapsed >= d.plan[d.place].Dwell, nil
}
