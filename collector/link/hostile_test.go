package link_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/collector/link"
)

// text is a string as MQTT writes it.
func text(s string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...)
}

// packet puts the fixed header in front of a body.
func packet(header byte, body ...[]byte) []byte {
	b := bytes.Join(body, nil)
	p := []byte{header}
	for n := len(b); ; {
		if n >>= 7; n == 0 {
			p = append(p, byte(len(b)>>(7*(len(p)-1))))
			return append(p, b...)
		}
		p = append(p, byte(len(b)>>(7*(len(p)-1)))&0x7f|0x80)
	}
}

func connect(id string) []byte { return packet(0x10, text("MQTT"), []byte{4, 2, 0, 60}, text(id)) }

func subscribe(id uint16, qos byte, filter string) []byte {
	return packet(0x82, binary.BigEndian.AppendUint16(nil, id), text(filter), []byte{qos})
}

func publish1(id uint16, topic string, payload []byte) []byte {
	return packet(0x32, text(topic), binary.BigEndian.AppendUint16(nil, id), payload)
}

var (
	// connect5 is a CONNECT of MQTT 5 with clean start and the client id "evil".
	connect5 = []byte{0x10, 17, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 60, 0, 0, 4, 'e', 'v', 'i', 'l'}
	// truncatedSubscribe5 ends where the options of its filter should be (mochi-mqtt/server#501).
	truncatedSubscribe5 = []byte{0x82, 6, 0, 1, 0, 0, 1, 'a'}
)

// raw is a client that sends any bytes.
type raw struct {
	net.Conn
	t testing.TB
}

func enter(t testing.TB, b *link.Broker, id string) raw {
	t.Helper()
	r := raw{dial(t, b.Addr()), t}
	send(t, r, connect(id))
	r.expect([]byte{0x20, 2, 0, 0})
	return r
}

func (r raw) expect(want []byte) {
	r.t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, want) {
		r.t.Fatalf("got % x, %v, want % x", got, err, want)
	}
}

// next reads one packet.
func (r raw) next() (header byte, body []byte) {
	r.t.Helper()
	b := make([]byte, 1)
	read := func() byte {
		if _, err := io.ReadFull(r, b); err != nil {
			r.t.Fatalf("the connection ended: %v", err)
		}
		return b[0]
	}
	header = read()
	length := 0
	for shift := 0; ; shift += 7 {
		c := read()
		length |= int(c&0x7f) << shift
		if c&0x80 == 0 {
			break
		}
	}
	body = make([]byte, length)
	if _, err := io.ReadFull(r, body); err != nil {
		r.t.Fatalf("the connection ended: %v", err)
	}
	return header, body
}

// closed waits until the broker has ended the connection.
func (r raw) closed() {
	r.t.Helper()
	if _, err := io.Copy(io.Discard, r); err != nil && !strings.Contains(err.Error(), "reset") {
		r.t.Fatalf("the broker should end the connection: %v", err)
	}
}

// canary is a well-behaved client that sends itself messages.
type canary struct {
	raw
	topic string
	sent  uint64
}

func newCanary(t testing.TB, b *link.Broker, id string) *canary {
	t.Helper()
	c := &canary{raw: enter(t, b, id), topic: "canary/" + id}
	send(t, c, subscribe(1, 0, c.topic))
	c.expect([]byte{0x90, 3, 0, 1, 0})
	return c
}

// sing fails the test if the next message does not come back.
func (c *canary) sing(t testing.TB) {
	t.Helper()
	c.t = t
	c.sent++
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	want := packet(0x30, text(c.topic), binary.BigEndian.AppendUint64(nil, c.sent))
	send(t, c, want)
	for {
		header, body := c.next()
		if header == want[0] && bytes.Equal(body, want[2:]) {
			return
		}
	}
}

