package acquisition_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/collector/acquisition"
	"github.com/fulgidus/heimdall/protocol"
)

func TestMain(m *testing.M) {
	// The servers of the tests are started from a thread that stays, so that they end with it.
	goleak.VerifyTestMain(
		m, goleak.IgnoreTopFunction("github.com/fulgidus/heimdall/packaging/servers.init.func1.1"),
		goleak.IgnoreAnyFunction("github.com/fulgidus/heimdall/packaging/servers.start.func1"), // PostgreSQL serves all tests of a run
	)
}

// memory keeps acquisitions as a database does: what is read is a copy.
type memory struct {
	mu   sync.Mutex // guards all below
	rows map[string][]byte
	err  error                   // every call fails with it
	mute error                   // reading records fails with it
	slow time.Duration           // what creating takes
	bad  string                  // label of acquisitions that cannot be created
	adds int                     // calls that create
	told []protocol.StoredRecord // replies that were committed
	news []string
}

func (m *memory) CreateAcquisitions(_ context.Context, list []*protocol.Acquisition) error {
	time.Sleep(m.slow)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.adds++
	if m.err != nil {
		return m.err
	}
	for _, a := range list {
		if m.bad != "" && a.Request.Label == m.bad {
			return refusedError{}
		}
	}
	for _, a := range list {
		m.write(a)
	}
	return nil
}

func (m *memory) write(a *protocol.Acquisition) {
	b, err := json.Marshal(a)
	if err != nil {
		panic(err)
	}
	m.rows[a.ID] = b
}

func (m *memory) read(id string) *protocol.Acquisition {
	a := new(protocol.Acquisition)
	if err := json.Unmarshal(m.rows[id], a); err != nil {
		panic(err)
	}
	return a
}

func (m *memory) UpdateAcquisitions(_ context.Context, ids []string, change func(*protocol.Acquisition) bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	for _, id := range ids {
		if m.rows[id] == nil {
			continue
		}
		if a := m.read(id); change(a) {
			m.write(a)
		}
	}
	return nil
}

func (m *memory) CancelledBy(_ context.Context, station, command string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := range m.rows {
		for _, s := range m.read(id).Stations {
			if s.Station == station && s.CancelID == command {
				return id, m.err
			}
		}
	}
	return "", cmp.Or(m.err, fs.ErrNotExist)
}

func (m *memory) UnsettledAcquisitions(context.Context) ([]*protocol.Acquisition, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return nil, m.err
	}
	var list []*protocol.Acquisition
	for id := range m.rows {
		a := m.read(id)
		cancels := slices.ContainsFunc(a.Stations, func(s protocol.AcquisitionStation) bool { return s.CancelID != "" })
		if a.State == protocol.AcquisitionQueued || a.State == protocol.AcquisitionRunning || cancels {
			list = append(list, a)
		}
	}
	return list, nil
}

func (m *memory) Records(_ context.Context, kind protocol.Kind, f protocol.Filter) ([]protocol.StoredRecord, string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := cmp.Or(m.err, m.mute); err != nil {
		return nil, "", err
	}
	var list []protocol.StoredRecord
	for _, r := range slices.Backward(m.told) { // newest first
		if kind == r.Record.Kind() && slices.Contains(f.Stations, r.Record.GetStation()) && r.Record.GetTime() >= f.From.UnixNano() {
			list = append(list, r)
		}
	}
	return list, "", nil
}

func (m *memory) get(id string) *protocol.Acquisition {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.read(id)
}

func (m *memory) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

// commander notes what was issued and forgotten.
type commander struct {
	mu        sync.Mutex // guards all below
	issued    map[string]*protocol.Command
	stations  map[string]string
	count     int
	forgotten map[string]bool
	took      map[string]time.Duration // reply times of stations
	err       error
}

func (c *commander) Issue(_ context.Context, station string, cmd *protocol.Command) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	if err := protocol.ValidateCommand(cmd); err != nil {
		return err
	}
	c.issued[cmd.GetId()] = cmd
	c.stations[cmd.GetId()] = station
	c.count++
	return nil
}

func (c *commander) Forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgotten[id] = true
}

func (c *commander) ReplyTime(station string) (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	took, ok := c.took[station]
	return took, ok
}

