package api_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fulgidus/heimdall/collector/api"
)

func TestWriteMetrics_Format(t *testing.T) {
	var got strings.Builder
	err := api.WriteMetrics(&got, []api.Family{
		api.Gauge("z_ratio", "a \\ and\na line", api.Sample{Value: 0.25, Labels: []api.Label{{Name: "station", Value: "a\"b\\c\nd\xff"}, {Name: "kind", Value: "x"}}}),
		{Name: "h_seconds", Type: api.TypeHistogram, Help: "times", Samples: []api.Sample{
			{Value: 1.5, Buckets: []api.Bucket{{UpperBound: 0.1, Count: 2}, {UpperBound: math.Inf(1), Count: 3}}, Labels: []api.Label{{Name: "route", Value: "r"}}},
			{Value: 2, Buckets: []api.Bucket{{UpperBound: math.Inf(1), Count: 1}}},
		}},
		api.Counter("a_total", "first half", api.Sample{Value: 1e15}),
		api.Counter("a_total", "second half", api.Sample{Value: math.Inf(-1), Labels: []api.Label{{Name: "x", Value: "y"}}}, api.Sample{Value: math.NaN()}),
		api.Counter("empty_total", "nothing yet"),
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `# HELP a_total first half
# TYPE a_total counter
a_total 1e+15
a_total{x="y"} -Inf
a_total NaN
# HELP empty_total nothing yet
# TYPE empty_total counter
# HELP h_seconds times
# TYPE h_seconds histogram
h_seconds_bucket{route="r",le="0.1"} 2
h_seconds_bucket{route="r",le="+Inf"} 3
h_seconds_sum{route="r"} 1.5
h_seconds_count{route="r"} 3
h_seconds_bucket{le="+Inf"} 1
h_seconds_sum 2
h_seconds_count 1
# HELP z_ratio a \\ and\na line
# TYPE z_ratio gauge
z_ratio{station="a\"b\\c\nd�",kind="x"} 0.25
`
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
}

func TestWriteMetrics_RefusesNamesThatCannotBeRead(t *testing.T) {
	for _, f := range []api.Family{
		api.Counter("", ""), api.Counter("1x", ""), api.Counter("a-b", ""),
		api.Counter("a", "", api.Sample{Labels: []api.Label{{Name: "b c", Value: ""}}}),
	} {
		if err := api.WriteMetrics(new(strings.Builder), []api.Family{f}); err == nil {
			t.Errorf("%+v: no error", f)
		}
	}
	full := failing{}
	if err := api.WriteMetrics(full, []api.Family{api.Counter("a", "")}); !errors.Is(err, errFull) {
		t.Errorf("a full disk: %v", err)
	}
}

var errFull = errors.New("full")

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errFull }

type counts []api.Family

func (c counts) Families(context.Context) []api.Family { return c }

func TestMetrics_CountTrafficAndWhatOthersCount(t *testing.T) {
	w := newWorld()
	w.config.Metrics = counts{api.Counter("heimdall_collector_records_total", "Records.", api.Sample{Value: 5, Labels: []api.Label{{Name: "kind", Value: "health"}}})}
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
	w.config.Metrics = counts{api.Counter("wrong name", "")}
	if answer := get(t, w.handler(t), "GET", "/metrics"); answer.Code != 500 {
		t.Errorf("a wrong name: status %d", answer.Code)
	}
}
