package recorder

import (
	"context"
	"errors"
	"io"
	"math"
	"time"

	"github.com/fulgidus/heimdall/agent/history"
	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/dsp"
	"github.com/fulgidus/heimdall/protocol"
)

// pieceSamples is the most samples that are taken out of the history at once.
const pieceSamples = 16384

// mostLate is how much later than asked a capture may begin where no samples were lost: a retune takes less. More is a jump of
// the clock that times are read from, and nobody knows which samples were of the time asked.
const mostLate = time.Second

// errSilent: samples that were due did not come.
var errSilent = errors.New("no samples")

// frame is what the first sample decides for the whole capture.
type frame struct {
	start    time.Time // of the first sample
	index    uint64    // of the receiver's sample it is, or is centred on
	tuning   radio.Tuning
	source   dsp.Format // the receiver's
	format   dsp.Format // the capture's
	centerHz float64
	rateHz   float64 // the capture's
	scale    float64 // 0: as the receiver's
	count    uint64  // of the capture's samples, lost ones included
	every    uint64  // receiver's samples a sample of the capture
}

// shaper turns the receiver's samples into the capture's.
type shaper interface {
	// before and after are how many of the receiver's samples it uses beside the capture's own.
	before() int
	after() uint64
	// write takes a block that follows the last one without a gap, or begins a new run.
	write(ctx context.Context, b *radio.Block, newRun bool) error
	// finish gives out what is left of the last run.
	finish(ctx context.Context) error
	// span is how many of the capture's samples lie between the first and the end of the last.
	span() uint64
}

// cut does the capture. short says why it ends early, when it still holds samples.
func (r *run) cut(ctx context.Context) (m *protocol.CaptureManifest, short *refusal, err error) {
	reader, err := r.seek(ctx, r.job.start)
	if err != nil {
		return nil, nil, r.silence(err)
	}
	next, stop := r.watch(ctx, reader)
	defer stop()
	f, err := r.frame(reader, next)
	if err != nil {
		return nil, nil, r.silence(err)
	}
	out, err := newOutput(r, f)
	if err != nil {
		return nil, nil, err
	}
	r.work = work{turns: r.turns, channel: r.job.bandwidthHz > 0}
	r.peers = r.cutting.Add(1)
	defer r.cutting.Add(-1)
	var shape shaper = &passband{out: out, frame: f, next: f.index}
	if r.job.bandwidthHz > 0 {
		if shape, err = newChannel(r, out, f); err != nil {
			return nil, nil, err
		}
	}
	if err := r.progress(ctx, protocol.Reply_STATE_CAPTURING, 0, ""); err != nil {
		return nil, nil, err
	}
	reader.Back(shape.before())

	err = r.stream(ctx, next, f, shape, out)
	r.peers = max(r.peers, r.cutting.Load()) // more may have begun since
	r.release(r.job)                         // what is left takes the disk's time
	if errors.As(r.silence(err), &short) {
		err = nil
	}
	if err == nil {
		err = shape.finish(ctx)
	}
	if err == nil {
		err = out.flush(ctx)
	}
	if err == nil && short != nil && out.samples == 0 {
		err = short
	}
	if err == nil && r.job.iq {
		err = r.progress(ctx, protocol.Reply_STATE_UPLOADING, 0.5, "")
	}
	if err != nil {
		return nil, nil, err
	}
	return out.manifest(f, shape.span()), short, nil
}

// watch gives a way to read on that does not wait for ever. Time counts only while samples are waited for: a slow disk is not the
// receiver's silence.
func (r *run) watch(ctx context.Context, reader *history.Reader) (next func(*radio.Block, int) error, stop func()) {
	reading, cancel := context.WithCancelCause(ctx)
	watch := time.AfterFunc(r.set.Patience, func() { cancel(errSilent) })
	watch.Stop()
	next = func(b *radio.Block, limit int) error {
		watch.Reset(r.set.Patience)
		defer watch.Stop()
		return reader.Next(reading, b, limit)
	}
	return next, func() { cancel(nil) }
}

