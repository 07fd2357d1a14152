package ingest_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/collector/ingest"
	"github.com/fulgidus/heimdall/collector/link"
	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

// whole is an Ingest between a real broker and a real database.
type whole struct {
	*ingest.Ingest
	db     *store.DB
	client *link.Client
}

func startWhole(t *testing.T, url string) *whole {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	db, err := store.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "heimdall.db"), log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if _, err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := &whole{db: db}
	w.client, err = link.NewClient(link.Config{
		URL: url, ID: "one", SharedGroup: "collectors", Log: log,
		Handle:    func(m link.Message) { w.Receive(ingest.Message(m)) },
		Connected: func(context.Context, time.Time) error { w.Republish(); return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	mirror := ingest.NewMirror(protocol.Topics{}, w.client, log)
	w.Ingest = ingest.New(ingest.Config{
		Collector: "one", Sink: db, Known: db, Stations: db, Suspensions: db, Publisher: w.client, Observers: []ingest.Observer{mirror.Observe}, Log: log,
		Limits: ingest.Limits{RejectedPerMinute: 1e9, RejectedPerHour: 1e9}, // bad records are to reach the decoder
	})
	for _, run := range []func(context.Context) error{w.client.Run, w.Run, mirror.Run} {
		background(t, run)
	}
	eventually(t, "session with the broker", func() bool { return w.client.Ready() == nil })
	return w
}

func background(t *testing.T, run func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
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
	for deadline := time.Now().Add(60 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 60 s: %s", what)
		}
	}
}

// agent is a station's client, which notes what it is told is settled.
type agent struct {
	mqtt.Client
	mu      sync.Mutex // guards settled
	settled protocol.Ranges
}

func connect(t *testing.T, url, station string) *agent {
	t.Helper()
	a := &agent{Client: mqtt.NewClient(mqtt.NewClientOptions().AddBroker(url).SetClientID("heimdall-agent-" + station).SetProtocolVersion(4).SetAutoReconnect(false))}
	wait(t, a.Connect())
	t.Cleanup(func() { a.Disconnect(250) })
	wait(t, a.Subscribe(protocol.Topics{}.Ack(station, spoolA), 1, func(_ mqtt.Client, m mqtt.Message) {
		if len(m.Payload()) == 0 {
			return // cleared
		}
		ack, err := protocol.DecodeAck(m.Payload())
		if err == nil {
			err = protocol.ValidateAck(ack)
		}
		if err != nil {
			t.Errorf("a bad Ack: %v", err)
			return
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		a.settled = a.settled.Union(protocol.RangesOf(ack.GetSettled()))
	}))
	return a
}

func wait(t *testing.T, token mqtt.Token) {
	t.Helper()
	if !token.WaitTimeout(20*time.Second) || token.Error() != nil {
		t.Fatalf("MQTT: %v", token.Error())
	}
}

func (a *agent) has(from, to uint64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.settled.ContainsRange(from, to)
}

func brokers(t *testing.T, test func(t *testing.T, url string)) {
	t.Run("mosquitto", func(t *testing.T) { test(t, servers.Mosquitto(t).URL) })
	t.Run("embedded", func(t *testing.T) {
		b, err := link.OpenBroker(t.Context(), "127.0.0.1:0", slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		background(t, b.Run)
		test(t, b.URL())
	})
}

// samples is one valid payload of each topic that a station has.
func samples(t testing.TB, station string) map[string][]byte {
	t.Helper()
	levels := make([]float64, 256)
	for i := range levels {
		levels[i] = -120 + float64(i%7)
	}
	spectrum, err := protocol.NewSpectrum(levels, 145.4e6, 937.5)
	if err != nil {
		t.Fatal(err)
	}
	bodies := map[protocol.Kind]func(r *protocol.Record){
		protocol.KindMeasurement: func(*protocol.Record) {},
		protocol.KindSpectrum:    func(r *protocol.Record) { r.Body = &protocol.Record_Spectrum{Spectrum: spectrum} },
		protocol.KindDetection: func(r *protocol.Record) {
			r.Body = &protocol.Record_Detection{Detection: &protocol.Detection{DurationS: new(0.5), CenterHz: new(145.5e6), LowHz: new(145.49e6), HighHz: new(145.51e6)}}
		},
		protocol.KindHealth: func(r *protocol.Record) {
			r.Body = &protocol.Record_Health{Health: &protocol.Health{Now: r.Time, LastSeq: new(uint64(9)), Unacked: []*protocol.SeqRange{{From: new(uint64(1)), To: new(uint64(9))}}}}
		},
		protocol.KindGap: func(r *protocol.Record) {
			r.Body = &protocol.Record_Gap{Gap: &protocol.Gap{Ranges: []*protocol.SeqRange{{From: new(uint64(3)), To: new(uint64(4))}}, Reason: protocol.Gap_REASON_QUOTA.Enum()}}
		},
		protocol.KindIQ: func(r *protocol.Record) {
			r.Body = &protocol.Record_Iq{Iq: &protocol.IqChunk{CaptureId: new("c1"), Index: new(uint32(0)), FirstSample: new(uint64(0)), Samples: new(uint32(512)), Data: make([]byte, 1024)}}
		},
		protocol.KindReply: func(r *protocol.Record) {
			r.Body = &protocol.Record_Reply{Reply: &protocol.Reply{CommandId: new("018f0000-0000-7000-8000-000000000000"), State: protocol.Reply_STATE_ACCEPTED.Enum()}}
		},
		protocol.KindSite: func(r *protocol.Record) {
			r.Body = &protocol.Record_Site{Site: &protocol.Site{LatitudeDeg: new(45.0), LongitudeDeg: new(7.6)}}
		},
	}
	out := map[string][]byte{
		"status": []byte("online"),
		"info":   fmt.Appendf(nil, `{"station":%q,"name":"N","receivers":[{"id":"r1","source":"sim","live":true}],"capabilities":["capture"],"version":"1"}`, station),
		"state":  []byte(`{"time":"2026-11-24T02:00:00.000000000Z","state":"running","receivers":{"r1":{"connected":true,"steps":{}}},"time_quality":"ntp"}`),
	}
	var sealed [][]byte
	for i, kind := range protocol.Kinds() {
		rec := measurement(station, uint64(1000+i))
		bodies[kind](rec)
		out[string(kind)] = encode(t, rec)
		sealed = append(sealed, out[string(kind)])
	}
	if out["batch"], _ = protocol.EncodeBatch(sealed); out["batch"] == nil {
		t.Fatal("no batch")
	}
	return out
}

// mutate damages a payload in one of the ways that bytes get damaged, or makes another one up.
func mutate(r *rand.Rand, payload []byte) []byte {
	b := append([]byte(nil), payload...)
	switch r.IntN(6) {
	case 0:
		return b[:r.IntN(len(b)+1)]
	case 1:
		for range 1 + r.IntN(8) {
			b[r.IntN(len(b))] ^= 1 << r.IntN(8)
		}
	case 2:
		at := r.IntN(len(b))
		return append(b[:at], append([]byte{byte(r.Uint32()), byte(r.Uint32())}, payload[at:]...)...)
	case 3:
		at, n := r.IntN(len(b)), r.IntN(16)
		return append(b[:at], b[min(at+n, len(b)):]...)
	case 4:
		b = make([]byte, r.IntN(300))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
	default:
		return append(b, b[r.IntN(len(b)):]...)
	}
	return b
}

// A thousand damaged payloads on every topic of a station end nothing, and another station's records keep arriving.
func TestWhole_SurvivesDamagedPayloadsOnEveryTopic(t *testing.T) {
	const each = 1000
	brokers(t, func(t *testing.T, url string) {
		w := startWhole(t, url)
		good, bad := connect(t, url, "good"), connect(t, url, "bad")
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		r := rand.New(rand.NewPCG(seed, 0))

		seq, sent := uint64(0), 0
		var last mqtt.Token
		valid := samples(t, "bad")
		for topic, payload := range valid {
			for range each {
				last = bad.Publish("heimdall/v1/bad/"+topic, 1, false, mutate(r, payload))
				if sent++; sent%50 == 0 {
					seq++
					wait(t, good.Publish("heimdall/v1/good/measurement", 1, false, encode(t, measurement("good", seq))))
				}
			}
		}
		for _, topic := range []string{"bad/command", "bad/ack/00000000000000ff", "bad/json/measurement", "BAD/measurement", "collector/x/status", "bad/none", "bad"} {
			for range each / 10 {
				last = bad.Publish("heimdall/v1/"+topic, 0, false, mutate(r, valid["measurement"]))
			}
		}
		wait(t, last)
		eventually(t, "acknowledgement of all good records", func() bool { return good.has(1, seq) })
		if s := w.Stats(); s.Rejected == 0 {
			t.Errorf("nothing was rejected, so the test says nothing: %+v", s)
		}
		verdicts, err := w.db.Verify(t.Context(), "good", true)
		if err != nil || len(verdicts) != 1 {
			t.Fatalf("verify: %+v, %v", verdicts, err)
		}
		if v := verdicts[0]; !v.OK() || v.Stored != seq || v.Rejected != 0 {
			t.Errorf("the good station: %+v, want %d stored and no more", v, seq)
		}
		if err := w.Ready(); err != nil {
			t.Errorf("not ready: %v", err)
		}
	})
}

// The same records shuffled and each three times, alone and in batches, leave one row each.
func TestWhole_StoresARepeatedAndShuffledStreamOnce(t *testing.T) {
	brokers(t, func(t *testing.T, url string) {
		const n = 2000
		w := startWhole(t, url)
		a := connect(t, url, "north")
		records := make([][]byte, n)
		for i := range records {
			rec := measurement("north", uint64(i+1))
			if i%10 == 0 { // late, too
				rec.Time = proto.Int64(rec.GetTime() - int64(time.Hour))
			}
			records[i] = encode(t, rec)
		}
		var last mqtt.Token
		for round := range 3 {
			order := rand.Perm(n)
			for len(order) > 0 {
				if round == 1 {
					size := min(len(order), 1+rand.IntN(200))
					var batch [][]byte
					for _, i := range order[:size] {
						batch = append(batch, records[i])
					}
					payload, err := protocol.EncodeBatch(batch)
					if err != nil {
						t.Fatal(err)
					}
					last, order = a.Publish("heimdall/v1/north/batch", 1, false, payload), order[size:]
					continue
				}
				last, order = a.Publish("heimdall/v1/north/measurement", 1, false, records[order[0]]), order[1:]
			}
		}
		wait(t, last)
		eventually(t, "acknowledgement of all", func() bool { return a.has(1, n) })
		eventually(t, "all three rounds", func() bool { return w.Stats().Records == 3*n })
		if s := w.Stats(); s.Fresh != n || s.Rejected != 0 || s.Dropped != 0 {
			t.Errorf("%+v, want %d fresh and none rejected or dropped", s, n)
		}
		verdicts, err := w.db.Verify(t.Context(), "north", true)
		if err != nil || len(verdicts) != 1 || !verdicts[0].OK() || verdicts[0].Stored != n {
			t.Errorf("verify: %+v, %v", verdicts, err)
		}
	})
}

func TestWhole_TellsAnAgentThatComesLateWhatIsSettled(t *testing.T) {
	brokers(t, func(t *testing.T, url string) {
		w := startWhole(t, url)
		first := connect(t, url, "north")
		wait(t, first.Publish("heimdall/v1/north/measurement", 1, false, encode(t, measurement("north", 1))))
		eventually(t, "acknowledgement", func() bool { return first.has(1, 1) })
		first.Disconnect(250)
		// The broker forgets what it retained.
		wiper := connect(t, url, "wiper")
		wait(t, wiper.Publish(protocol.Topics{}.Ack("north", spoolA), 1, true, []byte{}))
		w.Republish()
		second := connect(t, url, "north")
		eventually(t, "the Ack again", func() bool { return second.has(1, 1) })
		second.Disconnect(250)
		third := connect(t, url, "north") // after it was published, so that only what is retained can come
		eventually(t, "the retained Ack", func() bool { return third.has(1, 1) })
	})
}

// FuzzReceive gives an Ingest any payload on any topic. It must be acknowledged to the broker, and what it says may touch
// no station but the topic's.
func FuzzReceive(f *testing.F) {
	for topic, payload := range samples(f, "north") {
		f.Add("north/"+topic, payload)
		f.Add("south/"+topic, payload)
	}
	f.Add("north/measurement", []byte(`{"station":"north","spool":"0102030405060708","seq":1,"time":"2026-11-24T02:00:00Z","measurement":{"snr_db":1}}`))
	f.Add("", []byte{})
	f.Fuzz(func(t *testing.T, topic string, payload []byte) {
		r := newRig(nil)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = r.Run(ctx) })
		r.send(topic, payload)
		eventually(t, "acknowledgement to the broker", func() bool { return r.acked.Load() == 1 })
		cancel()
		wg.Wait()
		station, _, _ := strings.Cut(topic, "/")
		for s := range r.db.settled {
			if s.Station != station {
				t.Errorf("a payload on %q touched %s", topic, s.Station)
			}
		}
		for _, rej := range r.db.rejected {
			if rej.Station != station || rej.Reason == "" || len(rej.Payload) > 64<<10 {
				t.Errorf("rejection %+v of a payload on %q", rej, topic)
			}
		}
	})
}
