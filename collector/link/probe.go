package link

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/fulgidus/heimdall/protocol"
)

// retainedWait is how long a broker may take to send what it has retained.
const retainedWait = time.Second

// Probe connects to the broker with the collector's credentials and leaves again, under another client id so that a
// running collector keeps its session, and without a word to the stations. It tells whether a collector of this id is online.
func Probe(ctx context.Context, cfg Config) (online bool, err error) {
	c, err := NewClient(cfg)
	if err != nil {
		return false, err
	}
	w, err := c.openWitness(ctx)
	if err != nil {
		return false, err
	}
	defer w.mqtt.Disconnect(quiesceMillis)
	ctx, cancel := context.WithTimeout(ctx, retainedWait)
	defer cancel()
	return w.hear(ctx, protocol.Online), nil
}

// visit connects beside the collector's own session, under a client id that tells the purpose. The caller disconnects.
func (c *Client) visit(ctx context.Context, purpose string, more func(*mqtt.ClientOptions)) (mqtt.Client, error) {
	s := new(session)
	o := c.transport(ctx, s)
	o.SetClientID(fmt.Sprintf("heimdall-%s-%s-%08x", purpose, c.cfg.ID, rand.Uint32()))
	more(o)
	client := mqtt.NewClient(o)
	if err := await(ctx, client.Connect()); err != nil {
		s.hangUp()
		client.Disconnect(quiesceMillis)
		return nil, c.connectError(err)
	}
	return client, nil
}

// transport are the options that every connection has: paho only carries bytes, the session is ours.
func (c *Client) transport(ctx context.Context, s *session) *mqtt.ClientOptions {
	o := mqtt.NewClientOptions()
	o.AddBroker(c.broker.String())
	o.SetUsername(c.cfg.Username)
	o.SetPassword(c.cfg.Password)
	o.SetCleanSession(true)
	o.SetProtocolVersion(4)
	o.SetAutoReconnect(false)
	o.SetConnectRetry(false)
	o.SetConnectTimeout(dialTimeout)
	o.SetKeepAlive(keepAlive)
	o.SetPingTimeout(pingTimeout)
	o.SetWriteTimeout(writeTimeout)
	o.SetConnectionLostHandler(nil)
	o.SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) {
		conn, err := c.dial(ctx)
		if err != nil {
			return nil, err
		}
		s.conn.Store(conn)
		return conn, nil
	})
	return o
}
