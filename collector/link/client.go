package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/fulgidus/heimdall/protocol"
)

// Times of a session. An operator has no use for changing them.
const (
	dialTimeout    = 10 * time.Second
	keepAlive      = 30 * time.Second
	pingTimeout    = 10 * time.Second
	publishTimeout = 10 * time.Second
	writeTimeout   = 5 * time.Second
	backoffFirst   = 500 * time.Millisecond
	backoffMax     = 30 * time.Second
	goodbyeTimeout = time.Second
	// A broker may hand an answer to a subscriber before what it answers to: so "online" is said a second time.
	repeatOnline  = time.Second
	quiesceMillis = 250
)

// ErrNotConnected says that there is no session with the broker at the moment. Nothing was sent.
var ErrNotConnected = errors.New("no session with the broker")

// errEnded says that the session ended before the broker confirmed a message. It may or may not have it.
var errEnded = errors.New("the session with the broker ended before it confirmed the message")

// Message is one publish as it arrived.
type Message struct {
	Topic    string
	Payload  []byte // owned by the receiver
	Retained bool   // it was published before this session subscribed
	Ack      func() // tells the broker that it need not keep the message; any goroutine, once
}

// Config says which broker, as whom, and what to do with messages.
type Config struct {
	URL      string // mqtt://host[:1883] or mqtts://host[:8883]
	Username string
	Password string
	TLS      *tls.Config // for mqtts; nil means the system's certificate authorities

	Topics protocol.Topics
	ID     string // of this collector; its client id is heimdall-collector-{ID}
	// SharedGroup names the collectors that share the work. Empty means that this one takes everything.
	SharedGroup string

	// Handle takes each message. It runs on the session's reader, so it must not block.
	Handle func(Message)
	// Connected runs after the subscriptions are made, on each connection, until it returns or the session ends. What the broker
	// retains comes after since. May be nil.
	Connected func(ctx context.Context, since time.Time) error

	Log *slog.Logger
}

// Client keeps a session with a broker.
type Client struct {
	cfg      Config
	broker   *url.URL
	trouble  atomic.Pointer[error] // why there is no session
	oversize seldom
	rivalry  seldom
	// closures is of Run alone.
	closures closures
	// sends counts calls into paho that may hang: when a connection ends at the wrong moment, Publish returns only after
	// the write timeout. Nobody waits for them but the end of Run.
	sends sync.WaitGroup

	mu      sync.Mutex // guards session, and that sends grows only while there is one
	session *session   // nil while there is none
}

// session is one connection to the broker.
type session struct {
	mqtt mqtt.Client
	conn atomic.Pointer[boundedConn] // nil until dialled
	done <-chan struct{}             // closed when the connection is over
	// denied says that the broker told the world that this collector is offline: the will of an earlier connection, come
	// late. Capacity 1; when it is full the same is known already.
	denied chan struct{}
}

// NewClient checks the configuration. Run makes the connection.
func NewClient(cfg Config) (*Client, error) {
	broker, err := parseURL(cfg.URL)
	if err != nil {
		return nil, err
	}
	if err := protocol.ValidCollector(cfg.ID); err != nil {
		return nil, fmt.Errorf("id of the collector: %w", err)
	}
	if cfg.Username == "" && broker.User != nil {
		cfg.Username = broker.User.Username()
		cfg.Password, _ = broker.User.Password()
	}
	broker.User = nil
	c := &Client{cfg: cfg, broker: broker}
	c.fail(ErrNotConnected)
	return c, nil
}

func parseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if at := strings.LastIndexByte(s, '@'); at >= 0 {
		s = "***" + s[at:] // what is before it may be a password
	}
	if err != nil || u.Hostname() == "" {
		return nil, fmt.Errorf("mqtt.url: %q is no broker's address; write mqtt://host:1883 or mqtts://host:8883", s)
	}
	switch {
	case u.Scheme != "mqtt" && u.Scheme != "mqtts":
		return nil, fmt.Errorf("mqtt.url: %q: a broker is reached by mqtt:// or mqtts://, not %s://", s, u.Scheme)
	case u.Port() != "":
	case u.Scheme == "mqtts":
		u.Host = net.JoinHostPort(u.Hostname(), "8883")
	default:
		u.Host = net.JoinHostPort(u.Hostname(), "1883")
	}
	return u, nil
}

// Run connects, and connects again whenever the session ends, until ctx ends.
func (c *Client) Run(ctx context.Context) error {
	for attempt := 0; ctx.Err() == nil; attempt++ {
		began := time.Now()
		err := c.serve(ctx)
		if !c.lost(ctx, attempt, err) {
			break
		}
		if time.Since(began) > backoffMax {
			attempt = 0 // it was a session, not an attempt
		}
		if c.closures.suspicious(time.Now(), err) && c.giveWay(ctx) {
			attempt = 0 // the rival that ended the earlier ones is gone
		}
		select {
		case <-ctx.Done():
		case <-time.After(backoff(attempt)):
		}
	}
	c.fail(ErrNotConnected)
	c.sends.Wait()
	return nil
}

