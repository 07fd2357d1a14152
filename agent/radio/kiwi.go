package radio

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/dsp"
	"github.com/fulgidus/heimdall/protocol"
)

const (
	kiwiPort = 8073
	// kiwiPatience bounds an attempt to connect.
	kiwiPatience = 15 * time.Second
	// kiwiStall: frames come 23 times a second.
	kiwiStall = 5 * time.Second
	// kiwiKeepalive is a twelfth of what the server waits for.
	kiwiKeepalive = 5 * time.Second
	// kiwiSettle is the transient of a retune.
	kiwiSettle = 200 * time.Millisecond
	// kiwiQueue is how old samples without a stamp may be when they arrive: the server's audio buffer, and the way.
	kiwiQueue = 300 * time.Millisecond
	// kiwiWaiting is how many frames wait for stamps that can be believed.
	kiwiWaiting = 8
	// kiwiMostLost frames in a row are a new connection's numbers rather than a loss.
	kiwiMostLost = 5000
)

// kiwiSDR is the wire of a KiwiSDR: IQ of 12 or 20.25 kHz over a web socket, with a GNSS time stamp for each frame.
type kiwiSDR struct {
	address  string
	source   string // secrets removed
	password configs.Secret
	ipl      configs.Secret // exempts from the time limit
	user     string
	tuning   Tuning // asked; the rate is the server's
	wall     Wall
	log      *slog.Logger

	conn   *websocket.Conn
	facts  map[string]string // of /status and of messages
	offset float64           // Hz that the server adds to its dial: a converter before it
	frame  bytes.Buffer      // the last one; what connect read is taken by stream

	asked atomic.Pointer[Tuning] // what is on its way; nil: nothing

	// Only stream's goroutine uses these.
	clock   *sampleClock
	arrived *arrivalClock
	seq     uint32
	begun   bool
	waiting []byte // samples until it is known whether stamps can be believed
	frames  int    // in waiting
	stamped bool   // times are those of stamps
	fixAge  uint8  // seconds since the last position
	level   kiwiLevel
}

func openKiwi(source, rest string, opts Options) (Receiver, error) {
	p := newParams(source, rest)
	w := &kiwiSDR{source: p.shown, wall: opts.Wall, log: opts.Log}
	w.address = p.hostPort(kiwiPort)
	w.tuning = Tuning{CenterHz: either(opts.CenterHz, p.hertz("center", 1e3, 10e9)), GainDB: 50}
	w.tuning.CenterHz = either(w.tuning.CenterHz, 10e6)
	if v, given := p.take("gain"); given {
		gain, err := strconv.ParseFloat(v, 64)
		if err != nil || !(gain >= 0 && gain <= kiwiMostGain) {
			p.fault("gain", v, "want the manual gain in dB, 0 to 120")
		}
		w.tuning.GainDB = gain
	}
	w.password, w.ipl = p.secret("password"), p.secret("ipl_password")
	w.user = "heimdall"
	if v, given := p.take("user"); given {
		w.user = v
	}
	buffer := p.duration("buffer")
	if err := p.finish(); err != nil {
		return nil, err
	}
	return newLive(p.shown, opts, liveSettings{host: w.address, buffer: buffer, stall: kiwiStall}, w), nil
}

// kiwiMostGain is the end of the manual gain's scale.
const kiwiMostGain = 120

// connect looks at the status page, logs in, asks for IQ and waits for its first frame.
func (w *kiwiSDR) connect(ctx context.Context) (Info, error) {
	ctx, cancel := context.WithTimeout(ctx, kiwiPatience)
	defer cancel()
	w.facts = map[string]string{}
	if page, err := w.page(ctx); err == nil { // proxies and old firmware have none
		w.facts = kiwiStatus(page)
		if no := kiwiClosed(w.source, w.facts); no != nil {
			return Info{}, no
		}
	}
	if err := w.dial(ctx); err != nil {
		return Info{}, err
	}
	info, err := w.agree(ctx)
	if err != nil {
		_ = w.conn.CloseNow() // the error says more
		return Info{}, err
	}
	return info, nil
}

