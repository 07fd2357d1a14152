package history_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/fulgidus/heimdall/agent/history"
	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/dsp"
	"github.com/fulgidus/heimdall/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rate is a KiwiSDR's: no whole number of nanoseconds a sample.
const rate = 12001.135

var epoch = time.Date(2026, 11, 24, 2, 0, 0, 123456789, time.UTC)

// block makes n samples whose bytes spell their own index, at their true time.
func block(segment uint32, index uint64, n int) *radio.Block {
	b := &radio.Block{
		Format: dsp.CS16, Segment: segment, Index: index, Time: timeOf(index),
		TimeUncertainty: 3 * time.Microsecond, TimeQuality: protocol.TimeQuality_TIME_QUALITY_GNSS,
		Tuning: radio.Tuning{CenterHz: 77500, SampleRateHz: rate, GainDB: 50},
	}
	for k := range n {
		b.Raw = binary.LittleEndian.AppendUint32(b.Raw, uint32(index)+uint32(k))
	}
	return b
}

func timeOf(index uint64) time.Time {
	return epoch.Add(radio.SamplesDuration(float64(index), rate))
}

// fill appends blocks of size samples until index n.
func fill(r *history.Ring, segment uint32, from, n uint64, size int) {
	for i := from; i < n; i += uint64(size) {
		r.Append(block(segment, i, min(size, int(n-i))))
	}
}

func values(b *radio.Block) []uint32 {
	v := make([]uint32, 0, b.Samples())
	for raw := b.Raw; len(raw) > 0; raw = raw[4:] {
		v = append(v, binary.LittleEndian.Uint32(raw))
	}
	return v
}

// read takes n samples and checks that each is the one its index says, at the time of that index.
func read(t *testing.T, rd *history.Reader, n, limit int) (indices []uint64) {
	t.Helper()
	var b radio.Block
	for len(indices) < n {
		if err := rd.Next(t.Context(), &b, min(limit, n-len(indices))); err != nil {
			t.Fatalf("after %d of %d samples: %v", len(indices), n, err)
		}
		if d := b.Time.Sub(timeOf(b.Index)); d < -time.Nanosecond || d > time.Nanosecond {
			t.Errorf("sample %d: time is off by %v", b.Index, d)
		}
		for k, v := range values(&b) {
			if uint64(v) != b.Index+uint64(k) {
				t.Fatalf("sample %d holds the bytes of sample %d", b.Index+uint64(k), v)
			}
			indices = append(indices, b.Index+uint64(k))
		}
	}
	return indices
}

func seek(t *testing.T, r *history.Ring, at time.Time) *history.Reader {
	t.Helper()
	rd, err := r.Seek(t.Context(), at)
	if err != nil {
		t.Fatalf("seek %v: %v", at, err)
	}
	return rd
}

func TestSeek_FirstSampleNotBefore(t *testing.T) {
	r := history.New(1 << 16)
	fill(r, 1, 1000, 9000, 511)
	for _, index := range []uint64{1000, 1001, 1510, 1511, 1512, 4242, 8999} {
		for _, tc := range []struct {
			name string
			at   time.Time
			want uint64
		}{
			{"exactly at", timeOf(index), index},
			{"a nanosecond before", timeOf(index).Add(-1), index},
			{"three nanoseconds after", timeOf(index).Add(3), index + 1},
			{"half a sample before", timeOf(index).Add(-41666), index},
		} {
			if tc.want == 9000 {
				continue // not there yet
			}
			if got := read(t, seek(t, r, tc.at), 1, 1)[0]; got != tc.want {
				t.Errorf("%s sample %d: got sample %d, want %d", tc.name, index, got, tc.want)
			}
		}
	}
}

func TestReader_CopiesAcrossTheWrap(t *testing.T) {
	// Sizes that do not divide the ring make every way of wrapping happen, also inside a sample.
	const limit = 1<<14 + 3
	for _, size := range []int{1, 37, 512, 4000} {
		r := history.New(limit)
		fill(r, 1, 0, 20000, size)
		span := r.Span()
		if span.Bytes > limit || span.Bytes < limit/2 && size >= 512 {
			t.Errorf("blocks of %d: %d bytes kept in a ring of %d", size, span.Bytes, limit)
		}
		n := int(math.Round(span.Duration().Seconds() * rate))
		got := read(t, seek(t, r, span.From), n, 300)
		if last := got[len(got)-1]; last != 19999 || span.To.Sub(timeOf(20000)).Abs() > time.Nanosecond {
			t.Errorf("blocks of %d: newest sample %d, end %v, want 19999 and %v", size, last, span.To, timeOf(20000))
		}
	}
}

