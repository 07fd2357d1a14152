package main

import (
	"crypto/tls"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/google/go-cmp/cmp"

	"github.com/fulgidus/heimdall/packaging/servers"
)

// A Home Assistant with the account of a subscriber is told of the stations, and of the end of one that is removed. It comes as it does
// by default: with a will, and a word that it has started.
func TestHomeAssistant_SeesStationsComeAndGo(t *testing.T) {
	for name, configure := range map[string]func(t *testing.T, m *MQTTConfig){
		"embedded": func(_ *testing.T, m *MQTTConfig) { m.Accounts = accountsEmbedded },
		"embedded, another prefix": func(_ *testing.T, m *MQTTConfig) {
			m.Accounts, m.HomeAssistant.Prefix = accountsEmbedded, "club/ha"
		},
		"dynsec": func(t *testing.T, m *MQTTConfig) {
			b := servers.MosquittoWith(t, servers.DynamicSecurity(t, "collector", "secret"))
			m.URL, m.Username, m.Password, m.Accounts = b.URL, "collector", "secret", accountsDynsec
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t)
			configure(t, &cfg.MQTT)
			log := new(output)
			w := beginCollector(t, openLogging(t, cfg, slog.New(slog.NewTextHandler(log, nil)))).ready(t)
			enter := func(username string, o *mqtt.ClientOptions, command ...string) mqtt.Client {
				t.Helper()
				out, errs, code := runCommand(t, append(command, "--url", w.remote.URL)...)
				if code != 0 {
					t.Fatalf("%v: exit code %d\n%s%s", command, code, out, errs)
				}
				_, password, _ := strings.Cut(out, "(shown once) ")
				client := mqtt.NewClient(o.AddBroker(w.BrokerURL()).SetUsername(username).SetPassword(strings.TrimSpace(password)).SetTLSConfig(&tls.Config{}))
				finish(t, client.Connect())
				t.Cleanup(func() { client.Disconnect(0) })
				return client
			}
			prefix := cfg.MQTT.HomeAssistant.Prefix
			for _, id := range []string{"torino", "genova"} {
				station := enter(id, mqtt.NewClientOptions(), "station", "add", id)
				finish(t, station.Publish(prefix+"/device/heimdall-"+id+"/config", 1, true, "{}"))
				finish(t, station.Publish("heimdall/v1/"+id+"/state", 1, true, "{}"))
			}

			var mu sync.Mutex // guards devices
			devices := map[string]string{}
			known := func() map[string]string {
				mu.Lock()
				defer mu.Unlock()
				return maps.Clone(devices)
			}
			home := enter("sub-home", mqtt.NewClientOptions().SetWill(prefix+"/status", "offline", 0, false), "subscriber", "add", "home")
			finish(t, home.Publish(prefix+"/status", 0, false, "online"))
			finish(t, home.Subscribe(prefix+"/device/+/config", 0, func(_ mqtt.Client, m mqtt.Message) {
				mu.Lock()
				defer mu.Unlock()
				devices[strings.TrimPrefix(m.Topic(), prefix+"/device/")] = string(m.Payload())
			}))
			eventually(t, "both stations are known", func() bool { return len(known()) == 2 })
			if diff := cmp.Diff(map[string]string{"heimdall-torino/config": "{}", "heimdall-genova/config": "{}"}, known()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}

			if out, errs, code := runCommand(t, "station", "remove", "torino", "--url", w.remote.URL); code != 0 {
				t.Fatalf("remove: exit code %d\n%s%s", code, out, errs)
			}
			eventually(t, "one is gone", func() bool { return known()["heimdall-torino/config"] == "" })
			if known()["heimdall-genova/config"] != "{}" {
				t.Error("the other station is gone, too")
			}
			if strings.Contains(log.String(), "no session with the broker") {
				t.Errorf("the collector's own session ended:\n%s", log)
			}
		})
	}
}

func finish(t *testing.T, token mqtt.Token) {
	t.Helper()
	if token.Wait(); token.Error() != nil {
		t.Fatal(token.Error())
	}
}
