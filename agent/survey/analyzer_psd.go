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
	leastFree          = 4   // bins of noise that tell its level
	quietRatio         = 4   // over the quantiser's noise: below it a bin holds nothing else
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
	density        []float64             // of the last measurement
	described      bool                  // there is one in this stretch
	silent         []int                 // frames in whose part of the measurement a bin held no more than the quantiser's noise
	first, end     int                   // bins that the last measurement looked at
	given          func(bin int) float64 // the floor where it is known better than from these samples; nil: it is not
	usual          []float64             // density, with what is silent most of the time put down to that
	levels         []float64
	shape          dsp.FloorShape
	shaped         []float64 // density of shape
	bias           float64   // of the quantile that the floor is read from
	grow           float64   // how far over the floor a bin belongs to an emission,
	occupied       float64   // and how far it counts as occupied
	histogram      *dsp.Histogram
}

func newPSD(bins int, maskDC bool, step float64) psd {
	return psd{
		welch: must(dsp.NewWelch(bins)), maskDC: maskDC, step: step,
		sum: make([]float64, bins), spectrumSum: make([]float64, bins), drained: make([]float64, bins),
		density: make([]float64, bins), levels: make([]float64, bins), usual: make([]float64, bins), silent: make([]int, bins),
		shape: dsp.NewFloorShape(bins), shaped: make([]float64, bins), histogram: &dsp.Histogram{},
	}
}

// drain moves what the estimator holds into both sums.
func (p *psd) drain() {
	n := p.welch.Drain(p.drained)
	if n == 0 {
		return
	}
	quiet := quietRatio * p.step * p.step / 6 / p.welch.Density(n, 1) // |X|^2 summed over n frames
	for i, v := range p.drained {
		p.sum[i] += v
		p.spectrumSum[i] += v
		if v <= quiet {
			p.silent[i] += n
		}
	}
	p.frames += n
	p.spectrumFrames += n
}

func (p *psd) startMeasurement() {
	p.frames = 0
	clear(p.sum)
	clear(p.silent)
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
	p.grow = math.Max(dsp.Threshold(p.frames, growPfa), dsp.FromDB(growOverDB))
	p.occupied = 2 * p.grow
	v := view{floor: p.fit(rateHz)}
	first, end := p.first, p.end
	top, over := -1, 0
	for k := first; k < end; k++ {
		if p.masked(k) {
			continue
		}
		if p.density[k] > p.occupied*p.floor(k) {
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
	p.emission(&v, top, rateHz)
	return v
}

// fit finds the bins that tell of the receiver's noise, and the noise floor in them.
func (p *psd) fit(rateHz float64) float64 {
	if p.given != nil {
		sum := 0.0
		for k := p.first; k < p.end; k++ {
			sum += p.given(k)
		}
		return sum / float64(p.end-p.first)
	}
	p.first, p.end = p.passband(rateHz)
	skirt := int(skirtPart * float64(p.end-p.first))
	p.bias = dsp.QuantileBias(p.frames, dsp.FloorQuantile)
	level := func(low, high int) float64 { return dsp.NoiseFloor(p.density[low:high], p.bias, p.histogram) }
	p.fitShape(level)
	p.fitShape(p.unoccupied)
	return level(p.first+skirt, p.end-skirt)
}

// fitShape fits the floor over frequency to the levels of some bins.
func (p *psd) fitShape(level func(low, high int) float64) {
	p.shape.Fit(p.first, p.end, level)
	p.shape.Powers(p.shaped)
}

// unoccupied is the noise level of some bins without those that rise over the floor found so far: between and under
// emissions the floor is that of the noise beside them. It is NaN where too few are left.
func (p *psd) unoccupied(low, high int) float64 {
	free := p.usual[:0]
	for k := low; k < high; k++ {
		if p.density[k] <= p.occupied*p.floor(k) {
			free = append(free, p.density[k])
		}
	}
	if len(free) < max(leastFree, (high-low)/4) {
		return math.NaN()
	}
	return dsp.NoiseFloor(free, p.bias, p.histogram)
}

// passband finds the bins that the receiver's filter lets through. A click fills its stop band for a moment, and so the
// mean: a bin that was silent most of the time counts as silent.
func (p *psd) passband(rateHz float64) (first, end int) {
	quantiser := p.step * p.step / 6 / rateHz
	for i, v := range p.density {
		p.usual[i] = v
		if 2*p.silent[i] > p.frames {
			p.usual[i] = min(v, quantiser)
		}
	}
	if p.frames < leastAverages {
		smooth(p.usual, p.drained, (leastAverages+p.frames-1)/p.frames)
	}
	return dsp.Passband(p.usual, quantiser)
}

// smooth averages each bin of a spectrum of too few frames with those around it, up to reach on each side: single bins of
// the quantiser's noise reach far over its mean.
func smooth(psd, scratch []float64, reach int) {
	copy(scratch, psd)
	for i := range psd {
		low, high := max(0, i-reach), min(len(psd), i+reach+1)
		sum := 0.0
		for _, v := range scratch[low:high] {
			sum += v
		}
		psd[i] = sum / float64(high-low)
	}
}

// channel has the next measurements look at the bins within half a bandwidth of 0 Hz only, with a floor that is known
// from elsewhere.
func (p *psd) channel(bandwidthHz, rateHz float64, floor func(offsetHz float64) float64) {
	n := float64(len(p.density))
	middle, reach := len(p.density)/2, int(math.Min(bandwidthHz/2/rateHz*n, n/2-1))
	p.first, p.end = middle-reach, middle+reach+1
	p.given = func(bin int) float64 { return floor(float64(bin-middle) * rateHz / n) }
}

// share is the part of all power that belongs to what is measured: all of it, unless that is a channel.
func (p *psd) share() float64 {
	if p.given == nil {
		return 1
	}
	within, all := 0.0, 0.0
	for i, v := range p.density {
		all += v
		if i >= p.first && i < p.end {
			within += v
		}
	}
	return within / all
}

func (p *psd) masked(k int) bool {
	middle := len(p.density) / 2
	return p.maskDC && k >= middle-spikeReach && k <= middle+spikeReach
}

func (p *psd) floor(k int) float64 {
	if p.given != nil {
		return p.given(k)
	}
	return p.shaped[k]
}

// emission describes the emission around the highest bin.
func (p *psd) emission(v *view, top int, rateHz float64) {
	offset, peak := dsp.ToneAt(p.density, top, p.floor(top))
	v.peak = true
	v.peakBin = float64(top) + offset
	v.peakPower = peak * p.welch.ENBW() * rateHz / float64(len(p.density))
	low, high := p.reach(top, -1), p.reach(top, 1)
	excess := func(k int) float64 { return p.density[k] - p.floor(k) }
	wide := max((high-low+1)/4, 8)
	tight := func(low, high, wide int) (dsp.Occupied, bool) {
		return dsp.OccupiedBandwidth(max(p.first, low-wide), min(p.end-1, high+wide), occupiedShare, excess)
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
func (p *psd) reach(top, step int) int {
	last := top
	for k := top + step; k >= p.first && k < p.end; k += step {
		width := (last - top) * step
		if (k-last)*step > max(gapBins, int(gapPart*float64(width)))+1 {
			break
		}
		if p.density[k] > p.grow*p.floor(k) && !p.masked(k) {
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
