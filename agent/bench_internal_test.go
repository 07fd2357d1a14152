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
	if text := bench(BenchCmd{TSV: true, Only: "chain_heimdall_cf32_512"}); !strings.HasPrefix(text, "chain_heimdall_cf32_512\t") {
		t.Errorf("by the name that it prints: %s", text)
	}
	err := BenchCmd{Only: "cu8_7"}.Run(t.Context(), streams{out: io.Discard, err: io.Discard})
	if !errors.As(err, new(usageError)) || !strings.Contains(err.Error(), "--only cu8_7: want one of cu8_4096, ") || !strings.HasSuffix(err.Error(), ", cu8_detection") {
		t.Errorf("a case that there is not: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	var nothing strings.Builder
	if err := (BenchCmd{}).Run(ended, streams{out: &nothing, err: io.Discard}); !errors.Is(err, context.Canceled) || nothing.Len() > 0 {
		t.Errorf("got %v and %q", err, nothing.String())
	}
}

// endsAfter is a context that ends when it was asked so often.
type endsAfter struct {
	context.Context //nolint:containedctx // it is one
	left            int
}

func (e *endsAfter) Err() error {
	if e.left--; e.left < 0 {
		return context.Canceled
	}
	return nil
}

// TestBenchCmd_Interrupted: a person still gets what was measured until then.
func TestBenchCmd_Interrupted(t *testing.T) {
	for _, one := range []struct {
		cmd  BenchCmd
		want string // of the second case, which was measured
	}{{BenchCmd{}, "  spectrum of 256 bins from cu8\n"}, {BenchCmd{TSV: true}, "chain_heimdall_cu8_256\t"}, {BenchCmd{JSON: true}, ""}} {
		var out strings.Builder
		one.cmd.effort = effort{samples: 1 << 14, rounds: 1}
		err := one.cmd.Run(&endsAfter{t.Context(), 2}, streams{out: &out, err: io.Discard})
		if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "stopped after 2 of 17 cases") {
			t.Errorf("got %v", err)
		}
		if !strings.Contains(out.String(), one.want) || strings.Contains(out.String(), "512 bins") || strings.Contains(out.String(), "_512") || one.cmd.JSON && out.Len() > 0 {
			t.Errorf("%q is not in, or more than it: %s", one.want, out.String())
		}
	}
}
