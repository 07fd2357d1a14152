//go:build linux

package service

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kardianos/service"
)

// computer is what a Manager works on in these tests.
type computer struct {
	system
	ran       []string // commands
	installed *service.Config
	state     service.Status
	stateErr  error
	did       []string // of the service
}

// controlled is the service of a computer.
type controlled struct {
	service.Service
	c   *computer
	cfg service.Config
}

func (s controlled) Install() error {
	if s.c.installed != nil {
		return errors.New("Init already exists: /etc/systemd/system/x.service")
	}
	s.c.installed = &s.cfg
	return nil
}

func (s controlled) Uninstall() error { s.c.did = append(s.c.did, "uninstall"); return nil }
func (s controlled) Start() error     { s.c.did = append(s.c.did, "start"); return s.c.stateErr }
func (s controlled) Stop() error      { s.c.did = append(s.c.did, "stop"); return nil }
func (s controlled) Restart() error   { s.c.did = append(s.c.did, "restart"); return nil }
func (s controlled) Status() (service.Status, error) {
	return s.c.state, s.c.stateErr
}

func newComputer(t *testing.T) *computer {
	c := &computer{}
	c.system = system{
		root: t.TempDir(), admin: true, systemd: true,
		run: func(name string, args ...string) error {
			c.ran = append(c.ran, name+" "+strings.Join(args, " "))
			if name == "getent" {
				return errors.New("not there")
			}
			return nil
		},
		control:   func(cfg service.Config) (service.Service, error) { return controlled{c: c, cfg: cfg}, nil },
		ourBinary: func() (string, error) { return "/usr/local/bin/heimdall-agent", nil },
	}
	return c
}

func (c *computer) write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	path = c.root + path
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func TestManager_Installs(t *testing.T) {
	c := newComputer(t)
	c.write(t, "/etc/heimdall/my agent.yaml", "station: {id: torino}", 0o600)
	var out bytes.Buffer
	m := Manager{Program: "heimdall-agent", Config: "/etc/heimdall/my agent.yaml", DropIns: []DropIn{USB}, Out: &out}
	if err := m.do("install", c.system); err != nil {
		t.Fatal(err)
	}
	unit, _ := c.installed.Option["SystemdScript"].(string)
	if !strings.Contains(unit, `ExecStart=/usr/local/bin/heimdall-agent run --config "/etc/heimdall/my agent.yaml"`+"\n") || strings.Contains(unit, "{{") {
		t.Errorf("unit\n%s", unit)
	}
	for _, want := range []string{"useradd --system --user-group --home-dir /var/lib/heimdall-agent", "groupadd --system plugdev", "chgrp heimdall-agent /etc/heimdall/my agent.yaml"} {
		if !slices.ContainsFunc(c.ran, func(ran string) bool { return strings.HasPrefix(ran, want) }) {
			t.Errorf("no %q among %q", want, c.ran)
		}
	}
	dropIn := c.root + "/etc/systemd/system/heimdall-agent.service.d/usb.conf"
	if text, err := os.ReadFile(dropIn); err != nil || !strings.Contains(string(text), "char-usb_device") {
		t.Errorf("drop-in %q, %v", text, err)
	}
	if info, err := os.Stat(c.root + m.Config); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("configuration %v, %v", info.Mode(), err)
	}
	if !strings.Contains(out.String(), "sudo heimdall-agent service start") {
		t.Errorf("said %s", out.String())
	}

	if err := m.do("install", c.system); err == nil || !strings.Contains(err.Error(), "installed already") {
		t.Errorf("a second time: %v", err)
	}
	c.state = service.StatusRunning
	if err := m.do("uninstall", c.system); err != nil || !slices.Equal(c.did, []string{"stop", "uninstall"}) {
		t.Errorf("uninstall: %v, %q", err, c.did)
	}
	if _, err := os.Stat(filepath.Dir(dropIn)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the drop-in stays: %v", err)
	}
}

