package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fulgidus/heimdall/collector/api"
	"github.com/fulgidus/heimdall/protocol"
)

func TestNew_NamesWhatIsMissing(t *testing.T) {
	if _, err := api.New(api.Config{}); err == nil {
		t.Error("no error without any part")
	}
}

func TestRecords_AreTheJSONDialectWithReceived(t *testing.T) {
	answer := get(t, newWorld().handler(t), "GET", "/api/v1/measurements")
	want := `{"items":[{"station":"torino","spool":"382072616e646f6d","seq":7,"time":"2026-11-24T12:00:00.000000000Z",` +
		`"measurement":{"snr_db":12.5},"received":"2026-11-24T12:00:00.000000000Z","late":true}],"next_cursor":"older"}` + "\n"
	if diff := cmp.Diff(want, answer.Body.String()); diff != "" {
		t.Errorf("body (-want +got):\n%s", diff)
	}
	if got := answer.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("content type %q", got)
	}
}

func TestLists_EmptyIsAnArray(t *testing.T) {
	w := newWorld()
	w.reader.stations = func(context.Context) ([]protocol.Station, error) { return nil, nil }
	w.reader.records = func(context.Context, protocol.Kind, protocol.Filter) ([]protocol.StoredRecord, string, error) {
		return nil, "", nil
	}
	w.commander.list = func(context.Context, int, string) ([]*protocol.Acquisition, string, error) { return nil, "", nil }
	w.recordings.list = func(context.Context, protocol.Filter) ([]protocol.Recording, string, error) { return nil, "", nil }
	h := w.handler(t)
	for _, path := range []string{"stations", "measurements", "spectra", "detections", "health", "gaps", "acquisitions", "recordings"} {
		answer := get(t, h, "GET", "/api/v1/"+path)
		if got := answer.Body.String(); got != `{"items":[]}`+"\n" {
			t.Errorf("%s: %s", path, got)
		}
	}
}

func TestResources_HaveNoNullArrays(t *testing.T) {
	h := newWorld().handler(t)
	for path, want := range map[string]string{
		"stations":                      `"receivers":[],"capabilities":[]}]}`,
		"stations/torino":               `"receivers":[],"capabilities":[]}`,
		"acquisitions/" + acquisitionID: `"request":{"frequency_hz":0,"duration_s":0},"stations":[]}`,
		"acquisitions":                  `"stations":[]}]}`,
	} {
		answer := get(t, h, "GET", "/api/v1/"+path)
		if answer.Code != http.StatusOK || !strings.HasSuffix(answer.Body.String(), want+"\n") {
			t.Errorf("%s: status %d: %s, want %s", path, answer.Code, answer.Body, want)
		}
	}
}

