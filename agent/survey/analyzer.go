package survey

import (
	"fmt"
	"time"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/dsp"
	"github.com/fulgidus/heimdall/protocol"
)

// Config says what an Analyzer measures. Its zero value measures a whole stretch with the documented defaults.
type Config struct {
	// Receiver and Step are copied into every record; empty ones are left out.
	Receiver, Step string

	// FFT is the number of bins of the averaged spectrum, a power of two from 64 to 65536; 0 is 4096.
	// Where the rate is low or the stretch short, the Analyzer uses fewer.
	FFT int

	// MeasurementEvery is how many seconds of samples go into one measurement; 0: one for the whole stretch.
	MeasurementEvery time.Duration

	// SpectrumEvery is how many seconds of samples go into one spectrum; 0: none, negative: one for the whole stretch.
	SpectrumEvery time.Duration
	// SpectrumBins is the number of bins in a spectrum record, a power of two not above FFT; 0 is as many as FFT.
	SpectrumBins int

	// MaskDC leaves the bins around 0 Hz out of the detection: set it from radio.Info.MaskDC or by the user's word.
	MaskDC bool

	Detect      Detect
	Calibration *Calibration // nil: levels are relative to full scale only
}

// Detect is what makes an emission.
type Detect struct {
	Off          bool          // no detections at all
	ThresholdDB  float64       // over the noise floor at four averages; 0 is 8
	MinDuration  time.Duration // shorter ones are dropped; 0 keeps whatever has three cells
	MergeGap     time.Duration // pauses up to this long do not end an emission; 0 is 10 ms
	ReportEvery  time.Duration // an emission still on air is reported again after this long; 0 is 10 s, negative: only at its end
	MaxEmissions int           // most emissions followed at once, the weakest are given up first; 0 is 256
}

// Calibration turns dBFS into dBm.
type Calibration struct {
	OffsetDB      float64 // added to a level in dBFS
	UncertaintyDB float64
	Table         []CalibrationPoint // offsets by frequency, ascending; interpolated, and used instead of OffsetDB when not empty
}

// CalibrationPoint is the offset at one frequency.
type CalibrationPoint struct {
	FrequencyHz, OffsetDB float64
}

// Emission is one record that the Analyzer made, without station, spool and sequence number.
type Emission struct {
	Record *protocol.Record
	// Track is the same number for all records that speak of one emission on air, and 0 in measurements and spectra.
	// The Analyzer leaves Detection.detection_id empty: who publishes the first record of a Track knows its id, and
	// writes it into the later ones until one comes that is not open.
	Track uint64
	// StartS is when what the record speaks of began: seconds from the first sample that the Analyzer was given since it
	// was made or Reset, by the count of samples. It also serves recordings that carry no time.
	StartS float64
}

// Analyzer turns blocks of samples into measurements, spectra and detections. It has no clock and does no I/O:
// the same blocks give the same records, however they are cut. It is not safe for concurrent use.
type Analyzer struct {
	cfg     Config
	stretch *stretch
	out     []Emission
	begun   bool
	origin  uint64 // index of the first sample
}

// NewAnalyzer checks the configuration and makes an Analyzer. Tables and buffers are made when the first block tells
// the sample rate, and again when rate or format change.
func NewAnalyzer(cfg Config) (*Analyzer, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	return &Analyzer{cfg: cfg}, nil
}

func (c *Config) check() error {
	if f := c.FFT; f != 0 && (f < minFFT || f > maxFFT || f&(f-1) != 0) {
		return fmt.Errorf("fft %d: want a power of two from %d to %d", f, minFFT, maxFFT)
	}
	if b := c.SpectrumBins; b != 0 && (b < minFFT || b > maxFFT || b&(b-1) != 0) {
		return fmt.Errorf("spectrum bins %d: want a power of two from %d to %d", b, minFFT, maxFFT)
	}
	if t := c.Detect.ThresholdDB; t != 0 && !(t >= 3 && t <= 60) {
		return fmt.Errorf("detection threshold %g dB: want 3 to 60", t)
	}
	if m := c.Detect.MaxEmissions; m < 0 || m > 4096 {
		return fmt.Errorf("%d emissions at once: want 1 to 4096", m)
	}
	_, err := dsp.Engine()
	return err
}

// Write analyses one block and returns the records it completed. The slice is valid until the next call; the records
// are the caller's. Blocks marked Settling are skipped. A new tuning, rate or format ends the stretch as Flush does;
// lost samples leave a hole that no transform spans.
func (a *Analyzer) Write(b *radio.Block) []Emission {
	a.out = a.out[:0]
	if b.Flags&radio.Settling != 0 || b.Samples() == 0 || !(b.Tuning.SampleRateHz > 0) {
		return a.out
	}
	if !a.begun {
		a.begun, a.origin = true, b.Index
	}
	if s := a.stretch; s != nil && !s.goesOn(b) {
		a.end()
	}
	if s := a.stretch; s == nil || !s.fits(b) {
		a.stretch = newStretch(&a.cfg, b)
	}
	a.out = a.stretch.write(b, a.origin, a.out)
	return a.out
}

// Flush ends the stretch: it returns the closing records of everything under way and leaves the Analyzer as new.
func (a *Analyzer) Flush() []Emission {
	a.out = a.out[:0]
	a.end()
	return a.out
}

// Reset forgets everything under way without a record.
func (a *Analyzer) Reset() {
	a.out = a.out[:0]
	a.begun = false
	if a.stretch != nil {
		a.stretch.reset()
	}
}

func (a *Analyzer) end() {
	if a.stretch != nil {
		a.out = a.stretch.flush(a.out)
	}
}