func TestBroker_RefusesMQTT5(t *testing.T) {
	b := embedded(t, slog.New(slog.DiscardHandler))
	for range 3 {
		r := raw{dial(t, b.Addr()), t}
		send(t, r, connect5)
		r.expect([]byte{0x20, 3, 0, 0x84, 0}) // unsupported protocol version, as MQTT 5 says it
		_, _ = r.Write(truncatedSubscribe5)
		r.closed()
	}
	newCanary(t, b, "after").sing(t)
}

// Each of these once cost the process, memory without end, or a lock; now it costs its sender the connection.
func TestBroker_EndsTheConnectionOf(t *testing.T) {
	b := embedded(t, slog.New(slog.DiscardHandler))
	good := newCanary(t, b, "good")
	for name, bad := range map[string][]byte{
		"subscription without options":          {0x82, 5, 0, 1, 0, 1, 'a'},
		"subscription to nothing":               {0x82, 2, 0, 1},
		"subscription of 64 Ki levels":          subscribe(1, 0, strings.Repeat("/", 65535)),
		"subscription in the middle":            subscribe(1, 0, "a/#/b"),
		"shared subscription, no group":         subscribe(1, 0, "$share/"),
		"shared subscription to a group of all": subscribe(1, 0, "$SHARE/+/a"),
		"publish to 64 Ki levels":               packet(0x31, text(strings.Repeat("/", 65535)), []byte("x")),
		"publish to a filter":                   packet(0x30, text("a/+"), []byte("x")),
		"publish to the broker's topic":         packet(0x31, text("$SYS/broker/version"), []byte("x")),
		"publish with a NUL":                    packet(0x30, text("a\x00b"), []byte("x")),
		"publish with QoS 3":                    packet(0x36, text("a"), []byte{0, 1}),
		"publish with packet id 0":              publish1(0, "a", nil),
		"packet of 200 MiB":                     {0x30, 0x80, 0x80, 0x80, 0x64},
		"length of five bytes":                  {0x30, 0x80, 0x80, 0x80, 0x80, 1},
		"second CONNECT":                        connect("x"),
		"AUTH of MQTT 5":                        {0xf0, 0},
		"CONNACK":                               {0x20, 2, 0, 0},
		"acknowledgement with a tail":           {0x40, 3, 0, 1, 0},
		"DISCONNECT with a tail":                {0xe0, 2, 4, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := enter(t, b, "bad")
			send(t, r, bad)
			r.closed()
			good.sing(t)
		})
	}
}

func TestBroker_EndsTheConnectionOfACONNECT(t *testing.T) {
	b := embedded(t, slog.New(slog.DiscardHandler))
	name := text("MQTT")
	for what, bad := range map[string][]byte{
		"that is none":              {0xc0, 0},
		"with the reserved flag":    packet(0x10, name, []byte{4, 3, 0, 60}, text("x")),
		"with a will of QoS 3":      packet(0x10, name, []byte{4, 0x1e, 0, 60}, text("x"), text("a"), text("b")),
		"with a QoS and no will":    packet(0x10, name, []byte{4, 0x0a, 0, 60}, text("x")),
		"with a will to a filter":   packet(0x10, name, []byte{4, 6, 0, 60}, text("x"), text("a/#"), text("b")),
		"with a will of the broker": packet(0x10, name, []byte{4, 0x26, 0, 60}, text("x"), text("$SYS/x"), text("b")),
		"with a password only":      packet(0x10, name, []byte{4, 0x42, 0, 60}, text("x"), text("p")),
		"of a long client id":       packet(0x10, name, []byte{4, 2, 0, 60}, text(strings.Repeat("x", 300))),
		"of no client id, to stay":  packet(0x10, name, []byte{4, 0, 0, 60}, text("")),
		"of another protocol":       packet(0x10, text("HTTP"), []byte{4, 2, 0, 60}, text("x")),
		"that ends early":           {0x10, 4, 0, 4, 'M', 'Q'},
	} {
		t.Run(what, func(t *testing.T) {
			r := raw{dial(t, b.Addr()), t}
			send(t, r, bad)
			if what == "that ends early" {
				_ = r.Conn.(*net.TCPConn).CloseWrite()
			}
			r.closed()
		})
	}
	newCanary(t, b, "after").sing(t)
}

