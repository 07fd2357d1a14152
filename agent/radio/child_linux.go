package radio

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// dieWithParent kills the program when the thread that started it ends. Threads of this program end with it: none is locked to
// a goroutine.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }

// pipeBytes lets a program write on while this one is busy for a moment: 0.2 s at 2.4 Msps of 8 bit.
const pipeBytes = 1 << 20

// widen makes a pipe as wide as it may be. The usual width does too.
func widen(pipe *os.File) {
	raw, err := pipe.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeBytes) })
}
