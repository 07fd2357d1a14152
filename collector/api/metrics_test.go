package api_test

import (
	"context"
	"strings"
	"testing"

	"github.com/fulgidus/heimdall/protocol/exposition"
)

type counts []exposition.Family

func (c counts) Families(context.Context) []exposition.Family { return c }

func TestMetrics_CountTrafficAndWhatOthersCount(t *testing.T) {
	w := newWorld()
	w.config.Metrics = counts{exposition.Counter("heimdall_collector_records_total", "Records.", exposition.Sample{Value: 5, Labels: []exposition.Label{{Name: "kind", Value: "health"}}})}
	h := w.handler(t)
	get(t, h, "GET", "/api/v1/stations")
	get(t, h, "GET", "/api/v1/stations/torino")
	get(t, h, "GET", "/api/v1/stations/genova")
	get(t, h, "GET", "/secret/path")
	answer := get(t, h, "GET", "/metrics")
	if got := answer.Header().Get("Content-Type"); got != "text/plain; version=0.0.4; charset=utf-8" {
		t.Errorf("content type %q", got)
	}
	text := answer.Body.String()
	for _, want := range []string{
		`heimdall_collector_build_info{version="1.2.3",goversion="go`,
		`heimdall_collector_event_clients 0`,
		`heimdall_collector_event_clients_dropped_total 0`,
		`heimdall_collector_bulk_reads 0`,
		`heimdall_collector_http_requests_total{route="GET /api/v1/stations",status="200"} 1`,
		`heimdall_collector_http_requests_total{route="GET /api/v1/stations/{id}",status="200"} 1`,
		`heimdall_collector_http_requests_total{route="GET /api/v1/stations/{id}",status="404"} 1`,
		`heimdall_collector_http_requests_total{route="none",status="404"} 1`,
		`heimdall_collector_http_request_duration_seconds_bucket{route="GET /api/v1/stations/{id}",le="0.001"} 2`,
		`heimdall_collector_http_request_duration_seconds_count{route="GET /api/v1/stations/{id}"} 2`,
		`heimdall_collector_records_total{kind="health"} 5`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(text, "secret") || strings.Contains(text, "torino") {
		t.Error("a label holds what a client wrote")
	}
	w.config.Metrics = counts{exposition.Counter("wrong name", "")}
	if answer := get(t, w.handler(t), "GET", "/metrics"); answer.Code != 500 {
		t.Errorf("a wrong name: status %d", answer.Code)
	}
}
