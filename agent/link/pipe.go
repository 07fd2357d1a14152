package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/fulgidus/heimdall/protocol"
)

const (
	// connectTimeout bounds everything up to the broker's consent: six ways there and back with TLS, of 6 s each on the
	// slowest link, and its certificate.
	connectTimeout = time.Minute
	// answerTimeout is how long the broker may take to answer when asked whether it is there, on top of what the link needs.
	answerTimeout = 20 * time.Second
	// writeTimeout is how long the socket may take nothing, likewise.
	writeTimeout = 30 * time.Second
	// pingTimeout keeps the client from its own judgement of a silent broker: the wire has a better one.
	pingTimeout = 24 * time.Hour
	// handTimeout bounds handing the client a message, which blocks only when its connection has just ended.
	handTimeout = time.Second
	// closeTimeout bounds waiting for the client to notice that its connection is gone.
	closeTimeout = 5 * time.Second
	// mostWaiting bounds the bytes that wait in pipe.inbound.
	mostWaiting = 1 << 20
)

// inbound is a message from the broker.
type inbound struct {
	topic   string
	payload []byte
}

// ending is why a connection ended.
type ending struct{ err error }

// pipe is one connection: a client that is used once, for as long as its connection lasts.
type pipe struct {
	client mqtt.Client
	// lost gets the reason once when the connection ends on its own. Capacity 1: nobody need be waiting.
	lost chan ending
	// inbound gets what the broker sends. Capacity 256, and mostWaiting bytes; when it is full messages are dropped,
	// because blocking would hold up the acknowledgements and pings behind them, and both orders and Acks are repeated.
	inbound chan inbound
	waiting atomic.Int64 // bytes in inbound
	wire    atomic.Pointer[wire]
}

// connect opens a connection with the station's will on it.
func connect(ctx context.Context, cfg Config) (*pipe, error) {
	return open(ctx, cfg, clientID(cfg.Station), func(o *mqtt.ClientOptions) {
		o.SetBinaryWill(protocol.Topics{Prefix: cfg.Prefix}.Status(cfg.Station), []byte(protocol.Offline), 1, true)
	})
}

// open opens a connection under a name.
func open(ctx context.Context, cfg Config, id string, more func(*mqtt.ClientOptions)) (*pipe, error) {
	address, err := cfg.address()
	if err != nil {
		return nil, err
	}
	tlsConfig, err := cfg.tls()
	if err != nil {
		return nil, err
	}
	p := &pipe{lost: make(chan ending, 1), inbound: make(chan inbound, 256)}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	o := mqtt.NewClientOptions().AddBroker("tcp://" + address).
		SetClientID(id).
		SetUsername(cfg.Username).SetPassword(cfg.Password).
		SetProtocolVersion(4).SetCleanSession(true).SetStore(noStore{}).
		SetAutoReconnect(false).SetConnectRetry(false).
		SetKeepAlive(cfg.KeepAlive).SetPingTimeout(pingTimeout).
		SetConnectTimeout(connectTimeout).SetWriteTimeout(handTimeout).
		SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { p.receive(m) }).
		SetConnectionLostHandler(func(_ mqtt.Client, err error) { p.lost <- ending{err} }).
		SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return p.dial(ctx, cfg, address, tlsConfig) })
	more(o)
	p.client = mqtt.NewClient(o)
	token := p.client.Connect()
	select {
	case <-token.Done():
	case <-ctx.Done():
		p.cut()
		<-token.Done()
		p.client.Disconnect(0)
		return nil, fmt.Errorf("connect: %w", cfg.explain(ctx.Err()))
	}
	if err := token.Error(); err != nil {
		p.cut()
		return nil, fmt.Errorf("connect: %w", cfg.explain(err))
	}
	return p, nil
}

// noStore remembers nothing: a client lives no longer than its connection, and what must be sent again is the session's.
type noStore struct{}

