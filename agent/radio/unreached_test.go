package radio_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// Where no receiver answers, the error says what to do about it.
func TestOpen_WrongServers(t *testing.T) {
	website := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(website.Close)
	gone := serveEach(t, func(net.Conn) {})
	noise := serveEach(t, func(c net.Conn) { _, _ = c.Write([]byte("noise without end\r\n\r\n")) })
	mute := serveEach(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 1<<16)); <-t.Context().Done() })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	nobody, site := l.Addr().String(), strings.TrimPrefix(website.URL, "http://")
	owrx := "owrx://127.0.0.1:1?web=http://"
	for _, c := range []struct{ name, source, want string }{
		{"kiwi, nobody", "kiwi://" + nobody, "nobody listens there: look whether the KiwiSDR is on"},
		{"kiwi, a web site", "kiwi://" + site, "with 404 Not Found, opens no connection as that of a KiwiSDR does: look at the address and the port"},
		{"kiwi, gone at once", "kiwi://" + gone, "hung up before it said anything"},
		{"kiwi, no web server", "kiwi://" + noise, "what answers there is no web server"},
		{"kiwi, mute", "kiwi://" + mute, "no answer: look at the address and the port"},
		{"owrx, nobody", owrx + nobody, "ws://" + nobody + "/ws/: nobody listens there: start OpenWebRX"},
		{"owrx, a web site", owrx + site, "opens no connection as that of OpenWebRX does"},
		{"owrx, no connector", "owrx://" + nobody + "?web=off&center=7M&rate=192k", "the connector runs while OpenWebRX uses the device"},
		{"rtl_tcp, nobody", "rtltcp://" + nobody, "nobody listens there: start rtl_tcp"},
		{"rtl_tcp, gone at once", "rtltcp://" + gone, "ended the connection before it said anything: see what rtl_tcp prints"},
		{"spyserver, nobody", "spyserver://" + nobody, "nobody listens there: start spyserver"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			r := newSource(t, c.source)
			defer r.Close()
			if _, err := r.Open(ctx); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want it to say %q", err, c.want)
			}
		})
	}
}

// serveEach takes connections until the test ends and gives its address.
func serveEach(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
	return l.Addr().String()
}
