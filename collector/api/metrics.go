package api

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Metrics gives what the other parts of the collector count. Names are heimdall_collector_*, in base units (seconds,
// bytes, hertz, ratios from 0 to 1); counters end in _total, times in _timestamp_seconds. Labels have few values:
// station, kind, reason, never a frequency or an id.
type Metrics interface {
	Families(ctx context.Context) []Family
}

// MetricType is Prometheus' kind of a metric.
type MetricType string

// The kinds of metric.
const (
	TypeCounter   MetricType = "counter"
	TypeGauge     MetricType = "gauge"
	TypeHistogram MetricType = "histogram"
)

// Family is all samples of one metric.
type Family struct {
	Name    string
	Help    string
	Type    MetricType
	Samples []Sample
}

// Sample is one value. A histogram's Value is the sum of what was observed.
type Sample struct {
	Labels  []Label
	Value   float64
	Buckets []Bucket // of a histogram, in rising order; the last, infinite one holds the number of observations
}

// Label is one name and value of a sample.
type Label struct{ Name, Value string }

// Bucket counts observations up to a bound.
type Bucket struct {
	UpperBound float64
	Count      uint64 // of this bucket and all below
}

// Counter is a family of one type that only grows.
func Counter(name, help string, samples ...Sample) Family {
	return Family{Name: name, Help: help, Type: TypeCounter, Samples: samples}
}

// Gauge is a family of values that go up and down.
func Gauge(name, help string, samples ...Sample) Family {
	return Family{Name: name, Help: help, Type: TypeGauge, Samples: samples}
}

var (
	metricName = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*$`)
	labelName  = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
	escapeText = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	escapeLabl = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
)

// WriteMetrics writes families in Prometheus' text exposition format 0.0.4, sorted by name. Families of one name are
// joined. It fails on a name that Prometheus could not read.
func WriteMetrics(w io.Writer, families []Family) error {
	sorted := slices.Clone(families)
	slices.SortStableFunc(sorted, func(a, b Family) int { return cmp.Compare(a.Name, b.Name) })
	for i, f := range sorted {
		if !metricName.MatchString(f.Name) {
			return fmt.Errorf("metric %q: a name has letters, digits and underlines", f.Name)
		}
		if i == 0 || sorted[i-1].Name != f.Name {
			if _, err := fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n", f.Name, escapeText.Replace(f.Help), f.Name, f.Type); err != nil {
				return fmt.Errorf("write metrics: %w", err)
			}
		}
		for _, sample := range f.Samples {
			if err := writeSample(w, f, sample); err != nil {
				return err
			}
		}
	}
	return nil
}

func writeSample(w io.Writer, f Family, sample Sample) error {
	labels, err := formatLabels(sample.Labels)
	if err != nil {
		return fmt.Errorf("metric %s: %w", f.Name, err)
	}
	var text strings.Builder
	line := func(suffix, labels string, value float64) {
		if labels != "" {
			labels = "{" + labels + "}"
		}
		fmt.Fprintf(&text, "%s%s%s %s\n", f.Name, suffix, labels, formatValue(value))
	}
	if f.Type != TypeHistogram {
		line("", labels, sample.Value)
	} else {
		before := labels
		if before != "" {
			before += ","
		}
		var count uint64
		for _, b := range sample.Buckets {
			count = b.Count
			line("_bucket", before+`le="`+formatValue(b.UpperBound)+`"`, float64(b.Count))
		}
		line("_sum", labels, sample.Value)
		line("_count", labels, float64(count))
	}
	if _, err := io.WriteString(w, text.String()); err != nil {
		return fmt.Errorf("write metrics: %w", err)
	}
	return nil
}

func formatLabels(labels []Label) (string, error) {
	parts := make([]string, len(labels))
	for i, l := range labels {
		if !labelName.MatchString(l.Name) {
			return "", fmt.Errorf("label %q: a name has letters, digits and underlines", l.Name)
		}
		parts[i] = l.Name + `="` + escapeLabl.Replace(strings.ToValidUTF8(l.Value, "�")) + `"`
	}
	return strings.Join(parts, ","), nil
}

func formatValue(v float64) string {
	switch {
	case math.IsInf(v, 1):
		return "+Inf"
	case math.IsInf(v, -1):
		return "-Inf"
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

// answerBounds are the upper bounds of the answer times, in seconds.
func answerBounds() []float64 {
	return []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, math.Inf(1)}
}

// traffic counts requests by route. Its zero value is ready.
type traffic struct {
	mu       sync.Mutex // guards requests and times
	requests map[requestKind]uint64
	times    map[string]*answerTime
}

type requestKind struct {
	route  string
	status int
}

// answerTime is the histogram of one route.
type answerTime struct {
	counts []uint64 // by bound, not summed up
	sum    float64  // s
}

// add counts one answer; rt is nil when no route was found.
func (t *traffic) add(rt *route, status int, took time.Duration) {
	name := "none"
	if rt != nil {
		name = rt.method + " " + rt.path
	}
	bounds := answerBounds()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.requests == nil {
		t.requests, t.times = map[requestKind]uint64{}, map[string]*answerTime{}
	}
	t.requests[requestKind{name, status}]++
	h := t.times[name]
	if h == nil {
		h = &answerTime{counts: make([]uint64, len(bounds))}
		t.times[name] = h
	}
	h.sum += took.Seconds()
	i, _ := slices.BinarySearch(bounds, took.Seconds())
	h.counts[min(i, len(bounds)-1)]++
}

func (t *traffic) families() []Family {
	t.mu.Lock()
	defer t.mu.Unlock()
	requests := Counter("heimdall_collector_http_requests_total", "Requests by route and status.")
	for kind, n := range t.requests {
		requests.Samples = append(requests.Samples, Sample{
			Value: float64(n), Labels: []Label{{"route", kind.route}, {"status", strconv.Itoa(kind.status)}},
		})
	}
	times := Family{
		Name: "heimdall_collector_http_request_duration_seconds", Type: TypeHistogram,
		Help: "Time to answer, streams to their end, by route.",
	}
	bounds := answerBounds()
	for name, h := range t.times {
		sample := Sample{Labels: []Label{{"route", name}}, Value: h.sum}
		var below uint64
		for i, n := range h.counts {
			below += n
			sample.Buckets = append(sample.Buckets, Bucket{bounds[i], below})
		}
		times.Samples = append(times.Samples, sample)
	}
	byLabels := func(a, b Sample) int {
		return slices.CompareFunc(a.Labels, b.Labels, func(a, b Label) int { return cmp.Compare(a.Value, b.Value) })
	}
	slices.SortFunc(requests.Samples, byLabels)
	slices.SortFunc(times.Samples, byLabels)
	return []Family{requests, times}
}
