package spool

import (
	"context"
	"testing"
	"time"
)

// The writer is at work while a commit does not come to its end, and not while it waits.
func TestSpool_Working(t *testing.T) {
	s := open(t, t.TempDir(), 1<<20)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1) // one value
	go func() { ended <- s.Run(ctx) }()
	until := func(what string, done func() bool) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); !done(); {
			if time.Now().After(deadline) {
				t.Fatal(what)
			}
			time.Sleep(time.Millisecond)
		}
	}
	s.writeMu.Lock() // as a commit that hangs
	queueSome(t, s, LaneDetection, 1, 100)
	until("a commit that hangs is no work", func() bool { return s.Working() > 0 })
	s.writeMu.Unlock()
	until("at work with nothing to do", func() bool { return s.Working() == 0 && s.Stats().Records == 1 })
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
