package api_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/collector/api"
	"github.com/fulgidus/heimdall/protocol"
)

// noon is the clock of all tests.
var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

type reader struct {
	stations func(context.Context) ([]protocol.Station, error)
	station  func(context.Context, string) (*protocol.Station, error)
	records  func(context.Context, protocol.Kind, protocol.Filter) ([]protocol.StoredRecord, string, error)
	arrivals func(context.Context, protocol.Kind, protocol.Arrival, []string, int) ([]protocol.StoredRecord, error)
	detected func(context.Context, string) (*protocol.StoredRecord, error)
}

func (r *reader) Detection(ctx context.Context, id string) (*protocol.StoredRecord, error) {
	return r.detected(ctx, id)
}

func (r *reader) Stations(ctx context.Context) ([]protocol.Station, error) { return r.stations(ctx) }

func (r *reader) Station(ctx context.Context, id string) (*protocol.Station, error) {
	return r.station(ctx, id)
}

func (r *reader) Records(ctx context.Context, kind protocol.Kind, f protocol.Filter) ([]protocol.StoredRecord, string, error) {
	return r.records(ctx, kind, f)
}

func (r *reader) Arrivals(ctx context.Context, kind protocol.Kind, after protocol.Arrival, stations []string, limit int) ([]protocol.StoredRecord, error) {
	return r.arrivals(ctx, kind, after, stations, limit)
}

type commander struct {
	cancel func(context.Context, string) (*protocol.Acquisition, error)
	create func(context.Context, protocol.AcquisitionRequest) (*protocol.Acquisition, error)
	one    func(context.Context, string) (*protocol.Acquisition, error)
	list   func(context.Context, int, string) ([]*protocol.Acquisition, string, error)
}

func (c *commander) Create(ctx context.Context, r protocol.AcquisitionRequest) (*protocol.Acquisition, error) {
	return c.create(ctx, r)
}

func (c *commander) CreateFitting(ctx context.Context, r protocol.AcquisitionRequest) (*protocol.Acquisition, error) {
	return c.create(ctx, r)
}

func (c *commander) Cancel(ctx context.Context, id string) (*protocol.Acquisition, error) {
	return c.cancel(ctx, id)
}

func (c *commander) Acquisition(ctx context.Context, id string) (*protocol.Acquisition, error) {
	return c.one(ctx, id)
}

func (c *commander) Acquisitions(ctx context.Context, limit int, cursor string) ([]*protocol.Acquisition, string, error) {
	return c.list(ctx, limit, cursor)
}

type recordings struct {
	list func(context.Context, protocol.Filter) ([]protocol.Recording, string, error)
	one  func(context.Context, string) (*protocol.Recording, error)
}

func (r *recordings) Recordings(ctx context.Context, f protocol.Filter) ([]protocol.Recording, string, error) {
	return r.list(ctx, f)
}

func (r *recordings) Recording(ctx context.Context, id string) (*protocol.Recording, error) {
	return r.one(ctx, id)
}

// files holds a recording's files by key and suffix.
type files map[string]string

func (f files) open(key, suffix string) (io.ReadSeekCloser, error) {
	content, ok := f[key+suffix]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return struct {
		*strings.Reader
		io.Closer
	}{strings.NewReader(content), io.NopCloser(nil)}, nil
}

func (f files) OpenData(_ context.Context, key string) (io.ReadSeekCloser, error) {
	return f.open(key, ".sigmf-data")
}

func (f files) OpenMeta(_ context.Context, key string) (io.ReadSeekCloser, error) {
	return f.open(key, ".sigmf-meta")
}

func (f files) OpenArchive(_ context.Context, key, _ string) (io.ReadSeekCloser, error) {
	return f.open(key, ".sigmf")
}

// webSDRs are what was said of stations; creations and removals leave them as they are.
type webSDRs struct {
	said    []protocol.WebSDR
	created protocol.WebSDRFields
	station string // that a creation gives
	err     error  // of a change
}

func (f *webSDRs) WebSDRs(context.Context) ([]protocol.WebSDR, error) { return f.said, nil }

func (f *webSDRs) CreateWebSDR(_ context.Context, fields protocol.WebSDRFields, _ time.Time) (string, error) {
	f.created = fields
	return f.station, f.err
}

