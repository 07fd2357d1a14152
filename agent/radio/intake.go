package radio

import (
	"maps"
	"math"
	"sync"
	"time"

	"github.com/fulgidus/heimdall/dsp"
	"github.com/fulgidus/heimdall/protocol"
)

// moment is a time and how well it is known.
type moment struct {
	Time        time.Time
	Uncertainty time.Duration
	Quality     protocol.TimeQuality
}

// overrun is the reason of samples that came and were not read in time.
const overrun = "overrun"

// intake is a bounded ring of whole blocks between a connection, which never waits, and the reader. When it is full the oldest
// block makes room and is declared lost in the next one. The connection's goroutine calls put, lost, begin, index, rate, ppm
// and lag; take is the reader's.
type intake struct {
	format dsp.Format
	width  int // bytes of a sample
	ready  chan struct{}

	// mu guards the fields below.
	mu    sync.Mutex
	ring  []Block // whole blocks: count of them from first on, around the end
	first int
	count int
	spare [][]byte // memory of blocks that were read, the last one first: what a reader that keeps up needs stays in the cache

	open     Block // being filled; empty when it has no samples
	capacity int   // samples of a block
	next     uint64
	segment  uint32
	started  bool // samples of the segment came
	tuning   Tuning
	settling uint64 // samples of the transient still to come
	missing  uint64 // lost before the next sample
	exact    bool   // missing is a count

	came   uint64    // samples put
	last   time.Time // when some were put last; monotonic
	health Health
	ended  bool
	err    error // why the connection ended
}

// newIntake makes room for blocks that last as long as the buffer, at least four.
func newIntake(info Info, blockSamples int, buffer time.Duration) *intake {
	blockSamples = blockLength(blockSamples, info.Tuning.SampleRateHz)
	blocks := buffer.Seconds() * info.Tuning.SampleRateHz / float64(blockSamples)
	return &intake{
		format: info.Format, width: info.Format.BytesPerSample(), ready: make(chan struct{}, 1), // one wake-up is enough
		ring: make([]Block, max(4, int(math.Ceil(blocks))+1)), capacity: blockSamples, tuning: info.Tuning, exact: true, last: time.Now(),
		health: Health{Connected: true, Lost: map[string]uint64{}, RatePPM: math.NaN()},
	}
}

// put takes whole samples that follow those before; at is the time of the first one. The reader is woken when it can go on at once, and
// once for all blocks.
func (in *intake) put(raw []byte, at moment) {
	if in.fill(raw, at) {
		in.wake()
	}
}

// fill does so, and tells whether a block was completed.
func (in *intake) fill(raw []byte, at moment) (completed bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	raw = raw[:len(raw)-len(raw)%in.width]
	if len(raw) == 0 || in.ended {
		return false
	}
	in.came += uint64(len(raw) / in.width)
	in.last = time.Now()
	for done := 0; len(raw) > 0; {
		if len(in.open.Raw) == 0 {
			in.start(at, done)
		}
		n := min(len(raw)/in.width, in.capacity-in.open.Samples())
		if in.settling > 0 {
			n = int(min(uint64(n), in.settling))
			in.settling -= uint64(n)
		}
		in.open.Raw = append(in.open.Raw, raw[:n*in.width]...)
		in.next += uint64(n)
		raw, done = raw[n*in.width:], done+n
		if in.open.Samples() == in.capacity || in.settling == 0 && in.open.Flags&Settling != 0 {
			in.finish()
			completed = true
		}
	}
	return completed
}

// start begins a block with the sample that comes so many samples after a moment. The caller holds mu.
func (in *intake) start(at moment, after int) {
	b := &in.open
	if last := len(in.spare) - 1; last >= 0 {
		b.Raw, in.spare = in.spare[last], in.spare[:last]
	} else {
		b.Raw = make([]byte, 0, in.capacity*in.width)
	}
	if in.missing > 0 && !in.exact && in.started {
		in.segment++
	}
	b.Format, b.Segment, b.Index, b.Tuning = in.format, in.segment, in.next, in.tuning
	b.Time, b.TimeUncertainty, b.TimeQuality = at.Time.Add(SamplesDuration(float64(after), in.tuning.SampleRateHz)).UTC(), at.Uncertainty, at.Quality
	b.LostBefore, b.LostExact, b.Flags = in.missing, in.exact, 0
	if in.settling > 0 {
		b.Flags = Settling
	}
	in.missing, in.exact, in.started = 0, true, true
}

