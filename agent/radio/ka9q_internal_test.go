package radio

import (
	"encoding/binary"
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/dsp"
)

// TestKa9q_Address uses the published value of FNV-1 for "foobar", 31f0b262.
func TestKa9q_Address(t *testing.T) {
	if got, want := ka9qAddress("foobar"), netip.MustParseAddr("239.240.178.98"); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestKa9q_Float16(t *testing.T) {
	for _, tc := range []struct {
		bits uint16
		want float64
	}{{0, 0}, {0x3c00, 1}, {0xc000, -2}, {0x3555, 0.333251953125}, {0x7bff, 65504}, {0x0001, 0x1p-24}, {0x83ff, -1023 * 0x1p-24}, {0x0400, 0x1p-14}, {0x7c00, math.Inf(1)}} {
		if got := float64(math.Float32frombits(float16Bits(tc.bits))); got != tc.want {
			t.Errorf("%#04x: got %v, want %v", tc.bits, got, tc.want)
		}
	}
}

// TestKa9q_Command reads commands with the parser of statuses: numbers without leading zeros, floats as they are.
func TestKa9q_Command(t *testing.T) {
	set := ka9qSettings{ssrc: 0x01000000, centerHz: 145.5e6, rateHz: 24000, gainDB: math.NaN()}
	packet := set.create(1 << 40).end()
	packet[0] = ka9qStatusPacket
	var st ka9qState
	if err := st.parse(packet); err != nil {
		t.Fatal(err)
	}
	if st.ssrc != 0x01000000 || st.tag != 1<<40 || st.frequencyHz != 145.5e6 || st.rate != 24000 || st.preset != "iq" || st.agc || st.gainDB != 0 ||
		st.low != -10800 || st.high != 10800 || st.lifetime != 1000 || st.encoding != 4 || st.channels != 2 {
		t.Errorf("got %+v", st)
	}
	to := Tuning{CenterHz: st.frequencyHz, SampleRateHz: 24000.02, GainDB: math.NaN()}
	if c, changes := set.retune(1, &st, to); changes {
		t.Errorf("what is so already needs no command, got % x", c)
	}
}

// rtpLog is a sink that checks that samples follow each other.
type rtpLog struct {
	t     testing.TB
	at    uint64
	begun bool
	came  uint64
	lost  map[string]uint64
	marks []uint64
}

func (l *rtpLog) samples(at uint64, raw []byte) {
	if l.begun && at != l.at {
		l.t.Fatalf("samples at %d after %d", at, l.at)
	}
	l.at, l.begun = at+uint64(len(raw)/4), true
	l.came += uint64(len(raw) / 4)
}

func (l *rtpLog) missing(n uint64, reason string) {
	if n > 0 {
		l.at += n
		l.lost[reason] += n
	}
}

func (l *rtpLog) marked() { l.marks = append(l.marks, l.at) }

func newRTPLog(t testing.TB) (*rtpLog, *rtpOrder) {
	log := &rtpLog{t: t, lost: map[string]uint64{}}
	return log, &rtpOrder{sink: log, width: 4, far: 1e6}
}

func TestRTP_Order(t *testing.T) {
	type packet struct {
		seq uint16
		ts  uint32
	}
	samples := make([]byte, 400) // 100 of them
	for _, tc := range []struct {
		name           string
		in             []packet
		came           uint64
		network, muted uint64
		fails          bool
	}{
		{"in order", []packet{{65534, 1<<32 - 150}, {65535, 1<<32 - 50}, {0, 50}, {1, 150}}, 400, 0, 0, false},
		{"swapped", []packet{{1, 100}, {3, 300}, {2, 200}, {4, 400}}, 400, 0, 0, false},
		{"swapped over the wrap", []packet{{65534, 1<<32 - 100}, {0, 100}, {65535, 0}, {1, 200}}, 400, 0, 0, false},
		{"doubled", []packet{{1, 100}, {1, 100}, {2, 200}, {1, 100}}, 200, 0, 0, false},
		{"muted", []packet{{1, 100}, {2, 5200}, {3, 5300}}, 300, 0, 5000, false},
		{"muted over the wrap", []packet{{1, 1<<32 - 100}, {2, 500}}, 200, 0, 500, false},
		{"lost and muted", []packet{{1, 100}, {4, 5400}}, 100, 0, 0, false}, // waits for the rest
		{"begun anew", []packet{{1, 5000}, {2, 100}}, 100, 0, 0, true},
		{"far ahead", []packet{{1, 100}, {2, 50e6}, {2, 200}}, 200, 0, 0, false},
		{"outage", []packet{{1, 100}, {5000, 500000}, {5001, 500100}}, 300, 499800, 0, false},
		{"outage over half the numbers", []packet{{1, 100}, {40000, 900000}}, 200, 899800, 0, false},
	} {
		log, o := newRTPLog(t)
		now := time.Now()
		var err error
		for _, p := range tc.in {
			if err == nil {
				err = o.put(rtpPacket{seq: p.seq, timestamp: p.ts, samples: samples}, now)
			}
		}
		if log.came != tc.came || log.lost[lostNetwork] != tc.network || log.lost[lostMuted] != tc.muted || (err != nil) != tc.fails {
			t.Errorf("%s: %d samples, lost %v, %v", tc.name, log.came, log.lost, err)
		}
	}
}

// TestRTP_Wait checks how long packets wait for one that is missing.
func TestRTP_Wait(t *testing.T) {
	samples := make([]byte, 400)
	log, o := newRTPLog(t)
	now := time.Now()
	put := func(seq uint16) {
		if err := o.put(rtpPacket{seq: seq, timestamp: uint32(seq) * 100, samples: samples}, now); err != nil {
			t.Fatal(err)
		}
	}
	put(0)
	put(2)
	now = now.Add(rtpPatience - 1)
	if err := o.drain(now); err != nil || log.came != 100 {
		t.Errorf("%d samples after %v, %v", log.came, rtpPatience-1, err)
	}
	now = now.Add(1)
	if err := o.drain(now); err != nil || log.came != 200 || log.lost[lostNetwork] != 100 {
		t.Errorf("%d samples after %v, %v", log.came, rtpPatience, err)
	}
	for seq := uint16(4); seq <= 4+rtpEarly; seq++ {
		put(seq)
	}
	if log.came != 200+(rtpEarly+1)*100 || log.lost[lostNetwork] != 200 {
		t.Errorf("%d samples, lost %v with %d packets after the missing one", log.came, log.lost, rtpEarly+1)
	}
	o.hold()
	put(4 + rtpEarly + 1)
	o.tellAt(o.at + 30)
	held := log.came
	if err := o.release(now); err != nil || log.came != held+100 || len(log.marks) != 1 || log.marks[0] != log.at-70 {
		t.Errorf("released: %d samples, marks %v at %d, %v", log.came-held, log.marks, log.at, err)
	}
	for range mostStale {
		if err := o.put(rtpPacket{seq: 3, timestamp: 300, samples: samples}, now); err != nil {
			t.Fatal(err)
		}
	}
	if err := o.put(rtpPacket{seq: 3, timestamp: 300, samples: samples}, now); err == nil {
		t.Error("a stream of old packets goes on")
	}
}

func FuzzKa9qStatus(f *testing.F) {
	set := ka9qSettings{ssrc: 5, centerHz: 1e6, rateHz: 24000, gainDB: -3}
	packet := set.create(77).end()
	packet[0] = ka9qStatusPacket
	f.Add(packet)
	f.Add([]byte{0, 18, 1, 5, 4, 0x81, 1, 'x', 17, 6, 239, 1, 2, 3, 19, 0x8c, 3, 0, 8, 0x80, 0})
	f.Add([]byte{0, 18, 0x84, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, packet []byte) {
		var st ka9qState
		if st.parse(packet) != nil {
			return
		}
		if st.ssrc == 0 {
			t.Fatal("a state of no channel")
		}
		if b := st.block(); b < time.Millisecond || b > time.Second {
			t.Fatalf("blocks of %v", b)
		}
		_ = st.time()
		if st.usable("x") != nil {
			return
		}
		tuning, r := st.tuning(), st.tunable()
		if !r.Contains(tuning) {
			t.Fatalf("range %+v does not hold %+v", r, tuning)
		}
		if c, changes := (&ka9qSettings{ssrc: st.ssrc}).retune(1, &st, Tuning{CenterHz: tuning.CenterHz, SampleRateHz: tuning.SampleRateHz, GainDB: math.NaN()}); changes {
			t.Fatalf("% x", c)
		}
	})
}

// FuzzRTP puts any packets in order: whatever comes, samples follow each other and nothing is counted twice.
func FuzzRTP(f *testing.F) {
	add := func(packets ...[]byte) {
		var all []byte
		for _, p := range packets {
			all = append(append(all, byte(len(p))), p...)
		}
		f.Add(all)
	}
	rtp := func(seq uint16, timestamp uint32, more ...byte) []byte {
		p := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16([]byte{0x80, 96}, seq), timestamp)
		return append(append(p, 0, 0, 0, 5), more...)
	}
	add(rtp(1, 100, 1, 2, 3, 4), rtp(3, 102, 1, 2, 3, 4), rtp(2, 101, 1, 2, 3, 4), rtp(40000, 5000, 1, 2, 3, 4, 5, 6, 7, 8))
	add(rtp(65535, 1<<32-1, 1, 2, 3, 4), rtp(0, 0, 1, 2, 3, 4), rtp(0, 0, 1, 2, 3, 4))
	add([]byte{0xb1, 96, 0, 1, 0, 0, 0, 1, 0, 0, 0, 5, 9, 9, 9, 9, 0, 0, 0, 0, 1, 2, 3, 4, 4, 4, 4, 4})
	f.Fuzz(func(t *testing.T, all []byte) {
		_, o := newRTPLog(t)
		now := time.Now()
		for k := 0; len(all) > 0; k++ {
			n := min(int(all[0]), len(all)-1)
			p, ok := parseRTP(all[1 : 1+n])
			all = all[1+n:]
			if !ok {
				continue
			}
			if len(p.samples) > n {
				t.Fatal("more samples than bytes")
			}
			switch k % 11 {
			case 4:
				o.hold()
			case 6:
				o.tellAt(o.at + uint64(p.payload))
			case 8:
				if o.release(now) != nil {
					return
				}
			}
			now = now.Add(time.Duration(p.payload) * time.Millisecond)
			if o.put(p, now) != nil {
				return
			}
			for _, encoding := range []uint8{1, 2, 4, 6, 8, 9} {
				decodeKa9q(nil, p.samples, encoding)
			}
		}
	})
}

