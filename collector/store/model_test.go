package store_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/protocol"
)

// account is what the model knows of one spool: plain sets of numbers.
type account struct {
	received, rejected, gapped, conflict, held map[uint64]bool
	version                                    map[uint64]int // of the content under a number
	lastSeq, healthSeq                         uint64
}

func newAccount() *account {
	return &account{
		received: map[uint64]bool{}, rejected: map[uint64]bool{}, gapped: map[uint64]bool{}, conflict: map[uint64]bool{},
		held: map[uint64]bool{}, version: map[uint64]int{},
	}
}

// draw makes one random record and enters it in the model; fresh tells whether it is new.
func (a *account) draw(t *rapid.T, all map[byte]*account, b byte) (rec *protocol.Record, fresh bool) {
	seq := rapid.Uint64Range(1, 40).Draw(t, "seq")
	version := rapid.IntRange(0, 9).Draw(t, "version") / 9 // mostly the same content
	rec = measurement("torino", b, seq)
	kind := seq % 7 // a number always means the same kind, so that a repeat is a repeat
	from := rapid.Uint64Range(1, 40).Draw(t, "from")
	lost := protocol.Range{From: from, To: from + rapid.Uint64Range(0, 5).Draw(t, "length")}
	about := byte(rapid.IntRange(1, 2).Draw(t, "about"))
	switch kind {
	case 0:
		rec = gap("torino", b, seq, about, lost)
	case 1:
		rec = health("torino", b, seq, lost.To, lost)
	}
	if version == 1 {
		rec.Step = nil
	}
	switch {
	case a.received[seq]:
		// The content of gaps and health is random, so that only measurements tell whether it is the same.
		if kind > 1 && a.version[seq] != version {
			a.conflict[seq] = true
		}
		return rec, false
	case a.rejected[seq]:
		return rec, false
	}
	a.received[seq], a.version[seq] = true, version
	for n := lost.From; n <= lost.To && kind == 0; n++ {
		all[about].gapped[n] = true
	}
	if kind == 1 && seq > a.healthSeq {
		a.healthSeq, a.lastSeq, a.held = seq, lost.To, map[uint64]bool{}
		for n := lost.From; n <= lost.To; n++ {
			a.held[n] = true
		}
	}
	return rec, true
}

// settled is what an Ack must say.
func (a *account) settled() protocol.Ranges {
	var set protocol.Ranges
	for n := range uint64(50) {
		if a.received[n] || a.rejected[n] || a.gapped[n] {
			set.Add(n)
		}
	}
	return set
}

// missing is what a final verdict must name.
func (a *account) missing() protocol.Ranges {
	last := a.lastSeq
	for n := range uint64(50) {
		if a.received[n] || a.rejected[n] || a.gapped[n] || a.held[n] {
			last = max(last, n)
		}
	}
	if last == 0 {
		return nil
	}
	return protocol.Ranges{{From: 1, To: last}}.Subtract(a.settled())
}

// TestCommit_Model compares random commits with plain sets of numbers.
func TestCommit_Model(t *testing.T) {
	dir, tables := t.TempDir(), migratedSQLite(t)
	runs := 0
	rapid.Check(t, func(r *rapid.T) {
		runs++
		path := filepath.Join(dir, strconv.Itoa(runs))
		if err := os.WriteFile(path, tables, 0o600); err != nil {
			r.Fatal(err)
		}
		db, err := store.Open(t.Context(), "sqlite:"+path, slog.New(slog.DiscardHandler))
		if err != nil {
			r.Fatal(err)
		}
		defer db.Close()
		all := map[byte]*account{1: newAccount(), 2: newAccount()}
		for range rapid.IntRange(1, 12).Draw(r, "commits") {
			commitDrawn(t, r, db, all)
		}
		verdicts, err := db.Verify(t.Context(), "torino", true)
		if err != nil {
			r.Fatal(err)
		}
		for _, v := range verdicts {
			a := all[v.Spool[0]]
			if got, want := v.MissingRanges.String(), a.missing().String(); got != want || v.Duplicate != 0 || v.Stored != uint64(len(a.received)) {
				r.Fatalf("spool %d: verdict %+v, want missing %s, stored %d", v.Spool[0], v, want, len(a.received))
			}
		}
	})
}

func commitDrawn(t *testing.T, r *rapid.T, db *store.DB, all map[byte]*account) {
	var records []*protocol.Record
	var fresh []bool
	for range rapid.IntRange(0, 15).Draw(r, "records") {
		b := byte(rapid.IntRange(1, 2).Draw(r, "spool"))
		rec, isFresh := all[b].draw(r, all, b)
		records, fresh = append(records, rec), append(fresh, isFresh)
	}
	var rejected []protocol.Rejection
	for range rapid.IntRange(0, 2).Draw(r, "rejections") {
		b, seq := byte(rapid.IntRange(1, 2).Draw(r, "spool")), rapid.Uint64Range(1, 40).Draw(r, "seq")
		rejected = append(rejected, protocol.Rejection{Station: "torino", Spool: spoolOf(b), Seq: seq, Reason: "malformed"})
		if !all[b].received[seq] {
			all[b].rejected[seq] = true
		}
	}
	got, acks, err := db.Commit(t.Context(), received, records, rejected)
	if err != nil {
		r.Fatal(err)
	}
	for i := range fresh {
		if got[i] != fresh[i] {
			r.Fatalf("record %d of spool %d: fresh %v, want %v", records[i].GetSeq(), records[i].GetSpool()[0], got[i], fresh[i])
		}
	}
	for stream, ack := range acks {
		a := all[stream.Spool[0]]
		if got, want := settled(ack), a.settled().String(); got != want {
			r.Fatalf("spool %d: settled %s, want %s", stream.Spool[0], got, want)
		}
		for n := range a.conflict {
			if c := ack.GetConflict(); n < c.GetFrom() || n > c.GetTo() {
				r.Fatalf("spool %d: conflict %v, want %d in it", stream.Spool[0], c, n)
			}
		}
	}
}
