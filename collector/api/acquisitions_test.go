package api_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fulgidus/heimdall/protocol"
)

func TestAcquisitions_BodyReachesTheCommander(t *testing.T) {
	width := 12_500.0
	for body, want := range map[string]protocol.AcquisitionRequest{
		`{"frequency_hz":145500000,"duration_s":5}`: {FrequencyHz: 145.5e6, DurationS: 5},
		`{"frequency_hz":"145.5M","duration_s":"250ms","bandwidth_hz":"12.5 kHz","iq":true,"priority":-2,"label":"à la carte",
			"start_time":"2026-11-24T14:00:00+02:00","stations":["torino","genova"]}`: {
			FrequencyHz: 145.5e6, DurationS: 0.25, BandwidthHz: &width, IQ: true, Priority: -2, Label: "à la carte",
			StartTime: "2026-11-24T12:00:00.000000000Z", Stations: []string{"torino", "genova"},
		},
		` {"frequency_hz":77.5e3,"duration_s":0.001,"bandwidth_hz":null,"stations":null,"start_time":null,"iq":null} `: {FrequencyHz: 77_500, DurationS: 0.001},
	} {
		w := newWorld()
		answer := ask(t, w.handler(t), "POST", "/api/v1/acquisitions", body, "Content-Type", "application/json; charset=UTF-8")
		if answer.Code != http.StatusAccepted || answer.Header().Get("Location") != "/api/v1/acquisitions/"+acquisitionID {
			t.Errorf("%s: status %d, location %q: %s", body, answer.Code, answer.Header().Get("Location"), answer.Body)
		}
		if diff := cmp.Diff(want, w.created); diff != "" {
			t.Errorf("%s: request (-want +got):\n%s", body, diff)
		}
	}
}

func TestAcquisitions_DeleteCancels(t *testing.T) {
	h := newWorld().handler(t)
	for range 2 { // it may be repeated
		answer := ask(t, h, "DELETE", "/api/v1/acquisitions/"+acquisitionID, "")
		var a protocol.Acquisition
		if err := json.Unmarshal(answer.Body.Bytes(), &a); err != nil || answer.Code != http.StatusOK {
			t.Fatalf("status %d, %v: %s", answer.Code, err, answer.Body)
		}
		if a.ID != acquisitionID || a.State != protocol.AcquisitionCancelled || a.CancelRequested != protocol.FormatTime(noon) || a.Stations == nil {
			t.Errorf("got %s", answer.Body)
		}
	}
}

