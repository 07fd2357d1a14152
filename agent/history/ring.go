// Package history keeps the most recent raw IQ of one receiver in memory, addressed by time.
//
// A Ring holds the bytes as the receiver delivered them, in one allocation of a fixed size, with an index of the blocks
// beside it. One goroutine appends; any number of Readers copy stretches out, each at its own pace, and may wait for samples
// still to come. A Reader that falls a whole ring behind is told so and never sees mixed samples. Gaps, segments and
// tunings stay as they were in the blocks.
//
// Stretches around emissions can be held: they stay when the ring moves past them. Nothing is copied for that. The memory is
// cut into pages; the ring gives its oldest page up for the newest samples, unless a held stretch lies in it. Held pages
// are at most a quarter of all, so that the ring never falls below three quarters of its size. A held stretch is read
// like any other. What lies between two of them is gone: a stretch that reaches into it is refused, never joined.
package history

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/dsp"
	"github.com/fulgidus/heimdall/protocol"
)

// DefaultLimitBytes is a ring's size when none is configured.
const DefaultLimitBytes = 64 << 20

// How much earlier than the end of the last block, or later than the samples lost between them explain, a block may begin
// before the clock counts as set that its time was read from. Time stamps that are fitted anew move by less, and a retune
// takes less.
const (
	setBack    = 50 * time.Millisecond
	setForward = time.Second
)

// rounding is how far two statements of one sample's time may be apart, counted from different blocks.
const rounding = time.Nanosecond

// ErrOverwritten says that the samples a Reader wanted next have made room for newer ones, or that the ring was cleared.
var ErrOverwritten = errors.New("the history has moved past these samples")

// ExceededError says that a stretch is not, or not whole, in the history.
type ExceededError struct {
	Asked time.Time
	// From is the time of the ring's oldest sample: all since then are there.
	From time.Time
	// HeldFrom and HeldTo bound the stretch before that which is held around emissions and is nearest to what was asked: the
	// time of its first sample, and that just after its last. Zero when there is none.
	HeldFrom, HeldTo time.Time
}

func (e *ExceededError) Error() string {
	const layout = time.RFC3339Nano
	if e.HeldFrom.IsZero() {
		return fmt.Sprintf("%s is %s before the history begins, at %s", e.Asked.UTC().Format(layout),
			e.From.Sub(e.Asked).Round(time.Millisecond), e.From.UTC().Format(layout))
	}
	return fmt.Sprintf("the stretch at %s is not whole in the history: of what was before %s, %s to %s is held", e.Asked.UTC().Format(layout),
		e.From.UTC().Format(layout), e.HeldFrom.UTC().Format(layout), e.HeldTo.UTC().Format(layout))
}

// entry describes one block in the ring. It holds no pointer, so that the index costs the garbage collector nothing.
type entry struct {
	at          uint64 // absolute position of its first byte
	index       uint64
	lostBefore  uint64
	timeNs      int64
	uncertainty time.Duration
	tuning      radio.Tuning
	segment     uint32
	samples     uint32
	quality     protocol.TimeQuality
	format      dsp.Format
	flags       radio.Flags
	lostExact   bool
}

// Ring is the recent past of one receiver. Its methods may be called from any goroutine.
type Ring struct {
	size  sizes
	lasts time.Duration // how long a held stretch stays; 0: none is held

	// mu guards all fields below.
	mu    sync.Mutex
	data  []byte
	pages []*page // in use, by number: the first kept ones have left the ring, the others are the ring and follow one another
	kept  int
	order []*page // what pages moves through: twice as many fit
	spare []*page
	head  uint64 // absolute position of the next byte
	// nextPage and next are the numbers of the page and of the block that come next.
	nextPage, next uint64
	newest         entry     // of the last block; not set while there are no pages
	holds, growing []*hold   // all, and those that new blocks are added to
	due            time.Time // before then no hold has lasted its time
	ended          bool
	changed        chan struct{} // closed when something changes; nil while nobody waits
}

// New makes a ring of a fixed size that holds no stretches; 0 or less is DefaultLimitBytes. Memory is taken with the first
// block.
func New(limitBytes int) *Ring { return NewHolding(limitBytes, 0) }

// NewHolding makes a ring that keeps each stretch it is told to Hold for so long, within a quarter of its size.
func NewHolding(limitBytes int, lasts time.Duration) *Ring {
	if limitBytes <= 0 {
		limitBytes = DefaultLimitBytes
	}
	return &Ring{size: sizesOf(max(limitBytes, leastBytes), lasts > 0), lasts: lasts}
}

// LeastBytes is how much the ring itself always holds once it is full, whatever is held beside it.
func (r *Ring) LeastBytes() int { return r.size.block }

