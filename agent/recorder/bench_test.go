//go:build unix

package recorder_test

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/agent/history"
	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/agent/recorder"
	"github.com/fulgidus/heimdall/agent/survey"
	"github.com/fulgidus/heimdall/dsp"
	"github.com/fulgidus/heimdall/protocol"
)

// crowd is a receiver that plays noise at its true speed or at once, and captures of it.
type crowd struct {
	*station
	rateHz float64
	format dsp.Format
	noise  []byte // a second, over and over
	next   uint64 // index of the sample that comes
}

func newCrowd(t testing.TB, rateHz float64, format dsp.Format, historyBytes int) *crowd {
	x := make([]complex128, int(rateHz))
	dsp.WhiteNoise(0.05, 7)(x, 0)
	c := &crowd{rateHz: rateHz, format: format, noise: dsp.Quantise(nil, x, format)}
	c.station = newStation(t, func(s *station) {
		s.ring = history.New(historyBytes)
		s.info.Format, s.info.Tuning.SampleRateHz = format, rateHz
		s.set.Receivers[0].History = s.ring
		s.set.Now = func() time.Time { return s.ring.Span().To }
		s.set.NewMeter = func(string, radio.Info) (recorder.Meter, error) { return survey.NewMeter(survey.Config{}) }
	})
	return c
}

func (c *crowd) at(index uint64) time.Time {
	return epoch.Add(radio.SamplesDuration(float64(index), c.rateHz))
}

// hear appends the samples up to one.
func (c *crowd) hear(until uint64) {
	const size = 8192
	width := c.format.BytesPerSample()
	for c.next < until {
		from := int(c.next % uint64(len(c.noise)/width))
		n := min(size, int(until-c.next), len(c.noise)/width-from)
		c.ring.Append(&radio.Block{
			Format: c.format, Segment: 1, Index: c.next, Time: c.at(c.next), TimeQuality: protocol.TimeQuality_TIME_QUALITY_NTP,
			Tuning: radio.Tuning{CenterHz: center, SampleRateHz: c.rateHz}, Raw: c.noise[from*width : (from+n)*width],
		})
		c.next += uint64(n)
	}
}

// order makes captures of 12.5 kHz all over the passband, and counts how they ended.
func (c *crowd) order(t testing.TB, many int, start time.Time, seconds float64) map[string]int {
	var working sync.WaitGroup
	var mu sync.Mutex // guards ends
	ends := make(map[string]int)
	for k := range many {
		o := order(start, seconds)
		o.CenterHz = proto.Float64(center + c.rateHz*(0.9*float64(k)/float64(many)-0.45))
		o.BandwidthHz = proto.Float64(12500 + float64(100*(k%7)))
		id := fmt.Sprintf("%s-%d", start, k)
		working.Go(func() {
			if err := c.Capture(t.Context(), command(id, o)); err != nil {
				t.Error(err)
			}
			last := c.sink.result(t, id).last()
			mu.Lock()
			defer mu.Unlock()
			ends[last.GetState().String()[len("STATE_"):]+last.GetReasonCode()]++
		})
	}
	working.Wait()
	return ends
}

func cpuTime(t testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// receivers of the benchmarks.
var receivers = []struct {
	name   string
	rateHz float64
	format dsp.Format
}{{"240kHz", 240e3, dsp.CS16}, {"2.4MHz", 2.4e6, dsp.CU8}}

// BenchmarkCaptures cuts channels out of one stretch of the past, all at once, and shows the CPU that a second of one takes.
func BenchmarkCaptures(b *testing.B) {
	for _, rx := range receivers {
		for _, many := range []int{1, 20} {
			b.Run(fmt.Sprintf("%s/%d", rx.name, many), func(b *testing.B) {
				const seconds = 5
				c := newCrowd(b, rx.rateHz, rx.format, 1<<30)
				c.hear(uint64(6 * rx.rateHz))
				began := cpuTime(b)
				for b.Loop() {
					c.sink.records = nil
					if ends := c.order(b, many, c.at(uint64(rx.rateHz/2)), seconds); ends["DONE"] != many {
						b.Fatalf("of %d captures: %v", many, ends)
					}
				}
				b.ReportMetric(float64(cpuTime(b)-began)/1e6/float64(b.N*many*seconds), "cpu-ms/capture-s")
			})
		}
	}
}

// BenchmarkCrowd orders 50 captures of five seconds at once of a receiver that plays at its true speed, while others burn the
// CPU, and shows how they end and how much later than their last sample.
func BenchmarkCrowd(b *testing.B) {
	for _, rx := range receivers {
		b.Run(rx.name, func(b *testing.B) {
			c := newCrowd(b, rx.rateHz, rx.format, history.DefaultLimitBytes)
			c.hear(uint64(rx.rateHz))
			var playing sync.WaitGroup
			defer playing.Wait()
			ctx, stop := context.WithCancel(b.Context())
			defer stop()
			playing.Go(func() { c.play(ctx) })
			for range runtime.GOMAXPROCS(0) {
				burner := exec.CommandContext(ctx, "sh", "-c", "while :; do :; done")
				if err := burner.Start(); err != nil {
					b.Fatal(err)
				}
				defer func() { _ = burner.Wait() }() // it is killed
			}
			defer stop()
			ends, late := make(map[string]int), time.Duration(0)
			for b.Loop() {
				c.sink.records = nil
				began := time.Now()
				for end, n := range c.order(b, 50, c.ring.Span().To.Add(100*time.Millisecond), 5) {
					ends[end] += n
				}
				late += time.Since(began) - 5100*time.Millisecond
			}
			b.ReportMetric(0, "ns/op")
			for end, n := range ends {
				b.ReportMetric(float64(n)/float64(b.N), end)
			}
			b.ReportMetric(late.Seconds()/float64(b.N), "s-late")
		})
	}
}

// play lets the receiver hear on until the context ends.
func (c *crowd) play(ctx context.Context) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	began, first := time.Now(), c.next
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.hear(first + uint64(time.Since(began).Seconds()*c.rateHz))
		}
	}
}
