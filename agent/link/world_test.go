package link_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"go.uber.org/goleak"

	"github.com/fulgidus/heimdall/agent/link"
	"github.com/fulgidus/heimdall/agent/spool"
	"github.com/fulgidus/heimdall/packaging/proxy"
	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

func TestMain(m *testing.M) {
	// The servers keep one goroutine for starting processes: have it started, so that it counts as there from the beginning.
	dir, err := os.MkdirTemp("", "link")
	if err != nil {
		panic(err)
	}
	broker, err := servers.StartMosquitto(context.Background(), dir)
	if err != nil {
		panic(err)
	}
	broker.Stop()
	os.RemoveAll(dir)
	goleak.VerifyTestMain(m, goleak.IgnoreCurrent())
}

const station = "torino"

// queue is the spool as the link wants it; the program wires the two in the same way.
type queue struct{ *spool.Spool }

func (q queue) Next(ctx context.Context) (link.Item, error) {
	item, err := q.Spool.Next(ctx)
	return link.Item(item), err
}

// agent is a spool and a link that run.
type agent struct {
	*link.Link
	spool *spool.Spool

	mu      sync.Mutex // guards orders and answers
	orders  []*protocol.Command
	answers []*protocol.Reply

	stop func()
}

func startAgent(t *testing.T, url string, change func(*link.Config)) *agent {
	t.Helper()
	s, err := spool.Open(t.TempDir(), spool.Options{Station: station})
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{spool: s}
	config := link.Config{
		Station: station, URL: url, Queue: queue{s}, Settler: s,
		Timeout: 400 * time.Millisecond, MaxBackoff: 100 * time.Millisecond, KeepAlive: time.Second,
		Handler: func(_ context.Context, cmd *protocol.Command) {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.orders = append(a.orders, cmd)
		},
		Answer: func(_ context.Context, reply *protocol.Reply) {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.answers = append(a.answers, reply)
		},
	}
	if change != nil {
		change(&config)
	}
	a.Link, err = link.New(config)
	if err != nil {
		t.Fatal(err)
	}
	spoolCtx, stopSpool := context.WithCancel(t.Context())
	linkCtx, stopLink := context.WithCancel(t.Context())
	var spoolRuns, linkRuns sync.WaitGroup
	spoolRuns.Go(func() {
		if err := s.Run(spoolCtx); err != nil {
			t.Errorf("spool: %v", err)
		}
	})
	linkRuns.Go(func() {
		if err := a.Run(linkCtx); err != nil {
			t.Errorf("link: %v", err)
		}
	})
	var once sync.Once
	a.stop = func() {
		once.Do(func() {
			stopLink()
			linkRuns.Wait()
			stopSpool()
			spoolRuns.Wait()
			if err := s.Close(); err != nil {
				t.Errorf("close the spool: %v", err)
			}
		})
	}
	t.Cleanup(a.stop)
	return a
}

