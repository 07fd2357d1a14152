package link

import (
	"testing"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// What is held back is said with the next; what was said, and what comes again, is not.
func TestRejections_News(t *testing.T) {
	var r rejections
	now, one, two := time.Now(), [8]byte{1}, [8]byte{2}
	set := func(from, to uint64) protocol.Ranges { return protocol.Ranges{{From: from, To: to}} }
	for i, step := range []struct {
		after time.Duration
		spool [protocol.SpoolBytes]byte
		is    rejected
		want  string // empty: nothing is said
	}{
		{0, one, rejected{}, ""},
		{0, one, rejected{set(3, 4), 2}, "{[3,5)}"},
		{sayEvery, one, rejected{set(3, 4), 2}, ""},
		{0, one, rejected{set(3, 6), 4}, "{[5,7)}"},
		{sayEvery / 2, one, rejected{set(3, 9), 7}, ""},
		{0, two, rejected{set(1, 1), 1}, ""},
		{sayEvery / 2, one, rejected{set(3, 10), 8}, "{[7,11)}"},
		{sayEvery, two, rejected{set(1, 1), 1}, "{[1,2)}"},
		{sayEvery, one, rejected{set(3, 10), 9}, "{}"}, // one more than are named
	} {
		now = now.Add(step.after)
		fresh, ok := r.news(step.spool, step.is, now)
		if got := fresh.String(); ok != (step.want != "") || ok && got != step.want {
			t.Errorf("step %d: %s, %v; want %q", i, got, ok, step.want)
		}
	}
	for n := range 1000 {
		now = now.Add(sayEvery)
		r.news([8]byte{9, byte(n), byte(n >> 8)}, rejected{count: 1}, now)
	}
	if n := len(r.said); n > mostRejectedSpools {
		t.Errorf("%d spools are remembered", n)
	}

	// What is new of a spool that is known makes it forget no other.
	var full rejections
	for n := range mostRejectedSpools {
		now = now.Add(sayEvery)
		full.news([8]byte{byte(n)}, rejected{count: 1}, now)
	}
	now = now.Add(sayEvery)
	full.news([8]byte{0}, rejected{count: 2}, now)
	if _, again := full.news([8]byte{1}, rejected{count: 1}, now.Add(sayEvery)); again {
		t.Error("a spool was forgotten for the news of another")
	}
}

func TestSeldom(t *testing.T) {
	var s seldom
	now := time.Now()
	for i, want := range []struct {
		after  time.Duration
		unsaid int
		ok     bool
	}{{0, 0, true}, {0, 0, false}, {sayEvery - 1, 0, false}, {1, 2, true}, {sayEvery, 0, true}} {
		now = now.Add(want.after)
		if unsaid, ok := s.say(now); unsaid != want.unsaid || ok != want.ok {
			t.Errorf("%d: %d, %v; want %d, %v", i, unsaid, ok, want.unsaid, want.ok)
		}
	}
}
