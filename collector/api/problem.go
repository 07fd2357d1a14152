package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/fulgidus/heimdall/protocol"
)

const problemType = "application/problem+json"

// Problem is an RFC 9457 problem, as it is sent.
type Problem struct {
	Type     string                `json:"type"` // an address on the documentation page
	Title    string                `json:"title"`
	Status   int                   `json:"status"`
	Detail   string                `json:"detail"`
	Instance string                `json:"instance"` // the request, as in the log
	Errors   []protocol.FieldError `json:"errors"`
}

// problemError is a problem that a handler returns.
type problemError struct {
	Problem
	retryAfter time.Duration // 0 says nothing of it
}

// after says how long to wait.
func (k problemKind) after(wait time.Duration, detail string) *problemError {
	p := k.with(detail)
	p.retryAfter = wait
	return p
}

func (p *problemError) Error() string { return fmt.Sprintf("%d %s: %s", p.Status, p.Title, p.Detail) }

// problemKind is one kind of problem, with its place on the documentation page.
type problemKind struct {
	Name   string
	Status int
	Title  string
	Help   string
}

// The kinds of problem. Their names are part of the contract: clients branch on Type.
var (
	badQuery       = problemKind{"bad-query", http.StatusBadRequest, "The query cannot be understood", "Each entry of errors names a parameter, its value and what to write instead."}
	badBody        = problemKind{"bad-body", http.StatusBadRequest, "The body is not the JSON that is asked for", "Send one JSON object."}
	badField       = problemKind{"bad-field", http.StatusUnprocessableEntity, "The request cannot be carried out as asked", "Each entry of errors names a member of the body, its value and what to write instead."}
	nameTaken      = problemKind{"name-taken", http.StatusBadRequest, "Another one goes by this name", "Choose another name."}
	unauthorized   = problemKind{"unauthorized", http.StatusUnauthorized, "The request needs a token", "Send Authorization: Bearer and a token of this collector."}
	forbidden      = problemKind{"forbidden", http.StatusForbidden, "The token may not do this", "Ask the network's admin for a token with the role, or the stations, that it takes."}
	refused        = problemKind{"refused", http.StatusForbidden, "The station gets no certificate", "The detail says why, and what to do; errors has the reason as a word."}
	wrongHost      = problemKind{"wrong-host", http.StatusForbidden, "The collector does not go by this name", "Ask under a name of the collector; http.hosts in its configuration adds one."}
	tooMany        = problemKind{"too-many-requests", http.StatusTooManyRequests, "That was too often", "Wait as long as Retry-After says."}
	crossOrigin    = problemKind{"cross-origin", http.StatusForbidden, "Another site's page may not change anything here", "Open the collector's own page, or call it from a program."}
	notFound       = problemKind{"not-found", http.StatusNotFound, "There is no such thing", "The address or the id in it is not known here."}
	wrongMethod    = problemKind{"wrong-method", http.StatusMethodNotAllowed, "This address takes other methods", "The Allow header names them."}
	notAcceptable  = problemKind{"not-acceptable", http.StatusNotAcceptable, "No such form is made here", "The Accept header leaves out every form that this address can answer with."}
	tooSlow        = problemKind{"too-slow", http.StatusRequestTimeout, "The body takes too long", "Send the whole body at once."}
	changed        = problemKind{"changed", http.StatusPreconditionFailed, "It is another version than the one asked for", "Read it again without the condition."}
	tooLarge       = problemKind{"too-large", http.StatusRequestEntityTooLarge, "The body is too large", "The limit is 64 KiB."}
	wrongType      = problemKind{"wrong-type", http.StatusUnsupportedMediaType, "The body is of another type", "Send it with Content-Type: application/json."}
	wrongRange     = problemKind{"wrong-range", http.StatusRequestedRangeNotSatisfiable, "The file has no such range", "The Content-Range header says how long the file is."}
	internal       = problemKind{"internal", http.StatusInternalServerError, "Something went wrong here", "The collector's log has the cause under the request's id."}
	unavailable    = problemKind{"unavailable", http.StatusServiceUnavailable, "This takes too long at the moment", "Try again later; /readyz says what is out of order."}
	allProblemKind = []problemKind{badQuery, badBody, badField, nameTaken, unauthorized, forbidden, refused, wrongHost, crossOrigin, notFound, wrongMethod, notAcceptable, tooSlow, changed, tooLarge, wrongType, wrongRange, tooMany, internal, unavailable}
)

