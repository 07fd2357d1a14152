package radio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// fileReceiver plays a recording. It back-pressures: nothing is ever lost but what the recording lost.
type fileReceiver struct {
	source string
	path   string
	opts   Options
	real   bool          // deliver each block when its last sample's time has come
	shift  time.Duration // from the recorded to the live timeline
	anchor bool
	every  time.Duration // 0: play once
	start  time.Time     // stated for a file that carries no time

	rec    *recording
	block  int64         // samples of a block at most
	closed chan struct{} // closed by Close; no values

	// Where playing is. Only the goroutine that reads touches these.
	span    int
	sample  int64 // stored sample number of the next block
	repeat  int64
	index   uint64
	segment uint32
	begun   bool
	opened  time.Time // when the first sample was due when paced without an anchor; monotonic

	// mu guards health and the closing.
	mu     sync.Mutex
	health Health
	once   sync.Once
}

func openFile(source, rest string, opts Options) (Receiver, error) {
	p := newParams(source, rest)
	f := &fileReceiver{source: source, opts: opts, closed: make(chan struct{})}
	f.path = p.localPath()
	if format := p.format("format"); opts.Format == 0 {
		f.opts.Format = format
	}
	f.opts.RateHz = either(opts.RateHz, p.hertz("rate", minRateHz, maxRateHz))
	f.opts.CenterHz = either(opts.CenterHz, p.hertz("center", 0, maxHz))
	if hz := f.opts.RateHz; hz != 0 && !(hz >= minRateHz && hz <= maxRateHz) {
		p.fault("rate", formatHertz(hz), fmt.Sprintf("want %s to %s", formatHertz(minRateHz), formatHertz(maxRateHz)))
	}
	f.start = p.instant("time")
	if a, ok := p.take("anchor"); ok {
		recorded, live, two := strings.Cut(a, "@")
		if !two {
			p.fault("anchor", a, "want RECORDED@LIVE, such as 2017-11-27T10:42:00Z@2026-11-24T02:00:00Z")
		} else {
			f.anchor = true
			f.shift = p.parseInstant("anchor", live).Sub(p.parseInstant("anchor", recorded))
		}
	}
	pace := "fast"
	if f.anchor {
		pace = "real"
	}
	f.real = p.oneOf("pace", pace, "real", "fast") == "real"
	f.every = p.duration("every")
	if f.every > 0 && (!f.anchor || !f.real) {
		p.fault("every", p.values["every"], "needs anchor=RECORDED@LIVE and pace=real: without them there is no clock to repeat by")
	}
	if err := p.finish(); err != nil {
		return nil, err
	}
	return f, nil
}

// Open reads the recording's description.
func (f *fileReceiver) Open(ctx context.Context) (Info, error) {
	if err := ctx.Err(); err != nil {
		return Info{}, err
	}
	select {
	case <-f.closed:
		return Info{}, ErrClosed
	default:
	}
	rec, err := openRecording(f.path, f.opts)
	if err != nil {
		return Info{}, err
	}
	f.rec = rec
	if err := f.place(); err != nil {
		return Info{}, errors.Join(err, rec.data.Close())
	}
	f.block = int64(blockLength(f.opts.BlockSamples, rec.rateHz))
	for _, note := range rec.notes {
		f.opts.Log.WarnContext(ctx, "recording is not quite as it should be", "path", f.path, "note", note)
	}
	f.mu.Lock()
	f.health = Health{Connected: true, Lost: map[string]uint64{}, RatePPM: math.NaN()}
	f.mu.Unlock()
	info := Info{
		Source: f.source, Hardware: "file " + filepath.Base(f.path), Format: rec.format,
		Tuning:   Tuning{CenterHz: rec.centerHz, SampleRateHz: rec.rateHz, GainDB: math.NaN()},
		Timeline: f.anchor && f.real, MaskDC: rec.maskDC, TimeQuality: rec.quality, Samples: uint64(rec.stored),
		Notes: rec.notes,
	}
	if first := &rec.spans[0]; first.line.known() {
		info.Start = first.at(first.first).Add(f.shift)
	}
	if !rec.firstStamp.IsZero() {
		info.FirstStamp = rec.firstStamp.Add(f.shift)
	}
	return info, nil
}

