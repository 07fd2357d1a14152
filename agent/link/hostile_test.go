package link_test

import (
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/agent/link"
	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

// hostile is a broker that lets everyone in and then says what it was told to. What it hears is written to heard.
func hostile(t *testing.T, heard io.Writer, first, then []byte) (url string, visits *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	visits = new(atomic.Int64)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			visits.Add(1)
			serving.Go(func() {
				defer conn.Close()
				conn.Write(first)
				conn.Write(then)
				io.Copy(heard, conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		serving.Wait()
	})
	return "mqtt://" + l.Addr().String(), visits
}

// A packet that is announced with 200 MB costs the station neither memory nor its life, whenever it comes.
func TestLink_BrokerAnnouncesAHugePacket(t *testing.T) {
	welcome := []byte{0x20, 2, 0, 0}
	huge := []byte{0x90, 0x80, 0xa8, 0xde, 0x5f, 0, 1, 'x', 1, 2, 3} // a SUBACK of 200,774,656 bytes, and its beginning
	endless := []byte{0x30, 0xff, 0xff, 0xff, 0xff, 0xff}
	for name, say := range map[string]struct{ first, then []byte }{
		"as a welcome": {huge, nil}, "after the welcome": {welcome, huge}, "without end": {welcome, endless},
	} {
		t.Run(name, func(t *testing.T) {
			url, visits := hostile(t, io.Discard, say.first, say.then)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			var text safeBuffer
			a := startAgent(t, url, func(c *link.Config) {
				c.Log, c.MaxBackoff = slog.New(slog.NewTextHandler(&text, nil)), 200*time.Millisecond
			})
			began := time.Now()
			eventually(t, "it tries again", func() bool { return visits.Load() >= 8 })
			took := time.Since(began)
			a.stop()
			runtime.ReadMemStats(&after)
			if took < 200*time.Millisecond { // 7 waits of 100 ms in the mean, and it would take a thousandth of that without
				t.Errorf("eight attempts in %v", took)
			}
			if mib := (after.TotalAlloc - before.TotalAlloc) >> 20; mib > 50 {
				t.Errorf("%d MiB allocated", mib)
			}
			if !strings.Contains(text.String(), "announced a packet that no broker") {
				t.Errorf("the log does not say why:\n%s", text.String())
			}
			if _, err := link.Probe(t.Context(), link.Config{Station: station, URL: url}); err == nil || !strings.Contains(err.Error(), "announced a packet") {
				t.Errorf("probe: %v", err)
			}
		})
	}
}

// A message of 200 MB is not taken, but acknowledged; when the rest of it never comes, the broker counts as silent.
func TestLink_BrokerAnnouncesAHugeMessage(t *testing.T) {
	huge := []byte{0x20, 2, 0, 0, 0x32, 0x80, 0xa8, 0xde, 0x5f, 0, 1, 'x', 7, 9, 1, 2, 3}
	var heard, text safeBuffer
	url, visits := hostile(t, &heard, huge[:4], huge[4:])
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	a := startAgent(t, url, func(c *link.Config) { c.Log = slog.New(slog.NewTextHandler(&text, nil)) })
	eventually(t, "it tries again", func() bool { return visits.Load() >= 2 })
	a.stop()
	runtime.ReadMemStats(&after)
	if mib := (after.TotalAlloc - before.TotalAlloc) >> 20; mib > 50 {
		t.Errorf("%d MiB allocated", mib)
	}
	if !strings.Contains(heard.String(), "\x40\x02\x07\x09") {
		t.Errorf("not acknowledged: %q", heard.String())
	}
	if n := strings.Count(text.String(), "a message is far too large"); n != 1 || !strings.Contains(text.String(), "topic=x bytes=200774656") {
		t.Errorf("said %d times:\n%s", n, text.String())
	}
}

// Messages that are too large hold up nothing, neither acknowledgements nor orders, when they come and when they are retained
// where the station listens.
func TestLink_OversizedMessages(t *testing.T) {
	broker := servers.Mosquitto(t)
	p, url := through(t, broker, 1)
	var text safeBuffer
	a := startAgent(t, url, func(c *link.Config) { c.Log = slog.New(slog.NewTextHandler(&text, nil)) })
	connections := func() int { return strings.Count(text.String(), "connected to the broker") }
	eventually(t, "connected", func() bool { return connections() == 1 })

	other := dial(t, broker.URL, "other", "", nil)
	defer other.Disconnect(100)
	publish := func(topic string, retained bool, payload []byte) {
		t.Helper()
		if token := other.Publish(topic, 1, retained, payload); !token.WaitTimeout(10*time.Second) || token.Error() != nil {
			t.Fatal(topic, token.Error())
		}
	}
	ack, command := topics.Ack(station, a.spool.Identity()), topics.Command(station)
	for _, topic := range []string{ack, command, topics.CollectorStatus("evil"), topics.Status(station)} {
		publish(topic, true, make([]byte, 300_000))
	}
	eventually(t, "it says so", func() bool {
		return strings.Contains(text.String(), "a message is far too large") && strings.Contains(text.String(), "topic="+ack+" bytes=3000")
	})
	for range 5 {
		publish(topics.Ack(station, [8]byte{7}), true, []byte("no acknowledgement"))
	}
	p.Cut()
	eventually(t, "connected again", func() bool { return connections() == 2 })

	c := newCollector(t, "main")
	c.online(broker.URL)
	a.add(t, 1, 100)
	eventually(t, "all acknowledged", a.empty)
	id := "018f4a2e-0000-7000-8000-000000000001"
	order, err := protocol.Encode(&protocol.Command{
		Id: &id, Expires: new(time.Now().Add(time.Minute).UnixNano()),
		Order: &protocol.Command_Cancel{Cancel: &protocol.Cancel{Id: &id}},
	})
	if err != nil {
		t.Fatal(err)
	}
	publish(command, false, order)
	eventually(t, "the order arrives", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.orders) == 1
	})
	if n := connections(); n != 2 || a.DuplicateIdentity() {
		t.Errorf("%d connections, another of the same id: %v\n%s", n, a.DuplicateIdentity(), text.String())
	}
	if n := strings.Count(text.String(), "a message is far too large"); n != 1 {
		t.Errorf("said %d times:\n%s", n, text.String())
	}
	if n := strings.Count(text.String(), "an acknowledgement makes no sense"); n != 1 || !strings.Contains(text.String(), "topic="+topics.Ack(station, [8]byte{7})) {
		t.Errorf("said %d times of what is no acknowledgement:\n%s", n, text.String())
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.answers) != 0 {
		t.Errorf("answered %v", a.answers)
	}
}
