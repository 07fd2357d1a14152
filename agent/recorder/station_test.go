package recorder_test

import (
	"context"
	"encoding/binary"
	"math"
	"math/cmplx"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/agent/history"
	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/agent/recorder"
	"github.com/fulgidus/heimdall/dsp"
	"github.com/fulgidus/heimdall/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	rate   = 240001.25 // no whole number of nanoseconds a sample
	center = 145.5e6
)

var epoch = time.Date(2026, 11, 24, 2, 0, 0, 123456789, time.UTC)

func timeOf(index uint64) time.Time {
	return epoch.Add(radio.SamplesDuration(float64(index), rate))
}

// signal gives the sample of an index, full scale 1.
type signal func(index float64) complex128

// tones are two emissions: one 31 kHz above the centre, sweeping slowly, and one outside any channel of the tests.
func tones(index float64) complex128 { return toneTable()[int(index)] }

var toneTable = sync.OnceValue(func() []complex128 {
	table := make([]complex128, 410000)
	for k := range table {
		s := float64(k) / rate
		table[k] = cmplx.Rect(0.25, 2*math.Pi*math.Mod(31000*s+200*s*s, 1)) + cmplx.Rect(0.5, 2*math.Pi*math.Mod(-62000*s, 1))
	}
	return table
})

// block makes CS16 samples of a signal at their true times.
func block(sig signal, index uint64, n int) *radio.Block {
	b := &radio.Block{
		Format: dsp.CS16, Segment: 1, Index: index, Time: timeOf(index),
		TimeUncertainty: 2 * time.Microsecond, TimeQuality: protocol.TimeQuality_TIME_QUALITY_NTP,
		Tuning: radio.Tuning{CenterHz: center, SampleRateHz: rate, GainDB: 29.7},
	}
	for k := range n {
		v := sig(float64(index) + float64(k))
		b.Raw = binary.LittleEndian.AppendUint16(b.Raw, uint16(int16(math.RoundToEven(real(v)*32768))))
		b.Raw = binary.LittleEndian.AppendUint16(b.Raw, uint16(int16(math.RoundToEven(imag(v)*32768))))
	}
	return b
}

func rawOf(sig signal, from, to uint64) []byte { return block(sig, from, int(to-from)).Raw }

func fill(ring *history.Ring, sig signal, from, to uint64) {
	for i := from; i < to; i += 5000 {
		ring.Append(block(sig, i, int(min(5000, to-i))))
	}
}

// sink keeps what it is given, as a spool does.
type sink struct {
	mu      sync.Mutex // guards the fields below
	records []*protocol.Record
	fail    func(*protocol.Record) error
	seen    func(*protocol.Record)
}

func (s *sink) Put(ctx context.Context, r *protocol.Record) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		if err := s.fail(r); err != nil {
			return err
		}
	}
	s.records = append(s.records, r)
	if s.seen != nil {
		s.seen(r)
	}
	return ctx.Err() // the record is queued all the same
}

func (s *sink) Queue(ctx context.Context, r *protocol.Record) error { return s.Put(ctx, r) }

// result is what one command left in the sink.
type result struct {
	replies []*protocol.Reply
	data    []byte
	chunks  []*protocol.Record
}

func (s *sink) result(t testing.TB, command string) result {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var r result
	for _, rec := range s.records {
		if reply := rec.GetReply(); reply.GetCommandId() == command && reply != nil {
			r.replies = append(r.replies, reply)
		}
	}
	if len(r.replies) == 0 {
		t.Fatalf("command %s has no reply", command)
	}
	id := r.last().GetCapture().GetId()
	for _, rec := range s.records {
		if rec.GetIq() != nil && rec.GetIq().GetCaptureId() == id {
			r.chunks = append(r.chunks, rec)
			r.data = append(r.data, rec.GetIq().GetData()...)
		}
	}
	return r
}

func (r result) last() *protocol.Reply { return r.replies[len(r.replies)-1] }

func (r result) states() []string {
	var s []string
	for _, reply := range r.replies {
		s = append(s, reply.GetState().String()[len("STATE_"):])
	}
	return s
}

// meter measures mean power and counts, so that the test can tell which samples it was given.
type meter struct {
	samples, lost uint64
	power         float64
	rate, center  float64
	bandwidth     float64
	around        uint64 // samples of the passband
	expected      time.Duration
	refuses       error
}

func (m *meter) Expect(length time.Duration) error {
	m.expected = length
	return m.refuses
}

func (m *meter) Channel(bandwidthHz float64) error {
	m.bandwidth = bandwidthHz
	return nil
}

func (m *meter) Passband(b *radio.Block) { m.around += uint64(b.Samples()) }

func (m *meter) Write(b *radio.Block) {
	x := make([]complex64, b.Samples())
	dsp.ConvertComplex(x, b.Raw, b.Format)
	for _, v := range x {
		m.power += real(complex128(v) * cmplx.Conj(complex128(v)))
	}
	m.samples += uint64(len(x))
	m.lost += b.LostBefore
	m.rate, m.center = b.Tuning.SampleRateHz, b.Tuning.CenterHz
}

func (m *meter) Measurement() *protocol.Measurement {
	return &protocol.Measurement{
		Samples: &m.samples, LostSamples: &m.lost, SampleRateHz: &m.rate, CenterHz: &m.center,
		PowerDbfs: proto.Float32(float32(10 * math.Log10(m.power/float64(m.samples)))),
	}
}

// station is a recorder with one receiver.
type station struct {
	*recorder.Recorder
	sink *sink
	ring *history.Ring
	set  recorder.Settings
	info radio.Info
	live bool
}

func newStation(t testing.TB, change func(*station)) *station {
	t.Helper()
	s := &station{sink: &sink{}, ring: history.New(8 << 20), live: true}
	s.info = radio.Info{
		Timeline: true, Live: true, Format: dsp.CS16, Hardware: "simulated receiver",
		Tuning: radio.Tuning{CenterHz: center, SampleRateHz: rate},
	}
	s.set = recorder.Settings{
		Receivers: []recorder.Receiver{{ID: "main", History: s.ring, Info: func() (radio.Info, bool) { return s.info, s.live }}},
		Sink:      s.sink,
		NewMeter:  func(string, radio.Info) (recorder.Meter, error) { return &meter{}, nil },
		Recorder:  "heimdall-agent test",
		Now:       func() time.Time { return timeOf(200000) },
		Patience:  20 * time.Second,
	}
	if change != nil {
		change(s)
	}
	var err error
	if s.Recorder, err = recorder.New(s.set); err != nil {
		t.Fatal(err)
	}
	return s
}

// capture orders one and returns what it left.
func (s *station) capture(t *testing.T, order *protocol.Capture) result {
	t.Helper()
	id := uuid.NewString()
	if err := s.Capture(t.Context(), command(id, order)); err != nil {
		t.Fatal(err)
	}
	return s.sink.result(t, id)
}

func command(id string, order *protocol.Capture) *protocol.Command {
	return &protocol.Command{Id: &id, Order: &protocol.Command_Capture{Capture: order}}
}

func order(start time.Time, seconds float64) *protocol.Capture {
	return &protocol.Capture{
		Acquisition: proto.String("acq"), Start: proto.Int64(start.UnixNano()), DurationS: &seconds,
		CenterHz: proto.Float64(center), Iq: proto.Bool(true),
	}
}
