package store_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/protocol"
)

// testSuspensions suspends stations as collectors of one group do, and ends one as an operator does.
func testSuspensions(t *testing.T, s *server) {
	db := s.open(t)
	now := time.Now().UTC().Truncate(time.Microsecond)
	suspend := func(station string, since time.Time, length time.Duration, times int) {
		t.Helper()
		err := db.Suspend(t.Context(), protocol.Suspension{Station: station, Since: since, Until: since.Add(length), Times: times, Reason: "because\x00 '; --"})
		if err != nil {
			t.Fatal(err)
		}
	}
	suspend("forgotten", now.Add(-48*time.Hour), time.Hour, 1)
	suspend("torino", now, time.Hour, 3)
	suspend("torino", now, time.Minute, 1) // by a collector that knows less
	suspend("genova", now.Add(-2*time.Hour), time.Hour, 2)

	list, err := db.Suspensions(t.Context())
	if err != nil || len(list) != 2 || list[0].Station != "genova" || list[0].Times != 2 {
		t.Fatalf("suspensions %+v, %v", list, err)
	}
	if got := list[1]; got.Times != 3 || !got.Since.Equal(now) || !got.Until.Equal(now.Add(time.Hour)) || got.Reason != "because� '; --" {
		t.Errorf("the shorter one took the place of the longer one: %+v", got)
	}
	station := func(id string) *protocol.Station {
		t.Helper()
		st, err := db.Station(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	if err := db.SaveState(t.Context(), "torino", &protocol.State{State: "running", Since: protocol.FormatTime(now.Add(-time.Hour))}, now); err != nil {
		t.Fatal(err)
	}
	if st := station("torino"); st.State != "suspended" || !strings.HasPrefix(st.Reason, "nothing is read until ") || st.Since != protocol.FormatTime(now) || st.Clock == nil {
		t.Errorf("a suspended station: %+v", st)
	}
	if st := station("genova"); st.State != "" || st.Reason != "" {
		t.Errorf("one that was suspended: %+v", st)
	}

	ended, err := db.Resume(t.Context(), "torino", "operator")
	if err != nil || ended == nil || ended.Times != 3 {
		t.Fatalf("resume: %+v, %v", ended, err)
	}
	if st := station("torino"); st.State != "running" || st.Reason != "" {
		t.Errorf("a resumed station: %+v", st)
	}
	if list, err := db.Suspensions(t.Context()); err != nil || len(list) != 2 || list[1].Times != 0 || list[1].Until.After(time.Now()) {
		t.Errorf("collectors see %+v, %v", list, err)
	}
	for _, id := range []string{"torino", "genova"} {
		if ended, err := db.Resume(t.Context(), id, "operator"); err != nil || ended != nil {
			t.Errorf("resume %s, which is not suspended: %+v, %v", id, ended, err)
		}
	}
	if _, err := db.Resume(t.Context(), "nobody", "operator"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("resume of an unknown station: %v", err)
	}
	entries, _, err := db.AuditEntries(t.Context(), protocol.AuditFilter{Action: "station-resume"})
	if err != nil || len(entries) != 1 || entries[0].Subject != "torino" || entries[0].Actor != "operator" {
		t.Errorf("audit %+v, %v", entries, err)
	}
	if err := db.Suspend(t.Context(), protocol.Suspension{Station: "../x"}); err == nil {
		t.Error("a station that none can be is suspended")
	}
}
