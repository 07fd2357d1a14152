// Package radio reads IQ from receivers; every driver passes the conformance suite.
//
// The scheme of a source URL names its driver (source.go, params.go), and a driver's files begin with its name: NAME.go connects
// and tunes, NAME_stream.go takes samples in, NAME_wire.go knows the bytes. Recordings (file.go and recording.go, of WAV,
// SigMF and KiwiSDRs) and the simulation (sim.go, scene.go) are Receivers of their own. All that is live is a wire in a live
// (live.go), which puts samples into an intake; their times come from stamps (sampleclock.go) or from when they arrive
// (arrival.go). Programs are children (child.go), and what they write comes through a pipe (pipe.go).
//
// Conventions: full scale is 1.0; times are UTC and belong to the first sample of a block; the sample index
// counts every sample, also the lost ones; what a Tuning says in a block is what the receiver applied, not
// what it was asked.
package radio

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/fulgidus/heimdall/dsp"
	"github.com/fulgidus/heimdall/protocol"
)

// Errors that callers branch on. Drivers wrap them.
var (
	// ErrNotTunable: the source has one fixed centre and rate.
	ErrNotTunable = errors.New("this source cannot be tuned")
	// ErrClosed: Read or Tune after Close.
	ErrClosed = errors.New("receiver is closed")
)

// Tuning is a receiver's centre frequency, sample rate and gain.
type Tuning struct {
	CenterHz     float64
	SampleRateHz float64
	GainDB       float64 // NaN when unknown
	// FullScaleDBm is what 0 dBFS is at the antenna, where the receiver itself tells as it measures; 0: it does not.
	FullScaleDBm float64
}

// Near tells whether two tunings are the same but for the grid of the synthesiser, the measured rate and the gain.
func (t Tuning) Near(o Tuning) bool {
	return math.Abs(t.CenterHz-o.CenterHz) <= 1e-3*o.SampleRateHz && math.Abs(t.SampleRateHz-o.SampleRateHz) <= 1e-3*o.SampleRateHz
}

// Range is what a receiver can be tuned to.
type Range struct {
	LowHz, HighHz         float64 // of the centre
	LowRateHz, HighRateHz float64 // of the sample rate
	// Settling is how long after the block in which a retune was decided on its samples count, at most: the next block was
	// on its way already, the receiver takes its time, and the transient passes.
	Settling time.Duration
}

// Contains tells whether a centre and a rate lie in the range.
func (r Range) Contains(t Tuning) bool {
	return t.CenterHz >= r.LowHz && t.CenterHz <= r.HighHz && t.SampleRateHz >= r.LowRateHz && t.SampleRateHz <= r.HighRateHz
}

// Flags mark what is special about a block.
type Flags uint8

// Block flags.
const (
	Settling      Flags = 1 << iota // filter transient after a retune: not for measurements
	StampsRefused                   // these samples' own time stamps were refused; Time is extrapolated from the others
	OddTail                         // the recording ended inside a sample; the rest was dropped
)

// Block is a contiguous run of samples from one read. Segments are runs of blocks with no unknown gap, retune or
// rate change between them.
type Block struct {
	// Raw holds whole samples in Format. The reader may reuse it: it is valid until the next Read into this Block.
	Raw    []byte
	Format dsp.Format

	Segment uint32
	Index   uint64 // of the first sample since Open, lost samples counted

	// Time is the UTC of the first sample. When TimeQuality is unset it counts from 1970 and means nothing but
	// the distance between blocks.
	Time            time.Time
	TimeUncertainty time.Duration
	TimeQuality     protocol.TimeQuality

	Tuning Tuning // as applied; SampleRateHz is the best known (measured) rate

	LostBefore uint64 // samples lost between the previous block and this one
	LostExact  bool   // LostBefore is a count, not an estimate
	Flags      Flags
}

// Samples is the number of I/Q pairs in the block.
func (b *Block) Samples() int {
	if n := b.Format.BytesPerSample(); n > 0 {
		return len(b.Raw) / n
	}
	return 0
}

// End is the time just after the block's last sample.
func (b *Block) End() time.Time {
	return b.Time.Add(SamplesDuration(float64(b.Samples()), b.Tuning.SampleRateHz))
}

// SamplesDuration is how long n samples last at a rate, to the nanosecond.
func SamplesDuration(n, rateHz float64) time.Duration {
	whole := float64(int64(n / rateHz))
	return time.Duration(whole)*time.Second + time.Duration((n-whole*rateHz)/rateHz*1e9+0.5)
}

// Info describes an opened receiver.
type Info struct {
	Source   string // the URL it was opened from, secrets removed
	Hardware string // for people: "file skylink.cu8", "simulated receiver torino"
	Format   dsp.Format
	Tuning   Tuning // applied at start
	Live     bool   // delivers in real time and never waits for its reader
	Tunable  bool
	Range    Range // where Tunable
	// Timeline tells whether Block.Time can be compared with the wall clock: false for a recording that plays on its
	// own recorded times, true for live receivers, simulations and anchored recordings.
	Timeline bool
	// MaskDC: the receiver leaves a spike at 0 Hz that is no emission (zero-IF tuners).
	MaskDC      bool
	TimeQuality protocol.TimeQuality
	Samples     uint64 // length of a recording; 0 when unknown or endless
	// Start is the time of the first sample of a recording; zero when unknown. FirstStamp is that of the first sample
	// whose own time stamp was believed (KiwiSDR recordings begin with stale ones); zero without stamps.
	Start, FirstStamp time.Time
	// Notes are what an operator should know of this source: cut short, stamps refused.
	Notes []string
}

// Health is a receiver's running account.
type Health struct {
	Connected    bool
	SamplesTotal uint64
	Lost         map[string]uint64 // samples by reason
	RatePPM      float64           // measured against nominal; NaN when unknown
	Lag          time.Duration     // how late samples come, beyond what is usual on this source
	Err          error             // why it is not connected
}

// Receiver is one radio. Read and Close may be called from different goroutines; all else from one.
type Receiver interface {
	// Open connects and says what was found.
	Open(ctx context.Context) (Info, error)
	// Read fills the block with the next samples. It returns io.EOF at the end of a recording, with a Fault
	// beside it when the recording turned out not to be what its description promises.
	Read(ctx context.Context, b *Block) error
	// Tune asks for a tuning; 0 keeps what is, as does an unknown (NaN) gain. What was applied is in the first block of
	// the next segment, the first of which are marked Settling. Asking for what already is changes nothing. It returns
	// ErrNotTunable when the source has one fixed tuning, and a Fault for one out of its Range; then nothing changes either.
	Tune(ctx context.Context, t Tuning) error
	Health() Health
	Close() error
}
