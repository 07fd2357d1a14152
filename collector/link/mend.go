package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// connectError says in one line why there is no connection, and the mend where one is known. paho adds that it was the
// network, and net names the address.
func (c *Client) connectError(err error) error {
	mend := c.mend(err)
	if both, ok := err.(interface{ Unwrap() []error }); ok && errors.Is(err, packets.ErrorNetworkError) {
		all := both.Unwrap()
		err = all[len(all)-1]
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Err != nil {
		err = op.Err
	}
	if mend != "" {
		return fmt.Errorf("connect to %s: %w; %s", c.broker.Host, err, mend)
	}
	return fmt.Errorf("connect to %s: %w", c.broker.Host, err)
}

// mend is what to do about an error of a connection that did not come about.
func (c *Client) mend(err error) string {
	secure := c.broker.Scheme == "mqtts"
	op, _ := errors.AsType[*net.OpError](err)
	_, noName := errors.AsType[*net.DNSError](err)
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	_, plain := errors.AsType[tls.RecordHeaderError](err)
	closed := errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
	switch {
	case errors.Is(err, packets.ErrorRefusedNotAuthorised), errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword):
		if c.cfg.Username == "" {
			return "set mqtt.username and mqtt.password to an account of the broker"
		}
		return fmt.Sprintf("the broker refuses the user %q: correct mqtt.username and mqtt.password", c.cfg.Username)
	case noName:
		return "correct mqtt.url"
	case untrusted:
		return "name the authority that signed the broker's certificate in mqtt.ca, or the host that it is made for in mqtt.url"
	case secure && (plain || closed):
		return "the port may not speak TLS: correct the port in mqtt.url, or write mqtt://"
	case closed:
		return "the port may be that of TLS, or of something else than a broker: write mqtts://, or correct mqtt.url"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "nothing answers as a broker there: see that it runs and can be reached, or correct mqtt.url"
	case op != nil && op.Op == "dial":
		return "start it, or correct mqtt.url"
	}
	return ""
}
