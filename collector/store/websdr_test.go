package store_test

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/protocol"
)

// createWebSDR makes a station of a name and gives its id.
func createWebSDR(t *testing.T, db *store.DB, name string) string {
	t.Helper()
	id, err := db.CreateWebSDR(t.Context(), protocol.WebSDRFields{Name: &name}, t0)
	if err != nil {
		t.Fatalf("create %q: %v", name, err)
	}
	return id
}

// faultOf is the field that an error of the request is about.
func faultOf(err error) string {
	if faults, ok := errors.AsType[protocol.FieldErrors](err); ok && len(faults) == 1 {
		return faults[0].Field
	}
	return ""
}

func testWebSDRs(t *testing.T, s *server) {
	db := s.open(t)
	commit(t, db, measurement("torino", 1, 1))
	said := protocol.WebSDRFields{
		Name: new("IW2MXM Milano – “Duomo” \\u0041"), URL: new("http://websdr.iw2mxm.it:8073"), LatitudeDeg: new(45.464), LongitudeDeg: new(-9.188),
		LocationDescription: new(""), Country: new("Italia"), AdminEmail: new("admin@iw2mxm.it"), AltitudeM: new(-3), TimeoutS: new(30), RetryCount: new(0),
		Active: new(true),
	}
	id, err := db.CreateWebSDR(t.Context(), said, t0)
	if err != nil || id != "iw2mxm-milano-duomo-u0041" {
		t.Fatalf("%q, %v", id, err)
	}
	kept := []protocol.WebSDR{{Station: id, Created: t0.Truncate(time.Microsecond), Updated: t0.Truncate(time.Microsecond), WebSDRFields: said}}
	if list, err := db.WebSDRs(t.Context()); err != nil || cmp.Diff(kept, list) != "" {
		t.Errorf("%v; (-want +got):\n%s", err, cmp.Diff(kept, list))
	}
	station, err := db.Station(t.Context(), id)
	if err != nil || station.Number != 2 || station.Name != *said.Name || station.Status != protocol.Offline || station.LastSeen != "" {
		t.Errorf("station %+v, %v", station, err)
	}

	// What a client says of a station with an agent stands beside what the agent says.
	later := t0.Add(time.Hour)
	if err := db.UpdateWebSDR(t.Context(), "torino", later, func(w *protocol.WebSDRFields) { w.Name, w.Active = new("Torino"), new(false) }); err != nil {
		t.Fatal(err)
	}
	if err := db.UpdateWebSDR(t.Context(), "torino", later.Add(time.Hour), func(w *protocol.WebSDRFields) { w.Country = new("Italia") }); err != nil {
		t.Fatal(err)
	}
	list, err := db.WebSDRs(t.Context())
	want := protocol.WebSDR{
		Station: "torino", Created: later.Truncate(time.Microsecond), Updated: later.Add(time.Hour).Truncate(time.Microsecond),
		WebSDRFields: protocol.WebSDRFields{Name: new("Torino"), Country: new("Italia"), Active: new(false)},
	}
	if err != nil || len(list) != 2 || cmp.Diff(want, list[1]) != "" {
		t.Errorf("%v; (-want +got):\n%s", err, cmp.Diff(want, list[1]))
	}
	if err := db.UpdateWebSDR(t.Context(), "nobody", later, func(*protocol.WebSDRFields) {}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("change of nobody: %v", err)
	}
	testWebSDRNames(t, db)
	testWebSDRGetsAnAgent(t, db, id)
	testRemoveWebSDR(t, db)
}

// testWebSDRNames: there are a station named Torino and iw2mxm-milano-duomo-u0041.
func testWebSDRNames(t *testing.T, db *store.DB) {
	for _, taken := range []string{"Torino", "torino!", "iw2mxm MILANO duomo u0041"} {
		if id, err := db.CreateWebSDR(t.Context(), protocol.WebSDRFields{Name: &taken}, t0); faultOf(err) != "name" {
			t.Errorf("create %q: %q, %v; want a fault of the name", taken, id, err)
		}
	}
	rename := func(station, name string) error {
		return db.UpdateWebSDR(t.Context(), station, t0, func(w *protocol.WebSDRFields) { w.Name = &name })
	}
	if err := rename("iw2mxm-milano-duomo-u0041", "Torino"); faultOf(err) != "name" {
		t.Errorf("rename to a name that is taken: %v", err)
	}
	if err := rename("torino", "Torino"); err != nil {
		t.Errorf("rename to the own name: %v", err)
	}
	if _, err := db.CreateWebSDR(t.Context(), protocol.WebSDRFields{Name: new("a\x00b")}, t0); err == nil {
		t.Error("a NUL is stored")
	}
	for name, want := range map[string]string{
		"Passo dei Giovi":         "passo-dei-giovi",
		"  (K1) ":                 "k1",
		"北京":                      "websdr-4",
		"All":                     "websdr-5", // reserved
		"x":                       "websdr-6", // too short
		strings.Repeat("ab ", 40): "ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab",
	} {
		// The number in an id is the station's, and maps have no order.
		if id := createWebSDR(t, db, name); id != want && (!strings.HasPrefix(want, "websdr-") || !strings.HasPrefix(id, "websdr-")) {
			t.Errorf("%q became %q, want %q", name, id, want)
		}
	}
}

// testWebSDRGetsAnAgent: an agent of the id takes the station over, with its number.
func testWebSDRGetsAnAgent(t *testing.T, db *store.DB, id string) {
	if err := db.SaveInfo(t.Context(), id, &protocol.Info{Station: id, Name: "Milano"}, received); err != nil {
		t.Fatal(err)
	}
	station, err := db.Station(t.Context(), id)
	if err != nil || station.Number != 2 || station.Name != "Milano" || station.LastSeen == "" {
		t.Errorf("station %+v, %v", station, err)
	}
	if err := db.UpdateWebSDR(t.Context(), id, t0, func(w *protocol.WebSDRFields) { w.Name = new("Other") }); err != nil {
		t.Fatal(err)
	}
	if station, err = db.Station(t.Context(), id); err != nil || station.Name != "Milano" {
		t.Errorf("the agent's name became %q, %v", station.Name, err)
	}
}

func testRemoveWebSDR(t *testing.T, db *store.DB) {
	for _, used := range []string{"torino", "iw2mxm-milano-duomo-u0041"} { // has records; has an agent
		if err := db.RemoveWebSDR(t.Context(), used); faultOf(err) != "hard_delete" {
			t.Errorf("remove %s: %v, want it refused", used, err)
		}
	}
	if err := db.RemoveWebSDR(t.Context(), "nobody"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("remove nobody: %v", err)
	}
	before, err := db.Station(t.Context(), "k1")
	if err != nil {
		t.Fatal(err)
	}
	all, err := db.Stations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := db.RemoveWebSDR(t.Context(), "k1"); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Station(t.Context(), "k1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("removed station: %v", err)
	}
	createWebSDR(t, db, "K1")
	after, err := db.Station(t.Context(), "k1")
	if err != nil || after.Number != all[len(all)-1].Number+1 {
		t.Errorf("number %d after %d, %v; want the next that nobody had", after.Number, before.Number, err)
	}
}