func (f *webSDRs) UpdateWebSDR(_ context.Context, station string, at time.Time, change func(*protocol.WebSDRFields)) error {
	if f.err != nil {
		return f.err
	}
	f.said = []protocol.WebSDR{{Station: station, Created: at, Updated: at}}
	change(&f.said[0].WebSDRFields)
	return nil
}

func (f *webSDRs) RemoveWebSDR(context.Context, string) error { return f.err }

// brokerAccounts notes what is asked of it, and has one account or an error.
type brokerAccounts struct {
	err  error
	done []string
}

func (f *brokerAccounts) Accounts(context.Context) ([]protocol.Account, error) {
	return []protocol.Account{{Username: "sub-grafana", Kind: protocol.AccountSubscriber, Password: true, Hash: "$7$hash", Created: protocol.FormatTime(noon)}}, f.err
}

func (f *brokerAccounts) AddAccount(_ context.Context, kind protocol.AccountKind, name, actor string) (*protocol.NewAccount, error) {
	f.done = append(f.done, string(kind)+" "+name+" by "+actor)
	return &protocol.NewAccount{Username: "sub-" + name, Secret: "once", URL: "mqtts://mq.lan:8883", Note: "reload"}, f.err
}

func (f *brokerAccounts) RevokeAccount(_ context.Context, username, actor string) (*protocol.RevokedAccount, error) {
	f.done = append(f.done, "revoke "+username+" by "+actor)
	return &protocol.RevokedAccount{Username: username}, f.err
}

func (f *brokerAccounts) DisableStation(_ context.Context, station, actor string) error {
	f.done = append(f.done, "disable "+station+" by "+actor)
	return f.err
}

func (f *brokerAccounts) RemoveStation(_ context.Context, station, actor string) error {
	f.done = append(f.done, "remove "+station+" by "+actor)
	return f.err
}

// tokens are by secret; what is made has the secret of its name.
type tokens struct {
	mu   sync.Mutex // guards held and err
	held map[string]protocol.Token
	err  error // of the database
}

func (f *tokens) TokenOf(_ context.Context, secret string) (*protocol.Token, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	token, ok := f.held[secret]
	if f.err != nil || !ok || token.Revoked != "" {
		return nil, cmp.Or(f.err, fs.ErrNotExist)
	}
	return &token, nil
}

func (f *tokens) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *tokens) Tokens(context.Context) ([]protocol.Token, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.SortedFunc(maps.Values(f.held), func(a, b protocol.Token) int { return strings.Compare(a.Name, b.Name) }), f.err
}

func (f *tokens) AddToken(_ context.Context, t protocol.Token, _ string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t.Created = protocol.FormatTime(noon)
	f.held["hdt_"+t.Name] = t
	return "hdt_" + t.Name, f.err
}

func (f *tokens) RevokeToken(_ context.Context, name, _ string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, ok := f.held["hdt_"+name]
	if !ok {
		return fs.ErrNotExist
	}
	t.Revoked = protocol.FormatTime(noon)
	f.held["hdt_"+name] = t
	return nil
}

// audit keeps what is noted, as "actor action subject".
type audit struct {
	mu      sync.Mutex // guards entries and details
	entries []string
	details []map[string]any
	err     error
}

func (f *audit) Audit(_ context.Context, actor, action, subject string, detail map[string]any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.entries, f.details = append(f.entries, actor+" "+action+" "+subject), append(f.details, detail)
	return f.err
}

func (f *audit) AuditEntries(context.Context, protocol.AuditFilter) ([]protocol.AuditEntry, string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []protocol.AuditEntry
	for _, entry := range f.entries {
		words := strings.SplitN(entry, " ", 3)
		list = append(list, protocol.AuditEntry{Time: protocol.FormatTime(noon), Actor: words[0], Action: words[1], Subject: words[2]})
	}
	return list, "", nil
}

// world is a collector with a little of everything in it.
type world struct {
	reader     *reader
	commander  *commander
	recordings *recordings
	files      files
	webSDRs    *webSDRs
	tokens     *tokens
	accounts   brokerAccounts
	audit      *audit
	desk       desk
	config     api.Config
	asked      protocol.Filter // of the latest list
	kind       protocol.Kind   // likewise
	created    protocol.AcquisitionRequest
	detected   *protocol.Record // of detectionID
}

