//go:build linux

// Package packages_test builds the packages and lives through what happens to them on a computer.
package packages_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/agent/radio/radiotest"
)

// rtltcpSetting has this program act as an rtl_tcp at an address.
const rtltcpSetting = "HEIMDALL_TEST_RTLTCP"

func TestMain(m *testing.M) {
	if address := os.Getenv(rtltcpSetting); address != "" {
		if _, err := radiotest.ListenRTLTCP(context.Background(), address, radiotest.RTLSettings{}); err != nil {
			panic(err)
		}
		select {} // until it is killed
	}
	os.Exit(m.Run())
}

// tools is where the tools are that the packages are made and tried with. make installs them.
func tools(t *testing.T) string {
	t.Helper()
	cache := os.Getenv("HEIMDALL_CACHE")
	if cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(dir, "heimdall")
	}
	return filepath.Join(cache, "bin")
}

// source copies the files of the project, as they are now, into a folder.
func source(t *testing.T, to string) {
	t.Helper()
	copied := exec.Command("sh", "-c", `git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$1"`, "sh", to)
	copied.Dir = "../.."
	if out, err := copied.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// build makes the packages for this kind of computer.
func build(t *testing.T, from, version string) (folder string) {
	t.Helper()
	folder = t.TempDir()
	for _, only := range []string{"amd64 deb", "amd64 rpm"} {
		cmd := exec.Command("sh", filepath.Join(from, "packaging/packages/build.sh"))
		cmd.Env = append(os.Environ(), "GO=go", "TOOLS="+tools(t), "VERSION="+version, "PLATFORMS=", "OUT="+folder, "ONLY="+only, "SOURCE_DATE_EPOCH=1795899600")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	return folder
}

func sums(t *testing.T, folder string) (all string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*"))
	if err != nil || len(files) != 4 {
		t.Fatalf("%q, %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all += fmt.Sprintf("%x %s\n", sha256.Sum256(text), filepath.Base(file))
	}
	return all
}

var command = regexp.MustCompile(`(?m)^\t(\w+) +\w+Cmd +.cmd:`)

// Each command has its paragraph in the manual.
func TestManualNamesEachCommand(t *testing.T) {
	for _, program := range []string{"agent", "collector"} {
		source, err := os.ReadFile("../../" + program + "/main.go")
		if err != nil {
			t.Fatal(err)
		}
		manual, err := os.ReadFile("man/heimdall-" + program + ".1")
		if err != nil {
			t.Fatal(err)
		}
		commands := command.FindAllSubmatch(source, -1)
		if len(commands) < 10 {
			t.Errorf("%s has %d commands", program, len(commands))
		}
		for _, c := range commands {
			if name := strings.ToLower(string(c[1])); !bytes.Contains(manual, []byte("\n.B "+name+"\n")) {
				t.Errorf("man/heimdall-%s.1 does not name %s", program, name)
			}
		}
	}
}

// The same source gives the same bytes in any folder, lintian finds no error, and the packages live as they should: see life.sh.
func TestPackages(t *testing.T) {
	if os.Getenv("HEIMDALL_PACKAGES") == "" {
		t.Skip("takes minutes, as root: `make package-test`")
	}
	here, there := t.TempDir(), t.TempDir()
	source(t, here)
	source(t, there)
	first := build(t, here, "1.0.0")
	if a, b := sums(t, first), sums(t, build(t, there, "1.0.0")); a != b {
		t.Errorf("built once:\n%s\nand again in another folder:\n%s", a, b)
	}
	second := build(t, there, "1.0.1")

	debs, err := filepath.Glob(filepath.Join(second, "*.deb"))
	if err != nil || len(debs) != 2 {
		t.Fatalf("%q, %v", debs, err)
	}
	lint := exec.Command("lintian", append([]string{"--allow-root", "--fail-on=error"}, debs...)...)
	out, err := lint.CombinedOutput()
	t.Logf("lintian:\n%s", out)
	if err != nil {
		t.Errorf("lintian: %v", err)
	}
	folder := t.TempDir()
	for name, from := range map[string]string{"first": first, "second": second} {
		if err := os.Rename(from, filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("FirstRun", func(t *testing.T) {
		itself, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		program, err := os.ReadFile(itself) // which acts as rtl_tcp
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, "rtl_tcp"), program, 0o755); err != nil {
			t.Fatal(err)
		}
		live(t, folder, "first.sh")
		numbers, err := os.ReadFile(filepath.Join(folder, "numbers"))
		t.Logf("from the package to the station in the list: %s%v", numbers, err)
	})
	t.Run("Life", func(t *testing.T) { live(t, folder, "life.sh") })
}

// live runs a script with both versions at hand under a systemd of its own.
func live(t *testing.T, folder, script string) {
	t.Helper()
	for _, name := range []string{"outcome", "log", "journal"} {
		if err := os.RemoveAll(filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	boot := exec.CommandContext(ctx, "unshare", "--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "--net", "--cgroup", "sh", "testdata/boot.sh", folder, script)
	var said bytes.Buffer
	boot.Stdout, boot.Stderr = &said, &said
	began := time.Now()
	err := boot.Run() // which ends with the signal of the power off
	t.Logf("they lived for %s", time.Since(began).Round(time.Second))
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			return err.Error()
		}
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		return strings.Join(lines[max(0, len(lines)-60):], "\n")
	}
	if read("outcome") != "lived" {
		t.Errorf("boot: %v %s\n%s:\n%s\njournal:\n%s", err, said.String(), script, read("log"), read("journal"))
	}
}
