package accounts_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/fulgidus/heimdall/collector/accounts"
	"github.com/fulgidus/heimdall/collector/authority"
	"github.com/fulgidus/heimdall/collector/link"
	"github.com/fulgidus/heimdall/packaging/servers"
)

// writePair writes a certificate with its key.
func writePair(t *testing.T, pair *tls.Certificate, err error) (cert, key string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	var chain []byte
	for _, der := range pair.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	err = errors.Join(os.WriteFile(cert, chain, 0o600), os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// documented runs Mosquitto with the configuration that packaging/README.md shows, and gives its two listeners.
func documented(t *testing.T, a *authority.Authority) (b *servers.Broker, passwords, certificates string) {
	t.Helper()
	readme, err := os.ReadFile(filepath.Join("..", "..", "packaging", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)<!-- tested dynsec -->\n```\n(.*?)```").FindSubmatch(readme)
	if block == nil {
		t.Fatal("packaging/README.md shows no configuration")
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, a.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	pair, err := a.Server([]string{"127.0.0.1"})
	cert, key := writePair(t, pair, err)
	lines := servers.DynamicSecurity(t, "collector", "secret")
	b = servers.MosquittoWith(t, "")
	b.Stop()
	passwords, certificates = b.Addr, servers.FreeAddress(t)
	_, first, _ := net.SplitHostPort(passwords)
	_, second, _ := net.SplitHostPort(certificates)
	conf := strings.NewReplacer(
		"listener 8883", "listener "+first+" 127.0.0.1", "listener 8884", "listener "+second+" 127.0.0.1", "/etc/mosquitto/ca.pem", ca, "/etc/mosquitto/crl.pem", filepath.Join(b.Dir, "crl.pem"),
		"/etc/mosquitto/broker.pem", cert, "/etc/mosquitto/broker.key", key,
	).Replace(string(block[1]))
	for line := range strings.Lines(lines) {
		name, _, _ := strings.Cut(line, " ")
		conf = regexp.MustCompile("(?m)^"+name+" .*\n").ReplaceAllLiteralString(conf, line)
	}
	conf += "log_dest stderr\n"
	if os.Getuid() == 0 {
		conf += "user root\n"
	}
	if err := os.WriteFile(filepath.Join(b.Dir, "mosquitto.conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	revoke(t, a, b)
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its second listener answers", func() bool {
		conn, err := net.Dial("tcp", certificates)
		return err == nil && conn.Close() == nil
	})
	return b, passwords, certificates
}

// A station is known by its certificate, which Mosquitto takes for proof enough: the plug-in is asked what it may do, not whether it may
// come in. So a revoked one has no rights, though its certificate is good.
func TestDynsec_KnowsStationsByTheirCertificates(t *testing.T) {
	t.Parallel()
	a, err := authority.Open(filepath.Join(t.TempDir(), "ca"), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, passwords, certificates := documented(t, a)
	cfg := link.Config{URL: "mqtts://" + passwords, Username: "collector", Password: "secret", ID: "main", Log: quiet(), TLS: &tls.Config{RootCAs: a.Pool()}}
	k := accounts.New(openStore(t), accounts.NewDynsec(rules(), "collector", func(ctx context.Context, request []byte, mine func([]byte) bool) ([]byte, error) {
		return link.AskBroker(ctx, cfg, accounts.DynsecTopic, accounts.DynsecAnswers, request, mine)
	}, quiet()), "gatherer", quiet())
	if err := errors.Join(k.Repair(t.Context()), ensure(t, k, "torino")); err != nil {
		t.Fatal(err)
	}
	enter := func(address string, o *mqtt.ClientOptions, conf *tls.Config) *person {
		t.Helper()
		p := &person{lost: make(chan struct{}), got: map[string][]string{}, retained: map[string]string{}}
		conf.RootCAs = a.Pool()
		p.Client = mqtt.NewClient(o.AddBroker("ssl://" + address).SetTLSConfig(conf).SetAutoReconnect(false).SetProtocolVersion(4).
			SetConnectionLostHandler(func(mqtt.Client, error) { close(p.lost) }).
			SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) {
				p.mu.Lock()
				defer p.mu.Unlock()
				p.got[m.Topic()] = append(p.got[m.Topic()], string(m.Payload()))
			}))
		done(t, p.Connect())
		t.Cleanup(func() { p.Disconnect(0) })
		return p
	}
	observer := enter(passwords, mqtt.NewClientOptions().SetClientID("observer").SetUsername("collector").SetPassword("secret"), &tls.Config{})
	if !observer.subscribe(t, "heimdall/v1/#")["heimdall/v1/#"] {
		t.Fatal("the collector hears nothing")
	}
	pair, err := a.Client("torino")
	if err != nil {
		t.Fatal(err)
	}
	// publishes has the station publish, and tells on which topics it arrived.
	publishes := func(p *person) []string {
		observer.mu.Lock()
		clear(observer.got)
		observer.mu.Unlock()
		for _, topic := range []string{"heimdall/v1/torino/state", "heimdall/v1/genova/state", ackTopic} {
			done(t, p.Publish(topic, 1, false, "{}"))
		}
		done(t, observer.Publish("heimdall/v1/collector/main/status", 1, false, "marker"))
		eventually(t, "marker", func() bool { return observer.heard("heimdall/v1/collector/main/status", "marker") })
		return observer.topics(observer.got)
	}
	station := func(id string) *person {
		return enter(certificates, mqtt.NewClientOptions().SetClientID(id), &tls.Config{Certificates: []tls.Certificate{*pair}})
	}
	torino := station("heimdall-agent-torino")
	if got := strings.Join(publishes(torino), " "); got != "heimdall/v1/collector/main/status heimdall/v1/torino/state" {
		t.Errorf("the station's messages arrive on %s", got)
	}
	if granted := torino.subscribe(t, "heimdall/v1/torino/command", "heimdall/v1/genova/command"); !granted["heimdall/v1/torino/command"] || granted["heimdall/v1/genova/command"] {
		t.Errorf("it may subscribe to %v", granted)
	}
	if err := k.DisableStation(t.Context(), "torino", "test"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-torino.lost:
	case <-time.After(patience):
		t.Errorf("its session goes on %v after it was revoked", patience)
	}
	again := station("heimdall-agent-torino")
	if got := strings.Join(publishes(again), " "); got != "heimdall/v1/collector/main/status" {
		t.Errorf("a revoked station's messages arrive on %s", got)
	}
	if granted := again.subscribe(t, "heimdall/v1/torino/command"); granted["heimdall/v1/torino/command"] {
		t.Error("a revoked station hears its orders")
	}
}

// revoke gives the broker the list of revoked certificates.
func revoke(t *testing.T, a *authority.Authority, b *servers.Broker, serials ...string) {
	t.Helper()
	list, err := a.RevocationList(serials)
	if err == nil {
		err = os.WriteFile(filepath.Join(b.Dir, "crl.pem"), list, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A certificate that another one has replaced is of the same name, so that only the list keeps it out.
func TestMosquitto_ReadsTheListOfRevokedCertificates(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "ca")
	var pairs []*tls.Certificate
	var a *authority.Authority
	for range 2 {
		var err error
		if a, err = authority.Open(dir, nil); err != nil {
			t.Fatal(err)
		}
		pair, err := a.Client("torino")
		if err != nil {
			t.Fatal(err)
		}
		pairs = append(pairs, pair)
	}
	b, _, certificates := documented(t, a)
	enters := func(pair *tls.Certificate) error {
		c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("ssl://" + certificates).SetClientID("torino").SetAutoReconnect(false).SetProtocolVersion(4).
			SetConnectTimeout(patience).SetTLSConfig(&tls.Config{RootCAs: a.Pool(), Certificates: []tls.Certificate{*pair}}))
		token := c.Connect()
		if !token.WaitTimeout(patience) {
			t.Fatal("no answer")
		}
		c.Disconnect(0)
		return token.Error()
	}
	for _, pair := range pairs {
		if err := enters(pair); err != nil {
			t.Fatalf("before anything is revoked: %v", err)
		}
	}
	revoke(t, a, b, fmt.Sprintf("%x", pairs[0].Leaf.SerialNumber))
	b.Reload()
	eventually(t, "the replaced certificate is refused", func() bool { return enters(pairs[0]) != nil })
	if err := enters(pairs[1]); err != nil {
		t.Errorf("the new certificate: %v", err)
	}
}
