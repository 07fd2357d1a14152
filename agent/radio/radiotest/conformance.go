// Package radiotest is the suite that every receiver driver passes. A driver's test makes receivers in the states that the
// suite needs and hands them to Conformance.
package radiotest

import (
	"context"
	"errors"
	"io"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/agent/radio"
)

// Driver makes receivers, not yet opened.
type Driver struct {
	// New makes a receiver that delivers some blocks without long waits.
	New func(t *testing.T) radio.Receiver
	// Blocked makes a receiver whose first Read would wait for longer than the test may take. Nil: the driver has none.
	Blocked func(t *testing.T) radio.Receiver
	// Losing makes a receiver that loses Lost samples within the first LosingBlocks blocks, or Blocks where that is 0. Where it
	// can only estimate them its account may be off by LostWithin, a share.
	Losing       func(t *testing.T) radio.Receiver
	Lost         uint64
	LostWithin   float64
	LosingBlocks int
	// Tuning is what a tunable receiver can be asked for, other than what it starts with.
	Tuning radio.Tuning
	// Blocks is how many blocks a test reads at most; 0: 20.
	Blocks int
}

// patience bounds everything that ought to return at once.
const patience = 5 * time.Second

// Conformance runs the suite.
func Conformance(t *testing.T, d Driver) {
	if d.Blocks == 0 {
		d.Blocks = 20
	}
	t.Run("BlocksAreSound", d.blocksAreSound)
	t.Run("TimeFollowsIndex", d.timeFollowsIndex)
	t.Run("BlocksDoNotShareMemory", d.blocksDoNotShareMemory)
	t.Run("HealthCounts", d.healthCounts)
	t.Run("CancelledContext", d.cancelledContext)
	t.Run("ReadBeforeOpen", d.readBeforeOpen)
	t.Run("CloseTwiceThenUse", d.closeTwiceThenUse)
	t.Run("Tune", d.tune)
	if d.Losing != nil {
		t.Run("LossIsDeclared", d.lossIsDeclared)
	}
	if d.Blocked != nil {
		t.Run("ContextEndsBlockedRead", func(t *testing.T) { d.endBlockedRead(t, false) })
		t.Run("CloseEndsBlockedRead", func(t *testing.T) { d.endBlockedRead(t, true) })
	}
}

func open(t *testing.T, r radio.Receiver) radio.Info {
	t.Helper()
	info, err := r.Open(t.Context())
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return info
}

// read collects up to n blocks, each in memory of its own.
func read(t *testing.T, r radio.Receiver, n int) []radio.Block {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience+time.Duration(n)*100*time.Millisecond)
	defer cancel()
	var all []radio.Block
	for range n {
		var b radio.Block
		err := r.Read(ctx, &b)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("Read of block %d: %v", len(all), err)
		}
		all = append(all, b)
	}
	if len(all) == 0 {
		t.Fatal("the receiver delivered no block")
	}
	return all
}

// blocksAreSound checks format, tuning, size and numbering.
func (d Driver) blocksAreSound(t *testing.T) {
	r := d.New(t)
	info := open(t, r)
	if info.Source == "" || info.Hardware == "" {
		t.Errorf("Info names source %q and hardware %q: want both", info.Source, info.Hardware)
	}
	blocks := read(t, r, d.Blocks)
	if got := blocks[0]; !sameTuning(got.Tuning, info.Tuning) {
		t.Errorf("first block's tuning is %+v, Open said %+v", got.Tuning, info.Tuning)
	}
	want := uint64(0)
	for i, b := range blocks {
		switch per := b.Format.BytesPerSample(); {
		case b.Format != info.Format || per == 0:
			t.Fatalf("block %d is %v, Open said %v", i, b.Format, info.Format)
		case len(b.Raw) == 0 || len(b.Raw)%per != 0:
			t.Fatalf("block %d holds %d bytes: want whole samples of %d bytes, at least one", i, len(b.Raw), per)
		}
		if !(b.Tuning.SampleRateHz > 0) {
			t.Errorf("block %d has sample rate %v Hz", i, b.Tuning.SampleRateHz)
		}
		want += b.LostBefore
		if b.Index != want {
			t.Errorf("block %d has index %d, want %d (%d of them lost just before)", i, b.Index, want, b.LostBefore)
		}
		want = b.Index + uint64(b.Samples())
		if i > 0 && b.Segment < blocks[i-1].Segment {
			t.Errorf("block %d is of segment %d after %d", i, b.Segment, blocks[i-1].Segment)
		}
		if i > 0 && b.Segment == blocks[i-1].Segment && !sameTuning(b.Tuning, blocks[i-1].Tuning) {
			t.Errorf("block %d changes the tuning inside segment %d: %+v after %+v", i, b.Segment, b.Tuning, blocks[i-1].Tuning)
		}
		if i > 0 && b.Segment == blocks[i-1].Segment && b.LostBefore > 0 && !b.LostExact {
			t.Errorf("block %d follows an estimated loss inside segment %d", i, b.Segment)
		}
	}
}

