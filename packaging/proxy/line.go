package proxy

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// packetBytes is the most that is lost or delayed as one.
	packetBytes = 1400
	// readBytes is the most that is passed on at once by a link without faults.
	readBytes = 32 << 10
	// underWay is how many pieces may be between the two ends of a direction. When so many are, the sender waits.
	underWay = 1024
	// leastPause is how long kernels wait before they send a lost packet again, at the least.
	leastPause = 200 * time.Millisecond
)

// line is one direction of the link, which all connections share.
type line struct {
	passed atomic.Int64 // bytes

	mu   sync.Mutex // guards free
	free time.Time  // when what was put on the line has left
}

// put reserves the line for n bytes and tells when they will have left.
func (l *line) put(n, bytesPerSecond int, now time.Time) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.free.Before(now) {
		l.free = now
	}
	l.free = l.free.Add(time.Duration(n) * time.Second / time.Duration(bytesPerSecond))
	return l.free
}

// socket is one end. Once it is reset, everything that waits for it stops.
type socket struct {
	net.Conn
	once sync.Once
	dead chan struct{}
}

func newSocket(conn net.Conn) *socket { return &socket{Conn: conn, dead: make(chan struct{})} }

// reset ends a connection as a router does that has forgotten it: at once, with what is under way thrown away.
func (s *socket) reset() {
	if tcp, ok := s.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // which fails only on a socket that is gone
	}
	s.end()
}

// end gives the socket back.
func (s *socket) end() {
	s.once.Do(func() {
		s.Conn.Close()
		close(s.dead)
	})
}

// piece is a part of a stream on its way. The last one has an end.
type piece struct {
	bytes  []byte
	arrive time.Time
	end    error
}

// carry is one direction of a connection. It returns when the stream has come to its end, or its sender's socket was reset.
func (p *Proxy) carry(from, to *socket, l *line, stream uint64, drops func(Faults) bool) {
	pieces := make(chan piece, underWay)
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(pieces)
		p.read(from, l, rand.New(rand.NewPCG(p.seed, stream)), pieces)
	})
	for more := true; more; {
		piece, ok := <-pieces
		more = ok && p.deliver(piece, from, to, l, drops)
	}
	for range pieces { // of a connection that was reset
	}
	reading.Wait()
}

// read takes bytes off one end as fast as the line carries them, and says when they will be at the other.
func (p *Proxy) read(from *socket, l *line, random *rand.Rand, pieces chan<- piece) {
	buffer := make([]byte, readBytes)
	var latest time.Time
	for {
		faults, _ := p.now()
		n, err := from.Read(buffer[:faults.packet()])
		faults, _ = p.now() // they may have changed while nothing came
		left := time.Now()
		if n > 0 && faults.BytesPerSecond > 0 {
			left = l.put(n, faults.BytesPerSecond, left)
		}
		if arrive := left.Add(faults.way(random)); arrive.After(latest) {
			latest = arrive
		}
		pieces <- piece{append([]byte(nil), buffer[:n]...), latest, err}
		if err != nil || !sleep(left, from) {
			return
		}
	}
}

// packet is how many bytes share one fate.
func (f Faults) packet() int {
	switch {
	case f.BytesPerSecond > 0: // half a second's worth, so that a slow line is a steady one
		return max(64, min(f.BytesPerSecond/2, packetBytes))
	case f.Loss > 0 || f.Jitter > 0:
		return packetBytes
	default:
		return readBytes
	}
}

// way is how long a packet takes once it has left.
func (f Faults) way(random *rand.Rand) time.Duration {
	way := f.Delay
	if f.Jitter > 0 {
		way += time.Duration(random.Int64N(int64(f.Jitter)))
	}
	pause := f.Retransmit
	if pause == 0 {
		pause = leastPause
	}
	for f.Loss > 0 && random.Float64() < f.Loss && pause < time.Minute {
		way += pause
		pause *= 2
	}
	return way
}

// deliver brings a piece to its end when its time has come. It returns false when nothing can follow.
func (p *Proxy) deliver(piece piece, from, to *socket, l *line, drops func(Faults) bool) bool {
	if !sleep(piece.arrive, from) {
		return false
	}
	faults, changed := p.now()
	for faults.Hold {
		select {
		case <-changed:
		case <-from.dead:
			return false
		}
		faults, changed = p.now()
	}
	ended := piece.end != nil
	switch {
	case drops(faults):
		if ended {
			linger(from, to)
		}
		return !ended
	case !p.write(to, piece.bytes, faults.OneByteChunks, l):
		to.reset() // the reader of the other direction finds out, and tells from if its way is open
	case errors.Is(piece.end, io.EOF):
		if tcp, ok := to.Conn.(*net.TCPConn); ok {
			_ = tcp.CloseWrite() // which fails only when the other end has gone
		}
	case ended:
		to.reset()
	}
	return !ended
}

// linger keeps an end that is not told of the other's until it is reset.
func linger(from, to *socket) {
	select {
	case <-from.dead:
	case <-to.dead:
	}
}

// write brings bytes to a socket, as many as CutAfter lets through.
func (p *Proxy) write(to *socket, bytes []byte, single bool, l *line) bool {
	chunk := len(bytes)
	if single {
		chunk = 1
	}
	for len(bytes) > 0 {
		allowed, last := p.allow(min(chunk, len(bytes)))
		n, err := to.Write(bytes[:allowed])
		l.passed.Add(int64(n))
		if last {
			p.Cut()
		}
		if last || err != nil {
			return false
		}
		bytes = bytes[allowed:]
	}
	return true
}

// sleep waits until an instant. It returns false when the socket is reset first.
func sleep(until time.Time, s *socket) bool {
	wait := time.Until(until)
	if wait <= 0 {
		return true
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.dead:
		return false
	}
}
