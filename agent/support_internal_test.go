package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// A canary stands at each place where a configuration, the environment or the log may hold a secret.
const canary = "c4nary"

// fakeCommands puts commands of the system first in PATH that say what a test wants.
func fakeCommands(t *testing.T, says map[string]string) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("needs a shell") // the programs that are asked are not those of Windows
	}
	bin := t.TempDir()
	for name, text := range says {
		write(t, filepath.Join(bin, name+".txt"), text)
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\ncat "+filepath.Join(bin, name+".txt")+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
}

// secretSite is a configuration with a canary in each place, and a log and an environment that have some, too.
func secretSite(t *testing.T, account, more string) site {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "kiwi-password")
	write(t, file, canary+"-file\n")
	s := site{config: filepath.Join(dir, "agent.yaml"), state: filepath.Join(dir, "state")}
	write(t, s.config, fmt.Sprintf(`station: {id: torino, name: Torino, position: {lat: 45.04413, lon: 7.67231, height_m: 251.7}}
mqtt: {url: "mqtt://127.0.0.1:1", username: torino, password: %[1]s-password}
receivers:
  - {id: r0, source: "kiwi://127.0.0.1:1?password=%[1]s-kiwi&ipl_password=file:%[2]s"}
  - id: r1
    source: exec:sh -c %[1]s-argument --token %[1]s-token --key=%[1]s-option?format=cu8&rate=240k&center=7.1M
  - {id: r2, source: "rtltcp://%[5]s127.0.0.1:1"}
spool: {path: %[3]q, limit: 16MiB}
%[4]s`, canary, file, s.state, more, account))
	t.Setenv("HEIMDALL_AGENT_MQTT_PASSWORD", canary+"-environment")
	fakeCommands(t, map[string]string{
		"systemctl": "ActiveState=active\nStatusText=joined with hd1." + canary + "-joined\n",
		"journalctl": strings.Join([]string{
			"program sh: sh -c " + canary + "-argument: " + canary + "-token is refused",
			"broker mqtt://torino:" + canary + "-url@host:1883: not authorised, password " + canary + "-password",
			"join code hd1." + canary + "." + canary + " is used up; Authorization: Bearer " + canary + "-bearer",
			"kiwi at host says " + canary + "-file, gps 45.044131, 7.6723; " + canary + "-option",
			"the last line",
		}, "\n"),
	})
	return s
}

func TestSupport_ShowsNoSecret(t *testing.T) {
	for name, c := range map[string]struct {
		account, more string
		want          []string
	}{
		"a configuration that can be read": {"", "", []string{
			"heimdall-agent support, ", "== build\nheimdall-agent dev, go", "mqtt.username: torino\n", "mqtt.password: ***\n",
			"receivers[0].source: kiwi://127.0.0.1:1?password=***&ipl_password=***\n", "receivers[1].source: exec:sh ***?format=cu8&rate=240k&center=7.1M\n",
			"station.position.lat: ***\n", "environment sets HEIMDALL_AGENT_MQTT_PASSWORD, ",
			"ActiveState=active\n", "no agent is running here", "fail  broker     mqtt://127.0.0.1:1: ", "\nfail  receiver   r0 ",
			"will be made, up to 16 MiB", "error: nothing was stored yet in ", " free; the spool and its reserve take ", "GOMEMLIMIT ", "the last line\n",
		}},
		"one that cannot": {"me:" + canary + "-account@", "beacons: 1\nlog: {level: loud}\n", []string{
			"receivers[2].source.host: \"//***@127.0.0.1:1\": write ", "beacons: unknown key; known here: station, ", "log.level: \"loud\": want debug, info, warn or error", "not tried: the configuration has faults", "the last line\n",
		}},
		"one that is no YAML": {"", "a: [b\n  c: }\n", []string{"agent.yaml:", "the last line\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			here := secretSite(t, c.account, c.more)
			text, err := output(t, SupportCmd{configFlag: configFlag{here.config}})
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range c.want {
				if !strings.Contains(text, want) {
					t.Errorf("no %q in\n%s", want, text)
				}
			}
			for _, secret := range []string{canary, "45.04", "7.67", "251.7"} {
				if strings.Contains(text, secret) {
					t.Errorf("it shows %s:\n%s", secret, text)
				}
			}
		})
	}
}

func TestSupport_BesideARunningAgent(t *testing.T) {
	here := newSite(t, "")
	here.start(t)
	here.hears(t)
	file := filepath.Join(t.TempDir(), "support.txt")
	said, err := output(t, SupportCmd{configFlag: configFlag{here.config}, Out: file})
	if err != nil || !strings.Contains(said, "wrote "+file) {
		t.Fatalf("%v, said %q", err, said)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"torino running for ", "ok    receiver   r0 simulated", "torino spool ", "control.sock\n", "spool.db\n"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestSupport_WithoutAConfiguration(t *testing.T) {
	t.Setenv("HEIMDALL_AGENT_CONFIG", filepath.Join(t.TempDir(), "none.yaml"))
	text, err := output(t, SupportCmd{})
	if err != nil || !strings.Contains(text, "none.yaml is not there") || !strings.Contains(text, "== log\n") {
		t.Errorf("%v, got\n%s", err, text)
	}
}
