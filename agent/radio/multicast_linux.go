package radio

import (
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// onlyJoined keeps a socket from getting the packets of groups that other sockets of this machine have joined on its port:
// all radiods send to the same one.
func onlyJoined(conn *net.UDPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) {
		failed = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MULTICAST_ALL, 0))
	}); err != nil {
		return err
	}
	return failed
}
