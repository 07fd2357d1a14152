package api

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/fulgidus/heimdall/protocol/exposition"
)

// Metrics gives what the other parts of the collector count.
type Metrics interface {
	Families(ctx context.Context) []exposition.Family
}

// answerBounds are the upper bounds of the answer times, in seconds.
func answerBounds() []float64 {
	return []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5}
}

// traffic counts requests by route. Its zero value is ready.
type traffic struct {
	mu       sync.Mutex // guards requests and times
	requests map[requestKind]uint64
	times    map[string]*exposition.Histogram
}

type requestKind struct {
	route  string
	status int
}

// add counts one answer; rt is nil when no route was found.
func (t *traffic) add(rt *route, status int, took time.Duration) {
	name := "none"
	if rt != nil {
		name = rt.method + " " + rt.path
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.requests == nil {
		t.requests, t.times = map[requestKind]uint64{}, map[string]*exposition.Histogram{}
	}
	t.requests[requestKind{name, status}]++
	h := t.times[name]
	if h == nil {
		h = exposition.NewHistogram(answerBounds()...)
		t.times[name] = h
	}
	h.Observe(took.Seconds())
}

func (t *traffic) families() []exposition.Family {
	t.mu.Lock()
	defer t.mu.Unlock()
	requests := exposition.Counter("heimdall_collector_http_requests_total", "Requests by route and status.")
	for kind, n := range t.requests {
		requests.Samples = append(requests.Samples, exposition.Of(float64(n), "route", kind.route, "status", strconv.Itoa(kind.status)))
	}
	times := exposition.Distribution("heimdall_collector_http_request_duration_seconds", "Time to answer, streams to their end, by route.")
	for name, h := range t.times {
		times.Samples = append(times.Samples, h.Sample("route", name))
	}
	byLabels := func(a, b exposition.Sample) int {
		return slices.CompareFunc(a.Labels, b.Labels, func(a, b exposition.Label) int { return cmp.Compare(a.Value, b.Value) })
	}
	slices.SortFunc(requests.Samples, byLabels)
	slices.SortFunc(times.Samples, byLabels)
	return []exposition.Family{requests, times}
}
