package radio

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/fulgidus/heimdall/dsp"
	"github.com/fulgidus/heimdall/protocol"
)

// rtl_tcp: a server says what tuner it has, in 12 bytes, and then sends samples for ever, unsigned bytes I and Q. It takes
// commands of 5 bytes and never answers one. Samples carry no time and no number, so an arrivalClock finds what is lost.

// Commands of rtl_tcp.
const (
	rtlCenter     = 0x01 // Hz
	rtlRate       = 0x02 // Hz
	rtlManualGain = 0x03 // 0: automatic
	rtlGain       = 0x04 // tenths of a dB
	rtlPPM        = 0x05
	rtlAGC        = 0x08 // of the RTL2832, after the tuner
	rtlDirect     = 0x09 // 1: ADC I, 2: ADC Q
	rtlOffset     = 0x0a
	rtlBiasTee    = 0x0e
)

const (
	rtlPort = 1234
	// rtlPatience is how long the header may take: a server that serves somebody else sends none.
	rtlPatience = 5 * time.Second
	// rtlReach is how long a connection may take, or our own rtl_tcp until it listens.
	rtlReach = 15 * time.Second
	// rtlSettle passes from a command until all samples are as commanded: the way there and back, the PLL, the filters.
	rtlSettle = 200 * time.Millisecond
	// rtlRateFlush passes until none of the old rate come any more, and rtlRateSettle is the transient after that.
	rtlRateFlush, rtlRateSettle = 300 * time.Millisecond, 50 * time.Millisecond
	// rtlDoubt is how well it is known which sample was being taken when a command left.
	rtlDoubt = 2 * time.Millisecond
	// rtlBurst is how many samples the server sends at a time.
	rtlBurst = 131072
	// rtlWay is how old the last sample of a burst may be on a link without a queue.
	rtlWay = 100 * time.Millisecond
	// rtlReadBytes are read at most at a time: two bursts.
	rtlReadBytes = 4 * rtlBurst
	// rtlKnownBursts on end must be told apart before a server is believed to send bursts of that length.
	rtlKnownBursts = 8
	// rtlPatient is how long samples may wait for more to come.
	rtlPatient = 110 * time.Millisecond
	// rtlBusy is how long a server is left alone that serves somebody else.
	rtlBusy = 15 * time.Second
)

// rtlTuner is what kind of tuner a stick has.
type rtlTuner struct {
	name          string
	lowHz, highHz float64
	gains         []int32 // that it can have, tenths of a dB; none: not known
}

// The numbers are those of the header.
var rtlTuners = map[uint32]rtlTuner{
	1: {"E4000", 52e6, 2200e6, []int32{-10, 15, 40, 65, 90, 115, 140, 165, 190, 215, 240, 290, 340, 420}},
	2: {"FC0012", 22e6, 948.6e6, []int32{-99, -40, 71, 179, 192}},
	3: {"FC0013", 22e6, 1100e6, []int32{-99, -73, -65, -63, -60, -58, -54, 58, 61, 63, 65, 67, 68, 70, 71, 179, 181, 182, 184, 186, 188, 191, 197}},
	4: {"FC2580", 146e6, 924e6, nil},
	5: {"R820T", 24e6, 1766e6, rtlGains},
	6: {"R828D", 500e3, 1766e6, rtlGains}, // with an upconverter in some sticks
}

var rtlGains = []int32{
	0, 9, 14, 27, 37, 77, 87, 125, 144, 157, 166, 197, 207, 229, 254, 280, 297, 328, 338, 364, 372, 386, 402, 421, 434, 439, 445, 480, 496,
}

// rtlHeader is what a server says first. Imitations write it in the byte order of their machine.
func rtlHeader(b [12]byte) (tuner uint32, imitation, ok bool) {
	if string(b[:4]) != "RTL0" {
		return 0, false, false
	}
	tuner = binary.BigEndian.Uint32(b[4:])
	if tuner > 0xffff {
		return binary.LittleEndian.Uint32(b[4:]), true, true
	}
	return tuner, false, true
}

// rtlCommand appends a command.
func rtlCommand(b []byte, code byte, argument uint32) []byte {
	return binary.BigEndian.AppendUint32(append(b, code), argument)
}

