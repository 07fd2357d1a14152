package link_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/fulgidus/heimdall/agent/link"
	"github.com/fulgidus/heimdall/packaging/servers"
)

// bareMochi runs a broker with one listener for TLS and one without.
func bareMochi(t *testing.T, files certificateFiles, hook mochi.Hook, clients tls.ClientAuthType) (secure, plain *listeners.TCP) {
	t.Helper()
	pool := x509.NewCertPool()
	authority, err := os.ReadFile(files.ca)
	if err != nil || !pool.AppendCertsFromPEM(authority) {
		t.Fatal("the test's own CA:", err)
	}
	pair, err := tls.LoadX509KeyPair(files.cert, files.key)
	if err != nil {
		t.Fatal(err)
	}
	server := mochi.New(&mochi.Options{Logger: slog.New(slog.DiscardHandler)})
	if err := server.AddHook(hook, nil); err != nil {
		t.Fatal(err)
	}
	secure = listeners.NewTCP(listeners.Config{ID: "tls", Address: "127.0.0.1:0", TLSConfig: &tls.Config{
		Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: clients,
	}})
	plain = listeners.NewTCP(listeners.Config{ID: "tcp", Address: "127.0.0.1:0"})
	for _, l := range []listeners.Listener{secure, plain} {
		if err := server.AddListener(l); err != nil {
			t.Fatal(err)
		}
	}
	if err := server.Serve(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return secure, plain
}

// A bare mochi broker, as the collector embeds it, with TLS and a client certificate.
func TestLink_MochiOverTLS(t *testing.T) {
	files := certificates(t)
	secure, plain := bareMochi(t, files, &door{open: true}, tls.RequireAndVerifyClientCert)
	c := newCollector(t, "main")
	c.online("mqtt://" + plain.Address())
	stranger := startAgent(t, "mqtts://"+secure.Address(), func(c *link.Config) { c.CA = files.ca }) // without a certificate
	a := startAgent(t, "mqtts://"+secure.Address(), func(c *link.Config) { c.CA, c.Cert, c.Key = files.ca, files.cert, files.key })
	a.add(t, 1, 500)
	eventually(t, "all acknowledged", a.empty)
	if numbers, _ := c.count(a.spool.Identity()); numbers != 500 {
		t.Errorf("%d records arrived, want 500", numbers)
	}
	if stranger.Connected() {
		t.Error("connected without a certificate")
	}
}

type certificateFiles struct{ ca, cert, key string }

// certificates makes an authority and one pair for both ends.
func certificates(t *testing.T) certificateFiles {
	t.Helper()
	return certificatesFrom(t, time.Now().Add(-time.Hour))
}

// certificatesFrom makes some that hold for two hours.
func certificatesFrom(t *testing.T, begin time.Time) certificateFiles {
	t.Helper()
	dir := t.TempDir()
	files := certificateFiles{filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	caKey, key := newKey(t), newKey(t)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: begin, NotAfter: begin.Add(2 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: station}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		files.ca: {Type: "CERTIFICATE", Bytes: caDER}, files.cert: {Type: "CERTIFICATE", Bytes: leafDER}, files.key: {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// A broker that does not let the station read its topics is no use; the agent says so and goes on trying.
func TestLink_RefusedByTheBroker(t *testing.T) {
	server := mochi.New(&mochi.Options{Logger: slog.New(slog.DiscardHandler)})
	if err := server.AddHook(&door{password: "secret"}, nil); err != nil {
		t.Fatal(err)
	}
	plain := listeners.NewTCP(listeners.Config{ID: "tcp", Address: "127.0.0.1:0"})
	if err := server.AddListener(plain); err != nil {
		t.Fatal(err)
	}
	if err := server.Serve(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	for name, password := range map[string]string{"correct mqtt.username and mqtt.password": "wrong", "the right to read": "secret"} {
		var text safeBuffer
		startAgent(t, "mqtt://"+plain.Address(), func(c *link.Config) {
			c.Username, c.Password, c.Log = station, password, slog.New(slog.NewTextHandler(&text, nil))
		})
		eventually(t, name, func() bool { return strings.Contains(strings.ToLower(text.String()), name) })
		if strings.Contains(text.String(), password) {
			t.Error("the log shows the password")
		}
	}
}

// safeBuffer is a log that can be read while it is written.
type safeBuffer struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// door is who may enter a mochi broker: anyone, or who knows the password, who then may only write.
type door struct {
	mochi.HookBase
	open     bool
	password string
}

func (d *door) Provides(b byte) bool {
	return b == mochi.OnConnectAuthenticate || b == mochi.OnACLCheck
}

func (d *door) OnConnectAuthenticate(_ *mochi.Client, p packets.Packet) bool {
	return d.open || string(p.Connect.Password) == d.password
}

func (d *door) OnACLCheck(_ *mochi.Client, _ string, write bool) bool { return d.open || write }

// A Mosquitto that lets in only who shows a certificate of its authority, and takes the name in it for the account: the
// way in which a network of stations is run without passwords.
func TestLink_MosquittoWithClientCertificates(t *testing.T) {
	files, other := certificates(t), certificates(t)
	dir := t.TempDir()
	secure, open := freeAddress(t), freeAddress(t)
	// A station may write its own topics, and read what is for it.
	access := filepath.Join(dir, "acl")
	write(t, access, `pattern write heimdall/v1/%u/#
pattern readwrite heimdall/v1/%u/status
pattern read heimdall/v1/%u/ack/#
pattern read heimdall/v1/%u/command
pattern read heimdall/v1/collector/+/status
`)
	conf := filepath.Join(dir, "mosquitto.conf")
	write(t, conf, fmt.Sprintf(`per_listener_settings true
listener %s
cafile %s
certfile %s
keyfile %s
require_certificate true
use_identity_as_username true
acl_file %s
listener %s
allow_anonymous true
user %s
`, listener(secure), files.ca, files.cert, files.key, access, listener(open), account(t)))
	binary := "/usr/sbin/mosquitto"
	if found, err := exec.LookPath("mosquitto"); err == nil {
		binary = found
	}
	cmd := exec.Command(binary, "-c", conf)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })

	c := newCollector(t, "main")
	c.online("mqtt://" + open)
	status := watch(t, "mqtt://"+open, topics.Status(station))
	start := func(f certificateFiles) *agent {
		return startAgent(t, "mqtts://"+secure, func(c *link.Config) { c.CA, c.Cert, c.Key = files.ca, f.cert, f.key })
	}
	strangers := []*agent{start(certificateFiles{}), start(other)} // without a certificate, and with that of another network
	a := start(files)
	a.add(t, 1, 500)
	eventually(t, "all acknowledged", a.empty)
	if numbers, _ := c.count(a.spool.Identity()); numbers != 500 {
		t.Errorf("%d records arrived, want 500", numbers)
	}
	if got := status.last(); got != "online" {
		t.Errorf("status %q", got)
	}
	for i, s := range strangers {
		if s.Connected() {
			t.Errorf("stranger %d is connected", i)
		}
	}
	if online, err := link.Probe(t.Context(), link.Config{Station: station, URL: "mqtts://" + secure, CA: files.ca, Cert: files.cert, Key: files.key}); err != nil || !online {
		t.Errorf("probe: %v, %v", online, err)
	}
	_, err := link.Probe(t.Context(), link.Config{Station: station, URL: "mqtts://" + secure, CA: other.ca, Cert: files.cert, Key: files.key})
	if err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a broker of another authority: %v", err)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// listener is an address as Mosquitto's configuration has it.
func listener(address string) string {
	host, port, _ := strings.Cut(address, ":")
	return port + " " + host
}

// account is whom Mosquitto is to run as: who runs the test and owns the files.
func account(t *testing.T) string {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return me.Username
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// What is wrong with the way to a broker is said with the mend: of a bare mochi, as the collector embeds it, and of Mosquitto.
func TestProbe_SaysTheMend(t *testing.T) {
	files, other, old := certificates(t), certificates(t), certificatesFrom(t, time.Now().AddDate(-1, 0, 0))
	secure, plain := bareMochi(t, files, &door{password: "secret"}, tls.VerifyClientCertIfGiven)
	expired, _ := bareMochi(t, old, &door{open: true}, tls.NoClientCert)
	_, port, err := net.SplitHostPort(secure.Address())
	if err != nil {
		t.Fatal(err)
	}
	outside := freeAddress(t)
	mosquitto := servers.MosquittoWith(t, fmt.Sprintf("listener %s\nallow_anonymous true\ncertfile %s\nkeyfile %s\n", listener(outside), files.cert, files.key))
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()

	const wantsAuthority, noTLS, maybeTLS = "by unknown authority: set mqtt.ca to the certificate of the authority", "the port may not speak TLS: write mqtt://", "write mqtts://"
	for name, c := range map[string]struct {
		config link.Config
		want   string
	}{
		"authority unknown to the system":            {link.Config{URL: "mqtts://" + secure.Address()}, wantsAuthority},
		"Mosquitto, authority unknown to the system": {link.Config{URL: "mqtts://" + outside}, wantsAuthority},
		"another authority":                          {link.Config{URL: "mqtts://" + secure.Address(), CA: other.ca}, "correct mqtt.ca"},
		"another name":                               {link.Config{URL: "mqtts://localhost:" + port, CA: files.ca}, "by a name that its certificate is for"},
		"an expired certificate":                     {link.Config{URL: "mqtts://" + expired.Address(), CA: old.ca}, "set this computer's clock"},
		"TLS to a plain port":                        {link.Config{URL: "mqtts://" + plain.Address()}, noTLS},
		"Mosquitto, TLS to a plain port":             {link.Config{URL: "mqtts://" + mosquitto.Addr}, noTLS},
		"TLS to a web server":                        {link.Config{URL: "mqtts://" + web.Listener.Addr().String()}, noTLS},
		"plain to the port of TLS":                   {link.Config{URL: "mqtt://" + secure.Address()}, maybeTLS},
		"Mosquitto, plain to the port of TLS":        {link.Config{URL: "mqtt://" + outside}, maybeTLS},
		"nobody listens":                             {link.Config{URL: "mqtt://127.0.0.1:1"}, "see that the broker runs"},
		"no account":                                 {link.Config{URL: "mqtt://" + plain.Address()}, "set mqtt.username and mqtt.password"},
		"wrong password":                             {link.Config{URL: "mqtt://" + plain.Address(), Username: station, Password: "wrong"}, "correct mqtt.username and mqtt.password"},
		"a certificate without an account":           {link.Config{URL: "mqtts://" + secure.Address(), CA: files.ca, Cert: files.cert, Key: files.key}, "then `heimdall-agent enroll -`"},
		"a certificate of another network":           {link.Config{URL: "mqtts://" + secure.Address(), CA: files.ca, Cert: other.cert, Key: other.key}, "then `heimdall-agent enroll -`"},
	} {
		c.config.Station = station
		online, err := link.Probe(t.Context(), c.config)
		if err == nil || online || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "network Error") {
			t.Errorf("%s: online %v, %v; want %s", name, online, err, c.want)
		}
	}
}

// A port that takes a connection and says nothing more is told, too.
func TestProbe_OfOneThatIsSilent(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = link.Probe(ctx, link.Config{Station: station, URL: "mqtt://" + silent.Addr().String()})
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "nothing answers as a broker there") {
		t.Errorf("got %v", err)
	}
}