func TestSeek_SaysHowFarBackItReaches(t *testing.T) {
	r := history.New(4096)
	fill(r, 1, 0, 5000, 512)
	span := r.Span()
	asked := span.From.Add(-1500 * time.Millisecond)
	_, err := r.Seek(t.Context(), asked)
	var exceeded *history.ExceededError
	if !errors.As(err, &exceeded) {
		t.Fatalf("got %v, want an ExceededError", err)
	}
	if !exceeded.From.Equal(span.From) || !exceeded.Asked.Equal(asked) {
		t.Errorf("got %+v, want from %v, asked %v", exceeded, span.From, asked)
	}
	want := asked.Format(time.RFC3339Nano) + " is 1.5s before the history begins, at " + span.From.Format(time.RFC3339Nano)
	if err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
	if _, err := r.Seek(t.Context(), span.From.Add(-50*time.Microsecond)); err != nil {
		t.Errorf("less than a sample before the oldest: %v, want no error: no sample lies between", err)
	}
}

func TestSeek_WaitsForTheFuture(t *testing.T) {
	r := history.New(1 << 16)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { fill(r, 1, 0, 10000, 100) })
	if got := read(t, seek(t, r, timeOf(5000)), 4000, 64); got[0] != 5000 || got[3999] != 8999 {
		t.Errorf("got samples %d to %d, want 5000 to 8999", got[0], got[3999])
	}
}

func TestReader_StreamsLongerThanTheRing(t *testing.T) {
	r := history.New(8192)
	fill(r, 1, 0, 100, 100)
	rd := seek(t, r, timeOf(0))
	for from := uint64(100); from < 50000; from += 700 {
		fill(r, 1, from, from+700, 350)
		read(t, rd, 700, 333)
	}
}

func TestReader_OverwrittenIsAnError(t *testing.T) {
	r := history.New(4096)
	fill(r, 1, 0, 1000, 250)
	rd := seek(t, r, timeOf(0))
	read(t, rd, 10, 10)
	fill(r, 1, 1000, 2000, 250)
	var b radio.Block
	if err := rd.Next(t.Context(), &b, 100); !errors.Is(err, history.ErrOverwritten) {
		t.Errorf("got %v, want ErrOverwritten", err)
	}
}

func TestReader_KeepsGapsSegmentsAndTunings(t *testing.T) {
	r := history.New(1 << 16)
	r.Append(block(1, 0, 100))
	lost := block(1, 150, 100)
	lost.LostBefore, lost.LostExact = 50, true
	r.Append(lost)
	retuned := block(2, 300, 100)
	retuned.LostBefore, retuned.Tuning.CenterHz, retuned.Flags = 50, 60000, radio.Settling
	r.Append(retuned)

	rd := seek(t, r, timeOf(90))
	type piece struct {
		Segment             uint32
		Index, Lost         uint64
		Exact               bool
		Samples             int
		CenterHz            float64
		Flags               radio.Flags
		Uncertainty         time.Duration
		Quality             protocol.TimeQuality
		FirstValue, LastVal uint32
	}
	var got []piece
	for range 4 {
		var b radio.Block
		if err := rd.Next(t.Context(), &b, 60); err != nil {
			t.Fatal(err)
		}
		v := values(&b)
		got = append(got, piece{
			b.Segment, b.Index, b.LostBefore, b.LostExact, b.Samples(), b.Tuning.CenterHz, b.Flags,
			b.TimeUncertainty, b.TimeQuality, v[0], v[len(v)-1],
		})
	}
	const gnss, us3 = protocol.TimeQuality_TIME_QUALITY_GNSS, 3 * time.Microsecond
	want := []piece{
		{1, 90, 0, false, 10, 77500, 0, us3, gnss, 90, 99},
		{1, 150, 50, true, 60, 77500, 0, us3, gnss, 150, 209},
		{1, 210, 0, false, 40, 77500, 0, us3, gnss, 210, 249},
		{2, 300, 50, false, 60, 60000, radio.Settling, us3, gnss, 300, 359},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("pieces (-want +got):\n%s", diff)
	}

	for at, center := range map[uint64]float64{0: 77500, 249: 77500, 260: 60000, 350: 60000, 5000: 60000} {
		if tuning, ok := r.TuningAt(timeOf(at)); !ok || tuning.CenterHz != center {
			t.Errorf("tuning at sample %d: got %v, %v, want %v Hz", at, tuning.CenterHz, ok, center)
		}
	}
	if s := r.Span(); s.Blocks != 3 || s.Tuning.CenterHz != 60000 || s.Format != dsp.CS16 || s.Bytes != 1200 {
		t.Errorf("span: got %+v", s)
	}
}

