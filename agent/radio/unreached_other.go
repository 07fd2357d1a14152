//go:build !windows

package radio

import "syscall"

// What a host, or a router on the way to it, says in place of an answer.
const (
	connRefused     = syscall.ECONNREFUSED
	connReset       = syscall.ECONNRESET
	hostUnreachable = syscall.EHOSTUNREACH
	hostDown        = syscall.EHOSTDOWN
	netUnreachable  = syscall.ENETUNREACH
)
