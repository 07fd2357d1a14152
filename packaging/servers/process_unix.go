//go:build unix

package servers

import "syscall"

const (
	signalPause  = syscall.SIGSTOP
	signalResume = syscall.SIGCONT
)

// runAs makes a process another account's.
func runAs(uid, gid int) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
}
