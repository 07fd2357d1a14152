package dsp

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
)

// Signal adds itself to consecutive samples: dst[i] is sample first+i. Generators of random signals must be called in
// the order of the samples; the same seed then gives the same signal in any block split.
type Signal func(dst []complex128, first uint64)

// Tone is exp(2 pi i f n) times an amplitude, f in cycles a sample.
func Tone(amplitude, cyclesPerSample float64) Signal {
	return func(dst []complex128, first uint64) {
		for i := range dst {
			dst[i] += unit(amplitude, cyclesPerSample, first+uint64(i))
		}
	}
}

// unit is a phasor whose phase stays exact for any n.
func unit(amplitude, cyclesPerSample float64, n uint64) complex128 {
	_, turns := math.Modf(cyclesPerSample * float64(n))
	s, c := math.Sincos(2 * math.Pi * turns)
	return complex(amplitude*c, amplitude*s)
}

// WhiteNoise is complex Gaussian noise, sigma in each of I and Q.
func WhiteNoise(sigma float64, seed uint64) Signal {
	rng := rand.New(rand.NewPCG(seed, 0x6e6f697365))
	return func(dst []complex128, _ uint64) {
		for i := range dst {
			dst[i] += complex(sigma*rng.NormFloat64(), sigma*rng.NormFloat64())
		}
	}
}

// Gated lets a signal through in the stretches [start, stop) of samples, in ascending order. The signal must not
// depend on being called for every sample.
func Gated(s Signal, stretches [][2]uint64) Signal {
	return func(dst []complex128, first uint64) {
		end := first + uint64(len(dst))
		for _, g := range stretches {
			from, to := max(g[0], first), min(g[1], end)
			if from < to {
				s(dst[from-first:to-first], from)
			}
		}
	}
}

// Shifted moves a signal up in frequency.
func Shifted(s Signal, cyclesPerSample float64) Signal {
	var own []complex128
	return func(dst []complex128, first uint64) {
		if cap(own) < len(dst) {
			own = make([]complex128, len(dst))
		}
		own = own[:len(dst)]
		clear(own)
		s(own, first)
		for i, v := range own {
			dst[i] += v * unit(1, cyclesPerSample, first+uint64(i))
		}
	}
}

// QPSK is random quadrature phase shift keying in root-raised-cosine pulses, samplesPerSymbol samples a symbol, of the
// given mean power.
func QPSK(power float64, samplesPerSymbol int, rollOff float64, seed uint64) Signal {
	const span = 16 // symbols on each side: what is cut off lies below -70 dB
	pulse := rootRaisedCosine(samplesPerSymbol, span, rollOff)
	amplitude := math.Sqrt(power / 2)
	symbol := func(k int64) complex128 {
		bits := mix(seed ^ uint64(k)*0x9e3779b97f4a7c15)
		return complex(amplitude*float64(int(bits&1)*2-1), amplitude*float64(int(bits>>1&1)*2-1))
	}
	return func(dst []complex128, first uint64) {
		for i := range dst {
			n := int64(first) + int64(i)
			k := n / int64(samplesPerSymbol)
			phase := int(n % int64(samplesPerSymbol))
			sum := complex(0, 0)
			for j := -span; j <= span; j++ {
				if tap := phase + (j+span)*samplesPerSymbol; tap < len(pulse) {
					sum += symbol(k-int64(j)) * complex(pulse[tap], 0)
				}
			}
			dst[i] += sum
		}
	}
}

