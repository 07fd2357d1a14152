package link_test

import (
	"sync/atomic"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/fulgidus/heimdall/agent/link"
	"github.com/fulgidus/heimdall/packaging/servers"
)

// What is retained elsewhere comes with the connection, and again after its reader has started; not for anything else that is said there.
func TestLink_Elsewhere(t *testing.T) {
	t.Parallel()
	broker := servers.Mosquitto(t)
	const topic, birth = "homeassistant/device/heimdall-torino/config", "homeassistant/status"
	var came, done atomic.Int32
	client := dial(t, broker.URL, "homeassistant", "", func(c mqtt.Client) {
		c.Subscribe(topic, 1, func(_ mqtt.Client, m mqtt.Message) {
			if string(m.Payload()) == "{}" {
				came.Add(1)
			}
		})
	})
	t.Cleanup(func() { client.Disconnect(0) })
	startAgent(t, broker.URL, func(c *link.Config) {
		c.Elsewhere = []link.Retained{{Topic: topic, Payload: []byte("{}"), Done: func() { done.Add(1) }}}
		c.Started, c.MaxRepeat = birth, 10*time.Millisecond
	})
	eventually(t, "it is published", func() bool { return came.Load() == 1 && done.Load() == 1 })
	client.Publish(birth, 1, false, "offline").Wait()
	client.Publish(birth, 1, false, "online").Wait()
	eventually(t, "it is published again, once", func() bool { return came.Load() == 2 && done.Load() == 2 })
}
