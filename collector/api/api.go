// Package api is the collector's HTTP interface: what is stored, as JSON; recordings as SigMF; new acquisitions;
// server-sent events; health and metrics.
//
// One table of routes is the truth: it makes the handlers, the OpenAPI document at /api/v1/openapi.json and the page at
// /docs. Every error is an RFC 9457 problem that names the field, the value and what to write instead, all faults of a
// request at once. Lists are {items, next_cursor?}, an empty list is [], and what is unknown is absent.
//
// Times are RFC 3339 in UTC with nine decimals, frequencies Hz, durations seconds.
//
// The package starts no goroutine. Whoever makes the http.Server sets its time-outs; handlers that stream extend the
// write deadline themselves as long as the client keeps reading.
package api

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// Reader reads what is stored. A station that is not known is an error that wraps [fs.ErrNotExist]; a cursor that it
// cannot read is a [protocol.FieldErrors] or [protocol.FieldError].
type Reader interface {
	Stations(ctx context.Context) ([]protocol.Station, error)
	Station(ctx context.Context, id string) (*protocol.Station, error)
	// Records gives stored records, newest first, and the cursor of the next page, empty after the last.
	Records(ctx context.Context, kind protocol.Kind, filter protocol.Filter) ([]protocol.StoredRecord, string, error)
	// Arrivals gives at most limit records of a kind that arrived after a place, in the order of arrival; of all stations when
	// none is named.
	Arrivals(ctx context.Context, kind protocol.Kind, after protocol.Arrival, stations []string, limit int) ([]protocol.StoredRecord, error)
	// Detection gives what is known of an emission: the record of its id that saw most of it.
	Detection(ctx context.Context, id string) (*protocol.StoredRecord, error)
}

// Commander makes acquisitions and tells what became of them. Its errors are like those of [Reader]; a request it
// cannot carry out is a [protocol.FieldErrors].
type Commander interface {
	Create(ctx context.Context, request protocol.AcquisitionRequest) (*protocol.Acquisition, error)
	// CreateFitting shortens a request whose IQ would be too much, in place of refusing it.
	CreateFitting(ctx context.Context, request protocol.AcquisitionRequest) (*protocol.Acquisition, error)
	// Cancel ends what has not started and gives the acquisition as it is then; one that has ended stays as it is.
	Cancel(ctx context.Context, id string) (*protocol.Acquisition, error)
	Acquisition(ctx context.Context, id string) (*protocol.Acquisition, error)
	Acquisitions(ctx context.Context, limit int, cursor string) ([]*protocol.Acquisition, string, error)
}

// Recordings lists recordings. Its errors are like those of [Reader].
type Recordings interface {
	Recordings(ctx context.Context, filter protocol.Filter) ([]protocol.Recording, string, error)
	Recording(ctx context.Context, id string) (*protocol.Recording, error)
}

// Files opens the files of a recording by its key. An absent one is an error that wraps [fs.ErrNotExist].
type Files interface {
	OpenData(ctx context.Context, key string) (io.ReadSeekCloser, error)
	OpenMeta(ctx context.Context, key string) (io.ReadSeekCloser, error)
	OpenArchive(ctx context.Context, key, name string) (io.ReadSeekCloser, error)
}

// Condition is one thing that must hold for the collector to do its work.
type Condition struct {
	Name   string `json:"name"` // broker, database, archive, ...
	Ready  bool   `json:"ready"`
	Reason string `json:"reason,omitempty"` // why not, and what to do
}

// Config is what the interface needs. Fields without a note are required.
type Config struct {
	Reader     Reader
	Commander  Commander
	Recordings Recordings
	Files      Files
	WebSDRs    WebSDRs
	Tokens     Tokens
	Audit      Auditor
	Accounts   Accounts
	// Enrolment gives stations their certificates; nil where the interface listens without TLS.
	Enrolment Enrolment
	// Events carries what /api/v1/events sends.
	Events *Hub
	// Ready lists the conditions of /readyz; nil means none. A request that fails while one does not hold is answered with 503
	// and the reason.
	Ready func(ctx context.Context) []Condition
	// Metrics adds to /metrics; nil means nothing but the interface's own.
	Metrics Metrics
	// AskTokens has every route that is not open ask for a token of its role. Without, whoever asks may do all, which is right on
	// loopback only.
	AskTokens bool
	// GoesBy tells whether a request may come under a name, which is in lower case and without a port; nil lets every name in.
	GoesBy func(name string) bool
	// Version is the collector's, as in its version command.
	Version string
	// Now is the clock; nil means the system's.
	Now func() time.Time
	Log *slog.Logger
}

// server is the state behind the handlers.
type server struct {
	Config
	routes  []route
	mux     *http.ServeMux
	traffic traffic
	// requests counts those of each token, failures the wrong tokens of each address.
	requests, failures *limiter
	// open and openBulk are the requests of each token that are going on.
	open, openBulk tally
	// certificates counts the attempts of each address to get one.
	certificates *limiter

	bulk    chan struct{} // holds one for each bulk read that is going on
	openAPI []byte        // made once
	docs    []byte
}

// New makes the handler. It fails when a required part is absent.
func New(cfg Config) (http.Handler, error) {
	if cfg.Reader == nil || cfg.Commander == nil || cfg.Recordings == nil || cfg.Files == nil || cfg.WebSDRs == nil || cfg.Events == nil ||
		cfg.Tokens == nil || cfg.Audit == nil || cfg.Accounts == nil {
		return nil, errors.New("api: Reader, Commander, Recordings, Files, WebSDRs, Events, Tokens, Audit and Accounts are required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := ruled(routes()); err != nil {
		return nil, err
	}
	s := &server{Config: cfg, routes: routes(), mux: http.NewServeMux(), bulk: make(chan struct{}, mostBulk)}
	s.requests, s.failures = newLimiter(tokenRate, tokenBurst), newLimiter(failureRate/60.0, failureRate)
	s.certificates = newLimiter(certificateRate, certificateBurst)
	var err error
	if s.openAPI, err = s.describe(); err != nil {
		return nil, err
	}
	if s.docs, err = s.renderDocs(); err != nil {
		return nil, err
	}
	s.register()
	return s.guard(s.mux), nil
}
