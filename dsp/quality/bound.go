package main

import (
	"math"

	"gonum.org/v1/gonum/mathext"

	"github.com/fulgidus/heimdall/dsp"
)

// The bound of detection is the matched energy detector [Urkowitz67]: it is told where a burst would be in time and
// frequency, and sums the energy in the burst's own M = duration times bandwidth complex dimensions. In units of the noise's
// density that sum is a gamma variable of shape M without the burst, and half a non-central chi-square one of 2 M degrees
// of freedom with it. It may be wrong as often in an hour as a detector that looks everywhere: it is asked once for each
// of the rate times an hour over M places where a burst could be.

// hourlyPfa is the probability at one place that makes so many false bursts of m dimensions an hour.
func hourlyPfa(m, perHour float64) float64 { return perHour * m / hour }

// energyThreshold is what the sum exceeds without a burst with probability pfa.
func energyThreshold(m, pfa float64) float64 { return mathext.GammaIncRegCompInv(m, pfa) }

// energyDetection is the probability that a burst of given energy over the noise's density exceeds a threshold: a Poisson
// mixture of gamma tails, the generalised Marcum function Q_M(sqrt(2 E), sqrt(2 t)).
func energyDetection(m, energy, threshold float64) float64 {
	sum := 0.0
	reach := 10*math.Sqrt(energy) + 30
	for j := math.Max(0, math.Floor(energy-reach)); j <= energy+reach; j++ {
		lg, _ := math.Lgamma(j + 1)
		sum += math.Exp(j*math.Log(energy)-energy-lg) * mathext.GammaIncRegComp(m+j, threshold)
	}
	return sum
}

// boundDB is the energy over the noise's density at which the bound detects a burst of m dimensions with probability pd.
func boundDB(m, pfa, pd float64) float64 {
	threshold := energyThreshold(m, pfa)
	return solve(func(db float64) bool { return energyDetection(m, fromDB(db), threshold) >= pd })
}

// cellDetection is the probability that the mean of k frames at half overlap, in which a steady line stands over the noise of
// its bin by the ratio snr, exceeds a threshold over the mean noise: what a detector of single cells does with bursts that
// fill their row. The k frames count as k_eff independent ones [Welch67].
func cellDetection(k int, snr, threshold float64) float64 {
	m := dsp.EffectiveAverages(k)
	return energyDetection(m, m*snr, m*threshold)
}

// cellDB is the ratio at which a cell exceeds a threshold with probability pd.
func cellDB(k int, thresholdDB, pd float64) float64 {
	return solve(func(db float64) bool { return cellDetection(k, fromDB(db), fromDB(thresholdDB)) >= pd })
}

// solve is the least value from 0 to 60 dB at which something holds.
func solve(holds func(db float64) bool) float64 {
	low, high := 0.0, 60.0
	for high-low > 1e-3 {
		mid := (low + high) / 2
		if holds(mid) {
			high = mid
		} else {
			low = mid
		}
	}
	return (low + high) / 2
}

// levelLimitDB is the least spread of a level, in dB, for who knows a burst's m dimensions but not its waveform: the
// variance of the energy in them is 2 E + M. For one dimension it is the Cramér-Rao bound of a carrier's level.
func levelLimitDB(m, energy float64) float64 {
	return 10 / math.Ln10 * math.Sqrt(2*energy+m) / energy
}

// frequencyLimit is the Cramér-Rao bound of a carrier's frequency, in turns over its whole length [Rife74].
func frequencyLimit(energy float64) float64 { return math.Sqrt(6/energy) / (2 * math.Pi) }

// edgeLimit is how well the amplitudes of Hann frames of n samples tell when a carrier begins, in samples: at the edge the
// amplitude rises by 2/n of itself a sample, and noise of one frame spreads it by sqrt(1/(2 S)), S the carrier over the noise in its
// bin. A sharp edge itself has no Cramér-Rao bound.
func edgeLimit(n int, binSNR float64) float64 { return float64(n) / 2 / math.Sqrt(2*binSNR) }

// floorLimitDB is the Cramér-Rao bound of a noise level from so many samples.
func floorLimitDB(samples float64) float64 { return 10 / math.Ln10 / math.Sqrt(samples) }

func fromDB(db float64) float64 { return math.Pow(10, db/10) }

func decibels(ratio float64) float64 { return 10 * math.Log10(ratio) }
