package radio

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/fulgidus/heimdall/dsp"
	"github.com/fulgidus/heimdall/protocol"
)

// sound is a frame as a KiwiSDR sends it.
func sound(flags byte, seq uint32, iq int) []byte {
	b := append([]byte("SND"), flags)
	b = binary.LittleEndian.AppendUint32(b, seq)
	b = binary.BigEndian.AppendUint16(b, 540) // -73 dBm
	if flags&kiwiIQ != 0 {
		b = append(b, 3, 0)
		b = binary.LittleEndian.AppendUint32(b, 124934)
		b = binary.LittleEndian.AppendUint32(b, 171899011)
	}
	return append(b, make([]byte, iq)...)
}

func TestParseSound(t *testing.T) {
	f, err := parseSound(sound(kiwiIQ|kiwiLE, 77, 2048))
	if err != nil || f.seq != 77 || f.sMeter != -73 || len(f.iq) != 2048 || !f.stamp.stamped || f.stamp.age != 3 || f.stamp.ns != 124934_171899011 {
		t.Errorf("got %+v, %v", f, err)
	}
	if f, err := parseSound(sound(0, 77, 1024)); err != nil || f.iq != nil {
		t.Errorf("mono: %+v, %v", f, err)
	}
	for _, bad := range [][]byte{nil, []byte("SND"), []byte("MSG badp=0"), sound(kiwiIQ, 1, 3), sound(kiwiIQ, 1, 0), sound(kiwiIQ, 1, kiwiMostFrame+4), sound(kiwiIQ, 1, 0)[:15]} {
		if _, err := parseSound(bad); err == nil {
			t.Errorf("%q is taken for a frame", bad)
		}
	}
}

