package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fulgidus/heimdall/protocol"
)

// form is what a member of an answer must be: the name of a form, or else the value itself.
type form string

const (
	aText   form = "text"
	aNumber form = "a number"
	aTime   form = "a time"
	aUUID   form = "a UUID"
	aList   form = "a list"
	anURL   form = "an address"
	isNull  form = "null"
)

// fits tells whether a value of JSON has a form.
func (f form) fits(v any) bool {
	text, isText := v.(string)
	switch f {
	case aText:
		return isText && text != ""
	case aNumber:
		_, ok := v.(float64)
		return ok
	case aTime:
		_, err := time.Parse(time.RFC3339Nano, text)
		return err == nil
	case aUUID:
		_, err := uuid.Parse(text)
		return err == nil
	case aList:
		_, ok := v.([]any)
		return ok
	case anURL:
		return strings.HasPrefix(text, "http://")
	case isNull:
		return v == nil
	}
	return false
}

// shape is the members that an answer must have, and of what form or value.
type shape map[string]any

// faults are the members that are absent or different.
func (s shape) faults(got any) []string {
	members, ok := got.(map[string]any)
	if !ok {
		return []string{fmt.Sprintf("%v is no object", got)}
	}
	var faults []string
	for name, want := range s {
		value, there := members[name]
		f, isForm := want.(form)
		inner, isShape := want.(shape)
		switch {
		case !there:
			faults = append(faults, name+" is missing")
		case isForm && !f.fits(value):
			faults = append(faults, fmt.Sprintf("%s is %v, want %s", name, value, f))
		case isShape:
			faults = append(faults, inner.faults(value)...)
		case !isForm && !isShape && fmt.Sprint(value) != fmt.Sprint(want):
			faults = append(faults, fmt.Sprintf("%s is %v, want %v", name, value, want))
		}
	}
	slices.Sort(faults)
	return faults
}

// ask sends a request as a client of the former service does, and reads the JSON of its answer.
func (w *whole) ask(t *testing.T, method, path, body string) (int, any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, w.remote.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if len(text) == 0 {
		return resp.StatusCode, nil
	}
	var answer any
	if err := json.Unmarshal(text, &answer); err != nil {
		t.Fatalf("%s %s: status %d: %s: %v", method, path, resp.StatusCode, text, err)
	}
	return resp.StatusCode, answer
}

// expect asks and checks the code and the members of the answer; a list's items each have the shape.
func (w *whole) expect(t *testing.T, method, path, body string, code int, want shape) any {
	t.Helper()
	got, answer := w.ask(t, method, path, body)
	if got != code {
		t.Errorf("%s %s %s: status %d, want %d: %v", method, path, body, got, code, answer)
		return answer
	}
	items, isList := answer.([]any)
	if !isList {
		items = []any{answer}
	}
	for _, item := range items {
		if want == nil {
			continue
		}
		for _, fault := range want.faults(item) {
			t.Errorf("%s %s %s: %s", method, path, body, fault)
		}
	}
	return answer
}

// The forms of the former service.
func taskShape(count int) shape {
	return shape{"task_id": aUUID, "status": "PENDING", "message": aText, "frequency_mhz": 145.5, "websdrs_count": count}
}

func listedShape() shape {
	return shape{
		"id": aNumber, "uuid": aUUID, "name": aText, "url": anURL, "location_name": aText, "is_active": true, "timeout_seconds": aNumber, "retry_count": aNumber,
	}
}

func detailShape() shape {
	return shape{"id": aUUID, "name": aText, "url": anURL, "is_active": true, "timeout_seconds": aNumber, "retry_count": aNumber}
}

// oldStations is a collector with two stations that do what they are told, numbers 1 and 2.
func oldStations(t *testing.T) (w *whole, torino *player) {
	w = startCollector(t, testConfig(t)).ready(t)
	for number, id := range []string{"torino", "genova"} {
		p := playStation(t, w.BrokerURL(), id)
		if number == 0 {
			torino = p
		}
		eventually(t, id+" takes orders", func() bool {
			station, err := w.store.Station(t.Context(), id)
			return err == nil && len(station.Capabilities) == 1 && station.Status == protocol.Online && station.Number == number+1
		})
	}
	return w, torino
}

