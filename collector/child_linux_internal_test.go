//go:build linux

package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/fulgidus/heimdall/packaging/demo"
)

// keepOfDemo names the directory of the demo that TestDemoProcess is.
const keepOfDemo = "HEIMDALL_TEST_DEMO_KEEP"

// TestDemoProcess is the demo that TestDemoCmd_EndsItsAgentsWhenKilled kills.
func TestDemoProcess(t *testing.T) {
	if keep := os.Getenv(keepOfDemo); keep != "" {
		t.Log(DemoCmd{Keep: keep}.Run(t.Context(), streams{out: io.Discard, err: io.Discard}))
	}
}

func TestDemoCmd_EndsItsAgentsWhenKilled(t *testing.T) {
	dir, keep := t.TempDir(), t.TempDir()
	agent := "#!/bin/sh\necho $$ > \"$3.pid\"\nexec sleep 600\n" // $3 is the configuration
	if err := os.WriteFile(filepath.Join(dir, "heimdall-agent"), []byte(agent), 0o700); err != nil {
		t.Fatal(err)
	}
	process := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDemoProcess$")
	process.Env = append(os.Environ(), keepOfDemo+"="+keep, "PATH="+dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	pids := map[string]int{}
	for _, s := range demo.Stations() {
		eventually(t, "the agent of "+s.ID, func() bool {
			text, err := os.ReadFile(filepath.Join(keep, s.ID, "agent.yaml.pid"))
			pid, bad := strconv.Atoi(strings.TrimSpace(string(text)))
			pids[s.ID] = pid
			return err == nil && bad == nil
		})
	}
	t.Cleanup(func() {
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL) // where the test failed
		}
	})
	for id, pid := range pids {
		if !runs(pid) {
			t.Errorf("the agent of %s is over before its demo", id)
		}
	}
	if err := process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = process.Wait() // it was killed
	for id, pid := range pids {
		eventually(t, "the end of the agent of "+id, func() bool { return !runs(pid) })
	}
}

// runs tells whether a process does anything any more: one that has ended may still await who asks how.
func runs(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !bytes.Contains(stat, []byte(") Z "))
}