func TestUTCOfWeek(t *testing.T) {
	const second = int64(time.Second)
	rollover := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).Add(-18 * time.Second) // a Sunday
	for _, tc := range []struct {
		name string
		ns   int64
		now  time.Time
		want time.Time
	}{
		{"now", 3600 * second, rollover.Add(time.Hour), rollover.Add(time.Hour)},
		{"the clock is slow at the end of the week", 5 * second, rollover.Add(-2 * time.Second), rollover.Add(5 * time.Second)},
		{"the clock is fast at the end of the week", 604795 * second, rollover.Add(2 * time.Second), rollover.Add(-5 * time.Second)},
		{"three days off", 4 * 86400 * second, rollover.Add(24 * time.Hour), rollover.Add(4 * 24 * time.Hour)},
	} {
		if got := utcOfWeek(tc.ns, tc.now); !got.Equal(tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

// kiwiTakes has a KiwiSDR's wire take frames, whose stamps are so long after start by gps, and gives the blocks that come of them.
// Frames without a time have no stamp; the age of the position is that of gps.
func kiwiTakes(t *testing.T, start time.Time, frames int, gps func(n int) (after time.Duration, fixAge byte)) []Block {
	t.Helper()
	const rate = 12001.135
	arrival := time.Now()
	wall := func() (time.Time, protocol.TimeQuality, time.Duration) {
		return start, protocol.TimeQuality_TIME_QUALITY_NTP, time.Millisecond
	}
	w := &kiwiSDR{source: "kiwi://x", wall: wall, tuning: Tuning{CenterHz: 1e6, SampleRateHz: rate}}
	w.prepare()
	in := newIntake(Info{Format: dsp.CS16, Tuning: w.tuning}, 0, time.Second)
	var blocks []Block
	for n := range frames {
		b := sound(kiwiIQ|kiwiLE, uint32(n+1), 2048)
		after, fixAge := gps(n)
		clear(b[kiwiHead+2 : kiwiHead+kiwiStampSize])
		if b[kiwiHead] = fixAge; after >= 0 {
			at := start.Add(after).Sub(time.Date(1980, 1, 6, 0, 0, 0, 0, time.UTC)) + leapSeconds(start)
			at %= 7 * 24 * time.Hour
			binary.LittleEndian.PutUint32(b[kiwiHead+2:], uint32(at/time.Second))
			binary.LittleEndian.PutUint32(b[kiwiHead+6:], uint32(at%time.Second))
		}
		if err := w.take(in, b, arrival.Add(SamplesDuration(float64(n+1)*512, rate))); err != nil {
			t.Fatal(err)
		}
		for {
			var block Block
			if ok, _ := in.take(&block); !ok {
				break
			}
			blocks = append(blocks, block)
		}
	}
	return blocks
}

// right is the time of frame n where all is well.
func right(n int) time.Duration { return SamplesDuration(float64(n)*512, 12001.135) }

// TestKiwiSDR_EndOfWeek: the time of the week begins at 0 again, and times go on.
func TestKiwiSDR_EndOfWeek(t *testing.T) {
	start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).Add(-20 * time.Second) // two seconds before the end of a GPS week
	blocks := kiwiTakes(t, start, 200, func(n int) (time.Duration, byte) { return right(n), 1 })
	for _, b := range blocks {
		if off := b.Time.Sub(start.Add(SamplesDuration(float64(b.Index), 12001.135))); off.Abs() > 100*time.Nanosecond || b.Segment > 0 {
			t.Fatalf("block at %d, segment %d: off by %v", b.Index, b.Segment, off)
		}
	}
	if last := blocks[len(blocks)-1]; last.Time.Sub(start) < 5*time.Second {
		t.Fatal("the week did not end")
	}
}

// TestKiwiSDR_LosesInside: samples that the receiver itself loses are known by their stamps, to the sample, and where.
func TestKiwiSDR_LosesInside(t *testing.T) {
	const at, gone = 60, 100 // frame, samples
	blocks := kiwiTakes(t, epoch, 200, func(n int) (time.Duration, byte) {
		if n < at {
			return right(n), 1
		}
		return SamplesDuration(float64(n)*512+gone, 12001.135), 1
	})
	lost := uint64(0)
	for _, b := range blocks {
		if b.LostBefore > 0 && (b.LostBefore != gone || !b.LostExact || b.Index != at*512+gone) {
			t.Errorf("block at %d: %d lost, exact: %v", b.Index, b.LostBefore, b.LostExact)
		}
		lost += b.LostBefore
		if off := b.Time.Sub(epoch.Add(SamplesDuration(float64(b.Index), 12001.135))); off.Abs() > 100*time.Nanosecond || b.Segment > 0 {
			t.Errorf("block at %d, segment %d: off by %v", b.Index, b.Segment, off)
		}
	}
	if lost != gone {
		t.Errorf("%d lost, want %d", lost, gone)
	}
}

// TestKiwiSDR_Leaps: stamps that leap begin a segment with the first of them.
func TestKiwiSDR_Leaps(t *testing.T) {
	const at, step = 60, 1040 * time.Microsecond // 12.48 samples
	for _, b := range kiwiTakes(t, epoch, 200, func(n int) (time.Duration, byte) {
		if n < at {
			return right(n), 1
		}
		return right(n) + step, 1
	}) {
		want, segment := epoch.Add(SamplesDuration(float64(b.Index), 12001.135)), uint32(0)
		if b.Index >= at*512 {
			want, segment = want.Add(step), 1
		}
		if off := b.Time.Sub(want); off.Abs() > 200*time.Nanosecond || b.Segment != segment || b.LostBefore > 0 {
			t.Errorf("block at %d, segment %d: off by %v, %d lost", b.Index, b.Segment, off, b.LostBefore)
		}
	}
}

// TestKiwiSDR_StampsEnd: what is told of the time gets worse by and by, and better again with the stamps.
func TestKiwiSDR_StampsEnd(t *testing.T) {
	const spoilt, well = 200, 700 // frames
	for name, spoil := range map[string]func(n int) (time.Duration, byte){
		"hidden":               func(int) (time.Duration, byte) { return -1, 0 },
		"never had a position": func(n int) (time.Duration, byte) { return right(n), noFix },
		"nonsense":             func(n int) (time.Duration, byte) { return time.Duration(n*n%977) * time.Millisecond, 1 },
	} {
		var seen []string
		for _, b := range kiwiTakes(t, epoch, 900, func(n int) (time.Duration, byte) {
			if n < spoilt || n >= well {
				return right(n), 1
			}
			return spoil(n)
		}) {
			if q := fmt.Sprint(b.TimeQuality.Short(), " ", b.Segment); len(seen) == 0 || seen[len(seen)-1] != q {
				seen = append(seen, q)
			}
			off := b.Time.Sub(epoch.Add(SamplesDuration(float64(b.Index), 12001.135)))
			if stamps := b.TimeQuality != protocol.TimeQuality_TIME_QUALITY_NTP; off.Abs() > b.TimeUncertainty && stamps || stamps != (b.TimeUncertainty < 100*time.Millisecond) {
				t.Errorf("%s: block at %d off by %v, states ±%v", name, b.Index, off, b.TimeUncertainty)
			}
		}
		if want := []string{"gnss 0", "gnss_stale 0", "ntp 1", "gnss 2"}; !slices.Equal(seen, want) {
			t.Errorf("%s: times are %v, want %v", name, seen, want)
		}
	}
}

func FuzzKiwiSDR(f *testing.F) {
	f.Add(sound(kiwiIQ|kiwiLE, 1, 2048))
	f.Add(sound(kiwiIQ, 9, 64))
	f.Add([]byte("MSG badp=1 too_busy=8 redirect=http%3a%2f%2fx sample_rate=12001.1 load_cfg=%7b%22rx_gps%22%3a3%7d"))
	f.Add([]byte("MSG ip_limit=,, reason_disabled=9 down freq_offset=nan audio_rate=-1"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		w := &kiwiSDR{source: "kiwi://x", wall: SystemWall, tuning: Tuning{CenterHz: 1e6, SampleRateHz: 12000}, facts: kiwiStatus(b)}
		w.prepare()
		in := newIntake(Info{Format: dsp.CS16, Tuning: w.tuning}, 0, time.Second)
		for range 3 {
			_ = w.take(in, append([]byte(nil), b...), time.Now())
		}
		kiwiMessages(b, func(name, value string) { w.facts[name] = value; kiwiRefusal("x", name, value) })
		kiwiClosed("x", w.facts)
		w.place()
		w.reach()
	})
}

// BenchmarkKiwiSDR_Stream is a frame from the socket to the ring, that of sending it included.
func BenchmarkKiwiSDR_Stream(b *testing.B) {
	const rate = 12000
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(rw, r, nil)
		if err != nil {
			b.Error(err)
			return
		}
		defer conn.CloseNow()
		frame := sound(kiwiIQ, 0, 2048) // big endian: the costlier
		for n := range uint32(b.N) {
			at := trueTime(uint64(n)*512, rate, 0).Sub(epoch)
			binary.LittleEndian.PutUint32(frame[4:], n)
			binary.LittleEndian.PutUint32(frame[12:], uint32(at/time.Second)%604800)
			binary.LittleEndian.PutUint32(frame[16:], uint32(at%time.Second))
			if conn.Write(context.Background(), websocket.MessageBinary, frame) != nil {
				return
			}
		}
	}))
	defer server.Close()
	anHour := func() (time.Time, protocol.TimeQuality, time.Duration) { // the same hour, however long it takes
		return epoch, protocol.TimeQuality_TIME_QUALITY_NTP, 0
	}
	w := &kiwiSDR{
		source: "kiwi://x", address: strings.TrimPrefix(server.URL, "http://"), wall: anHour, tuning: Tuning{CenterHz: 1e6, SampleRateHz: rate},
	}
	if err := w.dial(b.Context()); err != nil {
		b.Fatal(err)
	}
	in := newIntake(Info{Format: dsp.CS16, Tuning: w.tuning}, 0, time.Second)
	b.ReportAllocs()
	b.ResetTimer()
	_ = w.stream(b.Context(), in) // ends when all are sent
	b.StopTimer()
	if got := in.index(); got != uint64(b.N)*512 {
		b.Fatalf("%d samples came, want %d", got, b.N*512)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)*rate/512/1e7, "%core")
}
