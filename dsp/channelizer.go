package dsp

import (
	"errors"
	"fmt"
	"math"
)

const (
	// channelChunk is the most samples that pass through the filters at once; it bounds the scratch buffers.
	channelChunk = 4096
	// channelPass is the kept band's upper end, in cycles a sample of the output: 0.8 of its Nyquist frequency.
	channelPass = 0.4
	// maxStage is the largest single decimation; its filter has some 32 taps for each of them.
	maxStage = 1 << 14
	// stageMarginDB is designed in beyond the rejection asked: the stages of a cascade add their leaks.
	stageMarginDB = 6
)

// ErrBandwidth says that no channel of that width can be cut out of that rate.
var ErrBandwidth = errors.New("bandwidth does not fit the sample rate")

// Channel says what to cut out of a stream.
type Channel struct {
	SampleRateHz float64 // of the stream
	ShiftHz      float64 // of the channel's centre from the stream's centre
	BandwidthHz  float64 // kept flat, at most the sample rate
	// RejectionDB is how far everything outside is pushed down, aliases included: 80 suffices for 8-bit sources. 0 is 100.
	RejectionDB float64
}

// Decimation is the whole number n of the smallest rate/n that is at least 1.25 times the bandwidth. A band wider than
// 0.8 of the rate gives 1.
func (c Channel) Decimation() (int, error) {
	switch {
	case !(c.SampleRateHz > 0) || math.IsInf(c.SampleRateHz, 0):
		return 0, fmt.Errorf("sample rate %g Hz: want more than 0: %w", c.SampleRateHz, ErrBandwidth)
	case !(c.BandwidthHz > 0) || c.BandwidthHz > c.SampleRateHz:
		return 0, fmt.Errorf("bandwidth %g Hz: want more than 0 and at most the sample rate of %g Hz: %w",
			c.BandwidthHz, c.SampleRateHz, ErrBandwidth)
	}
	// The hair above 1 keeps 240000/(1.25·19200) at 10 whatever the last bit of the quotient.
	n := math.Floor(c.SampleRateHz / (1.25 * c.BandwidthHz) * (1 + 1e-12))
	if n > math.MaxInt32 {
		return 0, fmt.Errorf("bandwidth %g Hz: too narrow for a sample rate of %g Hz: %w", c.BandwidthHz, c.SampleRateHz, ErrBandwidth)
	}
	return max(1, int(n)), nil
}

// Channelizer cuts a channel out of a stream: it shifts the channel's centre to 0 Hz, filters it with linear phase and
// keeps every n-th sample. An output is centred exactly on an input sample, so sample times carry over without a group
// delay. The pass band is flat to better than 0.01 dB over 0.8 of the output's Nyquist frequency. The result does not depend
// on how the input is cut into blocks. It is not safe for concurrent use.
type Channelizer struct {
	decimation int
	rateHz     float64
	lo         *oscillator
	filters    filters
	stages     []*decimator
	reach      int
	index      int64
	out        parts // of the last stage, channelChunk at most
}

// NewChannelizer designs the filters. It returns ErrBandwidth when the channel does not fit, and Engine's error.
func NewChannelizer(ch Channel) (*Channelizer, error) {
	e, err := chosen()
	if err != nil {
		return nil, err
	}
	return newChannelizer(ch, e)
}

func newChannelizer(ch Channel, e engine) (*Channelizer, error) {
	n, err := ch.Decimation()
	if err != nil {
		return nil, err
	}
	if math.IsNaN(ch.ShiftHz) || math.Abs(ch.ShiftHz) > ch.SampleRateHz/2 {
		return nil, fmt.Errorf("shift %g Hz: want at most half the sample rate of %g Hz: %w", ch.ShiftHz, ch.SampleRateHz, ErrBandwidth)
	}
	stopDB := ch.RejectionDB
	if stopDB == 0 {
		stopDB = 100
	}
	c := &Channelizer{
		decimation: n,
		rateHz:     ch.SampleRateHz / float64(n),
		lo:         newOscillator(-ch.ShiftHz, ch.SampleRateHz),
		filters:    e.filters(),
		out:        newParts(channelChunk + filterSlack),
	}
	before := 1
	for _, f := range primes(n) {
		if f > maxStage {
			return nil, fmt.Errorf("bandwidth %g Hz: needs a decimation by the prime %d, at most %d can be done: ask a slightly different bandwidth: %w",
				ch.BandwidthHz, f, maxStage, ErrBandwidth)
		}
		after := before * f
		keep := 1 - channelPass // what the last stage has not cut off yet must not be folded over by the others
		if after == n {
			keep = channelPass
		}
		s := newDecimator(f, keep*float64(after)/float64(n), stopDB+stageMarginDB)
		c.stages = append(c.stages, s)
		c.reach += s.reach() * before
		before = after
	}
	return c, nil
}

