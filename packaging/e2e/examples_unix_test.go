//go:build unix

package e2e_test

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/packaging/servers"
)

// examples is the folder of the worked examples.
const examples = "../../protocol/examples"

// TestExamples runs each example for subscribers as its page says, with an account of the embedded broker, while a station hears a tone on
// 145.503 MHz. The line that it prints is of a detection that is stored.
func TestExamples(t *testing.T) {
	t.Parallel() // it waits most of the time
	tools, err := servers.NodeRED()
	if err != nil {
		t.Fatal(err)
	}
	c := newClub(t)
	scene, err := filepath.Abs("client/scene.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s := c.station("torino")
	text := strings.Replace(string(readFile(t, s.config)), simulated(t, "north")+`"`, "sim:"+scene+`?station=north", plan: [{name: beside, center: 145.5M}]`, 1)
	text += "mqtt:\n  homeassistant: {enabled: true}\n"
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if said, exit := s.enrol(t, c.must("station", "code", "torino")); exit != 0 {
		t.Fatal(said)
	}
	start(t, "heimdall-agent", "run", "--config", s.config)

	env := append(c.subscriber("shack"), "PATH="+strings.Join([]string{tools, "/usr/bin", os.Getenv("PATH")}, ":")) // /usr/bin/python3 has Debian's modules
	const seen = `(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z) torino 145\.503\d* MHz, SNR 6[34]\.?\d* dB`
	t.Run("each", func(t *testing.T) {
		for _, name := range []string{"shell", "python", "go", "node-red", "home-assistant"} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				env, begins := slices.Clone(env), "^"
				if name == "node-red" {
					_, port, _ := net.SplitHostPort(servers.FreeAddress(t))
					env, begins = append(env, "HOME="+t.TempDir(), "PORT="+port), `\[debug:Heimdall\] ` // it keeps its flows below HOME
				}
				out := runExample(t, name, env)
				if name == "home-assistant" {
					out.waitFor(t, `^homeassistant/device/heimdall-torino/config \{.*"state_topic":"heimdall/v1/torino/state".*\}$`)
					return
				}
				if name == "node-red" {
					out.waitFor(t, "Started flows$") // what is deployed before would be replaced by the empty ones
					deploy(t, env)
					out.waitFor(t, `\[debug:Heimdall\] torino is (running|degraded: .+)$`) // a busy computer may lose samples
				}
				at := out.waitFor(t, begins+seen+"$")[1]
				if stored := c.must("export", "detections", "--station", "torino"); !strings.Contains(stored, ","+at+",") {
					t.Errorf("a detection of %s is not stored:\n%s", at, stored)
				}
			})
		}
	})
}

// subscriber makes an account, and gives the environment in which the examples run.
func (c *club) subscriber(name string) []string {
	c.t.Helper()
	ca := filepath.Join(c.t.TempDir(), "heimdall-ca.pem")
	said := c.must("subscriber", "add", name, "--ca", ca)
	found := regexp.MustCompile(`^(\S+)  user (\S+)  password \(shown once\) (\S+)  CA in ` + regexp.QuoteMeta(ca) + `$`).FindStringSubmatch(said)
	if found == nil {
		c.t.Fatalf("subscriber add says %q", said)
	}
	broker, err := url.Parse(found[1])
	if err != nil {
		c.t.Fatal(err)
	}
	return append(os.Environ(), "MQTT_HOST="+broker.Hostname(), "MQTT_PORT="+broker.Port(), "MQTT_USER="+found[2], "MQTT_PASSWORD="+found[3], "MQTT_CA="+ca)
}

// shown is a command as the page shows it.
func shown(t *testing.T, name string) string {
	t.Helper()
	block := regexp.MustCompile("(?s)<!-- tested " + name + " -->\n```\n(.*?)```").FindSubmatch(readFile(t, filepath.Join(examples, "README.md")))
	if block == nil {
		t.Fatalf("the page shows no command for %s", name)
	}
	return string(block[1])
}

// example is one that runs; what it prints is in a file.
type example struct{ log string }

// runExample runs a command of the page until the test ends.
func runExample(t *testing.T, name string, env []string) *example {
	t.Helper()
	e := &example{log: filepath.Join(t.TempDir(), "log")}
	log, err := os.Create(e.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command("sh", "-c", shown(t, name))
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = examples, env, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // the shell and all that it starts
	if err := servers.StartChild(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
	})
	return e
}

// waitFor waits for a line.
func (e *example) waitFor(t *testing.T, pattern string) (found []string) {
	t.Helper()
	line := regexp.MustCompile("(?m)" + pattern)
	eventually(t, time.Minute, "a line like "+pattern, func() error {
		text := string(readFile(t, e.log))
		if found = line.FindStringSubmatch(text); found == nil {
			return fmt.Errorf("it prints:\n%s", text)
		}
		return nil
	})
	return found
}

// deploy hands Node-RED the flow, as soon as it takes one.
func deploy(t *testing.T, env []string) {
	t.Helper()
	eventually(t, time.Minute, "the flow is deployed", func() error {
		cmd := exec.Command("sh", "-c", shown(t, "deploy"))
		cmd.Dir, cmd.Env = examples, env
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}
