package radio

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// wakeAt has a connection that waits be woken when so many bytes have come, or when it ends. Where that cannot be, any bytes
// wake it, which does too.
func wakeAt(conn net.Conn, bytes int) {
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVLOWAT, bytes) })
}
