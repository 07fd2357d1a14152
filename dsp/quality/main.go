// Command quality measures how good package dsp is: false alarms in billions of cells of noise, the probability of
// detection against the matched energy detector, and the errors of what is estimated against their bounds. It prints
// tables and draws them. The same seed gives the same figures on any number of cores.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
)

// settings are what is asked for.
type settings struct {
	seed    uint64
	samples float64 // of noise at each of the thresholds that are used; other runs are parts of it
	first   uint64  // piece of noise
	trials  int     // bursts for each point
	workers int
	only    string
	chart   string

	thresholdDB float64 // the only one to count false events at; 0: all
}

func main() {
	var s settings
	flag.Uint64Var(&s.seed, "seed", 1, "of all that is random")
	flag.Float64Var(&s.samples, "samples", 1e10, "of noise for the false events; an hour of 2.4 MHz has 8.64e9")
	flag.Uint64Var(&s.first, "first", 0, "piece of noise to begin with: runs that do not overlap add up")
	flag.IntVar(&s.trials, "trials", 200, "bursts for each point of a curve")
	flag.IntVar(&s.workers, "workers", runtime.NumCPU(), "cores to use")
	flag.StringVar(&s.only, "only", "", "cells, events, detection or estimates")
	flag.Float64Var(&s.thresholdDB, "threshold", 0, "dB: count false events at this one only; 0: at all")
	flag.StringVar(&s.chart, "chart", "", "SVG file to draw a whole run to")
	flag.Parse()
	if err := s.check(flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if err := run(s, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// mostSamples is a year of 2.4 MHz.
const mostSamples = 1e14

// The least that is drawn: a quick run must not replace the chart of a long one.
const (
	leastDrawnSamples = 1e9
	leastDrawnTrials  = 50
)

// check finds what nobody can have meant; rest is what follows the flags.
func (s settings) check(rest []string) error {
	_, known := parts[s.only]
	switch {
	case len(rest) > 0:
		return fmt.Errorf("argument %q: there are only flags, such as -only %s", rest[0], rest[0])
	case s.only != "" && !known:
		return fmt.Errorf("-only %s: want cells, events, detection or estimates", s.only)
	case !(s.samples >= bins && s.samples <= mostSamples):
		return fmt.Errorf("-samples %g: want %d to %g", s.samples, bins, mostSamples)
	case s.trials < 2:
		return fmt.Errorf("-trials %d: want 2 or more", s.trials)
	case s.workers < 1:
		return fmt.Errorf("-workers %d: want 1 or more", s.workers)
	case !(s.thresholdDB == 0 || s.thresholdDB >= 1 && s.thresholdDB <= 40):
		return fmt.Errorf("-threshold %g: want 1 to 40 dB, or 0 for all", s.thresholdDB)
	}
	return nil
}

func run(s settings, out, progress io.Writer) error {
	r := measure(s, progress)
	r.print(out)
	if s.chart == "" || s.only != "" || s.thresholdDB != 0 {
		return nil // a part would leave panels of the chart empty
	}
	if s.samples < leastDrawnSamples || s.trials < leastDrawnTrials {
		fmt.Fprintf(progress, "%s stays as it is: fewer than %g samples or %d trials are too rough to be shown\n",
			s.chart, leastDrawnSamples, leastDrawnTrials)
		return nil
	}
	return r.draw(s.chart)
}

// draw writes the chart to a file.
func (r *report) draw(file string) error {
	if err := os.WriteFile(file, r.chart(), 0o644); err != nil {
		return fmt.Errorf("write the chart: %w", err)
	}
	return nil
}

// must is for sizes that this program chose.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
