package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/fulgidus/heimdall/collector/ingest"
	"github.com/fulgidus/heimdall/protocol"
)

func TestMain(m *testing.M) {
	// The codec of batches is made on its first use, and its channels must belong to no bubble of fake time.
	if payload, err := protocol.EncodeBatch([][]byte{{}}); err == nil {
		_, _ = protocol.DecodeBatch(payload)
	}
	// The servers of the tests are started from a thread that stays, so that they end with it.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/fulgidus/heimdall/packaging/servers.init.func1.1"))
}

// rig is an Ingest between a memory database and a broker that notes what is published.
type rig struct {
	*ingest.Ingest
	db     *memory
	broker *broker
	acked  atomic.Int64 // messages acknowledged to the broker
}

func newRig(change func(*ingest.Config)) *rig {
	r := &rig{db: newMemory(), broker: newBroker()}
	cfg := ingest.Config{
		Collector: "one", Sink: r.db, Known: r.db, Stations: r.db, Suspensions: r.db, Publisher: r.broker,
		Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	r.Ingest = ingest.New(cfg)
	return r
}

// patient suspends no station.
func patient(c *ingest.Config) { c.Limits.RejectedPerMinute, c.Limits.RejectedPerHour = 1e9, 1e9 }

// simulate runs a test on a rig in fake time.
func simulate(t *testing.T, change func(*ingest.Config), test func(t *testing.T, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(24 * time.Hour) // fake time begins in 2000, before which no record can be
		r := newRig(change)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := r.Run(ctx); err != nil {
				t.Errorf("Run ended with %v", err)
			}
		})
		test(t, r)
		cancel()
		wg.Wait()
	})
}

// send gives the rig a message.
func (r *rig) send(topic string, payload []byte) {
	r.Receive(ingest.Message{Topic: "heimdall/v1/" + topic, Payload: payload, Ack: func() { r.acked.Add(1) }})
}

func (r *rig) sendRecord(t testing.TB, rec *protocol.Record) {
	t.Helper()
	r.send(rec.GetStation()+"/"+string(rec.Kind()), encode(t, rec))
}

// rest lets everything happen that needs no more than d.
func rest(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestIngest_CommitsThenAcknowledges(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		for seq := range uint64(5) {
			r.sendRecord(t, measurement("north", seq+1))
		}
		rest(time.Second)
		if n := r.db.stored("north"); n != 5 {
			t.Errorf("%d records stored, want 5", n)
		}
		if got := r.broker.settled("north", spoolA).String(); got != "{[1,6)}" {
			t.Errorf("acknowledged %s, want {[1,6)}", got)
		}
		if n := r.acked.Load(); n != 5 {
			t.Errorf("%d messages acknowledged to the broker, want 5", n)
		}
	})
}

func TestIngest_AcknowledgesRepeatsAgain(t *testing.T) {
	var seen []string
	observe := func(_ context.Context, fresh []protocol.StoredRecord) {
		for _, rec := range fresh {
			seen = append(seen, fmt.Sprintf("%d late=%v", rec.Record.GetSeq(), rec.Late))
		}
	}
	simulate(t, func(c *ingest.Config) { c.Observers = []ingest.Observer{observe} }, func(t *testing.T, r *rig) {
		old := measurement("north", 2)
		old.Time = new(time.Now().Add(-2 * time.Minute).UnixNano())
		r.sendRecord(t, measurement("north", 1))
		r.sendRecord(t, old)
		rest(time.Second)
		r.broker.mu.Lock()
		clear(r.broker.acks)
		r.broker.mu.Unlock()
		r.sendRecord(t, measurement("north", 1))
		rest(time.Second)
		if got := r.broker.settled("north", spoolA).String(); got != "{[1,3)}" {
			t.Errorf("after a repeat %s is acknowledged, want {[1,3)}", got)
		}
		if want := []string{"1 late=false", "2 late=true"}; !slices.Equal(seen, want) {
			t.Errorf("observers saw %v, want %v", seen, want)
		}
		want := ingest.Stats{Messages: 3, Records: 3, Fresh: 2, Repeated: 1, Commits: r.Stats().Commits}
		if got := r.Stats(); got != want {
			t.Errorf("stats %+v, want %+v", got, want)
		}
		// The one that was neither late nor a repeat was made a second before it was sent, and waited 100 ms at the most.
		if got := r.Delays(); got.Buckets[len(got.Buckets)-1].Count != 1 || got.Value < 1 || got.Value > 1.2 {
			t.Errorf("delays %+v, want one of a second", got)
		}
	})
}

