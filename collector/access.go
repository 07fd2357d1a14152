package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// goesBy tells whether the API goes by the name, in lower case, that a request came under. A web page whose name was made to lead here
// comes under its own, and would otherwise reach what asks for no token. Beyond loopback these are the names of the certificate,
// and every address: no name leads to one.
func (c *Collector) goesBy(name string) bool {
	is := func(own string) bool { return strings.EqualFold(own, name) }
	switch {
	case loopback(name), slices.ContainsFunc(c.cfg.HTTP.Hosts, is):
		return true
	case loopbackAddress(c.cfg.HTTP.Listen):
		return false
	}
	// Stations that enrol see the collector's own certificate, also where http.tls names another.
	return net.ParseIP(name) != nil || slices.ContainsFunc(c.cfg.certified(), is) || isCertified(c.server.TLSConfig, name)
}

// isCertified tells whether the server's certificate is made out to a name.
func isCertified(config *tls.Config, name string) bool {
	if config == nil {
		return false
	}
	certificates := config.Certificates
	if config.GetCertificate != nil {
		if current, err := config.GetCertificate(&tls.ClientHelloInfo{ServerName: name}); err == nil && current != nil {
			certificates = []tls.Certificate{*current}
		}
	}
	return slices.ContainsFunc(certificates, func(pair tls.Certificate) bool {
		leaf := pair.Leaf
		if leaf == nil && len(pair.Certificate) > 0 { // made by hand
			leaf, _ = x509.ParseCertificate(pair.Certificate[0])
		}
		return leaf != nil && leaf.VerifyHostname(name) == nil
	})
}

// knocks is a log in which it is no news that somebody knocks at an open port without speaking TLS.
type knocks struct{ slog.Handler }

// Handle writes down what the HTTP server has to say.
func (k knocks) Handle(ctx context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "TLS handshake error") {
		r.Level = slog.LevelDebug
	}
	if !k.Enabled(ctx, r.Level) {
		return nil
	}
	return k.Handler.Handle(ctx, r)
}

// missAdmin says how the first token is made where tokens are asked for and no admin has one.
func (c *Collector) missAdmin(ctx context.Context) {
	if !c.cfg.HTTP.Tokens {
		return
	}
	tokens, err := c.store.Tokens(ctx)
	if err != nil {
		c.log.WarnContext(ctx, "cannot look for an admin's token", "error", err)
		return
	}
	now := protocol.FormatTime(time.Now())
	if !slices.ContainsFunc(tokens, func(t protocol.Token) bool {
		return t.Role == protocol.RoleAdmin && t.Revoked == "" && (t.Expires == "" || t.Expires > now)
	}) {
		c.log.WarnContext(ctx, "nobody has an admin's token yet", "mend", "heimdall-collector token add NAME --role admin, with the configuration of this collector")
	}
}
