package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/protocol"
)

func TestLoadConfig_ShippedExampleNamesEveryKey(t *testing.T) {
	path := filepath.Join("..", "configs", "collector.yaml")
	cfg, err := LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keysOf(reflect.TypeFor[Config]()) {
		if !strings.Contains(string(text), key+":") {
			t.Errorf("the example does not show the key %s", key)
		}
	}
	want := DefaultConfig()
	if diff := cmp.Diff([]any{want.Limits, want.Log, want.HTTP, want.ID, want.Data, want.Retention}, []any{cfg.Limits, cfg.Log, cfg.HTTP, cfg.ID, cfg.Data, cfg.Retention}); diff != "" {
		t.Errorf("(-default +example):\n%s", diff)
	}
}

// keysOf lists the keys of a configuration and of all that it holds.
func keysOf(typ reflect.Type) []string {
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct {
		return nil
	}
	var keys []string
	for i := range typ.NumField() {
		if key := typ.Field(i).Tag.Get("yaml"); key != "" {
			keys = append(append(keys, key), keysOf(typ.Field(i).Type)...)
		}
	}
	return keys
}

func TestLoadConfig_WithoutFileEverythingIsEmbedded(t *testing.T) {
	cfg, err := LoadConfig("")
	if err != nil {
		t.Fatal(err)
	}
	if cfg.MQTT.URL != "" || string(cfg.Store.URL) != "sqlite:heimdall-data/heimdall.db" || cfg.Archive.URL != "file:heimdall-data/archive" || !*cfg.MQTT.JSONMirror {
		t.Errorf("%+v", cfg)
	}
}

func TestLoadConfig_Broken(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"unknown key":         {"colour: red\nlog: {}", ":1:1: colour: unknown key"},
		"misspelt key":        {"archiv: {url: \"file:x\"}", "did you mean archive?"},
		"id":                  {"id: Main Collector", `:1:5: id: "Main Collector"`},
		"database":            {"store: {url: \"mysql://x\"}", "store.url"},
		"object store":        {"archive: {url: \"ftp://x\"}", `archive.url: "ftp://x": want s3://`},
		"database's address":  {"store:\n  url: \"postgres://heimdall:pa ss@h/d\"", ":2:8: store.url: \"***\": it cannot be read: want postgres://user:password@host/database"},
		"database's percent":  {"store: {url: \"postgres://heimdall:pa%zz@h/d\"}", ":1:14: store.url"},
		"database's settings": {"store: {url: \"postgres://heimdall@h/d?sslmode=perhaps\"}", "sslmode is invalid"},
		"no file":             {"store: {url: \"sqlite:\"}", "name a file"},
		"short bucket":        {"archive: {url: \"s3://b\"}", `:1:16: archive.url: "s3://b": "b" is no bucket's name`},
		"keys in a bucket":    {"archive: {url: \"s3://k:x@bbb\"}", "set archive.access_key and archive.secret_key"},
		"keys in an endpoint": {"archive: {url: \"s3://bbb?endpoint=http://k:x@h\"}", ":1:16: archive.url"},
		"no folder":           {"archive: {url: \"file:\"}", "archive.url"},
		"password of nobody":  {"mqtt: {url: \"mqtt://x\", password: p}", "mqtt.username: missing"},
		"path of a broker":    {"mqtt: {url: \"mqtt://x:1883/path\"}", "mqtt.url"},
		"broker":              {"mqtt: {url: \"http://x\"}", `mqtt.url: "http://x"`},
		"password in the URL": {"mqtt: {url: \"mqtt://u:p@x\"}", "leave user and password out"},
		"half a certificate":  {"mqtt: {url: \"mqtts://x\", key: k.pem}", "needs both"},
		"prefix":              {"mqtt: {prefix: /x}", "mqtt.prefix"},
		"prefix with a hole":  {"mqtt: {prefix: a//b}", "mqtt.prefix"},
		"prefix of brokers":   {"mqtt: {prefix: $SYS}", "mqtt.prefix"},
		"half of TLS":         {"http: {tls: {cert: c.pem}}", "http.tls"},
		"group":               {"mqtt: {shared_group: a/b}", "mqtt.shared_group"},
		"embedded port":       {"mqtt: {embedded: {listen: here}}", "mqtt.embedded.listen"},
		"accounts":            {"mqtt: {accounts: some}", "want none, embedded, dynsec or files"},
		"plug-in of nobody":   {"mqtt: {accounts: dynsec}", "mqtt.accounts"},
		"plug-in, no account": {"mqtt: {url: \"mqtt://x\", accounts: dynsec}", "mqtt.username: missing"},
		"another's door":      {"mqtt: {url: \"mqtt://x\", accounts: embedded}", "leave mqtt.url out"},
		"files without place": {"mqtt: {url: \"mqtt://x\", accounts: files}", "mqtt.accounts_folder"},
		"place without files": {"mqtt: {url: \"mqtt://x\", accounts_folder: /x}", "mqtt.accounts_folder"},
		"nobody's broker":     {"mqtt: {accounts: none, embedded: {listen: \"0.0.0.0:0\"}}", "there must be accounts"},
		"http port":           {"http: {listen: \"127.0.0.1\"}", "http.listen"},
		"open to the world":   {"http: {listen: \"0.0.0.0:8090\"}", "unless http.tokens is true: set it, also behind a reverse proxy, or whoever comes through that may do all. TLS comes with it"},
		"open without tokens": {"http: {listen: \":8090\", tls: {cert: c.pem, key: k.pem}}", "http.listen: \":8090\": only a loopback address"},
		"no port":             {"http: {listen: \"0.0.0.0\", tokens: true, tls: {cert: c.pem, key: k.pem}}", "want host:port"},
		"name of a host":      {"http: {hosts: [\"https://x.example\"]}", "http.hosts"},
		"message limit":       {"limits: {message: 1B}", "limits.message"},
		"station rate":        {"limits: {station_rate: -1}", "limits.station_rate"},
		"station bytes":       {"limits: {station_bytes: 0}", "limits.station_bytes"},
		"capture bytes":       {"limits: {capture_bytes: 1kB}", "limits.capture_bytes"},
		"retention":           {"retention: {spectrum: soon}", `"soon" is no duration; write it like 10s, 250ms, 1h30m or 30d, or forever`},
		"retention of none":   {"retention: {audit: 0}", `keeps nothing`},
		"log level":           {"log: {level: 9}", "log.level"},
		"log format":          {"log: {format: xml}", "log.format"},
		"missing secret":      {"archive: {secret_key: \"file:/nowhere/k\"}", "archive.secret_key"},
		"unclosed":            {"id: [", ":1:"},
		"a list":              {"- 1", "want a mapping"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.yaml")
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := LoadConfig(path)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v\nwant an error with %q", err, c.want)
			}
			if err != nil && !errors.As(err, new(configs.Faults)) {
				t.Errorf("got %T, want configs.Faults", err)
			}
		})
	}
}

