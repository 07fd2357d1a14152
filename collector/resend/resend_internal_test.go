package resend

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// world is a database with holes, a station, and what it was asked for.
type world struct {
	holes   map[protocol.Stream]protocol.Ranges
	broken  error
	offline bool
	busy    error
	asked   []protocol.Ranges
	expires []time.Time
	ids     map[string]bool
	forgot  int
}

func (w *world) Holes(context.Context) (map[protocol.Stream]protocol.Ranges, error) {
	return w.holes, w.broken
}

func (w *world) Stations(context.Context) ([]protocol.Station, error) {
	status := protocol.Online
	if w.offline {
		status = protocol.Offline
	}
	return []protocol.Station{{ID: "torino", Status: status}}, nil
}

func (w *world) Issue(_ context.Context, station string, c *protocol.Command) error {
	if w.busy != nil {
		return w.busy
	}
	if err := protocol.ValidateCommand(c); err != nil || station != "torino" || w.ids[c.GetId()] {
		return fmt.Errorf("command %v for %s: %w", c, station, err)
	}
	w.ids[c.GetId()] = true
	w.asked = append(w.asked, protocol.RangesOf(c.GetResend().GetRanges()))
	w.expires = append(w.expires, time.Unix(0, c.GetExpires()))
	return nil
}

func (w *world) Forget(string) { w.forgot++ }

var torino = protocol.Stream{Station: "torino", Spool: [8]byte{1, 2, 3}}

// steps looks each 5 s for a while, and tells when something was asked for: seconds from the begin, and what.
func (w *world) steps(t *testing.T, r *Resend, from, to int) string {
	t.Helper()
	began := time.Date(2026, 11, 24, 2, 0, 0, 0, time.UTC)
	text := ""
	for s := from; s < to; s += 5 {
		before := len(w.asked)
		now := began.Add(time.Duration(s) * time.Second)
		if err := r.look(t.Context(), now); !errors.Is(err, w.broken) {
			t.Errorf("look: %v, want %v", err, w.broken)
		}
		for i := before; i < len(w.asked); i++ {
			text += fmt.Sprintf("%d%s ", s, w.asked[i])
			if !w.expires[i].After(now) || w.expires[i].Sub(now) > 5*time.Minute {
				t.Errorf("it expires at %v", w.expires[i])
			}
		}
	}
	return text
}

func newWorld(holes ...protocol.Range) (*world, *Resend) {
	w := &world{holes: map[protocol.Stream]protocol.Ranges{torino: protocol.NewRanges(holes...)}, ids: map[string]bool{}}
	return w, New(w, w, w, slog.New(slog.DiscardHandler))
}

func TestResend_AsksThreeTimesAndNoMore(t *testing.T) {
	w, r := newWorld(protocol.Range{From: 5, To: 9})
	if got, want := w.steps(t, r, 0, 7200), "20{[5,10)} 140{[5,10)} 740{[5,10)} "; got != want {
		t.Errorf("asked at %q, want %q", got, want)
	}
	// Another hole is asked for all the same, and only that.
	w.holes[torino] = protocol.NewRanges(protocol.Range{From: 5, To: 9}, protocol.Range{From: 20, To: 20})
	if got, want := w.steps(t, r, 7200, 7230), "7220{[20,21)} "; got != want {
		t.Errorf("asked at %q, want %q", got, want)
	}
}

func TestResend_WaitsWhileRecordsComeIn(t *testing.T) {
	w, r := newWorld(protocol.Range{From: 1, To: 100})
	if got := w.steps(t, r, 0, 25); got != "20{[1,101)} " {
		t.Errorf("asked at %q", got)
	}
	for i := uint64(1); i < 100; i++ {
		w.holes[torino] = protocol.NewRanges(protocol.Range{From: i + 1, To: 100})
		if got := w.steps(t, r, 25+int(i)*100, 25+int(i)*100+100); got != "" {
			t.Fatalf("asked at %q while it was coming in", got)
		}
	}
	w.holes = nil
	if got := w.steps(t, r, 20_000, 20_100); got != "" || w.forgot == 0 || len(r.spools) != 0 {
		t.Errorf("asked at %q for nothing, forgot %d", got, w.forgot)
	}
}

func TestResend_AStationThatIsAwayIsNotAsked(t *testing.T) {
	w, r := newWorld(protocol.Range{From: 1, To: 1})
	w.offline = true
	if got := w.steps(t, r, 0, 1000); got != "" {
		t.Errorf("asked at %q", got)
	}
	w.offline, w.busy = false, errors.New("too many commands")
	if got := w.steps(t, r, 1000, 1100); got != "" {
		t.Errorf("asked at %q", got)
	}
	w.busy, w.broken = nil, errors.New("away")
	if got := w.steps(t, r, 1100, 1105); got != "" {
		t.Errorf("asked at %q", got)
	}
	w.broken = nil
	if got := w.steps(t, r, 1105, 1110); got != "1105{[1,2)} " {
		t.Errorf("asked at %q", got)
	}
}

func TestResend_ManyHolesAreAskedForInParts(t *testing.T) {
	var holes protocol.Ranges
	for n := uint64(1); n < 1200; n += 2 {
		holes.Add(n)
	}
	w, r := newWorld(holes...)
	w.steps(t, r, 0, 3600)
	total := uint64(0)
	for _, asked := range w.asked {
		total += asked.Count()
		if len(asked) > maxRanges {
			t.Errorf("%d ranges at once", len(asked))
		}
	}
	if total != 3*600 {
		t.Errorf("asked for %d numbers in all, want each of 600 three times", total)
	}
}

func TestResend_RunEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r := newWorld(protocol.Range{From: 5, To: 9})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := r.Run(ctx); err != nil || len(w.asked) != 1 {
			t.Errorf("run: %v, asked %v", err, w.asked)
		}
	})
}

// TestResend_TellsOfTroubleOnce looks at the log: a line when trouble begins, and one when it ends.
func TestResend_TellsOfTroubleOnce(t *testing.T) {
	for name, c := range map[string]struct {
		fail       func(w *world, err error)
		begin, end string
	}{
		"busy": {func(w *world, err error) { w.busy = err }, "cannot ask a station", "can be asked again"},
		"away": {func(w *world, err error) { w.broken = err }, "cannot look", "looking for what is missing again"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, r := newWorld(protocol.Range{From: 5, To: 9})
				var log strings.Builder
				r.log = slog.New(slog.NewTextHandler(&log, nil))
				run := func(d time.Duration) {
					ctx, cancel := context.WithTimeout(t.Context(), d)
					defer cancel()
					if err := r.Run(ctx); err != nil {
						t.Error(err)
					}
				}
				for range 2 {
					log.Reset()
					c.fail(w, errors.New("no"))
					run(10 * time.Minute)
					if got := log.String(); strings.Count(got, "level=WARN") != 1 || !strings.Contains(got, c.begin) || strings.Count(got, "\n") != 1 {
						t.Errorf("the log of 10 minutes of trouble:\n%s", got)
					}
					log.Reset()
					c.fail(w, nil)
					run(time.Minute)
					if got := log.String(); strings.Count(got, "level=INFO") != 1 || !strings.Contains(got, c.end) {
						t.Errorf("the log when it works again:\n%s", got)
					}
				}
			})
		})
	}
}
