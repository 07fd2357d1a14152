package survey_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fulgidus/heimdall/agent/history"
	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/agent/survey"
	"github.com/fulgidus/heimdall/agent/timetable"
	"github.com/fulgidus/heimdall/protocol"
)

// limited ends a receiver: with an error after some blocks, or as a recording ends.
type limited struct {
	radio.Receiver
	blocks int
	err    error
}

// Open says that the times are true, which for a simulation as fast as it is read they are not.
func (l *limited) Open(ctx context.Context) (radio.Info, error) {
	info, err := l.Receiver.Open(ctx)
	info.Timeline = true
	return info, err
}

func (l *limited) Read(ctx context.Context, b *radio.Block) error {
	if l.blocks--; l.blocks < 0 {
		return l.err
	}
	return l.Receiver.Read(ctx, b)
}

// sky surveys a simulated receiver, as fast as it is read, for as many blocks of 50 ms as each connection is given. A
// connection that is not the last breaks.
func sky(t *testing.T, plan survey.Plan, table *timetable.Table, connections ...int) (*spool, *history.Ring) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "scene.yaml")
	scene := "seed: 1\nstations: {torino: {position: [45, 7, 250], rate: 10k, format: cu8}}\nemitters:\n" +
		"  - {id: c, position: [45, 7.1, 250], center: 145M, modulation: {kind: tone}, power_dbm: 30}\n"
	if err := os.WriteFile(path, []byte(scene), 0o600); err != nil {
		t.Fatal(err)
	}
	ring, to := history.New(4<<20), &spool{}
	start, now := epoch, epoch
	s := newSurvey(t, survey.Settings{
		Table: table, History: ring, Publisher: to, Plan: plan, Now: func() time.Time { return now },
		Analyzer: survey.Config{FFT: 64, MeasurementEvery: 250 * time.Millisecond, Detect: survey.Detect{Off: true}},
		Open: func() (radio.Receiver, error) {
			rx, err := radio.Open(fmt.Sprintf("sim:%s?station=torino&center=145M&pace=fast&start=%s", path, start.Format(time.RFC3339Nano)), radio.Options{})
			if err != nil {
				return nil, err
			}
			l := &limited{rx, connections[0], errors.New("cable pulled")}
			now, start = start, start.Add(time.Duration(connections[0]+20)*50*time.Millisecond) // a second until the next one
			if connections = connections[1:]; len(connections) == 0 {
				l.err = io.EOF
			}
			return l, nil
		},
	})
	if err := s.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	return to, ring
}

