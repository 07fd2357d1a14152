package radio

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// endGrace is how long a program may take to end in order before it is killed.
const endGrace = 2 * time.Second

// child is a program of ours, in a process group of its own: it and all that it starts end with it, and on Linux it ends with
// this process, however that ends.
type child struct {
	cmd    *exec.Cmd
	stdout *os.File      // what it writes; nil where that was not asked for
	heard  chan struct{} // closed when its standard error has ended
	gone   chan struct{} // closed when it has ended; err is set then
	err    error
	once   sync.Once
}

// startChild runs a program. What it says on its standard error goes to said, in pieces as they come, from one goroutine. With
// output, its standard output is to be read from the child, else it is thrown away. Messages are in English, so that they can be
// understood.
func startChild(words []string, output bool, said func([]byte)) (*child, error) {
	cmd := exec.Command(words[0], words[1:]...) //nolint:noctx // it lives as long as its owner says, and ends in order
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	ownGroup(cmd)
	c := &child{cmd: cmd, heard: make(chan struct{}), gone: make(chan struct{})}
	stderr, saying, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", words[0], err)
	}
	cmd.Stderr = saying
	ours, theirs := []*os.File{stderr}, []*os.File{saying}
	if output {
		out, writing, err := os.Pipe()
		if err != nil {
			closeAll(ours, theirs)
			return nil, fmt.Errorf("start %s: %w", words[0], err)
		}
		widen(out)
		c.stdout, cmd.Stdout = out, writing
		ours, theirs = append(ours, out), append(theirs, writing)
	}
	err = cmd.Start()
	closeAll(theirs)
	if err != nil {
		closeAll(ours)
		return nil, err
	}
	go c.listen(stderr, said)
	go c.await(stderr)
	return c, nil
}

func closeAll(lists ...[]*os.File) {
	for _, files := range lists {
		for _, f := range files {
			f.Close()
		}
	}
}

// listen hands on what the program says until nobody can say anything any more.
func (c *child) listen(stderr io.Reader, said func([]byte)) {
	defer close(c.heard)
	buf := make([]byte, 4096)
	for {
		n, err := stderr.Read(buf)
		if n > 0 {
			said(buf[:n])
		}
		if err != nil {
			return
		}
	}
}

// await waits for the program's end and takes what is left of its group along.
func (c *child) await(stderr io.Closer) {
	c.err = c.cmd.Wait()
	killGroup(c.cmd.Process)
	select { // what it said last; a process that has left the group may hold the pipe open
	case <-c.heard:
	case <-time.After(endGrace):
	}
	stderr.Close()
	<-c.heard
	if c.stdout != nil { // the same for its output
		_ = c.stdout.SetReadDeadline(time.Now().Add(endGrace))
	}
	close(c.gone)
}

// endAfter waits for a while for the program to end by itself, and then has it end.
func (c *child) endAfter(d time.Duration) {
	select {
	case <-c.gone:
	case <-time.After(d):
		c.end()
	}
}

// end asks the program to end, and sees to it that it does. It returns at once and may be called more than once.
func (c *child) end() {
	c.once.Do(func() {
		select {
		case <-c.gone:
			return
		default:
		}
		endGroup(c.cmd.Process)
		go func() {
			select {
			case <-c.gone:
			case <-time.After(endGrace):
				killGroup(c.cmd.Process)
			}
		}()
	})
}

// wait waits until the program has ended, in order or not, and says how. It does not end it.
func (c *child) wait() error {
	<-c.gone
	return c.err
}

// how is the end of a program in words: exit status 1, killed.
func (c *child) how() string {
	err := c.wait()
	if err == nil {
		return "exit status 0"
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ProcessState.String()
	}
	return err.Error()
}
