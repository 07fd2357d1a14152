// Package history keeps the most recent raw IQ of one receiver in memory, addressed by time.
//
// A Ring holds the bytes as the receiver delivered them, in one allocation of a fixed size, with an index of the blocks
// beside it. One goroutine appends; any number of Readers copy stretches out, each at its own pace, and may wait for samples
// still to come. A Reader that falls a whole ring behind is told so and never sees mixed samples. Gaps, segments and
// tunings stay as they were in the blocks.
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

// bytesAnEntry bounds the index: with blocks smaller than this on average, the ring reaches back less than its bytes would
// allow. A KiwiSDR's blocks, the smallest there are, have 2048 bytes.
const bytesAnEntry = 1024

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

// ExceededError says that a stretch begins before the history does.
type ExceededError struct {
	Asked time.Time
	From  time.Time // time of the oldest sample there is
}

func (e *ExceededError) Error() string {
	return fmt.Sprintf("%s is %s before the history begins, at %s", e.Asked.UTC().Format(time.RFC3339Nano),
		e.From.Sub(e.Asked).Round(time.Millisecond), e.From.UTC().Format(time.RFC3339Nano))
}

// entry describes one block in the ring. It holds no pointer, so that the index costs the garbage collector nothing.
type entry struct {
	at          uint64 // absolute position of its first byte; modulo the ring's size it is the place in data
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
	limit int

	// mu guards all fields below.
	mu      sync.Mutex
	data    []byte
	head    uint64  // absolute position of the next byte
	entries []entry // circular by block number; grows to its bound
	first   uint64  // number of the oldest block kept
	next    uint64  // number of the block that comes next
	ended   bool
	changed chan struct{} // closed when something changes; nil while nobody waits
}

// New makes a ring of a fixed size; 0 or less is DefaultLimitBytes. Memory is taken with the first block.
func New(limitBytes int) *Ring {
	if limitBytes <= 0 {
		limitBytes = DefaultLimitBytes
	}
	return &Ring{limit: max(limitBytes, 64)}
}

// Append copies a block into the ring, over the oldest ones. A block without samples, or without a known format or rate, is
// not kept; of one larger than the ring the end is kept. When the times of a receiver jump, because the clock was set that
// they are read from, what is there already is forgotten: a time must not name two samples, nor one that it is not of.
func (r *Ring) Append(b *radio.Block) {
	width := b.Format.BytesPerSample()
	if width == 0 || b.Samples() == 0 || !(b.Tuning.SampleRateHz > 0) {
		return
	}
	skip := max(0, b.Samples()-r.limit/width)
	raw := b.Raw[skip*width : b.Samples()*width]

	r.mu.Lock()
	defer r.mu.Unlock()
	if r.data == nil {
		r.data = make([]byte, r.limit)
	}
	if r.first < r.next && r.jumped(b) {
		r.first = r.next
	}
	r.makeRoom(len(raw))
	*r.entry(r.next) = entry{
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
	at := int(r.head % uint64(r.limit))
	n := copy(r.data[at:], raw)
	copy(r.data, raw[n:])
	r.head += uint64(len(raw))
	r.next++
	r.ended = false
	r.wake()
}

// jumped tells whether a block's time does not follow from that of the newest one. The caller holds mu.
func (r *Ring) jumped(b *radio.Block) bool {
	newest := r.entry(r.next - 1)
	ahead := b.Time.Sub(newest.timeOf(int(newest.samples))) - radio.SamplesDuration(float64(b.LostBefore), b.Tuning.SampleRateHz)
	return ahead < -setBack || ahead > setForward
}

// makeRoom forgets old blocks until size bytes and one more entry fit. The caller holds mu.
func (r *Ring) makeRoom(size int) {
	for r.first < r.next && r.head+uint64(size)-r.entry(r.first).at > uint64(r.limit) {
		r.first++
	}
	if r.next-r.first < uint64(len(r.entries)) {
		return
	}
	bound := r.limit/bytesAnEntry + 16
	if len(r.entries) >= bound {
		r.first++
		return
	}
	grown := make([]entry, min(max(2*len(r.entries), 64), bound))
	for n := r.first; n < r.next; n++ {
		grown[n%uint64(len(grown))] = *r.entry(n)
	}
	r.entries = grown
}

// entry is that of a block number, kept or about to be written. The caller holds mu.
func (r *Ring) entry(number uint64) *entry { return &r.entries[number%uint64(len(r.entries))] }

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

// Clear forgets all samples, as a station does that is paused. Readers under way get ErrOverwritten.
func (r *Ring) Clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.data)
	r.first = r.next
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

// Span describes what a ring holds.
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

// Span says what the ring holds now.
func (r *Ring) Span() Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.first == r.next {
		return Span{}
	}
	oldest, newest := r.entry(r.first), r.entry(r.next-1)
	return Span{
		From:   oldest.timeOf(0),
		To:     newest.timeOf(int(newest.samples)),
		Bytes:  int(r.head - oldest.at),
		Blocks: int(r.next - r.first),
		Tuning: newest.tuning,
		Format: newest.format,
	}
}

// TuningAt is the tuning of the first sample whose time is not before t, or of the newest sample when t is still to come.
// It is false while the ring is empty.
func (r *Ring) TuningAt(t time.Time) (radio.Tuning, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.first == r.next {
		return radio.Tuning{}, false
	}
	for n := r.first; n < r.next; n++ {
		if e := r.entry(n); e.find(t) < int(e.samples) {
			return e.tuning, true
		}
	}
	return r.entry(r.next - 1).tuning, true
}

// timeOf is the time of the block's k-th sample.
func (e *entry) timeOf(k int) time.Time {
	return time.Unix(0, e.timeNs).UTC().Add(radio.SamplesDuration(float64(k), e.tuning.SampleRateHz))
}

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
