// Package exposition writes what programs count in the text form that Prometheus and its relatives read
// (text exposition format 0.0.4).
//
// Names are heimdall_agent_* and heimdall_collector_*, in base units (seconds, bytes, hertz, ratios from 0 to 1); counters end
// in _total, times in _timestamp_seconds. Labels have few values: station, receiver, kind, reason, never a frequency or an id.
package exposition

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// ContentType is what a server says of the text.
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

// Type is Prometheus' kind of a metric.
type Type string

// The kinds of metric.
const (
	CounterType   Type = "counter"
	GaugeType     Type = "gauge"
	HistogramType Type = "histogram"
)

// Family is all samples of one metric.
type Family struct {
	Name    string
	Help    string
	Type    Type
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

// Of is a sample of a value, with labels as pairs of name and value.
func Of(value float64, labels ...string) Sample {
	s := Sample{Value: value}
	for pair := range slices.Chunk(labels, 2) {
		s.Labels = append(s.Labels, Label{Name: pair[0], Value: pair[1]})
	}
	return s
}

// Truth is 1 or 0.
func Truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// Bucket counts observations up to a bound.
type Bucket struct {
	UpperBound float64
	Count      uint64 // of this bucket and all below
}

// Counter is a family of one type that only grows.
func Counter(name, help string, samples ...Sample) Family {
	return Family{Name: name, Help: help, Type: CounterType, Samples: samples}
}

// Gauge is a family of values that go up and down.
func Gauge(name, help string, samples ...Sample) Family {
	return Family{Name: name, Help: help, Type: GaugeType, Samples: samples}
}

var (
	metricName = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*$`)
	labelName  = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
	escapeText = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	escapeLabl = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
)

// Write writes families in Prometheus' text exposition format 0.0.4, sorted by name. Families of one name are
// joined. It fails on a name that Prometheus could not read.
func Write(w io.Writer, families []Family) error {
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
	if f.Type != HistogramType {
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
