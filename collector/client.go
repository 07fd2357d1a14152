package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fulgidus/heimdall/collector/authority"
	"github.com/fulgidus/heimdall/protocol"
)

// remote is how commands that speak to a running collector find it.
type remote struct {
	Config string `help:"Configuration of the collector on this computer. Otherwise HEIMDALL_COLLECTOR_CONFIG, then the system's own." placeholder:"F"`
	URL    string `help:"Address of the running collector. Otherwise that of the one with --config, then HEIMDALL_URL, that of the one in ./heimdall-data, http://127.0.0.1:8090." placeholder:"URL"`

	data string // the data directory of the collector, where that is known
}

// defaultURL is where a collector listens unless it is told otherwise.
const defaultURL = "http://127.0.0.1:8090"

// urlVariable names the environment variable with the address of the running collector, where neither flag says anything.
const urlVariable = "HEIMDALL_URL"

// tokenVariable names the environment variable with the token. There is no flag: others can read a process's arguments.
const tokenVariable = "HEIMDALL_TOKEN"

// authorityVariable names the environment variable with the file of the authority that vouches for a collector elsewhere.
const authorityVariable = "HEIMDALL_CA"

// address is the one that was given; empty: none.
func (r remote) address() string {
	if r.URL == "" && r.Config == "" {
		return os.Getenv(urlVariable)
	}
	return r.URL
}

// addressOf says where the address was given.
func (r remote) addressOf() string {
	if r.URL == "" && r.address() != "" {
		return urlVariable
	}
	return "--url"
}

func (r remote) base() string {
	if address := r.address(); address != "" {
		return strings.TrimRight(address, "/")
	}
	for _, dir := range r.dataDirs() {
		if found, err := findRunning(dir); err == nil {
			return found.HTTP
		}
	}
	return defaultURL
}

// named refuses a configuration that was named and tells of no running collector.
func (r remote) named() error {
	if r.Config == "" {
		return nil
	}
	cfg, err := LoadConfig(r.Config)
	if err != nil {
		return usageError{err}
	}
	if _, err := findRunning(cfg.Data); err != nil && r.URL == "" {
		return fmt.Errorf("no collector runs with %s: %w; start it, or name its address with --url", r.Config, err)
	}
	return nil
}

// dataDirs are where a collector on this computer may keep its data.
func (r remote) dataDirs() []string {
	if r.Config != "" {
		cfg, err := LoadConfig(r.Config)
		if err != nil {
			return nil // named says why
		}
		return []string{cfg.Data}
	}
	dirs := []string{DefaultConfig().Data}
	if path := findConfig(""); path != "" {
		if cfg, err := LoadConfig(path); err == nil { // one that cannot be read names no place
			dirs = append(dirs, cfg.Data)
		}
	}
	return dirs
}

