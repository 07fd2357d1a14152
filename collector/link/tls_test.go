package link_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/fulgidus/heimdall/collector/authority"
	"github.com/fulgidus/heimdall/collector/link"
)

func openAuthority(t *testing.T) *authority.Authority {
	t.Helper()
	a, err := authority.Open(filepath.Join(t.TempDir(), "ca"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// secured runs an embedded broker with TLS that refuses the certificate of the station "revoked".
func secured(t *testing.T, a *authority.Authority, prepare ...func(*link.Broker)) *link.Broker {
	t.Helper()
	b, err := link.OpenBroker(t.Context(), "127.0.0.1:0", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	b.Secure(&tls.Config{
		MinVersion: tls.VersionTLS12, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: a.Pool(),
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return a.Server([]string{"127.0.0.1"}) },
		VerifyConnection: func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) > 0 && state.PeerCertificates[0].Subject.CommonName == "revoked" {
				return errors.New("revoked")
			}
			return nil
		},
	})
	for _, f := range prepare {
		f(b)
	}
	background(t, b.Run)
	if !strings.HasPrefix(b.URL(), "mqtts://127.0.0.1:") {
		t.Errorf("URL %s", b.URL())
	}
	return b
}

// enterTLS connects to a broker that speaks TLS, and tells whether it was let in.
func enterTLS(t *testing.T, b *link.Broker, trust *x509.CertPool, cert *tls.Certificate, id, username string) (mqtt.Client, error) {
	t.Helper()
	conf := &tls.Config{RootCAs: trust, ServerName: "127.0.0.1"}
	if cert != nil {
		conf.Certificates = []tls.Certificate{*cert}
	}
	o := mqtt.NewClientOptions().AddBroker("ssl://" + b.Addr()).SetClientID(id).SetUsername(username).SetTLSConfig(conf).
		SetConnectTimeout(5 * time.Second).SetAutoReconnect(false).SetProtocolVersion(4)
	c := mqtt.NewClient(o)
	token := c.Connect()
	if !token.WaitTimeout(10 * time.Second) {
		t.Fatal("no answer")
	}
	return c, token.Error()
}

func TestBroker_KnowsStationsByTheirCertificates(t *testing.T) {
	a, foreign := openAuthority(t), openAuthority(t)
	b := secured(t, a)
	client := func(a *authority.Authority, name string) *tls.Certificate {
		pair, err := a.Client(name)
		if err != nil {
			t.Fatal(err)
		}
		return pair
	}
	for name, c := range map[string]struct {
		cert         *tls.Certificate
		id, username string
		in           bool
	}{
		"a station":             {client(a, "torino"), "heimdall-agent-torino", "", true},
		"with its name":         {client(a, "torino"), "heimdall-check-torino-1", "torino", true},
		"the collector":         {client(a, "collector"), "heimdall-collector-main", "", true},
		"as another":            {client(a, "torino"), "heimdall-agent-genova", "", false},
		"by another's name":     {client(a, "torino"), "heimdall-agent-torino", "genova", false},
		"without a certificate": {nil, "heimdall-agent-torino", "torino", false},
		"of another authority":  {client(foreign, "torino"), "heimdall-agent-torino", "", false},
		"a server's":            {must(a.Server([]string{"torino"})), "heimdall-agent-torino", "", false},
		"revoked":               {client(a, "revoked"), "heimdall-agent-revoked", "", false},
	} {
		m, err := enterTLS(t, b, a.Pool(), c.cert, c.id, c.username)
		if (err == nil) != c.in {
			t.Errorf("%s: %v, want in %v", name, err, c.in)
		}
		m.Disconnect(0)
	}
	if _, err := enterTLS(t, b, foreign.Pool(), client(a, "torino"), "x", ""); err == nil {
		t.Error("a client that trusts another authority talks to the broker")
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Cut returns when the session is over, its last will included. It finds it under any client id.
func TestBroker_CutEndsASession(t *testing.T) {
	for _, id := range []string{"heimdall-agent-torino", "another"} {
		for name, restrict := range map[string]func(*link.Broker){
			"accounts": func(b *link.Broker) { b.Restrict(func(v link.Visitor) link.Pass { return stationPass(v.CommonName) }) },
			"none":     func(*link.Broker) {},
		} {
			t.Run(id+" "+name, func(t *testing.T) { cutEndsASession(t, id, restrict) })
		}
	}
}

// stationPass lets a station do everything.
type stationPass string

func (p stationPass) Username() string    { return string(p) }
func (stationPass) Valid() bool           { return true }
func (stationPass) May(bool, string) bool { return true }

func cutEndsASession(t *testing.T, id string, restrict func(*link.Broker)) {
	a := openAuthority(t)
	b := secured(t, a, restrict)
	pair := must(a.Client("torino"))
	lost := make(chan struct{})
	o := mqtt.NewClientOptions().AddBroker("ssl://" + b.Addr()).SetClientID(id).SetAutoReconnect(false).SetProtocolVersion(4).
		SetTLSConfig(&tls.Config{RootCAs: a.Pool(), ServerName: "127.0.0.1", Certificates: []tls.Certificate{*pair}}).
		SetConnectionLostHandler(func(mqtt.Client, error) { close(lost) })
	c := mqtt.NewClient(o)
	if token := c.Connect(); !token.WaitTimeout(10*time.Second) || token.Error() != nil {
		t.Fatal(token.Error())
	}
	if err := b.Cut(t.Context(), "genova"); err != nil {
		t.Error(err)
	}
	if err := b.Cut(t.Context(), "torino"); err != nil {
		t.Error(err)
	}
	select {
	case <-lost:
	case <-time.After(10 * time.Second):
		t.Error("the session goes on")
	}
}

// Somebody who connects and says nothing, or no TLS, does not keep others out.
func TestBroker_TLSFromStrangers(t *testing.T) {
	a := openAuthority(t)
	b := secured(t, a)
	for _, text := range []string{"", "\x16\x03\x01", "GET / HTTP/1.1\r\n\r\n", "\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"} {
		conn, err := net.Dial("tcp", b.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte(text)); err != nil {
			t.Error(err)
		}
	}
	c, err := enterTLS(t, b, a.Pool(), must(a.Client("torino")), "heimdall-agent-torino", "")
	if err != nil {
		t.Error(err)
	}
	c.Disconnect(0)
}