func (c *commander) order(t *testing.T, id string) *protocol.Command {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.issued[id] == nil {
		t.Fatalf("no command %s was issued", id)
	}
	return c.issued[id]
}

type stations []protocol.Station

func (s stations) Stations(context.Context) ([]protocol.Station, error) {
	if s == nil {
		return nil, errors.New("database is down")
	}
	return s, nil
}

func online(id string, receivers ...protocol.ReceiverInfo) protocol.Station {
	return protocol.Station{ID: id, Status: protocol.Online, LastSeen: "2000-01-01T00:00:00.000000000Z", Capabilities: []string{"capture"}, Receivers: receivers}
}

// the stations of the tests: two that serve, one that is away, one that takes no orders, one that is only written down.
func fixture() stations {
	r := protocol.ReceiverInfo{ID: "r1", Source: "sim", CenterHz: 145.5e6, SampleRateHz: 240e3}
	away, deaf := online("away", r), online("deaf", r)
	away.Status, deaf.Capabilities = protocol.Offline, nil
	return stations{
		online("north", r), online("south", r), away, deaf,
		{ID: "planned", Status: protocol.Offline},
		{ID: "left", Status: protocol.Offline, LastSeen: away.LastSeen},
	}
}

type rig struct {
	*acquisition.Conductor
	db       *memory
	commands *commander
	began    time.Time
	seq      uint64
}

func newRig(change func(*acquisition.Config)) *rig {
	r := &rig{
		db:       &memory{rows: map[string][]byte{}},
		commands: &commander{issued: map[string]*protocol.Command{}, stations: map[string]string{}, forgotten: map[string]bool{}},
		began:    time.Now(),
	}
	cfg := acquisition.Config{
		Store: r.db, Commander: r.commands, Stations: fixture(), Log: slog.New(slog.DiscardHandler),
		Changed: func(a *protocol.Acquisition) {
			r.db.mu.Lock()
			defer r.db.mu.Unlock()
			r.db.news = append(r.db.news, string(a.State))
		},
	}
	if change != nil {
		change(&cfg)
	}
	r.Conductor = acquisition.New(cfg)
	return r
}

func (r *rig) run(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	return func() { cancel(); wg.Wait() }
}

func simulate(t *testing.T, change func(*acquisition.Config), test func(t *testing.T, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(24 * time.Hour) // fake time begins in 2000, before which no command can be
		r := newRig(change)
		stop := r.run(t)
		test(t, r)
		stop()
	})
}

