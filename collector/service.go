package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/fulgidus/heimdall/packaging/service"
)

// ServiceCmd makes the collector a service of this computer.
type ServiceCmd struct {
	Action     string `arg:"" enum:"install,uninstall,start,stop,restart,status" help:"install, uninstall, start, stop, restart or status."`
	configFlag `embed:""`
}

// Help begins with the example.
func (ServiceCmd) Help() string {
	return "Example:  heimdall-collector service install --config /etc/heimdall/collector.yaml\n\n" +
		"With systemd, launchd or the service manager of Windows. Where a package brought the service, that is used. All but status need root: sudo."
}

// Run is called by the command line.
func (c ServiceCmd) Run(s streams) error {
	m := service.Manager{Program: programName, Description: "Heimdall collector: gathers what stations hear", Out: s.out}
	if c.Action != "install" {
		return m.Do(c.Action)
	}
	path := findConfig(c.Config)
	if path == "" {
		path = systemConfig()
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return usageError{err}
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return usageError{fmt.Errorf("--config: %s is not there: write it first with `heimdall-collector init`", path)}
	}
	if _, err := LoadConfig(path); err != nil {
		return usageError{err}
	}
	m.Config, m.Secrets = path, secretFiles(path)
	return m.Do(c.Action)
}
