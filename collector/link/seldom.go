package link

import (
	"sync"
	"time"
)

// seldomEvery is the least time between two lines of one kind: whoever may publish could fill the disk with them otherwise.
const seldomEvery = time.Minute

// seldom says which of many lines of one kind to write.
type seldom struct {
	mu     sync.Mutex // guards the rest
	last   time.Time
	untold int // since then
}

// tell tells whether to write a line now, and how many were left out since the last one.
func (s *seldom) tell(now time.Time) (untold int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.last.IsZero() && now.Sub(s.last) < seldomEvery {
		s.untold++
		return 0, false
	}
	untold, s.last, s.untold = s.untold, now, 0
	return untold, true
}
