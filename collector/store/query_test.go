package store_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"slices"
	"strings"
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

// testHistoryFrom: how far back a receiver's history reaches is told as of now, and only where it is known.
func testHistoryFrom(t *testing.T, db *store.DB, info *protocol.Info, state *protocol.State) {
	t.Helper()
	at := received.Add(2 * time.Minute)
	lie := *info
	lie.Receivers = slices.Clone(info.Receivers)
	for i := range lie.Receivers {
		lie.Receivers[i].HistoryFrom = "1970-01-01T00:00:00.000000000Z" // stations have no say in it
	}
	if err := db.SaveStatus(t.Context(), "aosta", true, at); err != nil {
		t.Fatal(err)
	}
	from := func(age time.Duration, change func(*protocol.State)) string {
		t.Helper()
		at = at.Add(time.Second)
		st := *state
		st.Time = protocol.FormatTime(time.Now().Add(-age))
		if change != nil {
			change(&st)
		}
		if err := errors.Join(db.SaveInfo(t.Context(), "aosta", &lie, at), db.SaveState(t.Context(), "aosta", &st, at)); err != nil {
			t.Fatal(err)
		}
		one, err := db.Station(t.Context(), "aosta")
		if err != nil || len(one.Receivers) != 2 || one.Receivers[1].HistoryFrom != "" {
			t.Fatal(one, err)
		}
		return one.Receivers[0].HistoryFrom
	}
	got, err := protocol.ParseTime(from(time.Minute, nil))
	if back := time.Since(got); err != nil || back > 27*time.Second || back < 10*time.Second || got.Nanosecond() != 0 {
		t.Errorf("got %v, %v; want the whole second 26 to 27 s ago", got, err)
	}
	receiver := func(r protocol.ReceiverState) func(*protocol.State) {
		return func(s *protocol.State) { s.Receivers = map[string]protocol.ReceiverState{"rx0": r} }
	}
	for name, unknown := range map[string]string{
		"an old state":    from(4*time.Minute, nil),
		"a future state":  from(-time.Hour, nil),
		"no time":         from(0, func(s *protocol.State) { s.Time = "" }),
		"no receivers":    from(0, func(s *protocol.State) { s.Receivers = nil }),
		"not connected":   from(0, receiver(protocol.ReceiverState{HistoryS: 27})),
		"nothing yet":     from(0, receiver(protocol.ReceiverState{Connected: true})),
		"before all time": from(0, receiver(protocol.ReceiverState{Connected: true, HistoryS: 1e300})),
	} {
		if unknown != "" {
			t.Errorf("%s: got %s, want none", name, unknown)
		}
	}
	if err := db.SaveStatus(t.Context(), "aosta", false, at); err != nil {
		t.Fatal(err)
	}
	if got := from(0, nil); got != "" {
		t.Errorf("offline: got %s, want none", got)
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
			Steps: steps, Version: "1",
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
	testHistoryFrom(t, db, info, state)
	// A station may take back what it said. Once it is offline, too, it left.
	err = errors.Join(db.SaveInfo(t.Context(), "genova", nil, later.Add(time.Second)), db.SaveState(t.Context(), "genova", nil, later.Add(time.Second)))
	if err != nil {
		t.Fatal(err)
	}
	if one, err := db.Station(t.Context(), "genova"); err != nil || one.Name != "" || one.State != "" || len(one.Receivers) != 0 || one.Number != 2 {
		t.Error(one, err)
	}
	if err := db.SaveStatus(t.Context(), "genova", false, later.Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if one, err := db.Station(t.Context(), "genova"); err != nil || one.State != protocol.StateLeft || !strings.HasPrefix(one.Reason, "left on 2026-11-24; ") {
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

// testMissStations: who was heard to be online before a time is missed, once; who was heard at it or later, or was offline, is not.
func testMissStations(t *testing.T, s *server) {
	db := s.open(t)
	since := t0.Add(time.Hour)
	err := errors.Join(
		db.SaveStatus(t.Context(), "gone", true, t0), db.SaveStatus(t.Context(), "there", true, t0), db.SaveStatus(t.Context(), "there", true, since),
		db.SaveStatus(t.Context(), "off", false, t0),
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range [][]string{{"gone"}, nil} {
		got, err := db.MissStations(t.Context(), since)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("missed %v, %v, want %v", got, err, want)
		}
	}
	for id, want := range map[string]string{"gone": "offline", "there": "online", "off": "offline"} {
		if station, err := db.Station(t.Context(), id); err != nil || station.Status != want {
			t.Errorf("%s: %+v, %v, want %s", id, station, err, want)
		}
	}
}
