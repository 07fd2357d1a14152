package survey

import (
	"fmt"
	"math"
	"time"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/protocol"
)

// How much of a long stretch tells the noise around a channel: so many frames leave the threshold of what counts as
// occupied where the unevenness of the floor has it. They are looked for all over the stretch, and where that is very long, in
// every half second.
const (
	aroundFrames = 128
	aroundRun    = 4 // transforms without a pause, with some overlap between their frames
	aroundEvery  = 500 * time.Millisecond
)

// Meter measures one stretch of samples as a whole, with an Analyzer and without detections: what a capture's manifest
// carries.
type Meter struct {
	cfg         Config
	length      time.Duration // 0: not known
	analyzer    *Analyzer
	bandwidthHz float64   // 0: what is measured is a receiver's whole passband
	around      *Analyzer // of the passband around a channel; nil without one
	looking     bool      // at the passband
	firstIndex  uint64    // of its samples
	longest     *protocol.Measurement
}

// NewMeter makes a Meter. Of the configuration, only FFT, MaskDC and Calibration count.
func NewMeter(cfg Config) (*Meter, error) {
	m := &Meter{cfg: Config{FFT: cfg.FFT, MaskDC: cfg.MaskDC, Calibration: cfg.Calibration, Detect: Detect{Off: true}}}
	return m, m.prepare()
}

// Expect says how long the stretch will be, before the first Write: the spectrum of a short one gets fewer bins, so that enough
// of them are averaged.
func (m *Meter) Expect(length time.Duration) error {
	m.length = length
	return m.prepare()
}

// Channel says, before the first Write, that what is written was cut out of a receiver's passband with this bandwidth
// around its centre. Only what lies within the bandwidth is measured: beyond are the slopes of the channel's filter. An emission
// may fill the channel, so the noise floor is that of the passband around it, which Passband gets.
func (m *Meter) Channel(bandwidthHz float64) error {
	if !(bandwidthHz > 0) {
		return fmt.Errorf("bandwidth %g Hz of a channel: want more than 0", bandwidthHz)
	}
	m.bandwidthHz = bandwidthHz
	return m.prepare()
}

// prepare makes the Analyzers anew.
func (m *Meter) prepare() (err error) {
	cfg := m.cfg
	if m.length > 0 {
		cfg.MeasurementEvery = m.length + m.length/100 + time.Second/100 // never reached
	}
	if m.analyzer, err = NewAnalyzer(cfg); err != nil || m.bandwidthHz == 0 {
		return err
	}
	cfg.MeasurementEvery *= 2 // the filter reaches beyond the channel's ends
	m.around, err = NewAnalyzer(cfg)
	return err
}

// Write adds a block, which the Meter does not keep.
func (m *Meter) Write(b *radio.Block) { m.keep(m.analyzer.Write(b)) }

// Passband adds a block of the samples that a channel is cut out of. The Meter does not keep it. Of a long stretch it looks at
// short runs only, always the same ones: that is enough for a noise floor, and many channels are measured at once.
func (m *Meter) Passband(b *radio.Block) {
	if m.around == nil || !(b.Tuning.SampleRateHz > 0) {
		return
	}
	if !m.looking {
		m.looking, m.firstIndex = true, b.Index
	}
	run, every := m.looks(b.Tuning.SampleRateHz)
	part, width := *b, b.Format.BytesPerSample()
	for at, samples := 0, b.Samples(); at < samples; {
		part.Index = b.Index + uint64(at)
		phase := (part.Index - m.firstIndex) % every
		if phase >= run {
			at += int(min(every-phase, uint64(samples-at)))
			continue
		}
		n := int(min(run-phase, uint64(samples-at)))
		part.Raw = b.Raw[at*width : (at+n)*width]
		m.around.Write(&part)
		at += n
	}
}

// looks is how many samples of the passband are looked at in a run, and from where to where the runs are.
func (m *Meter) looks(rateHz float64) (run, every uint64) {
	run = uint64(aroundRun * binsFor(&m.around.cfg, rateHz))
	between := aroundEvery
	if m.length > 0 {
		between = min(between, m.length*(2*aroundRun-1)/aroundFrames)
	}
	return run, max(run, samplesOf(between, rateHz))
}

// Measurement ends the stretch and says what it held; nil when it held no samples. Should the stretch have had to be
// divided, at a change of rate, it is the longest part.
func (m *Meter) Measurement() *protocol.Measurement {
	if s := m.analyzer.stretch; m.around != nil && s != nil && s.begun {
		s.within(m.bandwidthHz, m.around.stretch)
	}
	m.keep(m.analyzer.Flush())
	return m.longest
}

func (m *Meter) keep(emissions []Emission) {
	for _, e := range emissions {
		if got := e.Record.GetMeasurement(); got != nil && got.GetSamples() >= m.longest.GetSamples() {
			m.longest = got
		}
	}
}

// within has the measurement of a stretch look at a channel only, with the noise floor of the passband that it was cut from.
func (s *stretch) within(bandwidthHz float64, passband *stretch) {
	floor, reliable := passband.noise()
	s.psd.channel(bandwidthHz, s.tuning.SampleRateHz, func(offsetHz float64) float64 { return floor(s.centerHz + offsetHz) })
	s.unreliable = !reliable
}

// noise is the noise density over absolute frequency in the measurement under way. Where that holds too little to tell,
// it is NaN everywhere; it is unreliable in a band that is nearly full.
func (s *stretch) noise() (density func(hz float64) float64, reliable bool) {
	if s != nil && s.begun {
		s.psd.drain()
	}
	if s == nil || !s.begun || s.psd.frames == 0 {
		return func(float64) float64 { return math.NaN() }, false
	}
	rate, bins := s.tuning.SampleRateHz, float64(s.bins)
	v := s.psd.describe(rate)
	return func(hz float64) float64 {
		bin := math.Round((hz-s.centerHz)/rate*bins + bins/2)
		return s.psd.floor(int(math.Max(0, math.Min(bin, bins-1))))
	}, v.occupied <= unreliableOccupied
}
