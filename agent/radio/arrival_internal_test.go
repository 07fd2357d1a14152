package radio

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/dsp"
	"github.com/fulgidus/heimdall/protocol"
)

// stretched is a time in which a link carries nothing, after which what waited comes at so many times the rate.
type stretched struct {
	from, until time.Duration
	drain       float64
}

// arriving makes the arrivals of a stream on a link, from a seed.
type arriving struct {
	nominalHz float64
	ppm       float64       // of the true rate
	burst     int           // samples that come together
	pieces    int           // in so many reads
	jitter    time.Duration // mean of the exponential delay of a burst
	lossAt    time.Duration
	loss      time.Duration // that many samples are missing from then on
	stalls    []stretched
	seed      uint64
}

// usb is what a receiver of 2.4 Msps on a quiet network sends.
func usb() arriving {
	return arriving{nominalHz: 2.4e6, burst: 131072, pieces: 5, jitter: 500 * time.Microsecond, seed: 1}
}

// arrival is what a clock is told, and the truth.
type arrival struct {
	index uint64        // received so far
	at    time.Duration // when
	taken time.Duration // when the last of them was taken
}

// run calls a function with each arrival of a stream.
func (l arriving) run(length time.Duration, each func(arrival)) {
	random := rand.New(rand.NewPCG(l.seed, 0))
	trueHz := l.nominalHz * (1 + l.ppm*1e-6)
	var index, missing uint64
	var before time.Duration // the last arrival
	burst := SamplesDuration(float64(l.burst), trueHz)
	for {
		taken := SamplesDuration(float64(index+missing+uint64(l.burst)), trueHz)
		if missing == 0 && l.loss > 0 && taken > l.lossAt {
			missing = uint64(l.loss.Seconds() * trueHz)
			taken += l.loss
		}
		if taken > length {
			return
		}
		at := taken + time.Duration(random.ExpFloat64()*float64(l.jitter))
		for _, s := range l.stalls {
			if taken > s.from && at < s.until {
				at = s.until
			}
			if at >= s.until && s.drain > 0 {
				at = max(at, before+time.Duration(float64(burst)/s.drain))
			}
		}
		at = max(at, before)
		for piece := range l.pieces {
			part := l.burst * (piece + 1) / l.pieces
			each(arrival{
				index + uint64(part),
				at + time.Duration(piece)*10*time.Microsecond,
				taken - SamplesDuration(float64(l.burst-part), trueHz),
			})
		}
		before = at + time.Duration(l.pieces-1)*10*time.Microsecond
		index += uint64(l.burst)
	}
}

var bootTime = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// listening is a clock on a link, with all that it found.
type listening struct {
	*arrivalClock
	now     time.Duration
	step    time.Duration // of the wall clock
	quality protocol.TimeQuality
	lost    uint64 // found
	foundAt time.Duration
	jumps   int
	lagged  time.Duration // the most
	fault   error         // the first
}

func listenTo(l arriving) *listening {
	s := &listening{quality: protocol.TimeQuality_TIME_QUALITY_NTP}
	s.arrivalClock = newArrivalClock(l.nominalHz, 100*time.Millisecond+SamplesDuration(float64(l.burst), l.nominalHz), func() (time.Time, protocol.TimeQuality, time.Duration) {
		return bootTime.Add(s.now + s.step), s.quality, 10 * time.Millisecond
	})
	return s
}

// hear takes an arrival, and returns by how much the clock's time of the newest sample is off.
func (s *listening) hear(a arrival) (off time.Duration) {
	s.now = a.at
	index := a.index + s.lost
	s.observe(index, bootTime.Add(a.at))
	lost, jump := s.news()
	if lost > 0 {
		s.lost, s.foundAt = s.lost+lost, a.at
		index += lost
	}
	if jump {
		s.jumps++
	}
	s.lagged = max(s.lagged, s.lag())
	if s.fault == nil {
		s.fault = s.arrivalClock.fault()
	}
	return s.at(index).Time.Sub(bootTime.Add(a.taken))
}

