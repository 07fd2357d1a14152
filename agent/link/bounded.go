package link

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/fulgidus/heimdall/protocol"
)

const (
	// mostPacket bounds what a broker may announce: the largest message of the contract, and its topic. The client
	// allocates whatever length a packet begins with, up to 256 MiB, before a byte of it has arrived.
	mostPacket = protocol.MaxMessageBytes + 4<<10
	// readAhead is how much is read from the socket at once. The client asks for single bytes.
	readAhead = 4 << 10

	publishType = 3
	subackType  = 9
	// subackLength is an identifier and one code. The client (paho v1.5.1) ends the program at a code for which it asked nothing.
	subackLength = 3
)

var errTooLarge = errors.New("the broker announced a packet that no broker of Heimdall sends: see that mqtt.url names the right one")

var errSuback = errors.New("the broker answered a subscription with other than one code: see that mqtt.url names the right one")

// bounded passes on the packets of a broker, none over a limit. Of a message that is larger only the beginning goes on, with
// an empty payload, so that it says nothing and is acknowledged: were the connection ended, a broker that retains the message,
// or wants an answer to it, would end each one that follows. Any other packet over the limit ends it. Only the goroutine that
// reads uses it.
type bounded struct {
	in    *bufio.Reader
	limit int                           // bytes a packet after its fixed header
	cut   func(topic string, bytes int) // told of each message that is cut; bytes of its body as announced

	head []byte // to be passed on first
	body int    // then so many bytes
	rest int    // and so many are dropped
}

func newBounded(r io.Reader, limit int, cut func(topic string, bytes int)) bounded {
	return bounded{in: bufio.NewReaderSize(r, readAhead), limit: limit, cut: cut}
}

// Read passes on what is to be passed on.
func (b *bounded) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(b.head) == 0 && b.body == 0 {
		dropped, err := b.in.Discard(b.rest)
		if b.rest -= dropped; err != nil {
			return 0, err
		}
		if err := b.next(); err != nil {
			return 0, err
		}
	}
	if len(b.head) > 0 {
		n := copy(p, b.head)
		b.head = b.head[n:]
		return n, nil
	}
	n, err := b.in.Read(p[:min(len(p), b.body)])
	b.body -= n
	return n, err
}

// next reads the fixed header of a packet, MQTT 3.1.1 section 2.2. The error may be an errTooLarge.
func (b *bounded) next() error {
	first, err := b.in.ReadByte()
	if err != nil {
		return err
	}
	head, length := []byte{first}, 0
	for shift := 0; ; shift += 7 {
		// Remaining length: seven bits a byte, least significant first, four bytes at most.
		digit, err := b.in.ReadByte()
		if err != nil {
			return err
		}
		head = append(head, digit)
		length |= int(digit&0x7f) << shift
		if digit&0x80 == 0 {
			break
		}
		if shift == 21 {
			return fmt.Errorf("%w (without an end to its length; the limit is %d bytes)", errTooLarge, b.limit)
		}
	}
	switch {
	case first>>4 == subackType && length <= b.limit && length != subackLength:
		return errSuback
	case length <= b.limit:
		b.head, b.body = head, length
		return nil
	case first>>4 != publishType:
		return fmt.Errorf("%w (%d bytes; the limit is %d)", errTooLarge, length, b.limit)
	}
	return b.empty(first, length)
}

// empty passes on a message without its payload.
func (b *bounded) empty(first byte, length int) error {
	size, err := b.in.Peek(2)
	if err != nil {
		return err
	}
	topic := 2 + int(binary.BigEndian.Uint16(size))
	kept := topic
	if first&0x06 != 0 {
		kept += 2 // the packet identifier of a message that is to be acknowledged
	}
	if kept > length {
		return fmt.Errorf("%w (a message of %d bytes with a topic of %d)", errTooLarge, length, topic-2)
	}
	head := appendLength([]byte{first}, kept)
	begin := len(head)
	head = append(head, make([]byte, kept)...)
	if _, err := io.ReadFull(b.in, head[begin:]); err != nil {
		return err
	}
	b.cut(string(head[begin+2:begin+topic]), length)
	b.head, b.rest = head, length-kept
	return nil
}

func appendLength(b []byte, n int) []byte {
	for ; n > 0x7f; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}
