package api_test

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fulgidus/heimdall/collector/api"
	"github.com/fulgidus/heimdall/protocol"
)

// twoStations is a guarded world with torino and genova, which takes orders, and an acquisition of both.
func twoStations() *world {
	w := guardedWorld()
	w.reader.stations = func(context.Context) ([]protocol.Station, error) {
		return []protocol.Station{
			{ID: "torino", Number: 1, Status: protocol.Online, Capabilities: []string{"capture"}},
			{ID: "genova", Number: 2, Status: protocol.Online, Capabilities: []string{"capture"}},
			{ID: "cuneo", Number: 3, Status: protocol.Offline, Capabilities: []string{"capture"}},
		}, nil
	}
	both := &protocol.Acquisition{
		ID: acquisitionID, State: protocol.AcquisitionRunning, Requested: protocol.FormatTime(noon),
		Request:  protocol.AcquisitionRequest{FrequencyHz: 145.5e6, DurationS: 5, Stations: []string{"torino", "genova"}},
		Stations: []protocol.AcquisitionStation{{Station: "torino", State: protocol.StationSent}, {Station: "genova", State: protocol.StationSent}},
	}
	w.commander.one = func(context.Context, string) (*protocol.Acquisition, error) { return both, nil }
	w.commander.list = func(_ context.Context, _ int, cursor string) ([]*protocol.Acquisition, string, error) {
		if cursor == "" {
			return []*protocol.Acquisition{{ID: "of nobody here", Stations: []protocol.AcquisitionStation{{Station: "cuneo"}}}}, "more", nil
		}
		return []*protocol.Acquisition{both}, "", nil
	}
	w.commander.create = func(_ context.Context, r protocol.AcquisitionRequest) (*protocol.Acquisition, error) {
		w.created = r
		made := &protocol.Acquisition{ID: acquisitionID, Request: r}
		for _, id := range r.Stations {
			made.Stations = append(made.Stations, protocol.AcquisitionStation{Station: id, State: protocol.StationQueued})
		}
		return made, nil
	}
	return w
}

func TestScope_SeesOnlyItsOwn(t *testing.T) {
	w := twoStations()
	h := w.handler(t)
	for _, path := range []string{
		"/api/v1/stations", "/api/v1/acquisitions", "/api/v1/acquisitions/" + acquisitionID, "/api/v1/acquisition/websdrs", "/api/v1/acquisition/websdrs-all",
		"/api/v1/acquisition/websdrs/health", "/api/v1/acquisition/status/" + acquisitionID,
	} {
		for _, accept := range []string{"application/json", "text/csv", "application/x-ndjson"} {
			answer := get(t, h, "GET", path, "Authorization", "Bearer hdt_limited", "Accept", accept)
			if answer.Code == http.StatusNotAcceptable {
				continue
			}
			body := answer.Body.String()
			if answer.Code != http.StatusOK || strings.Contains(body, "genova") || strings.Contains(body, "cuneo") || strings.Contains(body, "of nobody here") {
				t.Errorf("%s as %s: status %d: %s", path, accept, answer.Code, body)
			}
			if !strings.Contains(body, "torino") && !strings.Contains(path, "health") && !strings.Contains(path, "status") {
				t.Errorf("%s as %s does not show its own: %s", path, accept, body)
			}
		}
	}
}

func TestScope_AsksTheStoreForItsOwn(t *testing.T) {
	for path, want := range map[string]struct {
		status   int
		stations []string
	}{
		"/api/v1/measurements":                       {200, []string{"torino"}},
		"/api/v1/measurements?station=torino":        {200, []string{"torino"}},
		"/api/v1/measurements?station=genova":        {403, nil},
		"/api/v1/measurements?station=torino,genova": {403, nil},
		"/api/v1/recordings":                         {200, []string{"torino"}},
		"/api/v1/recordings?station=genova":          {403, nil},
		"/api/v1/events?station=genova":              {403, nil},
		"/api/v1/stations/genova":                    {404, nil},
		"/api/v1/stations/torino":                    {200, nil},
		"/api/v1/acquisition/websdrs/2":              {404, nil},
		"/metrics":                                   {403, nil},
		"/api/v1/tokens":                             {403, nil},
	} {
		w := twoStations()
		answer := get(t, w.handler(t), "GET", path, "Authorization", "Bearer hdt_limited")
		if answer.Code != want.status {
			t.Errorf("%s: status %d, want %d: %s", path, answer.Code, want.status, answer.Body)
		}
		if diff := cmp.Diff(want.stations, w.asked.Stations); diff != "" {
			t.Errorf("%s asks the store for (-want +got):\n%s", path, diff)
		}
	}
}

