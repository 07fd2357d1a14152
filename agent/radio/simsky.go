package radio

import (
	"encoding/binary"
	"math"
	"math/bits"

	"github.com/fulgidus/heimdall/dsp"
)

// sky is what one station of a scene hears: noise, and each emission after its delay and path loss.
type sky struct {
	grid     grid
	centerHz float64 // as the station believes
	loHz     float64 // what the tuner does
	loTurns  float64 // its phase at the epoch: nobody knows it, but it stays
	offsetS  float64
	wander   wander
	noiseKey uint64
	sigma    float32 // of the noise, each of I and Q
	normal   *gaussian
	heard    []heard
	table    *[turnSteps][2]float64

	chunk         uint64 // samples a chunk
	have          uint64 // number of the chunk in re, im
	filled        bool
	re, im        []float32
	phase         []float64
	amplitude     []float32
	partRe, partI []float32
}

// heard is one emitter as this station receives it.
type heard struct {
	wave      any
	hz        float64
	delayS    float64
	amplitude float64
	schedule  schedule
}

// turnSteps is the size of the sine table. A second-order step from the nearest entry errs by (π/1024)³/6 = 5e-9.
const turnSteps = 1024

// newSky prepares a station for a centre and rate. The emitters outside the passband are not heard: a receiver's
// filter keeps them out.
func newSky(s *Scene, id string, centerHz, nominalHz float64) *sky {
	st := s.Stations[id]
	crystal := 1 + st.Clock.PPM*1e-6
	k := &sky{
		grid: newGrid(epochOf(s), nominalHz*crystal), centerHz: centerHz, loHz: centerHz * crystal,
		loTurns:  drawUnit(drawKey(s.Seed, "tuner", id), 0),
		offsetS:  st.Clock.OffsetS,
		wander:   newWander(drawKey(s.Seed, "clock", id), st.Clock.SigmaS),
		noiseKey: drawKey(s.Seed, "noise", id),
		normal:   newGaussian(),
		table:    newTurnTable(),
	}
	k.sigma = float32(math.Sqrt(math.Pow(10, (s.Noise.FloorDBFSHz+st.GainDB)/10) * k.grid.rateHz() / 2))
	// Chunks of some 5 ms: within one, the clock's wander is a straight line.
	k.chunk = min(max(uint64(1)<<bits.Len(uint(nominalHz/400)), 256), 16384)
	k.re, k.im = make([]float32, k.chunk), make([]float32, k.chunk)
	k.partRe, k.partI = make([]float32, k.chunk), make([]float32, k.chunk)
	k.phase, k.amplitude = make([]float64, k.chunk), make([]float32, k.chunk)
	for i := range s.Emitters {
		e := &s.Emitters[i]
		hz := float64(e.Center)
		if math.Abs(hz-k.loHz) > k.grid.rateHz()/2 {
			continue
		}
		d := st.Position.distance(e.Position)
		shadow, _ := drawNormal(drawKey(s.Seed, "shadow", e.ID, id), 0)
		level := *e.PowerDBM - s.Path.lossDB(d, hz) + shadow*s.Path.ShadowDB + s.Path.ReferenceDBFS + st.GainDB
		k.heard = append(k.heard, heard{
			wave: newWaveform(s.Seed, e), hz: hz, delayS: d / lightMPerS,
			amplitude: math.Pow(10, level/20), schedule: newSchedule(e.Schedule),
		})
	}
	return k
}

func newTurnTable() *[turnSteps][2]float64 {
	var t [turnSteps][2]float64
	for i := range t {
		t[i][1], t[i][0] = math.Sincos(2 * math.Pi * float64(i) / turnSteps)
	}
	return &t
}

// wander is a clock's slow error: three sines of half a minute to a quarter of an hour. It is smooth, so that times
// inside a segment stay consistent, never beyond 2.45 standard deviations, and the same in every run.
type wander struct {
	peakS   float64
	hz, beg [3]float64
}

func newWander(key uint64, sigmaS float64) wander {
	w := wander{peakS: sigmaS * math.Sqrt(2.0/3)}
	for i := range w.hz {
		w.hz[i] = 1 / (30 * math.Pow(30, drawUnit(key, uint64(2*i))))
		w.beg[i] = drawUnit(key, uint64(2*i+1))
	}
	return w
}

// at is believed minus true time, in seconds.
func (w wander) at(t instant) float64 {
	if w.peakS == 0 {
		return 0
	}
	sum := 0.0
	for i, hz := range w.hz {
		_, frac := t.cycles(hz)
		sum += math.Sin(2 * math.Pi * (frac + w.beg[i]))
	}
	return w.peakS * sum
}

// trueTime is when a sample was really taken.
func (k *sky) trueTime(n uint64) instant {
	believed := k.grid.at(n)
	return believed.plus(-k.offsetS - k.wander.at(believed))
}

// render fills re and im with a chunk.
func (k *sky) render(number uint64) {
	first := number * k.chunk
	from, to := k.trueTime(first), k.trueTime(first+k.chunk)
	step := (float64(to.sec-from.sec) + (to.frac - from.frac)) / float64(k.chunk)
	k.normal.fill(k.re, k.im, draw(k.noiseKey, number), k.sigma)
	for i := range k.heard {
		k.hear(&k.heard[i], from, step)
	}
	k.have, k.filled = number, true
}

