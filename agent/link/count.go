package link

import (
	"errors"
	"net"
)

// errUsedUp ends a session because nothing may be sent any more.
var errUsedUp = errors.New("the bytes of the day are used up")

// counted tells of all that is written, with what TLS adds.
type counted struct {
	net.Conn
	wrote func(bytes int)
}

func (c counted) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.wrote(n)
	return n, err
}

// usedUp tells whether nothing may be sent.
func (c Config) usedUp() bool { return c.UsedUp != nil && c.UsedUp() }
