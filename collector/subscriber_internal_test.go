package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

// runCommand runs the program and gives what it printed.
func runCommand(t *testing.T, args ...string) (out, errs string, code int) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(args, streams{out: &o, err: &e})
	return o.String(), e.String(), code
}

// TestSubscriber_ReadsWithAnAccount is the transcript of a subscriber: an account is added, a common client reads with it, it is
// revoked.
func TestSubscriber_ReadsWithAnAccount(t *testing.T) {
	for name, configure := range map[string]func(t *testing.T, cfg *Config){
		"embedded": func(_ *testing.T, cfg *Config) { cfg.MQTT.Accounts = accountsEmbedded },
		"dynsec": func(t *testing.T, cfg *Config) {
			pair, _ := certificate(t)
			b := servers.MosquittoWith(t, servers.DynamicSecurity(t, "collector", "secret")+"certfile "+pair.Cert+"\nkeyfile "+pair.Key+"\n")
			m := &cfg.MQTT
			m.URL, m.CA, m.Username, m.Password, m.Accounts = "mqtts://"+b.Addr, pair.Cert, "collector", "secret", accountsDynsec
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t)
			configure(t, &cfg)
			subscribes(t, cfg)
		})
	}
}

func subscribes(t *testing.T, cfg Config) {
	log := new(output)
	c, err := Open(t.Context(), cfg, "test", slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	w := beginCollector(t, c).ready(t)
	if f := checkBroker(t.Context(), cfg); cfg.MQTT.URL != "" && (f.Verdict != "ok" || !strings.Contains(f.Detail, "plug-in: ok")) {
		t.Errorf("check: %+v", f)
	}
	t.Chdir(t.TempDir())
	t.Setenv("HEIMDALL_URL", w.remote.URL)
	ca := ""
	if cfg.MQTT.CA != "" {
		ca = "  CA in ./heimdall-ca.pem"
	}
	add := func(username string, args ...string) string {
		t.Helper()
		out, errs, code := runCommand(t, args...)
		line := regexp.MustCompile("^" + regexp.QuoteMeta(w.BrokerURL()) + "  user " + username + `  password \(shown once\) (\S{22,})` + regexp.QuoteMeta(ca) + "\n$")
		found := line.FindStringSubmatch(out)
		if code != 0 || found == nil {
			t.Fatalf("%v: exit code %d\n%s%s", args, code, out, errs)
		}
		return found[1]
	}
	o := mqtt.NewClientOptions().AddBroker(w.BrokerURL()).SetUsername("torino").SetPassword(add("torino", "station", "add", "torino"))
	if ca != "" {
		o.SetTLSConfig(&tls.Config{RootCAs: poolOf(t, "heimdall-ca.pem")})
	}
	o.SetWill("heimdall/v1/torino/status", protocol.Offline, 1, true)
	torino := playStationAs(t, o, "torino")

	password := add("sub-grafana-home", "subscriber", "add", "grafana-home")
	lines, ended := mosquittoSub(t, w.BrokerURL(), password, torino)
	if lines[0] != "heimdall/v1/torino/status online" {
		t.Errorf("first line %q", lines[0])
	}
	topic, record, _ := strings.Cut(lines[1], " ")
	shape := regexp.MustCompile(`^\{"station":"torino","spool":"[0-9a-f]{16}","seq":\d+,"time":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z","receiver":"r0","step":"2m",.*"measurement":\{.*"power_dbfs":-31.5.*\}`)
	if topic != "heimdall/v1/torino/json/measurement" || !shape.MatchString(record) || !json.Valid([]byte(record)) {
		t.Errorf("second line %q", lines[1])
	}

	if out, errs, code := runCommand(t, "subscriber", "revoke", "grafana-home"); code != 0 {
		t.Errorf("revoke: exit code %d\n%s%s", code, out, errs)
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the session goes on 10 s after it was revoked")
	}
	if out, _, _ := runCommand(t, "subscriber", "list"); !regexp.MustCompile(`(?m)^grafana-home +sub-grafana-home +\d{4}-\d\d-\d\d +revoked \d{4}`).MatchString(out) || strings.Contains(out, "torino") {
		t.Errorf("list:\n%s", out)
	}
	if _, errs, code := runCommand(t, "subscriber", "revoke", "nobody"); code != 1 || !strings.Contains(errs, "no such subscriber") {
		t.Errorf("revoke nobody: exit code %d\n%s", code, errs)
	}
	if _, errs, code := runCommand(t, "station", "add", "torino"); code != exitUsage || !strings.Contains(errs, "there is such an account") {
		t.Errorf("a station again: exit code %d\n%s", code, errs)
	}
	if out, errs, code := runCommand(t, "station", "revoke", "torino"); code != 0 {
		t.Errorf("revoke a station: exit code %d\n%s%s", code, out, errs)
	}
	eventually(t, "the station's session ends", func() bool { return !torino.client.IsConnectionOpen() })
	eventually(t, "the station is offline", func() bool {
		_, text := w.get(t, "/api/v1/stations/torino")
		return strings.Contains(text, `"status":"offline"`)
	})
	keepsSecret(t, w, log, password)
}

// keepsSecret looks for a password where it must not be, and for what the audit says.
func keepsSecret(t *testing.T, w *whole, log *output, password string) {
	t.Helper()
	var audit struct{ Items []protocol.AuditEntry }
	if err := w.remote.call(t.Context(), "GET", "/api/v1/audit", nil, &audit); err != nil {
		t.Fatal(err)
	}
	var actions []string
	for _, e := range audit.Items {
		actions = append(actions, e.Action+" "+e.Subject)
	}
	if got := strings.Join(actions, ", "); got != "station-revoke torino, subscriber-revoke sub-grafana-home, subscriber-add sub-grafana-home, station-add torino" {
		t.Errorf("audit: %s", got)
	}
	if err := w.stop(); err != nil {
		t.Error(err)
	}
	places := map[string]string{"log": log.String()}
	for _, suffix := range []string{"", "-wal"} {
		text, _ := os.ReadFile(filepath.Join(w.cfg.Data, "heimdall.db"+suffix)) // after an orderly end there is no second one
		places["database"+suffix] = string(text)
	}
	for place, text := range places {
		if strings.Contains(text, password) {
			t.Errorf("the password is in the %s", place)
		}
	}
}

// mosquittoSub reads two lines as the transcript does, and leaves the client running.
func mosquittoSub(t *testing.T, url, password string, station *player) (lines []string, ended <-chan struct{}) {
	t.Helper()
	program, err := exec.LookPath("mosquitto_sub")
	if err != nil {
		t.Fatalf("mosquitto_sub: %v: %v", err, servers.ErrMissing)
	}
	_, address, _ := strings.Cut(url, "://")
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-h", host, "-p", port, "-u", "sub-grafana-home", "-P", password, "-v", "-t", "heimdall/v1/+/status", "-t", "heimdall/v1/+/json/measurement"}
	if strings.HasPrefix(url, "mqtts:") {
		args = append(args, "--cafile", "heimdall-ca.pem")
	}
	ctx, stop := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, program, args...)
	out, errs := new(output), new(output)
	cmd.Stdout, cmd.Stderr = out, errs
	if err := servers.StartChild(cmd); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait() // how it ends says nothing
	}()
	t.Cleanup(func() {
		stop()
		<-done
	})
	eventually(t, "the retained status", func() bool { return strings.Contains(out.String(), "\n") || strings.Contains(errs.String(), "\n") })
	station.measure()
	eventually(t, "a measurement", func() bool { return strings.Count(out.String(), "\n") >= 2 || strings.Contains(errs.String(), "\n") })
	lines = strings.Split(out.String(), "\n")
	if len(lines) < 3 {
		t.Fatalf("mosquitto_sub says:\n%s%s", out, errs)
	}
	// It would connect again for ever; that it is refused ends it, and it says that its session ended.
	lost := make(chan struct{})
	go func() {
		defer close(lost)
		for ctx.Err() == nil && !strings.Contains(errs.String(), "efused") {
			select {
			case <-done:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	return lines, lost
}

func TestSubscriber_FilesAreForTheOperatorToReload(t *testing.T) {
	cfg := testConfig(t)
	folder := filepath.Join(t.TempDir(), "accounts")
	cfg.MQTT.URL, cfg.MQTT.Username, cfg.MQTT.Password = "mqtt://"+servers.FreeAddress(t), "collector", "secret"
	cfg.MQTT.Accounts, cfg.MQTT.AccountsFolder = accountsFiles, folder
	w := startCollector(t, cfg)
	eventually(t, "the files", func() bool {
		_, err := os.Stat(filepath.Join(folder, "acl_file"))
		return err == nil
	})
	out, errs, code := runCommand(t, "subscriber", "add", "grafana", "--url", w.remote.URL)
	if code != 0 || !strings.Contains(errs, "reload mosquitto") || !strings.Contains(out, "user sub-grafana ") {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
	for file, want := range map[string]string{"acl_file": "user sub-grafana\ntopic read heimdall/v1/+/status\n", "password_file": "\nsub-grafana:$7$"} {
		text, err := os.ReadFile(filepath.Join(folder, file))
		if err != nil || !strings.Contains(string(text), want) || !strings.Contains(string(text), "collector") {
			t.Errorf("%s: %v\n%s", file, err, text)
		}
	}
	if _, errs, code := runCommand(t, "subscriber", "revoke", "grafana", "--url", w.remote.URL); code != 0 || !strings.Contains(errs, "reload mosquitto") {
		t.Errorf("revoke: exit code %d\n%s", code, errs)
	}
}

func TestSubscriber_NoAccountsOnPlainLoopback(t *testing.T) {
	w := startCollector(t, testConfig(t)).ready(t)
	if _, errs, code := runCommand(t, "subscriber", "add", "grafana", "--url", w.remote.URL); code != exitUsage || !strings.Contains(errs, "mqtt.accounts") {
		t.Errorf("exit code %d\n%s", code, errs)
	}
}

func poolOf(t *testing.T, path string) *x509.CertPool {
	t.Helper()
	text, err := os.ReadFile(path)
	pool := x509.NewCertPool()
	if err != nil || !pool.AppendCertsFromPEM(text) {
		t.Fatalf("%s is no certificate: %v", path, err)
	}
	return pool
}
