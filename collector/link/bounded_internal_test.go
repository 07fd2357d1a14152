package link

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// fromReader is a connection of which only the reading half is used.
type fromReader struct {
	net.Conn
	io.Reader
}

func (f fromReader) Read(p []byte) (int, error) { return f.Reader.Read(p) }

func bounded(r io.Reader, limit int, cut func(string, int)) *boundedConn {
	return newBoundedConn(fromReader{Reader: r}, limit, cut)
}

// cuts are ways in which a stream may arrive.
func cuts(stream []byte) map[string]io.Reader {
	return map[string]io.Reader{
		"whole": bytes.NewReader(stream), "one by one": iotest.OneByteReader(bytes.NewReader(stream)), "halves": iotest.HalfReader(bytes.NewReader(stream)),
	}
}

// packet is one with a body of 0xff, which would be an endless length in a header.
func packet(first byte, size int) []byte {
	return append(appendLength([]byte{first}, size), bytes.Repeat([]byte{0xff}, size)...)
}

// message is a PUBLISH packet.
func message(first byte, topic string, payload int) []byte {
	body := append([]byte{byte(len(topic) >> 8), byte(len(topic))}, topic...)
	if first&0x06 != 0 {
		body = append(body, 1, 2)
	}
	body = append(body, bytes.Repeat([]byte{0xff}, payload)...)
	return append(appendLength([]byte{first}, len(body)), body...)
}

func TestBoundedConn_FollowsPacketsHoweverTheyAreCut(t *testing.T) {
	var stream []byte
	for _, size := range []int{0, 1, 127, 128, 5000, 3, 10_000} {
		stream = append(stream, packet(0xd0, size)...)
	}
	for name, r := range cuts(stream) {
		got, err := io.ReadAll(bounded(r, 10_000, nil))
		if err != nil || !bytes.Equal(got, stream) {
			t.Errorf("%s: %d bytes and %v, want all %d", name, len(got), err, len(stream))
		}
	}
	if _, err := io.ReadAll(bounded(bytes.NewReader(stream), 9_999, nil)); err == nil {
		t.Error("a packet over the limit passed")
	}
	if _, err := io.ReadAll(bounded(bytes.NewReader([]byte{0x30, 0xff, 0xff, 0xff, 0xff, 1}), 9_999, nil)); err == nil {
		t.Error("a length of five bytes passed")
	}
}

func TestBoundedConn_CutsAMessageThatIsTooLarge(t *testing.T) {
	const limit = 200_000
	for _, first := range []byte{0x30, 0x33} {
		before, after := packet(0xd0, 5), message(first, "a/b", 7)
		stream := slices.Concat(before, message(first, "heimdall/v1/evil/state", 3<<20), after)
		want := slices.Concat(before, message(first, "heimdall/v1/evil/state", protocol.MaxMessageBytes+1), after)
		for name, r := range cuts(stream) {
			var told []string
			got, err := io.ReadAll(bounded(r, limit, func(topic string, n int) { told = append(told, fmt.Sprint(topic, " ", n>>20)) }))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%x, %s: %d bytes and %v, want %d", first, name, len(got), err, len(want))
			}
			if fmt.Sprint(told) != "[heimdall/v1/evil/state 3]" {
				t.Errorf("told %v", told)
			}
		}
	}
}

func FuzzBoundedConn(f *testing.F) {
	f.Add([]byte{0x90, 0xff, 0xff, 0xff, 0xff, 0x01}, 1)
	f.Add([]byte{0xd0, 0, 0x30, 2, 1, 2}, 2)
	f.Add(message(0x32, "t", 200_000), 7)
	f.Add([]byte{0x30, 0x80, 0x80, 0x80, 0x01, 0xff, 0xff}, 3)
	f.Fuzz(func(t *testing.T, stream []byte, cut int) {
		cut = max(0, min(cut, len(stream)))
		ignore := func(string, int) {}
		whole, err := io.ReadAll(bounded(bytes.NewReader(stream), 150_000, ignore))
		parts, err2 := io.ReadAll(bounded(io.MultiReader(bytes.NewReader(stream[:cut]), bytes.NewReader(stream[cut:])), 150_000, ignore))
		if !bytes.Equal(whole, parts) || (err == nil) != (err2 == nil) {
			t.Errorf("whole: %d bytes, %v; in two parts: %d bytes, %v", len(whole), err, len(parts), err2)
		}
		if len(whole) > len(stream) {
			t.Errorf("%d bytes came out of %d", len(whole), len(stream))
		}
	})
}

func TestSeldom_CountsWhatItLeavesOut(t *testing.T) {
	var s seldom
	began := time.Unix(0, 0)
	for _, c := range []struct {
		after  time.Duration
		untold int
		ok     bool
	}{
		{0, 0, true}, {time.Second, 0, false}, {59 * time.Second, 0, false}, {time.Minute, 2, true}, {61 * time.Second, 0, false}, {time.Hour, 1, true},
	} {
		if untold, ok := s.tell(began.Add(c.after)); untold != c.untold || ok != c.ok {
			t.Errorf("after %v: %d, %v, want %d, %v", c.after, untold, ok, c.untold, c.ok)
		}
	}
}

// An answer with more codes than filters were asked for ends the connection, not the program, which it would if the client saw it.
func TestBoundedConn_EndsAtAnAnswerOfManyCodes(t *testing.T) {
	for body, want := range map[string]bool{"\x00\x01\x01": true, "\x00\x01": false, "\x00\x01\x01\x01": false} {
		c := &boundedConn{limit: 100, in: bufio.NewReader(strings.NewReader("\x90" + string(rune(len(body))) + body))}
		text, err := io.ReadAll(c)
		if (err == nil) != want || want && len(text) != 2+len(body) {
			t.Errorf("%q: %q, %v", body, text, err)
		}
	}
}
