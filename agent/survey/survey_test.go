package survey_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/agent/history"
	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/agent/survey"
	"github.com/fulgidus/heimdall/protocol"
)

func TestRun_NumbersConnectionsAsOneStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("cable pulled")
		first := &radioScript{
			info: info(145e6, false), blocks: blocks(2, 0, 0, 0, 145e6), readErr: broken, closeErr: errors.New("already gone"),
			health: radio.Health{SamplesTotal: 200, Lost: map[string]uint64{"gap": 5}, RatePPM: 3},
		}
		refused := &radioScript{openErr: errors.New("busy")}
		// Connected again 5 s after the last sample, with 50 samples lost by the receiver itself before its first block.
		second := &radioScript{
			info: info(145e6, false), blocks: blocks(2, 4, 50, 5200*time.Millisecond, 145e6), readErr: io.EOF,
			health: radio.Health{SamplesTotal: 200, Lost: map[string]uint64{"gap": 50, "stall": 1}, RatePPM: 2},
		}
		ring := history.New(1 << 20)
		s := newSurvey(t, survey.Settings{Open: scripts(first, refused, second), History: ring})
		began := time.Now()
		if err := s.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < time.Second || took > 3*time.Second {
			t.Errorf("two attempts took %v, want pauses of up to 1 and 2 s", took)
		}
		want := []string{
			"seg 0 index 0 at 0s", "seg 0 index 100 at 100ms",
			"seg 1 index 5200 at 5.2s lost 5000", "seg 1 index 5300 at 5.3s",
		}
		if diff := cmp.Diff(want, kept(t, ring)); diff != "" {
			t.Errorf("history (-want +got):\n%s", diff)
		}
		h := s.Health()
		lost := map[string]uint64{"disconnected": 5000, "gap": 55, "stall": 1}
		if diff := cmp.Diff(lost, h.Lost); diff != "" || h.SamplesTotal != 400 || h.Connected {
			t.Errorf("health: %+v, losses (-want +got):\n%s", h, diff)
		}
		state := s.State()
		if state.LostSamplesTotal != 5056 || state.Connected || math.Abs(state.HistoryS-5.4) > 1e-9 {
			t.Errorf("state: %+v", state)
		}
		r := s.ReceiverHealth()
		if got := fmt.Sprint(r.GetLost()[0].GetReason(), r.GetLost()[1].GetReason(), r.GetLost()[2].GetReason()); got != "disconnectedgapstall" {
			t.Errorf("reasons: %s", got)
		}
	})
}

func TestRun_TriesOnUntilTheContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		attempts := 0
		s := newSurvey(t, survey.Settings{Open: func() (radio.Receiver, error) {
			attempts++
			return nil, errors.New("no such device")
		}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := s.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if attempts < 60 || attempts > 130 {
			t.Errorf("%d attempts in an hour, want one in half a minute to a minute", attempts)
		}
		if r := s.ReceiverHealth(); r.GetError() != "no such device" || r.GetConnected() || r.RatePpm != nil {
			t.Errorf("health: %v", r)
		}
		if _, connected := s.Info(); connected {
			t.Error("claims to be connected")
		}
	})
}

// A receiver that delivers a little and fails at once is no better than one that cannot be opened.
func TestRun_PausesGrowThoughSamplesCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		attempts := 0
		s := newSurvey(t, survey.Settings{Open: func() (radio.Receiver, error) {
			attempts++
			return &radioScript{info: info(145e6, false), blocks: blocks(1, 0, 0, 0, 145e6), readErr: errors.New("too many samples")}, nil
		}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := s.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if attempts < 60 || attempts > 130 {
			t.Errorf("%d attempts in an hour, want one in half a minute to a minute", attempts)
		}
	})
}