// page fetches the status page, which everybody may read.
func (w *kiwiSDR) page(ctx context.Context) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.address+"/status", http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := kiwiClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("http://%s/status: %s", w.address, resp.Status)
	}
	return io.ReadAll(io.LimitReader(resp.Body, kiwiMostBytes))
}

// kiwiClient follows the proxies that public receivers stand behind, and no more.
var kiwiClient = &http.Client{
	CheckRedirect: func(_ *http.Request, via []*http.Request) error {
		if len(via) > 3 {
			return errors.New("sent on more than three times")
		}
		return nil
	},
}

func (w *kiwiSDR) dial(ctx context.Context) error {
	now := strconv.FormatInt(time.Now().Unix(), 10)
	conn, resp, err := websocket.Dial(ctx, "ws://"+w.address+"/"+now+"/SND", &websocket.DialOptions{HTTPClient: kiwiClient})
	if resp != nil && resp.Body != nil {
		resp.Body.Close()
	}
	if err != nil {
		return fmt.Errorf("connect to %s: %w", w.source, err)
	}
	conn.SetReadLimit(kiwiMostBytes)
	w.conn = conn
	return nil
}

// agree does what the server wants before it sends: log-in, audio, then the five commands that make up a channel.
func (w *kiwiSDR) agree(ctx context.Context) (Info, error) {
	password := string(w.password)
	login := "SET auth t=kiwi p=" + url.QueryEscape(password)
	if password == "" {
		login = "SET auth t=kiwi p=#"
	}
	if w.ipl != "" {
		login += " ipl=" + url.QueryEscape(string(w.ipl))
	}
	if err := w.say(ctx, login); err != nil {
		return Info{}, err
	}
	for {
		b, err := w.read(ctx)
		if err != nil {
			return Info{}, w.kicked(err)
		}
		switch f, err := parseSound(b); {
		case err == nil && f.iq != nil:
			return w.info(f), nil
		case err == nil: // of the mode that channels begin with
			continue
		case !bytes.HasPrefix(b, []byte("MSG")):
			return Info{}, fmt.Errorf("%s: %w", w.source, err)
		}
		if err := w.answer(ctx, b); err != nil {
			return Info{}, err
		}
	}
}

// answer notes what a message says and does what it calls for.
func (w *kiwiSDR) answer(ctx context.Context, b []byte) error {
	var todo error
	kiwiMessages(b, func(name, value string) {
		w.facts[name] = value
		if no := kiwiRefusal(w.source, name, value); no != nil {
			todo = errors.Join(todo, no)
		}
		switch name {
		case "freq_offset":
			if kHz, err := strconv.ParseFloat(value, 64); err == nil && math.Abs(kHz) < 1e8 {
				w.offset = kHz * 1e3
			}
		case "audio_rate":
			todo = errors.Join(todo, w.say(ctx, "SET AR OK in="+value+" out=48000"))
		case "sample_rate":
			todo = errors.Join(todo, w.start(ctx, value))
		}
	})
	return todo
}

// start asks for IQ once the true rate is known.
func (w *kiwiSDR) start(ctx context.Context, rate string) error {
	hz, err := strconv.ParseFloat(rate, 64)
	if err != nil || !(hz >= 1e3 && hz <= 1e6) {
		return fmt.Errorf("%s: sample rate %q: want a number of Hz", w.source, rate)
	}
	w.tuning.SampleRateHz = hz
	if least, most := w.reach(); w.tuning.CenterHz < least || w.tuning.CenterHz > most {
		return &Fault{"source " + w.source, "center", formatHertz(w.tuning.CenterHz), fmt.Sprintf("this receiver hears %s to %s", formatHertz(least), formatHertz(most))}
	}
	return errors.Join(
		w.say(ctx, "SET squelch=0 max=0"),
		w.say(ctx, "SET genattn=0"),
		w.say(ctx, "SET gen=0 mix=-1"),
		w.say(ctx, "SET ident_user="+url.QueryEscape(w.user)),
		w.say(ctx, "SET little-endian"),
		w.setCenter(ctx, "iq", w.tuning),
		w.setGain(ctx, w.tuning.GainDB),
		w.say(ctx, "SET compression=0"),
		w.say(ctx, "SET keepalive"),
	)
}

