package radiotest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// KiwiFrame is what a KiwiSDR gives for one frame of IQ: its stamp, and its samples, I before Q.
type KiwiFrame struct {
	FixAge uint8 // seconds since the last position; 255: never had one
	Sec    uint32
	Nsec   uint32
	IQ     []int16
}

// Kiwi is a KiwiSDR that speaks as the firmware of 2024 does, with faults to switch on. Its fields are set before Start.
type Kiwi struct {
	// Frames gives frame n, counted from 0, of a listener tuned to a frequency; false ends the connection. Nil: a ramp of
	// samples with stamps of the true time, epoch KiwiEpoch.
	Frames func(n int, freqKHz float64) (KiwiFrame, bool)
	// RateHz is announced, and paces the frames of 512 samples. 0: 12001.135.
	RateHz float64
	// Password is what listeners have to give; empty: nothing.
	Password string
	// LineBytesPerS is what the line to a listener carries; 0: all. What it cannot carry waits, up to 64 messages; more is thrown
	// away after it was numbered.
	LineBytesPerS float64
	// Stale is how many frames at the start carry an old stamp; Hidden: the owner shows no stamps.
	Stale  int
	Hidden bool
	// IgnoreLE: firmware that knows no little-endian samples.
	IgnoreLE bool
	// Skip are the sequence numbers that a slow line lost; the first frame is number 1.
	Skip []uint32
	// Refuse is a message sent after the log-in, then the connection closes: "too_busy=8", "badp=1", "redirect=http%3a…".
	Refuse string
	// Silent closes the connection after so many messages from the client without a word; 0: never.
	Silent int
	// CloseAfter closes it after so many frames; 0: never.
	CloseAfter int
	// Say is a message sent after so many frames.
	Say      string
	SayAfter int
	// Garbage sends bytes that are no frame, Mute nothing at all after the log-in, Trickle one byte a second.
	Garbage, Mute, Trickle bool
	// Redirect answers the upgrade with a redirection to this address.
	Redirect string
	// Status is the page /status; nil: none there. Offset is in kHz.
	Status   map[string]string
	OffsetHz float64
	// KeepaliveWithin is how long a listener may be silent; 0: a minute.
	KeepaliveWithin time.Duration
	// SMeterDBm is what the frames say.
	SMeterDBm float64

	mu        sync.Mutex
	kicked    []string
	listeners int
	said      []string
	dropped   int
}

// KiwiEpoch is the second of the GPS week at frame 0 of a Kiwi without Frames.
const KiwiEpoch = 3600

const kiwiFrameSamples = 512

// kiwiQueued messages to a listener wait for the line.
const kiwiQueued = 64

// Start serves on a loopback port until the test ends, and returns host:port.
func (k *Kiwi) Start(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // of a test
	if err != nil {
		t.Fatal(err)
	}
	if k.RateHz == 0 {
		k.RateHz = 12001.135
	}
	if k.KeepaliveWithin == 0 {
		k.KeepaliveWithin = time.Minute
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var serving sync.WaitGroup
	server := &http.Server{Handler: k.handler(ctx, &serving), ReadHeaderTimeout: 5 * time.Second}
	serving.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() {
		cancel()
		server.Close()
		serving.Wait()
	})
	return l.Addr().String()
}

// Kicked says why listeners were thrown out, in order.
func (k *Kiwi) Kicked() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.kicked)
}

// Said is all that listeners have said.
func (k *Kiwi) Said() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.said)
}

// Dropped is how many frames the lines did not carry.
func (k *Kiwi) Dropped() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.dropped
}

// Listeners is how many there are now.
func (k *Kiwi) Listeners() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.listeners
}

var kiwiPath = regexp.MustCompile(`^(/kiwi|/ws/kiwi)?/\d+/SND$`)

func (k *Kiwi) handler(ctx context.Context, serving *sync.WaitGroup) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/status" && k.Status != nil:
			for name, value := range k.Status {
				fmt.Fprintf(w, "%s=%s\n", name, value)
			}
		case k.Redirect != "" && kiwiPath.MatchString(r.URL.Path):
			http.Redirect(w, r, "http://"+k.Redirect+r.URL.Path, http.StatusTemporaryRedirect)
		case kiwiPath.MatchString(r.URL.Path):
			serving.Add(1)
			defer serving.Done()
			k.serve(ctx, w, r)
		default:
			http.NotFound(w, r)
		}
	})
}

