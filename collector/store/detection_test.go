package store_test

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/fulgidus/heimdall/protocol"
)

// detection is a record of an emission that began with record seq; id is empty in the first.
func detection(seq uint64, id string, seconds *float64, open bool) *protocol.Record {
	rec := measurement("torino", 1, seq)
	rec.Time = new(t0.UnixNano()) // of the emission's start
	d := &protocol.Detection{DurationS: seconds, CenterHz: new(145.5e6), Open: &open}
	if id != "" {
		d.DetectionId = &id
	}
	rec.Body = &protocol.Record_Detection{Detection: d}
	return rec
}

func testDetection(t *testing.T, s *server) {
	db := s.open(t)
	id := protocol.DetectionID(streamOf("torino", 1), 3)
	last := detection(9, id, new(20.5), false)
	// They come in any order, one of them does not say how long it lasted.
	commit(t, db, detection(5, id, new(10.0), true), last, detection(3, "", nil, true), detection(4, "", new(99.0), false))
	got, err := db.Detection(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(last, got.Record, protocmp.Transform()); diff != "" {
		t.Errorf("detection (-want +got):\n%s", diff)
	}
	for _, unknown := range []string{
		protocol.DetectionID(streamOf("torino", 1), 5), protocol.DetectionID(streamOf("genova", 1), 3), "", "torino", id + "\x00", "' OR 1=1 --",
	} {
		if _, err := db.Detection(t.Context(), unknown); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v, want none", unknown, err)
		}
	}
}
