package authority_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/collector/authority"
	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/protocol"
)

// place is a desk over a real database, with a clock that is moved by hand.
type place struct {
	*authority.Desk
	ca  *authority.Authority
	dir string // of the authority
	db  *store.DB
	now time.Time
	// before is called before a code is used; nil: nothing is.
	before func() error
	// lists is called with each list of revoked certificates that was read, before the desk gets it; nil: nothing is.
	lists atomic.Pointer[func()]

	mu   sync.Mutex // guards the rest
	done []string   // at accounts and broker
	fail error      // of accounts
}

func (p *place) note(what, station string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = append(p.done, what+" "+station)
	return p.fail
}

func (p *place) EnsureStation(_ context.Context, station, _ string) (undo func(context.Context) error, err error) {
	return func(context.Context) error { return p.note("undo", station) }, p.note("ensure", station)
}

func (p *place) DisableStation(_ context.Context, station, _ string) error {
	return p.note("disable", station)
}

func (p *place) RemoveStation(_ context.Context, station, _ string) error {
	return p.note("remove", station)
}

func (p *place) Cut(_ context.Context, station string) error   { return p.note("cut", station) }
func (p *place) Clear(_ context.Context, station string) error { return p.note("clear", station) }

// kept are the codes and certificates of a place.
type kept struct {
	*store.DB
	place *place
}

func (k kept) RevokedCertificates(ctx context.Context, since time.Time) ([]protocol.CertificateState, error) {
	list, err := k.DB.RevokedCertificates(ctx, since)
	if f := k.place.lists.Load(); f != nil {
		(*f)()
	}
	return list, err
}

func (k kept) UseCode(ctx context.Context, hash []byte, cert protocol.CertificateState, facts protocol.EnrolmentFacts, now time.Time) (used, replaced bool, err error) {
	if k.place.before != nil {
		if err := k.place.before(); err != nil {
			return false, false, err
		}
	}
	return k.DB.UseCode(ctx, hash, cert, facts, now)
}

func newPlace(t testing.TB, log *slog.Logger) *place {
	t.Helper()
	p := &place{now: time.Now(), dir: filepath.Join(t.TempDir(), "ca")}
	clock := func() time.Time { return p.now }
	var err error
	if p.ca, err = authority.Open(p.dir, clock); err != nil {
		t.Fatal(err)
	}
	if p.db, err = store.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "h.db"), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.db.Close() })
	if _, err := p.db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.Desk = authority.NewDesk(authority.Config{
		Authority: p.ca, Codes: kept{p.db, p}, Certificates: kept{p.db, p}, Accounts: p, Broker: p, Host: "collector.example.org", Renew: "https://collector.example.org:8090/api/v1/renew",
		MQTT: protocol.EnrolmentMQTT{URL: "mqtts://collector.example.org:8883", CA: string(p.ca.PEM()), Prefix: "heimdall"}, Now: clock, Log: log,
	})
	return p
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// csr is a request for a certificate that asks for far more than a station may have.
func csr(t testing.TB, name string, key crypto.Signer) string {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:  pkix.Name{CommonName: name, Organization: []string{"Evil"}},
		DNSNames: []string{"collector.example.org"}, IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 3, 1, 1, 0xff}}}, // CA: true
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func parse(t testing.TB, text string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		t.Fatalf("no PEM: %q", text)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (p *place) mint(t testing.TB, station string, replace bool) string {
	t.Helper()
	code, err := p.Mint(t.Context(), station, 0, replace, "chief")
	if err != nil {
		t.Fatal(err)
	}
	return code.Code
}

func (p *place) enrol(t testing.TB, station string) *x509.Certificate {
	t.Helper()
	e, err := p.Enrol(t.Context(), protocol.EnrolmentRequest{Code: p.mint(t, station, false), CSR: csr(t, station, newKey(t))})
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, e.Certificate)
}

func reason(err error) string {
	refused, ok := errors.AsType[*authority.RefusalError](err)
	if !ok {
		return fmt.Sprintf("other: %v", err)
	}
	return refused.Reason
}