func TestRun_AgainAfterAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		health := radio.Health{SamplesTotal: 600, Lost: map[string]uint64{"gap": 7}, RatePPM: 3, Lag: 250 * time.Millisecond}
		one := &radioScript{info: info(145e6, false), blocks: blocks(6, 0, 0, 0, 145e6), health: health}
		two := &radioScript{info: info(145e6, false), blocks: blocks(6, 0, 0, time.Minute, 145e6), health: health}
		ring := history.New(1 << 20)
		s := newSurvey(t, survey.Settings{Open: scripts(one, two), History: ring})
		for run := range uint64(2) {
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() {
				if err := s.Run(ctx); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
			if found, connected := s.Info(); !connected || found.Source != "script:" {
				t.Errorf("info: %+v, %v", found, connected)
			}
			if h := s.Health(); h.SamplesTotal != 600*(run+1) || h.Lost["gap"] != 7*(run+1) || *s.State().RatePPM != 3 {
				t.Errorf("run %d: health %+v, want the sum of both connections", run, h)
			}
			if r := s.ReceiverHealth(); r.GetRatePpm() != 3 || !r.GetConnected() || r.GetLagS() != 0.25 || s.State().LagS != 0.25 {
				t.Errorf("run %d: %v", run, r)
			}
			cancel()
			wg.Wait()
			ring.End()
		}
		// What was before a pause is no past of what comes after, and nothing between was lost.
		if got := kept(t, ring); len(got) != 6 || got[0] != "seg 1 index 600 at 1m0s" {
			t.Errorf("history: %v", got)
		}
		if h := s.Health(); h.Err != nil || h.Connected {
			t.Errorf("a wanted end is no error: %+v", h)
		}
	})
}

func TestRun_StepsThroughThePlan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []float64
		rx := &radioScript{info: info(1e6, true), readErr: io.EOF, tuned: func(to radio.Tuning) { asked = append(asked, to.CenterHz) }}
		rx.blocks = slices.Concat(
			blocks(5, 0, 0, 0, 1e6),                        // dwell of a: 0.5 s
			blocks(2, 0, 500, 500*time.Millisecond, 1e6),   // the retune has not come through
			blocks(4, 1, 700, 700*time.Millisecond, 2e6),   // dwell of b: 0.3 s; the fourth comes too late
			blocks(5, 2, 1100, 1100*time.Millisecond, 1e6), // a again
		)
		to := &spool{}
		gain := 20.0
		s := newSurvey(t, survey.Settings{
			Open: scripts(rx), Publisher: to, GainDB: &gain,
			Plan: survey.Plan{
				{Name: "a", CenterHz: 1e6, Dwell: 500 * time.Millisecond},
				{Name: "b", CenterHz: 2e6, Dwell: 300 * time.Millisecond},
			},
			Analyzer: survey.Config{FFT: 64},
		})
		if err := s.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]float64{1e6, 2e6, 1e6, 2e6}, asked); diff != "" { // the first for the gain
			t.Errorf("tunings asked (-want +got):\n%s", diff)
		}
		type dwell struct {
			Step     string
			Start    time.Duration
			Samples  uint64
			CenterHz float64
		}
		var got []dwell
		for _, r := range to.kind(protocol.KindMeasurement) {
			m := r.GetMeasurement()
			got = append(got, dwell{r.GetStep(), time.Unix(0, r.GetTime()).Sub(epoch), m.GetSamples(), m.GetCenterHz()})
		}
		want := []dwell{{"a", 0, 500, 1e6}, {"b", 700 * time.Millisecond, 300, 2e6}, {"a", 1100 * time.Millisecond, 500, 1e6}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("measurements (-want +got):\n%s", diff)
		}
		if state := s.State(); len(state.Steps) != 2 || state.Steps["b"].PowerDBFS == nil {
			t.Errorf("state: %+v", state)
		}
	})
}

