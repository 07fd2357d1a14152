package store_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/protocol"
)

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
