package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fulgidus/heimdall/protocol"
)

func TestRecords_ParametersReachTheStore(t *testing.T) {
	w := newWorld()
	h := w.handler(t)
	for _, c := range []struct {
		query string
		want  protocol.Filter
	}{
		{"", protocol.Filter{Limit: 100}},
		{"station=torino", protocol.Filter{Stations: []string{"torino"}, Limit: 100}},
		{"station=torino,genova&station=giaveno&station=torino", protocol.Filter{Stations: []string{"torino", "genova", "giaveno"}, Limit: 100}},
		{"from=2026-11-24T02:00:00Z&to=2026-11-24T03:00:00.000000001Z", protocol.Filter{
			From: time.Date(2026, 11, 24, 2, 0, 0, 0, time.UTC), To: time.Date(2026, 11, 24, 3, 0, 0, 1, time.UTC), Limit: 100,
		}},
		{"from=2026-11-24T02:00:00%2B02:00", protocol.Filter{From: time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC), Limit: 100}},
		{"from=2026-11-24&to=2026-11-25", protocol.Filter{
			From: time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC), To: time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC), Limit: 100,
		}},
		{"min_hz=145.5M&max_hz=1.2%20GHz", protocol.Filter{MinHz: 145.5e6, MaxHz: 1.2e9, Limit: 100}},
		{"min_hz=77500&max_hz=77.5kHz", protocol.Filter{MinHz: 77500, MaxHz: 77500, Limit: 100}},
		{"min_hz=1.455e8&limit=1000&cursor=abc", protocol.Filter{MinHz: 145.5e6, Limit: 1000, Cursor: "abc"}},
	} {
		answer := get(t, h, "GET", "/api/v1/measurements?"+c.query)
		if answer.Code != http.StatusOK {
			t.Errorf("%s: status %d: %s", c.query, answer.Code, answer.Body)
			continue
		}
		if diff := cmp.Diff(c.want, w.asked); diff != "" {
			t.Errorf("%s: filter (-want +got):\n%s", c.query, diff)
		}
	}
}

func TestRecords_KindsWithoutFrequencyAreNotRestrictedByIt(t *testing.T) {
	w := newWorld()
	h := w.handler(t)
	for path, want := range map[string]struct {
		kind  protocol.Kind
		minHz float64
	}{
		"measurements": {protocol.KindMeasurement, 1e6}, "spectra": {protocol.KindSpectrum, 1e6}, "detections": {protocol.KindDetection, 1e6},
		"health": {protocol.KindHealth, 0}, "gaps": {protocol.KindGap, 0},
	} {
		answer := get(t, h, "GET", "/api/v1/"+path+"?min_hz=1M")
		if answer.Code != http.StatusOK || w.kind != want.kind || w.asked.MinHz != want.minHz {
			t.Errorf("%s: status %d, kind %s, from %v Hz; want kind %s, from %v Hz", path, answer.Code, w.kind, w.asked.MinHz, want.kind, want.minHz)
		}
	}
}