// lost notes why there is no session, the first time loudly. It tells whether to try again.
func (c *Client) lost(ctx context.Context, attempt int, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	c.fail(err)
	if attempt == 0 {
		c.cfg.Log.WarnContext(ctx, "no session with the broker, trying again", "broker", c.broker.Host, "error", err)
	} else {
		c.cfg.Log.DebugContext(ctx, "still no session with the broker", "broker", c.broker.Host, "attempts", attempt+1, "error", err)
	}
	return true
}

// backoff is full jitter: anything up to a limit that doubles, so that a thousand clients do not come back at once.
func backoff(attempt int) time.Duration {
	limit := backoffMax
	if attempt < 6 {
		limit = min(limit, backoffFirst<<attempt)
	}
	return time.Duration(rand.Int64N(int64(limit))) + time.Millisecond
}

// serve makes one session and stays until it ends.
func (c *Client) serve(ctx context.Context) error {
	alive, end := context.WithCancelCause(ctx)
	defer end(nil)
	s := &session{done: alive.Done(), denied: make(chan struct{}, 1)}
	s.mqtt = mqtt.NewClient(c.options(alive, end, s))
	defer s.mqtt.Disconnect(quiesceMillis)
	if err := await(alive, s.mqtt.Connect()); err != nil {
		s.hangUp() // else paho would wait for an answer that nobody needs any more
		return c.connectError(err)
	}
	since := time.Now()
	if err := c.subscribe(alive, s.mqtt); err != nil {
		return err
	}
	if err := c.sayOnline(alive, s); err != nil {
		return err
	}
	c.use(s)
	defer c.use(nil)
	c.trouble.Store(nil)
	c.cfg.Log.InfoContext(ctx, "session with the broker", "broker", c.broker.Host)

	if c.cfg.Connected != nil {
		if err := c.cfg.Connected(alive, since); err != nil && alive.Err() == nil {
			return fmt.Errorf("greet the stations: %w", err)
		}
	}
	var again <-chan time.Time
	began, denials := time.Now(), 0
	for {
		select {
		case <-s.denied:
			denials++
			c.tellOfRival(ctx, time.Since(began), denials)
			if err := c.sayOnline(alive, s); err != nil && alive.Err() == nil {
				return err
			}
			again = time.After(repeatOnline)
		case <-again:
			if err := c.sayOnline(alive, s); err != nil && alive.Err() == nil {
				return err
			}
		case <-alive.Done():
			if ctx.Err() != nil {
				c.sayOffline(ctx, s)
				return nil
			}
			return context.Cause(alive)
		}
	}
}

// use makes s the session that others publish on.
func (c *Client) use(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session = s
}

func (s *session) hangUp() {
	if conn := s.conn.Load(); conn != nil {
		_ = conn.Close()
	}
}

func (c *Client) sayOnline(ctx context.Context, s *session) error {
	if err := s.await(ctx, c.begin(s, c.statusTopic(), 1, true, []byte(protocol.Online))); err != nil {
		return fmt.Errorf("publish that the collector is online: %w", err)
	}
	return nil
}

// sayOffline replaces the will, which an orderly end does not send.
func (c *Client) sayOffline(ctx context.Context, s *session) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbyeTimeout)
	defer cancel()
	select {
	case token := <-c.begin(s, c.statusTopic(), 1, true, []byte(protocol.Offline)):
		if err := await(ctx, token); err != nil {
			c.cfg.Log.DebugContext(ctx, "could not say goodbye to the broker", "error", err)
		}
	case <-ctx.Done():
	}
}

// options are those of a session.
func (c *Client) options(ctx context.Context, end context.CancelCauseFunc, s *session) *mqtt.ClientOptions {
	o := c.transport(ctx, s)
	o.SetClientID("heimdall-collector-" + c.cfg.ID)
	o.SetAutoAckDisabled(true)
	o.SetWill(c.statusTopic(), protocol.Offline, 1, true)
	o.SetConnectionLostHandler(func(_ mqtt.Client, err error) {
		end(fmt.Errorf("the connection to %s ended: %w", c.broker.Host, err))
	})
	o.SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) {
		if m.Topic() == c.statusTopic() {
			s.heardOfSelf(m)
			return
		}
		c.cfg.Handle(Message{Topic: m.Topic(), Payload: m.Payload(), Retained: m.Retained(), Ack: m.Ack})
	})
	return o
}

