package link

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"

	"github.com/fulgidus/heimdall/protocol"
)

// boundedConn lets no packet through that is over a limit: paho allocates whatever length the fixed header of a packet
// announces, up to 256 MiB, before a byte of it has arrived. A message is cut to what is still too large for one, so that it
// is refused like any other that is, and acknowledged: were the connection ended, a broker that retains the message would end
// each one that follows. Any other packet over the limit ends it.
type boundedConn struct {
	net.Conn
	limit int                           // bytes a packet after its fixed header
	cut   func(topic string, bytes int) // told of each message that is cut; bytes of its body as announced

	// Where the reader is in the stream. Only the reading goroutine touches these.
	in   *bufio.Reader
	head []byte // to be passed on first
	body int    // then so many bytes
	rest int    // and so many are dropped
}

const (
	publishType = 3
	subackType  = 9
	// subackLength is an identifier and one code. paho v1.5.1 ends the program at a code for which it asked nothing.
	subackLength = 3
	// keptPayload is how much of the payload of a message that is cut is passed on.
	keptPayload = protocol.MaxMessageBytes + 1
)

func newBoundedConn(conn net.Conn, limit int, cut func(topic string, bytes int)) *boundedConn {
	return &boundedConn{Conn: conn, limit: limit, cut: cut, in: bufio.NewReader(conn)}
}

// Read passes on what is to be passed on.
func (c *boundedConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(c.head) == 0 && c.body == 0 {
		dropped, err := c.in.Discard(c.rest)
		if c.rest -= dropped; err != nil {
			return 0, err
		}
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	if len(c.head) > 0 {
		n := copy(p, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	n, err := c.in.Read(p[:min(len(p), c.body)])
	c.body -= n
	return n, err
}

// next reads the fixed header of a packet, MQTT 3.1.1 section 2.2.
func (c *boundedConn) next() error {
	first, err := c.in.ReadByte()
	if err != nil {
		return err
	}
	head, length := []byte{first}, 0
	for shift := 0; ; shift += 7 {
		// Remaining length: seven bits a byte, least significant first, four bytes at most.
		b, err := c.in.ReadByte()
		if err != nil {
			return err
		}
		head = append(head, b)
		length |= int(b&0x7f) << shift
		if b&0x80 == 0 {
			break
		}
		if shift == 21 {
			return fmt.Errorf("the broker announced a packet without an end to its length: %x", head)
		}
	}
	if first>>4 == subackType && length <= c.limit && length != subackLength {
		return fmt.Errorf("the broker answered a subscription with %d bytes, not with one code: see that mqtt.url names the right one", length)
	}
	if length <= c.limit {
		c.head, c.body = head, length
		return nil
	}
	if first>>4 != publishType {
		return fmt.Errorf("the broker announced a packet of %d bytes, over the limit of %d", length, c.limit)
	}
	return c.shorten(first, length)
}

// shorten passes on a message that is over the limit as a shorter one.
func (c *boundedConn) shorten(first byte, length int) error {
	size, err := c.in.Peek(2)
	if err != nil {
		return err
	}
	name := make([]byte, 2+int(binary.BigEndian.Uint16(size)))
	kept := len(name) + keptPayload
	if first&0x06 != 0 {
		kept += 2 // the packet identifier of a message that is to be acknowledged
	}
	if kept > length {
		return fmt.Errorf("the broker announced a message of %d bytes with a topic of %d, over the limit of %d", length, len(name)-2, c.limit)
	}
	if _, err := io.ReadFull(c.in, name); err != nil {
		return err
	}
	c.cut(string(name[2:]), length)
	c.head = append(appendLength([]byte{first}, kept), name...)
	c.body, c.rest = kept-len(name), length-kept
	return nil
}

func appendLength(b []byte, n int) []byte {
	for ; n > 0x7f; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}
