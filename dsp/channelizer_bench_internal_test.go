//go:build unix

package dsp

import (
	"fmt"
	"syscall"
	"testing"
	"time"
)

// channelCases are what captures ask for, of 2.4 Msps.
var channelCases = []struct {
	name    string
	widthHz float64
}{{"12.5kHz", 12.5e3}, {"48kHz", 48e3}, {"250kHz", 250e3}, {"whole", 2.4e6}}

// BenchmarkChannelizer cuts a channel out of raw samples. Msps are those that go in, in a second of CPU time.
func BenchmarkChannelizer(b *testing.B) {
	raws := map[Format][]byte{CU8: randomCodes(2 * 16384), CS16: randomCodes(4 * 16384)}
	for _, e := range runnableEngines() {
		for _, format := range []Format{CU8, CS16} {
			for _, tc := range channelCases {
				b.Run(fmt.Sprintf("%s/%s/%s", e.name, format, tc.name), func(b *testing.B) {
					rejection := map[Format]float64{CU8: 80, CS16: 100}[format]
					c, err := newChannelizer(Channel{SampleRateHz: 2.4e6, ShiftHz: 1e5, BandwidthHz: tc.widthHz, RejectionDB: rejection}, e)
					if err != nil {
						b.Fatal(err)
					}
					raw := raws[format]
					samples := len(raw) / format.BytesPerSample()
					dst := make([]complex64, c.MaxOutput(samples))
					b.SetBytes(int64(len(raw)))
					began := cpuTime(b)
					for b.Loop() {
						c.ProcessRaw(dst, raw, format)
					}
					b.ReportMetric(float64(b.N)*float64(samples)/(cpuTime(b)-began).Seconds()/1e6, "Msps")
				})
			}
		}
	}
}

func cpuTime(t testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
