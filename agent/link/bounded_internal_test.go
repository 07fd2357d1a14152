package link

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/iotest"
)

// packet is a packet of MQTT with a body that would be an endless length in a header.
func packet(first byte, body int) []byte {
	return append(appendLength([]byte{first}, body), bytes.Repeat([]byte{0xff}, body)...)
}

// published is a PUBLISH packet.
func published(first byte, topic string, payload int) []byte {
	body := append([]byte{byte(len(topic) >> 8), byte(len(topic))}, topic...)
	if first&0x06 != 0 {
		body = append(body, 1, 2)
	}
	body = append(body, bytes.Repeat([]byte{0xff}, payload)...)
	return append(appendLength([]byte{first}, len(body)), body...)
}

// cuts are ways in which a stream may arrive.
func cuts(stream []byte) map[string]io.Reader {
	return map[string]io.Reader{
		"whole": bytes.NewReader(stream), "one by one": iotest.OneByteReader(bytes.NewReader(stream)), "halves": iotest.HalfReader(bytes.NewReader(stream)),
	}
}

func TestBounded_FollowsPacketsHoweverTheyAreCut(t *testing.T) {
	var stream []byte
	for _, size := range []int{0, 1, 127, 128, 5000, 3, 16_383, 16_384} {
		stream = append(stream, packet(0xd0, size)...)
	}
	for name, r := range cuts(stream) {
		b := newBounded(r, 16_384, nil)
		got, err := io.ReadAll(&b)
		if err != nil || !bytes.Equal(got, stream) {
			t.Errorf("%s: %d bytes and %v, want all %d", name, len(got), err, len(stream))
		}
	}
	for name, over := range map[string][]byte{
		"a packet over the limit":   stream,
		"a length of five bytes":    {0x30, 0xff, 0xff, 0xff, 0xff, 1},
		"a topic beyond the packet": append(appendLength([]byte{0x30}, 20_000), 0xff, 0xff),
	} {
		b := newBounded(bytes.NewReader(over), 16_383, nil)
		if _, err := io.ReadAll(&b); !errors.Is(err, errTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A message that is too large comes without its payload, with the identifier that it is acknowledged by; what follows it is
// untouched.
func TestBounded_EmptiesAMessageThatIsTooLarge(t *testing.T) {
	for _, first := range []byte{0x30, 0x33} {
		before, after := packet(0xd0, 5), published(first, "a/b", 7)
		stream := slices.Concat(before, published(first, "heimdall/v1/torino/command", 3<<20), after)
		want := slices.Concat(before, published(first, "heimdall/v1/torino/command", 0), after)
		for name, r := range cuts(stream) {
			var told []string
			b := newBounded(r, mostPacket, func(topic string, n int) { told = append(told, fmt.Sprint(topic, " ", n>>20)) })
			got, err := io.ReadAll(&b)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%x, %s: %d bytes and %v, want %d", first, name, len(got), err, len(want))
			}
			if fmt.Sprint(told) != "[heimdall/v1/torino/command 3]" {
				t.Errorf("told %v", told)
			}
		}
	}
}

func FuzzBounded(f *testing.F) {
	f.Add([]byte{0x90, 0xff, 0xff, 0xff, 0xff, 0x01}, 1)
	f.Add([]byte{0x30, 0x80, 0x80, 0x80, 0x80, 0x01}, 3)
	f.Add([]byte{0xd0, 0, 0x30, 2, 1, 2}, 2)
	f.Add(append(packet(0xd0, 300), packet(0xd0, 1000)...), 302)
	f.Add(append(published(0x32, "t", 2000), published(0x30, "t", 3)...), 7)
	f.Add(append(appendLength([]byte{0x30}, 2000), 0xff, 0xff), 4)
	f.Fuzz(func(t *testing.T, stream []byte, cut int) {
		const limit = 1000
		read := func(r io.Reader) ([]byte, string, error) {
			var told []byte
			b := newBounded(r, limit, func(topic string, n int) { told = fmt.Appendf(told, "%q %d ", topic, n) })
			got, err := io.ReadAll(&b)
			return got, string(told), err
		}
		cut = max(0, min(cut, len(stream)))
		whole, told, err := read(bytes.NewReader(stream))
		parts, toldParts, errParts := read(io.MultiReader(bytes.NewReader(stream[:cut]), bytes.NewReader(stream[cut:])))
		single, toldSingle, errSingle := read(iotest.OneByteReader(bytes.NewReader(stream)))
		if !bytes.Equal(whole, parts) || told != toldParts || fmt.Sprint(err) != fmt.Sprint(errParts) {
			t.Errorf("whole: %d bytes, %s, %v; in two parts: %d bytes, %s, %v", len(whole), told, err, len(parts), toldParts, errParts)
		}
		if !bytes.Equal(whole, single) || told != toldSingle || fmt.Sprint(err) != fmt.Sprint(errSingle) {
			t.Errorf("whole: %d bytes, %s, %v; one by one: %d bytes, %s, %v", len(whole), told, err, len(single), toldSingle, errSingle)
		}
		if len(whole) > len(stream) {
			t.Errorf("%d bytes came out of %d", len(whole), len(stream))
		}
	})
}
