package store_test

import (
	"errors"
	"testing"

	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/protocol"
)

func testRetireSpool(t *testing.T, s *server) {
	db := s.open(t)
	stream := streamOf("torino", 1)
	// 3 and 4 are missing, 8 and 9 pending, and 12 was given after the last health record.
	commit(t, db, measurement("torino", 1, 1), measurement("torino", 1, 2), measurement("torino", 1, 5),
		gap("torino", 1, 6, 0), health("torino", 1, 10, 10, protocol.Range{From: 8, To: 9}), measurement("torino", 1, 13))
	if v := verdict(t, db, stream, false); v.MissingRanges.String() != "{[3,5),[7,8)}" || v.Pending != 4 {
		t.Fatalf("verdict %+v", v)
	}
	if _, err := db.RetireSpool(t.Context(), streamOf("torino", 9), "somebody"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an unknown spool: %v", err)
	}
	for _, want := range []string{"{[3,5),[7,10),[11,13)}", "{}"} {
		if owed, err := db.RetireSpool(t.Context(), stream, "some\x00body"); err != nil || owed.String() != want {
			t.Errorf("retired %v, %v; want %s", owed, err, want)
		}
	}
	all, err := db.Verify(t.Context(), "", true)
	if err != nil || len(all) != 2 || !all[0].OK() || !all[1].OK() || all[1].Gaps != 7 {
		t.Errorf("verdicts %+v, %v", all, err)
	}
	list, _, err := db.Records(t.Context(), protocol.KindGap, protocol.Filter{})
	if err != nil || len(list) != 2 || list[0].Record.GetGap().GetReason() != protocol.Gap_REASON_ABANDONED || list[0].Record.GetGap().GetRecords() != 7 {
		t.Errorf("gaps %v, %v", list, err)
	}
	if n := s.number(t, "SELECT count(*) FROM audit WHERE action = 'retire-spool' AND subject = 'torino 01ff002704050601' AND actor LIKE 'some%body'"); n != 1 {
		t.Errorf("%d entries in the audit", n)
	}
	// The card comes back after all: what is stored wins.
	if fresh, _ := commit(t, db, measurement("torino", 1, 8)); !fresh[0] {
		t.Error("a record that was given up is not taken")
	}
	if v := verdict(t, db, stream, true); !v.OK() || v.Gaps != 6 || v.Stored != 7 {
		t.Errorf("verdict %+v", v)
	}
	acks, err := db.Acks(t.Context())
	if len(acks) > 1 || err != nil {
		t.Errorf("acks %v, %v; want none for what collectors say themselves", acks, err)
	}
	// More than once, with numbers of its own.
	commit(t, db, measurement("torino", 2, 5))
	if owed, err := db.RetireSpool(t.Context(), streamOf("torino", 2), "somebody"); err != nil || owed.Count() != 4 {
		t.Errorf("another spool: %v, %v", owed, err)
	}
}

// testHoles undoes what was acknowledged, as a restored backup does.
func testHoles(t *testing.T, s *server) {
	db := s.open(t)
	holes := func() string {
		t.Helper()
		found, err := db.Holes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(found) > 1 {
			t.Errorf("holes in %v", found)
		}
		return found[streamOf("torino", 1)].String()
	}
	commit(t, db, measurement("torino", 1, 1), measurement("torino", 1, 40), measurement("genova", 2, 7))
	if got := holes(); got != "{}" {
		t.Errorf("holes %s where no agent has said what it holds", got)
	}
	commit(t, db, health("torino", 1, 2, 30, protocol.Range{From: 20, To: 25}), gap("torino", 1, 3, 0, protocol.Range{From: 10, To: 10}))
	_, _, err := db.Commit(t.Context(), received, nil, []protocol.Rejection{{Station: "torino", Spool: spoolOf(1), Seq: 12, Reason: "malformed"}})
	if err != nil {
		t.Fatal(err)
	}
	// Beyond 30 the agent has said nothing.
	if got := holes(); got != "{[4,10),[11,12),[13,20),[26,31)}" {
		t.Errorf("holes %s", got)
	}
	commit(t, db, measurements("torino", 1, 4, 30)...)
	if got := holes(); got != "{}" {
		t.Errorf("holes %s when all is there", got)
	}
}
