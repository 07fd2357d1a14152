package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"slices"
	"time"
)

// owned is a certificate of the collector's own, with a key that never leaves the process.
type owned struct {
	pair *tls.Certificate
	due  time.Time // when it is to be replaced
}

// Server is the certificate of a listener for some names and addresses, made anew at two thirds of its life. The authority's
// own comes with it, so that whoever knows no more than a fingerprint can check it.
func (a *Authority) Server(names []string) (*tls.Certificate, error) {
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: first(names)}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	return a.keep("server "+fmt.Sprint(slices.Sorted(slices.Values(names))), template)
}

func first(names []string) string {
	if len(names) == 0 || len(names[0]) > 64 { // RFC 5280 allows no longer one
		return "heimdall-collector"
	}
	return names[0]
}

// Client is the certificate by which the collector makes itself known to its broker, under a name that no station can have.
func (a *Authority) Client(name string) (*tls.Certificate, error) {
	return a.keep("client "+name, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

// keep gives one of the collector's own certificates, and makes it when there is none or it is due.
func (a *Authority) keep(name string, template *x509.Certificate) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if have := a.own[name]; have != nil && a.now().Before(have.due) {
		return have.pair, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the certificate of the %s: %w", name, err)
	}
	cert, err := a.sign(template, key.Public(), serverLife)
	if err != nil {
		return nil, fmt.Errorf("make the certificate of the %s: %w", name, err)
	}
	pair := &tls.Certificate{Certificate: [][]byte{cert.Raw, a.cert.Raw}, PrivateKey: key, Leaf: cert}
	a.own[name] = &owned{pair: pair, due: renewal(cert, a.now())}
	return pair, nil
}

// renewal is two thirds of what is left of a new certificate's life.
func renewal(c *x509.Certificate, now time.Time) time.Time {
	return now.Add(c.NotAfter.Sub(now) * 2 / 3)
}
