package link_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fulgidus/heimdall/collector/link"
)

func TestMain(m *testing.M) {
	// The servers of the tests are started from a thread that stays, so that they end with it.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/fulgidus/heimdall/packaging/servers.init.func1.1"))
}

// embedded runs a broker for one test.
func embedded(t *testing.T, log *slog.Logger) *link.Broker {
	t.Helper()
	b, err := link.OpenBroker(t.Context(), "127.0.0.1:0", log)
	if err != nil {
		t.Fatal(err)
	}
	background(t, b.Run)
	return b
}

// background runs a long-lived part and waits for its end when the test ends, or when stop is called.
func background(t *testing.T, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("ended with %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Error("does not end")
		}
	})
	t.Cleanup(stop)
	return stop
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 15 s: %s", what)
		}
	}
}

// logged is a log that tests can read.
type logged struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func TestOpenBroker_NamesTheKeyOfABusyPort(t *testing.T) {
	b := embedded(t, slog.New(slog.DiscardHandler))
	_, err := link.OpenBroker(t.Context(), b.Addr(), slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "mqtt.embedded.listen") || !strings.Contains(err.Error(), b.Addr()) {
		t.Errorf("error of a busy port: %v, want one that names mqtt.embedded.listen and %s", err, b.Addr())
	}
	_, err = link.OpenBroker(t.Context(), "nonsense", slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "host:port") {
		t.Errorf("error of an address without port: %v, want one that says how to write it", err)
	}
}

func TestOpenBroker_WarnsBeyondLoopback(t *testing.T) {
	var log logged
	b, err := link.OpenBroker(t.Context(), "0.0.0.0:0", slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "can be reached from other machines") {
		t.Errorf("log: %s", log.String())
	}
}

func TestBroker_ClosesWithoutHavingRun(t *testing.T) {
	b, err := link.OpenBroker(t.Context(), "127.0.0.1:0", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := net.DialTimeout("tcp", b.Addr(), time.Second); err == nil {
		t.Error("the port is still open after Close")
	}
}

// connect5 is a CONNECT of MQTT 5 with clean start and the client id "evil".
var connect5 = []byte{0x10, 17, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 60, 0, 0, 4, 'e', 'v', 'i', 'l'}

// truncatedSubscribe5 ends where the options of its filter should be (mochi-mqtt/server#501).
var truncatedSubscribe5 = []byte{0x82, 6, 0, 1, 0, 0, 1, 'a'}

func TestBroker_SurvivesATruncatedSubscribe(t *testing.T) {
	var log logged
	b := embedded(t, slog.New(slog.NewTextHandler(&log, nil)))
	for range 3 {
		conn := dial(t, b.Addr())
		send(t, conn, connect5)
		if _, err := io.ReadFull(conn, make([]byte, 2)); err != nil {
			t.Fatalf("no CONNACK: %v", err)
		}
		send(t, conn, truncatedSubscribe5)
		if _, err := io.Copy(io.Discard, conn); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("the connection should be closed: %v", err)
		}
	}
	// The process lives, or this test would be over; the broker does too.
	c := startClient(t, link.Config{URL: b.URL(), ID: "after"})
	if err := c.Publish(t.Context(), "heimdall/v1/x1/command", false, []byte("x")); err != nil {
		t.Errorf("publish after the panic: %v", err)
	}
	if !strings.Contains(log.String(), "malformed packet ended a connection") {
		t.Errorf("the panic was not logged: %s", log.String())
	}
}

// FuzzBroker sends bytes after a valid CONNECT, and before one. No byte may end the process.
func FuzzBroker(f *testing.F) {
	f.Add(true, truncatedSubscribe5)
	f.Add(true, []byte{0x30, 5, 0, 1, 'a', 'x', 'y'})
	f.Add(true, []byte{0x32, 4, 0, 9, 'a', 'x'})
	f.Add(true, []byte{0xa2, 3, 0, 1, 0})
	f.Add(true, []byte{0xe0, 2, 4, 0})
	f.Add(true, []byte{0xf0, 0})
	f.Add(false, connect5)
	f.Add(false, []byte{0x10, 0xff, 0xff, 0xff, 0x7f})
	f.Add(false, []byte{0x10, 2, 0, 4})
	ctx, cancel := context.WithCancel(context.Background())
	b, err := link.OpenBroker(ctx, "127.0.0.1:0", slog.New(slog.DiscardHandler))
	if err != nil {
		f.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	f.Cleanup(func() { cancel(); <-done })
	f.Fuzz(func(t *testing.T, connected bool, packet []byte) {
		conn := dial(t, b.Addr())
		_ = conn.(*net.TCPConn).SetLinger(0) // or the ports would be used up
		if connected {
			send(t, conn, connect5)
			if _, err := io.ReadFull(conn, make([]byte, 2)); err != nil {
				t.Fatalf("no CONNACK: %v", err)
			}
		}
		_, _ = conn.Write(packet)
		_ = conn.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, conn)
	})
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func send(t *testing.T, conn net.Conn, packet []byte) {
	t.Helper()
	if _, err := conn.Write(packet); err != nil {
		t.Fatal(err)
	}
}