// The rates that the RTL2832 can resample to. For others rtl_tcp keeps what it has, and does not say so.
const rtlLowRateHz, rtlLowBandHz, rtlHighBandHz, rtlHighRateHz = 225001, 300000, 900001, 3200000

// rtlRateFault is what is wrong with a rate; empty: nothing.
func rtlRateFault(hz float64) string {
	if hz >= rtlLowRateHz && hz <= rtlLowBandHz || hz >= rtlHighBandHz && hz <= rtlHighRateHz {
		return ""
	}
	return "want 225.001 kHz to 300 kHz or 900.001 kHz to 3.2 MHz: others are not possible with this chip"
}

// rtlTrueRate is the rate that the divider of the RTL2832 makes of a valid one: 28.8 MHz · 2²² over a whole number, of which two
// bits are missing and one is there twice.
func rtlTrueRate(hz uint32) float64 {
	const crystal = 28.8e6 * (1 << 22)
	ratio := uint32(crystal/float64(hz)) & 0x0ffffffc
	return crystal / float64(ratio|ratio&0x08000000<<1)
}

// nearestGain is the gain in tenths of a dB that a tuner can have.
func (t rtlTuner) nearestGain(db float64) int32 {
	want := int32(math.Round(db * 10))
	if len(t.gains) == 0 {
		return want
	}
	return slices.MinFunc(t.gains, func(a, b int32) int { return cmp.Compare(max(a-want, want-a), max(b-want, want-b)) })
}

// rtlSettings are the parameters of a source.
type rtlSettings struct {
	centerHz, rateHz float64 // 0: not given
	gainDB           float64 // NaN: automatic
	ppm              int32
	direct           string // i, q or off; empty: as it is, like those below
	biasTee, offset  string
	agc              string
	deaf             bool // the server takes no commands
}

func openRTLTCP(source, rest string, opts Options) (Receiver, error) {
	p := newParams(source, rest)
	address := p.hostPort(rtlPort)
	set := rtlParameters(p, opts, p.oneOf("control", "on", "on", "off") == "off")
	if set.deaf && (set.centerHz == 0 || set.rateHz == 0) {
		p.fault("control", "off", "say center= and rate= too: what a server that takes no commands is tuned to cannot be asked")
	}
	live := liveSettings{host: address, buffer: p.buffer(), stall: rtlPatience}
	if err := p.finish(); err != nil {
		return nil, err
	}
	return newLive(p.shown, opts, live, newRTLWire(p.shown, address, set, opts.Wall)), nil
}

// rtlParameters reads what the sources of RTL-SDR sticks have in common.
func rtlParameters(p *params, opts Options, deaf bool) rtlSettings {
	set := rtlSettings{
		centerHz: either(opts.CenterHz, p.hertz("center", 1, math.MaxUint32)),
		rateHz:   either(opts.RateHz, p.hertz("rate", 1, maxHz)),
		gainDB:   math.NaN(),
		direct:   p.oneOf("direct", "", "off", "i", "q"),
		biasTee:  p.oneOf("bias_tee", "", "off", "on"),
		offset:   p.oneOf("offset_tuning", "", "off", "on"),
		agc:      p.oneOf("agc", "", "off", "on"),
		deaf:     deaf,
	}
	if v, ok := p.take("gain"); ok && v != "auto" {
		db, err := strconv.ParseFloat(v, 64)
		if err != nil || !(db >= -20 && db <= 60) {
			p.fault("gain", v, "want auto or a number of dB from -20 to 60")
		}
		set.gainDB = db
	}
	if v, ok := p.take("ppm"); ok {
		ppm, err := strconv.ParseInt(v, 10, 32)
		if err != nil || ppm < -1000 || ppm > 1000 {
			p.fault("ppm", v, "want a whole number from -1000 to 1000")
		}
		set.ppm = int32(ppm)
	}
	if mend := rtlRateFault(set.rateHz); set.rateHz != 0 && !set.deaf && mend != "" {
		p.fault("rate", formatHertz(set.rateHz), mend)
	}
	return set
}

// rtlWire is a connection to rtl_tcp.
type rtlWire struct {
	shown   string
	address string
	set     rtlSettings
	wall    Wall
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	ended   func(error) error // says more of why a connection ended

	conn  net.Conn
	tuner rtlTuner
	told  Tuning // what was commanded last; only the goroutine that opens and tunes touches it

	// Only stream's goroutine touches these.
	clock *arrivalClock
	from  time.Time // samples that arrive before are of other settings
	since time.Time // and the clock knows where bursts end from then on

	// mu guards retunes, which tune adds and stream takes.
	mu      sync.Mutex
	retunes []rtlRetune
}