// BenchmarkKa9q_Packet takes packets of 360 samples, as they come 533 times a second at 192 kHz, and reads the blocks.
func BenchmarkKa9q_Packet(b *testing.B) {
	w := &ka9qWire{set: ka9qSettings{ssrc: 5}, wall: SystemWall}
	w.state = ka9qState{ssrc: 5, rate: 192000, channels: 2, encoding: 2, payload: 96, frequencyHz: 1e6, gainDB: math.NaN()}
	w.in = newIntake(Info{Format: dsp.CS16, Tuning: w.state.tuning()}, 0, time.Second)
	w.order.sink = (*ka9qSink)(w)
	w.startClock()
	packet := make([]byte, 12+1440)
	packet[0], packet[1], packet[11] = 0x80, 96, 5
	var block Block
	seq, timestamp := uint16(0), uint32(0)
	b.SetBytes(1440)
	b.ReportAllocs()
	for b.Loop() {
		binary.BigEndian.PutUint16(packet[2:], seq)
		binary.BigEndian.PutUint32(packet[4:], timestamp)
		seq++
		timestamp += 360
		p, ok := parseRTP(packet)
		if !ok || w.packet(p, time.Now()) != nil {
			b.Fatal("refused")
		}
		for {
			if ok, _ := w.in.take(&block); !ok {
				break
			}
		}
	}
}
