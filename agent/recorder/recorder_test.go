package recorder_test

import (
	"context"
	"crypto/sha512"
	"encoding/binary"
	"math"
	"math/cmplx"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/agent/history"
	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/protocol"
)

func TestCapture_WholePassbandByteForByte(t *testing.T) {
	s := newStation(t, nil)
	fill(s.ring, tones, 1000, 200000)
	start := timeOf(50001).Add(-1500 * time.Nanosecond) // 0.36 of a sample early
	r := s.capture(t, order(start, 0.3))

	if diff := cmp.Diff([]string{"ACCEPTED", "CAPTURING", "UPLOADING", "DONE"}, r.states()); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
	want := rawOf(tones, 50001, 50001+72000) // round(0.3·240001.25)
	if !slices.Equal(r.data, want) {
		t.Fatalf("data differs from the source: %d bytes, want %d", len(r.data), len(want))
	}
	m := r.last().GetCapture()
	sum := sha512.Sum512(want)
	if !slices.Equal(m.GetSha512(), sum[:]) || m.GetBytes() != uint64(len(want)) || m.GetSamples() != 72000 {
		t.Errorf("manifest: %d bytes, %d samples or the hash are wrong", m.GetBytes(), m.GetSamples())
	}
	if d := time.Unix(0, m.GetStart()).Sub(timeOf(50001)).Abs(); d > time.Nanosecond {
		t.Errorf("start is off by %v", d)
	}
	if m.GetAskedStart() != start.UnixNano() {
		t.Errorf("asked start: got %d, want %d", m.GetAskedStart(), start.UnixNano())
	}
	m.Sha512, m.Start, m.AskedStart = nil, nil, nil
	id, err := uuid.Parse(m.GetId())
	if err != nil || id.Version() != 7 {
		t.Errorf("capture id %q: want a UUIDv7", m.GetId())
	}
	full := &protocol.CaptureManifest{
		Id: m.Id, DurationS: proto.Float64(72000 / rate), CenterHz: proto.Float64(center), SampleRateHz: proto.Float64(rate),
		Format: proto.String("ci16_le"), Chunks: proto.Uint32(9), Bytes: proto.Uint64(288000), Samples: proto.Uint64(72000),
		Tuning: &protocol.Tuning{
			CenterHz: proto.Float64(center), SampleRateHz: proto.Float64(rate), GainDb: proto.Float64(29.7),
		},
		TimeQuality: protocol.TimeQuality_TIME_QUALITY_NTP.Enum(), TimeUncertaintyS: proto.Float64(2e-6),
		Receiver: proto.String("main"), Recorder: proto.String("heimdall-agent test"), Hardware: proto.String("simulated receiver"),
		Measurement: m.Measurement,
	}
	if !proto.Equal(full, m) {
		t.Errorf("manifest:\ngot  %v\nwant %v", m, full)
	}
	// 0.25² + 0.5² of full scale.
	if p := m.GetMeasurement(); p.GetSamples() != 72000 || math.Abs(float64(p.GetPowerDbfs())+5.051) > 0.01 {
		t.Errorf("measurement: got %v, want 72000 samples of -5.05 dBFS", p)
	}
	checkChunks(t, r.chunks, 50001, 4, rate)
}

// checkChunks checks sizes, order and times.
func checkChunks(t *testing.T, chunks []*protocol.Record, first uint64, width int, rateHz float64) {
	t.Helper()
	var samples uint64
	for i, rec := range chunks {
		c := rec.GetIq()
		if len(c.GetData()) > 32<<10 || len(c.GetData())%width != 0 || int(c.GetSamples())*width != len(c.GetData()) {
			t.Errorf("chunk %d: %d bytes of %d samples", i, len(c.GetData()), c.GetSamples())
		}
		if c.GetIndex() != uint32(i) || c.GetFirstSample() != samples {
			t.Errorf("chunk %d: index %d, first sample %d, want %d", i, c.GetIndex(), c.GetFirstSample(), samples)
		}
		at := timeOf(first).Add(radio.SamplesDuration(float64(samples), rateHz))
		if d := time.Unix(0, rec.GetTime()).Sub(at).Abs(); d > 3*time.Nanosecond {
			t.Errorf("chunk %d: its time is off by %v", i, d)
		}
		samples += uint64(c.GetSamples())
	}
}

