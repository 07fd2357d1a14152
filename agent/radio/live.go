package radio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"sync"
	"time"
)

// wire is what one protocol does. A live makes a Receiver of it.
type wire interface {
	// connect reaches the source and agrees on a stream. The context bounds the attempt, not the connection. When it fails it
	// leaves nothing open.
	connect(ctx context.Context) (Info, error)
	// stream puts what comes into the intake until the connection ends, and says why. It returns soon after its context has
	// ended or close was called.
	stream(ctx context.Context, in *intake) error
	// tune asks for a tuning inside Info.Range that differs from what is; an unknown (NaN) gain stays as it is. It is called while
	// stream runs, which tells the intake what was applied. An error means that nothing was asked.
	tune(ctx context.Context, to Tuning) error
	// close ends the connection. It is called once, after connect has succeeded.
	close() error
}

// liveSettings say how a live source behaves.
type liveSettings struct {
	host    string        // whom to be polite to; empty: a program of this machine
	buffer  time.Duration // how far the reader may fall behind
	stall   time.Duration // so long without samples ends the connection; 0: silence is part of the protocol
	unpaced bool          // samples may come faster than their rate
	ends    bool          // io.EOF is its end, as that of a recording
}

// live is the half that all live receivers share: a goroutine that drains the connection into a bounded ring whether or not
// anybody reads, and one that watches it.
type live struct {
	source string // secrets removed
	opts   Options
	set    liveSettings
	wire   wire

	closed chan struct{} // closed by Close; no values
	once   sync.Once
	runs   sync.WaitGroup // stream and watch

	// Only the goroutine that opens, reads and tunes touches these.
	info  Info
	asked Tuning // last; what was applied where something else was since
	since uint32 // segment in which it was asked

	// mu guards the fields below, which Close and Health need too.
	mu        sync.Mutex
	in        *intake // nil before Open
	cancel    func()  // ends what is under way: the attempt to connect, or the stream
	connected bool    // the wire is to be closed
}

// Where samples of a live source come much faster than their rate, the rate is not what it is taken for.
const (
	surplusTime  = 2 * time.Second
	surplusShare = 1.1
)

func newLive(source string, opts Options, set liveSettings, w wire) *live {
	if set.buffer <= 0 {
		set.buffer = time.Second
	}
	return &live{source: source, opts: opts, set: set, wire: w, closed: make(chan struct{}), cancel: func() {}}
}

// Open connects, and begins to take samples in.
func (l *live) Open(ctx context.Context) (Info, error) {
	if err := ctx.Err(); err != nil {
		return Info{}, err
	}
	attempt, cancel := context.WithCancel(ctx)
	defer cancel()
	if !l.begin(cancel) {
		return Info{}, ErrClosed
	}
	if err := l.opts.Hosts.enter(l.set.host, l.source); err != nil {
		return Info{}, err
	}
	info, err := l.wire.connect(attempt)
	if err != nil {
		l.opts.Hosts.leave(l.set.host, err)
		if l.isClosed() {
			err = ErrClosed
		}
		return Info{}, l.ended(err)
	}
	info.Source, info.Live, info.Timeline = l.source, true, true
	return info, l.start(ctx, info)
}

// agreeOver has a wire agree on a stream over a connection just made. The end of the context breaks it off; where it fails, the
// connection is closed.
func agreeOver(ctx context.Context, conn net.Conn, agree func() (Info, error)) (Info, error) {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	info, err := agree()
	if !stop() {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return Info{}, err
	}
	return info, nil
}

// begin notes how to end what is under way now. It is false after Close.
func (l *live) begin(cancel func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cancel = cancel
	return !l.isClosed()
}

// start takes samples in and watches them, until the connection ends or Close.
func (l *live) start(ctx context.Context, info Info) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isClosed() {
		return errors.Join(ErrClosed, l.wire.close())
	}
	ctx, fail := context.WithCancelCause(context.WithoutCancel(ctx))
	in := newIntake(info, l.opts.BlockSamples, l.set.buffer)
	l.info, l.asked = info, info.Tuning
	l.in, l.connected, l.cancel = in, true, func() { fail(ErrClosed) }
	l.runs.Go(func() {
		err := l.wire.stream(ctx, in)
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		l.opts.Hosts.leave(l.set.host, err)
		in.end(l.ended(err))
		fail(nil)
	})
	l.runs.Go(func() { l.watch(ctx, in, fail) })
	return nil
}

func (l *live) isClosed() bool {
	select {
	case <-l.closed:
		return true
	default:
		return false
	}
}

// ended is why there are no more samples; nil has no meaning there. io.EOF is the end of a recording, which is not tried again:
// a peer that hung up must not look like one.
func (l *live) ended(err error) error {
	switch {
	case err == nil:
		return io.ErrUnexpectedEOF
	case errors.Is(err, io.EOF) && !l.set.ends:
		return hungUpError(err.Error())
	}
	return err
}

// hungUpError is the message of an error that had io.EOF in it.
type hungUpError string

func (h hungUpError) Error() string { return string(h) }
func (h hungUpError) Unwrap() error { return io.ErrUnexpectedEOF }

