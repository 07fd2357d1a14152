package radio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fulgidus/heimdall/dsp"
	"github.com/fulgidus/heimdall/protocol"
)

// stdinTaken is set while a receiver has the standard input, of which a process has one.
var stdinTaken atomic.Bool

// stdinLook is how often a reader that waits for the standard input looks whether it is still wanted.
const stdinLook = 200 * time.Millisecond

// input is this process's own standard input.
type input struct {
	where  string
	format dsp.Format
	tuning Tuning
	swap   bool
	maskDC bool
	opts   Options
	file   *os.File // the standard input; nil before connect
}

func openStdin(source, rest string, opts Options) (Receiver, error) {
	p := newParams(source, rest)
	if p.path != "" && p.path != "//" {
		p.fault("path", p.path, "write stdin:?format=…&rate=…&center=…, nothing between")
	}
	s := &input{where: p.where, opts: opts}
	s.format = p.format("format")
	if opts.Format != dsp.FormatUnknown {
		s.format = opts.Format
	}
	s.tuning.CenterHz = either(opts.CenterHz, p.hertz("center", 0, maxHz))
	s.tuning.SampleRateHz = either(opts.RateHz, p.hertz("rate", minRateHz, maxRateHz))
	s.tuning.GainDB = math.NaN()
	p.required("format", s.format == dsp.FormatUnknown, "say what comes: cu8, cs8, cs16 or cf32")
	p.required("rate", s.tuning.SampleRateHz == 0, "say how many samples a second come, such as 192k")
	s.swap = p.oneOf("swap_iq", "false", "true", "false") == "true"
	s.maskDC = p.oneOf("dc", "keep", "mask", "keep") == "mask"
	set := liveSettings{buffer: p.buffer(), stall: p.duration("stall"), ends: true}
	if p.oneOf("pace", "real", "real", "fast") == "fast" {
		if set.buffer > 0 || set.stall > 0 {
			p.fault("pace", "fast", "knows no buffer and no stall: the program before it waits until it is read")
		}
		if err := p.finish(); err != nil {
			return nil, err
		}
		return &pipedRecording{source: p.shown, input: s, closed: make(chan struct{})}, nil
	}
	p.required("center", s.tuning.CenterHz == 0, "say where the middle of the band is, such as 7.1M")
	if err := p.finish(); err != nil {
		return nil, err
	}
	return newLive(p.shown, opts, set, s), nil
}

// connect takes the standard input.
func (s *input) connect(context.Context) (Info, error) {
	if info, err := os.Stdin.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		return Info{}, &Fault{s.where, "standard input", "", "nothing is piped into this program: write PROGRAM | heimdall-agent …, or use exec:PROGRAM"}
	}
	if !stdinTaken.CompareAndSwap(false, true) {
		return Info{}, &Fault{s.where, "standard input", "", "another receiver reads it: there is only one, use exec: for the others"}
	}
	s.file = os.Stdin
	return Info{
		Hardware: "standard input", Format: s.format, Tuning: s.tuning, MaskDC: s.maskDC,
		TimeQuality: protocol.TimeQuality_TIME_QUALITY_ARRIVAL,
	}, nil
}

// stream takes in what comes. The end of the input is that of a recording: nothing comes after it.
func (s *input) stream(ctx context.Context, in *intake) error {
	file := s.file
	p := &pipe{
		read: func(buf []byte) (int, error) { return readWhenReady(ctx.Err, file, buf) }, swap: s.swap,
		buf: make([]byte, pipeChunk), clock: newArrivalClock(s.tuning.SampleRateHz, pipeQueue, s.opts.Wall),
	}
	err := p.copy(in)
	if errors.Is(err, io.EOF) && p.kept > 0 {
		in.lost(1, true, oddTail)
	}
	return err
}

// readWhenReady reads what there is, when there is something; done says why it is no longer wanted.
func readWhenReady(done func() error, file *os.File, buf []byte) (int, error) {
	for {
		if err := done(); err != nil {
			return 0, err
		}
		ready, err := readable(file, stdinLook)
		if err != nil {
			return 0, fmt.Errorf("wait for standard input: %w", err)
		}
		if ready {
			return file.Read(buf)
		}
	}
}

