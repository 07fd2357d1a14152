package radio

import (
	"context"
	"net"
)

// OpenRTLTCPOver is Open for rtltcp: with connections of the caller's making.
func OpenRTLTCPOver(dial func(ctx context.Context, network, address string) (net.Conn, error), source string, opts Options) (Receiver, error) {
	r, err := Open(source, opts)
	if err != nil {
		return nil, err
	}
	r.(*live).wire.(*rtlWire).dial = dial
	return r, nil
}

// RTLSaid is what becomes of what rtl_tcp says.
func RTLSaid(said string) string { return rtlMend(said) + lastLine(said) }