// Decimation is n: the output's rate is the input's divided by it.
func (c *Channelizer) Decimation() int { return c.decimation }

// RateHz is the output's sample rate.
func (c *Channelizer) RateHz() float64 { return c.rateHz }

// Reach is how many input samples before and after its own position an output depends on.
func (c *Channelizer) Reach() int { return c.reach }

// Start forgets what is in the filters. index numbers the next input sample; the oscillator's phase is zero at index
// 0, so streams that share an index share a phase. Output k is then centred exactly on input index + Reach + k·Decimation.
func (c *Channelizer) Start(index int64) {
	c.index = index
	for _, s := range c.stages {
		s.reset()
	}
}

// MaxOutput is how many outputs n further inputs may give.
func (c *Channelizer) MaxOutput(n int) int { return n/c.decimation + 1 }

// ProcessRaw consumes raw samples, which it does not keep, and returns how many samples it wrote to dst. They count as Convert has
// them; a tail shorter than one sample is left out. dst must hold MaxOutput of their number.
func (c *Channelizer) ProcessRaw(dst []complex64, raw []byte, format Format) int {
	width := format.BytesPerSample()
	if width == 0 {
		return 0
	}
	written := 0
	for left := len(raw) / width; left > 0; {
		n := min(left, channelChunk)
		room := c.room(0)
		for at := 0; at < n; {
			t, of := c.lo.turn(c.index, n-at)
			c.filters.mix(room.from(at), raw[:of*width], format, t)
			raw = raw[of*width:]
			at += of
			c.index += int64(of)
		}
		left -= n
		written += c.filter(dst[written:], n)
	}
	return written
}

// Process is ProcessRaw of complex numbers. What is not finite counts as zero.
func (c *Channelizer) Process(dst, src []complex64) int {
	written := 0
	for len(src) > 0 {
		n := min(len(src), channelChunk)
		room := c.room(0)
		for at := 0; at < n; {
			t, of := c.lo.turn(c.index, n-at)
			x := room.from(at)
			for i, v := range src[:of] {
				x.re[i], x.im[i] = finite(math.Float32bits(real(v))), finite(math.Float32bits(imag(v)))
			}
			c.filters.turn(x, of, t)
			src = src[of:]
			at += of
			c.index += int64(of)
		}
		written += c.filter(dst[written:], n)
	}
	return written
}

// room is where what goes into a stage, or comes out of the last one, is written.
func (c *Channelizer) room(stage int) parts {
	if stage == len(c.stages) {
		return c.out
	}
	return c.stages[stage].room()
}

// filter passes n samples, which are in room, through the stages.
func (c *Channelizer) filter(dst []complex64, n int) int {
	for i, s := range c.stages {
		n = s.process(c.filters, c.room(i+1), n)
	}
	c.filters.join(dst[:n], c.out)
	return n
}

// primes is the factors of n, ascending: the cheap ones come first, where the rate is highest.
func primes(n int) []int {
	var f []int
	for p := 2; p*p <= n; p++ {
		for n%p == 0 {
			f = append(f, p)
			n /= p
		}
	}
	if n > 1 {
		f = append(f, n)
	}
	return f
}

// AppendCS16 appends samples as little-endian 16-bit pairs: ±scale becomes ±32768. It returns how many I and Q values did
// not fit and were held at the rail.
func AppendCS16(dst []byte, src []complex64, scale float64) (out []byte, clipped int) {
	gain := float32(32768 / scale)
	for _, x := range src {
		i, ci := clip16(real(x) * gain)
		q, cq := clip16(imag(x) * gain)
		dst = append(dst, byte(i), byte(uint16(i)>>8), byte(q), byte(uint16(q)>>8))
		clipped += ci + cq
	}
	return dst, clipped
}

// clip16 rounds half to even; a value that is not a number becomes 0 and counts as clipped.
func clip16(v float32) (code int16, clipped int) {
	r := math.RoundToEven(float64(v))
	switch {
	case r > math.MaxInt16:
		return math.MaxInt16, 1
	case r < math.MinInt16:
		return math.MinInt16, 1
	case r != r:
		return 0, 1
	}
	return int16(r), 0
}