func TestIngest_ReadsBatchesAndJSON(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		payload, err := protocol.EncodeBatch([][]byte{
			encode(t, measurement("north", 1)), encode(t, measurement("north", 2)), {0xff, 0xff}, encode(t, measurement("south", 3)),
		})
		if err != nil {
			t.Fatal(err)
		}
		r.send("north/batch", payload)
		text, err := protocol.MarshalJSON(measurement("north", 4))
		if err != nil {
			t.Fatal(err)
		}
		r.send("north/measurement", text)
		rest(time.Second)
		if n := r.db.stored("north"); n != 3 {
			t.Errorf("%d records stored, want those three that are good", n)
		}
		if n := r.db.stored("south"); n != 0 {
			t.Error("a record in a batch of north was stored for south")
		}
		if got := r.broker.settled("north", spoolA).String(); got != "{[1,5)}" { // 3 is settled as a rejection
			t.Errorf("acknowledged %s, want {[1,5)}", got)
		}
		if got := r.db.reasons(); len(got) != 2 || !strings.HasPrefix(got[0], "malformed: ") || !strings.HasPrefix(got[1], "wrong_station: ") {
			t.Errorf("rejections %q, want one malformed and one of the wrong station", got)
		}
	})
}

func TestIngest_RejectsWithAReason(t *testing.T) {
	encoded := func(change func(r *protocol.Record)) []byte {
		rec := measurement("north", 7)
		rec.Time = new(time.Date(2000, 1, 2, 0, 0, 0, 0, time.UTC).UnixNano()) // of the fake clock
		change(rec)
		return encode(t, rec)
	}
	for _, c := range []struct {
		name, topic string
		payload     []byte
		reason      string
		numbered    bool
	}{
		{"random bytes", "north/measurement", []byte{0xff, 0xfe, 0xfd}, "malformed: ", false},
		{"nothing", "north/measurement", nil, "malformed: ", false},
		{"broken JSON", "north/measurement", []byte(`{"station":`), "malformed: ", false},
		{"no zstd", "north/batch", []byte("hello"), "malformed: ", false},
		{"no identity", "north/measurement", encoded(func(r *protocol.Record) { r.Seq = nil }), "malformed: seq", false},
		{"short spool", "north/measurement", encoded(func(r *protocol.Record) { r.Spool = []byte{1} }), "malformed: spool", false},
		{"absurd time", "north/measurement", encoded(func(r *protocol.Record) { r.Time = new(int64(1)) }), "absurd_time: time", true},
		{"far future", "north/measurement", encoded(func(r *protocol.Record) { r.Time = new(time.Now().AddDate(30, 0, 0).UnixNano()) }), "absurd_time: time", true},
		{"a number that no station can mean", "north/measurement", encoded(func(r *protocol.Record) { r.Seq = new(uint64(1<<45 + 1)) }), "out_of_range: seq", false},
		{"a last one that no station can mean", "north/health", encoded(func(r *protocol.Record) {
			r.Body = &protocol.Record_Health{Health: &protocol.Health{Now: r.Time, LastSeq: new(uint64(1 << 62))}}
		}), "out_of_range: health.last_seq", true},
		{"held ones that no station can mean", "north/health", encoded(func(r *protocol.Record) {
			r.Body = &protocol.Record_Health{Health: &protocol.Health{Now: r.Time, Unacked: protocol.Ranges{{From: 8, To: 1 << 61}}.Wire()}}
		}), "out_of_range: health.unacked", true},
		{"lost ones that no station can mean", "north/gap", encoded(func(r *protocol.Record) {
			r.Body = &protocol.Record_Gap{Gap: &protocol.Gap{Reason: protocol.Gap_REASON_QUOTA.Enum(), Ranges: protocol.Ranges{{From: 1, To: 2}, {From: 8, To: 1 << 61}}.Wire()}}
		}), "out_of_range: gap.ranges", true},
		{"lost ones from where no station can mean", "north/gap", encoded(func(r *protocol.Record) {
			r.Body = &protocol.Record_Gap{Gap: &protocol.Gap{Reason: protocol.Gap_REASON_SPOOL_LOST.Enum(), Ranges: protocol.Ranges{{From: 1 << 61, To: protocol.MaxSeq}}.Wire()}}
		}), "out_of_range: gap.ranges", true},
		{"no body", "north/measurement", encoded(func(r *protocol.Record) { r.Body = nil }), "unknown_kind: ", true},
		{"another station", "north/measurement", encoded(func(r *protocol.Record) { r.Station = new("south") }), "wrong_station: station", true},
		{"another kind", "north/spectrum", encoded(func(*protocol.Record) {}), "malformed: body", true},
		{"too large", "north/measurement", make([]byte, protocol.MaxMessageBytes+1), "too_large: ", false},
		{"presence", "north/status", []byte("maybe"), "malformed: status", false},
		{"description", "north/info", []byte("[]"), "malformed: ", false},
		{"description of another", "north/info", []byte(`{"station":"south"}`), "wrong_station: station", false},
		{"large description", "north/info", make([]byte, 70_000), "too_large: ", false},
		{"NUL in a description", "north/info", []byte(`{"station":"north","name":"a\u0000"}`), "invalid_text: ", false},
		{"state", "north/state", []byte(`{"state":5}`), "malformed: ", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, nil, func(t *testing.T, r *rig) {
				r.send(c.topic, c.payload)
				rest(time.Second)
				if r.acked.Load() != 1 {
					t.Error("not acknowledged to the broker")
				}
				if got := r.db.reasons(); len(got) != 1 || !strings.HasPrefix(got[0], c.reason) {
					t.Fatalf("reasons %q, want one that begins with %q", got, c.reason)
				}
				rej := r.db.rejected[0]
				if rej.Station != "north" {
					t.Errorf("rejected for %q, want the topic's station", rej.Station)
				}
				if len(rej.Payload) > 64<<10 || (len(c.payload) > 0 && len(rej.Payload) == 0) {
					t.Errorf("%d bytes of the payload are kept", len(rej.Payload))
				}
				if numbered := rej.Seq == 7; numbered != c.numbered {
					t.Errorf("rejected with number %d", rej.Seq)
				}
				if got := r.broker.settled("north", spoolA).Contains(7); got != c.numbered {
					t.Errorf("acknowledged: %v, want %v", got, c.numbered)
				}
				if !r.broker.settled("south", spoolA).Empty() {
					t.Error("something was acknowledged for another station")
				}
			})
		})
	}
}

