package history_test

import (
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fulgidus/heimdall/agent/history"
	"github.com/fulgidus/heimdall/agent/radio"
)

// samples is how many last so long.
func samples(d time.Duration) uint64 { return uint64(math.Round(d.Seconds() * rate)) }

// after is the time so long after the first sample.
func after(d time.Duration) time.Time { return epoch.Add(d) }

// holding is a ring of 20 s at 48 kB/s, of which 5 s may be held.
func holding(t *testing.T) *history.Ring {
	t.Helper()
	r := history.NewHolding(20*12001*4, time.Minute)
	fill(r, 1, 0, samples(15*time.Second), 500)
	return r
}

// burst is an emission on air.
type burst struct {
	at, lasts time.Duration
	snrDB     float64
}

func (b burst) hold(r *history.Ring) { r.Hold(after(b.at), b.lasts, b.snrDB) }

// whole reads the burst with half a second at either side, and tells whether it is there.
func (b burst) whole(t *testing.T, r *history.Ring) bool {
	t.Helper()
	from, length := after(b.at-500*time.Millisecond), b.lasts+time.Second
	rd, err := r.Seek(t.Context(), from)
	if reach := r.Reach(from, length); err != nil {
		if reach == nil {
			t.Errorf("%v at %v: not found (%v), but said to be there", b.lasts, b.at, err)
		}
		return false
	} else if reach != nil {
		return false
	}
	got := read(t, rd, int(samples(length)), 777)
	first, last := got[0], got[len(got)-1]
	if timeOf(first).Before(from) || timeOf(first-1).After(from) || last != first+samples(length)-1 {
		t.Errorf("%v at %v: got samples %d to %d", b.lasts, b.at, first, last)
	}
	return true
}

func TestHold_LoudestFirstWithinAQuarter(t *testing.T) {
	ms := time.Millisecond
	second := 300 * ms // of margin and more: a burst of 300 ms takes 1.4 s of the 5 s
	for _, tc := range []struct {
		name   string
		bursts []burst
		want   string // which ones stay
	}{
		{"one", []burst{{3 * time.Second, 200 * ms, 12}}, "0"},
		{"three fit", []burst{{1 * time.Second, second, 12}, {4 * time.Second, second, 9}, {8 * time.Second, second, 30}}, "012"},
		{"the quietest goes", []burst{
			{1 * time.Second, second, 12}, {3 * time.Second, second, 9}, {6 * time.Second, second, 30}, {9 * time.Second, second, 10},
		}, "023"},
		{"of equals the oldest goes", []burst{
			{1 * time.Second, second, 12}, {3 * time.Second, second, 12}, {6 * time.Second, second, 12}, {9 * time.Second, second, 12},
		}, "123"},
		{"of nearly equals the oldest goes", []burst{
			{1 * time.Second, second, 12.9}, {3 * time.Second, second, 12.4}, {6 * time.Second, second, 11.8}, {9 * time.Second, second, 11.1},
		}, "123"},
		{"the quietest is the newest", []burst{
			{1 * time.Second, second, 12}, {3 * time.Second, second, 13}, {6 * time.Second, second, 14}, {9 * time.Second, second, 3},
		}, "012"},
		{"those at one time share their memory", []burst{
			{1 * time.Second, second, 12},
			{1100 * ms, second, 13},
			{1200 * ms, second, 14},
			{1300 * ms, second, 13},
			{6 * time.Second, second, 2},
			{9 * time.Second, second, 3},
		}, "012345"},
		{"a loud one that does not fit beside louder ones costs the quiet ones nothing", []burst{
			{1 * time.Second, 2500 * ms, 40}, {7 * time.Second, 2 * time.Millisecond, 3}, {9 * time.Second, 2200 * ms, 20},
		}, "01"},
		{"one that lasts longer than all that may be held comes last", []burst{
			{1 * time.Second, second, 5}, {3 * time.Second, 8 * time.Second, 60}, {12 * time.Second, second, 5}, {13500 * ms, second, 5},
		}, "023"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := holding(t)
			for _, b := range tc.bursts {
				b.hold(r)
			}
			if n := len(r.Held()); n != len(tc.bursts) {
				t.Errorf("%d are held while the ring has them all, want %d", n, len(tc.bursts))
			}
			fill(r, 1, samples(15*time.Second), samples(45*time.Second), 500)
			if from := r.Span().From; from.Before(after(24 * time.Second)) {
				t.Fatalf("the ring still reaches back to %v", from.Sub(epoch))
			}
			got := ""
			for i, b := range tc.bursts {
				if b.whole(t, r) {
					got += fmt.Sprint(i)
				}
			}
			if got != tc.want {
				t.Errorf("got %s, want %s; held: %v", got, tc.want, r.Held())
			}
		})
	}
}

