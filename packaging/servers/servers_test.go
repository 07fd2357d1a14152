package servers_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/packaging/servers"
)

func TestServersAnswer(t *testing.T) {
	broker := servers.Mosquitto(t)
	if out, err := exec.Command("mosquitto_pub", "-h", "127.0.0.1", "-p", strings.TrimPrefix(broker.URL, "mqtt://127.0.0.1:"), "-t", "x", "-m", "1", "-q", "1").CombinedOutput(); err != nil {
		t.Errorf("publish: %v: %s", err, out)
	}
	broker.Kill()
	if err := broker.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, url := range map[string]string{"postgres": servers.Postgres(t), "timescaledb": strings.Replace(servers.TimescaleDB(t), "&default_query_exec_mode=exec", "", 1)} {
		out, err := exec.Command("psql", "-At", "-d", url, "-c", "select 40 + 2").CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != "42" {
			t.Errorf("%s: got %q, %v; want 42", name, got, err)
		}
	}
	if o := servers.MinIO(t); !strings.HasPrefix(o.URL, "s3://heimdall?endpoint=http://127.0.0.1:") {
		t.Errorf("MinIO URL %q", o.URL)
	}
}

// TestFaults kills and pauses each server and finds it again where it was, with what it held.
func TestFaults(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	for at := dir; at != os.TempDir() && len(at) > 1; at = filepath.Dir(at) { // PostgreSQL's own account has to get there
		if err := os.Chmod(at, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "pg"), 0o755); err != nil {
		t.Fatal(err)
	}
	c, err := servers.StartPostgres(ctx, filepath.Join(dir, "pg"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Stop()
	if err := c.SQL(ctx, "create table kept (n int); insert into kept values (1)"); err != nil {
		t.Fatal(err)
	}
	c.Kill()
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	c.Pause()
	paused, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	if c.SQL(paused, "select n from kept") == nil {
		t.Error("a paused server answers")
	}
	c.Resume()
	if err := c.SQL(ctx, "select 1/n from kept"); err != nil {
		t.Error(err)
	}
	o := servers.MinIO(t)
	o.Kill()
	if err := o.Start(ctx); err != nil {
		t.Error(err)
	}
	b := servers.Mosquitto(t)
	b.Kill()
	if err := errors.Join(b.Wipe(), b.Start(ctx)); err != nil {
		t.Error(err)
	}
	b.Pause()
	b.Resume()
}
