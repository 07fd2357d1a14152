package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/fulgidus/heimdall/configs/wholefile"
)

// runFile tells other commands where the collector of a data directory listens.
const runFile = "run.json"

// running is the content of run.json.
type running struct {
	PID  int    `json:"pid"`
	HTTP string `json:"http"` // URL of the REST API
	MQTT string `json:"mqtt"` // URL of the broker
}

// dataDir is the collector's own directory, held by this process.
type dataDir struct {
	path string
	lock *os.File
}

func openDataDir(path string) (*dataDir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("data: %q: %w; name a directory that this account may make", path, err)
	}
	lock, err := lockData(path)
	if err != nil {
		return nil, err
	}
	return &dataDir{path: path, lock: lock}, nil
}

// lockData takes the data directory for this process; it is free again when the file is closed or the process ends.
func lockData(dir string) (*os.File, error) {
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data: %q: %w; name a directory that this account may write to", dir, err)
	}
	taken, err := tryLock(f)
	switch {
	case taken:
		err = fmt.Errorf("data: %q: another collector uses this directory (%s says which); stop it, or choose another directory", dir, filepath.Join(dir, runFile))
	case err != nil:
		err = fmt.Errorf("data: %q: lock %s: %w", dir, path, err)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// announce writes run.json, whole or not at all.
func (d *dataDir) announce(r running) error {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode %s: %w", runFile, err)
	}
	path := filepath.Join(d.path, runFile)
	if err := wholefile.Write(path, text, 0o600, nil); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func (d *dataDir) close() error {
	err := os.Remove(filepath.Join(d.path, runFile))
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, d.lock.Close())
}

// findRunning reads the run.json of a data directory.
func findRunning(path string) (running, error) {
	var r running
	text, err := os.ReadFile(filepath.Join(path, runFile))
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("read %s: %w", filepath.Join(path, runFile), err)
	}
	return r, nil
}