func TestProblems_ByKind(t *testing.T) {
	w := newWorld()
	h := w.handler(t)
	w.config.AskTokens = true
	guarded := w.handler(t)
	for _, c := range []struct {
		method, path, body string
		headers            []string
		status             int
		kind               string
	}{
		{"GET", "/nothing", "", nil, 404, "not-found"},
		{"DELETE", "/nothing", "", nil, 404, "not-found"},
		{"POST", "/api/v1/stations", "{}", nil, 405, "wrong-method"},
		{"BREW", "/api/v1/stations", "", nil, 405, "wrong-method"},
		{"PUT", "/api/v1/acquisitions", "{}", nil, 405, "wrong-method"},
		{"DELETE", "/", "", nil, 405, "wrong-method"},
		{"DELETE", "/api/v1/acquisitions", "", nil, 405, "wrong-method"},
		{"DELETE", "/api/v1/acquisitions/none", "", nil, 404, "not-found"},
		{"DELETE", "/api/v1/acquisitions/%00", "", nil, 404, "not-found"},
		{"DELETE", "/api/v1/acquisitions/..%2f..%2fetc", "", nil, 404, "not-found"},
		{"DELETE", "/api/v1/acquisitions/" + acquisitionID + "?now=1", "", nil, 400, "bad-query"},
		{"DELETE", "/api/v1/acquisitions/" + acquisitionID, "", []string{"Sec-Fetch-Site", "cross-site"}, 403, "cross-origin"},
		{"GET", "/api/v1/stations", "", []string{"Accept", "text/xml"}, 406, "not-acceptable"},
		{"GET", "/api/v1/stations", "", []string{"Accept", "application/json;q=0, */*;q=0"}, 406, "not-acceptable"},
		{"GET", "/api/v1/stations", "", []string{"Accept", "application/json;q=2"}, 406, "not-acceptable"},
		{"GET", "/api/v1/stations", "", []string{"Authorization", "Bearer wrong"}, 401, "unauthorized"},
		{"POST", "/api/v1/acquisitions", "{}", []string{"Sec-Fetch-Site", "cross-site"}, 403, "cross-origin"},
		{"POST", "/api/v1/acquisitions", "{}", []string{"Origin", "https://evil.example"}, 403, "cross-origin"},
		{"POST", "/api/v1/acquisitions", "a=b", []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "wrong-type"},
		{"POST", "/api/v1/acquisitions", "{}", []string{"Content-Type", "application/json; charset=latin1"}, 415, "wrong-type"},
		{"POST", "/api/v1/acquisitions", "{}", []string{"Content-Type", ";"}, 415, "wrong-type"},
		{"POST", "/api/v1/acquisitions", "{}", []string{"Content-Encoding", "gzip"}, 415, "wrong-type"},
		{"POST", "/api/v1/acquisitions", `{"label":"` + strings.Repeat("a", 70_000) + `"}`, nil, 413, "too-large"},
		{"POST", "/api/v1/acquisitions?dry=1", "{}", nil, 400, "bad-query"},
	} {
		h := h
		if c.status == 401 {
			h = guarded
		}
		answer := ask(t, h, c.method, c.path, c.body, c.headers...)
		if answer.Code != c.status {
			t.Errorf("%s %s %v: status %d, want %d: %s", c.method, c.path, c.headers, answer.Code, c.status, answer.Body)
			continue
		}
		if p := problem(t, answer); p.Type != "/docs#"+c.kind {
			t.Errorf("%s %s: type %q, want %q", c.method, c.path, p.Type, c.kind)
		}
		switch {
		case c.status == 403 && !strings.Contains(answer.Body.String(), `"field":"`+c.headers[0]+`"`):
			t.Errorf("%s %s: the fault is not with %s: %s", c.method, c.path, c.headers[0], answer.Body)
		case c.status == 401 && answer.Header().Get("WWW-Authenticate") != `Bearer realm="heimdall"`:
			t.Errorf("401 without a challenge: %v", answer.Header())
		case c.status == 405 && !strings.Contains(answer.Header().Get("Allow"), "GET, HEAD"):
			t.Errorf("%s %s: allows %q", c.method, c.path, answer.Header().Get("Allow"))
		}
	}
}

func TestProblems_OfTheCollectorItselfTellNothing(t *testing.T) {
	w := newWorld()
	secret := errors.New("password is 1234")
	for _, c := range []struct {
		err    error
		status int
	}{
		{secret, 500},
		{fmt.Errorf("%w: %w", context.DeadlineExceeded, secret), 503},
		{transient{secret}, 503},
		{fs.ErrNotExist, 404},
		{protocol.FieldError{Field: "cursor", Value: "x", Message: "bad"}, 400},
	} {
		w.reader.stations = func(context.Context) ([]protocol.Station, error) { return nil, c.err }
		answer := get(t, w.handler(t), "GET", "/api/v1/stations")
		if answer.Code != c.status || strings.Contains(answer.Body.String(), "1234") {
			t.Errorf("%v: status %d, want %d: %s", c.err, answer.Code, c.status, answer.Body)
		}
		problem(t, answer)
		if got := answer.Header().Get("Retry-After"); (got != "") != (c.status == 503) {
			t.Errorf("%v: Retry-After %q", c.err, got)
		}
	}
}