func TestIngest_TellsTheLogOfRejections(t *testing.T) {
	var log strings.Builder
	simulate(t, func(c *ingest.Config) {
		patient(c)
		c.Log = slog.New(slog.NewTextHandler(&log, nil))
	}, func(t *testing.T, r *rig) {
		told := func() []string {
			var lines []string
			for line := range strings.Lines(log.String()) {
				_, line, _ = strings.Cut(line, " ") // the time
				line, _, _ = strings.Cut(line, " error=")
				lines = append(lines, line)
			}
			log.Reset()
			return lines
		}
		expect := func(when string, want ...string) {
			t.Helper()
			got := told()
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", when, diff)
			}
		}
		r.db.set(func(m *memory) {
			m.refuses = func(rec *protocol.Record, _ *protocol.Rejection) error {
				if rec.GetSeq() == 99 {
					return refusedError{errors.New("out of range")}
				}
				return nil
			}
		})
		absurd := measurement("north", 1)
		absurd.Time = new(int64(1))
		r.sendRecord(t, absurd)
		for range 1500 { // more than is kept
			r.send("south/status", []byte("maybe"))
		}
		refused := measurement("west", 99)
		refused.Time = new(time.Now().UnixNano())
		r.sendRecord(t, refused)
		rest(time.Second)
		expect("at once",
			`level=WARN msg="a record is rejected" station=north reason=absurd_time topic=heimdall/v1/north/measurement field=time`,
			`level=WARN msg="a record is rejected" station=south reason=malformed topic=heimdall/v1/south/status field=status`,
			`level=WARN msg="a record is rejected" station=west reason=refused`)
		r.send("south/info", []byte("[]"))
		rest(time.Minute)
		expect("after a minute", `level=WARN msg="more records are rejected" station=south count=1500 reason=malformed topic=heimdall/v1/south/info`)
		rest(time.Minute)
		r.sendRecord(t, absurd)
		rest(time.Second)
		expect("after another", `level=WARN msg="a record is rejected" station=north reason=absurd_time topic=heimdall/v1/north/measurement field=time`)
	})
}

