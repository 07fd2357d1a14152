package link_test

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/fulgidus/heimdall/agent/link"
	"github.com/fulgidus/heimdall/agent/spool"
	"github.com/fulgidus/heimdall/packaging/proxy"
	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

func TestLink_DeliversAndEmptiesTheSpool(t *testing.T) {
	t.Parallel()
	broker := servers.Mosquitto(t)
	c := newCollector(t, "main")
	c.online(broker.URL)
	a := startAgent(t, broker.URL, nil)
	identity := a.spool.Identity()
	const live = 20
	for n := 1; n <= live; n++ {
		a.add(t, n, n)
		time.Sleep(time.Millisecond)
	}
	eventually(t, "all acknowledged", a.empty)
	numbers, _ := c.count(identity)
	if numbers != live {
		t.Errorf("%d records arrived, want %d", numbers, live)
	}
	if !a.Connected() || !a.CollectorOnline() {
		t.Errorf("connected %v, collector online %v", a.Connected(), a.CollectorOnline())
	}
	eventually(t, "deleted from the disk", func() bool { return a.spool.Stats().Records == 0 })
}

func TestLink_HoldsWhatNobodyTakesAndDrainsInBatches(t *testing.T) {
	broker := servers.Mosquitto(t)
	a := startAgent(t, broker.URL, nil)
	listener := newCollector(t, "nobody") // listens, but says nothing
	listener.deaf = true
	listener.client = dial(t, broker.URL, "listener", "", func(c mqtt.Client) {
		for _, filter := range topics.RecordFilters("") {
			c.Subscribe(filter, 1, listener.receive).Wait()
		}
	})
	t.Cleanup(func() { listener.client.Disconnect(100) })
	identity := a.spool.Identity()
	const n = 3000
	a.add(t, 1, n)
	eventually(t, "all sent once", func() bool { numbers, _ := listener.count(identity); return numbers == n })
	never(t, "sent again though no collector is online", func() bool { _, repeats := listener.count(identity); return repeats > 0 })
	if got := a.spool.Unacked().Count(); got != n {
		t.Errorf("%d held, want %d", got, n)
	}
	c := newCollector(t, "main")
	c.online(broker.URL)
	eventually(t, "all acknowledged", a.empty)
	if numbers, _ := c.count(identity); numbers != n {
		t.Errorf("%d arrived at the collector, want %d", numbers, n)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.messages["batch"] == 0 || c.messages["batch"] > n/20 {
		t.Errorf("%d batches for %d records", c.messages["batch"], n)
	}
}

// The broker is killed and comes back without anything it ever knew, again and again.
func TestLink_BrokerStartsEmpty(t *testing.T) {
	broker := servers.Mosquitto(t)
	c := newCollector(t, "main")
	c.online(broker.URL)
	a := startAgent(t, broker.URL, nil)
	identity := a.spool.Identity()
	n := 0
	for range 3 {
		a.add(t, n+1, n+400)
		n += 400
		eventually(t, "something arrived", func() bool { numbers, _ := c.count(identity); return numbers > n-400 })
		broker.Kill()
		a.add(t, n+1, n+100)
		n += 100
		if err := errors.Join(broker.Wipe(), broker.Start(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all acknowledged", a.empty)
	numbers, repeats := c.count(identity)
	if numbers != n {
		t.Errorf("%d records arrived, want %d", numbers, n)
	}
	t.Logf("%d records, %d repeats", numbers, repeats)
	if got := a.spool.Stats().Shed; got != 0 {
		t.Errorf("%d records declared lost, want none", got)
	}
}

// The network stalls and breaks at many places.
func TestLink_CutsAndStalls(t *testing.T) {
	broker := servers.Mosquitto(t)
	p, url := through(t, broker, 1)
	c := newCollector(t, "main")
	c.online(broker.URL)
	a := startAgent(t, url, nil)
	identity := a.spool.Identity()
	n := 0
	for round := range 15 {
		a.add(t, n+1, n+150)
		n += 150
		eventually(t, "something arrived", func() bool { numbers, _ := c.count(identity); return numbers > 0 })
		switch round % 5 {
		case 0:
			p.Cut()
		case 1:
			p.Set(proxy.Faults{Hold: true})
			time.Sleep(30 * time.Millisecond)
			p.Cut()
			p.Set(proxy.Faults{})
		case 2:
			p.Set(proxy.Faults{Hold: true})
			time.Sleep(50 * time.Millisecond)
			p.Set(proxy.Faults{})
		case 3: // in the middle of a packet
			p.CutAfter(1 + 37*round)
		case 4:
			p.Set(proxy.Faults{Delay: 5 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.3, Retransmit: 5 * time.Millisecond, OneByteChunks: true})
			time.Sleep(100 * time.Millisecond)
			p.Set(proxy.Faults{DropDown: true})
			time.Sleep(30 * time.Millisecond)
			p.Cut()
			p.Set(proxy.Faults{})
		}
	}
	eventually(t, "all acknowledged", a.empty)
	if numbers, repeats := c.count(identity); numbers != n || repeats > 10*n {
		t.Errorf("%d records arrived with %d repeats, want %d", numbers, repeats, n)
	}
	if got := a.spool.Stats().Shed; got != 0 {
		t.Errorf("%d records declared lost, want none", got)
	}
}

// A connection that is open but carries nothing is given up, and the will speaks for the station.
func TestLink_HalfOpenConnectionIsNoticed(t *testing.T) {
	t.Parallel()
	broker := servers.Mosquitto(t)
	p, url := through(t, broker, 1)
	c := newCollector(t, "main")
	c.online(broker.URL)
	status := watch(t, broker.URL, topics.Status(station))
	a := startAgent(t, url, nil)
	eventually(t, "online", func() bool { return status.last() == "online" })
	p.Set(proxy.Faults{Hold: true})
	a.add(t, 1, 1)
	eventually(t, "the session was given up", func() bool { return !a.Connected() })
	eventually(t, "offline by the will", func() bool { return status.last() == "offline" })
	p.Cut()
	p.Set(proxy.Faults{})
	eventually(t, "all acknowledged", a.empty)
}

func TestLink_RefusedRecordIsGivenUpAlone(t *testing.T) {
	broker := servers.Mosquitto(t)
	c := newCollector(t, "main")
	c.ignore[5] = true
	c.online(broker.URL)
	a := startAgent(t, broker.URL, func(c *link.Config) { c.Timeout = 25 * time.Millisecond })
	identity := a.spool.Identity()
	n := 10
	a.add(t, 1, n)
	// Later records go on being acknowledged.
	eventually(t, "number 5 was given up", func() bool {
		n++
		a.add(t, n, n)
		time.Sleep(10 * time.Millisecond)
		return !a.spool.Unacked().Contains(5)
	})
	eventually(t, "all acknowledged", a.empty)
	c.mu.Lock()
	defer c.mu.Unlock()
	var gaps []*protocol.Gap
	for _, rec := range c.records {
		if rec.GetGap() != nil {
			gaps = append(gaps, rec.GetGap())
		}
	}
	if len(gaps) != 1 || gaps[0].GetReason() != protocol.Gap_REASON_REFUSED || protocol.RangesOf(gaps[0].GetRanges()).String() != "{[5,6)}" {
		t.Errorf("gaps %v", gaps)
	}
	if times := c.got[identity][5]; times < 6 {
		t.Errorf("given up after %d times, want at least 6", times)
	}
}

func TestLink_SilentCollectorNeverLeadsToRefusal(t *testing.T) {
	broker := servers.Mosquitto(t)
	c := newCollector(t, "main")
	c.deaf = true
	c.online(broker.URL)
	a := startAgent(t, broker.URL, func(c *link.Config) { c.Timeout = 5 * time.Millisecond })
	identity := a.spool.Identity()
	a.add(t, 1, 30)
	eventually(t, "each sent at least ten times", func() bool { _, repeats := c.count(identity); return repeats > 300 })
	if got := a.spool.Unacked().Count(); got != 30 {
		t.Errorf("%d held, want 30", got)
	}
	c.mu.Lock()
	c.deaf = false
	c.mu.Unlock()
	eventually(t, "all acknowledged", a.empty)
	if got := a.spool.Stats().Shed; got != 0 {
		t.Errorf("%d given up, want none", got)
	}
}

func TestLink_BrokerAckWithoutCollector(t *testing.T) {
	broker := servers.Mosquitto(t)
	a := startAgent(t, broker.URL, func(c *link.Config) { c.BrokerAck, c.JSON = true, true })
	listener := newCollector(t, "nobody")
	listener.deaf = true
	listener.client = dial(t, broker.URL, "listener", "", func(c mqtt.Client) {
		for _, filter := range topics.RecordFilters("") {
			c.Subscribe(filter, 1, listener.receive).Wait()
		}
	})
	t.Cleanup(func() { listener.client.Disconnect(100) })
	a.add(t, 1, 200)
	eventually(t, "all acknowledged by the broker", a.empty)
	eventually(t, "all arrived", func() bool { numbers, _ := listener.count(a.spool.Identity()); return numbers == 200 })
	listener.mu.Lock()
	defer listener.mu.Unlock()
	if listener.messages["batch"] != 0 {
		t.Error("a batch in the format json")
	}
	for _, payload := range listener.payloads {
		if payload[0] != '{' {
			t.Fatalf("not JSON: %q", payload)
		}
	}
}

func TestLink_RepliesOvertakeTheBacklog(t *testing.T) {
	broker := servers.Mosquitto(t)
	p, url := through(t, broker, 1)
	p.Set(proxy.Faults{Hold: true})
	a := startAgent(t, url, nil)
	a.add(t, 1, 20000)
	if _, err := a.spool.Put(t.Context(), spool.LaneReply, protocol.KindReply, measurement(t, 20001)); err != nil {
		t.Fatal(err)
	}
	c := newCollector(t, "main")
	c.online(broker.URL)
	p.Set(proxy.Faults{})
	eventually(t, "all acknowledged", a.empty)
	c.mu.Lock()
	defer c.mu.Unlock()
	at := 0
	for i, seq := range c.order {
		if seq == 20001 {
			at = i
			break
		}
	}
	if at > 8000 { // it is the first to go, but the test's collector takes messages in no strict order
		t.Errorf("the reply came after %d other records", at)
	}
}

func TestLink_ConflictMovesToAnotherIdentity(t *testing.T) {
	t.Parallel()
	broker := servers.Mosquitto(t)
	c := newCollector(t, "main")
	for n := range uint64(21) {
		c.ignore[n] = true
	}
	c.online(broker.URL)
	a := startAgent(t, broker.URL, nil)
	first := a.spool.Identity()
	a.add(t, 1, 20)
	eventually(t, "all arrived", func() bool { numbers, _ := c.count(first); return numbers == 20 })
	c.mu.Lock()
	c.conflict, c.ignore = 11, map[uint64]bool{}
	c.settled[first] = protocol.Ranges{{From: 1, To: 10}}
	c.mu.Unlock()
	c.ack(c.client, first)
	eventually(t, "another identity", func() bool { return a.spool.Identity() != first })
	eventually(t, "all acknowledged", a.empty)
	second := a.spool.Identity()
	if numbers, _ := c.count(second); numbers != 11 { // ten records and the gap that tells of them
		t.Errorf("%d records under the new identity, want 11", numbers)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, rec := range c.records {
		if gap := rec.GetGap(); gap != nil {
			if key[:16] != hexID(second) || hexID([8]byte(gap.GetSpool())) != hexID(first) || protocol.RangesOf(gap.GetRanges()).String() != "{[11,21)}" {
				t.Errorf("gap %s: %v", key, gap)
			}
		}
	}
}

func TestLink_StatusInfoAndState(t *testing.T) {
	broker := servers.Mosquitto(t)
	status := watch(t, broker.URL, topics.Status(station))
	info := watch(t, broker.URL, topics.Info(station))
	state := watch(t, broker.URL, topics.State(station))
	a := startAgent(t, broker.URL, nil)
	a.SetInfo([]byte(`{"station":"torino"}`))
	eventually(t, "online and described", func() bool { return status.last() == "online" && info.last() == `{"station":"torino"}` })
	a.SetState([]byte(`{"state":"running"}`))
	eventually(t, "running", func() bool { return state.last() == `{"state":"running"}` })
	a.stop()
	eventually(t, "offline", func() bool { return status.last() == "offline" })
	// All of it is retained.
	for topic, want := range map[string]string{topics.Status(station): "offline", topics.Info(station): `{"station":"torino"}`, topics.State(station): `{"state":"running"}`} {
		late := watch(t, broker.URL, topic)
		eventually(t, "retained "+topic, func() bool { return late.last() == want })
	}
}

// Somebody else may write to the station's status: another station's will, a hand that clears what is retained. A station
// that is there says so again.
func TestLink_ContradictsAFalseStatus(t *testing.T) {
	t.Parallel()
	broker := servers.Mosquitto(t)
	startAgent(t, broker.URL, nil)
	heard := make(chan string, 100) // far more than is said
	other := dial(t, broker.URL, "other", "", nil)
	t.Cleanup(func() { other.Disconnect(100) })
	other.Subscribe(topics.Status(station), 1, func(_ mqtt.Client, m mqtt.Message) { heard <- string(m.Payload()) }).Wait()
	next := func(want string) {
		t.Helper()
		select {
		case got := <-heard:
			if got != want {
				t.Fatalf("status %q, want %q", got, want)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("no status within 30 s, want %q", want)
		}
	}
	next("online")
	for _, text := range []string{"", "offline"} {
		other.Publish(topics.Status(station), 1, true, text).Wait()
		next(text)
		next("online")
	}
	never(t, "the station answers itself", func() bool { return len(heard) > 0 })
}

func TestLink_Orders(t *testing.T) {
	broker := servers.Mosquitto(t)
	a := startAgent(t, broker.URL, nil)
	eventually(t, "connected", func() bool { return a.spool.Stats().Waiting == 0 && a.Connected() })
	client := dial(t, broker.URL, "commander", "", nil)
	t.Cleanup(func() { client.Disconnect(100) })
	send := func(payload []byte) {
		if token := client.Publish(topics.Command(station), 1, false, payload); !token.WaitTimeout(5*time.Second) || token.Error() != nil {
			t.Fatal(token.Error())
		}
	}
	order := func(id string, until time.Time) []byte {
		b, err := protocol.Encode(&protocol.Command{
			Id: new(id), Expires: new(until.UnixNano()), Order: &protocol.Command_Cancel{Cancel: &protocol.Cancel{Id: new("x")}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	const good, old = "01931e7c-0000-7000-8000-000000000001", "01931e7c-0000-7000-8000-000000000002"
	send([]byte{0xff, 0xff})
	send([]byte(`{"id": 3}`))
	send(order("no uuid", time.Now().Add(time.Minute)))
	send(order(old, time.Now().Add(-time.Second)))
	eventually(t, "the good order was handled", func() bool { // repeated, as a collector does
		send(order(good, time.Now().Add(time.Minute)))
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.orders) > 0 && len(a.answers) > 0
	})
	a.mu.Lock()
	defer a.mu.Unlock()
	if got := a.orders[0].GetId(); got != good {
		t.Errorf("handled %q", got)
	}
	if r := a.answers[0]; len(a.answers) != 1 || r.GetCommandId() != old || r.GetState() != protocol.Reply_STATE_EXPIRED || r.GetReasonCode() != "expired" {
		t.Errorf("answers %v", a.answers)
	}
}

// watched remembers the last message on a topic.
type watched struct{ messages chan string }

func watch(t *testing.T, url, topic string) *watched {
	t.Helper()
	w := &watched{messages: make(chan string, 1)} // the latest only
	client := dial(t, url, "watch-"+topic[len(topic)-4:]+time.Now().Format("150405.000000000"), "", func(c mqtt.Client) {
		c.Subscribe(topic, 1, func(_ mqtt.Client, m mqtt.Message) {
			select {
			case <-w.messages:
			default:
			}
			w.messages <- string(m.Payload())
		}).Wait()
	})
	t.Cleanup(func() { client.Disconnect(100) })
	return w
}

func (w *watched) last() string {
	select {
	case m := <-w.messages:
		w.messages <- m
		return m
	default:
		return ""
	}
}

func TestNew_RefusesBadConfig(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.pem")
	if err := os.WriteFile(bad, []byte("no pem"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*link.Config){
		"station": func(c *link.Config) { c.Station = "Torino!" },
		"prefix":  func(c *link.Config) { c.Prefix = "a/#" },
		"scheme":  func(c *link.Config) { c.URL = "http://localhost" },
		"url":     func(c *link.Config) { c.URL = "mqtt://%zz" },
		"account": func(c *link.Config) { c.URL = "mqtt://me:secret@localhost" },
		"ca":      func(c *link.Config) { c.URL, c.CA = "mqtts://localhost", bad },
		"no ca":   func(c *link.Config) { c.URL, c.CA = "mqtts://localhost", bad+"x" },
		"cert":    func(c *link.Config) { c.URL, c.Cert, c.Key = "mqtts://localhost", bad, bad },
		"queue":   func(c *link.Config) { c.Queue = nil },
		"window":  func(c *link.Config) { c.WindowMessages = -1 },
	} {
		config := link.Config{
			Station: station, URL: "mqtt://localhost", Queue: queue{}, Settler: &spool.Spool{},
			Handler: func(context.Context, *protocol.Command) {}, Answer: func(context.Context, *protocol.Reply) {},
		}
		if _, err := link.New(config); err != nil {
			t.Fatalf("the good configuration: %v", err)
		}
		change(&config)
		_, err := link.New(config)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error shows a secret: %v", name, err)
		}
	}
}

func TestProbe_SeesACollector(t *testing.T) {
	t.Parallel()
	broker := servers.Mosquitto(t)
	config := link.Config{Station: station, URL: broker.URL}
	if online, err := link.Probe(t.Context(), config); err != nil || online {
		t.Errorf("before: %v, %v", online, err)
	}
	newCollector(t, "main").online(broker.URL)
	if online, err := link.Probe(t.Context(), config); err != nil || !online {
		t.Errorf("after: %v, %v", online, err)
	}
	broker.Stop()
	if _, err := link.Probe(t.Context(), config); err == nil {
		t.Error("without a broker: no error")
	}
	for _, url := range []string{"http://x", "mqtts://127.0.0.1:1"} {
		if _, err := link.Probe(t.Context(), link.Config{Station: station, URL: url, CA: "missing"}); err == nil {
			t.Errorf("%s: no error", url)
		}
	}
}

// In a batch too, the record that nobody takes is found and given up, and its neighbours are not.
func TestLink_RefusedRecordInABatch(t *testing.T) {
	t.Parallel()
	broker := servers.Mosquitto(t)
	p, url := through(t, broker, 1)
	p.Set(proxy.Faults{Hold: true})
	a := startAgent(t, url, func(c *link.Config) { c.Timeout = 25 * time.Millisecond })
	identity := a.spool.Identity()
	a.add(t, 1, 500) // a backlog: it goes in batches
	eventually(t, "committed", func() bool { return a.spool.Stats().Waiting == 0 })
	c := newCollector(t, "main")
	c.ignore[77] = true
	c.online(broker.URL)
	p.Set(proxy.Faults{})
	n := 500
	eventually(t, "number 77 was given up", func() bool {
		n++
		a.add(t, n, n)
		time.Sleep(10 * time.Millisecond)
		return !a.spool.Unacked().Contains(77)
	})
	eventually(t, "all acknowledged", a.empty)
	if shed := a.spool.Stats().Shed; shed != 1 {
		t.Errorf("%d records given up, want one", shed)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.messages["batch"] == 0 {
		t.Error("no batch: the test tests nothing")
	}
	if times := c.got[identity][77]; times < 7 {
		t.Errorf("given up after %d times", times)
	}
}

// Collectors come and go: what one took and did not acknowledge comes again when the next is online.
func TestLink_CollectorsComeAndGo(t *testing.T) {
	broker := servers.Mosquitto(t)
	a := startAgent(t, broker.URL, func(c *link.Config) { c.Timeout = 10 * time.Second }) // no repeat by time-out helps
	deaf := newCollector(t, "deaf")
	deaf.deaf = true
	deaf.online(broker.URL)
	eventually(t, "the agent sees it", a.CollectorOnline)
	a.add(t, 1, 300)
	eventually(t, "taken", func() bool { numbers, _ := deaf.count(a.spool.Identity()); return numbers > 50 })
	deaf.offline()
	eventually(t, "the agent sees that it is gone", func() bool { return !a.CollectorOnline() })
	a.add(t, 301, 400)
	good := newCollector(t, "good")
	good.online(broker.URL)
	eventually(t, "all acknowledged", a.empty)
	if numbers, _ := good.count(a.spool.Identity()); numbers != 400 {
		t.Errorf("%d arrived, want 400", numbers)
	}
}

// Chunks of IQ, which cannot be compressed, and more of them than the window holds.
func TestLink_LargeRecords(t *testing.T) {
	broker := servers.Mosquitto(t)
	c := newCollector(t, "main")
	c.online(broker.URL)
	a := startAgent(t, broker.URL, nil)
	for i := range 100 {
		noise := make([]byte, 32<<10)
		if _, err := rand.Read(noise); err != nil {
			t.Fatal(err)
		}
		chunk, err := protocol.Encode(&protocol.Record{Station: new(station), Time: new(time.Now().UnixNano()), Body: &protocol.Record_Iq{
			Iq: &protocol.IqChunk{CaptureId: new("c"), Index: new(uint32(i)), Data: noise},
		}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.spool.Put(t.Context(), spool.LaneIQ, protocol.KindIQ, chunk); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all acknowledged", a.empty)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.messages["iq"] < 100 || c.messages["batch"] != 0 {
		t.Errorf("messages %v", c.messages)
	}
}
