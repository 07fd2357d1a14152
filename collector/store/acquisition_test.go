package store_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
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
					Measurement: json.RawMessage(`{"snr_db": 12.5}`), Attempt: 2, NextAttempt: "2026-11-24T02:01:01.000001000Z",
					EarliestStart: "2026-11-24T02:02:00.000000000Z",
				},
			},
		}
		if i == 3 {
			a.CancelRequested = "2026-11-24T02:00:59.000000000Z"
		}
		if i%5 == 4 {
			a.State, a.StartTime, a.Stations = protocol.AcquisitionDone, "", []protocol.AcquisitionStation{}
		}
		if err := db.CreateAcquisitions(t.Context(), []*protocol.Acquisition{a}); err != nil {
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
	testAcquisitionCancel(t, db)
}

// testAcquisitionCancel has a settled acquisition be followed until its station has answered.
func testAcquisitionCancel(t *testing.T, db *store.DB) {
	unsettled := func() (n int) {
		list, err := db.UnsettledAcquisitions(t.Context())
		if err != nil {
			t.Error(err)
		}
		return len(list)
	}
	cancelWith := func(id string) {
		err := db.UpdateAcquisitions(t.Context(), []string{"0193-003", "none", "\x00", "0193-003"}, func(a *protocol.Acquisition) bool {
			a.State, a.CancelRequested, a.Stations[0].CancelID = protocol.AcquisitionCancelled, "2026-11-24T02:00:59.000000000Z", id
			return true
		})
		if err != nil {
			t.Error(err)
		}
	}
	before := unsettled()
	cancelWith("stop")
	if got := unsettled(); got != before {
		t.Errorf("%d unsettled, want it among the %d that were", got, before)
	}
	if id, err := db.CancelledBy(t.Context(), "torino", "stop"); err != nil || id != "0193-003" {
		t.Errorf("%q is cancelled, %v", id, err)
	}
	for _, other := range [][2]string{{"genova", "stop"}, {"torino", "c"}, {"torino", ""}, {"torino", "\x00"}} {
		if id, err := db.CancelledBy(t.Context(), other[0], other[1]); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%q: %q, %v", other, id, err)
		}
	}
	cancelWith("")
	if got := unsettled(); got != before-1 {
		t.Errorf("%d unsettled after the answer, want %d", got, before-1)
	}
}

// testUpdatesTogether changes many acquisitions in one transaction, from several collectors at once.
func testUpdatesTogether(t *testing.T, s *server) {
	const n, each, workers = 5, 8, 4
	var ids []string
	for i := range n {
		a := &protocol.Acquisition{ID: fmt.Sprint("a", i), State: protocol.AcquisitionQueued, Requested: "2026-11-24T02:00:00Z"}
		a.Stations = []protocol.AcquisitionStation{{Station: "torino"}, {Station: "genova"}}
		if err := s.open(t).CreateAcquisitions(t.Context(), []*protocol.Acquisition{a}); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, a.ID)
	}
	change := func(a *protocol.Acquisition) bool {
		if a.ID == ids[1] {
			a.Stations[0].Message = "not to be written"
			return false
		}
		a.Progress++
		a.Stations[1].Message += "x"
		return true
	}
	var wg sync.WaitGroup
	for w := range workers {
		db := s.open(t)
		mine := slices.Clone(ids)
		if w%2 == 1 {
			slices.Reverse(mine)
		}
		wg.Go(func() {
			for range each {
				if err := db.UpdateAcquisitions(t.Context(), mine, change); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	db := s.open(t)
	var own *store.Error
	err := db.UpdateAcquisitions(t.Context(), ids, func(a *protocol.Acquisition) bool {
		a.Progress = 99
		if a.ID == ids[4] {
			a.Stations[0].NextAttempt = "soon"
		}
		return true
	})
	if !errors.As(err, &own) || !own.OneRecord() {
		t.Errorf("a time that is none: %v", err)
	}
	for i, id := range ids {
		got, err := db.Acquisition(t.Context(), id)
		want := float64(each * workers)
		if i == 1 {
			want = 0
		}
		if err != nil || got.Progress != want || got.Stations[0].Message != "" || len(got.Stations[1].Message) != int(want) {
			t.Errorf("%+v, %v; want a progress of %g and as many x", got, err, want)
		}
	}
}

func testAcquisitionErrors(t *testing.T, db *store.DB) {
	if _, err := db.Acquisition(t.Context(), "none"); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
	if _, err := db.Acquisition(t.Context(), "no\x00ne"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if err := db.UpdateAcquisitions(t.Context(), []string{"no\x00ne"}, nil); err != nil {
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
			err = db.CreateAcquisitions(t.Context(), []*protocol.Acquisition{&a})
		} else {
			err = db.UpdateAcquisitions(t.Context(), []string{"0193-003"}, func(a *protocol.Acquisition) bool {
				a.StartTime = "soon"
				return true
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
	if err := s.open(t).CreateAcquisitions(t.Context(), []*protocol.Acquisition{a}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for w := range workers {
		db := s.open(t)
		wg.Go(func() {
			for range each {
				err := db.UpdateAcquisitions(t.Context(), []string{"a"}, func(a *protocol.Acquisition) bool {
					a.State, a.Progress = protocol.AcquisitionRunning, a.Progress+1
					a.Stations[w].Message += "x"
					return true
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
