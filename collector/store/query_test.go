package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/protocol"
)

// seqs are the numbers of a list.
func seqs(list []protocol.StoredRecord) []uint64 {
	out := []uint64{}
	for _, r := range list {
		out = append(out, r.Record.GetSeq())
	}
	return out
}

func testFilters(t *testing.T, s *server) {
	db := s.open(t)
	var batch []*protocol.Record
	for seq := uint64(1); seq <= 5; seq++ { // 100 to 104 MHz, 1 MHz wide, a second apart
		rec := measurement("torino", 1, seq)
		rec.GetMeasurement().CenterHz, rec.GetMeasurement().SampleRateHz = new(99e6+1e6*float64(seq)), new(1e6)
		batch = append(batch, rec)
	}
	other := measurement("genova", 1, 6)
	other.GetMeasurement().CenterHz = nil // of unknown band
	detection := records()[2]             // 145.494 to 145.506 MHz
	spectrum := records()[1]              // 144.9995 to 145.0035 MHz
	detection.Spool, spectrum.Spool = spoolOf(5), spoolOf(5)
	commit(t, db, append(batch, other, detection, spectrum, health("torino", 3, 1, 1))...)
	at := func(seq int) time.Time { return t0.Add(time.Duration(seq) * time.Second) }
	for _, c := range []struct {
		name string
		kind protocol.Kind
		f    protocol.Filter
		want []uint64
	}{
		{"all", protocol.KindMeasurement, protocol.Filter{}, []uint64{6, 5, 4, 3, 2, 1}},
		{"limit", protocol.KindMeasurement, protocol.Filter{Limit: 2}, []uint64{6, 5}},
		{"station", protocol.KindMeasurement, protocol.Filter{Stations: []string{"genova"}}, []uint64{6}},
		{"stations", protocol.KindMeasurement, protocol.Filter{Stations: []string{"genova", "torino", "nowhere"}, Limit: 3}, []uint64{6, 5, 4}},
		{"nowhere", protocol.KindMeasurement, protocol.Filter{Stations: []string{"nowhere"}}, []uint64{}},
		{"from", protocol.KindMeasurement, protocol.Filter{From: at(4).Truncate(time.Microsecond)}, []uint64{6, 5, 4}},
		{"to", protocol.KindMeasurement, protocol.Filter{To: at(4).Truncate(time.Microsecond)}, []uint64{3, 2, 1}},
		{"span", protocol.KindMeasurement, protocol.Filter{From: at(1).Add(time.Millisecond), To: at(4)}, []uint64{3, 2}},
		{"min", protocol.KindMeasurement, protocol.Filter{MinHz: 103.6e6}, []uint64{5}},
		{"min touches", protocol.KindMeasurement, protocol.Filter{MinHz: 103.5e6}, []uint64{5, 4}},
		{"max", protocol.KindMeasurement, protocol.Filter{MaxHz: 100.4e6}, []uint64{1}},
		{"band inside one", protocol.KindMeasurement, protocol.Filter{MinHz: 101.9e6, MaxHz: 102.1e6}, []uint64{3}},
		{"detection", protocol.KindDetection, protocol.Filter{MinHz: 145.5e6, MaxHz: 145.5e6}, []uint64{3}},
		{"detection beside", protocol.KindDetection, protocol.Filter{MinHz: 145.507e6}, []uint64{}},
		{"spectrum", protocol.KindSpectrum, protocol.Filter{MinHz: 145.0034e6}, []uint64{2}},
		{"spectrum beside", protocol.KindSpectrum, protocol.Filter{MinHz: 145.0036e6}, []uint64{}},
		{"health", protocol.KindHealth, protocol.Filter{Stations: []string{"torino"}}, []uint64{1}},
		{"reply", protocol.KindReply, protocol.Filter{}, []uint64{}},
	} {
		list, _, err := db.Records(t.Context(), c.kind, c.f)
		if diff := cmp.Diff(c.want, seqs(list)); err != nil || diff != "" {
			t.Errorf("%s: %v %s", c.name, err, diff)
		}
	}
}

