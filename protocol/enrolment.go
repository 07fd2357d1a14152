package protocol

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base32"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"
)

// Sizes and places of enrolment.
const (
	// SecretBytes is the length of a code's secret.
	SecretBytes = 16
	// DefaultEnrolmentPort is where a collector answers whose code names no port.
	DefaultEnrolmentPort = "8090"
	// EnrolmentALPN is what a station offers, beside http/1.1, when it speaks to its collector about certificates. The collector
	// then shows the certificate of its own authority, whatever it shows to others, and asks for that of the station.
	EnrolmentALPN = "heimdall"

	codeVersion = "hd1"
	// longestCode bounds what is read of one: version, name of a host (253), port, secret and fingerprint with their dots.
	longestCode = 400
)

// codeText writes bytes so that they can be typed: no letter looks like a digit, and case does not matter.
var codeText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Fingerprint is the SHA-256 of a certificate.
type Fingerprint [sha256.Size]byte

// FingerprintOf is that of a certificate.
func FingerprintOf(c *x509.Certificate) Fingerprint { return sha256.Sum256(c.Raw) }

// String is how other programs write it, for people to compare: 3c:9e:...
func (f Fingerprint) String() string {
	return strings.ReplaceAll(strings.TrimSpace(fmt.Sprintf("% x", f[:])), " ", ":")
}

// EnrolmentCode is what a station is given once, to get its identity with: where the collector is, a secret, and the authority
// that the collector must prove to belong to before it is told the secret.
//
// It prints without its secret; only [EnrolmentCode.Reveal] shows all of it.
type EnrolmentCode struct {
	Host      string // host or host:port
	Secret    [SecretBytes]byte
	Authority Fingerprint
}

// Reveal is the code as it is handed over: hd1.HOST.SECRET.AUTHORITY.
func (c EnrolmentCode) Reveal() string {
	return strings.Join([]string{codeVersion, c.Host, codeText.EncodeToString(c.Secret[:]), codeText.EncodeToString(c.Authority[:])}, ".")
}

// String is the code without its secret.
func (c EnrolmentCode) String() string { return codeVersion + "." + c.Host + ".****" }

// GoString is the same, for %#v.
func (c EnrolmentCode) GoString() string { return c.String() }

// LogValue is the same, for logs.
func (c EnrolmentCode) LogValue() slog.Value { return slog.StringValue(c.String()) }

// Hash is what is kept of a code. The secret is random and of 128 bits, so that a hash without a salt gives nothing away.
func (c EnrolmentCode) Hash() [sha256.Size]byte {
	return sha256.Sum256(append([]byte("heimdall enrolment code\x00"), c.Secret[:]...))
}

// Address is the collector's host and port.
func (c EnrolmentCode) Address() string {
	if _, port, err := net.SplitHostPort(c.Host); err == nil && port != "" {
		return c.Host
	}
	return net.JoinHostPort(strings.Trim(c.Host, "[]"), DefaultEnrolmentPort)
}

// ServerName is the name that the collector's certificate must have.
func (c EnrolmentCode) ServerName() string {
	host, _, _ := net.SplitHostPort(c.Address())
	return host
}

// EnrolmentHost is an address as a code names it: without the port where that is the usual one.
func EnrolmentHost(host, port string) string {
	if port == DefaultEnrolmentPort || port == "" {
		if strings.Contains(host, ":") {
			return "[" + host + "]"
		}
		return host
	}
	return net.JoinHostPort(host, port)
}

var errNoCode = errors.New("this is no enrolment code: want all of what `heimdall-collector station code` printed, hd1.HOST.SECRET.FINGERPRINT")

// ParseEnrolmentCode reads a code. Errors do not repeat it.
func ParseEnrolmentCode(text string) (EnrolmentCode, error) {
	var c EnrolmentCode
	text = strings.ToLower(strings.TrimSpace(text))
	rest, ok := strings.CutPrefix(text, codeVersion+".")
	if !ok || len(text) > longestCode {
		return c, errNoCode
	}
	rest, fingerprint, ok := cutLast(rest)
	if !ok {
		return c, errNoCode
	}
	host, secret, ok := cutLast(rest)
	if !ok || !validHost(host) {
		return c, errNoCode
	}
	c.Host = host
	if !decodeExactly(c.Secret[:], secret) || !decodeExactly(c.Authority[:], fingerprint) {
		return EnrolmentCode{}, fmt.Errorf("%w; a part of it is missing or mistyped", errNoCode)
	}
	return c, nil
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, '.')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// decodeExactly wants the one text that the bytes are written as.
func decodeExactly(into []byte, text string) bool {
	raw, err := codeText.DecodeString(text)
	return err == nil && len(raw) == len(into) && copy(into, raw) == len(into) && codeText.EncodeToString(raw) == text
}

// validHost accepts a name or an address, with or without a port.
func validHost(host string) bool {
	name := host
	if h, port, err := net.SplitHostPort(host); err == nil {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
			return false
		}
		name = h
	} else if inside, ok := strings.CutPrefix(host, "["); ok {
		if name, ok = strings.CutSuffix(inside, "]"); !ok || !strings.Contains(name, ":") {
			return false
		}
	}
	return ValidHostName(name)
}

// ValidHostName tells whether a text is an IP address or may be the name of a host.
func ValidHostName(name string) bool {
	if net.ParseIP(name) != nil {
		return true
	}
	if name == "" || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
			return false
		}
	}
	return true
}

// EnrolmentRequest is the body of POST /api/v1/enroll.
type EnrolmentRequest struct {
	Code  string          `json:"code"`
	CSR   string          `json:"csr"` // PEM; the common name is the station's id, or empty: whatever the code is for
	Facts *EnrolmentFacts `json:"facts,omitempty"`
}

// EnrolmentFacts is what a station says of itself when it enrols. It goes into the audit.
type EnrolmentFacts struct {
	Version string `json:"version,omitempty"`
	OS      string `json:"os,omitempty"`
	Arch    string `json:"arch,omitempty"`
}

// RenewalRequest is the body of POST /api/v1/renew, which the present certificate asks for.
type RenewalRequest struct {
	CSR string `json:"csr"` // PEM
}

// Enrolment is what a station gets: everything that it needs to connect, and to come back for its next certificate.
type Enrolment struct {
	Station     string        `json:"station"`
	Certificate string        `json:"certificate"` // PEM
	Expires     string        `json:"expires"`
	CA          string        `json:"ca"`    // PEM: the authority of the collector
	Renew       string        `json:"renew"` // URL
	MQTT        EnrolmentMQTT `json:"mqtt"`
}

// EnrolmentMQTT is how to reach the broker.
type EnrolmentMQTT struct {
	URL    string `json:"url"`
	CA     string `json:"ca,omitempty"` // PEM: who vouches for the broker; empty: the authorities that the system knows
	Prefix string `json:"prefix"`
}

// MintedCode is a new code, as whoever asked for it gets it.
type MintedCode struct {
	Station string `json:"station"`
	Code    string `json:"code"`
	Expires string `json:"expires"`
	// Notes are what to look at before the code is handed on, or once it was used.
	Notes []string `json:"notes,omitempty"`
}

// CodeState is what is kept of a code.
type CodeState struct {
	Station string
	Expires time.Time
	Used    bool
	Revoked bool
}

// CertificateState is what is kept of a station's certificate.
type CertificateState struct {
	Serial  string // hexadecimal
	Station string
	Expires time.Time
	Revoked bool
}
