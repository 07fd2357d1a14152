package radiotest

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"math"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// OpenWebRX is one, with one device: the web server that browsers speak to, and the connector that gives samples. It does what
// OpenWebRX 1.2 and OpenWebRX+ do, with faults to switch on. Its fields are set before Start.
type OpenWebRX struct {
	Device   string  // sdr_id; empty: rtlsdr
	CenterHz float64 // of the active profile; 0: 145 MHz
	RateHz   float64 // 0: 250 kHz
	// Refuse is the reason of a message backoff, after which it closes: "Too many clients", "Client address banned".
	Refuse string
	// NoDevice: there is none to listen to.
	NoDevice bool
	// Mute: the connector takes connections and sends nothing. Garbage: the web socket sends what is no message before it speaks,
	// and bytes that are no number come from the connector. Trickle: one byte a second.
	Mute, Garbage, Trickle bool
	// LoseAt is after how many samples the ring overwrites Lose of them without a word.
	LoseAt, Lose uint64

	mu        sync.Mutex
	centerHz  float64
	rateHz    float64
	clients   map[*websocket.Conn]context.Context
	listeners map[net.Conn]bool
	pausedTil time.Time
	said      []string
}

// Start serves until the test ends, and returns host:port of the web server and of the connector.
func (o *OpenWebRX) Start(t testing.TB) (web, connector string) {
	t.Helper()
	if o.Device == "" {
		o.Device = "rtlsdr"
	}
	o.centerHz, o.rateHz = o.CenterHz, o.RateHz
	if o.centerHz == 0 {
		o.centerHz = 145e6
	}
	if o.rateHz == 0 {
		o.rateHz = 250e3
	}
	o.clients, o.listeners = map[*websocket.Conn]context.Context{}, map[net.Conn]bool{}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var serving sync.WaitGroup
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // of a test
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	page, samples := listen(), listen()
	mux := http.NewServeMux()
	mux.HandleFunc("/ws/", func(w http.ResponseWriter, r *http.Request) {
		serving.Add(1)
		defer serving.Done()
		o.serve(ctx, w, r)
	})
	mux.HandleFunc("/status.json", o.status)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	serving.Go(func() { _ = server.Serve(page) })
	serving.Go(func() {
		for {
			conn, err := samples.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { o.feed(ctx, conn) })
		}
	})
	t.Cleanup(func() {
		cancel()
		server.Close()
		samples.Close()
		o.Drop()
		o.CloseWeb()
		serving.Wait()
	})
	return page.Addr().String(), samples.Addr().String()
}

// serve is a web client. Nothing is answered before the handshake; then what is there is sent, and the welcome after it.
func (o *OpenWebRX) serve(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = conn.CloseNow() }()
	for {
		_, text, err := conn.Read(ctx)
		if err != nil {
			return
		}
		o.mu.Lock()
		o.said = append(o.said, string(text))
		o.mu.Unlock()
		if strings.HasPrefix(string(text), "SERVER DE CLIENT ") && strings.Contains(string(text), "type=receiver") {
			break
		}
	}
	if o.Garbage {
		for _, bad := range []string{"", "{", `{"type":7}`, `{"type":"config","value":[1]}`, `{"type":"config","value":{"center_freq":-1,"samp_rate":1e300}}`, "\x00\xff"} {
			_ = conn.Write(ctx, websocket.MessageText, []byte(bad))
		}
	}
	o.say(ctx, conn, "config", map[string]any{"waterfall_scheme": "GoogleTurboWaterfall", "fft_size": 4096, "max_clients": 20})
	if o.Refuse != "" {
		o.write(ctx, conn, map[string]any{"type": "backoff", "reason": o.Refuse})
		return
	}
	if o.NoDevice {
		o.say(ctx, conn, "sdr_error", "No SDR Devices available")
	}
	o.say(ctx, conn, "modes", []map[string]string{{"modulation": "nfm", "name": "FM"}})
	_ = conn.Write(ctx, websocket.MessageText, []byte("CLIENT DE SERVER server=openwebrx version=v1.2.2"))
	if !o.NoDevice {
		o.mu.Lock()
		o.clients[conn] = ctx
		config := map[string]any{"center_freq": o.centerHz, "samp_rate": o.rateHz, "sdr_id": o.Device, "profile_id": "2m", "start_freq": nil}
		o.mu.Unlock()
		o.say(ctx, conn, "config", config)
	}
	o.listen(ctx, conn)
}

