//go:build linux

package service_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/fulgidus/heimdall/packaging/service"
)

// The journal gets each line with its priority and without a time, which it has itself; anything else gets the time.
func TestLogger_InTheJournal(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		f, err := os.Create(filepath.Join(t.TempDir(), "journal"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		st := info.Sys().(*syscall.Stat_t)
		t.Setenv("JOURNAL_STREAM", fmt.Sprintf("%d:%d", st.Dev, st.Ino))
		log := service.NewLogger(f, "debug", format).With("component", "link")
		log.Info("station is running")
		log.Warn("trying on")
		log.Error("given up")
		log.Debug("a message")
		text, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		if len(lines) != 4 {
			t.Fatalf("lines %q", lines)
		}
		for i, priority := range []string{"<6>", "<4>", "<3>", "<7>"} {
			if !strings.HasPrefix(lines[i], priority) || strings.Contains(lines[i], "time") || !strings.Contains(lines[i], "link") {
				t.Errorf("%s: line %q, want it to begin with %s, with the component and without a time", format, lines[i], priority)
			}
		}

		var out bytes.Buffer
		service.NewLogger(&out, "warn", format).Info("hidden")
		service.NewLogger(&out, "info", format).Info("shown")
		if got := out.String(); strings.Contains(got, "hidden") || !strings.Contains(got, "time") || strings.HasPrefix(got, "<") {
			t.Errorf("elsewhere: %q", got)
		}
	}
}

func TestSecret(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "heimdall-agent.mqtt.password"), []byte("from systemd\n"), 0o400); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ variable, directory, name, value string }{
		{"", filepath.Join(dir, "none"), "SECRET", ""},
		{"from the environment", dir, "SECRET", "from the environment"},
		{"", dir, "heimdall-agent.mqtt.password", "from systemd"},
		{"", t.TempDir(), "SECRET", ""},
	} {
		t.Setenv("SECRET", c.variable)
		t.Setenv("CREDENTIALS_DIRECTORY", c.directory)
		name, value, err := service.Secret("SECRET", "heimdall-agent.mqtt.password")
		if name != c.name || value != c.value || err != nil {
			t.Errorf("%+v: got %q from %s, %v", c, value, name, err)
		}
	}
	t.Setenv("CREDENTIALS_DIRECTORY", filepath.Join(dir, "heimdall-agent.mqtt.password")) // no directory
	if _, _, err := service.Secret("SECRET", "x"); err == nil {
		t.Error("what cannot be read was taken for absent")
	}
}
