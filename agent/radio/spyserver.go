package radio

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// openSpyserver makes a receiver of a SpyServer: //HOST[:5555].
func openSpyserver(source, rest string, opts Options) (Receiver, error) {
	p := newParams(source, rest)
	w := &spyWire{shown: p.shown, where: p.where, address: p.hostPort(spyPort), wall: opts.Wall}
	w.set = readSpySettings(p)
	set := liveSettings{host: w.address, buffer: p.buffer(), stall: spyPatience}
	if err := p.finish(); err != nil {
		return nil, err
	}
	return newLive(p.shown, opts, set, w), nil
}

// spySettings are what the URL says.
type spySettings struct {
	centerHz, rateHz float64 // zero: as it is, the highest
	gain             int     // index; negative: as it is
	digitalDB        int     // negative: 3 dB a stage of decimation
	format           uint32  // number
}

func readSpySettings(p *params) spySettings {
	set := spySettings{centerHz: p.hertz("center", 1, math.MaxUint32), rateHz: p.hertz("rate", 1, math.MaxUint32)}
	set.gain = spyNumber(p, "gain", 255, "the index of a gain from 0 on")
	set.digitalDB = spyNumber(p, "digital_gain", 120, "whole dB from 0 to 120")
	switch p.oneOf("format", "s16", "s16", "u8", "s24", "f32") {
	case "u8":
		set.format = 1
	case "s24":
		set.format = 3
	case "f32":
		set.format = 4
	default:
		set.format = 2
	}
	return set
}

