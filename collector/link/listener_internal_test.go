package link

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// moody is a listener whose first calls of accept fail.
type moody struct {
	net.Listener
	failures int
}

func (m *moody) Accept() (net.Conn, error) {
	if m.failures > 0 {
		m.failures--
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return m.Listener.Accept()
}

var connectX = []byte("\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01x")

// A panic and errors of accept, as mochi and a machine without file descriptors make them, end one connection at most.
func TestListener_OutlivesPanicsAndAcceptErrors(t *testing.T) {
	inner, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	l := newListener(&moody{inner, 3}, slog.New(slog.NewTextHandler(&log, nil)))
	close(l.open)
	served := make(chan struct{})
	go func() {
		defer close(served)
		l.Serve(func(string, net.Conn) error {
			panic("index out of range") // what mochi does
		})
	}()
	for range 3 {
		conn, err := net.DialTimeout("tcp", l.Address(), 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(connectX); err != nil {
			t.Fatal(err)
		}
		var timeout net.Error
		if _, err := conn.Read(make([]byte, 1)); errors.As(err, &timeout) && timeout.Timeout() {
			t.Error("the connection is left open")
		}
		_ = conn.Close()
	}
	l.Close(nil)
	<-served
	if n := strings.Count(log.String(), "malformed packet ended a connection"); n != 3 {
		t.Errorf("%d panics were logged, want 3: %s", n, log.String())
	}
	if n := strings.Count(log.String(), "cannot accept"); n != 1 {
		t.Errorf("%d errors of accept were logged, want 1 of the 3: %s", n, log.String())
	}
	if held := l.allHeld.Load(); held != 0 {
		t.Errorf("%d bytes are counted as held for nobody", held)
	}
}
