package authority

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

const (
	// codeLife is how long a code may be used unless something else is asked for, and the longest that can be.
	codeLife     = time.Hour
	longestLife  = 7 * 24 * time.Hour
	shortestLife = time.Minute
	// grace is how long after its end a certificate can still be renewed: a station may have been off for a winter.
	grace = 365 * 24 * time.Hour
)

// ValidCodeLife refuses a life that no code has.
func ValidCodeLife(life time.Duration) error {
	if life < shortestLife || life > longestLife {
		return fmt.Errorf("want %dm to %dd", shortestLife/time.Minute, longestLife/(24*time.Hour))
	}
	return nil
}

// Codes keeps codes, by their hash.
type Codes interface {
	// AddCode keeps a code, and makes those void that the station was given before and has not used.
	AddCode(ctx context.Context, hash []byte, code protocol.CodeState, actor string, now time.Time) error
	// Code finds one; an error that wraps [fs.ErrNotExist] says that there is none.
	Code(ctx context.Context, hash []byte) (protocol.CodeState, error)
	// UseCode uses a code up and notes the certificate that was given for it, both or neither. It tells whether the code could still
	// be used. All earlier certificates of the station are revoked; replaced tells whether there were any.
	UseCode(ctx context.Context, hash []byte, cert protocol.CertificateState, facts protocol.EnrolmentFacts, now time.Time) (used, replaced bool, err error)
}

// Certificates keeps what is known of stations' certificates.
type Certificates interface {
	// RenewCertificate notes a certificate that was given for another one, unless that is revoked. It tells whether it did.
	RenewCertificate(ctx context.Context, before string, cert protocol.CertificateState, now time.Time) (bool, error)
	// EnrolledStation tells whether a station has a certificate that is not revoked and not ended before a time, and whether it ever
	// had one.
	EnrolledStation(ctx context.Context, station string, since time.Time) (enrolled, ever bool, err error)
	// RevokeStation revokes all codes and certificates of a station, and tells how many. An error that wraps [fs.ErrNotExist] says that
	// nothing is known of the station.
	RevokeStation(ctx context.Context, station, action, actor string, now time.Time) (int, error)
	// RevokedCertificates lists the serial numbers, with the stations, of those that have not ended before a time.
	RevokedCertificates(ctx context.Context, since time.Time) ([]protocol.CertificateState, error)
}

// Accounts are those of stations at the broker.
type Accounts interface {
	// EnsureStation makes sure that there is one; undo, which is there beside an error, too, makes it as it was.
	EnsureStation(ctx context.Context, station, actor string) (undo func(context.Context) error, err error)
	// DisableStation ends an account, RemoveStation forgets it as well. Where there is none, the error wraps [fs.ErrNotExist].
	DisableStation(ctx context.Context, station, actor string) error
	RemoveStation(ctx context.Context, station, actor string) error
}

// Broker is what the desk does at the broker, beside accounts.
type Broker interface {
	// Cut ends the open session of a station, if it has one.
	Cut(ctx context.Context, station string) error
	// Clear empties everything that is retained of a station.
	Clear(ctx context.Context, station string) error
}

// Config is what a desk needs.
type Config struct {
	Authority    *Authority
	Codes        Codes
	Certificates Certificates
	Accounts     Accounts
	Broker       Broker
	// Host is where stations find the collector, as codes name it. Renew is the URL for the next certificate.
	Host, Renew string
	// MQTT is how stations reach the broker.
	MQTT protocol.EnrolmentMQTT
	// Notes are what whoever hands a code on should know, and Replaced, beside them, of a code that replaces a certificate.
	Notes, Replaced []string
	Now             func() time.Time // nil: the system's clock
	Log             *slog.Logger
}

