package radio

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/dsp"
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
	for _, bad := range [][]byte{nil, []byte("SND"), []byte("MSG badp=0"), sound(kiwiIQ, 1, 3), sound(kiwiIQ, 1, 0)[:15]} {
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

func FuzzKiwiSDR(f *testing.F) {
	f.Add(sound(kiwiIQ|kiwiLE, 1, 2048))
	f.Add(sound(kiwiIQ, 9, 64))
	f.Add([]byte("MSG badp=1 too_busy=8 redirect=http%3a%2f%2fx sample_rate=12001.1 load_cfg=%7b%22rx_gps%22%3a3%7d"))
	f.Add([]byte("MSG ip_limit=,, reason_disabled=9 down freq_offset=nan audio_rate=-1"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		w := &kiwiSDR{source: "kiwi://x", wall: SystemWall, tuning: Tuning{CenterHz: 1e6, SampleRateHz: 12000}, facts: kiwiStatus(b)}
		w.clock = newSampleClock(12000, stampTolerance, stampFloor)
		w.arrived = newArrivalClock(12000, kiwiQueue, SystemWall)
		in := newIntake(Info{Format: dsp.CS16, Tuning: w.tuning}, 0, time.Second)
		for range 3 {
			_ = w.take(in, append([]byte(nil), b...))
		}
		kiwiMessages(b, func(name, value string) { w.facts[name] = value; kiwiRefusal("x", name, value) })
		kiwiClosed("x", w.facts)
		w.place()
		w.reach()
	})
}

func BenchmarkKiwiSDR_Frame(b *testing.B) {
	w := &kiwiSDR{source: "kiwi://x", wall: SystemWall, tuning: Tuning{CenterHz: 1e6, SampleRateHz: 12000}}
	w.clock = newSampleClock(12000, stampTolerance, stampFloor)
	w.arrived = newArrivalClock(12000, kiwiQueue, SystemWall)
	w.waiting = make([]byte, 0, kiwiWaiting*2048)
	in := newIntake(Info{Format: dsp.CS16, Tuning: w.tuning}, 0, time.Second)
	frame := sound(kiwiIQ, 0, 2048)
	start := utcOfWeek(0, time.Now())
	var block Block
	b.ReportAllocs()
	n := uint32(0)
	for b.Loop() {
		at := trueTime(uint64(n)*512, 12000, 0).Sub(epoch) + time.Since(start).Truncate(time.Second)
		binary.LittleEndian.PutUint32(frame[4:], n)
		binary.LittleEndian.PutUint32(frame[12:], uint32(at/time.Second)%604800)
		binary.LittleEndian.PutUint32(frame[16:], uint32(at%time.Second))
		if err := w.take(in, frame); err != nil {
			b.Fatal(err)
		}
		in.take(&block)
		n++
	}
	const framesASecond = 12000.0 / 512
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)*framesASecond/1e7, "%core")
}
