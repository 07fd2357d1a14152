package radio

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// stream takes frames until the connection ends.
func (w *kiwiSDR) stream(ctx context.Context, in *intake) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	kept := make(chan struct{}) // closed when the keeper has ended
	go func() {
		defer close(kept)
		w.keepAlive(ctx)
	}()
	defer func() { cancel(); <-kept }()
	w.prepare()
	defer w.flush(in) // what came before the end
	for _, f := range w.first {
		if err := w.take(in, f.bytes, f.at); err != nil {
			return err
		}
	}
	w.first = nil
	// A read with a context of its own would make a timer for each frame.
	stop := context.AfterFunc(ctx, func() { _ = w.conn.CloseNow() })
	defer stop()
	reading := context.WithoutCancel(ctx)
	for {
		b, err := w.read(reading)
		if err != nil {
			return w.closed(err)
		}
		if err := w.take(in, b, time.Now()); err != nil {
			return err
		}
	}
}

// prepare makes what frames are taken with.
func (w *kiwiSDR) prepare() {
	w.clock = newSampleClock(w.tuning.SampleRateHz, stampTolerance, stampFloor)
	w.arrived = newArrivalClock(w.tuning.SampleRateHz, kiwiQueue, w.wall)
	w.waiting = make([]byte, 0, 2*kiwiMostFrame)
}

// take handles what came at an instant: a message, or a frame of sound.
func (w *kiwiSDR) take(in *intake, b []byte, at time.Time) error {
	f, err := parseSound(b)
	if err != nil {
		return w.hear(b)
	}
	if f.iq == nil { // of the mode before
		return nil
	}
	w.number(in, f)
	if asked := w.asked.Load(); f.flags&kiwiRetuned != 0 || asked != nil && !asked.moves {
		w.retuned(in)
	}
	if f.flags&kiwiLE == 0 {
		swapBytes(f.iq)
	}
	w.observe(in, f, at)
	if dbm, known := w.level.add(f); known {
		w.tuning.FullScaleDBm = dbm
		in.fullScale(dbm)
	}
	w.waiting = append(w.waiting, f.iq...)
	if w.doubted == 0 || w.doubted >= kiwiWaiting || len(w.waiting) >= kiwiMostFrame {
		w.flush(in)
	}
	return nil
}

// hear notes a message while the stream runs. A frame of any other kind is garbage, from something that is no KiwiSDR.
func (w *kiwiSDR) hear(b []byte) error {
	if !bytes.HasPrefix(b, []byte("MSG")) {
		return fmt.Errorf("%s: %w", w.source, errKiwiFrame)
	}
	var no error
	kiwiMessages(b, func(name, value string) {
		if refused := kiwiRefusal(w.source, name, value); refused != nil {
			no = refused
		}
	})
	return no
}

// number declares the frames that are missing: the server counts them before it throws away what a slow line cannot take.
func (w *kiwiSDR) number(in *intake, f soundFrame) {
	missing := f.seq - w.seq - 1
	first := !w.begun
	w.seq, w.begun = f.seq, true
	switch {
	case first || missing == 0:
	case f.flags&kiwiRestart != 0 || missing > kiwiMostLost:
		w.flush(in)
		in.begin(w.tuning, kiwiSettle)
	default:
		w.flush(in)
		in.lost(uint64(missing)*uint64(len(f.iq)/4), true, "server")
		if w.asked.Load() != nil { // it may have said so in one that is missing
			w.retuned(in)
		}
	}
}

// retuned begins a segment with what was asked last; at first, with the transient of the start. Where more was asked than one
// order, or where the server says nothing, as of a gain, it may not be so far yet.
func (w *kiwiSDR) retuned(in *intake) {
	w.flush(in)
	settle := kiwiSettle
	if asked := w.asked.Swap(nil); asked != nil {
		w.tuning, w.level = asked.to, kiwiLevel{}
		settle += asked.latest.Sub(asked.began)
		if !asked.moves {
			settle += kiwiQueue
		}
	}
	in.begin(w.tuning, settle)
}

