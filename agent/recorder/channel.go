package recorder

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/dsp"
)

// fixedScale is the scale of channels out of integer samples: rotated, their corners reach √2, and a filter's ringing
// stays below 2. It leaves 90 dB between that and the rounding of a 16-bit sample.
const fixedScale = 2

// channel cuts a band out of the receiver's samples. Its grid is fixed for the whole capture: sample k is centred on the
// receiver's sample index + k·every, also behind a gap. Where the receiver's samples begin or end within the reach of the
// filter, silence is put in their place.
type channel struct {
	out   *output
	frame *frame
	chz   *dsp.Channelizer

	next  uint64 // number of the next output
	last  uint64 // number after the last one written
	begun bool
	full  bool // the manifest names as many gaps as it can: what follows is left out
	run   uint32
	gap   *gap  // before the next output; nil: none
	from  int64 // receiver's samples before this one, counted from frame.index, are not needed

	// The latest block's first sample and its time: what outputs are timed by.
	anchor     int64
	anchorTime time.Time

	zeros    [1024]complex64
	outputs  []complex64
	raw      []byte
	measured radio.Block
}

// gap is one between two runs of a channel's samples.
type gap struct {
	lost  uint64
	exact bool
	at    time.Time
}

// newChannel designs the filter for a capture.
func newChannel(r *run, out *output, f *frame) (*channel, error) {
	chz, err := dsp.NewChannelizer(r.job.channel(f.tuning.SampleRateHz, f.tuning.CenterHz))
	if err != nil {
		return nil, refuse(ReasonBadBandwidth, "bandwidth_hz: %v", err)
	}
	f.scale = fixedScale
	return &channel{
		out: out, frame: f, chz: chz, outputs: make([]complex64, chz.MaxOutput(pieceSamples)),
	}, nil
}

func (c *channel) before() int   { return c.chz.Reach() }
func (c *channel) after() uint64 { return uint64(c.chz.Reach()) }
func (c *channel) span() uint64  { return c.last }

func (c *channel) write(ctx context.Context, b *radio.Block, newRun bool) error {
	at := int64(b.Index - c.frame.index) // negative before the capture's first sample
	if newRun {
		if err := c.begin(ctx, b, at); err != nil {
			return err
		}
	}
	c.anchor, c.anchorTime = at, b.Time
	c.measured.TimeQuality, c.measured.TimeUncertainty = b.TimeQuality, b.TimeUncertainty
	raw := b.Raw
	if at < c.from {
		raw = raw[min(c.from-at, int64(b.Samples()))*int64(b.Format.BytesPerSample()):]
	}
	return c.write16(ctx, c.chz.ProcessRaw(c.outputs, raw, b.Format))
}

// begin ends the run before and aims the filter at the first output whose centre is in the new one.
func (c *channel) begin(ctx context.Context, b *radio.Block, at int64) error {
	every, reach := int64(c.frame.every), int64(c.chz.Reach())
	if !c.begun && b.Format == dsp.CF32 {
		c.frame.scale = scaleFor(peak(b))
	}
	if c.begun {
		if err := c.finish(ctx); err != nil {
			return err
		}
		c.run++
	}

	first := uint64(max(0, at+every-1) / every)
	if c.begun {
		c.gap = &gap{
			lost: first - min(c.last, first), exact: b.LostExact,
			at: b.Time.Add(c.samplesLast(int64(first)*every - at)),
		}
	}
	c.begun = true
	c.next = first
	c.from = int64(first)*every - reach
	c.chz.Start(c.from)
	if missing := at - c.from; missing > 0 {
		c.silence(int(missing))
	}
	return nil
}

// silence feeds zeros before a run's first sample: no output can come of them alone, since an output needs reach samples
// from its centre on.
func (c *channel) silence(n int) {
	for n > 0 {
		k := min(n, len(c.zeros))
		c.chz.Process(c.outputs, c.zeros[:k])
		n -= k
	}
}

// finish brings out the outputs whose centres lie in the run that ends here.
func (c *channel) finish(ctx context.Context) error {
	for left := c.chz.Reach(); left > 0; {
		k := min(left, len(c.zeros))
		if err := c.write16(ctx, c.chz.Process(c.outputs, c.zeros[:k])); err != nil {
			return err
		}
		left -= k
	}
	return nil
}

// write16 writes what came out of the filter, as 16-bit samples.
func (c *channel) write16(ctx context.Context, came int) error {
	n := uint64(came)
	n = min(n, c.frame.count-min(c.next, c.frame.count))
	if n == 0 || c.full {
		return nil
	}
	m := &c.measured
	m.LostBefore, m.LostExact = 0, false
	if c.gap != nil {
		if err := c.out.gap(c.gap.lost, c.gap.exact, c.gap.at); err != nil {
			c.full = true
			return err
		}
		m.LostBefore, m.LostExact = c.gap.lost, c.gap.exact
		c.gap = nil
	}
	m.Time = c.anchorTime.Add(c.samplesLast(int64(c.next*c.frame.every) - c.anchor))
	var clipped int
	c.raw, clipped = dsp.AppendCS16(c.raw[:0], c.outputs[:n], c.frame.scale)
	c.out.clipped += clipped

	m.Format, m.Segment, m.Index = dsp.CF32, c.run, c.next
	m.Raw = decode(m.Raw[:0], c.raw, c.frame.scale)
	m.Tuning = c.frame.tuning
	m.Tuning.CenterHz, m.Tuning.SampleRateHz = c.frame.centerHz, c.frame.rateHz
	c.next += n
	c.last = c.next
	if err := c.out.write(ctx, c.raw, m.Time, c.frame.rateHz, m); err != nil {
		return fmt.Errorf("channel at %s: %w", configs.Hertz(math.Round(c.frame.centerHz)), err)
	}
	return nil
}

// samplesLast is how long n of the receiver's samples last; n may be negative.
func (c *channel) samplesLast(n int64) time.Duration {
	d := radio.SamplesDuration(math.Abs(float64(n)), c.frame.tuning.SampleRateHz)
	if n < 0 {
		return -d
	}
	return d
}

// decode appends 16-bit samples as floats of the receiver's full scale: the meter sees what the capture holds.
func decode(dst, codes []byte, scale float64) []byte {
	gain := float32(scale / 32768)
	for ; len(codes) >= 2; codes = codes[2:] {
		v := float32(int16(binary.LittleEndian.Uint16(codes))) * gain
		dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(v))
	}
	return dst
}

// scaleFor chooses the scale of a channel out of floats by the first samples' peak, a power of two. Floats of full scale 1 get
// fixedScale. Much weaker ones keep 48 dB of room for what comes later, stronger ones 12 dB.
func scaleFor(peak float64) float64 {
	switch {
	case peak == 0 || peak > 1.0/128 && peak <= 1:
		return fixedScale
	case peak > 1:
		return math.Exp2(math.Ceil(math.Log2(4 * peak)))
	}
	return math.Exp2(math.Ceil(math.Log2(256 * peak)))
}

// peak is the largest absolute I or Q.
func peak(b *radio.Block) float64 {
	samples := make([]complex64, b.Samples())
	dsp.ConvertComplex(samples, b.Raw, b.Format)
	var p float32
	for _, x := range samples {
		p = max(p, max(real(x), -real(x)), max(imag(x), -imag(x)))
	}
	return float64(p)
}
