package history

import (
	"context"
	"io"
	"time"

	"github.com/fulgidus/heimdall/agent/radio"
)

// Reader walks through a Ring sample by sample, forward from where it was put. It is for one goroutine; several Readers
// of one Ring do not disturb one another.
type Reader struct {
	ring  *Ring
	block uint64 // number of the block that holds the next sample
	skip  int    // samples of it that are behind
}

// Seek puts a Reader before the first sample whose time is not before start, and waits until there is one. It returns an
// *ExceededError when a sample that is no longer there, or never was, could have been the one, io.EOF when the recording ended before
// start, and the context's error.
func (r *Ring) Seek(ctx context.Context, start time.Time) (*Reader, error) {
	var looked uint64 // blocks before this number end too early
	begun := false
	for {
		r.mu.Lock()
		if !begun && r.first < r.next {
			begun = true
			oldest := r.entry(r.first)
			if from := oldest.timeOf(0); from.Sub(start) >= radio.SamplesDuration(1, oldest.tuning.SampleRateHz) {
				r.mu.Unlock()
				return nil, &ExceededError{Asked: start, From: from}
			}
		}
		for looked = max(looked, r.first); looked < r.next; looked++ {
			e := r.entry(looked)
			if k := e.find(start); k < int(e.samples) {
				r.mu.Unlock()
				return &Reader{ring: r, block: looked, skip: k}, nil
			}
		}
		if r.ended {
			r.mu.Unlock()
			return nil, io.EOF
		}
		changed := r.waiting()
		r.mu.Unlock()

		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Back moves the Reader up to n samples towards the past, not across lost samples, a new segment or the oldest sample.
// It returns how many samples it moved.
func (rd *Reader) Back(n int) int {
	r := rd.ring
	r.mu.Lock()
	defer r.mu.Unlock()
	moved := 0
	for moved < n && rd.block >= r.first {
		if rd.skip > 0 {
			k := min(rd.skip, n-moved)
			rd.skip -= k
			moved += k
			continue
		}
		if rd.block == r.first {
			break
		}
		before := r.entry(rd.block - 1)
		if rd.block < r.next {
			here := r.entry(rd.block)
			if before.segment != here.segment || before.index+uint64(before.samples) != here.index {
				break
			}
		}
		rd.block--
		rd.skip = int(before.samples)
	}
	return moved
}

// Next copies the next samples, at most limit of them and all from one block, into b, whose Raw is reused when it is large
// enough. It waits while there are none. It returns ErrOverwritten when they are gone, io.EOF after End, and the context's
// error.
func (rd *Reader) Next(ctx context.Context, b *radio.Block, limit int) error {
	r := rd.ring
	for {
		r.mu.Lock()
		if rd.block < r.first {
			r.mu.Unlock()
			return ErrOverwritten
		}
		if rd.block < r.next {
			rd.copyTo(b, max(limit, 1))
			r.mu.Unlock()
			return nil
		}
		if r.ended {
			r.mu.Unlock()
			return io.EOF
		}
		changed := r.waiting()
		r.mu.Unlock()

		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// copyTo fills b from the reader's block and moves on. The caller holds the ring's mu.
func (rd *Reader) copyTo(b *radio.Block, limit int) {
	r := rd.ring
	e := r.entry(rd.block)
	n := min(limit, int(e.samples)-rd.skip)
	width := e.format.BytesPerSample()
	raw := b.Raw[:0]
	at := int((e.at + uint64(rd.skip*width)) % uint64(r.limit))
	end := min(at+n*width, r.limit)
	raw = append(raw, r.data[at:end]...)
	raw = append(raw, r.data[:n*width-(end-at)]...)

	*b = radio.Block{
		Raw:             raw,
		Format:          e.format,
		Segment:         e.segment,
		Index:           e.index + uint64(rd.skip),
		Time:            e.timeOf(rd.skip),
		TimeUncertainty: e.uncertainty,
		TimeQuality:     e.quality,
		Tuning:          e.tuning,
		Flags:           e.flags,
	}
	if rd.skip == 0 {
		b.LostBefore, b.LostExact = e.lostBefore, e.lostExact
	}
	rd.skip += n
	if rd.skip == int(e.samples) {
		rd.block, rd.skip = rd.block+1, 0
	}
}
