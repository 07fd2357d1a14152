// Package servers starts the real servers that Heimdall's tests run against: Mosquitto, PostgreSQL, TimescaleDB
// (as WASM, from npm) and MinIO. Each listens on loopback at a random port and ends with the process that started it.
// A missing program is an error that says how to get it, never a skip; install.sh beside this file installs all of them.
package servers

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// ErrMissing says that a program is not installed, and how to install it.
var ErrMissing = errors.New("not installed; run `make servers`")

// CacheDir is where downloaded and built test programs are kept between runs.
func CacheDir() string {
	if dir := os.Getenv("HEIMDALL_CACHE"); dir != "" {
		return dir
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = filepath.Join(os.TempDir(), "cache")
	}
	return filepath.Join(dir, "heimdall")
}

func find(name string, places ...string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, p := range places {
		if found, err := filepath.Glob(p); err == nil && len(found) > 0 {
			return found[len(found)-1], nil
		}
	}
	return "", fmt.Errorf("%s: %w", name, ErrMissing)
}

// Ports from firstPort on are below those that kernels hand out by themselves.
const (
	firstPort = 20000
	ports     = 10000
)

// nextPort begins where another process hardly does.
var nextPort = sync.OnceValue(func() *atomic.Uint32 {
	var n atomic.Uint32
	n.Store(rand.Uint32N(ports))
	return &n
})

// freePort is a loopback port that nobody uses now, and that nobody is given while a server at it is down for a while.
func freePort() (int, error) {
	var err error
	for range 100 {
		port := firstPort + int(nextPort().Add(1)%ports)
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("find a free port: %w", err)
}

// FreeAddress is a loopback address that nobody uses now.
func FreeAddress(tb testing.TB) string {
	tb.Helper()
	port, err := freePort()
	return fmt.Sprintf("127.0.0.1:%d", must(tb, port, err))
}

// waitUntil polls a condition until it holds or 60 s have passed.
func waitUntil(ctx context.Context, what string, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready after a minute: %w", what, err)
		case <-tick.C:
		}
	}
}

func dialable(addr string) func(context.Context) error {
	return func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err
	}
}

// Versions asks each server program for its version, one line each.
func Versions(ctx context.Context) (string, error) {
	var lines []string
	for _, p := range []struct {
		name   string
		locate func() (string, error)
		args   []string
	}{
		{"mosquitto", mosquittoBinary, []string{"-h"}},
		{"postgres", postgresBinary, []string{"--version"}},
		{"minio", minioBinary, []string{"--version"}},
	} {
		path, err := p.locate()
		if err != nil {
			return "", err
		}
		out, _ := exec.CommandContext(ctx, path, p.args...).Output() // mosquitto -h ends with 3 after printing
		first, _, _ := strings.Cut(string(out), "\n")
		lines = append(lines, first)
	}
	version, err := timescaleVersion()
	if err != nil {
		return "", err
	}
	if built, err := os.ReadFile(filepath.Join(CacheDir(), "bin", "minio.version")); err == nil {
		lines[len(lines)-1] = "minio " + strings.TrimSpace(string(built))
	}
	return strings.Join(append(lines, version), "\n"), nil
}

// must ends the test when a server cannot be had.
func must[T any](tb testing.TB, v T, err error) T {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
	return v
}