// Desk is where stations get their certificates.
type Desk struct {
	cfg Config

	mu      sync.Mutex        // guards those up to the empty line
	revoked map[string]string // stations by serial number
	known   bool              // revoked has been read
	asked   uint64            // how often it was asked what is revoked
	heard   uint64            // the newest of these whose answer is in revoked

	writing   sync.Mutex // guards the rest; taken before mu
	written   []string   // serial numbers in the list for brokers; nil: it was not written yet
	unwritten bool       // the last try failed
}

// NewDesk makes a desk.
func NewDesk(cfg Config) *Desk {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Desk{cfg: cfg}
}

// RefusalError says why a station gets no certificate. The reason is for programs.
type RefusalError struct{ Reason, Message string }

func (r *RefusalError) Error() string { return r.Message }

// RefusalReason is the reason, for those who do not import this package.
func (r *RefusalError) RefusalReason() string { return r.Reason }

// The refusals.
var (
	errUnknown      = &RefusalError{"unknown", "this collector knows no such code: it was mistyped, or another collector made it"}
	errUsed         = &RefusalError{"used", "the code has been used already: `heimdall-collector station rotate ID` makes another one; if you did not use it, do that at once"}
	errExpired      = &RefusalError{"expired", "the code has ended: ask for another one, from `heimdall-collector station code ID`"}
	errVoid         = &RefusalError{"revoked", "the code was revoked, or another one was made after it: ask for the latest"}
	errOtherNetwork = &RefusalError{"wrong-authority", "the code is of another collector's authority: ask the operator of this one for a code"}
	errNoCert       = &RefusalError{"no-certificate", "send the station's present certificate in the TLS handshake"}
	errNotOurs      = &RefusalError{"wrong-certificate", "the certificate is not one that this collector's authority gave to a station: enrol with a code"}
	errRevoked      = &RefusalError{"revoked", "the station's certificate was revoked: ask the network's operator, and enrol with a new code"}
	errTooOld       = &RefusalError{"expired", "the certificate ended more than a year ago: enrol with a new code"}
)

// mintFault says why a station gets no code; empty: it does.
func mintFault(station string, enrolled, ever, replace bool) string {
	const code = "`heimdall-collector station code "
	switch {
	case enrolled && !replace:
		return "it is enrolled: `heimdall-collector station rotate " + station + "` makes a code that replaces its certificate"
	case enrolled || !replace:
		return ""
	case ever:
		return "its certificates are revoked, or ended more than a year ago: " + code + station + "` makes a code by which it comes back"
	}
	return "no station of this id has enrolled: `heimdall-collector station list` lists those there are, and " + code + station + "` makes a code for a new one"
}

// Mint makes a code for a station. One that is enrolled gets none, unless its certificate is to be replaced; then all others get none.
func (d *Desk) Mint(ctx context.Context, station string, life time.Duration, replace bool, actor string) (*protocol.MintedCode, error) {
	if err := protocol.ValidStation(station); err != nil {
		return nil, protocol.FieldErrors{{Field: "station", Value: station, Message: err.Error()}}
	}
	if life == 0 {
		life = codeLife
	}
	if err := ValidCodeLife(life); err != nil {
		return nil, protocol.FieldErrors{{Field: "ttl", Value: life.String(), Message: err.Error()}}
	}
	now := d.cfg.Now()
	enrolled, ever, err := d.cfg.Certificates.EnrolledStation(ctx, station, now.Add(-grace))
	if err != nil {
		return nil, fmt.Errorf("make a code for %s: %w", station, err)
	}
	if fault := mintFault(station, enrolled, ever, replace); fault != "" {
		return nil, protocol.FieldErrors{{Field: "station", Value: station, Message: fault}}
	}
	code := protocol.EnrolmentCode{Host: d.cfg.Host, Authority: d.cfg.Authority.Fingerprint()}
	if _, err := rand.Read(code.Secret[:]); err != nil {
		return nil, fmt.Errorf("make a code for %s: %w", station, err)
	}
	hash, expires := code.Hash(), now.Add(life)
	if err := d.cfg.Codes.AddCode(ctx, hash[:], protocol.CodeState{Station: station, Expires: expires}, actor, now); err != nil {
		return nil, fmt.Errorf("make a code for %s: %w", station, err)
	}
	notes := d.cfg.Notes
	if replace {
		notes = append(slices.Clone(notes), d.cfg.Replaced...)
	}
	return &protocol.MintedCode{Station: station, Code: code.Reveal(), Expires: protocol.FormatTime(expires), Notes: notes}, nil
}