func TestLoadConfig_Retention(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.yaml")
	if err := os.WriteFile(path, []byte("retention: {measurement: forever, spectrum: 12h, gap: 2y}"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	want := RetentionConfig{Measurement: 0, Detection: 365 * aDay, Health: 365 * aDay, Spectrum: aDay / 2, Recording: 90 * aDay, Gap: 730 * aDay, Audit: 0}
	if diff := cmp.Diff(want, cfg.Retention); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestRetentionConfig_Keep looks at what has no key of its own.
func TestRetentionConfig_Keep(t *testing.T) {
	for name, c := range map[string]struct {
		config            RetentionConfig
		replies, rejected time.Duration
	}{
		"defaults":           {DefaultConfig().Retention, 365 * 24 * time.Hour, 365 * 24 * time.Hour},
		"long recordings":    {RetentionConfig{Measurement: aDay, Recording: 3 * aDay}, 72 * time.Hour, 24 * time.Hour},
		"recordings forever": {RetentionConfig{Measurement: aDay}, 0, 24 * time.Hour},
		"forever":            {RetentionConfig{Recording: aDay}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			keep := c.config.keep()
			if got := keep.Records[protocol.KindReply]; got != c.replies || keep.Rejected != c.rejected {
				t.Errorf("replies are kept for %v and rejections for %v, want %v and %v", got, keep.Rejected, c.replies, c.rejected)
			}
			if got, ok := keep.Records[protocol.KindSite]; ok {
				t.Errorf("sites are kept for %v", got)
			}
		})
	}
}

func TestLoadConfig_Environment(t *testing.T) {
	t.Setenv("HEIMDALL_COLLECTOR_STORE_URL", "postgres://u:secret@h/d")
	t.Setenv("HEIMDALL_COLLECTOR_ARCHIVE_ACCESS_KEY", "key")
	cfg, err := LoadConfig("")
	if err != nil || string(cfg.Store.URL) != "postgres://u:secret@h/d" || cfg.Archive.AccessKey != "key" {
		t.Errorf("%v, %v", cfg, err)
	}
	if got := redact(string(cfg.Store.URL)); strings.Contains(got, "secret") {
		t.Errorf("a password is shown: %s", got)
	}
	for name, value := range map[string]string{"HEIMDALL_COLLECTOR_STORE_URL": "postgres://u:se cret@h/d", "HEIMDALL_COLLECTOR_MQTT_PASSWORD": "secret"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, value)
			if _, err := LoadConfig(""); err == nil || !strings.HasPrefix(err.Error(), name+": ") || strings.Contains(err.Error(), "cret") {
				t.Errorf("%v, want one that names %s and shows nothing of it", err, name)
			}
		})
	}
	t.Setenv("HEIMDALL_COLLECTOR_CONFIG", "/from/env.yaml")
	if got := findConfig(""); got != "/from/env.yaml" {
		t.Errorf("findConfig: %q", got)
	}
}

