package radio

import (
	"bytes"
	"context"
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
	// kiwiFirst frames are looked at for a stamp when it connects: the very first has none.
	kiwiFirst = 3
	// kiwiStale is how long after the last stamp that fits a time is still the stamps', if a stale one, and kiwiStampless when it is
	// no more.
	kiwiStale, kiwiStampless = time.Second, 10 * time.Second
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
	frame  bytes.Buffer      // the last one
	first  []arrivedFrame    // that connect read; stream takes them

	asked  atomic.Pointer[kiwiOrder] // what is on its way; nil: nothing
	dialed float64                   // centre asked for last; of the goroutine that tunes

	// Only stream's goroutine uses these.
	clock   *sampleClock
	arrived *arrivalClock
	seq     uint32
	begun   bool
	waiting []byte // samples until it is known whether stamps can be believed
	doubted int    // frames in a row that came while it was not
	timed   bool   // samples were put
	stamped bool   // with times that are those of stamps
	fixAge  uint8  // seconds since the last position
	level   kiwiLevel
}

// arrivedFrame is a frame as it came, and when.
type arrivedFrame struct {
	bytes []byte
	at    time.Time
}

// kiwiOrder is a tuning that is on its way. The server says that it has tuned, not to what, and but once for orders that come
// at once.
type kiwiOrder struct {
	to     Tuning
	moves  bool      // to another centre: the server will say so
	began  time.Time // when the first of the orders was given that it may answer
	latest time.Time
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
	buffer := p.buffer()
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
	w.facts, w.first = map[string]string{}, nil
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
	wall, _, _ := w.wall()
	now := strconv.FormatInt(wall.Unix(), 10)
	conn, resp, err := websocket.Dial(ctx, "ws://"+w.address+"/"+now+"/SND", &websocket.DialOptions{HTTPClient: kiwiClient})
	if resp != nil && resp.Body != nil {
		resp.Body.Close()
	}
	if err != nil {
		return noSocket(w.source, "a KiwiSDR", "look whether the KiwiSDR is on, and at the port of its web page", resp, err)
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
	if err := w.say(ctx, login); err != nil && !errors.Is(err, errUnheard) {
		return Info{}, err
	}
	for {
		b, err := w.read(ctx)
		if err != nil {
			return Info{}, w.kicked(err)
		}
		switch f, err := parseSound(b); {
		case err == nil && f.iq != nil:
			w.first = append(w.first, arrivedFrame{bytes.Clone(b), time.Now()})
			if f.stamp.stamped || f.stamp.age == noFix || len(w.first) == kiwiFirst {
				return w.info(f), nil
			}
			continue
		case err == nil: // of the mode that channels begin with
			continue
		case !bytes.HasPrefix(b, []byte("MSG")):
			return Info{}, fmt.Errorf("%s: %w", w.source, err)
		}
		err = w.answer(ctx, b)
		if _, refused := errors.AsType[*Refusal](err); err != nil && (refused || !errors.Is(err, errUnheard)) {
			return Info{}, err
		}
	}
}

// kiwiFacts are the names of what is remembered of messages.
var kiwiFacts = map[string]bool{"bandwidth": true, "version_maj": true, "version_min": true, "load_cfg": true}

// answer notes what a message says and does what it calls for.
func (w *kiwiSDR) answer(ctx context.Context, b []byte) error {
	var todo error
	kiwiMessages(b, func(name, value string) {
		if kiwiFacts[name] {
			w.facts[name] = value
		}
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
		w.setCenter(ctx, w.tuning),
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

// setCenter tunes, to a hertz; the passband is all of the rate but the edges. The mode is named each time: firmware that does
// not know "as it is" takes it for AM.
func (w *kiwiSDR) setCenter(ctx context.Context, to Tuning) error {
	cut := int(to.SampleRateHz/2) - 100
	return w.say(ctx, fmt.Sprintf("SET mod=iq low_cut=%d high_cut=%d freq=%.3f", -cut, cut, (to.CenterHz-w.offset)/1e3))
}

func (w *kiwiSDR) setGain(ctx context.Context, gainDB float64) error {
	return w.say(ctx, fmt.Sprintf("SET agc=0 hang=0 thresh=-100 slope=6 decay=1000 manGain=%.0f", gainDB))
}

// info describes the receiver at its first frame.
func (w *kiwiSDR) info(f soundFrame) Info {
	w.tuning.CenterHz = math.Round(w.tuning.CenterHz)
	w.dialed = w.tuning.CenterHz
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
		if kiwiNowhere[cfg.GPS] {
			return ""
		}
		return fmt.Sprintf("%s, %.0f m", cfg.GPS, cfg.Height)
	}
	return w.facts["gps"]
}

// kiwiNowhere are the places of a receiver whose owner has set none: its maker's, and the one in Antarctica that the status page has for it.
var kiwiNowhere = map[string]bool{"(-37.631120, 176.172210)": true, "(-69.0, 90.0)": true, "(0.000000, 0.000000)": true}

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
		if v := facts[f.key]; v != "" && (f.key != "gps" || !kiwiNowhere[v]) {
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

// tune asks for another centre or gain. The frame that says so ends the old segment.
func (w *kiwiSDR) tune(ctx context.Context, to Tuning) error {
	to.CenterHz = math.Round(to.CenterHz)
	to.GainDB = math.Round(min(max(to.GainDB, 0), kiwiMostGain))
	w.order(to)
	return errors.Join(w.setCenter(ctx, to), w.setGain(ctx, to.GainDB))
}

// order notes what is asked, together with what has not been answered yet.
func (w *kiwiSDR) order(to Tuning) {
	now := time.Now()
	next := &kiwiOrder{to: to, moves: to.CenterHz != w.dialed, began: now, latest: now}
	w.dialed = to.CenterHz
	for {
		before := w.asked.Load()
		all := *next
		if before != nil {
			all.moves, all.began = all.moves || before.moves, before.began
		}
		if w.asked.CompareAndSwap(before, &all) {
			return
		}
	}
}

func (w *kiwiSDR) close() error {
	_ = w.conn.CloseNow() // one that is gone already was closed well
	return nil
}

func (w *kiwiSDR) say(ctx context.Context, text string) error {
	if err := w.conn.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
		return fmt.Errorf("%w to %s: %w", errUnheard, w.source, err)
	}
	return nil
}

// errUnheard is that a server no longer takes what is said. It has closed the connection, and may have said why before: that
// is still to be read.
var errUnheard = errors.New("speak")

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