// seek waits for the first sample of a time. When it is overdue and samples did come, the clock that their times are read from
// was set back: then it waits for as long as it takes now.
func (r *run) seek(ctx context.Context, at time.Time) (*history.Reader, error) {
	ring := r.job.receiver.History
	for {
		before := ring.Span().To
		reading, stop := context.WithTimeoutCause(ctx, r.wait(at), errSilent)
		reader, err := ring.Seek(reading, at)
		stop()
		if now := ring.Span().To; !errors.Is(err, errSilent) || now.Equal(before) || now.After(at) {
			return reader, err
		}
	}
}

// wait is how long the first sample of a time may take. A receiver whose samples come late is given that time too.
func (r *run) wait(at time.Time) time.Duration {
	newest := r.job.receiver.History.Span().To
	if newest.IsZero() {
		newest = r.set.Now()
	}
	return max(0, at.Sub(newest)) + r.set.Patience
}

// silence names the ways in which a receiver can stop delivering.
func (r *run) silence(err error) error {
	switch {
	case errors.Is(err, errSilent):
		return refuse(ReasonNoSamples, "receiver %q delivered no samples for %v", r.job.receiver.ID, r.set.Patience)
	case errors.Is(err, io.EOF):
		return refuse(ReasonNoSamples, "the recording that receiver %q plays ended", r.job.receiver.ID)
	}
	return err
}

// counts tells whether samples may be a capture's: they have settled, and where the receiver was reserved, it is there.
func (j *job) counts(b *radio.Block) bool {
	return b.Flags&radio.Settling == 0 && (j.reserved == nil || b.Tuning.Near(j.tuning))
}

// settled brings the reader to the first sample that counts, which is also b's.
func (r *run) settled(reader *history.Reader, b *radio.Block, next func(*radio.Block, int) error) error {
	j := r.job
	here := *reader
	if err := next(b, 1); err != nil {
		return err
	}
	if late := b.Time.Sub(j.start); late > mostLate && b.LostBefore == 0 {
		return refuse(ReasonClockUncertain, "the clock of this station was set while it heard %s: the first sample after it is %v late: order another time",
			j.start.UTC().Format(time.RFC3339Nano), late.Round(time.Millisecond))
	}
	for !j.counts(b) {
		if !b.End().Before(j.end()) {
			return refuse(ReasonNoSamples, "receiver %q was not at %s in time", j.receiver.ID, j.band())
		}
		here = *reader
		if err := next(b, pieceSamples); err != nil {
			return err
		}
	}
	*reader = here
	return nil
}

// frame looks at the first sample that counts, without using it up.
func (r *run) frame(reader *history.Reader, next func(*radio.Block, int) error) (*frame, error) {
	var b radio.Block
	if err := r.settled(reader, &b, next); err != nil {
		return nil, err
	}
	j := r.job
	j.info.Tuning, j.info.Format = b.Tuning, b.Format
	if no := r.admits(j); no != nil {
		return nil, no
	}
	f := &frame{
		start: b.Time, index: b.Index, tuning: b.Tuning, source: b.Format,
		format: b.Format, centerHz: b.Tuning.CenterHz, rateHz: b.Tuning.SampleRateHz, every: 1,
	}
	if j.bandwidthHz > 0 {
		n, err := j.channel(f.rateHz, f.centerHz).Decimation()
		if err != nil {
			return nil, refuse(ReasonBadBandwidth, "bandwidth_hz: %v", err)
		}
		f.format, f.centerHz, f.rateHz, f.every = dsp.CS16, j.centerHz, f.rateHz/float64(n), uint64(n)
	}
	// Where the stretch begins in a gap, its first samples are missing: it does not last longer for that.
	// Both times are rounded to the nanosecond.
	missing := math.Floor((f.start.Sub(j.start).Seconds() + 2e-9) * f.rateHz)
	count := max(1, math.Round(j.duration*f.rateHz)) - max(0, missing)
	if count < 1 {
		return nil, refuse(ReasonNoSamples, "receiver %q lost every sample of the stretch", j.receiver.ID)
	}
	f.count = uint64(count)
	return f, nil
}

