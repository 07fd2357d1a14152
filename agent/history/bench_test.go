package history_test

import (
	"testing"
	"time"

	"github.com/fulgidus/heimdall/agent/history"
	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/dsp"
)

// A receiver of 2.4 Msps with blocks of 16 KiB and the default history: as it is, and with as many stretches held as may be.
func BenchmarkAppend(b *testing.B) {
	for _, c := range []struct {
		name  string
		holds bool
	}{{"plain", false}, {"holding", true}} {
		b.Run(c.name, func(b *testing.B) {
			const msps = 2.4e6
			r := history.NewHolding(history.DefaultLimitBytes, 5*time.Minute)
			block := &radio.Block{Raw: make([]byte, 16<<10), Format: dsp.CU8, Segment: 1, Time: epoch, Tuning: radio.Tuning{SampleRateHz: msps}}
			n := 0
			step := func() {
				r.Append(block)
				block.Index += uint64(block.Samples())
				block.Time = epoch.Add(radio.SamplesDuration(float64(block.Index), msps))
				if n++; c.holds && n%60 == 0 { // five a second
					r.Hold(block.Time.Add(-100*time.Millisecond), 50*time.Millisecond, float64(n*7919%40))
				}
			}
			for range 10000 {
				step()
			}
			b.SetBytes(int64(len(block.Raw)))
			for b.Loop() {
				step()
			}
		})
	}
}
