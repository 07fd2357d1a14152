package radio

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fulgidus/heimdall/dsp"
	"github.com/fulgidus/heimdall/protocol"
)

// simReceiver is a station of a scene. Paced in real time it is live: a reader that is too slow loses whole blocks,
// as with a real receiver, and is told how many samples.
type simReceiver struct {
	source  string
	path    string
	station string
	opts    Options
	live    bool
	start   time.Time     // zero: now
	buffer  time.Duration // how far the reader may fall behind
	settle  time.Duration // length of the transient after a retune

	scene   *Scene
	sky     *sky
	format  dsp.Format
	tuning  Tuning
	nominal float64       // rate as asked
	closed  chan struct{} // closed by Close; no values

	// Where the stream is. Only the goroutine that reads and tunes touches these.
	next     uint64 // number on the grid
	block    uint64
	index    uint64
	segment  uint32
	paced    pace
	settling int // samples of the transient still to come
	fade     int // samples of the whole transient

	// mu guards health.
	mu     sync.Mutex
	health Health
	once   sync.Once
}

func openSim(source, rest string, opts Options) (Receiver, error) {
	p := newParams(source, rest)
	s := &simReceiver{source: source, opts: opts, closed: make(chan struct{})}
	s.path = p.localPath()
	s.station, _ = p.take("station")
	if s.station == "" {
		p.fault("station", "", "missing: say which of the scene's stations this is, as sim:SCENE.yaml?station=torino")
	}
	s.tuning.CenterHz = either(opts.CenterHz, p.hertz("center", 1, maxHz))
	s.nominal = either(opts.RateHz, p.hertz("rate", minSceneRateHz, maxSceneRateHz))
	s.live = p.oneOf("pace", "real", "real", "fast") == "real"
	s.start = p.instant("start")
	if s.live && !s.start.IsZero() {
		p.fault("start", p.values["start"], "needs pace=fast: in real time a receiver starts now")
	}
	s.buffer, s.settle = time.Second, 20*time.Millisecond
	if d := p.duration("buffer"); d > 0 {
		s.buffer = d
	}
	if d := p.duration("settle"); d > 0 {
		s.settle = d
	}
	if err := p.finish(); err != nil {
		return nil, err
	}
	return s, nil
}

// leastBlock is how many samples a block has at least, at the lowest rates.
const leastBlock = 64

// maxSinceEpoch keeps nanoseconds since the epoch well within 64 bits.
const maxSinceEpoch = 100 * 365 * 24 * time.Hour

// epochOf is a scene's epoch.
func epochOf(s *Scene) time.Time { return time.Time(s.Epoch) }

// Open reads the scene and starts the stream.
func (s *simReceiver) Open(ctx context.Context) (Info, error) {
	if err := ctx.Err(); err != nil {
		return Info{}, err
	}
	select {
	case <-s.closed:
		return Info{}, ErrClosed
	default:
	}
	scene, err := ReadScene(s.path)
	if err != nil {
		return Info{}, sceneFaults(s.path, err)
	}
	st := scene.Stations[s.station]
	if st == nil {
		ids := slices.Sorted(maps.Keys(scene.Stations))
		return Info{}, &Fault{"scene " + s.path, "station", s.station, "not in the scene, which has " + strings.Join(ids, ", ")}
	}
	s.scene, s.format = scene, dsp.Format(st.Format)
	s.tuning.GainDB = st.GainDB
	s.nominal = either(s.nominal, float64(st.Rate))
	if s.tuning.CenterHz == 0 && len(scene.Emitters) > 0 {
		s.tuning.CenterHz = float64(scene.Emitters[0].Center)
	}
	s.retune()
	from := s.start
	if from.IsZero() {
		from, _, _ = s.opts.Wall()
		s.paced = pace{}
	}
	if since := from.Sub(epochOf(scene)); since < 0 || since > maxSinceEpoch {
		return Info{}, &Fault{
			"scene " + s.path, "epoch", epochOf(scene).Format(time.RFC3339),
			"must lie before the start, " + from.UTC().Format(time.RFC3339) + ", by a century at most: choose an earlier or later one",
		}
	}
	s.next = s.sky.grid.firstAt(from)
	s.mu.Lock()
	s.health = Health{Connected: true, Lost: map[string]uint64{}, RatePPM: st.Clock.PPM}
	s.mu.Unlock()
	return Info{
		Source: s.source, Hardware: "simulated receiver " + s.station, Format: s.format, Tuning: s.tuning,
		Live: s.live, Tunable: true, Range: s.tunes(), Timeline: s.live, TimeQuality: protocol.TimeQuality(st.Clock.Quality),
	}, nil
}

