package survey

import (
	"testing"
	"time"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/dsp"
)

func TestBatch(t *testing.T) {
	for _, c := range []struct {
		name    string
		samples int // of a block, CS16
		rateHz  float64
		want    int // blocks
	}{
		{"by time", 120_000, 2.4e6, 5},
		{"by memory", 1 << 18, 20e6, 4},
		{"of one block", 12_000, 12e3, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b batch
			for round := range 3 {
				count := 0
				for full := false; !full; count++ {
					block := b.next()
					block.Raw = append(block.Raw[:0], make([]byte, 4*c.samples)...)
					block.Format, block.Time, block.Index = dsp.CS16, time.Unix(int64(count), 0), uint64(count)
					block.Tuning = radio.Tuning{SampleRateHz: c.rateHz}
					full = b.add()
				}
				blocks := b.take()
				if count != c.want || len(blocks) != c.want {
					t.Fatalf("round %d: full with %d blocks and holds %d, want %d", round, count, len(blocks), c.want)
				}
				for i := range blocks {
					if blocks[i].Index != uint64(i) {
						t.Errorf("block %d is in place %d", blocks[i].Index, i)
					}
				}
			}
			if len(b.blocks) != c.want {
				t.Errorf("%d blocks of memory for %d", len(b.blocks), c.want)
			}
		})
	}
}
