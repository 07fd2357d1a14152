package survey_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/agent/history"
	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/agent/survey"
	"github.com/fulgidus/heimdall/dsp"
	"github.com/fulgidus/heimdall/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const rate = 1000.0

var epoch = time.Date(2026, 11, 24, 2, 0, 0, 0, time.UTC)

// radioScript is a receiver that delivers blocks of 100 samples as a test wrote them down.
type radioScript struct {
	openErr, readErr, closeErr, tuneErr error
	info                                radio.Info
	blocks                              []radio.Block
	health                              radio.Health
	tuned                               func(radio.Tuning)
	at                                  int
}

func (r *radioScript) Open(context.Context) (radio.Info, error) { return r.info, r.openErr }

func (r *radioScript) Read(ctx context.Context, b *radio.Block) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if r.at == len(r.blocks) {
		if r.readErr == nil {
			<-ctx.Done()
			return ctx.Err()
		}
		return r.readErr
	}
	*b = r.blocks[r.at]
	b.Raw = slices.Clone(b.Raw)
	r.at++
	return nil
}

func (r *radioScript) Tune(_ context.Context, t radio.Tuning) error {
	if r.tuned != nil {
		r.tuned(t)
	}
	return r.tuneErr
}
func (r *radioScript) Health() radio.Health { return r.health }
func (r *radioScript) Close() error         { return r.closeErr }

// blocks makes n blocks of 100 samples, the first at the index given, `after` the epoch.
func blocks(n int, segment uint32, index uint64, after time.Duration, centerHz float64) []radio.Block {
	var out []radio.Block
	for k := range n {
		b := radio.Block{
			Format: dsp.CS16, Segment: segment, Index: index + uint64(100*k),
			Time:        epoch.Add(after + time.Duration(k)*100*time.Millisecond),
			TimeQuality: protocol.TimeQuality_TIME_QUALITY_GNSS,
			Tuning:      radio.Tuning{CenterHz: centerHz, SampleRateHz: rate, GainDB: math.NaN()},
		}
		for i := range 100 {
			b.Raw = binary.LittleEndian.AppendUint32(b.Raw, uint32(b.Index)+uint32(i))
		}
		out = append(out, b)
	}
	return out
}

func info(centerHz float64, tunable bool) radio.Info {
	return radio.Info{
		Source: "script:", Timeline: true, Live: true, Tunable: tunable, Format: dsp.CS16,
		Tuning: radio.Tuning{CenterHz: centerHz, SampleRateHz: rate, GainDB: math.NaN()},
	}
}

// spool takes records.
type spool struct {
	mu      sync.Mutex // guards the fields below
	records []*protocol.Record
	fail    error
}

func (s *spool) Publish(_ context.Context, r *protocol.Record) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return "", s.fail
	}
	s.records = append(s.records, proto.CloneOf(r))
	return fmt.Sprintf("torino-00ff-%d", len(s.records)), nil
}

func (s *spool) kind(k protocol.Kind) []*protocol.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*protocol.Record
	for _, r := range s.records {
		if r.Kind() == k {
			out = append(out, r)
		}
	}
	return out
}

// scripts opens one script after the other; then it fails.
func scripts(rs ...*radioScript) func() (radio.Receiver, error) {
	return func() (radio.Receiver, error) {
		if len(rs) == 0 {
			return nil, errors.New("no more receivers")
		}
		r := rs[0]
		rs = rs[1:]
		return r, nil
	}
}

func newSurvey(t *testing.T, set survey.Settings) *survey.Survey {
	t.Helper()
	if set.History == nil {
		set.History = history.New(1 << 20)
	}
	if set.Publisher == nil {
		set.Publisher = &spool{}
	}
	set.Receiver = "main"
	s, err := survey.New(set)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// kept is what a history holds, in short.
func kept(t *testing.T, ring *history.Ring) (out []string) {
	t.Helper()
	rd, err := ring.Seek(t.Context(), ring.Span().From)
	if err != nil {
		t.Fatal(err)
	}
	var b radio.Block
	for {
		if err := rd.Next(t.Context(), &b, 1000); errors.Is(err, io.EOF) {
			return out
		} else if err != nil {
			t.Fatal(err)
		}
		s := fmt.Sprintf("seg %d index %d at %v", b.Segment, b.Index, b.Time.Sub(epoch))
		if b.LostBefore > 0 {
			s += fmt.Sprintf(" lost %d", b.LostBefore)
		}
		out = append(out, s)
	}
}
