package spool

import (
	"testing"

	"github.com/fulgidus/heimdall/protocol"
)

// A Gap that gets a number of a new identity still speaks of the numbers of the one that it had.
func TestMove_GapsKeepWhatTheySpeakOf(t *testing.T) {
	s := open(t, t.TempDir(), 1<<20)
	first := s.Identity()
	queueSome(t, s, LaneMeasurement, 30, 100)
	if err := s.flush(false); err != nil {
		t.Fatal(err)
	}
	s.GiveUp(first, protocol.Ranges{{From: 3, To: 5}}, protocol.Gap_REASON_REFUSED) // on disk when its number changes
	if err := s.flush(false); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	var waiting protocol.Ranges
	waiting.AddRange(7, 8)
	s.declare(loss{reason: protocol.Gap_REASON_CORRUPT, epoch: s.current(), ranges: waiting}) // in memory when it does
	s.mu.Unlock()
	if err := s.move(move{s.current(), 1}); err != nil {
		t.Fatal(err)
	}
	if err := s.flush(false); err != nil {
		t.Fatal(err)
	}
	named := map[protocol.Gap_Reason]protocol.Ranges{}
	for item, ok := s.find(); ok; item, ok = s.find() {
		if item.Kind != protocol.KindGap {
			continue
		}
		rec, err := protocol.Decode(item.Payload)
		if err != nil {
			t.Fatal(err)
		}
		gap := rec.GetGap()
		if item.Spool == first || string(gap.GetSpool()) != string(first[:]) {
			t.Errorf("%s under spool %x speaks of %x, want of %x", gap.GetReason(), item.Spool, gap.GetSpool(), first)
		}
		named[gap.GetReason()] = named[gap.GetReason()].Union(protocol.RangesOf(gap.GetRanges()))
	}
	if got := named[protocol.Gap_REASON_REFUSED].String() + named[protocol.Gap_REASON_CORRUPT].String(); got != "{[3,6)}{[7,9)}" {
		t.Errorf("given up %s, want {[3,6)}{[7,9)}", got)
	}
	if got := named[protocol.Gap_REASON_CONFLICT]; got.Count() != 29 { // 30 less 3, and two Gaps
		t.Errorf("under new numbers %v, want 29 of them", got)
	}
}

// A wish to give a record up outlives the replacement of the file.
func TestFlush_GivesUpWhatWasAskedBeforeTheDamage(t *testing.T) {
	s := open(t, t.TempDir(), 1<<20)
	first := s.Identity()
	queueSome(t, s, LaneMeasurement, 5, 100)
	if err := s.flush(false); err != nil {
		t.Fatal(err)
	}
	s.GiveUp(first, protocol.Ranges{{From: 3, To: 3}}, protocol.Gap_REASON_REFUSED)
	s.mu.Lock()
	s.damage = errDamaged
	s.mu.Unlock()
	if err := s.flush(false); err != nil {
		t.Fatal(err)
	}
	var seqs protocol.Ranges
	refused := false
	for item, ok := s.find(); ok; item, ok = s.find() {
		if item.Kind == protocol.KindMeasurement {
			seqs.Add(item.Seq)
		}
		if rec, err := protocol.Decode(item.Payload); item.Kind == protocol.KindGap && err == nil {
			refused = refused || rec.GetGap().GetReason() == protocol.Gap_REASON_REFUSED
		}
	}
	if got := seqs.String(); got != "{[1,3),[4,6)}" || !refused {
		t.Errorf("handed out %s, declared %v; want all but 3, and that declared", got, refused)
	}
}