// sameTuning allows for a rate that is measured while it runs.
func sameTuning(a, b radio.Tuning) bool {
	same := func(x, y float64) bool { return x == y || math.IsNaN(x) && math.IsNaN(y) }
	return same(a.CenterHz, b.CenterHz) && math.Abs(a.SampleRateHz-b.SampleRateHz) <= 1e-4*b.SampleRateHz && same(a.GainDB, b.GainDB)
}

// timeFollowsIndex checks that inside a segment a block's time is that of the one before it plus index over rate. Times may
// move by what their uncertainty allows: clocks are fitted anew while they run.
func (d Driver) timeFollowsIndex(t *testing.T) {
	r := d.New(t)
	open(t, r)
	blocks := read(t, r, d.Blocks)
	before := blocks[0]
	for i, b := range blocks {
		if b.Time.Location() != time.UTC {
			t.Fatalf("block %d has its time in %v, want UTC", i, b.Time.Location())
		}
		if b.Segment == before.Segment {
			want := before.Time.Add(radio.SamplesDuration(float64(b.Index-before.Index), b.Tuning.SampleRateHz))
			if off := b.Time.Sub(want).Abs(); off > b.TimeUncertainty+2*time.Nanosecond {
				t.Errorf("block %d (index %d) has time %v, want %v within %v", i, b.Index, b.Time, want, b.TimeUncertainty)
			}
		}
		before = b
	}
}

func (d Driver) blocksDoNotShareMemory(t *testing.T) {
	r := d.New(t)
	open(t, r)
	var first, second radio.Block
	if err := r.Read(t.Context(), &first); err != nil {
		t.Fatalf("Read: %v", err)
	}
	kept := append([]byte(nil), first.Raw...)
	if err := r.Read(t.Context(), &second); err != nil {
		t.Fatalf("second Read: %v", err)
	}
	if string(kept) != string(first.Raw) {
		t.Error("a Read into another block changed the first block's samples")
	}
}

func (d Driver) healthCounts(t *testing.T) {
	r := d.New(t)
	open(t, r)
	if !r.Health().Connected {
		t.Error("not connected after Open")
	}
	total := uint64(0)
	for _, b := range read(t, r, d.Blocks) {
		total += uint64(b.Samples())
	}
	if got := r.Health().SamplesTotal; got != total {
		t.Errorf("health counts %d samples, %d were read", got, total)
	}
	if err := r.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if r.Health().Connected {
		t.Error("still connected after Close")
	}
}

func (d Driver) cancelledContext(t *testing.T) {
	r := d.New(t)
	open(t, r)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var b radio.Block
	if err := r.Read(ctx, &b); !errors.Is(err, context.Canceled) {
		t.Errorf("Read with a cancelled context: got %v, want %v", err, context.Canceled)
	}
	if err := d.New(t).Read(ctx, &b); err == nil {
		t.Error("Read with a cancelled context before Open: want an error")
	}
	if _, err := d.New(t).Open(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Open with a cancelled context: got %v, want %v", err, context.Canceled)
	}
}

func (d Driver) readBeforeOpen(t *testing.T) {
	r := d.New(t)
	var b radio.Block
	if err := r.Read(t.Context(), &b); err == nil {
		t.Error("Read before Open: want an error")
	}
	if err := r.Close(); err != nil {
		t.Errorf("Close before Open: %v", err)
	}
}

