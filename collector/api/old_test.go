package api_test

import (
	"context"
	"encoding/json"
	"io/fs"
	"math"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fulgidus/heimdall/collector/api"
	"github.com/fulgidus/heimdall/protocol"
)

// status asks for the status of an acquisition in the former service's words.
func status(t *testing.T, w *world) api.OldStatus {
	t.Helper()
	answer := get(t, w.handler(t), "GET", "/api/v1/acquisition/status/"+acquisitionID)
	if answer.Code != http.StatusOK {
		t.Fatalf("status %d: %s", answer.Code, answer.Body)
	}
	var s api.OldStatus
	if err := json.Unmarshal(answer.Body.Bytes(), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOldStatus_SaysStatesInItsWords(t *testing.T) {
	part := func(state protocol.StationState, message string) protocol.AcquisitionStation {
		return protocol.AcquisitionStation{Station: "torino", State: state, Message: message}
	}
	for _, c := range []struct {
		state   protocol.AcquisitionState
		parts   []protocol.AcquisitionStation
		want    string
		done    int
		errors  []string
		results bool
	}{
		{protocol.AcquisitionQueued, []protocol.AcquisitionStation{part(protocol.StationQueued, "")}, "PENDING", 0, nil, false},
		{protocol.AcquisitionRunning, []protocol.AcquisitionStation{part(protocol.StationUploading, ""), part(protocol.StationDone, "")}, "PROGRESS", 1, nil, false},
		{
			protocol.AcquisitionRunning,
			[]protocol.AcquisitionStation{part(protocol.StationSent, ""), part(protocol.StationRefused, "busy")},
			"PROGRESS", 0,
			[]string{"WebSDR 1 (torino): busy"},
			false,
		},
		{protocol.AcquisitionDone, []protocol.AcquisitionStation{part(protocol.StationDone, "")}, "SUCCESS", 1, []string{}, true},
		{protocol.AcquisitionFailed, []protocol.AcquisitionStation{part(protocol.StationExpired, "")}, "FAILURE", 0, []string{"WebSDR 1 (torino): expired"}, false},
		{protocol.AcquisitionCancelled, []protocol.AcquisitionStation{part(protocol.StationCancelled, "")}, "REVOKED", 0, []string{"WebSDR 1 (torino): cancelled"}, false},
	} {
		w := newWorld()
		w.commander.one = func(context.Context, string) (*protocol.Acquisition, error) {
			return &protocol.Acquisition{ID: acquisitionID, State: c.state, Progress: 42, Stations: c.parts}, nil
		}
		got := status(t, w)
		if got.Status != c.want || got.MeasurementsCollected != c.done || got.Progress != 42 || got.TaskID != acquisitionID || got.Message == "" ||
			(got.Result != nil) != c.results {
			t.Errorf("%s: %+v, want %s with %d", c.state, got, c.want, c.done)
		}
		if diff := cmp.Diff(c.errors, got.Errors); diff != "" {
			t.Errorf("%s: errors (-want +got):\n%s", c.state, diff)
		}
	}
}

func TestOldStatus_GivesDBmOnlyWhenCalibrated(t *testing.T) {
	w := newWorld()
	w.recordings.one = func(context.Context, string) (*protocol.Recording, error) { return nil, fs.ErrNotExist } // removed by retention
	w.commander.one = func(context.Context, string) (*protocol.Acquisition, error) {
		return &protocol.Acquisition{
			ID: acquisitionID, State: protocol.AcquisitionDone, StartTime: "2026-11-24T12:00:00.000000000Z",
			Request: protocol.AcquisitionRequest{FrequencyHz: 145.5e6, DurationS: 2.5},
			Stations: []protocol.AcquisitionStation{{Station: "torino", State: protocol.StationDone, Recording: "gone", Measurement: json.RawMessage(
				`{"time":"2026-11-24T12:00:00.000000007Z","sample_rate_hz":10000,"samples":25000,"peak_hz":145500250,"snr_db":20,"power_dbm":-70,"noise_floor_dbm_hz":-130}`)}},
		}, nil
	}
	result := status(t, w).Result
	if result.EndTime != "2026-11-24T12:00:02.500000000Z" || result.MeasurementsCount != 1 {
		t.Fatalf("result %+v", result)
	}
	got := result.Measurements[0]
	if got.IQDataPath != nil || got.TimestampUTC != "2026-11-24T12:00:00.000000007Z" || *got.SampleRateKHz != 10 || *got.SamplesCount != 25000 {
		t.Errorf("measurement %+v", got)
	}
	// 10 kHz are 40 dB.
	for name, c := range map[string]struct{ got, want float64 }{
		"snr_db": {*got.Metrics.SNRDB, 20}, "psd_dbm": {*got.Metrics.PSDDBM, -110}, "noise_power_dbm": {*got.Metrics.NoisePowerDBM, -90},
		"signal_power_dbm": {*got.Metrics.SignalPowerDBM, -70}, "frequency_offset_hz": {*got.Metrics.FrequencyOffsetHz, 250},
	} {
		if math.Abs(c.got-c.want) > 1e-9 {
			t.Errorf("%s: %v, want %v", name, c.got, c.want)
		}
	}
}

func TestOldReady_TellsWhatIsMissing(t *testing.T) {
	w := newWorld()
	w.config.Ready = func(context.Context) []api.Condition {
		return []api.Condition{{Name: "broker", Ready: true}, {Name: "database", Reason: "does not answer"}}
	}
	answer := get(t, w.handler(t), "GET", "/ready")
	want := `{"ready":false,"service":"backend","dependencies":[{"name":"broker","status":"up"},{"name":"database","status":"down","error_message":"does not answer"}]}`
	if got := strings.TrimSpace(answer.Body.String()); answer.Code != http.StatusServiceUnavailable || got != want {
		t.Errorf("status %d: %s", answer.Code, got)
	}
}

func TestOldService_AsksForATokenLikeTheRest(t *testing.T) {
	w := newWorld()
	w.config.AskTokens = true
	h := w.handler(t)
	for path, want := range map[string]int{
		"/health": 200, "/ready": 200, "/api/v1/acquisition/config": 401, "/api/v1/acquisition/websdrs": 401, "/api/v1/acquisition/websdrs/health": 401,
	} {
		if answer := get(t, h, "GET", path); answer.Code != want {
			t.Errorf("%s: status %d, want %d", path, answer.Code, want)
		}
	}
}

// A station made of the name "2" has the id 2, and another one the number.
func TestOldService_AnswersWithTheStationThatItMadeOrChanged(t *testing.T) {
	w := newWorld()
	w.webSDRs.station = "22"
	w.reader.stations = func(context.Context) ([]protocol.Station, error) {
		return []protocol.Station{{ID: "torino", Number: 22}, {ID: "22", Number: 23}}, nil
	}
	h := w.handler(t)
	const said = `{"name":"22","url":"http://websdr.example.com","latitude":45,"longitude":9}`
	for method, path := range map[string]string{"POST": "websdrs", "PUT": "websdrs/23"} {
		answer := ask(t, h, method, "/api/v1/acquisition/"+path, said)
		var made api.OldWebSDRDetail
		if err := json.Unmarshal(answer.Body.Bytes(), &made); err != nil || made.Number != 23 || made.Station != "22" {
			t.Errorf("%s: status %d, %+v (%v)", method, answer.Code, made, err)
		}
	}
}

func TestOldService_OtherSitesChangeNothing(t *testing.T) {
	h := newWorld().handler(t)
	for method, path := range map[string]string{"POST": "acquire", "PUT": "websdrs/1", "DELETE": "websdrs/1"} {
		answer := ask(t, h, method, "/api/v1/acquisition/"+path, `{"is_active":false}`, "Origin", "https://evil.example")
		if answer.Code != http.StatusForbidden {
			t.Errorf("%s %s: status %d", method, path, answer.Code)
		}
	}
}

func TestOldService_RefusesParametersThatItDoesNotUnderstand(t *testing.T) {
	w := newWorld()
	h := w.handler(t)
	const base = "/api/v1/acquisition/"
	for _, c := range []struct {
		method, target string
		fields         []string // at fault, in order; none: it is answered
	}{
		{"GET", "websdrs-all?include_inactive=YES&_=1764331200", nil},
		{"GET", "websdrs-all?include_inactive=", []string{"include_inactive"}},
		{"GET", "websdrs-all?include_inactive=maybe&page=2", []string{"page", "include_inactive"}},
		{"GET", "websdrs-all?include_inactive=true&include_inactive=false", []string{"include_inactive"}},
		{"GET", "websdrs?limit=5", []string{"limit"}},
		{"GET", "websdrs?a=%zz", []string{"query"}},
		{"GET", "config?x=1", []string{"x"}},
		{"GET", "status/" + acquisitionID + "?x=1", []string{"x"}},
		{"DELETE", "websdrs/1?hard_delete=maybe", []string{"hard_delete"}},
		{"DELETE", "websdrs/1?hard_delete=false&hard_delete=false", []string{"hard_delete"}},
		{"DELETE", "websdrs/1?hard-delete=true", []string{"hard-delete"}},
		{"POST", "acquire?dry_run=true", []string{"dry_run"}},
	} {
		answer := ask(t, h, c.method, base+c.target, `{"frequency_mhz":145.5,"duration_seconds":1}`)
		if c.fields == nil {
			if answer.Code != http.StatusOK {
				t.Errorf("%s: status %d", c.target, answer.Code)
			}
			continue
		}
		p := problem(t, answer)
		var fields []string
		for _, e := range p.Errors {
			fields = append(fields, e.Field)
		}
		if diff := cmp.Diff(c.fields, fields); answer.Code != http.StatusUnprocessableEntity || diff != "" {
			t.Errorf("%s %s: status %d, fields (-want +got):\n%s", c.method, c.target, answer.Code, diff)
		}
	}
	for _, path := range []string{"/health?at=1", "/ready?at=1"} { // for what asks whether it lives, with whatever it adds
		if answer := get(t, h, "GET", path); answer.Code != http.StatusOK {
			t.Errorf("%s: status %d", path, answer.Code)
		}
	}
}

func TestOldService_IsMarkedDeprecated(t *testing.T) {
	answer := get(t, newWorld().handler(t), "GET", "/api/v1/openapi.json")
	var doc struct {
		Paths map[string]map[string]struct {
			Tags       []string
			Deprecated bool
		}
	}
	if err := json.Unmarshal(answer.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	old := 0
	for path, operations := range doc.Paths {
		for method, op := range operations {
			if op.Deprecated != (op.Tags[0] == "old-service") {
				t.Errorf("%s %s: deprecated %v, tags %v", method, path, op.Deprecated, op.Tags)
			}
			if op.Deprecated {
				old++
			}
		}
	}
	if old != 12 { // 3 of the service, 2 of acquisitions, 7 of websdrs
		t.Errorf("%d addresses of the former service, want 12", old)
	}
}

// FuzzOldService sends any path and body below the former service's addresses: a fault is a problem, and none is internal.
func FuzzOldService(f *testing.F) {
	f.Add("POST", "acquire", "", `{"frequency_mhz":145.5,"duration_seconds":10,"websdrs":[1,"torino"],"start_time":"2026-11-24 12:00:00"}`)
	f.Add("POST", "acquire", "", `{"frequency_mhz":"1e309","duration_seconds":-0,"websdrs":[1e400]}`)
	f.Add("POST", "websdrs", "", `{"name":"x","url":"http://[::1]:8073","latitude":90,"longitude":-180,"altitude_asl":1e99}`)
	f.Add("PUT", "websdrs/1", "", `{"name":null,"country":null,"is_active":false}`)
	f.Add("DELETE", "websdrs/1", "hard_delete=TRUE", "")
	f.Add("GET", "websdrs/urn:uuid:6f1c1f0e-8f5a-4d0e-9a55-2b8c5d7e4a31", "", "")
	f.Add("GET", "websdrs-all", "include_inactive=%zz", "")
	f.Add("GET", "status/../../etc/passwd", "", "")
	h := newWorld().handler(f)
	f.Fuzz(func(t *testing.T, method, path, query, body string) {
		r, err := http.NewRequestWithContext(t.Context(), method, "/", strings.NewReader(body))
		if err != nil {
			return // no method
		}
		r.URL = &url.URL{Path: "/api/v1/acquisition/" + path, RawQuery: query}
		answer := serve(h, r)
		if answer.Code >= 500 {
			t.Errorf("%s %q?%q %q: status %d", method, path, query, body, answer.Code)
		}
		if answer.Code >= 400 && method != http.MethodHead {
			problem(t, answer)
		}
	})
}
