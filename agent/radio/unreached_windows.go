package radio

import "syscall"

// What a host, or a router on the way to it, says in place of an answer: the numbers of Winsock, which are not those that
// syscall names.
const (
	connRefused     = syscall.Errno(10061)
	connReset       = syscall.Errno(10054)
	hostUnreachable = syscall.Errno(10065)
	hostDown        = syscall.Errno(10064)
	netUnreachable  = syscall.Errno(10051)
)