func TestIngest_KeepsSoMuchGarbageADay(t *testing.T) {
	simulate(t, patient, func(t *testing.T, r *rig) {
		for i := range 1500 {
			r.send("north/measurement", fmt.Appendf(nil, "\xff%d", i))
		}
		rest(time.Second)
		if n := len(r.db.reasons()); n != 1000 {
			t.Errorf("%d undecodable messages kept on one day, want 1000", n)
		}
		if n := r.Stats().Excess; n != 500 {
			t.Errorf("%d counted as excess, want 500", n)
		}
		if n := r.acked.Load(); n != 1500 {
			t.Errorf("%d acknowledged to the broker, want 1500", n)
		}
		r.sendRecord(t, measurement("north", 1))
		rest(25 * time.Hour)
		if n := r.db.stored("north"); n != 1 {
			t.Error("a good record after the garbage was not stored")
		}
		r.send("north/measurement", []byte("\xff"))
		rest(time.Second)
		if n := len(r.db.reasons()); n != 1001 {
			t.Errorf("%d kept after a day, want 1001", n)
		}
	})
}

func TestIngest_WaitsForTheDatabase(t *testing.T) {
	var log strings.Builder
	simulate(t, func(c *ingest.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) }, func(t *testing.T, r *rig) {
		r.db.set(func(m *memory) { m.down = errDown })
		r.sendRecord(t, measurement("north", 1))
		r.send("north/status", []byte("online"))
		rest(time.Hour)
		if err := r.Ready(); !errors.Is(err, errDown) {
			t.Errorf("ready: %v, want %v", err, errDown)
		}
		r.sendRecord(t, measurement("north", 2))
		rest(time.Hour)
		if n := r.acked.Load(); n > 1 { // the presence is no record: it is acknowledged with its batch
			t.Errorf("%d messages acknowledged without a commit", n)
		}
		if !r.broker.settled("north", spoolA).Empty() {
			t.Error("an Ack without a commit")
		}
		r.db.set(func(m *memory) { m.down = nil })
		rest(time.Minute)
		if err := r.Ready(); err != nil {
			t.Errorf("still not ready: %v", err)
		}
		if n := r.db.stored("north"); n != 2 {
			t.Errorf("%d records stored after the outage, want 2", n)
		}
		if !r.db.status["north"] {
			t.Error("the station's presence was not saved after the outage")
		}
		if got := r.broker.settled("north", spoolA).String(); got != "{[1,3)}" {
			t.Errorf("acknowledged %s, want {[1,3)}", got)
		}
		if n := strings.Count(log.String(), "the database takes no records"); n < 60 || n > 130 {
			t.Errorf("%d complaints in two hours, want about one a minute", n)
		}
		if n := strings.Count(log.String(), "takes records again"); n != 1 {
			t.Errorf("the recovery was logged %d times, want once", n)
		}
	})
}

