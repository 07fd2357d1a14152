// Package proxy stands between two programs under test and does to their TCP connections what networks do: delay, little
// room, pauses of lost packets, silence in one direction, breaks at any byte.
//
// One Proxy is one link: its connections share what it carries. Where chance decides, the seed decides; where the kernel
// cuts a stream into reads, it does not, so a seed repeats what happens and not the byte at which it does.
package proxy

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"
)

// Faults is what a link does at a time. The zero value passes everything on at once.
type Faults struct {
	// Delay is the time every byte takes each way, and Jitter up to how much more. The order is kept, as in TCP.
	Delay, Jitter time.Duration
	// BytesPerSecond is what the link carries each way; 0: all there is.
	BytesPerSecond int
	// Loss is how likely a packet is lost. Nothing is lost to the two ends: they see a pause until the packet was sent
	// again, of Retransmit first, and of twice as much each further time that it is lost.
	Loss       float64
	Retransmit time.Duration // 0: 200 ms, the least that kernels use
	// OneByteChunks writes each byte by itself.
	OneByteChunks bool
	// Hold lets nothing through, neither bytes nor ends of connections, until it is taken back; then all of it arrives.
	Hold bool
	// DropUp and DropDown discard what comes from the client or from the target, ends of connections included: a
	// connection that is open to one side and dead to the other.
	DropUp, DropDown bool
	// Refuse resets new connections at once, Blackhole accepts them and never answers. Connections that exist go on.
	Refuse, Blackhole bool
}

// Proxy is one link to one target.
type Proxy struct {
	target   string
	seed     uint64
	listener net.Listener
	running  sync.WaitGroup
	dialing  context.Context //nolint:containedctx // its end is that of Close, which no caller's context outlives
	close    context.CancelFunc
	up, down line

	mu       sync.Mutex // guards all below
	faults   Faults
	changed  chan struct{} // closed when faults change
	sockets  map[*socket]bool
	accepted uint64
	limit    int64 // bytes until a cut; less than 0: none is near
}

// New opens a link to the address target, which need not be there yet. It listens on loopback.
func New(target string, seed uint64) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for %s: %w", target, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &Proxy{
		target: target, seed: seed, listener: l, dialing: ctx, close: cancel,
		changed: make(chan struct{}), sockets: map[*socket]bool{}, limit: -1,
	}
	p.running.Go(p.accept)
	return p, nil
}

// Addr is where to connect to, host:port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Set changes what the link does, for connections that exist and for new ones. Bytes that are under way already arrive as
// they were bound to, but for Hold and the drops, which concern them too.
func (p *Proxy) Set(f Faults) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = f
	close(p.changed)
	p.changed = make(chan struct{})
}

// now is what the link does at present, and a channel that is closed when that changes.
func (p *Proxy) now() (Faults, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.faults, p.changed
}

// Cut resets every connection.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut()
}

func (p *Proxy) cut() {
	for s := range p.sockets {
		s.reset()
	}
	p.limit = -1
}

// CutAfter resets every connection when n more bytes have arrived, both ways counted. Only the latest call counts.
func (p *Proxy) CutAfter(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.limit = int64(n); n <= 0 {
		p.cut()
	}
}

// allow tells how many of n bytes may still arrive, and cuts the link when they are the last.
func (p *Proxy) allow(n int) (allowed int, last bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.limit < 0 {
		return n, false
	}
	if int64(n) < p.limit {
		p.limit -= int64(n)
		return n, false
	}
	allowed, p.limit = int(p.limit), 0
	return allowed, true
}

// Accepted counts the connections that clients have made.
func (p *Proxy) Accepted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return int(p.accepted)
}

// Passed counts the bytes that have arrived at the target and at clients.
func (p *Proxy) Passed() (up, down int64) { return p.up.passed.Load(), p.down.passed.Load() }

// Close ends the link and resets what is left of its connections.
func (p *Proxy) Close() {
	p.listener.Close()
	p.close()
	p.Cut()
	p.running.Wait()
}

func (p *Proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		client := newSocket(conn)
		p.mu.Lock()
		p.accepted++
		number, faults := p.accepted, p.faults
		p.mu.Unlock()
		switch {
		case faults.Refuse:
			client.reset()
		case faults.Blackhole:
			p.keep(client)
		default:
			p.running.Go(func() { p.serve(client, number) })
		}
	}
}

// keep makes a socket one of those that Cut and Close reset. A link that is closed takes none.
func (p *Proxy) keep(s *socket) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dialing.Err() != nil {
		s.reset()
	}
	p.sockets[s] = true
}

func (p *Proxy) forget(s *socket) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.sockets, s)
}

// serve carries one connection until both of its directions have ended.
func (p *Proxy) serve(client *socket, number uint64) {
	p.keep(client)
	defer p.forget(client)
	conn, err := (&net.Dialer{}).DialContext(p.dialing, "tcp", p.target)
	if err != nil {
		client.reset()
		return
	}
	target := newSocket(conn)
	p.keep(target)
	defer p.forget(target)
	var both sync.WaitGroup
	both.Go(func() { p.carry(client, target, &p.up, 2*number, func(f Faults) bool { return f.DropUp }) })
	both.Go(func() { p.carry(target, client, &p.down, 2*number+1, func(f Faults) bool { return f.DropDown }) })
	both.Wait()
	client.end()
	target.end()
}
