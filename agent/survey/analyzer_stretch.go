package survey

import (
	"math"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/dsp"
	"github.com/fulgidus/heimdall/protocol"
)

const (
	minFFT, maxFFT, defaultFFT = 64, 65536, 4096

	chunkSamples  = 16384  // looked at in every way while they are in the cache
	leastAverages = 8      // frames a measurement should hold: below, its spectrum gets fewer bins
	sameRate      = 1e-3   // relative: a smaller change is a better knowledge of the same rate
	rowSeconds    = 1e-3   // the detector's rows are the power of two of samples nearest to it
	maxRowBins    = 8192   // at high rates rows get shorter, so that their image stays small
	minRowBins    = 64     // at low rates rows get longer, so that frequencies are told apart,
	narrowRateHz  = 24e3   // and below this rate, that of a receiver of one voice channel, still longer:
	narrowRowBins = 256    // a carrier that is keyed down to a tenth there must still stand over the noise in its bin
	narrowJoin    = 3      // with so much narrower bins
	energySeconds = 0.5e-3 // windows that time broad events
	maxOpen       = 256    // emissions followed at once
	partSeconds   = 0.1    // parts of a measurement that tell what is a click: as long, or
	partFrames    = 2      // as many frames without overlap
	mergeGap      = 10 * time.Millisecond
	reportEvery   = 10 * time.Second

	companionTracks = 1 << 63 // their tracks, apart from the detector's
)

// stretch measures one run of samples at one tuning. Its buffers serve the next run of the same kind.
type stretch struct {
	cfg    *Config
	format dsp.Format
	tuning radio.Tuning
	bins   int

	centerHz float64 // 0 when unknown: frequencies are offsets then

	meter    dsp.Meter
	psd      psd
	detector *dsp.Detector
	lasting  []dsp.Event      // carriers on all the time, in flush
	beside   uint64           // companions so far
	born     map[uint64]int64 // start of each emission reported open, Unix nanoseconds

	begun    bool
	segment  uint32
	next     uint64 // index of the sample after the last
	origin   uint64 // index that StartS counts from
	first    uint64 // index of the stretch's first sample
	position uint64 // samples since then, lost ones counted
	detected uint64 // position of the detector's first sample

	// Where and when position anchor is: the block being written.
	anchor     uint64
	anchorTime time.Time
	known      certainty

	measurement interval
	spectrum    interval
	part        interval // after which it is seen which bins were silent
	unreliable  bool     // the given noise floor is a guess
	lost        uint64
	flags       radio.Flags
}

// interval is the samples that go into one record.
type interval struct {
	length uint64 // samples; 0: the whole stretch
	on     bool
	begun  bool
	first  uint64 // position of its first sample
	time   time.Time
	known  certainty // of its time
}

// certainty is how well a time is known.
type certainty struct {
	quality     protocol.TimeQuality
	uncertainty time.Duration
}

func newStretch(cfg *Config, b *radio.Block) *stretch {
	rate := b.Tuning.SampleRateHz
	s := &stretch{
		cfg: cfg, format: b.Format, tuning: b.Tuning, bins: binsFor(cfg, rate),
		born: map[uint64]int64{},
	}
	s.psd = newPSD(s.bins, cfg.MaskDC, dsp.StepOf(b.Format))
	s.measurement = interval{length: samplesOf(cfg.MeasurementEvery, rate), on: true}
	s.part = interval{length: max(uint64(partFrames*s.bins), uint64(partSeconds*rate)), on: dsp.StepOf(b.Format) > 0}
	s.spectrum = interval{length: samplesOf(max(0, cfg.SpectrumEvery), rate), on: cfg.SpectrumEvery != 0}
	if !cfg.Detect.Off {
		detector := detectorConfig(cfg, b.Format, rate)
		detector.Meter = &s.meter
		s.detector = must(dsp.NewDetector(detector))
	}
	return s
}

// binsFor is the number of bins of the averaged spectrum: fewer than asked where a measurement would hold too few frames.
func binsFor(cfg *Config, rateHz float64) int {
	bins := cfg.FFT
	if bins == 0 {
		bins = defaultFFT
	}
	if every := cfg.MeasurementEvery; every > 0 {
		most := every.Seconds() * rateHz / leastAverages
		for bins > minFFT && float64(bins) > most {
			bins /= 2
		}
	}
	return bins
}

