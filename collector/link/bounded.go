package link

import (
	"fmt"
	"net"
)

// boundedConn ends a connection whose other side announces a packet over a limit. paho allocates whatever length the
// fixed header of a packet announces, up to 256 MiB, before a byte of it has arrived.
type boundedConn struct {
	net.Conn
	limit int // bytes a packet after its fixed header

	// Where the reader is in the stream. Only the reading goroutine touches these.
	body   int  // bytes of the packet's body still to come
	length int  // as decoded so far
	shift  uint // of the next length digit
	header bool // inside the fixed header, after its first byte
}

// Read passes bytes on until one announces too much.
func (c *boundedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if over := c.scan(p[:n]); over != nil {
		return 0, over
	}
	return n, err
}

func (c *boundedConn) scan(p []byte) error {
	for len(p) > 0 {
		if c.body > 0 {
			n := min(c.body, len(p))
			c.body -= n
			p = p[n:]
			continue
		}
		b := p[0]
		p = p[1:]
		if !c.header {
			c.header, c.length, c.shift = true, 0, 0
			continue
		}
		// Remaining length, MQTT 3.1.1 section 2.2.3: seven bits a byte, least significant first.
		c.length |= int(b&0x7f) << c.shift
		c.shift += 7
		if c.length > c.limit || c.shift > 28 {
			return fmt.Errorf("the broker announced a packet of %d bytes, over the limit of %d", c.length, c.limit)
		}
		if b&0x80 == 0 {
			c.header, c.body = false, c.length
		}
	}
	return nil
}
