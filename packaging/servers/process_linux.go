package servers

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }

type startRequest struct {
	cmd    *exec.Cmd
	result chan error // capacity 1: the starter never waits for its caller
}

// starter starts processes from one thread that lasts as long as the program: the kernel sends a parent's death signal
// when the *thread* that forked ends.
var starter = sync.OnceValue(func() chan<- startRequest {
	requests := make(chan startRequest)
	go func() {
		runtime.LockOSThread()
		for r := range requests {
			r.result <- r.cmd.Start()
		}
	}()
	return requests
})

func startOnLastingThread(cmd *exec.Cmd) error {
	r := startRequest{cmd: cmd, result: make(chan error, 1)}
	starter() <- r
	return <-r.result
}
