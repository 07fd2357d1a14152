package radio

import (
	"bytes"
	"context"
	"encoding/binary"
	"math"
	"net"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/dsp"
)

func TestSpyserver_S24(t *testing.T) {
	got := decodeSpy24(nil, []byte{0, 0, 0x80, 0xff, 0xff, 0x7f, 1, 0, 0, 0xff, 0xff, 0xff})
	want := []float32{-1, 8388607.0 / 8388608, 1.0 / 8388608, -1.0 / 8388608}
	for i, w := range want {
		if v := math.Float32frombits(binary.LittleEndian.Uint32(got[4*i:])); v != w {
			t.Errorf("value %d is %v, want %v", i, v, w)
		}
	}
}

func TestSpyserver_Rates(t *testing.T) {
	d := spyDevice{maxRate: 10e6, stages: 3, leastDecimation: 1}
	for _, tc := range []struct {
		hz    float64
		stage uint32
		found bool
	}{{10e6, 0, false}, {5e6, 1, true}, {5000040, 1, true}, {1.25e6, 3, true}, {1e6, 0, false}} {
		if stage, found := d.decimation(tc.hz); stage != tc.stage || found != tc.found {
			t.Errorf("%v Hz: stage %d, %v", tc.hz, stage, found)
		}
	}
	for hz, want := range map[float64]uint32{20e6: 1, 5e6: 1, 4e6: 1, 2.5e6: 2, 1: 3} {
		if got := d.enough(hz); got != want {
			t.Errorf("enough for %v Hz: stage %d, want %d", hz, got, want)
		}
	}
}

// spyWords makes a message.
func spyBytes(kind, seq uint32, body []byte) []byte {
	var b []byte
	for _, word := range []uint32{spyVersion, kind, 1, seq, uint32(len(body))} {
		b = binary.LittleEndian.AppendUint32(b, word)
	}
	return append(b, body...)
}

// FuzzSpyserver plays whatever a server may say: first to the greeting, then to the stream.
func FuzzSpyserver(f *testing.F) {
	device := make([]byte, 48)
	for i, word := range []uint32{2, 1, 768000, 1, 6, 1, 8, 9000, 260e6, 16, 1, 0} {
		binary.LittleEndian.PutUint32(device[4*i:], word)
	}
	state := make([]byte, 36)
	for i, word := range []uint32{1, 3, 7e6, 7e6, 0, 6e6, 8e6} {
		binary.LittleEndian.PutUint32(state[4*i:], word)
	}
	all := append(spyBytes(spyDeviceInfo, 0, device), spyBytes(spyClientSync, 0, state)...)
	for seq := range uint32(4) {
		all = append(all, spyBytes(101|12<<16, 2*seq, make([]byte, 64))...)
	}
	all = append(all, spyBytes(spyClientSync, 0, state)...)
	f.Add(all, uint8(0))
	f.Add(append(all, spyBytes(102, 9, make([]byte, 13))...), uint8(3))
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"), uint8(1))
	f.Fuzz(func(t *testing.T, said []byte, tune uint8) {
		w := &spyWire{shown: "x", where: "x", set: spySettings{gain: -1, digitalDB: -1, format: 2, centerHz: 7e6}, wall: SystemWall, conn: silence{}}
		r := bytes.NewReader(said)
		read := func() (spyMessage, []byte, bool) {
			m, body, buf, err := readSpyMessage(r, w.buf)
			w.buf = buf
			if len(buf) > len(said)+1<<14+spyHead && cap(buf) > 2*spyBodyMost {
				t.Fatalf("%d bytes of memory for %d", cap(buf), len(said))
			}
			return m, body, err == nil
		}
		for w.firstBody == nil {
			m, body, ok := read()
			if !ok || w.meet(m, body) != nil {
				return
			}
		}
		if w.choose() != nil {
			return
		}
		w.startClock()
		info := w.info()
		if !info.Range.Contains(info.Tuning) {
			t.Fatalf("range %+v does not hold %+v", info.Range, info.Tuning)
		}
		in := newIntake(Info{Format: info.Format, Tuning: Tuning{SampleRateHz: 1000}}, 100, time.Second)
		at := time.Now()
		for k := uint8(0); ; k++ {
			m, body, ok := read()
			if !ok || w.take(in, m, body, at) != nil {
				return
			}
			at = at.Add(time.Duration(k) * 50 * time.Millisecond)
			if k == tune {
				to := Tuning{CenterHz: info.Range.LowHz, SampleRateHz: info.Range.LowRateHz, GainDB: 3}
				if err := w.tune(context.Background(), to); err != nil && len(Faults(err)) == 0 {
					t.Fatal(err)
				}
			}
		}
	})
}

// silence is a connection that takes everything.
type silence struct{ net.Conn }

func (silence) Write(b []byte) (int, error)      { return len(b), nil }
func (silence) SetWriteDeadline(time.Time) error { return nil }

// BenchmarkSpyserver_Message takes messages of 4,096 samples, 187 of which come in a second at 768 ksps, and reads the blocks.
func BenchmarkSpyserver_Message(b *testing.B) {
	w := &spyWire{device: spyDevice{maxRate: 768000}, format: 1, wall: SystemWall, tuning: Tuning{SampleRateHz: 768000}}
	w.startClock()
	in := newIntake(Info{Format: dsp.CS16, Tuning: w.tuning}, 0, time.Second)
	message := spyBytes(101, 0, make([]byte, 4*4096))
	r := bytes.NewReader(message)
	var block Block
	arrived, seq := time.Now(), uint32(0)
	b.SetBytes(4 * 4096)
	b.ReportAllocs()
	for b.Loop() {
		binary.LittleEndian.PutUint32(message[12:], seq)
		r.Reset(message)
		m, body, buf, err := readSpyMessage(r, w.buf)
		w.buf = buf
		if err != nil || w.take(in, m, body, arrived) != nil {
			b.Fatal(err)
		}
		seq++
		arrived = arrived.Add(SamplesDuration(4096, 768000))
		for {
			if ok, _ := in.take(&block); !ok {
				break
			}
		}
	}
}

// A gap in the numbers that no loss explains ends the connection: it would put the index anywhere.
func TestSpyserver_CountsAnew(t *testing.T) {
	w := &spyWire{format: 1, tuning: Tuning{CenterHz: 1e6, SampleRateHz: 1e6}, clock: newArrivalClock(1e6, spyWay, SystemWall)}
	in := newIntake(Info{Format: spyFormats[1].to, Tuning: w.tuning}, 0, time.Second)
	body := make([]byte, 4096*spyFormats[1].width)
	for seq, want := range map[uint32]bool{5: true, 1 << 30: false} {
		w.counted, w.seq, w.size, w.steady = true, 1, 4096, spySteady
		if err := w.samples(in, spyMessage{kind: spyIQ + 1, seq: seq}, body, time.Now()); (err == nil) != want {
			t.Errorf("message %d after number 1: %v", seq, err)
		}
	}
	if lost := in.account().Lost[lostNetwork]; lost != 3*4096 {
		t.Errorf("%d samples lost, want 12288", lost)
	}
}