// place checks the recording against the parameters and finds where playing begins.
func (f *fileReceiver) place() error {
	r := f.rec
	if !f.start.IsZero() {
		if r.spans[0].line.known() {
			return r.fault("time", f.start.Format(time.RFC3339), "the recording carries its own time: leave it out")
		}
		r.stateTime(f.start)
	}
	if !f.anchor {
		return nil
	}
	for i := range r.spans {
		if !r.spans[i].line.known() {
			return r.fault("anchor", "", "the recording carries no time to anchor: say when its first sample was taken with time=2026-11-24T02:00:00Z")
		}
	}
	first, last := &r.spans[0], &r.spans[len(r.spans)-1]
	length := last.at(last.first + last.samples).Sub(first.at(first.first))
	if f.every > 0 && f.every < length {
		return r.fault("every", f.every.String(), fmt.Sprintf("shorter than the recording, want at least %s", length))
	}
	if f.real {
		now, _, _ := f.opts.Wall()
		f.seek(now)
	}
	return nil
}

// live is when a stored sample of the current repeat is played.
func (f *fileReceiver) live(s *span, sample int64) time.Time {
	return s.at(sample).Add(f.shift + time.Duration(f.repeat)*f.every)
}

// seek goes to the first sample that is not yet past.
func (f *fileReceiver) seek(now time.Time) {
	first := &f.rec.spans[0]
	if past := now.Sub(f.live(first, first.first)); f.every > 0 && past > 0 {
		f.repeat = int64(past / f.every)
	}
	for i := range f.rec.spans {
		s := &f.rec.spans[i]
		if !f.live(s, s.first+s.samples).After(now) {
			continue
		}
		f.rec.sum = nil // not from the beginning
		f.span, f.sample = i, s.first
		wanted := s.line.firstAt(now.Add(-f.shift-time.Duration(f.repeat)*f.every)) - s.shift
		f.sample = min(max(wanted, s.first), s.first+s.samples)
		return
	}
	f.rec.sum = nil
	f.span, f.sample = len(f.rec.spans), f.rec.stored
	last := &f.rec.spans[f.span-1]
	if over := f.live(last, f.sample); f.every == 0 {
		f.rec.note("the recording was over at %s on the anchored timeline: choose a later anchor, or repeat it with every=30s", over.Format(time.RFC3339))
	}
}

// next goes on to the next span, and round to the beginning when the recording repeats. It returns io.EOF at the end,
// with a Fault when the data was not what its description promises.
func (f *fileReceiver) next(ctx context.Context) error {
	for f.span < len(f.rec.spans) {
		s := &f.rec.spans[f.span]
		if f.sample < s.first+s.samples {
			return nil
		}
		f.span++
		if f.span < len(f.rec.spans) {
			f.enter(&f.rec.spans[f.span])
		}
	}
	err := f.rec.verify()
	switch {
	case f.every == 0 && err == nil:
		return io.EOF
	case f.every == 0:
		return errors.Join(io.EOF, err)
	case err != nil:
		f.opts.Log.WarnContext(ctx, "recording is not quite as it should be", "path", f.path, "error", err)
	}
	f.repeat++
	f.span, f.sample = 0, f.rec.spans[0].first
	f.segment++
	return nil
}

// enter begins a span that follows on another one.
func (f *fileReceiver) enter(s *span) {
	f.sample = s.first
	f.index += uint64(s.lost)
	if s.segment {
		f.segment++
	}
	if s.lost > 0 {
		f.mu.Lock()
		f.health.Lost["recording"] += uint64(s.lost)
		f.mu.Unlock()
	}
}