// detectorConfig fits the detector's rows to bursts, whatever the averaged spectrum's resolution.
func detectorConfig(cfg *Config, format dsp.Format, rateHz float64) dsp.DetectorConfig {
	row := 1 << max(0, int(math.Round(math.Log2(rateHz*rowSeconds))))
	d := cfg.Detect
	c := dsp.DetectorConfig{
		Bins: min(max(minRowBins, row/2), maxRowBins), ThresholdDB: d.ThresholdDB, MaxOpen: d.MaxEmissions, MaskDC: cfg.MaskDC,
		GapSamples:    int(samplesOf(orDefault(d.MergeGap, mergeGap), rateHz)),
		ReportSamples: int(samplesOf(max(0, orDefault(d.ReportEvery, reportEvery)), rateHz)),
		EnergySamples: max(1, int(math.Round(rateHz*energySeconds))),
	}
	if rateHz < narrowRateHz {
		c.Bins, c.JoinBins = max(c.Bins, narrowRowBins), narrowJoin
	}
	if c.MaxOpen == 0 {
		c.MaxOpen = maxOpen
	}
	if step := dsp.StepOf(format); step > 0 {
		c.RailLevel, c.Step = 1-step, step
	}
	return c
}

func orDefault(d, def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return d
}

// samplesOf is a duration in samples: at least one, unless it is zero.
func samplesOf(d time.Duration, rateHz float64) uint64 {
	if d <= 0 {
		return 0
	}
	return uint64(math.Max(1, math.Round(d.Seconds()*rateHz)))
}

// must is for sizes that this package chose.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// goesOn tells whether a block belongs to the run under way: the same tuning, and no hole longer than a measurement.
func (s *stretch) goesOn(b *radio.Block) bool {
	if !s.begun {
		return true
	}
	return s.fits(b) && centerOf(b) == s.centerHz && b.Index >= s.next &&
		(s.measurement.length == 0 || b.Index-s.next < s.measurement.length)
}

func centerOf(b *radio.Block) float64 {
	if math.IsNaN(b.Tuning.CenterHz) {
		return 0
	}
	return b.Tuning.CenterHz
}

// fits tells whether the buffers serve a block.
func (s *stretch) fits(b *radio.Block) bool {
	return b.Format == s.format && math.Abs(b.Tuning.SampleRateHz-s.tuning.SampleRateHz) <= sameRate*s.tuning.SampleRateHz
}

func (s *stretch) write(b *radio.Block, origin uint64, out []Emission) []Emission {
	s.tuning, s.centerHz = b.Tuning, centerOf(b)
	s.flags |= b.Flags
	if !s.begun {
		s.begun, s.origin = true, origin
		s.segment, s.first, s.next = b.Segment, b.Index, b.Index
	}
	if b.Segment != s.segment {
		s.segment = b.Segment
		s.meter.Break()
		s.psd.welch.Break()
		out = s.endDetections(out)
	}
	if missing := b.Index - s.next; missing > 0 {
		s.hole(missing)
	}
	s.lost += b.LostBefore
	s.anchor, s.anchorTime = s.position, b.Time
	s.known = certainty{b.TimeQuality, b.TimeUncertainty}
	bytes := s.format.BytesPerSample()
	raw := b.Raw[:b.Samples()*bytes]
	for len(raw) > 0 {
		n := min(uint64(len(raw)/bytes), chunkSamples, s.measurement.room(s.position), s.spectrum.room(s.position), s.part.room(s.position))
		out = s.samples(raw[:int(n)*bytes], int(n), out)
		raw = raw[int(n)*bytes:]
	}
	s.next = b.Index + uint64(b.Samples())
	return out
}

// hole passes over samples that never came.
func (s *stretch) hole(samples uint64) {
	s.meter.Break()
	s.psd.welch.Break()
	if s.detector != nil {
		s.detector.Skip(samples)
	}
	s.position += samples
}

// room is how many samples still go into an interval; what a hole leaves of it is one.
func (v *interval) room(position uint64) uint64 {
	switch {
	case !v.on || v.length == 0:
		return math.MaxInt64
	case !v.begun:
		return v.length
	}
	return v.length - min(position-v.first, v.length-1)
}