// mutate changes some bytes of a session, drops or doubles some, or cuts it off.
func mutate(r *rand.Rand, session []byte) []byte {
	out := bytes.Clone(session)
	for range 1 + r.IntN(8) {
		if len(out) == 0 {
			break
		}
		at := r.IntN(len(out))
		switch r.IntN(5) {
		case 0:
			out[at] ^= 1 << r.IntN(8)
		case 1:
			out[at] = byte(r.IntN(256))
		case 2:
			out = append(out[:at], out[at+1:]...)
		case 3:
			n := min(len(out)-at, 1+r.IntN(16))
			out = append(out[:at+n:at+n], out[at:]...)
		case 4:
			if r.IntN(3) == 0 {
				out = out[:at]
			}
		}
	}
	return out
}

func TestBroker_SurvivesMutatedSessions(t *testing.T) {
	const sessions = 1000
	var log logged
	b := embedded(t, slog.New(slog.NewTextHandler(&log, nil)))

	// Two well-behaved clients, as ours are.
	var heard atomic.Int64
	listener := startClient(t, link.Config{URL: b.URL(), ID: "listener", Handle: func(m link.Message) {
		if strings.HasSuffix(m.Topic, "/batch") {
			heard.Add(1)
		}
		m.Ack()
	}})
	speaker := startClient(t, link.Config{URL: b.URL(), ID: "speaker"})
	good := newCanary(t, b, "good")

	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	will := packet(0x10, text("MQTT"), []byte{4, 0x2e, 0, 60}, text("evil"), text("heimdall/v1/x/state"), text("offline"))
	parts := [][]byte{
		subscribe(1, 1, "#"), subscribe(2, 2, "heimdall/v1/+/up/#"), subscribe(3, 1, "$share/g/heimdall/v1/#"),
		publish1(7, "heimdall/v1/x/up/live", []byte("hello")), packet(0x31, text("heimdall/v1/x/info"), []byte("{}")),
		packet(0x34, text("a/b"), []byte{0, 9}, []byte("x")),
		{0x62, 2, 0, 9},
		{0x40, 2, 0, 1},
		{0x50, 2, 0, 1},
		{0x70, 2, 0, 1},
		packet(0xa2, []byte{0, 4}, text("#")),
		{0xc0, 0},
		{0xe0, 0},
	}
	for i := range sessions {
		hello := connect(fmt.Sprintf("evil-%d", i%7))
		if i%3 == 0 {
			hello = will
		}
		var session []byte
		for range 1 + random.IntN(6) {
			session = append(session, parts[random.IntN(len(parts))]...)
		}
		session = mutate(random, session)
		if i%4 == 0 {
			hello = mutate(random, hello)
		}
		conn := dial(t, b.Addr())
		_, _ = conn.Write(append(hello, session...))
		if i%2 == 0 {
			_ = conn.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, conn)
		}
		_ = conn.Close()
		if i%50 == 0 {
			good.sing(t)
			if err := speaker.Publish(t.Context(), "heimdall/v1/g1/batch", false, []byte("record")); err != nil {
				t.Fatalf("session %d: the well-behaved client cannot publish: %v", i, err)
			}
		}
	}
	eventually(t, "every message of the well-behaved client arrives", func() bool { return heard.Load() >= sessions/50 })
	for name, c := range map[string]*link.Client{"listener": listener, "speaker": speaker} {
		if err := c.Ready(); err != nil {
			t.Errorf("the %s lost its session: %v", name, err)
		}
	}
	if s := log.String(); strings.Contains(s, "malformed packet") {
		t.Errorf("a packet made the broker's library panic: %s", s)
	}
}

