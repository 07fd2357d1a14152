package timetable_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/agent/timetable"
)

var epoch = time.Date(2026, 11, 24, 2, 0, 0, 0, time.UTC)

// at is s seconds after the epoch.
func at(s float64) time.Time { return epoch.Add(time.Duration(s * 1e9)) }

func mhz(center float64) radio.Tuning {
	return radio.Tuning{CenterHz: center * 1e6, SampleRateHz: 240e3}
}

// A retune takes a second in these tests: settling and the table's own slack.
const settling = 950 * time.Millisecond

// opened is a table of a receiver that has been at 145 MHz for ever; it is 10 s.
func opened(steps ...radio.Tuning) *timetable.Table {
	if len(steps) == 0 {
		steps = []radio.Tuning{mhz(145)}
	}
	t := new(timetable.Table)
	t.Open(mhz(145), settling, steps, 0, at(10))
	t.Turn(at(10), steps[0])
	return t
}

func request(centerMHz, from, to float64, priority int32) timetable.Request {
	return timetable.Request{
		Order: fmt.Sprintf("%g@%g", centerMHz, from), Tuning: mhz(centerMHz), From: at(from), To: at(to), Priority: priority,
	}
}

// verdict is what an error says, in seconds after the epoch.
func verdict(err error) string {
	if busy, ok := errors.AsType[*timetable.BusyError](err); ok {
		return fmt.Sprintf("busy until %v with %s", busy.Earliest.Sub(epoch).Seconds(), busy.Holder.Order)
	}
	if soon, ok := errors.AsType[*timetable.SoonError](err); ok {
		return fmt.Sprintf("not before %v", soon.Earliest.Sub(epoch).Seconds())
	}
	return fmt.Sprint(err)
}

func TestReserve(t *testing.T) {
	two := []radio.Tuning{mhz(145), mhz(146)}
	for _, tc := range []struct {
		name    string
		steps   []radio.Tuning
		before  []timetable.Request
		ask     timetable.Request
		want    string
		yielded string
	}{
		{"where it is, at once", nil, nil, request(145, 10, 12, 0), "<nil>", ""},
		{"where it is, since a while ago", nil, nil, request(145, 5, 12, 0), "<nil>", ""},
		{"on the synthesiser's grid", nil, nil, request(145.00001, 10, 12, 0), "<nil>", ""},
		{"elsewhere, in time", nil, nil, request(433, 11, 12, 0), "<nil>", ""},
		{"elsewhere, too soon", nil, nil, request(433, 10.9, 12, 0), "not before 11", ""},
		{"elsewhere, in the past", nil, nil, request(433, 5, 12, 0), "not before 11", ""},
		{"another step, too soon", two, nil, request(146, 10.5, 12, 0), "not before 11", ""},
		{"side by side", nil, []timetable.Request{request(433, 20, 30, 0)}, request(433, 25, 35, 0), "<nil>", ""},
		{"one after the other", nil, []timetable.Request{request(433, 20, 30, 0)}, request(868, 31, 35, 0), "<nil>", ""},
		{"no time to settle between", nil, []timetable.Request{request(433, 20, 30, 0)}, request(868, 30.5, 35, 0), "busy until 31 with 433@20", ""},
		{"no time to settle before", nil, []timetable.Request{request(433, 20, 30, 0)}, request(868, 15, 19.5, 0), "busy until 31 with 433@20", ""},
		{"the plan's own tuning counts too", nil, []timetable.Request{request(145, 20, 30, 0)}, request(433, 25, 26, 0), "busy until 31 with 145@20", ""},
		{
			"the first hole that is long enough", nil,
			[]timetable.Request{request(433, 20, 30, 0), request(434, 33, 40, 0), request(435, 45, 50, 0)},
			request(868, 25, 27, 0),
			"busy until 41 with 433@20", "",
		},
		{"too soon, and then busy", nil, []timetable.Request{request(434, 12, 20, 0)}, request(433, 10.5, 12.5, 0), "not before 21", ""},
		{"more urgent than what waits", nil, []timetable.Request{request(433, 20, 30, 1)}, request(868, 25, 26, 2), "<nil>", "433@20 until 27"},
		{"as urgent", nil, []timetable.Request{request(433, 20, 30, 2)}, request(868, 25, 26, 2), "busy until 31 with 433@20", ""},
		{"what has begun stays", nil, []timetable.Request{request(433, 11, 30, 0)}, request(868, 25, 26, 2), "busy until 31 with 433@11", ""},
		{
			"all that is in the way gives way, or nothing does", nil,
			[]timetable.Request{request(433, 20, 30, 0), request(434, 32, 33, 3)},
			request(868, 25, 35, 2), "busy until 34 with 434@32", "",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			table := opened(tc.steps...)
			yielded := ""
			for _, q := range tc.before {
				q.Displaced = func(e *timetable.BusyError) {
					yielded += fmt.Sprintf("%s until %v", q.Order, e.Earliest.Sub(epoch).Seconds())
				}
				if _, err := table.Reserve(q, false); err != nil {
					t.Fatal(err)
				}
			}
			_, err := table.Reserve(tc.ask, true)
			if got := verdict(err); got != tc.want || yielded != tc.yielded {
				t.Errorf("got %q, and %q gave way; want %q and %q", got, yielded, tc.want, tc.yielded)
			}
		})
	}
}

