package link

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

const (
	// firstBackoff bounds the wait before the second attempt to connect; the bound doubles up to Config.MaxBackoff.
	firstBackoff = time.Second
	// steadyAfter is how long a connection must last to count as a good one.
	steadyAfter = 10 * time.Second
	// sayEvery is how often an outage is mentioned in the log.
	sayEvery = 10 * time.Minute
	// takeLeave is how long a broker gets to read that a session ends before there is another one of its name: it would take the
	// first for one that broke, and say that the station is offline.
	takeLeave = 200 * time.Millisecond
)

// Link keeps a station connected to its broker. SetInfo, SetState, Connected, CollectorOnline, DuplicateIdentity
// and Sent may be called from any goroutine.
type Link struct {
	cfg     Config
	topics  protocol.Topics
	address string
	// orders wait for the handler. Capacity 256, a crowd of acquisitions at once; when it is full an order is refused as busy.
	orders chan *protocol.Command
	// changed says that info or state is new. Capacity 1: what is read then is the latest.
	changed chan struct{}
	// renewed says that the next connection has other credentials. Capacity 1: one new connection serves all changes before it.
	renewed chan struct{}
	// suspects counts for each record how often it was left unacknowledged while later ones were not. It outlives
	// connections; only the goroutine in Run uses it.
	suspects map[key]int
	backoff  backoff
	closures closures // only the goroutine in Run uses it

	rejections rejections // only the goroutine in Run uses it
	ignored    seldom     // lines about acknowledgements that make no sense
	foreign    seldom     // lines about messages that are not for this station
	refused    seldom     // lines about orders that were refused or left

	// Only the goroutine in Run uses these.
	orderly, answers allowance

	connected atomic.Bool
	online    atomic.Bool
	duplicate atomic.Bool
	sent      atomic.Uint64 // records handed to the broker's connection, again or for the first time

	// mu guards info and state.
	mu          sync.Mutex
	info, state []byte
}

// New checks the configuration, files of certificates included.
func New(config Config) (*Link, error) {
	config = config.withDefaults()
	if err := config.check(); err != nil {
		return nil, err
	}
	address, err := config.address()
	if err != nil {
		return nil, err
	}
	return &Link{
		cfg: config, topics: protocol.Topics{Prefix: config.Prefix}, address: address,
		orders: make(chan *protocol.Command, 256), changed: make(chan struct{}, 1),
		renewed: make(chan struct{}, 1), suspects: map[key]int{},
		orderly: ordersAllowed(), answers: refusalsAllowed(),
		backoff: backoff{most: config.MaxBackoff},
	}, nil
}

// Reconnect ends the session and begins another one at once, with the certificate as it is now on disk.
func (l *Link) Reconnect() {
	select {
	case l.renewed <- struct{}{}:
	default: // see the field
	}
}

// SetInfo sets the retained self-description. It is published on each connection and when it changes.
func (l *Link) SetInfo(json []byte) { l.say(&l.info, json) }

// SetState sets the retained condition. It is published on each connection and when it is set.
func (l *Link) SetState(json []byte) { l.say(&l.state, json) }

func (l *Link) say(what *[]byte, json []byte) {
	l.mu.Lock()
	*what = json
	l.mu.Unlock()
	select {
	case l.changed <- struct{}{}:
	default: // whoever reads the change that waits reads this one too
	}
}

func (l *Link) said() (info, state []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.info, l.state
}

// Connected tells whether there is a session with the broker.
func (l *Link) Connected() bool { return l.connected.Load() }

// CollectorOnline tells whether a collector says that it is online. False while there is no session.
func (l *Link) CollectorOnline() bool { return l.online.Load() }

// DuplicateIdentity tells whether another client is known to use the station's id. The link then stays away for a while
// each time that it is pushed out.
func (l *Link) DuplicateIdentity() bool { return l.duplicate.Load() }

// Sent is how many records were sent since the start, each as often as it was.
func (l *Link) Sent() uint64 { return l.sent.Load() }

// Run keeps the station connected until ctx ends, then takes its leave. It returns nil: whatever fails is tried again.
func (l *Link) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { l.execute(ctx) })
	defer wg.Wait()
	var down outage
	for ctx.Err() == nil {
		began := time.Now()
		held, err := l.connection(ctx)
		if err == nil {
			l.rest(ctx, takeLeave)
			continue
		}
		if time.Since(began) > steadyAfter {
			l.backoff.reset()
			down.attempts = 0
		}
		if down.worthSaying(time.Now(), err) {
			l.cfg.Log.WarnContext(ctx, "no connection to the broker; records wait on disk", "broker", l.address, "error", err, "attempts", down.attempts)
		}
		wait := l.backoff.next()
		if held && l.pushedOut(ctx, err) {
			wait = l.away()
		}
		l.rest(ctx, wait)
	}
	return nil
}

// rest waits, unless there is reason to connect at once.
func (l *Link) rest(ctx context.Context, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-l.renewed:
	case <-timer.C:
	}
}

// connection makes and serves one connection. held tells that there was one.
func (l *Link) connection(ctx context.Context) (held bool, err error) {
	if l.cfg.usedUp() {
		return false, errUsedUp
	}
	p, err := connect(ctx, l.cfg)
	if err != nil {
		return false, err
	}
	l.connected.Store(true)
	defer l.connected.Store(false)
	return true, newSession(l, p).run(ctx)
}

// execute hands orders to the handler, one after another.
func (l *Link) execute(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case cmd := <-l.orders:
			l.cfg.Handler(ctx, cmd)
		}
	}
}

// backoff says how long to wait before the next attempt: any time up to a bound that doubles, so that a thousand
// stations do not come back in the same second.
type backoff struct {
	bound, most time.Duration
}

func (b *backoff) next() time.Duration {
	b.bound = min(max(2*b.bound, min(firstBackoff, b.most)), b.most)
	return rand.N(b.bound) + 1
}

// reset is for when a connection was good, or something sent over it was acknowledged: the next attempt may come soon.
func (b *backoff) reset() { b.bound = 0 }

// outage is an account of failed attempts, for the log.
type outage struct {
	attempts int
	last     time.Time
	mends    []string // said since last
}

// worthSaying counts an attempt, and tells whether to log it: the first, one now and then, and whatever has a mend that was not said
// yet, as after a session that just ended the refusal of the next one has.
func (o *outage) worthSaying(now time.Time, err error) bool {
	o.attempts++
	mend := ""
	if m, ok := errors.AsType[*mendable](err); ok {
		mend = m.mend
	}
	if o.attempts > 1 && now.Sub(o.last) < sayEvery {
		if mend == "" || slices.Contains(o.mends, mend) {
			return false
		}
		o.mends = append(o.mends, mend)
		return true
	}
	o.last, o.mends = now, []string{mend}
	return true
}
