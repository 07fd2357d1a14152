package api_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// pipes is a listener without a network, for clocks that are not real.
type pipes struct {
	accepted chan net.Conn // without room: dialling ends when the server has it
	closed   chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.accepted:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial(t *testing.T) net.Conn {
	t.Helper()
	mine, its := net.Pipe()
	p.accepted <- its
	t.Cleanup(func() { _ = mine.Close() })
	return mine
}

// TestLimits_ASlowBodyEndsInTimeAndSlowsNobody drips a body at a byte a second.
func TestLimits_ASlowBodyEndsInTimeAndSlowsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.config.Now = time.Now
		listener := &pipes{accepted: make(chan net.Conn), closed: make(chan struct{})}
		server := &http.Server{Handler: w.handler(t), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second}
		ended := make(chan error, 1) // Serve returns once
		go func() { ended <- server.Serve(listener) }()
		slow := listener.dial(t)
		began := time.Now()
		var dripping sync.WaitGroup
		dripping.Go(func() { // ends when one of both hangs up
			_, err := fmt.Fprintf(slow, "POST /api/v1/acquisitions HTTP/1.1\r\nHost: x\r\nContent-Length: 3600\r\n\r\n")
			for err == nil {
				time.Sleep(time.Second)
				_, err = slow.Write([]byte(" "))
			}
		})
		time.Sleep(2 * time.Second) // of the bubble's clock
		other := time.Now()
		quick := listener.dial(t)
		go func() {
			_, _ = fmt.Fprintf(quick, "GET /api/v1/stations HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		}()
		fast := answerOn(t, quick)
		defer fast.Body.Close()
		if fast.StatusCode != http.StatusOK || time.Since(other) > 0 {
			t.Errorf("another client: status %d after %v", fast.StatusCode, time.Since(other))
		}
		answer := answerOn(t, slow)
		defer answer.Body.Close()
		body, _ := io.ReadAll(answer.Body)
		if answer.StatusCode != http.StatusRequestTimeout || answer.Header.Get("Content-Type") != "application/problem+json" || !answer.Close {
			t.Errorf("status %d, %v: %s", answer.StatusCode, answer.Header, body)
		}
		if took := time.Since(began); took < 9*time.Second || took > 12*time.Second {
			t.Errorf("the slow client was answered after %v, want some 10 s", took)
		}
		if !strings.Contains(string(body), `"field":"body"`) {
			t.Errorf("no field is named: %s", body)
		}
		_ = slow.Close()
		dripping.Wait()
		if err := server.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
}

func answerOn(t *testing.T, conn net.Conn) *http.Response {
	t.Helper()
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// counted is a body that knows how much of it was read.
type counted struct {
	left, read int
}

func (c *counted) Read(p []byte) (int, error) {
	n := min(len(p), c.left)
	for i := range p[:n] {
		p[i] = ' '
	}
	c.left -= n
	c.read += n
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// TestLimits_ALargeBodyIsRefusedBeforeItIsRead sends 10 MB over a real connection.
func TestLimits_ALargeBodyIsRefusedBeforeItIsRead(t *testing.T) {
	w := newWorld()
	var created bool
	w.commander.create = func(context.Context, protocol.AcquisitionRequest) (*protocol.Acquisition, error) {
		created = true
		return nil, errors.New("never")
	}
	server := startServer(t, w)
	for _, length := range []int64{10 << 20, -1} { // told at first, and not at all
		body := &counted{left: 10 << 20}
		r, err := http.NewRequestWithContext(t.Context(), "POST", server.URL+"/api/v1/acquisitions", body)
		if err != nil {
			t.Fatal(err)
		}
		r.ContentLength = length
		answer, err := server.Client().Do(r)
		if err != nil {
			t.Fatalf("length %d: %v", length, err)
		}
		text, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusRequestEntityTooLarge || !strings.Contains(string(text), `"field":"body"`) || err != nil {
			t.Errorf("length %d: status %d: %s, %v", length, answer.StatusCode, text, err)
		}
	}
	if created {
		t.Error("an acquisition was made of it")
	}
}

// refuseToRead is a body that must not be read.
type refuseToRead struct{ t *testing.T }

func (r refuseToRead) Read([]byte) (int, error) {
	r.t.Error("the body was read")
	return 0, io.EOF
}

func TestLimits_ABodyThatSaysItIsTooLargeIsNotReadAtAll(t *testing.T) {
	r, err := http.NewRequestWithContext(t.Context(), "POST", "/api/v1/acquisitions", refuseToRead{t})
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = 64<<10 + 1
	if p := problem(t, serve(newWorld().handler(t), r)); p.Status != http.StatusRequestEntityTooLarge || p.Errors[0].Field != "body" {
		t.Errorf("problem %+v", p)
	}
}

func TestLimits_StreamsOfEventsAreBounded(t *testing.T) {
	w := newWorld()
	server := startServer(t, w)
	first := listen(t, w, server, "")
	for range 255 {
		listen(t, w, server, "")
	}
	answer := get(t, w.handler(t), "GET", "/api/v1/events")
	if p := problem(t, answer); p.Status != http.StatusServiceUnavailable || answer.Header().Get("Retry-After") == "" {
		t.Errorf("one more: %+v, headers %v", p, answer.Header())
	}
	first.close()
	until(t, "there is room again", func() bool { open, _ := w.config.Events.Clients(); return open == 255 })
	listen(t, w, server, "")
}