func TestProblems_NameTheConditionThatDoesNotHold(t *testing.T) {
	w := newWorld()
	w.config.Ready = func(context.Context) []api.Condition {
		return []api.Condition{{Name: "broker", Ready: true}, {Name: "database", Reason: "its tables are not up to date yet"}}
	}
	h := w.handler(t)
	for _, err := range []error{errors.New("no such table"), transient{errors.New("connection refused")}} {
		w.reader.stations = func(context.Context) ([]protocol.Station, error) { return nil, err }
		answer := get(t, h, "GET", "/api/v1/stations")
		if p := problem(t, answer); p.Status != 503 || p.Detail != "database: its tables are not up to date yet" || answer.Header().Get("Retry-After") == "" {
			t.Errorf("%v: %+v", err, p)
		}
	}
	if answer := get(t, h, "GET", "/api/v1/measurements?limit=x"); answer.Code != 400 {
		t.Errorf("a client's own fault: status %d, want 400", answer.Code)
	}
}

// A database that never answers must not leave the client without an answer.
func TestProblems_EndAnEndlessWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.config.Now = time.Now
		w.reader.stations = func(ctx context.Context) ([]protocol.Station, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		w.recordings.one = func(ctx context.Context, _ string) (*protocol.Recording, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		h := w.handler(t)
		for _, path := range []string{"/api/v1/stations", "/api/v1/recordings/x", "/api/v1/recordings/x.sigmf-data"} {
			began := time.Now()
			if answer := get(t, h, "GET", path); answer.Code != 503 || time.Since(began) >= 30*time.Second {
				t.Errorf("%s: status %d after %v, want 503 before a server's usual 30 s", path, answer.Code, time.Since(began))
			}
		}
	})
}

type transient struct{ error }

func (transient) Transient() bool { return true }

func TestProblems_ErrorsOfEveryPartAreAnswered(t *testing.T) {
	broken := errors.New("broken")
	w := newWorld()
	w.reader.station = func(context.Context, string) (*protocol.Station, error) { return nil, broken }
	w.reader.records = func(context.Context, protocol.Kind, protocol.Filter) ([]protocol.StoredRecord, string, error) {
		return nil, "", broken
	}
	w.commander.list = func(context.Context, int, string) ([]*protocol.Acquisition, string, error) { return nil, "", broken }
	w.commander.one = func(context.Context, string) (*protocol.Acquisition, error) { return nil, broken }
	w.commander.create = func(context.Context, protocol.AcquisitionRequest) (*protocol.Acquisition, error) { return nil, broken }
	w.recordings.list = func(context.Context, protocol.Filter) ([]protocol.Recording, string, error) { return nil, "", broken }
	h := w.handler(t)
	for _, path := range []string{"stations/torino", "gaps", "acquisitions", "acquisitions/" + acquisitionID, "recordings"} {
		if answer := get(t, h, "GET", "/api/v1/"+path); answer.Code != 500 {
			t.Errorf("%s: status %d", path, answer.Code)
		}
	}
	if answer := ask(t, h, "POST", "/api/v1/acquisitions", `{"frequency_hz":1e6,"duration_s":1}`); answer.Code != 500 {
		t.Errorf("create: status %d", answer.Code)
	}
	w = newWorld()
	w.reader.records = func(context.Context, protocol.Kind, protocol.Filter) ([]protocol.StoredRecord, string, error) {
		return []protocol.StoredRecord{{}}, "", nil // a row without a record
	}
	w.reader.station = func(context.Context, string) (*protocol.Station, error) { return nil, nil }
	h = w.handler(t)
	if answer := get(t, h, "GET", "/api/v1/gaps"); answer.Code != 500 {
		t.Errorf("a record that cannot be written: status %d", answer.Code)
	}
	if answer := get(t, h, "GET", "/api/v1/stations/torino"); answer.Code != 404 {
		t.Errorf("no station: status %d", answer.Code)
	}
}

