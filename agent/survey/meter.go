package survey

import (
	"time"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/protocol"
)

// Meter measures one stretch of samples as a whole, with an Analyzer and without detections: what a capture's manifest
// carries.
type Meter struct {
	cfg      Config
	analyzer *Analyzer
	longest  *protocol.Measurement
}

// NewMeter makes a Meter. Of the configuration, only FFT, MaskDC and Calibration count.
func NewMeter(cfg Config) (*Meter, error) {
	cfg = Config{FFT: cfg.FFT, MaskDC: cfg.MaskDC, Calibration: cfg.Calibration, Detect: Detect{Off: true}}
	a, err := NewAnalyzer(cfg)
	if err != nil {
		return nil, err
	}
	return &Meter{cfg: cfg, analyzer: a}, nil
}

// Expect says how long the stretch will be, before the first Write: the spectrum of a short one gets fewer bins, so that enough
// of them are averaged.
func (m *Meter) Expect(length time.Duration) error {
	cfg := m.cfg
	cfg.MeasurementEvery = length + length/100 + time.Second/100 // never reached
	a, err := NewAnalyzer(cfg)
	if err != nil {
		return err
	}
	m.analyzer = a
	return nil
}

// Write adds a block, which the Meter does not keep.
func (m *Meter) Write(b *radio.Block) { m.keep(m.analyzer.Write(b)) }

// Measurement ends the stretch and says what it held; nil when it held no samples. Should the stretch have had to be
// divided, at a change of rate, it is the longest part.
func (m *Meter) Measurement() *protocol.Measurement {
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