func (s *input) tune(context.Context, Tuning) error { return ErrNotTunable }

// close gives the standard input back. It is called once, after connect.
func (s *input) close() error {
	stdinTaken.Store(false)
	return nil
}

// pipedRecording reads a recording from the standard input as fast as it is measured; whoever writes it waits.
type pipedRecording struct {
	source string
	input  *input
	closed chan struct{} // closed by Close; no values
	once   sync.Once
	file   *os.File // nil before Open
	index  uint64
	ended  bool

	// mu guards health.
	mu     sync.Mutex
	health Health
}

// Open takes the standard input.
func (r *pipedRecording) Open(ctx context.Context) (Info, error) {
	if err := r.usable(ctx); err != nil {
		return Info{}, err
	}
	info, err := r.input.connect(ctx)
	if err != nil {
		return Info{}, err
	}
	info.Source, info.TimeQuality = r.source, protocol.TimeQuality_TIME_QUALITY_UNSET
	r.file = r.input.file
	r.mu.Lock()
	defer r.mu.Unlock()
	r.health = Health{Connected: true, Lost: map[string]uint64{}, RatePPM: math.NaN()}
	return info, nil
}

func (r *pipedRecording) usable(ctx context.Context) error {
	select {
	case <-r.closed:
		return ErrClosed
	default:
		return ctx.Err()
	}
}

// Read waits for a whole block, or the end.
func (r *pipedRecording) Read(ctx context.Context, b *Block) error {
	if err := r.usable(ctx); err != nil {
		return err
	}
	if r.file == nil {
		return fmt.Errorf("read %s before Open: %w", r.source, ErrClosed)
	}
	width := r.input.format.BytesPerSample()
	n, err := r.fill(func() error { return r.usable(ctx) }, b, width)
	if err != nil {
		return err
	}
	b.Flags = 0
	if n%width > 0 {
		b.Flags = OddTail
		r.mu.Lock()
		r.health.Lost[oddTail]++
		r.mu.Unlock()
	}
	b.Raw = b.Raw[:n-n%width]
	if len(b.Raw) == 0 {
		return io.EOF
	}
	if r.input.swap {
		swapIQ(b.Raw, r.input.format)
	}
	b.Format, b.Segment, b.Index, b.Tuning = r.input.format, 0, r.index, r.input.tuning
	b.Time = time.Unix(0, 0).UTC().Add(SamplesDuration(float64(r.index), b.Tuning.SampleRateHz))
	b.TimeUncertainty, b.TimeQuality, b.LostBefore, b.LostExact = 0, protocol.TimeQuality_TIME_QUALITY_UNSET, 0, true
	r.index += uint64(b.Samples())
	r.mu.Lock()
	defer r.mu.Unlock()
	r.health.SamplesTotal += uint64(b.Samples())
	return nil
}

// fill reads as many bytes as a block takes, or as there are until the end.
func (r *pipedRecording) fill(done func() error, b *Block, width int) (n int, err error) {
	samples := blockLength(r.input.opts.BlockSamples, r.input.tuning.SampleRateHz)
	if cap(b.Raw) < samples*width {
		b.Raw = make([]byte, samples*width)
	}
	b.Raw = b.Raw[:samples*width]
	for n < len(b.Raw) && !r.ended {
		got, err := readWhenReady(done, r.file, b.Raw[n:])
		n += got
		if errors.Is(err, io.EOF) {
			r.ended = true
		} else if err != nil {
			return n, err
		}
	}
	return n, nil
}

// Tune refuses: what comes is what comes.
func (r *pipedRecording) Tune(ctx context.Context, _ Tuning) error {
	if err := r.usable(ctx); err != nil {
		return err
	}
	return ErrNotTunable
}

// Health tells how many samples were read.
func (r *pipedRecording) Health() Health {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.health
	h.Lost = maps.Clone(r.health.Lost)
	return h
}

// Close ends a blocked Read. It may be called more than once.
func (r *pipedRecording) Close() error {
	var err error
	r.once.Do(func() {
		close(r.closed)
		r.mu.Lock()
		r.health.Connected = false
		r.mu.Unlock()
		if r.file != nil {
			err = r.input.close()
		}
	})
	return err
}