func TestReserve_DisplacesOnlyWhenAsked(t *testing.T) {
	table := opened()
	q := request(433, 20, 30, 0)
	q.Displaced = func(*timetable.BusyError) { t.Error("displaced") }
	if _, err := table.Reserve(q, false); err != nil {
		t.Fatal(err)
	}
	if _, err := table.Reserve(request(868, 20, 30, 9), false); verdict(err) != "busy until 31 with 433@20" {
		t.Errorf("got %v, want busy", verdict(err))
	}
}

func TestReserve_Bounded(t *testing.T) {
	table := opened()
	var err error
	n := 0
	for ; err == nil && n < 1000; n++ {
		_, err = table.Reserve(request(145, 20, 30, 0), false)
	}
	if n > 300 || verdict(err) != "busy until 31 with 145@20" {
		t.Errorf("after %d: %v", n, verdict(err))
	}
}

func TestEarliest(t *testing.T) {
	table := opened()
	if got := table.Earliest(request(145, 0, 5, 0)); !got.Equal(at(10)) {
		t.Errorf("where it is: %v, want now", got)
	}
	if got := table.Earliest(request(433, 0, 5, 0)); !got.Equal(at(11)) {
		t.Errorf("elsewhere: %v, want when it is there", got)
	}
	if _, err := table.Reserve(request(434, 12, 20, 0), false); err != nil {
		t.Fatal(err)
	}
	if got := table.Earliest(request(433, 0, 5, 0)); !got.Equal(at(21)) {
		t.Errorf("elsewhere and busy: %v, want after that", got)
	}
}

