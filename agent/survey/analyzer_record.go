package survey

import (
	"math"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/dsp"
	"github.com/fulgidus/heimdall/protocol"
)

// When a measurement's numbers need care.
const (
	railFraction = 1e-4 // of the codes at the rails: fewer are chance
	lowGainSteps = 0.5  // of a quantiser step, noise in each of I and Q: below, the floor is the converter's
)

// measure makes the measurement of the interval that ends here, and starts the next.
func (s *stretch) measure(out []Emission) []Emission {
	rate := s.tuning.SampleRateHz
	m := &protocol.Measurement{
		DurationS:    proto.Float64(float64(s.position-s.measurement.first) / rate),
		SampleRateHz: proto.Float64(rate),
		Samples:      proto.Uint64(s.meter.Samples()), LostSamples: proto.Uint64(s.lost),
		PowerDbfs: decibels(s.meter.Power()),
	}
	if s.centerHz != 0 {
		m.CenterHz = proto.Float64(s.centerHz)
	}
	i, q := s.meter.DC()
	m.DcI, m.DcQ = proto.Float32(roundLevel(i)), proto.Float32(roundLevel(q))
	if dsp.StepOf(s.format) > 0 {
		m.ClippedFraction = proto.Float32(float32(s.meter.ClippedFraction()))
		if s.meter.RailFraction() > railFraction {
			m.Flags = append(m.Flags, protocol.Flag_FLAG_OVERLOAD)
		}
		if s.meter.ClippedFraction() > railFraction {
			m.Flags = append(m.Flags, protocol.Flag_FLAG_CLIPPED)
		}
	}
	s.psd.drain()
	if s.psd.frames > 0 {
		s.describe(m)
		m.PowerDbfs = decibels(s.meter.Power() * s.psd.share())
	}
	if s.flags&radio.OddTail != 0 {
		m.Flags = append(m.Flags, protocol.Flag_FLAG_ODD_TAIL)
	}
	if s.flags&radio.StampsRefused != 0 {
		m.Flags = append(m.Flags, protocol.Flag_FLAG_STAMPS_REFUSED)
	}
	s.calibrate(m)
	r := s.record(s.measurement.time, s.measurement.known)
	r.Body = &protocol.Record_Measurement{Measurement: m}
	s.psd.startMeasurement()
	s.meter.Reset()
	s.lost, s.flags = 0, 0
	s.measurement.begun = false
	return append(out, Emission{Record: r, StartS: s.startS(float64(s.measurement.first))})
}

// describe adds what the averaged spectrum tells.
func (s *stretch) describe(m *protocol.Measurement) {
	rate := s.tuning.SampleRateHz
	v := s.psd.describe(rate)
	m.NoiseFloorDbfsHz = decibels(v.floor)
	if step := dsp.StepOf(s.format); step > 0 && math.Sqrt(v.floor*rate/2) < lowGainSteps*step {
		m.Flags = append(m.Flags, protocol.Flag_FLAG_GAIN_TOO_LOW)
	}
	if s.psd.given == nil && v.occupied > unreliableOccupied || s.unreliable {
		m.Flags = append(m.Flags, protocol.Flag_FLAG_FLOOR_UNRELIABLE)
	}
	if !v.peak {
		return
	}
	hz := func(bin float64) *float64 {
		return proto.Float64(roundHz(s.centerHz + (bin-float64(s.bins/2))*rate/float64(s.bins)))
	}
	m.PeakHz, m.PeakDbfs = hz(v.peakBin), decibels(v.peakPower)
	if v.box {
		m.OccupiedLowHz, m.OccupiedHighHz = hz(v.low), hz(v.high)
		m.OccupiedBandwidthHz = proto.Float64(m.GetOccupiedHighHz() - m.GetOccupiedLowHz())
		m.SnrDb = decibels(v.snr)
	}
}

// statedUncertaintyDB is what a receiver's own word on its levels may be off by: S-meters are set once, where they are made.
const statedUncertaintyDB = 3

// calibration is the configured one, else the receiver's own word; nil: levels are relative to full scale only.
func (s *stretch) calibration() *Calibration {
	if s.cfg.Calibration == nil && s.tuning.FullScaleDBm != 0 {
		return &Calibration{OffsetDB: s.tuning.FullScaleDBm, UncertaintyDB: statedUncertaintyDB}
	}
	return s.cfg.Calibration
}

// calibrate adds the calibrated twins.
func (s *stretch) calibrate(m *protocol.Measurement) {
	c := s.calibration()
	if c == nil {
		return
	}
	offset := c.offset(s.centerHz)
	m.PowerDbm, m.NoiseFloorDbmHz = shifted(m.PowerDbfs, offset), shifted(m.NoiseFloorDbfsHz, offset)
	if m.PeakHz != nil {
		m.PeakDbm = shifted(m.PeakDbfs, c.offset(m.GetPeakHz()))
	}
	m.CalibrationUncertaintyDb = proto.Float32(float32(c.UncertaintyDB))
}

