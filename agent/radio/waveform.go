package radio

import (
	"math"
	"math/bits"
)

// waveform is what an emitter sends around its centre: a pure function of the time at the emitter. It is evaluated at
// a receiver's own sample times, less the delay, so that no interpolation stands between two receivers.
//
// Symbols are counted from the start of a burst; burst is the burst's number and picks its symbols. absolute is the
// time since the scene's epoch, local that since the burst began; step is one sample in seconds.
type waveform interface {
	// fill writes the phase in turns and the amplitude of successive samples. It may leave amplitude alone, which is
	// 1 on entry, and phase, which is 0.
	fill(phase []float64, amplitude []float32, absolute, local instant, burst int64, step float64)
}

// complexWaveform is one that is not made of phase and amplitude.
type complexWaveform interface {
	fillComplex(re, im []float32, local instant, burst int64, step float64)
}

// newWaveform makes an emitter's waveform. A tone has none: phase 0, amplitude 1.
func newWaveform(seed uint64, e *SceneEmitter) any {
	key := drawKey(seed, "waveform", e.ID)
	m := e.Modulation
	switch m.Kind {
	case "fm":
		return newSpeech(key, float64(m.Deviation))
	case "fsk":
		return &fsk{bits: bitSource{key}, baud: float64(m.Baud), deviation: float64(m.Deviation)}
	case "ook":
		return &ook{bits: bitSource{key}, baud: float64(m.Baud)}
	case "qpsk":
		return newShaped(key, float64(m.Baud), qpskRollOff, false)
	case "noise":
		return newShaped(key, float64(m.Bandwidth), noiseRollOff, true)
	}
	return nil
}

// speech is frequency modulation by something like a voice: sines of random frequency and phase from 300 to 3000 Hz,
// falling by 6 dB an octave above 500 Hz. Being a finite sum it is known at any instant without a filter's history.
type speech struct {
	hz    [speechTones]float64
	start [speechTones]float64 // turns
	beta  [speechTones]float64 // turns of phase deviation
}

const (
	speechTones  = 24
	speechLowHz  = 300
	speechTopHz  = 3000
	speechCorner = 500
	// speechCrest is the peak deviation over its standard deviation.
	speechCrest = 2
	// speechNodeS is the distance of the points at which the sum is evaluated with its first two derivatives; between
	// them a quintic runs. (2π·3000·48e-6)⁶/46080 = 1.2e-5 of the highest tones' phase deviation at most.
	speechNodeS = 48e-6
)

func newSpeech(key uint64, deviationHz float64) *speech {
	s := &speech{}
	power := 0.0
	for i := range s.hz {
		// One tone in each of equal steps of log frequency, at a random place in it.
		at := (float64(i) + drawUnit(key, uint64(2*i))) / speechTones
		s.hz[i] = speechLowHz * math.Pow(float64(speechTopHz)/speechLowHz, at)
		s.start[i] = drawUnit(key, uint64(2*i+1))
		s.beta[i] = math.Min(1, speechCorner/s.hz[i]) // deviation in Hz, to be scaled
		power += s.beta[i] * s.beta[i] / 2
	}
	scale := deviationHz / speechCrest / math.Sqrt(power)
	for i := range s.beta {
		s.beta[i] *= scale / s.hz[i] // ∫ Δf·cos(2πft) dt = Δf/(2πf)·sin: turns need Δf/(2πf)
		s.beta[i] /= 2 * math.Pi
	}
	return s
}

func (s *speech) fill(phase []float64, _ []float32, absolute, _ instant, _ int64, step float64) {
	stride := max(1, int(speechNodeS/step))
	h := float64(stride) * step
	var z, turn [speechTones]complex128
	for i, hz := range s.hz {
		_, frac := absolute.cycles(hz)
		z[i] = cis(frac + s.start[i])
		turn[i] = cis(hz * h)
	}
	p0, d0, c0 := s.node(&z, h)
	for at := 0; at < len(phase); at += stride {
		for i := range z {
			z[i] *= turn[i]
		}
		p1, d1, c1 := s.node(&z, h)
		quintic(phase[at:min(at+stride, len(phase))], stride, p0, d0, c0, p1, d1, c1)
		p0, d0, c0 = p1, d1, c1
	}
}

