package api_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/fulgidus/heimdall/protocol"
)

// refusal is one as the desk gives it.
type refusal struct{}

func (refusal) Error() string         { return "the code has been used already" }
func (refusal) RefusalReason() string { return "used" }

func TestEnrol_ReachesTheDesk(t *testing.T) {
	w := newWorld()
	h := w.handler(t)
	for _, c := range []struct {
		method, path, body string
		status             int
		done               string
	}{
		{"POST", "/api/v1/enroll", `{"code": "x", "csr": "y", "facts": {"os": "linux"}}`, 200, "enrol x by "},
		{"POST", "/api/v1/renew", `{"csr": "y"}`, 200, "renew  by "},
		{"POST", "/api/v1/stations/torino/code", ``, 201, "mint 0s false torino by local"},
		{"POST", "/api/v1/stations/torino/code", `{"ttl": "90s", "replace": true}`, 201, "mint 1m30s true torino by local"},
		{"POST", "/api/v1/stations/torino/revoke", ``, 204, "revoke torino by local"},
		{"DELETE", "/api/v1/stations/torino", ``, 204, "remove torino by local"},
	} {
		w.desk.done = nil
		answer := ask(t, h, c.method, c.path, c.body)
		if answer.Code != c.status || !slices.Equal(w.desk.done, []string{c.done}) {
			t.Errorf("%s %s: status %d, done %q: %s", c.method, c.path, answer.Code, w.desk.done, answer.Body)
		}
	}
	r := httptest.NewRequestWithContext(t.Context(), "POST", "/api/v1/renew", strings.NewReader(`{"csr": ""}`))
	r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{{Subject: pkix.Name{CommonName: "torino"}}}}
	h.ServeHTTP(httptest.NewRecorder(), r)
	if last := w.desk.done[len(w.desk.done)-1]; last != "renew torino by " {
		t.Errorf("the certificate of the handshake is not the one shown: %s", last)
	}
}

func TestEnrol_Refuses(t *testing.T) {
	w := newWorld()
	w.desk.err = refusal{}
	answer := ask(t, w.handler(t), "POST", "/api/v1/enroll", `{"code": "CANARY", "csr": "y"}`)
	for _, want := range []string{`"/docs#refused"`, `"value":"used"`, "has been used already"} {
		if answer.Code != http.StatusForbidden || !strings.Contains(answer.Body.String(), want) {
			t.Errorf("status %d, no %s in %s", answer.Code, want, answer.Body)
		}
	}
	for body, want := range map[string]int{
		``: 400, `{"code": "CANARY"`: 400, `["CANARY"]`: 400, `{"code": "CANARY", "csr": "y", "more": "CANARY"}`: 422, `{"code": "CANARY", "csr": ""} {}`: 400, `{"code": ["CANARY"]}`: 422, `{"csr": "CANARY"}`: 422,
		`{"code": "CANARY` + strings.Repeat("x", 70<<10) + `"}`: 413,
	} {
		answer := ask(t, newWorld().handler(t), "POST", "/api/v1/enroll", body)
		if answer.Code != want || strings.Contains(answer.Body.String(), "CANARY") {
			t.Errorf("%.40s: status %d: %.200s", body, answer.Code, answer.Body)
		}
	}
	for _, body := range []string{`{"ttl": "soon"}`, `{"ttl": -1}`, `{"replace": 1}`, `{"x": 1}`} {
		if answer := ask(t, newWorld().handler(t), "POST", "/api/v1/stations/torino/code", body); answer.Code != http.StatusUnprocessableEntity {
			t.Errorf("%s: status %d: %s", body, answer.Code, answer.Body)
		}
	}
	w.desk.err = protocol.FieldErrors{{Field: "station", Value: "torino", Message: "it is enrolled"}}
	if answer := ask(t, w.handler(t), "POST", "/api/v1/stations/torino/code", ""); answer.Code != http.StatusUnprocessableEntity || !strings.Contains(answer.Body.String(), "it is enrolled") {
		t.Errorf("status %d: %s", answer.Code, answer.Body)
	}
	w.desk.err = fmt.Errorf("revoke torino: %w", fs.ErrNotExist)
	for method, path := range map[string]string{"POST": "/api/v1/stations/torino/revoke", "DELETE": "/api/v1/stations/torino"} {
		if answer := ask(t, w.handler(t), method, path, ""); answer.Code != http.StatusNotFound || !strings.Contains(answer.Body.String(), "no such station: `heimdall-collector station list`") {
			t.Errorf("%s of a station that nobody knows: status %d: %s", method, answer.Code, answer.Body)
		}
	}
	w.config.Enrolment = nil
	if answer := ask(t, w.handler(t), "POST", "/api/v1/enroll", `{}`); answer.Code != http.StatusNotFound || !strings.Contains(answer.Body.String(), "http.tls") {
		t.Errorf("without TLS: status %d: %s", answer.Code, answer.Body)
	}
}

// Whoever guesses is slowed down.
func TestEnrol_SlowsDownWhoGuesses(t *testing.T) {
	h := newWorld().handler(t)
	statuses := map[int]int{}
	for i := range 200 {
		path, body := "/api/v1/enroll", `{"code": "x", "csr": "y"}`
		if i%2 == 0 {
			path, body = "/api/v1/renew", `{"csr": "y"}`
		}
		answer := ask(t, h, "POST", path, body)
		statuses[answer.Code]++
		if answer.Code == http.StatusTooManyRequests && answer.Header().Get("Retry-After") == "" {
			t.Fatal("no Retry-After")
		}
	}
	if statuses[200] < 100 || statuses[200] > 150 || statuses[429] != 200-statuses[200] {
		t.Errorf("statuses %v, want a hundred and few more", statuses)
	}
}

func FuzzEnrol_Body(f *testing.F) {
	f.Add(`{"code": "x", "csr": "y", "facts": {"os": "linux"}}`)
	f.Add(`{"code": null}`)
	f.Add(`{"a":`)
	f.Fuzz(func(t *testing.T, body string) {
		answer := ask(t, newWorld().handler(t), "POST", "/api/v1/enroll", body)
		if !slices.Contains([]int{200, 400, 413, 422}, answer.Code) {
			t.Errorf("%q: status %d: %s", body, answer.Code, answer.Body)
		}
	})
}
