package identity_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/agent/identity"
	"github.com/fulgidus/heimdall/protocol"
)

// network is an authority with a collector's two addresses, whose clock and answers a test sets.
type network struct {
	*httptest.Server
	ca  *x509.Certificate
	key *ecdsa.PrivateKey

	mu       sync.Mutex // guards the rest
	now      time.Time
	address  net.IP            // that the certificate is made out to
	shown    *x509.Certificate // as the authority
	refuse   string            // why nothing is given; empty: it is
	status   int               // of the refusal
	heard    []string
	serial   int64
	renewals int
	name     string // of the certificates, in place of the right one
}

func newNetwork(t *testing.T) *network {
	t.Helper()
	n := &network{now: time.Now(), status: http.StatusForbidden, address: net.IPv4(127, 0, 0, 1)}
	var err error
	if n.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: n.now.Add(-time.Hour), NotAfter: n.now.AddDate(10, 0, 0), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &n.key.PublicKey, n.key)
	if err != nil {
		t.Fatal(err)
	}
	if n.ca, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	n.Server = httptest.NewUnstartedServer(http.HandlerFunc(n.serve))
	n.shown = n.ca
	n.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { // httptest has a certificate of its own
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		n.mu.Lock()
		address := n.address
		n.mu.Unlock()
		leaf := n.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "server"}, IPAddresses: []net.IP{address}}, &key.PublicKey)
		n.mu.Lock()
		defer n.mu.Unlock()
		return &tls.Config{ClientAuth: tls.RequestClientCert, Certificates: []tls.Certificate{{Certificate: [][]byte{leaf, n.shown.Raw}, PrivateKey: key}}}, nil
	}}
	n.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	n.StartTLS()
	t.Cleanup(n.Close)
	return n
}

// sign makes a certificate of 90 days, or what is left of the authority's life.
func (n *network) sign(template *x509.Certificate, key *ecdsa.PublicKey) []byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.serial++
	template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(n.serial+1), n.now.Add(-time.Minute), n.now.Add(90*24*time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, n.ca, key, n.key)
	if err != nil {
		panic(err)
	}
	return der
}

func (n *network) set(change func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change()
}

func (n *network) serve(w http.ResponseWriter, r *http.Request) {
	var request struct{ Code, CSR string }
	err := json.NewDecoder(r.Body).Decode(&request)
	n.mu.Lock()
	n.heard = append(n.heard, request.Code)
	refuse, status, name := n.refuse, n.status, n.name
	if strings.HasSuffix(r.URL.Path, "/renew") {
		n.renewals++
	}
	n.mu.Unlock()
	block, _ := pem.Decode([]byte(request.CSR))
	if err != nil || block == nil {
		http.Error(w, "bad", http.StatusBadRequest)
		return
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || refuse != "" {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]any{"title": "No", "detail": refuse})
		return
	}
	if strings.HasSuffix(r.URL.Path, "/renew") && (len(r.TLS.PeerCertificates) == 0 || r.TLS.PeerCertificates[0].Subject.CommonName != csr.Subject.CommonName) {
		http.Error(w, "no certificate", http.StatusForbidden)
		return
	}
	if name == "" {
		name = csr.Subject.CommonName
	}
	leaf := n.sign(&x509.Certificate{Subject: pkix.Name{CommonName: name}}, csr.PublicKey.(*ecdsa.PublicKey))
	_ = json.NewEncoder(w).Encode(protocol.Enrolment{
		Station: name, Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf})), CA: n.pem(), Renew: n.URL + "/renew",
		Expires: protocol.FormatTime(n.now.Add(90 * 24 * time.Hour)), MQTT: protocol.EnrolmentMQTT{URL: "mqtts://127.0.0.1:8883", CA: n.pem(), Prefix: "heimdall"},
	})
}

func (n *network) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: n.ca.Raw}))
}

func (n *network) code() protocol.EnrolmentCode {
	return protocol.EnrolmentCode{Host: n.Listener.Addr().String(), Secret: [16]byte{1, 2, 3}, Authority: protocol.FingerprintOf(n.ca)}
}