// kiwiListener is one connection.
type kiwiListener struct {
	k    *Kiwi
	conn *websocket.Conn
	end  context.CancelFunc
	work sync.WaitGroup // listening, and greeting

	mu        sync.Mutex
	set       map[string]bool // of what a channel needs
	heard     int
	keepalive time.Time
	idle      int // keepalives while something was missing
	le, iq    bool
	freqKHz   float64
	retuned   bool
	ready     chan struct{} // closed when the channel is complete
}

func (k *Kiwi) serve(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = conn.CloseNow() }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l := &kiwiListener{k: k, conn: conn, end: cancel, set: map[string]bool{}, keepalive: time.Now(), ready: make(chan struct{})}
	k.mu.Lock()
	k.listeners++
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		k.listeners--
		k.mu.Unlock()
	}()
	defer l.work.Wait()
	defer cancel()
	l.work.Go(func() { l.listen(ctx) })
	l.speak(ctx)
}

// listen takes commands until the connection ends.
func (l *kiwiListener) listen(ctx context.Context) {
	defer l.end()
	for {
		kind, text, err := l.conn.Read(ctx)
		if err != nil {
			return
		}
		if kind != websocket.MessageText {
			l.kick("binary from a client")
			return
		}
		l.k.mu.Lock()
		l.k.said = append(l.k.said, string(text))
		l.k.mu.Unlock()
		if !l.obey(ctx, string(text)) {
			return
		}
	}
}

func (l *kiwiListener) kick(why string) {
	l.k.mu.Lock()
	l.k.kicked = append(l.k.kicked, why)
	l.k.mu.Unlock()
	l.end()
	_ = l.conn.CloseNow()
}

// obey does what a command says. It is false when that ended the connection.
func (l *kiwiListener) obey(ctx context.Context, text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard++
	if l.k.Silent > 0 && l.heard >= l.k.Silent {
		l.kick("silent")
		return false
	}
	command, args, _ := strings.Cut(strings.TrimPrefix(text, "SET "), " ")
	name, value, _ := strings.Cut(command, "=")
	if !l.set["auth"] && name != "auth" && name != "keepalive" && name != "options" {
		l.kick("early command " + text)
		return false
	}
	switch name {
	case "auth":
		l.set["auth"] = true
		given := regexp.MustCompile(`\bp=(\S*)`).FindStringSubmatch(args)
		right := l.k.Password == "" || given != nil && given[1] == url.QueryEscape(l.k.Password)
		l.work.Go(func() { l.welcome(ctx, right) })
	case "keepalive":
		return l.alive()
	case "mod":
		l.tuned(value, args)
	case "agc":
		l.set["agc"] = true
	case "AR":
		l.set["AR"] = true
		l.msg(ctx, fmt.Sprintf("sample_rate=%.6f", l.k.RateHz))
	case "little-endian":
		l.le = !l.k.IgnoreLE
	}
	l.complete()
	return true
}

// alive counts those who never ask for anything.
func (l *kiwiListener) alive() bool {
	l.keepalive = time.Now()
	if l.isReady() {
		return true
	}
	if l.idle++; l.idle > 4 {
		l.kick("incomplete connection")
		return false
	}
	return true
}

func (l *kiwiListener) tuned(mode, args string) {
	for _, word := range strings.Fields(args) {
		name, value, _ := strings.Cut(word, "=")
		switch name {
		case "freq":
			l.freqKHz, _ = strconv.ParseFloat(value, 64)
			l.set["freq"] = true
		case "low_cut":
			l.set["passband"] = true
		}
	}
	if mode != "x" {
		l.iq = mode == "iq"
		l.set["mode"] = true
	}
	l.retuned = true
}

func (l *kiwiListener) isReady() bool {
	select {
	case <-l.ready:
		return true
	default:
		return false
	}
}