func (k problemKind) with(detail string, faults ...protocol.FieldError) *problemError {
	if faults == nil {
		faults = []protocol.FieldError{}
	}
	return &problemError{Problem: Problem{Type: "/docs#" + k.Name, Title: k.Title, Status: k.Status, Detail: detail, Errors: faults}}
}

// faulty makes a problem of all faults of one request.
func (k problemKind) faulty(faults protocol.FieldErrors) *problemError {
	shown := make([]protocol.FieldError, len(faults))
	names := make([]string, len(faults))
	for i, f := range faults {
		f.Value = printable(f.Value)
		f.Field = printable(f.Field)
		shown[i], names[i] = f, f.Field+": "+f.Message
	}
	return k.with(strings.Join(names, "; "), shown...)
}

// longestValue is how much of a wrong value is shown, in bytes.
const longestValue = 120

// printable makes text from outside safe to show: valid UTF-8, no control characters, not too long.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || unicode.IsControl(r) {
			return '�'
		}
		return r
	}, s)
	if len(s) <= longestValue {
		return s
	}
	cut := longestValue
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// problemOf turns any error of a handler into a problem. The bool tells whether it is the collector's own fault.
func problemOf(err error, kind problemKind) (*problemError, bool) {
	var problem *problemError
	var faults protocol.FieldErrors
	var fault protocol.FieldError
	var size *http.MaxBytesError
	var passing interface{ Transient() bool }      // as a database says that it may work later
	var broker interface{ BrokerTrouble() string } // as accounts say that the broker was not told
	switch {
	case errors.As(err, &problem):
		return problem, false
	case errors.As(err, &faults):
		return kind.faulty(faults), false
	case errors.As(err, &fault):
		return kind.faulty(protocol.FieldErrors{fault}), false
	case errors.As(err, &size):
		return tooLarge.with(fmt.Sprintf("the body may have %d bytes", size.Limit), fieldError("body", "", fmt.Sprintf("send at most %d bytes", size.Limit))), false
	case errors.As(err, &broker):
		return unavailable.with(printable(broker.BrokerTrouble())), true
	case errors.Is(err, fs.ErrNotExist):
		return notFound.with("it is not here, or not here any more"), false
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &passing) && passing.Transient():
		return unavailable.with("the database or the object store did not answer; the cause is in the collector's log"), true
	}
	return internal.with("the cause is in the collector's log"), true
}

// writeProblem sends a problem.
func writeProblem(w http.ResponseWriter, r *http.Request, p *problemError) {
	p.Instance = "urn:uuid:" + requestID(r.Context())
	body, err := json.Marshal(p.Problem)
	if err != nil { // strings and an int always can be written
		body = []byte(`{"status":500}`)
	}
	h := w.Header()
	for _, name := range []string{"Content-Encoding", "Content-Length", "Content-Disposition", "ETag", "Last-Modified", "Repr-Digest", "Link"} {
		h.Del(name)
	}
	h.Set("Content-Type", problemType)
	h.Set("Cache-Control", "no-store")
	switch {
	case p.retryAfter > 0:
		h.Set("Retry-After", strconv.Itoa(int(p.retryAfter.Seconds())))
	case p.Status == http.StatusServiceUnavailable:
		h.Set("Retry-After", "5")
	}
	w.WriteHeader(p.Status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(append(body, '\n')) // a client that has gone needs no answer
	}
}
