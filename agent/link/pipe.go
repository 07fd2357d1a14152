package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/fulgidus/heimdall/protocol"
)

const (
	connectTimeout = 10 * time.Second
	pingTimeout    = 10 * time.Second
	// writeTimeout bounds one write to the socket and, in the client, handing it a message.
	writeTimeout = 10 * time.Second
	// closeTimeout bounds waiting for the client to notice that its connection is gone.
	closeTimeout = 5 * time.Second
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
	// inbound gets what the broker sends. Capacity 256; when it is full messages are dropped, because blocking would
	// hold up the acknowledgements and pings behind them, and both orders and Acks are repeated.
	inbound chan inbound

	// mu guards conn.
	mu   sync.Mutex
	conn net.Conn
}

// connect opens a connection with the station's will on it.
func connect(ctx context.Context, cfg Config) (*pipe, error) {
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
	o := mqtt.NewClientOptions().AddBroker("tcp://"+address).
		SetClientID(clientID(cfg.Station)).
		SetUsername(cfg.Username).SetPassword(cfg.Password).
		SetProtocolVersion(4).SetCleanSession(true).SetStore(mqtt.NewMemoryStore()).
		SetAutoReconnect(false).SetConnectRetry(false).
		SetKeepAlive(cfg.KeepAlive).SetPingTimeout(min(pingTimeout, cfg.KeepAlive)).
		SetConnectTimeout(connectTimeout).SetWriteTimeout(writeTimeout).
		SetBinaryWill(protocol.Topics{Prefix: cfg.Prefix}.Status(cfg.Station), []byte(protocol.Offline), 1, true).
		SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { p.receive(m) }).
		SetConnectionLostHandler(func(_ mqtt.Client, err error) { p.lost <- ending{err} }).
		SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return p.open(ctx, address, tlsConfig) })
	p.client = mqtt.NewClient(o)
	token := p.client.Connect()
	select {
	case <-token.Done():
	case <-ctx.Done():
		p.cut()
		<-token.Done()
		p.client.Disconnect(0)
		return nil, fmt.Errorf("connect to %s: %w", address, ctx.Err())
	}
	if err := token.Error(); err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, plain(err))
	}
	return p, nil
}

// clientID is a station's name at the broker, which lets in one client of a name.
func clientID(station string) string { return "heimdall-agent-" + station }

// plain takes from an error of the client what it says twice: that the network erred, and which address was dialled.
func plain(err error) error {
	if both, ok := err.(interface{ Unwrap() []error }); ok && errors.Is(err, packets.ErrorNetworkError) {
		all := both.Unwrap()
		err = all[len(all)-1]
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		err = op.Err
		if call, ok := errors.AsType[*os.SyscallError](err); ok {
			err = call.Err
		}
		return fmt.Errorf("%w: see that the broker runs, and that mqtt.url names it", err)
	}
	return err
}

// open makes the network connection, so that ctx can end it at any time.
func (p *pipe) open(ctx context.Context, address string, tlsConfig *tls.Config) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if tlsConfig != nil {
		secure := tls.Client(conn, tlsConfig)
		if err := secure.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, fmt.Errorf("TLS: %w", err)
		}
		conn = secure
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conn = conn
	return conn, nil
}

func (p *pipe) receive(m mqtt.Message) {
	select {
	case p.inbound <- inbound{m.Topic(), m.Payload()}:
	default: // dropped: see the field
	}
}

// subscribe waits until the broker has granted all filters.
func (p *pipe) subscribe(ctx context.Context, filters []string, within time.Duration) error {
	wanted := map[string]byte{}
	for _, f := range filters {
		wanted[f] = 1
	}
	token := p.client.SubscribeMultiple(wanted, nil)
	if err := await(ctx, token, within); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	if granted, ok := token.(*mqtt.SubscribeToken); ok {
		for filter, qos := range granted.Result() {
			if qos > 2 {
				return fmt.Errorf("subscribe %s: the broker refuses it: give the station the right to read it", filter)
			}
		}
	}
	return nil
}

// publish waits until the broker has the message.
func (p *pipe) publish(ctx context.Context, topic string, qos byte, retained bool, payload []byte, within time.Duration) error {
	if err := await(ctx, p.client.Publish(topic, qos, retained, payload), within); err != nil {
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
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn != nil {
		p.conn.Close()
	}
}

// abort cuts the connection and waits until the client has noticed.
func (p *pipe) abort() {
	p.cut()
	timer := time.NewTimer(closeTimeout)
	defer timer.Stop()
	select {
	case <-p.lost:
	case <-timer.C:
	}
}

// leave ends the session in agreement with the broker, which then publishes no will.
func (p *pipe) leave() {
	const quiesceMs = 250
	p.client.Disconnect(quiesceMs)
	p.cut()
}
