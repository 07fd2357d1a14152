package link

import (
	"sync"
	"time"
)

// seldom lets one line of a kind into the log each sayEvery, and counts the others. The zero value has said nothing yet.
type seldom struct {
	mu     sync.Mutex // guards all below
	last   time.Time
	unsaid int
}

// say tells whether to say it now, and how often it was not said since the last time.
func (s *seldom) say(now time.Time) (unsaid int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.last.IsZero() && now.Sub(s.last) < sayEvery {
		s.unsaid++
		return 0, false
	}
	unsaid, s.last, s.unsaid = s.unsaid, now, 0
	return unsaid, true
}
