package link

import "time"

// allowance bounds how often something is done for whoever sends messages: so many times at once, and then so many a second.
// It is of the session's goroutine, and outlives connections.
type allowance struct {
	most, perSecond float64
	used            float64 // at the time of last
	last            time.Time
}

// Each order may cost a write to the disk, and leaves a reply in the spool, which is never shed. A collector gives a crowd of orders at
// once, and repeats each every two seconds; a refusal it needs once.
func ordersAllowed() allowance   { return allowance{most: 1000, perSecond: 5} }
func refusalsAllowed() allowance { return allowance{most: 64, perSecond: 1} }

// take tells whether it may be done once more.
func (a *allowance) take(now time.Time) bool {
	a.used = max(0, a.used-max(0, now.Sub(a.last).Seconds())*a.perSecond)
	a.last = now
	if a.used+1 > a.most {
		return false
	}
	a.used++
	return true
}
