package survey

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/dsp"
)

func TestPlan_ValidateNamesEveryFault(t *testing.T) {
	err := Plan{
		{Name: "", CenterHz: 1e6, Dwell: time.Second},
		{Name: "a", CenterHz: -1, Dwell: time.Second},
		{Name: "a", RateHz: math.NaN(), Dwell: 0},
	}.Validate()
	for _, want := range []string{
		"step 1: name is empty", `step "a": center -1 Hz`, `step 3: name "a" is taken`, `step "a": rate NaN Hz`, `step "a": dwell 0s`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to say %q", err, want)
		}
	}
	if err := (Plan{{Name: "one"}}).Validate(); err != nil {
		t.Errorf("one step without a dwell: %v", err)
	}
}

// script runs a stepper over blocks of 100 samples at 1000 a second and writes one letter for each: the first of the step's
// name when it is used, '.' when not; '|' after a step's end. Tunings take effect as the script says.
func script(t *testing.T, d *stepper, blocks []radio.Block) string {
	t.Helper()
	var s strings.Builder
	for i := range blocks {
		b := &blocks[i]
		b.Format, b.Raw = dsp.CU8, make([]byte, 200)
		if b.Index == 0 {
			b.Index = uint64(i) * 100
		}
		use, done, err := d.take(b)
		if err != nil {
			s.WriteString("!" + err.Error())
			return s.String()
		}
		if use {
			s.WriteString(d.plan[d.place].Name[:1])
		} else {
			s.WriteByte('.')
		}
		if done {
			s.WriteByte('|')
			next := d.next(done)
			d.move(next, d.tuning(next), false)
			d.aim(b.Tuning)
		}
	}
	return s.String()
}

func at(centerHz float64, segment uint32, flags radio.Flags) radio.Block {
	return radio.Block{Tuning: radio.Tuning{CenterHz: centerHz, SampleRateHz: 1000}, Segment: segment, Flags: flags}
}

func repeat(n int, b radio.Block) []radio.Block {
	var out []radio.Block
	for range n {
		out = append(out, b)
	}
	return out
}

func TestStepper(t *testing.T) {
	two := Plan{{Name: "a", CenterHz: 1e6, Dwell: 300 * time.Millisecond}, {Name: "b", CenterHz: 2e6, Dwell: 200 * time.Millisecond}}
	for _, tc := range []struct {
		name   string
		plan   Plan
		blocks [][]radio.Block
		want   string
	}{
		{"one step for ever", two[:1], [][]radio.Block{repeat(10, at(1e6, 1, 0))}, "aaaaaaaaaa"},
		{
			"late retune, settling", two,
			[][]radio.Block{
				repeat(3, at(1e6, 1, 0)),
				repeat(2, at(1e6, 1, 0)),              // still in the receiver's queue
				repeat(2, at(2e6, 2, radio.Settling)), // not for measurements
				repeat(2, at(2e6, 2, 0)),
				repeat(4, at(1e6, 3, 0)),
			},
			"aaa|....bb|aaa|.",
		},
		{
			"a transient is the end of a retune, however far off", two,
			[][]radio.Block{repeat(3, at(1e6, 1, 0)), repeat(1, at(1e6, 1, 0)), repeat(1, at(1.9e6, 2, radio.Settling)), repeat(2, at(1.9e6, 2, 0))},
			"aaa|..bb|",
		},
		{
			"a segment after a loss is no retune", two,
			[][]radio.Block{repeat(3, at(1e6, 1, 0)), repeat(2, at(1e6, 2, 0)), repeat(2, at(2e6, 3, 0))},
			"aaa|..bb|",
		},
		{
			"never retuned", two,
			[][]radio.Block{repeat(3, at(1e6, 1, 0)), repeat(500, at(1e6, 1, 0))},
			"aaa|" + strings.Repeat(".", 400) + "!tune to 2000000 Hz: the samples are still from 1000000 Hz",
		},
		{
			"starts elsewhere", two,
			[][]radio.Block{repeat(2, at(5e6, 1, 0)), repeat(2, at(1e6, 2, 0))},
			"..aa",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := &stepper{plan: tc.plan, gainDB: math.NaN(), home: tc.blocks[0][0].Tuning}
			var blocks []radio.Block
			for _, b := range tc.blocks {
				blocks = append(blocks, b...)
			}
			d.move(0, d.tuning(0), false)
			d.aim(blocks[0].Tuning)
			if diff := cmp.Diff(tc.want, script(t, d, blocks)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestStepper_Aim(t *testing.T) {
	from := radio.Tuning{CenterHz: 1e6, SampleRateHz: 1e6, GainDB: 20}
	for _, tc := range []struct {
		name   string
		step   Step
		gainDB float64
		want   radio.Tuning
		needed bool
	}{
		{"as it is", Step{}, math.NaN(), from, false},
		{"on the synthesiser's grid", Step{CenterHz: 1e6 + 3}, math.NaN(), radio.Tuning{CenterHz: 1e6 + 3, SampleRateHz: 1e6, GainDB: 20}, false},
		{"centre", Step{CenterHz: 2e6}, math.NaN(), radio.Tuning{CenterHz: 2e6, SampleRateHz: 1e6, GainDB: 20}, true},
		{"rate", Step{RateHz: 2e6}, math.NaN(), radio.Tuning{CenterHz: 1e6, SampleRateHz: 2e6, GainDB: 20}, true},
		{"gain", Step{}, 30, radio.Tuning{CenterHz: 1e6, SampleRateHz: 1e6, GainDB: 30}, true},
	} {
		d := &stepper{plan: Plan{tc.step}, gainDB: tc.gainDB, home: from}
		d.move(0, d.tuning(0), false)
		to, needed := d.aim(from)
		if to != tc.want || needed != tc.needed {
			t.Errorf("%s: got %+v, %v, want %+v, %v", tc.name, to, needed, tc.want, tc.needed)
		}
	}
}
