package radio

import (
	"encoding/binary"
	"math"
	"math/bits"
	"time"

	"github.com/fulgidus/heimdall/dsp"
)

// said is the reason of samples that a program said it had lost.
const said = "said"

// oddTail is the reason of a sample that a stream ended in.
const oddTail = "odd_tail"

// pipeQueue is how long samples may have waited for the program that writes them, beside what the clock sees.
const pipeQueue = 100 * time.Millisecond

// pipeChunk is what is read at once: as much as a pipe usually holds.
const pipeChunk = 1 << 16

// pipe takes samples from a program into an intake.
type pipe struct {
	read  func([]byte) (int, error)
	swap  bool // I for Q
	clock *arrivalClock
	// before is called when samples have come, before they are put: it declares what has happened between them and those before.
	before func(in *intake, arrived time.Time)
	buf    []byte
	kept   int // bytes of a sample that is not complete yet
}

// copy reads until there is no more, and says why.
func (p *pipe) copy(in *intake) error {
	for {
		n, err := p.read(p.buf[p.kept:])
		arrived := time.Now()
		n += p.kept
		whole := p.buf[:n-n%in.width]
		if len(whole) > 0 {
			if p.before != nil {
				p.before(in, arrived)
			}
			if p.swap {
				swapIQ(whole, in.format)
			}
			if err := p.clock.put(in, whole, arrived); err != nil {
				return err
			}
		}
		p.kept = copy(p.buf, p.buf[len(whole):n])
		if err != nil {
			return err
		}
	}
}

// declare hands on what a program said. Where it did not say how much is missing, a new segment begins, and the clock finds out.
func declare(in *intake, heard remark) {
	if heard == (remark{}) {
		return
	}
	tuning, _ := in.applied()
	n := heard.samples + heard.bytes/uint64(in.width) + uint64(math.Round(heard.time.Seconds()*tuning.SampleRateHz))
	if n == 0 {
		in.begin(tuning, 0)
	}
	in.lost(n, false, said)
}

// swapIQ swaps I and Q of whole samples.
func swapIQ(raw []byte, format dsp.Format) {
	switch format.BytesPerSample() {
	case 2:
		for i := 0; i+1 < len(raw); i += 2 {
			raw[i], raw[i+1] = raw[i+1], raw[i]
		}
	case 4:
		for ; len(raw) >= 4; raw = raw[4:] {
			binary.LittleEndian.PutUint32(raw, bits.RotateLeft32(binary.LittleEndian.Uint32(raw), 16))
		}
	case 8:
		for ; len(raw) >= 8; raw = raw[8:] {
			binary.LittleEndian.PutUint64(raw, bits.RotateLeft64(binary.LittleEndian.Uint64(raw), 32))
		}
	}
}
