package main

import (
	"encoding/binary"
	"math"
	"math/rand/v2"

	"github.com/fulgidus/heimdall/dsp"
)

// noiseSigma is the deviation of each of I and Q, full scale 1: 12.75 steps of the converter, so that its rounding is
// noise as well and nothing clips.
const noiseSigma = 0.1

// noiseTable turns 16 random bits into a code of a Gaussian variable: the codes of 65536 equally probable stretches of
// its distribution. Its tails end at 4.3 deviations, which does not matter: what is judged is |X|^2, and X is a sum over
// a thousand weighted codes, so that the tail of its distribution is made by many codes that are a little larger than
// usual. noiseExcess says how little is missing.
type noiseTable [1 << 16]byte

func newNoiseTable() *noiseTable {
	var t noiseTable
	for i := range t {
		v := noiseSigma * math.Sqrt2 * math.Erfinv((2*float64(i)+1)/float64(len(t))-1)
		t[i] = dsp.Quantise(nil, []complex128{complex(v, 0)}, dsp.CU8)[0]
	}
	return &t
}

// moments are the mean square of a sample, I and Q together, and the excess kurtosis of each of I and Q.
func (t *noiseTable) moments() (power, kurtosis float64) {
	second, fourth := 0.0, 0.0
	for _, c := range t {
		v := (float64(c) - 127.5) / 127.5
		second += v * v
		fourth += v * v * v * v
	}
	second /= float64(len(t))
	fourth /= float64(len(t))
	return 2 * second, fourth/(second*second) - 3
}

// noiseExcess is by what fraction noise of this excess kurtosis exceeds a ratio to the mean more often than Gaussian
// noise, in one Hann frame of n samples. E|X|^4 is (2 + c) times the square of the mean, c = kurtosis/2 Σw^4/(Σw^2)^2;
// the first term of the Laguerre series makes of it exp(-T) (1 + c/4 (T^2 - 2 T)).
func noiseExcess(kurtosis float64, n int, ratio float64) float64 {
	c := kurtosis / 2 * 35 / 18 / float64(n)
	return c / 4 * (ratio*ratio - 2*ratio)
}

// noise is an endless stretch of cu8 samples, given by its seed and its number.
type noise struct {
	table *noiseTable
	rng   *rand.PCG
}

func newNoise(table *noiseTable, seed, piece uint64) *noise {
	return &noise{table: table, rng: rand.NewPCG(seed, piece)}
}

// fill makes the next samples: raw holds whole pairs of them.
func (n *noise) fill(raw []byte) {
	for ; len(raw) >= 4; raw = raw[4:] {
		r, t := n.rng.Uint64(), n.table
		binary.LittleEndian.PutUint32(raw, uint32(t[uint16(r)])|uint32(t[uint16(r>>16)])<<8|uint32(t[uint16(r>>32)])<<16|uint32(t[r>>48])<<24)
	}
}
