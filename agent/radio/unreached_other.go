//go:build !windows

package radio

import "syscall"

// What a host, or a router on the way to it, says in place of an answer.
const (
	errRefused         = syscall.ECONNREFUSED
	errReset           = syscall.ECONNRESET
	errBroken          = syscall.EPIPE
	errHostUnreachable = syscall.EHOSTUNREACH
	errHostDown        = syscall.EHOSTDOWN
	errNetUnreachable  = syscall.ENETUNREACH
)
