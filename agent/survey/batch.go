package survey

import (
	"time"

	"github.com/fulgidus/heimdall/agent/radio"
)

// How much waits for an Analyzer. Samples are analysed in long runs, because a processor that was idle multiplies vectors slowly for the
// first two milliseconds (a Zen 3 at little more than half its speed), which is most of what a receiver's samples of a tenth of a second take.
const (
	batchTime  = 250 * time.Millisecond
	batchBytes = 4 << 20 // at high rates
)

// batch is blocks of one step, one after the other, that wait for its Analyzer.
type batch struct {
	blocks  []radio.Block // count of them wait; the memory of the others is used again
	count   int
	bytes   int
	lasting time.Duration
}

// next is where the next block is read to.
func (b *batch) next() *radio.Block {
	if b.count == len(b.blocks) {
		b.blocks = append(b.blocks, radio.Block{})
	}
	return &b.blocks[b.count]
}

// add has the block that was read last wait. It is true when enough wait.
func (b *batch) add() (full bool) {
	block := &b.blocks[b.count]
	b.count++
	b.bytes += len(block.Raw)
	b.lasting += block.End().Sub(block.Time)
	return b.lasting >= batchTime || b.bytes >= batchBytes
}

// take is all that wait. They are valid until the next block is read.
func (b *batch) take() []radio.Block {
	blocks := b.blocks[:b.count]
	b.count, b.bytes, b.lasting = 0, 0, 0
	return blocks
}