func TestBroker_ASlowReaderHoldsNobodyUp(t *testing.T) {
	for _, c := range []struct {
		name  string
		takes bool // reads, but acknowledges nothing
	}{{"that reads nothing", false}, {"that acknowledges nothing", true}} {
		t.Run(c.name, func(t *testing.T) {
			b := embedded(t, slog.New(slog.DiscardHandler))
			slow := enter(t, b, "slow")
			send(t, slow, subscribe(1, 1, "load/#"))
			slow.expect([]byte{0x90, 3, 0, 1, 1})
			if c.takes {
				_ = slow.SetDeadline(time.Time{})
				go func() { _, _ = io.Copy(io.Discard, slow) }()
			}
			fast := enter(t, b, "fast")
			_ = fast.SetDeadline(time.Now().Add(60 * time.Second))
			payload := make([]byte, 128<<10)
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			for i := range 1500 { // 190 MB, three times what one client may hold
				send(t, fast, publish1(uint16(i+1), "load/x", payload))
				fast.expect(binary.BigEndian.AppendUint16([]byte{0x40, 2}, uint16(i+1)))
			}
			newCanary(t, b, "canary").sing(t)
			runtime.GC()
			runtime.ReadMemStats(&after)
			// The outbox may have grown to twice what is in it.
			if held := int64(after.HeapAlloc) - int64(before.HeapAlloc); held > 150<<20 {
				t.Errorf("the broker holds %d MiB for one slow client", held>>20)
			}
		})
	}
}

func TestBroker_ANewConnectionReplacesTheOld(t *testing.T) {
	b := embedded(t, slog.New(slog.DiscardHandler))
	good := newCanary(t, b, "good")
	var last raw
	for i := range 300 {
		r := enter(t, b, "again")
		send(t, r, subscribe(1, 0, "to/again"))
		r.expect([]byte{0x90, 3, 0, 1, 0})
		if last.Conn != nil {
			last.closed()
		}
		hello := packet(0x30, text("to/again"), fmt.Appendf(nil, "%d", i))
		send(t, good, hello)
		r.expect(hello)
		last = r
	}
	good.sing(t)
}

func TestBroker_KeepsNoSession(t *testing.T) {
	b := embedded(t, slog.New(slog.DiscardHandler))
	for range 3 { // the session flag of the answer is 0 each time
		r := raw{dial(t, b.Addr()), t}
		send(t, r, packet(0x10, text("MQTT"), []byte{4, 0, 0, 60}, text("stay")))
		r.expect([]byte{0x20, 2, 0, 0})
		send(t, r, subscribe(1, 1, "kept/#"))
		r.expect([]byte{0x90, 3, 0, 1, 1})
		_ = r.Close()
	}
}

func TestBroker_ManySilentConnectionsKeepNobodyOut(t *testing.T) {
	b := embedded(t, slog.New(slog.DiscardHandler))
	for range 600 {
		dial(t, b.Addr())
	}
	newCanary(t, b, "late").sing(t)
}

func TestBroker_BoundsWhatIsRetained(t *testing.T) {
	b := embedded(t, slog.New(slog.DiscardHandler))
	hoarder := enter(t, b, "hoarder")
	_ = hoarder.SetDeadline(time.Now().Add(60 * time.Second))
	payload := make([]byte, 500<<10)
	for i := range 200 {
		send(t, hoarder, packet(0x33, text(fmt.Sprintf("kept/%d", i)), []byte{0, 1}, payload))
		hoarder.expect([]byte{0x40, 2, 0, 1})
	}
	reader := enter(t, b, "reader")
	_ = reader.SetDeadline(time.Now().Add(60 * time.Second))
	send(t, reader, subscribe(1, 0, "kept/#"))
	send(t, reader, packet(0xc0))
	kept := 0
	for {
		header, body := reader.next()
		if header&0xf0 == 0x30 {
			kept += len(body)
		}
		if header == 0xd0 {
			break
		}
	}
	if kept > 64<<20 {
		t.Errorf("%d MiB are retained, at most 64 may be", kept>>20)
	}
	// What was retained can still be replaced, and removed to make room.
	send(t, hoarder, packet(0x33, text("kept/0"), []byte{0, 2}))
	hoarder.expect([]byte{0x40, 2, 0, 2})
	send(t, hoarder, packet(0x33, text("kept/new"), []byte{0, 3}, []byte("x")))
	hoarder.expect([]byte{0x40, 2, 0, 3})
	second := enter(t, b, "second")
	send(t, second, subscribe(1, 0, "kept/new"))
	second.expect([]byte{0x90, 3, 0, 1, 0})
	second.expect(packet(0x31, text("kept/new"), []byte("x")))
}

