package proxy_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/packaging/proxy"
)

// link is a proxy to an echo server.
func link(t *testing.T, faults proxy.Faults) *proxy.Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				io.Copy(conn, conn)
			})
		}
	})
	p, err := proxy.New(l.Addr().String(), 1)
	if err != nil {
		t.Fatal(err)
	}
	p.Set(faults)
	t.Cleanup(func() {
		p.Close()
		l.Close()
		serving.Wait()
	})
	return p
}

func dial(t *testing.T, p *proxy.Proxy) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	return conn
}

func write(t *testing.T, conn net.Conn, b []byte) {
	t.Helper()
	if _, err := conn.Write(b); err != nil {
		t.Fatal(err)
	}
}

// expect reads what should come, and tells how long that took.
func expect(t *testing.T, conn net.Conn, want []byte) time.Duration {
	t.Helper()
	began := time.Now()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("other bytes than were sent")
	}
	return time.Since(began)
}

// silent checks that nothing comes for a while.
func silent(t *testing.T, conn net.Conn) {
	t.Helper()
	conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	n, err := conn.Read(make([]byte, 1))
	if timeout, ok := errors.AsType[net.Error](err); n != 0 || !ok || !timeout.Timeout() {
		t.Fatalf("%d bytes and %v, want silence", n, err)
	}
	conn.SetDeadline(time.Now().Add(30 * time.Second))
}

func noise(n int) []byte {
	b, random := make([]byte, n), rand.New(rand.NewPCG(7, 7))
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

func TestProxy_PassesEverythingWhateverTheLinkDoes(t *testing.T) {
	for name, f := range map[string]proxy.Faults{
		"nothing":   {},
		"delay":     {Delay: 20 * time.Millisecond, Jitter: 20 * time.Millisecond},
		"rate":      {BytesPerSecond: 160_000},
		"loss":      {Loss: 0.3, Retransmit: time.Millisecond},
		"one byte":  {OneByteChunks: true},
		"all of it": {Delay: time.Millisecond, Jitter: time.Millisecond, BytesPerSecond: 1_000_000, Loss: 0.3, Retransmit: time.Millisecond, OneByteChunks: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, sent := link(t, f), noise(40_000)
			conn := dial(t, p)
			var writing sync.WaitGroup
			writing.Go(func() {
				conn.Write(sent)
				conn.(*net.TCPConn).CloseWrite()
			})
			got, err := io.ReadAll(conn)
			writing.Wait()
			if err != nil || !bytes.Equal(got, sent) {
				t.Errorf("%d bytes and %v, want the %d that were sent", len(got), err, len(sent))
			}
			if up, down := p.Passed(); up != int64(len(sent)) || down != int64(len(sent)) || p.Accepted() != 1 {
				t.Errorf("passed %d up and %d down on %d connections", up, down, p.Accepted())
			}
		})
	}
}

func TestProxy_Delay(t *testing.T) {
	conn := dial(t, link(t, proxy.Faults{Delay: 100 * time.Millisecond}))
	write(t, conn, []byte("x"))
	if took := expect(t, conn, []byte("x")); took < 200*time.Millisecond {
		t.Errorf("there and back in %v, want at least 200 ms", took)
	}
}

// Two connections have no more together than the link carries.
func TestProxy_RateIsShared(t *testing.T) {
	p := link(t, proxy.Faults{BytesPerSecond: 20_000})
	var conns sync.WaitGroup
	began := time.Now()
	for range 2 {
		conn := dial(t, p)
		write(t, conn, noise(5000))
		conns.Go(func() { io.ReadFull(conn, make([]byte, 5000)) })
	}
	conns.Wait()
	if took := time.Since(began); took < 500*time.Millisecond {
		t.Errorf("10,000 bytes in %v, want at least 0.5 s", took)
	}
}

// A packet that is lost three times in a row costs 10 + 20 + 40 ms.
func TestProxy_PausesOfLostPackets(t *testing.T) {
	conn := dial(t, link(t, proxy.Faults{Loss: 0.5, Retransmit: 10 * time.Millisecond}))
	var longest, total time.Duration
	for range 40 {
		write(t, conn, []byte("x"))
		took := expect(t, conn, []byte("x"))
		longest, total = max(longest, took), total+took
	}
	if longest < 70*time.Millisecond || total < 400*time.Millisecond {
		t.Errorf("80 packets, every second one lost: %v together, the slowest %v", total, longest)
	}
}

