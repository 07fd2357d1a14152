package e2e_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

// The neighbours of a liar: so many, each so often with a record of its own.
const (
	neighbours     = 6
	neighbourEvery = 100 * time.Millisecond
	// A liar sends so much at once, so often: 2000 messages a second in all.
	lieBurst = 20
	lieEvery = 10 * time.Millisecond
)

// neighbour is an honest station: it keeps what nobody has acknowledged, and notes how long that takes.
type neighbour struct {
	t      testing.TB
	id     string
	spool  [protocol.SpoolBytes]byte
	client mqtt.Client

	mu      sync.Mutex // guards the rest
	sent    map[uint64][8]byte
	waiting map[uint64]*protocol.Record
	since   map[uint64]time.Time
	delays  []time.Duration
}

func dialBroker(t testing.TB, broker, id string) mqtt.Client {
	t.Helper()
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + broker).SetClientID(id).SetAutoReconnect(false))
	if token := client.Connect(); !token.WaitTimeout(10*time.Second) || token.Error() != nil {
		t.Fatalf("connect %s: %v", id, token.Error())
	}
	t.Cleanup(func() { client.Disconnect(100) })
	return client
}

func newNeighbour(t testing.TB, broker, id string) *neighbour {
	t.Helper()
	s := &neighbour{t: t, id: id, sent: map[uint64][8]byte{}, waiting: map[uint64]*protocol.Record{}, since: map[uint64]time.Time{}}
	rand.Read(s.spool[:])
	s.client = dialBroker(t, broker, "heimdall-agent-"+id)
	token := s.client.Subscribe(protocol.Topics{}.Ack(id, s.spool), 1, func(_ mqtt.Client, m mqtt.Message) { s.acknowledged(m.Payload()) })
	if !token.WaitTimeout(10*time.Second) || token.Error() != nil {
		t.Fatal(token.Error())
	}
	return s
}

func (s *neighbour) acknowledged(payload []byte) {
	now := time.Now()
	ack, err := protocol.DecodeAck(payload)
	if err != nil {
		s.t.Errorf("%s: %v", s.id, err)
		return
	}
	if ack.GetRejectedCount() > 0 || ack.GetConflict() != nil {
		s.t.Errorf("%s: %v", s.id, ack)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	settled := protocol.RangesOf(ack.GetSettled())
	for seq, at := range s.since {
		if settled.Contains(seq) {
			s.delays = append(s.delays, now.Sub(at))
			delete(s.since, seq)
			delete(s.waiting, seq)
		}
	}
}

// live sends records until the context ends.
func (s *neighbour) live(ctx context.Context) {
	tick := time.NewTicker(neighbourEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			s.mu.Lock()
			seq := uint64(len(s.sent) + 1)
			rec := &protocol.Record{
				Station: &s.id, Spool: s.spool[:], Seq: &seq, Time: new(now.UnixNano()), Receiver: new("r0"), Step: new("2m"),
				Body: &protocol.Record_Measurement{Measurement: &protocol.Measurement{Samples: &seq, CenterHz: new(145.5e6), PowerDbfs: new(float32(-40))}},
			}
			s.sent[seq], s.waiting[seq], s.since[seq] = protocol.Digest(rec), rec, time.Now()
			s.mu.Unlock()
			s.publish(rec)
		}
	}
}

func (s *neighbour) publish(rec *protocol.Record) {
	payload, err := protocol.Encode(rec)
	if err != nil {
		s.t.Error(err)
		return
	}
	s.client.Publish(protocol.Topics{}.Record(s.id, rec.Kind()), 1, false, payload)
}

// settle sends again what is not acknowledged, until all is.
func (s *neighbour) settle() {
	s.t.Helper()
	eventually(s.t, time.Minute, s.id+" is told that all it sent is stored", func() error {
		s.mu.Lock()
		waiting := slices.Collect(maps.Values(s.waiting))
		s.mu.Unlock()
		for _, rec := range waiting {
			s.publish(rec)
		}
		if len(waiting) > 0 {
			return fmt.Errorf("%d are not", len(waiting))
		}
		return nil
	})
}

// takeDelays gives what was measured since the last time.
func (s *neighbour) takeDelays() []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	delays := s.delays
	s.delays = nil
	return delays
}

// neighbourhood is a network of honest stations that go on sending.
type neighbourhood struct {
	*network
	database string
	stations []*neighbour
}

func newNeighbourhood(t testing.TB) *neighbourhood {
	t.Helper()
	h := &neighbourhood{database: servers.Postgres(t)}
	h.network = newNetwork(t, h.database)
	for i := range neighbours {
		h.stations = append(h.stations, newNeighbour(t, h.broker.Addr, fmt.Sprintf("honest-%d", i+1)))
	}
	return h
}

