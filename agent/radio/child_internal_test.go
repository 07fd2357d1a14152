//go:build unix

package radio

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// saying gathers what a child says.
type saying struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *saying) write(p []byte) { s.mu.Lock(); defer s.mu.Unlock(); s.text.Write(p) }
func (s *saying) String() string { s.mu.Lock(); defer s.mu.Unlock(); return s.text.String() }

func shell(t *testing.T, script string) (*child, *saying) {
	t.Helper()
	var said saying
	c, err := startChild([]string{"sh", "-c", script}, true, said.write)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.end()
		_ = c.wait()
		c.stdout.Close()
	})
	return c, &said
}

func TestChild_Ends(t *testing.T) {
	for _, tc := range []struct{ script, how, said, wrote string }{
		{"echo x; echo y >&2", "exit status 0", "y\n", "x\n"},
		{"echo no device >&2; exit 3", "exit status 3", "no device\n", ""},
		{"kill -9 $$", "signal: killed", "", ""},
		{`printf '%s' "$LC_ALL"`, "exit status 0", "", "C"},
	} {
		c, said := shell(t, tc.script)
		wrote, err := io.ReadAll(c.stdout)
		if err != nil {
			t.Error(err)
		}
		if how := c.how(); how != tc.how || said.String() != tc.said || string(wrote) != tc.wrote {
			t.Errorf("%s: %q, said %q, wrote %q, want %q, %q, %q", tc.script, how, said, wrote, tc.how, tc.said, tc.wrote)
		}
	}
	if _, err := startChild([]string{"/nowhere/at all"}, true, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an absent program: %v", err)
	}
}

// alive tells whether a process is there and no zombie that its parent forgot.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || !strings.Contains(string(stat), ") Z ")
}

// Whatever a program does, neither it nor what it has started is left.
func TestChild_TakesItsGroupAlong(t *testing.T) {
	for _, tc := range []struct{ name, script string }{
		{"pipeline", "sleep 600 | cat & echo $!; wait"},
		{"ignores TERM", "trap '' TERM; sleep 600 & echo $!; while :; do wait; done"},
		{"leaves a child behind", "sleep 600 & echo $!; exit 0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, _ := shell(t, tc.script)
			line := make([]byte, 32)
			n, err := c.stdout.Read(line)
			if err != nil {
				t.Fatal(err)
			}
			pid, err := strconv.Atoi(strings.TrimSpace(string(line[:n])))
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			c.end()
			c.end()
			_ = c.wait()
			if took := time.Since(began); took > endGrace+2*time.Second {
				t.Errorf("took %s to end", took)
			}
			for deadline := time.Now().Add(5 * time.Second); alive(pid); {
				if time.Now().After(deadline) {
					t.Fatalf("process %d is still there", pid)
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
}

// A program does not outlive the process that has started it, however that ends.
func TestChild_EndsWithUs(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the kernel does this on Linux only")
	}
	const mark = "HEIMDALL_TEST_PARENT"
	if os.Getenv(mark) != "" { // this is the process that will be killed
		c, err := startChild([]string{"sleep", "600"}, false, func([]byte) {})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println(c.cmd.Process.Pid)
		_ = c.wait()
		return
	}
	parent := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChild_EndsWithUs$")
	parent.Env = append(os.Environ(), mark+"=1")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	_, err = fmt.Fscanln(out, &pid)
	_ = parent.Process.Kill()
	_ = parent.Wait()
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); alive(pid); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			t.Fatalf("process %d has outlived the one that started it", pid)
		}
	}
}
