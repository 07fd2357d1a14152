//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

func parts() []string { return []string{"telegraf", "frames", "single", "latency", "drain", "bytes"} }

// plan is what to measure.
type plan struct {
	rounds, records, backlog int
	rate                     float64
	span, watch              time.Duration
	programs                 string
	only                     []string
}

func (p *plan) choose(only string) error {
	if p.only = parts(); only == "" {
		return nil
	}
	p.only = strings.Split(only, ",")
	for _, part := range p.only {
		if !slices.Contains(parts(), part) {
			return fmt.Errorf("-only %s: want some of %s", part, strings.Join(parts(), ", "))
		}
	}
	return nil
}

func (p *plan) has(part string) bool { return slices.Contains(p.only, part) }

func (p *plan) run(ctx context.Context, out io.Writer) error {
	w, err := newWorld(ctx, p.programs)
	if err != nil {
		return err
	}
	defer w.close()
	if err := p.throughput(ctx, w, out); err != nil {
		return err
	}
	for _, part := range []struct {
		name string
		run  func(context.Context, *world, io.Writer) error
	}{{"latency", p.latency}, {"drain", p.drain}, {"bytes", p.bytes}} {
		if !p.has(part.name) {
			continue
		}
		if err := part.run(ctx, w, out); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

// throughput runs the three ways in turn, so that what slows the machine slows all of them.
func (p *plan) throughput(ctx context.Context, w *world, out io.Writer) error {
	flows := make(map[string][]flow)
	ways := map[string]func() (flow, error){
		"telegraf": func() (flow, error) { return w.telegraf(ctx, p.records) },
		"frames":   func() (flow, error) { return w.heimdall(ctx, p.records, false) },
		"single":   func() (flow, error) { return w.heimdall(ctx, p.records, true) },
	}
	for range p.rounds {
		for _, name := range parts() {
			way := ways[name]
			if way == nil || !p.has(name) {
				continue
			}
			f, err := way()
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			flows[name] = append(flows[name], f)
		}
	}
	if len(flows) > 0 {
		writeFlows(out, p.records, flows)
	}
	return nil
}

func (p *plan) latency(ctx context.Context, w *world, out io.Writer) error {
	made, spooled, err := w.latency(ctx, p.rate, p.span)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\nat %.0f records/s (p50 / p95 / p99, ms)\n", p.rate)
	fmt.Fprintf(out, "  %-40s %6.0f / %.0f / %.0f\n", "made → committed in the database", made[0], made[1], made[2])
	fmt.Fprintf(out, "  %-40s %6.0f / %.0f / %.0f\n", "committed in the spool → in the database", spooled[0], spooled[1], spooled[2])
	return nil
}

func (p *plan) drain(ctx context.Context, w *world, out io.Writer) error {
	d, err := w.drain(ctx, p.backlog, false)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\nbacklog of %d records\n", p.backlog)
	fmt.Fprintf(out, "  filled in %.1f s (%.0f MB on disk), drained in %.1f s (%.0f records/s, %.0f in a commit)\n",
		d.fillSeconds, d.spoolSize, d.seconds, float64(p.backlog)/d.seconds, d.commits)
	fmt.Fprintf(out, "  agent: %.1f MB resident at most (%.1f MB of it not of files), %.0f MB for a moment at the start, wrote %.0f MB\n",
		d.agentMB, d.agentAnonMB, d.agentOpenMB, d.writtenMB)
	fmt.Fprintf(out, "  collector: %.1f MB resident at most\n", d.collectorMB)
	fmt.Fprintf(out, "  µs CPU a record: %s\n", describe([]cpu{d.cpu}))
	return nil
}

// bytes measures what goes over the wire: of a backlog with somebody listening, and of an agent's ordinary day.
func (p *plan) bytes(ctx context.Context, w *world, out io.Writer) error {
	backlog, err := w.drain(ctx, min(50_000, p.backlog), true)
	if err != nil {
		return err
	}
	d, err := w.ordinaryDay(ctx, p.watch)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\nbytes of MQTT payload (at most)\n")
	fmt.Fprintf(out, "  a measurement of an emission, live %.0f, the largest %d (130); in a backlog %.1f (45)\n", d.emission, d.emissionLargest, backlog.payload)
	fmt.Fprintf(out, "  live measurements of all kinds on average %.0f; a spectrum of 1,024 bins %.0f\n", d.measurement, d.spectrum)
	fmt.Fprintf(out, "  a station at the default plan %.1f MB a day (20): measurements %.1f, the rest %.1f with %.1f detections a minute\n",
		d.payloadMB, d.measurementMB, d.otherKindsMB, d.detections)
	fmt.Fprintf(out, "  written to disk by it %.2f GB a day (1.5)\n", d.diskGB)
	return nil
}