// node is the phase, its slope and its curvature, in turns a node distance h.
func (s *speech) node(z *[speechTones]complex128, h float64) (p, d, c float64) {
	for i, v := range z {
		w := 2 * math.Pi * s.hz[i] * h
		y, x := s.beta[i]*imag(v), s.beta[i]*w*real(v)
		p += y
		d += x
		c -= y * w * w
	}
	return p, d, c
}

// quintic writes the polynomial that has value, slope and curvature at both ends of an interval of n samples.
func quintic(out []float64, n int, p0, d0, c0, p1, d1, c1 float64) {
	dp := p1 - p0
	a3 := 10*dp - 6*d0 - 4*d1 - 1.5*c0 + 0.5*c1
	a4 := -15*dp + 8*d0 + 7*d1 + 1.5*c0 - c1
	a5 := 6*dp - 3*(d0+d1) - 0.5*(c0-c1)
	for i := range out {
		x := float64(i) / float64(n)
		out[i] = p0 + x*(d0+x*(c0/2+x*(a3+x*(a4+x*a5))))
	}
}

func cis(turns float64) complex128 {
	s, c := math.Sincos(2 * math.Pi * turns)
	return complex(c, s)
}

// bitSource is an endless row of bits for each burst, in words of 64 that hold as many ones as zeros: so a running sum
// over bits can be known anywhere without its history. The first word is a preamble 1010….
type bitSource struct{ key uint64 }

const preamble = 0x5555555555555555 // bit 0 first

func (b bitSource) word(burst, n int64) uint64 {
	if n == 0 {
		return preamble
	}
	key := draw(b.key, uint64(burst))
	w := draw(key, uint64(n))
	order := draw(key, ^uint64(n))
	for ones := bits.OnesCount64(w); ones != 32; ones = bits.OnesCount64(w) {
		flip := uint64(1) << (order & 63)
		if (w&flip != 0) == (ones > 32) {
			w ^= flip
		}
		order = order*6364136223846793005 + 1442695040888963407
		order ^= order >> 29
	}
	return w
}

// bit is the nth bit of a burst.
func (b bitSource) bit(burst, n int64) float64 {
	return float64(b.word(burst, n>>6) >> (n & 63) & 1)
}

// fsk is two-tone frequency shift keying with continuous phase.
type fsk struct {
	bits            bitSource
	baud, deviation float64
}

func (f *fsk) fill(phase []float64, _ []float32, _, local instant, burst int64, step float64) {
	n, x := local.cycles(f.baud)
	perSample := f.baud * step
	perSymbol := f.deviation / f.baud // turns
	base, slope := f.symbol(burst, n, perSymbol)
	for i := range phase {
		if x >= 1 {
			whole := math.Floor(x)
			n, x = n+int64(whole), x-whole
			base, slope = f.symbol(burst, n, perSymbol)
		}
		phase[i] = base + slope*x
		x += perSample
	}
}

// symbol is the phase at the start of a symbol and its change over it. Whole words add up to nothing.
func (f *fsk) symbol(burst, n int64, perSymbol float64) (base, slope float64) {
	w, within := f.bits.word(burst, n>>6), int(n&63)
	ones := bits.OnesCount64(w & (1<<within - 1))
	slope = perSymbol
	if w>>within&1 == 0 {
		slope = -perSymbol
	}
	return float64(2*ones-within) * perSymbol, slope
}

// ook is on-off keying with edges rounded over a fifth of a symbol.
type ook struct {
	bits bitSource
	baud float64
}

const ookEdge = 0.1 // of a symbol, on each side of a boundary

func (o *ook) fill(_ []float64, amplitude []float32, _, local instant, burst int64, step float64) {
	n, x := local.cycles(o.baud)
	perSample := o.baud * step
	at := func(n int64) float64 {
		if n < 0 {
			return 0
		}
		return o.bits.bit(burst, n)
	}
	before, now, after := at(n-1), at(n), at(n+1)
	for i := range amplitude {
		if x >= 1 {
			whole := math.Floor(x)
			n, x = n+int64(whole), x-whole
			before, now, after = at(n-1), at(n), at(n+1)
		}
		a := now
		switch {
		case x < ookEdge && before != now:
			a = before + (now-before)*smooth((x+ookEdge)/(2*ookEdge))
		case x > 1-ookEdge && after != now:
			a = now + (after-now)*smooth((x-1+ookEdge)/(2*ookEdge))
		}
		amplitude[i] = float32(a)
		x += perSample
	}
}