func TestArrival_RateAndTime(t *testing.T) {
	for _, c := range []struct {
		name   string
		link   func(*arriving)
		ppmOff float64
		off    time.Duration // after a while
	}{
		{"exact", func(*arriving) {}, 1, 300 * time.Microsecond},
		{"fast", func(l *arriving) { l.ppm = 50 }, 1, 300 * time.Microsecond},
		{"slow", func(l *arriving) { l.ppm = -50 }, 1, 300 * time.Microsecond},
		{"narrow", func(l *arriving) { l.nominalHz, l.ppm = 250e3, 30 }, 3, time.Millisecond},
		{"wireless", func(l *arriving) { l.jitter, l.ppm = 8*time.Millisecond, -20 }, 15, 4 * time.Millisecond},
		{"12 kHz in small blocks", func(l *arriving) { l.nominalHz, l.burst, l.pieces, l.ppm = 12e3, 512, 1, 10 }, 2, 500 * time.Microsecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			link := usb()
			c.link(&link)
			s := listenTo(link)
			var before arrival
			var beforeTime time.Time
			link.run(5*time.Minute, func(a arrival) {
				off := s.hear(a)
				m := s.at(a.index)
				if off.Abs() > m.Uncertainty {
					t.Fatalf("at %v the time is off by %v, stated are %v", a.at, off, m.Uncertainty)
				}
				if a.at > 30*time.Second && off.Abs() > c.off {
					t.Fatalf("at %v the time is off by %v, want at most %v", a.at, off, c.off)
				}
				if before.index > 0 {
					moved := m.Time.Sub(beforeTime) - SamplesDuration(float64(a.index-before.index), s.rateHz())
					if moved.Abs() > m.Uncertainty/2 {
						t.Fatalf("at %v times jump by %v", a.at, moved)
					}
				}
				before, beforeTime = a, m.Time
			})
			if got := s.ppm(); math.Abs(got-link.ppm) > c.ppmOff {
				t.Errorf("measured %.2f ppm, want %v within %v", got, link.ppm, c.ppmOff)
			}
			if got, want := s.rateHz(), link.nominalHz*(1+link.ppm*1e-6); math.Abs(got-want) > c.ppmOff*1e-6*want {
				t.Errorf("rate %.3f Hz, want %.3f", got, want)
			}
			if s.lost > 0 || s.jumps > 0 || s.fault != nil {
				t.Errorf("%d samples lost, %d jumps, fault %v on a link without any", s.lost, s.jumps, s.fault)
			}
		})
	}
}

func TestArrival_Loss(t *testing.T) {
	for _, ms := range []int{1, 2, 5, 10, 30, 100} {
		loss := time.Duration(ms) * time.Millisecond
		for seed := range uint64(20) {
			link := usb()
			link.seed, link.ppm = seed, float64(seed)*5-50
			link.loss, link.lossAt = loss, 20*time.Second+time.Duration(seed)*777*time.Millisecond
			s := listenTo(link)
			link.run(time.Minute, func(a arrival) {
				off := s.hear(a)
				if a.at > s.foundAt+10*time.Second && s.lost > 0 && off.Abs() > loss/5+300*time.Microsecond {
					t.Fatalf("loss of %v, seed %d: the time is off by %v at %v", loss, seed, off, a.at)
				}
			})
			want := loss.Seconds() * link.nominalHz
			if got := float64(s.lost); math.Abs(got-want) > want/5 {
				t.Errorf("loss of %v, seed %d: found %.0f samples, want %.0f within a fifth", loss, seed, got, want)
			}
			if s.foundAt < link.lossAt+time.Second || s.foundAt > link.lossAt+3*time.Second {
				t.Errorf("loss of %v, seed %d at %v: found at %v", loss, seed, link.lossAt, s.foundAt)
			}
			if math.Abs(s.ppm()-link.ppm) > 5 {
				t.Errorf("loss of %v, seed %d: %.1f ppm after it, want %.1f", loss, seed, s.ppm(), link.ppm)
			}
		}
	}
}

// TestArrival_Queue holds samples up and lets them go: nothing is lost, and it is said how late they were.
func TestArrival_Queue(t *testing.T) {
	for _, ms := range []int{50, 200, 500, 1500} {
		stall := time.Duration(ms) * time.Millisecond
		for _, drain := range []float64{0, 10, 2, 1.3} {
			link := usb()
			until := 20*time.Second + stall
			link.stalls = []stretched{{20 * time.Second, until, drain}}
			s := listenTo(link)
			link.run(time.Minute, func(a arrival) {
				off := s.hear(a)
				if stated := s.at(a.index).Uncertainty; off.Abs() > stated {
					t.Fatalf("stall of %v: the time is off by %v, stated are %v", stall, off, stated)
				}
				if off.Abs() > time.Millisecond && a.at > 10*time.Second {
					t.Fatalf("stall of %v, drained at %v: the time of samples is off by %v at %v", stall, drain, off, a.at)
				}
			})
			if s.lost > 0 || s.fault != nil || s.jumps > 0 {
				t.Errorf("stall of %v, drained at %v: %d samples lost, %d jumps, fault %v", stall, drain, s.lost, s.jumps, s.fault)
			}
			if drain > 0 && drain < 5 && ms >= 500 && s.lagged < stall/3 || s.lagged > stall {
				t.Errorf("stall of %v, drained at %v: lag of %v reported", stall, drain, s.lagged)
			}
			if s.lag() > 0 {
				t.Errorf("stall of %v, drained at %v: still %v late half a minute later", stall, drain, s.lag())
			}
		}
	}
}

