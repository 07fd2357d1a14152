package survey

import (
	"math"

	"github.com/fulgidus/heimdall/dsp"
)

// How an averaged spectrum is read.
const (
	skirtPart          = 0.08 // of the band at each end left out of the floor: the receiver's filter
	spikeReach         = 2    // bins on each side of 0 Hz that a spike there spreads over
	peakPfa            = 1e-9 // that the highest of the bins is noise
	growPfa            = 1e-3
	peakOverDB         = 3.0 // least over the floor's shape: its unevenness is no emission
	growOverDB         = 1.0
	unreliableOccupied = 0.6 // of the band
	occupiedShare      = 0.99
	gapBins            = 2   // pauses in frequency inside an emission,
	gapPart            = 0.1 // or this part of its width

	companionReach = 12    // detector bins around a lasting carrier in which its side lobes hide weaker ones
	pureCarrier    = 1e-3  // of a carrier's power in all else there: more is its own modulation
	companionClear = 8     // bins of the averaged spectrum next to the carrier that tell nothing
	companionOver  = 200.0 // the floor
	companionLeak  = 10.0  // the carrier's leakage
	mirrorRatio    = 0.1   // a line as far on the other side this strong makes both a modulation

	reliableBox = 10.0 // in-band SNR, linear, above which the bandwidth is looked for further out
)

// psd averages spectra for two kinds of records that end at different times.
type psd struct {
	welch  *dsp.Welch
	maskDC bool
	step   float64 // of the quantiser

	frames         int // in sum
	sum            []float64
	spectrumFrames int
	spectrumSum    []float64 // nil until a spectrum is asked for
	drained        []float64
	density        []float64 // of the last measurement
	described      bool      // there is one in this stretch
	levels         []float64
	shape          dsp.FloorShape
	histogram      *dsp.Histogram
}

func newPSD(bins int, maskDC bool, step float64) psd {
	return psd{
		welch: must(dsp.NewWelch(bins)), maskDC: maskDC, step: step,
		sum: make([]float64, bins), spectrumSum: make([]float64, bins), drained: make([]float64, bins),
		density: make([]float64, bins), levels: make([]float64, bins),
		shape: dsp.NewFloorShape(bins), histogram: &dsp.Histogram{},
	}
}

// drain moves what the estimator holds into both sums.
func (p *psd) drain() {
	clear(p.drained)
	n := p.welch.Drain(p.drained)
	for i, v := range p.drained {
		p.sum[i] += v
		p.spectrumSum[i] += v
	}
	p.frames += n
	p.spectrumFrames += n
}

func (p *psd) startMeasurement() {
	p.frames = 0
	clear(p.sum)
}

func (p *psd) reset() {
	p.welch.Break()
	p.welch.Reset()
	p.startMeasurement()
	p.described = false
	p.spectrumFrames = 0
	clear(p.spectrumSum)
}

// spectrum is the density in dBFS/Hz, averaged over groups of bins, and starts the next.
func (p *psd) spectrum(bins int, rateHz float64) (levels []float64, averages int) {
	averages = p.spectrumFrames
	if averages == 0 {
		return nil, 0
	}
	group := len(p.spectrumSum) / bins
	scale := p.welch.Density(averages, rateHz) / float64(group)
	levels = p.levels[:bins]
	for i := range levels {
		sum := 0.0
		for _, v := range p.spectrumSum[i*group : (i+1)*group] {
			sum += v
		}
		levels[i] = dsp.DB(sum * scale)
	}
	p.spectrumFrames = 0
	clear(p.spectrumSum)
	return levels, averages
}

// view is what an averaged spectrum shows. Positions are in bins from the lowest frequency.
type view struct {
	floor    float64 // density
	occupied float64 // part of the band over the floor

	peak      bool // something rises above the floor
	peakBin   float64
	peakPower float64

	box       bool
	low, high float64
	snr       float64
}

