package store_test

import (
	"errors"
	"io/fs"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/protocol"
)

// chunk makes chunk index of a capture.
func chunk(station string, seq uint64, id string, index uint32) *protocol.Record {
	rec := measurement(station, 1, seq)
	rec.Body = &protocol.Record_Iq{Iq: &protocol.IqChunk{
		CaptureId: new(id), Index: new(index), FirstSample: new(uint64(index) * 2), Samples: new(uint32(2)), Data: []byte{byte(index), 0, 255, 39, 1, 2, 3, 4},
	}}
	return rec
}

// done makes the last reply of a capture of n chunks.
func done(station string, seq uint64, id string, n uint32) *protocol.Record {
	rec := measurement(station, 1, seq)
	rec.Body = &protocol.Record_Reply{Reply: &protocol.Reply{
		Acquisition: new("acq"), State: protocol.Reply_STATE_DONE.Enum(), Capture: manifest(id, n),
	}}
	return rec
}

func testCaptures(t *testing.T, s *server) {
	db := s.open(t)
	acquisition := &protocol.Acquisition{
		ID: "acq", State: protocol.AcquisitionRunning, Requested: "2026-11-24T02:00:00Z",
		Stations: []protocol.AcquisitionStation{{Station: "torino"}, {Station: "genova"}},
	}
	position := &protocol.Position{LatitudeDeg: 45, LongitudeDeg: 7.5, Precision: "10km"}
	err := errors.Join(db.CreateAcquisitions(t.Context(), []*protocol.Acquisition{acquisition}), db.SaveInfo(t.Context(), "torino", &protocol.Info{Position: position}, t0))
	if err != nil {
		t.Fatal(err)
	}
	detection := func(seq uint64, start time.Duration, length float64, id string) *protocol.Record {
		rec := measurement("torino", 1, seq)
		rec.Time = new(t0.Add(start).UnixNano())
		rec.Body = &protocol.Record_Detection{Detection: &protocol.Detection{DurationS: new(length), DetectionId: new(id)}}
		return rec
	}
	commit(t, db, detection(50, -time.Minute, 10, "over"), detection(51, -time.Minute, 65, "lasting"), detection(52, -time.Minute, 70, "lasting"),
		detection(53, time.Second, 1, "inside"), detection(54, time.Minute, 1, "after"))

	ids := func() []string {
		t.Helper()
		list, err := db.CompleteCaptures(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		out := []string{}
		for _, c := range list {
			out = append(out, c.Reply.GetCapture().GetId())
		}
		return out
	}
	expect := func(when string, want ...string) {
		t.Helper()
		if got := ids(); !slices.Equal(got, want) {
			t.Errorf("%s: complete are %v, want %v", when, got, want)
		}
	}
	commit(t, db, chunk("torino", 1, "cap", 2), chunk("torino", 2, "cap", 0), chunk("genova", 1, "cap", 1))
	expect("without a reply")
	commit(t, db, done("torino", 3, "cap", 3), done("torino", 4, "none", 0))
	expect("with a chunk of another station's")
	commit(t, db, chunk("torino", 5, "cap", 1), chunk("torino", 6, "cap", 0), chunk("torino", 7, "cap", 9))
	expect("all chunks in", "cap")
	commit(t, db, done("torino", 8, "cap", 3), done("genova", 9, "other", 1), chunk("genova", 10, "other", 0))
	expect("the reply twice", "cap", "other")

	list, err := db.CompleteCaptures(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := list[0]
	if diff := cmp.Diff(manifest("cap", 3), c.Reply.GetCapture(), protocmp.Transform()); diff != "" || c.Station != "torino" {
		t.Error(c.Station, diff)
	}
	if diff := cmp.Diff(position, c.Position); diff != "" {
		t.Error(diff)
	}
	if len(c.Detections) != 2 || c.Detections[0].GetDetection().GetDurationS() != 70 || c.Detections[1].GetDetection().GetDetectionId() != "inside" {
		t.Errorf("detections %v", c.Detections)
	}
	data, err := db.Chunk(t.Context(), "torino", "cap", 2)
	if err != nil || string(data) != string([]byte{2, 0, 255, 39, 1, 2, 3, 4}) {
		t.Error(data, err)
	}
	for _, index := range []uint32{3, math.MaxUint32} {
		if _, err := db.Chunk(t.Context(), "torino", "cap", index); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("chunk %d: %v", index, err)
		}
	}
	testFinish(t, s, db, ids)
}

// testFinish makes recordings of the captures "cap" of torino and "other" of genova.
func testFinish(t *testing.T, s *server, db *store.DB, complete func() []string) {
	r := protocol.Recording{
		ID: "cap", Acquisition: "acq", Station: "torino", Receiver: "rx0", Start: "2026-11-24T02:00:00.123456789Z",
		AskedStart: "2026-11-24T02:00:00.000000001Z", DurationS: 5, CenterHz: 145.5e6, SampleRateHz: 15625, Datatype: "ci16_le", Samples: 6, LostSamples: 4,
		Bytes: 24, SHA512: "ab", TimeQuality: "ntp", TimeUncertaintyS: 0.001, Key: "recordings/acq/torino/cap", Stored: "2026-11-24T02:00:09.000000000Z",
	}
	for range 2 { // it may be repeated
		if err := db.FinishRecording(t.Context(), &r); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.number(t, "SELECT count(*) FROM iq_chunk WHERE station = 'torino' AND data IS NOT NULL AND capture_id = 'cap'"); n != 0 {
		t.Errorf("%d chunks still have data", n)
	}
	if _, err := db.Chunk(t.Context(), "torino", "cap", 0); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
	got, err := db.Recording(t.Context(), "cap")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&r, got); diff != "" {
		t.Error(diff)
	}
	a, err := db.Acquisition(t.Context(), "acq")
	if err != nil || a.Stations[0].Recording != "cap" || a.Stations[1].Recording != "" {
		t.Errorf("%+v, %v", a, err)
	}
	if err := db.FailRecording(t.Context(), "genova", "other", "sha512 differs"); err != nil {
		t.Fatal(err)
	}
	if left := complete(); len(left) != 0 {
		t.Errorf("still complete: %v", left)
	}
	// The chunks' numbers stay accounted for.
	if v := verdict(t, db, streamOf("torino", 1), false); v.Duplicate != 0 || v.Stored != 13 {
		t.Errorf("verdict %+v", v)
	}
	late := r
	late.ID, late.Acquisition, late.Station, late.Start, late.AskedStart = "cap-2", "", "genova", "2026-11-24T03:00:00.000000000Z", ""
	if err := db.FinishRecording(t.Context(), &late); err != nil {
		t.Fatal(err)
	}
	page, next, err := db.Recordings(t.Context(), protocol.Filter{Limit: 1, MinHz: 145.5e6})
	if diff := cmp.Diff([]protocol.Recording{late}, page); err != nil || diff != "" || next == "" {
		t.Error(err, diff, next)
	}
	page, next, err = db.Recordings(t.Context(), protocol.Filter{Limit: 1, Cursor: next})
	if diff := cmp.Diff([]protocol.Recording{r}, page); err != nil || diff != "" || next != "" {
		t.Error(err, diff, next)
	}
	if page, _, err = db.Recordings(t.Context(), protocol.Filter{MinHz: 146e6}); err != nil || len(page) != 0 {
		t.Error(page, err)
	}
	testBadRecordings(t, db, r)
	testSharedCaptureID(t, s, db, r, complete)
}

// testSharedCaptureID has genova use the capture id that torino's recording already has: a station may not keep another
// one's IQ from being recorded.
func testSharedCaptureID(t *testing.T, s *server, db *store.DB, first protocol.Recording, complete func() []string) {
	commit(t, db, done("genova", 20, "cap", 2), chunk("genova", 21, "cap", 0)) // chunk 1 came above
	if got := complete(); !slices.Equal(got, []string{"cap"}) {
		t.Fatalf("complete are %v, want genova's cap", got)
	}
	for range 2 { // it may be repeated
		second := first
		second.Station, second.Key = "genova", "recordings/acq/genova/cap"
		if err := db.FinishRecording(t.Context(), &second); err != nil || second.ID != "cap@genova" {
			t.Fatalf("stored as %q, %v, want cap@genova", second.ID, err)
		}
		got, err := db.Recording(t.Context(), second.ID)
		if diff := cmp.Diff(&second, got); err != nil || diff != "" {
			t.Error(err, diff)
		}
	}
	if got, err := db.Recording(t.Context(), "cap"); err != nil || got.Station != "torino" {
		t.Errorf("torino's recording is %+v, %v", got, err)
	}
	if n := s.number(t, "SELECT count(*) FROM iq_chunk WHERE station = 'genova' AND data IS NOT NULL AND capture_id = 'cap'"); n != 0 {
		t.Errorf("%d chunks still have data", n)
	}
	if a, err := db.Acquisition(t.Context(), "acq"); err != nil || a.Stations[0].Recording != "cap" || a.Stations[1].Recording != "cap@genova" {
		t.Errorf("%+v, %v", a, err)
	}
	if left := complete(); len(left) != 0 {
		t.Errorf("still complete: %v", left)
	}
}

func testBadRecordings(t *testing.T, db *store.DB, good protocol.Recording) {
	for _, id := range []string{"none", "\x00"} {
		if _, err := db.Recording(t.Context(), id); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("recording %q: %v", id, err)
		}
	}
	for name, spoil := range map[string]func(*protocol.Recording){
		"start":  func(r *protocol.Recording) { r.Start = "" },
		"asked":  func(r *protocol.Recording) { r.AskedStart = "x" },
		"stored": func(r *protocol.Recording) { r.Stored = "x" },
		"bytes":  func(r *protocol.Recording) { r.Bytes = 1 << 63 },
	} {
		r := good
		spoil(&r)
		var own *store.Error
		if err := db.FinishRecording(t.Context(), &r); !errors.As(err, &own) || !own.OneRecord() {
			t.Errorf("%s: %v", name, err)
		}
	}
}