func TestScope_OrdersOnlyItsOwn(t *testing.T) {
	const order = `{"frequency_hz":145500000,"duration_s":5`
	for _, c := range []struct {
		method, path, body string
		status             int
		stations           []string
	}{
		{"POST", "/api/v1/acquisitions", order + `}`, 202, []string{"torino"}},
		{"POST", "/api/v1/acquisitions", order + `,"stations":["torino"]}`, 202, []string{"torino"}},
		{"POST", "/api/v1/acquisitions", order + `,"stations":["torino","genova"]}`, 403, nil},
		{"POST", "/api/v1/detections/" + detectionID + "/capture", "", 202, []string{"torino"}},
		{"POST", "/api/v1/detections/" + detectionID + "/capture", `{"stations":["genova"]}`, 403, nil},
		{"POST", "/api/v1/acquisition/acquire", `{"frequency_mhz":145.5,"duration_seconds":5}`, 200, []string{"torino"}},
		{"POST", "/api/v1/acquisition/acquire", `{"frequency_mhz":145.5,"duration_seconds":5,"websdrs":[2]}`, 422, nil},
		{"DELETE", "/api/v1/acquisitions/" + acquisitionID, "", 403, nil}, // genova's part is not its to cancel
	} {
		w := twoStations()
		answer := ask(t, w.handler(t), c.method, c.path, c.body, "Authorization", "Bearer hdt_limited")
		if answer.Code != c.status {
			t.Errorf("%s %s %s: status %d, want %d: %s", c.method, c.path, c.body, answer.Code, c.status, answer.Body)
		}
		if diff := cmp.Diff(c.stations, w.created.Stations); diff != "" {
			t.Errorf("%s %s %s orders (-want +got):\n%s", c.method, c.path, c.body, diff)
		}
		if strings.Contains(answer.Body.String(), `"genova","state"`) {
			t.Errorf("%s: %s", c.path, answer.Body)
		}
	}
	w := twoStations()
	w.reader.stations = func(context.Context) ([]protocol.Station, error) { return nil, nil }
	if answer := ask(t, w.handler(t), "POST", "/api/v1/acquisitions", order+`}`, "Authorization", "Bearer hdt_limited"); answer.Code != 422 {
		t.Errorf("without a station that takes orders: status %d, %v", answer.Code, w.created)
	}
}

// heard is one event of a stream.
type heard struct{ Name, Data string }

// follow reads a stream as somebody until it has an event that is the last.
func follow(t *testing.T, address, secret string, last func(heard) bool) []heard {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address+"/api/v1/events?last_event_id="+protocol.FormatTime(noon), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+secret)
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var all []heard
	lines := &listener{lines: bufio.NewScanner(answer.Body)}
	for {
		name, data := lines.next()
		all = append(all, heard{name, data})
		if name == "" {
			t.Fatalf("the stream ended after %v", all)
		}
		if last(all[len(all)-1]) {
			return all
		}
	}
}

func TestScope_StreamsTellOnlyOfItsOwn(t *testing.T) {
	w := twoStations()
	hub := w.config.Events
	server := httptest.NewServer(w.handler(t))
	defer server.Close()
	told := 0
	got := follow(t, server.URL, "hdt_limited", func(e heard) bool {
		if e.Name == api.EventAcquisition && told == 0 { // it attends: what was before has been told
			told++
			for _, station := range []string{"genova", "torino"} {
				a := &protocol.Acquisition{ID: "late", Stations: []protocol.AcquisitionStation{{Station: station}}}
				record := recordOf(protocol.KindMeasurement)
				record.Station = &station
				if err := hub.Acquisition(a); err != nil {
					t.Error(err)
				}
				if err := hub.Record(protocol.StoredRecord{Record: record, Received: noon}); err != nil {
					t.Error(err)
				}
				if err := hub.Station(&protocol.Station{ID: station, Name: "after"}); err != nil {
					t.Error(err)
				}
			}
		}
		return strings.Contains(e.Data, `"after"`)
	})
	names := map[string]int{}
	for _, e := range got {
		names[e.Name]++
		if strings.Contains(e.Data, "genova") || strings.Contains(e.Data, "cuneo") {
			t.Errorf("%s tells of others: %s", e.Name, e.Data)
		}
	}
	if names[api.EventRecord] != 1 || names[api.EventStation] != 2 || names[api.EventAcquisition] != 2 {
		t.Errorf("%v", names)
	}
}

// TestTokens_RevokedEndsWhatIsOpen revokes a token while a stream is open.
func TestTokens_RevokedEndsWhatIsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := guardedWorld()
		w.config.Now = time.Now
		h := w.handler(t)
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/v1/events", http.NoBody)
		r.Header.Set("Authorization", "Bearer hdt_viewer")
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			h.ServeHTTP(httptest.NewRecorder(), r)
		}()
		time.Sleep(time.Hour) // of the bubble's clock
		select {
		case <-ended:
			t.Fatal("it ended while the token was right")
		default:
		}
		w.tokens.fail(errors.New("away")) // tells nothing of the token
		time.Sleep(time.Hour)
		w.tokens.fail(nil)
		if err := w.tokens.RevokeToken(t.Context(), "viewer", "admin"); err != nil {
			t.Fatal(err)
		}
		revoked := time.Now()
		<-ended
		if took := time.Since(revoked); took > 10*time.Second {
			t.Errorf("it ended after %v", took)
		}
	})
}
