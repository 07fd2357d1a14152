package store_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/fulgidus/heimdall/protocol"
)

// testManyRoundTrip is testRoundTrip with as many records of a kind as take another way into the database.
func testManyRoundTrip(t *testing.T, s *server) {
	const many = 50
	db := s.open(t)
	var batch []*protocol.Record
	want := make(map[protocol.Kind][]*protocol.Record)
	for i, original := range records() {
		bare := measurement("torino", 1, 1)
		bare.Body = proto.Clone(original).(*protocol.Record).Body
		bare.Receiver, bare.Step, bare.TimeQuality, bare.TimeUncertaintyS = nil, nil, nil, nil // NULL, too
		for n := range many {
			rec := proto.Clone(original).(*protocol.Record)
			if n%2 == 1 {
				rec = proto.Clone(bare).(*protocol.Record)
			}
			rec.Seq = new(uint64(100 + i*many + n))
			rec.Time = measurement("torino", 1, rec.GetSeq()).Time
			batch = append(batch, rec)
			want[rec.Kind()] = append(want[rec.Kind()], proto.Clone(rec).(*protocol.Record))
		}
	}
	commit(t, db, batch...)
	for kind, records := range want {
		list, _, err := db.Records(t.Context(), kind, protocol.Filter{})
		if err != nil || len(list) != many {
			t.Fatalf("%s: %d records, %v; want %d", kind, len(list), err, many)
		}
		for i, rec := range records {
			if diff := cmp.Diff(rec, list[many-1-i].Record, protocmp.Transform()); diff != "" { // newest first
				t.Fatalf("%s: %s", kind, diff)
			}
		}
	}
	if v := verdict(t, db, streamOf("torino", 1), true); v.Stored != uint64(len(batch)) {
		t.Errorf("verdict %+v, want %d stored", v, len(batch))
	}
}

// testUnknownRows stores many records of which some are there already although their ledger says that they are not.
func testUnknownRows(t *testing.T, s *server) {
	db := s.open(t)
	commit(t, db, measurements("torino", 1, 1, 60)...)
	s.exec(t, "UPDATE spool SET received = '{[1,11)}'")
	if fresh, acks := commit(t, db, measurements("torino", 1, 1, 100)...); fresh[0] || !fresh[99] || settled(acks[streamOf("torino", 1)]) != "{[1,101)}" {
		t.Errorf("fresh %v, settled %s; want 11 to 100 and {[1,101)}", fresh, settled(acks[streamOf("torino", 1)]))
	}
	if n := s.number(t, "SELECT count(*) FROM measurement"); n != 100 {
		t.Errorf("%d rows, want 100", n)
	}
	if v := verdict(t, db, streamOf("torino", 1), true); !v.OK() {
		t.Errorf("verdict %+v", v)
	}
}