// spyNumber reads a whole number; -1 when not given.
func spyNumber(p *params, name string, most int, want string) int {
	v, given := p.take(name)
	if !given {
		return -1
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 || n > most {
		p.fault(name, v, "want "+want)
	}
	return n
}

const (
	spyPort = 5555
	// spyPatience is how long a server may be silent.
	spyPatience = 5 * time.Second
	// spyFirst is how long its state and its first samples are waited for: some never tell their state.
	spyFirst = time.Second
	// spyFull is how long a server that is full is left alone.
	spyFull = 15 * time.Second
	// spySettle is how long a receiver takes to settle, and spyBlind that where it does not say when it has been tuned.
	spySettle = 200 * time.Millisecond
	spyBlind  = time.Second
	// spyWay is how old the last sample of a message may be on a link without a queue.
	spyWay = 300 * time.Millisecond
	// spyFlush is how long samples of a former rate may come: nothing tells them apart.
	spyFlush = 300 * time.Millisecond
	// spyMostLost is no loss any more: a server that is silent for so long has ended the connection.
	spyMostLost = 10 * time.Second
	// spySteady messages of one size are enough to know that of those that are missing.
	spySteady = 8
)

// spyWire is a connection to a SpyServer.
type spyWire struct {
	shown, where, address string
	set                   spySettings
	wall                  Wall

	conn   net.Conn
	in     *bufio.Reader
	buf    []byte
	device spyDevice

	// Only connect and stream's goroutine touch these.
	first     spyMessage // samples that came before stream
	firstBody []byte
	format    int // of spyFormats
	clock     *arrivalClock
	counted   bool   // seq is known
	seq       uint32 // of the last samples
	size      int    // samples in each of the last messages
	steady    int    // messages of that size in a row
	scratch   []byte
	calm      time.Time // when the last transient has passed

	// mu guards the fields below.
	mu     sync.Mutex
	sync   spySync
	told   bool // the server tells its state
	tuning Tuning
	stage  uint32 // of decimation
	asked  spyAsked
	wantDB float64 // digital gain that was asked for last
}

// connect greets, learns what there is, and asks for samples.
func (w *spyWire) connect(ctx context.Context) (Info, error) {
	conn, err := (&net.Dialer{Timeout: spyPatience}).DialContext(ctx, "tcp", w.address)
	if err != nil {
		return Info{}, unreached(w.shown, "start spyserver, or look at bind_host and bind_port in its config", err)
	}
	w.conn, w.in = conn, bufio.NewReaderSize(conn, 1<<16)
	return agreeOver(ctx, conn, w.agree)
}

// agree learns what the receiver is, and settles what it is to do.
func (w *spyWire) agree() (Info, error) {
	if err := w.write(spyGreeting("heimdall")); err != nil {
		return Info{}, err
	}
	if err := w.learn(); err != nil {
		return Info{}, err
	}
	if !w.told && w.set.centerHz == 0 {
		return Info{}, &Fault{w.where, "center", "", "needed: this server does not say where its receiver is"}
	}
	if err := w.choose(); err != nil {
		return Info{}, err
	}
	if err := w.write(w.settings()); err != nil {
		return Info{}, err
	}
	if err := w.await(spyFirst, func() bool { return w.firstBody != nil }); err != nil {
		return Info{}, err
	}
	w.startClock()
	w.wantDB = w.tuning.GainDB
	return w.info(), w.conn.SetDeadline(time.Time{})
}

// learn reads what the server says of the receiver, and of this client where it does.
func (w *spyWire) learn() error {
	known := func() bool { return w.device.kind != 0 }
	err := w.await(spyPatience, known)
	switch {
	case hungUp(err):
		return &Refusal{w.shown, "too_busy", "the server ended the connection before it said anything: it has as many clients as it takes, or its receiver is in use", spyFull}
	case err != nil:
		return err
	case !known():
		return fmt.Errorf("%s: connected, but no SpyServer answers in %s: look at the port", w.shown, spyPatience)
	}
	return w.await(spyFirst, func() bool { return w.told })
}

// await reads messages until something is so, or for a time. One whose head has come by then is read to its end.
func (w *spyWire) await(d time.Duration, so func() bool) error {
	for end := time.Now().Add(d); !so() && time.Now().Before(end); {
		if err := w.conn.SetReadDeadline(end); err != nil {
			return err
		}
		if _, err := w.in.Peek(spyHead); errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err := w.conn.SetReadDeadline(end.Add(spyPatience)); err != nil {
			return err
		}
		m, body, err := w.read()
		if err != nil {
			return err
		}
		if err := w.meet(m, body); err != nil {
			return err
		}
	}
	return nil
}

// read reads a message, whose body is valid until the next.
func (w *spyWire) read() (m spyMessage, body []byte, err error) {
	m, body, w.buf, err = readSpyMessage(w.in, w.buf)
	if err != nil {
		err = fmt.Errorf("%s: %w", w.shown, err)
	}
	return m, body, err
}

// meet takes a message in that comes before stream.
func (w *spyWire) meet(m spyMessage, body []byte) (err error) {
	switch {
	case m.kind == spyDeviceInfo:
		w.device, err = parseSpyDevice(body)
		if errors.Is(err, errSpyNoDevice) {
			return &Refusal{w.shown, "busy", "the server has no receiver at the moment: it is unplugged, or another program has it", spyFull}
		}
	case m.kind == spyClientSync:
		w.sync, err = parseSpySync(body)
		w.told = err == nil
		if w.tuning.CenterHz != 0 && w.told {
			w.tuning.CenterHz = w.sync.centerHz
		}
	case m.samples() && w.device.kind != 0:
		w.first, w.firstBody = m, append([]byte(nil), body...)
		w.format = int(m.kind - spyIQ)
		w.tuning.GainDB = m.gainDB
	}
	if err != nil {
		return fmt.Errorf("%s: %w", w.shown, err)
	}
	return nil
}

// choose settles on a tuning that the server can do.
func (w *spyWire) choose() error {
	rates := w.device.rates()
	rate := w.set.rateHz
	if rate == 0 {
		rate = rates[0]
	}
	stage, found := w.device.decimation(rate)
	if !found {
		var all []string
		for _, r := range rates {
			all = append(all, formatHertz(r))
		}
		return &Fault{w.where, "rate", formatHertz(rate), "this server offers " + strings.Join(all, ", ")}
	}
	center := w.set.centerHz
	if center == 0 {
		center = w.sync.centerHz
	}
	w.stage, w.format = stage, int(w.set.format)-1
	if w.device.forced != 0 {
		w.format = int(w.device.forced) - 1
	}
	w.tuning = Tuning{CenterHz: math.Round(center), SampleRateHz: w.device.rate(stage), GainDB: float64(w.digital(stage))}
	if r := w.tunable(); w.set.centerHz != 0 && !(center >= r.LowHz && center <= r.HighHz) {
		why := "its receiver goes from %s to %s"
		if w.told && !w.sync.control {
			why = "this client does not control the receiver, and can go from %s to %s as it is tuned"
		}
		return &Fault{w.where, "center", formatHertz(center), fmt.Sprintf(why, formatHertz(r.LowHz), formatHertz(r.HighHz))}
	}
	return nil
}

// digital is the digital gain at a stage of decimation, in dB: as the sum of 2ⁿ samples gains n·3 dB over their noise, so much
// more fits into 16 bits.
func (w *spyWire) digital(stage uint32) uint32 {
	if w.set.digitalDB >= 0 {
		return uint32(w.set.digitalDB)
	}
	return uint32(math.Round(10 * math.Log10(2) * float64(stage)))
}

// settings are the commands that begin the stream.
func (w *spyWire) settings() []byte {
	b := spySetting(nil, spyFormat, w.wanted())
	b = spySetting(b, spyDecimation, w.stage)
	b = spySetting(b, spyMode, 1)
	if w.set.gain >= 0 {
		b = spySetting(b, spyGain, min(uint32(w.set.gain), w.device.mostGain))
	}
	b = spySetting(b, spyDigitalGain, uint32(w.tuning.GainDB))
	if w.set.centerHz != 0 {
		b = spySetting(b, spyFrequency, uint32(w.tuning.CenterHz))
	}
	return spySetting(b, spyEnabled, 1)
}

// wanted is the number of the format to ask for.
func (w *spyWire) wanted() uint32 { return uint32(w.format) + 1 }

// tunable is where this client can go.
func (w *spyWire) tunable() Range {
	rates := w.device.rates()
	r := Range{
		LowHz: max(w.device.lowHz, 1), HighHz: w.device.highHz, LowRateHz: rates[len(rates)-1], HighRateHz: rates[0],
		Settling: spyBlind + spyPatience/5,
	}
	if w.told && !w.sync.control {
		r.LowHz, r.HighHz = w.sync.lowHz, w.sync.highHz
	}
	if w.set.centerHz == 0 && !(w.tuning.CenterHz >= r.LowHz && w.tuning.CenterHz <= r.HighHz) { // what it says makes no sense
		r.LowHz, r.HighHz = w.tuning.CenterHz, w.tuning.CenterHz
	}
	return r
}

func (w *spyWire) info() Info {
	info := Info{
		Hardware: w.device.name(), Format: spyFormats[w.format].to, Tuning: w.tuning, Tunable: true, Range: w.tunable(),
		MaskDC: w.device.kind == 3, TimeQuality: protocol.TimeQuality_TIME_QUALITY_ARRIVAL,
	}
	if w.told && !w.sync.control {
		info.Notes = append(info.Notes, "another client controls the receiver: this one goes only where it is tuned to, and with it when it is tuned elsewhere")
	}
	if !w.told {
		info.Notes = append(info.Notes, "this server does not say where it is tuned: when another client does that, nobody here will know")
	}
	if spyFormats[w.format].name == "u8" {
		info.Notes = append(info.Notes, "samples have 8 bits: weak signals beside strong ones are lost")
	}
	return info
}

func (w *spyWire) startClock() {
	message := time.Duration(0)
	if w.first.size > 0 {
		message = SamplesDuration(float64(w.first.size/spyFormats[w.format].width), w.tuning.SampleRateHz)
	}
	w.clock = newArrivalClock(w.tuning.SampleRateHz, spyWay+message, w.wall)
}

func (w *spyWire) write(commands []byte) error {
	if err := w.conn.SetWriteDeadline(time.Now().Add(spyPatience)); err != nil {
		return fmt.Errorf("%s: %w", w.shown, err)
	}
	if _, err := w.conn.Write(commands); err != nil {
		return fmt.Errorf("%s: send commands: %w", w.shown, err)
	}
	return nil
}

func (w *spyWire) close() error { return w.conn.Close() }
