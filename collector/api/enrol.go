package api

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"time"

	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/protocol"
)

// Enrolment gives stations their certificates. Its errors are like those of [Reader]; a refusal has a method RefusalReason, and its
// text tells the station's owner what to do.
type Enrolment interface {
	Enrol(ctx context.Context, request protocol.EnrolmentRequest) (*protocol.Enrolment, error)
	// Renew gives the next certificate for the present one, whose key the caller has proved to have; nil: it showed none.
	Renew(ctx context.Context, present *x509.Certificate, request protocol.RenewalRequest) (*protocol.Enrolment, error)
	// Mint makes a code; a life of 0 is the usual one. With replace, for a station that is enrolled, and else for one that is not.
	Mint(ctx context.Context, station string, life time.Duration, replace bool, actor string) (*protocol.MintedCode, error)
	// Revoke takes everything from a station; Remove also empties what the broker retains of it. A station of which nothing is known is
	// an error that wraps [fs.ErrNotExist].
	Revoke(ctx context.Context, station, actor string) error
	Remove(ctx context.Context, station, actor string) error
}

const (
	// certificateRate and certificateBurst are the attempts a second of one address to get a certificate. A whole network may share
	// one; a code has 128 bits.
	certificateRate  = 1
	certificateBurst = 100
)

// CodeRequest is the body of a new code; every member may be left out.
type CodeRequest struct {
	TTL     string `json:"ttl,omitempty"`     // how long it may be used, such as 30m; absent: an hour
	Replace bool   `json:"replace,omitempty"` // for a station that is enrolled: its certificate ends once there is another
}

func enrolmentRoutes() []route {
	const one = "/api/v1/stations/{id}"
	bodyProblems := []problemKind{badBody, badField, tooSlow, tooLarge, wrongType, crossOrigin, notFound}
	return []route{
		{
			method: "POST", path: "/api/v1/enroll", id: "enroll", tag: "stations", summary: "Gives a station its certificate for a code that is used once", role: roleOpen,
			detail: "Needs TLS. The common name of the request is the station's id, or empty for whichever the code is for; nothing else of it gets into the certificate. " +
				"Whatever is refused does not use the code up. `heimdall-agent enroll` does all of this, and checks the collector first.",
			body:     &content{types: []string{jsonType}, schema: "EnrolmentRequest", example: exampleEnrolmentRequest()},
			answer:   content{types: []string{jsonType}, schema: "Enrolment", example: exampleEnrolment()},
			problems: append([]problemKind{refused, tooMany}, bodyProblems...), serve: (*server).enrol,
		},
		{
			method: "POST", path: "/api/v1/renew", id: "renew", tag: "stations", summary: "Gives a station its next certificate for the present one", role: roleOpen,
			detail: "The present certificate is shown in the TLS handshake, where the station offers the protocol heimdall beside http/1.1 (ALPN). One that ended up to a year ago " +
				"will do, unless it was revoked.",
			body:     &content{types: []string{jsonType}, schema: "RenewalRequest", example: protocol.RenewalRequest{CSR: exampleCSR}},
			answer:   content{types: []string{jsonType}, schema: "Enrolment", example: exampleEnrolment()},
			problems: append([]problemKind{refused, tooMany}, bodyProblems...), serve: (*server).renew,
		},
		{
			method: "POST", path: one + "/code", id: "mintCode", tag: "stations", summary: "Makes a code by which a station enrols", role: protocol.RoleAdmin, network: true,
			detail: "It is for one use by the station of this id, and for an hour unless ttl says otherwise. The station need not be known yet. The code is in this answer and " +
				"never again; it makes those void that the station was given before. One that is enrolled gets one with replace only, and no other does.",
			body: &content{types: []string{jsonType}, schema: "CodeRequest", example: CodeRequest{TTL: "1h", Replace: true}}, bodyless: true,
			answer: content{types: []string{jsonType}, schema: "MintedCode", example: exampleMintedCode()}, status: http.StatusCreated,
			problems: bodyProblems, serve: (*server).mint,
		},
		{
			method: "POST", path: one + "/revoke", id: "revokeStation", tag: "stations", summary: "Takes everything from a station", role: protocol.RoleAdmin, network: true,
			detail: "Its codes and certificates are revoked, its account is disabled and its session ends. A new code lets it in again.",
			answer: content{text: "Nothing"}, status: http.StatusNoContent, problems: []problemKind{badField, crossOrigin, notFound}, serve: (*server).revokeStation,
		},
		{
			method: "DELETE", path: one, id: "removeStation", tag: "stations", summary: "Revokes a station, and empties what the broker retains of it", role: protocol.RoleAdmin, network: true,
			detail: "What it measured stays.",
			answer: content{text: "Nothing"}, status: http.StatusNoContent, problems: []problemKind{badField, crossOrigin, notFound}, serve: (*server).removeStation,
		},
	}
}

