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
	fmt.Fprintf(out, "  %-24s %26s %24s %18s %16s\n", "", "records/s", "times Telegraf", "µs CPU a record", "MB resident")
	titles := map[string]string{"telegraf": "Telegraf", "frames": "Heimdall, in frames", "single": "Heimdall, one a message"}
	for _, name := range parts() {
		all := flows[name]
		if len(all) == 0 {
			continue
		}
		var rates, ratios, sender, reader, memory []float64
		for i, f := range all {
			rates = append(rates, f.rate)
			sender, reader, memory = append(sender, f.senderUs), append(reader, f.readerUs), append(memory, f.readerMB)
			if peer := flows["telegraf"]; i < len(peer) {
				ratios = append(ratios, f.rate/peer[i].rate)
			}
		}
		fmt.Fprintf(out, "  %-24s %26s %24s %18s %16.0f\n", titles[name], spread("%.0f", rates), spread("%.2f", ratios),
			fmt.Sprintf("%.1f + %.1f", median(sender), median(reader)), median(memory))
	}
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
