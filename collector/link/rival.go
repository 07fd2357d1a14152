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

// A broker lets in one client of an id: two collectors of one id push each other out for ever, and each time all stations send
// again what was not acknowledged. MQTT 3.1.1 has no word for why a broker ends a connection, so when it happened several times
// the rival is asked: under another client id this collector is said to be offline, which one that is connected contradicts.
// Then this one stands by until the other is gone.

const (
	// rivalAfter: the rival is asked when the other end has closed more connections than this within rivalSpan, and no more
	// than once in that time unless it has answered.
	rivalAfter = 3
	rivalSpan  = 10 * time.Minute
	// rivalAnswers is how long it may take to answer.
	rivalAnswers = 5 * time.Second
	// One that stands by asks again after leastStandBy to twice that: a broker that was killed tells nobody that the rival is gone.
	leastStandBy = 5 * time.Minute
)

// closures is an account of the connections that the other end closed.
type closures struct {
	at    []time.Time // of the last rivalSpan
	asked time.Time
	rival bool // it has answered
}

// suspicious counts one that ended with err, and tells whether to ask the rival.
func (c *closures) suspicious(now time.Time, err error) bool {
	if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		return false
	}
	c.at = append(slices.DeleteFunc(c.at, func(at time.Time) bool { return now.Sub(at) >= rivalSpan }), now)
	if !c.rival && (len(c.at) <= rivalAfter || !c.asked.IsZero() && now.Sub(c.asked) < rivalSpan) {
		return false
	}
	c.asked = now
	return true
}

// ghostly is how long after the begin of a session the will of an earlier connection may come.
const ghostly = 5 * time.Second

// tellOfRival warns of another collector of this id, which stands by: nobody else says time and again, or long after the session
// began, that this one is offline. Before, it may be the will of an earlier connection, unless others were closed lately.
func (c *Client) tellOfRival(ctx context.Context, lasted time.Duration, denials int) {
	if lasted < ghostly && denials == 1 && len(c.closures.at) < rivalAfter-1 {
		return
	}
	if more, ok := c.rivalry.tell(time.Now()); ok {
		c.cfg.Log.WarnContext(ctx, "another collector seems to use this id, and to stand by: give each its own id in its configuration",
			"id", c.cfg.ID, "broker", c.broker.Host, "untold", more)
	}
}

// giveWay stands by as long as another collector of this id has the session. It tells whether there was one.
func (c *Client) giveWay(ctx context.Context) bool {
	w, err := c.openWitness(ctx)
	if err != nil {
		c.notAsked(ctx, err)
		return false
	}
	defer w.mqtt.Disconnect(quiesceMillis)
	present, err := w.ask(ctx)
	if err != nil {
		c.notAsked(ctx, err)
		return false
	}
	c.closures.rival = present
	for present {
		c.fail(fmt.Errorf("another collector uses the id %q; give each its own id in its configuration", c.cfg.ID))
		c.cfg.Log.ErrorContext(ctx, "another collector uses this id, so this one stands by: give each its own id in its configuration",
			"id", c.cfg.ID, "broker", c.broker.Host)
		present = w.standBy(ctx)
	}
	return c.closures.rival
}

// notAsked has the rival asked after the next closure, not only when rivalSpan is over.
func (c *Client) notAsked(ctx context.Context, err error) {
	c.closures.asked = time.Time{}
	c.cfg.Log.DebugContext(ctx, "it could not be asked whether another collector uses this id", "error", err)
}

// witness is a connection under another client id that hears what is said of this collector.
type witness struct {
	client *Client
	mqtt   mqtt.Client
	heard  chan string   // what was said; capacity 16: when it is full there is enough to hear
	lost   chan struct{} // something when the connection has ended; capacity 1
}

func (c *Client) openWitness(ctx context.Context) (*witness, error) {
	w := &witness{client: c, heard: make(chan string, 16), lost: make(chan struct{}, 1)}
	limited, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var err error
	w.mqtt, err = c.visit(limited, "check", func(o *mqtt.ClientOptions) {
		o.SetConnectionLostHandler(func(mqtt.Client, error) { w.lost <- struct{}{} }) // once a connection
		o.SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) {
			select {
			case w.heard <- string(m.Payload()):
			default:
			}
		})
	})
	if err != nil {
		return nil, err
	}
	if err := await(limited, w.mqtt.Subscribe(c.statusTopic(), 1, nil)); err != nil {
		w.mqtt.Disconnect(quiesceMillis)
		return nil, c.connectError(err)
	}
	return w, nil
}

// standBy waits until the rival goes, when nobody contradicts that it is offline, as it does when a third one asks. It is true
// when that did not happen and it answers a question after a long time; where it can no longer be asked, it is after the next closure.
func (w *witness) standBy(ctx context.Context) (present bool) {
	limited, cancel := context.WithTimeout(ctx, leastStandBy+rand.N(leastStandBy))
	defer cancel()
	for w.hear(limited, protocol.Offline) {
		if !w.contradicts(ctx) {
			return false
		}
	}
	present, _ = w.ask(ctx)
	return present
}

// ask tells whether a client that is not this one speaks for the collector. It says that the collector is offline: what is
// heard before that may be what the broker retained. The error is of a question that did not get through.
func (w *witness) ask(ctx context.Context) (present bool, err error) {
	limited, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	if err := await(limited, w.mqtt.Publish(w.client.statusTopic(), 1, true, protocol.Offline)); err != nil {
		return false, fmt.Errorf("publish that the collector is offline: %w", err)
	}
	if !w.hear(limited, protocol.Offline) {
		return false, errors.New("the broker did not pass the question on")
	}
	return w.contradicts(ctx), nil
}

// contradicts tells whether the rival says that it is online, as long as it may take.
func (w *witness) contradicts(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, rivalAnswers)
	defer cancel()
	return w.hear(ctx, protocol.Online)
}

// hear waits for a word about the collector. It is false when the context or the connection ends before.
func (w *witness) hear(ctx context.Context, word string) bool {
	for {
		select {
		case said := <-w.heard:
			if said == word {
				return true
			}
		case <-w.lost:
			return false
		case <-ctx.Done():
			return false
		}
	}
}
