package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is somebody who types at a program and reads what it shows.
type terminal struct {
	t      testing.TB
	cmd    *exec.Cmd
	master *os.File
	ended  chan struct{}

	mu    sync.Mutex // guards shown and read
	shown strings.Builder
	read  int // of shown, by waitFor
}

// atTerminal starts a program of ours at a terminal of its own.
func atTerminal(t testing.TB, cmd *exec.Cmd) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	control := int(master.Fd())
	if err := unix.IoctlSetPointerInt(control, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(control, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(control, unix.TIOCSWINSZ, &unix.Winsize{Row: 50, Col: 200}); err != nil {
		t.Fatal(err)
	}
	x := &terminal{t: t, cmd: cmd, master: master, ended: make(chan struct{})}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	go x.watch()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it has ended, if all is well
		<-x.ended
		_ = cmd.Wait() // end has, if all is well
		master.Close()
	})
	return x
}

// watch reads until the last process has left the terminal.
func (x *terminal) watch() {
	defer close(x.ended)
	buffer := make([]byte, 4096)
	for {
		n, err := x.master.Read(buffer)
		x.mu.Lock()
		x.shown.Write(buffer[:n])
		x.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// screen is all that was shown.
func (x *terminal) screen() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return strings.ReplaceAll(x.shown.String(), "\r\n", "\n")
}

// waitFor waits until something new is shown.
func (x *terminal) waitFor(what string) {
	x.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		x.mu.Lock()
		at := strings.Index(x.shown.String()[x.read:], what)
		if at >= 0 {
			x.read += at + len(what)
		}
		x.mu.Unlock()
		if at >= 0 {
			return
		}
		if time.Now().After(deadline) {
			x.t.Fatalf("never shown: %q in\n%s", what, x.screen())
		}
	}
}

// answer waits for a question and types the answer.
func (x *terminal) answer(question, answer string) {
	x.t.Helper()
	x.waitFor(question)
	x.press(answer + "\n")
}

func (x *terminal) press(keys string) {
	x.t.Helper()
	if _, err := x.master.WriteString(keys); err != nil {
		x.t.Fatal(err)
	}
}

// end waits for the end of the program and gives its exit code.
func (x *terminal) end() int {
	x.t.Helper()
	select {
	case <-x.ended:
	case <-time.After(time.Minute):
		x.t.Fatalf("it does not end:\n%s", x.screen())
	}
	_ = x.cmd.Wait() // the code is what counts
	return x.cmd.ProcessState.ExitCode()
}

// follows holds text against a transcript: patterns of lines in this order, with others between them.
func follows(t testing.TB, text string, transcript ...string) {
	t.Helper()
	rest := strings.Split(text, "\n")
	for _, want := range transcript {
		pattern := regexp.MustCompile("^" + want + "$")
		for len(rest) > 0 && !pattern.MatchString(strings.TrimSpace(rest[0])) {
			rest = rest[1:]
		}
		if len(rest) == 0 {
			t.Errorf("no line like %q (in this order) in\n%s", want, text)
			return
		}
		rest = rest[1:]
	}
}
