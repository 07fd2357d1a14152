package link

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// countedConn counts writes to a connection.
type countedConn struct {
	net.Conn
	writes atomic.Int64
}

func (c *countedConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

func TestGatherConn_WritesAllInOrderInFewPieces(t *testing.T) {
	near, far := net.Pipe()
	counted := &countedConn{Conn: near}
	g := gather(counted)
	var want []byte
	const packets = 10_000
	for i := range packets { // nobody reads yet: they wait, and are fewer bytes than may
		packet := []byte{0x40, 2, byte(i >> 8), byte(i)}
		want = append(want, packet...)
		if n, err := g.Write(packet); n != len(packet) || err != nil {
			t.Fatalf("write %d: %d, %v", i, n, err)
		}
	}
	var got []byte
	var reading sync.WaitGroup
	reading.Go(func() { got, _ = io.ReadAll(far) }) // what is missing shows below
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	reading.Wait()
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes arrived, want the %d that were written, in order", len(got), len(want))
	}
	if n := counted.writes.Load(); n > packets/100 {
		t.Errorf("%d writes to the socket for %d packets", n, packets)
	}
}

func TestGatherConn_HoldsBackAWriterThatIsTooFast(t *testing.T) {
	near, far := net.Pipe()
	g := gather(near)
	const sent = 4 * mostUnwritten
	written := make(chan error, 1) // told once
	go func() {
		var err error
		for piece := make([]byte, 1000); err == nil; {
			_, err = g.Write(piece)
		}
		written <- err
	}()
	if _, err := io.CopyN(io.Discard, far, sent); err != nil {
		t.Fatal(err)
	}
	g.mu.Lock()
	waiting := len(g.out)
	g.mu.Unlock()
	if waiting > mostUnwritten+1000 {
		t.Errorf("%d bytes wait, want at most %d", waiting, mostUnwritten)
	}
	far.Close()
	if err := <-written; !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("writing to a closed connection: %v", err)
	}
	g.Close()
}

func TestGatherConn_ClosesWhenNobodyReads(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	g := gather(near)
	if _, err := g.Write([]byte("goodbye")); err != nil {
		t.Fatal(err)
	}
	if err := g.Close(); err != nil { // after goodbyeTimeout; without that, never
		t.Fatal(err)
	}
	if err := g.Close(); err != nil {
		t.Fatalf("a second time: %v", err)
	}
}

func TestGatherConn_WritingAfterTheEndFails(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	g := gather(near)
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1) // told once
	go func() {
		var err error
		for piece := make([]byte, mostUnwritten/2); err == nil; {
			_, err = g.Write(piece)
		}
		written <- err
	}()
	select {
	case err := <-written:
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("writing after Close: %v, want %v", err, net.ErrClosed)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("whoever writes after Close waits for ever")
	}
}