const (
	acquisitionID = "019b1c7e-5a00-7c3d-9f21-6f0a1b2c3d4e"
	captureID     = "capture-1.b"
	detectionID   = "torino-3872616e646f6d31-7"
	recordingKey  = "recordings/2026-11-24/torino/capture-1.b"
)

// desk gives everybody everything, or one error.
type desk struct {
	err  error
	done []string
}

func (d *desk) note(what, station, actor string) error {
	d.done = append(d.done, what+" "+station+" by "+actor)
	return d.err
}

func (d *desk) Enrol(_ context.Context, r protocol.EnrolmentRequest) (*protocol.Enrolment, error) {
	return &protocol.Enrolment{Station: "torino"}, d.note("enrol", r.Code, "")
}

func (d *desk) Renew(_ context.Context, present *x509.Certificate, _ protocol.RenewalRequest) (*protocol.Enrolment, error) {
	name := ""
	if present != nil {
		name = present.Subject.CommonName
	}
	return &protocol.Enrolment{Station: "torino"}, d.note("renew", name, "")
}

func (d *desk) Mint(_ context.Context, station string, life time.Duration, replace bool, actor string) (*protocol.MintedCode, error) {
	return &protocol.MintedCode{Station: station, Code: "hd1.x.y.z"}, d.note(fmt.Sprintf("mint %v %v", life, replace), station, actor)
}

func (d *desk) Revoke(_ context.Context, station, actor string) error {
	return d.note("revoke", station, actor)
}

func (d *desk) Remove(_ context.Context, station, actor string) error {
	return d.note("remove", station, actor)
}

func newWorld() *world {
	w := &world{
		webSDRs: &webSDRs{station: "torino"}, audit: &audit{},
		tokens: &tokens{held: map[string]protocol.Token{"hdt_club": {Name: "club", Role: protocol.RoleViewer, Created: protocol.FormatTime(noon)}}},
	}
	w.detected = recordOf(protocol.KindDetection)
	w.detected.GetDetection().CenterHz = proto.Float64(145.5e6)
	station := &protocol.Station{ID: "torino", Number: 1, Status: "online", LastSeen: protocol.FormatTime(noon)}
	w.reader = &reader{
		stations: func(context.Context) ([]protocol.Station, error) { return []protocol.Station{*station}, nil },
		station: func(_ context.Context, id string) (*protocol.Station, error) {
			if id != station.ID {
				return nil, fs.ErrNotExist
			}
			return station, nil
		},
		records: func(_ context.Context, kind protocol.Kind, f protocol.Filter) ([]protocol.StoredRecord, string, error) {
			w.kind, w.asked = kind, f
			if f.Cursor == "torn" {
				return nil, "", protocol.FieldErrors{{Field: "cursor", Value: f.Cursor, Message: "is not one of ours"}}
			}
			next := "older"
			if f.Cursor == next { // the last page
				next = ""
			}
			return []protocol.StoredRecord{{Record: recordOf(kind), Received: noon, Late: true}}, next, nil
		},
		detected: func(_ context.Context, id string) (*protocol.StoredRecord, error) {
			if id != detectionID {
				return nil, fs.ErrNotExist
			}
			return &protocol.StoredRecord{Record: w.detected, Received: noon}, nil
		},
	}
	w.reader.arrivals = func(context.Context, protocol.Kind, protocol.Arrival, []string, int) ([]protocol.StoredRecord, error) {
		return nil, nil
	}
	acquisition := &protocol.Acquisition{ID: acquisitionID, State: protocol.AcquisitionQueued, Requested: protocol.FormatTime(noon)}
	w.commander = &commander{
		create: func(_ context.Context, r protocol.AcquisitionRequest) (*protocol.Acquisition, error) {
			w.created = r
			acquisition.Request = r
			return acquisition, nil
		},
		one: func(_ context.Context, id string) (*protocol.Acquisition, error) {
			if id != acquisitionID {
				return nil, fs.ErrNotExist
			}
			return acquisition, nil
		},
		cancel: func(_ context.Context, id string) (*protocol.Acquisition, error) {
			if id != acquisitionID {
				return nil, fs.ErrNotExist
			}
			cancelled := *acquisition
			cancelled.State, cancelled.CancelRequested = protocol.AcquisitionCancelled, protocol.FormatTime(noon)
			return &cancelled, nil
		},
		list: func(_ context.Context, limit int, cursor string) ([]*protocol.Acquisition, string, error) {
			w.asked = protocol.Filter{Limit: limit, Cursor: cursor}
			return []*protocol.Acquisition{acquisition}, "", nil
		},
	}
	recording := &protocol.Recording{
		ID: captureID, Station: "torino", Key: recordingKey, Stored: protocol.FormatTime(noon), SHA512: strings.Repeat("0a", 64),
		Start: protocol.FormatTime(noon), Datatype: "cu8",
	}
	w.recordings = &recordings{
		list: func(_ context.Context, f protocol.Filter) ([]protocol.Recording, string, error) {
			w.asked = f
			return []protocol.Recording{*recording}, "", nil
		},
		one: func(_ context.Context, id string) (*protocol.Recording, error) {
			if id != captureID {
				return nil, nil
			}
			return recording, nil
		},
	}
	w.files = files{recordingKey + ".sigmf-data": "0123456789", recordingKey + ".sigmf-meta": `{"global":{}}`, recordingKey + ".sigmf": "tar"}
	w.config = api.Config{
		Enrolment: &w.desk, Reader: w.reader, Commander: w.commander, Recordings: w.recordings, Files: w.files, WebSDRs: w.webSDRs, Events: api.NewHub(),
		Tokens: w.tokens, Audit: w.audit, Accounts: &w.accounts,
		Version: "1.2.3", Now: func() time.Time { return noon },
	}
	return w
}