func rest(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (r *rig) create(t *testing.T, req protocol.AcquisitionRequest) *protocol.Acquisition {
	t.Helper()
	a, err := r.Create(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	return a
}

// reply has a station answer its command.
func (r *rig) reply(a *protocol.Acquisition, station string, state protocol.Reply_State, change func(*protocol.Reply)) {
	reply := &protocol.Reply{Acquisition: &a.ID, CommandId: new(commandOf(a, station)), State: &state}
	if change != nil {
		change(reply)
	}
	r.observe(station, &protocol.Record{Body: &protocol.Record_Reply{Reply: reply}})
}

func (r *rig) observe(station string, rec *protocol.Record) {
	r.seq++
	rec.Station, rec.Seq, rec.Time = &station, new(r.seq), new(time.Now().UnixNano())
	r.Observe(context.Background(), []protocol.StoredRecord{{Record: rec}})
	synctest.Wait()
}

func commandOf(a *protocol.Acquisition, station string) string {
	for _, s := range a.Stations {
		if s.Station == station {
			return s.CommandID
		}
	}
	return ""
}

// sum is an acquisition in short: state progress% station=state(reason).
func sum(a *protocol.Acquisition) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %g%%", a.State, a.Progress)
	for _, s := range a.Stations {
		fmt.Fprintf(&b, " %s=%s", s.Station, s.State)
		if s.ReasonCode != "" {
			fmt.Fprintf(&b, "(%s)", s.ReasonCode)
		}
	}
	return b.String()
}

func (r *rig) expect(t *testing.T, a *protocol.Acquisition, want string) {
	t.Helper()
	synctest.Wait()
	if got := sum(r.db.get(a.ID)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func manifest(chunks uint32) func(*protocol.Reply) {
	return func(r *protocol.Reply) {
		r.Capture = &protocol.CaptureManifest{
			Id: new("c-" + r.GetCommandId()), Chunks: &chunks, Start: new(int64(1795573320000000000)),
			Measurement: &protocol.Measurement{SnrDb: proto.Float32(21.5)}, TimeUncertaintyS: new(0.001), Receiver: new("r1"),
		}
	}
}

var fiveSeconds = protocol.AcquisitionRequest{FrequencyHz: 145.5e6, DurationS: 5}

func TestConductor_MeasuresAtAllStationsThatServe(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		a := r.create(t, fiveSeconds)
		r.expect(t, a, "running 5% north=sent south=sent")
		for _, station := range []string{"north", "south"} {
			cmd := r.commands.order(t, commandOf(a, station))
			capture := cmd.GetCapture()
			start := time.Unix(0, capture.GetStart())
			if lead := start.Sub(r.began); lead != 500*time.Millisecond {
				t.Errorf("%s starts %v ahead, want 500 ms: all together", station, lead)
			}
			if got := time.Unix(0, cmd.GetExpires()).Sub(start); got != 65*time.Second {
				t.Errorf("%s: expires %v after the start, want a minute after the end", station, got)
			}
			if capture.GetAcquisition() != a.ID || capture.GetCenterHz() != 145.5e6 || capture.GetDurationS() != 5 || capture.BandwidthHz != nil || capture.GetIq() {
				t.Errorf("%s is asked for %v", station, capture)
			}
		}
		r.reply(a, "north", protocol.Reply_STATE_ACCEPTED, nil)
		r.expect(t, a, "running 8% north=accepted south=sent")
		r.reply(a, "north", protocol.Reply_STATE_CAPTURING, nil)
		r.reply(a, "north", protocol.Reply_STATE_ACCEPTED, nil) // overtaken
		r.expect(t, a, "running 13% north=capturing south=sent")
		r.reply(a, "north", protocol.Reply_STATE_DONE, manifest(0))
		r.expect(t, a, "running 53% north=done south=sent")
		r.reply(a, "south", protocol.Reply_STATE_REFUSED, func(p *protocol.Reply) {
			p.ReasonCode, p.Message = new("out_of_passband"), new("the receiver covers 144.0 to 144.2 MHz")
		})
		r.expect(t, a, "done 100% north=done south=refused(out_of_passband)")
		r.reply(a, "south", protocol.Reply_STATE_DONE, manifest(0)) // too late to change anything
		r.expect(t, a, "done 100% north=done south=refused(out_of_passband)")

		got := r.db.get(a.ID)
		var m map[string]any
		if err := json.Unmarshal(got.Stations[0].Measurement, &m); err != nil || m["snr_db"] != 21.5 || m["receiver"] != "r1" || m["time"] != "2026-11-25T02:22:00.000000000Z" {
			t.Errorf("measurement %s (%v)", got.Stations[0].Measurement, err)
		}
		if got.Stations[1].Message != "the receiver covers 144.0 to 144.2 MHz" {
			t.Errorf("message %q", got.Stations[1].Message)
		}
		for _, s := range a.Stations {
			if !r.commands.forgotten[s.CommandID] {
				t.Errorf("the command of %s is still repeated", s.Station)
			}
		}
		if last := r.db.news[len(r.db.news)-1]; last != "done" {
			t.Errorf("the last news was %q, want done", last)
		}
	})
}

func TestConductor_WithIQIsDoneWhenTheRecordingIs(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		req := fiveSeconds
		req.IQ, req.Stations, req.BandwidthHz, req.Priority = true, []string{"north", "south", "north"}, new(12.5e3), 3
		a := r.create(t, req)
		if c := r.commands.order(t, commandOf(a, "north")).GetCapture(); !c.GetIq() || c.GetBandwidthHz() != 12.5e3 || c.GetPriority() != 3 {
			t.Errorf("asked for %v", c)
		}
		r.reply(a, "north", protocol.Reply_STATE_UPLOADING, func(p *protocol.Reply) { p.Progress = new(0.5) })
		r.expect(t, a, "running 40% north=uploading south=sent")
		r.reply(a, "north", protocol.Reply_STATE_DONE, manifest(4))
		r.reply(a, "south", protocol.Reply_STATE_DONE, manifest(0))
		r.expect(t, a, "running 75% north=uploading south=failed(no_samples)")
		for i := range uint32(3) {
			r.observe("north", &protocol.Record{Body: &protocol.Record_Iq{Iq: &protocol.IqChunk{CaptureId: new("c-" + commandOf(a, "north")), Index: &i}}})
		}
		rest(2 * time.Second)
		r.expect(t, a, "running 93% north=uploading south=failed(no_samples)")
		r.RecordingStored(t.Context(), &protocol.Recording{ID: "rec1", Station: "north", Acquisition: a.ID})
		r.RecordingStored(t.Context(), &protocol.Recording{ID: "rec1", Station: "north", Acquisition: a.ID})
		r.RecordingStored(t.Context(), &protocol.Recording{ID: "other", Station: "north"})
		r.expect(t, a, "done 100% north=done south=failed(no_samples)")
		got := r.db.get(a.ID).Stations[0]
		if got.Recording != "rec1" || len(got.Measurement) == 0 {
			t.Errorf("recording %q, measurement %s", got.Recording, got.Measurement)
		}
	})
}

