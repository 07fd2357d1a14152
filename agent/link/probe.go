package link

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/fulgidus/heimdall/protocol"
)

// retainedWait is how long a broker may take to send what it has retained.
const retainedWait = 2 * time.Second

// Probe connects to the broker with the station's credentials, under another client id so that a running agent keeps its
// session, and tells whether a collector is online.
func Probe(ctx context.Context, cfg Config) (collectorOnline bool, err error) {
	cfg = cfg.withDefaults()
	address, err := cfg.address()
	if err != nil {
		return false, err
	}
	tlsConfig, err := cfg.tls()
	if err != nil {
		return false, err
	}
	p := &pipe{}
	online := make(chan struct{}, 1) // a second collector says nothing new
	o := mqtt.NewClientOptions().AddBroker("tcp://" + address).
		SetClientID("heimdall-check-" + cfg.Station + "-" + strconv.Itoa(os.Getpid())).
		SetUsername(cfg.Username).SetPassword(cfg.Password).
		SetProtocolVersion(4).SetCleanSession(true).SetAutoReconnect(false).SetConnectRetry(false).
		SetConnectTimeout(connectTimeout).
		SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return p.open(ctx, address, tlsConfig) })
	client := mqtt.NewClient(o)
	if err := settled(ctx, client.Connect()); err != nil {
		return false, fmt.Errorf("connect: %w", plain(err))
	}
	defer client.Disconnect(0)
	filter := protocol.Topics{Prefix: cfg.Prefix}.CollectorStatus("+")
	err = settled(ctx, client.Subscribe(filter, 1, func(_ mqtt.Client, m mqtt.Message) {
		if string(m.Payload()) == protocol.Online {
			select {
			case online <- struct{}{}:
			default:
			}
		}
	}))
	if err != nil {
		return false, fmt.Errorf("subscribe to %s: %w", filter, err)
	}
	select {
	case <-online:
		return true, nil
	case <-time.After(retainedWait):
		return false, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// settled waits for a token.
func settled(ctx context.Context, token mqtt.Token) error {
	select {
	case <-token.Done():
		return token.Error()
	case <-ctx.Done():
		return ctx.Err()
	}
}
