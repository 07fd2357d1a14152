package radio

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fulgidus/heimdall/dsp"
	"github.com/fulgidus/heimdall/protocol"
)

const (
	// execLast is how long a program may live on without an output before it is told to end.
	execLast = 200 * time.Millisecond
	// execStall ends a program that writes nothing.
	execStall = 10 * time.Second
	// execSettle is the transient after a retune.
	execSettle = 200 * time.Millisecond
	// execRestart is how long a program takes to end and to come again, in all but bad cases.
	execRestart = 4 * time.Second
)

// program is a wire to a program that writes samples to its standard output.
type program struct {
	where    string
	hardware string
	words    []string // of the command, without those of the preset
	options  []string
	preset   *preset // nil: the command is all there is
	order    order
	swap     bool
	maskDC   bool
	opts     Options

	// mu guards the fields below, which connect, stream, tune and close need.
	mu     sync.Mutex
	child  *child
	talk   *chatter
	next   *Tuning // that is asked for: the program is to be started again
	closed bool
}

func openExec(source, rest string, opts Options) (Receiver, error) {
	p := newParams(source, rest)
	w := &program{where: p.where, opts: opts}
	w.words = p.words("command", p.path)
	w.readPreset(p)
	w.readTuning(p)
	w.swap = p.oneOf("swap_iq", "false", "true", "false") == "true"
	spike := "keep"
	if w.preset != nil && w.preset.spike {
		spike = "mask"
	}
	w.maskDC = p.oneOf("dc", spike, "mask", "keep") == "mask"
	set := liveSettings{buffer: p.buffer(), stall: p.duration("stall")}
	if set.stall == 0 {
		set.stall = execStall
	}
	if w.preset == nil && strings.TrimSpace(p.path) == "" {
		p.fault("command", "", "missing: write exec:COMMAND, or name a preset")
	}
	if err := p.finish(); err != nil {
		return nil, err
	}
	if len(w.words) == 0 { // there is a preset
		w.words = []string{w.preset.program}
	}
	w.hardware = "program " + filepath.Base(w.words[0])
	return newLive(p.shown, opts, set, w), nil
}

// words splits a command line.
func (p *params) words(field, line string) []string {
	words, err := splitWords(line)
	if err != nil {
		p.fault(field, line, err.Error())
	}
	return words
}

// readPreset reads what only presets take.
func (w *program) readPreset(p *params) {
	name, given := p.take("preset")
	w.preset = presets[name]
	if given && w.preset == nil {
		p.fault("preset", name, "want "+strings.Join(slices.Sorted(maps.Keys(presets)), ", "))
	}
	w.order.device, _ = p.take("device")
	w.order.ppm = p.number("ppm", -1000, 1000, 0)
	options, _ := p.take("options")
	w.options = p.words("options", options)
	w.order.gain = math.NaN()
	if w.preset == nil {
		for _, only := range []string{"device", "ppm", "options", "gain"} {
			if v, given := p.take(only); given && name == "" {
				p.fault(only, v, "needs a preset: without one it is for you to put it into the command")
			}
		}
		return
	}
	if w.preset.device && w.order.device == "" {
		p.fault("device", "", "missing: say which one to listen to, such as hw:Loopback,1,0")
	}
	if least := w.preset.leastPPM; w.order.ppm != 0 && (least == 0 || math.Mod(w.order.ppm, least) != 0 && least == 1) {
		p.fault("ppm", p.values["ppm"], w.preset.program+" takes whole numbers only, or none at all: use the receiver's own ppm")
	}
	if g := w.preset.gain; g.most > 0 {
		w.order.gain = p.number("gain", 0, g.most, math.NaN())
	} else if v, given := p.take("gain"); given {
		p.fault("gain", v, w.preset.program+" has none to set")
	}
}

// readTuning reads format, centre and rate.
func (w *program) readTuning(p *params) {
	t := &w.order.Tuning
	w.order.format = p.format("format")
	if w.opts.Format != dsp.FormatUnknown {
		w.order.format = w.opts.Format
	}
	least, most := Range{LowRateHz: minRateHz}, Range{HighHz: maxHz, HighRateHz: maxRateHz}
	if w.preset != nil {
		least, most = w.preset.tunes, w.preset.tunes
		if w.order.format == dsp.FormatUnknown {
			w.order.format = w.preset.formats[0]
		}
		if !slices.Contains(w.preset.formats, w.order.format) {
			p.fault("format", w.order.format.String(), fmt.Sprintf("%s writes %v", w.preset.program, w.preset.formats))
		}
	}
	t.CenterHz = either(w.opts.CenterHz, p.hertz("center", least.LowHz, most.HighHz))
	t.SampleRateHz = either(w.opts.RateHz, p.hertz("rate", least.LowRateHz, most.HighRateHz))
	t.GainDB = w.gainDB(w.order.gain)
	p.required("format", w.order.format == dsp.FormatUnknown, "say what the program writes: cu8, cs8, cs16 or cf32")
	p.required("center", t.CenterHz == 0, "say where the middle of the band is, such as 7.1M")
	p.required("rate", t.SampleRateHz == 0, "say how many samples a second come, such as 192k")
	if w.preset != nil {
		if err := w.preset.refuse(p.where, *t); err != nil {
			p.faults = append(p.faults, err)
		}
	}
}

