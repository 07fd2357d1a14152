package main

import (
	"fmt"
	"math"
)

// bursts are the shapes whose detection is measured: a carrier keyed for as long, and QPSK of 9.4, 37.5 and 150 kBd.
func bursts() []burst {
	var all []burst
	for _, symbol := range []int{0, 256, 64, 16} {
		for _, ms := range []float64{0.5, 1, 2, 5, 20} {
			if b := (burst{ms, symbol}); b.symbol == 0 || b.dimensions() >= 8 {
				all = append(all, b)
			}
		}
	}
	return all
}

// detectionPoint is how many bursts of one energy were found.
type detectionPoint struct {
	energyDB  float64 // of the burst over the noise's density
	found, of int
}

func (p detectionPoint) pd() float64 { return float64(p.found) / float64(p.of) }

// curve is the detection of one shape over its energy.
type curve struct {
	burst       burst
	thresholdDB float64 // of the detector,
	boxes       bool    // or none: it is the search of boxes
	points      []detectionPoint
}

// How far a curve is followed.
const (
	curveStepDB  = 1.0
	curveMost    = 0.98
	curveReachDB = 18.0 // from one below the bound
	probeShare   = 8    // part of the trials that tells whether anything is found
)

// measureCurve raises the energy until nearly all bursts are found. Where a few trials find nothing, the step is double.
func measureCurve(table *noiseTable, b burst, thresholdDB float64, trials int, seed uint64) curve {
	c := curve{burst: b, thresholdDB: thresholdDB}
	probe, full := newStage(table, b, trials/probeShare), newStage(table, b, trials)
	start := math.Floor(c.boundAt(0.9)) - 1
	for at := start; at <= start+curveReachDB; at += curveStepDB {
		p := probe.detections(thresholdDB, at, seed)
		if p.found == 0 {
			at += curveStepDB
		} else {
			p = full.detections(thresholdDB, at, seed)
		}
		c.points = append(c.points, p)
		if p.pd() >= curveMost {
			break
		}
	}
	return c
}

// by names what detected.
func (c *curve) by() string {
	if c.boxes {
		return "boxes"
	}
	return fmt.Sprintf("%g", c.thresholdDB)
}

// boundAt is where the bound detects the burst with probability pd, at one false burst an hour.
func (c *curve) boundAt(pd float64) float64 {
	m := c.burst.dimensions()
	return boundDB(m, hourlyPfa(m, 1), pd)
}

// energyAt is the energy at which the curve first crosses pd, between its points; NaN if it never does.
func (c *curve) energyAt(pd float64) float64 {
	for i := 1; i < len(c.points); i++ {
		a, b := c.points[i-1], c.points[i]
		if a.pd() < pd && b.pd() >= pd {
			return a.energyDB + (b.energyDB-a.energyDB)*(pd-a.pd())/(b.pd()-a.pd())
		}
	}
	return math.NaN()
}

// lossDB is how much more energy the detector needs than the bound.
func (c *curve) lossDB(pd float64) float64 { return c.energyAt(pd) - c.boundAt(pd) }

// cellSNR is the ratio in the detector's cells, of a carrier in its bin, that is the curve's at pd.
func (c *curve) cellSNR(pd float64) float64 {
	cells := c.burst.dimensions()
	if c.burst.symbol == 0 {
		cells = 1.5 * float64(c.burst.samples()) / bins
	}
	return c.energyAt(pd) - decibels(cells)
}

// cellLossDB is how much stronger in its cells a burst must be than one that fills a single cell.
func (c *curve) cellLossDB(pd float64) float64 {
	return c.cellSNR(pd) - cellDB(rowFrames, c.thresholdDB, pd)
}