// measurement is an encoded record that says n.
func measurement(t testing.TB, n int) []byte {
	t.Helper()
	rec := &protocol.Record{
		Station: new(station), Time: new(time.Now().UnixNano()), Receiver: new("r0"), Step: new("2m"),
		Body: &protocol.Record_Measurement{Measurement: &protocol.Measurement{
			Samples: new(uint64(n)), CenterHz: new(145.5e6), PowerDbfs: new(float32(-40)),
		}},
	}
	b, err := protocol.Encode(rec)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// add queues measurements first..last and returns the number of the last.
func (a *agent) add(t testing.TB, first, last int) {
	t.Helper()
	for n := first; n <= last; n++ {
		if _, err := a.spool.Queue(t.Context(), spool.LaneMeasurement, protocol.KindMeasurement, measurement(t, n)); err != nil {
			t.Fatal(err)
		}
	}
}

// collector receives and acknowledges as a real one does, with memory as its database. Everything it has survives
// offline and online.
type collector struct {
	t      *testing.T
	id     string
	client mqtt.Client

	mu       sync.Mutex                  // guards all below
	got      map[[8]byte]map[uint64]int  // how often each number arrived
	records  map[string]*protocol.Record // by spool and number
	settled  map[[8]byte]protocol.Ranges // what was acknowledged
	messages map[string]int              // by last level of the topic
	payloads [][]byte                    // of single messages
	deaf     bool                        // acknowledges nothing
	ignore   map[uint64]bool             // numbers it never acknowledges
	conflict uint64                      // answers conflict from this number on, once
	order    []uint64                    // of arrival
	refused  protocol.Ranges             // says that it refused these
}

func newCollector(t *testing.T, id string) *collector {
	return &collector{
		t: t, id: id, got: map[[8]byte]map[uint64]int{}, settled: map[[8]byte]protocol.Ranges{},
		messages: map[string]int{}, ignore: map[uint64]bool{}, records: map[string]*protocol.Record{},
	}
}

// dial makes a client of the broker for tests.
func dial(t *testing.T, url, id, will string, connected func(mqtt.Client)) mqtt.Client {
	t.Helper()
	o := mqtt.NewClientOptions().AddBroker(strings.Replace(url, "mqtt://", "tcp://", 1)).SetClientID(id).
		SetConnectRetry(true).SetConnectRetryInterval(20 * time.Millisecond).SetMaxReconnectInterval(50 * time.Millisecond).
		SetOrderMatters(false)
	if will != "" {
		o.SetWill(will, protocol.Offline, 1, true)
	}
	if connected != nil {
		o.SetOnConnectHandler(connected)
	}
	c := mqtt.NewClient(o)
	if token := c.Connect(); !token.WaitTimeout(20*time.Second) || token.Error() != nil {
		t.Fatalf("connect %s: %v", id, token.Error())
	}
	return c
}

func (c *collector) online(url string) {
	c.t.Helper()
	status := topics.CollectorStatus(c.id)
	ready := make(chan struct{}, 100)
	c.client = dial(c.t, url, "heimdall-collector-"+c.id, status, func(client mqtt.Client) {
		for _, filter := range topics.RecordFilters("") {
			client.Subscribe(filter, 1, c.receive).Wait()
		}
		c.publishAcks(client)
		client.Publish(status, 1, true, protocol.Online).Wait()
		ready <- struct{}{}
	})
	<-ready
	c.t.Cleanup(c.offline)
}

func (c *collector) offline() {
	if c.client == nil {
		return
	}
	c.client.Publish(topics.CollectorStatus(c.id), 1, true, protocol.Offline).WaitTimeout(time.Second)
	c.client.Disconnect(100)
	c.client = nil
}

var topics protocol.Topics

func (c *collector) receive(client mqtt.Client, m mqtt.Message) {
	var records []*protocol.Record
	var err error
	if strings.HasSuffix(m.Topic(), "/batch") {
		records, err = protocol.DecodeBatch(m.Payload())
	} else {
		var rec *protocol.Record
		rec, err = protocol.Decode(m.Payload())
		records = []*protocol.Record{rec}
	}
	if err != nil {
		c.t.Errorf("%s: %v", m.Topic(), err)
		return
	}
	c.mu.Lock()
	c.messages[m.Topic()[strings.LastIndexByte(m.Topic(), '/')+1:]]++
	if len(records) == 1 {
		c.payloads = append(c.payloads, m.Payload())
	}
	acks := map[[8]byte]bool{}
	for _, rec := range records {
		stream := rec.Stream()
		if c.got[stream.Spool] == nil {
			c.got[stream.Spool] = map[uint64]int{}
		}
		c.got[stream.Spool][rec.GetSeq()]++
		c.order = append(c.order, rec.GetSeq())
		c.records[fmt.Sprintf("%x-%d", stream.Spool, rec.GetSeq())] = rec
		if !c.deaf && !c.ignore[rec.GetSeq()] {
			r := c.settled[stream.Spool]
			r.Add(rec.GetSeq())
			c.settled[stream.Spool] = r
			acks[stream.Spool] = true
		}
	}
	c.mu.Unlock()
	for spool := range acks {
		c.ack(client, spool)
	}
}

func (c *collector) ack(client mqtt.Client, spool [8]byte) {
	c.mu.Lock()
	ack := &protocol.Ack{Spool: spool[:], Settled: c.settled[spool].Head(protocol.MaxAckRanges).Wire(), Collector: &c.id}
	if !c.refused.Empty() {
		ack.Rejected, ack.RejectedCount = c.refused.Wire(), new(c.refused.Count())
	}
	if c.conflict > 0 {
		ack.Conflict = &protocol.SeqRange{From: new(c.conflict), To: new(c.conflict)}
		c.conflict = 0
	}
	c.mu.Unlock()
	payload, err := protocol.Encode(ack)
	if err != nil {
		c.t.Error(err)
		return
	}
	client.Publish(topics.Ack(station, spool), 1, true, payload)
}

// publishAcks says again all that is known, as a collector does when it connects.
func (c *collector) publishAcks(client mqtt.Client) {
	c.mu.Lock()
	var spools [][8]byte
	for spool := range c.settled {
		spools = append(spools, spool)
	}
	c.mu.Unlock()
	for _, spool := range spools {
		c.ack(client, spool)
	}
}

// count is how many numbers of a spool arrived, and how many messages repeated one.
func (c *collector) count(spool [8]byte) (numbers, repeats int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, times := range c.got[spool] {
		numbers++
		repeats += times - 1
	}
	return numbers, repeats
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// never checks for a while that a condition does not come about.
func never(t *testing.T, what string, bad func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Second)
	for time.Now().Before(deadline) {
		if bad() {
			t.Fatal(what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// empty tells whether everything was acknowledged.
func (a *agent) empty() bool {
	return a.spool.Unacked().Empty() && a.spool.Stats().Waiting == 0
}

// through is a link to a broker for the test to damage, and the URL of its near end.
func through(t *testing.T, broker *servers.Broker, seed uint64) (p *proxy.Proxy, url string) {
	t.Helper()
	p, err := proxy.New(broker.Addr, seed)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p, "mqtt://" + p.Addr()
}

func hexID(spool [8]byte) string { return hex.EncodeToString(spool[:]) }
