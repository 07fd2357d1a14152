package soak

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fulgidus/heimdall/packaging/servers"
)

// child is one of our programs. One actor at a time starts and ends it.
type child struct {
	name string
	path string
	args []string
	env  []string
	log  string // path; lives of the process follow one another
	from int64  // where in the log the present life begins

	cmd  *exec.Cmd
	done chan struct{} // closed when the present life has ended
	live atomic.Bool
}

// start begins a life, with more environment.
func (c *child) start(env ...string) error {
	log, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the log of %s: %w", c.name, err)
	}
	defer log.Close()
	if at, err := log.Seek(0, 2); err == nil {
		c.from = at
	}
	c.cmd = exec.Command(c.path, c.args...)
	c.cmd.Env = append(append(os.Environ(), c.env...), env...)
	c.cmd.Stdout, c.cmd.Stderr = log, log
	if err := servers.StartChild(c.cmd); err != nil {
		return fmt.Errorf("start %s: %w", c.name, err)
	}
	c.done = make(chan struct{})
	c.live.Store(true)
	go func(cmd *exec.Cmd, done chan struct{}) { // ends with the process, which kill and stop wait for
		_ = cmd.Wait() // the exit code is asked for where it matters
		c.live.Store(false)
		close(done)
	}(c.cmd, c.done)
	return nil
}

// running tells whether a life is under way.
func (c *child) running() bool { return c.cmd != nil && c.live.Load() }

// kill ends the life as a power cut would.
func (c *child) kill() {
	if c.cmd == nil {
		return
	}
	_ = c.cmd.Process.Kill() // fails only when it has ended
	<-c.done
}

// stop asks it to end, and tells whether it did in time.
func (c *child) stop(patience time.Duration) bool {
	if !c.running() {
		return true
	}
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.done:
		return true
	case <-time.After(patience):
		c.kill()
		return false
	}
}

func (c *child) pause()  { _ = servers.Pause(c.cmd.Process) }
func (c *child) resume() { _ = servers.Resume(c.cmd.Process) }

// said tells whether the present life has logged a text.
func (c *child) said(text string) bool {
	all, err := os.ReadFile(c.log)
	return err == nil && int64(len(all)) > c.from && bytes.Contains(all[c.from:], []byte(text))
}

// lastWords is the end of what the present life has logged.
func (c *child) lastWords() string {
	all, err := os.ReadFile(c.log)
	if err != nil || int64(len(all)) < c.from {
		return ""
	}
	own := all[c.from:]
	return string(bytes.TrimSpace(own[max(0, len(own)-600):]))
}