// tunes is what Tune accepts. Blocks are of 50 ms where the reader did not choose, longer at the lowest rates.
func (s *simReceiver) tunes() Range {
	block := max(SamplesDuration(float64(s.block), s.tuning.SampleRateHz), SamplesDuration(leastBlock, minSceneRateHz))
	return Range{LowHz: 1, HighHz: maxHz, LowRateHz: minSceneRateHz, HighRateHz: maxSceneRateHz, Settling: block + s.settle}
}

// retune makes the sky for the present centre and nominal rate.
func (s *simReceiver) retune() {
	s.sky = newSky(s.scene, s.station, s.tuning.CenterHz, s.nominal)
	s.tuning.SampleRateHz = s.sky.grid.rateHz()
	s.block = uint64(s.opts.BlockSamples)
	if s.opts.BlockSamples <= 0 {
		s.block = min(max(uint64(s.nominal/20), leastBlock), 65536)
	}
}

// Read delivers the next block when its last sample has been taken.
func (s *simReceiver) Read(ctx context.Context, b *Block) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	lost, quality := uint64(0), protocol.TimeQuality(s.scene.Stations[s.station].Clock.Quality)
	var now time.Time
	if s.live {
		var known protocol.TimeQuality
		now, known, _ = s.opts.Wall()
		s.follow(now)
		lost = s.overrun(now)
		if known == protocol.TimeQuality_TIME_QUALITY_UNSET && byTheStationsClock(quality) {
			quality = known
		}
	}
	// Blocks end on multiples of their length, so that all stations' blocks are of the same moments.
	n := s.block - s.next%s.block
	b.Flags = 0
	if s.settling > 0 {
		n = min(n, uint64(s.settling))
		b.Flags = Settling
	}
	if s.live {
		if err := wait(ctx, s.closed, s.sky.grid.time(s.next+n).Sub(now)); err != nil {
			return err
		}
	}
	size := int(n) * s.format.BytesPerSample()
	if cap(b.Raw) < size {
		b.Raw = make([]byte, size)
	}
	b.Raw = b.Raw[:size]
	settled := s.fade
	if s.settling > 0 {
		settled = s.fade - s.settling
		s.settling -= int(n)
	}
	s.sky.read(b.Raw, s.format, s.next, settled, s.fade)
	clock := &s.scene.Stations[s.station].Clock
	b.Format, b.Segment, b.Index = s.format, s.segment, s.index
	b.Time, b.TimeQuality = s.sky.grid.time(s.next), quality
	b.TimeUncertainty = time.Duration(clock.SigmaS * 1e9)
	b.Tuning = s.tuning
	b.LostBefore, b.LostExact = lost, true
	s.next += n
	s.index += n
	s.mu.Lock()
	s.health.SamplesTotal += n
	s.mu.Unlock()
	return nil
}

// pace is when the wall clock was read last, by itself and by the monotonic clock.
type pace struct{ wall, monotonic time.Time }

// leastStep is the change of the wall clock against the monotonic one from which on it counts as set anew.
const leastStep = 50 * time.Millisecond

// step is by how much the wall clock was set since it was read last; 0 when it was not.
func (p *pace) step(wall, monotonic time.Time) time.Duration {
	last := *p
	*p = pace{wall.Round(0), monotonic}
	if last.monotonic.IsZero() {
		return 0
	}
	step := p.wall.Sub(last.wall) - monotonic.Sub(last.monotonic)
	if step.Abs() < leastStep {
		return 0
	}
	return step
}