func (l *kiwiListener) complete() {
	for _, needed := range []string{"freq", "mode", "passband", "agc", "AR"} {
		if !l.set[needed] {
			return
		}
	}
	if !l.isReady() {
		close(l.ready)
	}
}

// msg sends text as the firmware does: as a binary message.
func (l *kiwiListener) msg(ctx context.Context, text string) {
	_ = l.conn.Write(ctx, websocket.MessageBinary, []byte("MSG "+text))
}

// welcome is what follows a log-in.
func (l *kiwiListener) welcome(ctx context.Context, right bool) {
	refuse := l.k.Refuse
	if !right {
		refuse = "badp=1"
	}
	if refuse != "" {
		l.msg(ctx, refuse)
		l.end()
		_ = l.conn.CloseNow()
		return
	}
	for _, text := range []string{
		"client_public_ip=192.0.2.7", "rx_chans=8", "chan_no_pwd=0", "chan_no_pwd_true=0", "is_local=0,1,0", "max_camp=4", "badp=0",
		"version_maj=1 version_min=843 debian_ver=11 model=1 platform=0 ext_clk=0 abyy=0 freq_offset=" + strconv.FormatFloat(l.k.OffsetHz/1e3, 'f', 3, 64),
		"load_cfg=%7b%22rx_gps%22%3a%22(47.17%2c%208.53)%22%2c%22rx_asl%22%3a440%7d", "cfg_loaded",
		"center_freq=15000000 bandwidth=30000000 adc_clk_nom=66666600",
		fmt.Sprintf("audio_init=0 audio_rate=%d", int(math.Floor(l.k.RateHz/100))*100),
	} {
		l.msg(ctx, text)
	}
}

// speak sends frames once the channel is complete.
func (l *kiwiListener) speak(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-l.ready:
	}
	if l.k.Mute || l.k.Trickle || l.k.Garbage {
		l.misbehave(ctx)
		return
	}
	queue := make(chan []byte, kiwiQueued) // full: what comes is thrown away
	var line sync.WaitGroup
	line.Go(func() { l.carry(ctx, queue) })
	why := l.fill(ctx, queue)
	close(queue)
	line.Wait()
	if why != "" {
		l.kick(why)
	}
}

// fill numbers frames at their rate and queues them, until there are no more, and says why.
func (l *kiwiListener) fill(ctx context.Context, queue chan<- []byte) (why string) {
	began := time.Now()
	every := kiwiFrameSamples / l.k.RateHz * 1e9
	for n := 0; ; n++ {
		if !sleepUntil(ctx, began.Add(time.Duration(float64(n+1)*every))) {
			return ""
		}
		l.mu.Lock()
		silence, freqKHz := time.Since(l.keepalive), l.freqKHz
		l.mu.Unlock()
		if silence > l.k.KeepaliveWithin {
			return "no keepalive"
		}
		f, more := l.k.frame(n, freqKHz)
		if !more || l.k.CloseAfter > 0 && n >= l.k.CloseAfter {
			return "end"
		}
		if l.k.Say != "" && n == l.k.SayAfter {
			l.queue(queue, []byte("MSG "+l.k.Say))
		}
		frame := l.encode(nil, uint32(n+1), f)
		if !slices.Contains(l.k.Skip, uint32(n+1)) {
			l.queue(queue, frame)
		}
	}
}

// queue never waits: a receiver does not for its listeners.
func (l *kiwiListener) queue(queue chan<- []byte, message []byte) {
	select {
	case queue <- message:
	default:
		l.k.mu.Lock()
		l.k.dropped++
		l.k.mu.Unlock()
	}
}

// carry sends what is queued, as fast as the line is.
func (l *kiwiListener) carry(ctx context.Context, queue <-chan []byte) {
	free := time.Now()
	for message := range queue {
		if l.k.LineBytesPerS > 0 {
			free = free.Add(time.Duration(float64(len(message)) / l.k.LineBytesPerS * 1e9))
			if !sleepUntil(ctx, free) {
				return
			}
		}
		if l.conn.Write(ctx, websocket.MessageBinary, message) != nil {
			return
		}
	}
}