// decode reads ci16_le at a scale.
func decode(data []byte, scale float64) []complex128 {
	x := make([]complex128, len(data)/4)
	for i := range x {
		re := int16(binary.LittleEndian.Uint16(data[4*i:]))
		im := int16(binary.LittleEndian.Uint16(data[4*i+2:]))
		x[i] = complex(float64(re), float64(im)) * complex(scale/32768, 0)
	}
	return x
}

// channelTruth is what a channel 31 kHz above the centre must hold of tones, up to a constant phase.
func channelTruth(index float64) complex128 {
	s := index / rate
	return cmplx.Rect(0.25, 2*math.Pi*math.Mod(200*s*s, 1))
}

// compareChannel checks channelised samples against the truth at their receiver's sample, after taking out the one constant phase.
func compareChannel(t *testing.T, x []complex128, first, every uint64, from, to int, tolerance float64) {
	t.Helper()
	var turn complex128
	for k := from; k < to; k++ {
		turn += x[k] * cmplx.Conj(channelTruth(float64(first)+float64(k)*float64(every)))
	}
	turn /= complex(cmplx.Abs(turn), 0)
	for k := from; k < to; k++ {
		want := turn * channelTruth(float64(first)+float64(k)*float64(every))
		if d := cmplx.Abs(x[k] - want); d > tolerance {
			t.Fatalf("sample %d: got %v, want %v (off by %.2e)", k, x[k], want, d)
		}
	}
}

// Half a step of the 16-bit sample at scale 2 is 3e-5 in I and in Q; the filter adds less.
const channelTolerance = 6e-5

func channelOrder(start time.Time, seconds float64) *protocol.Capture {
	o := order(start, seconds)
	o.CenterHz, o.BandwidthHz = proto.Float64(center+31000), proto.Float64(12500)
	return o
}

func TestCapture_ChannelKeepsTime(t *testing.T) {
	s := newStation(t, nil)
	fill(s.ring, tones, 0, 200000)
	const first, every = 40003, 15 // 240001.25/15 = 16000.08 ≥ 1.25·12500
	r := s.capture(t, channelOrder(timeOf(first), 0.5))
	m := r.last().GetCapture()
	if m.GetFormat() != "ci16_le" || m.GetSampleRateHz() != rate/every || m.GetCenterHz() != center+31000 || m.GetScale() != 2 {
		t.Errorf("manifest: %v", m)
	}
	if d := time.Unix(0, m.GetStart()).Sub(timeOf(first)).Abs(); d > time.Nanosecond {
		t.Errorf("start is off by %v", d)
	}
	x := decode(r.data, m.GetScale())
	if len(x) != 8000 || m.GetSamples() != 8000 {
		t.Fatalf("samples: got %d, %d in the manifest, want 8000", len(x), m.GetSamples())
	}
	compareChannel(t, x, first, every, 0, 8000, channelTolerance)
	sum := sha512.Sum512(r.data)
	if !slices.Equal(m.GetSha512(), sum[:]) {
		t.Error("hash is not that of the data")
	}
	p := m.GetMeasurement() // 0.25² at the receiver's full scale
	if p.GetSamples() != 8000 || math.Abs(float64(p.GetPowerDbfs())+12.041) > 0.001 || p.GetSampleRateHz() != rate/every || p.GetCenterHz() != center+31000 {
		t.Errorf("measurement: got %v, want 8000 samples of -12.041 dBFS", p)
	}
	checkChunks(t, r.chunks, first, 4, rate/every)
}

