package link

import (
	"context"
	"fmt"
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
	o := mqtt.NewClientOptions().AddBroker(c.broker.String()).
		SetClientID("heimdall-check-" + cfg.ID + "-" + strconv.Itoa(os.Getpid())).
		SetUsername(c.cfg.Username).SetPassword(c.cfg.Password).SetTLSConfig(c.cfg.TLS).
		SetProtocolVersion(4).SetCleanSession(true).SetAutoReconnect(false).SetConnectRetry(false).SetConnectTimeout(dialTimeout)
	client := mqtt.NewClient(o)
	if err := await(ctx, client.Connect()); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	client.Disconnect(0)
	return nil
}
