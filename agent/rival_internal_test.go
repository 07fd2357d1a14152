package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

// Another program under the station's id comes back whenever it is pushed out, and says that the station is online.
func TestAgent_TellsOfARival(t *testing.T) {
	broker := servers.Mosquitto(t)
	here := newSite(t, "mqtt: {url: \""+broker.URL+"\"}")
	const status = "heimdall/v1/torino/status"
	rival := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + strings.TrimPrefix(broker.URL, "mqtt://")).
		SetClientID("heimdall-agent-torino").SetMaxReconnectInterval(20 * time.Millisecond).SetOrderMatters(false).
		SetOnConnectHandler(func(c mqtt.Client) {
			c.Subscribe(status, 1, func(c mqtt.Client, m mqtt.Message) {
				if string(m.Payload()) == protocol.Offline {
					c.Publish(status, 1, true, protocol.Online)
				}
			})
		}))
	if token := rival.Connect(); !token.WaitTimeout(10*time.Second) || token.Error() != nil {
		t.Fatal(token.Error())
	}
	t.Cleanup(func() { rival.Disconnect(0) })

	a, _ := here.start(t)
	eventually(t, "the station knows of its rival", func() error {
		if is := a.condition(); is.word != "degraded" || !strings.HasPrefix(is.reason, "duplicate_identity: ") {
			return fmt.Errorf("%+v", is)
		}
		return nil
	})
	text, err := output(t, StatusCmd{configFlag: configFlag{here.config}})
	if err != nil || !strings.Contains(text, "torino degraded") || !strings.Contains(text, "duplicate_identity") {
		t.Errorf("%v: %s", err, text)
	}
	findings, err := checkOf(t, CheckCmd{configFlag: configFlag{here.config}})
	if !errors.Is(err, errReported) || verdictOf(findings, "broker") != "fail" {
		t.Errorf("%+v, %v", findings, err)
	}
}
