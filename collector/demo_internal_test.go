package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fulgidus/heimdall/packaging/demo"
)

// The demo itself, with real agents, is proved in packaging/e2e.

// brokenAgent puts a heimdall-agent into PATH that ends at once.
func brokenAgent(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "heimdall-agent"), []byte("#!/bin/sh\necho starting\necho no scene here >&2\nexit 3\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
}

func TestDemoCmd_NeedsAnAgent(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	err := DemoCmd{}.Run(t.Context(), streams{out: io.Discard, err: io.Discard})
	if err == nil || !strings.Contains(err.Error(), "neither beside this program nor in PATH (`make build` makes both)") {
		t.Errorf("got %v", err)
	}
}

func TestDemoCmd_TellsWhyAStationEnded(t *testing.T) {
	brokenAgent(t)
	keep := filepath.Join(t.TempDir(), "kept")
	var out output
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1) // Run returns once
	go func() { ended <- DemoCmd{Exit: true, Keep: keep}.Run(ctx, streams{out: &out, err: io.Discard}) }()
	for _, s := range demo.Stations() {
		eventually(t, s.ID, func() bool {
			return strings.Contains(out.String(), "station "+s.ID+" ended: exit status 3\nstarting\nno scene here\n")
		})
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("after Ctrl-C: %v", err)
	}
	if !strings.Contains(out.String(), keep+" (kept)") || !strings.HasSuffix(out.String(), "\nStopped; the data is kept in "+keep+".\n") {
		t.Errorf("it does not say that the data is kept, and that it has stopped:\n%s", out.String())
	}
	if _, err := os.Stat(filepath.Join(keep, "heimdall-data", "heimdall.db")); err != nil {
		t.Error(err)
	}
}

func TestDemoCmd_SaysThatItStopped(t *testing.T) {
	brokenAgent(t)
	t.Setenv("TMPDIR", t.TempDir())
	var out output
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1) // Run returns once
	go func() { ended <- DemoCmd{}.Run(ctx, streams{out: &out, err: io.Discard}) }()
	eventually(t, "the demo", func() bool { return strings.Contains(out.String(), "Heimdall demo") })
	cancel()
	if err := <-ended; err != nil || !strings.HasSuffix(out.String(), "\nStopped; the data is removed.\n") {
		t.Errorf("%v\n%s", err, out.String())
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestOwnCommand_CanBeCopied(t *testing.T) {
	for started, want := range map[string]string{
		"bin/heimdall-collector":                 "bin/heimdall-collector",
		"./heimdall-collector":                   "./heimdall-collector",
		"heimdall-collector":                     "heimdall-collector",
		"/home/eva/new build/heimdall-collector": `"/home/eva/new build/heimdall-collector"`,
	} {
		if got := ownCommand(started); got != want {
			t.Errorf("started as %s: %s, want %s", started, got, want)
		}
	}
}

func TestOpenDemoCollector_MakesRoomForItself(t *testing.T) {
	var last string
	for range 2 { // the second finds the documented ports taken
		dir := t.TempDir()
		c, err := openDemoCollector(t.Context(), dir, quiet())
		if err != nil {
			t.Fatal(err)
		}
		defer c.close()
		if c.HTTPAddr() == last || !strings.HasPrefix(c.HTTPAddr(), "127.0.0.1:") || !strings.HasPrefix(c.BrokerURL(), "mqtt://127.0.0.1:") {
			t.Errorf("listens on %s and %s", c.HTTPAddr(), c.BrokerURL())
		}
		last = c.HTTPAddr()
	}
}

func TestDemoCmd_RemovesItsDirectory(t *testing.T) {
	dir, remove, err := DemoCmd{}.directory()
	if err != nil {
		t.Fatal(err)
	}
	if _, closeLog, err := demoLog(dir); err != nil {
		t.Error(err)
	} else {
		closeLog()
	}
	remove()
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", dir, err)
	}
}
