package api

import (
	"math"
	"sync"
	"time"
)

const (
	// tokenRate and tokenBurst are the requests a second of one token.
	tokenRate  = 20
	tokenBurst = 50
	// failureRate is how many wrong tokens a minute one address may send.
	failureRate = 5
	// mostOpen is how many requests of one token may be open at the same time, streams with them, and mostOpenBulk how many of
	// them read in bulk: no token takes all that there is.
	mostOpen     = mostClients / 4
	mostOpenBulk = mostBulk / 2
	// mostBuckets bounds the memory of a limiter.
	mostBuckets = 4096
)

// limiter lets everybody do so much at once, and more as time passes.
type limiter struct {
	perSecond, burst float64

	mu      sync.Mutex // guards buckets
	buckets map[string]bucket
}

// bucket is what one may still do.
type bucket struct {
	left float64
	at   time.Time
}

func newLimiter(perSecond, burst float64) *limiter {
	return &limiter{perSecond: perSecond, burst: burst, buckets: map[string]bucket{}}
}

// take counts one more of somebody's doings; above 0 it is too many, and how long to wait.
func (l *limiter) take(who string) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if _, known := l.buckets[who]; !known && len(l.buckets) >= mostBuckets {
		l.forget(now)
	}
	left := l.left(who, now)
	if left < 1 {
		return time.Duration(math.Ceil((1-left)/l.perSecond)) * time.Second
	}
	l.buckets[who] = bucket{left: left - 1, at: now}
	return 0
}

// left is what somebody may do now. The caller holds mu.
func (l *limiter) left(who string, now time.Time) float64 {
	b, known := l.buckets[who]
	if !known {
		return l.burst
	}
	return min(l.burst, b.left+now.Sub(b.at).Seconds()*l.perSecond)
}

// forget makes room for as many again: those go who may do all, and if they are too few, whoever. The caller holds mu.
func (l *limiter) forget(now time.Time) {
	for who := range l.buckets {
		if l.left(who, now) >= l.burst {
			delete(l.buckets, who)
		}
	}
	for who := range l.buckets {
		if len(l.buckets) <= mostBuckets/2 {
			return
		}
		delete(l.buckets, who)
	}
}

// tally counts what is going on at the same time, for each who does it. Its zero value is ready.
type tally struct {
	mu   sync.Mutex // guards open
	open map[string]int
}

// begin counts one more, unless there are as many as may be; then it is false. Call end after one that was counted.
func (t *tally) begin(who string, most int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open[who] >= most {
		return false
	}
	if t.open == nil {
		t.open = map[string]int{}
	}
	t.open[who]++
	return true
}

func (t *tally) end(who string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open[who]--; t.open[who] == 0 {
		delete(t.open, who)
	}
}