func (d Driver) closeTwiceThenUse(t *testing.T) {
	r := d.New(t)
	open(t, r)
	for range 2 {
		if err := r.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	var b radio.Block
	if err := r.Read(t.Context(), &b); !errors.Is(err, radio.ErrClosed) {
		t.Errorf("Read after Close: got %v, want %v", err, radio.ErrClosed)
	}
	if err := r.Tune(t.Context(), d.Tuning); !errors.Is(err, radio.ErrClosed) {
		t.Errorf("Tune after Close: got %v, want %v", err, radio.ErrClosed)
	}
	if _, err := r.Open(t.Context()); !errors.Is(err, radio.ErrClosed) {
		t.Errorf("Open after Close: got %v, want %v", err, radio.ErrClosed)
	}
}

// tune checks that a retune begins a segment with the applied tuning and marks its transient.
func (d Driver) tune(t *testing.T) {
	r := d.New(t)
	info := open(t, r)
	if !info.Tunable {
		if err := r.Tune(t.Context(), d.Tuning); !errors.Is(err, radio.ErrNotTunable) {
			t.Errorf("Tune: got %v, want %v", err, radio.ErrNotTunable)
		}
		return
	}
	asked := d.Tuning
	if asked.SampleRateHz == 0 {
		asked.SampleRateHz = info.Tuning.SampleRateHz
	}
	if rg := info.Range; !rg.Contains(info.Tuning) || !rg.Contains(asked) || rg.Settling <= 0 {
		t.Errorf("range %+v: want one that holds %+v and %+v, and the time that a retune takes", rg, info.Tuning, asked)
	}
	before := read(t, r, 2)
	for _, beyond := range []radio.Tuning{
		{CenterHz: info.Range.HighHz * 1.5}, {SampleRateHz: info.Range.HighRateHz * 1.5}, {SampleRateHz: info.Range.LowRateHz / 2},
	} {
		if err := r.Tune(t.Context(), beyond); len(radio.Faults(err)) == 0 {
			t.Errorf("Tune to %+v: got %v, want a fault: it is out of range", beyond, err)
		}
	}
	before = append(before, read(t, r, 1)...)
	if before[2].Segment != before[1].Segment {
		t.Error("a refused Tune began a new segment")
	}
	began := before[2].End()
	if err := r.Tune(t.Context(), d.Tuning); err != nil {
		t.Fatalf("Tune to %+v: %v", d.Tuning, err)
	}
	after := read(t, r, d.Blocks)
	if info.Live { // what was on its way already comes first
		for len(after) > 0 && after[0].Segment == before[2].Segment {
			before, after = append(before, after[0]), after[1:]
		}
		if len(after) == 0 {
			t.Fatalf("no new segment within %d blocks after Tune", d.Blocks)
		}
	}
	last := before[len(before)-1]
	if after[0].Segment != last.Segment+1 {
		t.Errorf("first block after Tune is of segment %d, want %d", after[0].Segment, last.Segment+1)
	}
	if got := after[0].Tuning; d.Tuning.CenterHz != 0 && got.CenterHz != d.Tuning.CenterHz {
		t.Errorf("applied centre is %v Hz, asked %v Hz", got.CenterHz, d.Tuning.CenterHz)
	}
	if after[0].Flags&radio.Settling == 0 {
		t.Error("first block after Tune is not marked Settling")
	}
	if settled := slices.IndexFunc(after, func(b radio.Block) bool { return b.Flags&radio.Settling == 0 }); settled < 0 {
		t.Errorf("still Settling %d blocks after Tune", len(after))
	} else if took := after[settled].Time.Sub(began); took > info.Range.Settling && !info.Live { // a live one went on before Tune came
		t.Errorf("settled %v after Tune, want %v at most", took, info.Range.Settling)
	}
	if after[0].Time.Before(last.End().Add(-time.Microsecond - last.TimeUncertainty)) {
		t.Errorf("first block after Tune begins at %v, before the end of the one before it, %v", after[0].Time, last.End())
	}
	if err := r.Tune(t.Context(), after[0].Tuning); err != nil {
		t.Errorf("Tune to what is: %v", err)
	}
	if again := read(t, r, 1); again[0].Segment != after[0].Segment {
		t.Error("Tune to what is began a new segment")
	}
}

func (d Driver) lossIsDeclared(t *testing.T) {
	r := d.Losing(t)
	open(t, r)
	if d.LosingBlocks > 0 {
		d.Blocks = d.LosingBlocks
	}
	blocks := read(t, r, d.Blocks)
	lost, next := uint64(0), blocks[0].Index
	for i, b := range blocks {
		lost += b.LostBefore
		if b.Index != next+b.LostBefore {
			t.Errorf("block %d: index %d, want %d and %d lost", i, b.Index, next, b.LostBefore)
		}
		next = b.Index + uint64(b.Samples())
		if i > 0 && b.Segment == blocks[i-1].Segment && b.LostBefore > 0 {
			gap := b.Time.Sub(blocks[i-1].End())
			want := radio.SamplesDuration(float64(b.LostBefore), b.Tuning.SampleRateHz)
			if off := (gap - want).Abs(); off > b.TimeUncertainty+time.Microsecond {
				t.Errorf("block %d follows a gap of %v, want %v for %d samples", i, gap, want, b.LostBefore)
			}
		}
	}
	if off := math.Abs(float64(lost) - float64(d.Lost)); off > d.LostWithin*float64(d.Lost) {
		t.Errorf("%d samples were declared lost, want %d", lost, d.Lost)
	}
	counted := uint64(0)
	for _, n := range r.Health().Lost {
		counted += n
	}
	if counted != lost {
		t.Errorf("health counts %d lost samples, the blocks %d", counted, lost)
	}
}

// endBlockedRead checks that a Read which waits for samples ends with its context, or with Close.
func (d Driver) endBlockedRead(t *testing.T, byClose bool) {
	r := d.Blocked(t)
	open(t, r)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	begun, ended := make(chan struct{}), make(chan error, 1) // room for the one answer, so the reader never waits
	go func() {
		var b radio.Block
		close(begun)
		err := r.Read(ctx, &b)
		for err == nil { // a slow computer may have got a block meanwhile
			err = r.Read(ctx, &b)
		}
		ended <- err
	}()
	<-begun
	want := context.Canceled
	if byClose {
		want = radio.ErrClosed
		if err := r.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	} else {
		cancel()
	}
	select {
	case err := <-ended:
		if !errors.Is(err, want) {
			t.Errorf("blocked Read: got %v, want %v", err, want)
		}
	case <-time.After(patience):
		t.Fatalf("Read still waits %v after it was told to end", patience)
	}
}
