package link

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/listeners"
)

const (
	// A connection must have said CONNECT by then, and so many may not have said it yet: a flood of them makes room by
	// losing some of its own.
	connectTimeout = 10 * time.Second
	maxStrangers   = 256
	// Pauses after an error of accept, such as one for want of file descriptors. They double.
	acceptPauseFirst = 5 * time.Millisecond
	acceptPauseMax   = time.Second
)

// listener accepts connections for the embedded broker. Unlike mochi's own ones it survives a panic in the handling of a
// connection and an error of accept, and it puts a guest in front of each. It also takes care that mochi never sees two
// connections with one client id: mochi v2.7.9 ends the older one while the newer one begins, and may then delete the
// newer one's subscriptions.
type listener struct {
	net.Listener
	log *slog.Logger
	wg  sync.WaitGroup // one for each connection being served, and one for accepting
	tls *tls.Config    // nil: connections are plain
	// admission gives whoever is let in a pass; nil: everybody may do everything.
	admission func(Visitor) Pass
	open      chan struct{} // closed when mochi is ready for connections
	closing   chan struct{} // closed when the listener is
	allHeld   atomic.Int64  // bytes that the broker holds for its clients

	mu        sync.Mutex // guards the rest
	closed    bool
	guests    map[*guest]struct{}
	strangers map[*guest]struct{} // the guests that have not said CONNECT
	names     map[string]*guest   // the newest guest of each client id
}

func newListener(l net.Listener, log *slog.Logger) *listener {
	return &listener{
		Listener: l, log: log, open: make(chan struct{}), closing: make(chan struct{}),
		guests: make(map[*guest]struct{}), strangers: make(map[*guest]struct{}), names: make(map[string]*guest),
	}
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
	if !l.begin() {
		return
	}
	defer l.wg.Done()
	select {
	case <-l.open:
	case <-l.closing:
		return
	}
	pause := acceptPauseFirst
	for {
		conn, err := l.Accept()
		if err == nil {
			pause = acceptPauseFirst
			if g := l.admit(conn); g != nil {
				go l.serve(g, establish)
			}
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if pause == acceptPauseFirst {
			l.log.Warn("embedded broker cannot accept a connection, trying again", "error", err)
		}
		select {
		case <-time.After(pause):
		case <-l.closing:
			return
		}
		pause = min(2*pause, acceptPauseMax)
	}
}

// begin has Close wait for the accepting, unless the listener has been closed already.
func (l *listener) begin() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.wg.Add(1)
	return true
}

// admit registers a connection, or closes it when the listener has been closed meanwhile.
func (l *listener) admit(conn net.Conn) *guest {
	if l.tls != nil {
		conn = tls.Server(conn, l.tls)
	}
	g := newGuest(conn, &l.allHeld)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = conn.Close()
		return nil
	}
	if len(l.strangers) >= maxStrangers {
		for other := range l.strangers { // any of them
			_ = other.Close()
			delete(l.strangers, other)
			break
		}
	}
	l.guests[g], l.strangers[g] = struct{}{}, struct{}{}
	l.wg.Add(1)
	return g
}

// serve has a connection served, from its CONNECT to its end.
func (l *listener) serve(g *guest, establish listeners.EstablishFn) {
	defer l.wg.Done()
	var writer sync.WaitGroup
	writer.Go(g.writeAll)
	id := ""
	defer func() {
		if p := recover(); p != nil {
			l.log.Error("malformed packet ended a connection to the embedded broker",
				"remote", g.RemoteAddr().String(), "panic", p, "stack", string(debug.Stack()))
		}
		g.exit()
		_ = g.Close()
		writer.Wait()
		g.forget()
		l.dismiss(g, id)
	}()

	err := g.SetReadDeadline(time.Now().Add(connectTimeout))
	if err == nil {
		err = g.handshake()
	}
	if err == nil {
		var hello connectPacket
		if hello, err = g.greet(); err == nil {
			id = hello.clientID
			if l.enter(g, hello) {
				err = establish(l.ID(), g)
			}
		}
	}
	if err != nil {
		l.log.Debug("connection to the embedded broker ended", "remote", g.RemoteAddr().String(), "error", err)
	}
}

// call gives a guest its client id once the one before has let go of it, unless that one is of another account. It tells whether
// the guest has it.
func (l *listener) call(g *guest, id string) bool {
	l.mu.Lock()
	delete(l.strangers, g)
	var before *guest
	if id != "" { // else mochi invents one
		before = l.names[id]
		if before != nil && before.forAnother(g) {
			l.mu.Unlock()
			_, _ = g.Write([]byte{0x20, 2, 0, refusedClientID})
			return false
		}
		l.names[id] = g
	}
	l.mu.Unlock()
	if before == nil {
		return true
	}
	_ = before.Close()
	<-before.done // it does nothing any more that waits for others
	return !g.isClosed()
}

// cut ends the connections of a station, under whatever client ids, and gives what is closed when each is over.
func (l *listener) cut(station string) (over []<-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	agent := l.names[agentPrefix+station]
	for g := range l.guests {
		_, stranger := l.strangers[g] // whose certificate is being read
		if g == agent || g.pass != nil && g.pass.Username() == station || !stranger && g.name == station {
			_ = g.Close()
			over = append(over, g.done)
		}
	}
	return over
}

// dismiss forgets a connection that has ended.
func (l *listener) dismiss(g *guest, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.guests, g)
	delete(l.strangers, g)
	if l.names[id] == g {
		delete(l.names, id)
	}
	close(g.done)
}

// Close stops accepting, ends all connections and waits for them. That mochi says goodbye is not wanted: in MQTT 3.1.1 a
// broker has no packet for it.
func (l *listener) Close(listeners.CloseFn) {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.closing)
	}
	for g := range l.guests {
		_ = g.Close()
	}
	l.mu.Unlock()
	_ = l.Listener.Close()
	l.wg.Wait()
}
