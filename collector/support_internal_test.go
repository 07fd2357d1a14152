package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/packaging/servers"
)

// secretConfig has a canary at each place where a configuration, the environment or the log may hold a secret.
func secretConfig(t *testing.T, more string) (path string) {
	t.Helper()
	dir := t.TempDir()
	put := func(name, text string, mode os.FileMode) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return file
	}
	secret := put("secret", "c4nary-file\n", 0o600)
	t.Setenv("HEIMDALL_COLLECTOR_ARCHIVE_SECRET_KEY", "c4nary-environment")
	t.Setenv("HEIMDALL_TOKEN", "c4nary-api-token")
	put("systemctl", "#!/bin/sh\necho ActiveState=failed\n", 0o700)
	put("journalctl", `#!/bin/sh
echo 'open store: postgres://heimdall:c4nary-store@127.0.0.1:1/x?password=c4nary-query: refused'
echo 'c4nary-file c4nary-key c4nary-environment c4nary-store c4nary-query "Authorization: Bearer c4nary-api-token" hd1.c4nary'
echo 'the last line'
`, 0o700)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return put("collector.yaml", fmt.Sprintf(`data: %q
mqtt: {url: "mqtt://127.0.0.1:1", username: collector, password: "file:%s"}
store: {url: "postgres://heimdall:c4nary-store@127.0.0.1:1/x?password=c4nary-query"}
archive:
  url: s3://bucket?endpoint=http://127.0.0.1:1
  access_key: c4nary-access
  secret_key: c4nary-key
%s`, filepath.Join(dir, "data"), secret, more), 0o600)
}

func TestSupport_ShowsNoSecret(t *testing.T) {
	for name, c := range map[string]struct {
		more string
		want []string
	}{
		"a configuration that can be read": {"", []string{
			"heimdall-collector support, ", "== build\nheimdall-collector dev, go", "mqtt.username: collector\n", "mqtt.password: ***\n", "archive.access_key: ***\n",
			"store.url: postgres://***@127.0.0.1:1/x\n", "retention.gap: forever\n", "limits.store: 80%\n", "ActiveState=failed\n",
			"no collector runs with the data directory ", "fail  database ", "fail  archive ", "fail  broker ", "== stations\nerror: ", "the last line\n",
			"environment sets HEIMDALL_COLLECTOR_ARCHIVE_SECRET_KEY, ", " HEIMDALL_TOKEN, ",
		}},
		"one that cannot": {"beacons: 1\nlog: {level: loud}\n", []string{
			"beacons: unknown key; known here: id, ", "log.level: \"loud\": want debug, info, warn or error", "not tried: the configuration has faults", "the last line\n",
		}},
		"one that is no YAML": {"a: [b\n  c: }\n", []string{"collector.yaml:", "the last line\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			var out output
			err := SupportCmd{configFlag: configFlag{secretConfig(t, c.more)}}.Run(t.Context(), streams{out: &out, err: &out})
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range c.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("no %q in\n%s", want, out.String())
				}
			}
			if strings.Contains(out.String(), "c4nary") {
				t.Errorf("it shows a secret:\n%s", out.String())
			}
		})
	}
}

func TestSupport_TellsOfARunningCollector(t *testing.T) {
	for name, url := range map[string]string{"SQLite": "", "PostgreSQL": servers.Postgres(t)} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t)
			if url != "" {
				cfg.Store.URL = configs.Secret(url)
			}
			w := startCollector(t, cfg).ready(t)
			playStation(t, w.BrokerURL(), "torino")
			eventually(t, "the station is known", func() bool {
				list, err := w.store.Stations(t.Context())
				return err == nil && len(list) == 1
			})
			file := filepath.Join(t.TempDir(), "support.txt")
			var out output
			if err := (SupportCmd{configFlag: configFlag{configFile(t, cfg)}, Out: file}).Run(t.Context(), streams{out: &out, err: &out}); err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(file)
			if err != nil || !strings.Contains(out.String(), "wrote "+file) {
				t.Fatalf("%v, said %q", err, out.String())
			}
			for _, want := range []string{"/readyz ok\n", name + " ", "0001_tables", "measurement  ", "\ntorino   ", "free\n"} {
				if !strings.Contains(string(text), want) {
					t.Errorf("no %q in\n%s", want, text)
				}
			}
		})
	}
}
