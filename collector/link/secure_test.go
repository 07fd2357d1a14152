package link_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/fulgidus/heimdall/collector/link"
	"github.com/fulgidus/heimdall/packaging/servers"
)

// guarded runs a Mosquitto with TLS, one user and an access list, and returns its address and the authority to trust.
func guarded(t *testing.T) (addr string, trust *tls.Config) {
	t.Helper()
	dir := t.TempDir()
	cert, key, pool := certificate(t, dir)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = l.Addr().String()
	_ = l.Close()
	_, port, _ := net.SplitHostPort(addr)
	passwords := filepath.Join(dir, "passwords")
	if out, err := exec.Command("mosquitto_passwd", "-c", "-b", passwords, "collector", "secret").CombinedOutput(); err != nil {
		t.Fatalf("mosquitto_passwd: %v: %s", err, out)
	}
	if out, err := exec.Command("mosquitto_passwd", "-b", passwords, "guest", "guest").CombinedOutput(); err != nil {
		t.Fatalf("mosquitto_passwd: %v: %s", err, out)
	}
	acl := filepath.Join(dir, "acl")
	write(t, acl, "user collector\ntopic readwrite heimdall/#\n")
	conf := filepath.Join(dir, "mosquitto.conf")
	user := ""
	if os.Getuid() == 0 {
		user = "user root\n"
	}
	write(t, conf, fmt.Sprintf("listener %s 127.0.0.1\nallow_anonymous false\npassword_file %s\nacl_file %s\ncertfile %s\nkeyfile %s\n%s", port, passwords, acl, cert, key, user))
	binary := "/usr/sbin/mosquitto"
	if found, err := exec.LookPath("mosquitto"); err == nil {
		binary = found
	}
	cmd := exec.Command(binary, "-c", conf)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	eventually(t, "mosquitto", func() bool {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return addr, &tls.Config{RootCAs: pool}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func certificate(t *testing.T, dir string) (certPath, keyPath string, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "127.0.0.1"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPath, keyPath = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	pemText := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, certPath, pemText)
	write(t, keyPath, string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw})))
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(pemText))
	return certPath, keyPath, pool
}

func TestClient_UsesTLSAndPassword(t *testing.T) {
	addr, trust := guarded(t)
	good := link.Config{URL: "mqtts://" + addr, Username: "collector", Password: "secret", TLS: trust, ID: "one"}
	c := startClient(t, good)
	if err := c.Publish(t.Context(), "heimdall/v1/north/command", false, []byte("x")); err != nil {
		t.Error(err)
	}
	if online, err := link.Probe(t.Context(), good); err != nil || !online {
		t.Errorf("probe: online %v, %v", online, err)
	}
	if c.Ready() != nil {
		t.Error("the probe ended the session of a running collector")
	}

	plain, hangsUp := servers.Mosquitto(t).Addr, noBroker(t)
	for name, step := range map[string]struct {
		change func(*link.Config)
		want   string // the mend
	}{
		"wrong password":       {func(c *link.Config) { c.Password = "wrong" }, `the broker refuses the user "collector": correct mqtt.username and mqtt.password`},
		"no account":           {func(c *link.Config) { c.Username, c.Password = "", "" }, "set mqtt.username and mqtt.password"},
		"unknown authority":    {func(c *link.Config) { c.TLS = nil }, "mqtt.ca"},
		"no TLS":               {func(c *link.Config) { c.URL = "mqtt://" + addr }, "write mqtts://"},
		"TLS on a plain port":  {func(c *link.Config) { c.URL = "mqtts://" + plain }, "the port may not speak TLS"},
		"no broker":            {func(c *link.Config) { c.URL = "mqtt://" + hangsUp }, "something else than a broker"},
		"nothing listens":      {func(c *link.Config) { c.URL = "mqtt://127.0.0.1:1" }, "start it, or correct mqtt.url"},
		"unknown host":         {func(c *link.Config) { c.URL = "mqtt://nowhere.invalid" }, "correct mqtt.url"},
		"no address of a kind": {func(c *link.Config) { c.URL = "ftp://x" }, "mqtt://"},
	} {
		cfg := good
		step.change(&cfg)
		online, err := link.Probe(t.Context(), cfg)
		if err == nil || online || !strings.Contains(err.Error(), step.want) || strings.Contains(err.Error(), "network Error") {
			t.Errorf("%s: online %v, %v, want %s", name, online, err, step.want)
		}
	}
}