// stream feeds the receiver's samples, as next delivers them, to the shaper until it has them all.
func (r *run) stream(ctx context.Context, next func(*radio.Block, int) error, f *frame, shape shaper, out *output) error {
	own := f.index + (f.count-1)*f.every + 1 // index after the last sample that the capture is made of
	end := own + shape.after()
	over := r.job.end().Add(r.job.reach() + mostLate) // samples of another rate do not add up to end
	var b radio.Block
	var at, kept uint64 // indices that follow the last block, and the last one that counted
	var segment uint32
	exact := true // what was lost among those that did not is counted
	for first := true; first || at < end; {
		limit := uint64(pieceSamples)
		if !first {
			limit = min(limit, end-at)
		}
		err := next(&b, int(limit))
		if errors.Is(err, history.ErrOverwritten) && at >= own {
			return nil // what is held ends here
		}
		if err != nil {
			return err
		}
		switch {
		case !first && b.Index < at:
			return refuse(ReasonInternal, "receiver %q counted sample %d twice", r.job.receiver.ID, b.Index)
		case b.Index >= end:
			return nil // the end lies in a gap
		}
		at = b.Index + uint64(b.Samples())
		if !r.job.counts(&b) {
			if b.Time.After(over) {
				return refuse(ReasonRetuned, "receiver %q was not at %s any more", r.job.receiver.ID, r.job.band())
			}
			exact = exact && (b.LostBefore == 0 || b.LostExact)
			continue
		}
		if b.Format != f.source || math.Abs(b.Tuning.CenterHz-f.tuning.CenterHz) > 0.5 ||
			math.Abs(b.Tuning.SampleRateHz/f.tuning.SampleRateHz-1) > 1e-3 {
			return refuse(ReasonRetuned, "receiver %q was retuned to %s in the middle", r.job.receiver.ID, configs.Hertz(math.Round(b.Tuning.CenterHz)))
		}
		if beyond := int64(at) - int64(end); beyond > 0 {
			b.Raw = b.Raw[:len(b.Raw)-int(beyond)*b.Format.BytesPerSample()]
		}
		newRun := first || b.Segment != segment || b.Index != kept
		b.LostExact = b.LostExact && exact
		if err := r.compute(ctx, &b, newRun, shape, out); err != nil {
			return err
		}
		first, exact, kept, segment = false, true, b.Index+uint64(b.Samples()), b.Segment
	}
	return nil
}

// compute does, in its turn, what is to be done with a block.
func (r *run) compute(ctx context.Context, b *radio.Block, newRun bool, shape shaper, out *output) error {
	task := r.job.task
	r.load.look(r.turns)
	if err := r.work.begin(ctx, task.due(b.Time), b.Samples()); err != nil {
		return err
	}
	defer r.work.end()
	out.source(b)
	task.done.Store(b.End().UnixNano())
	return shape.write(ctx, b, newRun)
}

// passband hands the receiver's samples on as they are.
type passband struct {
	out   *output
	frame *frame
	begun bool
	next  uint64 // index that follows the last sample
}

func (p *passband) before() int   { return 0 }
func (p *passband) after() uint64 { return 0 }

func (p *passband) write(ctx context.Context, b *radio.Block, newRun bool) error {
	if newRun && p.begun {
		if err := p.out.gap(b.Index-p.next, b.LostExact, b.Time); err != nil {
			return err
		}
	}
	p.begun = true
	p.next = b.Index + uint64(b.Samples())
	measured := *b
	measured.Tuning = p.frame.tuning // one stretch, whatever the fit of the rate does meanwhile
	return p.out.write(ctx, b.Raw, b.Time, p.frame.rateHz, &measured)
}

func (p *passband) finish(context.Context) error { return nil }

func (p *passband) span() uint64 { return p.next - p.frame.index }
