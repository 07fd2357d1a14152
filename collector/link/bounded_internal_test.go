package link

import (
	"bytes"
	"io"
	"net"
	"testing"
	"testing/iotest"
)

// fromReader is a connection of which only the reading half is used.
type fromReader struct {
	net.Conn
	io.Reader
}

func (f fromReader) Read(p []byte) (int, error) { return f.Reader.Read(p) }

func TestBoundedConn_FollowsPacketsHoweverTheyAreCut(t *testing.T) {
	var stream []byte
	for _, size := range []int{0, 1, 127, 128, 5000, 3, 10_000} {
		stream = append(stream, 0x30)
		for n := size; ; {
			digit := byte(n & 0x7f)
			if n >>= 7; n > 0 {
				stream = append(stream, digit|0x80)
				continue
			}
			stream = append(stream, digit)
			break
		}
		stream = append(stream, bytes.Repeat([]byte{0xff}, size)...) // would be an endless length in a header
	}
	for name, r := range map[string]io.Reader{
		"whole": bytes.NewReader(stream), "one by one": iotest.OneByteReader(bytes.NewReader(stream)), "halves": iotest.HalfReader(bytes.NewReader(stream)),
	} {
		got, err := io.ReadAll(&boundedConn{Conn: fromReader{Reader: r}, limit: 10_000})
		if err != nil || !bytes.Equal(got, stream) {
			t.Errorf("%s: %d bytes and %v, want all %d", name, len(got), err, len(stream))
		}
	}
	if _, err := io.ReadAll(&boundedConn{Conn: fromReader{Reader: bytes.NewReader(stream)}, limit: 9_999}); err == nil {
		t.Error("a packet over the limit passed")
	}
}

func FuzzBoundedConn(f *testing.F) {
	f.Add([]byte{0x30, 0xff, 0xff, 0xff, 0xff, 0x01}, 1)
	f.Add([]byte{0x30, 0, 0x30, 2, 1, 2}, 2)
	f.Fuzz(func(t *testing.T, stream []byte, cut int) {
		cut = max(0, min(cut, len(stream)))
		whole, parts := &boundedConn{limit: 1000}, &boundedConn{limit: 1000}
		err := whole.scan(stream)
		err2 := parts.scan(stream[:cut])
		if err2 == nil {
			err2 = parts.scan(stream[cut:])
		}
		if (err == nil) != (err2 == nil) {
			t.Errorf("whole %v, in two parts %v", err, err2)
		}
		if whole.body > 1000 {
			t.Errorf("waits for a body of %d bytes", whole.body)
		}
	})
}
