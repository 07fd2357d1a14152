package dsp

import (
	"fmt"
	"math"
)

// rowFrames is how many half-overlapped frames make one row of the time-frequency image.
const rowFrames = 4

// The detector looks at rows in slabs, so that the floor of a row is known from rows before and after it.
const (
	slabRows = 256 // rows from one update of the floor to the next
	lagRows  = 6   // rows that must follow a row before it is looked at
	pastRows = 26  // rows kept behind it, for edges
	ringRows = slabRows + lagRows + pastRows
)

// DetectorConfig says what a Detector looks for. The zero value of a field is its default.
type DetectorConfig struct {
	Bins        int     // of a frame, a power of two from 16; a row spans 2.5 frames and comes every 2
	ThresholdDB float64 // of a cell over the noise floor, to start an event; 8
	GrowDB      float64 // of a cell over the noise floor, to belong to an event; 4.5, or ThresholdDB where that is less
	JoinBins    int     // cells of a row with pauses up to this many bins between are one emission; 2
	GapSamples  int     // pauses up to this long do not end an event
	MaxOpen     int     // events followed at once; the weakest is given up for a new one; 256
	MaskDC      bool    // the cells within two bins of 0 Hz are compared with their own past only
	RailLevel   float64 // |I| or |Q| from which a sample is clipped; 0: never

	Step          float64 // of the quantiser, full scale 1; 0: floats
	EnergySamples int     // in the windows of whole power that time broad events, at least Bins/2; 0: Bins
	ReportSamples int     // an event on air is reported each time it has lasted this much longer; 0: only at its end

	Meter *Meter // gets all samples, because both need the same sums; nil: none does
}

// Event is one emission. Times are in samples since the detector's first one, lost samples counted; frequencies are in
// bins from 0 Hz, so a frequency is bins times rate over Bins.
type Event struct {
	ID         uint64  // the same for all reports of one event
	Start, End float64 // samples
	Low, High  float64 // bins: 99 % of the power
	Center     float64 // bins: of the strong line if one holds most of the power, else the middle of Low and High
	Power      float64 // full scale squared, noise taken off, mean over the event's rows
	Noise      float64 // full scale squared inside Low..High
	Line       bool    // Center is a line's
	Clipped    bool    // samples at the converter's rails while it lasted
	Open       bool    // still on air
	Lasting    bool    // on from the first sample of the stretch to the last
}

// Detector finds emissions in time and frequency: cells of a spectrogram over the noise floor, connected across rows,
// with hysteresis. Samples may come in blocks of any size. Memory is bounded, and no block allocates once as many events
// have been followed at once before.
type Detector struct {
	cfg       DetectorConfig
	engine    engine
	segment   segment
	window    Window
	format    Format
	in        rawFrames
	re, im    []float32 // of a frame that is looked at closely
	bins      []int32   // position in a row of each value of a frame,
	places    []int32   // and the other way round
	sum       []float32 // of the frames in the row being made
	marks     []uint64  // of the row's cells that are looked at
	position  int64     // of the next sample to come
	rowFill   int       // frames in the row being made
	cells     []float32 // of all rows
	rows      [ringRows]row
	stored    int64 // rows made so far
	processed int64 // rows looked at so far
	slabAt    int64 // rows that must be stored before the floor is next updated

	floor  floorTracker
	energy energyMeter
	low    []float32 // a cell's threshold to belong
	limit  []float32 // the same, raised where the row's strong cells splatter
	ratio  float32   // of the threshold to start over that to belong

	threshold float64 // to start, over the floor
	quantised bool    // the noise is too weak to dither the quantiser

	runs    []run // of the row looked at
	before  []run // of the row before it
	open    []*track
	idle    []*track
	pending []*track
	wide    bool // a broad event is open
	events  []Event
	lastID  uint64
}

// row is one line of the time-frequency image.
type row struct {
	cells   []float32            // mean of its frames: they add up to mean |x|^2; a part of the detector's
	frames  [rowFrames][]float32 // what each adds to that, in the segment's order
	start   int64                // first sample of its first frame
	clipped bool
}