func TestManager_Refuses(t *testing.T) {
	for name, c := range map[string]struct {
		action string
		change func(t *testing.T, m *Manager, c *computer)
		want   string
	}{
		"the package's unit": {"install", func(t *testing.T, _ *Manager, c *computer) {
			c.write(t, "/usr/lib/systemd/system/heimdall-agent.service", "", 0o644)
		}, "package's unit /usr/lib/systemd/system/heimdall-agent.service is there already: start it now and at boot with `sudo systemctl enable --now heimdall-agent`; before"},
		"removing the package's": {"uninstall", func(t *testing.T, _ *Manager, c *computer) {
			c.write(t, "/lib/systemd/system/heimdall-agent.service", "", 0o644)
		}, "apt remove heimdall-agent"},
		"a user":     {"start", func(_ *testing.T, _ *Manager, c *computer) { c.admin = false }, "run it with sudo"},
		"no systemd": {"install", func(_ *testing.T, _ *Manager, c *computer) { c.systemd = false }, "no systemd runs here"},
		"a program at home": {"install", func(_ *testing.T, _ *Manager, c *computer) {
			c.ourBinary = func() (string, error) { return "/home/me/heimdall-agent", nil }
		}, "/home/me/heimdall-agent: a service sees nothing of home directories and of /tmp: copy it to /usr/local/bin/heimdall-agent"},
		"a configuration at home": {"install", func(_ *testing.T, m *Manager, _ *computer) { m.Config = "/root/a.yaml" }, "copy it to /etc/heimdall/a.yaml"},
		"no configuration":        {"install", func(_ *testing.T, m *Manager, _ *computer) { m.Config = "/etc/heimdall/none.yaml" }, "write it first"},
		"one that fails":          {"start", func(_ *testing.T, _ *Manager, c *computer) { c.stateErr = errors.New("exit 1") }, "journalctl -u heimdall-agent"},
		"none":                    {"status", func(_ *testing.T, _ *Manager, c *computer) { c.stateErr = service.ErrNotInstalled }, "not installed"},
		"a failed one":            {"status", func(_ *testing.T, _ *Manager, c *computer) { c.stateErr = errors.New("service in failed state") }, "journalctl"},
		"a stopped one":           {"status", func(_ *testing.T, _ *Manager, c *computer) { c.state = service.StatusStopped }, "service start"},
	} {
		t.Run(name, func(t *testing.T) {
			here := newComputer(t)
			here.write(t, "/etc/heimdall/agent.yaml", "", 0o644)
			m := Manager{Program: "heimdall-agent", Config: "/etc/heimdall/agent.yaml", DropIns: []DropIn{USB}, Out: new(bytes.Buffer)}
			c.change(t, &m, here)
			if err := m.do(c.action, here.system); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if here.installed != nil {
				t.Error("it was installed")
			}
		})
	}
}

func TestManager_StartsStopsAndTells(t *testing.T) {
	c := newComputer(t)
	c.state = service.StatusRunning
	var out bytes.Buffer
	m := Manager{Program: "heimdall-collector", Out: &out}
	for _, action := range []string{"start", "restart", "status", "stop"} {
		if err := m.do(action, c.system); err != nil {
			t.Errorf("%s: %v", action, err)
		}
	}
	if !slices.Equal(c.did, []string{"start", "restart", "stop"}) || !strings.Contains(out.String(), "heimdall-collector is running\nheimdall-collector: stopped\n") {
		t.Errorf("did %q and said %s", c.did, out.String())
	}
}

// The units pass systemd's own judgement, and expose no more than is demanded: 1.5 with network receivers, 2.0 with USB.
func TestUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Fatalf("%v; install systemd (make servers does)", err)
	}
	for _, c := range []struct {
		program string
		dropIns []DropIn
		most    string // of 100
	}{
		{"heimdall-agent", nil, "15"},
		{"heimdall-agent", []DropIn{USB}, "20"},
		{"heimdall-agent", []DropIn{Sound}, "20"},
		{"heimdall-collector", nil, "15"},
	} {
		dir := t.TempDir()
		executable, err := os.Executable() // any that is there
		if err != nil {
			t.Fatal(err)
		}
		text, err := unitFor(c.program, executable, "/etc/heimdall/x.yaml")
		if err != nil {
			t.Fatal(err)
		}
		here := computer{system: system{root: dir}}
		unit := "/etc/systemd/system/" + c.program + ".service"
		here.write(t, unit, text, 0o644)
		if err := (Manager{Program: c.program, DropIns: c.dropIns}).writeDropIns(here.system); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(analyze, "verify", "--man=no", "--recursive-errors=no", dir+unit).CombinedOutput()
		if err != nil || len(bytes.TrimSpace(out)) > 0 {
			t.Errorf("%s %v: verify: %v\n%s", c.program, c.dropIns, err, out)
		}
		out, err = exec.Command(analyze, "security", "--offline=yes", "--threshold="+c.most, dir+unit).CombinedOutput()
		if err != nil {
			t.Errorf("%s %v: %v\n%s", c.program, c.dropIns, err, out)
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		t.Logf("%s %v %s", c.program, c.dropIns, lines[len(lines)-1])
	}
}

// What a unit's command line would read as more than text is written so that it does not.
func TestWord(t *testing.T) {
	for text, want := range map[string]string{
		"/usr/bin/heimdall-agent": "/usr/bin/heimdall-agent", "/a b": `"/a b"`, `/a"b\`: `"/a\"b\\"`, "/100%": "/100%%", "/$HOME": "/$$HOME", "/a;b": `"/a;b"`,
	} {
		if got := word(text); got != want {
			t.Errorf("%q became %s, want %s", text, got, want)
		}
	}
}
