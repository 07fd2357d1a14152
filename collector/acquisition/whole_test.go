package acquisition_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/collector/acquisition"
	"github.com/fulgidus/heimdall/collector/command"
	"github.com/fulgidus/heimdall/collector/ingest"
	"github.com/fulgidus/heimdall/collector/link"
	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/packaging/proxy"
	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

func background(t *testing.T, run func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("ended with %v", err)
		}
	})
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// agent is a station of these tests.
type agent struct {
	told atomic.Int64 // how often it was told to capture
	late atomic.Int64 // how often only after the start

	asked sync.Map // of each acquisition, the id of the first command
}

// answers is what a station of these tests says to an order to capture: the states, and the reason of the last.
type answers func(a *agent, cmd *protocol.Command) (states []protocol.Reply_State, reason string)

// follows has measured at once, each time it is told.
func follows(*agent, *protocol.Command) ([]protocol.Reply_State, string) {
	return []protocol.Reply_State{protocol.Reply_STATE_ACCEPTED, protocol.Reply_STATE_CAPTURING, protocol.Reply_STATE_DONE}, ""
}

// isMute never answers.
func isMute(*agent, *protocol.Command) ([]protocol.Reply_State, string) { return nil, "" }

func refuses(*agent, *protocol.Command) ([]protocol.Reply_State, string) {
	return []protocol.Reply_State{protocol.Reply_STATE_REFUSED}, "out_of_passband"
}

// isBusyAtFirst follows the second order for an acquisition.
func isBusyAtFirst(a *agent, cmd *protocol.Command) ([]protocol.Reply_State, string) {
	first, asked := a.asked.LoadOrStore(cmd.GetCapture().GetAcquisition(), cmd.GetId())
	if !asked || first == cmd.GetId() {
		return []protocol.Reply_State{protocol.Reply_STATE_REFUSED}, "busy"
	}
	return follows(a, cmd)
}

// playAgent connects a station.
func playAgent(t *testing.T, url, station string, say answers) *agent {
	t.Helper()
	played := new(agent)
	topics := protocol.Topics{}
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(url).SetClientID("heimdall-agent-" + station).SetAutoReconnect(false).SetOrderMatters(false))
	wait(t, client.Connect())
	t.Cleanup(func() { client.Disconnect(250) })
	var seq atomic.Uint64
	reply := func(cmd *protocol.Command, state protocol.Reply_State, reason string) {
		var capture *protocol.CaptureManifest
		if state == protocol.Reply_STATE_DONE {
			capture = &protocol.CaptureManifest{
				Id: cmd.Id, Start: cmd.GetCapture().Start, DurationS: cmd.GetCapture().DurationS,
				Measurement: &protocol.Measurement{SnrDb: proto.Float32(20)},
			}
		}
		payload, err := protocol.Encode(&protocol.Record{
			Station: &station, Spool: []byte("12345678"), Seq: new(seq.Add(1)), Time: new(time.Now().UnixNano()),
			Body: &protocol.Record_Reply{Reply: &protocol.Reply{
				CommandId: cmd.Id, Acquisition: cmd.GetCapture().Acquisition, State: &state, ReasonCode: &reason, Capture: capture,
			}},
		})
		if err != nil {
			t.Error(err)
		}
		client.Publish(topics.Record(station, protocol.KindReply), 1, false, payload)
	}
	wait(t, client.Subscribe(topics.Command(station), 1, func(_ mqtt.Client, m mqtt.Message) {
		cmd, err := protocol.DecodeCommand(m.Payload())
		if err == nil {
			err = protocol.ValidateCommand(cmd)
		}
		if err != nil {
			t.Errorf("a bad command: %v", err)
			return
		}
		played.told.Add(1)
		if time.Now().UnixNano() > cmd.GetCapture().GetStart() {
			played.late.Add(1)
		}
		states, reason := say(played, cmd)
		for _, state := range states {
			reply(cmd, state, reason)
		}
	}))
	wait(t, client.Publish(topics.Status(station), 1, true, protocol.Online))
	wait(t, client.Publish(topics.Info(station), 1, true, fmt.Sprintf(`{"station":%q,"receivers":[],"capabilities":["capture"],"version":"1"}`, station)))
	return played
}

func wait(t *testing.T, token mqtt.Token) {
	t.Helper()
	if !token.WaitTimeout(10*time.Second) || token.Error() != nil {
		t.Fatalf("MQTT: %v", token.Error())
	}
}

// collector is all that an acquisition needs, on a real broker and a real database.
type collector struct {
	*acquisition.Conductor
	db       *store.DB
	commands *command.Dispatcher
}

func sqliteURL(t *testing.T) string {
	t.Helper()
	return "sqlite:" + filepath.Join(t.TempDir(), "heimdall.db")
}

func startCollector(t *testing.T, url string) *collector {
	t.Helper()
	return startCollectorOn(t, url, sqliteURL(t))
}