func (noStore) Open()                             {}
func (noStore) Put(string, packets.ControlPacket) {}
func (noStore) Get(string) packets.ControlPacket  { return nil }
func (noStore) All() []string                     { return nil }
func (noStore) Del(string)                        {}
func (noStore) Close()                            {}
func (noStore) Reset()                            {}

// clientID is a station's name at the broker, which lets in one client of a name.
func clientID(station string) string { return "heimdall-agent-" + station }

// dial makes the network connection, so that ctx can end it at any time.
func (p *pipe) dial(ctx context.Context, cfg Config, address string, tlsConfig *tls.Config) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if cfg.Wrote != nil {
		conn = counted{conn, cfg.Wrote}
	}
	if tlsConfig != nil {
		secure := tls.Client(conn, tlsConfig)
		if err := secure.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, fmt.Errorf("TLS: %w", err)
		}
		conn = secure
	}
	w := newWire(conn, cfg.sayTooLarge)
	p.wire.Store(w)
	return w, nil
}

func (p *pipe) receive(m mqtt.Message) {
	bytes := int64(len(m.Topic()) + len(m.Payload()))
	if p.waiting.Add(bytes) <= mostWaiting {
		select {
		case p.inbound <- inbound{m.Topic(), m.Payload()}:
			return
		default:
		}
	}
	p.waiting.Add(-bytes) // dropped: see the field
}

// received notes that a message was taken from inbound.
func (p *pipe) received(m inbound) { p.waiting.Add(-int64(len(m.topic) + len(m.payload))) }

// silent tells whether the broker, or the way to it, is gone.
func (p *pipe) silent(keepAlive time.Duration) bool {
	w := p.wire.Load()
	return w != nil && w.silent(keepAlive)
}

// subscribe asks for filters, in a packet each: then each answer has one code, see bounded.
func (p *pipe) subscribe(filters ...string) []mqtt.Token {
	asked := make([]mqtt.Token, len(filters))
	for i, f := range filters {
		asked[i] = p.client.Subscribe(f, 1, nil)
	}
	return asked
}

// granted waits until the broker has granted all filters that were asked for.
func granted(ctx context.Context, asked []mqtt.Token, within time.Duration) error {
	for _, token := range asked {
		if err := await(ctx, token, within); err != nil {
			return fmt.Errorf("subscribe: %w", err)
		}
		answer, ok := token.(*mqtt.SubscribeToken)
		if !ok {
			continue
		}
		for filter, qos := range answer.Result() {
			if qos > 2 {
				return fmt.Errorf("subscribe %s: the broker refuses it: give the station the right to read it", filter)
			}
		}
	}
	return nil
}

// retain publishes what the broker shall keep, and waits until it has it.
func (p *pipe) retain(ctx context.Context, topic string, qos byte, payload []byte, within time.Duration) error {
	if err := await(ctx, p.client.Publish(topic, qos, true, payload), within); err != nil {
		return fmt.Errorf("publish %s: %w", topic, err)
	}
	return nil
}

var errNoAnswer = errors.New("no answer from the broker in time")

func await(ctx context.Context, token mqtt.Token, within time.Duration) error {
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-token.Done():
		return token.Error()
	case <-timer.C:
		return errNoAnswer
	case <-ctx.Done():
		return ctx.Err()
	}
}

// cut ends the network connection, as a broken cable would; the broker then publishes the will.
func (p *pipe) cut() {
	if w := p.wire.Load(); w != nil {
		w.cut()
	}
}

// abort cuts the connection after an error and waits until the client has noticed. It returns why the connection had ended
// by itself, if it had; the error otherwise.
func (p *pipe) abort(err error) error {
	p.cut()
	timer := time.NewTimer(closeTimeout)
	defer timer.Stop()
	select {
	case end := <-p.lost:
		if !errors.Is(end.err, errCut) {
			return fmt.Errorf("connection lost: %w", end.err)
		}
	case <-timer.C:
	}
	return err
}

// leave ends the session in agreement with the broker, which then publishes no will.
func (p *pipe) leave() {
	const quiesceMs = 250
	p.client.Disconnect(quiesceMs)
	p.cut()
}
