//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// child is a process whose work is measured. Those of this program speak in lines: they say "ready", and begin at "go".
type child struct {
	name string
	log  string // path
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Scanner
}

// start starts a program with its messages in a file. The program ends with this one, also when that is killed: the kernel
// sees to it as long as the thread that started it lives, which is why all are started by main.
func start(ctx context.Context, name, log, path string, args ...string) (*child, error) {
	file, err := os.Create(log)
	if err != nil {
		return nil, fmt.Errorf("make the log of %s: %w", name, err)
	}
	defer file.Close()
	c := &child{name: name, log: log, cmd: exec.CommandContext(ctx, path, args...)}
	c.cmd.Stderr = file
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	c.out = bufio.NewScanner(out)
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return c, nil
}

// self starts this program again in one of its other roles.
func self(ctx context.Context, log, role string, args ...string) (*child, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	return start(ctx, role, log, path, append([]string{role}, args...)...)
}

// expect waits until the child says a word, and returns what follows it.
func (c *child) expect(word string) (string, error) {
	for c.out.Scan() {
		if rest, ok := strings.CutPrefix(c.out.Text(), word); ok {
			return strings.TrimSpace(rest), nil
		}
	}
	return "", fmt.Errorf("%s ended before it was %s:\n%s", c.name, word, c.tail())
}

// tell sends the child a word, and returns when it did.
func (c *child) tell(word string) (time.Time, error) {
	now := time.Now()
	if _, err := io.WriteString(c.in, word+"\n"); err != nil {
		return now, fmt.Errorf("tell %s to %s: %w", c.name, word, err)
	}
	return now, nil
}

func (c *child) tail() string {
	const most = 2000
	text, err := os.ReadFile(c.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-most):])
}

// finish lets a child end that ends when nobody speaks to it any more.
func (c *child) finish() error {
	c.in.Close()
	for c.out.Scan() { // what it still says
	}
	return c.ended()
}

// stop ends a server in an orderly way.
func (c *child) stop() error {
	const grace = 10 * time.Second
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", c.name, err)
	}
	kill := time.AfterFunc(grace, func() { _ = c.cmd.Process.Kill() }) // it may have ended by itself
	defer kill.Stop()
	return c.finish()
}

func (c *child) ended() error {
	if err := c.cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w:\n%s", c.name, err, c.tail())
	}
	return nil
}

func (c *child) cpu() time.Duration { return processCPU(c.cmd.Process.Pid) }

// memory is a line of the child's status in bytes: VmHWM is the most that was ever resident, RssAnon what is not of files.
func (c *child) memory(line string) int64 {
	return number(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid), line) << 10
}

// written is how many bytes the child has had written to disk.
func (c *child) written() int64 {
	return number(fmt.Sprintf("/proc/%d/io", c.cmd.Process.Pid), "write_bytes")
}

// number is the first number of a line of a file of the kernel; 0 when there is none.
func number(path, line string) int64 {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for _, l := range strings.Split(string(text), "\n") {
		if rest, ok := strings.CutPrefix(l, line+":"); ok {
			n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64) // 0, then
			return n
		}
	}
	return 0
}