// byTheStationsClock tells whether times of a quality are read from the clock of the computer that the receiver is at. A
// simulated receiver has its own clock unless its scene says that it is this one.
func byTheStationsClock(q protocol.TimeQuality) bool {
	return q == protocol.TimeQuality_TIME_QUALITY_SYSTEM || q == protocol.TimeQuality_TIME_QUALITY_NTP
}

// follow goes along with the wall clock. Where that was set, a new segment begins: the samples go on, their times jump.
func (s *simReceiver) follow(now time.Time) {
	step := s.paced.step(now, time.Now())
	if step == 0 {
		return
	}
	at := s.sky.grid.time(s.next).Add(step)
	if at.Before(epochOf(s.scene)) {
		at = epochOf(s.scene)
	}
	s.next = s.sky.grid.firstAt(at)
	s.segment++
}

// overrun drops the oldest whole blocks when the reader is more than the buffer behind, and returns their samples.
func (s *simReceiver) overrun(now time.Time) uint64 {
	behind := now.Sub(s.sky.grid.time(s.next)) - s.buffer
	if behind <= 0 {
		return 0
	}
	newest := s.sky.grid.firstAt(now.Add(-s.buffer))
	if newest <= s.next {
		return 0
	}
	drop := (newest - s.next) / s.block * s.block
	if drop == 0 {
		return 0
	}
	s.next += drop
	s.index += drop
	s.settling = max(0, s.settling-int(min(drop, math.MaxInt32)))
	s.mu.Lock()
	s.health.Lost["overrun"] += drop
	s.mu.Unlock()
	return drop
}

func (s *simReceiver) usable(ctx context.Context) error {
	select {
	case <-s.closed:
		return ErrClosed
	default:
	}
	if s.scene == nil {
		return fmt.Errorf("read %s before Open: %w", s.source, ErrClosed)
	}
	return ctx.Err()
}

// Tune changes centre and rate; 0 keeps what is. The gain is the scene's.
func (s *simReceiver) Tune(ctx context.Context, t Tuning) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	where := fmt.Sprintf("tune %q", s.source)
	if t.CenterHz != 0 && !(t.CenterHz >= 1 && t.CenterHz <= maxHz) {
		return &Fault{where, "center", formatHertz(t.CenterHz), fmt.Sprintf("want 1 Hz to %s", formatHertz(maxHz))}
	}
	if t.SampleRateHz != 0 && !(t.SampleRateHz >= minSceneRateHz && t.SampleRateHz <= maxSceneRateHz) {
		return &Fault{where, "rate", formatHertz(t.SampleRateHz), fmt.Sprintf("want %s to %s", formatHertz(minSceneRateHz), formatHertz(maxSceneRateHz))}
	}
	center, rate := either(t.CenterHz, s.tuning.CenterHz), either(t.SampleRateHz, s.nominal)
	if rate == s.tuning.SampleRateHz {
		rate = s.nominal // what was applied, asked again
	}
	if center == s.tuning.CenterHz && rate == s.nominal {
		return nil
	}
	now, _, _ := s.opts.Wall()
	if s.live {
		s.follow(now)
	}
	from := s.sky.grid.time(s.next)
	s.tuning.CenterHz, s.nominal = center, rate
	s.retune()
	if s.live && now.After(from) {
		from = now
	}
	s.next = s.sky.grid.firstAt(from)
	s.segment++
	s.fade = int(math.Ceil(s.settle.Seconds() * s.tuning.SampleRateHz))
	s.settling = s.fade
	return nil
}

// Health tells what was delivered and lost.
func (s *simReceiver) Health() Health {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.health
	h.Lost = maps.Clone(s.health.Lost)
	return h
}

// Close ends a blocked Read. It may be called more than once.
func (s *simReceiver) Close() error {
	s.once.Do(func() {
		close(s.closed)
		s.mu.Lock()
		s.health.Connected = false
		s.mu.Unlock()
	})
	return nil
}