// enrolment is the desk, or why there is none.
func (s *server) enrolment() (Enrolment, error) {
	if s.Enrolment == nil {
		return nil, notFound.with("stations do not enrol here: the API listens without TLS",
			fieldError("http.tls", "", "set it in the collector's configuration, to {} for a certificate of its own authority, and start the collector again"))
	}
	return s.Enrolment, nil
}

func (s *server) enrol(w http.ResponseWriter, r *http.Request) error {
	var request protocol.EnrolmentRequest
	desk, err := s.certificateBody(w, r, exampleEnrolmentRequest(), func(o *object) {
		o.required("code", "send the whole code")
		o.required("csr", "send a certificate request in PEM form")
		o.read("code", &request.Code, "write the code as text")
		o.read("csr", &request.CSR, "write PEM as text")
		o.read("facts", &request.Facts, `write an object such as {"os": "linux"}, or leave it out`)
		o.refuseOthers("code, csr, facts")
	})
	if err != nil {
		return err
	}
	given, err := desk.Enrol(r.Context(), request)
	return granted(w, r, given, err)
}

func (s *server) renew(w http.ResponseWriter, r *http.Request) error {
	var request protocol.RenewalRequest
	desk, err := s.certificateBody(w, r, protocol.RenewalRequest{CSR: exampleCSR}, func(o *object) {
		o.required("csr", "send a certificate request in PEM form")
		o.read("csr", &request.CSR, "write PEM as text")
		o.refuseOthers("csr")
	})
	if err != nil {
		return err
	}
	var present *x509.Certificate
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		present = r.TLS.PeerCertificates[0]
	}
	given, err := desk.Renew(r.Context(), present, request)
	return granted(w, r, given, err)
}

// granted answers with a certificate, or why there is none.
func granted(w http.ResponseWriter, r *http.Request, given *protocol.Enrolment, err error) error {
	var refusal interface{ RefusalReason() string }
	if errors.As(err, &refusal) {
		return refused.with(err.Error(), fieldError("reason", refusal.RefusalReason(), err.Error()))
	}
	if err != nil {
		return ofBody(err, "give a certificate")
	}
	return send(w, r, http.StatusOK, given)
}