// watch ends a connection that delivers nothing, or more than its rate allows.
func (l *live) watch(ctx context.Context, in *intake, fail context.CancelCauseFunc) {
	began, fastestHz := time.Now(), l.info.Tuning.SampleRateHz
	every := time.NewTicker(250 * time.Millisecond)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		came, last := in.progress()
		if quiet := time.Since(last); l.set.stall > 0 && quiet > l.set.stall {
			fail(fmt.Errorf("%s: no samples for %s", l.source, quiet.Round(time.Second)))
			return
		}
		tuning, _ := in.applied()
		fastestHz = max(fastestHz, tuning.SampleRateHz) // what came at a rate of before counts too
		most := surplusShare*time.Since(began).Seconds() + surplusTime.Seconds()
		if !l.set.unpaced && float64(came) > most*fastestHz {
			fail(fmt.Errorf("%s: %d samples came in %s: too many for %s", l.source, came,
				time.Since(began).Round(time.Millisecond), formatHertz(fastestHz)))
			return
		}
	}
}

// describe says what the source tells everybody.
func (l *live) describe(ctx context.Context) ([]Fact, error) {
	if d, can := l.wire.(describer); can {
		return d.describe(ctx)
	}
	return nil, nil
}

// Read delivers the next block, or why there are no more.
func (l *live) Read(ctx context.Context, b *Block) error {
	in, err := l.usable(ctx)
	if err != nil {
		return err
	}
	for {
		if ok, err := in.take(b); ok || err != nil {
			if l.isClosed() {
				return ErrClosed
			}
			return err
		}
		select {
		case <-in.ready:
		case <-ctx.Done():
			return ctx.Err()
		case <-l.closed:
			return ErrClosed
		}
	}
}

// usable is the intake of an open receiver.
func (l *live) usable(ctx context.Context) (*intake, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.isClosed():
		return nil, ErrClosed
	case l.in == nil:
		return nil, fmt.Errorf("use %s before Open: %w", l.source, ErrClosed)
	}
	return l.in, ctx.Err()
}

// Tune asks for what is not so already.
func (l *live) Tune(ctx context.Context, t Tuning) error {
	in, err := l.usable(ctx)
	if err != nil {
		return err
	}
	if !l.info.Tunable {
		return ErrNotTunable
	}
	applied, segment := in.applied()
	if segment != l.since && !applied.Near(l.asked) {
		l.asked = applied // somebody else has tuned it, or it did not do as it was told
	}
	to := Tuning{
		CenterHz:     keep(t.CenterHz, applied.CenterHz, l.asked.CenterHz),
		SampleRateHz: keep(t.SampleRateHz, applied.SampleRateHz, l.asked.SampleRateHz),
		GainDB:       keep(t.GainDB, applied.GainDB, l.asked.GainDB),
	}
	if err := l.info.Range.refuse(fmt.Sprintf("tune %q", l.source), to); err != nil {
		return err
	}
	if sameTuning(to, l.asked) {
		return nil
	}
	if err := l.wire.tune(ctx, to); err != nil {
		return fmt.Errorf("tune %s: %w", l.source, err)
	}
	l.asked, l.since = to, segment
	return nil
}

// keep is a part of a tuning that is asked for: what was asked last where it is unknown, or what that came to.
func keep(want, applied, asked float64) float64 {
	if want == 0 || math.IsNaN(want) || want == applied {
		return asked
	}
	return want
}

func sameTuning(a, b Tuning) bool {
	sameGain := a.GainDB == b.GainDB || math.IsNaN(a.GainDB) && math.IsNaN(b.GainDB)
	return a.CenterHz == b.CenterHz && a.SampleRateHz == b.SampleRateHz && sameGain
}

// refuse is the Fault of a tuning outside the range.
func (r Range) refuse(where string, t Tuning) error {
	switch {
	case !(t.CenterHz >= r.LowHz && t.CenterHz <= r.HighHz):
		return &Fault{where, "center", formatHertz(t.CenterHz), fmt.Sprintf("want %s to %s", formatHertz(r.LowHz), formatHertz(r.HighHz))}
	case !(t.SampleRateHz >= r.LowRateHz*(1-1e-3) && t.SampleRateHz <= r.HighRateHz*(1+1e-3)): // rates are known by measurement
		return &Fault{where, "rate", formatHertz(t.SampleRateHz), fmt.Sprintf("want %s to %s", formatHertz(r.LowRateHz), formatHertz(r.HighRateHz))}
	}
	return nil
}

// Health tells what was delivered and lost.
func (l *live) Health() Health {
	l.mu.Lock()
	in := l.in
	l.mu.Unlock()
	if in == nil {
		return Health{RatePPM: math.NaN()}
	}
	return in.account()
}

// Close ends the connection and a blocked Read, and waits for the goroutines. It may be called more than once; the first call
// tells what went wrong.
func (l *live) Close() error {
	l.mu.Lock()
	l.once.Do(func() { close(l.closed) })
	l.cancel()
	in, connected := l.in, l.connected
	l.connected = false
	l.mu.Unlock()
	var err error
	if connected { // not under the lock: a program takes its time to end
		err = l.wire.close()
	}
	l.runs.Wait()
	if in != nil {
		in.end(ErrClosed)
	}
	return err
}