func TestEnrol_GivesTheStationsIdAndNothingElse(t *testing.T) {
	p := newPlace(t, nil)
	key := newKey(t)
	e, err := p.Enrol(t.Context(), protocol.EnrolmentRequest{Code: p.mint(t, "torino", false), CSR: csr(t, "torino", key)})
	if err != nil {
		t.Fatal(err)
	}
	c := parse(t, e.Certificate)
	switch {
	case c.Subject.String() != "CN=torino", len(c.DNSNames)+len(c.IPAddresses)+len(c.EmailAddresses)+len(c.URIs) > 0, c.IsCA:
		t.Errorf("subject %s, names %v %v, authority %v", c.Subject, c.DNSNames, c.IPAddresses, c.IsCA)
	case !slices.Equal(c.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}), c.KeyUsage != x509.KeyUsageDigitalSignature:
		t.Errorf("usages %v %v", c.ExtKeyUsage, c.KeyUsage)
	case !key.PublicKey.Equal(c.PublicKey):
		t.Error("it is for another key")
	case c.NotAfter.Sub(p.now).Round(time.Hour) != 90*24*time.Hour:
		t.Errorf("it lasts %v", c.NotAfter.Sub(p.now))
	case e.CA != string(p.ca.PEM()) || e.Station != "torino" || e.MQTT.URL == "" || e.Renew == "" || e.Expires != protocol.FormatTime(c.NotAfter):
		t.Errorf("answer %+v", e)
	case !slices.Equal(p.done, []string{"ensure torino"}):
		t.Errorf("done %v", p.done)
	}
	if _, err := p.Mint(t.Context(), "torino", 0, false, "chief"); err == nil || !strings.Contains(err.Error(), "station rotate torino") {
		t.Errorf("a code for a station that is enrolled: %v", err)
	}
}

func TestEnrol_RefusesWithTheReason(t *testing.T) {
	p, other := newPlace(t, nil), newPlace(t, nil)
	good := csr(t, "torino", newKey(t))
	used := p.mint(t, "used", false)
	if _, err := p.Enrol(t.Context(), protocol.EnrolmentRequest{Code: used, CSR: csr(t, "", newKey(t))}); err != nil {
		t.Fatalf("a request that leaves the name to the collector: %v", err)
	}
	void := p.mint(t, "void", false)
	p.mint(t, "void", false)
	gone := p.mint(t, "gone", false)
	if err := p.Revoke(t.Context(), "gone", "chief"); err != nil {
		t.Fatal(err)
	}
	expired, err := p.Mint(t.Context(), "late", time.Minute, false, "chief")
	if err != nil {
		t.Fatal(err)
	}
	p.now = p.now.Add(time.Minute)
	code := p.mint(t, "torino", false)
	unknown, _ := protocol.ParseEnrolmentCode(code)
	unknown.Secret[0] ^= 1
	for name, c := range map[string]struct{ code, csr, want string }{
		"none":            {"", good, "unknown"},
		"unknown":         {unknown.Reveal(), good, "unknown"},
		"used":            {used, csr(t, "used", newKey(t)), "used"},
		"expired":         {expired.Code, csr(t, "late", newKey(t)), "expired"},
		"one before":      {void, csr(t, "void", newKey(t)), "revoked"},
		"revoked":         {gone, csr(t, "gone", newKey(t)), "revoked"},
		"wrong station":   {code, csr(t, "genova", newKey(t)), "wrong-station"},
		"wrong authority": {other.mint(t, "torino", false), good, "wrong-authority"},
	} {
		if _, err := p.Enrol(t.Context(), protocol.EnrolmentRequest{Code: c.code, CSR: c.csr}); reason(err) != c.want {
			t.Errorf("%s: %s, want %s", name, reason(err), c.want)
		}
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"nothing": "", "no PEM": "x", "a certificate": string(p.ca.PEM()), "broken": strings.Replace(good, "\nM", "\nN", 1), "long": strings.Repeat(good, 30), "weak": csr(t, "torino", weak),
	} {
		_, err := p.Enrol(t.Context(), protocol.EnrolmentRequest{Code: code, CSR: text})
		if faults, ok := errors.AsType[protocol.FieldErrors](err); !ok || faults[0].Field != "csr" {
			t.Errorf("request %s: %v", name, err)
		}
	}
	// An account that cannot be made, and all the refusals above, have left the code as it was.
	p.fail = errors.New("the broker does not answer")
	if _, err := p.Enrol(t.Context(), protocol.EnrolmentRequest{Code: code, CSR: good}); !errors.Is(err, p.fail) {
		t.Errorf("without an account: %v", err)
	}
	if last := p.done[len(p.done)-1]; last != "undo torino" {
		t.Errorf("an account of a station that has not enrolled stays: the last thing is %q", last)
	}
	p.fail = nil
	if _, err := p.Enrol(t.Context(), protocol.EnrolmentRequest{Code: code, CSR: good}); err != nil {
		t.Errorf("the code is used up by refusals: %v", err)
	}
	for _, life := range []time.Duration{-time.Hour, time.Second, 8 * 24 * time.Hour} {
		if _, err := p.Mint(t.Context(), "new", life, false, "chief"); err == nil || !strings.Contains(err.Error(), "want 1m to 7d") {
			t.Errorf("a code for %v", life)
		}
	}
	for _, id := range []string{"", "collector", "../x", "A"} {
		if _, err := p.Mint(t.Context(), id, 0, false, "chief"); err == nil {
			t.Errorf("a code for station %q", id)
		}
	}
}

