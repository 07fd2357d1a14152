package link

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// sink is a connection that takes everything at once and gives what it has.
type sink struct {
	net.Conn
	io.Reader
}

func (s sink) Read(p []byte) (int, error)       { return s.Reader.Read(p) }
func (s sink) Write(p []byte) (int, error)      { return len(p), nil }
func (s sink) SetWriteDeadline(time.Time) error { return nil }
func (s sink) Close() error                     { return nil }

// A connection counts as dead when the slowest link would have brought an answer.
func TestWire_SilentOnlyAfterWhatTheSlowestLinkNeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(sink{Reader: iotest.OneByteReader(bytes.NewReader(packet(0xd0, 100)))}, nil)
		defer w.Close()
		const keepAlive = 30 * time.Second
		for _, step := range []struct {
			written int
			after   time.Duration
		}{{0, 50 * time.Second}, {2, 50*time.Second + 8*time.Millisecond}, {4000, 66 * time.Second}} {
			if _, err := w.Write(make([]byte, step.written)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(step.after)
			if w.silent(keepAlive) {
				t.Errorf("%d bytes written: dead after %v", step.written, step.after)
			}
			time.Sleep(time.Nanosecond)
			if !w.silent(keepAlive) {
				t.Errorf("%d bytes written: not dead after more than %v", step.written, step.after)
			}
			if _, err := io.ReadFull(w, make([]byte, 2)); err != nil || w.silent(keepAlive) {
				t.Errorf("dead after it was heard, %v", err)
			}
		}
	})
}

// What is written arrives whole and in order also when the other side takes it slowly, and the writer never waits for that.
func TestWire_WritesToASlowLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		w := newWire(near, nil)
		var got []byte
		var reading sync.WaitGroup
		reading.Go(func() {
			for b := make([]byte, 1000); ; time.Sleep(4 * time.Second) { // 250 bytes a second
				n, err := far.Read(b)
				if got = append(got, b[:n]...); err != nil {
					return
				}
			}
		})
		began, want := time.Now(), make([]byte, 0, 32<<10)
		if err := w.SetWriteDeadline(began); err != nil { // as the client does
			t.Fatal(err)
		}
		for i := range 256 {
			want = append(want, bytes.Repeat([]byte{byte(i)}, 128)...)
			if _, err := w.Write(want[128*i:]); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("writing took %v", took)
		}
		time.Sleep(10 * time.Minute)
		w.Close()
		reading.Wait()
		if !bytes.Equal(got, want) {
			t.Errorf("%d bytes arrived, want the %d that were written", len(got), len(want))
		}
	})
}

// A socket that takes nothing is given up in the end, and whoever reads learns why.
func TestWire_GivesUpASocketThatTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		w, began := newWire(near, nil), time.Now()
		defer w.Close()
		if _, err := w.Write(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		_, err := w.Read(make([]byte, 1))
		if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != writeTimeout+4*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if _, err := w.Write([]byte{1}); err == nil {
			t.Error("written to a connection that was given up")
		}
	})
}

func TestWire_CutIsToldToTheReader(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	w := newWire(near, nil)
	var cutting sync.WaitGroup
	cutting.Go(w.cut)
	if _, err := w.Read(make([]byte, 1)); !errors.Is(err, errCut) {
		t.Errorf("%v, want %v", err, errCut)
	}
	cutting.Wait()
	w.Close() // as the client does then
}

// What was written last before the client closes still leaves.
func TestWire_CloseLetsTheFarewellLeave(t *testing.T) {
	near, far := net.Pipe()
	w := newWire(near, nil)
	if _, err := w.Write([]byte("farewell")); err != nil {
		t.Fatal(err)
	}
	var closing sync.WaitGroup
	closing.Go(func() { w.Close() })
	if got, err := io.ReadAll(far); string(got) != "farewell" || err != nil {
		t.Errorf("%q and %v", got, err)
	}
	closing.Wait()
}

func TestWire_ClosedTakesNothing(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	w := newWire(near, nil)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := w.Write([]byte("late")); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("%d bytes, %v; want %v", n, err, net.ErrClosed)
	}
}