func testBadFilters(t *testing.T, s *server) {
	db := s.open(t)
	for field, f := range map[string]protocol.Filter{
		"station": {Stations: []string{"torino", "'; --"}},
		"from":    {From: time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC)},
		"to":      {From: t0, To: t0},
		"min_hz":  {MinHz: -1},
		"max_hz":  {MinHz: 5, MaxHz: 4},
		"limit":   {Limit: 1001},
		"cursor":  {Cursor: "!"},
	} {
		_, _, err := db.Records(t.Context(), protocol.KindMeasurement, f)
		wantField(t, err, field)
		_, _, err = db.Recordings(t.Context(), f)
		wantField(t, err, field)
	}
	for field, f := range map[string]protocol.Filter{
		"min_hz": {MinHz: math.NaN()},
		"max_hz": {MaxHz: math.Inf(1)},
		"limit":  {Limit: -1},
		"cursor": {Cursor: "eyJ0IjoxfQ"}, // {"t":1}
	} {
		_, _, err := db.Records(t.Context(), protocol.KindMeasurement, f)
		wantField(t, err, field)
	}
	_, _, err := db.Records(t.Context(), protocol.KindGap, protocol.Filter{MinHz: 1})
	wantField(t, err, "min_hz")
	_, _, err = db.Records(t.Context(), protocol.KindSite, protocol.Filter{}) // no subscriber may read it
	wantField(t, err, "kind")
	_, _, err = db.Records(t.Context(), protocol.KindMeasurement, protocol.Filter{Stations: make([]string, 1001)})
	wantField(t, err, "station")
	_, _, err = db.Acquisitions(t.Context(), 0, "eyJ0IjoxLCJpIjoiXHUwMDAwIn0") // {"t":1,"i":"\u0000"}
	wantField(t, err, "cursor")
	_, _, err = db.Acquisitions(t.Context(), 5000, "")
	wantField(t, err, "limit")

	// All faults at once.
	_, _, err = db.Records(t.Context(), protocol.KindHealth, protocol.Filter{Stations: []string{"X"}, MinHz: -1, MaxHz: 1, Limit: -1})
	var faults protocol.FieldErrors
	if !errors.As(err, &faults) || len(faults) != 4 {
		t.Errorf("faults %v, want 4", faults)
	}
}

func wantField(t *testing.T, err error, field string) {
	t.Helper()
	var faults protocol.FieldErrors
	if !errors.As(err, &faults) || len(faults) == 0 || faults[0].Field != field || faults[0].Message == "" {
		t.Errorf("err %v, want a fault of %s", err, field)
	}
}

