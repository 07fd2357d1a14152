package radio

import (
	"os"
	"os/exec"
	"syscall"
)

// ownGroup keeps this program's Ctrl-C from the other one.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
	dieWithParent(cmd.SysProcAttr)
}

// endGroup ends a program: there is no asking.
func endGroup(p *os.Process) { _ = p.Kill() }

func killGroup(p *os.Process) { _ = p.Kill() }
