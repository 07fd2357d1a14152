package radio

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"syscall"
)

// unreached is why a server could not be reached, with what to do about it; begin says how to have its program listen.
func unreached(where, begin string, err error) error {
	if _, unknown := errors.AsType[*net.DNSError](err); unknown {
		return fmt.Errorf("%s: the host's name leads nowhere: look at its spelling, and at the network of this computer: %w", where, err)
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%s: nobody listens there: %s: %w", where, begin, err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%s: no answer: look at the address and the port, and for a firewall between: %w", where, err)
	}
	return fmt.Errorf("%s: connect: %w", where, err)
}

// noSocket is why a web server opened no web socket; kind is what should be there, and resp its answer, if any.
func noSocket(where, kind, begin string, resp *http.Response, err error) error {
	if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("%s: what answers there, with %s, is no %s: look at the address and the port: %w", where, resp.Status, kind, err)
	}
	return unreached(where, begin, err)
}
