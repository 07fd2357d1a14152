package link

import (
	"context"
	"net"
	"net/url"
	"os"
	"strconv"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// Probe connects to the broker with the collector's credentials and leaves again, under another client id so that a
// running collector keeps its session, and without a word to the stations.
func Probe(ctx context.Context, cfg Config) error {
	c, err := NewClient(cfg)
	if err != nil {
		return err
	}
	s := new(session)
	o := c.transport(ctx, s)
	o.SetClientID("heimdall-check-" + cfg.ID + "-" + strconv.Itoa(os.Getpid()))
	s.mqtt = mqtt.NewClient(o)
	defer s.mqtt.Disconnect(quiesceMillis)
	if err := await(ctx, s.mqtt.Connect()); err != nil {
		s.hangUp()
		return c.connectError(err)
	}
	return nil
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