// testPages reads pages while records come in, among them some of the very same time.
func testPages(t *testing.T, s *server) {
	db := s.open(t)
	var batch []*protocol.Record
	for i, name := range []string{"torino", "genova", "milano"} {
		for b := range byte(2) {
			for seq := uint64(1); seq <= 10; seq++ {
				rec := measurement(name, b, seq)
				rec.Time = new(t0.UnixNano() + int64(seq%3)*1e9 + int64(i)) // differs below the microsecond
				batch = append(batch, rec)
			}
		}
	}
	commit(t, db, batch...)
	before, _, err := db.Records(t.Context(), protocol.KindMeasurement, protocol.Filter{Limit: 1000})
	if err != nil || len(before) != 60 {
		t.Fatal(len(before), err)
	}
	var paged []protocol.StoredRecord
	cursor, newer := "", uint64(100)
	for page := 0; ; page++ {
		list, next, err := db.Records(t.Context(), protocol.KindMeasurement, protocol.Filter{Limit: 7, Cursor: cursor})
		if err != nil {
			t.Fatal(err)
		}
		paged = append(paged, list...)
		if next == "" {
			break
		}
		cursor = next
		commit(t, db, measurement("aosta", 1, newer))
		newer++
	}
	if diff := cmp.Diff(before, paged, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

func testStations(t *testing.T, s *server) {
	db := s.open(t)
	commit(t, db, measurement("torino", 1, 1))
	later := received.Add(time.Minute)
	info := &protocol.Info{
		Station: "genova", Name: "Genova 'sea'", Position: &protocol.Position{LatitudeDeg: 44.4, LongitudeDeg: 8.9, Precision: "10km"},
		Receivers: []protocol.ReceiverInfo{
			{ID: "rx0", Name: "dipole", Source: "rtlsdr", CenterHz: 145e6, SampleRateHz: 2.4e6, Live: true, Plan: []protocol.PlanStep{{Name: "2m", DwellS: 1}}},
			{ID: "rx0", Source: "twice"},
		},
		Capabilities: []string{"capture"}, Version: "1",
	}
	state := &protocol.State{
		State: "running", Since: "2026-11-24T01:00:00.000000000Z", TimeQuality: "ntp", TimeUncertaintyS: 0.01, Backlog: 3, BacklogAgeS: 1.5,
		SpoolUsedRatio: 0.25, Receivers: map[string]protocol.ReceiverState{"rx0": {Connected: true, HistoryS: 27}},
	}
	for _, err := range []error{
		db.SaveStatus(t.Context(), "genova", true, later),
		db.SaveInfo(t.Context(), "genova", info, later),
		db.SaveState(t.Context(), "genova", state, later),
		// What comes late is old.
		db.SaveStatus(t.Context(), "genova", false, later.Add(-time.Second)),
		db.SaveInfo(t.Context(), "genova", &protocol.Info{Name: "old"}, later.Add(-time.Second)),
		db.SaveState(t.Context(), "genova", &protocol.State{State: "paused"}, later.Add(-time.Second)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	commit(t, db, measurement("aosta", 1, 1))
	list, err := db.Stations(t.Context())
	if err != nil || len(list) != 3 {
		t.Fatal(list, err)
	}
	steps, err := json.Marshal(state.Receivers)
	if err != nil {
		t.Fatal(err)
	}
	want := []protocol.Station{
		{ID: "torino", Number: 1, Status: "offline", LastSeen: "2026-11-24T02:00:02.123456000Z", Receivers: []protocol.ReceiverInfo{}, Capabilities: []string{}},
		{
			ID: "genova", Number: 2, Name: info.Name, Position: info.Position, Status: "online", State: "running", Since: state.Since,
			LastSeen: "2026-11-24T02:01:02.123456000Z", Clock: &protocol.StationClock{Quality: "ntp", UncertaintyS: 0.01},
			Delivery: &protocol.StationDelivery{Backlog: 3, BacklogAgeS: 1.5, SpoolUsedRatio: 0.25}, Receivers: info.Receivers, Capabilities: info.Capabilities,
			Steps: steps,
		},
		{ID: "aosta", Number: 3, Status: "offline", LastSeen: "2026-11-24T02:00:02.123456000Z", Receivers: []protocol.ReceiverInfo{}, Capabilities: []string{}},
	}
	if diff := cmp.Diff(want, list); diff != "" {
		t.Error(diff)
	}
	if n := s.number(t, "SELECT count(*) FROM receiver WHERE station = 'genova' AND source = 'rtlsdr'"); n != 1 {
		t.Errorf("%d receivers, want 1", n)
	}
	if one, err := db.Station(t.Context(), "genova"); err != nil || one.Number != 2 {
		t.Error(one, err)
	}
	for _, id := range []string{"nowhere", "", "'; --", "\x00"} {
		if _, err := db.Station(t.Context(), id); !errors.Is(err, store.ErrNotFound) || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("station %q: %v", id, err)
		}
	}
	// A station may take back what it said.
	err = errors.Join(db.SaveInfo(t.Context(), "genova", nil, later.Add(time.Second)), db.SaveState(t.Context(), "genova", nil, later.Add(time.Second)))
	if err != nil {
		t.Fatal(err)
	}
	if one, err := db.Station(t.Context(), "genova"); err != nil || one.Name != "" || one.State != "" || len(one.Receivers) != 0 || one.Number != 2 {
		t.Error(one, err)
	}
	testBadStations(t, db)
}

func testBadStations(t *testing.T, db *store.DB) {
	for name, err := range map[string]error{
		"status of a bad station": db.SaveStatus(t.Context(), "X", true, t0),
		"info with NUL":           db.SaveInfo(t.Context(), "genova", &protocol.Info{Name: "\x00"}, t0),
		"state with NUL":          db.SaveState(t.Context(), "genova", &protocol.State{Reason: "\x00"}, t0),
		"state with NaN":          db.SaveState(t.Context(), "genova", &protocol.State{BacklogAgeS: math.NaN()}, t0),
		"info with infinity":      db.SaveInfo(t.Context(), "genova", &protocol.Info{Receivers: []protocol.ReceiverInfo{{CenterHz: math.Inf(1)}}}, t0),
	} {
		var own *store.Error
		if !errors.As(err, &own) || !own.OneRecord() {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func testAcquisitions(t *testing.T, s *server) {
	db := s.open(t)
	const n = 25
	var want []*protocol.Acquisition
	for i := range n {
		a := &protocol.Acquisition{
			ID: fmt.Sprintf("0193-%03d", i), State: protocol.AcquisitionQueued, Requested: fmt.Sprintf("2026-11-24T02:00:%02d.000000000Z", i/2),
			StartTime: "2026-11-24T02:01:00.000001000Z",
			Request: protocol.AcquisitionRequest{
				FrequencyHz: 77.5e3, DurationS: 5, BandwidthHz: new(1e3), Stations: []string{"torino"}, IQ: true, Label: "it's",
			},
			Stations: []protocol.AcquisitionStation{
				{Station: "torino", State: protocol.StationQueued},
				{
					Station: "genova", State: protocol.StationRefused, ReasonCode: "not_allowed", Message: "no", CommandID: "c",
					Measurement: json.RawMessage(`{"snr_db": 12.5}`),
				},
			},
		}
		if i%5 == 4 {
			a.State, a.StartTime, a.Stations = protocol.AcquisitionDone, "", []protocol.AcquisitionStation{}
		}
		if err := db.CreateAcquisition(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		want = append([]*protocol.Acquisition{a}, want...)
	}
	var got []*protocol.Acquisition
	for cursor := ""; ; {
		page, next, err := db.Acquisitions(t.Context(), 7, cursor)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, page...)
		if cursor = next; next == "" {
			break
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	one, err := db.Acquisition(t.Context(), "0193-003")
	if diff := cmp.Diff(want[n-1-3], one); err != nil || diff != "" {
		t.Error(err, diff)
	}
	open, err := db.UnsettledAcquisitions(t.Context())
	if err != nil || len(open) != 20 || open[0].ID != "0193-000" {
		t.Errorf("%d unsettled, %v", len(open), err)
	}
	testAcquisitionErrors(t, db)
}

func testAcquisitionErrors(t *testing.T, db *store.DB) {
	stop := errors.New("stop")
	change := func(err error) func(*protocol.Acquisition) error {
		return func(*protocol.Acquisition) error { return err }
	}
	if _, err := db.Acquisition(t.Context(), "none"); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
	if err := db.UpdateAcquisition(t.Context(), "no\x00ne", change(nil)); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if err := db.UpdateAcquisition(t.Context(), "0193-003", change(stop)); err != stop { //nolint:errorlint // the very same is the promise
		t.Error(err)
	}
	good := protocol.Acquisition{ID: "x", Requested: "2026-11-24T02:00:00Z"}
	for name, spoil := range map[string]func(*protocol.Acquisition){
		"no id":            func(a *protocol.Acquisition) { a.ID = "" },
		"id there":         func(a *protocol.Acquisition) { a.ID = "0193-003" },
		"bad requested":    func(a *protocol.Acquisition) { a.Requested = "yesterday" },
		"bad start":        func(a *protocol.Acquisition) { a.StartTime = "soon" },
		"NUL":              func(a *protocol.Acquisition) { a.Request.Label = "\x00" },
		"NaN":              func(a *protocol.Acquisition) { a.Request.DurationS = math.NaN() },
		"broken JSON":      func(a *protocol.Acquisition) { a.Stations[0].Measurement = json.RawMessage("{") },
		"broken on update": nil,
	} {
		a := good
		a.Stations = []protocol.AcquisitionStation{{Station: "torino"}}
		var err error
		if spoil != nil {
			spoil(&a)
			err = db.CreateAcquisition(t.Context(), &a)
		} else {
			err = db.UpdateAcquisition(t.Context(), "0193-003", func(a *protocol.Acquisition) error {
				a.StartTime = "soon"
				return nil
			})
		}
		var own *store.Error
		if !errors.As(err, &own) || !own.OneRecord() {
			t.Errorf("%s: %v", name, err)
		}
	}
	if a, err := db.Acquisition(t.Context(), "0193-003"); err != nil || a.StartTime == "soon" || len(a.Stations) != 2 {
		t.Errorf("a failed update changed it: %+v, %v", a, err)
	}
}

// testConcurrentUpdates lets several collectors change one acquisition at once.
func testConcurrentUpdates(t *testing.T, s *server) {
	const each, workers = 10, 4
	a := &protocol.Acquisition{ID: "a", State: protocol.AcquisitionQueued, Requested: "2026-11-24T02:00:00Z"}
	for w := range workers {
		a.Stations = append(a.Stations, protocol.AcquisitionStation{Station: fmt.Sprintf("station-%d", w)})
	}
	if err := s.open(t).CreateAcquisition(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for w := range workers {
		db := s.open(t)
		wg.Go(func() {
			for range each {
				err := db.UpdateAcquisition(t.Context(), "a", func(a *protocol.Acquisition) error {
					a.State, a.Progress = protocol.AcquisitionRunning, a.Progress+1
					a.Stations[w].Message += "x"
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got, err := s.open(t).Acquisition(t.Context(), "a")
	if err != nil || got.Progress != each*workers || got.State != protocol.AcquisitionRunning {
		t.Fatalf("%+v, %v", got, err)
	}
	for _, station := range got.Stations {
		if station.Message != strings.Repeat("x", each) {
			t.Errorf("%s: %q", station.Station, station.Message)
		}
	}
}

// chunk makes chunk index of a capture.
func chunk(station string, seq uint64, id string, index uint32) *protocol.Record {
	rec := measurement(station, 1, seq)
	rec.Body = &protocol.Record_Iq{Iq: &protocol.IqChunk{
		CaptureId: new(id), Index: new(index), FirstSample: new(uint64(index) * 2), Samples: new(uint32(2)), Data: []byte{byte(index), 0, 255, 39, 1, 2, 3, 4},
	}}
	return rec
}

// done makes the last reply of a capture of n chunks.
func done(station string, seq uint64, id string, n uint32) *protocol.Record {
	rec := measurement(station, 1, seq)
	rec.Body = &protocol.Record_Reply{Reply: &protocol.Reply{
		Acquisition: new("acq"), State: protocol.Reply_STATE_DONE.Enum(), Capture: manifest(id, n),
	}}
	return rec
}

func testCaptures(t *testing.T, s *server) {
	db := s.open(t)
	acquisition := &protocol.Acquisition{
		ID: "acq", State: protocol.AcquisitionRunning, Requested: "2026-11-24T02:00:00Z",
		Stations: []protocol.AcquisitionStation{{Station: "torino"}, {Station: "genova"}},
	}
	position := &protocol.Position{LatitudeDeg: 45, LongitudeDeg: 7.5, Precision: "10km"}
	err := errors.Join(db.CreateAcquisition(t.Context(), acquisition), db.SaveInfo(t.Context(), "torino", &protocol.Info{Position: position}, t0))
	if err != nil {
		t.Fatal(err)
	}
	detection := func(seq uint64, start time.Duration, length float64, id string) *protocol.Record {
		rec := measurement("torino", 1, seq)
		rec.Time = new(t0.Add(start).UnixNano())
		rec.Body = &protocol.Record_Detection{Detection: &protocol.Detection{DurationS: new(length), DetectionId: new(id)}}
		return rec
	}
	commit(t, db, detection(50, -time.Minute, 10, "over"), detection(51, -time.Minute, 65, "lasting"), detection(52, -time.Minute, 70, "lasting"),
		detection(53, time.Second, 1, "inside"), detection(54, time.Minute, 1, "after"))

	ids := func() []string {
		t.Helper()
		list, err := db.CompleteCaptures(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		out := []string{}
		for _, c := range list {
			out = append(out, c.Reply.GetCapture().GetId())
		}
		return out
	}
	expect := func(when string, want ...string) {
		t.Helper()
		if got := ids(); !slices.Equal(got, want) {
			t.Errorf("%s: complete are %v, want %v", when, got, want)
		}
	}
	commit(t, db, chunk("torino", 1, "cap", 2), chunk("torino", 2, "cap", 0), chunk("genova", 1, "cap", 1))
	expect("without a reply")
	commit(t, db, done("torino", 3, "cap", 3), done("torino", 4, "none", 0))
	expect("with a chunk of another station's")
	commit(t, db, chunk("torino", 5, "cap", 1), chunk("torino", 6, "cap", 0), chunk("torino", 7, "cap", 9))
	expect("all chunks in", "cap")
	commit(t, db, done("torino", 8, "cap", 3), done("genova", 9, "other", 1), chunk("genova", 10, "other", 0))
	expect("the reply twice", "cap", "other")

	list, err := db.CompleteCaptures(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := list[0]
	if diff := cmp.Diff(manifest("cap", 3), c.Reply.GetCapture(), protocmp.Transform()); diff != "" || c.Station != "torino" {
		t.Error(c.Station, diff)
	}
	if diff := cmp.Diff(position, c.Position); diff != "" {
		t.Error(diff)
	}
	if len(c.Detections) != 2 || c.Detections[0].GetDetection().GetDurationS() != 70 || c.Detections[1].GetDetection().GetDetectionId() != "inside" {
		t.Errorf("detections %v", c.Detections)
	}
	data, err := db.Chunk(t.Context(), "torino", "cap", 2)
	if err != nil || string(data) != string([]byte{2, 0, 255, 39, 1, 2, 3, 4}) {
		t.Error(data, err)
	}
	for _, index := range []uint32{3, math.MaxUint32} {
		if _, err := db.Chunk(t.Context(), "torino", "cap", index); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("chunk %d: %v", index, err)
		}
	}
	testFinish(t, s, db, ids)
}

// testFinish makes recordings of the captures "cap" of torino and "other" of genova.
func testFinish(t *testing.T, s *server, db *store.DB, complete func() []string) {
	r := protocol.Recording{
		ID: "cap", Acquisition: "acq", Station: "torino", Receiver: "rx0", Start: "2026-11-24T02:00:00.123456789Z",
		AskedStart: "2026-11-24T02:00:00.000000001Z", DurationS: 5, CenterHz: 145.5e6, SampleRateHz: 15625, Datatype: "ci16_le", Samples: 6, LostSamples: 4,
		Bytes: 24, SHA512: "ab", TimeQuality: "ntp", TimeUncertaintyS: 0.001, Key: "recordings/acq/torino/cap", Stored: "2026-11-24T02:00:09.000000000Z",
	}
	for range 2 { // it may be repeated
		if err := db.FinishRecording(t.Context(), &r); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.number(t, "SELECT count(*) FROM iq_chunk WHERE station = 'torino' AND data IS NOT NULL AND capture_id = 'cap'"); n != 0 {
		t.Errorf("%d chunks still have data", n)
	}
	if _, err := db.Chunk(t.Context(), "torino", "cap", 0); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
	got, err := db.Recording(t.Context(), "cap")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&r, got); diff != "" {
		t.Error(diff)
	}
	a, err := db.Acquisition(t.Context(), "acq")
	if err != nil || a.Stations[0].Recording != "cap" || a.Stations[1].Recording != "" {
		t.Errorf("%+v, %v", a, err)
	}
	if err := db.FailRecording(t.Context(), "genova", "other", "sha512 differs"); err != nil {
		t.Fatal(err)
	}
	if left := complete(); len(left) != 0 {
		t.Errorf("still complete: %v", left)
	}
	// The chunks' numbers stay accounted for.
	if v := verdict(t, db, streamOf("torino", 1), false); v.Duplicate != 0 || v.Stored != 13 {
		t.Errorf("verdict %+v", v)
	}
	late := r
	late.ID, late.Acquisition, late.Station, late.Start, late.AskedStart = "cap-2", "", "genova", "2026-11-24T03:00:00.000000000Z", ""
	if err := db.FinishRecording(t.Context(), &late); err != nil {
		t.Fatal(err)
	}
	page, next, err := db.Recordings(t.Context(), protocol.Filter{Limit: 1, MinHz: 145.5e6})
	if diff := cmp.Diff([]protocol.Recording{late}, page); err != nil || diff != "" || next == "" {
		t.Error(err, diff, next)
	}
	page, next, err = db.Recordings(t.Context(), protocol.Filter{Limit: 1, Cursor: next})
	if diff := cmp.Diff([]protocol.Recording{r}, page); err != nil || diff != "" || next != "" {
		t.Error(err, diff, next)
	}
	if page, _, err = db.Recordings(t.Context(), protocol.Filter{MinHz: 146e6}); err != nil || len(page) != 0 {
		t.Error(page, err)
	}
	testBadRecordings(t, db, r)
}

func testBadRecordings(t *testing.T, db *store.DB, good protocol.Recording) {
	for _, id := range []string{"none", "\x00"} {
		if _, err := db.Recording(t.Context(), id); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("recording %q: %v", id, err)
		}
	}
	for name, spoil := range map[string]func(*protocol.Recording){
		"start":  func(r *protocol.Recording) { r.Start = "" },
		"asked":  func(r *protocol.Recording) { r.AskedStart = "x" },
		"stored": func(r *protocol.Recording) { r.Stored = "x" },
		"bytes":  func(r *protocol.Recording) { r.Bytes = 1 << 63 },
	} {
		r := good
		spoil(&r)
		var own *store.Error
		if err := db.FinishRecording(t.Context(), &r); !errors.As(err, &own) || !own.OneRecord() {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func testViews(t *testing.T, s *server) {
	db := s.open(t)
	rows := func(query string) [][]any {
		t.Helper()
		r, err := s.raw.QueryContext(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		columns, err := r.Columns()
		if err != nil {
			t.Fatal(err)
		}
		var out [][]any
		for r.Next() {
			row, to := make([]any, len(columns)), make([]any, len(columns))
			for i := range row {
				to[i] = &row[i]
			}
			if err := r.Scan(to...); err != nil {
				t.Fatal(err)
			}
			out = append(out, row)
		}
		if err := r.Err(); err != nil {
			t.Fatal(err)
		}
		return out
	}
	site := measurement("torino", 1, 7)
	site.Body = &protocol.Record_Site{Site: &protocol.Site{LatitudeDeg: new(45.044), LongitudeDeg: new(7.672), HeightM: new(250.0), UncertaintyM: new(5.0)}}
	first := measurement("torino", 1, 8)
	first.Body = &protocol.Record_Detection{Detection: &protocol.Detection{DurationS: new(1.0), Open: new(true)}}
	second := measurement("torino", 1, 9)
	second.Body = &protocol.Record_Detection{Detection: &protocol.Detection{DurationS: new(11.0), Open: new(false), DetectionId: new("torino-01ff002704050601-8")}}
	quiet := measurement("torino", 1, 11)
	quiet.GetMeasurement().PowerDbfs = new(float32(-48.2))
	commit(t, db, append(records(), site, first, second, chunk("torino", 10, "c", 0), quiet)...)

	if got := rows("SELECT kind, count(*), sum(seq) FROM record WHERE station = 'torino' GROUP BY kind ORDER BY kind"); fmt.Sprint(got) !=
		"[[detection 3 20] [gap 1 5] [health 1 4] [iq 1 10] [measurement 2 12] [reply 1 6] [site 1 7] [spectrum 1 2]]" {
		t.Error("record:", got)
	}
	if got := rows("SELECT receiver, frequency_hz, dbfs_hz FROM spectrum_bin ORDER BY frequency_hz"); fmt.Sprint(got) !=
		"[[rx0 1.45e+08 -140] [rx0 1.45001e+08 -139.5] [rx0 1.45002e+08 -13] [rx0 1.45003e+08 -12.5]]" {
		t.Error("spectrum_bin:", got)
	}
	if got := rows("SELECT station, receiver, step, measurements, power_dbfs_min, snr_db_max FROM measurement_1h"); len(got) != 1 ||
		fmt.Sprint(got[0][:4]) != "[torino rx0 2m 2]" || math.Abs(got[0][4].(float64)+48.2) > 1e-5 {
		t.Error("measurement_1h:", got)
	}
	// Half of the sum of -38.2 dBFS and -48.2 dBFS: 10 log10((10^-3.82 + 10^-4.82) / 2) = -40.796; real has 7 digits.
	mean := rows("SELECT power_dbfs FROM measurement_1h")[0][0].(float64)
	if math.Abs(mean+40.7965) > 1e-3 {
		t.Errorf("mean power %v dBFS, want -40.7965", mean)
	}
	if got := rows("SELECT detection_id, seq, duration_s FROM detection_latest ORDER BY seq"); fmt.Sprint(got) !=
		"[[torino-01ff002704050601-2 3 0.25] [torino-01ff002704050601-8 9 11]]" {
		t.Error("detection_latest:", got)
	}
	if got := rows("SELECT last, received, rejected, gapped, released, pending FROM delivery WHERE received > 0"); fmt.Sprint(got) != "[[11 11 0 0 0 0]]" {
		t.Error("delivery:", got)
	}
	if got := rows("SELECT gapped, last FROM delivery WHERE received = 0"); fmt.Sprint(got) != "[[6 8]]" {
		t.Error("delivery of the lost spool:", got)
	}
	if err := db.SaveState(t.Context(), "torino", &protocol.State{State: "paused", Reason: "owner"}, t0); err != nil {
		t.Fatal(err)
	}
	if got := rows("SELECT station, number, status, state, reason FROM station_last"); fmt.Sprint(got) != "[[torino 1 offline paused owner]]" {
		t.Error("station_last:", got)
	}
	if n := s.number(t, "SELECT count(*) FROM station_last WHERE last_seen IS NOT NULL AND last_measurement IS NOT NULL AND last_detection IS NOT NULL"); n != 1 {
		t.Error("station_last has no times")
	}
	if n := s.number(t, "SELECT count(*) FROM site WHERE valid_from = time AND lat = 45.044 AND lon = 7.672 AND height_m = 250 AND uncertainty_m = 5"); n != 1 {
		t.Error("the place is not as sent")
	}
	s.raw.SetMaxIdleConns(0) // or a cached statement keeps the views from being dropped
}

// testDeflated stores a spectrum whose levels came compressed.
func testDeflated(t *testing.T, s *server) {
	db := s.open(t)
	levels := make([]float64, 1024)
	for i := range levels {
		levels[i] = -110 + float64(i%40)/2
	}
	rec := measurement("torino", 1, 1)
	sp, err := protocol.NewSpectrum(levels, 145e6, 1e3)
	if err != nil {
		t.Fatal(err)
	}
	if sp.GetCodec() != protocol.Spectrum_CODEC_DEFLATE {
		t.Fatalf("codec %v: these levels should be worth compressing", sp.GetCodec())
	}
	rec.Body = &protocol.Record_Spectrum{Spectrum: sp}
	commit(t, db, rec)
	list, _, err := db.Records(t.Context(), protocol.KindSpectrum, protocol.Filter{})
	if err != nil || len(list) != 1 {
		t.Fatal(len(list), err)
	}
	got, err := list[0].Record.GetSpectrum().LevelsDBFSHz()
	if err != nil {
		t.Fatal(err)
	}
	want, err := sp.LevelsDBFSHz()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if n := s.number(t, "SELECT count(*) FROM spectrum_bin"); n != 1024 {
		t.Errorf("%d bins, want 1024", n)
	}
}

// testAway asks a database that is not there any more.
func testAway(t *testing.T, s *server) {
	db := s.open(t)
	if err := db.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, commitErr := db.Commit(ctx, received, measurements("torino", 1, 1, 2), nil)
	_, migrateErr := db.Migrate(ctx)
	_, describeErr := db.Describe(ctx)
	_, acksErr := db.Acks(ctx)
	_, _, recordsErr := db.Records(ctx, protocol.KindMeasurement, protocol.Filter{})
	_, stationsErr := db.Stations(ctx)
	_, stationErr := db.Station(ctx, "torino")
	_, verifyErr := db.Verify(ctx, "", false)
	_, _, acquisitionsErr := db.Acquisitions(ctx, 0, "")
	_, acquisitionErr := db.Acquisition(ctx, "a")
	_, unsettledErr := db.UnsettledAcquisitions(ctx)
	_, capturesErr := db.CompleteCaptures(ctx)
	_, chunkErr := db.Chunk(ctx, "torino", "c", 0)
	_, _, recordingsErr := db.Recordings(ctx, protocol.Filter{})
	_, recordingErr := db.Recording(ctx, "r")
	for name, err := range map[string]error{
		"Ping": db.Ping(ctx), "Commit": commitErr, "Migrate": migrateErr, "Describe": describeErr, "Acks": acksErr, "Records": recordsErr,
		"Stations": stationsErr, "Station": stationErr, "Verify": verifyErr, "Acquisitions": acquisitionsErr, "Acquisition": acquisitionErr,
		"UnsettledAcquisitions": unsettledErr, "CompleteCaptures": capturesErr, "Chunk": chunkErr, "Recordings": recordingsErr, "Recording": recordingErr,
		"SaveStatus": db.SaveStatus(ctx, "torino", true, t0), "SaveInfo": db.SaveInfo(ctx, "torino", nil, t0), "SaveState": db.SaveState(ctx, "torino", nil, t0),
		"FailRecording": db.FailRecording(ctx, "torino", "c", ""), "UpdateAcquisition": db.UpdateAcquisition(ctx, "a", nil),
	} {
		var own *store.Error
		if !errors.As(err, &own) || !own.Transient() || own.Class.String() != "transient" {
			t.Errorf("%s: %v, want a transient error", name, err)
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v does not name its cause", name, err)
		}
	}
}

// testBroken asks a database without its tables, and one of a later version.
func testBroken(t *testing.T, s *server) {
	db := s.open(t)
	s.exec(t, "INSERT INTO migration (number, name, applied) SELECT 99, 'later', applied FROM migration WHERE number = 1")
	_, err := db.Migrate(t.Context())
	var own *store.Error
	if !errors.As(err, &own) || own.Class != store.ClassAll || !strings.Contains(err.Error(), "newer version") {
		t.Errorf("later version: %v", err)
	}
	s.exec(t, "ALTER TABLE spool RENAME TO spoon")
	_, _, err = db.Commit(t.Context(), received, measurements("torino", 1, 1, 2), nil)
	if !errors.As(err, &own) || own.Class != store.ClassAll || own.OneRecord() {
		t.Errorf("no table: %v", err)
	}
	s.exec(t, "ALTER TABLE spoon RENAME TO spool")
	s.raw.SetMaxIdleConns(0)
	// A damaged ledger is no fault of the records.
	commit(t, db, measurements("torino", 1, 1, 2)...)
	if s.sqlite() {
		s.exec(t, "UPDATE spool SET received = 'x'")
		_, _, err = db.Commit(t.Context(), received, measurements("torino", 1, 3, 4), nil)
		if !errors.As(err, &own) || own.OneRecord() {
			t.Errorf("damaged ledger: %v", err)
		}
	}
}
