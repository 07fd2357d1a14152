package main

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/packaging/servers"
)

func TestCollector_AnnouncesItselfAndTakesItBack(t *testing.T) {
	cfg := testConfig(t)
	w := startCollector(t, cfg).ready(t)
	found, err := findRunning(cfg.Data)
	if err != nil || found.PID != os.Getpid() || found.HTTP != w.remote.URL || found.MQTT != w.BrokerURL() {
		t.Errorf("run.json is %+v, %v", found, err)
	}
	if code, body := w.get(t, "/metrics"); code != http.StatusOK || !strings.Contains(body, "heimdall_collector_records_committed_total 0") {
		t.Errorf("metrics: %d\n%s", code, body)
	}
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := findRunning(cfg.Data); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("run.json outlives its collector: %v", err)
	}
	startCollector(t, cfg).ready(t) // everything was given back
}

func TestOpen_TellsWhatIsTaken(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for name, c := range map[string]struct {
		spoil func(*Config)
		want  string
	}{
		"http port":   {func(c *Config) { c.HTTP.Listen = busy.Addr().String() }, "http.listen: " + busy.Addr().String()},
		"broker port": {func(c *Config) { c.MQTT.Embedded.Listen = busy.Addr().String() }, "mqtt.embedded.listen: " + busy.Addr().String()},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t)
			spoiled := cfg
			c.spoil(&spoiled)
			_, err := Open(t.Context(), spoiled, "test", quiet())
			if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "port 0 takes any free port") {
				t.Errorf("got %v, want %s and a mend", err, c.want)
			}
			if _, err := os.Stat(cfg.Data); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a refused start left %s behind (%v)", cfg.Data, err)
			}
			if code := exitCode(err, io.Discard); code != exitFailed {
				t.Errorf("exit code %d, want %d", code, exitFailed)
			}
			startCollector(t, cfg).ready(t) // what was taken before is free again
		})
	}
}

func TestOpen_ServesADirectoryOnce(t *testing.T) {
	cfg := testConfig(t)
	w := startCollector(t, cfg).ready(t)
	_, err := Open(t.Context(), cfg, "test", quiet())
	if err == nil || !strings.Contains(err.Error(), "another collector uses this directory") {
		t.Errorf("got %v", err)
	}
	w.ready(t)
	if _, err := findRunning(cfg.Data); err != nil {
		t.Errorf("the second one took the first one's run.json away: %v", err)
	}
}

func TestOpen_NamesTheFault(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		spoil func(*Config)
		want  string
	}{
		"data":        {func(c *Config) { c.Data = filepath.Join(file, "x") }, "data: "},
		"store":       {func(c *Config) { c.Store.URL = "postgres://%zz" }, "open store"},
		"archive":     {func(c *Config) { c.Archive.URL = "s3://?endpoint=x" }, "the bucket is missing"},
		"ca":          {func(c *Config) { c.MQTT.URL, c.MQTT.CA = "mqtts://127.0.0.1:1", file }, "mqtt.ca: " + file},
		"no ca":       {func(c *Config) { c.MQTT.URL, c.MQTT.CA = "mqtts://127.0.0.1:1", file+"-not" }, "mqtt.ca: "},
		"certificate": {func(c *Config) { c.MQTT.URL, c.MQTT.Cert, c.MQTT.Key = "mqtts://127.0.0.1:1", file, file }, "mqtt.cert, mqtt.key: "},
		"http tls":    {func(c *Config) { c.HTTP.TLS = &TLSConfig{Cert: file, Key: file} }, "http.tls: "},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t)
			c.spoil(&cfg)
			if _, err := Open(t.Context(), cfg, "test", quiet()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

// A database that is away, or has no tables yet, is why a request fails: the answer is 503 and says so.
func TestCollector_SaysWhyItCannotAnswer(t *testing.T) {
	t.Run("away", func(t *testing.T) {
		cfg := testConfig(t)
		cfg.Store.URL = "postgres://heimdall@127.0.0.1:1/heimdall"
		w := startCollector(t, cfg)
		for _, path := range []string{"/readyz", "/api/v1/stations", "/api/v1/measurements", "/api/v1/acquisitions", "/api/v1/recordings/x"} {
			if code, body := w.get(t, path); code != http.StatusServiceUnavailable || !strings.Contains(body, "database: ") || strings.Contains(body, "no session with the broker") {
				t.Errorf("%s: %d %s, want 503 and the database as the reason", path, code, body)
			}
		}
		if code, _ := w.get(t, "/healthz"); code != http.StatusOK {
			t.Errorf("/healthz: %d, want 200: the process is well", code)
		}
		err := w.remote.call(t.Context(), http.MethodGet, "/api/v1/stations", nil, nil)
		if err == nil || !strings.Contains(err.Error(), "503") || !strings.Contains(err.Error(), "database: ") {
			t.Errorf("a command says %v", err)
		}
	})
	t.Run("not migrated", func(t *testing.T) {
		c := openCollector(t, testConfig(t))
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1) // serve returns once
		go func() { served <- c.serve(ctx) }()
		w := &whole{Collector: c, remote: remote{URL: "http://" + c.HTTPAddr()}}
		for _, path := range []string{"/readyz", "/api/v1/stations", "/api/v1/measurements", "/api/v1/acquisitions", "/api/v1/recordings/x"} {
			if code, body := w.get(t, path); code != http.StatusServiceUnavailable || !strings.Contains(body, "its tables are not up to date yet") {
				t.Errorf("%s: %d %s, want 503 and the tables as the reason", path, code, body)
			}
		}
		if err := c.migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		if code, body := w.get(t, "/api/v1/stations"); code != http.StatusOK {
			t.Errorf("migrated: %d %s", code, body)
		}
		cancel()
		if err := errors.Join(<-served, c.close()); err != nil {
			t.Error(err)
		}
	})
}