// badBodies are bodies with the field at fault.
func badBodies() [][2]string {
	valid := func(member string) string { return `{"frequency_hz":1e6,"duration_s":1,` + member + `}` }
	return [][2]string{
		{"", "body"},
		{"null", "body"},
		{"[]", "body"},
		{`"text"`, "body"},
		{"{", "body"},
		{"{} {}", "body"},
		{"{'a':1}", "body"},
		{"\xff{}", "body"},
		{`{"frequency_hz":NaN}`, "body"},
		{"{}", "frequency_hz"},
		{"{}", "duration_s"},
		{`{"frequency_hz":1e6}`, "duration_s"},
		{`{"frequency_hz":0,"duration_s":1}`, "frequency_hz"},
		{`{"frequency_hz":-1,"duration_s":1}`, "frequency_hz"},
		{`{"frequency_hz":1e400,"duration_s":1}`, "frequency_hz"},
		{`{"frequency_hz":"","duration_s":1}`, "frequency_hz"},
		{`{"frequency_hz":"12 parsec","duration_s":1}`, "frequency_hz"},
		{`{"frequency_hz":[1],"duration_s":1}`, "frequency_hz"},
		{`{"frequency_hz":{"a":1},"duration_s":1}`, "frequency_hz"},
		{`{"frequency_hz":null,"duration_s":1}`, "frequency_hz"},
		{`{"frequency_hz":1e6,"duration_s":0}`, "duration_s"},
		{`{"frequency_hz":1e6,"duration_s":-5}`, "duration_s"},
		{`{"frequency_hz":1e6,"duration_s":"a while"}`, "duration_s"},
		{`{"frequency_hz":1e6,"duration_s":3601}`, "duration_s"},
		{`{"frequency_hz":1e6,"duration_s":1e12}`, "duration_s"},
		{`{"frequency_hz":1e6,"duration_s":"999us"}`, "duration_s"},
		{`{"frequency_hz":1e30,"duration_s":1}`, "frequency_hz"},
		{valid(`"bandwidth_hz":1e30`), "bandwidth_hz"},
		{`{"frequency_hz":1e6,"duration_s":true}`, "duration_s"},
		{valid(`"bandwidth_hz":0`), "bandwidth_hz"},
		{valid(`"bandwidth_hz":"wide"`), "bandwidth_hz"},
		{valid(`"start_time":"now"`), "start_time"},
		{valid(`"start_time":5`), "start_time"},
		{valid(`"start_time":""`), "start_time"},
		{valid(`"start_time":"0001-01-01T00:00:00Z"`), "start_time"},
		{valid(`"stations":"torino"`), "stations"},
		{valid(`"stations":[]`), "stations"},
		{valid(`"stations":["torino","Torino"]`), "stations[1]"},
		{valid(`"stations":["torino","torino"]`), "stations[1]"},
		{valid(`"stations":[1]`), "stations"},
		{valid(`"stations":["` + strings.Join(manyStations(101), `","`) + `"]`), "stations"},
		{valid(`"iq":"yes"`), "iq"},
		{valid(`"iq":1`), "iq"},
		{valid(`"priority":1.5`), "priority"},
		{valid(`"priority":1e300`), "priority"},
		{valid(`"priority":99999999999`), "priority"},
		{valid(`"label":5`), "label"},
		{valid(`"label":"a\u0000b"`), "label"},
		{valid(`"label":"` + strings.Repeat("é", 101) + `"`), "label"},
		{valid(`"colour":"red"`), "colour"},
		{valid(`"Frequency_hz":1`), "Frequency_hz"},
		{valid(`"frequency_hz":2`), "frequency_hz"},
		{valid(`"":2`), ""},
	}
}

func TestAcquisitions_SayWhatNumbersMayBe(t *testing.T) {
	h := newWorld().handler(t)
	for body, want := range map[string]protocol.FieldError{
		`{"frequency_hz":1e30,"duration_s":1}`:                          {Field: "frequency_hz", Value: "1e30", Message: "above 0 and up to 1e12"},
		`{"frequency_hz":0,"duration_s":1}`:                             {Field: "frequency_hz", Value: "0", Message: "above 0 and up to 1e12"},
		`{"frequency_hz":1e6,"duration_s":1e12}`:                        {Field: "duration_s", Value: "1e12", Message: "from 0.001 to 3600"},
		`{"frequency_hz":1e6,"duration_s":"1us"}`:                       {Field: "duration_s", Value: `"1us"`, Message: "from 0.001 to 3600"},
		`{"frequency_hz":1e6,"duration_s":1,"bandwidth_hz":"9999999G"}`: {Field: "bandwidth_hz", Value: `"9999999G"`, Message: "above 0 and up to 1e12"},
	} {
		p := problem(t, ask(t, h, "POST", "/api/v1/acquisitions", body))
		if len(p.Errors) != 1 || p.Errors[0].Field != want.Field || p.Errors[0].Value != want.Value || !strings.HasSuffix(p.Errors[0].Message, want.Message) {
			t.Errorf("%s: %+v, want one of %+v", body, p.Errors, want)
		}
	}
	schema, _ := document(t, h).Components.Schemas["AcquisitionRequest"].(map[string]any)
	for member, want := range map[string]map[string]any{
		"duration_s":   {"minimum": protocol.MinAcquisitionS, "maximum": float64(protocol.MaxAcquisitionS)},
		"frequency_hz": {"exclusiveMinimum": 0.0, "maximum": 1e12},
		"bandwidth_hz": {"exclusiveMinimum": 0.0, "maximum": 1e12},
	} {
		property, _ := schema["properties"].(map[string]any)[member].(map[string]any)
		for bound, value := range want {
			if property[bound] != value {
				t.Errorf("OpenAPI: %s of %s is %v, want %v", bound, member, property[bound], value)
			}
		}
	}
}

