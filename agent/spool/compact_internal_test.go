package spool

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/fulgidus/heimdall/protocol"
)

// backlogOf40MB fills a spool, drains it but for some records, and removes what arrived.
func backlogOf40MB(t *testing.T, s *Spool) protocol.Ranges {
	t.Helper()
	for range 80 {
		queueSome(t, s, LaneMeasurement, 250, 1800)
		flushed(t, s)
	}
	for {
		out := handOut(s)
		if out.Empty() {
			break
		}
		cut(&out, protocol.Ranges{{From: 17001, To: 17100}})
		s.Ack(s.Identity(), out)
		flushed(t, s)
	}
	queueSome(t, s, LaneReply, 3, 100)
	flushed(t, s)
	return s.Unacked()
}

func fileBytes(t *testing.T, dir string) int64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(dir, fileName))
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// After a backlog the file becomes small again, in use and when it is opened, with all that is in it.
func TestCompact_GivesDiskBack(t *testing.T) {
	for name, smaller := range map[string]func(t *testing.T, s *Spool) *Spool{
		"in use": func(_ *testing.T, s *Spool) *Spool {
			s.compactNow(time.Now())
			return s
		},
		"opened": func(t *testing.T, s *Spool) *Spool {
			closed(t, s)
			return openKeeping(t, s.dir, Options{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := openKeeping(t, dir, Options{})
			held, identity := backlogOf40MB(t, s), s.Identity()
			if size := fileBytes(t, dir); size < smallFile {
				t.Fatalf("a file of %d bytes shows nothing", size)
			}
			s = smaller(t, s)
			if size := fileBytes(t, dir); size > 1<<20 {
				t.Errorf("the file still has %d bytes", size)
			}
			if got := s.Unacked(); got.String() != held.String() || s.Identity() != identity || held.Count() != 103 {
				t.Errorf("held %v, want %v", got, held)
			}
			queueSome(t, s, LaneMeasurement, 1, 10)
			flushed(t, s)
			if got := s.Stats().LastSeq; got != 20004 {
				t.Errorf("the next number was %d", got)
			}
			s.compactNow(time.Now().Add(retireAfter)) // closes the former file
			if s.retired.store != nil {
				t.Error("the former file is still open")
			}
			s.Rewind()
			if got := handOut(s).Count(); got != 104 {
				t.Errorf("%d handed out, want 104", got)
			}
			closed(t, s)
			s = openKeeping(t, dir, Options{})
			if got := s.Stats(); got.Records != 104 || got.LastSeq != 20004 {
				t.Errorf("opened again: %+v", got)
			}
			closed(t, s)
		})
	}
}

// A copy that fails leaves the file as it is, and nothing of itself.
func TestCompact_Fails(t *testing.T) {
	dir := t.TempDir()
	s := openKeeping(t, dir, Options{})
	held := backlogOf40MB(t, s)
	inTheWay := filepath.Join(dir, fileName+".new")
	if err := os.MkdirAll(filepath.Join(inTheWay, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.compactNow(time.Now())
	if s.retired.store != nil || s.Unacked().String() != held.String() {
		t.Error("something changed")
	}
	if err := os.RemoveAll(inTheWay); err != nil {
		t.Fatal(err)
	}
	s.compactNow(time.Now()) // looked a moment ago
	if s.retired.store != nil {
		t.Error("tried again at once")
	}
	// The copy has its name, and a power cut could still take it away: nothing is promised meanwhile.
	s.compactedAt = time.Time{}
	s.compactNow(time.Now())
	gone := s.dir
	s.dir = filepath.Join(dir, "gone")
	if !s.unnamed || s.update(func(*bbolt.Tx) error { t.Error("written"); return nil }) == nil {
		t.Error("a commit before the name of the file is on disk")
	}
	s.dir = gone
	flushed(t, s)
	queueSome(t, s, LaneReply, 1, 10)
	flushed(t, s)
	if s.unnamed {
		t.Error("the name is still not on disk")
	}
	closed(t, s)
}