func reserve(t *testing.T, table *timetable.Table, centerHz float64, from, to time.Duration) *timetable.Reservation {
	t.Helper()
	r, err := table.Reserve(timetable.Request{
		Order: "o", Tuning: radio.Tuning{CenterHz: centerHz, SampleRateHz: 10e3}, From: epoch.Add(from), To: epoch.Add(to),
	}, false)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// settled says at which centre a history's settled samples were taken from when to when, in blocks of 50 ms.
func settled(t *testing.T, ring *history.Ring) (out []string) {
	t.Helper()
	rd, err := ring.Seek(t.Context(), ring.Span().From)
	if err != nil {
		t.Fatal(err)
	}
	var b radio.Block
	var center float64
	var from, to time.Time
	flush := func() {
		if center != 0 {
			out = append(out, fmt.Sprintf("%.0f MHz %.2f to %.2f", center/1e6, from.Sub(epoch).Seconds(), to.Sub(epoch).Seconds()))
		}
		center = 0
	}
	for rd.Next(t.Context(), &b, 1<<20) == nil {
		if b.Flags&radio.Settling != 0 || b.Tuning.CenterHz != center || b.Time.Sub(to) > time.Millisecond {
			flush()
		}
		if b.Flags&radio.Settling == 0 {
			if center == 0 {
				center, from = b.Tuning.CenterHz, b.Time
			}
			to = b.End()
		}
	}
	flush()
	return out
}

// measured says which step was measured from when to when; measurements that follow on each other are one.
func measured(to *spool) (out []string) {
	var step string
	var center float64
	var from, until time.Time
	flush := func() {
		if step != "" {
			out = append(out, fmt.Sprintf("%s at %.0f MHz %.2f to %.2f", step, center/1e6, from.Sub(epoch).Seconds(), until.Sub(epoch).Seconds()))
		}
	}
	for _, r := range to.kind(protocol.KindMeasurement) {
		m, at := r.GetMeasurement(), time.Unix(0, r.GetTime())
		if r.GetStep() != step || m.GetCenterHz() != center || at.Sub(until) > time.Millisecond {
			flush()
			step, center, from = r.GetStep(), m.GetCenterHz(), at
		}
		until = at.Add(time.Duration(m.GetDurationS() * 1e9))
	}
	flush()
	return out
}

// Held away from its plan, the receiver is at the reserved tuning for the whole stretch, settled; nothing is measured meanwhile,
// and the plan goes on afterwards.
func TestRun_HoldsAReservedTuning(t *testing.T) {
	table := new(timetable.Table)
	reserve(t, table, 433e6, 2*time.Second, 4*time.Second)
	reserve(t, table, 868e6, 4200*time.Millisecond, 5*time.Second)
	to, ring := sky(t, nil, table, 160)
	// A receiver is told 134 ms before: 64 ms for the longest block there is, 20 ms to settle, 50 ms of slack.
	want := []string{"145 MHz 0.00 to 1.90", "433 MHz 1.92 to 4.00", "145 MHz 4.02 to 4.10", "868 MHz 4.12 to 5.00", "145 MHz 5.02 to 7.80"}
	if diff := cmp.Diff(want, settled(t, ring)); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
	want = []string{"all at 145 MHz 0.00 to 1.90", "all at 145 MHz 4.02 to 4.10", "all at 145 MHz 5.02 to 7.80"}
	if diff := cmp.Diff(want, measured(to)); diff != "" {
		t.Errorf("measured (-want +got):\n%s", diff)
	}
}

// A stepping receiver stays at the step that is reserved, or jumps to it, and is measured there as that step; then the
// interrupted step has its turn again.
func TestRun_HoldsAStep(t *testing.T) {
	plan := survey.Plan{
		{Name: "a", CenterHz: 145e6, Dwell: time.Second}, {Name: "b", CenterHz: 146e6, Dwell: time.Second},
	}
	for name, tc := range map[string]struct {
		center   float64
		from, to time.Duration
		want     []string
	}{
		"stays": {145e6, 500 * time.Millisecond, 2500 * time.Millisecond, []string{
			"a at 145 MHz 0.00 to 2.50", "b at 146 MHz 2.52 to 3.55", "a at 145 MHz 3.57 to 3.90",
		}},
		"jumps": {146e6, 700 * time.Millisecond, 2500 * time.Millisecond, []string{
			"a at 145 MHz 0.00 to 0.60", "b at 146 MHz 0.62 to 2.50", "a at 145 MHz 2.52 to 3.55", "b at 146 MHz 3.57 to 3.85",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			table := new(timetable.Table)
			reserve(t, table, tc.center, tc.from, tc.to)
			to, _ := sky(t, plan, table, 80)
			if diff := cmp.Diff(tc.want, measured(to)); diff != "" {
				t.Errorf("measured (-want +got):\n%s", diff)
			}
		})
	}
}

// A receiver that is lost in the middle of a reservation is tuned for it again when it is back, not for the plan.
func TestRun_TunesAgainForAReservation(t *testing.T) {
	table := new(timetable.Table)
	reserve(t, table, 433e6, 2*time.Second, 6*time.Second)
	to, ring := sky(t, nil, table, 60, 80)
	want := []string{"145 MHz 0.00 to 1.90", "433 MHz 1.92 to 2.95", "433 MHz 4.02 to 6.00", "145 MHz 6.02 to 7.90"}
	if diff := cmp.Diff(want, settled(t, ring)); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
	want = []string{"all at 145 MHz 0.00 to 1.90", "all at 145 MHz 6.02 to 7.90"}
	if diff := cmp.Diff(want, measured(to)); diff != "" {
		t.Errorf("measured (-want +got):\n%s", diff)
	}
}

// Nobody is told that the receiver is connected before its timetable is open.
func TestRun_IsConnectedOnceItCanBeReserved(t *testing.T) {
	var s *survey.Survey
	asked := 0
	rx := &radioScript{info: radio.Info{Tuning: radio.Tuning{CenterHz: 145e6, SampleRateHz: rate}}, blocks: blocks(3, 0, 0, 0, 145e6), readErr: io.EOF}
	s = newSurvey(t, survey.Settings{
		Open: func() (radio.Receiver, error) { return rx, nil },
		Now: func() time.Time { // the time with which the timetable is opened
			asked++
			if _, connected := s.Info(); connected {
				t.Error("it is connected before")
			}
			return epoch
		},
	})
	if err := s.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if info, _ := s.Info(); asked != 1 || info.Tuning.CenterHz != 145e6 {
		t.Errorf("opened %d times, at %.0f Hz", asked, info.Tuning.CenterHz)
	}
}