func TestAcquisitions_BadBodiesAreProblemsThatNameTheField(t *testing.T) {
	h := newWorld().handler(t)
	for _, c := range badBodies() {
		answer := ask(t, h, "POST", "/api/v1/acquisitions", c[0])
		if answer.Code != http.StatusBadRequest && answer.Code != http.StatusUnprocessableEntity {
			t.Errorf("%s: status %d", c[0], answer.Code)
			continue
		}
		p := problem(t, answer)
		found := false
		for _, e := range p.Errors {
			found = found || e.Field == c[1] && e.Message != ""
		}
		if !found {
			t.Errorf("%.80s: errors %+v, want one of %q", c[0], p.Errors, c[1])
		}
	}
}

func TestAcquisitions_AllFaultsAtOnce(t *testing.T) {
	p := problem(t, ask(t, newWorld().handler(t), "POST", "/api/v1/acquisitions",
		`{"colour":"red","duration_s":"x","iq":7,"stations":["A"],"start_time":"now","colour":"blue"}`))
	var fields []string
	for _, e := range p.Errors {
		fields = append(fields, e.Field)
	}
	want := []string{"colour", "frequency_hz", "duration_s", "start_time", "stations[0]", "iq", "colour"}
	if diff := cmp.Diff(want, fields); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
}

func TestAcquisitions_FaultsFoundByTheCommander(t *testing.T) {
	w := newWorld()
	w.commander.create = func(context.Context, protocol.AcquisitionRequest) (*protocol.Acquisition, error) {
		return nil, protocol.FieldErrors{{Field: "duration_s", Value: "500", Message: "at most 300 with IQ"}}
	}
	answer := ask(t, w.handler(t), "POST", "/api/v1/acquisitions", `{"frequency_hz":1e6,"duration_s":500}`)
	p := problem(t, answer)
	if p.Status != http.StatusUnprocessableEntity || len(p.Errors) != 1 || p.Errors[0].Field != "duration_s" || p.Errors[0].Value != "500" {
		t.Errorf("problem %+v", p)
	}
}

func FuzzAcquisitionBody(f *testing.F) {
	for _, c := range badBodies() {
		f.Add(c[0])
	}
	f.Add(`{"frequency_hz":"145.5M","duration_s":5,"stations":["torino"],"iq":true}`)
	h := newWorld().handler(f)
	f.Fuzz(func(t *testing.T, body string) {
		answer := ask(t, h, "POST", "/api/v1/acquisitions", body)
		switch {
		case answer.Code == http.StatusAccepted || answer.Code == http.StatusRequestEntityTooLarge:
		case answer.Code >= 500:
			t.Errorf("%q: status %d", body, answer.Code)
		default:
			if p := problem(t, answer); len(p.Errors) == 0 {
				t.Errorf("%q: status %d names no field", body, answer.Code)
			}
		}
	})
}

// TestAcquisitions_BodiesAreBounded sends little and much that is made to cost a reader.
func TestAcquisitions_BodiesAreBounded(t *testing.T) {
	h := newWorld().handler(t)
	for name, c := range map[string]struct {
		body string
		code int
		most uint64 // bytes allocated
	}{
		"nested arrays":      {strings.Repeat("[", 60_000), http.StatusBadRequest, 2 << 20},
		"nested objects":     {strings.Repeat(`{"a":`, 12_000), http.StatusBadRequest, 2 << 20},
		"a nested value":     {`{"label":` + strings.Repeat("[", 9_000) + strings.Repeat("]", 9_000) + `}`, http.StatusBadRequest, 8 << 20},
		"many stations":      {`{"stations":[` + strings.Repeat(`"a",`, 15_000) + `"a"]}`, http.StatusBadRequest, 32 << 20},
		"64 MiB of a string": {`{"label":"` + strings.Repeat("x", 64<<20), http.StatusRequestEntityTooLarge, 2 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api/v1/acquisitions", strings.NewReader(c.body))
			r.Header.Set("Content-Type", "application/json")
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			answer := serve(h, r)
			runtime.ReadMemStats(&after)
			if answer.Code != c.code && (c.code != http.StatusBadRequest || answer.Code != http.StatusUnprocessableEntity) {
				t.Errorf("status %d, want %d", answer.Code, c.code)
			}
			if spent := after.TotalAlloc - before.TotalAlloc; spent > c.most {
				t.Errorf("%d bytes allocated, want at most %d", spent, c.most)
			} else {
				t.Logf("%d KiB allocated, an answer of %d bytes", spent>>10, answer.Body.Len())
			}
		})
	}
}
