package radio

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"
	"net"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/dsp"
)

// TestRTLTrueRate has rates that librtlsdr prints for what was asked.
func TestRTLTrueRate(t *testing.T) {
	for asked, want := range map[uint32]float64{
		250000: 250000.000414, 1024000: 1024000, 1000000: 1000000.026491, 2048000: 2048000, 2400000: 2400000, 3200000: 3200000, 900001: 900001.019241,
	} {
		if got := rtlTrueRate(asked); math.Abs(got-want) > 0.01 {
			t.Errorf("%d: %.6f Hz, want %.6f", asked, got, want)
		}
	}
}

func TestRTLTuner_NearestGain(t *testing.T) {
	for _, c := range []struct {
		tuner uint32
		db    float64
		want  int32
	}{{5, 0, 0}, {5, -5, 0}, {5, 49.9, 496}, {5, 20.0, 197}, {6, 20.4, 207}, {1, 29.2, 290}, {3, -7.4, -73}, {4, 12.34, 123}, {0, 30.5, 305}} {
		if got := rtlTuners[c.tuner].nearestGain(c.db); got != c.want {
			t.Errorf("tuner %d, %v dB: %d tenths, want %d", c.tuner, c.db, got, c.want)
		}
	}
}

func FuzzRTLHeader(f *testing.F) {
	f.Add([]byte("RTL0\x00\x00\x00\x05\x00\x00\x00\x1d"))
	f.Add([]byte("RTL0\x05\x00\x00\x00\x00\x00\x00\x00"))
	f.Add([]byte("HTTP/1.1 400"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 12 {
			return
		}
		tuner, imitation, ok := rtlHeader([12]byte(b))
		if ok != (string(b[:4]) == "RTL0") {
			t.Fatalf("%x: %v", b, ok)
		}
		written := binary.BigEndian.Uint32(b[4:])
		if imitation {
			written = binary.LittleEndian.Uint32(b[4:])
		}
		if ok && tuner != written || ok && imitation != (binary.BigEndian.Uint32(b[4:]) > 0xffff) {
			t.Fatalf("%x: tuner %d, imitation %v", b, tuner, imitation)
		}
	})
}

// pieces is a connection that hands its bytes out in pieces of given sizes.
type pieces struct {
	net.Conn
	bytes []byte
	sizes []byte
	n     int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.bytes) == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	size := 1
	if len(p.sizes) > 0 {
		size, p.n = max(1, int(p.sizes[p.n%len(p.sizes)])), p.n+1
	}
	n := copy(b, p.bytes[:min(size, len(p.bytes))])
	p.bytes = p.bytes[n:]
	return n, nil
}

func (p *pieces) SetReadDeadline(time.Time) error { return nil }

// FuzzRTLStream cuts a stream into pieces, with a retune somewhere in it: every whole sample arrives once and in order.
func FuzzRTLStream(f *testing.F) {
	f.Add([]byte("abcdefghijklmnopqrstuvwxyz"), []byte{1, 2, 3}, false)
	f.Add([]byte("odd"), []byte{1}, true)
	f.Fuzz(func(t *testing.T, stream, sizes []byte, retune bool) {
		if len(stream) > 1<<16 {
			return
		}
		w := newRTLWire("rtltcp://x", "x", rtlSettings{gainDB: math.NaN()}, SystemWall)
		w.conn = &pieces{bytes: stream, sizes: sizes}
		w.startClock(2.4e6, time.Time{})
		w.since = time.Time{}
		if retune {
			w.retunes = []rtlRetune{{Tuning{CenterHz: 1e6, SampleRateHz: 2.4e6, GainDB: math.NaN()}, time.Now(), false}}
		}
		in := newIntake(Info{Format: dsp.CU8, Tuning: Tuning{CenterHz: 1e8, SampleRateHz: 2.4e6}}, 1024, time.Second)
		if err := w.stream(t.Context(), in); err == nil {
			t.Fatal("a stream that ended is no error")
		}
		in.end(io.EOF)
		var got []byte
		var b Block
		for ok, err := in.take(&b); ok && err == nil; ok, err = in.take(&b) {
			if b.Index != uint64(len(got)/2) || len(b.Raw)%2 != 0 {
				t.Fatalf("block of %d bytes at %d after %d", len(b.Raw), b.Index, len(got))
			}
			got = append(got, b.Raw...)
		}
		if want := stream[:len(stream)/2*2]; !bytes.Equal(got, want) {
			t.Fatalf("%d bytes came of %d", len(got), len(want))
		}
	})
}