// TestArrival_QueueOverflows is a stall after which the oldest of what waited is gone.
func TestArrival_QueueOverflows(t *testing.T) {
	link := usb()
	link.stalls = []stretched{{20 * time.Second, 20900 * time.Millisecond, 3}}
	link.loss, link.lossAt = 400*time.Millisecond, 20100*time.Millisecond
	s := listenTo(link)
	link.run(time.Minute, func(a arrival) { s.hear(a) })
	if want := 0.4 * link.nominalHz; math.Abs(float64(s.lost)-want) > want/5 {
		t.Errorf("found %d samples, want %.0f", s.lost, want)
	}
}

func TestArrival_Faults(t *testing.T) {
	tests := []struct {
		name   string
		link   func(*arriving)
		actual float64 // rate of the source, where it is not what it says
		within time.Duration
		want   string
	}{
		{"a queue of five seconds", func(l *arriving) { l.stalls = []stretched{{20 * time.Second, 25 * time.Second, 1.2}} }, 0, 28 * time.Second, "s late"},
		{"another rate", func(*arriving) {}, 2.048e6, 10 * time.Second, "samples come at 2.048 MHz, not at 2.4 MHz"},
		{"a little faster", func(*arriving) {}, 2.42e6, 10 * time.Second, "samples come at 2.42 MHz"},
		{"ten times as fast", func(*arriving) {}, 24e6, 10 * time.Second, "samples come at 24 MHz"},
		{"a sample a second", func(l *arriving) { l.burst, l.pieces = 1, 1 }, 1, 20 * time.Second, "samples come at 1 Hz"},
		{"a link of nine tenths", func(l *arriving) { l.stalls = []stretched{{20 * time.Second, 20 * time.Second, 0.9}} }, 0, 32 * time.Second, "the link is too slow"},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			link := usb()
			c.link(&link)
			s := listenTo(link)
			if c.actual > 0 {
				link.nominalHz = c.actual
			}
			at := time.Duration(0)
			link.run(time.Minute, func(a arrival) {
				if s.hear(a); s.fault == nil {
					at = a.at
				}
			})
			if s.fault == nil || !strings.Contains(s.fault.Error(), c.want) {
				t.Fatalf("fault %v, want %q", s.fault, c.want)
			}
			if at > c.within {
				t.Errorf("found after %v, want within %v", at, c.within)
			}
		})
	}
}

// TestArrival_JitterIsNoLoss is a radio link that is busy from time to time.
func TestArrival_JitterIsNoLoss(t *testing.T) {
	for seed := range uint64(10) {
		link := usb()
		link.seed, link.jitter = seed, 10*time.Millisecond
		for i := range 20 {
			from := time.Duration(10+10*i) * time.Second
			link.stalls = append(link.stalls, stretched{from, from + 300*time.Millisecond, 0})
		}
		s := listenTo(link)
		link.run(4*time.Minute, func(a arrival) { s.hear(a) })
		if s.lost > 0 || s.fault != nil {
			t.Errorf("seed %d: %d samples lost, fault %v", seed, s.lost, s.fault)
		}
		link.loss, link.lossAt = 100*time.Millisecond, 60*time.Second
		s = listenTo(link)
		link.run(4*time.Minute, func(a arrival) { s.hear(a) })
		if want := 0.1 * link.nominalHz; math.Abs(float64(s.lost)-want) > want/5 {
			t.Errorf("seed %d: found %d samples, want %.0f", seed, s.lost, want)
		}
	}
}

// TestArrival_BeganInAQueue connects to a server that has a second of old samples: times are wrong until they have come, then
// a new segment has the right ones.
func TestArrival_BeganInAQueue(t *testing.T) {
	link := usb()
	link.stalls = []stretched{{0, time.Second, 4}}
	s := listenTo(link)
	link.run(30*time.Second, func(a arrival) {
		if off := s.hear(a); a.at > 15*time.Second && off.Abs() > time.Millisecond {
			t.Fatalf("the time is off by %v at %v", off, a.at)
		}
	})
	if s.jumps == 0 || s.lost > 0 || s.fault != nil {
		t.Errorf("%d jumps, %d samples lost, fault %v", s.jumps, s.lost, s.fault)
	}
}