func TestRun_TuneFails(t *testing.T) {
	plan := survey.Plan{{Name: "a", CenterHz: 2e6}}
	synctest.Test(t, func(t *testing.T) {
		fixed := &radioScript{info: info(1e6, false), tuneErr: radio.ErrNotTunable, blocks: blocks(3, 0, 0, 0, 1e6), readErr: io.EOF}
		to := &spool{}
		if err := newSurvey(t, survey.Settings{Open: scripts(fixed), Plan: plan, Publisher: to}).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if m := to.kind(protocol.KindMeasurement); len(m) != 1 || m[0].GetMeasurement().GetCenterHz() != 1e6 {
			t.Errorf("a source that cannot be tuned: %v, want its own passband measured", m)
		}

		broken := &radioScript{info: info(1e6, true), tuneErr: errors.New("no answer")}
		well := &radioScript{info: info(2e6, true), blocks: blocks(3, 0, 0, 0, 2e6), readErr: io.EOF}
		s := newSurvey(t, survey.Settings{Open: scripts(broken, well), Plan: plan})
		if err := s.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		stuck := &radioScript{info: info(1e6, true), blocks: blocks(500, 0, 0, 0, 1e6)}
		later := &radioScript{info: info(2e6, true), blocks: blocks(3, 0, 0, time.Hour, 2e6), readErr: io.EOF}
		s = newSurvey(t, survey.Settings{Open: scripts(stuck, later), Plan: plan})
		if err := s.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if h := s.Health(); h.Err != nil && !strings.Contains(h.Err.Error(), "samples are still from") {
			t.Errorf("health: %v", h.Err)
		}
	})
}

func TestRun_PlanOnASourceThatCannotBeTuned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rx := &radioScript{info: info(1e6, false), tuneErr: radio.ErrNotTunable, blocks: blocks(30, 0, 0, 0, 1e6), readErr: io.EOF}
		to := &spool{}
		s := newSurvey(t, survey.Settings{Open: scripts(rx), Publisher: to, Plan: survey.Plan{
			{Name: "a", CenterHz: 1e6, Dwell: time.Second}, {Name: "b", CenterHz: 2e6, Dwell: time.Second},
		}})
		if err := s.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if m := to.kind(protocol.KindMeasurement); len(m) != 1 || m[0].GetStep() != "a" || m[0].GetMeasurement().GetSamples() != 3000 {
			t.Errorf("got %v, want one measurement of the whole passband as step a", m)
		}
	})
}

func TestRun_SaysWhatCouldNotBeStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rx := &radioScript{info: info(1e6, false), blocks: blocks(30, 0, 0, 0, 1e6)}
		s := newSurvey(t, survey.Settings{Open: scripts(rx), Publisher: &spool{fail: errors.New("disk is full")}, Analyzer: survey.Config{Detect: survey.Detect{Off: true}}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := s.Run(ctx)
		if err == nil || !strings.Contains(err.Error(), "1 records could not be stored") {
			t.Errorf("got %v, want the number of records lost", err)
		}
		if h := s.Health(); h.Unpublished != 1 {
			t.Errorf("unpublished: got %d, want 1", h.Unpublished)
		}
	})
}