// spend lets the stations send for a while, and gives the delays of all of them, from published to acknowledged.
func (h *neighbourhood) spend(d time.Duration, liar string) (delays []time.Duration, lies int) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), d)
	defer cancel()
	var work sync.WaitGroup
	for _, s := range h.stations {
		work.Go(func() { s.live(ctx) })
	}
	if liar != "" {
		client := dialBroker(h.t, h.broker.Addr, "heimdall-agent-"+liar)
		work.Go(func() { lies = lie(ctx, h.t, client, liar) })
	}
	work.Wait()
	for _, s := range h.stations {
		s.settle()
		delays = append(delays, s.takeDelays()...)
	}
	return delays, lies
}

// lie sends what no honest station does: wrong times, other stations' records, bytes that are none, ever new spools, texts that
// are not clean, numbers that cannot be, and its description in kind.
func lie(ctx context.Context, t testing.TB, client mqtt.Client, id string) (lies int) {
	var topics protocol.Topics
	spool := []byte("the liar")
	record := func(seq uint64, change func(*protocol.Record)) []byte {
		rec := &protocol.Record{
			Station: &id, Spool: spool, Seq: &seq, Time: new(time.Now().UnixNano()), Receiver: new("r0"),
			Body: &protocol.Record_Measurement{Measurement: &protocol.Measurement{Samples: &seq}},
		}
		change(rec)
		payload, err := protocol.Encode(rec)
		if err != nil {
			t.Error(err)
		}
		return payload
	}
	inventions := []func(seq uint64) []byte{
		func(seq uint64) []byte {
			return record(seq, func(r *protocol.Record) { r.Time = new(time.Now().AddDate(10, 0, 0).UnixNano()) })
		},
		func(seq uint64) []byte { return record(seq, func(r *protocol.Record) { r.Time = new(int64(-1)) }) },
		func(seq uint64) []byte {
			return record(seq, func(r *protocol.Record) { r.Station = new(fmt.Sprintf("honest-%d", seq%neighbours+1)) })
		},
		func(seq uint64) []byte {
			return record(1, func(r *protocol.Record) {
				r.Spool = fmt.Appendf(nil, "%08d", seq%1e8)
				r.Time = new(int64(1))
			})
		},
		func(seq uint64) []byte {
			return record(seq, func(r *protocol.Record) { r.Receiver = new("\x1b[2J\x00") })
		},
		func(seq uint64) []byte { return record(1<<62+seq, func(*protocol.Record) {}) },
		func(seq uint64) []byte { return append([]byte{0xff}, make([]byte, 1+seq%4096)...) },
		func(seq uint64) []byte { return []byte(strings.Repeat("{", int(1+seq%2000))) },
	}
	tick := time.NewTicker(lieEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return lies
		case <-tick.C:
		}
		for range lieBurst {
			lies++
			payload := inventions[lies%len(inventions)](uint64(lies))
			switch kinds := protocol.Kinds(); {
			case lies%50 == 0:
				client.Publish(topics.State(id), 0, false, payload)
			case lies%3 == 0:
				client.Publish(topics.Record(id, kinds[lies%len(kinds)]), 1, false, payload)
			default:
				client.Publish(topics.Record(id, protocol.KindMeasurement), 0, false, payload)
			}
		}
	}
}

// exactly compares a station's rows with what it sent.
func (h *neighbourhood) exactly(db *sql.DB, s *neighbour) {
	h.t.Helper()
	rows, err := db.QueryContext(h.t.Context(), "SELECT spool, seq, digest FROM measurement WHERE station = $1", s.id)
	if err != nil {
		h.t.Fatal(err)
	}
	defer rows.Close()
	got := map[uint64][8]byte{}
	for rows.Next() {
		var spool, digest []byte
		var seq uint64
		if err := rows.Scan(&spool, &seq, &digest); err != nil {
			h.t.Fatal(err)
		}
		if _, twice := got[seq]; twice || string(spool) != string(s.spool[:]) {
			h.t.Errorf("%s: a row of spool %x, number %d, is not its own, or there twice", s.id, spool, seq)
		}
		got[seq] = [8]byte(digest)
	}
	if err := rows.Err(); err != nil {
		h.t.Fatal(err)
	}
	if !maps.Equal(got, s.sent) {
		h.t.Errorf("%s: %d rows are not exactly the %d records that it sent", s.id, len(got), len(s.sent))
	}
}

