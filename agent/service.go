package main

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/fulgidus/heimdall/packaging/service"
)

const serviceDescription = "Heimdall agent: hears what is on air beside a receiver and delivers it"

// ServiceCmd makes the agent a service of this computer.
type ServiceCmd struct {
	Action     string `arg:"" enum:"install,uninstall,start,stop,restart,status" help:"install, uninstall, start, stop, restart or status."`
	configFlag `embed:""`
}

// Help begins with the example.
func (ServiceCmd) Help() string {
	return "Example:  heimdall-agent service install --config /etc/heimdall/agent.yaml\n\n" +
		"With systemd, launchd or the service manager of Windows. Where a package brought the service, that is used. All but status need root: sudo."
}

// Run is called by the command line.
func (c ServiceCmd) Run(s streams) error {
	m := service.Manager{Program: programName, Description: serviceDescription, Out: s.out}
	if c.Action != "install" {
		return m.Do(c.Action)
	}
	path, err := findConfig(c.Config)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return usageError{err}
	}
	cfg, err := LoadConfig(path)
	if err != nil {
		return usageError{err}
	}
	m.Config, m.DropIns = path, dropIns(cfg.Receivers)
	return m.Do(c.Action)
}

// dropIns are the changes of the unit that receivers need.
func dropIns(receivers []ReceiverConfig) []service.DropIn {
	var needed []service.DropIn
	for _, r := range receivers {
		switch {
		case strings.HasPrefix(r.Source, "rtlsdr:"):
			needed = append(needed, service.USB)
		case strings.HasPrefix(r.Source, "exec:") && strings.Contains(r.Source, "preset=websdr-alsa"):
			needed = append(needed, service.Sound)
		case strings.HasPrefix(r.Source, "exec:"):
			needed = append(needed, service.USB)
		}
	}
	slices.Sort(needed)
	return slices.Compact(needed)
}