// client trusts whom the system trusts, and the authority of a collector on this computer.
func (r remote) client() (*http.Client, error) {
	if !strings.HasPrefix(r.base(), "https:") {
		return http.DefaultClient, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if path := os.Getenv(authorityVariable); path != "" {
		text, err := os.ReadFile(path)
		if err == nil && !pool.AppendCertsFromPEM(text) {
			err = fmt.Errorf("%s holds no certificate in PEM form", path)
		}
		if err != nil {
			return nil, usageError{fmt.Errorf("%s: %w", authorityVariable, err)}
		}
	}
	for _, path := range r.authorities() {
		if text, err := os.ReadFile(path); err == nil {
			pool.AppendCertsFromPEM(text)
		}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
	transport.DisableKeepAlives = true // nobody comes back to this one
	return &http.Client{Transport: transport}, nil
}

// authorities are the files with the authorities of collectors on this computer.
func (r remote) authorities() []string {
	var files []string
	for _, dir := range append(r.dataDirs(), r.data) {
		file := filepath.Join(dir, caName, authority.CertificateName)
		if _, err := os.Stat(file); err == nil {
			files = append(files, file)
		}
	}
	return files
}

// curl begins a line for a shell that asks as this command does, without its secret.
func (r remote) curl() string {
	line := "curl -s"
	if strings.HasPrefix(r.base(), "https:") {
		if os.Getenv(authorityVariable) != "" {
			line += ` --cacert "$` + authorityVariable + `"`
		} else if files := r.authorities(); len(files) > 0 {
			line += " --cacert '" + files[0] + "'"
		}
	}
	if os.Getenv(tokenVariable) != "" {
		line += ` -H "Authorization: Bearer $` + tokenVariable + `"`
	}
	return line
}

// problem is an RFC 9457 answer.
type problem struct {
	Title  string               `json:"title"`
	Status int                  `json:"status"`
	Detail string               `json:"detail"`
	Errors protocol.FieldErrors `json:"errors"`
	wait   time.Duration        // that the collector asks for, if it is a short one
}

// Error is what the user has to know: the faults of the request, each once, or else what the collector says.
func (p problem) Error() string {
	switch {
	case p.Status == http.StatusUnauthorized:
		return fmt.Sprintf("the collector wants a token: %s; put one that it knows into %s", p.Detail, tokenVariable)
	case len(p.Errors) > 0 && p.Status != http.StatusForbidden:
		return p.Errors.Error()
	case p.Detail == "":
		return fmt.Sprintf("the collector answers %d: %s", p.Status, p.Title)
	}
	return fmt.Sprintf("the collector answers %d: %s: %s", p.Status, p.Title, p.Detail)
}

// usage tells whether the fault is in what the user wrote. A fault without a value is that of something else: that no
// station is online, for instance.
func (p problem) usage() bool {
	written := func(e protocol.FieldError) bool { return e.Value != "" }
	return (p.Status == http.StatusBadRequest || p.Status == http.StatusUnprocessableEntity) && slices.ContainsFunc(p.Errors, written)
}

// call sends one request and decodes the JSON answer into answer, unless that is nil.
func (r remote) call(ctx context.Context, method, path string, body, answer any) error {
	resp, err := r.send(ctx, method, path, body, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if answer == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		return fmt.Errorf("read the collector's answer to %s %s: %w", method, path, err)
	}
	return nil
}

// mostWaitS is more than a right token is asked to wait.
const mostWaitS = 5

// mostWaits is how often a request that came too soon after others is sent again.
const mostWaits = 10

// send sends one request and gives the answer, unless that is a problem. A token may ask only so often: where it was too often, it
// waits as long as the collector wants.
func (r remote) send(ctx context.Context, method, path string, body any, header http.Header) (*http.Response, error) {
	for waits := 0; ; waits++ {
		resp, err := r.sendOnce(ctx, method, path, body, header)
		if p, ok := errors.AsType[problem](err); !ok || p.Status != http.StatusTooManyRequests || p.wait <= 0 || waits == mostWaits {
			return resp, err
		} else if err := pause(ctx, p.wait); err != nil {
			return nil, err
		}
	}
}

// pause waits.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func (r remote) sendOnce(ctx context.Context, method, path string, body any, header http.Header) (*http.Response, error) {
	if err := r.named(); err != nil {
		return nil, err
	}
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encode the request: %w", err)
		}
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, r.base()+path, content)
	if err != nil {
		return nil, usageError{fmt.Errorf("%s %q: want http://host:port: %w", r.addressOf(), r.base(), err)}
	}
	maps.Copy(req.Header, header)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token := os.Getenv(tokenVariable); token != "" {
		if req.URL.Scheme == "http" && !loopback(req.URL.Hostname()) {
			return nil, usageError{fmt.Errorf("%s %s: %s would travel where others can read it: write https://, or unset %s", r.addressOf(), r.base(), tokenVariable, tokenVariable)}
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	client, err := r.client()
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		if u := new(url.Error); errors.As(err, &u) {
			err = u.Err
		}
		if _, untrusted := errors.AsType[*tls.CertificateVerificationError](err); untrusted {
			return nil, fmt.Errorf("%s: %w: %s names the certificate of the collector's authority, ca/ca.pem in its data directory", r.base(), err, authorityVariable)
		}
		return nil, fmt.Errorf("no collector answers at %s (--url or HEIMDALL_URL names another): %w", r.base(), err)
	}
	if resp.StatusCode < http.StatusBadRequest {
		return resp, nil
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // what did arrive is still worth showing
	var p problem
	if json.Unmarshal(text, &p) != nil || p.Title == "" { // whoever answers is no collector
		p = problem{Title: http.StatusText(resp.StatusCode), Detail: strings.TrimSpace(string(text))}
		if req.URL.Scheme == "http" && strings.Contains(p.Detail, "HTTP request to an HTTPS server") {
			p.Detail += "; write https://, or name the configuration of the collector on this computer with --config"
		}
	}
	p.Status = resp.StatusCode
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds <= mostWaitS {
		p.wait = time.Duration(seconds) * time.Second
	}
	if p.usage() {
		return nil, usageError{p}
	}
	return nil, p
}

// acquire asks for an acquisition.
func (r remote) acquire(ctx context.Context, req protocol.AcquisitionRequest) (*protocol.Acquisition, error) {
	a := new(protocol.Acquisition)
	return a, r.call(ctx, http.MethodPost, "/api/v1/acquisitions", req, a)
}

// known refuses a station that the collector has never heard of: its lists would only be empty.
func (r remote) known(ctx context.Context, stations []string) error {
	for _, station := range stations {
		if protocol.ValidStation(station) != nil {
			continue // the list says how ids are written
		}
		err := r.call(ctx, http.MethodGet, "/api/v1/stations/"+url.PathEscape(station), nil, nil)
		if gone(err) {
			return fmt.Errorf("--station %s: no station of this id has ever connected; `heimdall-collector station list` lists those there are", station)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// restartPatience is how long a command that waits goes on asking a collector that does not answer: it may be starting
// again, and then takes up every acquisition where it was.
const restartPatience = time.Minute

// watch follows an acquisition until nothing more will come of it and hands each change to seen.
func (r remote) watch(ctx context.Context, id string, seen func(*protocol.Acquisition)) (*protocol.Acquisition, error) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	answered := time.Now()
	for {
		a := new(protocol.Acquisition)
		err := r.call(ctx, http.MethodGet, "/api/v1/acquisitions/"+url.PathEscape(id), nil, a)
		switch {
		case err == nil:
			answered = time.Now()
			seen(a)
			if a.State != protocol.AcquisitionQueued && a.State != protocol.AcquisitionRunning {
				return a, nil
			}
		case !passing(err) || time.Since(answered) > restartPatience:
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for acquisition %s: %w", id, ctx.Err())
		case <-tick.C:
		}
	}
}

// passing tells whether an error may end by itself: nothing answers, or what answers is out of order.
func passing(err error) bool {
	if p, ok := errors.AsType[problem](err); ok {
		return p.Status >= http.StatusInternalServerError || p.Status == http.StatusTooManyRequests
	}
	return !errors.As(err, new(usageError))
}

// events hands over the data of each server-sent event of a name until the context ends. That the stream ends before is
// an error: what comes after it would be missing without a word.
func (r remote) events(ctx context.Context, query url.Values, name string, handle func(data []byte) error) error {
	path := "/api/v1/events"
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	resp, err := r.send(ctx, http.MethodGet, path, nil, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 8<<20)
	event, data := "", []byte(nil)
	for lines.Scan() {
		if v, ok := strings.CutPrefix(lines.Text(), "event:"); ok {
			event = strings.TrimSpace(v)
		}
		if v, ok := bytes.CutPrefix(lines.Bytes(), []byte("data:")); ok {
			data = append(data[:0], bytes.TrimSpace(v)...)
		}
		if len(lines.Bytes()) > 0 {
			continue
		}
		if event == name && len(data) > 0 { // an event is whole at its empty line
			if err := handle(data); err != nil {
				return err
			}
		}
		event, data = "", data[:0]
	}
	if ctx.Err() != nil {
		return nil
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	return errors.New("the collector ended the stream: it is stopping, or this command did not keep up; start it again")
}
