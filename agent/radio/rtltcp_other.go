//go:build !linux

package radio

import "net"

// wakeAt has nothing to do on systems on which any bytes wake a connection that waits.
func wakeAt(net.Conn, int) {}