// listen takes what a client says, and sends spectra and levels meanwhile.
func (o *OpenWebRX) listen(ctx context.Context, conn *websocket.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	var spectra sync.WaitGroup
	spectra.Go(func() {
		frame := append([]byte{1}, make([]byte, 2048)...)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			_ = conn.Write(ctx, websocket.MessageBinary, frame)
			o.say(ctx, conn, "smeter", 1e-7)
		}
	})
	defer spectra.Wait()
	defer cancel()
	for {
		_, text, err := conn.Read(ctx)
		if err != nil {
			o.mu.Lock()
			delete(o.clients, conn)
			o.mu.Unlock()
			return
		}
		o.mu.Lock()
		o.said = append(o.said, string(text))
		o.mu.Unlock()
	}
}

func (o *OpenWebRX) say(ctx context.Context, conn *websocket.Conn, kind string, value any) {
	o.write(ctx, conn, map[string]any{"type": kind, "value": value})
}

func (o *OpenWebRX) write(ctx context.Context, conn *websocket.Conn, message any) {
	text, err := json.Marshal(message)
	if err != nil {
		panic(err)
	}
	_ = conn.Write(ctx, websocket.MessageText, text)
}

// tell sends a change to all web clients.
func (o *OpenWebRX) tell(change map[string]any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for conn, ctx := range o.clients {
		o.say(ctx, conn, "config", change)
	}
}

// Retune is somebody who chooses another profile of the same rate.
func (o *OpenWebRX) Retune(centerHz float64) {
	o.tell(map[string]any{"center_freq": centerHz, "profile_id": "other"})
	o.mu.Lock()
	defer o.mu.Unlock()
	o.centerHz = centerHz
}

// SetRate is somebody who chooses a profile with another rate.
func (o *OpenWebRX) SetRate(rateHz float64) {
	o.tell(map[string]any{"samp_rate": rateHz})
	o.mu.Lock()
	defer o.mu.Unlock()
	o.rateHz = rateHz
}

// GiveAnother moves all clients to another device, as when theirs has failed.
func (o *OpenWebRX) GiveAnother(device string) { o.tell(map[string]any{"sdr_id": device}) }

// Pause is a device that is opened again: the connector stays silent for so long, and says nothing of it.
func (o *OpenWebRX) Pause(d time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pausedTil = time.Now().Add(d)
}

// Drop closes the connections of the connector.
func (o *OpenWebRX) Drop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for conn := range o.listeners {
		conn.Close()
	}
}

// CloseWeb closes the web sockets.
func (o *OpenWebRX) CloseWeb() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for conn := range o.clients {
		_ = conn.CloseNow()
	}
}

// Clients is how many web clients are there.
func (o *OpenWebRX) Clients() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.clients)
}

// Said is all that web clients have said.
func (o *OpenWebRX) Said() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]string(nil), o.said...)
}

// feed writes floats to a listener of the connector: without a header, I the sample's number over 2^24, Q the centre in THz. What a
// slow listener does not take in time is overwritten.
func (o *OpenWebRX) feed(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	o.mu.Lock()
	o.listeners[conn] = true
	o.mu.Unlock()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	last, n, debt, lost := time.Now(), uint64(0), 0.0, false
	var raw []byte
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			o.mu.Lock()
			center, rate, paused := o.centerHz, o.rateHz, now.Before(o.pausedTil)
			o.mu.Unlock()
			debt += now.Sub(last).Seconds() * rate
			last = now
			if paused || o.Mute {
				debt = 0
				continue
			}
			if debt < 1 {
				continue
			}
			due := uint64(debt)
			debt -= float64(due)
			if o.Lose > 0 && !lost && n >= o.LoseAt {
				lost = true
				n += o.Lose
				debt += float64(due) - float64(o.Lose) // their time passes too
				continue
			}
			raw = raw[:0]
			for range due {
				raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(float32(n%(1<<24))/(1<<24)))
				raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(float32(center/1e12)))
				n++
			}
			switch {
			case o.Trickle:
				raw = raw[:min(len(raw), 1)]
			case o.Garbage:
				for i := range raw {
					raw[i] = 0xff
				}
			}
			if _, err := conn.Write(raw); err != nil {
				return
			}
		}
	}
}

func (o *OpenWebRX) status(w http.ResponseWriter, _ *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	_ = json.NewEncoder(w).Encode(map[string]any{
		"receiver": map[string]any{"name": "Test receiver", "location": "Torino", "gps": map[string]float64{"lat": 45, "lon": 7.5}}, "max_clients": 20, "version": "v1.2.2",
		"sdrs": []map[string]any{{"name": "RTL-SDR", "type": "RtlSdrSource", "profiles": []map[string]any{{"name": "2m", "center_freq": o.centerHz, "sample_rate": o.rateHz}}}},
	})
}
