//go:build linux

package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/agent/spool"
	"github.com/fulgidus/heimdall/packaging/service"
)

// An agent whose broker takes connections and then says nothing is as healthy as any: it is ready at once, gives signs of life,
// and stops within 10 s with its spool closed.
func TestAgent_UnderAServiceManager(t *testing.T) {
	broker, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	here := newSite(t, fmt.Sprintf("mqtt: {url: %q}\n", "mqtt://"+broker.Addr().String()))
	socket := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	var all []string
	hears := func(line string) {
		t.Helper()
		manager.SetReadDeadline(time.Now().Add(20 * time.Second))
		for buf := make([]byte, 4096); !slices.Contains(all, line); {
			n, err := manager.Read(buf)
			if err != nil {
				t.Fatalf("no %q among %q: %v", line, all, err)
			}
			all = append(all, strings.Split(string(buf[:n]), "\n")...)
		}
	}
	t.Setenv("NOTIFY_SOCKET", socket)
	t.Setenv("WATCHDOG_USEC", "400000")

	a := here.open(t)
	a.notifier = service.NewNotifier(slog.New(slog.DiscardHandler))
	defer a.notifier.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1) // one value
	go func() { ended <- a.Run(ctx) }()
	hears("READY=1")
	hears("WATCHDOG=1")
	here.hears(t)
	all = nil
	hears("WATCHDOG=1")
	if what := a.stuck(); what != "" {
		t.Errorf("stuck: %s", what)
	}
	cancel()
	began := time.Now()
	hears("STOPPING=1")
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("stopped after %s, want 10 s at most", took)
	}
	if stats, err := spool.Stat(here.state); err != nil || stats.Records == 0 {
		t.Errorf("the spool holds %d records, %v", stats.Records, err)
	}
}