func TestSecurity_HeadersOnEveryAnswer(t *testing.T) {
	h := newWorld().handler(t)
	for _, path := range []string{"/", "/docs", "/nothing", "/api/v1/stations"} {
		header := get(t, h, "GET", path).Header()
		for _, name := range []string{"X-Content-Type-Options", "Content-Security-Policy", "Referrer-Policy", "Cross-Origin-Resource-Policy", "X-Request-Id"} {
			if header.Get(name) == "" {
				t.Errorf("%s: no %s", path, name)
			}
		}
		for _, rule := range []string{"default-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "object-src 'none'"} {
			if policy := header.Get("Content-Security-Policy"); !strings.Contains(policy, rule) || strings.Contains(policy, "unsafe") {
				t.Errorf("%s: the policy is %q, want %s in it", path, policy, rule)
			}
		}
		if header.Get("X-Content-Type-Options") != "nosniff" || header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: %v", path, header)
		}
		if header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: other sites may read it", path)
		}
	}
}

func TestAuthorize_HealthIsOpen(t *testing.T) {
	w := newWorld()
	w.config.AskTokens = true
	h := w.handler(t)
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/metrics": 401, "/": 401, "/docs": 401, "/api/v1/openapi.json": 401} {
		if answer := get(t, h, "GET", path); answer.Code != want {
			t.Errorf("%s: status %d, want %d", path, answer.Code, want)
		}
	}
}

func TestRoot_ProgramsGetServiceAndBrowsersAPage(t *testing.T) {
	h := newWorld().handler(t)
	for accept, page := range map[string]bool{
		"": false, "*/*": false, "application/json": false, "text/html": true,
		"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8": true, "text/html;q=0.5, application/json": false, "text/*": true,
	} {
		var headers []string
		if accept != "" {
			headers = []string{"Accept", accept}
		}
		answer := get(t, h, "GET", "/", headers...)
		if page != strings.HasPrefix(answer.Header().Get("Content-Type"), "text/html") {
			t.Errorf("Accept %q: %s", accept, answer.Header().Get("Content-Type"))
		}
		want := `{"service":"backend","status":"running","timestamp":"2026-11-24T12:00:00.000000000Z"}` + "\n"
		if !page && answer.Body.String() != want {
			t.Errorf("Accept %q: %s", accept, answer.Body)
		}
	}
}

