//go:build !linux

package radio

import "net"

// onlyJoined has nothing to do on systems on which a socket gets the groups that it has joined.
func onlyJoined(*net.UDPConn) error { return nil }
