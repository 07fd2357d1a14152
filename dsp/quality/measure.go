package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"time"
)

// report is all that was measured.
type report struct {
	cells     []cellRate
	events    []falseEvents
	curves    []curve
	trades    []trade
	estimates []estimate
}

// trade is the detection of one shape, at one energy, at one threshold.
type trade struct {
	thresholdDB float64
	point       detectionPoint
}

// noiseRun is a threshold and the part of all noise that it is tried on: at low ones much less tells the rate.
type noiseRun struct {
	thresholdDB float64
	share       float64
}

var noiseRuns = []noiseRun{{5.5, 1.0 / 64}, {6, 1.0 / 8}, {6.5, 0.5}, {hourlyDB, 1}, {surveyDB, 1}, {singleDB, 1}}

// The shape and the energies, over the noise's density, whose detection is measured against false events.
var (
	tradeBurst    = burst{2, 256}
	tradeEnergies = []float64{17, 19, 21}
)

// parts is what can be measured alone. Each adds its work; the results are put in place under the lock.
var parts = map[string]func(s settings, r *report, table *noiseTable, w *workload){
	"cells": planCells, "events": planEvents, "detection": planDetection, "estimates": planEstimates,
}

func measure(s settings, progress io.Writer) *report {
	var r report
	var w workload
	table := newNoiseTable()
	for _, name := range []string{"detection", "estimates", "events", "cells"} { // the longest jobs first
		if s.only == "" || s.only == name {
			parts[name](s, &r, table, &w)
		}
	}
	w.run(s.workers, progress)
	return &r
}

// workload is jobs that do not depend on one another.
type workload struct {
	jobs []func(put func(func()))
}

// add takes a job: it computes, and puts its result in place by a function that runs alone.
func (w *workload) add(job func(put func(func()))) { w.jobs = append(w.jobs, job) }

// progressEvery is how often a long run says how far it is.
const progressEvery = 10 * time.Second

// run does all jobs on so many cores.
func (w *workload) run(workers int, progress io.Writer) {
	next := make(chan func(func(func()))) // unbuffered: a job waits for a free core
	var group sync.WaitGroup
	var mu sync.Mutex // guards the report, done and said
	done, begun := 0, time.Now()
	said := begun
	put := func(f func()) {
		mu.Lock()
		defer mu.Unlock()
		f()
		done++
		if now := time.Now(); now.Sub(said) >= progressEvery {
			said = now
			fmt.Fprintf(progress, "%d of %d jobs after %.0f s\n", done, len(w.jobs), now.Sub(begun).Seconds())
		}
	}
	for range max(1, workers) {
		group.Go(func() {
			for job := range next {
				job(put)
			}
		})
	}
	for _, job := range w.jobs {
		next <- job
	}
	close(next)
	group.Wait()
}

// pieces cuts a number of samples into the pieces that seeds make.
func pieces(samples float64, each func(piece uint64, samples int)) {
	for piece := uint64(0); samples > 0; piece++ {
		each(piece, int(math.Min(samples, pieceSamples)))
		samples -= pieceSamples
	}
}

// cellShare is the part of the noise that single cells are counted in.
const cellShare = 0.2

func planCells(s settings, r *report, table *noiseTable, w *workload) {
	pieces(s.samples*cellShare, func(piece uint64, samples int) {
		w.add(func(put func(func())) {
			got := cellRates(table, s.seed, s.first+piece, samples)
			put(func() {
				if r.cells == nil {
					r.cells = got
					return
				}
				for i := range got {
					r.cells[i].add(got[i])
				}
			})
		})
	})
}

func planEvents(s settings, r *report, table *noiseTable, w *workload) {
	runs := noiseRuns
	if s.thresholdDB != 0 {
		runs = []noiseRun{{s.thresholdDB, 1}}
	}
	r.events = make([]falseEvents, len(runs))
	for i, n := range runs {
		r.events[i].thresholdDB = n.thresholdDB
		pieces(s.samples*n.share, func(piece uint64, samples int) {
			w.add(func(put func(func())) {
				got := countEvents(table, s.seed, s.first+piece, samples, n.thresholdDB)
				put(func() {
					r.events[i].samples += got.samples
					r.events[i].events += got.events
				})
			})
		})
	}
}

func planDetection(s settings, r *report, table *noiseTable, w *workload) {
	all := bursts()
	thresholds := []float64{hourlyDB, surveyDB}
	r.curves = make([]curve, len(all)*(len(thresholds)+1))
	for i := range all {
		b := all[len(all)-1-i] // the long ones first
		for j, threshold := range thresholds {
			w.add(func(put func(func())) {
				got := measureCurve(table, b, threshold, s.trials, s.seed)
				put(func() { r.curves[j*len(all)+len(all)-1-i] = got })
			})
		}
	}
	for i, b := range all {
		w.add(func(put func(func())) {
			got := measureBoxes(table, b, s.trials/2, s.seed)
			put(func() { r.curves[len(thresholds)*len(all)+i] = got })
		})
	}
	r.trades = make([]trade, len(noiseRuns)*len(tradeEnergies))
	for i, n := range noiseRuns {
		for j, energy := range tradeEnergies {
			w.add(func(put func(func())) {
				got := newStage(table, tradeBurst, 2*s.trials).detections(n.thresholdDB, energy, s.seed)
				put(func() { r.trades[j*len(noiseRuns)+i] = trade{n.thresholdDB, got} })
			})
		}
	}
}

// What estimates are measured for: averages and occupied part of spectra, energies of a line in one frame, and the ratios
// at which bursts of 20 ms are described.
var (
	floorCases = []struct {
		averages int
		occupied float64
	}{{8, 0}, {64, 0}, {1171, 0}, {16, 0.1}, {16, 0.3}, {16, 0.5}}
	lineEnergies = []float64{20, 30, 40}
	burstSNRs    = []float64{10, 15, 20, 30}
	burstCases   = []burst{{20, 0}, {20, 50}}
)

func planEstimates(s settings, r *report, table *noiseTable, w *workload) {
	var all []func() []estimate
	for _, v := range floorCases {
		all = append(all, func() []estimate {
			return []estimate{floorEstimates(table, v.averages, v.occupied, s.trials, s.seed)}
		})
	}
	for _, energy := range lineEnergies {
		all = append(all, func() []estimate { return toneEstimates(table, energy, 10*s.trials, s.seed) })
	}
	for _, snr := range burstSNRs {
		all = append(all, func() []estimate { return spectrumEstimates(table, snr, s.trials, s.seed) })
	}
	for _, b := range burstCases {
		for _, snr := range burstSNRs {
			all = append(all, func() []estimate { return burstEstimates(table, b, snr, s.trials, s.seed) })
		}
	}
	results, left := make([][]estimate, len(all)), len(all)
	for i, one := range all {
		w.add(func(put func(func())) {
			got := one()
			put(func() {
				results[i] = got
				if left--; left == 0 {
					r.estimates = slices.Concat(results...)
				}
			})
		})
	}
}