// reach is what the centre can be.
func (w *kiwiSDR) reach() (leastHz, mostHz float64) {
	bandwidth, err := strconv.ParseFloat(w.facts["bandwidth"], 64)
	if err != nil || !(bandwidth > 0) {
		bandwidth = 30e6
	}
	half := w.tuning.SampleRateHz / 2
	return w.offset + half, w.offset + bandwidth - half
}

// setCenter tunes, to a hertz; the passband is all of the rate but the edges.
func (w *kiwiSDR) setCenter(ctx context.Context, mode string, to Tuning) error {
	cut := int(to.SampleRateHz/2) - 100
	return w.say(ctx, fmt.Sprintf("SET mod=%s low_cut=%d high_cut=%d freq=%.3f", mode, -cut, cut, (to.CenterHz-w.offset)/1e3))
}

func (w *kiwiSDR) setGain(ctx context.Context, gainDB float64) error {
	return w.say(ctx, fmt.Sprintf("SET agc=0 hang=0 thresh=-100 slope=6 decay=1000 manGain=%.0f", gainDB))
}

// info describes the receiver at its first frame.
func (w *kiwiSDR) info(f soundFrame) Info {
	w.tuning.CenterHz = math.Round(w.tuning.CenterHz)
	least, most := w.reach()
	info := Info{
		Hardware: "KiwiSDR " + w.address, Format: dsp.CS16, Tuning: w.tuning, Tunable: true,
		Range: Range{
			LowHz: least, HighHz: most, LowRateHz: w.tuning.SampleRateHz, HighRateHz: w.tuning.SampleRateHz,
			Settling: kiwiSettle + time.Second, // the way there, what is under way, the transient
		},
		TimeQuality: protocol.TimeQuality_TIME_QUALITY_GNSS,
	}
	if v := w.facts["version_maj"]; v != "" {
		info.Hardware += ", firmware " + v + "." + w.facts["version_min"]
	}
	if !f.stamp.stamped {
		_, info.TimeQuality, _ = w.wall()
	}
	if place := w.place(); place != "" {
		info.Notes = append(info.Notes, "stands at "+place)
	}
	return info
}

// place is where the receiver says that it stands.
func (w *kiwiSDR) place() string {
	var cfg struct {
		GPS    string  `json:"rx_gps"`
		Height float64 `json:"rx_asl"`
	}
	if err := json.Unmarshal([]byte(w.facts["load_cfg"]), &cfg); err == nil && cfg.GPS != "" {
		return fmt.Sprintf("%s, %.0f m", cfg.GPS, cfg.Height)
	}
	return w.facts["gps"]
}

// describe says what the status page tells everybody.
func (w *kiwiSDR) describe(ctx context.Context) ([]Fact, error) {
	ctx, cancel := context.WithTimeout(ctx, kiwiPatience)
	defer cancel()
	page, err := w.page(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", w.source, err)
	}
	facts := kiwiStatus(page)
	var all []Fact
	for _, f := range []struct{ name, key string }{
		{"name", "name"}, {"firmware", "sw_version"}, {"place", "gps"}, {"antenna", "antenna"}, {"fixes", "fixes_min"}, {"offset", "freq_offset"},
	} {
		if v := facts[f.key]; v != "" {
			all = append(all, Fact{f.name, v})
		}
	}
	if facts["users_max"] != "" {
		all = append(all, Fact{"users", facts["users"] + " of " + facts["users_max"]})
	}
	if no := kiwiClosed(w.source, facts); no != nil {
		return all, no
	}
	return all, nil
}

