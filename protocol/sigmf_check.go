package protocol

import (
	"encoding/hex"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"time"
)

var (
	// sigmfDatatype is what SigMF 1.2 allows in core:datatype.
	sigmfDatatype = regexp.MustCompile(`^[cr](?:(?:f64|f32|i32|i16|u32|u16)_[lb]e|[iu]8)$`)
	sigmfVersion  = regexp.MustCompile(`^v?\d+\.\d+\.\d+$`)
)

// Validate finds everything that keeps the recording from being read rightly. The error is FieldErrors.
func (s *SigMF) Validate() error {
	var faults FieldErrors
	add := func(field string, value any, message string) {
		faults = append(faults, FieldError{Field: field, Value: shorten(value), Message: message})
	}
	s.Global.validate(add)
	for i, c := range s.Captures {
		in := "captures[" + strconv.Itoa(i) + "]."
		if i > 0 && c.SampleStart < s.Captures[i-1].SampleStart {
			add(in+"core:sample_start", c.SampleStart, "below that of the capture before: captures are in order")
		}
		checkSample(add, in+"core:sample_start", &c.SampleStart)
		checkSample(add, in+"core:global_index", c.GlobalIndex)
		checkSample(add, in+"core:header_bytes", c.HeaderBytes)
		checkFinite(add, in+"core:frequency", c.FrequencyHz)
		c.Geolocation.validate(add, in+"core:geolocation")
	}
	for i, a := range s.Annotations {
		in := "annotations[" + strconv.Itoa(i) + "]."
		checkSample(add, in+"core:sample_start", &a.SampleStart)
		checkSample(add, in+"core:sample_count", a.SampleCount)
		checkFinite(add, in+"core:freq_lower_edge", a.LowHz)
		checkFinite(add, in+"core:freq_upper_edge", a.HighHz)
		switch {
		case (a.LowHz == nil) != (a.HighHz == nil):
			add(in+"core:freq_lower_edge", nil, "give both edges or none")
		case a.LowHz != nil && *a.LowHz > *a.HighHz:
			add(in+"core:freq_lower_edge", *a.LowHz, "above core:freq_upper_edge")
		}
	}
	if len(faults) == 0 {
		return nil
	}
	return faults
}

// fault takes one finding: field, value, what to write instead.
type fault func(field string, value any, message string)

func (g *SigMFGlobal) validate(add fault) {
	if !sigmfDatatype.MatchString(g.Datatype) {
		add("global.core:datatype", g.Datatype, "want one such as cu8, ci8, ci16_le or cf32_le")
	}
	if !sigmfVersion.MatchString(g.Version) {
		add("global.core:version", g.Version, "want one such as "+SigMFVersion)
	}
	if r := g.SampleRateHz; r != nil && !(*r > 0 && *r <= maxHz) {
		add("global.core:sample_rate", *r, "want more than 0, in samples a second")
	}
	if n := g.NumChannels; n != nil && (*n == 0 || *n > maxIndex) {
		add("global.core:num_channels", *n, "want 1 or more")
	}
	if b, err := hex.DecodeString(g.SHA512); g.SHA512 != "" && (err != nil || len(b) != 64) {
		add("global.core:sha512", g.SHA512, "want 128 hex digits")
	}
	checkSample(add, "global.core:offset", g.Offset)
	checkSample(add, "global.core:trailing_bytes", g.TrailingBytes)
	g.Geolocation.validate(add, "global.core:geolocation")
}

func (p *GeoPoint) validate(add fault, field string) {
	if p == nil {
		return
	}
	if p.Type != "Point" || len(p.Coordinates) < 2 {
		add(field, p.Type, `want {"type":"Point","coordinates":[longitude,latitude,height_m]}`)
		return
	}
	if lon, lat := p.Coordinates[0], p.Coordinates[1]; !(math.Abs(lon) <= 180 && math.Abs(lat) <= 90) {
		add(field, p.Coordinates, "want longitude within ±180 and latitude within ±90, in this order")
	}
}

func checkSample(add fault, field string, n *uint64) {
	if n != nil && *n > maxCount {
		add(field, *n, "larger than any file")
	}
}

func checkFinite(add fault, field string, v *float64) {
	if v != nil && !(math.Abs(*v) <= maxHz) {
		add(field, *v, "no frequency in Hz")
	}
}

// SigMF is the metadata of the recording that the manifest describes: global, and one capture a gap. What the
// manifest does not know, such as the place, is for the caller to add. It fails with an *Error where the manifest
// lacks what SigMF needs.
func (m *CaptureManifest) SigMF(station string) (*SigMF, error) {
	switch {
	case m == nil || m.Format == nil:
		return nil, refuse(CodeMalformed, "capture.format", nil, "missing: a recording needs a datatype")
	case m.Start == nil:
		return nil, refuse(CodeMalformed, "capture.start", nil, "missing: a recording needs the time of its first sample")
	case !(m.GetSampleRateHz() > 0):
		return nil, refuse(CodeMalformed, "capture.sample_rate_hz", nil, "missing: a recording needs a sample rate")
	}
	s := &SigMF{Global: SigMFGlobal{
		Datatype: m.GetFormat(), SampleRateHz: m.SampleRateHz, Version: SigMFVersion, NumChannels: new(uint64(1)),
		SHA512: hex.EncodeToString(m.GetSha512()), Recorder: m.GetRecorder(), Hardware: m.GetHardware(),
		SigMFStation: SigMFStation{
			Station: station, Receiver: m.GetReceiver(), CaptureID: m.GetId(), TimeUncertaintyS: m.TimeUncertaintyS, Scale: m.Scale,
		},
	}}
	if m.TimeQuality != nil {
		s.Global.TimeQuality = m.GetTimeQuality().Short()
	}
	if m.AskedStart != nil {
		s.Global.AskedStart = &Timestamp{time.Unix(0, m.GetAskedStart()).UTC()}
	}
	if t := m.Tuning; t != nil {
		s.Global.GainDB, s.Global.TunedCenterHz, s.Global.TunedRateHz = t.GainDb, t.CenterHz, t.SampleRateHz
	}
	if err := s.addCaptures(m); err != nil {
		return nil, err
	}
	return s, nil
}

// addCaptures makes one capture at the start and one after each gap.
func (s *SigMF) addCaptures(m *CaptureManifest) error {
	s.Captures = []SigMFCapture{{
		GlobalIndex: new(uint64(0)), FrequencyHz: m.CenterHz, Datetime: &Timestamp{time.Unix(0, m.GetStart()).UTC()},
	}}
	var at, lost uint64
	for i, g := range m.Gaps {
		field := fmt.Sprintf("capture.gaps[%d].sample", i)
		if g.GetSample() < at || m.Samples != nil && g.GetSample() > m.GetSamples() {
			return refuse(CodeMalformed, field, g.GetSample(), "outside what the gap before and the capture's end leave")
		}
		at, lost = g.GetSample(), lost+g.GetLost()
		start := m.GetStart() + int64(float64(at+lost)/m.GetSampleRateHz()*1e9)
		if g.Time != nil {
			start = g.GetTime()
		}
		s.Captures = append(s.Captures, SigMFCapture{
			SampleStart: at, GlobalIndex: new(at + lost), FrequencyHz: m.CenterHz,
			Datetime: &Timestamp{time.Unix(0, start).UTC()}, LostExact: g.Exact,
		})
	}
	if lost > 0 {
		s.Global.LostSamples = &lost
	}
	return nil
}
