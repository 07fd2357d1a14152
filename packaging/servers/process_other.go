//go:build !linux

package servers

import (
	"os/exec"
	"syscall"
)

func dieWithParent(*syscall.SysProcAttr) {}

func startOnLastingThread(cmd *exec.Cmd) error { return cmd.Start() }
