package radio

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"time"
)

// stream takes samples in, and beside it follows what radiod says of the channel.
func (w *ka9qWire) stream(ctx context.Context, in *intake) error {
	now := time.Now()
	w.mu.Lock()
	w.in, w.tuning, w.heard, w.came = in, w.state.tuning(), now, now
	w.order.sink = (*ka9qSink)(w)
	w.lookAtWall(w.state.time(), now)
	w.startClock()
	w.mu.Unlock()

	following, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(following, func() { w.data.SetReadDeadline(time.Unix(1, 0)) }) //nolint:errcheck // it is closed then
	defer stop()
	followed := make(chan struct{}) // closed when follow has ended
	go func() {
		defer close(followed)
		cancel(w.follow(following))
	}()
	err := w.take()
	if cause := context.Cause(following); cause != nil {
		err = cause // why take was told to end
	}
	cancel(err)
	<-followed
	return err
}

// startClock begins to measure a rate. The caller holds mu.
func (w *ka9qWire) startClock() {
	block := w.state.block()
	w.clock = newSampleClock(w.state.rate, 5*block, block)
	w.order.width = ka9qEncodings[w.state.encoding].width
	w.order.far = uint64(ka9qFar.Seconds() * w.state.rate)
	w.paired = false
}

// take reads samples.
func (w *ka9qWire) take() error {
	buf := make([]byte, 1<<16)
	for {
		n, _, err := w.data.ReadFromUDPAddrPort(buf)
		if err != nil {
			return fmt.Errorf("read samples: %w", err)
		}
		if p, ok := parseRTP(buf[:n]); ok && p.ssrc == w.set.ssrc {
			if err := w.packet(p, time.Now()); err != nil {
				return fmt.Errorf("channel %d: %w", w.set.ssrc, err)
			}
		}
	}
}

// packet takes a packet of the channel.
func (w *ka9qWire) packet(p rtpPacket, now time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p.payload != w.state.payload || now.Before(w.skip) || len(p.samples) < w.order.width {
		return nil // of a state that has passed, or that has not been told yet
	}
	if !w.order.synced {
		w.meet(p, now)
	}
	w.came, w.counted = now, false
	return w.order.put(p, now)
}

// meet ties the numbers of samples to the timestamps of a stream that begins. The caller holds mu.
func (w *ka9qWire) meet(p rtpPacket, now time.Time) {
	if w.resumed {
		w.in.lost(uint64(max(0, now.Sub(w.came).Seconds()*w.state.rate)), false, "retune")
		w.in.begin(w.tuning, ka9qSettle)
	}
	at := rtpOrigin + uint64(p.timestamp)
	w.origin = at - w.in.index()
	told := at + uint64(int64(int32(w.state.snap-p.timestamp)))
	if w.state.hasSnap && !w.resumed && told < at+w.order.far && at < told+w.order.far {
		w.pairAt, w.pairTime = told, w.state.time()
	} else {
		at, _, _ := w.wall()
		w.pairAt, w.pairTime = rtpOrigin+uint64(p.timestamp), at
	}
	w.resumed = false
}

// ka9qSink puts what is in order into the intake; mu is held.
type ka9qSink ka9qWire

func (w *ka9qSink) samples(at uint64, raw []byte) {
	w.scratch = decodeKa9q(w.scratch[:0], raw, w.state.encoding)
	w.in.put(w.scratch, (*ka9qWire)(w).moment(at))
}

func (w *ka9qSink) missing(n uint64, reason string) { w.in.lost(n, true, reason) }

func (w *ka9qSink) marked() { w.in.begin(w.tuning, ka9qSettle) }