// hear adds one emitter to a chunk whose first sample was taken at t.
func (k *sky) hear(h *heard, t instant, step float64) {
	left := t.plus(-h.delayS) // when the wave left the emitter
	_, carrier := left.cycles(h.hz)
	_, lo := t.cycles(k.loHz)
	turns := carrier - lo + k.loTurns
	perSample := (h.hz - k.loHz) * step
	for on := h.schedule.next(left, step, int(k.chunk), 0); on.from < on.to; on = h.schedule.next(left, step, int(k.chunk), on.to) {
		absolute := left.plus(float64(on.from) * step)
		n := on.to - on.from
		phase, amplitude := k.phase[:n], k.amplitude[:n]
		for i := range amplitude {
			phase[i], amplitude[i] = 0, 1
		}
		start := turns + perSample*float64(on.from)
		switch w := h.wave.(type) {
		case complexWaveform:
			w.fillComplex(k.partRe[:n], k.partI[:n], on.local, on.burst, step)
			on.gate(amplitude, step)
			k.addComplex(on.from, amplitude, start, perSample, h.amplitude)
			continue
		case waveform:
			w.fill(phase, amplitude, absolute, on.local, on.burst, step)
		}
		on.gate(amplitude, step)
		k.add(on.from, phase, amplitude, start, perSample, h.amplitude)
	}
}

// unit is exp(2πi·turns), for turns within ±2^20.
func (k *sky) unit(turns float64) (c, s float64) {
	const lift = 1 << 30 // whole turns that make the number positive
	q := turns * turnSteps
	n := int64(q + (lift + 0.5))
	d := (q - float64(n-lift)) * (2 * math.Pi / turnSteps)
	e := &k.table[n&(turnSteps-1)]
	half := 1 - d*d/2
	return e[0]*half - e[1]*d, e[1]*half + e[0]*d
}

func (k *sky) add(from int, phase []float64, amplitude []float32, turns, perSample, level float64) {
	re, im := k.re[from:from+len(phase)], k.im[from:from+len(phase)]
	amplitude = amplitude[:len(phase)]
	a := float32(level)
	for i, p := range phase {
		c, s := k.unit(turns + perSample*float64(i) + p)
		g := a * amplitude[i]
		re[i] += g * float32(c)
		im[i] += g * float32(s)
	}
}

func (k *sky) addComplex(from int, amplitude []float32, turns, perSample, level float64) {
	n := len(amplitude)
	re, im, x, y := k.re[from:from+n], k.im[from:from+n], k.partRe[:n], k.partI[:n]
	a := float32(level)
	for i, g := range amplitude {
		c64, s64 := k.unit(turns + perSample*float64(i))
		c, s := g*a*float32(c64), g*a*float32(s64)
		re[i] += c*x[i] - s*y[i]
		im[i] += c*y[i] + s*x[i]
	}
}

// read quantises samples from a sample number on into raw. After a retune the first fade samples rise from a filter's
// silence; settled tells how many of them have passed.
func (k *sky) read(raw []byte, format dsp.Format, from uint64, settled, fade int) {
	per := format.BytesPerSample()
	for len(raw) > 0 {
		number, within := from/k.chunk, from%k.chunk
		if !k.filled || k.have != number {
			k.render(number)
		}
		n := min(len(raw)/per, int(k.chunk-within))
		re, im := k.re[within:within+uint64(n)], k.im[within:within+uint64(n)]
		if settled < fade {
			k.filled = false // the fade spoils the chunk
			for i := 0; i < n && settled < fade; i, settled = i+1, settled+1 {
				g := float32(settled) / float32(fade)
				re[i] *= g
				im[i] *= g
			}
		}
		quantise(raw[:n*per], format, re, im)
		raw, from = raw[n*per:], from+uint64(n)
	}
}

// quantise writes samples as a converter of that format would, clipping at full scale.
func quantise(raw []byte, format dsp.Format, re, im []float32) {
	switch format {
	case dsp.CU8:
		for i, x := range re {
			raw[2*i], raw[2*i+1] = byte(code(x*127.5+128, 255)), byte(code(im[i]*127.5+128, 255))
		}
	case dsp.CS8:
		for i, x := range re {
			raw[2*i], raw[2*i+1] = byte(code(x*128+128.5, 255)-128), byte(code(im[i]*128+128.5, 255)-128)
		}
	case dsp.CS16:
		for i, x := range re {
			binary.LittleEndian.PutUint16(raw[4*i:], uint16(code(x*32768+32768.5, 65535)-32768))
			binary.LittleEndian.PutUint16(raw[4*i+2:], uint16(code(im[i]*32768+32768.5, 65535)-32768))
		}
	case dsp.CF32:
		for i, x := range re {
			binary.LittleEndian.PutUint32(raw[8*i:], math.Float32bits(x))
			binary.LittleEndian.PutUint32(raw[8*i+4:], math.Float32bits(im[i]))
		}
	case dsp.FormatUnknown:
	}
}

// code is the whole part of v within 0 and most.
func code(v, most float32) int32 { return int32(min(max(v, 0), most)) }
