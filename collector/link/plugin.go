package link

import (
	"context"
	"errors"
	"fmt"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// errNoAnswer says that the broker has no plug-in of that topic, or does not let this account use it.
var errNoAnswer = errors.New("no answer from the broker's plug-in: it is not loaded, or this account may not use it")

// Empty takes back what is retained on a topic, in a session of its own.
func Empty(ctx context.Context, cfg Config, topic string) error {
	c, err := NewClient(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	client, err := c.visit(ctx, "clear", func(*mqtt.ClientOptions) {})
	if err != nil {
		return err
	}
	defer client.Disconnect(quiesceMillis)
	if err := await(ctx, client.Publish(topic, 1, true, []byte{})); err != nil {
		return fmt.Errorf("publish to %s: %w", topic, err)
	}
	return nil
}

// AskBroker sends a request to a plug-in of the broker, with the collector's credentials in a session of its own, and gives the
// first answer that is for it. The plug-in's answers are published to a topic that everybody hears who may.
func AskBroker(ctx context.Context, cfg Config, topic, answers string, request []byte, mine func(answer []byte) bool) ([]byte, error) {
	c, err := NewClient(cfg)
	if err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	heard := make(chan []byte, 1) // the first one counts
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	client, err := c.visit(ctx, "accounts", func(o *mqtt.ClientOptions) {
		o.SetConnectionLostHandler(func(_ mqtt.Client, err error) { ended <- err }) // once a connection
		o.SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) {
			if !mine(m.Payload()) {
				return
			}
			select {
			case heard <- m.Payload():
			default:
			}
		})
	})
	if err != nil {
		return nil, err
	}
	defer client.Disconnect(quiesceMillis)
	subscribed := client.Subscribe(answers, 0, nil)
	if err := await(ctx, subscribed); err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", answers, err)
	}
	if token, ok := subscribed.(*mqtt.SubscribeToken); ok && token.Result()[answers] > 2 {
		return nil, fmt.Errorf("%s refuses the subscription to %s; allow it to the user %q", c.broker.Host, answers, c.cfg.Username)
	}
	if err := await(ctx, client.Publish(topic, 1, false, request)); err != nil {
		return nil, fmt.Errorf("publish to %s: %w", topic, err)
	}
	select {
	case answer := <-heard:
		return answer, nil
	case err := <-ended:
		return nil, fmt.Errorf("the connection to %s ended before the answer: %w", c.broker.Host, err)
	case <-ctx.Done():
		return nil, errors.Join(errNoAnswer, ctx.Err())
	}
}