// withDefaults has no field at zero whose default is something else.
func (c DetectorConfig) withDefaults() DetectorConfig {
	if c.ThresholdDB == 0 {
		c.ThresholdDB = 8
	}
	if c.GrowDB == 0 {
		c.GrowDB = math.Min(4.5, c.ThresholdDB)
	}
	if c.JoinBins == 0 {
		c.JoinBins = 2
	}
	if c.MaxOpen == 0 {
		c.MaxOpen = 256
	}
	if c.EnergySamples == 0 {
		c.EnergySamples = c.Bins
	}
	return c
}

// NewDetector makes a detector. Bins that are no power of two from 16 to 65536 are an error. It also returns Engine's.
func NewDetector(cfg DetectorConfig) (*Detector, error) {
	if n := cfg.Bins; n < 16 || n > 65536 || n&(n-1) != 0 {
		return nil, fmt.Errorf("%d detector bins: want a power of two from 16 to 65536", cfg.Bins)
	}
	cfg = cfg.withDefaults()
	n := cfg.Bins
	window := Hann(n)
	e, err := chosen()
	if err != nil {
		return nil, err
	}
	scaled := make([]float32, n)
	for i, w := range window.Coefficients {
		scaled[i] = float32(float64(w) / math.Sqrt(rowFrames*float64(n)*window.SumSquares))
	}
	segment, err := e.segment(n, scaled)
	if err != nil {
		return nil, err
	}
	d := &Detector{
		cfg: cfg, engine: e, segment: segment, window: window, sum: make([]float32, n), marks: make([]uint64, (n+63)/64), re: make([]float32, n), im: make([]float32, n),
		bins: make([]int32, n), places: make([]int32, n), threshold: FromDB(cfg.ThresholdDB), low: make([]float32, n), limit: make([]float32, n),
		ratio: float32(FromDB(cfg.ThresholdDB - cfg.GrowDB)), slabAt: slabRows + lagRows,
	}
	for i, k := range segment.order() {
		d.bins[i] = (k + int32(n/2)) % int32(n)
		d.places[d.bins[i]] = int32(i)
	}
	d.cells = make([]float32, ringRows*d.stride())
	for i := range d.rows {
		d.rows[i].cells = d.cells[i*d.stride():][:n:n]
		for j := range rowFrames {
			d.rows[i].frames[j] = make([]float32, n)
		}
	}
	d.floor = newFloorTracker(n, cfg.MaskDC)
	d.energy = newEnergyMeter(max(cfg.EnergySamples, n/2), cfg.RailLevel, cfg.Meter) // at most four a row: they are kept as long as the rows
	return d, nil
}

// WriteRaw adds samples as a receiver delivers them. A tail shorter than one is left out. The events it returns are valid until the
// next call. No frame holds samples of two formats.
func (d *Detector) WriteRaw(raw []byte, format Format) []Event {
	d.events = d.events[:0]
	width := format.BytesPerSample()
	if width == 0 {
		return nil
	}
	if d.format != format {
		d.Skip(0)
		d.format, d.in = format, rawFrames{bytes: make([]byte, d.cfg.Bins*width)}
	}
	raw = raw[:len(raw)/width*width]
	d.energy.write(raw, format)
	before := d.position
	d.in.each(raw, func(frame []byte, end int) {
		d.position = before + int64(end/width)
		d.frame(frame)
		if d.stored >= d.slabAt {
			d.slab(d.stored - lagRows)
			d.slabAt += slabRows
		}
	})
	d.position = before + int64(len(raw)/width)
	return d.events
}

// Skip says that samples were lost: no frame spans the hole.
func (d *Detector) Skip(samples uint64) {
	d.in.fill = 0
	d.dropRow()
	d.position += int64(samples)
	d.energy.skip(int64(samples))
}

// Bins is the number of bins of a frame: the unit of an event's frequencies is the rate over it.
func (d *Detector) Bins() int { return d.cfg.Bins }

// Position is the number of samples so far, lost ones counted.
func (d *Detector) Position() int64 { return d.position }