func TestCapture_GapsAreNamedNotFilled(t *testing.T) {
	s := newStation(t, nil)
	fill(s.ring, tones, 0, 60000)
	lost := block(tones, 63000, 1000)
	lost.LostBefore, lost.LostExact = 3000, true
	s.ring.Append(lost)
	later := block(tones, 64000, 1000) // a new segment, nothing known to be lost
	later.Segment = 2
	s.ring.Append(later)
	for i := uint64(65000); i < 100000; i += 5000 {
		b := block(tones, i, 5000)
		b.Segment = 2
		s.ring.Append(b)
	}

	const first = 50000
	r := s.capture(t, order(timeOf(first), 20000/rate))
	m := r.last().GetCapture()
	want := slices.Concat(rawOf(tones, first, 60000), rawOf(tones, 63000, first+20000))
	if !slices.Equal(r.data, want) || m.GetSamples() != 17000 || m.GetDurationS() != 20000/rate {
		t.Errorf("got %d bytes, %d samples, %v s, want %d bytes of 17000 samples in %v s", len(r.data), m.GetSamples(), m.GetDurationS(), len(want), 20000/rate)
	}
	gaps := []*protocol.CaptureGap{
		{Sample: proto.Uint64(10000), Lost: proto.Uint64(3000), Time: proto.Int64(timeOf(63000).UnixNano()), Exact: proto.Bool(true)},
		{Sample: proto.Uint64(11000), Lost: proto.Uint64(0), Time: proto.Int64(timeOf(64000).UnixNano()), Exact: proto.Bool(false)},
	}
	if diff := cmp.Diff(gaps, m.GetGaps(), cmp.Comparer(proto.Equal)); diff != "" {
		t.Errorf("gaps (-want +got):\n%s", diff)
	}
	if lost := m.GetMeasurement().GetLostSamples(); lost != 3000 {
		t.Errorf("measured lost samples: got %d, want 3000", lost)
	}

	// The same as a channel: the grid goes on behind the gap, and each side is right but for the filter's reach.
	const every = 15
	r = s.capture(t, channelOrder(timeOf(first), 20000/rate))
	m = r.last().GetCapture()
	x := decode(r.data, m.GetScale())
	// Outputs 0..666 are centred before sample 60000, 867..933 between 63000 and 64000, the rest to 1332 after.
	if len(x) != 1333-200 || len(m.GetGaps()) != 2 {
		t.Fatalf("channel: %d samples and gaps %v", len(x), m.GetGaps())
	}
	g := m.GetGaps()[0]
	if g.GetSample() != 667 || g.GetLost() != 200 || !g.GetExact() || time.Unix(0, g.GetTime()).Sub(timeOf(first+867*every)).Abs() > time.Nanosecond {
		t.Errorf("channel gap: %v", g)
	}
	if g := m.GetGaps()[1]; g.GetSample() != 667+67 || g.GetLost() != 0 {
		t.Errorf("second channel gap: %v", g)
	}
	compareChannel(t, x, first, every, 0, 640, channelTolerance)
	// Behind the last gap the same phase holds: the oscillator counts lost samples.
	shifted := func(k int) float64 { return float64(first) + float64(k+200)*every }
	turn := x[100] * cmplx.Conj(channelTruth(first+100*every))
	for k := 780; k < len(x)-30; k++ {
		want := turn / complex(cmplx.Abs(turn), 0) * channelTruth(shifted(k))
		if d := cmplx.Abs(x[k] - want); d > 2e-4 { // the phase is taken from one sample
			t.Fatalf("sample %d behind the gaps: got %v, want %v (off by %.1e)", k, x[k], want, d)
		}
	}
}

func TestCapture_FutureStreamsPastTheRing(t *testing.T) {
	s := newStation(t, func(s *station) { s.ring = history.New(256 << 10) })
	s.set.Receivers[0].History = s.ring
	fill(s.ring, tones, 0, 30000)

	// The receiver delivers as fast as the recorder reads: for each chunk of 8192 samples as many more.
	more := make(chan struct{}, 1000) // more than there are chunks; never full
	s.sink.seen = func(*protocol.Record) { more <- struct{}{} }
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := uint64(30000); i < 400000 && ctx.Err() == nil; i += 8192 {
			s.ring.Append(block(tones, i, 8192))
			if i > 50000 {
				select {
				case <-more:
				case <-ctx.Done():
				}
			}
		}
	})
	r := s.capture(t, order(timeOf(40000), 1))
	cancel()
	wg.Wait()
	if r.last().GetState() != protocol.Reply_STATE_DONE {
		t.Fatalf("ended as %v", r.last())
	}
	if !slices.Equal(r.data, rawOf(tones, 40000, 40000+240001)) {
		t.Errorf("data differs from the source: %d bytes", len(r.data))
	}
}

