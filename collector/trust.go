package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/fulgidus/heimdall/collector/authority"
	"github.com/fulgidus/heimdall/collector/link"
	"github.com/fulgidus/heimdall/protocol"
)

// trust is the collector's certificate authority, and what is made of it; without TLS there is none.
type trust struct {
	authority *authority.Authority
	desk      *authority.Desk // nil where the API listens without TLS: stations then do not enrol
}

// secure tells whether the API speaks TLS.
func (c HTTPConfig) secure() bool { return c.TLS != nil || !loopbackAddress(c.Listen) }

// secure tells whether the embedded broker speaks TLS.
func (c EmbeddedConfig) secure() bool { return c.TLS || !loopbackAddress(c.Listen) }

func loopbackAddress(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	return err != nil || loopback(host)
}

// secureBroker tells whether there is an embedded broker that speaks TLS.
func (c Config) secureBroker() bool { return c.MQTT.URL == "" && c.MQTT.Embedded.secure() }

// certified are the names and addresses that the collector's own certificate is made out to, the one that codes give first.
func (c Config) certified() []string {
	names := []string{c.publicHost()}
	host, _, _ := net.SplitHostPort(c.HTTP.Listen)
	broker, _, _ := net.SplitHostPort(c.MQTT.Embedded.Listen)
	for _, name := range append(slices.Clone(c.HTTP.Hosts), host, broker, hostname(), "localhost", "127.0.0.1", "::1") {
		ip := net.ParseIP(name)
		if !protocol.ValidHostName(name) || ip != nil && ip.IsUnspecified() || slices.Contains(names, name) {
			continue
		}
		names = append(names, name)
	}
	return names
}

// publicHost is where stations find the collector.
func (c Config) publicHost() string {
	if len(c.HTTP.Hosts) > 0 {
		return c.HTTP.Hosts[0]
	}
	host, _, _ := net.SplitHostPort(c.HTTP.Listen)
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		return hostname()
	}
	return host
}

// codeNotes say what stations elsewhere may not find of what a code, or the answer to it, names.
func (c Config) codeNotes(broker string) (notes []string) {
	switch host := c.publicHost(); {
	case loopback(host):
		notes = append(notes, fmt.Sprintf("the code leads to %s, where only this computer finds the collector: for stations elsewhere set http.listen, and http.hosts to a name or address that they reach", host))
	case len(c.HTTP.Hosts) == 0 && net.ParseIP(host) == nil:
		notes = append(notes, fmt.Sprintf("the code leads to %s, the name of this computer: where the stations do not find it by that, set http.hosts to a name or address that they reach", host))
	}
	if u, err := url.Parse(broker); err == nil && loopback(u.Hostname()) {
		notes = append(notes, fmt.Sprintf("the station is told of the broker at %s, which it reaches on this computer only: set mqtt.public_url for stations elsewhere", broker))
	}
	return notes
}

// replacedNotes say how long an outside broker lets a certificate in that was replaced: it is none of the database's readers.
func (c *Collector) replacedNotes() []string {
	if c.broker != nil {
		return nil
	}
	list, err := filepath.Abs(filepath.Join(c.cfg.Data, caName, authority.RevocationListName))
	if err != nil {
		list = authority.RevocationListName
	}
	return []string{"once the station has enrolled again, the broker lets its earlier certificate in until it has read the list of revoked ones again: " +
		list + ", for crlfile in mosquitto.conf and `systemctl reload mosquitto`"}
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil || !protocol.ValidHostName(name) {
		return "localhost"
	}
	return name
}

// openTrust opens the authority where something speaks TLS. The embedded broker, whose port is taken already, is secured with it.
func (c *Collector) openTrust(context.Context) error {
	if !c.cfg.HTTP.secure() && !c.cfg.secureBroker() {
		return nil
	}
	var err error
	if c.trust.authority, err = authority.Open(filepath.Join(c.cfg.Data, caName), nil); err != nil {
		return err
	}
	c.trust.desk = authority.NewDesk(authority.Config{
		Authority: c.trust.authority, Codes: c.store, Certificates: c.store, Accounts: c.accounts, Broker: sessions{c},
		Host: c.enrolmentHost(), Renew: "https://" + net.JoinHostPort(c.cfg.publicHost(), c.httpPort()) + "/api/v1/renew",
		MQTT: c.enrolmentMQTT(), Notes: c.cfg.codeNotes(c.enrolmentMQTT().URL), Replaced: c.replacedNotes(), Log: c.component("authority"),
	})
	if c.cfg.secureBroker() {
		c.broker.Secure(c.brokerTLS())
	}
	return nil
}

func (c *Collector) httpPort() string {
	_, port, _ := net.SplitHostPort(c.HTTPAddr())
	return port
}

// enrolmentHost is the collector as codes name it.
func (c *Collector) enrolmentHost() string {
	return protocol.EnrolmentHost(c.cfg.publicHost(), c.httpPort())
}

// enrolmentMQTT is what a station is told of the broker.
func (c *Collector) enrolmentMQTT() protocol.EnrolmentMQTT {
	m := protocol.EnrolmentMQTT{URL: c.cfg.MQTT.PublicURL, Prefix: c.cfg.MQTT.Prefix}
	switch {
	case c.broker == nil:
		if m.URL == "" {
			m.URL = c.cfg.MQTT.URL
		}
		if text, err := os.ReadFile(c.cfg.MQTT.CA); c.cfg.MQTT.CA != "" && err == nil { // brokerConfig says what is wrong with it
			m.CA = string(text)
		}
	case c.cfg.secureBroker():
		m.CA = string(c.trust.authority.PEM())
		fallthrough
	default:
		if m.URL == "" {
			_, port, _ := net.SplitHostPort(c.broker.Addr())
			scheme := map[bool]string{true: "mqtts://", false: "mqtt://"}[c.cfg.secureBroker()]
			m.URL = scheme + net.JoinHostPort(c.cfg.publicHost(), port)
		}
	}
	return m
}