func clockAt(at time.Time, set bool) identity.Now {
	return func() (time.Time, bool) { return at, set }
}

var rightTime identity.Now = func() (time.Time, bool) { return time.Now(), true }

// enrolled is a state directory with the identity of torino.
func enrolled(t *testing.T, n *network) string {
	t.Helper()
	granted, err := identity.Enrol(t.Context(), n.code(), "torino", "1.0", rightTime)
	if err != nil {
		t.Fatal(err)
	}
	state := t.TempDir()
	if _, err := granted.Save(state); err != nil {
		t.Fatal(err)
	}
	return state
}

func TestEnrol_KeepsTheKeyHere(t *testing.T) {
	n := newNetwork(t)
	if err := identity.Meet(t.Context(), n.code(), rightTime); err != nil {
		t.Fatal(err)
	}
	state := enrolled(t, n)
	files := identity.FilesIn(state)
	pair, err := identity.Load(files.Station)
	if err != nil || pair.Leaf.Subject.CommonName != "torino" {
		t.Fatalf("%+v, %v", pair.Leaf, err)
	}
	if _, err := tls.LoadX509KeyPair(files.Station, files.Station); err != nil {
		t.Error("the link cannot read it:", err)
	}
	if text, err := os.ReadFile(files.BrokerCA); err != nil || string(text) != n.pem() {
		t.Errorf("the broker's authority: %v", err)
	}
	err = filepath.WalkDir(filepath.Join(state, identity.Folder), func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		want := os.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		}
		if err == nil && info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", path, info.Mode().Perm(), want)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// Whoever is not the collector that made the code learns nothing of it, not even when it has a certificate that all the world trusts.
func TestEnrol_SaysNothingToAnotherAuthority(t *testing.T) {
	n, other := newNetwork(t), newNetwork(t)
	code := n.code()
	code.Host = other.Listener.Addr().String()
	for name, try := range map[string]func() error{
		"meet":  func() error { return identity.Meet(t.Context(), code, rightTime) },
		"enrol": func() error { _, err := identity.Enrol(t.Context(), code, "torino", "1", rightTime); return err },
	} {
		if err := try(); !errors.Is(err, identity.ErrOtherAuthority) || strings.Contains(err.Error(), strings.Split(code.Reveal(), ".")[5]) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// An authority's certificate can be shown by anybody; what counts is who signed.
	forged := newNetwork(t)
	forged.set(func() { forged.shown = n.ca })
	code.Host = forged.Listener.Addr().String()
	if _, err := identity.Enrol(t.Context(), code, "torino", "1", rightTime); err == nil {
		t.Error("a chain that does not hold together is trusted")
	}
	// The right authority, under a name that its certificate does not have.
	code = n.code()
	_, port, _ := net.SplitHostPort(code.Host)
	code.Host = "localhost:" + port
	if err := identity.Meet(t.Context(), code, rightTime); err == nil || !strings.Contains(err.Error(), "http.hosts") {
		t.Errorf("under another name: %v", err)
	}
	code = n.code()
	n.set(func() { n.address = net.IPv4(192, 0, 2, 1) })
	if err := identity.Meet(t.Context(), code, rightTime); err == nil || !strings.Contains(err.Error(), "http.hosts") {
		t.Errorf("under another address: %v", err)
	}
	for _, who := range []*network{n, other, forged} {
		who.set(func() {
			if len(who.heard) > 0 {
				t.Errorf("heard %q", who.heard)
			}
		})
	}
}

func TestEnrol_TellsWhyItIsRefused(t *testing.T) {
	n := newNetwork(t)
	n.set(func() { n.refuse = "the code has been used\x1b[2J already" })
	_, err := identity.Enrol(t.Context(), n.code(), "torino", "1", rightTime)
	if _, ok := errors.AsType[*identity.RefusedError](err); !ok || !strings.Contains(err.Error(), "used[2J already") {
		t.Errorf("%v", err)
	}
	n.set(func() { n.status = http.StatusServiceUnavailable })
	if _, err = identity.Enrol(t.Context(), n.code(), "torino", "1", rightTime); err == nil || strings.Contains(err.Error(), "refuses") {
		t.Errorf("what may pass is called a refusal: %v", err)
	}
	n.set(func() { n.refuse, n.name = "", "genova" })
	if _, err = identity.Enrol(t.Context(), n.code(), "torino", "1", rightTime); err == nil || !strings.Contains(err.Error(), "genova") {
		t.Errorf("another station's certificate: %v", err)
	}
}

// A clock that is not set, as after a start without a battery, makes no certificate too old or too new.
func TestEnrol_WithAnUnsetClock(t *testing.T) {
	n := newNetwork(t)
	past := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	if err := identity.Meet(t.Context(), n.code(), clockAt(past, false)); err != nil {
		t.Error(err)
	}
	if err := identity.Meet(t.Context(), n.code(), clockAt(past, true)); err == nil {
		t.Error("a certificate of the future is taken by a clock that is set")
	}
}

// A renewer renews at two thirds, and at once after months without power; a refusal leaves what there is.
func TestRenewer_ComesBackAfterMonths(t *testing.T) {
	day := 24 * time.Hour
	n := newNetwork(t)
	state := enrolled(t, n)
	first, err := identity.Load(identity.FilesIn(state).Station)
	if err != nil {
		t.Fatal(err)
	}
	serial := func() string {
		pair, err := identity.Load(identity.FilesIn(state).Station)
		if err != nil {
			t.Fatal(err)
		}
		return pair.Leaf.SerialNumber.String()
	}
	var mu sync.Mutex // guards the next three
	now, set, renewed := time.Now(), true, 0
	clock := func() (time.Time, bool) { mu.Lock(); defer mu.Unlock(); return now, set }
	r := identity.NewTestRenewer(state, clock, func() { mu.Lock(); renewed++; mu.Unlock() })
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = r.Run(ctx) })
	defer running.Wait()
	defer stop()
	move := func(d time.Duration, isSet bool) {
		mu.Lock()
		now, set = now.Add(d), isSet
		at := now
		mu.Unlock()
		n.set(func() { n.now = at })
	}
	times := func() int { mu.Lock(); defer mu.Unlock(); return renewed }
	asked := func() (k int) { n.set(func() { k = n.renewals }); return k }

	move(59*day, true)
	never(t, "renewed before two thirds of its life", func() bool { return asked() != 0 || serial() != first.Leaf.SerialNumber.String() })
	move(6*day, true) // two thirds, and all of the jitter
	eventually(t, "renewed", func() bool { return times() == 1 })
	second := serial()
	if second == first.Leaf.SerialNumber.String() {
		t.Error("told of a new certificate, which is the old one")
	}

	move(120*day, false) // off, and back without the time
	never(t, "an unset clock judged the certificate", func() bool { return asked() != 1 })
	n.set(func() { n.refuse = "revoked" })
	move(0, true)
	eventually(t, "refused", func() bool { return asked() > 1 })
	if serial() != second {
		t.Error("a refusal changed the certificate")
	}
	n.set(func() { n.refuse = "" })
	eventually(t, "renewed after 120 days", func() bool { return times() == 2 && serial() != second })
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not within 15 s: " + what)
		}
	}
}

// never watches for several looks of a renewer.
func never(t *testing.T, what string, happens func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Millisecond); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if happens() {
			t.Fatal(what)
		}
	}
}

// Without an identity of this kind there is nothing to renew, and nothing goes wrong.
func TestRenewer_WithoutAnIdentity(t *testing.T) {
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer stop()
	r := identity.NewTestRenewer(t.TempDir(), rightTime, func() { t.Error("renewed") })
	if err := r.Run(ctx); err != nil {
		t.Error(err)
	}
	if fmt.Sprint(identity.FilesIn("/x").BrokerCA) != "" {
		t.Error("a broker's authority that is not there")
	}
}
