package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/fulgidus/heimdall/protocol"
)

// A broker lets in one client of an id: two agents of one station push each other out for ever. MQTT 3.1.1 has no word for
// why a broker ends a connection, and a link that breaks often looks the same from here. So when it happened several times,
// the rival is asked: under another client id the station is said to be offline, which a connected agent contradicts. Then
// this one stays away for a while, so that at least the other works.

const (
	// rivalAfter: the rival is asked when the other end has closed more connections than this within rivalSpan, and no more
	// than once in that time unless it has answered.
	rivalAfter = 3
	rivalSpan  = 10 * time.Minute
	// rivalAnswers is how long it may take to answer: a tick of its session, and the slowest link there and back.
	rivalAnswers = 8 * time.Second
	// leastAway: the least of a time spent away is one part in so many of the most.
	leastAway = 6
)

// closures is an account of the connections that the other end closed.
type closures struct {
	at    []time.Time // of the last rivalSpan
	asked time.Time
}

// suspicious counts one, and tells whether to ask the rival. known says that it has answered before.
func (c *closures) suspicious(now time.Time, known bool) bool {
	c.at = append(slices.DeleteFunc(c.at, func(at time.Time) bool { return now.Sub(at) >= rivalSpan }), now)
	if !known && (len(c.at) <= rivalAfter || !c.asked.IsZero() && now.Sub(c.asked) < rivalSpan) {
		return false
	}
	c.asked = now
	return true
}

// closedThere tells whether the other end closed a connection, as a broker does that lets another client in.
func closedThere(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// pushedOut tells whether the connection that ended with err was lost to another client of the same id.
func (l *Link) pushedOut(ctx context.Context, err error) bool {
	if !closedThere(err) || !l.closures.suspicious(time.Now(), l.duplicate.Load()) {
		return false
	}
	answered, err := l.askRival(ctx)
	if err != nil {
		l.closures.asked = time.Time{} // it was not, so the next time counts
		l.cfg.Log.DebugContext(ctx, "it could not be asked whether another client uses this id", "error", err)
		return false
	}
	l.duplicate.Store(answered)
	if answered {
		l.cfg.Log.ErrorContext(ctx, "another client uses this station's id and pushes it out: give each station its own station.id",
			"client_id", clientID(l.cfg.Station), "away_at_most", l.cfg.MaxAway)
	}
	return answered
}

// askRival tells whether a client that is not this one speaks for the station.
func (l *Link) askRival(ctx context.Context) (answered bool, err error) {
	p, err := open(ctx, l.cfg, checkID(l.cfg.Station), func(*mqtt.ClientOptions) {})
	if err != nil {
		return false, err
	}
	defer p.leave()
	status := l.topics.Status(l.cfg.Station)
	if err := granted(ctx, p.subscribe(status), l.cfg.Timeout); err != nil {
		return false, err
	}
	if err := p.retain(ctx, status, 1, []byte(protocol.Offline), l.cfg.Timeout); err != nil {
		return false, err
	}
	timer := time.NewTimer(rivalAnswers)
	defer timer.Stop()
	denied := false // before that, what is retained may be anybody's
	for {
		select {
		case m := <-p.inbound:
			p.received(m)
			if online := string(m.payload) == protocol.Online; online && denied {
				return true, nil
			} else if !online {
				denied = true
			}
		case end := <-p.lost:
			return false, fmt.Errorf("connection lost: %w", end.err)
		case <-timer.C:
			return false, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// away is how long to leave the rival alone: not the same for any two stations.
func (l *Link) away() time.Duration {
	least := l.cfg.MaxAway / leastAway
	return least + rand.N(l.cfg.MaxAway-least+1)
}

// undisturbed notes how long a connection has lasted: a rival would have ended it sooner.
func (l *Link) undisturbed(lasted time.Duration) {
	if lasted >= l.cfg.MaxAway/leastAway {
		l.duplicate.Store(false)
	}
}
