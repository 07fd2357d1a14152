package radio

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/fulgidus/heimdall/dsp"
	"github.com/fulgidus/heimdall/protocol"
)

const (
	// owrxPatience bounds an attempt to connect. A device that was off needs seconds to start.
	owrxPatience = 15 * time.Second
	// owrxStall is longer than a connector needs to open its device again.
	owrxStall = 20 * time.Second
	// owrxSettle is how far the news of a retune and the samples of it may be apart, on either side, and the transient.
	owrxSettle = 400 * time.Millisecond
	// owrxSilence is a pause in which the device was opened again: it comes without a word.
	owrxSilence = time.Second
	// owrxMostBytes bounds a message of the web socket. The lists of modes and bookmarks are the longest.
	owrxMostBytes = 4 << 20
	// owrxQueue is the connector's ring: ten of its buffers.
	owrxQueue = 200 * time.Millisecond
)

// owrx is a wire to a connector of OpenWebRX, and to its web server, which alone says where the device is tuned to.
type owrx struct {
	where   string
	address string // of the connector; without a port it is looked for
	web     string // the web socket's URL; empty: centre and rate are fixed
	device  string // of OpenWebRX; empty: the first
	tuning  Tuning
	swap    bool
	maskDC  bool
	opts    Options

	samples net.Conn
	socket  *websocket.Conn
	pipe    *pipe // stream's
	last    time.Time

	// mu guards state, which the web socket changes.
	mu    sync.Mutex
	state owrxState
}

func openOwrx(source, rest string, opts Options) (Receiver, error) {
	p := newParams(source, rest)
	w := &owrx{where: p.where, opts: opts}
	if address := strings.TrimSuffix(p.path, "/"); address != "//127.0.0.1" && address != "//localhost" && address != "//[::1]" {
		w.address = p.hostPort(4590)
		if port := address[strings.LastIndexByte(address, ':')+1:]; w.address != "" && !strings.HasSuffix(w.address, ":"+port) {
			p.fault("port", "", "missing: only on this computer, owrx://127.0.0.1, it can be looked for")
		}
	}
	w.web = p.webSocket("web", "http://127.0.0.1:8073")
	w.device, _ = p.take("sdr")
	w.tuning = Tuning{CenterHz: p.hertz("center", 1, maxHz), SampleRateHz: p.hertz("rate", minRateHz, maxRateHz), GainDB: math.NaN()}
	if p.values["web"] == "off" {
		p.required("center", w.tuning.CenterHz == 0, "with web=off nobody says where the device is tuned to")
		p.required("rate", w.tuning.SampleRateHz == 0, "with web=off nobody says how many samples a second come")
	} else if p.values["center"] != "" || p.values["rate"] != "" {
		p.fault("center", p.values["center"], "center and rate come from OpenWebRX: leave them out, or say web=off where the device is never tuned")
	}
	w.swap = p.oneOf("swap_iq", "false", "true", "false") == "true"
	w.maskDC = p.oneOf("dc", "keep", "mask", "keep") == "mask"
	set := liveSettings{buffer: p.buffer(), stall: p.duration("stall")}
	if set.stall == 0 {
		set.stall = owrxStall
	}
	if err := p.finish(); err != nil {
		return nil, err
	}
	if u, err := url.Parse(w.web); err == nil {
		set.host = u.Host
	}
	return newLive(p.shown, opts, set, w), nil
}

// webSocket reads the address of a web page and gives that of its web socket; empty for off.
func (p *params) webSocket(name, fallback string) string {
	v, ok := p.take(name)
	if !ok {
		v = fallback
	}
	if v == "off" {
		return ""
	}
	u, err := url.Parse(v)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" {
		p.fault(name, v, "want the address of OpenWebRX's page, such as http://127.0.0.1:8073, or off")
		return ""
	}
	u.Scheme = "ws" + strings.TrimPrefix(u.Scheme, "http")
	u.Path = strings.TrimSuffix(u.Path, "/") + "/ws/"
	return u.String()
}

