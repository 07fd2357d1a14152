package api_test

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// FuzzRequest sends any path, query and headers to every route: the answer is never an internal error, a refusal is a
// problem, a range is one that was asked for, and nothing outside the files is served.
func FuzzRequest(f *testing.F) {
	f.Add("GET", "/api/v1/recordings/"+captureID+".sigmf-data", "", "Range", "bytes=2-5")
	f.Add("GET", "/api/v1/recordings/"+captureID+".sigmf-data", "", "Range", "bytes=9-2,-3,0-0,5-")
	f.Add("HEAD", "/api/v1/recordings/"+captureID+".sigmf", "", "If-Range", "x")
	f.Add("GET", "/api/v1/recordings/../../etc/passwd", "", "Accept", "*/*")
	f.Add("GET", "/api/v1/stations/torino", "", "If-None-Match", `W/"x"`)
	f.Add("GET", "/api/v1/measurements", "station=torino&limit=10&cursor=torn", "Accept", "text/csv;q=0.1")
	f.Add("POST", "/api/v1/acquisitions", "", "Content-Type", "application/json; charset=\x00")
	f.Add("GET", "/api/v1/events", "kind=measurement", "Last-Event-ID", "torino/00/18446744073709551615")
	f.Add("DELETE", "/", "%zz", "Authorization", "Bearer x")
	f.Add("GET", "/api/v1/spectra", "limit=1000000000", "Accept", "text/csv, application/x-ndjson;q=0.5")
	f.Add("GET", "/api/v1/recordings", "limit=-1", "Accept", "application/jsonl")
	f.Add("GET", "/api/v1/events", "last_event_id=2026-11-24T02:00:05.250000Z/gap/torino/3f9a0017c451e208/1", "Last-Event-ID", "2026-11-24T11:59:59Z")
	f.Add("POST", "/api/v1/detections/torino-382072616e646f6d-7/capture", "", "Content-Length", "99999999999")
	f.Add("PUT", "/api/v1/acquisition/websdrs/..%2f1", "{}", "Content-Encoding", "gzip")
	f.Add("GET", "/api/v1/recordings/"+captureID+".sigmf-data", "", "If-Match", `W/"a", *`)
	f.Add("GET", "/api/v1/stations", "", "Authorization", "Bearer hdt_")
	f.Add("POST", "/api/v1/tokens", `{"name":"a","role":"viewer","ttl":"1d","stations":["torino"]}`, "Authorization", "bearer\thdt_admin")
	f.Add("GET", "/api/v1/audit", "actor=local&action=acquire&from=2026-11-24", "Accept", "text/csv")
	w := newWorld()
	w.config.GoesBy = func(name string) bool { return name == "localhost" }
	h, guarded := w.handler(f), guardedWorld().handler(f)
	f.Fuzz(func(t *testing.T, method, path, query, header, value string) {
		ended, cancel := context.WithCancel(t.Context())
		cancel() // or a stream of events would not end
		r, err := http.NewRequestWithContext(ended, method, "/", strings.NewReader(query))
		if err != nil {
			return // no method
		}
		r.URL = &url.URL{Path: path, RawQuery: query}
		r.Header[http.CanonicalHeaderKey(header)] = []string{value}
		if strings.EqualFold(header, "Host") {
			r.Host = value
		}
		if answer := serve(guarded, r); answer.Code < 300 && !openPath(path) && !strings.Contains(value, "hdt_") {
			t.Errorf("%s %q with %s: %q: status %d without a token", method, path, header, value, answer.Code)
		}
		answer := serve(h, r)
		switch {
		case answer.Code >= 500 && answer.Code != http.StatusNotImplemented && answer.Code != http.StatusServiceUnavailable && answer.Code != http.StatusGatewayTimeout:
			t.Errorf("%s %q?%q with %s: %q: status %d", method, path, query, header, value, answer.Code)
		case answer.Code == http.StatusPartialContent && !strings.Contains(value, "="):
			t.Errorf("a part was served that nobody asked for: %s: %q", header, value)
		case answer.Code >= 400 && r.Method != http.MethodHead:
			problem(t, answer)
		}
	})
}

// openPath tells whether an address may ask for no token, however it is written.
func openPath(path string) bool {
	return strings.HasPrefix(path, "/health") || strings.HasPrefix(path, "/ready")
}