func TestHold_TimesOut(t *testing.T) {
	r := holding(t)
	b := burst{5 * time.Second, 200 * time.Millisecond, 20}
	b.hold(r)
	held := r.Held()[0]
	if from, to := held.From.Sub(epoch), held.To.Sub(epoch); from > 4450*time.Millisecond || from < 4400*time.Millisecond ||
		to < 5750*time.Millisecond || to > 5800*time.Millisecond {
		t.Errorf("held is %v to %v, want 550 ms at either side and less than a block more", from, to)
	}
	fill(r, 1, samples(15*time.Second), samples(65*time.Second), 500)
	if !b.whole(t, r) || len(r.Held()) != 1 {
		t.Error("gone within a minute")
	}
	reach := r.Span().Duration()
	fill(r, 1, samples(65*time.Second), samples(67*time.Second), 500)
	if b.whole(t, r) || len(r.Held()) != 0 {
		t.Error("there a minute after its end")
	}
	fill(r, 1, samples(67*time.Second), samples(90*time.Second), 500)
	if more := r.Span().Duration() - reach; more < time.Second {
		t.Errorf("the ring reaches back %v more, want what was held", more)
	}
}

// What is still to come after an emission is held too, and what a lasting one adds.
func TestHold_Grows(t *testing.T) {
	r := holding(t)
	burst{14800 * time.Millisecond, 200 * time.Millisecond, 20}.hold(r)
	fill(r, 1, samples(15*time.Second), samples(18*time.Second), 500)
	if to := r.Held()[0].To.Sub(epoch); to < 15500*time.Millisecond || to > 15600*time.Millisecond {
		t.Errorf("held to %v, want 15.55 s", to)
	}
	lasting := burst{14800 * time.Millisecond, 2900 * time.Millisecond, 10}
	lasting.hold(r)
	fill(r, 1, samples(18*time.Second), samples(45*time.Second), 500)
	if !lasting.whole(t, r) {
		t.Errorf("held is %v", r.Held())
	}
	if held := r.Held(); len(held) != 1 || held[0].SNRDB != 20 {
		t.Errorf("held: %v, want one as loud as it ever was", held)
	}
}

// An emission that is more than may be held is there from its beginning, for as long as half of that.
func TestHold_PartOfALongOne(t *testing.T) {
	r := holding(t)
	long := burst{2 * time.Second, 11 * time.Second, 30}
	long.hold(r)
	fill(r, 1, samples(15*time.Second), samples(45*time.Second), 500)
	begin := burst{2 * time.Second, time.Second, 0}
	if long.whole(t, r) || !begin.whole(t, r) {
		t.Fatalf("held is %v", r.Held())
	}
	if h := r.Held()[0]; h.To.Sub(h.From) < 2300*time.Millisecond || h.To.Sub(h.From) > 2600*time.Millisecond {
		t.Errorf("held are %v, want half of 5 s", h.To.Sub(h.From))
	}
	err := r.Reach(after(2*time.Second), 5*time.Second)
	exceeded, ok := errors.AsType[*history.ExceededError](err)
	if !ok || !exceeded.HeldFrom.Equal(r.Held()[0].From) || exceeded.From.Before(after(24*time.Second)) {
		t.Fatalf("got %v, want what is held, and since when all is there", err)
	}
	if got := err.Error(); !strings.HasPrefix(got, "the stretch at 2026-11-24T02:00:02.123456789Z is not whole in the history: of what was before 2026-11-24T02:00:2") ||
		!strings.HasSuffix(got, " is held") {
		t.Errorf("got %s", got)
	}
}