// connect becomes a listener of OpenWebRX, so that the device runs, and then takes its samples.
func (w *owrx) connect(ctx context.Context) (Info, error) {
	ctx, cancel := context.WithTimeout(ctx, owrxPatience)
	defer cancel()
	w.state = owrxState{centerHz: w.tuning.CenterHz, rateHz: w.tuning.SampleRateHz}
	if w.web != "" {
		if err := w.follow(ctx); err != nil {
			return Info{}, err
		}
	}
	if err := w.dial(ctx); err != nil {
		if w.socket != nil {
			_ = w.socket.CloseNow()
		}
		return Info{}, err
	}
	w.tuning.CenterHz, w.tuning.SampleRateHz = w.state.centerHz, w.state.rateHz
	return Info{
		Hardware: strings.TrimSpace("OpenWebRX " + w.state.device), Format: dsp.CF32, Tuning: w.tuning, MaskDC: w.maskDC,
		TimeQuality: protocol.TimeQuality_TIME_QUALITY_ARRIVAL,
	}, nil
}

// follow logs in to the web server and waits until it says where the device is tuned to.
func (w *owrx) follow(ctx context.Context) error {
	conn, resp, err := websocket.Dial(ctx, w.web, nil)
	if resp != nil && resp.Body != nil {
		resp.Body.Close()
	}
	if err != nil {
		return noSocket(w.where+", web page at "+w.web, "OpenWebRX", "start OpenWebRX, or say with web= where its page is", resp, err)
	}
	conn.SetReadLimit(owrxMostBytes)
	w.socket = conn
	if err := w.learn(ctx); err != nil {
		_ = conn.CloseNow()
		w.socket = nil
		return err
	}
	return nil
}

