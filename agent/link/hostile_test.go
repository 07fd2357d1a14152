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
)

// hostile is a broker that lets everyone in and then says what it was told to.
func hostile(t *testing.T, first, then []byte) (url string, visits *atomic.Int64) {
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
				io.Copy(io.Discard, conn)
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
	huge := []byte{0x30, 0x80, 0xa8, 0xde, 0x5f, 0, 1, 'x', 1, 2, 3} // a PUBLISH of 200,250,368 bytes, and its beginning
	endless := []byte{0x30, 0xff, 0xff, 0xff, 0xff, 0xff}
	for name, say := range map[string]struct{ first, then []byte }{
		"as a welcome": {huge, nil}, "after the welcome": {welcome, huge}, "without end": {welcome, endless},
	} {
		t.Run(name, func(t *testing.T) {
			url, visits := hostile(t, say.first, say.then)
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