func TestHold_Refuses(t *testing.T) {
	gone := holding(t)
	fill(gone, 1, samples(15*time.Second), samples(40*time.Second), 500)
	off := history.New(1 << 20)
	fill(off, 1, 0, samples(10*time.Second), 500)
	for _, tc := range []struct {
		name  string
		ring  *history.Ring
		start time.Time
		lasts time.Duration
		snrDB float64
	}{
		{"the beginning is gone", gone, after(10 * time.Second), 15 * time.Second, 30},
		{"nothing to be held", off, after(5 * time.Second), time.Second, 30},
		{"no samples", history.NewHolding(0, time.Minute), after(0), time.Second, 30},
		{"still to come", holding(t), after(16 * time.Second), time.Second, 30},
		{"no time", holding(t), time.Time{}, time.Second, 30},
		{"no length", holding(t), after(5 * time.Second), -1, 30},
		{"no level", holding(t), after(5 * time.Second), time.Second, math.NaN()},
	} {
		tc.ring.Hold(tc.start, tc.lasts, tc.snrDB)
		if held := tc.ring.Held(); len(held) != 0 {
			t.Errorf("%s: held is %v", tc.name, held)
		}
	}
	// Of a receiver that has just begun, the margin cannot be had.
	r := holding(t)
	r.Hold(after(100*time.Millisecond), time.Second, 20)
	if held := r.Held(); len(held) != 1 || !held[0].From.Equal(epoch) {
		t.Errorf("held is %v, want from the first sample on", held)
	}
}

func TestHold_ForgottenWithEverything(t *testing.T) {
	for name, forget := range map[string]func(*history.Ring){
		"clear": (*history.Ring).Clear,
		"clock set": func(r *history.Ring) {
			b := block(2, samples(45*time.Second), 500)
			b.Time = b.Time.Add(-time.Hour)
			r.Append(b)
		},
	} {
		r := holding(t)
		b := burst{5 * time.Second, 200 * time.Millisecond, 20}
		b.hold(r)
		fill(r, 1, samples(15*time.Second), samples(45*time.Second), 500)
		rd := seek(t, r, after(5*time.Second))
		forget(r)
		var got radio.Block
		if err := rd.Next(t.Context(), &got, 1); !errors.Is(err, history.ErrOverwritten) {
			t.Errorf("%s: a reader gets %v, want ErrOverwritten", name, err)
		}
		if len(r.Held()) != 0 || name == "clear" && r.Span().Blocks != 0 {
			t.Errorf("%s: held is %v, %d blocks", name, r.Held(), r.Span().Blocks)
		}
		fill(r, 3, samples(46*time.Second), samples(76*time.Second), 500)
		if b.whole(t, r) {
			t.Errorf("%s: the burst is there", name)
		}
	}
}

