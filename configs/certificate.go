package configs

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"
)

// errNoCertificate says that a file is none of certificates.
var errNoCertificate = errors.New("holds no certificate in PEM form")

// CertificateEnds is when the first and the last of a file's certificates end.
func CertificateEnds(path string) (first, last time.Time, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return first, last, fmt.Errorf("read a certificate: %w", err)
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		found, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return first, last, fmt.Errorf("read the certificate %s: %w", path, err)
		}
		if first.IsZero() || found.NotAfter.Before(first) {
			first = found.NotAfter
		}
		if found.NotAfter.After(last) {
			last = found.NotAfter
		}
	}
	if first.IsZero() {
		return first, last, fmt.Errorf("read the certificate %s: it %w", path, errNoCertificate)
	}
	return first, last, nil
}
