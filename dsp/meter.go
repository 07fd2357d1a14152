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

// Write adds raw samples. A tail shorter than one is left out.
func (m *Meter) Write(raw []byte, format Format) {
	bytes := format.BytesPerSample()
	if bytes == 0 {
		return
	}
	for len(raw) >= bytes {
		n := min(len(raw)/bytes, sumsBlock)
		part := raw[:n*bytes]
		m.add(sum(part, format), part, format)
		raw = raw[n*bytes:]
	}
}

// add takes what some samples add up to.
func (m *Meter) add(s sums, raw []byte, format Format) {
	m.samples += uint64(len(raw) / format.BytesPerSample())
	m.sumI += s.i
	m.sumQ += s.q
	m.sumSquares += s.squares
	if low, high := rails(format); s.low <= low || s.high >= high {
		m.atRails(raw, format)
	} else {
		m.Break()
	}
}

// atRails follows runs at the rails through some samples.
func (m *Meter) atRails(raw []byte, format Format) {
	switch format {
	case CU8:
		for ; len(raw) >= 2; raw = raw[2:] {
			m.rail(raw[0] == 255, raw[0] == 0, raw[1] == 255, raw[1] == 0)
		}
	case CS8:
		for ; len(raw) >= 2; raw = raw[2:] {
			i, q := int8(raw[0]), int8(raw[1])
			m.rail(i == math.MaxInt8, i == math.MinInt8, q == math.MaxInt8, q == math.MinInt8)
		}
	case CS16:
		for ; len(raw) >= 4; raw = raw[4:] {
			v := binary.LittleEndian.Uint32(raw)
			i, q := int16(v), int16(v>>16)
			m.rail(i == math.MaxInt16, i == math.MinInt16, q == math.MaxInt16, q == math.MinInt16)
		}
	case CF32, FormatUnknown:
	}
}

// rail takes the next sample: which of its codes are at a rail.
func (m *Meter) rail(highI, lowI, highQ, lowQ bool) {
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
