package configs_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/configs"
)

func TestCertificateEnds(t *testing.T) {
	near := time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
	far := near.AddDate(1, 0, 0)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private})
	for _, ends := range []time.Time{far, near} {
		template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: ends}
		der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	path := filepath.Join(t.TempDir(), "chain.pem")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	first, last, err := configs.CertificateEnds(path)
	if err != nil || !first.Equal(near) || !last.Equal(far) {
		t.Errorf("from %v to %v, %v; want %v to %v", first, last, err, near, far)
	}
	for name, text := range map[string]string{
		"no certificate": "hello", "broken": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := configs.CertificateEnds(path); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, _, err := configs.CertificateEnds(""); err == nil {
		t.Error("no file: no error")
	}
}
