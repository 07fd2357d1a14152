package link

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// pieceBytes is how much is written at once, so that each piece has a time of its own.
	pieceBytes = 16 << 10
	// mostUnwritten bounds the bytes that wait for the socket. The window keeps them well below.
	mostUnwritten = 1 << 20
	// closeGrace is how long what was written last may take to leave when the client closes the connection.
	closeGrace = 250 * time.Millisecond
)

var errCut = errors.New("the connection was given up")

// wire is the network connection under the client. It lets no packet in that is too large, hands what the client writes bit by
// bit to the socket in larger pieces, and knows when a connection is dead without cutting one that is merely slow: the
// client's own time-outs do not know how much is on its way, and its calls block while the socket does.
type wire struct {
	net.Conn
	packets bounded // of the goroutine that reads

	opened time.Time
	heard  atomic.Int64 // ns from opened to when bytes last came; monotonic, which a step of the clock does not move
	given  atomic.Int64 // bytes written since then

	// wake tells the writer that there is something to do. Capacity 1: it looks at everything.
	wake    chan struct{}
	drained chan struct{} // closed when the writer has ended

	mu      sync.Mutex // guards all below
	room    *sync.Cond // unwritten has become shorter, or the writer has ended
	out     []byte     // not yet written
	closing bool
	err     error // why nothing can be written, or read, any more
}

// newWire takes over a connection, until Close or cut. tell is told of each message that is too large, which comes without
// its payload.
func newWire(conn net.Conn, tell func(topic string, bytes int)) *wire {
	w := &wire{Conn: conn, opened: time.Now(), wake: make(chan struct{}, 1), drained: make(chan struct{})}
	w.packets = newBounded(socket{w}, mostPacket, tell)
	w.room = sync.NewCond(&w.mu)
	go w.write()
	return w
}

// socket is the reading half of a wire's connection; whatever comes from it shows that the other end is there.
type socket struct{ *wire }

func (s socket) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	if n > 0 {
		s.heard.Store(int64(time.Since(s.opened)))
		s.given.Store(0)
	}
	return n, err
}

// Read passes packets on until one is too large.
func (w *wire) Read(p []byte) (int, error) {
	n, err := w.packets.Read(p)
	if err != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.err != nil {
			err = w.err
		}
	}
	return n, err
}

// Write hands bytes to the writer. It waits only while far too many are there.
func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.out) >= mostUnwritten && w.err == nil {
		w.room.Wait()
	}
	if w.err != nil {
		return 0, w.err
	}
	w.out = append(w.out, p...)
	w.given.Add(int64(len(p)))
	w.poke()
	return len(p), nil
}

func (w *wire) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// write brings everything to the socket until the connection is closed.
func (w *wire) write() {
	defer close(w.drained)
	var out []byte
	for range w.wake {
		runtime.Gosched() // whoever is about to write more does so first
		w.mu.Lock()
		out, w.out = w.out, out[:0]
		closing := w.closing
		w.room.Broadcast()
		w.mu.Unlock()
		if err := w.toSocket(out); err != nil {
			w.end(fmt.Errorf("write: %w", err))
			return
		}
		if closing {
			return
		}
	}
}

// toSocket gives up when the other side takes less than the slowest link carries.
func (w *wire) toSocket(out []byte) error {
	for len(out) > 0 {
		piece := out[:min(pieceBytes, len(out))]
		if err := w.Conn.SetWriteDeadline(time.Now().Add(writeTimeout + carriedIn(len(piece)))); err != nil {
			return err
		}
		if _, err := w.Conn.Write(piece); err != nil {
			return err
		}
		out = out[len(piece):]
	}
	return nil
}

// SetWriteDeadline does nothing: the writer has its own idea of how long is too long.
func (w *wire) SetWriteDeadline(time.Time) error { return nil }

// Close lets what was written last leave, for a moment, and ends the connection.
func (w *wire) Close() error {
	w.mu.Lock()
	w.closing = true
	w.poke()
	w.mu.Unlock()
	timer := time.NewTimer(closeGrace)
	defer timer.Stop()
	select {
	case <-w.drained:
	case <-timer.C:
	}
	err := w.Conn.Close()
	<-w.drained
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = net.ErrClosed // nobody is left who would write
	}
	w.room.Broadcast()
	return err
}

// cut ends the connection as a broken cable would. The client must not see that it was closed on this side, which it takes
// for its own doing and ignores.
func (w *wire) cut() {
	w.end(errCut)
	<-w.drained
}

// end ends the connection for a reason.
func (w *wire) end(err error) {
	w.mu.Lock()
	if w.err == nil {
		w.err = err
	}
	w.closing, w.out = true, nil
	w.poke()
	w.room.Broadcast()
	w.mu.Unlock()
	w.Conn.Close()
}

// silent tells whether nothing has come for longer than keepAlive, after which the client asks for an answer, and the
// time that the slowest link needs for the question, with what went before it, and the answer.
func (w *wire) silent(keepAlive time.Duration) bool {
	since := time.Since(w.opened) - time.Duration(w.heard.Load())
	return since > keepAlive+min(answerTimeout, keepAlive)+carriedIn(int(w.given.Load()))
}

// carriedIn is how long the slowest link takes.
func carriedIn(bytes int) time.Duration { return time.Duration(bytes) * time.Second / slowestLink }
