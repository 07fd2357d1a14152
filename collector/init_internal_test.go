package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/packaging/answers"
	"github.com/fulgidus/heimdall/packaging/servers"
)

// asked is an interview whose answers are typed already.
func asked(path string, out *bytes.Buffer, lines ...string) *interview {
	return &interview{in: answers.New(strings.NewReader(strings.Join(append(lines, ""), "\n"))), out: out, path: path, given: map[string]string{}}
}

// A folder for a configuration and for what is embedded.
func initFolder(t *testing.T) (config string) {
	t.Helper()
	dir := t.TempDir()
	t.Chdir(dir)
	return filepath.Join(dir, "etc", "collector.yaml")
}

// Everything embedded is what is proposed; what cannot be is told, and asked again.
func TestInit_Embedded(t *testing.T) {
	path := initFolder(t)
	var out bytes.Buffer
	i := asked(path, &out, "mysql://x", "sqlite:"+os.DevNull+"/x", "sqlite:own.db", "http://x", "embedded", "file:", "file:"+os.DevNull+"/x", "file:kept", "maybe", "y")
	i.given["broker"] = "mqtt://user:secret@127.0.0.1"
	if err := i.begin(); err != nil {
		t.Fatal(err)
	}
	free := servers.FreeAddress(t)
	i.cfg.MQTT.Embedded.Listen, i.cfg.HTTP.Listen = free, servers.FreeAddress(t)
	if err := i.collectorFrom(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, want := range []string{
		"want postgres://user@host/database or sqlite:PATH", "not a directory", "database   sqlite:own.db", "leave user and password out of the URL",
		"want mqtt://host:1883", "broker     embedded                               " + free + " is free", "the path is missing", "objects    file:kept",
		"Write " + path + "? [y/N]", "Wrote " + path + ".\nNext: heimdall-collector run --config " + path,
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "is dropped") {
		t.Errorf("nothing was there:\n%s", out.String())
	}
	cfg, err := LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Store.URL != "sqlite:own.db" || cfg.MQTT.URL != "" || cfg.Archive.URL != "file:kept" || !filepath.IsAbs(cfg.Data) {
		t.Errorf("%+v", cfg)
	}
	if _, err := os.Stat(i.draft()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the draft is there: %v", err)
	}
}

// What is there is not written over unless that is said, and then the former stays, and its answers are proposed.
func TestInit_WritesOverOnlyWhenTold(t *testing.T) {
	path := initFolder(t)
	broker, api := servers.FreeAddress(t), servers.FreeAddress(t)
	former := fmt.Sprintf("mqtt: {embedded: {listen: %q}}\nhttp: {listen: %q}\nstore: {url: \"sqlite:former.db\"}\narchive: {url: \"file:former\"}\nretention: {spectrum: 1d}\n", broker, api)
	if err := errors.Join(os.Mkdir(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(former), 0o600)); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	if code := run([]string{"init", "--yes", "--config", path}, streams{&said, &said}); code != exitFailed || !strings.Contains(said.String(), "--force") {
		t.Errorf("ends with %d: %s", code, said.String())
	}
	if err := asked(path, &said, "", "", "", "n").collector(t.Context()); err != nil || !strings.Contains(said.String(), "Nothing was written") ||
		!strings.Contains(said.String(), "all else that "+path+" says is dropped. That file stays as "+path+".old.\n") {
		t.Errorf("after a no: %v\n%s", err, said.String())
	}
	if text, err := os.ReadFile(path); string(text) != former {
		t.Errorf("after a no there is %q, %v", text, err)
	}
	i := asked(path, &said)
	i.yes = true
	if err := i.collector(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	if text, err := os.ReadFile(path + ".old"); string(text) != former {
		t.Errorf("the former one is %q, %v", text, err)
	}
	if cfg, err := LoadConfig(path); err != nil || cfg.Store.URL != "sqlite:former.db" || cfg.Archive.URL != "file:former" || cfg.MQTT.Embedded.Listen != broker || cfg.HTTP.Listen != api {
		t.Errorf("%+v, %v", cfg, err)
	}
}

// A port that is taken is told, and the next free one is proposed. What nobody has typed is in no draft.
func TestInit_PortsAreTaken(t *testing.T) {
	taken := func() string {
		t.Helper()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l.Addr().String()
	}
	begun := func(path string, out *bytes.Buffer, lines ...string) *interview {
		t.Helper()
		i := asked(path, out, lines...)
		if err := i.begin(); err != nil {
			t.Fatal(err)
		}
		i.cfg.MQTT.Embedded.Listen, i.cfg.HTTP.Listen = taken(), taken()
		return i
	}
	path := initFolder(t)
	var out bytes.Buffer
	i := begun(path, &out, "", "")
	if err := i.collectorFrom(t.Context()); !errors.Is(err, answers.ErrNone) || !strings.Contains(out.String(), "mqtt.embedded.listen: listen tcp "+i.cfg.MQTT.Embedded.Listen) {
		t.Fatalf("without answers: %v\n%s", err, out.String())
	}
	if list, err := os.ReadDir(filepath.Dir(path)); len(list) > 0 {
		t.Errorf("there is %v, %v", list, err)
	}

	out.Reset()
	chosen := servers.FreeAddress(t)
	i = begun(path, &out, "", "", "nowhere", "0.0.0.0:9000", chosen, "", "", "y")
	broker, api := i.cfg.MQTT.Embedded.Listen, i.cfg.HTTP.Listen
	if err := i.collectorFrom(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	cfg, err := LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	port := func(address string) int {
		_, text, _ := net.SplitHostPort(address)
		n, _ := strconv.Atoi(text)
		return n
	}
	if cfg.MQTT.Embedded.Listen != chosen || port(cfg.HTTP.Listen) <= port(api) || port(cfg.HTTP.Listen) > port(api)+100 {
		t.Errorf("it listens on %s and %s instead of %s and %s", cfg.MQTT.Embedded.Listen, cfg.HTTP.Listen, broker, api)
	}
	for _, want := range []string{"stop what holds the port", `"0.0.0.0:9000": want an address of this computer alone`, "listen on [" + cfg.HTTP.Listen + "]:"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}

	out.Reset()
	path = initFolder(t)
	i = begun(path, &out)
	i.yes = true
	if err := i.collectorFrom(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if cfg, err := LoadConfig(path); err != nil || cfg.MQTT.Embedded.Listen != i.cfg.MQTT.Embedded.Listen || cfg.HTTP.Listen != i.cfg.HTTP.Listen {
		t.Errorf("%+v, %v", cfg, err)
	}
}

// Broken off after the first answer, it proposes that the next time. No password waits in the draft.
func TestInit_GoesOn(t *testing.T) {
	path := initFolder(t)
	var out bytes.Buffer
	if err := asked(path, &out, "sqlite:own.db").collector(t.Context()); !errors.Is(err, answers.ErrNone) {
		t.Fatalf("without answers: %v\n%s", err, out.String())
	}
	out.Reset()
	i := asked(path, &out)
	i.yes = true
	if err := i.collector(t.Context()); err != nil || !strings.Contains(out.String(), "sqlite:own.db") {
		t.Errorf("%v\n%s", err, out.String())
	}
	i = asked(path, &out)
	i.answered, i.cfg = true, DefaultConfig()
	i.cfg.Store.URL, i.cfg.MQTT.Password, i.cfg.Archive.SecretKey = "postgres://user:secret-1@host/db", "secret-2", "secret-3"
	if err := i.keepDraft(); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(i.draft()); err != nil || strings.Contains(string(text), "secret-") {
		t.Errorf("%s, %v", text, err)
	}
}

// A secret is no argument. One of the environment is kept in a file of its own, one that is in a file already is named.
func TestInit_Secrets(t *testing.T) {
	path := initFolder(t)
	var out bytes.Buffer
	i := asked(path, &out)
	i.yes, i.given["database"] = true, "postgres://user:secret@127.0.0.1/db"
	if err := i.collector(t.Context()); err == nil || !strings.Contains(err.Error(), "does not belong into arguments") || strings.Contains(err.Error()+out.String(), "secret") {
		t.Errorf("%v\n%s", err, out.String())
	}
	address, err := url.Parse(servers.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	address.User = url.UserPassword("heimdall", "secret")
	t.Setenv("HEIMDALL_COLLECTOR_STORE_URL", address.String())
	objects := servers.MinIO(t)
	if err := os.WriteFile("key", []byte(objects.SecretKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	i = asked(path, &out, objects.AccessKey, "file:key")
	i.yes, i.given["objects"] = true, objects.URL
	i.given["broker"] = servers.Mosquitto(t).URL
	if err := i.collector(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if !strings.Contains(out.String(), "put, ranged get, multipart, delete: ok") || !strings.Contains(out.String(), "publish, subscribe: ok") {
		t.Error(out.String())
	}
	os.Unsetenv("HEIMDALL_COLLECTOR_STORE_URL")
	text, err := os.ReadFile(path)
	cfg, errLoad := LoadConfig(path)
	if err := errors.Join(err, errLoad); err != nil {
		t.Fatal(err)
	}
	if string(cfg.Store.URL) != address.String() || string(cfg.Archive.SecretKey) != objects.SecretKey {
		t.Errorf("store %q, key %q", string(cfg.Store.URL), string(cfg.Archive.SecretKey))
	}
	here, _ := os.Getwd()
	if !strings.Contains(string(text), `secret_key: "file:`+filepath.Join(here, "key")) || strings.Contains(string(text), ":secret@") || strings.Contains(string(text), objects.SecretKey) {
		t.Errorf("the configuration is\n%s", text)
	}
	if got, want := secretFiles(path), []string{secretFile(path, "store.url")}; !slices.Equal(got, want) {
		t.Errorf("secrets in %q, want %q", got, want)
	}
}

// Databases are told by what they are, and those that are none of ours are refused.
func TestDescribeStore(t *testing.T) {
	dir := t.TempDir()
	lite := "sqlite:" + filepath.Join(dir, "there.db")
	db, err := store.Open(t.Context(), lite, quiet())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	db.Close()
	for address, want := range map[string]string{
		lite:                   "SQLite 3.",
		"sqlite:" + dir + "/x": "made by the first start",
		servers.Postgres(t):    "no timescaledb",
		servers.TimescaleDB(t): "with compression",
	} {
		if got, err := describeStore(t.Context(), address); err != nil || !strings.Contains(got, want) {
			t.Errorf("%s: %q, %v; want %q", address, got, err, want)
		}
	}
	if got, err := describeStore(t.Context(), "postgres://nobody@127.0.0.1:1/x"); err == nil {
		t.Errorf("no server: %q", got)
	}
}

func TestShownDatabase(t *testing.T) {
	for address, want := range map[string]string{
		"postgres:///heimdall?host=/run/postgresql": "postgres:///heimdall?host=/run/postgresql",
		"postgres://a:secret@h/d?sslmode=disable":   "postgres://a:xxxxx@h/d",
		"postgres://h/d?password=secret":            "postgres://h/d",
		"sqlite:/a b.db":                            "sqlite:/a b.db",
	} {
		if got := shown(address); got != want {
			t.Errorf("%s is shown as %s, want %s", address, got, want)
		}
	}
	for address, want := range map[string]string{
		"postgres:///d?host=/run/x": "postgres://me:p%3Aw@/d?host=/run/x", "postgres://you@h/d": "postgres://you:p%3Aw@h/d",
	} {
		if got := withPassword(address, "p:w", "me"); got != want || !hasPassword(got) {
			t.Errorf("%s becomes %s, want %s", address, got, want)
		}
	}
}