// Append copies a block into the ring, over the oldest ones. A block without samples, or without a known format or rate, is
// not kept; of one larger than the ring the end is kept. When the times of a receiver jump, because the clock was set that
// they are read from, what is there already is forgotten, held or not: a time must not name two samples, nor one that it is
// not of.
func (r *Ring) Append(b *radio.Block) {
	width := b.Format.BytesPerSample()
	if width == 0 || b.Samples() == 0 || !(b.Tuning.SampleRateHz > 0) {
		return
	}
	skip := max(0, b.Samples()-r.size.block/width)
	raw := b.Raw[skip*width : b.Samples()*width]

	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.pages) > 0 && r.jumped(b) {
		r.forget()
	}
	r.reserve(len(raw))
	r.newest = entry{
		at:          r.head,
		index:       b.Index + uint64(skip),
		lostBefore:  b.LostBefore,
		timeNs:      b.Time.Add(radio.SamplesDuration(float64(skip), b.Tuning.SampleRateHz)).UnixNano(),
		uncertainty: b.TimeUncertainty,
		tuning:      b.Tuning,
		segment:     b.Segment,
		samples:     uint32(len(raw) / width),
		quality:     b.TimeQuality,
		format:      b.Format,
		flags:       b.Flags,
		lostExact:   b.LostExact,
	}
	r.write(raw)
	r.next++
	r.tend()
	r.ended = false
	r.wake()
}

// jumped tells whether a block's time does not follow from that of the newest one. The caller holds mu.
func (r *Ring) jumped(b *radio.Block) bool {
	ahead := b.Time.Sub(r.newest.end()) - radio.SamplesDuration(float64(b.LostBefore), b.Tuning.SampleRateHz)
	return ahead < -setBack || ahead > setForward
}

// wake tells waiting readers to look again. The caller holds mu.
func (r *Ring) wake() {
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

// waiting is a channel that is closed when something changes. The caller holds mu.
func (r *Ring) waiting() <-chan struct{} {
	if r.changed == nil {
		r.changed = make(chan struct{})
	}
	return r.changed
}

// Clear forgets all samples, also held ones, as a station does that is paused. Readers under way get ErrOverwritten.
func (r *Ring) Clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.data)
	r.forget()
	r.wake()
}

// End says that no further samples will come: readers that reach the end get io.EOF instead of waiting. A later Append
// takes it back.
func (r *Ring) End() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	r.wake()
}

// Span describes what the ring itself has: everything, back from the newest sample.
type Span struct {
	From time.Time // of the oldest sample
	To   time.Time // just after the newest
	// Bytes, Blocks: how much there is; 0 means that the rest is not set.
	Bytes, Blocks int
	// Tuning and Format are those of the newest sample.
	Tuning radio.Tuning
	Format dsp.Format
}

// Duration is how far back the ring reaches.
func (s Span) Duration() time.Duration { return s.To.Sub(s.From) }

// Span says what the ring has now. Held stretches that it has moved past are not part of it.
func (r *Ring) Span() Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	for number, oldest := range r.blocks(r.oldest()) {
		return Span{
			From:   oldest.timeOf(0),
			To:     r.newest.end(),
			Bytes:  int(r.head - oldest.at),
			Blocks: int(r.next - number),
			Tuning: r.newest.tuning,
			Format: r.newest.format,
		}
	}
	return Span{}
}

// TuningAt is the tuning of the first sample whose time is not before t, or of the newest sample when t is still to come.
// It is false while the ring is empty.
func (r *Ring) TuningAt(t time.Time) (radio.Tuning, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.pages) == 0 {
		return radio.Tuning{}, false
	}
	for _, e := range r.blocks(0) {
		if e.find(t) < int(e.samples) {
			return e.tuning, true
		}
	}
	return r.newest.tuning, true
}

// timeOf is the time of the block's k-th sample.
func (e *entry) timeOf(k int) time.Time {
	return time.Unix(0, e.timeNs).UTC().Add(radio.SamplesDuration(float64(k), e.tuning.SampleRateHz))
}

// end is the time just after its last sample.
func (e *entry) end() time.Time { return e.timeOf(int(e.samples)) }

// bytes is how many it has.
func (e *entry) bytes() uint64 { return uint64(e.samples) * uint64(e.format.BytesPerSample()) }

// find is the number of the first sample whose time is not before t; the block's length when there is none.
func (e *entry) find(t time.Time) int {
	wait := t.Sub(time.Unix(0, e.timeNs)) - rounding
	if wait <= 0 {
		return 0
	}
	near := wait.Seconds() * e.tuning.SampleRateHz
	if near > float64(e.samples)+1 {
		return int(e.samples)
	}
	// Times are whole nanoseconds: look for the sample by its time as it is stated, beside the computed one.
	k := max(0, int(near)-1)
	for k < int(e.samples) && radio.SamplesDuration(float64(k), e.tuning.SampleRateHz) < wait {
		k++
	}
	return k
}