func TestConductor_FinishesWhatTheArchiveNamedInTheStore(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		req := fiveSeconds
		req.IQ, req.Stations = true, []string{"north"}
		a := r.create(t, req)
		err := r.db.UpdateAcquisitions(t.Context(), []string{a.ID}, func(a *protocol.Acquisition) bool {
			a.Stations[0].Recording = "rec1"
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		rest(2 * time.Second)
		r.expect(t, a, "done 100% north=done")
		r.reply(a, "north", protocol.Reply_STATE_DONE, manifest(4)) // read here only now
		if got := r.db.get(a.ID).Stations[0]; len(got.Measurement) == 0 {
			t.Error("the measurement of a reply that came after the recording is missing")
		}
	})
}

func TestConductor_TellsAtOnceWhoCannotServe(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		req := fiveSeconds
		req.Stations = []string{"away", "deaf", "left", "north", "planned"}
		a := r.create(t, req)
		r.expect(t, a, "running 81% away=failed(offline) deaf=refused(not_allowed) left=failed(offline) north=sent planned=refused(no_agent)")
		req.Stations = []string{"away"}
		a = r.create(t, req)
		r.expect(t, a, "failed 100% away=failed(offline)")
		if r.commands.count != 1 {
			t.Errorf("%d commands issued, want one", r.commands.count)
		}
	})
}

func TestConductor_ExpiresSilentStations(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		a := r.create(t, fiveSeconds)
		r.reply(a, "north", protocol.Reply_STATE_ACCEPTED, nil)
		rest(65 * time.Second)
		r.expect(t, a, "running 8% north=accepted south=sent")
		rest(5 * time.Second)
		r.expect(t, a, "running 55% north=accepted south=expired(expired)")
		rest(11 * time.Minute)
		r.expect(t, a, "failed 100% north=expired(expired) south=expired(expired)")
		// What comes after all is named, and changes nothing else.
		r.RecordingStored(t.Context(), &protocol.Recording{ID: "rec1", Station: "north", Acquisition: a.ID})
		r.expect(t, a, "failed 100% north=expired(expired) south=expired(expired)")
		if got := r.db.get(a.ID).Stations[0].Recording; got != "rec1" {
			t.Errorf("recording %q, want rec1", got)
		}
	})
}

func TestConductor_WaitsWhileAStationSends(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		req := fiveSeconds
		req.IQ, req.Stations = true, []string{"north"}
		a := r.create(t, req)
		r.reply(a, "north", protocol.Reply_STATE_DONE, manifest(100))
		for i := range uint32(10) {
			rest(9 * time.Minute)
			r.observe("north", &protocol.Record{Body: &protocol.Record_Iq{Iq: &protocol.IqChunk{CaptureId: new("c-" + commandOf(a, "north")), Index: &i}}})
		}
		rest(time.Minute)
		r.expect(t, a, "running 55% north=uploading")
		r.RecordingFailed(t.Context(), a.ID, "north", "the data has another sha512 than its manifest")
		r.expect(t, a, "failed 100% north=failed(recording_failed)")
	})
}

