//go:build unix

package spool

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// cpu is how much the process has computed.
func cpu() time.Duration {
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		return 0
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

func benchSpool(b *testing.B, options Options) *Spool {
	b.Helper()
	options.Station = "torino"
	s, err := Open(b.TempDir(), options)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

// fillBench queues n records like measurements, every tenth a spectrum, and commits each batch.
func fillBench(b *testing.B, s *Spool, n, batch int) {
	for i := range n {
		lane, size := LaneMeasurement, 134
		if i%10 == 9 {
			lane, size = LaneSpectrum, 600
		}
		if _, err := s.Queue(b.Context(), lane, protocol.Kind(lane), make([]byte, size)); err != nil {
			b.Fatal(err)
		}
		if i%batch == batch-1 || i == n-1 {
			if err := s.flush(false); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// Records a second with every commit on disk, by how many share a commit.
func BenchmarkSpool_Put(b *testing.B) {
	for _, batch := range []int{1, 16, 256, 2000} {
		b.Run(fmt.Sprint(batch), func(b *testing.B) {
			s := benchSpool(b, Options{})
			before := cpu()
			b.ResetTimer()
			fillBench(b, s, b.N, batch)
			b.ReportMetric(float64(cpu()-before)/float64(b.N), "cpu-ns/op")
		})
	}
}

// A record's whole way: queued, committed, handed out, acknowledged and deleted.
func BenchmarkSpool_Cycle(b *testing.B) {
	for name, keep := range map[string]time.Duration{"keep": time.Hour, "delete": 0} {
		b.Run(name, func(b *testing.B) {
			s := benchSpool(b, Options{Keep: keep})
			last := cpu()
			phase := func(name string) {
				now := cpu()
				b.ReportMetric(float64(now-last)/float64(b.N), name+"-cpu-ns/op")
				last = now
			}
			b.ResetTimer()
			b.ReportAllocs()
			fillBench(b, s, b.N, 256)
			phase("put")
			for left := b.N; left > 0; {
				var out protocol.Ranges
				for range min(left, 1000) {
					item, ok := s.find()
					if !ok {
						b.Fatalf("nothing to hand out, %d left", left)
					}
					out.Add(item.Seq)
					left--
				}
				s.Ack(s.Identity(), out)
				if err := s.flush(false); err != nil {
					b.Fatal(err)
				}
			}
			phase("next+ack")
			s.keep = 0
			for s.Stats().Kept > 0 {
				if err := s.flush(false); err != nil {
					b.Fatal(err)
				}
			}
			phase("purge")
		})
	}
}

// Opening a spool of 1 GiB, every page checked.
func BenchmarkSpool_Open(b *testing.B) {
	dir := b.TempDir()
	s, err := Open(dir, Options{Station: "torino", LimitBytes: 4 << 30})
	if err != nil {
		b.Fatal(err)
	}
	for s.Stats().Bytes < 1<<30 {
		fillBench(b, s, 50000, 5000)
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	before := cpu()
	for b.Loop() {
		s, err := Open(dir, Options{Station: "torino", LimitBytes: 4 << 30})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.SetBytes(1 << 30)
	b.ReportMetric(float64(cpu()-before)/1e6/float64(b.N), "cpu-ms/op")
}
