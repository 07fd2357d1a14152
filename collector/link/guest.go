package link

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// What a client that takes nothing may hold of the broker's memory: messages waiting to be written to it, and
	// messages that it has taken and not acknowledged. Above, it misses messages; the agents send them again.
	maxHeldBytes = 64 << 20
	// The same for all clients together. Above, whoever holds more than littleHeldBytes misses messages.
	maxAllHeldBytes = 256 << 20
	littleHeldBytes = 1 << 20
	// Answers to its own packets are kept for it up to so much above that; then it loses its connection.
	answersHeldBytes = 16 << 20
	// A client that takes nothing for so long is gone.
	writeTimeoutOfGuest = time.Minute
	// What a connection that ends gets to take the last packet.
	farewell = time.Second
	// A buffer that grew larger is given back when it is empty.
	keptBufferBytes = 64 << 10
)

// guest is a client's connection as mochi sees it. It hands on whole packets only, and of those the ones that are in
// order, because mochi's decoders index past the end of some others. It takes what is written at once, because mochi
// writes under a lock that everybody who publishes to this client waits for. And it counts what the client makes the
// broker hold.
type guest struct {
	net.Conn
	in *bufio.Reader
	// name is the common name of the client's certificate, which was verified; empty: it has none. Set before CONNECT is read.
	name string
	// pass is what the client may do; nil: everything. Written under the listener's lock, before mochi knows the client.
	pass Pass
	// held are the bytes that are kept for this client, allHeld the ones for all.
	held    atomic.Int64
	allHeld *atomic.Int64

	// Only the reading goroutine touches these.
	buf    []byte // the packet being handed on
	packet []byte // what is left of it
	leave  func() // gives back the lock that the packet being handled took; nil without one

	mu      sync.Mutex     // guards the rest
	outbox  []byte         // to be written
	unacked map[uint16]int // bytes of each message that is not acknowledged
	closed  bool

	wake chan struct{} // capacity 1: there is something to write, or closed is set; when it is full that is known
	done chan struct{} // closed when the connection is over and mochi has forgotten it
}

func newGuest(conn net.Conn, allHeld *atomic.Int64) *guest {
	return &guest{
		Conn: conn, in: bufio.NewReaderSize(conn, 4<<10), allHeld: allHeld,
		unacked: make(map[uint16]int), wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
}

// handshake agrees on TLS where the connection has it, and learns whose certificate the client has.
func (g *guest) handshake() error {
	secure, ok := g.Conn.(*tls.Conn)
	if !ok {
		return nil
	}
	err := g.SetWriteDeadline(time.Now().Add(connectTimeout))   // reading has its own
	if err = errors.Join(err, secure.Handshake()); err != nil { //nolint:noctx // its time is bounded by the two deadlines
		return fmt.Errorf("TLS: %w", err)
	}
	if chain := secure.ConnectionState().PeerCertificates; len(chain) > 0 {
		g.name = chain[0].Subject.CommonName
	}
	return nil
}

// readPacket reads the next packet into buf and gives its first byte and its body.
func (g *guest) readPacket() (header byte, body []byte, err error) {
	if cap(g.buf) > keptBufferBytes {
		g.buf = nil
	}
	g.buf = g.buf[:0]
	if header, err = g.in.ReadByte(); err != nil {
		return 0, nil, err
	}
	g.buf = append(g.buf, header)
	length := 0
	for shift := 0; ; shift += 7 { // MQTT 3.1.1 section 2.2.3
		b, err := g.in.ReadByte()
		if err != nil {
			return 0, nil, err
		}
		g.buf = append(g.buf, b)
		length |= int(b&0x7f) << shift
		if length > maxPacketBytes || shift == 21 && b&0x80 != 0 {
			return 0, nil, fmt.Errorf("a packet of %d bytes or more, at most %d are accepted", length, maxPacketBytes)
		}
		if b&0x80 == 0 {
			break
		}
	}
	start := len(g.buf)
	for end := start + length; len(g.buf) < end; { // memory grows with what has arrived, not with what was announced
		n := len(g.buf)
		step := min(end-n, max(n, 4<<10))
		g.buf = slices.Grow(g.buf, step)[:n+step]
		if _, err := io.ReadFull(g.in, g.buf[n:]); err != nil {
			return 0, nil, err
		}
	}
	return header, g.buf[start:], nil
}

// greet reads the CONNECT, and keeps it for mochi.
func (g *guest) greet() (connectPacket, error) {
	header, body, err := g.readPacket()
	if err != nil {
		return connectPacket{}, err
	}
	c, err := checkConnect(header, body)
	if level, ok := errors.AsType[versionError](err); ok {
		answer := []byte{0x20, 2, 0, 1} // CONNACK: unacceptable protocol version
		if level == levelMQTT5 {
			answer = []byte{0x20, 3, 0, 0x84, 0} // the same as MQTT 5 says it
		}
		_, _ = g.Write(answer)
	}
	g.packet = g.buf
	return c, err
}

// Read gives mochi the bytes of packets that were checked.
func (g *guest) Read(p []byte) (int, error) {
	if len(g.packet) == 0 {
		header, body, err := g.readPacket()
		if err != nil {
			return 0, err
		}
		if err := checkPacket(header, body); err != nil {
			return 0, fmt.Errorf("not MQTT 3.1.1: %w", err)
		}
		g.packet = g.buf
	}
	n := copy(p, g.packet)
	g.packet = g.packet[n:]
	return n, nil
}

// SetDeadline is about reading. Writes have a time limit of their own.
func (g *guest) SetDeadline(t time.Time) error { return g.SetReadDeadline(t) }

// SetReadDeadline does nothing on a connection that is closing, or its reader would wait again.
func (g *guest) SetReadDeadline(t time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return net.ErrClosed
	}
	return g.Conn.SetReadDeadline(t)
}