// Between the account and the certificate the station may be revoked, or the database go away: then there is no account, as before.
func TestEnrol_ThatFailsLeavesNoAccount(t *testing.T) {
	p := newPlace(t, nil)
	request := protocol.EnrolmentRequest{Code: p.mint(t, "torino", false), CSR: csr(t, "torino", newKey(t))}
	p.before = func() error { return errors.New("the database is away") }
	if _, err := p.Enrol(t.Context(), request); err == nil {
		t.Error("enrolled without a database")
	}
	p.before = func() error { return p.Revoke(t.Context(), "torino", "chief") }
	if _, err := p.Enrol(t.Context(), request); reason(err) != "revoked" {
		t.Errorf("revoked in between: %v", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if want := []string{"ensure torino", "undo torino", "ensure torino", "disable torino", "cut torino", "undo torino"}; !slices.Equal(p.done, want) {
		t.Errorf("done %v, want %v", p.done, want)
	}
}

func TestEnrol_OfAHundredOneWins(t *testing.T) {
	p := newPlace(t, nil)
	code, request := p.mint(t, "torino", false), csr(t, "torino", newKey(t))
	var won, refused atomic.Int64
	var group sync.WaitGroup
	for range 100 {
		group.Go(func() {
			_, err := p.Enrol(t.Context(), protocol.EnrolmentRequest{Code: code, CSR: request})
			switch {
			case err == nil:
				won.Add(1)
			case reason(err) == "used":
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	group.Wait()
	if won.Load() != 1 || refused.Load() != 99 {
		t.Errorf("%d won and %d were told that it is used, want 1 and 99", won.Load(), refused.Load())
	}
}

// A station that was off for a winter comes back without a visit; one that was revoked does not.
func TestRenew_AsLongAsAYearAfterTheEnd(t *testing.T) {
	p := newPlace(t, nil)
	cert := p.enrol(t, "torino")
	next := protocol.RenewalRequest{CSR: csr(t, "torino", newKey(t))}
	day := 24 * time.Hour
	for _, wait := range []time.Duration{0, 60 * day, 150 * day} {
		p.now = p.now.Add(wait)
		e, err := p.Renew(t.Context(), cert, next)
		if err != nil {
			t.Fatalf("after %v: %v", wait, err)
		}
		if cert = parse(t, e.Certificate); cert.NotAfter.Sub(p.now).Round(time.Hour) != 90*day {
			t.Errorf("after %v it lasts %v", wait, cert.NotAfter.Sub(p.now))
		}
	}
	for name, c := range map[string]struct {
		cert *x509.Certificate
		csr  string
		want string
	}{
		"none":          {nil, next.CSR, "no-certificate"},
		"another's":     {parse(t, string(newPlace(t, nil).ca.PEM())), next.CSR, "wrong-certificate"},
		"the authority": {parse(t, string(p.ca.PEM())), next.CSR, "wrong-certificate"},
		"other station": {cert, csr(t, "genova", newKey(t)), "wrong-station"},
	} {
		if _, err := p.Renew(t.Context(), c.cert, protocol.RenewalRequest{CSR: c.csr}); reason(err) != c.want {
			t.Errorf("%s: %s, want %s", name, reason(err), c.want)
		}
	}
	own, err := p.ca.Client("collector")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Renew(t.Context(), own.Leaf, next); reason(err) != "wrong-certificate" {
		t.Errorf("the collector's own certificate as a station's: %v", err)
	}
	p.now = cert.NotAfter.Add(366 * day)
	if _, err := p.Renew(t.Context(), cert, next); reason(err) != "expired" {
		t.Errorf("after more than a year: %v", err)
	}
	p.now = cert.NotAfter.Add(-day)
	if err := p.Revoke(t.Context(), "torino", "chief"); err != nil {
		t.Fatal(err)
	}
	for station, want := range map[string]string{"torino": "station code torino` makes a code by which it comes back", "nosuch": "no station of this id has enrolled"} {
		if _, err := p.Mint(t.Context(), station, 0, true, "chief"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a code to replace the certificate of %s: %v", station, err)
		}
	}
	if _, err := p.Renew(t.Context(), cert, next); reason(err) != "revoked" {
		t.Errorf("a revoked certificate: %v", err)
	}
}

// What is revoked is refused in the handshake at once, also by another collector, and the open session ends.
func TestRevoke_CutsAndRefuses(t *testing.T) {
	p := newPlace(t, nil)
	cert := p.enrol(t, "torino")
	kept := p.enrol(t, "genova")
	if _, err := p.Admit(cert); err == nil {
		t.Error("a certificate is admitted before anybody knows what is revoked")
	}
	ctx, stop := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() { _ = p.Run(ctx) })
	defer group.Wait()
	defer stop()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if station, err := p.Admit(cert); err == nil && station == "torino" {
			break
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	if err := p.Remove(t.Context(), "torino", "chief"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Admit(cert); err == nil || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("a revoked certificate: %v", err)
	}
	text, err := os.ReadFile(filepath.Join(p.dir, authority.RevocationListName))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatalf("no list for brokers: %q", text)
	}
	list, err := x509.ParseRevocationList(block.Bytes)
	if err != nil || len(list.RevokedCertificateEntries) != 1 || list.RevokedCertificateEntries[0].SerialNumber.Cmp(cert.SerialNumber) != 0 {
		t.Errorf("the list for brokers: %+v, %v", list, err)
	}
	if station, err := p.Admit(kept); err != nil || station != "genova" {
		t.Errorf("another station: %q, %v", station, err)
	}
	p.mu.Lock()
	if got := strings.Join(p.done, ", "); !strings.Contains(got, "remove torino, cut torino, clear torino") {
		t.Error(got)
	}
	p.mu.Unlock()

	// A new code for the same id: the certificate that it replaces is good until the new one is there.
	code := p.mint(t, "genova", true)
	if _, err := p.Admit(kept); err != nil {
		t.Errorf("refused before another was there: %v", err)
	}
	if _, err := p.Enrol(t.Context(), protocol.EnrolmentRequest{Code: code, CSR: csr(t, "genova", newKey(t))}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Admit(kept); err == nil {
		t.Error("the replaced certificate is admitted")
	}
}

// A folder that cannot be written, such as a copy for a second collector, is told once, and tried again.
func TestRevoke_GoesOnWithoutTheListForBrokers(t *testing.T) {
	var log bytes.Buffer
	p := newPlace(t, slog.New(slog.NewTextHandler(&log, nil)))
	list := filepath.Join(p.dir, authority.RevocationListName)
	err := errors.Join(os.RemoveAll(list), os.MkdirAll(filepath.Join(list, "in the way"), 0o700))
	for _, station := range []string{"torino", "genova"} {
		p.enrol(t, station)
		err = errors.Join(err, p.Revoke(t.Context(), station, "chief"))
	}
	if n := strings.Count(log.String(), "cannot write the list"); err != nil || n != 1 {
		t.Errorf("%v, told %d times:\n%s", err, n, log.String())
	}
	p.enrol(t, "aosta")
	if err := errors.Join(os.RemoveAll(list), p.Revoke(t.Context(), "aosta", "chief")); err != nil {
		t.Error(err)
	}
	if _, err := os.ReadFile(list); err != nil {
		t.Error(err)
	}
}

// What nobody knows is not said to be revoked.
func TestRevoke_RefusesWhatIsUnknown(t *testing.T) {
	p := newPlace(t, nil)
	for what, end := range map[string]func(context.Context, string, string) error{"revoke": p.Revoke, "remove": p.Remove} {
		if err := end(t.Context(), "nosuch", "chief"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if len(p.done) > 0 {
		t.Errorf("done %v", p.done)
	}
}

// What people have to know or to do comes with the code.
func TestMint_SaysWhatIsLeftToDo(t *testing.T) {
	p := newPlace(t, nil)
	p.enrol(t, "torino")
	d := authority.NewDesk(authority.Config{Authority: p.ca, Codes: p.db, Certificates: p.db, Notes: []string{"name"}, Replaced: []string{"reload"}})
	for station, want := range map[string][]string{"genova": {"name"}, "torino": {"name", "reload"}} {
		code, err := d.Mint(t.Context(), station, 0, station == "torino", "chief")
		if err != nil || !slices.Equal(code.Notes, want) {
			t.Errorf("%s: %+v, %v", station, code, err)
		}
	}
}

// A list that was read before a revocation, and comes after it, lets nobody in again.
func TestRevoke_OutlivesAnOlderList(t *testing.T) {
	p := newPlace(t, nil)
	cert := p.enrol(t, "torino")
	read, given := make(chan struct{}), make(chan struct{})
	var first sync.Once
	hold := func() {
		held := false
		first.Do(func() { held = true })
		if held {
			close(read)
			<-given
		}
	}
	p.lists.Store(&hold)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var group sync.WaitGroup
	group.Go(func() { _ = p.Run(ctx) })
	<-read
	if err := p.Revoke(t.Context(), "torino", "chief"); err != nil {
		t.Error(err)
	}
	stop()
	close(given)
	group.Wait()
	if _, err := p.Admit(cert); err == nil {
		t.Error("a revoked certificate is admitted")
	}
}

// Nothing that is logged or kept shows a code.
func TestDesk_KeepsNoSecret(t *testing.T) {
	var log strings.Builder
	p := newPlace(t, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	code := p.mint(t, "torino", false)
	secret := strings.Split(code, ".")[4]
	var said strings.Builder
	for _, request := range []protocol.EnrolmentRequest{
		{Code: code + "x"}, {Code: code, CSR: code}, {Code: code, CSR: csr(t, "genova", newKey(t))}, {Code: code, CSR: csr(t, "torino", newKey(t))}, {Code: code},
	} {
		_, err := p.Enrol(t.Context(), request)
		fmt.Fprintln(&said, err)
	}
	entries, _, err := p.db.AuditEntries(t.Context(), protocol.AuditFilter{Limit: 100})
	if err != nil || len(entries) != 2 {
		t.Fatalf("%v, %v", entries, err)
	}
	if all := log.String() + said.String() + fmt.Sprintf("%+v", entries); strings.Contains(all, secret) || strings.Contains(all, secret[:12]) {
		t.Errorf("the secret is in:\n%s", all)
	}
}

func FuzzEnrol(f *testing.F) {
	p := newPlace(f, nil)
	code, key := p.mint(f, "torino", false), newKey(f)
	f.Add(code, csr(f, "torino", key))
	f.Add(code, csr(f, "", key))
	f.Add("hd1.a.b.c", "-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n")
	f.Fuzz(func(t *testing.T, code, request string) {
		e, err := p.Enrol(t.Context(), protocol.EnrolmentRequest{Code: code, CSR: request})
		if err == nil && parse(t, e.Certificate).Subject.String() != "CN=torino" {
			t.Errorf("a certificate for %s", parse(t, e.Certificate).Subject)
		}
	})
}
