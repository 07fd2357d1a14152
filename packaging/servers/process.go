package servers

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// process is a server's child process. It dies with this process, also when that is killed.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed once the child has ended
}

// start runs the command with its output in logPath.
func start(cmd *exec.Cmd, logPath string) (*process, error) {
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log of %s: %w", cmd.Path, err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := StartChild(cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // the exit status of a stopped server says nothing
		close(p.done)
	}()
	return p, nil
}

// StartChild starts a process that dies with this one, also when that is killed.
func StartChild(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	dieWithParent(cmd.SysProcAttr)
	return startOnLastingThread(cmd)
}

// stop sends the signal and waits for the end; after 10 s it kills.
func (p *process) stop(sig syscall.Signal) {
	_ = p.cmd.Process.Signal(sig) // fails only when it has already ended
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// gone tells whether no process has this number.
func gone(pid int) bool {
	p, err := os.FindProcess(pid)
	return err != nil || errors.Is(p.Signal(syscall.Signal(0)), os.ErrProcessDone)
}

// Pause makes a process stand still until Resume.
func Pause(p *os.Process) error { return p.Signal(signalPause) }

// Resume ends a pause.
func Resume(p *os.Process) error { return p.Signal(signalResume) }
