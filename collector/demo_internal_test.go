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
	if !strings.Contains(out.String(), keep+" (kept)") {
		t.Errorf("it does not say that the data is kept:\n%s", out.String())
	}
	if _, err := os.Stat(filepath.Join(keep, "heimdall-data", "heimdall.db")); err != nil {
		t.Error(err)
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
