package main

import (
	"gonum.org/v1/gonum/mathext"

	"github.com/fulgidus/heimdall/dsp"
)

// pieceSamples is how much noise one seed makes: 28 s of it. Pieces are independent, so that a long run can be made on
// several cores, and in parts.
const pieceSamples = 1 << 26

// chunk is how many bytes of noise are made at once: they stay in the cache.
const chunk = 1 << 14

// feed makes the noise of one piece and hands it on in chunks.
func feed(table *noiseTable, seed, piece uint64, samples int, use func(raw []byte)) {
	source := newNoise(table, seed, piece)
	var raw [chunk]byte
	for left := 2 * samples; left > 0; left -= chunk {
		part := raw[:min(left, chunk)]
		source.fill(part)
		use(part)
	}
}

// cellRate is how often cells of noise lie over the exact threshold for one probability.
type cellRate struct {
	averages int
	pfa      float64
	cells    float64
	over     float64
	squares  float64 // of the sizes of groups of neighbours over it at once: the variance of over
}

// ratio is measured over exact.
func (c *cellRate) ratio() float64 { return c.over / c.cells / c.pfa }

// interval holds the true ratio with 95 % probability. Groups of neighbours count as what they are: one accident.
func (c *cellRate) interval() (low, high float64) {
	group := 1.0
	if c.over > 0 {
		group = c.squares / c.over
	}
	low, high = poissonInterval(c.over / group)
	scale := group / (c.cells * c.pfa)
	return low * scale, high * scale
}

// poissonInterval holds the mean of a Poisson variable that was n with 95 % probability [Garwood36].
func poissonInterval(n float64) (low, high float64) {
	if n > 0 {
		low = mathext.GammaIncRegInv(n, 0.025)
	}
	return low, mathext.GammaIncRegInv(n+1, 0.975)
}

var (
	cellAverages = []int{1, 4, 8, 16}
	cellPfas     = []float64{1e-3, 1e-4, 1e-5, 1e-6, 1e-7}
)

// cellRates counts cells over the thresholds of the exact table in one piece of noise of known power.
func cellRates(table *noiseTable, seed, piece uint64, samples int) []cellRate {
	power, _ := table.moments()
	var all []cellRate
	var estimators []*dsp.Welch
	for _, k := range cellAverages {
		for _, pfa := range cellPfas {
			all = append(all, cellRate{averages: k, pfa: pfa})
		}
		estimators = append(estimators, must(dsp.NewWelch(bins)))
	}
	psd := make([]float64, bins)
	feed(table, seed, piece, samples, func(raw []byte) {
		for len(raw) > 0 {
			hop := raw[:min(bins, len(raw))] // half a frame: two bytes a sample
			raw = raw[len(hop):]
			for i, k := range cellAverages {
				w := estimators[i]
				w.WriteRaw(hop, dsp.CU8)
				if w.Averages() < k {
					continue
				}
				w.PSD(psd, 1)
				w.Reset()
				for j := range cellPfas {
					all[i*len(cellPfas)+j].count(psd, power)
				}
			}
		}
	})
	return all
}

// count judges one averaged spectrum of noise.
func (c *cellRate) count(psd []float64, power float64) {
	c.cells += float64(len(psd))
	limit := power * dsp.Threshold(c.averages, c.pfa)
	group := 0.0
	for _, v := range psd {
		if v > limit {
			group++
			continue
		}
		if group > 0 {
			c.over += group
			c.squares += group * group
			group = 0
		}
	}
	c.over += group
	c.squares += group * group
}

func (c *cellRate) add(o cellRate) {
	c.cells += o.cells
	c.over += o.over
	c.squares += o.squares
}

// falseEvents is how many emissions the detector reported in noise.
type falseEvents struct {
	thresholdDB float64
	samples     float64
	events      int
}

// cells is the number of cells of single frames, two a sample.
func (f *falseEvents) cells() float64 { return 2 * f.samples }

// perHour is the rate, with the interval that holds the true one with 95 % probability.
func (f *falseEvents) perHour() (rate, low, high float64) {
	low, high = poissonInterval(float64(f.events))
	scale := hour / f.samples
	return float64(f.events) * scale, low * scale, high * scale
}

// countEvents runs a piece of noise through the detector as the survey does.
func countEvents(table *noiseTable, seed, piece uint64, samples int, thresholdDB float64) falseEvents {
	d := must(dsp.NewDetector(production(thresholdDB)))
	count := falseEvents{thresholdDB: thresholdDB, samples: float64(samples)}
	feed(table, seed, piece, samples, func(raw []byte) { count.events += len(d.WriteRaw(raw, dsp.CU8)) })
	count.events += len(d.Flush())
	return count
}
