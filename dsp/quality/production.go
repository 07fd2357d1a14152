package main

import "github.com/fulgidus/heimdall/dsp"

// The receiver that all is measured for, and how the survey sets the detector for it: rows of 2048 samples are the power
// of two nearest to a millisecond.
const (
	rateHz    = 2.4e6
	bins      = 1024
	rowFrames = 4        // averaged in a cell
	rowStep   = 2 * bins // samples from one row to the next
	hour      = 3600 * rateHz
	gap       = rateHz / 100  // pauses bridged: 10 ms
	window    = rateHz / 2000 // of whole power: 0.5 ms
)

// The settings of the threshold that are measured. One that three cells in rows on end exceed by chance once an hour lies
// lower than one that a single cell does.
const (
	hourlyDB = 7.0  // one false event an hour, by this very measurement
	surveyDB = 8.0  // the survey's own
	singleDB = 9.21 // one cell of four averages an hour exceeds it
)

func production(thresholdDB float64) dsp.DetectorConfig {
	step := dsp.StepOf(dsp.CU8)
	return dsp.DetectorConfig{
		Bins: bins, ThresholdDB: thresholdDB, GapSamples: gap, EnergySamples: window, Step: step, RailLevel: 1 - step,
	}
}
