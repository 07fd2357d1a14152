package link_test

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/fulgidus/heimdall/agent/link"
	"github.com/fulgidus/heimdall/packaging/proxy"
	"github.com/fulgidus/heimdall/packaging/servers"
)

// At 2 kbit/s, with 3 s each way and every third packet lost, a station with a backlog stays connected, tells how it is each
// minute (here 12 s) and uses the link for records that it sends once.
func TestLink_TwoKilobitsASecond(t *testing.T) {
	t.Parallel()
	const bytesPerSecond, span, heartbeat, stateBytes = 250, 30 * time.Second, 10 * time.Second, 600
	broker := servers.Mosquitto(t)
	p, url := through(t, broker, 4)
	p.Set(proxy.Faults{BytesPerSecond: bytesPerSecond, Delay: 3 * time.Second, Loss: 0.3})
	c := newCollector(t, "main")
	c.online(broker.URL)
	state := newStates(t, broker.URL)
	var log safeBuffer
	a := startAgent(t, url, func(c *link.Config) {
		c.Timeout, c.KeepAlive = 0, 0 // the defaults
		c.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
	a.add(t, 1, 3000)
	eventually(t, "connected", a.Connected)
	eventually(t, "records arrive", func() bool { numbers, _ := c.count(a.spool.Identity()); return numbers > 0 })
	began := time.Now()
	before, _ := p.Passed()
	for n := 3001; time.Since(began) < span; n++ {
		a.add(t, n, n)
		if age := time.Since(state.saidAt()); age >= heartbeat {
			state.say(a, stateBytes)
		}
		time.Sleep(time.Second)
	}
	up, _ := p.Passed()
	if got := float64(up-before) / time.Since(began).Seconds(); got < 0.7*bytesPerSecond {
		t.Errorf("%.0f bytes a second are used of %d", got, bytesPerSecond)
	}
	numbers, repeats := c.count(a.spool.Identity())
	// Records take about 45 bytes each; a quarter of the link is for states. A computer that is kept busy may have one message repeated.
	if numbers < 100 || repeats > numbers/100 {
		t.Errorf("%d records arrived and %d again", numbers, repeats)
	}
	if n := p.Accepted(); n != 1 || !a.Connected() {
		t.Errorf("%d connections, connected %v\n%s", n, a.Connected(), log.String())
	}
	eventually(t, "every state has arrived", func() bool { said, heard, _ := state.result(); return heard == said })
	said, _, slowest := state.result()
	if said < 3 || slowest > 40*time.Second {
		t.Errorf("of %d states the slowest came after %v", said, slowest)
	}
	t.Logf("%d records, %d states, the slowest after %v", numbers, said, slowest)
}

// states are what a station says of itself, numbered, and when each was said and heard.
type states struct {
	mu    sync.Mutex // guards all below
	said  []time.Time
	heard map[int]time.Duration
}

func newStates(t *testing.T, url string) *states {
	t.Helper()
	s := &states{heard: map[int]time.Duration{}}
	client := dial(t, url, "states", "", func(c mqtt.Client) {
		c.Subscribe(topics.State(station), 1, func(_ mqtt.Client, m mqtt.Message) {
			s.mu.Lock()
			defer s.mu.Unlock()
			var n int
			if _, err := fmt.Sscanf(string(m.Payload()), `{"n":%d`, &n); err == nil && n <= len(s.said) {
				s.heard[n] = time.Since(s.said[n-1])
			}
		}).Wait()
	})
	t.Cleanup(func() { client.Disconnect(100) })
	return s
}

func (s *states) say(a *agent, bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said = append(s.said, time.Now())
	a.SetState(fmt.Appendf(nil, `{"n":%d,"more":%q}`, len(s.said), strings.Repeat("x", bytes)))
}

func (s *states) saidAt() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.said) == 0 {
		return time.Time{}
	}
	return s.said[len(s.said)-1]
}

func (s *states) result() (said, heard int, slowest time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, took := range s.heard {
		slowest = max(slowest, took)
	}
	return len(s.said), len(s.heard), slowest
}
