package authority_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/collector/authority"
)

func TestOpen_KeepsItsKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	first, err := authority.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	again, err := authority.Open(dir, nil)
	if err != nil || again.Fingerprint() != first.Fingerprint() || !bytes.Equal(again.PEM(), first.PEM()) {
		t.Fatalf("opened again it is another: %v", err)
	}
	if life := time.Until(first.Expires()); life < 3640*24*time.Hour || life > 3660*24*time.Hour {
		t.Errorf("it lasts %v, want ten years", life)
	}
	for name, want := range map[string]os.FileMode{"ca-key.pem": 0o600, "ca.pem": 0o644} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want %v", name, info.Mode(), err, want)
		}
	}
}

// An authority that is damaged is never replaced by a new one, which all stations would refuse.
func TestOpen_RefusesAPartOfOne(t *testing.T) {
	foreign := filepath.Join(t.TempDir(), "ca")
	if _, err := authority.Open(foreign, nil); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		spoil func(dir string) error
		want  string
	}{
		"no key":    {func(dir string) error { return os.Remove(filepath.Join(dir, "ca-key.pem")) }, "from a backup"},
		"empty key": {func(dir string) error { return os.WriteFile(filepath.Join(dir, "ca-key.pem"), nil, 0o600) }, "no key in PEM"},
		"empty":     {func(dir string) error { return os.WriteFile(filepath.Join(dir, "ca.pem"), nil, 0o600) }, "no certificate in PEM"},
		"another key": {func(dir string) error {
			return os.Rename(filepath.Join(foreign, "ca-key.pem"), filepath.Join(dir, "ca-key.pem"))
		}, "not the certificate of the key"},
	} {
		dir := filepath.Join(t.TempDir(), "ca")
		if _, err := authority.Open(dir, nil); err != nil {
			t.Fatal(err)
		}
		before, _ := os.ReadFile(filepath.Join(dir, "ca.pem"))
		if err := c.spoil(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := authority.Open(dir, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if after, _ := os.ReadFile(filepath.Join(dir, "ca.pem")); name == "no key" && !bytes.Equal(before, after) {
			t.Errorf("%s: the certificate was replaced", name)
		}
	}
	// A start that was cut off between key and certificate goes on.
	dir := filepath.Join(t.TempDir(), "ca")
	if _, err := authority.Open(dir, nil); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "ca.pem")); err != nil {
		t.Fatal(err)
	}
	if _, err := authority.Open(dir, nil); err != nil {
		t.Error(err)
	}
}

// Whoever trusts the authority can check a listener by any of its names, and the certificate follows the clock.
func TestServer_ConvincesAndRenewsItself(t *testing.T) {
	now := time.Now()
	a, err := authority.Open(filepath.Join(t.TempDir(), "ca"), func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"collector.example.org", "localhost", "127.0.0.1", "::1"}
	serve := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return a.Server(names) }}
	greet := func(name string) (*x509.Certificate, error) {
		client, server := net.Pipe()
		defer client.Close()
		defer server.Close()
		go func() { _ = tls.Server(server, serve).Handshake() }()
		conn := tls.Client(client, &tls.Config{RootCAs: a.Pool(), ServerName: name, Time: func() time.Time { return now }})
		if err := conn.Handshake(); err != nil {
			return nil, err
		}
		return conn.ConnectionState().PeerCertificates[0], nil
	}
	var first *x509.Certificate
	for _, name := range names {
		if first, err = greet(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := greet("elsewhere.example.org"); err == nil {
		t.Error("another name convinces")
	}
	now = now.Add(59 * 24 * time.Hour)
	if same, err := greet(names[0]); err != nil || !same.Equal(first) {
		t.Errorf("replaced before two thirds of its life: %v", err)
	}
	now = now.Add(2 * 24 * time.Hour)
	next, err := greet(names[0])
	if err != nil || next.Equal(first) || next.NotAfter.Sub(now) < 89*24*time.Hour {
		t.Errorf("not replaced after two thirds of its life: %v", err)
	}
	// Near the authority's own end nothing outlives it, and after that nothing is signed.
	now = a.Expires().Add(-24 * time.Hour)
	if last, err := greet(names[0]); err != nil || last.NotAfter.After(a.Expires()) {
		t.Errorf("near the end: %v", err)
	}
	now = a.Expires().Add(time.Second)
	if _, err := a.Server(names); err == nil || !strings.Contains(err.Error(), "enrol all stations again") {
		t.Errorf("after the end: %v", err)
	}
}
