package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

type contextKey int

const (
	requestKey contextKey = iota // the id
	callerKey                    // *caller
)

// requestID is the id that the answer and the log give a request.
func requestID(ctx context.Context) string {
	id, _ := ctx.Value(requestKey).(string)
	return id
}

// contentPolicy lets the pages here load nothing from elsewhere, and no page show them inside itself.
const contentPolicy = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; object-src 'none'; form-action 'none'"

// longestAny is more than any request has to say; what reads a body sets its own limit.
const longestAny = 1 << 20

// guard wraps everything: request id, security headers, refusal of other sites' pages and of other names.
func (s *server) guard(next http.Handler) http.Handler {
	origins := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, err := uuid.NewRandom()
		if err != nil { // no random numbers: the zero id names the request
			id = uuid.Nil
		}
		r = r.WithContext(context.WithValue(r.Context(), requestKey, id.String()))
		h := w.Header()
		h.Set("X-Request-Id", id.String())
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", contentPolicy)
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		r.Body = http.MaxBytesReader(w, r.Body, longestAny)
		if !s.named(r.Host) {
			writeProblem(w, r, wrongHost.with("the collector does not go by the name that the request came under",
				fieldError("Host", r.Host, "ask under a name of the collector, such as 127.0.0.1 on its own machine, or add the name to http.hosts")))
			return
		}
		if err := origins.Check(r); err != nil {
			header := "Origin"
			if r.Header.Get(header) == "" {
				header = "Sec-Fetch-Site"
			}
			writeProblem(w, r, crossOrigin.with("the request comes from a page of another origin",
				fieldError(header, r.Header.Get(header), "leave it out, or send what the collector's own page sends")))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// handle does what all routes have in common: count, authorize, negotiate, check the query, and turn an error into a
// problem.
func (s *server) handle(rt *route, w http.ResponseWriter, r *http.Request) {
	began := s.Now()
	counted := &countingWriter{ResponseWriter: w, status: http.StatusOK}
	defer func() { s.traffic.add(rt, counted.status, s.Now().Sub(began)) }()
	who, err := s.identify(rt, r)
	if err == nil {
		ctx := context.WithValue(r.Context(), callerKey, who)
		r = r.WithContext(ctx)
		counted.holds, counted.checked = func() bool { return s.holds(ctx, who) }, time.Now()
		if who.secret != "" {
			if !s.open.begin(who.name, mostOpen) {
				s.fail(counted, r, tooMany.after(time.Second, fmt.Sprintf("%d requests of this token are open", mostOpen)), badQuery)
				return
			}
			defer s.open.end(who.name)
		}
		err = s.admit(rt, r)
	}
	if err == nil {
		err = rt.answerIn(s, counted, r)
	}
	if err != nil {
		s.fail(counted, r, err, badQuery)
	}
}

// answerTimeout is how long an answer may be in the making. It ends before a server's usual time-outs close the connection
// without a word.
const answerTimeout = 20 * time.Second

// answerIn serves a request within answerTimeout, unless its answer is one that takes any time.
func (rt *route) answerIn(s *server, w http.ResponseWriter, r *http.Request) error {
	if rt.listing != nil {
		return s.sendList(rt, w, r)
	}
	if !rt.lasting {
		ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
		defer cancel()
		r = r.WithContext(ctx)
	}
	return rt.serve(s, w, r)
}

// admit checks what can be checked before the route's own handler runs.
func (s *server) admit(rt *route, r *http.Request) error {
	if !acceptable(r.Header.Values("Accept"), rt.answer.types) {
		forms := strings.Join(rt.answer.types, " or ")
		return notAcceptable.with("this address answers with "+forms, fieldError("Accept", strings.Join(r.Header.Values("Accept"), ", "), "write "+forms+", or leave it out"))
	}
	if rt.old && !rt.anyQuery {
		return oldQuery(r.URL.RawQuery, rt.query)
	}
	if rt.anyQuery || rt.query != nil { // a route with parameters reads them itself, to name all faults at once
		return nil
	}
	return parseQuery(r.URL.RawQuery, nil).err()
}

// fail answers with a problem. An answer that has begun is broken off, so that nobody takes it for a whole one.
func (s *server) fail(w *countingWriter, r *http.Request, err error, kind problemKind) {
	problem, own := problemOf(err, kind)
	if own && r.Context().Err() == nil {
		s.Log.ErrorContext(r.Context(), "request ended with an error", "request", requestID(r.Context()), "method", r.Method,
			"path", r.URL.Path, "error", err)
		if _, reasons := s.conditions(r.Context()); len(reasons) > 0 { // then that is why
			problem = unavailable.with(strings.Join(reasons, "; "))
		}
	}
	if w.begun {
		panic(http.ErrAbortHandler)
	}
	if problem.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="heimdall"`)
	}
	writeProblem(w, r, problem)
}

// nothing answers where no route is: 405 if the address takes other methods, else 404.
func (s *server) nothing(w http.ResponseWriter, r *http.Request) {
	began := s.Now()
	counted := &countingWriter{ResponseWriter: w, status: http.StatusOK}
	defer func() { s.traffic.add(nil, counted.status, s.Now().Sub(began)) }()
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		probe := &http.Request{Method: method, URL: r.URL, Host: r.Host}
		if _, pattern := s.mux.Handler(probe); pattern != "/" {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) > 0 {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		fault := fieldError("method", r.Method, "use "+strings.Join(allowed, " or "))
		s.fail(counted, r, wrongMethod.with(printable(r.Method)+" is not one of them", fault), badQuery)
		return
	}
	fault := fieldError("path", r.URL.Path, "see /docs for the addresses that exist")
	s.fail(counted, r, notFound.with("no such address; /docs lists them", fault), badQuery)
}

// acceptable tells whether one of the types may be sent. No Accept header means anything.
func acceptable(headers, types []string) bool {
	_, ok := preferred(headers, types)
	return ok
}

// preferred is the type that the client likes best; of equals, the first.
func preferred(headers, types []string) (string, bool) {
	if len(headers) == 0 || len(types) == 0 {
		return slices.Concat(types, []string{""})[0], true
	}
	best, bestWeight := "", 0.0
	for _, offered := range types {
		if w := weight(headers, offered); w > bestWeight {
			best, bestWeight = offered, w
		}
	}
	return best, bestWeight > 0
}

// weight is the q value of the most specific range in Accept that covers a type; 0 when none does.
func weight(headers []string, offered string) float64 {
	family, _, _ := strings.Cut(offered, "/")
	bestRank, q := 0, 0.0
	for _, header := range headers {
		for part := range strings.SplitSeq(header, ",") {
			name, parameters, err := mime.ParseMediaType(part)
			if err != nil {
				continue
			}
			rank := map[string]int{"*/*": 1, family + "/*": 2, offered: 3}[name]
			if rank <= bestRank {
				continue
			}
			bestRank, q = rank, 1
			if text, ok := parameters["q"]; ok {
				if q, err = strconv.ParseFloat(text, 64); err != nil || !(q >= 0 && q <= 1) {
					q = 0
				}
			}
		}
	}
	return q
}

// send answers with JSON.
func send(w http.ResponseWriter, r *http.Request, status int, value any) error {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return fmt.Errorf("write answer: %w", err)
	}
	return sendBytes(w, r, status, jsonType, body.Bytes())
}

func sendBytes(w http.ResponseWriter, r *http.Request, status int, mediaType string, body []byte) error {
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // a client that has gone needs no answer
	}
	return nil
}

// countingWriter remembers what was answered, and keeps extending the write deadline while the client reads.
type countingWriter struct {
	http.ResponseWriter
	status int
	begun  bool
	// patience is how long one write may take; 0 leaves the server's own time-out.
	patience time.Duration
	// holds tells whether the caller's token still does, and checked when that was asked; nil for who was not let in.
	holds   func() bool
	checked time.Time
}

var errRevoked = errors.New("the token has ended")

// stream frees an answer of the server's time-outs: it may take any time, as long as each write ends within patience.
func stream(w http.ResponseWriter, patience time.Duration) error {
	if counted, ok := w.(*countingWriter); ok {
		counted.patience = patience
	}
	err := http.NewResponseController(w).SetReadDeadline(time.Time{}) // it would end the request's context
	if err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("lift the read time-out: %w", err)
	}
	return nil
}

func (c *countingWriter) WriteHeader(status int) {
	if !c.begun {
		c.status, c.begun = status, true
	}
	c.ResponseWriter.WriteHeader(status)
}

func (c *countingWriter) Write(p []byte) (int, error) {
	c.begun = true
	if now := time.Now(); c.holds != nil && now.Sub(c.checked) >= checkEvery {
		c.checked = now
		if !c.holds() {
			return 0, errRevoked
		}
	}
	if c.patience > 0 {
		err := http.NewResponseController(c.ResponseWriter).SetWriteDeadline(time.Now().Add(c.patience))
		if err != nil && !errors.Is(err, http.ErrNotSupported) {
			return 0, err
		}
	}
	return c.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach the connection.
func (c *countingWriter) Unwrap() http.ResponseWriter { return c.ResponseWriter }
