package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
)

// captured runs the program and gives its exit code and what it wrote to both streams.
func captured(t *testing.T, args ...string) (code int, text string) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, errs := os.Stdout, os.Stderr
	os.Stdout, os.Stderr = w, w
	defer func() { os.Stdout, os.Stderr = out, errs }()
	code = run(args)
	w.Close()
	all, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return code, string(all)
}

func TestRun_ExitCodes(t *testing.T) {
	here := newSite(t, "")
	broken := newSite(t, "colour: red")
	t.Setenv("HEIMDALL_AGENT_CONFIG", "/nowhere/agent.yaml")
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"version", 0, "heimdall-agent dev"},
		{"--help", 0, "Example: heimdall-agent measure"},
		{"check --help", 0, "Example: heimdall-agent check"},
		{"tap --help", 0, "Example: heimdall-agent tap"},
		{"status --help", 0, "Example: heimdall-agent status"},
		{"run --help", 0, "Example: heimdall-agent run"},
		{"measure --help", 0, "Example: heimdall-agent measure"},
		{"version --help", 0, "Example: heimdall-agent version"},
		{"", exitUsage, "--help explains"},
		{"dance", exitUsage, "dance"},
		{"check --colour", exitUsage, "--colour"},
		{"status", exitUsage, "/nowhere/agent.yaml"},
		{"run --config " + broken.config, exitUsage, "agent.yaml:4:1: colour: unknown key"},
		{"status --config " + here.config, exitFailed, errNotRunning.Error()},
		{"measure /nowhere.cu8", exitFailed, "/nowhere.cu8"},
	} {
		code, text := captured(t, strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(text, c.says) {
			t.Errorf("%q: ended with %d, want %d with %q in\n%s", c.args, code, c.code, c.says, text)
		}
	}
}

func TestExitCode(t *testing.T) {
	for err, want := range map[error]int{
		nil: 0, errReported: exitFailed, errors.New("disk full"): exitFailed,
		fmt.Errorf("read: %w", usageError{errNoConfig}): exitUsage,
	} {
		if got := exitCode(err); got != want {
			t.Errorf("%v: got %d, want %d", err, got, want)
		}
	}
}

func TestNewLog(t *testing.T) {
	var text strings.Builder
	newLog(LogConfig{Level: "warn", Format: "json"}, &text).Info("hidden")
	newLog(LogConfig{Level: "warn", Format: "json"}, &text).Warn("shown", "center_hz", 1)
	newLog(LogConfig{Level: "debug", Format: "text"}, &text).Debug("fine")
	if got := text.String(); strings.Contains(got, "hidden") || !strings.Contains(got, `"msg":"shown","center_hz":1`) || !strings.Contains(got, "msg=fine") {
		t.Errorf("%s", got)
	}
}
