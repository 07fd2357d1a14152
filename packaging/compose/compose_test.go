// Package compose_test looks whether the containers' files fit together, as far as that goes without a container engine.
package compose_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// loader is the specification's own, with its schema.
const loader = "github.com/compose-spec/compose-go/v2/cmd@v2.16.2"

// service is what is looked at of one.
type service struct {
	Image       string            `json:"image"`
	Build       *struct{}         `json:"build"`
	Profiles    []string          `json:"profiles"`
	Environment map[string]string `json:"environment"`
	Entrypoint  []string          `json:"entrypoint"`
	Privileged  bool              `json:"privileged"`
	Ports       []struct {
		HostIP    string `json:"host_ip"`
		Published string `json:"published"`
	} `json:"ports"`
	Volumes []struct{ Type, Source string } `json:"volumes"`
}

// secrets has secrets.sh write an .env into a copy of the folder.
func secrets(t *testing.T, store string) (folder string, values map[string]string) {
	t.Helper()
	folder = filepath.Join(t.TempDir(), "compose")
	if err := os.CopyFS(folder, os.DirFS(".")); err != nil {
		t.Fatal(err)
	}
	os.Remove(filepath.Join(folder, ".env"))
	if out, err := exec.Command("sh", filepath.Join(folder, "secrets.sh"), store).CombinedOutput(); err != nil {
		t.Fatalf("secrets.sh: %v: %s", err, out)
	}
	file, err := os.Open(filepath.Join(folder, ".env"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf(".env has mode %v, %v", info.Mode(), err)
	}
	values = map[string]string{}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), "=")
		values[name] = value
	}
	return folder, values
}

var variable = regexp.MustCompile(`\$\{(\w+):\?[^}]*\}`)

// load has the loader judge compose.yaml with the values of .env, and gives what it makes of it.
func load(t *testing.T, folder string, values map[string]string) map[string]service {
	t.Helper()
	path := filepath.Join(folder, "compose.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text = variable.ReplaceAllFunc(text, func(found []byte) []byte {
		name := string(variable.FindSubmatch(found)[1])
		if values[name] == "" {
			t.Errorf("compose.yaml needs %s, which secrets.sh does not write", name)
		}
		return []byte(values[name])
	})
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	judge := exec.Command("go", "run", loader, "-format", "json", path)
	judge.Env, judge.Stderr = append(os.Environ(), "GOFLAGS="), &said
	out, err := judge.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, said.String())
	}
	var project struct{ Services map[string]service }
	if err := json.Unmarshal(out, &project); err != nil {
		t.Fatal(err)
	}
	return project.Services
}

func TestCompose(t *testing.T) {
	stores := map[string]string{}
	for _, store := range []string{"minio", "garage"} {
		folder, values := secrets(t, store)
		if values["COMPOSE_PROFILES"] != store {
			t.Errorf("profile %q, want %s", values["COMPOSE_PROFILES"], store)
		}
		services := load(t, folder, values)
		for _, name := range []string{"collector", "broker", "database", "grafana", "gateway", "minio", "garage"} {
			if _, ok := services[name]; !ok {
				t.Errorf("no service %s", name)
			}
		}
		for name, s := range services {
			if s.Build == nil && !regexp.MustCompile(`:[^@]+@sha256:[0-9a-f]{64}$`).MatchString(s.Image) {
				t.Errorf("%s: image %s is not pinned by version and digest", name, s.Image)
			}
			if s.Privileged {
				t.Errorf("%s is privileged", name)
			}
			for _, p := range s.Ports { // stations come to the broker; all else stays on this computer
				if p.HostIP != "127.0.0.1" && name != "broker" {
					t.Errorf("%s listens on port %s of %q", name, p.Published, p.HostIP)
				}
			}
			for _, v := range s.Volumes {
				source := strings.Replace(v.Source, filepath.Dir(folder), "..", 1)
				if _, err := os.Stat(source); v.Type == "bind" && err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			for _, profile := range s.Profiles {
				stores[profile] = name
			}
		}
	}
	if fmt.Sprint(stores) != "map[garage:garage minio:minio]" {
		t.Errorf("object stores by profile %v", stores)
	}
}

// secrets.sh makes no password twice, and leaves those that are in use.
func TestSecrets(t *testing.T) {
	folder, first := secrets(t, "minio")
	_, second := secrets(t, "minio")
	for name, value := range first {
		if name != "COMPOSE_PROFILES" && (value == second[name] || len(value) < 16) {
			t.Errorf("%s is %q, and then %q", name, value, second[name])
		}
	}
	before, err := os.ReadFile(filepath.Join(folder, ".env"))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("sh", filepath.Join(folder, "secrets.sh"), "garage").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if after, err := os.ReadFile(filepath.Join(folder, ".env")); err != nil || !slices.Equal(before, after) {
		t.Errorf("secrets in use were replaced, %v", err)
	}
	if err := exec.Command("sh", filepath.Join(folder, "secrets.sh"), "floppy").Run(); err != nil {
		t.Errorf("with secrets in use: %v", err)
	}
}

// The collector takes its configuration, with the secrets that compose.yaml passes in.
func TestCollectorTakesItsConfiguration(t *testing.T) {
	check := exec.Command("go", "run", "../../collector", "check", "--config", "collector.yaml")
	check.Env = append(os.Environ(), "CGO_ENABLED=0", "HEIMDALL_COLLECTOR_STORE_URL=postgres://heimdall:x@127.0.0.1:1/heimdall",
		"HEIMDALL_COLLECTOR_MQTT_PASSWORD=x", "HEIMDALL_COLLECTOR_ARCHIVE_ACCESS_KEY=x", "HEIMDALL_COLLECTOR_ARCHIVE_SECRET_KEY=x")
	out, err := check.CombinedOutput()
	if err == nil || bytes.Contains(out, []byte("exit status 2")) || !bytes.Contains(out, []byte("127.0.0.1:1")) {
		t.Errorf("%v, want that only the servers are missing:\n%s", err, out)
	}
}
