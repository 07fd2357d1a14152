package spool_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fulgidus/heimdall/agent/spool"
	"github.com/fulgidus/heimdall/protocol"
)

func TestConflict_MovesWhatIsUnacknowledged(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, spool.Options{})
	first := s.Identity()
	var before [][]byte
	for i := range 30 {
		lane := []spool.Lane{spool.LaneMeasurement, spool.LaneIQ, spool.LaneDetection}[i%3]
		before = append(before, payload(t, i, 100))
		queue(t, s, lane, before[i])
	}
	commit(t, s)
	drain(t, s)
	s.Ack(first, protocol.Ranges{{From: 1, To: 3}, {From: 20, To: 22}})
	s.Conflict(first, 11)
	s.Conflict(first, 12)
	s.Conflict([8]byte{9}, 1)
	s.Conflict(first, 0)
	eventually(t, "another identity", func() bool { return s.Identity() != first })
	second := s.Identity()
	// 4 to 10 stay, 11 to 19 and 23 to 30 move: 17 records and a Gap for each of the three lanes.
	eventually(t, "all moved", func() bool { return s.Stats().LastSeq == 20 })
	s.Conflict(first, 11) // said again, by the retained acknowledgement: nothing more happens
	commit(t, s)
	for range 2 {
		if s.Identity() != second {
			t.Fatal("a third identity")
		}
		old, moved := map[uint64]bool{}, 0
		var declared protocol.Ranges
		s.Rewind()
		items := drain(t, s)
		for _, item := range items {
			switch {
			case item.Spool == first:
				old[item.Seq] = true
				if !cmp.Equal(before[item.Seq-1], item.Payload) {
					t.Errorf("record %d differs", item.Seq)
				}
			case item.Kind != protocol.KindGap:
				moved++
			}
		}
		for _, g := range gaps(t, items) {
			if g.GetReason() != protocol.Gap_REASON_CONFLICT || [8]byte(g.GetSpool()) != first {
				t.Errorf("gap %v", g)
			}
			declared = declared.Union(protocol.RangesOf(g.GetRanges()))
		}
		if len(old) != 7 || moved != 17 || declared.String() != "{[11,20),[23,31)}" {
			t.Errorf("%d stayed, %d moved, declared %v", len(old), moved, declared)
		}
		s.stop()
		s = start(t, dir, spool.Options{})
	}
	drain(t, s)
	s.Ack(first, protocol.Ranges{{From: 1, To: 10}}) // the old identity is still served
	s.Ack(second, protocol.Ranges{{From: 1, To: 20}})
	commit(t, s)
	if got := s.Stats().Records; got != 0 {
		t.Errorf("%d records held, want none", got)
	}
	if seq := put(t, s, spool.LaneReply, payload(t, 1, 1)); seq != 21 {
		t.Errorf("next number %d, want 21", seq)
	}
}

// A card is imaged, goes on, and is then written back from the image: the collector knows numbers that this copy of the
// spool never made.
func TestAck_OfNumbersNeverMadeBeginsANewIdentity(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, spool.Options{})
	first := s.Identity()
	for i := range 5 {
		put(t, s, spool.LaneReply, payload(t, i, 10))
	}
	s.Ack(first, protocol.Ranges{{From: 1, To: 9}})
	eventually(t, "another identity", func() bool { return s.Identity() != first })
	eventually(t, "all moved", func() bool { return s.Stats().LastSeq == 6 })
	if got := len(drain(t, s)); got != 6 {
		t.Errorf("%d handed out, want five records and a gap", got)
	}
	s.Ack(first, protocol.Ranges{{From: 1, To: 9}})
	commit(t, s)
	if got := s.Unacked().Count(); got != 6 {
		t.Errorf("%d held, want 6", got)
	}
}

// An acknowledgement is believed only for what was sent from here: the numbers may be those of a clone.
func TestAck_OfWhatWasNeverHandedOutIsNotBelieved(t *testing.T) {
	s := start(t, t.TempDir(), spool.Options{})
	for i := range 5 {
		put(t, s, spool.LaneReply, payload(t, i, 10))
	}
	s.Ack(s.Identity(), protocol.Ranges{{From: 1, To: 5}})
	if got := s.Unacked().Count(); got != 5 {
		t.Errorf("%d held, want 5", got)
	}
}