func TestArrival_WallClock(t *testing.T) {
	link := usb()
	s := listenTo(link)
	s.quality = protocol.TimeQuality_TIME_QUALITY_UNSET
	phase := 0
	link.run(40*time.Second, func(a arrival) {
		switch {
		case a.at > 30*time.Second && phase == 2: // a glance at a moment when the program was held up
			phase, s.step = 3, s.step+time.Second
			s.hear(a)
			s.step -= time.Second
			return
		case a.at > 20*time.Second && phase == 1: // slewed
			phase, s.step = 2, s.step+5*time.Millisecond
		case a.at > 10*time.Second && phase == 0: // set
			phase, s.step, s.quality = 1, 24*time.Hour, protocol.TimeQuality_TIME_QUALITY_NTP
		}
		s.hear(a)
		m := s.at(a.index)
		want := protocol.TimeQuality_TIME_QUALITY_ARRIVAL
		if phase == 0 {
			want = protocol.TimeQuality_TIME_QUALITY_UNSET
		}
		if m.Quality != want {
			t.Fatalf("quality %v at %v, want %v", m.Quality, a.at, want)
		}
		if m.Uncertainty < 110*time.Millisecond {
			t.Fatalf("uncertainty %v is less than that of the wall clock and the queue", m.Uncertainty)
		}
	})
	if s.jumps != 1 {
		t.Errorf("%d jumps, want the one when the clock was set", s.jumps)
	}
	if s.lost > 0 || s.fault != nil {
		t.Errorf("%d samples lost, fault %v", s.lost, s.fault)
	}
	off := s.at(24e6).Time.Sub(bootTime.Add(24*time.Hour + 10*time.Second))
	if off < 4*time.Millisecond || off > 6*time.Millisecond {
		t.Errorf("the time is off by %v, want the 5 ms by which the wall clock was slewed", off)
	}
}

func TestArrival_UnknownAtFirst(t *testing.T) {
	s := listenTo(usb())
	if !math.IsNaN(s.ppm()) || s.rateHz() != 2.4e6 || s.lag() != 0 {
		t.Errorf("before any arrival: %v ppm, %v Hz, lag %v", s.ppm(), s.rateHz(), s.lag())
	}
	usb().run(4*time.Second, func(a arrival) { s.hear(a) })
	if !math.IsNaN(s.ppm()) {
		t.Errorf("%v ppm after four seconds: nobody can know", s.ppm())
	}
}

func TestArrival_DoesNotAllocate(t *testing.T) {
	link, s := usb(), listenTo(usb())
	var all []arrival
	link.run(5*time.Minute, func(a arrival) { all = append(all, a) })
	next := 0
	if n := testing.AllocsPerRun(len(all)-10, func() { s.hear(all[next]); next++ }); n > 0 {
		t.Errorf("%v allocations an arrival", n)
	}
}

// TestArrival_Put declares what the clock finds in the blocks.
func TestArrival_Put(t *testing.T) {
	link := usb()
	link.nominalHz, link.burst, link.pieces, link.ppm = 250e3, 16384, 3, 20
	link.loss, link.lossAt = 50*time.Millisecond, 30*time.Second
	s := listenTo(link)
	in := newIntake(Info{Format: dsp.CU8, Tuning: Tuning{CenterHz: 1e8, SampleRateHz: 250e3, GainDB: math.NaN()}}, 0, time.Second)
	raw, before := make([]byte, 2*link.burst), uint64(0)
	var b Block
	lost, segments, next := uint64(0), map[uint32]bool{}, uint64(0)
	link.run(2*time.Minute, func(a arrival) {
		s.now = a.at
		if err := s.put(in, raw[:2*(a.index-before)], bootTime.Add(a.at)); err != nil {
			t.Fatal(err)
		}
		before = a.index
		for {
			if ok, err := in.take(&b); err != nil || !ok {
				break
			}
			if b.Index != next+b.LostBefore || b.LostBefore > 0 && b.LostExact {
				t.Fatalf("block at %d follows %d with %d lost (exact: %v)", b.Index, next, b.LostBefore, b.LostExact)
			}
			next, lost, segments[b.Segment] = b.Index+uint64(b.Samples()), lost+b.LostBefore, true
		}
	})
	if want := 0.05 * 250e3; math.Abs(float64(lost)-want) > want/5 {
		t.Errorf("%d samples declared lost, want %.0f", lost, want)
	}
	if len(segments) != 2 {
		t.Errorf("%d segments, want one before the loss and one after it", len(segments))
	}
	if h := in.account(); h.Lost["missing"] != lost || math.Abs(h.RatePPM-20) > 3 || h.Lag != 0 {
		t.Errorf("health %+v after %d lost samples at 20 ppm", h, lost)
	}
	if got, want := b.Tuning.SampleRateHz, 250e3*(1+20e-6); math.Abs(got-want) > 1 {
		t.Errorf("blocks have %.2f Hz, want %.2f", got, want)
	}
}