// finish makes the open block, if there is one, the newest of the ring. The caller holds mu.
func (in *intake) finish() {
	if len(in.open.Raw) == 0 {
		return
	}
	if in.count == len(in.ring) {
		in.dropOldest()
	}
	in.ring[(in.first+in.count)%len(in.ring)] = in.open
	in.count++
	in.open = Block{}
}

// dropOldest loses the oldest block for good; the next one declares it. The caller holds mu.
func (in *intake) dropOldest() {
	oldest := &in.ring[in.first]
	in.first, in.count = (in.first+1)%len(in.ring), in.count-1
	n := uint64(oldest.Samples())
	in.reuse(oldest.Raw)
	in.health.Lost[overrun] += n
	after := &in.ring[in.first]
	after.LostBefore += oldest.LostBefore + n
	after.LostExact = after.LostExact && oldest.LostExact
}

// reuse keeps memory for a block to come. The caller holds mu.
func (in *intake) reuse(raw []byte) {
	if cap(raw) >= in.capacity*in.width {
		in.spare = append(in.spare, raw[:0])
	}
}

func (in *intake) wake() {
	select {
	case in.ready <- struct{}{}:
	default:
	}
}

// lost declares that n samples are missing before the next one. Where that is an estimate a new segment begins.
func (in *intake) lost(n uint64, exact bool, reason string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if n == 0 || in.ended {
		return
	}
	in.finish()
	in.wake()
	in.next += n
	in.missing += n
	in.exact = in.exact && exact
	in.health.Lost[reason] += n
	in.settling -= min(in.settling, n)
}

// begin says that from the next sample on another tuning is applied, and that the first samples are of the transient.
func (in *intake) begin(t Tuning, settle time.Duration) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.finish()
	in.wake()
	if in.started {
		in.segment++
		in.started = false
	}
	in.tuning = t
	in.settling = uint64(math.Ceil(max(0, settle.Seconds()*t.SampleRateHz)))
}

// index is the number of the next sample.
func (in *intake) index() uint64 {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.next
}

// rate is the best known sample rate from the next block on. It moves a little only, as a measurement does.
func (in *intake) rate(hz float64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.tuning.SampleRateHz = hz
}

// ppm is how far the measured rate is from the nominal one.
func (in *intake) ppm(v float64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.health.RatePPM = v
}

// fullScale is what a full-scale tone is in dBm from the next block on, as the receiver itself knows.
func (in *intake) fullScale(dbm float64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.tuning.FullScaleDBm = dbm
}

// lag is how late samples come beyond what is usual on this source.
func (in *intake) lag(d time.Duration) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.health.Lag = d
}

// end says that no more samples come, and why.
func (in *intake) end(err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.ended {
		return
	}
	in.finish()
	in.ended, in.err = true, err
	in.health.Connected, in.health.Err = false, err
	in.wake()
}

// take moves the oldest block into b, whose memory it takes over. It is false when there is none now; err is then why there
// will be no more.
func (in *intake) take(b *Block) (ok bool, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.count == 0 {
		return false, in.err
	}
	slot := &in.ring[in.first]
	in.first, in.count = (in.first+1)%len(in.ring), in.count-1
	in.reuse(b.Raw)
	*b, slot.Raw = *slot, nil
	in.health.SamplesTotal += uint64(b.Samples())
	return true, nil
}

// applied is the tuning of the next sample, and the number of its segment.
func (in *intake) applied() (Tuning, uint32) {
	in.mu.Lock()
	defer in.mu.Unlock()
	segment := in.segment
	return in.tuning, segment
}

// progress is how many samples were put, and when the last of them.
func (in *intake) progress() (samples uint64, last time.Time) {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.came, in.last
}

func (in *intake) account() Health {
	in.mu.Lock()
	defer in.mu.Unlock()
	h := in.health
	h.Lost = maps.Clone(in.health.Lost)
	return h
}
