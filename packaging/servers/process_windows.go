package servers

import "syscall"

// The servers are not run on Windows, where these signals are refused. The package builds there so that all who use it are
// checked there.
const (
	signalPause  = syscall.Signal(0x13)
	signalResume = syscall.Signal(0x12)
)

// runAs is for root, who is not on Windows.
func runAs(int, int) *syscall.SysProcAttr { return &syscall.SysProcAttr{} }