// ofBody is the problem of an error that may be a fault of the body.
func ofBody(err error, doing string) error {
	problem, own := problemOf(err, badField)
	if own {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return problem
}

// certificateBody reads the body of a request for a certificate, which may hold a secret: what is wrong with it is not shown again.
func (s *server) certificateBody(w http.ResponseWriter, r *http.Request, example any, read func(*object)) (Enrolment, error) {
	desk, err := s.enrolment()
	if err != nil {
		return nil, err
	}
	err = readMembers(w, r, example, read)
	if problem, ok := errors.AsType[*problemError](err); ok && problem.Status != http.StatusUnsupportedMediaType {
		for i := range problem.Errors {
			problem.Errors[i].Value = ""
		}
	}
	if err != nil {
		return nil, err
	}
	if wait := s.certificates.take(network(addressOfClient(r))); wait > 0 {
		return nil, tooMany.after(wait, "too many attempts to get a certificate came from this address")
	}
	return desk, nil
}

func readMembers(w http.ResponseWriter, r *http.Request, example any, read func(*object)) error {
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	shown, err := json.Marshal(example)
	if err != nil {
		return fmt.Errorf("write an example: %w", err)
	}
	o, err := parseObject(body, string(shown))
	if err != nil {
		return err
	}
	if read(o); len(o.faults) > 0 {
		return badField.faulty(o.faults)
	}
	return nil
}

// stationOf is the desk and the station of an address.
func (s *server) stationOf(r *http.Request) (desk Enrolment, id string, err error) {
	id = r.PathValue("id")
	if protocol.ValidStation(id) != nil {
		return nil, id, notFound.with("no station can have this id", fieldError("id", id, stationAdvice))
	}
	desk, err = s.enrolment()
	return desk, id, err
}

func (s *server) mint(w http.ResponseWriter, r *http.Request) error {
	desk, station, err := s.stationOf(r)
	if err != nil {
		return err
	}
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	life, replace, err := parseCodeRequest(body)
	if err != nil {
		return err
	}
	made, err := desk.Mint(r.Context(), station, life, replace, callerOf(r.Context()).name)
	if err != nil {
		return ofBody(err, "make a code")
	}
	return send(w, r, http.StatusCreated, made)
}

// parseCodeRequest reads the body of a new code, which may be empty.
func parseCodeRequest(body []byte) (life time.Duration, replace bool, err error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return 0, false, nil
	}
	o, err := parseObject(body, `{"ttl": "1h"}`)
	if err != nil {
		return 0, false, err
	}
	if value, given := o.take("ttl"); given {
		var d configs.Duration
		text, _ := quantityText(value)
		if err := d.UnmarshalText([]byte(text)); err != nil || d <= 0 {
			o.fault("ttl", string(value), `write how long the code may be used, such as "1h"`)
		}
		life = time.Duration(d)
	}
	o.read("replace", &replace, "write true or false")
	o.refuseOthers("ttl, replace")
	if len(o.faults) > 0 {
		return 0, false, badField.faulty(o.faults)
	}
	return life, replace, nil
}

func (s *server) revokeStation(w http.ResponseWriter, r *http.Request) error {
	if s.Enrolment == nil {
		return s.endAccount(w, r, s.Accounts.DisableStation, withoutAccount)
	}
	return s.endStation(w, r, Enrolment.Revoke)
}

func (s *server) removeStation(w http.ResponseWriter, r *http.Request) error {
	if s.Enrolment == nil {
		return s.endAccount(w, r, s.Accounts.RemoveStation, unknownStation)
	}
	return s.endStation(w, r, Enrolment.Remove)
}

// unknownStation turns the error of a station that nobody knows into a problem that says where the known ones are.
func unknownStation(err error, id string) error {
	if errors.Is(err, fs.ErrNotExist) {
		return notFound.with("there is no station "+id, fieldError("id", id, "no such station: `heimdall-collector station list` lists those there are"))
	}
	return err
}

func (s *server) endStation(w http.ResponseWriter, r *http.Request, end func(desk Enrolment, ctx context.Context, station, actor string) error) error {
	desk, station, err := s.stationOf(r)
	if err != nil {
		return err
	}
	if err := end(desk, r.Context(), station, callerOf(r.Context()).name); err != nil {
		return ofBody(unknownStation(err, station), "revoke a station")
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

const (
	exampleCSR         = "-----BEGIN CERTIFICATE REQUEST-----\n…\n-----END CERTIFICATE REQUEST-----\n"
	exampleCertificate = "-----BEGIN CERTIFICATE-----\n…\n-----END CERTIFICATE-----\n"
	exampleCode        = "hd1.collector.example.org.….…"
)

func exampleEnrolmentRequest() protocol.EnrolmentRequest {
	return protocol.EnrolmentRequest{Code: exampleCode, CSR: exampleCSR, Facts: &protocol.EnrolmentFacts{Version: "1.0.0", OS: "linux", Arch: "arm64"}}
}

func exampleEnrolment() protocol.Enrolment {
	return protocol.Enrolment{
		Station: "giaveno", Certificate: exampleCertificate, Expires: "2027-02-22T02:00:00.000000000Z", CA: exampleCertificate,
		Renew: "https://collector.example.org:8090/api/v1/renew",
		MQTT:  protocol.EnrolmentMQTT{URL: "mqtts://collector.example.org:8883", CA: exampleCertificate, Prefix: protocol.DefaultPrefix},
	}
}

func exampleMintedCode() protocol.MintedCode {
	return protocol.MintedCode{Station: "giaveno", Code: exampleCode, Expires: "2026-11-24T03:00:00.000000000Z"}
}