func TestProxy_HoldKeepsAndThenDelivers(t *testing.T) {
	p := link(t, proxy.Faults{})
	conn := dial(t, p)
	write(t, conn, []byte("a"))
	expect(t, conn, []byte("a"))
	p.Set(proxy.Faults{Hold: true})
	write(t, conn, []byte("b"))
	silent(t, conn)
	p.Set(proxy.Faults{})
	expect(t, conn, []byte("b"))
}

// What went into a half-open connection is gone for ever, and the side that is dead to the other does not learn of it.
func TestProxy_HalfOpen(t *testing.T) {
	for name, f := range map[string]proxy.Faults{"up": {DropUp: true}, "down": {DropDown: true}} {
		t.Run(name, func(t *testing.T) {
			p := link(t, f)
			conn := dial(t, p)
			write(t, conn, []byte("lost"))
			silent(t, conn)
			p.Set(proxy.Faults{})
			write(t, conn, []byte("kept"))
			expect(t, conn, []byte("kept"))
			p.Set(f)
			conn.(*net.TCPConn).CloseWrite()
			silent(t, conn) // no end comes back
		})
	}
}

func TestProxy_CutResets(t *testing.T) {
	p := link(t, proxy.Faults{Hold: true})
	conn := dial(t, p)
	write(t, conn, []byte("x"))
	for p.Accepted() == 0 {
		time.Sleep(time.Millisecond)
	}
	p.Cut()
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, io.EOF) {
		t.Errorf("%d bytes and %v, want a reset", n, err)
	}
	p.Set(proxy.Faults{})
	again := dial(t, p)
	write(t, again, []byte("y"))
	expect(t, again, []byte("y"))
}

func TestProxy_CutAfter(t *testing.T) {
	p := link(t, proxy.Faults{})
	conn := dial(t, p)
	p.CutAfter(1500)
	write(t, conn, noise(1000)) // 1,000 bytes up, and 500 of them back
	got, err := io.ReadAll(conn)
	if err == nil || len(got) > 500 {
		t.Errorf("%d bytes and %v, want at most 500 and a reset", len(got), err)
	}
	if up, down := p.Passed(); up != 1000 || down != 500 {
		t.Errorf("%d bytes up and %d down, want 1000 and 500", up, down)
	}
	again := dial(t, p)
	write(t, again, noise(3000))
	expect(t, again, noise(3000))
	p.CutAfter(0)
	if _, err := again.Read(make([]byte, 1)); err == nil {
		t.Error("not cut at once")
	}
}

func TestProxy_RefuseAndBlackhole(t *testing.T) {
	p := link(t, proxy.Faults{Refuse: true})
	refused(t, p)
	p.Set(proxy.Faults{Blackhole: true})
	hole := dial(t, p)
	write(t, hole, []byte("x"))
	silent(t, hole)
	p.Set(proxy.Faults{})
	good := dial(t, p)
	write(t, good, []byte("x"))
	expect(t, good, []byte("x"))
}

// refused checks that a connection ends without a byte.
func refused(t *testing.T, p *proxy.Proxy) {
	t.Helper()
	conn, err := net.Dial("tcp", p.Addr())
	if err != nil {
		return // reset as early as that
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("%d bytes and %v, want a reset", n, err)
	}
}

// A target that is not there ends the connection, and one that comes later is found.
func TestProxy_TargetMayBeAway(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	p, err := proxy.New(address, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	refused(t, p)
	if l, err = net.Listen("tcp", address); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn := dial(t, p)
	write(t, conn, []byte("x"))
	there, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	expect(t, there, []byte("x"))
}

func TestProxy_CloseEndsEverything(t *testing.T) {
	p := link(t, proxy.Faults{Delay: time.Hour})
	var conns []net.Conn
	for range 5 {
		conn := dial(t, p)
		write(t, conn, noise(1000))
		conns = append(conns, conn)
	}
	p.Close()
	for _, conn := range conns {
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("a connection outlives the link")
		}
	}
}