// noBroker listens, and hangs up on whoever says something.
func noBroker(t *testing.T) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() { _ = l.Close(); <-ended })
	go func() {
		defer close(ended)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 4096))
			_ = conn.Close()
		}
	}()
	return l.Addr().String()
}

func TestClient_SaysWhenASubscriptionIsRefused(t *testing.T) {
	addr, trust := guarded(t)
	// Mosquitto grants subscriptions and filters deliveries, so a broker that refuses is played here.
	c := newClient(t, link.Config{URL: "mqtts://guest:guest@" + addr, TLS: trust, ID: "one"})
	background(t, c.Run)
	eventually(t, "a session of a guest", func() bool { return c.Ready() == nil || strings.Contains(c.Ready().Error(), "refuses") })

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go refuseSubscriptions(l)
	c = newClient(t, link.Config{URL: "mqtt://" + l.Addr().String(), ID: "two", Username: "somebody"})
	background(t, c.Run)
	eventually(t, "the refusal", func() bool {
		err := c.Ready()
		return err != nil && strings.Contains(err.Error(), "refuses the subscription") && strings.Contains(err.Error(), "somebody")
	})
}

// refuseSubscriptions is a broker that accepts everybody and grants nothing.
func refuseSubscriptions(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		buf := make([]byte, 4096)
		_, _ = conn.Read(buf) // CONNECT
		_, _ = conn.Write([]byte{0x20, 2, 0, 0})
		if n, err := conn.Read(buf); err == nil && n > 6 { // SUBSCRIBE of a filter, after a byte of length
			_, _ = conn.Write([]byte{0x90, 3, buf[2], buf[3], 0x80})
			_, _ = conn.Read(buf)
		}
		_ = conn.Close()
	}
}

// A broker that announces a packet of 200 MB gets no memory for it: the session ends.
func TestClient_EndsWithABrokerThatAnnouncesTooMuch(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = conn.Write([]byte{0x20, 0x80, 0x80, 0x80, 0x64})
			_, _ = conn.Read(make([]byte, 1))
			_ = conn.Close()
		}
	}()
	c := newClient(t, link.Config{URL: "mqtt://" + l.Addr().String(), ID: "one"})
	background(t, c.Run)
	eventually(t, "the end of the session", func() bool {
		return c.Ready() != nil && strings.Contains(c.Ready().Error(), "announced a packet of 209715200 bytes")
	})
}

func TestClient_StopsWhileItConnects(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts, in the kernel, and never answers
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	c := newClient(t, link.Config{URL: "mqtt://" + l.Addr().String(), ID: "one"})
	stop := background(t, c.Run)
	time.Sleep(50 * time.Millisecond)
	began := time.Now()
	stop()
	if d := time.Since(began); d > 3*time.Second {
		t.Errorf("it took %v to stop", d)
	}
}

func TestBroker_DisconnectsAStation(t *testing.T) {
	b := embedded(t, slog.New(slog.DiscardHandler))
	lost := make(chan error, 1)
	o := mqtt.NewClientOptions().AddBroker(b.URL()).SetClientID("heimdall-agent-north").SetAutoReconnect(false).
		SetConnectionLostHandler(func(_ mqtt.Client, err error) { lost <- err })
	wait(t, mqtt.NewClient(o).Connect())
	b.Disconnect("south")
	b.Disconnect("north")
	select {
	case <-lost:
	case <-time.After(10 * time.Second):
		t.Error("still connected")
	}
}
