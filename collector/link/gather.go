package link

import (
	"bufio"
	"net"
	"sync"
	"time"
)

const (
	readAhead = 16 << 10
	// mostUnwritten is how many bytes may wait for the socket; then whoever writes waits.
	mostUnwritten = 256 << 10
)

// gatherConn spares system calls, which cost more than anything else paho does: it asks for a packet in three reads, and
// writes each of a thousand acknowledgements by itself. Reads are served from what came in one, and what is written while
// the socket is busy leaves in one write.
type gatherConn struct {
	net.Conn
	reader *bufio.Reader

	// wake tells the writer that there is something to do. Capacity 1: it looks at everything.
	wake  chan struct{}
	ended chan struct{} // closed when the writer has

	mu      sync.Mutex // guards all below
	room    *sync.Cond // out has become shorter, or the writer has failed
	out     []byte     // not yet written
	closing bool
	err     error // why nothing can be written any more
}

// gather takes over a connection, until Close.
func gather(conn net.Conn) *gatherConn {
	g := &gatherConn{
		Conn: conn, reader: bufio.NewReaderSize(conn, readAhead),
		wake: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	g.room = sync.NewCond(&g.mu)
	go g.write()
	return g
}

// Read is for one goroutine at a time.
func (g *gatherConn) Read(p []byte) (int, error) { return g.reader.Read(p) }

// Write hands bytes to the writer. A failure is reported to whoever writes next.
func (g *gatherConn) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.out) >= mostUnwritten && g.err == nil {
		g.room.Wait()
	}
	if g.err != nil {
		return 0, g.err
	}
	g.out = append(g.out, p...)
	g.poke()
	return len(p), nil
}

func (g *gatherConn) poke() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// write brings to the socket what there is, until the connection is closed.
func (g *gatherConn) write() {
	defer close(g.ended)
	var out []byte
	for range g.wake {
		g.mu.Lock()
		out, g.out = g.out, out[:0]
		closing := g.closing
		g.room.Broadcast()
		g.mu.Unlock()
		if err := g.toSocket(out); err != nil {
			g.fail(err)
			g.Conn.Close() // so that the reader notices
			return
		}
		if closing {
			g.fail(net.ErrClosed)
			return
		}
	}
}

// fail ends all writing, also that which waits for room.
func (g *gatherConn) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.err = err
	g.room.Broadcast()
}

func (g *gatherConn) toSocket(out []byte) error {
	if len(out) == 0 {
		return nil
	}
	if err := g.Conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err := g.Conn.Write(out)
	return err
}

// SetWriteDeadline does nothing: paho's deadlines are for its own writes, which end at once.
func (g *gatherConn) SetWriteDeadline(time.Time) error { return nil }

// Close ends the connection once what was written has left, or could not for a moment.
func (g *gatherConn) Close() error {
	g.mu.Lock()
	g.closing = true
	g.poke()
	g.mu.Unlock()
	timer := time.NewTimer(goodbyeTimeout)
	defer timer.Stop()
	select {
	case <-g.ended:
	case <-timer.C:
	}
	err := g.Conn.Close()
	<-g.ended
	return err
}
