package radio

import "syscall"

// What a host, or a router on the way to it, says in place of an answer: the numbers of Winsock, which are not those that
// syscall names.
const (
	errRefused         = syscall.Errno(10061)
	errReset           = syscall.Errno(10054)
	errBroken          = syscall.Errno(10053)
	errHostUnreachable = syscall.Errno(10065)
	errHostDown        = syscall.Errno(10064)
	errNetUnreachable  = syscall.Errno(10051)
)