func (l *kiwiListener) misbehave(ctx context.Context) {
	for n := 0; ; n++ {
		switch {
		case l.k.Garbage:
			if l.conn.Write(ctx, websocket.MessageBinary, []byte{0xff, byte(n), 0xde, 0xad}) != nil {
				return
			}
		case l.k.Trickle:
			if l.conn.Write(ctx, websocket.MessageBinary, []byte{'S'}) != nil {
				return
			}
		}
		if !sleepUntil(ctx, time.Now().Add(time.Second)) {
			return
		}
	}
}

// frame is frame n as it is to be sent.
func (k *Kiwi) frame(n int, freqKHz float64) (KiwiFrame, bool) {
	var f KiwiFrame
	more := true
	if k.Frames != nil {
		f, more = k.Frames(n, freqKHz)
	} else {
		ns := math.Round(float64(n) * kiwiFrameSamples / k.RateHz * 1e9)
		f = KiwiFrame{Sec: KiwiEpoch + uint32(ns/1e9), Nsec: uint32(math.Mod(ns, 1e9)), IQ: KiwiRamp(n)}
	}
	switch {
	case k.Hidden:
		f.Sec, f.Nsec, f.FixAge = 0, 0, 0
	case n == 0 && k.Stale > 0:
		f.Sec, f.Nsec, f.FixAge = 0, 0, 0
	case n < k.Stale:
		f.Sec, f.Nsec = f.Sec+604800-11616, 17
		f.Sec %= 604800
	}
	return f, more
}

// KiwiRamp is the samples of frame n of a Kiwi without Frames: I counts them, Q is the frame's number.
func KiwiRamp(n int) []int16 {
	iq := make([]int16, 0, 2*kiwiFrameSamples)
	for i := range kiwiFrameSamples {
		iq = append(iq, int16(n*kiwiFrameSamples+i), int16(n))
	}
	return iq
}

func (l *kiwiListener) encode(b []byte, seq uint32, f KiwiFrame) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	var flags byte
	if l.retuned {
		flags |= 0x04
		l.retuned = false
	}
	if l.iq {
		flags |= 0x08
	}
	var order binary.AppendByteOrder = binary.BigEndian
	if l.le {
		flags |= 0x80
		order = binary.LittleEndian
	}
	b = append(b, 'S', 'N', 'D', flags)
	b = binary.LittleEndian.AppendUint32(b, seq)
	b = binary.BigEndian.AppendUint16(b, uint16(math.Round((l.k.SMeterDBm+127)*10)))
	if l.iq {
		b = append(b, f.FixAge, 0)
		b = binary.LittleEndian.AppendUint32(b, f.Sec)
		b = binary.LittleEndian.AppendUint32(b, f.Nsec)
	}
	for i, v := range f.IQ {
		if l.iq || i%2 == 0 {
			b = order.AppendUint16(b, uint16(v))
		}
	}
	return b
}

// sleepUntil is false when the context ended first.
func sleepUntil(ctx context.Context, at time.Time) bool {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// ReadKiwiWAV reads the frames of a recording made by kiwirecorder.
func ReadKiwiWAV(file []byte) ([]KiwiFrame, error) {
	if len(file) < 12 || string(file[:4]) != "RIFF" {
		return nil, errors.New("not a WAV file")
	}
	var frames []KiwiFrame
	var stamp KiwiFrame
	for b := file[12:]; len(b) >= 8; {
		id, size := string(b[:4]), int(binary.LittleEndian.Uint32(b[4:]))
		body := b[8:min(len(b), 8+size)]
		switch {
		case id == "kiwi" && len(body) >= 10:
			stamp = KiwiFrame{FixAge: body[0], Sec: binary.LittleEndian.Uint32(body[2:]), Nsec: binary.LittleEndian.Uint32(body[6:])}
		case id == "data" && len(body) == 4*kiwiFrameSamples:
			f := stamp
			for i := 0; i < len(body); i += 2 {
				f.IQ = append(f.IQ, int16(binary.LittleEndian.Uint16(body[i:])))
			}
			frames = append(frames, f)
		}
		b = b[min(len(b), 8+size+size%2):]
	}
	return frames, nil
}