func TestReader_Back(t *testing.T) {
	r := history.New(1 << 16)
	fill(r, 1, 0, 500, 100)
	r.Append(block(1, 600, 100)) // 100 lost
	r.Append(block(2, 700, 100)) // new segment
	for _, tc := range []struct {
		at, back, moved int
	}{{450, 70, 70}, {450, 200, 200}, {30, 100, 30}, {650, 100, 50}, {700, 1, 0}, {100, 1, 1}} {
		rd := seek(t, r, timeOf(uint64(tc.at)))
		if moved := rd.Back(tc.back); moved != tc.moved {
			t.Errorf("from %d back %d: moved %d, want %d", tc.at, tc.back, moved, tc.moved)
		}
		if got := read(t, rd, 1, 1)[0]; got != uint64(tc.at-tc.moved) {
			t.Errorf("from %d back %d: next is %d, want %d", tc.at, tc.back, got, tc.at-tc.moved)
		}
	}
	// A reader that waits at the end can step back too; one whose samples are gone cannot.
	rd := seek(t, r, timeOf(700))
	read(t, rd, 100, 100)
	if moved := rd.Back(40); moved != 40 {
		t.Errorf("from the end: moved %d, want 40", moved)
	}
	r.Clear()
	if moved := rd.Back(1); moved != 0 {
		t.Errorf("after Clear: moved %d, want 0", moved)
	}
}

func TestRing_EndAndClear(t *testing.T) {
	r := history.New(1 << 16)
	if s := r.Span(); s != (history.Span{}) || s.Duration() != 0 {
		t.Errorf("empty ring: got %+v", s)
	}
	if _, ok := r.TuningAt(epoch); ok {
		t.Error("empty ring has a tuning")
	}
	fill(r, 1, 0, 1000, 100)
	rd := seek(t, r, timeOf(900))
	read(t, rd, 100, 100)
	var wg sync.WaitGroup
	wg.Go(r.End)
	var b radio.Block
	if err := rd.Next(t.Context(), &b, 1); !errors.Is(err, io.EOF) {
		t.Errorf("next after End: got %v, want EOF", err)
	}
	if _, err := r.Seek(t.Context(), timeOf(5000)); !errors.Is(err, io.EOF) {
		t.Errorf("seek after End: got %v, want EOF", err)
	}
	wg.Wait()
	fill(r, 1, 1000, 1100, 100)
	read(t, rd, 100, 100)

	early := seek(t, r, timeOf(0))
	r.Clear()
	if err := early.Next(t.Context(), &b, 1); !errors.Is(err, history.ErrOverwritten) {
		t.Errorf("next after Clear: got %v, want ErrOverwritten", err)
	}
	if s := r.Span(); s.Bytes != 0 {
		t.Errorf("after Clear: %d bytes", s.Bytes)
	}
}

