package radio

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// What radiod says of a channel, and what it is told.

// usable is the Fault of a channel whose samples are no plain I/Q.
func (s *ka9qState) usable(where string) error {
	var mend string
	encoding, known := ka9qEncodings[s.encoding]
	switch {
	case s.demod != 0 || s.channels != 2 || s.detected || s.shiftHz != 0:
		mend = "is demodulated: take a channel with preset iq, or let control=on make one"
	case !known:
		mend = "is encoded in a way that is no I/Q: set encoding to one of " + strings.Join(ka9qEncodingNames(), ", ")
	case !(s.rate >= 100 && s.rate <= 1e9):
		mend = "has no sample rate"
	case !(s.frequencyHz > 0 && s.frequencyHz < 1e12):
		mend = "has no frequency: set one, or let control=on do it"
	default:
		return nil
	}
	return &Fault{
		where, "ssrc", strconv.FormatUint(uint64(s.ssrc), 10),
		fmt.Sprintf("this channel (preset %q, encoding %s) %s", s.preset, strings.TrimSpace(encoding.name+" "+strconv.Itoa(int(s.encoding))), mend),
	}
}

// tuning is what the channel does. Under AGC nobody knows the gain.
func (s *ka9qState) tuning() Tuning {
	t := Tuning{CenterHz: s.frequencyHz, SampleRateHz: s.rate, GainDB: math.NaN()}
	if !s.agc && !math.IsInf(s.gainDB, 0) {
		t.GainDB = s.gainDB
	}
	return t
}

// tunable is where the channel can go without the front end being tuned, which all other channels hang on.
func (s *ka9qState) tunable() Range {
	low, high := s.front[0], s.front[1]
	if !(low < high) {
		low, high = -s.inputRate/2, s.inputRate/2
	}
	r := Range{
		LowHz: s.firstLOHz + low - s.low, HighHz: s.firstLOHz + high - s.high,
		LowRateHz: 4000, HighRateHz: s.inputRate / 2,
		Settling: ka9qSettle + 3*s.block() + ka9qRestart,
	}
	r.LowHz = math.Max(r.LowHz, 1)
	if !(r.LowHz <= s.frequencyHz && r.HighHz >= s.frequencyHz) { // what was not told, or makes no sense
		r.LowHz, r.HighHz = s.frequencyHz, s.frequencyHz
	}
	r.LowRateHz, r.HighRateHz = math.Min(r.LowRateHz, s.rate), math.Max(r.HighRateHz, s.rate)
	return r
}

// create is the command that makes the channel: fixed gain instead of AGC, because levels are measured, and floats, because
// the gain suits any antenna then.
func (s *ka9qSettings) create(tag uint64) ka9qCommand {
	preset, encoding, gainDB := s.preset, s.encoding, s.gainDB
	if preset == "" {
		preset = "iq"
	}
	if encoding == 0 {
		encoding = ka9qEncodingNumber("f32le")
	}
	if math.IsNaN(gainDB) {
		gainDB = 0
	}
	c := newKa9qCommand(s.ssrc, tag).bytes(ka9qPreset, []byte(preset)).float64(ka9qFrequency, s.centerHz)
	if s.rateHz != 0 {
		c = c.number(ka9qRate, uint64(math.Round(s.rateHz)))
	}
	return s.edges(c, s.rateHz).number(ka9qChannels, 2).number(ka9qEncoding, uint64(encoding)).number(ka9qAGC, 0).
		float32(ka9qGain, gainDB).number(ka9qLifetime, uint64(ka9qStay/(&ka9qState{}).block()))
}

// edges sets the channel's filter to what was asked for, or to what a new rate has room for.
func (s *ka9qSettings) edges(c ka9qCommand, rateHz float64) ka9qCommand {
	const share = 0.45
	half := s.bandwidthHz / 2
	if half == 0 {
		half = share * rateHz
	}
	if half == 0 {
		return c
	}
	return c.float32(ka9qLowEdge, -half).float32(ka9qHighEdge, half)
}

// change is the command that brings a channel to what the URL says of it, and whether there is anything to change.
func (s *ka9qSettings) change(tag uint64, st *ka9qState) (c ka9qCommand, changes bool) {
	bare := newKa9qCommand(s.ssrc, tag)
	c = append(ka9qCommand(nil), bare...)
	if s.preset != "" && s.preset != st.preset {
		c = c.bytes(ka9qPreset, []byte(s.preset))
	}
	rateHz := 0.0
	if s.rateHz != 0 && math.Round(s.rateHz) != st.rate {
		rateHz = s.rateHz
		c = c.number(ka9qRate, uint64(math.Round(rateHz)))
	}
	if rateHz != 0 || s.bandwidthHz != 0 && math.Abs(st.high-st.low-s.bandwidthHz) > 1 {
		c = s.edges(c, rateHz)
	}
	if s.centerHz != 0 && s.centerHz != st.frequencyHz {
		c = c.float64(ka9qFrequency, s.centerHz)
	}
	if s.encoding != 0 && s.encoding != st.encoding {
		c = c.number(ka9qEncoding, uint64(s.encoding))
	}
	if !math.IsNaN(s.gainDB) && (st.agc || math.Abs(s.gainDB-st.gainDB) > 1e-3) {
		c = c.float32(ka9qGain, s.gainDB)
	}
	return c, len(c) > len(bare)
}

// retune is the command that brings a channel to a tuning.
func (s *ka9qSettings) retune(tag uint64, st *ka9qState, to Tuning) (c ka9qCommand, changes bool) {
	want := ka9qSettings{ssrc: s.ssrc, centerHz: to.CenterHz, gainDB: to.GainDB}
	if math.Abs(to.SampleRateHz-st.rate) > 1e-3*st.rate { // the rate in use is a measured one
		want.rateHz, want.bandwidthHz = to.SampleRateHz, s.bandwidthHz
	}
	return want.change(tag, st)
}