// TestOldService_Contract is every address of the former service with its codes and forms.
func TestOldService_Contract(t *testing.T) {
	w, _ := oldStations(t)
	created := w.expect(t, "POST", "/api/v1/acquisition/websdrs", `{"name":"Passo dei Giovi","url":"http://iz1mlt.ddns.net:8074/","latitude":44.561,
		"longitude":8.956,"location_description":"Passo dei Giovi, Italy","country":"Italy","admin_email":"a@example.com","altitude_asl":480,"timeout_seconds":45,
		"retry_count":2,"is_active":true}`, http.StatusCreated, shape{
		"id": aUUID, "name": "Passo dei Giovi", "url": "http://iz1mlt.ddns.net:8074/", "latitude": 44.561, "longitude": 8.956, "country": "Italy",
		"location_description": "Passo dei Giovi, Italy", "admin_email": "a@example.com", "altitude_asl": 480, "timeout_seconds": 45, "retry_count": 2,
		"is_active": true, "created_at": aTime, "updated_at": aTime, "number": 3, "station": "passo-dei-giovi", "status": "offline",
	})
	id := created.(map[string]any)["id"].(string)
	const base = "/api/v1/acquisition/"
	config := shape{"service": "backend", "version": "test", "capabilities": aList, "websdrs_count": 3, "max_duration_seconds": 300, "default_sample_rate_khz": 12.5}
	for _, c := range []struct {
		method, path, body string
		code               int
		want               shape
	}{
		{"GET", "/", "", 200, shape{"service": "backend", "status": "running", "timestamp": aTime}},
		{"GET", "/health", "", 200, shape{"status": "healthy", "service": "backend", "version": "test", "timestamp": aTime}},
		{"GET", "/ready", "", 200, shape{"ready": true, "service": "backend", "dependencies": aList}},
		{"GET", base + "config", "", 200, config},
		{"GET", base + "websdrs", "", 200, listedShape()},
		{"GET", base + "websdrs-all", "", 200, detailShape()},
		{"GET", base + "websdrs-all?include_inactive=true&_=17", "", 200, detailShape()},
		{"GET", base + "websdrs/health", "", 200, shape{id: shape{
			"websdr_id": id, "name": "Passo dei Giovi", "status": "offline", "last_check": aTime, "avg_snr": isNull, "error_message": aText,
		}}},
		{"GET", base + "websdrs/1", "", 200, detailShape()},
		{"GET", base + "websdrs/torino", "", 200, shape{"number": 1, "name": "torino", "status": "online", "latitude": isNull, "longitude": isNull}},
		{"GET", base + "websdrs/" + strings.ToUpper(id), "", 200, shape{"number": 3}},
		{"GET", base + "websdrs/99", "", 404, shape{"status": 404, "detail": aText, "errors": aList}},
		{"GET", base + "websdrs/" + uuid.NewString(), "", 404, nil},
		{"PUT", base + "websdrs/99", `{"is_active":true}`, 404, nil},
		{"DELETE", base + "websdrs/99", "", 404, nil},
		{"GET", base + "status/" + uuid.NewString(), "", 404, nil},
		{"POST", base + "acquire", `{"frequency_mhz":145.5,"duration_seconds":0.25}`, 200, taskShape(3)},
		{"POST", base + "acquire", `{"frequency_mhz":"145.5","duration_seconds":299.9,"websdrs":[1,2,2],"other":1}`, 200, taskShape(2)},
		{"POST", base + "acquire", `{"frequency_mhz":145.5,"duration_seconds":1,"websdrs":[],"start_time":null}`, 200, taskShape(3)},
		{"PUT", base + "websdrs/3", `{}`, 400, nil},
		{"PUT", base + "websdrs/3", `{"name":"torino"}`, 400, nil}, // taken
		{"POST", base + "websdrs", `{"name":"Passo dei Giovi","url":"http://a.example","latitude":1,"longitude":1}`, 400, nil},
	} {
		w.expect(t, c.method, c.path, c.body, c.code, c.want)
	}
	if code, page := w.get(t, "/"); code != http.StatusOK || !strings.HasPrefix(page, "{") {
		t.Errorf("GET / without a wish: %d: %.40s", code, page)
	}
	req, err := http.NewRequestWithContext(t.Context(), "GET", w.remote.URL+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := resp.Header.Get("Content-Type"); !strings.HasPrefix(got, "text/html") {
		t.Errorf("a browser gets %s", got)
	}
}

// TestOldService_RefusesBadValues: whatever cannot be is a 422 that names the field.
func TestOldService_RefusesBadValues(t *testing.T) {
	w, _ := oldStations(t)
	acquire := func(members string) (string, string, string) {
		return "POST", "/api/v1/acquisition/acquire", `{"frequency_mhz":145.5,"duration_seconds":1,` + members + `}`
	}
	create := func(member, value string) (string, string, string) {
		body := map[string]json.RawMessage{"name": []byte(`"Other"`), "url": []byte(`"http://a.example"`), "latitude": []byte("1"), "longitude": []byte("1")}
		body[member] = json.RawMessage(value)
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		return "POST", "/api/v1/acquisition/websdrs", string(text)
	}
	check := func(field string) func(method, path, body string) {
		return func(method, path, body string) {
			t.Helper()
			code, answer := w.ask(t, method, path, body)
			if code != http.StatusUnprocessableEntity {
				t.Errorf("%s %s %.100s: status %d, want 422: %v", method, path, body, code, answer)
				return
			}
			for _, fault := range answer.(map[string]any)["errors"].([]any) {
				if fault.(map[string]any)["field"] == field {
					return
				}
			}
			t.Errorf("%s %s %.100s: %v, want a fault of %s", method, path, body, answer, field)
		}
	}
	for field, members := range map[string][]string{
		"frequency_mhz":    {`-50`, `0`, `"x"`, `null`, `[]`, `true`, `1e7`, `1e999`, `"NaN"`, `"Inf"`},
		"duration_seconds": {`-1`, `0`, `300`, `600`, `1e999`, `"soon"`, `null`, `{}`, `true`, `"NaN"`},
		"start_time":       {`"soon"`, `5`, `"0001-01-01T00:00:00Z"`, `"9999-12-31T00:00:00Z"`},
		"websdrs":          {`5`, `"1"`, `{}`},
		"websdrs[0]":       {`[99]`, `[-1]`, `[1.5]`, `["x"]`, `[null]`, `[[1]]`, `[true]`, `[9223372036854775808]`},
	} {
		for _, value := range members {
			body := map[string]json.RawMessage{"frequency_mhz": []byte("145.5"), "duration_seconds": []byte("1")}
			name, _, _ := strings.Cut(field, "[")
			body[name] = json.RawMessage(value)
			text := fmt.Sprintf(`{"frequency_mhz":%s,"duration_seconds":%s`, body["frequency_mhz"], body["duration_seconds"])
			if name == "start_time" || name == "websdrs" {
				text += fmt.Sprintf(`,%q:%s`, name, value)
			}
			check(field)("POST", "/api/v1/acquisition/acquire", text+"}")
		}
	}
	check("frequency_mhz")("POST", "/api/v1/acquisition/acquire", `{"duration_seconds":2.0}`)
	check("duration_seconds")("POST", "/api/v1/acquisition/acquire", `{"frequency_mhz":145.5}`)
	for _, body := range []string{"", "null", "[]", "{", `{"frequency_mhz":NaN,"duration_seconds":1}`, "\xff"} {
		check("body")("POST", "/api/v1/acquisition/acquire", body)
	}
	check("frequency_mhz")(acquire(`"frequency_mhz":145.6`)) // twice
	for field, values := range map[string][]string{
		"name": {`""`, `null`, `5`, `"` + strings.Repeat("é", 101) + `"`, `"a\u0000b"`}, "url": {`"x"`, `"ftp://a.example"`, `""`, `null`, `"http://"`},
		"latitude": {`91`, `-90.01`, `"north"`, `null`, `"NaN"`}, "longitude": {`181`, `-181`, `null`}, "location_description": {`"` + strings.Repeat("x", 256) + `"`, `[]`},
		"country": {`"` + strings.Repeat("x", 101) + `"`}, "admin_email": {`7`}, "altitude_asl": {`1.5`, `1e9`, `"high"`}, "timeout_seconds": {`0`, `301`},
		"retry_count": {`-1`, `11`}, "is_active": {`"perhaps"`, `1`},
	} {
		for _, value := range values {
			check(field)(create(field, value))
			check(field)("PUT", "/api/v1/acquisition/websdrs/1", fmt.Sprintf("{%q:%s}", field, value))
		}
	}
	check("include_inactive")("GET", "/api/v1/acquisition/websdrs-all?include_inactive=perhaps", "")
	check("hard_delete")("DELETE", "/api/v1/acquisition/websdrs/1?hard_delete=perhaps", "")
	check("hard_delete")("DELETE", "/api/v1/acquisition/websdrs/1?hard_delete=true", "") // it has an agent
	if all, err := w.store.Stations(t.Context()); err != nil || len(all) != 2 {
		t.Errorf("%d stations, %v; want the two that were there", len(all), err)
	}
}

// settled waits until a task has ended and gives its status.
func (w *whole) settled(t *testing.T, task any) map[string]any {
	t.Helper()
	var status map[string]any
	eventually(t, "the task has ended", func() bool {
		id := task.(map[string]any)["task_id"].(string)
		status = w.expect(t, "GET", "/api/v1/acquisition/status/"+id, "", 200, shape{
			"task_id": id, "status": aText, "progress": aNumber, "message": aText, "measurements_collected": aNumber,
		}).(map[string]any)
		for _, member := range []string{"errors", "result"} {
			if _, ok := status[member]; !ok {
				t.Fatalf("%s is missing: %v", member, status)
			}
		}
		return status["status"] != "PENDING" && status["status"] != "PROGRESS"
	})
	return status
}

// TestOldService_Acquires follows acquisitions to their ends, as clients of the former service do.
func TestOldService_Acquires(t *testing.T) {
	w, _ := oldStations(t)
	w.expect(t, "POST", "/api/v1/acquisition/websdrs", `{"name":"Later","url":"http://later.example","latitude":45,"longitude":8}`, 201, nil)
	now := time.Now().UTC().Format("2006-01-02T15:04:05.000000") // as Python's isoformat writes it
	task := w.expect(t, "POST", "/api/v1/acquisition/acquire", `{"frequency_mhz":145.5,"duration_seconds":0.2,"start_time":"`+now+`","websdrs":null}`, 200, taskShape(3))
	status := w.settled(t, task)
	result := shape{
		"task_id": aUUID, "status": "SUCCESS", "measurements": aList, "measurements_count": 2, "errors": aList, "start_time": aTime, "end_time": aTime,
		"frequency_mhz": 145.5, "duration_seconds": 0.2,
	}
	for _, fault := range (shape{"status": "SUCCESS", "progress": 100, "measurements_collected": 2, "errors": aList, "result": result}).faults(status) {
		t.Error(fault)
	}
	if errs := fmt.Sprint(status["errors"]); errs != "[WebSDR 3 (later): no agent of this station has ever connected]" {
		t.Errorf("errors %s", errs)
	}
	for i, m := range status["result"].(map[string]any)["measurements"].([]any) {
		want := shape{
			"websdr_id": i + 1, "frequency_mhz": 145.5, "sample_rate_khz": 15.625, "samples_count": 8, "timestamp_utc": aTime, "iq_data_path": aText,
			"metrics": shape{"snr_db": 21.5, "psd_dbm": isNull, "frequency_offset_hz": isNull, "signal_power_dbm": isNull, "noise_power_dbm": isNull},
		}
		for _, fault := range want.faults(m) {
			t.Error(fault)
		}
		if code, samples := w.get(t, m.(map[string]any)["iq_data_path"].(string)); code != 200 || len(samples) != 32 {
			t.Errorf("the samples: status %d, %d bytes", code, len(samples))
		}
	}
	a, err := w.store.Acquisition(t.Context(), task.(map[string]any)["task_id"].(string))
	if err != nil || a.Request.BandwidthHz == nil || *a.Request.BandwidthHz != 10e3 || !a.Request.IQ {
		t.Errorf("acquisition %+v, %v; want 10 kHz, which comes at 12.5 kHz, and IQ", a, err)
	}
	// The time of sending means at once; what lies further back comes from the histories.
	if start, err := time.Parse(time.RFC3339Nano, a.StartTime); err != nil || start.Before(time.Now().Add(-time.Minute)) || a.Request.StartTime != "" {
		t.Errorf("start %s, asked for %q", a.StartTime, a.Request.StartTime)
	}
	past := time.Now().Add(-10 * time.Second).UTC().Truncate(time.Microsecond)
	task = w.expect(t, "POST", "/api/v1/acquisition/acquire", `{"frequency_mhz":145.5,"duration_seconds":0.2,"start_time":"`+past.Format("2006-01-02 15:04:05.000000")+`","websdrs":[2]}`, 200, taskShape(1))
	if a, err = w.store.Acquisition(t.Context(), task.(map[string]any)["task_id"].(string)); err != nil || a.StartTime != protocol.FormatTime(past) {
		t.Errorf("start %s, %v, want %s", a.StartTime, err, protocol.FormatTime(past))
	}

	task = w.expect(t, "POST", "/api/v1/acquisition/acquire", `{"frequency_mhz":145.5,"duration_seconds":1,"websdrs":[3]}`, 200, taskShape(1))
	for _, fault := range (shape{"status": "FAILURE", "progress": 100, "measurements_collected": 0, "errors": aList, "result": isNull}).faults(w.settled(t, task)) {
		t.Error(fault)
	}
}

// TestOldService_KeepsWhatWasPut: stations are written down, changed, hidden and removed, and keep their numbers.
func TestOldService_KeepsWhatWasPut(t *testing.T) {
	w, _ := oldStations(t)
	const base = "/api/v1/acquisition/websdrs"
	created := w.expect(t, "POST", base, `{"name":"Ölberg 1","url":"https://sdr.example/","latitude":-0.5,"longitude":"8"}`, 201, shape{
		"number": 3, "station": "lberg-1", "latitude": -0.5, "longitude": 8, "timeout_seconds": 30, "retry_count": 3, "is_active": true,
	}).(map[string]any)
	for _, absent := range []string{"country", "location_description", "admin_email", "altitude_asl"} {
		if v, ok := created[absent]; ok {
			t.Errorf("%s is %v, and nobody said so", absent, v)
		}
	}
	address := base + "/" + created["id"].(string)
	created["name"], created["country"], created["altitude_asl"] = "Ölberg", "Österreich", 0 // sent back with all else, as the page does
	text, err := json.Marshal(created)
	if err != nil {
		t.Fatal(err)
	}
	changed := shape{"name": "Ölberg", "country": "Österreich", "altitude_asl": 0, "url": "https://sdr.example/", "number": 3, "station": "lberg-1"}
	w.expect(t, "PUT", address, string(text), 200, changed)
	w.expect(t, "GET", address, "", 200, changed)
	changed["country"] = nil
	if got := w.expect(t, "PUT", address, `{"country":null}`, 200, shape{"altitude_asl": 0}).(map[string]any); got["country"] != nil {
		t.Errorf("country %v, want none", got["country"])
	}
	// One of an agent can be put in other words, and hidden; its data stays.
	w.expect(t, "PUT", base+"/1", `{"name":"Torino centro","latitude":45.07,"longitude":7.68}`, 200, shape{"name": "Torino centro", "latitude": 45.07, "station": "torino"})
	if code, _ := w.ask(t, "DELETE", base+"/1", ""); code != http.StatusNoContent {
		t.Errorf("DELETE: status %d", code)
	}
	numbers := func(path string) (list []float64) {
		for _, item := range w.expect(t, "GET", path, "", 200, nil).([]any) {
			m := item.(map[string]any)
			n, ok := m["number"].(float64)
			if !ok {
				n = m["id"].(float64)
			}
			list = append(list, n)
		}
		return list
	}
	for path, want := range map[string][]float64{base: {2, 3}, base + "-all": {2, 3}, base + "-all?include_inactive=1": {1, 2, 3}} {
		if got := numbers(path); !slices.Equal(got, want) {
			t.Errorf("%s lists %v, want %v", path, got, want)
		}
	}
	w.expect(t, "GET", base+"/1", "", 200, shape{"is_active": false, "name": "Torino centro"})
	w.expect(t, "GET", "/api/v1/stations/torino", "", 200, shape{"number": 1, "status": "online", "last_seen": aTime})
	w.expect(t, "POST", "/api/v1/acquisition/acquire", `{"frequency_mhz":145.5,"duration_seconds":0.2}`, 200, taskShape(2))
	w.expect(t, "POST", "/api/v1/acquisition/acquire", `{"frequency_mhz":145.5,"duration_seconds":0.2,"websdrs":[1]}`, 422, nil)
	w.expect(t, "PUT", base+"/1", `{"is_active":true}`, 200, shape{"is_active": true, "number": 1})

	// An agent that comes under the id takes the station over, with its number.
	playStation(t, w.BrokerURL(), "lberg-1")
	eventually(t, "the new agent takes orders", func() bool {
		station, err := w.store.Station(t.Context(), "lberg-1")
		return err == nil && station.Status == protocol.Online && len(station.Capabilities) == 1
	})
	w.expect(t, "GET", address, "", 200, shape{"number": 3, "status": "online", "name": "Ölberg"})
	task := w.expect(t, "POST", "/api/v1/acquisition/acquire", `{"frequency_mhz":145.5,"duration_seconds":0.2,"websdrs":[3]}`, 200, taskShape(1))
	if got := w.settled(t, task); got["status"] != "SUCCESS" {
		t.Errorf("%v", got)
	}

	// What nothing was ever heard of can go; its number is not given again.
	w.expect(t, "POST", base, `{"name":"Gone","url":"http://a.example","latitude":1,"longitude":1}`, 201, shape{"number": 4})
	if code, _ := w.ask(t, "DELETE", base+"/4?hard_delete=true", ""); code != http.StatusNoContent {
		t.Errorf("DELETE hard: status %d", code)
	}
	w.expect(t, "GET", base+"/4", "", 404, nil)
	w.expect(t, "POST", base, `{"name":"Gone","url":"http://a.example","latitude":1,"longitude":1}`, 201, shape{"number": 5})
}

// TestOldService_HearsWhatStationsHear: the health of stations tells what their receivers hear.
func TestOldService_HearsWhatStationsHear(t *testing.T) {
	w, torino := oldStations(t)
	state := `{"time":"2026-11-24T02:00:00Z","state":"running","receivers":{"r0":{"connected":true,"steps":{"2m":{"snr_db":20},"70cm":{"snr_db":11},"quiet":{}}}}}`
	torino.wait(torino.client.Publish(protocol.Topics{Prefix: "heimdall"}.State("torino"), 1, true, state))
	var health map[string]any
	eventually(t, "torino says what it hears", func() bool {
		answer := w.expect(t, "GET", "/api/v1/acquisition/websdrs/health", "", 200, nil).(map[string]any)
		for _, v := range answer {
			if m := v.(map[string]any); m["name"] == "torino" && m["avg_snr"] != nil {
				health = m
			}
		}
		return health != nil
	})
	if snr := health["avg_snr"].(float64); math.Abs(snr-15.5) > 1e-9 || health["status"] != "online" {
		t.Errorf("%v, want online at 15.5 dB", health)
	}
}
