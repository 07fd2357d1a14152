//go:build unix

package radio

import (
	"bytes"
	"errors"
	"io"
	"math"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/dsp"
)

func TestSwapIQ(t *testing.T) {
	for _, tc := range []struct {
		format    dsp.Format
		raw, want []byte
	}{
		{dsp.CU8, []byte{1, 2, 3, 4}, []byte{2, 1, 4, 3}},
		{dsp.CS8, []byte{1, 2, 3, 4}, []byte{2, 1, 4, 3}},
		{dsp.CS16, []byte{1, 2, 3, 4, 5, 6, 7, 8}, []byte{3, 4, 1, 2, 7, 8, 5, 6}},
		{dsp.CF32, []byte{1, 2, 3, 4, 5, 6, 7, 8}, []byte{5, 6, 7, 8, 1, 2, 3, 4}},
	} {
		got := slices.Clone(tc.raw)
		swapIQ(got, tc.format)
		if !bytes.Equal(got, tc.want) {
			t.Errorf("%v: %v, want %v", tc.format, got, tc.want)
		}
	}
}

// However a stream is cut, the same whole samples come out.
func TestPipe_SplitInvariant(t *testing.T) {
	raw := make([]byte, 40_003)
	for i := range raw {
		raw[i] = byte(i * 7 / 3)
	}
	want := slices.Clone(raw[:40_000])
	swapIQ(want, dsp.CS16)
	for _, cut := range []int{1, 3, 1000, 1 << 16} {
		in := newIntake(Info{Format: dsp.CS16, Tuning: Tuning{SampleRateHz: 1e5}}, 1000, time.Second)
		rest := bytes.NewReader(raw)
		p := &pipe{
			read: func(b []byte) (int, error) { return rest.Read(b[:min(cut, len(b))]) }, swap: true,
			buf: make([]byte, pipeChunk), clock: newArrivalClock(1e5, pipeQueue, SystemWall),
		}
		if err := p.copy(in); !errors.Is(err, io.EOF) || p.kept != 3 {
			t.Errorf("%d bytes at a time: it ended with %v, %d bytes left, want %v and 3", cut, err, p.kept, io.EOF)
		}
		in.end(io.EOF)
		var got []byte
		var b Block
		for ok := true; ok; got = append(got, b.Raw...) {
			b.Raw = nil
			ok, _ = in.take(&b)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%d bytes at a time: %d bytes that are not those written", cut, len(got))
		}
	}
}

// BenchmarkPipe is a sound card at 192 kHz in 16 bits, as arecord writes it in periods of 1/8 s, at the speed at which the driver can take it. The
// share of a core at true speed is cores_192k.
func BenchmarkPipe(b *testing.B) {
	const rate, period = 192000, 192000 / 8 * 4
	out, into, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	defer out.Close()
	in := newIntake(Info{Format: dsp.CS16, Tuning: Tuning{SampleRateHz: rate, GainDB: math.NaN()}}, 0, time.Second)
	var block Block
	taken := 0
	clock := newArrivalClock(rate, pipeQueue, SystemWall)
	p := &pipe{
		read: func(buf []byte) (int, error) {
			for {
				ok, _ := in.take(&block)
				if !ok {
					return out.Read(buf)
				}
				taken += len(block.Raw)
			}
		},
		swap: true, buf: make([]byte, pipeChunk), clock: clock,
	}
	raw := make([]byte, period)
	done := make(chan struct{})
	b.SetBytes(period)
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime(b)
	go func() {
		defer close(done)
		defer into.Close()
		for range b.N {
			if _, err := into.Write(raw); err != nil {
				b.Error(err)
				return
			}
		}
	}()
	if err := p.copy(in); !errors.Is(err, io.EOF) {
		b.Fatal(err)
	}
	<-done
	stream := float64(b.N) * period / 4 / rate
	b.ReportMetric((cpuTime(b)-before).Seconds()/stream, "cores_192k")
}

// cpuTime is what this process has used, the writer's part included.
func cpuTime(b *testing.B) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