func measured(seq uint64) *protocol.Record {
	return &protocol.Record{
		Station: proto.String("torino"), Spool: []byte("8 random"), Seq: &seq, Time: proto.Int64(noon.UnixNano()),
		Body: &protocol.Record_Measurement{Measurement: &protocol.Measurement{SnrDb: proto.Float32(12.5)}},
	}
}

// recordOf is a record of a kind.
func recordOf(kind protocol.Kind) *protocol.Record {
	r := measured(7)
	switch kind {
	case protocol.KindSpectrum:
		r.Body = &protocol.Record_Spectrum{Spectrum: &protocol.Spectrum{StartHz: proto.Float64(1e6)}}
	case protocol.KindDetection:
		r.Body = &protocol.Record_Detection{Detection: &protocol.Detection{Flags: []protocol.Flag{protocol.Flag_FLAG_CLIPPED}}}
	case protocol.KindHealth:
		r.Body = &protocol.Record_Health{Health: &protocol.Health{Now: proto.Int64(noon.UnixNano())}}
	case protocol.KindGap:
		r.Body = &protocol.Record_Gap{Gap: &protocol.Gap{Spool: []byte("8 random"), Reason: protocol.Gap_REASON_POWER.Enum()}}
	case protocol.KindMeasurement, protocol.KindIQ, protocol.KindReply, protocol.KindSite: // it is a measurement already
	}
	return r
}

func (w *world) handler(t testing.TB) http.Handler {
	t.Helper()
	h, err := api.New(w.config)
	if err != nil {
		t.Fatalf("make handler: %v", err)
	}
	return h
}

// get asks a handler, with headers as name, value pairs.
func get(t testing.TB, h http.Handler, method, target string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	return ask(t, h, method, target, "", headers...)
}

func ask(t testing.TB, h http.Handler, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// problem reads an answer as a problem and checks what every problem has.
func problem(t testing.TB, answer *httptest.ResponseRecorder) api.Problem {
	t.Helper()
	var p api.Problem
	d := json.NewDecoder(bytes.NewReader(answer.Body.Bytes()))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		t.Fatalf("status %d: body %q is no problem: %v", answer.Code, answer.Body, err)
	}
	if got := answer.Header().Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("status %d: content type %q", answer.Code, got)
	}
	if p.Status != answer.Code {
		t.Errorf("problem says status %d, answer %d", p.Status, answer.Code)
	}
	if p.Type == "" || p.Title == "" || p.Detail == "" || p.Errors == nil || !strings.HasPrefix(p.Instance, "urn:uuid:") {
		t.Errorf("a member is missing: %s", answer.Body)
	}
	if got := "urn:uuid:" + answer.Header().Get("X-Request-Id"); got != p.Instance {
		t.Errorf("instance %q, header says %q", p.Instance, got)
	}
	return p
}

func serve(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}