// What a station owes may be lost, as with its disk, while it goes on to serve others.
func TestConductor_WaitsNoLongerThanAWeek(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		req := fiveSeconds
		req.IQ, req.Stations = true, []string{"north"}
		a := r.create(t, req)
		r.reply(a, "north", protocol.Reply_STATE_UPLOADING, nil)
		long := r.db.get(a.ID)
		r.db.mu.Lock()
		long.ID = "asked-long-ago"
		long.Requested = protocol.FormatTime(time.Now().Add(-7*24*time.Hour + 30*time.Minute))
		long.StartTime = long.Requested
		r.db.write(long)
		r.db.mu.Unlock()
		sends := func(d time.Duration) {
			for range d / (5 * time.Minute) {
				rest(5 * time.Minute)
				r.observe("north", &protocol.Record{Body: &protocol.Record_Iq{Iq: &protocol.IqChunk{CaptureId: new("another")}}})
			}
		}
		sends(25 * time.Minute)
		r.expect(t, long, "running 50% north=uploading")
		sends(15 * time.Minute)
		r.expect(t, long, "failed 100% north=expired(expired)")
		r.expect(t, a, "running 50% north=uploading")
	})
}

// An acquisition of next week keeps the conductor busy all the time.
func TestConductor_ForgetsWhatNobodyFollows(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		chunks := func(n int, capture func(i int) string) {
			var list []protocol.StoredRecord
			for i := range n {
				chunk := &protocol.IqChunk{CaptureId: new(capture(i)), Index: new(uint32(i))}
				list = append(list, protocol.StoredRecord{Record: &protocol.Record{Station: new("north"), Body: &protocol.Record_Iq{Iq: chunk}}})
			}
			r.Observe(t.Context(), list)
		}
		req := fiveSeconds
		req.StartTime = time.Now().Add(6 * 24 * time.Hour).Format(time.RFC3339)
		r.create(t, req)
		chunks(20_000, func(i int) string { return fmt.Sprint("other-", i) })
		rest(15 * time.Minute)
		req.IQ, req.Stations, req.StartTime = true, []string{"north"}, ""
		a := r.create(t, req)
		r.reply(a, "north", protocol.Reply_STATE_DONE, manifest(4))
		chunks(3, func(int) string { return "c-" + commandOf(a, "north") })
		rest(2 * time.Second)
		r.expect(t, a, "running 87% north=uploading")
	})
}

func TestConductor_RecordsEveryEnd(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		for state, want := range map[protocol.Reply_State]string{
			protocol.Reply_STATE_FAILED:      "failed 100% north=failed(why)",
			protocol.Reply_STATE_EXPIRED:     "failed 100% north=expired(why)",
			protocol.Reply_STATE_CANCELLED:   "cancelled 100% north=cancelled(why)",
			protocol.Reply_STATE_UNSPECIFIED: "running 5% north=sent",
		} {
			req := fiveSeconds
			req.Stations = []string{"north"}
			a := r.create(t, req)
			r.reply(a, "north", state, func(p *protocol.Reply) { p.ReasonCode = new("why") })
			r.expect(t, a, want)
		}
		// Replies to nothing that is known here.
		stranger := &protocol.Acquisition{ID: "0", Stations: []protocol.AcquisitionStation{{Station: "north"}}}
		r.reply(stranger, "north", protocol.Reply_STATE_DONE, nil)
		req := fiveSeconds
		req.Stations = []string{"north"}
		a := r.create(t, req)
		r.reply(a, "north", protocol.Reply_STATE_DONE, func(p *protocol.Reply) { p.CommandId = new("another") })
		r.reply(a, "south", protocol.Reply_STATE_DONE, nil)
		r.expect(t, a, "running 5% north=sent")
	})
}