func TestBroker_RefusesSubscriptionsAboveALimit(t *testing.T) {
	b := embedded(t, slog.New(slog.DiscardHandler))
	r := enter(t, b, "many")
	for i := range 512 {
		send(t, r, subscribe(1, 0, fmt.Sprintf("many/%d", i)))
		r.expect([]byte{0x90, 3, 0, 1, 0})
	}
	send(t, r, subscribe(1, 0, "many/more"))
	r.expect([]byte{0x90, 3, 0, 1, 0x80})
	newCanary(t, b, "after").sing(t)
}

// A client that has not acknowledged message 5 may number a request 5.
func TestBroker_PacketIdentifiersOfBothSidesAreApart(t *testing.T) {
	b := embedded(t, slog.New(slog.DiscardHandler))
	r := enter(t, b, "busy")
	send(t, r, subscribe(1, 1, "busy/#"))
	r.expect([]byte{0x90, 3, 0, 1, 1})
	other := enter(t, b, "other")
	for i := range 9 {
		send(t, other, publish1(uint16(i+1), "busy/x", []byte("x")))
		other.expect([]byte{0x40, 2, 0, byte(i + 1)})
		if header, _ := r.next(); header != 0x32 {
			t.Fatalf("header %#x, want a message of QoS 1", header)
		}
	}
	send(t, r, subscribe(5, 1, "busy/too"))
	r.expect([]byte{0x90, 3, 0, 5, 1})
}

// FuzzBroker sends bytes after a valid CONNECT, and before one. Whatever they are, another client keeps its connection
// and gets its messages.
func FuzzBroker(f *testing.F) {
	f.Add(true, truncatedSubscribe5)
	f.Add(true, subscribe(1, 1, "#"))
	f.Add(true, subscribe(1, 2, "$share/g/+/a"))
	f.Add(true, packet(0x30, text("a"), []byte("xy")))
	f.Add(true, publish1(1, "a/b", []byte("xy")))
	f.Add(true, []byte{0x32, 4, 0, 9, 'a', 'x'})
	f.Add(true, packet(0xa2, []byte{0, 1}, text("a")))
	f.Add(true, []byte{0x62, 2, 0, 1, 0x70, 2, 0, 1})
	f.Add(true, []byte{0xc0, 0, 0xe0, 0})
	f.Add(false, connect("x"))
	f.Add(false, connect5)
	f.Add(false, packet(0x10, text("MQTT"), []byte{4, 0xee, 0, 60}, text("x"), text("w"), text("p"), text("u"), text("p")))
	f.Add(false, []byte{0x10, 0xff, 0xff, 0xff, 0x7f})
	f.Add(false, []byte{0x10, 2, 0, 4})
	var log logged
	ctx, cancel := context.WithCancel(context.Background())
	b, err := link.OpenBroker(ctx, "127.0.0.1:0", slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		f.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	f.Cleanup(func() { cancel(); <-done })
	good := newCanary(f, b, fmt.Sprintf("%x", rand.Uint64())) // not an id or a topic that is guessed
	f.Fuzz(func(t *testing.T, connected bool, packet []byte) {
		conn := dial(t, b.Addr())
		_ = conn.(*net.TCPConn).SetLinger(0) // or the ports would be used up
		if connected {
			send(t, conn, connect("evil"))
			if _, err := io.ReadFull(conn, make([]byte, 4)); err != nil {
				t.Fatalf("no CONNACK: %v", err)
			}
		}
		_, _ = conn.Write(packet)
		_ = conn.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, conn)
		good.sing(t)
		if s := log.String(); s != "" {
			t.Fatalf("the broker complains: %s", s)
		}
	})
}