func TestNew_Refuses(t *testing.T) {
	good := survey.Settings{Open: scripts(), History: history.New(0), Publisher: &spool{}}
	for name, change := range map[string]func(*survey.Settings){
		"no receiver":  func(s *survey.Settings) { s.Open = nil },
		"no history":   func(s *survey.Settings) { s.History = nil },
		"no publisher": func(s *survey.Settings) { s.Publisher = nil },
		"bad plan":     func(s *survey.Settings) { s.Plan = survey.Plan{{}} },
		"bad fft":      func(s *survey.Settings) { s.Analyzer.FFT = 1000 },
	} {
		set := good
		change(&set)
		if _, err := survey.New(set); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// A real recording through the real driver: everything is in the history as it is in the file, and every second is measured.
func TestRun_Recording(t *testing.T) {
	const samples, fs = 250000, 100000
	raw := make([]byte, 0, 4*samples)
	rng := rand.New(rand.NewPCG(3, 4))
	for k := range samples { // a carrier 45 dB above the noise of the whole band
		turns := 2 * math.Pi * math.Mod(0.1234*float64(k), 1)
		raw = binary.LittleEndian.AppendUint16(raw, uint16(int16(math.Round(8000*math.Cos(turns)+30*rng.NormFloat64()))))
		raw = binary.LittleEndian.AppendUint16(raw, uint16(int16(math.Round(8000*math.Sin(turns)+30*rng.NormFloat64()))))
	}
	path := filepath.Join(t.TempDir(), "tone_145.5M_100k.cs16")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	ring, to := history.New(2<<20), &spool{}
	s := newSurvey(t, survey.Settings{
		Open: func() (radio.Receiver, error) {
			return radio.Open(radio.FileSource(path)+"?pace=fast", radio.Options{})
		},
		History: ring, Publisher: to,
		Analyzer: survey.Config{MeasurementEvery: time.Second, SpectrumEvery: 2 * time.Second, SpectrumBins: 1024},
	})
	snapshots, cancel := s.Subscribe()
	defer cancel()
	if err := s.Run(t.Context()); err != nil {
		t.Fatal(err)
	}

	rd, err := ring.Seek(t.Context(), ring.Span().From)
	if err != nil {
		t.Fatal(err)
	}
	var got []byte
	var b radio.Block
	for rd.Next(t.Context(), &b, 1<<20) == nil {
		got = append(got, b.Raw...)
	}
	if !slices.Equal(got, raw) {
		t.Errorf("history: %d bytes that differ from the file's %d", len(got), len(raw))
	}

	var lengths []uint64
	for _, r := range to.kind(protocol.KindMeasurement) {
		m := r.GetMeasurement()
		lengths = append(lengths, m.GetSamples())
		// 8000/32768 of full scale; 0.1234 of the rate above the centre.
		if math.Abs(float64(m.GetPowerDbfs())+12.247) > 0.01 || math.Abs(m.GetPeakHz()-145512340) > 1 {
			t.Errorf("measurement: %v", m)
		}
		if r.GetStep() != survey.WholePassband || r.GetReceiver() != "main" {
			t.Errorf("record of %q, step %q", r.GetReceiver(), r.GetStep())
		}
	}
	if diff := cmp.Diff([]uint64{fs, fs, fs / 2}, lengths); diff != "" {
		t.Errorf("samples of the measurements (-want +got):\n%s", diff)
	}
	if n := len(to.kind(protocol.KindSpectrum)); n != 2 {
		t.Errorf("%d spectra, want 2", n)
	}
	// One carrier as long as the file: one emission, all of whose records carry the id of the first.
	found := to.kind(protocol.KindDetection)
	if len(found) == 0 || found[0].GetDetection().DetectionId != nil {
		t.Fatalf("detections: %v", found)
	}
	for _, r := range found[1:] {
		if r.GetDetection().GetDetectionId() == "" {
			t.Errorf("a later record without an id: %v", r)
		}
	}
	if d := found[len(found)-1].GetDetection(); d.GetOpen() || math.Abs(d.GetDurationS()-2.5) > 0.01 {
		t.Errorf("last record: %v, want a closed one of 2.5 s", d)
	}
	if snap := <-snapshots; snap.Measurement.GetMeasurement().GetSamples() != fs {
		t.Errorf("snapshot: %+v", snap)
	}
	state := s.State()
	if p := state.Steps[survey.WholePassband].PowerDBFS; p == nil || math.Abs(*p+12.247) > 0.01 || state.Steps[survey.WholePassband].DetectionsTotal != 1 {
		t.Errorf("state: %+v", state)
	}
}

func TestMeter_MeasuresAllItIsGiven(t *testing.T) {
	m, err := survey.NewMeter(survey.Config{FFT: 256})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Expect(2 * time.Second); err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks(20, 0, 0, 0, 145e6) {
		for i := 0; i < len(b.Raw); i += 4 { // half of full scale
			binary.LittleEndian.PutUint32(b.Raw[i:], 0x4000)
		}
		m.Write(&b)
	}
	got := m.Measurement()
	want := &protocol.Measurement{Samples: proto.Uint64(2000), CenterHz: proto.Float64(145e6), SampleRateHz: proto.Float64(rate)}
	short := &protocol.Measurement{Samples: got.Samples, CenterHz: got.CenterHz, SampleRateHz: got.SampleRateHz}
	if !proto.Equal(want, short) || !cmp.Equal(float64(got.GetPowerDbfs()), -6.0206, cmpopts.EquateApprox(0, 1e-3)) {
		t.Errorf("got %v, want 2000 samples of -6.02 dBFS", got)
	}
	if _, err := survey.NewMeter(survey.Config{FFT: 3}); err == nil {
		t.Error("no error for 3 bins")
	}
	empty, err := survey.NewMeter(survey.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if m := empty.Measurement(); m != nil {
		t.Errorf("no samples: %v", m)
	}
}
