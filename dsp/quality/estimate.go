package main

import (
	"fmt"
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/stat"

	"github.com/fulgidus/heimdall/dsp"
)

// estimate is the error of one quantity over many trials.
type estimate struct {
	of    string // what is measured
	at    string // under which conditions
	snrDB float64
	unit  string
	bias  float64
	rms   float64 // about the truth
	limit float64 // of rms: NaN where none is known
	bound string  // which limit it is
	count int
}

func newEstimate(of, at string, snrDB float64, unit string, errors []float64, limit float64, bound string) estimate {
	mean, variance := stat.PopMeanVariance(errors, nil)
	return estimate{
		of: of, at: at, snrDB: snrDB, unit: unit, bias: mean, rms: math.Sqrt(mean*mean + variance), limit: limit, bound: bound,
		count: len(errors),
	}
}

// floorEstimates reads the floor of averaged spectra, part of their bins occupied.
func floorEstimates(table *noiseTable, averages int, occupied float64, trials int, seed uint64) estimate {
	const n = 4096
	power, _ := table.moments()
	w := must(dsp.NewWelch(n))
	var histogram dsp.Histogram
	var errors []float64
	psd := make([]float64, n)
	samples := (averages + 1) * n / 2
	for trial := range trials {
		w.Reset()
		w.Break()
		feed(table, seed, uint64(trial), samples, func(raw []byte) { w.WriteRaw(raw, dsp.CU8) })
		w.PSD(psd, 1)
		for i := range int(occupied * n) {
			psd[i] = 1e3 * power
		}
		errors = append(errors, dsp.DB(dsp.NoiseFloor(psd, dsp.QuantileBias(averages, dsp.FloorQuantile), &histogram)/power))
	}
	return newEstimate("floor", fmt.Sprintf("%d frames, %.0f %% occupied", averages, 100*occupied), math.NaN(), "dB", errors,
		floorLimitDB((1-occupied)*float64(samples)), "Cramér–Rao")
}

// toneEstimates places a tone from one Hann frame.
func toneEstimates(table *noiseTable, energyDB float64, trials int, seed uint64) []estimate {
	const n = 1024
	power, _ := table.moments()
	rng := rand.New(rand.NewPCG(seed, 0x746f6e65))
	source := newNoise(table, seed, 0)
	w := must(dsp.NewWelch(n))
	amplitude := math.Sqrt(fromDB(energyDB) * power / n)
	var frequency, level []float64
	psd, raw := make([]float64, n), make([]byte, 2*n)
	re, im, tone := make([]float32, n), make([]float32, n), make([]complex128, n)
	for range trials {
		source.fill(raw)
		dsp.Convert(re, im, raw, dsp.CU8)
		bin := float64(100) + rng.Float64()
		clear(tone)
		dsp.Tone(amplitude, bin/n)(tone, uint64(rng.IntN(1<<20)))
		for i, v := range tone {
			re[i] += float32(real(v))
			im[i] += float32(imag(v))
		}
		w.Reset()
		w.Break()
		w.Write(re, im)
		w.PSD(psd, 1)
		top := 0
		for i, v := range psd {
			if v > psd[top] {
				top = i
			}
		}
		offset, peak := dsp.ToneAt(psd, top, power)
		frequency = append(frequency, float64(top-n/2)+offset-bin)
		level = append(level, dsp.DB(peak*w.ENBW()/n/(amplitude*amplitude)))
	}
	energy := fromDB(energyDB)
	return []estimate{
		newEstimate("centre", "line, one frame", energyDB, "bins", frequency, frequencyLimit(energy), "Cramér–Rao"),
		newEstimate("level", "line, one frame", energyDB, "dB", level, levelLimitDB(1, energy), "Cramér–Rao"),
	}
}