// Enrol gives a certificate for a code. Whatever is refused does not use the code up.
func (d *Desk) Enrol(ctx context.Context, request protocol.EnrolmentRequest) (*protocol.Enrolment, error) {
	code, err := protocol.ParseEnrolmentCode(request.Code)
	if err != nil {
		return nil, errUnknown
	}
	own := d.cfg.Authority.Fingerprint()
	if subtle.ConstantTimeCompare(code.Authority[:], own[:]) != 1 {
		return nil, errOtherNetwork
	}
	// What is looked for is a hash: how long that takes tells nothing of the secret.
	hash, now := code.Hash(), d.cfg.Now()
	state, err := d.codeOf(ctx, hash[:], now)
	if err != nil {
		return nil, err
	}
	csr, err := parseCSR(request.CSR)
	if err != nil {
		return nil, protocol.FieldErrors{{Field: "csr", Message: err.Error()}}
	}
	if name := csr.Subject.CommonName; name != "" && name != state.Station {
		return nil, &RefusalError{"wrong-station", fmt.Sprintf("the code is for station %s: set station.id to it, or ask for a code for %.40q", state.Station, name)}
	}
	cert, err := d.cfg.Authority.signStation(csr, state.Station)
	if err != nil {
		return nil, fmt.Errorf("enrol %s: %w", state.Station, err)
	}
	var facts protocol.EnrolmentFacts
	if request.Facts != nil {
		facts = *request.Facts
	}
	// The account comes first: a broker that does not answer leaves the code as it is.
	undo, err := d.cfg.Accounts.EnsureStation(ctx, state.Station, state.Station)
	if err != nil {
		d.undo(ctx, state.Station, undo)
		return nil, fmt.Errorf("enrol %s: make its account: %w", state.Station, err)
	}
	used, replaced, err := d.cfg.Codes.UseCode(ctx, hash[:], cert.state, facts, now)
	if err != nil || !used {
		d.undo(ctx, state.Station, undo)
	}
	if err != nil {
		return nil, fmt.Errorf("enrol %s: %w", state.Station, err)
	}
	if !used { // another was faster, or it was revoked in between
		if _, err := d.codeOf(ctx, hash[:], now); err != nil {
			return nil, err
		}
		return nil, errUsed
	}
	if replaced {
		_ = d.look(ctx) // if not now, Run does it
	}
	d.cfg.Log.InfoContext(ctx, "a station has enrolled", "station", state.Station, "serial", cert.state.Serial, "replaced", replaced)
	return d.answer(cert), nil
}

// undo takes back the account of a station that has not enrolled. Where another request with the same code was faster, it stays.
func (d *Desk) undo(ctx context.Context, station string, undo func(context.Context) error) {
	ctx = context.WithoutCancel(ctx)
	enrolled, _, err := d.cfg.Certificates.EnrolledStation(ctx, station, d.cfg.Now())
	if err == nil && !enrolled {
		err = undo(ctx)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // it may have been removed meanwhile
		d.cfg.Log.WarnContext(ctx, "cannot take back the account of a station that has not enrolled", "station", station, "error", err)
	}
}

// codeOf finds a code, and says why it cannot be used.
func (d *Desk) codeOf(ctx context.Context, hash []byte, now time.Time) (protocol.CodeState, error) {
	state, err := d.cfg.Codes.Code(ctx, hash)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return state, errUnknown
	case err != nil:
		return state, fmt.Errorf("look a code up: %w", err)
	case state.Used:
		return state, errUsed
	case state.Revoked:
		return state, errVoid
	case !now.Before(state.Expires):
		return state, errExpired
	}
	return state, nil
}

