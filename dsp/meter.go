package dsp

import (
	"encoding/binary"
	"math"
)

// Meter sums over raw samples what needs no spectrum: power, DC and the codes at the converter's rails. It sees every
// sample, in any block split.
type Meter struct {
	samples      uint64
	sumI, sumQ   float64
	sumSquares   float64
	rails        uint64 // codes at a rail
	clipped      uint64 // those of them in runs of two or more
	lastI, lastQ int8   // rail of the previous code: -1, 0, 1
	runI, runQ   bool   // the previous code was already counted as clipped
}

// heavyRails is the share of codes at the rails above which each of them counts as clipped: no unclipped signal but a
// square one sits there that often, however short its runs are.
const heavyRails = 0.1

// Write adds raw samples.
func (m *Meter) Write(raw []byte, format Format) {
	switch format {
	case CU8:
		m.writeCU8(raw)
	case CS8:
		m.writeCS8(raw)
	case CS16:
		m.writeCS16(raw)
	case CF32:
		m.writeCF32(raw)
	case FormatUnknown:
	}
}

func (m *Meter) writeCU8(raw []byte) {
	var si, sq, s2 int64
	for ; len(raw) >= 2; raw = raw[2:] {
		i, q := int64(raw[0])*2-255, int64(raw[1])*2-255
		si += i
		sq += q
		s2 += i*i + q*q
		m.samples++
		m.rail(i == 255, i == -255, q == 255, q == -255)
	}
	m.sumI += float64(si) / 255
	m.sumQ += float64(sq) / 255
	m.sumSquares += float64(s2) / (255 * 255)
}

func (m *Meter) writeCS8(raw []byte) {
	var si, sq, s2 int64
	for ; len(raw) >= 2; raw = raw[2:] {
		i, q := int64(int8(raw[0])), int64(int8(raw[1]))
		si += i
		sq += q
		s2 += i*i + q*q
		m.samples++
		m.rail(i == math.MaxInt8, i == math.MinInt8, q == math.MaxInt8, q == math.MinInt8)
	}
	m.sumI += float64(si) / 128
	m.sumQ += float64(sq) / 128
	m.sumSquares += float64(s2) / (128 * 128)
}

func (m *Meter) writeCS16(raw []byte) {
	var si, sq int64
	var s2 float64
	for ; len(raw) >= 4; raw = raw[4:] {
		v := binary.LittleEndian.Uint32(raw)
		i, q := int64(int16(v)), int64(int16(v>>16))
		si += i
		sq += q
		s2 += float64(i*i + q*q)
		m.samples++
		m.rail(i == math.MaxInt16, i == math.MinInt16, q == math.MaxInt16, q == math.MinInt16)
	}
	m.sumI += float64(si) / 32768
	m.sumQ += float64(sq) / 32768
	m.sumSquares += s2 / (32768 * 32768)
}

func (m *Meter) writeCF32(raw []byte) {
	for ; len(raw) >= 8; raw = raw[8:] {
		v := binary.LittleEndian.Uint64(raw)
		i, q := float64(finite(uint32(v))), float64(finite(uint32(v>>32)))
		m.sumI += i
		m.sumQ += q
		m.sumSquares += i*i + q*q
		m.samples++
	}
}

// rail follows runs at the rails; almost always no argument is true and nothing is under way.
func (m *Meter) rail(highI, lowI, highQ, lowQ bool) {
	if !highI && !lowI && !highQ && !lowQ && m.lastI|m.lastQ == 0 {
		return
	}
	m.lastI, m.runI = m.follow(m.lastI, m.runI, highI, lowI)
	m.lastQ, m.runQ = m.follow(m.lastQ, m.runQ, highQ, lowQ)
}

func (m *Meter) follow(last int8, run, high, low bool) (rail int8, running bool) {
	switch {
	case high:
		rail = 1
	case low:
		rail = -1
	default:
		return 0, false
	}
	m.rails++
	if rail != last {
		return rail, false
	}
	m.clipped++
	if !run {
		m.clipped++ // the first of the run
	}
	return rail, true
}

// Break marks a hole in the stream: no run spans it.
func (m *Meter) Break() { m.lastI, m.lastQ, m.runI, m.runQ = 0, 0, false, false }

// Reset forgets all sums. A run under way goes on.
func (m *Meter) Reset() {
	*m = Meter{lastI: m.lastI, lastQ: m.lastQ, runI: m.runI, runQ: m.runQ}
}

// Samples is how many samples were summed.
func (m *Meter) Samples() uint64 { return m.samples }

// Power is the mean |x|^2; NaN without samples.
func (m *Meter) Power() float64 { return m.sumSquares / float64(m.samples) }

// DC is the mean of I and of Q; NaN without samples.
func (m *Meter) DC() (i, q float64) {
	return m.sumI / float64(m.samples), m.sumQ / float64(m.samples)
}

// RailFraction is the share of I and Q codes at either rail; NaN without samples.
func (m *Meter) RailFraction() float64 { return float64(m.rails) / float64(2*m.samples) }

// ClippedFraction is the share of I and Q codes in runs of two or more at either rail. Where more than a tenth of all
// codes are at the rails every one of them counts: a tone that overdrives the converter may meet it once a period.
func (m *Meter) ClippedFraction() float64 {
	if r := m.RailFraction(); r > heavyRails {
		return r
	}
	return float64(m.clipped) / float64(2*m.samples)
}