// samples measures a chunk that ends no interval early.
func (s *stretch) samples(raw []byte, n int, out []Emission) []Emission {
	for _, v := range []*interval{&s.measurement, &s.spectrum, &s.part} {
		if !v.begun {
			v.begun, v.first, v.time, v.known = true, s.position, s.timeAt(float64(s.position)), s.known
		}
	}
	s.position += uint64(n)
	if s.detector != nil { // which sums first, and so reads the samples into the cache in order
		out = s.detections(s.detector.WriteRaw(raw, s.format), out)
	} else {
		s.meter.Write(raw, s.format)
	}
	s.psd.welch.WriteRaw(raw, s.format)
	if s.full(&s.part) {
		s.psd.drain()
		s.part.begun = false
	}
	if s.full(&s.measurement) {
		out = s.measure(out)
	}
	if s.full(&s.spectrum) {
		out = s.average(out)
	}
	return out
}

func (s *stretch) full(v *interval) bool {
	return v.on && v.begun && v.length > 0 && s.position-v.first >= v.length
}

func (s *stretch) flush(out []Emission) []Emission {
	if !s.begun {
		return out
	}
	lasting := s.lasting[:0]
	if s.detector != nil {
		events := s.detector.Flush()
		for _, e := range events {
			if e.Lasting && e.Line {
				lasting = append(lasting, e)
			}
		}
		out = s.detections(events, out)
	}
	s.lasting = lasting
	if s.measurement.begun && s.meter.Samples() > 0 {
		whole := s.measurement.first == 0
		out = s.measure(out)
		if whole {
			out = s.companions(out)
		}
	}
	if s.spectrum.on && s.spectrum.begun {
		out = s.average(out)
	}
	s.reset()
	return out
}

// endDetections closes all emissions; the detector starts anew with the next sample.
func (s *stretch) endDetections(out []Emission) []Emission {
	if s.detector != nil {
		out = s.detections(s.detector.Flush(), out)
		s.detected = s.position
	}
	return out
}

// companions reports the weak carriers beside lasting strong ones, when the averaged spectrum covers the whole stretch.
func (s *stretch) companions(out []Emission) []Emission {
	if len(s.lasting) == 0 {
		return out
	}
	ratio := float64(s.bins) / float64(s.detector.Bins())
	for _, e := range s.lasting {
		for _, c := range s.psd.companions(e.Center*ratio+float64(s.bins/2), int(companionReach*ratio), s.tuning.SampleRateHz) {
			at := (c.bin - float64(s.bins/2)) / ratio
			s.beside++
			own := dsp.Event{
				ID: companionTracks + s.beside, Start: e.Start, End: e.End, Lasting: true, Line: true,
				Center: at, Low: at - 1.5/ratio, High: at + 1.5/ratio, Power: c.power, Noise: c.noise,
			}
			out = s.detections([]dsp.Event{own}, out)
		}
	}
	return out
}

func (s *stretch) reset() {
	s.begun, s.lost, s.flags = false, 0, 0
	s.position, s.detected = 0, 0
	s.measurement.begun, s.spectrum.begun, s.part.begun = false, false, false
	s.meter.Break()
	s.meter.Reset()
	s.psd.reset()
	clear(s.born)
	if s.detector != nil {
		s.detector.Reset()
	}
}

// startS is a position in seconds from the origin.
func (s *stretch) startS(position float64) float64 {
	return roundTime((float64(s.first-s.origin) + position) / s.tuning.SampleRateHz)
}

// timeAt is the time of a position near the block being written; zero when the block carries none.
func (s *stretch) timeAt(position float64) time.Time {
	if s.anchorTime.IsZero() {
		return time.Time{}
	}
	return s.anchorTime.Add(time.Duration(math.Round((position - float64(s.anchor)) / s.tuning.SampleRateHz * 1e9)))
}

// record makes a record without a body.
func (s *stretch) record(at time.Time, known certainty) *protocol.Record {
	r := &protocol.Record{}
	if s.cfg.Receiver != "" {
		r.Receiver = proto.String(s.cfg.Receiver)
	}
	if s.cfg.Step != "" {
		r.Step = proto.String(s.cfg.Step)
	}
	if at.IsZero() {
		return r
	}
	r.Time = proto.Int64(at.UnixNano())
	r.TimeQuality = known.quality.Enum()
	if known.uncertainty > 0 {
		r.TimeUncertaintyS = proto.Float64(known.uncertainty.Seconds())
	}
	return r
}
