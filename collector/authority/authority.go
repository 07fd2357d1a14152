// Package authority is a network's own certificate authority, and the desk where stations get their certificates.
//
// The authority's key lies in a folder of the collector's data directory and signs three kinds of certificates: those of the
// collector's listeners, that of the collector at its broker, and those of stations. A station's certificate has its id as the
// common name, so that any broker can tell stations apart by it; nothing else of what a station asks for gets into it.
package authority

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/fulgidus/heimdall/configs/wholefile"
	"github.com/fulgidus/heimdall/protocol"
)

const (
	// CertificateName is the authority's certificate in its folder, which brokers and other collectors may be given.
	CertificateName = "ca.pem"
	keyName         = "ca-key.pem"

	authorityLife = 10 * 365 * 24 * time.Hour
	serverLife    = 90 * 24 * time.Hour
	// stationLife is how long a station's certificate lasts; it is renewed at two thirds.
	stationLife = 90 * 24 * time.Hour
	// skew is how far other clocks may be behind.
	skew = time.Hour
)

// Authority signs certificates.
type Authority struct {
	dir  string
	cert *x509.Certificate
	pem  []byte
	key  crypto.Signer
	pool *x509.CertPool
	now  func() time.Time

	mu  sync.Mutex        // guards own
	own map[string]*owned // the collector's own certificates, by common name
}

// Open reads the authority in a folder, and makes one where there is none. Now is the clock; nil means the system's.
func Open(dir string, now func() time.Time) (*Authority, error) {
	if now == nil {
		now = time.Now
	}
	a := &Authority{dir: dir, now: now, own: make(map[string]*owned)}
	if err := a.open(dir); err != nil {
		return nil, fmt.Errorf("open the certificate authority in %s: %w", dir, err)
	}
	a.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
	a.pool = x509.NewCertPool()
	a.pool.AddCert(a.cert)
	return a, nil
}

func (a *Authority) open(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	certPath, keyPath := filepath.Join(dir, CertificateName), filepath.Join(dir, keyName)
	err := a.readKey(keyPath)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(certPath); err == nil {
			return fmt.Errorf("%s has no key beside it: put %s back from a backup; a new authority would be a stranger to all stations", certPath, keyName)
		}
		err = a.makeKey(keyPath)
	}
	if err != nil {
		return err
	}
	err = a.readCertificate(certPath)
	if errors.Is(err, fs.ErrNotExist) {
		return a.makeCertificate(certPath)
	}
	return err
}

func (a *Authority) readKey(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return fmt.Errorf("%s holds no key in PEM form: put it back from a backup", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return fmt.Errorf("%s holds no key: put it back from a backup", path)
	}
	signer, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return fmt.Errorf("%s: want a key for ECDSA, got %T", path, key)
	}
	a.key = signer
	return nil
}

func (a *Authority) makeKey(path string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	a.key = key
	return wholefile.Write(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600, nil)
}

func (a *Authority) readCertificate(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return fmt.Errorf("%s holds no certificate in PEM form: put it back from a backup", path)
	}
	if a.cert, err = x509.ParseCertificate(block.Bytes); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if public, ok := a.cert.PublicKey.(*ecdsa.PublicKey); !ok || !public.Equal(a.key.Public()) {
		return fmt.Errorf("%s is not the certificate of the key beside it: put both back from one backup", path)
	}
	return nil
}

func (a *Authority) makeCertificate(path string) error {
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "Heimdall certificate authority", Organization: []string{"Heimdall"}},
		NotBefore: a.now().Add(-skew), NotAfter: a.now().Add(authorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	var err error
	if template.SerialNumber, err = newSerial(); err != nil {
		return err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		return err
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return err
	}
	return wholefile.Write(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644, nil)
}

// newSerial is a number that no other certificate has.
func newSerial() (*big.Int, error) {
	var raw [16]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return nil, err
	}
	raw[0] = raw[0]&0x7f | 0x40 // positive, and always of the same length
	return new(big.Int).SetBytes(raw[:]), nil
}

// serialText is how a serial number is kept.
func serialText(c *x509.Certificate) string { return fmt.Sprintf("%x", c.SerialNumber) }

// PEM is the authority's certificate.
func (a *Authority) PEM() []byte { return a.pem }

// Pool holds the authority's certificate alone.
func (a *Authority) Pool() *x509.CertPool { return a.pool }

// Fingerprint is that of the authority's certificate.
func (a *Authority) Fingerprint() protocol.Fingerprint { return protocol.FingerprintOf(a.cert) }

// Expires is when the authority's certificate ends.
func (a *Authority) Expires() time.Time { return a.cert.NotAfter }

// sign makes a certificate for a key. It ends with the authority's own at the latest.
func (a *Authority) sign(template *x509.Certificate, public crypto.PublicKey, life time.Duration) (*x509.Certificate, error) {
	now := a.now()
	var err error
	if template.SerialNumber, err = newSerial(); err != nil {
		return nil, err
	}
	template.NotBefore, template.NotAfter = now.Add(-skew), now.Add(life)
	if template.NotBefore.Before(a.cert.NotBefore) {
		template.NotBefore = a.cert.NotBefore
	}
	if template.NotAfter.After(a.cert.NotAfter) {
		template.NotAfter = a.cert.NotAfter
	}
	if !template.NotAfter.After(now) {
		return nil, fmt.Errorf("the certificate authority ended on %s: remove its folder for a new one, and enrol all stations again", a.cert.NotAfter.Format(time.DateOnly))
	}
	template.BasicConstraintsValid = true
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, public, a.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}
