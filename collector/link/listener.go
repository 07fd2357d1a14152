package link

import (
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/listeners"
)

const (
	// A connection must have said CONNECT by then; mochi itself would wait for ever. It sets its own deadline after.
	connectTimeout = 10 * time.Second
	// What a closing broker gives its clients to take its last packet.
	farewell = time.Second
)

// listener accepts connections for the embedded broker. Unlike mochi's own ones it survives a panic in the handling of a
// connection: mochi v2.7.9 indexes past the end of a truncated MQTT 5 SUBSCRIBE (mochi-mqtt/server#501), so eight bytes
// from one client would end the process.
type listener struct {
	net.Listener
	log *slog.Logger
	wg  sync.WaitGroup // one for each connection being served

	mu     sync.Mutex // guards conns and closed
	conns  map[net.Conn]struct{}
	closed bool
}

func newListener(l net.Listener, log *slog.Logger) *listener {
	return &listener{Listener: l, log: log, conns: make(map[net.Conn]struct{})}
}

// ID, Address, Protocol, Init, Serve and Close are what mochi asks of a listener.
func (l *listener) ID() string { return "heimdall" }

// Address is the host and port listened on.
func (l *listener) Address() string { return l.Addr().String() }

// Protocol is always tcp.
func (l *listener) Protocol() string { return "tcp" }

// Init has nothing to do: the port is taken when the listener is made.
func (l *listener) Init(*slog.Logger) error { return nil }

// Serve accepts connections until the listener is closed.
func (l *listener) Serve(establish listeners.EstablishFn) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		if !l.add(conn) {
			return
		}
		go l.serve(conn, establish)
	}
}

// add registers a connection, or closes it when the listener has been closed meanwhile.
func (l *listener) add(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = conn.Close()
		return false
	}
	l.conns[conn] = struct{}{}
	l.wg.Add(1)
	return true
}

func (l *listener) serve(conn net.Conn, establish listeners.EstablishFn) {
	defer l.wg.Done()
	defer func() {
		if p := recover(); p != nil {
			l.log.Error("malformed packet ended a connection to the embedded broker", "remote", conn.RemoteAddr().String(), "panic", p)
		}
		_ = conn.Close()
		l.mu.Lock()
		delete(l.conns, conn)
		l.mu.Unlock()
	}()
	if err := conn.SetDeadline(time.Now().Add(connectTimeout)); err != nil {
		return
	}
	if err := establish(l.ID(), conn); err != nil {
		l.log.Debug("connection to the embedded broker ended", "remote", conn.RemoteAddr().String(), "error", err)
	}
}

// Close stops accepting, tells the clients, and closes their connections.
func (l *listener) Close(closeClients listeners.CloseFn) {
	l.mu.Lock()
	l.closed = true
	conns := make([]net.Conn, 0, len(l.conns))
	for conn := range l.conns {
		conns = append(conns, conn)
	}
	l.mu.Unlock()

	_ = l.Listener.Close()
	for _, conn := range conns {
		_ = conn.SetDeadline(time.Now().Add(farewell)) // a client that takes nothing must not hold the end up
	}
	closeClients(l.ID())
	for _, conn := range conns {
		_ = conn.Close()
	}
}

func (l *listener) wait() { l.wg.Wait() }