func TestIngest_StaysWithinItsMemoryWithoutDatabase(t *testing.T) {
	limits := ingest.Limits{Memory: 1 << 20, StationMemory: 600 << 10}
	simulate(t, func(c *ingest.Config) { c.Limits = limits }, func(t *testing.T, r *rig) {
		r.db.set(func(m *memory) { m.down = errDown })
		quiet := measurement("quiet", 1)
		for seq := range uint64(20_000) {
			r.sendRecord(t, measurement("loud", seq+1))
			r.sendRecord(t, measurement("noisy", seq+1))
			r.sendRecord(t, measurement("third", seq+1))
		}
		r.sendRecord(t, quiet)
		rest(time.Second)
		if n := r.Stats().Waiting; n > limits.Memory {
			t.Errorf("%d bytes wait, limit %d", n, limits.Memory)
		}
		if r.Stats().Dropped == 0 {
			t.Error("nothing was dropped, so the test says nothing")
		}
		r.db.set(func(m *memory) { m.down = nil })
		rest(time.Minute)
		if r.db.stored("quiet") != 1 {
			t.Error("the record of a quiet station was dropped for others' flood")
		}
		// What was dropped was acknowledged to the broker, or its window would stay full; its station has no Ack for it.
		if got, want := r.acked.Load(), int64(60_001); got != want {
			t.Errorf("%d messages acknowledged to the broker, want %d", got, want)
		}
		for _, s := range []string{"loud", "noisy", "third"} {
			if got, want := r.broker.settled(s, spoolA).Count(), uint64(r.db.stored(s)); got != want {
				t.Errorf("%s: %d acknowledged and %d stored", s, got, want)
			}
		}
	})
}

func TestIngest_DelaysAStationOverItsRate(t *testing.T) {
	limits := ingest.Limits{StationRecords: 10, StationBytes: 1 << 20} // so 100 at once
	simulate(t, func(c *ingest.Config) { c.Limits = limits }, func(t *testing.T, r *rig) {
		for seq := range uint64(200) {
			r.sendRecord(t, measurement("loud", seq+1))
		}
		r.sendRecord(t, measurement("quiet", 1))
		rest(50 * time.Millisecond)
		if n := r.db.stored("quiet"); n != 1 {
			t.Error("a quiet station waits for a loud one")
		}
		if n := r.db.stored("loud"); n < 100 || n > 102 {
			t.Errorf("%d records at once, want the 100 of ten seconds", n)
		}
		if n := r.acked.Load(); n != 201 {
			t.Errorf("%d messages acknowledged to the broker, want all: its window belongs to the others too", n)
		}
		rest(5 * time.Second)
		if n := r.db.stored("loud"); n < 149 || n > 152 {
			t.Errorf("%d records after 5 s, want 150", n)
		}
		r.sendRecord(t, measurement("loud", 201)) // waits, and is acknowledged to the broker as it comes
		if n := r.acked.Load(); n != 202 {
			t.Errorf("%d messages acknowledged to the broker, want 202", n)
		}
		rest(6 * time.Second)
		if n := r.db.stored("loud"); n != 201 {
			t.Errorf("%d records after 11 s, want all 201", n)
		}
	})
}

func TestIngest_TellsOfAStationThatFloods(t *testing.T) {
	var floods []string
	simulate(t, func(c *ingest.Config) {
		c.Limits = ingest.Limits{StationRecords: 1, StationBytes: 1 << 20} // so 100 messages in 10 s are ten times too many
		c.Flood = func(station string) { floods = append(floods, station) }
	}, func(t *testing.T, r *rig) {
		for range 100 {
			r.send("loud/measurement", []byte("\xff"))
		}
		r.sendRecord(t, measurement("quiet", 1))
		if len(floods) != 0 {
			t.Errorf("told of %v at the limit", floods)
		}
		for range 150 {
			r.send("loud/measurement", []byte("\xff"))
		}
		if want := []string{"loud", "loud"}; !slices.Equal(floods, want) {
			t.Errorf("told of %v, want %v: each time that the tenfold is exceeded", floods, want)
		}
	})
}

func TestIngest_GrowsBatchesUnderLoad(t *testing.T) {
	simulate(t, func(c *ingest.Config) { c.Limits = ingest.Limits{BatchRecords: 50} }, func(t *testing.T, r *rig) {
		began := time.Now()
		r.sendRecord(t, measurement("north", 1))
		synctest.Wait()
		if d := time.Since(began); d != 0 || r.db.stored("north") != 1 {
			t.Errorf("a record for an idle database was stored after %v, want at once", d)
		}
		r.db.set(func(m *memory) { m.delay = 20 * time.Millisecond })
		for seq := range uint64(400) {
			r.sendRecord(t, measurement("north", seq+2))
			time.Sleep(time.Millisecond)
		}
		rest(time.Second)
		if n := r.db.stored("north"); n != 401 {
			t.Fatalf("%d records stored, want 401", n)
		}
		// 20 ms a commit and 40 ms of rest: some 60 come meanwhile, and 50 make a batch full.
		if n := r.db.largest(); n > 50 || n < 40 {
			t.Errorf("largest commit %d records, want the limit of 50 or nearly", n)
		}
		if n := r.Stats().Commits; n < 9 || n > 15 {
			t.Errorf("%d commits for 401 records, want about 10", n)
		}
	})
}

