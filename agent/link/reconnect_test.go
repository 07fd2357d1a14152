package link_test

import (
	"sync"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

// A new certificate needs a new session. The station is online in it, and nothing is lost.
func TestLink_Reconnects(t *testing.T) {
	t.Parallel()
	broker := servers.Mosquitto(t)
	c := newCollector(t, "main")
	c.online(broker.URL)
	var mu sync.Mutex // guards said
	var said []string
	watcher := dial(t, broker.URL, "watcher", "", func(m mqtt.Client) {
		m.Subscribe(topics.Status(station), 1, func(_ mqtt.Client, m mqtt.Message) {
			mu.Lock()
			defer mu.Unlock()
			said = append(said, string(m.Payload()))
		}).Wait()
	})
	t.Cleanup(func() { watcher.Disconnect(100) })
	a := startAgent(t, broker.URL, nil)
	count := func(what string) (n int) {
		mu.Lock()
		defer mu.Unlock()
		for _, s := range said {
			if s == what {
				n++
			}
		}
		return n
	}
	eventually(t, "online", func() bool { return count(protocol.Online) == 1 })
	for k := range 3 {
		a.add(t, 1+100*k, 100+100*k)
		a.Reconnect()
		eventually(t, "online again", func() bool { return count(protocol.Online) >= k+2 })
	}
	eventually(t, "all acknowledged", a.empty)
	eventually(t, "online in the end", func() bool { mu.Lock(); defer mu.Unlock(); return said[len(said)-1] == protocol.Online })
	if numbers, _ := c.count(a.spool.Identity()); numbers != 300 {
		t.Errorf("%d records arrived, want 300", numbers)
	}
}