// heardOfSelf watches the collector's own presence.
func (s *session) heardOfSelf(m mqtt.Message) {
	if string(m.Payload()) == protocol.Offline && !m.Retained() {
		select {
		case s.denied <- struct{}{}:
		default:
		}
	}
	m.Ack()
}

func (c *Client) dial(ctx context.Context) (*boundedConn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var conn net.Conn
	var err error
	if c.broker.Scheme == "mqtts" {
		d := tls.Dialer{Config: c.cfg.TLS}
		conn, err = d.DialContext(ctx, "tcp", c.broker.Host)
	} else {
		var d net.Dialer
		conn, err = d.DialContext(ctx, "tcp", c.broker.Host)
	}
	if err != nil {
		return nil, err
	}
	return newBoundedConn(gather(conn), maxPacketBytes, func(topic string, bytes int) {
		if more, ok := c.oversize.tell(time.Now()); ok {
			c.cfg.Log.WarnContext(ctx, "a message is far too large: it is cut, and refused", "topic", topic, "bytes", bytes, "untold", more)
		}
	}), nil
}

// subscribe asks for what stations send. The broker shares records among the collectors of a group; a station's
// condition goes to all of them, as it does when it is retained.
func (c *Client) subscribe(ctx context.Context, client mqtt.Client) error {
	var asked []mqtt.Token // a packet for each filter: then each answer has one code, see boundedConn
	for _, filter := range append(append(c.cfg.Topics.StationFilters(), c.cfg.Topics.RecordFilters(c.cfg.SharedGroup)...), c.statusTopic()) {
		asked = append(asked, client.Subscribe(filter, 1, nil))
	}
	for _, token := range asked {
		if err := await(ctx, token); err != nil {
			return fmt.Errorf("subscribe at %s: %w", c.broker.Host, err)
		}
		granted, ok := token.(*mqtt.SubscribeToken)
		if !ok {
			continue
		}
		for filter, code := range granted.Result() {
			if code > 2 {
				return fmt.Errorf("%s refuses the subscription to %s; allow it to the user %q", c.broker.Host, filter, c.cfg.Username)
			}
		}
	}
	return nil
}

func (c *Client) statusTopic() string { return c.cfg.Topics.CollectorStatus(c.cfg.ID) }

// Publish sends a message with QoS 1 and returns when the broker has confirmed it. An error other than ErrNotConnected
// leaves open whether it arrived.
func (c *Client) Publish(ctx context.Context, topic string, retained bool, payload []byte) error {
	return c.publish(ctx, topic, 1, retained, payload)
}

// PublishOnce sends a message with QoS 0: it arrives at most once, and nobody confirms it.
func (c *Client) PublishOnce(ctx context.Context, topic string, payload []byte) error {
	return c.publish(ctx, topic, 0, false, payload)
}

func (c *Client) publish(ctx context.Context, topic string, qos byte, retained bool, payload []byte) error {
	c.mu.Lock()
	s := c.session
	var sending <-chan mqtt.Token
	if s != nil {
		sending = c.begin(s, topic, qos, retained, payload)
	}
	c.mu.Unlock()
	if s == nil {
		return fmt.Errorf("publish to %s: %w", topic, ErrNotConnected)
	}
	if err := s.await(ctx, sending); err != nil {
		return fmt.Errorf("publish to %s: %w", topic, err)
	}
	return nil
}

// begin hands a message to paho without waiting for it.
func (c *Client) begin(s *session, topic string, qos byte, retained bool, payload []byte) <-chan mqtt.Token {
	sending := make(chan mqtt.Token, 1) // whoever asked may have gone
	c.sends.Go(func() { sending <- s.mqtt.Publish(topic, qos, retained, payload) })
	return sending
}

// await waits until the broker has a message.
func (s *session) await(ctx context.Context, sending <-chan mqtt.Token) error {
	timeout := time.NewTimer(publishTimeout)
	defer timeout.Stop()
	var done <-chan struct{}
	var token mqtt.Token
	for {
		select {
		case token = <-sending:
			done, sending = token.Done(), nil
		case <-done:
			return token.Error()
		case <-ctx.Done():
			return ctx.Err()
		case <-s.done:
			return errEnded
		case <-timeout.C:
			return fmt.Errorf("the broker did not confirm it within %v", publishTimeout)
		}
	}
}

// Ready is nil while there is a session with the broker, and else says why there is none.
func (c *Client) Ready() error {
	if err := c.trouble.Load(); err != nil {
		return *err
	}
	return nil
}

func (c *Client) fail(err error) { c.trouble.Store(&err) }

// await waits for a token, or for the end of ctx.
func await(ctx context.Context, token mqtt.Token) error {
	select {
	case <-token.Done():
		return token.Error()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
