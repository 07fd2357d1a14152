package dsp

import (
	"math"
	"math/big"
)

// oscillatorSpan is the number of samples between two exact phases; a power of two.
const oscillatorSpan = 1024

// Oscillator shifts samples in frequency. The phase of every sample is computed from the sample's index, in units of
// 2⁻⁶⁴ of a turn, so it neither drifts nor depends on how the samples are cut into blocks: after 2⁴⁰ samples the
// phase is still right to 2⁻²⁴ of a turn. At index 0 it is zero.
type Oscillator struct {
	step uint64                    // turns a sample, times 2⁶⁴
	turn [oscillatorSpan]complex64 // exp(2πi·k·step)
}

// NewOscillator makes an oscillator that moves what is at 0 Hz to shiftHz, at a sample rate of rateHz. Both must be
// finite and the rate positive.
func NewOscillator(shiftHz, rateHz float64) *Oscillator {
	o := &Oscillator{step: phaseStep(shiftHz, rateHz)}
	for k := range o.turn {
		o.turn[k] = complex64(phasor(uint64(k) * o.step))
	}
	return o
}

// Mix writes the shifted samples to dst, which may be src and must be as long. index is that of the first sample; it
// may be negative.
func (o *Oscillator) Mix(dst, src []complex64, index int64) {
	if o.step == 0 {
		copy(dst, src)
		return
	}
	for len(src) > 0 {
		at := uint64(index) % oscillatorSpan
		n := min(len(src), int(oscillatorSpan-at))
		base := complex64(phasor((uint64(index) - at) * o.step))
		turn := o.turn[at:][:n]
		in, out := src[:n], dst[:n]
		for i, x := range in {
			out[i] = x * (base * turn[i])
		}
		src, dst, index = src[n:], dst[n:], index+int64(n)
	}
}

// phaseStep is shiftHz/rateHz turns as a fraction of 2⁶⁴, computed from the exact values of both numbers: a quotient in
// float64 would be off by a visible part of a turn after 2⁴⁰ samples.
func phaseStep(shiftHz, rateHz float64) uint64 {
	turns := new(big.Rat).SetFloat64(shiftHz)
	turns.Quo(turns, new(big.Rat).SetFloat64(rateHz))
	turns.Mul(turns, new(big.Rat).SetInt(new(big.Int).Lsh(big.NewInt(1), 64)))
	step := new(big.Int).Div(turns.Num(), turns.Denom())
	return step.And(step, new(big.Int).SetUint64(math.MaxUint64)).Uint64()
}

// phasor is exp(2πi·phase/2⁶⁴).
func phasor(phase uint64) complex128 {
	sin, cos := math.Sincos(float64(int64(phase)) * (2 * math.Pi / (1 << 64)))
	return complex(cos, sin)
}