// rootRaisedCosine is a pulse over 2 span symbols, scaled so that unit symbols give unit mean power.
func rootRaisedCosine(samplesPerSymbol, span int, a float64) []float64 {
	h := make([]float64, 2*span*samplesPerSymbol+1)
	energy := 0.0
	for i := range h {
		t := float64(i-span*samplesPerSymbol) / float64(samplesPerSymbol)
		switch {
		case t == 0:
			h[i] = 1 - a + 4*a/math.Pi
		case math.Abs(math.Abs(4*a*t)-1) < 1e-9:
			h[i] = a / math.Sqrt2 * ((1+2/math.Pi)*math.Sin(math.Pi/4/a) + (1-2/math.Pi)*math.Cos(math.Pi/4/a))
		default:
			h[i] = (math.Sin(math.Pi*t*(1-a)) + 4*a*t*math.Cos(math.Pi*t*(1+a))) / (math.Pi * t * (1 - 16*a*a*t*t))
		}
		energy += h[i] * h[i]
	}
	scale := math.Sqrt(float64(samplesPerSymbol) / energy)
	for i := range h {
		h[i] *= scale
	}
	return h
}

// MSK is random minimum shift keying: the phase turns by a quarter each bit.
func MSK(amplitude float64, samplesPerBit int, seed uint64) Signal {
	quarter, bit, at := 0.0, int64(-1), uint64(0)
	return func(dst []complex128, first uint64) {
		if first != at {
			panic("dsp: MSK called out of order")
		}
		at += uint64(len(dst))
		for i := range dst {
			n := int64(first) + int64(i)
			if k := n / int64(samplesPerBit); k != bit {
				if bit >= 0 {
					quarter += sign(mix(seed ^ uint64(bit)*0x9e3779b97f4a7c15))
				}
				bit = k
			}
			turn := sign(mix(seed^uint64(bit)*0x9e3779b97f4a7c15)) * float64(n%int64(samplesPerBit)) / float64(samplesPerBit)
			s, c := math.Sincos(math.Pi / 2 * (math.Mod(quarter, 4) + turn))
			dst[i] += complex(amplitude*c, amplitude*s)
		}
	}
}

// NoiseBand is noise of the given total power with a flat spectrum from low to high, in cycles a sample, and nothing
// outside. It repeats after 2^17 samples.
func NoiseBand(power, low, high float64, seed uint64) Signal {
	const n = 1 << 17
	rng := rand.New(rand.NewPCG(seed, 0x62616e64))
	re, im := make([]float32, n), make([]float32, n)
	sum := 0.0
	for k := int(math.Ceil(low * n)); k < int(math.Ceil(high*n)); k++ {
		a, b := rng.NormFloat64(), rng.NormFloat64()
		re[(k+n)%n], im[(k+n)%n] = float32(a), float32(b)
		sum += a*a + b*b
	}
	f, err := NewFFT(n)
	if err != nil {
		panic(err)
	}
	x, y := make([]float32, n), make([]float32, n)
	f.Inverse(x, y, re, im)
	scale := n * math.Sqrt(power/sum)
	return func(dst []complex128, first uint64) {
		for i := range dst {
			k := (first + uint64(i)) % n
			dst[i] += complex(scale*float64(x[k]), scale*float64(y[k]))
		}
	}
}

func sign(bits uint64) float64 { return float64(int(bits&1)*2 - 1) }

// mix is the finaliser of SplitMix64: a good hash of 64 bits.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// Quantise appends samples as a converter of the format would deliver them: rounded to the nearest code, held at the
// rails, nothing dithered. For unsigned 8 bit the code of v is floor(127.5 v + 128).
func Quantise(raw []byte, samples []complex128, format Format) []byte {
	for _, v := range samples {
		for _, x := range [2]float64{real(v), imag(v)} {
			switch format {
			case CU8:
				raw = append(raw, byte(clamp(math.Floor(127.5*x+128), 0, 255)))
			case CS8:
				raw = append(raw, byte(int8(clamp(math.Floor(128*x+0.5), -128, 127))))
			case CS16:
				raw = binary.LittleEndian.AppendUint16(raw, uint16(int16(clamp(math.Floor(32768*x+0.5), -32768, 32767))))
			case CF32:
				raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(float32(x)))
			case FormatUnknown:
			}
		}
	}
	return raw
}

func clamp(x, low, high float64) float64 { return math.Max(low, math.Min(x, high)) }
