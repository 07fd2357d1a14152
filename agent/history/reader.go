package history

import (
	"context"
	"io"
	"math"
	"sort"
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

// search looks for the first sample whose time is not before start, block by block.
type search struct {
	start time.Time
	next  uint64 // number of the block to look at next
	begun bool
}

// find goes on with a search. The caller holds mu.
func (r *Ring) find(s *search) (block uint64, skip int, found bool, err error) {
	if !s.begun {
		r.skip(s)
	}
	for n, e := range r.blocks(s.next) {
		// Behind a hole, the sample may have been one that is gone.
		if (!s.begun || n != s.next) && e.timeOf(0).Sub(s.start) >= radio.SamplesDuration(1, e.tuning.SampleRateHz) {
			return 0, 0, false, r.exceeded(s.start)
		}
		s.begun, s.next = true, n+1
		if k := e.find(s.start); k < int(e.samples) {
			return n, k, true, nil
		}
	}
	return 0, 0, false, nil
}

// skip begins a search within the ring, where it is for samples that the ring has. The caller holds mu.
func (r *Ring) skip(s *search) {
	oldest := r.oldest()
	if e, _ := r.block(oldest); e == nil || s.start.Before(e.timeOf(0)) {
		return
	}
	s.begun = true
	s.next = oldest + uint64(sort.Search(int(r.next-oldest), func(k int) bool {
		e, _ := r.block(oldest + uint64(k))
		return e.end().After(s.start)
	}))
}

// Seek puts a Reader before the first sample whose time is not before start, and waits until there is one. It returns an
// *ExceededError when a sample that is no longer there, or never was, could have been the one, io.EOF when the recording ended before
// start, and the context's error.
func (r *Ring) Seek(ctx context.Context, start time.Time) (*Reader, error) {
	s := search{start: start}
	for {
		r.mu.Lock()
		block, skip, found, err := r.find(&s)
		if err == nil && !found && r.ended {
			err = io.EOF
		}
		if err != nil || found {
			r.mu.Unlock()
			if err != nil {
				return nil, err
			}
			return &Reader{ring: r, block: block, skip: skip}, nil
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

// Reach returns an *ExceededError unless the history holds a stretch whole: the first sample whose time is not before start,
// and all that were heard of the duration from it on. What is still to come does not count.
func (r *Ring) Reach(start time.Time, duration time.Duration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	first, skip, found, err := r.find(&search{start: start})
	if err != nil || !found {
		return err
	}
	var end uint64 // index after the last sample
	next := first
	for n, e := range r.blocks(first) {
		if n == first {
			end = e.index + uint64(skip) + uint64(math.Round(duration.Seconds()*e.tuning.SampleRateHz))
		}
		if n != next {
			return r.exceeded(start)
		}
		if e.index+uint64(e.samples) >= end {
			return nil
		}
		next++
	}
	return nil
}

// Back moves the Reader up to n samples towards the past, not across lost samples, a new segment or a hole in what is held. It
// returns how many samples it moved.
func (rd *Reader) Back(n int) int {
	r := rd.ring
	r.mu.Lock()
	defer r.mu.Unlock()
	here, _ := r.block(rd.block)
	if here == nil && rd.block < r.next {
		return 0
	}
	moved := 0
	for moved < n {
		if rd.skip > 0 {
			k := min(rd.skip, n-moved)
			rd.skip -= k
			moved += k
			continue
		}
		before, _ := r.block(rd.block - 1)
		if before == nil || here != nil && (before.segment != here.segment || before.index+uint64(before.samples) != here.index) {
			break
		}
		rd.block--
		rd.skip, here = int(before.samples), before
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
		if e, at := r.block(rd.block); e != nil {
			rd.copyTo(b, max(limit, 1), e, at)
			r.mu.Unlock()
			return nil
		}
		gone, ended := rd.block < r.next, r.ended
		if gone || ended {
			r.mu.Unlock()
			if gone {
				return ErrOverwritten
			}
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

// copyTo fills b from the reader's block, which begins in the page at that place, and moves on. The caller holds the ring's mu.
func (rd *Reader) copyTo(b *radio.Block, limit int, e *entry, page int) {
	n := min(limit, int(e.samples)-rd.skip)
	width := e.format.BytesPerSample()
	raw := rd.ring.read(b.Raw[:0], page, e.at+uint64(rd.skip*width), n*width)

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
