// Package dsp measures sampled radio signals. It is pure: no clock, no goroutine, no I/O, no global state; the same
// samples give the same numbers, however they were cut into blocks. One thing is looked up, once: which engine this
// processor, or the environment variable HEIMDALL_DSP, gives (Engine).
//
// Conventions: samples are complex, full scale is 1.0, and a full-scale complex tone is 0 dBFS, so a power P is the
// mean of |x|^2 and reads 10 log10 P dBFS. Powers are linear inside and become decibels at the edge (DB). Spectra are
// ordered from the lowest frequency: bin n/2 of n is 0 Hz. What cannot be known is NaN.
//
// Formulas, literature and caveats are in README.md beside this file.
//
//go:generate go run ./gen
package dsp

import "math"

// FloorDBFS is what a power of zero reads: no logarithm of zero leaves this package.
const FloorDBFS = -200

// DB is 10 log10 of a power ratio, never below FloorDBFS.
func DB(power float64) float64 {
	if math.IsNaN(power) {
		return power
	}
	return max(FloorDBFS, 10*math.Log10(max(power, 1e-30)))
}

// FromDB is the power ratio of a level in decibels.
func FromDB(db float64) float64 { return math.Exp(db * (math.Ln10 / 10)) }