// offset is the calibration at a frequency: the table's, interpolated and held at its ends, else the one number.
func (c *Calibration) offset(hz float64) float64 {
	if len(c.Table) == 0 {
		return c.OffsetDB
	}
	last := c.Table[0]
	if hz <= last.FrequencyHz {
		return last.OffsetDB
	}
	for _, p := range c.Table[1:] {
		if hz < p.FrequencyHz {
			f := (hz - last.FrequencyHz) / (p.FrequencyHz - last.FrequencyHz)
			return last.OffsetDB + f*(p.OffsetDB-last.OffsetDB)
		}
		last = p
	}
	return last.OffsetDB
}

func shifted(dbfs *float32, offset float64) *float32 {
	if dbfs == nil {
		return nil
	}
	return proto.Float32(round2(float64(*dbfs) + offset))
}

// average makes the spectrum of the interval that ends here, and starts the next.
func (s *stretch) average(out []Emission) []Emission {
	s.psd.drain()
	interval := s.spectrum
	s.spectrum.begun = false
	bins := s.bins
	if b := s.cfg.SpectrumBins; b > 0 {
		bins = min(b, s.bins)
	}
	levels, averages := s.psd.spectrum(bins, s.tuning.SampleRateHz)
	if averages == 0 {
		return out
	}
	rate, group := s.tuning.SampleRateHz, s.bins/bins
	step := rate / float64(bins)
	start := s.centerHz - rate/2 + float64(group-1)/2*rate/float64(s.bins)
	body, err := protocol.NewSpectrum(levels, start, step)
	if err != nil {
		return out // a band of digital silence has no spectrum
	}
	body.Averages = proto.Uint32(uint32(averages))
	body.EnbwBins = proto.Float32(float32(dsp.GroupENBW(group)))
	body.DurationS = proto.Float64(float64(s.position-interval.first) / rate)
	r := s.record(interval.time, interval.known)
	r.Body = &protocol.Record_Spectrum{Spectrum: body}
	return append(out, Emission{Record: r, StartS: s.startS(float64(interval.first))})
}

// detections turns the detector's events into records.
func (s *stretch) detections(events []dsp.Event, out []Emission) []Emission {
	for i := range events {
		e := &events[i]
		if !e.Open && e.End-e.Start < s.cfg.Detect.MinDuration.Seconds()*s.tuning.SampleRateHz {
			if _, known := s.born[e.ID]; !known {
				continue
			}
		}
		out = append(out, Emission{Record: s.detection(e), Track: e.ID, StartS: s.startS(float64(s.detected) + e.Start)})
	}
	return out
}

func (s *stretch) detection(e *dsp.Event) *protocol.Record {
	rate := s.tuning.SampleRateHz
	hz := func(bins float64) *float64 {
		return proto.Float64(roundHz(s.centerHz + bins*rate/float64(s.detector.Bins())))
	}
	d := &protocol.Detection{
		DurationS: proto.Float64(roundTime((e.End - e.Start) / rate)),
		CenterHz:  hz(e.Center), LowHz: hz(e.Low), HighHz: hz(e.High),
		BandwidthHz: proto.Float64(roundHz((e.High - e.Low) * rate / float64(s.detector.Bins()))),
		PowerDbfs:   decibels(e.Power),
	}
	if e.Noise > 0 && e.Power > 0 {
		d.SnrDb = decibels(e.Power / e.Noise)
	}
	if e.Open {
		d.Open = proto.Bool(true)
	}
	if e.Clipped {
		d.Flags = append(d.Flags, protocol.Flag_FLAG_CLIPPED)
	}
	if c := s.calibration(); c != nil {
		d.PowerDbm = shifted(d.PowerDbfs, c.offset(d.GetCenterHz()))
		d.CalibrationUncertaintyDb = proto.Float32(float32(c.UncertaintyDB))
	}
	r := s.record(s.start(e), s.known)
	r.Body = &protocol.Record_Detection{Detection: d}
	return r
}

// start is when an event began. All records of one emission say the same.
func (s *stretch) start(e *dsp.Event) time.Time {
	at := s.timeAt(float64(s.detected) + e.Start)
	if at.IsZero() {
		return at
	}
	if ns, known := s.born[e.ID]; known {
		at = time.Unix(0, ns).UTC()
	} else if e.Open {
		s.born[e.ID] = at.UnixNano()
	}
	if !e.Open {
		delete(s.born, e.ID)
	}
	return at
}

// decibels is a power's level to the hundredth; nil when it is not known.
func decibels(power float64) *float32 {
	if math.IsNaN(power) {
		return nil
	}
	return proto.Float32(round2(dsp.DB(power)))
}

func round2(db float64) float32 { return float32(math.Round(db*100) / 100) }

// roundHz and roundLevel round to fractions of a power of two, finer than what is measured: the digits that are left end
// in zero bits, and a backlog takes a fifth less on its way.
func roundHz(hz float64) float64 { return math.Round(hz*64) / 64 }

func roundLevel(x float64) float32 { return float32(math.Round(x*(1<<22)) / (1 << 22)) }

func roundTime(s float64) float64 { return math.Round(s*1e6) / 1e6 }
