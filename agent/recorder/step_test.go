package recorder_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/fulgidus/heimdall/agent/recorder"
	"github.com/fulgidus/heimdall/protocol"
)

// Nobody knows which samples are of a time over which the clock jumped.
func TestCapture_OfATimeThatTheClockJumpedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		jumped := block(tones, 100000, 5000)
		jumped.Time, jumped.Segment = jumped.Time.Add(time.Hour), 2
		s := newStation(t, nil)
		fill(s.ring, tones, 0, 100000)
		between := timeOf(100000).Add(30 * time.Minute)
		time.AfterFunc(time.Second, func() { s.ring.Append(jumped) }) // while the capture waits
		last := s.capture(t, order(between, 0.01)).last()
		if last.GetState() != protocol.Reply_STATE_FAILED || last.GetReasonCode() != recorder.ReasonClockUncertain || !strings.Contains(last.GetMessage(), "30m0s late") {
			t.Errorf("got %v, want failed, clock_uncertain", last)
		}
		last = s.capture(t, order(between, 0.01)).last()
		if last.GetState() != protocol.Reply_STATE_REFUSED || last.GetReasonCode() != recorder.ReasonHistoryExceeded {
			t.Errorf("got %v, want refused, history_exceeded", last)
		}
		if last := s.capture(t, order(jumped.Time, 0.01)).last(); last.GetState() != protocol.Reply_STATE_DONE {
			t.Errorf("got %v, want done: it is after the jump", last)
		}
	})
}

// A capture that waits for a time goes on waiting for it when the clock is set back, instead of calling the receiver silent.
func TestCapture_WaitsAnewWhenTheClockIsSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		from, began := uint64(0), time.Now()
		go func() {
			defer close(done)
			silence := func(float64) complex128 { return 0 }
			for ctx.Err() == nil {
				b := block(silence, from, 24000)
				if time.Since(began) > 500*time.Millisecond { // set back by a minute
					b.Time, b.Segment = b.Time.Add(-time.Minute), 2
				}
				from += 24000
				time.Sleep(100 * time.Millisecond)
				s.ring.Append(b)
			}
		}()
		time.Sleep(300 * time.Millisecond)
		id := uuid.NewString()
		if err := s.Capture(t.Context(), command(id, order(timeOf(240000), 0.1))); err != nil {
			t.Error(err)
		}
		if last := s.sink.result(t, id).last(); last.GetState() != protocol.Reply_STATE_DONE {
			t.Errorf("got %v, want done", last)
		}
		if took := time.Since(began).Round(time.Second); took != 61*time.Second {
			t.Errorf("done after %v, want 61 s", took)
		}
		cancel()
		<-done
	})
}