func TestDataDir_ServesOneProcess(t *testing.T) {
	dir := t.TempDir()
	first, err := openDataDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openDataDir(dir); err == nil || !strings.Contains(err.Error(), "another collector uses this directory") {
		t.Errorf("got %v", err)
	}
	if err := first.announce(running{PID: 1, HTTP: "http://h", MQTT: "mqtt://h"}); err != nil {
		t.Fatal(err)
	}
	if got, err := findRunning(dir); err != nil || got.HTTP != "http://h" {
		t.Errorf("%+v, %v", got, err)
	}
	if err := first.close(); err != nil {
		t.Fatal(err)
	}
	second, err := openDataDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	second.close()
}

// No password or key is shown by what goes wrong, however it was written and wherever it does not belong.
func TestConfig_KeepsSecrets(t *testing.T) {
	for _, text := range []string{
		"mqtt: {url: \"mqtt://torino:hush@127.0.0.1:1\"}",
		"mqtt: {url: \"mqtt://torino:hu/hush@127.0.0.1:1\"}",
		"mqtt: {url: \"mqtt://torino:1/hush@127.0.0.1:1\"}",
		"mqtt: {url: \"mqtt://torino:1?hush@127.0.0.1:1\"}",
		"mqtt: {url: \"torino:hush@127.0.0.1:1\"}",
		"store: {url: \"torino:hush@127.0.0.1:1/d\"}",
		"archive: {url: \"key:hush@bucket\"}",
		"mqtt: {url: \"mqtt://127.0.0.1:1\", username: torino, password: hush}",
		"store: {url: \"mysql://torino:hush@127.0.0.1:1/d\"}",
		"store: {url: \"postgres://torino:hush@127.0.0.1:1/d\"}",
		"store: {url: \"postgres://torino@127.0.0.1:1/d?password=hush\"}",
		"store: {url: \"postgres://torino:a/hush@127.0.0.1:1/d\"}",
		"store: {url: \"postgres://torino:1/hush@127.0.0.1:1/d\"}",
		"store: {url: \"postgres://torino:a:@hush%zz@127.0.0.1:1/d\"}",
		"store: {url: \"postgres://torino:hush@127.0.0.1:1/d?sslmode=perhaps\"}",
		"archive: {url: \"s3://key:hush@bucket?endpoint=http://127.0.0.1:1\"}",
		"archive: {url: \"s3://key:a/hush@bucket?endpoint=http://127.0.0.1:1\"}",
		"archive: {url: \"s3://bucket?endpoint=http://key:hush@127.0.0.1:1\"}",
		"archive: {url: \"s3://bucket?endpoint=http://127.0.0.1:1\", access_key: key, secret_key: hush}",
	} {
		path := filepath.Join(t.TempDir(), "x.yaml")
		text += "\ndata: " + t.TempDir() + "\nhttp: {listen: \"127.0.0.1:0\"}\nlog: {level: debug}\n"
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var said output
		for _, command := range []string{"check", "migrate", "verify"} {
			if code := run([]string{command, "--config", path}, streams{out: &said, err: &said}); code == 0 && command == "check" {
				t.Errorf("all is well with %s", text)
			}
		}
		cfg, err := LoadConfig(path)
		if err == nil {
			ctx, cancel := context.WithCancel(t.Context())
			c, err := Open(ctx, cfg, "test", newLog(cfg.Log, &said))
			if err != nil {
				fmt.Fprintln(&said, err)
			} else {
				ended := make(chan error, 1) // Run returns once
				go func() { ended <- c.Run(ctx) }()
				eventually(t, "it has tried the database", func() bool { return strings.Contains(said.String(), "level=ERROR") || c.tablesReady() == nil })
				fmt.Fprintln(&said, c.conditions(ctx))
				cancel()
				fmt.Fprintln(&said, <-ended)
			}
			cancel()
		}
		if strings.Contains(said.String(), "hush") {
			t.Errorf("%s\nsays\n%s", text, said.String())
		}
	}
}

func TestRoom_Reads(t *testing.T) {
	for text, want := range map[string]Room{"80%": {Part: 0.8}, "500GiB": {Bytes: 500 << 30}, "none": {}, "100 %": {Part: 1}} {
		var got Room
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "0%", "101%", "-1%", "NaN%", "much", "0B", "x%"} {
		if err := new(Room).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}

func TestCodeNotes(t *testing.T) {
	for name, c := range map[string]struct {
		http   HTTPConfig
		broker string
		want   []string
	}{
		"named":           {HTTPConfig{Listen: ":8090", Hosts: []string{"collector.example.org"}}, "mqtts://collector.example.org:8883", nil},
		"an address":      {HTTPConfig{Listen: "192.0.2.1:8090"}, "mqtts://192.0.2.1:8883", nil},
		"by its own name": {HTTPConfig{Listen: ":8090"}, "mqtts://192.0.2.1:8883", []string{"set http.hosts"}},
		"loopback":        {HTTPConfig{Listen: "127.0.0.1:8090"}, "mqtt://localhost:1883", []string{"set http.listen, and http.hosts", "set mqtt.public_url"}},
	} {
		cfg := DefaultConfig()
		cfg.HTTP = c.http
		got := cfg.codeNotes(c.broker)
		if len(got) != len(c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
			continue
		}
		for i, want := range c.want {
			if !strings.Contains(got[i], want) {
				t.Errorf("%s: %q, want %q", name, got[i], want)
			}
		}
	}
}