func TestGiveUp_DeclaresByLane(t *testing.T) {
	s := start(t, t.TempDir(), spool.Options{})
	for i := range 6 {
		queue(t, s, []spool.Lane{spool.LaneMeasurement, spool.LaneReply}[i%2], payload(t, i, 10))
	}
	commit(t, s)
	drain(t, s)
	s.GiveUp([8]byte{}, ranges(1), protocol.Gap_REASON_REFUSED)
	s.GiveUp(s.Identity(), ranges(1, 2, 3, 99), protocol.Gap_REASON_REFUSED)
	var found []*protocol.Gap
	eventually(t, "declared", func() bool {
		found = append(found, gaps(t, drain(t, s))...)
		return len(found) == 2
	})
	got := map[string]string{}
	for _, g := range found {
		got[g.GetLane()] = fmt.Sprintf("%v %d %s %d %d", protocol.RangesOf(g.GetRanges()), g.GetRecords(), g.GetReason().Short(), stampOf(g.GetFrom()), stampOf(g.GetTo()))
	}
	want := map[string]string{"measurement": "{[1,2),[3,4)} 2 refused 0 2", "reply": "{[2,3)} 1 refused 1 1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := s.Unacked().String(); got != "{[4,9)}" {
		t.Errorf("unacknowledged %s", got)
	}
}

// stampOf is n of stamp(n).
func stampOf(ns int64) int64 { return (ns - stamp(0).UnixNano()) / 1e9 }

// While nobody has seen a Gap record, further losses of its kind join it.
func TestGap_NeighboursShareARecordUntilItIsSeen(t *testing.T) {
	s := start(t, t.TempDir(), spool.Options{})
	for i := range 20 {
		queue(t, s, spool.LaneMeasurement, payload(t, i, 10))
	}
	commit(t, s)
	give := func(seq uint64) {
		s.GiveUp(s.Identity(), ranges(seq), protocol.Gap_REASON_REFUSED)
		eventually(t, "given up", func() bool { return !s.Unacked().Contains(seq) })
		commit(t, s)
	}
	give(1)
	give(3)
	give(2)
	found := gaps(t, drain(t, s))
	if len(found) != 1 || protocol.RangesOf(found[0].GetRanges()).String() != "{[1,4)}" || found[0].GetRecords() != 3 {
		t.Fatalf("gaps %v, want one", found)
	}
	give(4)
	found = gaps(t, drain(t, s))
	if len(found) != 1 || protocol.RangesOf(found[0].GetRanges()).String() != "{[4,5)}" {
		t.Errorf("gaps %v, want another one", found)
	}
	if st := s.Stats(); st.Lanes[spool.LaneGap].Records != 2 || st.Records != 18 {
		t.Errorf("%d gaps among %d records, want 2 among 18", st.Lanes[spool.LaneGap].Records, st.Records)
	}
}

func TestLaneOf(t *testing.T) {
	for _, kind := range protocol.Kinds() {
		if got := spool.LaneOf(kind); string(got) != string(kind) {
			t.Errorf("%s goes in lane %s", kind, got)
		}
	}
	if got := spool.LaneOf("new"); got != spool.LaneMeasurement {
		t.Errorf("an unknown kind goes in lane %s", got)
	}
}

func TestClose_EndsWhoeverWaits(t *testing.T) {
	dir := t.TempDir()
	s, err := spool.Open(dir, spool.Options{Station: "torino"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := s.Next(t.Context())
		done <- err
	}()
	if _, err := s.Queue(t.Context(), spool.LaneGap, "gap", []byte("kept")); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	if err := <-done; err == nil {
		// It may have got the record in between; the next one fails.
		if _, err := s.Next(t.Context()); err == nil {
			t.Error("Next of a closed spool: no error")
		}
	}
	if _, err := s.Put(t.Context(), spool.LaneGap, "gap", []byte("x")); err == nil {
		t.Error("Put in a closed spool: no error")
	}
	if err := s.Remember(t.Context(), "x", nil); err == nil {
		t.Error("Remember in a closed spool: no error")
	}
	if st, err := spool.Stat(dir); err != nil || st.Records != 1 {
		t.Errorf("what was queued before Close: %+v, %v", st, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "spool.owner")); err == nil {
		t.Error("the owner's note is still there")
	}
	if _, err := spool.Stat(t.TempDir()); err == nil {
		t.Error("Stat of nothing: no error")
	}
}
