package api_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/protocol"
)

const captureAddress = "/api/v1/detections/" + detectionID + "/capture"

func TestCapture_AsksAroundTheDetection(t *testing.T) {
	around := func(change func(*protocol.AcquisitionRequest)) protocol.AcquisitionRequest {
		// The detection is of noon, 0.2 s long.
		r := protocol.AcquisitionRequest{
			FrequencyHz: 145.5e6, StartTime: "2026-11-24T11:59:59.500000000Z", DurationS: 1.2, IQ: true, Label: "detection " + detectionID,
		}
		change(&r)
		return r
	}
	for body, want := range map[string]protocol.AcquisitionRequest{
		"":                      around(func(*protocol.AcquisitionRequest) {}),
		"{}":                    around(func(*protocol.AcquisitionRequest) {}),
		`{"bandwidth_hz":null}`: around(func(*protocol.AcquisitionRequest) {}),
		`{"before_s":0,"after_s":"250ms","bandwidth_hz":"25k","stations":["torino","genova"],"iq":false,"label":"burst"}`: around(func(r *protocol.AcquisitionRequest) {
			r.StartTime, r.DurationS, r.BandwidthHz, r.IQ, r.Label = "2026-11-24T12:00:00.000000000Z", 0.45, new(25e3), false, "burst"
			r.Stations = []string{"torino", "genova"}
		}),
		`{"before_s":2,"after_s":0}`: around(func(r *protocol.AcquisitionRequest) { r.StartTime, r.DurationS = "2026-11-24T11:59:58.000000000Z", 2.2 }),
	} {
		w := newWorld()
		w.detected.GetDetection().DurationS = proto.Float64(0.2)
		answer := ask(t, w.handler(t), "POST", captureAddress, body)
		if answer.Code != http.StatusAccepted || answer.Header().Get("Location") != "/api/v1/acquisitions/"+acquisitionID {
			t.Errorf("%s: status %d, location %q: %s", body, answer.Code, answer.Header().Get("Location"), answer.Body)
		}
		if diff := cmp.Diff(want, w.created); diff != "" {
			t.Errorf("%s: request (-want +got):\n%s", body, diff)
		}
	}
}

// badCaptures are bodies with the field at fault.
func badCaptures() [][2]string {
	return [][2]string{
		{"null", "body"},
		{"[]", "body"},
		{"{", "body"},
		{"\xff", "body"},
		{`{"before_s":-1}`, "before_s"},
		{`{"before_s":301}`, "before_s"},
		{`{"after_s":"a while"}`, "after_s"},
		{`{"after_s":[1]}`, "after_s"},
		{`{"after_s":true}`, "after_s"},
		{`{"after_s":1e400}`, "after_s"},
		{`{"bandwidth_hz":0}`, "bandwidth_hz"},
		{`{"stations":["../etc"]}`, "stations[0]"},
		{`{"iq":1}`, "iq"},
		{`{"label":"a\u0000"}`, "label"},
		{`{"frequency_hz":1}`, "frequency_hz"},
		{`{"before_s":-1}`, "before_s"},
		{`{"before_s":0,"after_s":0.0001}`, "after_s"}, // of a detection of unknown length
		{`{"before_s":0,"after_s":0}`, "after_s"},      // of a detection of unknown length
	}
}

func TestCapture_BadBodiesNameTheField(t *testing.T) {
	h := newWorld().handler(t)
	for _, c := range badCaptures() {
		p := problem(t, ask(t, h, "POST", captureAddress, c[0]))
		if p.Status != http.StatusBadRequest && p.Status != http.StatusUnprocessableEntity || len(p.Errors) != 1 || p.Errors[0].Field != c[1] {
			t.Errorf("%s: status %d, errors %+v, want one of %q", c[0], p.Status, p.Errors, c[1])
		}
	}
}

func TestCapture_NeedsADetectionWithACentre(t *testing.T) {
	w := newWorld()
	w.detected.GetDetection().CenterHz = nil
	h := w.handler(t)
	for id, want := range map[string]int{
		detectionID:                             http.StatusUnprocessableEntity,
		"torino-3872616e646f6d31-8":             http.StatusNotFound, // not stored
		"torino":                                http.StatusNotFound,
		"torino-3872616e646f6d31-0":             http.StatusNotFound,
		"torino-3872616E646F6D31-7":             http.StatusNotFound,
		"..%2f..%2fetc-3872616e646f6d31-7":      http.StatusNotFound,
		"torino-3872616e646f6d31-7%00":          http.StatusNotFound,
		"a-" + strings.Repeat("3", 5000) + "-7": http.StatusNotFound,
	} {
		p := problem(t, ask(t, h, "POST", "/api/v1/detections/"+id+"/capture", ""))
		if p.Status != want || len(p.Errors) != 1 || p.Errors[0].Field != "id" {
			t.Errorf("%.60s: status %d, errors %+v, want %d naming the id", id, p.Status, p.Errors, want)
		}
	}
}

func TestCapture_FaultsFoundByTheCommander(t *testing.T) {
	w := newWorld()
	w.commander.create = func(context.Context, protocol.AcquisitionRequest) (*protocol.Acquisition, error) {
		return nil, protocol.FieldErrors{{Field: "stations", Value: "genova", Message: "no station of this id has ever connected"}}
	}
	if p := problem(t, ask(t, w.handler(t), "POST", captureAddress, `{"stations":["genova"]}`)); p.Status != http.StatusUnprocessableEntity ||
		p.Errors[0].Field != "stations" {
		t.Errorf("problem %+v", p)
	}
}

func FuzzCaptureBody(f *testing.F) {
	for _, c := range badCaptures() {
		f.Add(c[0], detectionID)
	}
	f.Add(`{"before_s":"1.5s","bandwidth_hz":12500,"stations":["torino"]}`, "torino-3872616e646f6d31-8")
	h := newWorld().handler(f)
	f.Fuzz(func(t *testing.T, body, id string) {
		r, err := http.NewRequestWithContext(t.Context(), "POST", "/", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.URL.Path = "/api/v1/detections/" + id + "/capture"
		answer := serve(h, r)
		if answer.Code >= 500 {
			t.Errorf("%q of %q: status %d", body, id, answer.Code)
		}
		if answer.Header().Get("Content-Type") == "application/problem+json" {
			p := problem(t, answer)
			if len(p.Errors) == 0 && p.Status != http.StatusRequestEntityTooLarge {
				t.Errorf("%q of %q: status %d names no field", body, id, p.Status)
			}
		}
	})
}