// follow reads what radiod says, and asks for it.
func (w *ka9qWire) follow(ctx context.Context) error {
	const look = 250 * time.Millisecond
	buf := make([]byte, 1<<16)
	var st ka9qState
	var polled time.Time
	for ctx.Err() == nil {
		if err := w.status.SetReadDeadline(time.Now().Add(look)); err != nil {
			return err
		}
		n, _, err := w.status.ReadFromUDPAddrPort(buf)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("read status: %w", err)
		}
		now := time.Now()
		if err == nil && st.parse(buf[:n]) == nil && st.ssrc == w.set.ssrc {
			if err := w.hear(&st, now); err != nil {
				return err
			}
		}
		due, quiet, err := w.tick(now)
		if err != nil {
			return err
		}
		if now.Before(due) || now.Sub(polled) < ka9qAgain {
			continue
		}
		polled = now
		ssrc := w.set.ssrc
		if quiet && !w.set.control {
			ssrc = ka9qAll // whoever asks for a channel that has gone makes it again
		}
		if err := w.ask(ssrc); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// tick looks at what depends on time. due is when radiod is to be asked: answers to others' questions serve as well.
func (w *ka9qWire) tick(now time.Time) (due time.Time, quiet bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.order.drain(now); err != nil {
		return now, false, err
	}
	silence := now.Sub(w.heard)
	if silence > ka9qGone {
		return now, false, fmt.Errorf("radiod has said nothing of channel %d for %s", w.set.ssrc, silence.Round(time.Second))
	}
	if w.counted && now.Sub(w.came) > ka9qDeaf && w.state.packets > w.sent+3 {
		return now, false, fmt.Errorf("radiod sends samples of channel %d to %s, but none come: look at ttl and iface", w.set.ssrc, w.state.data)
	}
	every := ka9qPoll
	if w.state.lifetime > 0 {
		every = min(every, time.Duration(min(w.state.lifetime, 1e6))*w.state.block()/4)
	}
	if w.order.synced && !w.paired {
		every = 0
	}
	return w.heard.Add(every + time.Duration(rand.Int64N(int64(ka9qAgain/4)))), silence > 2*ka9qPoll, nil
}

// hear takes in what radiod says of the channel.
func (w *ka9qWire) hear(st *ka9qState, now time.Time) error {
	if err := st.usable(w.where); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.state
	if st.rate != before.rate || st.encoding != before.encoding {
		w.order.flush() // what was made as before
	}
	w.state, w.heard = *st, now
	w.lookAtWall(st.time(), now)
	if from, to := ka9qEncodings[before.encoding], ka9qEncodings[st.encoding]; from.to != to.to {
		return fmt.Errorf("the encoding of channel %d changed from %s to %s", w.set.ssrc, from.name, to.name)
	}
	w.order.width = ka9qEncodings[st.encoding].width
	if !w.counted {
		w.sent, w.counted = st.packets, true
	}
	if st.rate != before.rate {
		w.restart(st, now)
	} else {
		w.observe(st)
		if t := st.tuning(); !sameTuning(t, w.tuning) {
			w.tuning = t
			// radiod answers after the first block that it made by a command.
			w.order.tellAt(w.order.count(st.snap) - uint64(math.Ceil(st.block().Seconds()*st.rate)))
		}
	}
	if w.awaited != 0 && st.tag == w.awaited {
		w.awaited = 0
		select {
		case w.answered <- struct{}{}:
		default:
		}
		return w.order.release(now)
	}
	return nil
}

// restart follows radiod, which begins a channel anew at another rate: timestamps count from elsewhere. The caller holds mu.
func (w *ka9qWire) restart(st *ka9qState, now time.Time) {
	w.order.reset()
	w.tuning = st.tuning()
	w.startClock()
	w.skip, w.resumed = now.Add(ka9qRestart), true
}

// observe takes in which time belongs to which sample. The caller holds mu.
func (w *ka9qWire) observe(st *ka9qState) {
	if !w.order.synced || !st.hasSnap || st.gpsNs == 0 {
		return
	}
	at := w.order.count(st.snap)
	if near := max(w.order.at, w.order.sent); at > near+w.order.far || at+w.order.far < near {
		return // of another stream
	}
	t := st.time()
	w.order.sent = max(w.order.sent, at)
	w.pairAt, w.pairTime, w.paired = at, t, true
	if at < w.origin {
		return
	}
	w.clock.observe(at-w.origin, t)
	if w.clock.news() {
		w.in.begin(w.tuning, 0)
	}
	if w.clock.measured {
		w.in.ppm(w.clock.ppm())
		w.in.rate(w.clock.rateHz())
	}
}

// mostAsunder is more than two clocks are ever apart, and can be added to.
const mostAsunder = 100 * 365 * 24 * time.Hour

// lookAtWall compares radiod's clock with the wall clock. The caller holds mu.
func (w *ka9qWire) lookAtWall(radiod, heard time.Time) {
	now, quality, uncertainty := w.wall()
	now = now.Add(-time.Since(heard))
	w.quality, w.uncertainty = quality, uncertainty+min(now.Sub(radiod).Abs(), mostAsunder)
}

// moment is the time of the sample with a timestamp. radiod tells the time when it has made a block. The caller holds mu.
func (w *ka9qWire) moment(at uint64) moment {
	m, known := w.clock.at(at - w.origin)
	if !known {
		ns := float64(int64(at-w.pairAt)) / w.state.rate * 1e9
		m = moment{Time: w.pairTime.Add(time.Duration(ns)), Uncertainty: w.state.block()}
	}
	m.Uncertainty += w.uncertainty
	m.Quality = w.quality
	return m
}

// tune commands, holds samples back until radiod answers, and so knows which the first one of the new tuning is.
func (w *ka9qWire) tune(ctx context.Context, to Tuning) error {
	tag := uint64(rand.Uint32()) | 1<<32
	w.mu.Lock()
	command, changes := w.set.retune(tag, &w.state, to)
	if changes {
		w.awaited = tag
		w.order.hold()
	}
	select {
	case <-w.answered: // to a question that nobody waits for any more
	default:
	}
	w.mu.Unlock()
	if !changes {
		return nil
	}
	err := w.await(ctx, command.end())
	if err == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.awaited = 0
	return errors.Join(err, w.order.release(time.Now()))
}

// await sends a command until it is answered: nothing else says that it has come.
func (w *ka9qWire) await(ctx context.Context, command []byte) error {
	for end := time.Now().Add(ka9qAsk); time.Now().Before(end); {
		if err := w.send(command); err != nil {
			return err
		}
		again := time.NewTimer(ka9qAgain)
		defer again.Stop()
		select {
		case <-w.answered:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-again.C:
		}
	}
	return fmt.Errorf("radiod has not answered the command to channel %d in %s", w.set.ssrc, ka9qAsk)
}