func TestWaiting_EndsWithTheContext(t *testing.T) {
	r := history.New(1 << 16)
	fill(r, 1, 0, 10, 10)
	rd := seek(t, r, timeOf(0))
	read(t, rd, 10, 10)
	stop := errors.New("stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stop)
	var b radio.Block
	if err := rd.Next(ctx, &b, 1); !errors.Is(err, stop) {
		t.Errorf("next: got %v, want the cause", err)
	}
	if _, err := r.Seek(ctx, timeOf(100)); !errors.Is(err, stop) {
		t.Errorf("seek: got %v, want the cause", err)
	}
}

func TestAppend_UnusableBlocks(t *testing.T) {
	r := history.New(100)
	empty, unknown, noRate := block(1, 0, 0), block(1, 0, 4), block(1, 0, 4)
	unknown.Format = dsp.FormatUnknown
	noRate.Tuning.SampleRateHz = math.NaN()
	for _, b := range []*radio.Block{empty, unknown, noRate} {
		r.Append(b)
	}
	if s := r.Span(); s.Blocks != 0 {
		t.Errorf("kept %d unusable blocks", s.Blocks)
	}
	r.Append(block(1, 0, 60)) // 240 bytes: the newest 80 fit wherever in the memory they begin
	if got := read(t, seek(t, r, timeOf(40)), 20, 100); got[0] != 40 || got[19] != 59 {
		t.Errorf("got samples %d to %d, want 40 to 59", got[0], got[19])
	}
}

func TestNew_DefaultSize(t *testing.T) {
	r := history.New(0)
	r.Append(block(1, 0, 10))
	if got := read(t, seek(t, r, timeOf(3)), 7, 100); got[0] != 3 {
		t.Errorf("got sample %d, want 3", got[0])
	}
}

// One writer and several readers at different paces: a reader sees every sample in order, or is told that it was too slow.
func TestRing_ConcurrentReaders(t *testing.T) {
	r := history.New(64 << 10)
	fill(r, 1, 0, 1000, 100)
	var wg sync.WaitGroup
	for id := range 4 {
		rd := seek(t, r, timeOf(uint64(id)))
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(id), 1))
			want := uint64(id)
			var b radio.Block
			for {
				err := rd.Next(t.Context(), &b, 1+rng.IntN(2000))
				if errors.Is(err, history.ErrOverwritten) || errors.Is(err, io.EOF) {
					if errors.Is(err, io.EOF) && want != 300000 {
						t.Errorf("reader %d ended at %d", id, want)
					}
					return
				}
				if err != nil || b.Index != want {
					t.Errorf("reader %d: sample %d, %v, want %d", id, b.Index, err, want)
					return
				}
				for k, v := range values(&b) {
					if v != uint32(want)+uint32(k) {
						t.Errorf("reader %d: sample %d holds %d", id, want+uint64(k), v)
						return
					}
				}
				want += uint64(b.Samples())
			}
		})
	}
	fill(r, 1, 1000, 300000, 777)
	r.End()
	wg.Wait()
}

func TestHistory_NoAllocations(t *testing.T) {
	r := history.New(1 << 16)
	b := block(1, 0, 4096)
	var out radio.Block
	cycle := func() {
		r.Append(b)
		rd := seek(t, r, timeOf(0).Add(-1))
		if err := rd.Next(t.Context(), &out, 4096); err != nil {
			t.Fatal(err)
		}
	}
	for range 200 {
		cycle()
	}
	if n := testing.AllocsPerRun(50, cycle); n > 1 { // the Reader
		t.Errorf("allocations a block: got %v, want 1", n)
	}
}

// What was heard before the clock was set is forgotten: its times are not those of what comes now.
func TestAppend_AfterTheClockWasSet(t *testing.T) {
	for step, wantBlocks := range map[time.Duration]int{
		-10 * time.Millisecond: 5, -100 * time.Millisecond: 1, -time.Hour: 1, 900 * time.Millisecond: 5, 1100 * time.Millisecond: 1,
	} {
		r := history.New(1 << 16)
		fill(r, 1, 0, 4000, 1000)
		later := block(2, 4000, 1000)
		later.Time = later.Time.Add(step)
		r.Append(later)
		if span := r.Span(); span.Blocks != wantBlocks || span.Duration() <= 0 {
			t.Errorf("set by %v: %d blocks over %v, want %d", step, span.Blocks, span.Duration(), wantBlocks)
		}
		if wantBlocks == 1 {
			rd := seek(t, r, later.Time)
			var b radio.Block
			if err := rd.Next(t.Context(), &b, 1); err != nil || b.Index != 4000 {
				t.Errorf("set by %v: sample %d, %v; want 4000", step, b.Index, err)
			}
		}
	}
}
