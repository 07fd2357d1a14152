package link

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/fulgidus/heimdall/protocol"
)

// Where Mosquitto's dynamic-security plug-in takes orders, and answers them.
const (
	pluginTopic  = "$CONTROL/dynamic-security/v1"
	pluginAnswer = pluginTopic + "/response"
)

// ErrNoRights is of an account that may connect, and not do what a collector does.
var ErrNoRights = errors.New("this account may not publish and subscribe what a collector does")

// Trial is what a broker lets a collector do.
type Trial struct {
	Online bool // a collector of this id is online
	Plugin bool // Mosquitto's dynamic-security plug-in takes this account's orders
}

// Try is Probe, and sees whether the account may publish and subscribe: it sends itself a presence of a collector and an order
// for a station that both are not there. The error matches ErrNoRights where they do not come back. An account that the plug-in
// obeys can give itself such rights.
func Try(ctx context.Context, cfg Config) (Trial, error) {
	c, err := NewClient(cfg)
	if err != nil {
		return Trial{}, err
	}
	w, err := c.openWitness(ctx)
	if err != nil {
		return Trial{}, err
	}
	defer w.mqtt.Disconnect(quiesceMillis)
	trial := Trial{Plugin: w.plugin(ctx)}
	nobody := fmt.Sprintf("heimdall-init-%08x", rand.Uint32())
	for _, topic := range []string{cfg.Topics.CollectorStatus(nobody), cfg.Topics.Command(nobody)} {
		if !trial.Plugin && w.exchange(ctx, topic, topic, []byte(protocol.Offline)) == nil {
			return Trial{}, fmt.Errorf("%s: %w: let it write and read %s", topic, ErrNoRights, cfg.Topics.All())
		}
	}
	heard, cancel := context.WithTimeout(ctx, retainedWait)
	defer cancel()
	trial.Online = w.hear(heard, protocol.Online)
	return trial, nil
}

// plugin tells whether the dynamic-security plug-in does what it is told. Asking changes nothing.
func (w *witness) plugin(ctx context.Context) bool {
	var answer struct {
		Responses []struct{ Command, Error string }
	}
	text := w.exchange(ctx, pluginAnswer, pluginTopic, []byte(`{"commands":[{"command":"listClients","count":1}]}`))
	return json.Unmarshal(text, &answer) == nil && len(answer.Responses) == 1 && answer.Responses[0].Error == ""
}

// exchange publishes to one topic and waits for what comes on the other; nil when nothing does.
func (w *witness) exchange(ctx context.Context, answers, topic string, payload []byte) []byte {
	ctx, cancel := context.WithTimeout(ctx, retainedWait)
	defer cancel()
	came := make(chan []byte, 1) // the first is enough
	err := await(ctx, w.mqtt.Subscribe(answers, 1, func(_ mqtt.Client, m mqtt.Message) {
		select {
		case came <- m.Payload():
		default:
		}
	}))
	if err != nil || await(ctx, w.mqtt.Publish(topic, 1, false, payload)) != nil {
		return nil
	}
	select {
	case text := <-came:
		return text
	case <-ctx.Done():
		return nil
	}
}

// Refused tells whether a broker wants an account, or another one.
func Refused(err error) bool {
	return errors.Is(err, packets.ErrorRefusedNotAuthorised) || errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword)
}