// ownCertificate is that of the collector's listeners, by its own authority.
func (c *Collector) ownCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.trust.authority.Server(c.cfg.certified())
}

// brokerTLS is how the embedded broker knows its clients: a certificate is checked where there is one.
func (c *Collector) brokerTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, GetCertificate: c.ownCertificate, SessionTicketsDisabled: true,
		ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: c.trust.authority.Pool(),
		VerifyConnection: func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) == 0 || state.PeerCertificates[0].Subject.CommonName == protocol.CollectorUsername {
				return nil
			}
			_, err := c.trust.desk.Admit(state.PeerCertificates[0])
			return err
		},
	}
}

// httpTLS is how the API speaks TLS; nil where it does not. Stations that come for a certificate, who say so by ALPN, always see that
// of the collector's own authority, and are asked for theirs; browsers never are.
func (c *Collector) httpTLS() (*tls.Config, error) {
	if !c.cfg.HTTP.secure() {
		return nil, nil
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.ownCertificate}
	if t := c.cfg.HTTP.TLS; t != nil && t.Cert != "" {
		files := &certificateFiles{cert: t.Cert, key: t.Key, log: c.component("http")}
		if _, err := files.current(nil); err != nil {
			return nil, fmt.Errorf("http.tls: %w", err)
		}
		conf.GetCertificate = files.current
	}
	stations := &tls.Config{
		MinVersion: tls.VersionTLS12, GetCertificate: c.ownCertificate, ClientAuth: tls.RequestClientCert, NextProtos: []string{"http/1.1"}, SessionTicketsDisabled: true,
	}
	conf.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if slices.Contains(hello.SupportedProtos, protocol.EnrolmentALPN) {
			return stations, nil
		}
		return nil, nil
	}
	return conf, nil
}

// certificateFiles is a certificate that somebody else renews.
type certificateFiles struct {
	cert, key string
	log       *slog.Logger

	mu   sync.Mutex // guards the rest
	pair *tls.Certificate
	of   [2]time.Time // when the files were changed
}

// current reads the files again when they have changed. What cannot be read leaves the certificate as it was.
func (f *certificateFiles) current(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var of [2]time.Time
	for i, path := range []string{f.cert, f.key} {
		if info, err := os.Stat(path); err == nil {
			of[i] = info.ModTime()
		}
	}
	if f.pair != nil && of == f.of {
		return f.pair, nil
	}
	pair, err := tls.LoadX509KeyPair(f.cert, f.key)
	switch {
	case err == nil:
		f.pair = &pair
	case f.pair == nil:
		return nil, err
	default:
		f.log.Warn("the certificate's files have changed and cannot be read: the one before goes on", "error", err)
	}
	f.of = of
	return f.pair, nil
}

// brokerOfOwn is how the collector makes itself known to a broker by a certificate of its own authority.
func (c *Collector) brokerOfOwn(conf *tls.Config) *tls.Config {
	if conf == nil {
		conf = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if c.cfg.secureBroker() {
		conf.RootCAs = c.trust.authority.Pool()
	}
	if len(conf.Certificates) == 0 && c.cfg.MQTT.Username == "" {
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return c.trust.authority.Client(protocol.CollectorUsername)
		}
	}
	return conf
}

// sessions is what the desk does at the broker.
type sessions struct{ c *Collector }

// Cut ends the session of a station at the embedded broker. An outside one ends it with the account; the plug-in does so without the
// station's last will, so that somebody has to say that it is offline.
func (s sessions) Cut(ctx context.Context, station string) error {
	if s.c.broker != nil {
		return s.c.broker.Cut(ctx, station)
	}
	if s.c.cfg.MQTT.accountsKept() != accountsDynsec {
		return nil
	}
	known, err := s.c.store.Station(ctx, station)
	if errors.Is(err, fs.ErrNotExist) || err == nil && known.Status != protocol.Online {
		return nil
	}
	if err != nil {
		return err
	}
	return s.c.client.Publish(ctx, protocol.Topics{Prefix: s.c.cfg.MQTT.Prefix}.Status(station), true, []byte(protocol.Offline))
}

// afterWill is how long an outside broker gets to end a session, before what it leaves behind is emptied.
const afterWill = 2 * time.Second

// Clear empties what is retained of a station.
func (s sessions) Clear(ctx context.Context, station string) error {
	spools, err := s.c.store.Spools(ctx, station)
	if err != nil {
		return err
	}
	if s.c.broker == nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(afterWill):
		}
	}
	topics := protocol.Topics{Prefix: s.c.cfg.MQTT.Prefix}
	list := []string{topics.Status(station), topics.Info(station), topics.State(station)}
	for _, spool := range spools {
		list = append(list, topics.Ack(station, spool))
	}
	var errs []error
	device := s.c.cfg.MQTT.rules().HomeAssistant.Device(station)
	if s.c.dynsec == nil {
		list = append(list, device)
	} else {
		errs = append(errs, s.c.dynsec.Clear(ctx, station, s.emptyAs))
	}
	for _, topic := range list {
		errs = append(errs, s.c.client.Publish(ctx, topic, true, nil))
	}
	return errors.Join(errs...)
}

// emptyAs takes back what is retained on a topic, as another account.
func (s sessions) emptyAs(ctx context.Context, username, password, topic string) error {
	cfg, err := brokerConfig(s.c.cfg, s.c.cfg.MQTT.URL)
	if err != nil {
		return err
	}
	cfg.Username, cfg.Password, cfg.Log = username, password, s.c.component("link")
	return link.Empty(ctx, cfg, topic)
}