// stream takes frames until the connection ends.
func (w *kiwiSDR) stream(ctx context.Context, in *intake) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	kept := make(chan struct{}) // closed when the keeper has ended
	go func() {
		defer close(kept)
		w.keepAlive(ctx)
	}()
	defer func() { cancel(); <-kept }()
	w.clock = newSampleClock(w.tuning.SampleRateHz, stampTolerance, stampFloor)
	w.arrived = newArrivalClock(w.tuning.SampleRateHz, kiwiQueue, w.wall)
	w.waiting = make([]byte, 0, kiwiWaiting*4096)
	for b := w.frame.Bytes(); ; {
		if err := w.take(in, b); err != nil {
			return err
		}
		var err error
		if b, err = w.read(ctx); err != nil {
			return w.closed(err)
		}
	}
}

// keepAlive says every few seconds that somebody listens.
func (w *kiwiSDR) keepAlive(ctx context.Context) {
	every := time.NewTicker(kiwiKeepalive)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
			if err := w.say(ctx, "SET keepalive"); err != nil {
				return // reading will say why
			}
		}
	}
}

// take handles what came: a message, or a frame of sound.
func (w *kiwiSDR) take(in *intake, b []byte) error {
	f, err := parseSound(b)
	if err != nil {
		return w.hear(b)
	}
	if f.iq == nil { // of the mode before
		return nil
	}
	w.number(in, f)
	if asked := w.asked.Load(); f.flags&kiwiRetuned != 0 || asked != nil && asked.CenterHz == w.tuning.CenterHz { // of a gain nothing is said
		w.retuned(in)
	}
	if f.flags&kiwiLE == 0 {
		swapBytes(f.iq)
	}
	w.observe(in.index()+uint64(len(w.waiting)/4), f)
	if dbm, known := w.level.add(f); known {
		w.tuning.FullScaleDBm = dbm
		in.fullScale(dbm)
	}
	if w.stamped || w.frames >= kiwiWaiting {
		w.deliver(in, f.iq)
		return nil
	}
	w.hold(in, f.iq)
	return nil
}

// hear notes a message while the stream runs. A frame of any other kind is garbage, from something that is no KiwiSDR.
func (w *kiwiSDR) hear(b []byte) error {
	if !bytes.HasPrefix(b, []byte("MSG")) {
		return fmt.Errorf("%s: %w", w.source, errKiwiFrame)
	}
	var no error
	kiwiMessages(b, func(name, value string) {
		if refused := kiwiRefusal(w.source, name, value); refused != nil {
			no = refused
		}
	})
	return no
}

// number declares the frames that are missing: the server counts them before it throws away what a slow line cannot take.
func (w *kiwiSDR) number(in *intake, f soundFrame) {
	missing := f.seq - w.seq - 1
	first := !w.begun
	w.seq, w.begun = f.seq, true
	switch {
	case first || missing == 0:
	case f.flags&kiwiRestart != 0 || missing > kiwiMostLost:
		w.flush(in)
		in.begin(w.tuning, kiwiSettle)
	default:
		w.flush(in)
		in.lost(uint64(missing)*uint64(len(f.iq)/4), true, "server")
	}
}

// retuned begins a segment with what was asked last; at first, with the transient of the start.
func (w *kiwiSDR) retuned(in *intake) {
	w.flush(in)
	if asked := w.asked.Swap(nil); asked != nil {
		w.tuning, w.level = *asked, kiwiLevel{}
	}
	in.begin(w.tuning, kiwiSettle)
}

// observe gives both clocks the frame whose first sample has an index.
func (w *kiwiSDR) observe(index uint64, f soundFrame) {
	now := time.Now()
	w.arrived.observe(index+uint64(len(f.iq)/4), now)
	w.arrived.news() // losses are known by number here
	wall, quality, _ := w.wall()
	if !f.stamp.stamped || quality == protocol.TimeQuality_TIME_QUALITY_UNSET { // which week it is, only a wall clock knows
		return
	}
	w.fixAge = f.stamp.age
	w.clock.observe(index, utcOfWeek(f.stamp.ns, wall))
}

// hold keeps the first frames back until their time is known: it is better than when they arrived.
func (w *kiwiSDR) hold(in *intake, iq []byte) {
	w.waiting = append(w.waiting, iq...)
	w.frames++
	if w.clock.known || w.frames == kiwiWaiting {
		w.flush(in)
	}
}