// badQueries are addresses with the parameter that is at fault, and its value as a person would look for it.
func badQueries() [][3]string {
	var bad [][3]string
	add := func(path, field, raw, shown string) {
		bad = append(bad, [3]string{"/api/v1/" + path + "?" + field + "=" + raw, field, shown})
	}
	for _, path := range []string{"measurements", "spectra", "detections", "health", "gaps", "recordings"} {
		for _, v := range []string{"0", "-1", "1001", "1e2", "ten", "1.5", "007", "99999999999999999999"} {
			add(path, "limit", v, v)
		}
		for _, v := range []string{"yesterday", "2026-13-01T00:00:00Z", "2026-11-31", "2026-11-24T02:00", "1699-01-01", "1669248000", "1699-01-01T00:00:00Z", "9999-01-01T00:00:00Z"} {
			add(path, "from", v, v)
			add(path, "to", v, v)
		}
		for _, v := range []string{"-5", "NaN", "Inf", "145.5X", "0x10", "1e400", "1e300G", "M", "145,5M"} {
			add(path, "min_hz", v, v)
			add(path, "max_hz", v, v)
		}
		add(path, "max_hz", "0", "0")
		for _, v := range []string{"Torino", "x", "a_b", "-a", "all", "torino,", "a/b"} {
			shown := v
			if v == "torino," {
				shown = ""
			}
			add(path, "station", v, shown)
		}
		for _, field := range []string{"limit", "from", "to", "min_hz", "max_hz", "station", "cursor"} {
			add(path, field, "", "")
		}
	}
	bad = append(bad, [][3]string{
		{"/api/v1/measurements?limit=1&limit=2", "limit", "1, 2"},
		{"/api/v1/measurements?from=2026-11-24T03:00:00Z&to=2026-11-24T02:00:00Z", "to", "2026-11-24T02:00:00Z"},
		{"/api/v1/measurements?from=2026-11-24T03:00:00Z&to=2026-11-24T03:00:00Z", "to", "2026-11-24T03:00:00Z"},
		{"/api/v1/measurements?min_hz=2M&max_hz=1M", "max_hz", "1M"},
		{"/api/v1/measurements?from=2026-11-24T02:00:00+02:00", "from", "2026-11-24T02:00:00 02:00"},
		{"/api/v1/measurements?statoin=torino", "statoin", "torino"},
		{"/api/v1/measurements?LIMIT=1", "LIMIT", "1"},
		{"/api/v1/measurements?%00=1", "�", "1"},
		{"/api/v1/measurements?cursor=%ff", "cursor", "�"},
		{"/api/v1/measurements?cursor=a%0ab", "cursor", "a�b"},
		{"/api/v1/measurements?limit=%zz", "query", "limit=%zz"},
		{"/api/v1/measurements?limit=1;from=2", "query", "limit=1;from=2"},
		{"/api/v1/measurements?cursor=torn", "cursor", "torn"},
		{"/api/v1/measurements?cursor=" + strings.Repeat("a", 600), "cursor", strings.Repeat("a", 120) + "…"},
		{"/api/v1/measurements?station=" + strings.Join(manyStations(101), ","), "station", "101 stations"},
		{"/api/v1/measurements?limit=5'%20OR%201=1--", "limit", "5' OR 1=1--"},
		{"/api/v1/stations?limit=1", "limit", "1"},
		{"/api/v1/stations/torino?verbose=1", "verbose", "1"},
		{"/api/v1/stations/nowhere", "id", "nowhere"},
		{"/api/v1/stations/NOWHERE", "id", "NOWHERE"},
		{"/api/v1/stations/%00", "id", "�"},
		{"/api/v1/acquisitions?limit=0", "limit", "0"},
		{"/api/v1/acquisitions?station=torino", "station", "torino"},
		{"/api/v1/acquisitions/4711", "id", "4711"},
		{"/api/v1/acquisitions/%ff", "id", "�"},
		{"/api/v1/acquisitions/" + acquisitionID + "?full=1", "full", "1"},
		{"/api/v1/recordings/nothing", "id", "nothing"},
		{"/api/v1/recordings/nothing.sigmf", "id", "nothing"},
		{"/api/v1/recordings/..%2f..%2fetc%2fpasswd.sigmf-data", "id", "../../etc/passwd"},
		{"/api/v1/recordings/capture-1.b.wav", "id", "capture-1.b.wav"},
		{"/api/v1/recordings/capture-1.b.sigmf?range=1", "range", "1"},
		{"/api/v1/events?event=everything", "event", "everything"},
		{"/api/v1/events?kind=iq", "kind", "iq"},
		{"/api/v1/events?kind=site", "kind", "site"},
		{"/api/v1/events?station=A", "station", "A"},
		{"/api/v1/events?types=record", "types", "record"},
		{"/api/v1/openapi.json?format=yaml", "format", "yaml"},
		{"/api/v1/nothing", "path", "/api/v1/nothing"},
		{"/api/v2/stations", "path", "/api/v2/stations"},
		{"/api/v1/measurements/7", "path", "/api/v1/measurements/7"},
	}...)
	return bad
}

func manyStations(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("s%d", i)
	}
	return ids
}

func TestQuery_BadOnesAreProblemsThatNameFieldAndValue(t *testing.T) {
	h := newWorld().handler(t)
	all := badQueries()
	if len(all) < 100 {
		t.Fatalf("%d bad queries, want at least 100", len(all))
	}
	for _, c := range all {
		target, field, value := c[0], c[1], c[2]
		answer := get(t, h, "GET", target)
		if answer.Code < 400 || answer.Code > 499 {
			t.Errorf("%s: status %d, want 4xx", target, answer.Code)
			continue
		}
		p := problem(t, answer)
		found := false
		for _, e := range p.Errors {
			found = found || e.Field == field && e.Value == value && e.Message != ""
		}
		if !found {
			t.Errorf("%s: errors %+v, want one of field %q, value %q", target, p.Errors, field, value)
		}
	}
}

func TestQuery_AllFaultsAtOnce(t *testing.T) {
	answer := get(t, newWorld().handler(t), "GET", "/api/v1/spectra?limit=0&from=x&to=y&min_hz=z&max_hz=-1&station=A,B&colour=red")
	p := problem(t, answer)
	var fields []string
	for _, e := range p.Errors {
		fields = append(fields, e.Field)
	}
	want := []string{"colour", "station", "station", "from", "to", "min_hz", "max_hz", "limit"}
	if diff := cmp.Diff(want, fields); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
}

func FuzzQuery(f *testing.F) {
	for _, c := range badQueries() {
		_, raw, _ := strings.Cut(c[0], "?")
		f.Add(raw)
	}
	f.Add("station=torino&from=2026-11-24T02:00:00Z&min_hz=145.5M&limit=10")
	h := newWorld().handler(f)
	f.Fuzz(func(t *testing.T, raw string) {
		for _, path := range []string{"/api/v1/measurements", "/api/v1/recordings", "/api/v1/acquisitions"} {
			r, err := http.NewRequestWithContext(t.Context(), "GET", path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.URL.RawQuery = raw
			answer := serve(h, r)
			switch {
			case answer.Code == http.StatusOK:
			case answer.Code >= 500:
				t.Errorf("%s?%s: status %d", path, raw, answer.Code)
			default:
				if p := problem(t, answer); len(p.Errors) == 0 {
					t.Errorf("%s?%s: status %d names no field", path, raw, answer.Code)
				}
			}
		}
	})
}
