//go:build linux

package main

import (
	"fmt"
	"io"
	"slices"
)

// writeFlows prints the rates, and the ratios to Telegraf round by round.
func writeFlows(out io.Writer, records int, flows map[string][]flow) {
	fmt.Fprintf(out, "\n%d records a run, records/s to the last commit (min / median / max of %d rounds)\n", records, rounds(flows))
	fmt.Fprintf(out, "  %-24s %26s %22s %12s %12s\n", "", "records/s", "times Telegraf", "in a commit", "MB resident")
	titles := map[string]string{"telegraf": "Telegraf", "frames": "Heimdall, in frames", "single": "Heimdall, one a message"}
	for _, name := range parts() {
		all := flows[name]
		if len(all) == 0 {
			continue
		}
		var rates, ratios, commits, memory []float64
		for i, f := range all {
			rates, commits, memory = append(rates, f.rate), append(commits, f.commits), append(memory, f.readerMB)
			if peer := flows["telegraf"]; i < len(peer) {
				ratios = append(ratios, f.rate/peer[i].rate)
			}
		}
		fmt.Fprintf(out, "  %-24s %26s %22s %12.0f %12.0f\n", titles[name], spread("%.0f", rates), spread("%.2f", ratios), median(commits), median(memory))
	}
	fmt.Fprintf(out, "\nµs CPU a record (medians)\n")
	for _, name := range parts() {
		if all := flows[name]; len(all) > 0 {
			used := make([]cpu, len(all))
			for i, f := range all {
				used[i] = f.cpu
			}
			fmt.Fprintf(out, "  %-24s %s\n", titles[name], describe(used))
		}
	}
}

// describe prints the medians of what the processes used, and their sum.
func describe(all []cpu) string {
	of := func(part func(cpu) float64) float64 {
		values := make([]float64, len(all))
		for i, c := range all {
			values[i] = part(c)
		}
		return median(values)
	}
	return fmt.Sprintf("sender %.1f, broker %.1f, reader %.1f, database %.1f: %.1f",
		of(func(c cpu) float64 { return c.sender }), of(func(c cpu) float64 { return c.broker }),
		of(func(c cpu) float64 { return c.reader }), of(func(c cpu) float64 { return c.database }), of(cpu.total))
}

func rounds(flows map[string][]flow) int {
	most := 0
	for _, all := range flows {
		most = max(most, len(all))
	}
	return most
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return percentile(sorted, 0.5)
}

func spread(format string, values []float64) string {
	if len(values) == 0 {
		return "-"
	}
	return fmt.Sprintf(format+" / "+format+" / "+format, slices.Min(values), median(values), slices.Max(values))
}