// smooth rises from 0 to 1 as a raised cosine.
func smooth(x float64) float64 { return 0.5 - 0.5*math.Cos(math.Pi*x) }

// shaped is a row of random symbols through a root raised cosine filter: QPSK, or noise of a given bandwidth when the
// symbols are normal.
type shaped struct {
	key    uint64
	baud   float64
	normal bool
	pulse  [shapedPhases + 1][shapedTaps]float32
}

const (
	qpskRollOff  = 0.35
	noiseRollOff = 0.2
	shapedTaps   = 16  // symbols that one sample hears
	shapedPhases = 512 // places in a symbol; a line between them errs by (1/512)²/8·π² = 5e-6
)

func newShaped(key uint64, baud, rollOff float64, normal bool) *shaped {
	s := &shaped{key: key, baud: baud, normal: normal}
	energy := 0.0
	for p := range s.pulse {
		for k := range shapedTaps {
			// Tap k hears the symbol that lies k - taps/2 + 1 symbols after the current one.
			v := rootRaisedCosine(float64(p)/shapedPhases-float64(k-shapedTaps/2+1), rollOff)
			s.pulse[p][k] = float32(v)
			if p < shapedPhases {
				energy += v * v / shapedPhases
			}
		}
	}
	for p := range s.pulse {
		for k := range s.pulse[p] {
			s.pulse[p][k] /= float32(math.Sqrt(energy))
		}
	}
	return s
}

// rootRaisedCosine is the pulse of unit energy, t in symbols.
func rootRaisedCosine(t, a float64) float64 {
	if math.Abs(t) < 1e-9 {
		return 1 - a + 4*a/math.Pi
	}
	if math.Abs(math.Abs(4*a*t)-1) < 1e-9 {
		return a / math.Sqrt2 * ((1+2/math.Pi)*math.Sin(math.Pi/(4*a)) + (1-2/math.Pi)*math.Cos(math.Pi/(4*a)))
	}
	return (math.Sin(math.Pi*t*(1-a)) + 4*a*t*math.Cos(math.Pi*t*(1+a))) / (math.Pi * t * (1 - 16*a*a*t*t))
}

// symbol has a mean square of 1.
func (s *shaped) symbol(key uint64, n int64) (re, im float32) {
	if s.normal {
		x, y := drawNormal(key, uint64(n))
		return float32(x * math.Sqrt2 / 2), float32(y * math.Sqrt2 / 2)
	}
	b := draw(key, uint64(n))
	const side = math.Sqrt2 / 2
	return side * float32(int(b&1)*2-1), side * float32(int(b>>1&1)*2-1)
}

func (s *shaped) fillComplex(re, im []float32, local instant, burst int64, step float64) {
	key := draw(s.key, uint64(burst))
	n, x := local.cycles(s.baud)
	perSample := s.baud * step
	var a, b [shapedTaps]float32
	load := func() {
		for k := range shapedTaps {
			a[k], b[k] = s.symbol(key, n+int64(k-shapedTaps/2+1))
		}
	}
	load()
	im = im[:len(re)]
	for i := range re {
		if x >= shapedTaps { // symbols much shorter than samples
			n, x = n+int64(x), x-math.Floor(x)
			load()
		}
		for x >= 1 {
			x--
			n++
			copy(a[:], a[1:])
			copy(b[:], b[1:])
			a[shapedTaps-1], b[shapedTaps-1] = s.symbol(key, n+shapedTaps/2)
		}
		place := x * shapedPhases
		p := int(place)
		mu := float32(place - float64(p))
		lo, hi := &s.pulse[p], &s.pulse[p+1]
		var sr, si float32
		for k := range shapedTaps {
			c := lo[k] + mu*(hi[k]-lo[k])
			sr += c * a[k]
			si += c * b[k]
		}
		re[i], im[i] = sr, si
		x += perSample
	}
}
