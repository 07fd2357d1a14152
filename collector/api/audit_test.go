package api_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fulgidus/heimdall/collector/api"
	"github.com/fulgidus/heimdall/protocol"
)

// TestAudit_NotesEveryOrderAndDownload sends the documented example of every route and looks at what was noted.
func TestAudit_NotesEveryOrderAndDownload(t *testing.T) {
	doc := document(t, newWorld().handler(t))
	want := map[string]string{
		"POST /api/v1/acquisitions": "acquire " + acquisitionID, "DELETE /api/v1/acquisitions/{id}": "cancel " + acquisitionID,
		"POST /api/v1/detections/{id}/capture": "capture " + acquisitionID, "POST /api/v1/acquisition/acquire": "acquire " + acquisitionID,
		"POST /api/v1/acquisition/websdrs": "websdr-add torino", "PUT /api/v1/acquisition/websdrs/{id}": "websdr-change torino",
		"DELETE /api/v1/acquisition/websdrs/{id}": "websdr-remove torino",
		"GET /api/v1/recordings/{id}.sigmf":       "download " + captureID, "GET /api/v1/recordings/{id}.sigmf-data": "download " + captureID,
		// These the store notes, with what they change.
		"POST /api/v1/tokens": "", "DELETE /api/v1/tokens/{id}": "",
		"POST /api/v1/enroll": "", "POST /api/v1/renew": "",
		"POST /api/v1/stations/{id}/code": "", "POST /api/v1/stations/{id}/revoke": "", "DELETE /api/v1/stations/{id}": "",
		"POST /api/v1/accounts": "", "DELETE /api/v1/accounts/{id}": "",
	}
	for asks, actor := range map[bool]string{false: protocol.ActorLocal, true: "admin"} {
		for _, rule := range api.Rules() {
			w := guardedWorld()
			w.config.AskTokens = asks
			status, body := w.askAs(t, w.handler(t), doc, rule, "hdt_admin")
			what, listed := want[rule.Method+" "+rule.Path]
			if rule.Method != http.MethodGet && !listed {
				t.Errorf("%s %s changes something, and the test does not know what the audit says of it", rule.Method, rule.Path)
			}
			var entries []string
			if what != "" {
				entries = []string{actor + " " + what}
			}
			if diff := cmp.Diff(entries, w.audit.entries); diff != "" || status >= 300 {
				t.Errorf("%s %s: status %d: %.100s\naudit (-want +got):\n%s", rule.Method, rule.Path, status, body, diff)
			}
			for _, detail := range w.audit.details {
				if detail["address"] != "192.0.2.1" {
					t.Errorf("%s %s: detail %v", rule.Method, rule.Path, detail)
				}
			}
		}
	}
}

func TestAudit_OfADownloadComesFirst(t *testing.T) {
	const path = "/api/v1/recordings/" + captureID + ".sigmf-data"
	w := newWorld()
	h := w.handler(t)
	whole := get(t, h, "GET", path)
	for _, headers := range [][]string{{"If-None-Match", whole.Header().Get("ETag")}, {"Range", "bytes=99-"}, {"If-Match", `"other"`}} {
		if answer := get(t, h, "GET", path, headers...); answer.Code < 300 {
			t.Errorf("%v: status %d", headers, answer.Code)
		}
	}
	get(t, h, "HEAD", path)
	if n := len(w.audit.entries); n != 1 {
		t.Errorf("%d entries for one download: %v", n, w.audit.entries)
	}
	get(t, h, "GET", path, "Range", "bytes=2-3")
	if n := len(w.audit.entries); n != 2 || w.audit.details[1]["range"] != "bytes=2-3" || w.audit.details[1]["station"] != "torino" || w.audit.details[1]["file"] != "sigmf-data" {
		t.Errorf("%v %v", w.audit.entries, w.audit.details)
	}
	w.audit.err = errors.New("disk full")
	answer := get(t, h, "GET", path)
	if p := problem(t, answer); answer.Code != http.StatusInternalServerError || strings.Contains(p.Detail, "disk") {
		t.Errorf("what cannot be noted: status %d: %s", answer.Code, answer.Body)
	}
	if answer := ask(t, h, "POST", "/api/v1/acquisitions", `{"frequency_hz":1e6,"duration_s":1}`); answer.Code != http.StatusAccepted {
		t.Errorf("an order that has been given: status %d", answer.Code)
	}
}

func TestAudit_IsListed(t *testing.T) {
	h, _ := stocked(t)
	if answer := ask(t, h, "POST", "/api/v1/acquisitions", `{"frequency_hz":145500000,"duration_s":5,"label":"beacon"}`); answer.Code != http.StatusAccepted {
		t.Fatalf("status %d: %s", answer.Code, answer.Body)
	}
	get(t, h, "GET", "/api/v1/recordings/"+captureID+".sigmf")
	var all []string
	next := ""
	for range 4 {
		answer := get(t, h, "GET", "/api/v1/audit?limit=1"+next)
		var page struct {
			Items      []protocol.AuditEntry
			NextCursor string `json:"next_cursor"`
		}
		if err := json.Unmarshal(answer.Body.Bytes(), &page); err != nil || len(page.Items) != 1 {
			t.Fatalf("status %d, %v: %s", answer.Code, err, answer.Body)
		}
		all = append(all, page.Items[0].Actor+" "+page.Items[0].Action)
		if next = "&cursor=" + page.NextCursor; page.NextCursor == "" {
			break
		}
	}
	if diff := cmp.Diff([]string{"local download", "local acquire", "test token-add"}, all); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	csv := get(t, h, "GET", "/api/v1/audit?action=acquire&actor=local&from=2026-01-01", "Accept", "text/csv")
	if got := csv.Body.String(); !strings.HasPrefix(got, "time,actor,action,subject,detail\r\n") || !strings.Contains(got, "beacon") || strings.Count(got, "\r\n") != 2 {
		t.Errorf("as CSV: %s", got)
	}
	if got := get(t, h, "GET", "/api/v1/audit?actor=nobody").Body.String(); got != `{"items":[]}`+"\n" {
		t.Errorf("of nobody: %s", got)
	}
}