func startCollectorOn(t *testing.T, url, database string) *collector {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	db, err := store.Open(t.Context(), database, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if _, err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	var in *ingest.Ingest
	client, err := link.NewClient(link.Config{
		URL: url, ID: "one", SharedGroup: "collectors", Log: log,
		Handle: func(m link.Message) { in.Receive(ingest.Message(m)) },
	})
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{db: db, commands: command.New(protocol.Topics{}, client, log)}
	c.Conductor = acquisition.New(acquisition.Config{Store: db, Commander: c.commands, Stations: db, Log: log})
	in = ingest.New(ingest.Config{
		Collector: "one", Sink: db, Known: db, Stations: db, Suspensions: db, Publisher: client, Log: log,
		Observers: []ingest.Observer{c.commands.Observe, c.Observe},
	})
	for _, run := range []func(context.Context) error{client.Run, in.Run, c.commands.Run, c.Run} {
		background(t, run)
	}
	eventually(t, "session with the broker", func() bool { return client.Ready() == nil })
	return c
}

// awaitStations waits until so many stations are there and take orders.
func (c *collector) awaitStations(t *testing.T, want int) {
	t.Helper()
	eventually(t, "the stations", func() bool {
		list, err := c.db.Stations(t.Context())
		n := 0
		for _, s := range list {
			if s.Status == protocol.Online && len(s.Capabilities) > 0 {
				n++
			}
		}
		return err == nil && n == want
	})
}

func stateOf(a *protocol.Acquisition, station string) protocol.StationState {
	for _, s := range a.Stations {
		if s.Station == station {
			return s.State
		}
	}
	return ""
}

func TestWhole_AcquiresThroughARealBroker(t *testing.T) {
	run := func(t *testing.T, url string) {
		for _, s := range []string{"north", "south"} {
			playAgent(t, url, s, follows)
		}
		deaf := playAgent(t, url, "mute", isMute)
		c := startCollector(t, url)
		c.awaitStations(t, 3)
		began := time.Now()
		a, err := c.Create(t.Context(), fiveSeconds)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "two stations done", func() bool {
			a, err = c.db.Acquisition(t.Context(), a.ID)
			return err == nil && stateOf(a, "north") == protocol.StationDone && stateOf(a, "south") == protocol.StationDone
		})
		t.Logf("done after %v", time.Since(began))
		if a.State != protocol.AcquisitionRunning || stateOf(a, "mute") != protocol.StationSent {
			t.Errorf("%s, want it to wait for the mute station", sum(a))
		}
		for _, s := range a.Stations {
			if s.Station == "mute" {
				continue
			}
			var m map[string]any
			if err := json.Unmarshal(s.Measurement, &m); err != nil || m["snr_db"] != 20.0 {
				t.Errorf("%s: measurement %s (%v)", s.Station, s.Measurement, err)
			}
			if m["time"] != a.StartTime {
				t.Errorf("%s started at %v, want %s", s.Station, m["time"], a.StartTime)
			}
		}
		eventually(t, "a repeated command", func() bool { return deaf.told.Load() == 2 })
		if n := c.commands.Pending(); n != 1 {
			t.Errorf("%d commands wait for a reply, want that of the mute station", n)
		}
	}
	t.Run("mosquitto", func(t *testing.T) { run(t, servers.Mosquitto(t).URL) })
	t.Run("embedded", func(t *testing.T) {
		b, err := link.OpenBroker(t.Context(), "127.0.0.1:0", slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		background(t, b.Run)
		run(t, b.URL())
	})
}

// With one station near and one behind a round trip of 100 ms, both are told before the start, and the start is no later
// than that takes.
func TestWhole_StartsAsSoonAsTheFarthestStationCan(t *testing.T) {
	broker := servers.Mosquitto(t)
	p, err := proxy.New(broker.Addr, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	p.Set(proxy.Faults{Delay: 50 * time.Millisecond})
	near, far := playAgent(t, broker.URL, "near", follows), playAgent(t, "mqtt://"+p.Addr(), "far", follows)
	c := startCollector(t, broker.URL)
	c.awaitStations(t, 2)
	req := fiveSeconds
	req.DurationS = 0.1
	var leads []time.Duration
	for range 10 {
		want := 500 * time.Millisecond // while nothing is known
		quick, ok1 := c.commands.ReplyTime("near")
		slow, ok2 := c.commands.ReplyTime("far")
		if ok1 && ok2 {
			want = max(quick, slow)*3/2 + 50*time.Millisecond
		}
		a, err := c.Create(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		requested, err1 := time.Parse(time.RFC3339Nano, a.Requested)
		start, err2 := time.Parse(time.RFC3339Nano, a.StartTime)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		if lead := start.Sub(requested); (lead - want).Abs() > time.Microsecond {
			t.Errorf("starts %v ahead, want %v: the stations take %v and %v to answer", lead, want, quick, slow)
		}
		leads = append(leads, start.Sub(requested))
		eventually(t, "both done", func() bool {
			a, err = c.db.Acquisition(t.Context(), a.ID)
			return err == nil && a.State == protocol.AcquisitionDone
		})
	}
	t.Logf("leads %v", leads)
	quick, ok1 := c.commands.ReplyTime("near")
	slow, ok2 := c.commands.ReplyTime("far")
	if !ok1 || !ok2 || slow < 100*time.Millisecond || quick >= slow {
		t.Errorf("the near station takes %v to answer, the far one %v; the round trip alone is 100 ms", quick, slow)
	}
	if n := near.late.Load() + far.late.Load(); n > 2 { // this machine may stand still for a moment
		t.Errorf("%d of 20 commands came after the start", n)
	}
}
