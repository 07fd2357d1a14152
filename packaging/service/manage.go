package service

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/kardianos/service"
)

// Manager installs, starts and stops a program as a service of this computer: systemd on Linux, launchd on macOS, the service
// control manager on Windows.
type Manager struct {
	Program     string    // heimdall-agent or heimdall-collector
	Description string    // for people
	Config      string    // the configuration that the service reads
	Secrets     []string  // files that the configuration names, which the service reads, too
	DropIns     []DropIn  // what its receivers need beside the network
	Out         io.Writer // where is said what was done
}

// system is what of the computer a Manager touches; tests put other things there.
type system struct {
	root      string // before every path
	admin     bool
	run       func(name string, args ...string) error
	control   func(service.Config) (service.Service, error)
	systemd   bool
	ourBinary func() (string, error)
}

// Do carries out install, uninstall, start, stop, restart or status.
func (m Manager) Do(action string) error { return m.do(action, thisSystem()) }

func (m Manager) do(action string, sys system) error {
	if runtime.GOOS == "linux" && !sys.systemd {
		return fmt.Errorf("no systemd runs here: start `%s run` with your own service manager, which must not start it again on exit code 2", m.Program)
	}
	if action != "status" && !sys.admin {
		return fmt.Errorf("`%s service %s` changes this computer: run it with sudo, or as administrator", m.Program, action)
	}
	switch action {
	case "install":
		return m.install(sys)
	case "uninstall":
		return m.uninstall(sys)
	case "status":
		return m.status(sys)
	}
	s, err := sys.control(m.settings("", ""))
	if err != nil {
		return err
	}
	if err := service.Control(s, action); err != nil {
		return fmt.Errorf("%s %s: %w; %s", action, m.Program, err, m.whereToLook())
	}
	fmt.Fprintf(m.Out, "%s: %s\n", m.Program, map[string]string{"start": "running", "restart": "running", "stop": "stopped"}[action])
	return nil
}

// Possible tells why the program cannot be made a service here and now; nil when it can.
func (m Manager) Possible() error { return m.possible(thisSystem()) }

func (m Manager) possible(sys system) error {
	switch {
	case runtime.GOOS == "linux" && !sys.systemd:
		return errors.New("no systemd runs here")
	case !sys.admin:
		return errors.New("that needs root")
	}
	return nil
}

// Enable starts the program now and at boot, as the service of its package or of its own.
func (m Manager) Enable() error { return m.enable(thisSystem()) }

func (m Manager) enable(sys system) error {
	if m.packageUnit(sys) == "" {
		if err := m.do("install", sys); err != nil {
			return err
		}
		return m.do("start", sys)
	}
	if err := m.prepare(sys); err != nil {
		return err
	}
	for _, args := range [][]string{{"daemon-reload"}, {"enable", m.Program}, {"restart", m.Program}} {
		if err := sys.run("systemctl", args...); err != nil {
			return fmt.Errorf("%w; %s", err, m.whereToLook())
		}
	}
	return nil
}

// prepare makes what a unit needs beside itself.
func (m Manager) prepare(sys system) error {
	for _, step := range []func(system) error{m.account, m.openConfig, m.writeDropIns} {
		if err := step(sys); err != nil {
			return err
		}
	}
	return nil
}

// whereToLook is where a service that fails says why.
func (m Manager) whereToLook() string {
	switch runtime.GOOS {
	case "linux":
		return "`journalctl -u " + m.Program + " -n 20` says why"
	case "windows":
		return "the event log says why"
	}
	return "/var/log/" + m.Program + ".err.log says why"
}

// settings are the service as the library takes it.
func (m Manager) settings(executable, unit string) service.Config {
	return service.Config{
		Name: m.Program, DisplayName: m.Program, Description: m.Description, Executable: executable, Arguments: []string{"run", "--config", m.Config},
		Option: service.KeyValue{
			"SystemdScript": unit,
			// launchd
			"RunAtLoad": true, "KeepAlive": true, "LogDirectory": "/var/log", "LogOutput": true,
			// Windows
			"StartType": "automatic", "DelayedAutoStart": true, "OnFailure": "restart", "OnFailureDelayDuration": "5s", "OnFailureResetPeriod": 60,
		},
	}
}

// unitPlaces are where packages put units, and where an administrator's own are.
var (
	packageUnits = []string{"/usr/lib/systemd/system", "/lib/systemd/system"}
	localUnits   = "/etc/systemd/system"
)

// packageUnit is the path of the package's unit; empty where no package is installed.
func (m Manager) packageUnit(sys system) string {
	for _, dir := range packageUnits {
		path := filepath.Join(dir, m.Program+".service")
		if _, err := os.Stat(sys.root + path); err == nil && sys.systemd {
			return path
		}
	}
	return ""
}

func (m Manager) install(sys system) error {
	if path := m.packageUnit(sys); path != "" {
		return fmt.Errorf("the package's unit %s is there already: start it now and at boot with `sudo systemctl enable --now %s`%s", path, m.Program, m.dropInHint())
	}
	executable, err := sys.ourBinary()
	if err != nil {
		return fmt.Errorf("find this program's own file: %w", err)
	}
	if !sys.systemd {
		return m.register(sys, executable, "")
	}
	for what, path := range map[string]string{executable: "/usr/local/bin/" + m.Program, m.Config: "/etc/heimdall/" + filepath.Base(m.Config)} {
		if hidden(what) {
			return fmt.Errorf("%s: a service sees nothing of home directories and of /tmp: copy it to %s, and use that", what, path)
		}
	}
	unit, err := unitFor(m.Program, executable, m.Config)
	if err != nil {
		return err
	}
	if err := m.prepare(sys); err != nil {
		return err
	}
	return m.register(sys, executable, unit)
}

