package identity

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

const (
	// answerTimeout bounds one exchange with the collector, over the slowest link.
	answerTimeout = time.Minute
	// longestAnswer bounds what is read of it: a few certificates.
	longestAnswer = 256 << 10
)

// Now is the time, and whether the clock is set.
type Now func() (now time.Time, set bool)

// ErrOtherAuthority says that the code's collector is not the one that answers. Nothing was sent to it.
var ErrOtherAuthority = errors.New("what answers there is not the collector that made the code: its certificate is of another authority. " +
	"Nothing was sent. See that the address is right, and that no proxy stands in between")

// Meet looks whether the collector of a code answers where the code says, and is the one. It tells it nothing.
func Meet(ctx context.Context, code protocol.EnrolmentCode, now Now) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	conn, err := (&tls.Dialer{Config: pinned(code, now)}).DialContext(ctx, "tcp", code.Address())
	if err != nil {
		return fmt.Errorf("reach the collector at %s: %w", code.Address(), plain(err))
	}
	return conn.Close()
}

// pinned trusts the code's authority alone.
func pinned(code protocol.EnrolmentCode, now Now) *tls.Config {
	conf := meeting(code.ServerName())
	conf.VerifyConnection = func(state tls.ConnectionState) error {
		roots := x509.NewCertPool()
		for _, c := range state.PeerCertificates {
			if protocol.FingerprintOf(c) == code.Authority {
				roots.AddCert(c)
				return verify(state, conf.ServerName, roots, now)
			}
		}
		return ErrOtherAuthority
	}
	return conf
}

// meeting is how a station speaks to its collector. The chain is checked by VerifyConnection, which whoever calls this sets.
func meeting(host string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: host, NextProtos: []string{"http/1.1", protocol.EnrolmentALPN}, InsecureSkipVerify: true,
	}
}

// verify checks a server's chain and its name, or address, which the state of a connection does not have. A clock that is not set judges nothing: then only times are left out.
func verify(state tls.ConnectionState, host string, roots *x509.CertPool, now Now) error {
	leaf := state.PeerCertificates[0]
	options := x509.VerifyOptions{Roots: roots, DNSName: host, Intermediates: x509.NewCertPool()}
	for _, c := range state.PeerCertificates[1:] {
		options.Intermediates.AddCert(c)
	}
	at, set := now()
	if !set {
		at = leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2)
	}
	options.CurrentTime = at
	_, err := leaf.Verify(options)
	return err
}

// Enrol exchanges a code for an identity. An empty station is whichever the code is for.
func Enrol(ctx context.Context, code protocol.EnrolmentCode, station, version string, now Now) (*Granted, error) {
	k, err := newKey(station)
	if err != nil {
		return nil, err
	}
	request := protocol.EnrolmentRequest{
		Code: code.Reveal(), CSR: k.csr, Facts: &protocol.EnrolmentFacts{Version: version, OS: runtime.GOOS, Arch: runtime.GOARCH},
	}
	g := &Granted{key: k}
	if err := ask(ctx, pinned(code, now), "https://"+code.Address()+"/api/v1/enroll", request, &g.Enrolment); err != nil {
		return nil, fmt.Errorf("enrol at %s: %w", code.Address(), err)
	}
	if station != "" && g.Station != station {
		return nil, fmt.Errorf("enrol at %s: it made a certificate for %.40q, not for %s", code.Address(), g.Station, station)
	}
	return g, g.check()
}

// renew asks for the next certificate with the present one.
func renew(ctx context.Context, files Files, present tls.Certificate, now Now) (*Granted, error) {
	text, err := os.ReadFile(files.Renew)
	if err != nil {
		return nil, err
	}
	authority, err := os.ReadFile(files.CA)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		return nil, fmt.Errorf("%s holds no certificate in PEM form", files.CA)
	}
	station := present.Leaf.Subject.CommonName
	k, err := newKey(station)
	if err != nil {
		return nil, err
	}
	address, err := url.Parse(string(bytes.TrimSpace(text)))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", files.Renew, err)
	}
	conf := meeting(address.Hostname())
	conf.VerifyConnection = func(state tls.ConnectionState) error { return verify(state, conf.ServerName, roots, now) }
	conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &present, nil } // also one that has ended
	g := &Granted{key: k}
	if err := ask(ctx, conf, address.String(), protocol.RenewalRequest{CSR: k.csr}, &g.Enrolment); err != nil {
		return nil, err
	}
	if g.Station != station {
		return nil, fmt.Errorf("the collector made a certificate for %.40q, not for %s", g.Station, station)
	}
	return g, g.check()
}

// RefusedError is a collector's refusal, which asking again will not change.
type RefusedError struct{ Detail string }

func (r *RefusedError) Error() string { return "the collector refuses: " + r.Detail }

// ask posts JSON and reads the answer.
func ask(ctx context.Context, conf *tls.Config, address string, question, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	body, err := json.Marshal(question)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	transport := &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true, Proxy: http.ProxyFromEnvironment}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // the code is for this address alone
	}}
	response, err := client.Do(request)
	if err != nil {
		return plain(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, longestAnswer))
	if err != nil {
		return err
	}
	if response.StatusCode == http.StatusOK {
		return json.Unmarshal(text, answer)
	}
	return refusal(response.StatusCode, text)
}

// refusal is the error of an answer that is a problem.
func refusal(status int, text []byte) error {
	var problem struct {
		Title  string               `json:"title"`
		Detail string               `json:"detail"`
		Errors protocol.FieldErrors `json:"errors"`
	}
	if json.Unmarshal(text, &problem) != nil || problem.Title == "" {
		return fmt.Errorf("the answer is no collector's: status %d", status)
	}
	detail := problem.Detail
	if detail == "" {
		detail = problem.Title
	}
	if status == http.StatusForbidden || status == http.StatusUnprocessableEntity {
		return &RefusedError{oneLine(detail)}
	}
	return fmt.Errorf("the collector answers %d: %s", status, oneLine(detail))
}

// oneLine makes what a stranger says safe for a terminal.
func oneLine(s string) string {
	const most = 400
	out := []rune(nil)
	for _, r := range s {
		if r < ' ' || r == 0x7f || len(out) == most {
			continue
		}
		out = append(out, r)
	}
	return string(out)
}

// plain takes what is said twice from an error of the network.
func plain(err error) error {
	if errors.Is(err, ErrOtherAuthority) {
		return ErrOtherAuthority
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return fmt.Errorf("%w: see that the collector runs, and that its port can be reached from here", op.Err)
	}
	if unknown, ok := errors.AsType[x509.HostnameError](err); ok {
		return fmt.Errorf("%w: the operator names the collector in http.hosts", unknown)
	}
	return err
}