func TestHealth_SaysWhatIsOutOfOrder(t *testing.T) {
	w := newWorld()
	conditions := []api.Condition{{Name: "database", Ready: true}}
	w.config.Ready = func(context.Context) []api.Condition { return conditions }
	h := w.handler(t)
	if got := get(t, h, "GET", "/healthz").Body.String(); got != `{"status":"ok","version":"1.2.3"}`+"\n" {
		t.Errorf("healthz: %s", got)
	}
	answer := get(t, h, "GET", "/readyz?verbose=1")
	if want := `{"ready":true,"reasons":[],"conditions":[{"name":"database","ready":true}]}` + "\n"; answer.Code != 200 || answer.Body.String() != want {
		t.Errorf("readyz: %d %s", answer.Code, answer.Body)
	}
	conditions = append(conditions, api.Condition{Name: "broker", Reason: "nobody listens on port 1883"})
	answer = get(t, h, "GET", "/readyz")
	var got api.Readiness
	if err := json.Unmarshal(answer.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if answer.Code != 503 || got.Ready || cmp.Diff([]string{"broker: nobody listens on port 1883"}, got.Reasons) != "" {
		t.Errorf("readyz: %d %+v", answer.Code, got)
	}
}

func TestHead_HasNoBody(t *testing.T) {
	h := newWorld().handler(t)
	for path, want := range map[string]int{"/api/v1/stations": 200, "/nothing": 404, "/api/v1/events": 200, "/api/v1/recordings/" + captureID + ".sigmf-data": 200} {
		answer := get(t, h, "HEAD", path)
		if answer.Code != want || answer.Body.Len() > 0 {
			t.Errorf("%s: status %d, %d bytes", path, answer.Code, answer.Body.Len())
		}
	}
}

func TestDocs_ShowEveryRouteAndNeedNothingFromOutside(t *testing.T) {
	h := newWorld().handler(t)
	answer := get(t, h, "GET", "/docs")
	page := answer.Body.String()
	for path := range document(t, h).Paths {
		if !strings.Contains(page, "<code>"+path+"</code>") {
			t.Errorf("the page does not show %s", path)
		}
	}
	for _, tag := range regexp.MustCompile(`(?:href|src)="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		target := tag[1]
		if fragment, ok := strings.CutPrefix(target, "#"); ok {
			if !strings.Contains(page, `id="`+fragment+`"`) {
				t.Errorf("link to %s, which is not on the page", target)
			}
			continue
		}
		if answer := get(t, h, "GET", target); answer.Code != http.StatusOK && answer.Code != http.StatusServiceUnavailable {
			t.Errorf("link to %s: status %d", target, answer.Code)
		}
	}
	if answer := get(t, h, "GET", "/docs/"); answer.Code != http.StatusMovedPermanently || answer.Header().Get("Location") != "/docs" {
		t.Errorf("/docs/: status %d, location %q", answer.Code, answer.Header().Get("Location"))
	}
	if strings.Contains(page, "<script") || strings.Contains(page, "style=") {
		t.Error("the page has scripts or styles that its own policy refuses")
	}
	if css := get(t, h, "GET", "/docs/style.css"); !strings.HasPrefix(css.Header().Get("Content-Type"), "text/css") || strings.Contains(css.Body.String(), "url(") {
		t.Errorf("style sheet: %s", css.Header().Get("Content-Type"))
	}
	for _, c := range badQueries() { // the address of every problem is on the page
		p := problem(t, get(t, h, "GET", c[0]))
		if !strings.Contains(page, `id="`+strings.TrimPrefix(p.Type, "/docs#")+`"`) {
			t.Errorf("%s is not on the page", p.Type)
		}
	}
}

// Each example can be copied: it names the address that the page was read from, and an address that there is.
func TestDocs_ExamplesCanBeCopied(t *testing.T) {
	h := newWorld().handler(t)
	read := func(host string) string {
		t.Helper()
		r := httptest.NewRequest(http.MethodGet, "/docs", nil)
		r.Host = host
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return html.UnescapeString(w.Body.String())
	}
	page := read("station.example:8443")
	for _, want := range []string{
		"\n<pre>curl -s 'http://station.example:8443/api/v1/measurements?station=giaveno'</pre>\n",
		"\n<pre>curl -sN 'http://station.example:8443/api/v1/events?event=record'</pre>\n",
		"\n<pre>curl -sOJ 'http://station.example:8443/api/v1/recordings/019b1c7e-5a10-7b11-8d02-2a3b4c5d6e7f.sigmf'</pre>\n",
		"\n<pre>curl -s -X DELETE 'http://station.example:8443/api/v1/acquisitions/019b1c7e-5a00-7c3d-9f21-6f0a1b2c3d4e'</pre>\n",
		"\n<pre>curl -s -H 'Content-Type: application/json' -d '{\"frequency_hz\":145500000,",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %s", want)
		}
	}
	examples := regexp.MustCompile(`curl .*'http://station\.example:8443(/[^']*)'`).FindAllStringSubmatch(page, -1)
	operations := 0
	for _, methods := range document(t, h).Paths {
		operations += len(methods)
	}
	if n := len(examples); n != operations {
		t.Errorf("%d examples of %d operations", n, operations)
	}
	if page := read("x'; rm -r ~ #"); !strings.Contains(page, "'http://127.0.0.1:8090/api/v1/stations'") || strings.Contains(page, "rm -r") {
		t.Error("a host that is none is part of a command")
	}
}
