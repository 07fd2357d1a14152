package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/fulgidus/heimdall/agent/spool"
	"github.com/fulgidus/heimdall/packaging/proxy"
	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

// sightings counts how often each record of a station passes the broker.
type sightings struct {
	mu    sync.Mutex // guards all below
	times map[string]int
	state protocol.State // the last one
}

func watchStation(t *testing.T, broker, station string) *sightings {
	t.Helper()
	s := &sightings{times: map[string]int{}}
	options := mqtt.NewClientOptions().AddBroker("tcp://" + broker).SetClientID("watcher").SetOrderMatters(true)
	client := mqtt.NewClient(options)
	if token := client.Connect(); !token.WaitTimeout(10*time.Second) || token.Error() != nil {
		t.Fatalf("connect: %v", token.Error())
	}
	t.Cleanup(func() { client.Disconnect(100) })
	token := client.Subscribe("heimdall/v1/"+station+"/+", 1, func(_ mqtt.Client, m mqtt.Message) { s.see(m) })
	if !token.WaitTimeout(10*time.Second) || token.Error() != nil {
		t.Fatalf("subscribe: %v", token.Error())
	}
	return s
}

func (s *sightings) see(m mqtt.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch kind := m.Topic()[strings.LastIndexByte(m.Topic(), '/')+1:]; kind {
	case "state":
		var state protocol.State
		if json.Unmarshal(m.Payload(), &state) == nil {
			s.state = state
		}
	case "batch":
		records, _ := protocol.DecodeBatch(m.Payload())
		for _, rec := range records {
			s.times[fmt.Sprintf("%x-%d", rec.GetSpool(), rec.GetSeq())]++
		}
	default:
		if rec, err := protocol.Decode(m.Payload()); err == nil && rec.GetSeq() > 0 {
			s.times[fmt.Sprintf("%x-%d", rec.GetSpool(), rec.GetSeq())]++
		}
	}
}

// count is how many records were seen, how many of them more than once, and the most that one was seen.
func (s *sightings) count() (records, repeated, most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, times := range s.times {
		records++
		most = max(most, times)
		if times > 1 {
			repeated++
		}
	}
	return records, repeated, most
}

func (s *sightings) reason() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.Reason
}

// absence is how long there is no collector: 20 s, or what HEIMDALL_OUTAGE says.
func absence() time.Duration {
	if os.Getenv("HEIMDALL_OUTAGE") == "" {
		return 20 * time.Second
	}
	return outage()
}

// TestWithoutCollector leaves a station with a broker and no collector. Every record passes the broker once, also when the
// connection breaks meanwhile; the station says what it waits for; and when a collector comes it gets them all.
func TestWithoutCollector(t *testing.T) {
	t.Parallel() // it waits most of the time
	n := newNetwork(t, servers.Postgres(t))
	n.collector.stop(syscall.SIGTERM)
	link, err := proxy.New(n.broker.Addr, 5)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(link.Close)
	seen := watchStation(t, n.broker.Addr, "north")
	state := t.TempDir()
	config := writeFile(t, "north.yaml", fmt.Sprintf(`
station: {id: north}
mqtt: {url: "mqtt://%s"}
receivers: [{id: r0, source: %q, history: 16MiB, measurement: {every: 200ms}}]
spool: {path: %q, limit: 64MiB}
`, link.Addr(), simulated(t, "north"), state))
	agent := start(t, "heimdall-agent", "run", "--config", config)
	began := time.Now()
	atLeast := func(want int) func() error {
		return func() error {
			if got, _, _ := seen.count(); got < want {
				return fmt.Errorf("%d of %d records seen", got, want)
			}
			return nil
		}
	}
	eventually(t, time.Minute, "records pass the broker", atLeast(20))
	out, _, _ := run(t, "heimdall-agent", "check", "--config", config)
	if !strings.Contains(out, "none is online: records are kept here until one is") {
		t.Errorf("check does not say why records stay:\n%s", out)
	}
	eventually(t, time.Minute, "the state says why records stay", func() error {
		if reason := seen.reason(); !strings.Contains(reason, "no collector is online") {
			return fmt.Errorf("its reason is %q", reason)
		}
		return nil
	})
	time.Sleep(time.Until(began.Add(absence() / 2)))
	if records, repeated, _ := seen.count(); repeated > 0 {
		t.Errorf("%d of %d records were published again", repeated, records)
	}
	link.Cut()
	before, _, _ := seen.count()
	eventually(t, time.Minute, "records pass the broker again", atLeast(before+5))
	time.Sleep(time.Until(began.Add(absence())))
	records, repeated, _ := seen.count()
	if repeated > 5 { // what the broker had not confirmed when the connection broke, and that is a second's worth
		t.Errorf("%d of %d records were published again", repeated, records)
	}
	t.Logf("without a collector for %v: %d records published, %d again after the connection broke", time.Since(began).Round(time.Second), records, repeated)

	n.collector.start()
	n.waitReady()
	n.waitDelivered("north")
	agent.stop(syscall.SIGTERM)
	lines := n.waitVerified(time.Minute)
	if len(lines) != 1 || lines[0].Gaps != 0 || lines[0].Rejected != 0 || lines[0].Stored < uint64(records) {
		t.Errorf("%d records seen, and stored: %+v", records, lines)
	}
	if st, err := spool.Stat(state); err != nil || st.Records != 0 {
		t.Errorf("the spool holds %d records, %v", st.Records, err)
	}
}

// TestBrokerWiped kills the broker in mid-flight and starts it without anything it knew: sessions, queues, what is retained.
// Nothing that the station numbered is lost, and nothing is given up.
func TestBrokerWiped(t *testing.T) {
	t.Parallel() // it waits most of the time
	n := newNetwork(t, servers.Postgres(t))
	agent, state := n.agent(t, "north", simulated(t, "north"), ", measurement: {every: 20ms}, spectrum: {every: 200ms}")
	n.waitOnline(1)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 6 {
		time.Sleep(time.Duration(200+random.IntN(2000)) * time.Millisecond)
		n.broker.Kill()
		time.Sleep(time.Duration(random.IntN(1000)) * time.Millisecond)
		if err := errors.Join(n.broker.Wipe(), n.broker.Start(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	n.waitDelivered("north")
	// What the collector was telling the broker when that died, it tells again only after ten seconds.
	eventually(t, time.Minute, "the station knows what was stored", func() error {
		out := mustRun(t, "heimdall-agent", "status", "--json", "--config", agent.args[2])
		var status struct{ Spool struct{ Records int } }
		if err := json.Unmarshal([]byte(out), &status); err != nil {
			return err
		}
		if status.Spool.Records > 50 {
			return fmt.Errorf("%d records wait", status.Spool.Records)
		}
		return nil
	})
	agent.stop(syscall.SIGTERM)
	lines := n.waitVerified(time.Minute)
	if len(lines) != 1 || lines[0].Gaps != 0 || lines[0].Rejected != 0 || lines[0].Stored < 300 {
		t.Errorf("%+v", lines)
	}
	if st, err := spool.Stat(state); err != nil || st.Records != 0 {
		t.Errorf("the spool holds %d records, %v", st.Records, err)
	}
}