func TestConductor_TakesUpWhatAnotherProcessLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(24 * time.Hour)
		first := newRig(nil)
		stop := first.run(t)
		req := fiveSeconds
		req.IQ, req.StartTime = true, time.Now().Add(time.Hour).Format(time.RFC3339)
		a := first.create(t, req)
		first.reply(a, "south", protocol.Reply_STATE_ACCEPTED, nil)
		stop()

		second := newRig(nil)
		second.db.rows = first.db.rows
		stop = second.run(t)
		rest(5 * time.Second)
		if second.commands.count != 1 || second.commands.stations[commandOf(a, "north")] != "north" {
			t.Errorf("issued again: %v, want the command of north", second.commands.stations)
		}
		was, is := first.commands.order(t, commandOf(a, "north")), second.commands.order(t, commandOf(a, "north"))
		if !proto.Equal(was, is) {
			t.Errorf("issued again as %v, was %v", is, was)
		}
		second.reply(a, "north", protocol.Reply_STATE_DONE, manifest(1))
		second.RecordingStored(t.Context(), &protocol.Recording{ID: "rec1", Station: "north", Acquisition: a.ID})
		second.expect(t, a, "running 55% north=done south=accepted")
		rest(3 * time.Hour)
		second.expect(t, a, "done 100% north=done south=expired(expired)")
		stop()

		third := newRig(nil) // long after: nothing to issue any more
		third.db.rows = first.db.rows
		stop = third.run(t)
		rest(time.Minute)
		stop()
		if third.commands.count != 0 {
			t.Error("an expired command was issued again")
		}
	})
}

func TestConductor_CatchesUpWithRepliesThatNobodyWasToldOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(24 * time.Hour)
		first := newRig(nil)
		stop := first.run(t)
		req := fiveSeconds
		req.Stations = []string{"north"}
		a := first.create(t, req)
		first.reply(a, "north", protocol.Reply_STATE_ACCEPTED, nil)
		stop() // killed between the commit of the last reply and the word of it

		second := newRig(nil)
		second.db.rows = first.db.rows
		for _, state := range []protocol.Reply_State{protocol.Reply_STATE_CAPTURING, protocol.Reply_STATE_DONE} {
			reply := &protocol.Reply{Acquisition: &a.ID, CommandId: new(commandOf(a, "north")), State: &state}
			if state == protocol.Reply_STATE_DONE {
				manifest(0)(reply)
			}
			second.db.told = append(second.db.told, protocol.StoredRecord{Record: &protocol.Record{
				Station: new("north"), Time: new(time.Now().UnixNano()), Body: &protocol.Record_Reply{Reply: reply},
			}})
		}
		second.db.mute = errors.New("canceling statement due to statement timeout")
		stop = second.run(t)
		rest(5 * time.Second)
		second.expect(t, a, "running 10% north=accepted")
		second.db.mu.Lock()
		second.db.mute = nil
		second.db.mu.Unlock()
		rest(5 * time.Second)
		second.expect(t, a, "done 100% north=done")
		stop()
	})
}

func TestConductor_WaitsForTheStore(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		a := r.create(t, fiveSeconds)
		r.db.fail(errors.New("connection refused"))
		r.reply(a, "north", protocol.Reply_STATE_ACCEPTED, nil)
		rest(10 * time.Second)
		if _, err := r.Create(t.Context(), fiveSeconds); err == nil {
			t.Error("created without a store")
		}
		r.db.fail(nil)
		rest(31 * time.Second)
		r.expect(t, a, "running 8% north=accepted south=sent")
		r.db.fail(refusedError{})
		r.reply(a, "north", protocol.Reply_STATE_CAPTURING, nil)
		r.db.fail(nil)
		r.reply(a, "south", protocol.Reply_STATE_CAPTURING, nil) // the refused change holds nothing up
		r.expect(t, a, "running 15% north=accepted south=capturing")
	})
}

// refusedError is a database's verdict that one change can never be stored.
type refusedError struct{}

func (refusedError) Error() string   { return "value too long" }
func (refusedError) OneRecord() bool { return true }

func TestConductor_TriesOnWithStationsThatCannotBeTold(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		refuse := func(err error) {
			r.commands.mu.Lock()
			defer r.commands.mu.Unlock()
			r.commands.err = err
		}
		refuse(errors.New("too many commands wait for a reply"))
		a := r.create(t, fiveSeconds)
		r.expect(t, a, "queued 0% north=queued(not_sent) south=queued(not_sent)")
		rest(5 * time.Second)
		r.expect(t, a, "queued 0% north=queued(not_sent) south=queued(not_sent)")
		refuse(nil)
		rest(2 * time.Second)
		r.expect(t, a, "running 5% north=sent south=sent")
		refuse(errors.New("too many commands wait for a reply"))
		r.StationOnline("north") // it may have missed what was sent
		rest(2 * time.Second)
		issued := r.commands.issues()
		refuse(nil)
		rest(2 * time.Second)
		if again := r.commands.issues() - issued; again != 1 {
			t.Errorf("%d commands are sent again, want that of north", again)
		}
		refuse(errors.New("too many commands wait for a reply"))
		b := r.create(t, fiveSeconds)
		rest(70 * time.Second)
		r.expect(t, b, "failed 100% north=failed(not_sent) south=failed(not_sent)")
	})
}

