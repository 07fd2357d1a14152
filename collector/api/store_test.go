package api_test

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/collector/api"
	"github.com/fulgidus/heimdall/collector/archive"
	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/protocol"
)

// captures lets the archive read the store, as the collector's wiring does.
type captures struct{ *store.DB }

func (c captures) CompleteCaptures(ctx context.Context) ([]archive.Capture, error) {
	complete, err := c.DB.CompleteCaptures(ctx)
	all := make([]archive.Capture, len(complete))
	for i := range complete {
		all[i] = archive.Capture(complete[i])
	}
	return all, err
}

func (c captures) FailRecording(ctx context.Context, capture archive.Capture, reason string) error {
	return c.DB.FailRecording(ctx, capture.Station, capture.Reply.GetCapture().GetId(), reason)
}

// stocked is the interface on a real store and a real archive with 250 measurements and one capture of two chunks.
func stocked(t *testing.T) (h http.Handler, samples []byte) {
	t.Helper()
	return stockedIn(t, "sqlite:"+filepath.Join(t.TempDir(), "heimdall.db"))
}

func stockedIn(t *testing.T, database string) (h http.Handler, samples []byte) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	db, err := store.Open(t.Context(), database, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close store: %v", err)
		}
	})
	if _, err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	var records []*protocol.Record
	for seq := range uint64(250) {
		r := measured(seq + 1)
		r.Time = proto.Int64(noon.Add(-time.Duration(seq) * time.Second).UnixNano())
		r.GetMeasurement().CenterHz, r.GetMeasurement().SampleRateHz = proto.Float64(145.5e6), proto.Float64(1e6)
		records = append(records, r)
	}
	samples = bytes.Repeat([]byte{1, 2, 3, 4, 5, 6, 7, 8}, 5000)
	records = append(records, captureRecords(uint64(len(records))+1, samples)...)
	if _, _, err := db.Commit(t.Context(), noon, records, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := db.AddToken(t.Context(), protocol.Token{Name: "club", Role: protocol.RoleViewer}, "test"); err != nil {
		t.Fatal(err)
	}
	files, err := archive.Open(t.Context(), archive.Config{Location: "file:" + t.TempDir(), Source: captures{db}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	if err := files.Assemble(t.Context()); err != nil {
		t.Fatal(err)
	}
	h, err = api.New(api.Config{
		Reader: db, Recordings: db, Files: files, WebSDRs: db, Commander: storing(db), Events: api.NewHub(), Tokens: db, Audit: db, Accounts: &brokerAccounts{}, Enrolment: &desk{}, Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	return h, samples
}

// storing is a commander that puts acquisitions into a store, and does nothing about them.
func storing(db *store.DB) *commander {
	create := func(ctx context.Context, r protocol.AcquisitionRequest) (*protocol.Acquisition, error) {
		a := &protocol.Acquisition{ID: uuid.Must(uuid.NewV7()).String(), State: protocol.AcquisitionQueued, Requested: protocol.FormatTime(noon), Request: r, StartTime: r.StartTime}
		return a, db.CreateAcquisitions(ctx, []*protocol.Acquisition{a})
	}
	return &commander{create: create, cancel: db.Acquisition, one: db.Acquisition, list: db.Acquisitions}
}

func captureRecords(seq uint64, samples []byte) []*protocol.Record {
	sum := sha512.Sum512(samples)
	record := func(n uint64) *protocol.Record {
		r := measured(seq + n)
		r.Body = nil
		return r
	}
	var records []*protocol.Record
	for chunk := range slices.Chunk(samples, protocol.MaxChunkBytes) {
		r := record(uint64(len(records)))
		r.Body = &protocol.Record_Iq{Iq: &protocol.IqChunk{
			CaptureId: proto.String(captureID), Index: proto.Uint32(uint32(len(records))), Data: chunk,
			FirstSample: proto.Uint64(uint64(len(records)) * protocol.MaxChunkBytes / 2), Samples: proto.Uint32(uint32(len(chunk) / 2)),
		}}
		records = append(records, r)
	}
	last := record(uint64(len(records)))
	last.Body = &protocol.Record_Reply{Reply: &protocol.Reply{
		CommandId: proto.String("command-1"), State: protocol.Reply_STATE_DONE.Enum(),
		Capture: &protocol.CaptureManifest{
			Id: proto.String(captureID), Start: proto.Int64(noon.UnixNano() + 7), DurationS: proto.Float64(2), CenterHz: proto.Float64(145.5e6),
			SampleRateHz: proto.Float64(10_000), Format: proto.String("cu8"), Chunks: proto.Uint32(uint32(len(records))),
			Bytes: proto.Uint64(uint64(len(samples))), Samples: proto.Uint64(uint64(len(samples) / 2)), Sha512: sum[:],
		},
	}}
	return append(records, last)
}

func TestStore_PagesHoldEveryRecordOnce(t *testing.T) {
	h, _ := stocked(t)
	seen := map[uint64]bool{}
	next := ""
	for pages := 1; ; pages++ {
		answer := get(t, h, "GET", "/api/v1/measurements?station=torino&min_hz=145M&max_hz=146M&from=2026-11-24T11:55:00Z&limit=70"+next)
		var page struct {
			Items []struct {
				Seq      uint64
				Received time.Time
			}
			NextCursor string `json:"next_cursor"`
		}
		if err := json.Unmarshal(answer.Body.Bytes(), &page); err != nil || answer.Code != http.StatusOK {
			t.Fatalf("status %d, %v: %s", answer.Code, err, answer.Body)
		}
		for _, item := range page.Items {
			if seen[item.Seq] || !item.Received.Equal(noon) {
				t.Errorf("record %d: twice, or received %v", item.Seq, item.Received)
			}
			seen[item.Seq] = true
		}
		if page.NextCursor == "" {
			if pages != 4 {
				t.Errorf("%d pages, want 4", pages)
			}
			break
		}
		next = "&cursor=" + page.NextCursor
	}
	if len(seen) != 250 {
		t.Errorf("%d records, want 250", len(seen))
	}
}

func TestStore_RecordingsAreServed(t *testing.T) {
	h, samples := stocked(t)
	path := "/api/v1/recordings/" + captureID
	if got := get(t, h, "GET", path+".sigmf-data").Body.Bytes(); !bytes.Equal(got, samples) {
		t.Errorf("%d bytes, want %d", len(got), len(samples))
	}
	if got := get(t, h, "GET", path+".sigmf-data", "Range", "bytes=40-47").Body.String(); got != "\x01\x02\x03\x04\x05\x06\x07\x08" {
		t.Errorf("range: %q", got)
	}
	packed := get(t, h, "GET", path+".sigmf").Body.Bytes()
	inside, err := protocol.ReadSigMFArchive(bytes.NewReader(packed), int64(len(packed)))
	if err != nil || len(inside) != 1 {
		t.Fatalf("archive: %d recordings, %v", len(inside), err)
	}
	if want := "torino_" + captureID; inside[0].Name != want+"/"+want {
		t.Errorf("the archive holds %s, want it to be named as the file is, %s", inside[0].Name, want)
	}
	if got, err := io.ReadAll(inside[0].Data); err != nil || !bytes.Equal(got, samples) {
		t.Errorf("archive: %d bytes, %v", len(got), err)
	}
	if got := protocol.FormatTime(inside[0].Meta.Captures[0].Datetime.Time); got != "2026-11-24T12:00:00.000000007Z" {
		t.Errorf("first sample at %s", got)
	}
	var recording protocol.Recording
	if err := json.Unmarshal(get(t, h, "GET", path).Body.Bytes(), &recording); err != nil || recording.Start != "2026-11-24T12:00:00.000000007Z" {
		t.Errorf("recording %+v, %v", recording, err)
	}
}

func TestStore_BadQueriesAreProblems(t *testing.T) {
	h, _ := stocked(t)
	for _, c := range badQueries() {
		if strings.Contains(c[0], "cursor=torn") {
			c[0] = strings.Replace(c[0], "torn", "bm90IG91cnM", 1)
		}
		answer := get(t, h, "GET", c[0])
		if answer.Code < 400 || answer.Code > 499 {
			t.Errorf("%s: status %d, want 4xx: %s", c[0], answer.Code, answer.Body)
			continue
		}
		if p := problem(t, answer); len(p.Errors) == 0 {
			t.Errorf("%s: names no field", c[0])
		}
	}
	for _, path := range []string{"stations", "stations/torino", "spectra", "detections", "health", "gaps", "acquisitions", "recordings?from=2026-11-24T11:00:00Z&max_hz=1G"} {
		if answer := get(t, h, "GET", "/api/v1/"+path); answer.Code != http.StatusOK {
			t.Errorf("%s: status %d: %s", path, answer.Code, answer.Body)
		}
	}
}
