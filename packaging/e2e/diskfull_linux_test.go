package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/packaging/servers"
)

// smallDisk is a disk of so many bytes.
func smallDisk(t *testing.T, bytes int) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can make a small disk: run this test as root")
	}
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // PostgreSQL runs as another account
		t.Fatal(err)
	}
	if err := syscall.Mount("none", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=755", bytes)); err != nil {
		t.Skip("a small disk cannot be made here: ", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fillUp writes a file until the disk takes no more, and gives its name.
func fillUp(t *testing.T, disk string) string {
	t.Helper()
	f, err := os.Create(filepath.Join(disk, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 4<<10); ; {
		if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
			return f.Name()
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// smallPostgres is a server on a small disk, that is started again when it ends, as a service manager does.
func smallPostgres(t *testing.T, disk string) (database string, lookAfter func()) {
	t.Helper()
	dir := filepath.Join(disk, "postgres")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	c, err := servers.StartPostgres(t.Context(), dir, "min_wal_size=32MB", "max_wal_size=64MB", "max_connections=50", "shared_buffers=16MB")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	return c.URL("postgres"), func() {
		if err := c.Start(context.WithoutCancel(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDatabaseDiskFull fills the disk of the database under load. The collector acknowledges nothing that is not stored, says why,
// lives on, and goes on by itself once there is room. Nothing is missing in the end.
func TestDatabaseDiskFull(t *testing.T) {
	t.Parallel() // it waits most of the time
	for name, size := range map[string]int{"PostgreSQL": 192 << 20, "SQLite": 24 << 20} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := smallDisk(t, size)
			database, lookAfter := "sqlite:"+filepath.Join(disk, "heimdall.db"), func() {}
			if name == "PostgreSQL" {
				database, lookAfter = smallPostgres(t, disk)
			}
			n := newNetwork(t, database)
			n.agent(t, "north", simulated(t, "north"), ", measurement: {every: 20ms}, spectrum: {every: 200ms}")
			n.waitOnline(1)
			n.waitDelivered("north")

			filler := fillUp(t, disk)
			eventually(t, time.Minute, "the collector says that the disk is full", func() error {
				if why := n.readiness(); !strings.Contains(why, "disk is full") {
					return errors.New(why)
				}
				return nil
			})
			time.Sleep(10 * time.Second) // the load goes on
			if err := n.get("/healthz", nil); err != nil {
				t.Errorf("with a full disk: %v", err)
			}
			if err := os.Remove(filler); err != nil {
				t.Fatal(err)
			}
			roomSince := time.Now()
			lookAfter()
			eventually(t, time.Minute, "records are stored again", func() error {
				if err := n.get("/readyz", nil); err != nil {
					return err
				}
				var list struct {
					Items []struct{ Received time.Time }
				}
				if err := n.get("/api/v1/measurements?limit=1", &list); err != nil {
					return err
				}
				if len(list.Items) == 0 || list.Items[0].Received.Before(roomSince) {
					return errors.New("nothing new came in")
				}
				return nil
			})
			t.Logf("records are stored again %v after there was room", time.Since(roomSince).Round(100*time.Millisecond))
			for _, v := range n.waitVerified(2 * time.Minute) {
				if v.Gaps != 0 || v.Rejected != 0 || v.Duplicate != 0 {
					t.Errorf("%+v", v)
				}
			}
		})
	}
}

// readiness is what /readyz says.
func (n *network) readiness() string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.api+"/readyz", nil)
	if err != nil {
		return err.Error()
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
