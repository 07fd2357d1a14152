package link_test

import (
	"bytes"
	"context"
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
	background(t, b.Run)
	eventually(t, "a warning", func() bool { return strings.Contains(log.String(), "can be reached from other machines") })
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

func dial(t testing.TB, addr string) net.Conn {
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

func send(t testing.TB, conn net.Conn, packet []byte) {
	t.Helper()
	if _, err := conn.Write(packet); err != nil {
		t.Fatal(err)
	}
}
