package main

import (
	"encoding/binary"
	"math"
	"math/rand/v2"

	"github.com/fulgidus/heimdall/dsp"
)

// burst is a shape of emission: a keyed carrier, or random QPSK.
type burst struct {
	ms     float64
	symbol int // samples; 0: a carrier
}

// rollOff of QPSK pulses, which makes the 99 % bandwidth 1.167 times the symbol rate.
const (
	rollOff       = 0.35
	occupiedRatio = 1.167
)

func (b burst) samples() int { return int(b.ms * rateHz / 1000) }

// bandwidthHz of a carrier is that of its own duration, of QPSK the symbol rate.
func (b burst) bandwidthHz() float64 {
	if b.symbol == 0 {
		return 1000 / b.ms
	}
	return rateHz / float64(b.symbol)
}

// dimensions is duration times bandwidth: the number of symbols.
func (b burst) dimensions() float64 { return b.ms / 1000 * b.bandwidthHz() }

// widthBins is the bandwidth in the detector's bins; a carrier has none.
func (b burst) widthBins() float64 {
	if b.symbol == 0 {
		return 0
	}
	return bins / float64(b.symbol)
}

// waveform is a stretch of unit power at 0 Hz that bursts are cut from.
func (b burst) waveform() []complex128 {
	x := make([]complex128, max(1<<17, 2*b.samples()))
	if b.symbol == 0 {
		dsp.Tone(1, 0)(x, 0)
	} else {
		dsp.QPSK(1, b.symbol, rollOff, 1)(x, 0)
	}
	return x
}

// stage is a stretch of noise with bursts of one shape at random places, far enough apart that one has nothing to do
// with another and the noise floor is not theirs.
type stage struct {
	table *noiseTable
	burst burst
	wave  []complex128
	slots int // side by side in frequency
	every int // samples from one to the next in a slot
	rows  int // of them in a slot
}

func newStage(table *noiseTable, b burst, trials int) *stage {
	s := &stage{table: table, burst: b, wave: b.waveform(), slots: 8}
	for s.slots > 1 && float64(bins/s.slots) < 6*b.widthBins() {
		s.slots /= 2
	}
	s.every = max(10*b.samples(), b.samples()+2*gap)
	s.rows = (trials + s.slots - 1) / s.slots
	return s
}

func (s *stage) samples() int { return gap + (s.rows+1)*s.every + 2*rowStep }

// noisePower is that of all bins together.
func (s *stage) noisePower() float64 {
	power, _ := s.table.moments()
	return power
}

// placed is one burst on the stage.
type placed struct {
	start  int     // first sample
	center float64 // bins from 0 Hz
	cut    int     // where its waveform was taken
}

// place draws where the bursts are, in the order in which they begin.
func (s *stage) place(rng *rand.Rand) []placed {
	var all []placed
	for row := range s.rows {
		for slot := range s.slots {
			middle := (float64(slot)+0.5)/float64(s.slots) - 0.5
			all = append(all, placed{
				start:  gap + row*s.every + slot*s.every/s.slots + rng.IntN(rowStep),
				center: middle*bins + rng.Float64() - 0.5,
				cut:    rng.IntN(len(s.wave) - s.burst.samples()),
			})
		}
	}
	return all
}

// perform puts bursts of an energy, over the noise's density, into noise, and returns where they were and the detector's
// events.
func (s *stage) perform(thresholdDB, energyDB float64, seed uint64) (all []placed, events []dsp.Event) {
	all = s.place(rand.New(rand.NewPCG(seed, 0x7374616765)))
	d := must(dsp.NewDetector(production(thresholdDB)))
	amplitude := math.Sqrt(fromDB(energyDB) * s.noisePower() / float64(s.burst.samples()))
	var re, im [chunk / 2]float32
	var floats []byte
	at, first := 0, 0
	feed(s.table, seed, 0, s.samples(), func(raw []byte) {
		n := dsp.Convert(re[:], im[:], raw, dsp.CU8)
		for first < len(all) && all[first].start+s.burst.samples() <= at {
			first++
		}
		for _, p := range all[first:] {
			if p.start >= at+n {
				break
			}
			s.add(re[:n], im[:n], at, p, amplitude)
		}
		floats = interleave(floats[:0], re[:n], im[:n])
		events = append(events, d.WriteRaw(floats, dsp.CF32)...)
		at += n
	})
	return all, append(events, d.Flush()...)
}

// interleave writes samples as a receiver of floats delivers them.
func interleave(dst []byte, re, im []float32) []byte {
	for i, v := range re {
		dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(v))
		dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(im[i]))
	}
	return dst
}

// add adds the part of one burst that falls into the samples from at on.
func (s *stage) add(re, im []float32, at int, p placed, amplitude float64) {
	from, to := max(p.start, at), min(p.start+s.burst.samples(), at+len(re))
	if from < to {
		addShifted(re[from-at:to-at], im[from-at:to-at], s.wave[p.cut+from-p.start:], amplitude, p.center/bins, from-p.start)
	}
}

// addShifted adds a waveform moved up in frequency, whose first value is its sample first.
func addShifted(re, im []float32, wave []complex128, amplitude, cyclesPerSample float64, first int) {
	_, turns := math.Modf(cyclesPerSample * float64(first))
	sin, cos := math.Sincos(2 * math.Pi * turns)
	phasor := complex(amplitude*cos, amplitude*sin)
	sin, cos = math.Sincos(2 * math.Pi * cyclesPerSample)
	step := complex(cos, sin)
	for i := range re {
		v := wave[i] * phasor
		re[i] += float32(real(v))
		im[i] += float32(imag(v))
		phasor *= step
	}
}

// matches tells whether an event is a burst's: it overlaps it in time, and its band the burst's, but for two bins.
func (s *stage) matches(e dsp.Event, p placed) bool {
	half := s.burst.widthBins()/2 + 2
	return e.End > float64(p.start-rowStep) && e.Start < float64(p.start+s.burst.samples()+rowStep) &&
		e.High > p.center-half && e.Low < p.center+half
}

// detections counts the bursts that were found.
func (s *stage) detections(thresholdDB, energyDB float64, seed uint64) detectionPoint {
	all, events := s.perform(thresholdDB, energyDB, seed)
	point := detectionPoint{energyDB: energyDB, of: len(all)}
	for _, p := range all {
		for _, e := range events {
			if s.matches(e, p) {
				point.found++
				break
			}
		}
	}
	return point
}