// observe gives both clocks a frame, which follows those that wait.
func (w *kiwiSDR) observe(in *intake, f soundFrame, at time.Time) {
	index := in.index() + uint64(len(w.waiting)/4)
	w.arrived.observe(index+uint64(len(f.iq)/4), at)
	if _, jumped := w.arrived.news(); jumped && w.timed && !w.stamped { // losses are known by number here
		w.flush(in)
		in.begin(w.tuning, 0)
	}
	wall, quality, _ := w.wall()
	if f.stamp.stamped && quality != protocol.TimeQuality_TIME_QUALITY_UNSET { // which week it is, only a wall clock knows
		w.fixAge = f.stamp.age
		w.clock.observe(index, utcOfWeek(f.stamp.ns, wall))
	}
	if w.clock.known && w.clock.age(index) > kiwiStampless {
		w.clock = newSampleClock(w.tuning.SampleRateHz, stampTolerance, stampFloor)
	}
	w.doubted++
	if !w.clock.doubts() {
		w.doubted = 0
	}
}

// flush delivers what waits, with the best time there is for it.
func (w *kiwiSDR) flush(in *intake) {
	if len(w.waiting) == 0 {
		return
	}
	in.lost(w.clock.missing(), true, "receiver")
	at, stamped := w.clock.at(in.index())
	if jumped := w.clock.news(); jumped || w.timed && stamped != w.stamped {
		in.begin(w.tuning, 0) // times before and after do not belong together
	}
	w.timed, w.stamped = true, stamped
	switch {
	case !stamped:
		at = w.arrived.at(in.index())
		_, at.Quality, _ = w.wall()
	case w.fixAge >= staleFix || w.clock.age(in.index()) > kiwiStale:
		at.Quality = protocol.TimeQuality_TIME_QUALITY_GNSS_STALE
	default:
		at.Quality = protocol.TimeQuality_TIME_QUALITY_GNSS
	}
	if stamped {
		in.rate(w.clock.rateHz())
		in.ppm(w.clock.ppm())
	}
	in.put(w.waiting, at)
	w.waiting = w.waiting[:0]
}

// swapBytes turns 16-bit numbers of the other byte order.
func swapBytes(b []byte) {
	for i := 0; i+1 < len(b); i += 2 {
		b[i], b[i+1] = b[i+1], b[i]
	}
}

// kiwiLevel learns what full scale is in dBm: the S-meter measures the passband before the gain, the samples come after it.
type kiwiLevel struct {
	sum    float64 // of dBm less dBFS
	seen   int
	frames int // of them in sum
}

const (
	// kiwiLevelFrames is a second and a half.
	kiwiLevelFrames = 35
	// kiwiLevelSkips are the frames of a transient.
	kiwiLevelSkips = 6
)

// add takes a frame. The level is known once, when there are enough. Frames that are clipped, or beyond the S-meter, say nothing.
func (l *kiwiLevel) add(f soundFrame) (fullScaleDBm float64, known bool) {
	l.seen++
	if l.frames == kiwiLevelFrames || l.seen <= kiwiLevelSkips || f.flags&kiwiOverload != 0 || f.sMeter <= kiwiLeastDBm || f.sMeter >= kiwiMostDBm {
		return 0, false
	}
	power := 0.0
	for i := 0; i+1 < len(f.iq); i += 2 {
		v := int16(binary.LittleEndian.Uint16(f.iq[i:]))
		if v == math.MaxInt16 || v == math.MinInt16 {
			return 0, false
		}
		power += float64(v) * float64(v)
	}
	if power == 0 {
		return 0, false
	}
	power /= float64(len(f.iq)/4) * (1 << 30)
	l.sum += f.sMeter - 10*math.Log10(power)
	l.frames++
	return l.sum / kiwiLevelFrames, l.frames == kiwiLevelFrames
}