// gainDB is what a gain on the preset's scale comes to; NaN when that is not known.
func (w *program) gainDB(gain float64) float64 {
	switch {
	case w.preset == nil || !w.preset.gain.inDB:
		return math.NaN()
	case w.preset.gain.coarse != nil:
		return w.preset.gain.coarse(gain)
	}
	return gain
}

// connect starts the program.
func (w *program) connect(ctx context.Context) (Info, error) {
	if err := w.start(ctx); err != nil {
		return Info{}, err
	}
	info := Info{
		Hardware: w.hardware, Format: w.order.format, Tuning: w.order.Tuning, MaskDC: w.maskDC,
		TimeQuality: protocol.TimeQuality_TIME_QUALITY_ARRIVAL,
	}
	if w.preset != nil && !w.preset.fixed {
		info.Tunable, info.Range = true, w.preset.tunes
		info.Range.Settling = execRestart + execSettle
	}
	return info, nil
}

// start starts the program for the tuning that is to be.
func (w *program) start(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return ErrClosed
	}
	words := w.commandLine()
	talk := &chatter{}
	c, err := startChild(words, true, talk.hear)
	if err != nil {
		return w.unstartable(words[0], err)
	}
	w.opts.Log.DebugContext(ctx, "program is started", "words", words)
	w.child, w.talk = c, talk
	return nil
}

// commandLine is what is run for the tuning that is ordered.
func (w *program) commandLine() []string {
	if w.preset == nil {
		return w.words
	}
	return slices.Concat(w.words, w.options, w.preset.words(w.order))
}

// unstartable is why a program cannot be started, with what to do about it.
func (w *program) unstartable(name string, err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist) || errors.Is(err, exec.ErrNotFound):
		mend := "there is no such program: install it, or write its path"
		if pack := packages[filepath.Base(name)]; pack != "" {
			mend = fmt.Sprintf("not installed: it is in Debian's package %s (sudo apt install %s)", pack, pack)
		} else if filepath.Base(name) == "rx_sdr" {
			mend = "not installed: it is part of rx_tools, built upon SoapySDR, https://github.com/rxseger/rx_tools"
		}
		return &Fault{w.where, "command", name, mend}
	case errors.Is(err, os.ErrPermission):
		return &Fault{w.where, "command", name, "this account may not run it: chmod +x, or another account"}
	}
	return fmt.Errorf("start %s: %w", name, err)
}

// stream takes in what the program writes, and what it writes when it has been started again for another tuning.
func (w *program) stream(ctx context.Context, in *intake) error {
	for {
		w.mu.Lock()
		c, talk := w.child, w.talk
		w.mu.Unlock()
		err := w.listen(ctx, in, c, talk)
		to := w.asked()
		if to == nil || ctx.Err() != nil {
			return err
		}
		w.apply(*to)
		if err := w.start(ctx); err != nil {
			return err
		}
		in.begin(w.order.Tuning, execSettle)
	}
}

// listen takes in what one run of the program writes, and returns when it has ended.
func (w *program) listen(ctx context.Context, in *intake, c *child, talk *chatter) error {
	stop := context.AfterFunc(ctx, c.end)
	defer stop()
	p := &pipe{
		read: withoutUsage(c.stdout.Read), swap: w.swap, buf: make([]byte, pipeChunk),
		clock:  newArrivalClock(w.order.SampleRateHz, pipeQueue, w.opts.Wall),
		before: func(in *intake, _ time.Time) { declare(in, talk.take()) },
	}
	err := p.copy(in)
	c.stdout.Close() // whoever waits to write has waited enough
	c.endAfter(execLast)
	how := c.how()
	if !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%s: %w", w.hardware, err)
	}
	if w.retuning() {
		return nil
	}
	if p.kept > 0 {
		in.lost(1, true, oddTail)
	}
	if why := talk.why(); why != "" {
		how += ": " + why
	}
	return fmt.Errorf("%s has ended with %s", w.hardware, how)
}

// withoutUsage throws away what a program writes that does not know what it was asked, or has no device: hackrf_transfer explains
// itself where samples should be.
func withoutUsage(read func([]byte) (int, error)) func([]byte) (int, error) {
	begun, usage := false, false
	return func(buf []byte) (int, error) {
		n, err := read(buf)
		if !begun && n > 0 {
			begun, usage = true, bytes.HasPrefix(buf[:n], []byte("Usage:"))
		}
		if usage {
			n = 0
		}
		return n, err
	}
}

// tune has the program started again.
func (w *program) tune(_ context.Context, to Tuning) error {
	if err := w.preset.refuse(w.where, to); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.next = &to
	w.child.end()
	return nil
}

func (w *program) retuning() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.next != nil
}

// asked is the tuning that is to be, if another one is.
func (w *program) asked() *Tuning {
	w.mu.Lock()
	defer w.mu.Unlock()
	to := w.next
	w.next = nil
	return to
}

// apply makes a tuning what is ordered.
func (w *program) apply(to Tuning) {
	w.order.CenterHz, w.order.SampleRateHz = to.CenterHz, to.SampleRateHz
	if g := w.preset.gain; g.inDB && !math.IsNaN(to.GainDB) {
		w.order.gain = min(max(to.GainDB, 0), g.most)
	}
	w.order.GainDB = w.gainDB(w.order.gain)
}

// close ends the program and waits for that.
func (w *program) close() error {
	w.mu.Lock()
	w.closed = true
	c := w.child
	w.mu.Unlock()
	c.end()
	_ = c.wait()
	return nil
}