func (d *Desk) answer(cert certificate) *protocol.Enrolment {
	return &protocol.Enrolment{
		Station: cert.state.Station, Certificate: cert.pem, Expires: protocol.FormatTime(cert.state.Expires), CA: string(d.cfg.Authority.PEM()),
		Renew: d.cfg.Renew, MQTT: d.cfg.MQTT,
	}
}

// Renew gives the next certificate for the present one, which the TLS handshake has proved the station to have the key of. One
// that has ended will do for a year.
func (d *Desk) Renew(ctx context.Context, present *x509.Certificate, request protocol.RenewalRequest) (*protocol.Enrolment, error) {
	if present == nil {
		return nil, errNoCert
	}
	station, err := d.cfg.Authority.stationOf(present)
	if err != nil {
		return nil, errNotOurs
	}
	now := d.cfg.Now()
	if now.After(present.NotAfter.Add(grace)) {
		return nil, errTooOld
	}
	csr, err := parseCSR(request.CSR)
	if err != nil {
		return nil, protocol.FieldErrors{{Field: "csr", Message: err.Error()}}
	}
	if name := csr.Subject.CommonName; name != "" && name != station {
		return nil, &RefusalError{"wrong-station", fmt.Sprintf("the certificate is that of station %s, not of %.40q", station, name)}
	}
	cert, err := d.cfg.Authority.signStation(csr, station)
	if err != nil {
		return nil, fmt.Errorf("renew the certificate of %s: %w", station, err)
	}
	renewed, err := d.cfg.Certificates.RenewCertificate(ctx, serialText(present), cert.state, now)
	if err != nil {
		return nil, fmt.Errorf("renew the certificate of %s: %w", station, err)
	}
	if !renewed {
		return nil, errRevoked
	}
	d.cfg.Log.InfoContext(ctx, "a station has renewed its certificate", "station", station, "serial", cert.state.Serial)
	return d.answer(cert), nil
}

// Revoke takes everything from a station: codes, certificates, account and session.
func (d *Desk) Revoke(ctx context.Context, station, actor string) error {
	return d.revoke(ctx, station, "revoke", actor, d.cfg.Accounts.DisableStation)
}

// Remove does the same, and empties what the broker retains of the station. Its records stay.
func (d *Desk) Remove(ctx context.Context, station, actor string) error {
	if err := d.revoke(ctx, station, "remove", actor, d.cfg.Accounts.RemoveStation); err != nil {
		return err
	}
	if err := d.cfg.Broker.Clear(ctx, station); err != nil {
		return fmt.Errorf("empty what is retained of %s: %w", station, err)
	}
	return nil
}

func (d *Desk) revoke(ctx context.Context, station, action, actor string, end func(ctx context.Context, station, actor string) error) error {
	if err := protocol.ValidStation(station); err != nil {
		return protocol.FieldErrors{{Field: "station", Value: station, Message: err.Error()}}
	}
	n, err := d.cfg.Certificates.RevokeStation(ctx, station, action, actor, d.cfg.Now())
	if err != nil {
		return fmt.Errorf("revoke %s: %w", station, err)
	}
	if err := d.look(ctx); err != nil { // before the session ends, or it would come back
		return fmt.Errorf("revoke %s: %w", station, err)
	}
	if err := end(ctx, station, actor); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("its certificates are revoked, but its account is not disabled: %w", err)
	}
	if err := d.cfg.Broker.Cut(ctx, station); err != nil {
		return fmt.Errorf("end the session of %s: %w", station, err)
	}
	d.cfg.Log.InfoContext(ctx, "a station was revoked", "station", station, "revoked", n, "actor", actor)
	return nil
}