// rtlRetune is a tuning that was commanded at an instant of the monotonic clock.
type rtlRetune struct {
	tuning  Tuning
	at      time.Time
	newRate bool
}

func newRTLWire(shown, address string, set rtlSettings, wall Wall) *rtlWire {
	return &rtlWire{
		shown: shown, address: address, set: set, wall: wall,
		dial:  new(net.Dialer).DialContext,
		ended: func(err error) error { return err },
	}
}

// connect reads the header and commands all settings.
func (w *rtlWire) connect(ctx context.Context) (Info, error) {
	reaching, cancel := context.WithTimeout(ctx, rtlReach)
	defer cancel()
	conn, err := w.dial(reaching, "tcp", w.address)
	if err != nil {
		return Info{}, unreached(w.shown, "start rtl_tcp, with -a 0.0.0.0 to be reached from other computers", err)
	}
	w.conn = conn
	return agreeOver(ctx, conn, w.agree)
}

// agree reads the header and commands what was asked for.
func (w *rtlWire) agree() (Info, error) {
	if err := w.conn.SetDeadline(time.Now().Add(rtlPatience)); err != nil {
		return Info{}, fmt.Errorf("%s: %w", w.shown, err)
	}
	var header [12]byte
	switch n, err := io.ReadFull(w.conn, header[:]); {
	case errors.Is(err, os.ErrDeadlineExceeded) && n == 0:
		return Info{}, &Refusal{
			Where: w.shown, Reason: "busy", After: rtlBusy,
			Mend: "connected, but nothing came in 5 s: rtl_tcp serves one client at a time, so stop the other one, or give this station a stick of its own; if there is no other, this is no rtl_tcp",
		}
	case n == 0 && hungUp(err):
		return Info{}, fmt.Errorf("%s: %w", w.shown, w.ended(fmt.Errorf("the server ended the connection before it said anything: see what rtl_tcp prints, the stick may be gone or in use: %w", err)))
	case err != nil:
		return Info{}, fmt.Errorf("%s: read the header of rtl_tcp: %w", w.shown, w.ended(err))
	}
	number, imitation, ok := rtlHeader(header)
	if !ok {
		return Info{}, fmt.Errorf("%s: this is no rtl_tcp: it begins with %q", w.shown, header[:4])
	}
	if imitation && !w.set.deaf {
		if w.set.centerHz == 0 || w.set.rateHz == 0 {
			return Info{}, &Fault{fmt.Sprintf("source %q", w.shown), "center", "", "say center= and rate= as they are set there: this is OpenWebRX's rtltcp_compat, which takes no commands"}
		}
		w.set.deaf = true
	}
	w.tuner, ok = rtlTuners[number]
	if !ok {
		w.tuner = rtlTuner{"unknown tuner", 500e3, 2200e6, nil}
	}
	if err := w.command(); err != nil {
		return Info{}, err
	}
	if err := w.conn.SetDeadline(time.Time{}); err != nil {
		return Info{}, fmt.Errorf("%s: %w", w.shown, err)
	}
	w.startClock(w.told.SampleRateHz, time.Now().Add(rtlRateFlush))
	return w.info(imitation), nil
}

// command sends all settings. What a server is set to otherwise is not known.
func (w *rtlWire) command() error {
	w.told = Tuning{CenterHz: either(w.set.centerHz, 100e6), SampleRateHz: either(w.set.rateHz, 2.048e6), GainDB: w.set.gainDB}
	if w.set.deaf {
		return nil
	}
	if r := w.frequencies(); w.told.CenterHz < r.LowHz || w.told.CenterHz > r.HighHz {
		what := "its " + w.tuner.name + " reaches"
		if w.samplesDirectly() {
			what = "direct=" + w.set.direct + " reaches, which passes the tuner by"
		}
		return &Fault{
			fmt.Sprintf("source %q", w.shown), "center", formatHertz(w.told.CenterHz),
			fmt.Sprintf("want %s to %s: that is what %s", formatHertz(r.LowHz), formatHertz(r.HighHz), what),
		}
	}
	var b []byte
	if w.set.direct != "" {
		b = rtlCommand(b, rtlDirect, map[string]uint32{"off": 0, "i": 1, "q": 2}[w.set.direct])
	}
	for _, s := range []struct {
		value string
		code  byte
	}{{w.set.offset, rtlOffset}, {w.set.agc, rtlAGC}, {w.set.biasTee, rtlBiasTee}} {
		if s.value != "" {
			b = rtlCommand(b, s.code, map[string]uint32{"off": 0, "on": 1}[s.value])
		}
	}
	b = rtlCommand(b, rtlPPM, uint32(w.set.ppm))
	b = w.tell(b, &w.told, true, true)
	if math.IsNaN(w.told.GainDB) {
		b = rtlCommand(b, rtlManualGain, 0)
	}
	return w.write(b)
}