// A request under way when the collector is told to end gets its answer from a database that is still open.
func TestCollector_AnswersBeforeItEnds(t *testing.T) {
	w := startCollector(t, testConfig(t)).ready(t)
	conn, err := net.Dial("tcp", w.HTTPAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const body = `{"frequency_hz": 145500000, "duration_s": 5, "stations": ["torino"]}`
	fmt.Fprintf(conn, "POST /api/v1/acquisitions HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", len(body))
	answer := bufio.NewReader(conn)
	if line, err := answer.ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") { // the handler reads
		t.Fatalf("%q, %v", line, err)
	}
	if _, err := answer.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- w.stop() }()
	eventually(t, "no new connections", func() bool {
		c, err := net.Dial("tcp", w.HTTPAddr())
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	select {
	case err := <-ended:
		t.Fatalf("Run ended (%v) before the last request", err)
	case <-time.After(300 * time.Millisecond): // a wrong order shows at once; a right one never
	}
	fmt.Fprint(conn, body)
	resp, err := http.ReadResponse(answer, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(string(text), "torino") {
		t.Errorf("got %d %s, want 422: there is no such station", resp.StatusCode, text)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A part that fails for good ends the collector with that part's error.
func TestCollector_EndsWithAPartsFault(t *testing.T) {
	c := openCollector(t, testConfig(t))
	c.http.Close()
	if err := c.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "serve the API") {
		t.Errorf("got %v", err)
	}
}

func TestRunCmd_RunsUntilToldToEnd(t *testing.T) {
	cfg := testConfig(t)
	var errs output
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1) // Run returns once
	go func() { ended <- RunCmd{configFlag{configFile(t, cfg)}}.Run(ctx, streams{out: io.Discard, err: &errs}) }()
	eventually(t, "it runs", func() bool {
		found, err := findRunning(cfg.Data)
		return err == nil && remote{URL: found.HTTP}.call(t.Context(), http.MethodGet, "/readyz", nil, nil) == nil
	})
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	first, rest, _ := strings.Cut(errs.String(), "\n")
	if !strings.HasPrefix(first, "config /") || !strings.Contains(first, "store sqlite:") || !strings.Contains(rest, `"msg":"collector is running"`) {
		t.Errorf("stderr:\n%s", errs.String())
	}
}

func TestRun_ExitCodes(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "broken.yaml")
	if err := os.WriteFile(broken, []byte("colour: red\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, calls := range map[int][][]string{
		0:          {{"version"}, {"--help"}, {"acquire", "--help"}},
		exitFailed: {{"acquire", "145.5M", "5s", "--url", "http://127.0.0.1:1"}, {"tap", "--url", "http://127.0.0.1:1"}},
		exitUsage: {
			{},
			{"fly"},
			{"run", "--colour", "red"},
			{"acquire", "145.5M"},
			{"acquire", "loud", "5s"},
			{"check", "--wait", "soon"},
			{"run", "--config", broken},
			{"check", "--config", broken},
			{"migrate", "--config", broken},
			{"verify", "--config", broken + "-not"},
			{"tap", "--url", "http://[::1"},
			{"acquire", "145.5M", "5s", "--token", "secret"},
		},
	} {
		for _, args := range calls {
			if got := run(args, streams{out: io.Discard, err: io.Discard}); got != want {
				t.Errorf("heimdall-collector %q ends with %d, want %d", args, got, want)
			}
		}
	}
}

// A database that a newer version has migrated is no place to work in, nor one to wait for. Only check, which reports all it
// finds, ends with 1.
func TestRun_RefusesADatabaseOfANewerVersion(t *testing.T) {
	postgres := servers.Postgres(t)
	for driver, spoil := range map[string]func(*Config) (address string){
		"sqlite": func(c *Config) string { return filepath.Join(c.Data, "heimdall.db") },
		"pgx": func(c *Config) string {
			c.Store.URL = configs.Secret(postgres)
			return postgres
		},
	} {
		t.Run(driver, func(t *testing.T) {
			cfg := testConfig(t)
			address := spoil(&cfg)
			file := configFile(t, cfg)
			if code := run([]string{"migrate", "--config", file}, streams{out: io.Discard, err: io.Discard}); code != 0 {
				t.Fatalf("migrate ends with %d", code)
			}
			db, err := sql.Open(driver, address)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if _, err := db.ExecContext(t.Context(), "INSERT INTO migration (number, name, applied) SELECT 99, 'later', applied FROM migration WHERE number = 1"); err != nil {
				t.Fatal(err)
			}
			for command, want := range map[string]int{"run": exitUsage, "migrate": exitUsage, "verify": exitUsage, "check": exitFailed} {
				var said output
				args := []string{command, "--config", file}
				if command == "check" {
					args = append(args, "--wait", "1h") // which it does not: waiting mends nothing
				}
				code := run(args, streams{out: &said, err: &said})
				const sentence = "at migration 99, made by a newer heimdall-collector, and this one knows "
				if code != want || strings.Count(said.String(), sentence) != 1 || !strings.Contains(said.String(), "upgrade this collector, or restore") {
					t.Errorf("%s ends with %d, want %d and why:\n%s", command, code, want, said.String())
				}
			}
		})
	}
}

// Nor is one whose tables are another program's, by whichever of them it is found.
func TestRun_RefusesADatabaseOfAnotherProgram(t *testing.T) {
	for _, table := range []string{"migration (version text)", "station (name text)"} {
		for driver, address := range map[string]string{"sqlite": filepath.Join(t.TempDir(), "other.db"), "pgx": servers.Postgres(t)} {
			db, err := sql.Open(driver, address)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if _, err := db.ExecContext(t.Context(), "CREATE TABLE "+table); err != nil {
				t.Fatal(err)
			}
			cfg := testConfig(t)
			cfg.Store.URL = configs.Secret(address)
			if driver == "sqlite" {
				cfg.Store.URL = configs.Secret("sqlite:" + address)
			}
			var said output
			code := run([]string{"run", "--config", configFile(t, cfg)}, streams{out: &said, err: &said})
			if code != exitUsage || strings.Count(said.String(), store.ErrForeign.Error()) != 1 {
				t.Errorf("%s on %s: it ends with %d\n%s", table, driver, code, said.String())
			}
		}
	}
}

func TestRun_HelpBeginsWithAnExample(t *testing.T) {
	help := func(args ...string) string {
		t.Helper()
		var out output
		if code := run(append(args, "--help"), streams{out: &out, err: io.Discard}); code != 0 {
			t.Errorf("%q --help ends with %d", args, code)
		}
		return out.String()
	}
	example := regexp.MustCompile(`^Example:  (heimdall-collector .+)\n\nUsage: `)
	if !example.MatchString(help()) {
		t.Errorf("it begins otherwise:\n%s", help())
	}
	commands := reflect.TypeFor[commandLine]()
	for i := range commands.NumField() {
		name := strings.ToLower(commands.Field(i).Name)
		text := help(name)
		found := example.FindStringSubmatch(text)
		if found == nil || !strings.HasPrefix(found[1], "heimdall-collector "+name) || strings.Count(text, "Example:") != 1 {
			t.Errorf("%s --help does not begin with its example, once:\n%s", name, text)
		}
	}
}

func TestNewLog_KeepsToItsLevel(t *testing.T) {
	for level, want := range map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError} {
		for _, format := range []string{"text", "json"} {
			log := newLog(LogConfig{Level: level, Format: format}, io.Discard)
			if !log.Enabled(t.Context(), want) || log.Enabled(t.Context(), want-1) {
				t.Errorf("%s %s: not from %v on", format, level, want)
			}
		}
	}
}

func TestRedact_HidesPasswords(t *testing.T) {
	for address, want := range map[string]string{
		"postgres://u:secret@h/d":               "postgres://u:xxxxx@h/d",
		"postgres://h/d?user=u&password=secret": "postgres://h/d",
		"postgres://u:12/secret@h/d":            "postgres",
		"postgres://u:12?secret@h/d":            "postgres",
		"postgres://u:12#secret@h/d":            "postgres",
		"sqlite:100%?a=b#c":                     "sqlite:100%?a=b#c",
		"sqlite:a/b.db":                         "sqlite:a/b.db",
		"postgres://u:%zz@h":                    "postgres",
	} {
		if got := redact(address); got != want {
			t.Errorf("redact(%q) is %q, want %q", address, got, want)
		}
	}
}