// The receiver leaves its plan in time, stays while anybody needs it, and goes back; what is released ends at once.
func TestTurn(t *testing.T) {
	table := opened()
	reserve := func(q timetable.Request) *timetable.Reservation {
		t.Helper()
		r, err := table.Reserve(q, false)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	reserve(request(433, 20, 25, 0))
	reserve(request(433, 23, 30, 0))
	long := reserve(request(868, 40, 100, 0))
	want := func(s, centerMHz float64, held, away bool) {
		t.Helper()
		to, gotHeld := table.Turn(at(s), mhz(145))
		if _, gotAway := table.Away(); to != mhz(centerMHz) || gotHeld != held || gotAway != away {
			t.Errorf("at %v s: %.0f Hz, held %v, away %v; want %v MHz, %v, %v", s, to.CenterHz, gotHeld, gotAway, centerMHz, held, away)
		}
	}
	want(18.9, 145, false, false)
	want(19, 433, true, true)
	if _, err := table.Reserve(request(433, 19.5, 22, 0), false); verdict(err) != "not before 20" {
		t.Errorf("joined before it has settled: %v", verdict(err))
	}
	want(26, 433, true, true)
	want(30, 145, false, false)
	reserve(request(145, 31, 32, 0))
	want(31.5, 145, true, false) // held, where the plan has it anyway
	want(39.5, 868, true, true)
	if by, _ := table.Away(); by.Order != "868@40" {
		t.Errorf("held by %q", by.Order)
	}
	long.Release()
	long.Release()
	if by, away := table.Away(); away {
		t.Errorf("still off its plan for %q", by.Order)
	}
	want(40, 145, false, false)
	if _, err := table.Reserve(request(145, 39, 50, 0), false); verdict(err) != "not before 41" {
		t.Errorf("samples from before it came back: %v", verdict(err))
	}
}

// Connected again in the middle of a reservation, the receiver is taken there, not to its plan.
func TestOpen_GoesOnWithAReservation(t *testing.T) {
	table := opened()
	if _, err := table.Reserve(request(433, 20, 30, 0), false); err != nil {
		t.Fatal(err)
	}
	table.Turn(at(21), mhz(145))
	to, held := table.Open(mhz(145), settling, []radio.Tuning{mhz(145)}, 0, at(24))
	if to != mhz(433) || !held {
		t.Errorf("connected again: %.0f Hz, held %v; want 433 MHz", to.CenterHz, held)
	}
	to, held = table.Open(mhz(145), settling, []radio.Tuning{mhz(145)}, 0, at(31))
	if to != mhz(145) || held {
		t.Errorf("connected after its end: %.0f Hz, held %v; want the plan", to.CenterHz, held)
	}
}

// When the clock is set back that the times of samples are read from, a receiver that has settled has settled.
func TestTurn_TheClockIsSetBack(t *testing.T) {
	table := opened()
	r, err := table.Reserve(request(433, 11, 20, 0), false)
	if err != nil {
		t.Fatal(err)
	}
	table.Turn(at(10.1), mhz(145))
	r.Release()
	table.Turn(at(11), mhz(145)) // goes back, and is there at 12
	const hour = 3600
	table.Turn(at(11.1-hour), mhz(145))
	if _, err := table.Reserve(request(145, 11.5-hour, 15-hour, 0), false); verdict(err) != "not before -3587.9" {
		t.Errorf("before it has settled: %v", verdict(err))
	}
	if _, err := table.Reserve(request(145, 12.1-hour, 15-hour, 0), false); err != nil {
		t.Errorf("an hour before it was tuned by the former clock: %v", err)
	}
}

func TestPlaces(t *testing.T) {
	table := opened(mhz(144), mhz(145), mhz(146))
	table.Turn(at(11), mhz(145))
	if _, err := table.Reserve(request(433, 20, 30, 0), false); err != nil {
		t.Fatal(err)
	}
	want := []timetable.Place{{Tuning: mhz(145), Cost: 1}, {Tuning: mhz(144), Cost: 2}, {Tuning: mhz(146), Cost: 2}}
	if diff := cmp.Diff(want, table.Places(at(12), at(15))); diff != "" {
		t.Errorf("before the reservation (-want +got):\n%s", diff)
	}
	want = append([]timetable.Place{{Tuning: mhz(433), Cost: 0}}, want...)
	if diff := cmp.Diff(want, table.Places(at(29), at(35))); diff != "" {
		t.Errorf("during the reservation (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]timetable.Place{{Tuning: mhz(145), Cost: 0}}, opened().Places(at(12), at(15))); diff != "" {
		t.Errorf("a plan of one step (-want +got):\n%s", diff)
	}
}

// Whatever is asked in whatever order, the receiver is at each reservation's tuning throughout its stretch, a retune before it.
func TestReserve_Random(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 1))
	table := opened()
	kept := map[*timetable.Reservation]bool{}
	here, since := mhz(145), at(0)
	for s := 10.0; s < 300; s += 0.05 {
		if rng.IntN(5) == 0 {
			from := s + 8*rng.Float64()
			q := request(float64(430+rng.IntN(3)), from, from+3*rng.Float64(), rng.Int32N(3))
			var r *timetable.Reservation
			q.Displaced = func(*timetable.BusyError) {
				for o := range kept {
					if o.Order == q.Order {
						delete(kept, o)
					}
				}
			}
			var err error
			if r, err = table.Reserve(q, true); err == nil {
				kept[r] = true
			}
		}
		to, _ := table.Turn(at(s), mhz(145))
		for r := range kept {
			switch {
			case !r.To.After(at(s)):
				delete(kept, r)
			case !r.From.After(at(s)) && (!here.Near(r.Tuning) || since.Add(settling).After(r.From)):
				t.Fatalf("seed %d: at %.2f s the receiver is at %.0f Hz since %v, and %s is reserved", seed, s, here.CenterHz, since.Sub(epoch), r.Order)
			}
		}
		if !to.Near(here) {
			here, since = to, at(s)
		}
	}
}
