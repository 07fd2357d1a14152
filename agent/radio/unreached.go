package radio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
)

// unreached is why a server could not be reached, with what to do about it; begin says how to have its program listen.
func unreached(where, begin string, err error) error {
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound {
		return fmt.Errorf("%s: the host's name leads nowhere: look at its spelling, and at the network of this computer: %w", where, err)
	}
	switch {
	case errors.Is(err, errRefused):
		return fmt.Errorf("%s: nobody listens there: %s: %w", where, begin, err)
	case errors.Is(err, errHostUnreachable), errors.Is(err, errHostDown), errors.Is(err, errNetUnreachable):
		return fmt.Errorf("%s: there is no way to that host: look whether it is on, and at the address: %w", where, err)
	case hungUp(err):
		return fmt.Errorf("%s: the server hung up before it said anything: look at the address and the port: %w", where, err)
	case timedOut(err):
		return fmt.Errorf("%s: no answer: look at the address and the port, and for a firewall between: %w", where, err)
	}
	return fmt.Errorf("%s: connect: %w", where, err)
}

// hungUp tells whether the other side ended the connection.
func hungUp(err error) bool {
	switch {
	case err == nil:
		return false
	case errors.Is(err, io.EOF), errors.Is(err, errReset), errors.Is(err, errBroken):
		return true
	}
	return strings.Contains(err.Error(), "server closed idle connection") // net/http has no name for it: before the request was sent
}

func timedOut(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)
}

// noSocket is why a web server opened no web socket; kind is what should be there, and resp its answer, if any.
func noSocket(where, kind, begin string, resp *http.Response, err error) error {
	// net/http has no name for what is no HTTP, and cites it, nor for a server that speaks before it is asked.
	if text := err.Error(); strings.Contains(text, "malformed HTTP") || strings.Contains(text, "readLoopPeekFail") {
		return fmt.Errorf("%s: what answers there is no web server: look at the address and the port", where)
	}
	if resp == nil || resp.StatusCode == http.StatusSwitchingProtocols {
		return unreached(where, begin, err)
	}
	why := "opens no connection as that of " + kind + " does: look at the address and the port"
	switch {
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		why = "lets nobody in without leave: ask its owner"
	case resp.StatusCode >= http.StatusInternalServerError:
		why = "stands before " + kind + ", which does not answer, or is in trouble itself: try later, or tell its owner"
	}
	return fmt.Errorf("%s: the web server there, with %s, %s: %w", where, resp.Status, why, err)
}