// A spool may be met for the first time when it is old, and a station may not know how far the numbers of a lost one went.
func TestIngest_TakesHighNumbers(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		r.sendRecord(t, measurement("north", 1<<45))
		gap := measurement("north", 1<<45-1)
		gap.Body = &protocol.Record_Gap{Gap: &protocol.Gap{
			Reason: protocol.Gap_REASON_SPOOL_LOST.Enum(), Ranges: protocol.Ranges{{From: 100, To: protocol.MaxSeq}}.Wire(),
		}}
		r.send("north/gap", encode(t, gap))
		rest(time.Second)
		if n := r.db.stored("north"); n != 2 || len(r.db.reasons()) > 0 {
			t.Errorf("%d records stored, want 2; rejected %q", n, r.db.reasons())
		}
	})
}

func TestIngest_RejectsOnlyWhatTheDatabaseRefuses(t *testing.T) {
	var log strings.Builder
	simulate(t, func(c *ingest.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) }, func(t *testing.T, r *rig) {
		r.db.refuses = func(rec *protocol.Record, rej *protocol.Rejection) error {
			switch {
			case rec != nil && rec.GetSeq()%10 == 3:
				return refusedError{errors.New("value out of range")}
			case rej != nil && rej.Seq == 13 && len(rej.Payload) > 0:
				return refusedError{errors.New("row is too big")}
			case rej != nil && rej.Seq == 23:
				return refusedError{errors.New("never")}
			}
			return nil
		}
		// One batch, because the committer is busy with the first record.
		r.db.set(func(m *memory) { m.delay = 50 * time.Millisecond })
		r.sendRecord(t, measurement("north", 1))
		rest(time.Millisecond)
		r.send("north/measurement", []byte("\xffgarbage"))
		for seq := uint64(2); seq <= 40; seq++ {
			r.sendRecord(t, measurement("north", seq))
		}
		rest(time.Minute)
		if n := r.db.stored("north"); n != 36 {
			t.Errorf("%d records stored, want 36: all but 3, 13, 23, 33", n)
		}
		if got := r.broker.settled("north", spoolA).String(); got != "{[1,23),[24,41)}" {
			t.Errorf("acknowledged %s, want all but 23, of which there is no trace", got)
		}
		if n := r.acked.Load(); n != 41 {
			t.Errorf("%d messages acknowledged to the broker, want 41", n)
		}
		var refused []uint64
		for _, rej := range r.db.rejected {
			if strings.HasPrefix(rej.Reason, "refused: ") {
				refused = append(refused, rej.Seq)
			}
		}
		slices.Sort(refused)
		if want := []uint64{3, 13, 33}; !slices.Equal(refused, want) {
			t.Errorf("refused %v, want %v", refused, want)
		}
		if !strings.Contains(log.String(), "refuses even to note") {
			t.Error("the loss of a rejection was not logged")
		}
	})
}

func TestIngest_EndsWhileTheDatabaseIsDown(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		r.db.refuses = func(rec *protocol.Record, _ *protocol.Rejection) error {
			if rec != nil && rec.GetSeq() == 2 {
				return refusedError{errors.New("bad")}
			}
			return errDown
		}
		r.db.set(func(m *memory) { m.delay = 10 * time.Millisecond })
		for seq := uint64(1); seq < 9; seq++ {
			r.sendRecord(t, measurement("north", seq))
		}
		rest(time.Second)
		if r.acked.Load() != 0 {
			t.Error("acknowledged without a commit")
		}
	})
}

