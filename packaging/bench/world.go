//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/fulgidus/heimdall/packaging/servers"
)

// world is the broker and the database server that all runs share, and a folder.
type world struct {
	dir       string
	programs  string // folder of heimdall-agent and heimdall-collector
	broker    *servers.Broker
	postgres  *servers.Cluster
	databases int
	files     int
}

func newWorld(ctx context.Context, programs string) (*world, error) {
	dir, err := os.MkdirTemp("", "heimdall-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	w := &world{dir: dir, programs: programs}
	if err := w.start(ctx); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *world) start(ctx context.Context) error {
	broker, postgres := filepath.Join(w.dir, "mosquitto"), filepath.Join(w.dir, "postgres")
	// PostgreSQL may run under an account of its own, which must reach its folder.
	if err := errors.Join(os.Chmod(w.dir, 0o755), os.Mkdir(broker, 0o755), os.Mkdir(postgres, 0o755)); err != nil {
		return fmt.Errorf("make the servers' folders: %w", err)
	}
	var err error
	if w.broker, err = servers.StartMosquitto(ctx, broker); err != nil {
		return err
	}
	w.postgres, err = servers.StartPostgres(ctx, postgres, "track_commit_timestamp=on")
	return err
}

func (w *world) close() {
	if w.postgres != nil {
		w.postgres.Stop()
	}
	if w.broker != nil {
		w.broker.Stop()
	}
	os.RemoveAll(w.dir)
}

// path is a new file or folder of the given name.
func (w *world) path(name string) string {
	w.files++
	return filepath.Join(w.dir, fmt.Sprintf("%d-%s", w.files, name))
}

const collectorConfig = `
data: %q
mqtt: {url: %q}
store: {url: %q}
archive: {url: "file:%s"}
http: {listen: "127.0.0.1:0"}
limits: {station_rate: 1000000, station_bytes: 1GiB}
log: {level: warn}
`

// startCollector starts the program itself. Its limits for one station are raised: the load comes from one.
func (w *world) startCollector(ctx context.Context, url string) (*child, error) {
	config := w.path("collector.yaml")
	text := fmt.Sprintf(collectorConfig, w.path("data"), w.broker.URL, url, w.path("archive"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("configure the collector: %w", err)
	}
	return start(ctx, "collector", w.path("collector.log"), filepath.Join(w.programs, "heimdall-collector"), "run", "--config", config)
}