// flush delivers what waits.
func (w *kiwiSDR) flush(in *intake) {
	if len(w.waiting) > 0 {
		w.frames = kiwiWaiting
		w.deliver(in, w.waiting)
		w.waiting = w.waiting[:0]
	}
}

// deliver puts samples with the best time there is for them.
func (w *kiwiSDR) deliver(in *intake, iq []byte) {
	at, stamped := w.clock.at(in.index())
	if jumped := w.clock.news(); jumped || stamped != w.stamped && w.frames > kiwiWaiting {
		in.begin(w.tuning, 0) // times before and after do not belong together
	}
	w.frames++
	w.stamped = stamped
	switch {
	case !stamped:
		at = w.arrived.at(in.index())
		_, at.Quality, _ = w.wall()
	case w.fixAge >= staleFix:
		at.Quality = protocol.TimeQuality_TIME_QUALITY_GNSS_STALE
	default:
		at.Quality = protocol.TimeQuality_TIME_QUALITY_GNSS
	}
	if stamped {
		in.rate(w.clock.rateHz())
		in.ppm(w.clock.ppm())
	}
	in.put(iq, at)
}

// tune asks for another centre or gain. The frame that says so ends the old segment.
func (w *kiwiSDR) tune(ctx context.Context, to Tuning) error {
	to.CenterHz = math.Round(to.CenterHz)
	to.GainDB = math.Round(min(max(to.GainDB, 0), kiwiMostGain))
	w.asked.Store(&to)
	return errors.Join(w.setCenter(ctx, "x", to), w.setGain(ctx, to.GainDB))
}

func (w *kiwiSDR) close() error {
	_ = w.conn.CloseNow() // one that is gone already was closed well
	return nil
}

func (w *kiwiSDR) say(ctx context.Context, text string) error {
	if err := w.conn.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
		return fmt.Errorf("speak to %s: %w", w.source, err)
	}
	return nil
}

// read takes the next message into memory that the next read uses again.
func (w *kiwiSDR) read(ctx context.Context) ([]byte, error) {
	_, r, err := w.conn.Reader(ctx)
	if err != nil {
		return nil, err
	}
	w.frame.Reset()
	if _, err := w.frame.ReadFrom(r); err != nil {
		return nil, err
	}
	return w.frame.Bytes(), nil
}

// closed is why a connection ended.
func (w *kiwiSDR) closed(err error) error {
	return fmt.Errorf("read from %s: %w", w.source, err)
}

// kicked is why a log-in ended without an answer.
func (w *kiwiSDR) kicked(err error) error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return w.closed(err)
	}
	return &Refusal{
		w.source, "kicked", "it closed the connection without a word, as it does with programs from afar, and with too many of one address: " +
			"run the agent on its own network, or ask its owner", time.Minute,
	}
}

// swapBytes turns 16-bit numbers of the other byte order.
func swapBytes(b []byte) {
	for i := 0; i+1 < len(b); i += 2 {
		b[i], b[i+1] = b[i+1], b[i]
	}
}

// kiwiLevel learns what full scale is in dBm: the S-meter measures the passband before the gain, the samples come after it.
type kiwiLevel struct {
	sum    float64 // of dBm less dBFS
	frames int
}

// kiwiLevelFrames is a second and a half.
const kiwiLevelFrames = 35

// add takes a frame. The level is known once, when there are enough.
func (l *kiwiLevel) add(f soundFrame) (fullScaleDBm float64, known bool) {
	power := 0.0
	for i := 0; i+1 < len(f.iq); i += 2 {
		v := float64(int16(binary.LittleEndian.Uint16(f.iq[i:])))
		power += v * v
	}
	power /= float64(len(f.iq)/4) * (1 << 30)
	if power == 0 || l.frames == kiwiLevelFrames {
		return 0, false
	}
	l.sum += f.sMeter - 10*math.Log10(power)
	l.frames++
	return l.sum / kiwiLevelFrames, l.frames == kiwiLevelFrames
}