func TestIngest_SavesWhatStationsSayOfThemselves(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		r.db.set(func(m *memory) { m.down = errDown })
		r.send("north/status", []byte("offline"))
		r.send("north/info", []byte(`{"station":"north","name":"old"}`))
		rest(100 * time.Millisecond)
		r.send("north/status", []byte("online"))
		r.send("north/info", []byte(`{"station":"north","name":"North","receivers":[],"capabilities":["capture"],"version":"1","later":{}}`))
		r.send("north/state", []byte(`{"state":"running","time_quality":"ntp"}`))
		r.send("south/info", []byte(`{"station":"south","name":"refuse me"}`))
		r.send("west/info", []byte(`{"station":"west"}`)) // and it leaves
		r.send("west/info", nil)
		r.send("west/state", nil)
		r.send("west/status", nil)
		rest(100 * time.Millisecond)
		r.db.set(func(m *memory) { m.down = nil })
		rest(10 * time.Second)
		if !r.db.status["north"] || r.db.info["north"].Name != "North" || r.db.state["north"].State != "running" {
			t.Errorf("saved %v, %+v, %+v, want the newest", r.db.status, r.db.info["north"], r.db.state["north"])
		}
		if r.db.status["west"] || r.db.info["west"] != nil || r.db.state["west"] != nil {
			t.Errorf("of a station that left remains %v, %+v, %+v", r.db.status["west"], r.db.info["west"], r.db.state["west"])
		}
		if n := r.acked.Load(); n != 10 {
			t.Errorf("%d messages acknowledged to the broker, want 10", n)
		}
	})
}

func TestIngest_IgnoresTopicsOfNoStation(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		topics := []string{"Bad Station/measurement", "collector/one/status", "all/info", "north/nonsense", "north/ack/0102030405060708", "north/command", "north/json/gap", ""}
		for _, topic := range topics {
			r.send(topic, []byte("x"))
		}
		r.Receive(ingest.Message{Topic: "elsewhere/v1/north/measurement"}) // QoS 0 has nothing to acknowledge
		rest(time.Second)
		if n := len(r.db.reasons()); n != 0 {
			t.Errorf("%d rejections, want none", n)
		}
		if n := r.acked.Load(); n != int64(len(topics)) {
			t.Errorf("%d acknowledged to the broker, want %d", n, len(topics))
		}
		if n := r.Stats().Strange; n != 6 {
			t.Errorf("%d counted as strange, want 6", n)
		}
	})
}

func TestIngest_PublishesKnownAcksAgain(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		r.sendRecord(t, measurement("north", 1))
		r.sendRecord(t, measurement("south", 1))
		rest(time.Second)
		r.broker.mu.Lock()
		clear(r.broker.acks) // it forgot what was retained
		r.broker.down = true
		r.broker.mu.Unlock()
		r.db.set(func(m *memory) { m.down = errDown })
		r.Republish()
		rest(5 * time.Second)
		r.db.set(func(m *memory) { m.down = nil })
		rest(5 * time.Second)
		r.broker.mu.Lock()
		r.broker.down = false
		r.broker.mu.Unlock()
		rest(5 * time.Second)
		for _, s := range []string{"north", "south"} {
			if got := r.broker.settled(s, spoolA).String(); got != "{[1,2)}" {
				t.Errorf("%s: acknowledged %s, want {[1,2)}", s, got)
			}
		}
	})
}

// forgetful knows one spool to clear.
type forgetful struct{}

func (forgetful) Acks(context.Context) (map[protocol.Stream]*protocol.Ack, error) {
	return map[protocol.Stream]*protocol.Ack{{Station: "north", Spool: spoolA}: nil}, nil
}

func TestIngest_ClearsAnAckThatIsNoLongerWanted(t *testing.T) {
	simulate(t, func(c *ingest.Config) { c.Known = forgetful{} }, func(t *testing.T, r *rig) {
		r.sendRecord(t, measurement("north", 1))
		rest(time.Second)
		r.Republish()
		rest(time.Second)
		if got := r.broker.settled("north", spoolA); !got.Empty() {
			t.Errorf("still retained: %s", got)
		}
	})
}

