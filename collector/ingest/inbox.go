package ingest

import (
	"sync"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

const (
	itemOverhead = 256  // bytes that a waiting message takes beside its payload, about
	maxLanes     = 4096 // stations known at once; over it the idle ones are forgotten
	// What is kept of a station's undecodable messages: contract 4.4.
	garbageADay = 1000
	// A station makes a new spool with a new card, or when another one has its numbers. Those that were in use before this collector
	// started count as new once.
	spoolsADay = 64
	mostSpools = 4096 // remembered of a station; over it all of them count as new once more
	day        = 24 * time.Hour
)

// item is a message that waits.
type item struct {
	Message
	topic protocol.Topic
	at    time.Time // of arrival
}

func (i item) size() int { return len(i.Payload) + len(i.Topic) + itemOverhead }

// inbox holds the messages that wait, one lane a station. The lanes take turns.
type inbox struct {
	limits Limits
	// wake says that there is something to take. Capacity 1: one notice is as good as many.
	wake chan struct{}

	mu    sync.Mutex // guards all below, and the lanes
	lanes map[string]*lane
	turns []*lane // those with messages, next first
	bytes int     // of all messages that wait
}

// lane is one station's queue and what it may still use.
type lane struct {
	station string
	items   []item
	bytes   int
	queued  bool // it is in turns
	holding bool // some of its messages may not be acknowledged to the broker yet
	records bucket
	volume  bucket
	garbage bucket
	begun   bucket
	spools  map[[protocol.SpoolBytes]byte]bool // those that were charged to begun
	flood   [2]bucket                          // messages and bytes as they come, kept or not
}

func newInbox(limits Limits) *inbox {
	return &inbox{limits: limits, wake: make(chan struct{}, 1), lanes: make(map[string]*lane)}
}

// push lets a message wait. It tells how many messages had to be dropped for lack of room, this one included, and whether
// the station sends far more than it may.
func (b *inbox) push(m item) (dropped int, flood bool) {
	early, dropped, flood := b.add(m)
	for _, e := range early {
		e.acknowledge()
	}
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return dropped, flood
}

// add returns the messages that are to be acknowledged to the broker now: those dropped, and the new one when it waits
// for its station's rate.
func (b *inbox) add(m item) (early []item, dropped int, flood bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.lane(m.topic.Station, m.at)
	if l == nil {
		return []item{m}, 1, false
	}
	flood = b.floods(l, m)
	if l.bytes+m.size() > b.limits.StationMemory {
		return []item{m}, 1, flood
	}
	for b.bytes+m.size() > b.limits.Memory {
		fat := b.fattest()
		if fat == nil || fat == l || fat.bytes <= l.bytes+m.size() {
			return append(early, m), len(early) + 1, flood
		}
		last := len(fat.items) - 1
		early = append(early, fat.items[last])
		b.shrink(fat, fat.items[last].size())
		fat.items = fat.items[:last]
	}
	dropped = len(early)
	if l.limited(m.at) {
		early = append(early, m)
		m.Ack = nil
	}
	l.holding = l.holding || m.Ack != nil
	l.items = append(l.items, m)
	l.bytes += m.size()
	b.bytes += m.size()
	if !l.queued {
		l.queued = true
		b.turns = append(b.turns, l)
	}
	return early, dropped, flood
}

// pass counts a message that is not kept, and tells whether its station floods.
func (b *inbox) pass(m item) (flood bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.lane(m.topic.Station, m.at)
	return l != nil && b.floods(l, m)
}

// floods counts a message that came, and tells whether the station is far over its rate; once, until it is so again.
func (b *inbox) floods(l *lane, m item) bool {
	l.flood[0].use(1, m.at)
	l.flood[1].use(float64(len(m.Payload)), m.at)
	if l.flood[0].wait(m.at) == 0 && l.flood[1].wait(m.at) == 0 {
		return false
	}
	l.flood = b.limits.floodBuckets(m.at)
	return true
}

func (l Limits) floodBuckets(now time.Time) [2]bucket {
	return [2]bucket{
		newBucket(floodFactor*l.StationRecords, burst, now),
		newBucket(floodFactor*l.StationBytes, burst, now),
	}
}

// lane finds or makes a station's lane; nil when there are too many stations.
func (b *inbox) lane(station string, now time.Time) *lane {
	if l, ok := b.lanes[station]; ok {
		return l
	}
	if len(b.lanes) >= maxLanes {
		for name, l := range b.lanes {
			if !l.queued && !l.limited(now) {
				delete(b.lanes, name)
			}
		}
		if len(b.lanes) >= maxLanes {
			return nil
		}
	}
	l := &lane{
		station: station,
		records: newBucket(b.limits.StationRecords, burst, now),
		volume:  newBucket(b.limits.StationBytes, burst, now),
		garbage: newBucket(garbageADay/day.Seconds(), day, now),
		begun:   newBucket(spoolsADay/day.Seconds(), day, now),
		spools:  make(map[[protocol.SpoolBytes]byte]bool),
		flood:   b.limits.floodBuckets(now),
	}
	b.lanes[station] = l
	return l
}

func (b *inbox) fattest() *lane {
	var fat *lane
	for _, l := range b.turns {
		if fat == nil || l.bytes > fat.bytes {
			fat = l
		}
	}
	return fat
}

func (b *inbox) shrink(l *lane, size int) {
	l.bytes -= size
	b.bytes -= size
}

// limited tells whether the station has used more than its rate allows.
func (l *lane) limited(now time.Time) bool {
	return l.records.wait(now) > 0 || l.volume.wait(now) > 0
}

// take returns the next message of the station whose turn it is. When all that wait have to wait longer, it tells how
// long; 0 means that nothing waits.
func (b *inbox) take(now time.Time) (m item, ok bool, wait time.Duration) {
	m, ok, wait, early := b.next(now)
	for _, e := range early {
		e.acknowledge()
	}
	return m, ok, wait
}

func (b *inbox) next(now time.Time) (m item, ok bool, wait time.Duration, early []item) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for n := len(b.turns); n > 0; n-- {
		l := b.turns[0]
		b.turns = b.turns[1:]
		if len(l.items) == 0 { // its messages were dropped for another station's
			l.queued = false
			continue
		}
		if w := max(l.records.wait(now), l.volume.wait(now)); w > 0 {
			b.turns = append(b.turns, l)
			early = append(early, l.release()...)
			if wait == 0 || w < wait {
				wait = w
			}
			continue
		}
		m = l.items[0]
		l.items[0] = item{} // the slice's array must not keep the payload
		l.items = l.items[1:]
		b.shrink(l, m.size())
		l.volume.use(float64(len(m.Payload)), now)
		if len(l.items) > 0 {
			b.turns = append(b.turns, l)
		} else {
			l.queued, l.items = false, nil
		}
		return m, true, 0, early
	}
	return item{}, false, wait, early
}