func (p *psd) describe(rateHz float64) view {
	p.described = true
	scale := p.welch.Density(p.frames, rateHz)
	for i, v := range p.sum {
		p.density[i] = v * scale
	}
	first, end := dsp.Passband(p.density, p.step*p.step/6/rateHz)
	skirt := int(skirtPart * float64(end-first))
	v := view{floor: dsp.NoiseFloor(p.density[first+skirt:end-skirt], p.frames, p.histogram)}
	p.shape.Fit(first, end, func(low, high int) float64 { return dsp.NoiseFloor(p.density[low:high], p.frames, p.histogram) })
	grow := math.Max(dsp.Threshold(p.frames, growPfa), dsp.FromDB(growOverDB))
	top, over := -1, 0
	for k := first; k < end; k++ {
		if p.masked(k) {
			continue
		}
		if p.density[k] > grow*p.floor(k)*2 {
			over++
		}
		if top < 0 || p.density[k] > p.density[top] {
			top = k
		}
	}
	v.occupied = float64(over) / float64(end-first)
	if top < 0 || !(p.density[top] > math.Max(dsp.Threshold(p.frames, peakPfa), dsp.FromDB(peakOverDB))*p.floor(top)) {
		return v
	}
	p.emission(&v, top, grow, rateHz)
	return v
}

func (p *psd) masked(k int) bool {
	middle := len(p.density) / 2
	return p.maskDC && k >= middle-spikeReach && k <= middle+spikeReach
}

func (p *psd) floor(k int) float64 { return dsp.FromDB(p.shape.DB(k)) }

// emission describes the emission around the highest bin.
func (p *psd) emission(v *view, top int, grow, rateHz float64) {
	offset, peak := dsp.ToneAt(p.density, top, p.floor(top))
	v.peak = true
	v.peakBin = float64(top) + offset
	v.peakPower = peak * p.welch.ENBW() * rateHz / float64(len(p.density))
	low, high := p.reach(top, -1, grow), p.reach(top, 1, grow)
	excess := func(k int) float64 { return p.density[k] - p.floor(k) }
	wide := max((high-low+1)/4, 8)
	tight := func(low, high, wide int) (dsp.Occupied, bool) {
		return dsp.OccupiedBandwidth(max(0, low-wide), min(len(p.density)-1, high+wide), occupiedShare, excess)
	}
	o, ok := tight(low, high, 2)
	if !ok {
		return
	}
	noise := 0.0
	for k := low; k <= high; k++ {
		noise += p.floor(k)
	}
	if o.Power > reliableBox*noise {
		if w, ok := tight(low, high, wide); ok {
			o = w
		}
	}
	v.box, v.low, v.high = true, o.Low, o.High
	noise = (o.High - o.Low) * p.floor(int(math.Round((o.Low+o.High)/2)))
	v.snr = occupiedShare * o.Power / noise
}

// reach walks from the peak to the last bin over the floor, across short pauses.
func (p *psd) reach(top, step int, grow float64) int {
	last := top
	for k := top + step; k >= 0 && k < len(p.density); k += step {
		width := (last - top) * step
		if (k-last)*step > max(gapBins, int(gapPart*float64(width)))+1 {
			break
		}
		if p.density[k] > grow*p.floor(k) && !p.masked(k) {
			last = k
		}
	}
	return last
}

// companion is a weak lasting carrier beside a strong one.
type companion struct {
	bin   float64 // from the lowest frequency
	power float64
	noise float64
}

// companions finds the lasting carriers that the detector's coarser bins hide beside a strong one at a bin, within reach
// bins. A modulated carrier has none: lines beside it are its own.
func (p *psd) companions(carrier float64, reach int, rateHz float64) []companion {
	at, n := int(math.Round(carrier)), len(p.density)
	if !p.described || at < companionClear || at >= n-companionClear {
		return nil
	}
	low, high := max(1, at-reach), min(n-2, at+reach)
	top, all := p.density[at], 0.0
	for k := low; k <= high; k++ {
		if k < at-3 || k > at+3 {
			all += p.density[k]
		}
	}
	if all > pureCarrier*top {
		return nil
	}
	var found []companion
	for k := low; k <= high; k++ {
		v, distance := p.density[k], math.Abs(float64(k)-carrier)
		mirror := 2*at - k
		switch {
		case distance < companionClear || v < p.density[k-1] || v <= p.density[k+1],
			v < companionOver*p.floor(k) || v < companionLeak*leakage(distance)*top,
			mirror > 0 && mirror < n-1 && mirrorRatio*v < max(p.density[mirror-1], p.density[mirror], p.density[mirror+1]):
			continue
		}
		offset, peak := dsp.ToneAt(p.density, k, p.floor(k))
		width := rateHz / float64(n)
		found = append(found, companion{float64(k) + offset, peak * p.welch.ENBW() * width, 3 * p.floor(k) * width})
	}
	return found
}

// leakage bounds the power response of a Hann-windowed transform far from a tone: 1/(pi d (d^2-1)) in amplitude.
func leakage(d float64) float64 {
	a := 1 / (math.Pi * d * (d*d - 1))
	return a * a
}