// TestLiar lets six stations deliver beside one that sends wrong times, others' records, garbage and floods. Their rows are exactly
// what they sent, their records wait no longer, and the liar is suspended with a reason. BenchmarkLiar measures how much longer.
func TestLiar(t *testing.T) {
	t.Parallel() // it waits most of the time
	h := newNeighbourhood(t)
	before, _ := h.spend(3*time.Second, "")
	after, lies := h.spend(3*time.Second, "liar")
	if lies < 1000 {
		t.Errorf("only %d lies were told", lies)
	}
	// This computer does other things, too: what is measured beside the liar is to be of the same kind, no more.
	if was, is := quantile(before, 0.5), quantile(after, 0.5); is > 5*was+500*time.Millisecond {
		t.Errorf("records wait %v for their acknowledgement beside the liar, %v without", is, was)
	}
	db, err := sql.Open("pgx", h.database)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, s := range h.stations {
		h.exactly(db, s)
	}
	lines, _ := h.verify(true)
	honest := 0
	for _, v := range lines {
		if v.Station == "liar" {
			if v.Stored != 0 || v.Duplicate != 0 {
				t.Errorf("the liar: %+v", v)
			}
			continue
		}
		if honest++; v.Missing+v.Duplicate+v.Rejected+v.Gaps+v.Pending != 0 {
			t.Errorf("%+v", v)
		}
	}
	if honest != neighbours {
		t.Errorf("verify has %d spools of the honest stations, want %d: %+v", honest, neighbours, lines)
	}
	var rejected, others, payloads int64
	err = db.QueryRowContext(t.Context(), "SELECT count(*), count(*) FILTER (WHERE station <> 'liar'), coalesce(sum(length(payload)), 0) FROM rejected").
		Scan(&rejected, &others, &payloads)
	if err != nil || rejected < 90 || rejected > 250 || others != 0 || payloads > 1<<20 {
		t.Errorf("%d rows are rejected, %d of them of others, %d bytes kept (%v); want some hundred of the liar", rejected, others, payloads, err)
	}
	h.seesSuspended("liar")
}

// seesSuspended looks at a suspension where its operator would, and ends it.
func (h *neighbourhood) seesSuspended(id string) {
	h.t.Helper()
	const reason = "more than 100 records a minute were rejected"
	for _, s := range h.network.stations() {
		if suspended := s.State == protocol.StateSuspended; suspended != (s.ID == id) || suspended && !strings.Contains(s.Reason, reason) {
			h.t.Errorf("the API has %+v", s)
		}
	}
	if out := mustRun(h.t, "heimdall-collector", "station", "list", "--url", h.api); !strings.Contains(out, "suspended") || !strings.Contains(out, reason) || strings.ContainsAny(out, "\x1b\x00") {
		h.t.Errorf("station list:\n%q", out)
	}
	log := string(readFile(h.t, h.collector.log))
	if n := strings.Count(log, "a station is suspended"); n != 1 {
		h.t.Errorf("%d lines of the log tell of it", n)
	}
	if out := mustRun(h.t, "heimdall-collector", "station", "resume", id, "--config", h.config); !strings.Contains(out, id+" is read again") {
		h.t.Errorf("station resume: %s", out)
	}
	eventually(h.t, 20*time.Second, "the collector reads it again", func() error {
		if log := string(readFile(h.t, h.collector.log)); !strings.Contains(log, "a station is read again") {
			return fmt.Errorf("the log does not say so: %s", tail([]byte(log), 3))
		}
		return nil
	})
}

// BenchmarkLiar measures how long honest stations' records wait, from published to acknowledged, beside a liar and without, in turn. Each
// round has a new liar, which is suspended at its beginning.
func BenchmarkLiar(b *testing.B) {
	const each = 10 * time.Second
	for b.Loop() {
		h := newNeighbourhood(b)
		h.spend(each/2, "") // caches, and statistics of the database
		var without, with []time.Duration
		told := 0
		for round := range rounds() {
			quiet, _ := h.spend(each, "")
			loud, lies := h.spend(each, fmt.Sprintf("liar-%d", round+1))
			without, with, told = append(without, quiet...), append(with, loud...), told+lies
			b.Logf("round %d: median %.2f ms without, %.2f ms beside a liar, 99th percentile %.1f and %.1f ms, %d lies", round+1,
				millis(quantile(quiet, 0.5)), millis(quantile(loud, 0.5)), millis(quantile(quiet, 0.99)), millis(quantile(loud, 0.99)), lies)
		}
		b.ReportMetric(millis(quantile(without, 0.5)), "ms-without")
		b.ReportMetric(millis(quantile(with, 0.5)), "ms-with-liar")
		b.ReportMetric(100*(float64(quantile(with, 0.5))/float64(quantile(without, 0.5))-1), "%longer")
		b.ReportMetric(float64(told)/(each.Seconds()*float64(rounds())), "lies/s")
	}
}