func TestCreate_LeavesTimeForTheSlowestStation(t *testing.T) {
	for _, c := range []struct {
		took map[string]time.Duration
		asks []string
		want time.Duration
	}{
		{nil, nil, 500 * time.Millisecond},
		{map[string]time.Duration{"north": time.Second}, nil, 1550 * time.Millisecond},
		{map[string]time.Duration{"north": 200 * time.Millisecond}, nil, 500 * time.Millisecond}, // nothing is known of south
		{map[string]time.Duration{"north": 200 * time.Millisecond, "south": 240 * time.Millisecond}, nil, 410 * time.Millisecond},
		{map[string]time.Duration{"north": 200 * time.Millisecond, "south": 240 * time.Millisecond}, []string{"north"}, 350 * time.Millisecond},
		{map[string]time.Duration{"north": time.Millisecond, "south": time.Millisecond}, nil, 200 * time.Millisecond},
		{map[string]time.Duration{"north": time.Minute}, nil, 10 * time.Second},
		{map[string]time.Duration{"north": time.Millisecond, "away": time.Minute, "deaf": time.Minute}, []string{"north", "away", "deaf"}, 200 * time.Millisecond},
	} {
		simulate(t, nil, func(t *testing.T, r *rig) {
			r.commands.took = c.took
			req := fiveSeconds
			req.Stations = c.asks
			a := r.create(t, req)
			if want := protocol.FormatTime(r.began.Add(c.want)); a.StartTime != want {
				t.Errorf("reply times %v, asking %v: starts at %s, want %s", c.took, c.asks, a.StartTime, want)
			}
			req.StartTime = r.began.Add(time.Millisecond).Format(time.RFC3339Nano)
			if a := r.create(t, req); a.StartTime != protocol.FormatTime(r.began.Add(time.Millisecond)) {
				t.Errorf("starts at %s, want the start that was asked for", a.StartTime)
			}
		})
	}
}

func TestCreate_NamesEveryFault(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name   string
		change func(*protocol.AcquisitionRequest)
		fields []string
		text   string
	}{
		{"frequency", func(q *protocol.AcquisitionRequest) { q.FrequencyHz = 0 }, []string{"frequency_hz"}, "145500000"},
		{"frequency of another band", func(q *protocol.AcquisitionRequest) { q.FrequencyHz = 145.5e12 }, []string{"frequency_hz"}, "frequency_hz: 145500000000000: "},
		{"no duration", func(q *protocol.AcquisitionRequest) { q.DurationS = 0 }, []string{"duration_s"}, "0.001 to 3600 seconds"},
		{"duration", func(q *protocol.AcquisitionRequest) { q.DurationS = 3601 }, []string{"duration_s"}, "0.001 to 3600 seconds"},
		{"bandwidth", func(q *protocol.AcquisitionRequest) { q.BandwidthHz = new(-1.0) }, []string{"bandwidth_hz"}, "above 0"},
		{"start", func(q *protocol.AcquisitionRequest) { q.StartTime = "tomorrow" }, []string{"start_time"}, "2026-11-24T10:42:00Z"},
		{"far start", func(q *protocol.AcquisitionRequest) { q.StartTime = now.AddDate(1, 0, 0).Format(time.RFC3339) }, []string{"start_time"}, "within 7 days"},
		{"old start", func(q *protocol.AcquisitionRequest) { q.StartTime = "1999-01-01T00:00:00Z" }, []string{"start_time"}, "after 2000"},
		{"stations", func(q *protocol.AcquisitionRequest) { q.Stations = []string{"north", "nowhere", "elsewhere"} }, []string{"stations", "stations"}, "nowhere"},
		{"priority", func(q *protocol.AcquisitionRequest) { q.Priority = 1 << 40 }, []string{"priority"}, "default is 0"},
		{"label", func(q *protocol.AcquisitionRequest) { q.Label = strings.Repeat("x", 300) }, []string{"label"}, "at most 256 bytes"},
		// 240 ksps as 16-bit pairs: 960 kB/s, and 256 MiB of it are 279.620 s.
		{"too much IQ", func(q *protocol.AcquisitionRequest) { q.IQ, q.DurationS = true, 280 }, []string{"duration_s"}, "at most 279.62 seconds"},
		// 1.25 x 12.5 kHz = 15.625 kHz; 240/15 = 16 kHz is the next rate above: 64 kB/s, so 4194.304 s would fit, over the hour.
		{"too much narrow IQ", func(q *protocol.AcquisitionRequest) {
			q.IQ, q.DurationS, q.BandwidthHz = true, 3000, new(50e3) // 240/3 = 80 kHz: 320 kB/s
		}, []string{"duration_s"}, "at most 838.86 seconds"},
		{"several", func(q *protocol.AcquisitionRequest) { q.FrequencyHz, q.DurationS = -1, -1 }, []string{"frequency_hz", "duration_s"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(nil)
			req := fiveSeconds
			c.change(&req)
			_, err := r.Create(t.Context(), req)
			faults, ok := errors.AsType[protocol.FieldErrors](err)
			if !ok {
				t.Fatalf("%v, want protocol.FieldErrors", err)
			}
			var fields []string
			for _, f := range faults {
				fields = append(fields, f.Field)
			}
			if !slices.Equal(fields, c.fields) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v, want faults of %v with %q", err, c.fields, c.text)
			}
			if len(r.db.rows) != 0 || r.commands.count != 0 {
				t.Error("something was stored or sent")
			}
		})
	}
}

