package api_test

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/collector/api"
	"github.com/fulgidus/heimdall/collector/archive"
	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/protocol"
)

// The planted place: its digits stand in no other number.
const (
	exactLatitude, exactLongitude, exactHeight         = 45.07654321, 7.68765432, 612.34567
	publishedLatitude, publishedLongitude      float64 = 45.05, 7.65
)

// exactPlace finds what would give the place away, also cut or rounded; so few digits as the rounded height's not within another number.
var exactPlace = regexp.MustCompile(`45\.076|7\.687|612\.3|\b613\b`)

// planted is a collector that knows where torino truly is: from its site record, and from what a client of the former service wrote
// down before the station had an agent.
func planted(t *testing.T) (api.Config, *store.DB) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	db, err := store.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "heimdall.db"), log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err = db.Migrate(t.Context())
	must(err)
	now := time.Now().UTC()
	_, err = db.CreateWebSDR(t.Context(), protocol.WebSDRFields{
		Name: proto.String("torino"), URL: proto.String("http://websdr.example.com"), LatitudeDeg: proto.Float64(exactLatitude),
		LongitudeDeg: proto.Float64(exactLongitude), AltitudeM: new(613),
	}, now)
	must(err)
	must(db.SaveStatus(t.Context(), "torino", true, now))
	must(db.SaveInfo(t.Context(), "torino", &protocol.Info{
		Station: "torino", Name: "Torino", Capabilities: []string{"capture"},
		Position: &protocol.Position{LatitudeDeg: publishedLatitude, LongitudeDeg: publishedLongitude, Precision: "10km"},
	}, now))
	record := func(seq uint64, change func(*protocol.Record)) *protocol.Record {
		r := measured(seq)
		change(r)
		return r
	}
	records := []*protocol.Record{
		record(1, func(r *protocol.Record) {
			r.Body = &protocol.Record_Site{Site: &protocol.Site{
				LatitudeDeg: proto.Float64(exactLatitude), LongitudeDeg: proto.Float64(exactLongitude), HeightM: proto.Float64(exactHeight), UncertaintyM: proto.Float64(3),
			}}
		}),
		record(2, func(r *protocol.Record) { r.Body = recordOf(protocol.KindSpectrum).Body }),
		record(3, func(*protocol.Record) {}),
		record(7, func(r *protocol.Record) {
			r.Body = recordOf(protocol.KindDetection).Body
			r.GetDetection().CenterHz, r.GetDetection().DetectionId = proto.Float64(145.5e6), proto.String(detectionID)
		}),
	}
	records = append(records, captureRecords(10, slices.Repeat([]byte{1, 2, 3, 4}, 1000))...)
	_, _, err = db.Commit(t.Context(), now, records, nil)
	must(err)
	files, err := archive.Open(t.Context(), archive.Config{Location: "file:" + t.TempDir(), Source: captures{db}, Log: log})
	must(err)
	must(files.Assemble(t.Context()))
	must(db.CreateAcquisitions(t.Context(), []*protocol.Acquisition{{
		ID: acquisitionID, State: protocol.AcquisitionDone, Requested: protocol.FormatTime(now), StartTime: protocol.FormatTime(now),
		Stations: []protocol.AcquisitionStation{{Station: "torino", State: protocol.StationDone, Recording: captureID}},
	}}))
	return api.Config{
		Reader: db, Recordings: db, Files: files, WebSDRs: db, Commander: storing(db), Events: api.NewHub(), Tokens: db, Audit: db, Accounts: &brokerAccounts{}, Log: log, AskTokens: true,
	}, db
}

// TestPosition_NoViewerSeesTheExactOne asks as a viewer for every route that a viewer may ask for, in every form that it has.
func TestPosition_NoViewerSeesTheExactOne(t *testing.T) {
	config, db := planted(t)
	plain := config
	plain.AskTokens = false
	open, err := api.New(plain)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := db.AddToken(t.Context(), protocol.Token{Name: "viewer", Role: protocol.RoleViewer}, "test")
	if err != nil {
		t.Fatal(err)
	}
	doc := document(t, open)
	published := 0
	for _, rule := range api.Rules() {
		if !protocol.RoleViewer.May(protocol.Role(rule.Role)) && rule.Role != api.RoleOpen {
			continue
		}
		h, err := api.New(config) // one for each, as a viewer may ask only so often
		if err != nil {
			t.Fatal(err)
		}
		op := doc.Paths[rule.Path][strings.ToLower(rule.Method)]
		for _, form := range slices.Sorted(maps.Keys(op.Responses["200"].Content)) {
			body, status := readAs(t, h, strings.Replace(rule.Path, "{id}", exampleID(rule.Path), 1), secret, form)
			if status >= 300 && rule.Role != api.RoleOpen {
				t.Errorf("%s as %s: status %d: %.200s", rule.Path, form, status, body)
			}
			if digits := exactPlace.FindString(body); digits != "" {
				t.Errorf("%s as %s has %s of the exact place: %s", rule.Path, form, digits, body)
			}
			if strings.Contains(body, "45.05") {
				published++
			}
		}
	}
	if published < 8 { // stations in four forms, websdrs, SigMF alone and in its archive, the stream
		t.Errorf("the published place is in %d answers; is it the station of the test that they tell of?", published)
	}
	// It is there, and an operator may know what was written down.
	answer := get(t, open, "GET", "/api/v1/acquisition/websdrs/torino")
	if !strings.Contains(answer.Body.String(), "45.07654321") {
		t.Errorf("without limits: %s", answer.Body)
	}
}

// readAs reads an answer; of a stream, what it says before it waits for more.
func readAs(t *testing.T, h http.Handler, path, secret, form string) (body string, status int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if form == "text/event-stream" {
		path += "?last_event_id=" + protocol.FormatTime(time.Now().Add(-time.Hour))
	}
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, path, http.NoBody)
	r.Header.Set("Authorization", "Bearer "+secret)
	r.Header.Set("Accept", form)
	w := &untilPresent{ResponseRecorder: httptest.NewRecorder(), reached: cancel}
	h.ServeHTTP(w, r)
	return w.Body.String(), w.Code
}

// untilPresent ends a stream once it has told all that was before.
type untilPresent struct {
	*httptest.ResponseRecorder
	reached func()
}

func (w *untilPresent) Write(p []byte) (int, error) {
	n, err := w.ResponseRecorder.Write(p)
	if strings.Contains(string(p), "event: acquisition") {
		w.reached()
	}
	return n, err
}
