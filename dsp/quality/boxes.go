package main

import (
	"math"
	"math/rand/v2"

	"github.com/fulgidus/heimdall/dsp"
)

// The detector asks for cells that stand out each by itself. What the same frames would give to who adds up boxes of them, of all
// lengths and widths and at all places, tells how much of the loss is due to that rule and how much to the frames. It is no
// detector: it knows the noise exactly.

// The stretch of time and frequency that is searched around a burst.
const (
	patchFrames = 160
	patchBins   = 256
	patchLead   = 16 // frames before the burst
)

// box is one size of box, how far apart boxes of it are tried, and what the sum of its cells exceeds by chance.
type box struct {
	frames, bins         int
	frameHop, binHop     int
	threshold, effective float64
}

// boxes are all sizes, powers of two of frames and of bins, and lie over one another by three quarters. They share the
// false alarms alike; as those of boxes that lie over one another are often the same, there are fewer of them.
func boxes(perHour float64) []box {
	sizes := []int{1, 2, 4, 8, 16, 32, 64, 128}
	var all []box
	for _, k := range sizes {
		for _, b := range sizes {
			all = append(all, box{frames: k, bins: b, frameHop: max(1, k/4), binHop: max(1, b/4)})
		}
	}
	alike := newAlikeness()
	for i := range all {
		b := &all[i]
		tries := 2 * hour / float64(b.frameHop*b.binHop) // an hour has two cells of a frame for each sample
		b.effective = alike.looks(b.frames, b.bins)
		pfa := perHour / float64(len(all)) / tries
		b.threshold = energyThreshold(b.effective, pfa) / b.effective * float64(b.frames*b.bins)
	}
	return all
}

// alikeness is the correlation of the powers of two cells of noise: of one frame or of two that follow one another, so many
// bins apart.
type alikeness [2][3]float64

func newAlikeness() (a alikeness) {
	w := dsp.Hann(bins)
	for shift := range a {
		for d := range a[shift] {
			re, im := 0.0, 0.0
			for i := shift * bins / 2; i < bins; i++ {
				v := float64(w.Coefficients[i] * w.Coefficients[i-shift*bins/2])
				sin, cos := math.Sincos(2 * math.Pi * float64(d*i) / bins)
				re, im = re+v*cos, im+v*sin
			}
			a[shift][d] = (re*re + im*im) / (w.SumSquares * w.SumSquares)
		}
	}
	return a
}

// looks is the number of independent cells in a box [Welch67].
func (a alikeness) looks(frames, bins int) float64 {
	sum := 0.0
	for d := range min(bins, len(a[0])) {
		pairs := float64(bins - d)
		if d > 0 {
			pairs *= 2
		}
		sum += pairs * (float64(frames)*a[0][d] + 2*float64(frames-1)*a[1][d])
	}
	cells := float64(frames * bins)
	return cells * cells / sum
}

// patch holds the sums of all cells below and to the left of a place, in units of the noise.
type patch struct {
	sums [patchFrames + 1][patchBins + 1]float64
	w    *dsp.Welch
	psd  [bins]float64
}

// fill makes the patch from samples of noise of known power.
func (p *patch) fill(re, im []float32, power float64) {
	for f := range patchFrames {
		p.w.Reset()
		p.w.Break()
		p.w.Write(re[f*bins/2:][:bins], im[f*bins/2:][:bins])
		p.w.PSD(p.psd[:], 1)
		row := 0.0
		for k := range patchBins {
			row += p.psd[(bins-patchBins)/2+k] / power
			p.sums[f+1][k+1] = p.sums[f][k+1] + row
		}
	}
}

// holds tells whether some box exceeds its threshold.
func (p *patch) holds(all []box) bool {
	for i := range all {
		b := &all[i]
		for f := 0; f+b.frames <= patchFrames; f += b.frameHop {
			low, high := &p.sums[f], &p.sums[f+b.frames]
			for k := 0; k+b.bins <= patchBins; k += b.binHop {
				if high[k+b.bins]-high[k]-low[k+b.bins]+low[k] > b.threshold {
					return true
				}
			}
		}
	}
	return false
}

// boxTrials counts how often the search finds a burst of an energy at a random place; minus infinity is noise alone.
func boxTrials(table *noiseTable, b burst, wave []complex128, all []box, energyDB float64, trials int, seed uint64) detectionPoint {
	const samples = (patchFrames + 1) * bins / 2
	power, _ := table.moments()
	amplitude := math.Sqrt(fromDB(energyDB) * power / float64(b.samples()))
	rng := rand.New(rand.NewPCG(seed, 0x626f786573))
	p := patch{w: must(dsp.NewWelch(bins))}
	raw, re, im := make([]byte, 2*samples), make([]float32, samples), make([]float32, samples)
	point := detectionPoint{energyDB: energyDB, of: trials}
	for trial := range trials {
		newNoise(table, seed, uint64(trial)).fill(raw)
		dsp.Convert(re, im, raw, dsp.CU8)
		start, cut := patchLead*bins/2+rng.IntN(rowStep), rng.IntN(len(wave)-b.samples())
		addShifted(re[start:start+b.samples()], im[start:start+b.samples()], wave[cut:], amplitude, (rng.Float64()-0.5)/bins, 0)
		p.fill(re, im, power)
		if p.holds(all) {
			point.found++
		}
	}
	return point
}

// measureBoxes is the curve of that search at one false alarm an hour.
func measureBoxes(table *noiseTable, b burst, trials int, seed uint64) curve {
	const stepDB, reachDB = 0.5, 8.0
	c := curve{burst: b, boxes: true}
	wave, all := b.waveform(), boxes(1)
	start := math.Floor(c.boundAt(0.9)) - 1
	for at := start; at <= start+reachDB; at += stepDB {
		p := boxTrials(table, b, wave, all, at, trials, seed)
		c.points = append(c.points, p)
		if p.pd() >= curveMost {
			break
		}
	}
	return c
}