// Read delivers the next block.
func (f *fileReceiver) Read(ctx context.Context, b *Block) error {
	if err := f.usable(ctx); err != nil {
		return err
	}
	if err := f.next(ctx); err != nil {
		return err
	}
	s := &f.rec.spans[f.span]
	n := min(f.block, s.first+s.samples-f.sample)
	if err := f.pace(ctx, s, n); err != nil {
		return err
	}
	size := int(n) * f.rec.format.BytesPerSample()
	if cap(b.Raw) < size {
		b.Raw = make([]byte, size)
	}
	b.Raw = b.Raw[:size]
	if err := f.rec.readSamples(b.Raw, f.sample); err != nil {
		if closed := f.usable(ctx); closed != nil {
			return closed
		}
		return fmt.Errorf("read recording %s: %w", f.path, err)
	}
	f.describe(b, s, n)
	f.sample += n
	f.index += uint64(n)
	f.begun = true
	f.mu.Lock()
	f.health.SamplesTotal += uint64(n)
	f.mu.Unlock()
	return nil
}

func (f *fileReceiver) describe(b *Block, s *span, n int64) {
	b.Format, b.Segment, b.Index = f.rec.format, f.segment, f.index
	b.Time, b.TimeUncertainty, b.TimeQuality = time.Unix(0, 0).UTC(), s.uncertainty, s.quality
	if s.line.known() {
		b.Time = f.live(s, f.sample)
	} else {
		b.Time = b.Time.Add(SamplesDuration(float64(f.index), s.rateHz))
		b.TimeQuality = protocol.TimeQuality_TIME_QUALITY_UNSET
	}
	b.Tuning = Tuning{CenterHz: s.centerHz, SampleRateHz: s.rateHz, GainDB: math.NaN()}
	b.LostBefore, b.LostExact, b.Flags = 0, true, 0
	if f.begun && f.sample == s.first && f.span > 0 {
		b.LostBefore, b.LostExact = uint64(s.lost), s.exact
	}
	if s.refused {
		b.Flags |= StampsRefused
	}
	if f.rec.oddTail && f.sample+n == f.rec.stored {
		b.Flags |= OddTail
	}
}

// usable returns ErrClosed or the context's error.
func (f *fileReceiver) usable(ctx context.Context) error {
	select {
	case <-f.closed:
		return ErrClosed
	default:
	}
	if f.rec == nil {
		return fmt.Errorf("read %s before Open: %w", f.source, ErrClosed)
	}
	return ctx.Err()
}

// pace waits until the last sample of a block has been played.
func (f *fileReceiver) pace(ctx context.Context, s *span, n int64) error {
	if !f.real {
		return nil
	}
	if f.anchor {
		return waitUntil(ctx, f.closed, f.opts.Wall, f.live(s, f.sample+n))
	}
	if f.opened.IsZero() {
		f.opened = time.Now()
	}
	due := f.opened.Add(SamplesDuration(float64(f.index)+float64(n), s.rateHz))
	return wait(ctx, f.closed, time.Until(due))
}

// Tune refuses what the recording does not have.
func (f *fileReceiver) Tune(ctx context.Context, _ Tuning) error {
	if err := f.usable(ctx); err != nil {
		return err
	}
	return fmt.Errorf("tune %s: %w", f.source, ErrNotTunable)
}

// Health tells how many samples were played.
func (f *fileReceiver) Health() Health {
	f.mu.Lock()
	defer f.mu.Unlock()
	h := f.health
	h.Lost = maps.Clone(f.health.Lost)
	return h
}

// Close ends a blocked Read. It may be called more than once.
func (f *fileReceiver) Close() error {
	var err error
	f.once.Do(func() {
		close(f.closed)
		f.mu.Lock()
		f.health.Connected = false
		f.mu.Unlock()
		if f.rec != nil {
			err = f.rec.data.Close()
		}
	})
	return err
}