// register tells the computer's service manager, which starts the program at boot from now on.
func (m Manager) register(sys system, executable, unit string) error {
	s, err := sys.control(m.settings(executable, unit))
	if err != nil {
		return err
	}
	if err := s.Install(); err != nil {
		if strings.Contains(err.Error(), "already exists") {
			return fmt.Errorf("%s is installed already: `%s service restart` takes a changed configuration, `%s service uninstall` removes it", m.Program, m.Program, m.Program)
		}
		return fmt.Errorf("install %s: %w", m.Program, err)
	}
	_, err = fmt.Fprintf(m.Out, "%s is installed and starts at boot. Start it now: sudo %s service start\n", m.Program, m.Program)
	return err
}

// dropInHint is how a packaged service gets at its receivers.
func (m Manager) dropInHint() string {
	var hint strings.Builder
	for _, d := range m.DropIns {
		fmt.Fprintf(&hint, "; before, for its receivers: `sudo install -D -m 644 /usr/share/%s/%s %s`", m.Program, d, m.dropInPath(d))
	}
	return hint.String()
}

func (m Manager) dropInPath(d DropIn) string {
	return filepath.Join(localUnits, m.Program+".service.d", string(d))
}

// hidden tells whether the unit's ProtectHome= or PrivateTmp= hides a file.
func hidden(path string) bool {
	for _, dir := range []string{"/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/"} {
		if strings.HasPrefix(path, dir) {
			return true
		}
	}
	return false
}

// account makes the service's own user and the groups of its devices.
func (m Manager) account(sys system) error {
	if sys.run("getent", "passwd", m.Program) != nil {
		if err := sys.run("useradd", "--system", "--user-group", "--home-dir", "/var/lib/"+m.Program, "--no-create-home", "--shell", "/usr/sbin/nologin", m.Program); err != nil {
			return fmt.Errorf("make the account %s: %w", m.Program, err)
		}
		fmt.Fprintf(m.Out, "made the account %s\n", m.Program)
	}
	for _, d := range m.DropIns {
		if sys.run("getent", "group", d.group()) == nil {
			continue
		}
		if err := sys.run("groupadd", "--system", d.group()); err != nil {
			return fmt.Errorf("make the group %s: %w", d.group(), err)
		}
	}
	return nil
}

// openConfig lets the service read its configuration and what that names, and nobody else who could not.
func (m Manager) openConfig(sys system) error {
	for _, path := range append([]string{m.Config}, m.Secrets...) {
		if err := m.open(sys, path); err != nil {
			return err
		}
	}
	return nil
}

func (m Manager) open(sys system, path string) error {
	info, err := os.Stat(sys.root + path)
	if err != nil {
		return fmt.Errorf("%w: write it first", err)
	}
	if info.Mode().Perm()&0o004 != 0 {
		return nil
	}
	if err := sys.run("chgrp", m.Program, path); err != nil {
		return fmt.Errorf("let the service read %s: %w", path, err)
	}
	if err := os.Chmod(sys.root+path, info.Mode().Perm()|0o040); err != nil {
		return fmt.Errorf("let the service read its configuration: %w", err)
	}
	_, err = fmt.Fprintf(m.Out, "%s can be read by root and by the group %s\n", path, m.Program)
	return err
}

func (m Manager) writeDropIns(sys system) error {
	for _, d := range m.DropIns {
		text, err := unitText(string(d))
		if err != nil {
			return err
		}
		path := sys.root + m.dropInPath(d)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("write the drop-in of the unit: %w", err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return fmt.Errorf("write the drop-in of the unit: %w", err)
		}
	}
	return nil
}

// uninstall removes what install made, and leaves account, configuration and data.
func (m Manager) uninstall(sys system) error {
	if path := m.packageUnit(sys); path != "" {
		return fmt.Errorf("%s belongs to the package: remove that, for instance with `sudo apt remove %s`", path, m.Program)
	}
	s, err := sys.control(m.settings("", ""))
	if err != nil {
		return err
	}
	if status, err := s.Status(); err == nil && status == service.StatusRunning {
		if err := s.Stop(); err != nil {
			return fmt.Errorf("stop %s: %w", m.Program, err)
		}
	}
	if sys.systemd {
		for _, d := range []DropIn{USB, Sound} {
			if err := os.Remove(sys.root + m.dropInPath(d)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("remove the drop-in of the unit: %w", err)
			}
		}
		os.Remove(filepath.Dir(sys.root + m.dropInPath(USB))) // stays where somebody else's are in it
	}
	if err := s.Uninstall(); err != nil {
		return fmt.Errorf("uninstall %s: %w", m.Program, err)
	}
	_, err = fmt.Fprintf(m.Out, "%s is no longer a service. Its configuration and its data stay.\n", m.Program)
	return err
}

// ErrNotRunning ends a status that found the service stopped, failed or absent.
var ErrNotRunning = errors.New("not running")

func (m Manager) status(sys system) error {
	s, err := sys.control(m.settings("", ""))
	if err != nil {
		return err
	}
	status, err := s.Status()
	switch {
	case errors.Is(err, service.ErrNotInstalled):
		return fmt.Errorf("%s is %w: it is not installed (`sudo %s service install`)", m.Program, ErrNotRunning, m.Program)
	case err != nil:
		return fmt.Errorf("%s is %w: %w; %s", m.Program, ErrNotRunning, err, m.whereToLook())
	case status == service.StatusRunning:
		_, err := fmt.Fprintf(m.Out, "%s is running\n", m.Program)
		return err
	}
	return fmt.Errorf("%s is %w (`sudo %s service start`)", m.Program, ErrNotRunning, m.Program)
}