func TestCreate_AcceptsWhatJustFits(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		for _, change := range []func(*protocol.AcquisitionRequest){
			func(q *protocol.AcquisitionRequest) { q.IQ, q.DurationS = true, 279.62 },
			func(q *protocol.AcquisitionRequest) { q.IQ, q.DurationS, q.BandwidthHz = true, 3600, new(12.5e3) },
			func(q *protocol.AcquisitionRequest) { q.IQ, q.BandwidthHz = true, new(1e6) }, // wider than any receiver: theirs to refuse
			func(q *protocol.AcquisitionRequest) { q.StartTime = "2000-01-01T00:00:00.123456789+01:00" },
		} {
			req := fiveSeconds
			change(&req)
			if req.StartTime != "" {
				req.StartTime = time.Now().Add(-time.Hour).Format(time.RFC3339Nano)
			}
			if _, err := r.Create(t.Context(), req); err != nil {
				t.Errorf("%+v: %v", req, err)
			}
		}
	})
}

func TestCreate_NeedsStations(t *testing.T) {
	r := newRig(func(c *acquisition.Config) { c.Stations = stations{} })
	if _, err := r.Create(t.Context(), fiveSeconds); err == nil || !strings.Contains(err.Error(), "no station is online") {
		t.Errorf("without stations: %v", err)
	}
	r = newRig(func(c *acquisition.Config) { c.Stations = stations(nil) })
	if _, err := r.Create(t.Context(), fiveSeconds); err == nil || !strings.Contains(err.Error(), "database is down") {
		t.Errorf("without database: %v", err)
	}
	// The receiver that covers the frequency sets the limit, not a faster one beside it.
	r = newRig(func(c *acquisition.Config) {
		c.Stations = stations{online(
			"north",
			protocol.ReceiverInfo{ID: "wide", Source: "rtlsdr", CenterHz: 430e6, SampleRateHz: 2.4e6},
			protocol.ReceiverInfo{ID: "narrow", Source: "kiwi", CenterHz: 145.5e6, SampleRateHz: 12e3},
		), online("silent")}
	})
	req := fiveSeconds
	req.IQ, req.DurationS = true, 3000
	if _, err := r.Create(t.Context(), req); err != nil {
		t.Errorf("3000 s at 12 kHz: %v", err)
	}
	req.FrequencyHz = 430.1e6
	if _, err := r.Create(t.Context(), req); err == nil || !strings.Contains(err.Error(), "at most 55.924 seconds") { // 4.8 MB/s
		t.Errorf("3000 s at 2.4 MHz: %v", err)
	}
}
