package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"
)

func TestBenchCmd(t *testing.T) {
	bench := func(c BenchCmd) string {
		t.Helper()
		var out strings.Builder
		c.effort = effort{samples: 1 << 16, rounds: 1}
		if err := c.Run(t.Context(), streams{out: &out, err: io.Discard}); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	cases := benchCases(1)
	lines := strings.Split(strings.TrimSuffix(bench(BenchCmd{TSV: true}), "\n"), "\n")
	if len(lines) != len(cases) || !strings.HasPrefix(lines[0], "chain_heimdall_cu8_4096\t") {
		t.Errorf("%d lines, want %d, and first the one that is compared:\n%s", len(lines), len(cases), lines[0])
	}
	form := regexp.MustCompile(`^[a-z0-9_]+\tMsps\t[0-9]+\.[0-9]{3}\t[0-9]+\.[0-9]{3}$`)
	for _, line := range lines {
		if !form.MatchString(line) || strings.Contains(line, "\t0.000") {
			t.Errorf("%q", line)
		}
	}
	var report benchReport
	if err := json.Unmarshal([]byte(bench(BenchCmd{JSON: true})), &report); err != nil || report.Engine == "" || len(report.Cases) != len(cases) || !(report.Carries > 0) || !(report.Share > 0) {
		t.Errorf("%+v, %v", report, err)
	}
	if text := bench(BenchCmd{}); !strings.Contains(text, "spectrum of 4096 bins from cu8") || !strings.Contains(text, "A stick at 2.4 Msps takes ") {
		t.Error(text)
	}
	if text := bench(BenchCmd{TSV: true, Only: "ci16_256"}); !strings.HasPrefix(text, "chain_heimdall_ci16_256\t") || strings.Count(text, "\n") != 1 {
		t.Errorf("one case: %s", text)
	}
	if text := bench(BenchCmd{JSON: true, Only: "cu8_detection"}); strings.Contains(text, "carries") {
		t.Errorf("one case: %s", text)
	}
	if err := (BenchCmd{Only: "cu8_7"}).Run(t.Context(), streams{out: io.Discard, err: io.Discard}); !errors.As(err, new(usageError)) {
		t.Errorf("a case that there is not: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (BenchCmd{}).Run(ended, streams{out: io.Discard, err: io.Discard}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