// tell appends the commands for a tuning, and makes of it what is applied.
func (w *rtlWire) tell(b []byte, t *Tuning, rate, gain bool) []byte {
	if rate {
		hz := uint32(math.Round(t.SampleRateHz))
		b = rtlCommand(b, rtlRate, hz)
		t.SampleRateHz = rtlTrueRate(hz)
	}
	if gain && !math.IsNaN(t.GainDB) {
		tenths := w.tuner.nearestGain(t.GainDB)
		b = rtlCommand(rtlCommand(b, rtlManualGain, 1), rtlGain, uint32(tenths))
		t.GainDB = float64(tenths) / 10
	}
	t.CenterHz = math.Round(t.CenterHz)
	return rtlCommand(b, rtlCenter, uint32(t.CenterHz))
}

func (w *rtlWire) write(commands []byte) error {
	if err := w.conn.SetWriteDeadline(time.Now().Add(rtlPatience)); err != nil {
		return fmt.Errorf("%s: %w", w.shown, err)
	}
	if _, err := w.conn.Write(commands); err != nil {
		return fmt.Errorf("%s: send commands: %w", w.shown, w.ended(err))
	}
	return nil
}

// frequencies is what the tuner reaches, or the ADC without it.
func (w *rtlWire) samplesDirectly() bool { return w.set.direct == "i" || w.set.direct == "q" }

func (w *rtlWire) frequencies() Range {
	if w.samplesDirectly() {
		return Range{LowHz: 1, HighHz: 28.8e6}
	}
	return Range{LowHz: w.tuner.lowHz, HighHz: w.tuner.highHz}
}

func (w *rtlWire) info(imitation bool) Info {
	info := Info{
		Hardware: "rtl_tcp with " + w.tuner.name, Format: dsp.CU8, Tuning: w.told, MaskDC: true,
		Tunable: !w.set.deaf, Range: w.frequencies(), TimeQuality: protocol.TimeQuality_TIME_QUALITY_ARRIVAL,
	}
	info.Range.LowRateHz, info.Range.HighRateHz = rtlLowRateHz, rtlHighRateHz
	burst := w.burst(w.told.SampleRateHz)
	info.Range.Settling = rtlRateFlush + rtlRateSettle + time.Duration(2+rtlTogether(burst))*burst
	if imitation {
		info.Hardware = "rtl_tcp imitation of OpenWebRX"
		info.Notes = append(info.Notes, "it takes no commands: center and rate are what the source's address says, whatever it is tuned to")
	}
	return info
}

// burst is how long the samples of one last.
func (w *rtlWire) burst(rateHz float64) time.Duration { return SamplesDuration(rtlBurst, rateHz) }

// startClock begins to measure time anew with the samples that arrive from an instant on.
func (w *rtlWire) startClock(rateHz float64, from time.Time) {
	burst := w.burst(rateHz)
	w.clock = newArrivalClock(rateHz, rtlWay+burst, w.wall)
	w.from, w.since = from, from.Add(burst+burst/4)
}

// stream takes in whatever comes.
func (w *rtlWire) stream(ctx context.Context, in *intake) error {
	defer context.AfterFunc(ctx, func() { _ = w.conn.SetReadDeadline(time.Unix(1, 0)) })()
	buf, kept := make([]byte, rtlReadBytes), 0
	bursts, wake := burstReader{}, 1
	for {
		n, err := w.conn.Read(buf[kept:])
		arrived := time.Now()
		if now := bursts.read(n, arrived, w.burst(w.clock.nominalHz)); now != wake {
			wake = now
			wakeAt(w.conn, wake)
		}
		n += kept
		kept = n % 2
		if err := w.take(in, buf[:n-kept], arrived); err != nil {
			return fmt.Errorf("%s: %w", w.shown, err)
		}
		if kept == 1 { // the other half of the sample comes next
			buf[0] = buf[n-1]
		}
		if err != nil {
			return fmt.Errorf("%s: the connection ended: %w", w.shown, w.ended(err))
		}
	}
}

