package dsp

import (
	"math"
	"math/big"
)

// oscillatorSpan is the number of samples between two exact phases; a power of two.
const oscillatorSpan = 1024

// oscillator shifts samples in frequency. The phase of every sample is computed from the sample's index, in units of
// 2⁻⁶⁴ of a turn, so it neither drifts nor depends on how the samples are cut into blocks: after 2⁴⁰ samples the
// phase is still right to 2⁻²⁴ of a turn. At index 0 it is zero.
type oscillator struct {
	step  uint64                             // turns a sample, times 2⁶⁴
	table [2][oscillatorSpan + lanes]float32 // exp(2πi·k·step), real and imaginary parts; lanes more than are used
}

// newOscillator makes an oscillator that moves what is at 0 Hz to shiftHz, at a sample rate of rateHz. Both must be
// finite and the rate positive.
func newOscillator(shiftHz, rateHz float64) *oscillator {
	o := &oscillator{step: phaseStep(shiftHz, rateHz)}
	for k := range o.table[0] {
		p := phasor(uint64(k) * o.step)
		o.table[0][k], o.table[1][k] = float32(real(p)), float32(imag(p))
	}
	return o
}

// turn is what samples that follow one another are multiplied by: the phasors re + i·im times base.
type turn struct {
	re, im []float32
	base   complex128
	still  bool // all of it is 1
}

// turn gives the factors of the samples from an index on, and of how many of n they are.
func (o *oscillator) turn(index int64, n int) (t turn, of int) {
	at := uint64(index) % oscillatorSpan
	of = min(n, int(oscillatorSpan-at))
	return turn{
		re: o.table[0][at:], im: o.table[1][at:],
		base: phasor((uint64(index) - at) * o.step), still: o.step == 0,
	}, of
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