func TestIngest_ForgetsIdleStationsWhenThereAreTooMany(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		for i := range 5000 {
			r.sendRecord(t, measurement(fmt.Sprintf("s%d", i), 1))
			if i%1000 == 0 {
				rest(time.Second)
			}
		}
		rest(time.Second)
		if s := r.Stats(); s.Dropped != 0 || s.Fresh != 5000 {
			t.Errorf("%+v, want 5000 fresh and none dropped", s)
		}
		r.db.set(func(m *memory) { m.down = errDown })
		for i := range 9000 {
			r.sendRecord(t, measurement(fmt.Sprintf("t%d", i), 1))
		}
		if s := r.Stats(); s.Dropped == 0 || s.Dropped > 9000-4096 {
			t.Errorf("%d dropped of 9000 stations at once, want those beyond 4096", s.Dropped)
		}
	})
}

func TestMirror_PublishesNewRecordsInJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker()
		m := ingest.NewMirror(protocol.Topics{}, b, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = m.Run(ctx) })
		chunk, site := measurement("north", 3), measurement("north", 4)
		chunk.Body = &protocol.Record_Iq{Iq: &protocol.IqChunk{}}
		site.Body = &protocol.Record_Site{Site: &protocol.Site{}}
		m.Observe(ctx, []protocol.StoredRecord{
			{Record: measurement("north", 1)}, {Record: measurement("north", 2), Late: true}, {Record: chunk}, {Record: site},
		})
		synctest.Wait()
		topics := slices.Collect(maps.Keys(b.sent))
		if want := []string{"heimdall/v1/north/json/measurement"}; !slices.Equal(topics, want) {
			t.Fatalf("mirrored on %v, want %v", topics, want)
		}
		sent := b.sent[topics[0]]
		if len(sent) != 2 || strings.Contains(sent[0], "late") || !strings.HasSuffix(sent[1], `,"late":true}`) || !strings.Contains(sent[0], `"center_hz":145500000`) {
			t.Errorf("mirrored %q", sent)
		}

		b.mu.Lock()
		b.down = true
		b.mu.Unlock()
		m.Observe(ctx, []protocol.StoredRecord{{Record: measurement("north", 5)}})
		synctest.Wait()
		if n := m.Dropped(); n != 1 {
			t.Errorf("%d dropped without broker, want 1", n)
		}
		cancel()
		wg.Wait()
		many := make([]protocol.StoredRecord, 10_000)
		for i := range many {
			many[i].Record = measurement("north", 1)
		}
		m.Observe(ctx, many) // nobody takes them: it must not wait
		if n := m.Dropped(); n != 1+10_000-8192 {
			t.Errorf("%d dropped with a full queue, want %d", n, 1+10_000-8192)
		}
	})
}

// TestIngest_BombsStopNobodyElse has one station send little that claims to be a lot, on every topic that it may use.
func TestIngest_BombsStopNobodyElse(t *testing.T) {
	bomb := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x68} // a zstd frame of blocks of 4 bytes that stand for 128 KiB each
	for len(bomb) < protocol.MaxMessageBytes-4 {
		bomb = append(bomb, 0x02, 0x00, 0x10, 0)
	}
	nested := []byte(`{"unknown":` + strings.Repeat("[", 100_000))
	simulate(t, nil, func(t *testing.T, r *rig) {
		const rounds = 20
		for seq := range uint64(rounds) {
			for _, class := range []string{"batch", "measurement", "gap", "info", "state", "status"} {
				r.send("bad/"+class, slices.Concat(bomb, []byte{byte(seq)}))
				r.send("bad/"+class, slices.Concat(nested, []byte{byte(seq)}))
			}
			r.sendRecord(t, measurement("north", seq+1))
		}
		rest(time.Minute)
		if got := r.broker.settled("north", spoolA).String(); got != "{[1,21)}" {
			t.Errorf("acknowledged %s, want {[1,21)}", got)
		}
		if n := r.acked.Load(); n != rounds*13 {
			t.Errorf("%d messages acknowledged to the broker, want all %d", n, rounds*13)
		}
		var memory runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&memory)
		if memory.HeapAlloc > 100<<20 {
			t.Errorf("%d bytes in use after that", memory.HeapAlloc)
		}
	})
}
