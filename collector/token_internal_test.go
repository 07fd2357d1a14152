package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/collector/api"
	"github.com/fulgidus/heimdall/protocol"
)

// certificate makes a certificate for loopback, and a pool that trusts it.
func certificate(t *testing.T) (*TLSConfig, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "heimdall"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"heimdall.example.org"}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	files := &TLSConfig{Cert: filepath.Join(t.TempDir(), "server.pem"), Key: filepath.Join(t.TempDir(), "server.key")}
	trusted := x509.NewCertPool()
	for path, block := range map[string]*pem.Block{files.Cert: {Type: "CERTIFICATE", Bytes: der}, files.Key: {Type: "EC PRIVATE KEY", Bytes: private}} {
		text := pem.EncodeToMemory(block)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if path == files.Cert {
			trusted.AppendCertsFromPEM(text)
		}
	}
	return files, trusted
}

// TestToken_TheFirstOneComesFromTheMachineItself opens a collector to the network, where nobody has a token yet.
func TestToken_TheFirstOneComesFromTheMachineItself(t *testing.T) {
	cfg := testConfig(t)
	var trusted *x509.CertPool
	cfg.HTTP.TLS, trusted = certificate(t)
	cfg.HTTP.Listen, cfg.HTTP.Tokens = "0.0.0.0:0", true
	cfg.Check(func(field, message string) { t.Errorf("%s: %s", field, message) })
	c := startCollector(t, cfg)
	_, port, err := net.SplitHostPort(c.HTTPAddr())
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12}}}
	ask := func(path, secret string) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://127.0.0.1:"+port+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if secret != "" {
			r.Header.Set("Authorization", "Bearer "+secret)
		}
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		_, _ = io.Copy(io.Discard, answer.Body)
		return answer.StatusCode
	}
	eventually(t, "the tables are there", func() bool { return c.tablesReady() == nil })
	for name, is := range map[string]bool{"127.0.0.1": true, "localhost": true, "192.0.2.1": true, "heimdall.example.org": true, strings.ToLower(hostname()): true, "evil.example": false, "": false} {
		if c.goesBy(name) != is {
			t.Errorf("goes by %q: %v", name, !is)
		}
	}
	if status := ask("/api/v1/stations", ""); status != http.StatusUnauthorized {
		t.Errorf("without a token: status %d", status)
	}
	here := cfg
	here.HTTP.Listen = "127.0.0.1:0" // the file knows no certificate
	config := configFile(t, here)
	if found, err := findRunning(cfg.Data); err != nil || found.HTTP != "https://127.0.0.1:"+port {
		t.Errorf("run.json says %+v, %v", found, err)
	}
	var out, said output
	if code := run([]string{"token", "add", "chief", "--role", "admin", "--config", config}, streams{out: &out, err: &said}); code != 0 {
		t.Fatalf("exit code %d: %s", code, said.String())
	}
	secret := strings.TrimSpace(out.String())
	if !regexp.MustCompile(`^hdt_[a-z2-7]{52}$`).MatchString(secret) || strings.Contains(said.String(), secret) {
		t.Errorf("%q, and on standard error %q", out.String(), said.String())
	}
	if status := ask("/api/v1/audit", secret); status != http.StatusOK {
		t.Errorf("with the first token: status %d", status)
	}
	if code := run([]string{"token", "revoke", "chief", "--config", config}, streams{out: &out, err: &said}); code != 0 {
		t.Fatalf("exit code %d: %s", code, said.String())
	}
	if status := ask("/api/v1/audit", secret); status != http.StatusUnauthorized {
		t.Errorf("with a revoked token: status %d", status)
	}
}

func TestCollector_SaysThatNobodyIsAdmin(t *testing.T) {
	cfg := testConfig(t)
	cfg.HTTP.Tokens = true
	var said output
	c, err := Open(t.Context(), cfg, "test", newLog(cfg.Log, &said))
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	const words = "nobody has an admin's token yet"
	if err := c.migrate(t.Context()); err != nil || !strings.Contains(said.String(), words) {
		t.Fatalf("%v: %s", err, said.String())
	}
	if _, err := c.store.AddToken(t.Context(), protocol.Token{Name: "chief", Role: protocol.RoleAdmin}, protocol.ActorLocal); err != nil {
		t.Fatal(err)
	}
	if c.missAdmin(t.Context()); strings.Count(said.String(), words) != 1 {
		t.Errorf("once there is one: %s", said.String())
	}
}