// A stretch that reaches out of what is held is refused and told apart; a reader that leaves it is told so.
func TestHold_HolesAreRefused(t *testing.T) {
	r := holding(t)
	burst{3 * time.Second, 200 * time.Millisecond, 20}.hold(r)
	burst{9 * time.Second, 200 * time.Millisecond, 20}.hold(r)
	fill(r, 1, samples(15*time.Second), samples(45*time.Second), 500)
	held, span := r.Held(), r.Span()
	const none = -1
	for _, tc := range []struct {
		name          string
		at, lasts     time.Duration
		seek, reach   error
		nearest, seen int
	}{
		{name: "before all", at: 2 * time.Second, lasts: time.Second, nearest: 0, seen: none},
		{name: "between", at: 5 * time.Second, lasts: time.Second, nearest: 0, seen: none},
		{name: "nearer to the second", at: 7 * time.Second, lasts: time.Second, nearest: 1, seen: none},
		{name: "out of the first", at: 3 * time.Second, lasts: time.Second, nearest: 0, seen: 0},
		{name: "out of the first into the second", at: 3 * time.Second, lasts: 6 * time.Second, nearest: 0, seen: 0},
		{name: "out of the second into the ring", at: 9 * time.Second, lasts: 25 * time.Second, nearest: 1, seen: 1},
		{name: "between the second and the ring", at: 20 * time.Second, lasts: 10 * time.Second, nearest: 1, seen: none},
	} {
		want := &history.ExceededError{Asked: after(tc.at), From: span.From, HeldFrom: held[tc.nearest].From, HeldTo: held[tc.nearest].To}
		err := r.Reach(after(tc.at), tc.lasts)
		got, _ := errors.AsType[*history.ExceededError](err)
		if diff := cmp.Diff(want, got, cmp.Comparer(near)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
		rd, err := r.Seek(t.Context(), after(tc.at))
		if tc.seen == none {
			if got, _ := errors.AsType[*history.ExceededError](err); !cmp.Equal(want, got, cmp.Comparer(near)) {
				t.Errorf("%s: seek gives %v", tc.name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: seek: %v", tc.name, err)
			continue
		}
		var b radio.Block
		last := time.Time{}
		for err == nil {
			if err = rd.Next(t.Context(), &b, 1000); err == nil {
				last = b.End()
			}
		}
		if !errors.Is(err, history.ErrOverwritten) || !last.Equal(held[tc.seen].To) {
			t.Errorf("%s: the reader ends at %v with %v, want at %v with ErrOverwritten", tc.name, last, err, held[tc.seen].To)
		}
	}

	rd := seek(t, r, after(3*time.Second))
	back := rd.Back(1 << 20)
	if first := read(t, rd, 1, 1)[0]; first != uint64(math.Ceil(3*rate))-uint64(back) || !near(timeOf(first), held[0].From) {
		t.Errorf("back by %d to sample %d, want the first that is held, of %v", back, first, held[0].From)
	}
	if tuning, ok := r.TuningAt(after(3 * time.Second)); !ok || tuning.CenterHz != 77500 {
		t.Errorf("tuning in a held stretch: %v, %v", tuning, ok)
	}
}

// near compares times that are counted from different blocks.
func near(a, b time.Time) bool { return a.Sub(b).Abs() <= time.Nanosecond }

// However many emissions there are, only so many are followed: the loudest, in steps of 3 dB.
func TestHold_BoundsTheirNumber(t *testing.T) {
	r := holding(t)
	for i := range 1000 {
		r.Hold(after(2*time.Second+time.Duration(i)*time.Millisecond), 10*time.Millisecond, float64(i*7%1000))
	}
	held := r.Held()
	if len(held) != 256 {
		t.Fatalf("%d are held, want 256", len(held))
	}
	for _, h := range held {
		if h.SNRDB < 743 {
			t.Errorf("one of %v dB is held", h.SNRDB)
		}
	}
}

// Readers of a held stretch that gives way to louder ones get all of it in order, or are told.
func TestHold_ConcurrentReaders(t *testing.T) {
	r := holding(t)
	burst{5 * time.Second, 200 * time.Millisecond, 1}.hold(r)
	fill(r, 1, samples(15*time.Second), samples(30*time.Second), 500)
	first := samples(5 * time.Second)
	var wg sync.WaitGroup
	for id := range 4 {
		rng := rand.New(rand.NewPCG(uint64(id), 2))
		wg.Go(func() {
			var b radio.Block
			for {
				rd, err := r.Seek(t.Context(), timeOf(first))
				if exceeded, ok := errors.AsType[*history.ExceededError](err); ok {
					if exceeded.From.Before(timeOf(first)) {
						t.Errorf("refused, though all since %v is there", exceeded.From)
					}
					return
				}
				for want := first; err == nil; want += uint64(b.Samples()) {
					err = rd.Next(t.Context(), &b, 1+rng.IntN(400))
					if err != nil {
						break
					}
					if b.Index != want {
						t.Errorf("reader %d: sample %d, want %d", id, b.Index, want)
						return
					}
					for k, v := range values(&b) {
						if v != uint32(want)+uint32(k) {
							t.Errorf("reader %d: sample %d holds %d", id, want+uint64(k), v)
							return
						}
					}
				}
				if !errors.Is(err, history.ErrOverwritten) && !errors.Is(err, io.EOF) {
					t.Errorf("reader %d: %v", id, err)
					return
				}
			}
		})
	}
	for i := range 40 {
		at := 30*time.Second + time.Duration(i)*1500*time.Millisecond
		fill(r, 1, samples(at), samples(at+1500*time.Millisecond), 500)
		burst{at, 200 * time.Millisecond, float64(2 + i)}.hold(r)
		_ = r.Held()
	}
	r.End()
	wg.Wait()
}
