package recorder_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/cmplx"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/agent/history"
	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/agent/recorder"
	"github.com/fulgidus/heimdall/agent/survey"
	"github.com/fulgidus/heimdall/dsp"
	"github.com/fulgidus/heimdall/protocol"
)

// nowhere takes the survey's records.
type nowhere struct{}

func (nowhere) Publish(context.Context, *protocol.Record) (string, error) { return "", nil }

// A recording of 2017, played at another instant through the real driver, survey and history: a capture at the live time is
// what the file holds at the recorded one, and is measured by the survey's own Analyzer.
func TestCapture_OfAnAnchoredRecording(t *testing.T) {
	raw := rawOf(tones, 0, 200000)
	base := filepath.Join(t.TempDir(), "dcf77")
	meta := fmt.Sprintf(`{"global":{"core:datatype":"ci16_le","core:version":"1.2.0","core:sample_rate":%v},
		"captures":[{"core:sample_start":0,"core:frequency":145500000,"core:datetime":"2017-11-27T10:42:00.000000000Z"}],"annotations":[]}`, rate)
	for name, data := range map[string][]byte{base + ".sigmf-data": raw, base + ".sigmf-meta": []byte(meta)} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	source := radio.FileSource(base+".sigmf-meta") + "?pace=fast&anchor=2017-11-27T10:42:00Z@2026-11-24T02:00:00Z"
	ring := history.New(4 << 20)
	sv, err := survey.New(survey.Settings{
		Receiver: "main", History: ring, Publisher: nowhere{},
		Open: func() (radio.Receiver, error) { return radio.Open(source, radio.Options{}) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := sv.Run(t.Context()); err != nil {
		t.Fatal(err)
	}

	s := newStation(t, func(s *station) {
		s.set.Receivers = []recorder.Receiver{{ID: "main", History: ring, Info: func() (radio.Info, bool) {
			info, connected := sv.Info()
			info.Timeline = true // it would be at pace=real, for which the test does not wait
			return info, connected
		}}}
		s.set.NewMeter = func(_ string, info radio.Info) (recorder.Meter, error) {
			return survey.NewMeter(survey.Config{MaskDC: info.MaskDC})
		}
	})
	live := time.Date(2026, 11, 24, 2, 0, 0, 0, time.UTC)
	for _, from := range []int{0, 1, 54321, 199000 - 72000} {
		r := s.capture(t, order(live.Add(radio.SamplesDuration(float64(from), rate)), 0.3))
		if !slices.Equal(r.data, raw[4*from:4*(from+72000)]) {
			t.Errorf("from sample %d: ended as %v", from, r.last())
			continue
		}
		m := r.last().GetCapture()
		got := time.Unix(0, m.GetStart()).Sub(live)
		if want := radio.SamplesDuration(float64(from), rate); (got - want).Abs() > time.Nanosecond {
			t.Errorf("from sample %d: starts at %v, want %v", from, got, want)
		}
		if p := m.GetMeasurement(); p.GetSamples() != 72000 || math.Abs(float64(p.GetPowerDbfs())+5.051) > 0.01 {
			t.Errorf("from sample %d: measured %v", from, p)
		}
	}

	// The strong carrier 62 kHz below the centre, alone in its channel, stands at the channel's centre at its own level.
	o := order(live.Add(100*time.Millisecond), 0.3)
	o.CenterHz, o.BandwidthHz = proto.Float64(center-62000), proto.Float64(10e3)
	p := s.capture(t, o).last().GetCapture().GetMeasurement()
	if math.Abs(p.GetPeakHz()-(center-62000)) > 0.5 || math.Abs(float64(p.GetPeakDbfs())+6.021) > 0.02 || p.GetSamples() != 3789 {
		t.Errorf("channel: measured %v, want -6.02 dBFS at %.0f Hz in 3789 samples", p, center-62000)
	}
}

// A burst that the survey detects is recorded byte for byte when the history has moved on.
func TestCapture_OfWhatTheSurveyDetected(t *testing.T) {
	const seconds, began, lasts = 24, 5 * time.Second, 200 * time.Millisecond
	rng := rand.New(rand.NewPCG(1, 2))
	raw := make([]byte, 0, seconds*960005)
	for n := range uint64(seconds * 240001) {
		i, q := rng.NormFloat64()*100, rng.NormFloat64()*100
		if at := radio.SamplesDuration(float64(n), rate); at >= began && at < began+lasts {
			tone := cmplx.Rect(3000, 2*math.Pi*math.Mod(float64(n)*31000/rate, 1))
			i, q = i+real(tone), q+imag(tone)
		}
		raw = binary.LittleEndian.AppendUint16(raw, uint16(int16(i)))
		raw = binary.LittleEndian.AppendUint16(raw, uint16(int16(q)))
	}
	rx := &radio.Block{Format: dsp.CS16, Segment: 1, TimeQuality: protocol.TimeQuality_TIME_QUALITY_NTP}
	rx.Tuning = radio.Tuning{CenterHz: center, SampleRateHz: rate}
	ring := history.NewHolding(8<<20, 5*time.Minute)
	sv, err := survey.New(survey.Settings{
		Receiver: "main", History: ring, Keeper: ring, Publisher: nowhere{},
		Open: func() (radio.Receiver, error) { return &player{raw: raw, next: rx}, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := sv.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if back := ring.Span().From; back.Before(epoch.Add(10 * time.Second)) {
		t.Fatalf("the history reaches back to %v", back.Sub(epoch))
	}
	if state := sv.State(); state.Held != 1 {
		t.Errorf("%d are held, want the burst; %v", state.Held, ring.Held())
	}
	s := newStation(t, func(s *station) { s.set.Receivers[0].History = ring })
	r := s.capture(t, order(epoch.Add(began-lasts/2), 0.4))
	from := 4 * int(math.Ceil((began-lasts/2).Seconds()*rate))
	if !slices.Equal(r.data, raw[from:from+4*96001]) { // round(0.4 s * rate)
		t.Errorf("not the samples of then: ended as %v", r.last())
	}
}

// player is a receiver that delivers what it is given, at once.
type player struct {
	raw  []byte
	next *radio.Block
}

func (p *player) Open(context.Context) (radio.Info, error) {
	return radio.Info{Format: p.next.Format, Tuning: p.next.Tuning, Timeline: true}, nil
}

func (p *player) Read(_ context.Context, b *radio.Block) error {
	if len(p.raw) == 0 {
		return io.EOF
	}
	n := min(len(p.raw), 32768)
	*b = *p.next
	b.Time, b.Raw, p.raw = timeOf(b.Index), p.raw[:n], p.raw[n:]
	p.next.Index += uint64(n / 4)
	return nil
}

func (p *player) Tune(context.Context, radio.Tuning) error { return radio.ErrNotTunable }
func (p *player) Health() radio.Health                     { return radio.Health{Lost: map[string]uint64{}} }
func (p *player) Close() error                             { return nil }