// An open port is knocked at all day; that is for who debugs, all else that the server says for everybody.
func TestKnocks_AreNoNews(t *testing.T) {
	var said output
	log := slog.NewLogLogger(knocks{slog.NewTextHandler(&said, nil)}, slog.LevelWarn)
	log.Print("http: TLS handshake error from 192.0.2.1:4711: EOF")
	log.Print("http: panic serving 192.0.2.1:4711: oh")
	if got := said.String(); strings.Contains(got, "handshake") || !strings.Contains(got, "level=WARN") || !strings.Contains(got, "panic serving") {
		t.Errorf("%s", got)
	}
	said.text.Reset()
	log = slog.NewLogLogger(knocks{slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelDebug})}, slog.LevelWarn)
	log.Print("http: TLS handshake error from 192.0.2.1:4711: EOF")
	if got := said.String(); !strings.Contains(got, "level=DEBUG") || !strings.Contains(got, "192.0.2.1") {
		t.Errorf("%s", got)
	}
}

func TestTokenCmd_ThroughARunningCollector(t *testing.T) {
	cfg := testConfig(t)
	cfg.HTTP.Tokens = true
	w := startCollector(t, cfg)
	eventually(t, "the tables are there", func() bool { return w.tablesReady() == nil })
	chief, err := w.store.AddToken(t.Context(), protocol.Token{Name: "chief", Role: protocol.RoleAdmin}, protocol.ActorLocal)
	if err != nil {
		t.Fatal(err)
	}
	command := func(want int, args ...string) (string, string) {
		t.Helper()
		var out, said output
		if code := run(append([]string{"token"}, append(args, "--url", w.remote.URL)...), streams{out: &out, err: &said}); code != want {
			t.Errorf("%v: exit code %d, want %d: %s", args, code, want, said.String())
		}
		return out.String(), said.String()
	}
	if _, said := command(exitFailed, "list"); !strings.Contains(said, "the collector wants a token") || !strings.Contains(said, "HEIMDALL_TOKEN") {
		t.Errorf("without a token: %s", said)
	}
	t.Setenv(tokenVariable, chief)
	text, _ := command(0, "add", "club", "--role", "operator", "--stations", "torino,genova", "--ttl", "30d", "--json")
	var made api.MadeToken
	if err := json.Unmarshal([]byte(text), &made); err != nil || made.Secret == "" {
		t.Fatalf("%v: %s", err, text)
	}
	list, _ := command(0, "list")
	for _, want := range []string{"club", "operator", "torino,genova", "never", "until 20", "chief", "all", "until it is revoked"} {
		if !strings.Contains(list, want) {
			t.Errorf("the list does not say %q:\n%s", want, list)
		}
	}
	if _, said := command(exitUsage, "add", "club", "--role", "viewer"); !strings.Contains(said, "name: club: there is or was a token of this name") {
		t.Errorf("a name for the second time: %s", said)
	}
	command(exitUsage, "add", "guest", "--role", "owner")
	command(exitUsage, "add", "guest", "--role", "admin", "--stations", "torino")
	command(exitUsage, "add", "Guest", "--role", "viewer")
	t.Setenv(tokenVariable, made.Secret)
	if _, said := command(exitFailed, "list"); !strings.Contains(said, "token club is an operator, and this is for an admin") {
		t.Errorf("as an operator: %s", said)
	}
	t.Setenv(tokenVariable, chief)
	command(0, "revoke", "club")
	if _, said := command(exitFailed, "revoke", "nobody"); !strings.Contains(said, "there is no such token") {
		t.Errorf("nobody's: %s", said)
	}
	if list, _ := command(0, "list", "--json"); !strings.Contains(list, `"name":"club","role":"operator","stations":["torino","genova"]`) || !strings.Contains(list, `"revoked":"20`) {
		t.Errorf("as JSON: %s", list)
	}
	entries, _, err := w.store.AuditEntries(t.Context(), protocol.AuditFilter{Action: "token-revoke"})
	if err != nil || len(entries) != 1 || entries[0].Actor != "chief" || entries[0].Subject != "club" {
		t.Errorf("%+v, %v", entries, err)
	}
}

// A command that reads much asks more often than a token may, and waits.
func TestRemote_WaitsWhereATokenAsksTooOften(t *testing.T) {
	cfg := testConfig(t)
	cfg.HTTP.Tokens = true
	w := startCollector(t, cfg)
	eventually(t, "the tables are there", func() bool { return w.tablesReady() == nil })
	secret, err := w.store.AddToken(t.Context(), protocol.Token{Name: "busy", Role: protocol.RoleViewer}, protocol.ActorLocal)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(tokenVariable, secret)
	for range 60 {
		if err := w.remote.call(t.Context(), http.MethodGet, "/api/v1/stations", nil, nil); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCollector_RefusesOtherNamesOnLoopback(t *testing.T) {
	cfg := testConfig(t)
	cfg.HTTP.Hosts = []string{"Heimdall.example.org"}
	w := startCollector(t, cfg).ready(t)
	for host, want := range map[string]int{"localhost": 200, "127.0.0.1:1": 200, "heimdall.example.org": 200, "rebound.example": 403} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.remote.URL+"/api/v1/stations", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("under %s: status %d, want %d", host, answer.StatusCode, want)
		}
	}
}