// Write takes p and returns. A client that takes far too little loses its connection.
func (g *guest) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.closed:
		return 0, net.ErrClosed
	case g.over(answersHeldBytes):
		g.closing()
		return 0, errors.New("the client does not read what it asks for")
	}
	g.outbox = append(g.outbox, p...)
	g.hold(len(p))
	g.rouse()
	return len(p), nil
}

// hold counts bytes that are kept for the client, or with n < 0 are no more.
func (g *guest) hold(n int) {
	g.held.Add(int64(n))
	g.allHeld.Add(int64(n))
}

// full tells whether the client must do without further messages for now.
func (g *guest) full() bool { return g.over(0) }

// over tells whether the client holds more than its limits and some bytes.
func (g *guest) over(more int64) bool {
	held := g.held.Load()
	return held > maxHeldBytes+more || held > littleHeldBytes+more && g.allHeld.Load() > maxAllHeldBytes+more
}

// sent notes a message that the client has to acknowledge.
func (g *guest) sent(id uint16, size int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	g.hold(size - g.unacked[id])
	g.unacked[id] = size
}

// acked notes that the broker need not keep a message any more.
func (g *guest) acked(id uint16) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.hold(-g.unacked[id])
	delete(g.unacked, id)
}

func (g *guest) rouse() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// writeAll writes what mochi has written, until the connection is closed and the outbox empty, or the client gone.
func (g *guest) writeAll() {
	defer g.Conn.Close()
	var batch []byte
	for range g.wake {
		for {
			g.mu.Lock()
			batch, g.outbox = g.outbox, batch[:0]
			limit, closed := writeTimeoutOfGuest, g.closed
			g.mu.Unlock()
			if closed {
				limit = farewell
			}
			if len(batch) == 0 {
				if closed {
					return
				}
				break
			}
			err := g.writeOut(batch, limit)
			g.hold(-len(batch))
			if cap(batch) > keptBufferBytes {
				batch = nil
			}
			if err != nil {
				_ = g.Close()
				return
			}
		}
	}
}

// writeOut writes piece by piece, so that the time limit is about a client that takes nothing, not a slow one.
func (g *guest) writeOut(p []byte, limit time.Duration) error {
	for piece := range slices.Chunk(p, keptBufferBytes) {
		if err := g.SetWriteDeadline(time.Now().Add(limit)); err != nil {
			return err
		}
		if _, err := g.Conn.Write(piece); err != nil {
			return err
		}
	}
	return nil
}

// Close ends the connection once what was written is out.
func (g *guest) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closing()
	return nil
}

// closing wakes the reader and the writer of a connection that ends. mu is held.
func (g *guest) closing() {
	if g.closed {
		return
	}
	g.closed = true
	now := time.Now()
	_ = g.Conn.SetReadDeadline(now)
	_ = g.SetWriteDeadline(now.Add(farewell))
	g.rouse()
}

// enter takes a lock until exit, or until a panic ends the connection.
func (g *guest) enter(lock, unlock func()) {
	lock()
	g.leave = unlock
}

func (g *guest) exit() {
	if g.leave != nil {
		g.leave()
		g.leave = nil
	}
}

// forget gives back what the connection held, after its reader and writer have ended.
func (g *guest) forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.hold(-int(g.held.Load()))
	g.outbox, g.unacked = nil, make(map[uint16]int)
}

func (g *guest) isClosed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed
}