// burstReader finds out whether a server sends in bursts of rtlBurst. Where it does reading is put off until a burst is whole: the
// last sample of it tells when it was sent, and to be woken for each packet takes much of a processor. Others are read as they
// send: a burst of theirs that is read in part looks late.
type burstReader struct {
	bytes uint64    // so far
	last  time.Time // when some came last
	known int       // pauses on end that were between two bursts
}

// read takes how many bytes came, where bursts are as long, and tells how many to wait for.
func (b *burstReader) read(bytes int, arrived time.Time, burst time.Duration) (wake int) {
	const size = 2 * rtlBurst
	if arrived.Sub(b.last) > burst/4 {
		b.known++
		if b.bytes%size != 0 {
			b.known = 0
		}
	}
	b.bytes, b.last = b.bytes+uint64(bytes), arrived
	switch part := int(b.bytes % size); {
	case b.known < rtlKnownBursts:
		return 1
	case part > 0:
		return size - part
	}
	return size * rtlTogether(burst)
}

// rtlTogether is how many bursts are read at once: two where they are short.
func rtlTogether(burst time.Duration) int {
	if 2*burst <= rtlPatient {
		return 2
	}
	return 1
}

// take hands on whole samples, each with the tuning that it was taken with as far as anybody can know.
func (w *rtlWire) take(in *intake, raw []byte, arrived time.Time) error {
	switch {
	case arrived.Before(w.from):
		return nil
	case arrived.Before(w.since):
		w.clock.learn(in.index(), uint64(len(raw)/2), arrived)
		return nil
	}
	for r, ok := w.retuned(in.index() + uint64(len(raw)/2)); ok; r, ok = w.retuned(in.index() + uint64(len(raw)/2)) {
		if before := w.clock.indexAt(r.at); before > in.index() {
			n := min(2*int(before-in.index()), len(raw))
			if err := w.clock.put(in, raw[:n], arrived); err != nil {
				return err
			}
			raw = raw[n:]
		}
		if r.newRate {
			in.begin(r.tuning, rtlRateSettle)
			w.startClock(r.tuning.SampleRateHz, r.at.Add(rtlRateFlush+w.clock.lag()))
			return nil
		}
		in.begin(r.tuning, rtlSettle+w.clock.lag())
	}
	if len(raw) == 0 {
		return nil
	}
	return w.clock.put(in, raw, arrived)
}

// retuned takes the next retune that was commanded before a sample was taken.
func (w *rtlWire) retuned(index uint64) (rtlRetune, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.retunes) == 0 || w.clock.indexAt(w.retunes[0].at) > index {
		return rtlRetune{}, false
	}
	r := w.retunes[0]
	w.retunes = append(w.retunes[:0], w.retunes[1:]...)
	return r, true
}

// tune commands what differs from what was commanded last.
func (w *rtlWire) tune(_ context.Context, to Tuning) error {
	newRate := uint32(math.Round(to.SampleRateHz)) != uint32(math.Round(w.told.SampleRateHz))
	if mend := rtlRateFault(math.Round(to.SampleRateHz)); newRate && mend != "" {
		return &Fault{fmt.Sprintf("tune %q", w.shown), "rate", formatHertz(to.SampleRateHz), mend}
	}
	if !newRate {
		to.SampleRateHz = w.told.SampleRateHz
	}
	commands := w.tell(nil, &to, newRate, to.GainDB != w.told.GainDB)
	at := time.Now()
	if err := w.write(commands); err != nil {
		return err
	}
	w.told = to
	w.mu.Lock()
	defer w.mu.Unlock()
	w.retunes = append(w.retunes, rtlRetune{to, at.Add(-rtlDoubt), newRate})
	return nil
}

func (w *rtlWire) close() error {
	if err := w.conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("%s: close: %w", w.shown, err)
	}
	return nil
}
