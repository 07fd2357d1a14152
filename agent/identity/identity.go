// Package identity is how a station comes to its certificate, and keeps it good.
//
// A one-time code names a collector, a secret and the collector's authority. The station checks the authority before it says
// anything, makes its key here, and sends a request for a certificate with the secret. What it gets lies in a folder of the state
// directory: station.pem with the key and the certificate in one file, so that the two are always of one piece; ca.pem, the
// collector's authority; broker-ca.pem where the broker is known by another one; and renew, the address for the next certificate.
//
// A certificate is renewed at two thirds of its life, and as soon as possible when it has ended: a station that was off for months
// comes back by itself. Nothing is judged by a clock that is not set.
package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"github.com/fulgidus/heimdall/configs/wholefile"
	"github.com/fulgidus/heimdall/protocol"
)

// Folder is the name of the identity's folder in a state directory.
const Folder = "identity"

const (
	stationName  = "station.pem"
	caName       = "ca.pem"
	brokerCAName = "broker-ca.pem"
	renewName    = "renew"
)

// Files are the paths of an identity. An empty BrokerCA is the authorities that the system knows.
type Files struct{ Station, CA, BrokerCA, Renew string }

// FilesIn are those of a state directory. BrokerCA is empty where there is none.
func FilesIn(state string) Files {
	dir := filepath.Join(state, Folder)
	f := Files{Station: filepath.Join(dir, stationName), CA: filepath.Join(dir, caName), Renew: filepath.Join(dir, renewName)}
	if path := filepath.Join(dir, brokerCAName); exists(path) {
		f.BrokerCA = path
	}
	return f
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// key is a new key and the request for its certificate.
type key struct {
	pem []byte
	csr string
}

func newKey(station string) (key, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return key{}, fmt.Errorf("make the station's key: %w", err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return key{}, fmt.Errorf("make the station's key: %w", err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: station}}, private)
	if err != nil {
		return key{}, fmt.Errorf("ask for a certificate: %w", err)
	}
	return key{
		pem: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}),
		csr: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr})),
	}, nil
}

// Granted is what a collector gave, with the key that it belongs to.
type Granted struct {
	protocol.Enrolment
	key key
}

// pair is the content of station.pem.
func (g *Granted) pair() []byte { return append(append([]byte(nil), g.key.pem...), g.Certificate...) }

// check refuses what no station could work with.
func (g *Granted) check() error {
	if err := protocol.ValidStation(g.Station); err != nil {
		return fmt.Errorf("the collector's answer: %w", err)
	}
	pair, err := tls.X509KeyPair(g.pair(), g.key.pem)
	if err != nil {
		return fmt.Errorf("the collector's answer: its certificate: %w", err)
	}
	if name := pair.Leaf.Subject.CommonName; name != g.Station {
		return fmt.Errorf("the collector's answer: the certificate of %.40q for station %s", name, g.Station)
	}
	for what, text := range map[string]string{"authority": g.CA, "broker's authority": g.MQTT.CA} {
		if (text != "" || what == "authority") && !x509.NewCertPool().AppendCertsFromPEM([]byte(text)) {
			return fmt.Errorf("the collector's answer: its %s is no certificate in PEM form", what)
		}
	}
	if u, err := url.Parse(g.Renew); err != nil || u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("the collector's answer: %.80q is no address to renew at", g.Renew)
	}
	if u, err := url.Parse(g.MQTT.URL); err != nil || u.Scheme != "mqtt" && u.Scheme != "mqtts" || u.Host == "" || u.User != nil {
		return fmt.Errorf("the collector's answer: %.80q is no address of a broker", g.MQTT.URL)
	}
	if err := protocol.ValidPrefix(g.MQTT.Prefix); err != nil {
		return fmt.Errorf("the collector's answer: %w", err)
	}
	return nil
}

// Save writes an identity into a state directory, for its owner only.
func (g *Granted) Save(state string) (Files, error) {
	dir := filepath.Join(state, Folder)
	if err := makeLike(state, dir); err != nil {
		return Files{}, fmt.Errorf("keep the identity in %s: %w; run it with sudo, or as the account that the agent runs as", dir, err)
	}
	broker := filepath.Join(dir, brokerCAName)
	if g.MQTT.CA == "" {
		if err := os.Remove(broker); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Files{}, fmt.Errorf("keep the identity: %w", err)
		}
	}
	for _, file := range []struct {
		name string
		text []byte
	}{
		{caName, []byte(g.CA)},
		{brokerCAName, []byte(g.MQTT.CA)},
		{renewName, []byte(g.Renew + "\n")},
		{stationName, g.pair()}, // last: who finds it finds all
	} {
		if len(file.text) == 0 {
			continue
		}
		if err := replace(filepath.Join(dir, file.name), file.text); err != nil {
			return Files{}, fmt.Errorf("keep the identity in %s: %w", dir, err)
		}
	}
	return FilesIn(state), nil
}

// Writable refuses a state directory that no identity can be kept in, while the code for it is still good.
func Writable(state string) error {
	dir := filepath.Join(state, Folder)
	probe := filepath.Join(dir, stationName+".try")
	err := makeLike(state, dir)
	if err == nil {
		err = errors.Join(replace(probe, nil), os.Remove(probe))
	}
	if err != nil {
		return fmt.Errorf("keep the identity in %s: %w; run it with sudo, or as the account that the agent runs as", dir, err)
	}
	return nil
}

// makeLike makes the folder of an identity, and the state directory where there is none yet.
func makeLike(state, dir string) error {
	if err := os.MkdirAll(state, 0o700); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return giveTo(state, dir)
}

// replace writes a file for its owner only.
func replace(path string, text []byte) error {
	return wholefile.Write(path, text, 0o600, func(part string) error { return giveTo(filepath.Dir(path), part) })
}