// spectrumEstimates measures lasting QPSK of 48 kBd in an averaged spectrum, as a measurement does: the limits are those of
// the acceptance vectors.
func spectrumEstimates(table *noiseTable, snrDB float64, trials int, seed uint64) []estimate {
	const n, averages, symbol = 4096, 64, 50
	const symbolHz, binHz = rateHz / symbol, rateHz / n
	const half = 72 // bins: the box is half as wide again as what it holds
	power, _ := table.moments()
	density := power / rateHz
	truth := fromDB(snrDB) * density * occupiedRatio * symbolHz
	rng := rand.New(rand.NewPCG(seed, 0x7370656374))
	samples := (averages + 1) * n / 2
	wave := burst{1000 * float64(samples) / rateHz, symbol}.waveform()
	w := must(dsp.NewWelch(n))
	var histogram dsp.Histogram
	var center, width, level []float64
	psd := make([]float64, n)
	var re, im [chunk / 2]float32
	for trial := range trials {
		w.Reset()
		w.Break()
		at, cut, bin := 0, rng.IntN(len(wave)-samples), 500+rng.Float64()
		feed(table, seed, uint64(trial), samples, func(raw []byte) {
			count := dsp.Convert(re[:], im[:], raw, dsp.CU8)
			addShifted(re[:count], im[:count], wave[cut+at:], math.Sqrt(truth), bin/n, at)
			w.Write(re[:count], im[:count])
			at += count
		})
		w.PSD(psd, rateHz)
		floor := dsp.NoiseFloor(psd, dsp.QuantileBias(averages, dsp.FloorQuantile), &histogram)
		middle := n/2 + int(bin)
		o, ok := dsp.OccupiedBandwidth(middle-half, middle+half, 0.99, func(k int) float64 { return psd[k] - floor })
		if !ok {
			continue
		}
		center = append(center, ((o.Low+o.High)/2-n/2-bin)*binHz)
		width = append(width, 100*((o.High-o.Low)*binHz/(occupiedRatio*symbolHz)-1))
		level = append(level, dsp.DB(o.Power*binHz/truth))
	}
	at := fmt.Sprintf("48 kBd, %d frames of %d", averages, n)
	return []estimate{
		newEstimate("level", at, snrDB, "dB", level, 0.15, "stated"),
		newEstimate("centre", at, snrDB, "Hz", center, 100, "stated"),
		newEstimate("bandwidth", at, snrDB, "%", width, statedWidth(snrDB), "stated"),
	}
}

// burstEstimates describes bursts of 20 ms by the detector's events. The ratio is that in a carrier's bin, or in QPSK's
// 99 % bandwidth.
func burstEstimates(table *noiseTable, b burst, snrDB float64, trials int, seed uint64) []estimate {
	s := newStage(table, b, trials)
	energy := fromDB(snrDB) * occupiedRatio * b.dimensions()
	at := fmt.Sprintf("%.0f kBd, %g ms", b.bandwidthHz()/1e3, b.ms)
	if b.symbol == 0 {
		energy = fromDB(snrDB) * 1.5 * float64(b.samples()) / bins
		at = fmt.Sprintf("carrier, %g ms", b.ms)
	}
	all, events := s.perform(surveyDB, decibels(energy), seed)
	var floor, level, center, start, stop, width []float64
	const micro, binHz = 1e6 / rateHz, rateHz / bins
	truth := energy * s.noisePower() / float64(b.samples())
	for _, p := range all {
		for _, e := range events {
			if !s.matches(e, p) {
				continue
			}
			floor = append(floor, dsp.DB(e.Noise/(e.High-e.Low)/s.noisePower()*bins))
			level = append(level, dsp.DB(e.Power/(truth*s.cutPower(p))))
			center = append(center, (e.Center-p.center)*rateHz/bins)
			start = append(start, (e.Start-float64(p.start))*micro)
			stop = append(stop, (e.End-float64(p.start+b.samples()))*micro)
			width = append(width, 100*((e.High-e.Low)*rateHz/bins/(occupiedRatio*b.bandwidthHz())-1))
			break
		}
	}
	edge, edgeBound := 500.0, "stated"
	centerLimit, centerBound := binHz/10, "tenth of a bin"
	if b.symbol == 0 {
		edge, edgeBound = edgeLimit(bins, fromDB(snrDB))*micro, "one frame"
		centerLimit, centerBound = frequencyLimit(energy)*1000/b.ms, "Cramér–Rao"
	}
	out := []estimate{
		newEstimate("floor", at, snrDB, "dB", floor, 0.5, "stated"),
		newEstimate("level", at, snrDB, "dB", level, levelLimitDB(math.Max(1, occupiedRatio*b.dimensions()), energy), "energy"),
		newEstimate("start", at, snrDB, "µs", start, edge, edgeBound),
		newEstimate("stop", at, snrDB, "µs", stop, edge, edgeBound),
		newEstimate("centre", at, snrDB, "Hz", center, centerLimit, centerBound),
	}
	if b.symbol == 0 {
		return out // its bandwidth is the window's
	}
	return append(out, newEstimate("bandwidth", at, snrDB, "%", width, 100*binHz/(occupiedRatio*b.bandwidthHz()), "one bin"))
}

// statedWidth is the tolerance of the acceptance vectors for the occupied bandwidth, in per cent.
func statedWidth(snrDB float64) float64 {
	if snrDB >= 20 {
		return 1
	}
	return 3
}

// cutPower is the mean power of a burst's stretch of the waveform, about 1.
func (s *stage) cutPower(p placed) float64 {
	sum := 0.0
	for _, v := range s.wave[p.cut : p.cut+s.burst.samples()] {
		sum += real(v)*real(v) + imag(v)*imag(v)
	}
	return sum / float64(s.burst.samples())
}
