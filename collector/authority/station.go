package authority

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// certificate is a signed one, and what is kept of it.
type certificate struct {
	pem   string
	state protocol.CertificateState
}

// mostCSRBytes bounds a request in PEM form; one with a key for ECDSA has some 400.
const mostCSRBytes = 8 << 10

// errCSR says what a request for a certificate should be.
var errCSR = errors.New("want a certificate request in PEM form with a key for ECDSA on P-256 or P-384, or for Ed25519")

// parseCSR reads a request for a certificate, and checks that whoever made it has the key.
func parseCSR(text string) (*x509.CertificateRequest, error) {
	if len(text) > mostCSRBytes {
		return nil, errCSR
	}
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errCSR
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || csr.CheckSignature() != nil {
		return nil, errCSR
	}
	switch key := csr.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() && key.Curve != elliptic.P384() {
			return nil, errCSR
		}
	case ed25519.PublicKey:
	default:
		return nil, errCSR
	}
	return csr, nil
}

// signStation makes a station's certificate. Of the request only the key is taken.
func (a *Authority) signStation(csr *x509.CertificateRequest, station string) (certificate, error) {
	cert, err := a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: station}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, csr.PublicKey, stationLife)
	if err != nil {
		return certificate{}, err
	}
	return certificate{
		pem:   string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})),
		state: protocol.CertificateState{Serial: serialText(cert), Station: station, Expires: cert.NotAfter},
	}, nil
}

// stationOf checks that the authority made a station's certificate, and tells the station. It is judged as of a time within its
// life: whether it has ended, and how long ago, is for the caller to say.
func (a *Authority) stationOf(cert *x509.Certificate) (string, error) {
	at := a.now()
	if at.After(cert.NotAfter) {
		at = cert.NotAfter.Add(-time.Second)
	}
	_, err := cert.Verify(x509.VerifyOptions{Roots: a.pool, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		return "", err
	}
	if err := protocol.ValidStation(cert.Subject.CommonName); err != nil {
		return "", err
	}
	return cert.Subject.CommonName, nil
}
