package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// captured runs the program and gives its exit code and what it wrote to both streams.
func captured(t *testing.T, args ...string) (code int, text string) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, errs := os.Stdout, os.Stderr
	os.Stdout, os.Stderr = w, w
	defer func() { os.Stdout, os.Stderr = out, errs }()
	var all []byte
	var reading sync.WaitGroup
	reading.Go(func() { all, err = io.ReadAll(r) }) // a pipe holds less than some commands write
	code = run(args)
	w.Close()
	if reading.Wait(); err != nil {
		t.Fatal(err)
	}
	return code, string(all)
}

func TestRun_ExitCodes(t *testing.T) {
	here := newSite(t, "")
	broken := newSite(t, "colour: red")
	t.Setenv("HEIMDALL_AGENT_CONFIG", "/nowhere/agent.yaml")
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"version", 0, "heimdall-agent dev"},
		{"", exitUsage, "--help explains"},
		{"dance", exitUsage, "dance"},
		{"check --colour", exitUsage, "--colour"},
		{"status", exitUsage, "/nowhere/agent.yaml"},
		{"run --config " + broken.config, exitUsage, "agent.yaml:4:1: colour: unknown key"},
		{"status --config " + here.config, exitFailed, errNotRunning.Error()},
		{"measure /nowhere.cu8", exitFailed, "/nowhere.cu8"},
		{"measure -", exitFailed, "give --format and --rate"},
		{"measure --dc often /nowhere.cu8", exitUsage, "--dc often: want mask or keep"},
		{"measure --rate 0 /nowhere.cu8", exitUsage, "--rate 0 Hz: want a sample rate above 0"},
		{"measure --rate 1e30 /nowhere.cu8", exitUsage, `--rate 1e+30 Hz: want 100 Hz to 1 GHz`},
		{"measure /dev/null", exitFailed, `"a device"`},
		{"measure /", exitFailed, `"a folder"`},
	} {
		code, text := captured(t, strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(text, c.says) {
			t.Errorf("%q: ended with %d, want %d with %q in\n%s", c.args, code, c.code, c.says, text)
		}
	}
}

// An engine that is not there is a fault of the environment: services do not restart on it.
func TestRun_RefusesAnUnknownEngine(t *testing.T) {
	if os.Getenv("HEIMDALL_DSP") == "" { // the choice is made once a process
		c := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^"+t.Name()+"$")
		c.Env = append(os.Environ(), "HEIMDALL_DSP=fast")
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	code, text := captured(t, "version")
	if code != exitUsage || !strings.Contains(text, "HEIMDALL_DSP=fast: this program has generic") {
		t.Errorf("ended with %d, want %d and what can be set:\n%s", code, exitUsage, text)
	}
}

// Whoever asks for help wants to see first how it is done.
func TestHelp_BeginsWithAnExample(t *testing.T) {
	for _, c := range []string{"", " run", " check", " tap", " status", " measure", " probe", " bench", " version", " spool stat", " spool list", " spool verify", " spool export"} {
		code, text := captured(t, strings.Fields(c+" --help")...)
		if want := "Example:  heimdall-agent" + c; code != 0 || !strings.HasPrefix(text, want) {
			t.Errorf("%q: ended with %d, want it to begin with %q:\n%s", c, code, want, text)
		}
		if !strings.Contains(text, "\n\nUsage: heimdall-agent"+c) || strings.Count(text, "Example:") != 1 {
			t.Errorf("%q: want the usage next, and the example once:\n%s", c, text)
		}
	}
}

// What a source names can be wrong too. That does not mend itself, so it ends a command like any fault of the configuration:
// with all of them, one a line, and the code on which services do not restart.
func TestRun_FaultsOfSources(t *testing.T) {
	here := newSite(t, "")
	dir := filepath.Dir(here.config)
	write(t, filepath.Join(dir, "broken.yaml"), "stations: {torino: {position: [95, 7]}}\npath: {model: wet}\n")
	write(t, here.config, fmt.Sprintf(`station: {id: torino}
receivers:
  - {id: r0, source: "file:%[1]s/missing.cu8?rate=250k"}
  - {id: r1, source: "sim:%[1]s/broken.yaml?station=torino"}
  - {id: r2, source: "sim:%[1]s/sky.yaml?station=milano"}
  - {id: r3, source: "sim:%[1]s/sky.yaml?station=torino", plan: [{rate: 10}]}
spool: {path: %[2]q, limit: 16MiB}
`, dir, here.state))
	for _, command := range []string{"run", "tap", "check"} {
		code, text := captured(t, command, "--config", here.config)
		if code != exitUsage {
			t.Errorf("%s: ended with %d, want %d", command, code, exitUsage)
		}
		for _, want := range []string{
			"recording " + dir + "/missing.cu8: file: missing: ",
			"scene " + dir + `/broken.yaml:1:32: stations.torino.position[0] "95": want -90 to 90 degrees`,
			"scene " + dir + `/broken.yaml:2:15: path.model "wet": want free_space or log_distance`,
			`station "milano": not in the scene, which has torino`,
			`rate "10 Hz": want 1 kHz to 100 MHz`,
		} {
			n := 0
			for line := range strings.Lines(text) {
				if strings.Contains(line, want) {
					n++
				}
			}
			if n != 1 {
				t.Errorf("%s: want one line with %q, got %d in\n%s", command, want, n, text)
			}
		}
	}
	if _, err := os.Stat(here.state); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a refused start left a state directory: %v", err)
	}
}

func TestExitCode(t *testing.T) {
	for err, want := range map[error]int{
		nil: 0, errReported: exitFailed, errors.New("disk full"): exitFailed,
		fmt.Errorf("read: %w", usageError{errNoConfig}): exitUsage,
	} {
		if got := exitCode(err); got != want {
			t.Errorf("%v: got %d, want %d", err, got, want)
		}
	}
}

func TestNewLog(t *testing.T) {
	var text strings.Builder
	newLog(LogConfig{Level: "warn", Format: "json"}, &text).Info("hidden")
	newLog(LogConfig{Level: "warn", Format: "json"}, &text).Warn("shown", "center_hz", 1)
	newLog(LogConfig{Level: "debug", Format: "text"}, &text).Debug("fine")
	if got := text.String(); strings.Contains(got, "hidden") || !strings.Contains(got, `"msg":"shown","center_hz":1`) || !strings.Contains(got, "msg=fine") {
		t.Errorf("%s", got)
	}
}