// learn does what has to be said and heard before samples can be understood.
func (w *owrx) learn(ctx context.Context) error {
	if err := w.socket.Write(ctx, websocket.MessageText, []byte(owrxHello)); err != nil {
		return fmt.Errorf("speak to OpenWebRX: %w", err)
	}
	welcome := false
	for !welcome || !w.state.complete() || w.device != "" && w.state.device != w.device {
		text, err := w.hear(ctx)
		if err != nil && ctx.Err() != nil {
			return fmt.Errorf("%s: OpenWebRX did not say in %s where its device %q is tuned to (it serves %q): look at its settings", w.where, owrxPatience, w.device, w.state.device)
		}
		if err != nil {
			return err
		}
		if !welcome && strings.HasPrefix(text, owrxWelcome) {
			welcome = true
			if err := w.choose(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// choose asks to listen to the device that is wanted. That changes nothing for others.
func (w *owrx) choose(ctx context.Context) error {
	if w.device == "" {
		return nil
	}
	id, err := json.Marshal(w.device)
	if err != nil {
		return fmt.Errorf("ask OpenWebRX for the device %q: %w", w.device, err)
	}
	order := fmt.Sprintf(`{"type":"setsdr","params":{"sdr":%s}}`, id)
	if err := w.socket.Write(ctx, websocket.MessageText, []byte(order)); err != nil {
		return fmt.Errorf("speak to OpenWebRX: %w", err)
	}
	return nil
}

// hear takes the next message of the web socket. Spectra and sound are thrown away.
func (w *owrx) hear(ctx context.Context) (string, error) {
	kind, r, err := w.socket.Reader(ctx)
	if err != nil {
		return "", fmt.Errorf("listen to OpenWebRX: %w", err)
	}
	if kind != websocket.MessageText {
		_, err := io.Copy(io.Discard, r)
		return "", err
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return "", fmt.Errorf("listen to OpenWebRX: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now, refusal := w.state.hear(text)
	if refusal != "" {
		return "", owrxRefusal(w.where, refusal)
	}
	w.state = now
	return string(text), nil
}

// owrxRefusal is a Refusal by what OpenWebRX says. OpenWebRX+ bans for 12 hours whom it takes for a robot.
func owrxRefusal(where, says string) error {
	no := &Refusal{Where: where, Reason: "too_busy", Mend: "OpenWebRX " + says + ": raise its limit of clients, or take the port that rtltcp_compat opens", After: time.Minute}
	if strings.Contains(says, "banned") {
		no.Reason, no.Mend, no.After = "banned", "OpenWebRX "+says+": take this computer off its list, and turn bot_ban_enabled off", time.Hour
	}
	if strings.Contains(says, "no device") {
		no.Reason, no.Mend, no.After = "disabled", "OpenWebRX "+says+": look at its settings", 15*time.Second
	}
	return no
}

// dial connects to the connector, which begins to listen some time after its device was asked for.
func (w *owrx) dial(ctx context.Context) error {
	for before := error(nil); ; {
		address, err := w.find()
		if err == nil {
			w.samples, err = new(net.Dialer).DialContext(ctx, "tcp", address)
			if err == nil {
				return nil
			}
			err = unreached(w.where+", connector at "+address, "the connector runs while OpenWebRX uses the device, or with always-on; look at the device's state in its settings", err)
		}
		if before != nil && timedOut(err) {
			return before // the time that was given ran out meanwhile: that says less
		}
		if len(Faults(err)) > 0 || wait(ctx, nil, 500*time.Millisecond) != nil {
			return err
		}
		before = err
	}
}

var errNoConnector = errors.New("no connector of OpenWebRX runs on this computer: is it in a container? Then publish a port with rtltcp_compat")

// find is the connector's address.
func (w *owrx) find() (string, error) {
	if w.address != "" {
		return w.address, nil
	}
	ports := owrxPorts(os.DirFS("/"))
	switch len(ports) {
	case 0:
		return "", errNoConnector
	case 1:
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(slices.Collect(maps.Keys(ports))[0])), nil
	}
	var all []string
	for _, port := range slices.Sorted(maps.Keys(ports)) {
		all = append(all, ports[port])
	}
	return "", &Fault{w.where, "port", "", "there are several connectors, say which port (-p): " + strings.Join(all, "; ")}
}

// stream takes samples in, and follows where the device is tuned to meanwhile.
func (w *owrx) stream(ctx context.Context, in *intake) error {
	ctx, fail := context.WithCancelCause(ctx)
	stop := context.AfterFunc(ctx, func() { w.samples.Close() })
	defer stop()
	var following sync.WaitGroup
	defer following.Wait()
	defer fail(nil)
	if w.socket != nil {
		following.Go(func() { fail(w.keepFollowing(ctx)) })
	}
	w.pipe = &pipe{
		read: w.samples.Read, swap: w.swap, buf: make([]byte, pipeChunk), before: w.retune,
		clock: newArrivalClock(w.tuning.SampleRateHz, owrxQueue, w.opts.Wall),
	}
	err := w.pipe.copy(in)
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: the connector has closed: OpenWebRX has stopped or restarted the device", w.where)
	}
	return fmt.Errorf("read from the connector: %w", err)
}

// keepFollowing listens to the web socket until it ends. Without it nobody knows what the samples are.
func (w *owrx) keepFollowing(ctx context.Context) error {
	w.mu.Lock()
	device := w.state.device
	w.mu.Unlock()
	for {
		if _, err := w.hear(ctx); err != nil {
			return err
		}
		w.mu.Lock()
		now := w.state.device
		w.mu.Unlock()
		if now != device {
			return fmt.Errorf("%s: OpenWebRX has given this listener the device %s instead of %s", w.where, now, device)
		}
	}
}

// retune begins a segment where the device is tuned to something else, and where it was silent for as long as it takes to open it
// again.
func (w *owrx) retune(in *intake, arrived time.Time) {
	w.mu.Lock()
	now := w.state
	w.mu.Unlock()
	silent := time.Duration(0)
	if !w.last.IsZero() {
		silent = arrived.Sub(w.last)
	}
	w.last = arrived
	tuned := now.centerHz != w.tuning.CenterHz || now.rateHz != w.tuning.SampleRateHz
	if !tuned && silent < owrxSilence {
		return
	}
	if silent >= owrxSilence {
		in.lost(uint64(silent.Seconds()*w.tuning.SampleRateHz), false, "silence")
	}
	if silent >= owrxSilence || now.rateHz != w.tuning.SampleRateHz {
		w.pipe.clock = newArrivalClock(now.rateHz, owrxQueue, w.opts.Wall)
	}
	w.tuning.CenterHz, w.tuning.SampleRateHz = now.centerHz, now.rateHz
	in.begin(w.tuning, owrxSettle)
}

func (w *owrx) tune(context.Context, Tuning) error { return ErrNotTunable }

// close leaves OpenWebRX. It stops the device when nobody else listens.
func (w *owrx) close() error {
	w.samples.Close()
	if w.socket != nil {
		_ = w.socket.CloseNow()
	}
	return nil
}

// describe says what OpenWebRX tells everybody.
func (w *owrx) describe(ctx context.Context) ([]Fact, error) {
	if w.web == "" {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, owrxPatience)
	defer cancel()
	u, err := url.Parse(w.web)
	if err != nil {
		return nil, err
	}
	u.Scheme = "http" + strings.TrimPrefix(u.Scheme, "ws")
	u.Path = strings.TrimSuffix(u.Path, "ws/") + "status.json"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask OpenWebRX: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, owrxMostBytes))
	if err != nil {
		return nil, fmt.Errorf("ask OpenWebRX: %w", err)
	}
	return owrxFacts(text), nil
}
