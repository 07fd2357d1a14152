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

// Nobody knows which samples were of a time over which the clock jumped.
func TestCapture_OfATimeThatTheClockJumpedOver(t *testing.T) {
	s := newStation(t, nil)
	fill(s.ring, tones, 0, 100000)
	jumped := block(tones, 100000, 5000)
	jumped.Time, jumped.Segment = jumped.Time.Add(time.Hour), 2
	s.ring.Append(jumped)
	last := s.capture(t, order(timeOf(100000).Add(30*time.Minute), 0.01)).last()
	if last.GetState() != protocol.Reply_STATE_FAILED || last.GetReasonCode() != recorder.ReasonClockUncertain || !strings.Contains(last.GetMessage(), "30m0s late") {
		t.Errorf("got %v, want failed, clock_uncertain", last)
	}
	// What was heard before and after the jump is there.
	for _, start := range []time.Time{timeOf(95000), jumped.Time} {
		if last := s.capture(t, order(start, 0.01)).last(); last.GetState() != protocol.Reply_STATE_DONE {
			t.Errorf("start %v: got %v, want done", start, last)
		}
	}
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