// release takes the Acks of a limited lane's messages, so that each is acknowledged to the broker once.
func (l *lane) release() []item {
	if !l.holding {
		return nil
	}
	l.holding = false
	var early []item
	for i := range l.items {
		if l.items[i].Ack != nil {
			early = append(early, l.items[i])
			l.items[i].Ack = nil
		}
	}
	return early
}

// charge counts decoded records against a station's rate.
func (b *inbox) charge(station string, records int, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l, ok := b.lanes[station]; ok {
		l.records.use(float64(records), now)
	}
}

// keepGarbage tells whether one more message without a number may be kept for a station today.
func (b *inbox) keepGarbage(station string, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	l, ok := b.lanes[station]
	if !ok || l.garbage.tokens(now) < 1 {
		return false
	}
	l.garbage.use(1, now)
	return true
}

// keepSpool tells whether a station may speak of a spool: it knows that one, or may begin another one today.
func (b *inbox) keepSpool(station string, spool [protocol.SpoolBytes]byte, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	l, ok := b.lanes[station]
	switch {
	case !ok:
		return true // forgotten since its message came, for it was idle
	case l.spools[spool]:
		return true
	case l.begun.tokens(now) < 1:
		return false
	}
	l.begun.use(1, now)
	if len(l.spools) >= mostSpools {
		clear(l.spools)
	}
	l.spools[spool] = true
	return true
}

func (b *inbox) waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bytes
}

// bucket is a token bucket that may go into debt: a message is taken whole, and paid for after.
type bucket struct {
	rate float64 // tokens/s
	size float64
	left float64 // at the time of last
	last time.Time
}

func newBucket(rate float64, of time.Duration, now time.Time) bucket {
	size := rate * of.Seconds()
	return bucket{rate: rate, size: size, left: size, last: now}
}

func (b *bucket) tokens(now time.Time) float64 {
	// A clock that steps back adds nothing, and takes nothing.
	passed := max(0, now.Sub(b.last).Seconds())
	return min(b.size, b.left+passed*b.rate)
}

func (b *bucket) use(n float64, now time.Time) {
	b.left = b.tokens(now) - n
	b.last = now
}

// wait is how long until the debt is paid; 0 when there is none.
func (b *bucket) wait(now time.Time) time.Duration {
	left := b.tokens(now)
	if left >= 0 {
		return 0
	}
	return max(time.Millisecond, time.Duration(-left/b.rate*float64(time.Second)))
}
