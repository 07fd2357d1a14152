package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fulgidus/heimdall/packaging/servers"
)

// Ctrl-C at a question ends the program at once, and the terminal shows again what is typed.
func TestQuestions_CtrlC(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		program string
		args    []string
		talk    func(x *terminal)
	}{
		"setup, a line": {"heimdall-agent", []string{"setup", "--source", simulated(t, "north")}, func(x *terminal) {
			x.waitFor("2/5 Place")
		}},
		"setup, a code": {"heimdall-agent", []string{"setup", "--source", simulated(t, "north")}, func(x *terminal) {
			x.answer("2/5 Place", "")
			x.answer("3/5 Name", "torino")
			x.answer("4/5 Send to", "c")
			x.waitFor("code: ")
		}},
		"init, a line": {"heimdall-collector", []string{"init"}, func(x *terminal) {
			x.waitFor("database, ")
		}},
		"init, a secret": {"heimdall-collector", []string{"init", "--store", "sqlite:own.db", "--mqtt", servers.Mosquitto(t).URL, "--archive", "s3://bucket?endpoint=http://127.0.0.1:1"}, func(x *terminal) {
			x.answer("access key", "k")
			x.waitFor("secret key: ")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			config := filepath.Join(dir, "new.yaml")
			cmd := command(t, tc.program, append(tc.args, "--config", config)...)
			cmd.Dir = dir
			x := atTerminal(t, cmd)
			tc.talk(x)
			began := time.Now()
			x.press("\x03")
			if code := x.end(); code != 1 {
				t.Errorf("it ends with %d", code)
			}
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("it ends after %v", took)
			}
			lines := strings.Split(strings.TrimSpace(x.screen()), "\n")
			if last := lines[len(lines)-1]; !strings.HasPrefix(last, "stopped: no configuration was written") {
				t.Errorf("it does not say what became of it:\n%s", x.screen())
			}
			if mode, err := unix.IoctlGetTermios(int(x.master.Fd()), unix.TCGETS); err != nil || mode.Lflag&unix.ECHO == 0 {
				t.Errorf("the terminal does not show what is typed: %v", err)
			}
			if _, err := os.Stat(config); !os.IsNotExist(err) {
				t.Errorf("the configuration: %v", err)
			}
		})
	}
}

// A configuration that is not there is named, with the command that writes it.
func TestRun_MissingConfiguration(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "missing.yaml")
	for program, writes := range map[string]string{"heimdall-agent": "setup", "heimdall-collector": "init"} {
		_, errOut, code := run(t, program, "run", "--config", missing)
		want := missing + " is not there: `" + program + " " + writes + " --config " + missing + "`"
		if code != 2 || !strings.HasPrefix(errOut, want) || !strings.Contains(errOut, "/etc/heimdall/") {
			t.Errorf("%s: exit %d: %swant %s", program, code, errOut, want)
		}
	}
}
