//go:build linux

package service_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/packaging/service"
)

// manager is the service manager's end of a notify socket.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
}

func listen(t *testing.T, name string) manager {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", name)
	return manager{t, conn}
}

// hears waits for a message that holds a line.
func (m manager) hears(line string) {
	m.t.Helper()
	m.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	var all []string
	buf := make([]byte, 4096)
	for {
		n, err := m.conn.Read(buf)
		if err != nil {
			m.t.Fatalf("no %q among %q: %v", line, all, err)
		}
		all = append(all, string(buf[:n]))
		if slices.Contains(strings.Split(string(buf[:n]), "\n"), line) {
			return
		}
	}
}

func TestNotifier_TellsTheServiceManager(t *testing.T) {
	for name, socket := range map[string]string{"in a folder": filepath.Join(t.TempDir(), "notify"), "abstract": "@heimdall-test-" + filepath.Base(t.TempDir())} {
		t.Run(name, func(t *testing.T) {
			m := listen(t, socket)
			n := service.NewNotifier(slog.New(slog.DiscardHandler))
			defer n.Close()
			if os.Getenv("NOTIFY_SOCKET") != "" {
				t.Error("children would speak for this program")
			}
			n.Ready("hears\nwell")
			m.hears("READY=1")
			n.Status("3 records\nwait")
			m.hears("STATUS=3 records wait")
			n.Stopping()
			m.hears("STOPPING=1")
		})
	}
}

// A sign of life comes as long as nothing is stuck, and none any more once something is; that is said once.
func TestNotifier_WatchesWhatIsStuck(t *testing.T) {
	m := listen(t, filepath.Join(t.TempDir(), "notify"))
	t.Setenv("WATCHDOG_USEC", "200000")
	var log bytes.Buffer
	n := service.NewNotifier(slog.New(slog.NewTextHandler(&log, nil)))
	defer n.Close()
	var stuck atomic.Bool
	looks := make(chan string) // of the loop below; without room, so that the test knows that it was looked
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		n.Watch(ctx, func() string {
			what := ""
			if stuck.Load() {
				what = "the survey"
			}
			select {
			case looks <- what:
			case <-ctx.Done():
			}
			return what
		})
	}()
	<-looks
	m.hears("WATCHDOG=1")
	stuck.Store(true)
	for what := <-looks; what == ""; what = <-looks {
	}
	m.conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond)) // what was sent before
	for buf := make([]byte, 100); ; {
		if _, err := m.conn.Read(buf); err != nil {
			break
		}
	}
	<-looks
	<-looks
	m.conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if got, err := m.conn.Read(make([]byte, 100)); err == nil {
		t.Errorf("%d bytes of life while something is stuck", got)
	}
	stuck.Store(false)
	for what := <-looks; what != ""; what = <-looks {
	}
	m.hears("WATCHDOG=1")
	cancel()
	<-ended
	if got := strings.Count(log.String(), "the survey"); got != 1 {
		t.Errorf("said %d times, want once: %s", got, log.String())
	}
}

// Nobody is told where no service manager is, and a watchdog for another process is none of this one's.
func TestNotifier_WithoutAServiceManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	n := service.NewNotifier(slog.New(slog.DiscardHandler))
	n.Ready("")
	n.Watch(t.Context(), func() string { t.Error("looked at"); return "" })
	var none *service.Notifier
	none.Status("")
	none.Watch(t.Context(), func() string { t.Error("looked at"); return "" })
	none.Close()

	listen(t, filepath.Join(t.TempDir(), "notify"))
	t.Setenv("WATCHDOG_USEC", "200000")
	t.Setenv("WATCHDOG_PID", "1")
	n = service.NewNotifier(slog.New(slog.DiscardHandler))
	defer n.Close()
	n.Watch(t.Context(), func() string { t.Error("looked at"); return "" })
}