func TestCapture_AsSoonAsPossible(t *testing.T) {
	s := newStation(t, nil)
	fill(s.ring, tones, 0, 10000)
	s.sink.seen = func(r *protocol.Record) {
		if r.GetReply().GetState() == protocol.Reply_STATE_ACCEPTED {
			fill(s.ring, tones, 10000, 20000)
		}
	}
	o := order(epoch, 0.02)
	o.Start = nil
	r := s.capture(t, o)
	if !slices.Equal(r.data, rawOf(tones, 10000, 14800)) {
		t.Errorf("got %d bytes, want those from the newest sample on", len(r.data))
	}
	if m := r.last().GetCapture(); m.AskedStart != nil {
		t.Errorf("asked start: got %d, want none", m.GetAskedStart())
	}
	if got := r.replies[0].GetEarliestStart(); time.Unix(0, got).Sub(timeOf(10000)).Abs() > time.Nanosecond {
		t.Errorf("accepted for %v, want %v", time.Unix(0, got), timeOf(10000))
	}
}

func TestCapture_MeasurementOnly(t *testing.T) {
	s := newStation(t, nil)
	fill(s.ring, tones, 0, 100000)
	o := channelOrder(timeOf(500), 0.3)
	o.Iq = nil
	r := s.capture(t, o)
	if diff := cmp.Diff([]string{"ACCEPTED", "CAPTURING", "DONE"}, r.states()); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
	m := r.last().GetCapture()
	if len(r.chunks) > 0 || m.Id == nil || m.Chunks != nil || m.Sha512 != nil {
		t.Errorf("a measurement has IQ: %v", m)
	}
	if p := m.GetMeasurement(); p.GetSamples() != 4800 || math.Abs(float64(p.GetPowerDbfs())+12.041) > 0.001 {
		t.Errorf("measurement: %v, want 4800 samples of -12.041 dBFS", p)
	}
}

func TestCapture_TwoAtOnce(t *testing.T) {
	s := newStation(t, nil)
	fill(s.ring, tones, 0, 20000)
	ids := []string{uuid.NewString(), uuid.NewString(), uuid.NewString()}
	var wg sync.WaitGroup
	for i, id := range ids {
		wg.Go(func() {
			if err := s.Capture(t.Context(), command(id, order(timeOf(10000+uint64(i)), 0.2))); err != nil {
				t.Error(err)
			}
		})
	}
	fill(s.ring, tones, 20000, 100000)
	wg.Wait()
	for i, id := range ids {
		from := 10000 + uint64(i)
		if r := s.sink.result(t, id); !slices.Equal(r.data, rawOf(tones, from, from+48000)) {
			t.Errorf("capture %d differs from the source: %v", i, r.last())
		}
	}
}

func TestCapture_ConstantMemory(t *testing.T) {
	s := newStation(t, nil)
	fill(s.ring, func(float64) complex128 { return 0.1 }, 0, 2000000)
	span := s.ring.Span()
	largest := 0
	s.sink.fail = func(r *protocol.Record) error {
		largest = max(largest, proto.Size(r))
		r.Body = nil // nothing is kept
		return nil
	}
	long, short := order(span.From, 8), order(span.From, 0.8)
	allocated := func(o *protocol.Capture) float64 {
		return testing.AllocsPerRun(1, func() {
			if err := s.Capture(t.Context(), command("x", o)); err != nil {
				t.Fatal(err)
			}
		})
	}
	// Only chunks and their records are allocated: some dozen values for each 32 KiB.
	if a, b := allocated(short), allocated(long); b-a > 216*25 {
		t.Errorf("allocations grow from %v to %v for 216 more chunks", a, b)
	}
	if largest > 40<<10 {
		t.Errorf("a record has %d bytes", largest)
	}
}