// Flush ends the stretch: it closes and returns all events and starts anew at sample 0. IDs go on.
func (d *Detector) Flush() []Event {
	d.events = d.events[:0]
	if d.rowFill > 0 {
		d.endRow()
	}
	if d.stored > d.processed {
		d.slab(d.stored)
	}
	for len(d.open) > 0 {
		d.close(0)
	}
	d.settle(math.MaxInt64)
	d.Reset()
	return d.events
}

// Reset forgets everything under way.
func (d *Detector) Reset() {
	d.in.fill = 0
	d.dropRow()
	d.position = 0
	d.stored, d.processed, d.slabAt = 0, 0, slabRows+lagRows
	d.idle = append(append(d.idle, d.open...), d.pending...)
	d.open, d.pending = d.open[:0], d.pending[:0]
	d.runs, d.before = d.runs[:0], d.before[:0]
	d.floor.reset()
	d.energy.reset()
}

// dropRow forgets the frames of a row that is not complete.
func (d *Detector) dropRow() {
	d.rowFill = 0
	clear(d.sum)
}

// stride is from the cells of one row to those of the next: columns of a power of two would share few places in the cache.
func (d *Detector) stride() int { return d.cfg.Bins + columnLanes }

func (d *Detector) row(i int64) *row { return &d.rows[i%ringRows] }

// frame transforms a frame, which ends at position, into its row.
func (d *Detector) frame(raw []byte) {
	r := d.row(d.stored)
	if d.rowFill == 0 {
		r.start = d.position - int64(d.cfg.Bins)
		r.clipped = false
	}
	d.segment.addRaw(d.sum, r.frames[d.rowFill], raw, d.format)
	r.clipped = r.clipped || d.energy.railedAt >= d.position-int64(d.cfg.Bins) && d.atRails(raw)
	if d.rowFill++; d.rowFill == rowFrames {
		d.endRow()
	}
}

// endRow puts the mean of a row's frames into the order of frequency. At the end of a stretch it may lack some: the last one stands in
// for them.
func (d *Detector) endRow() {
	r := d.row(d.stored)
	d.segment.sort(r.cells, d.sum)
	clear(d.sum)
	if d.rowFill < rowFrames {
		for i := range r.cells {
			r.cells[i] *= rowFrames / float32(d.rowFill)
		}
	}
	for last := r.frames[d.rowFill-1]; d.rowFill < rowFrames; d.rowFill++ {
		copy(r.frames[d.rowFill], last)
	}
	d.rowFill = 0
	d.stored++
}

// power is that of a frame in one bin.
func (d *Detector) power(frame []float32, bin int) float32 { return frame[d.places[bin]] * rowFrames }

// atRails tells whether more than a thousandth of a frame's samples touch the rails.
func (d *Detector) atRails(raw []byte) bool {
	Convert(d.re, d.im, raw, d.format)
	rail, n := float32(d.cfg.RailLevel), 0
	for i, v := range d.re {
		if w := d.im[i]; v >= rail || -v >= rail || w >= rail || -w >= rail {
			n++
		}
	}
	return n*1000 > len(d.re)
}

// slab updates the floor from the rows not yet looked at, and looks at those before end.
func (d *Detector) slab(end int64) {
	held := func(bin int) bool {
		for _, t := range d.open {
			if t.confirmed && bin >= t.recent().low && bin <= t.recent().high {
				return true
			}
		}
		return false
	}
	from := max(d.processed, d.stored-slabRows-lagRows)
	d.floor.update(d, from, d.stored, held)
	grow := float32(FromDB(d.cfg.GrowDB))
	total, noise := 0.0, 0.0
	for i, f := range d.floor.level {
		d.low[i] = f * grow
		total += float64(f)
		noise += float64(d.floor.noise[i])
		if i < d.floor.low || i >= d.floor.high {
			d.low[i] = math.MaxFloat32
		}
	}
	d.quantised = noise < d.cfg.Step*d.cfg.Step/2
	d.energy.update(d.row(from).start, d.position, total)
	for d.processed < end {
		d.look(d.processed)
		d.processed++
	}
}
