//go:build linux

package spool

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fulgidus/heimdall/protocol"
)

// turnReadOnly makes every write to the open file fail, as after a remount: the file behind its descriptor becomes one opened
// for reading only. The function given back undoes it.
func turnReadOnly(t *testing.T, s *Spool) func() {
	t.Helper()
	fd := int(s.store.file.Fd())
	writable, err := unix.Dup(fd)
	if err != nil {
		t.Fatal(err)
	}
	only, err := os.Open(filepath.Join(s.dir, fileName))
	if err != nil {
		t.Fatal(err)
	}
	defer only.Close()
	if err := unix.Dup3(int(only.Fd()), fd, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := unix.Dup3(writable, fd, unix.O_CLOEXEC); err != nil {
			t.Error(err)
		}
		unix.Close(writable)
	}
}

// A disk that can only be read for ten minutes: what memory holds is kept, the rest is declared, one line a minute is said,
// and within a minute of its return all is well, under the same identity.
func TestRun_ReadOnlyDisk(t *testing.T) {
	dir := t.TempDir()
	var said bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(dir, Options{Station: "torino", LimitBytes: 1 << 20, Log: slog.New(slog.NewTextHandler(&said, nil))})
		if err != nil {
			t.Fatal(err)
		}
		identity := s.Identity()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		queueSome(t, s, LaneMeasurement, 10, 300)
		time.Sleep(time.Second)
		writable := turnReadOnly(t, s)
		for range 600 {
			queueSome(t, s, LaneMeasurement, 2, 1000)
			queueSome(t, s, LaneReply, 1, 10)
			time.Sleep(time.Second)
		}
		if st := s.Stats(); st.Records != 10 || st.Unwritten == 0 || st.Unwritten != st.Waiting || st.Fault == nil || st.Shed == 0 || st.ShedFull != st.Shed {
			t.Errorf("without a disk: %+v", st)
		}
		writable()
		time.Sleep(time.Minute)
		if st := s.Stats(); st.Waiting != 0 || st.Unwritten != 0 || st.Fault != nil || st.Lanes[LaneReply].Records != 600 || s.Identity() != identity {
			t.Errorf("a minute after it came back: %+v", st)
		}
		held, declared := account(t, s)
		var all protocol.Ranges
		all.AddRange(1, s.Stats().LastSeq)
		if held.Union(declared).String() != all.String() || declared.Empty() {
			t.Errorf("held %v, declared %v", held, declared)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		closed(t, s)
	})
	if n := strings.Count(said.String(), "takes no commit"); n < 1 || n > 11 {
		t.Errorf("said %d times in ten minutes that the disk takes nothing:\n%.2000s", n, said.String())
	}
	if !strings.Contains(said.String(), "takes commits again") {
		t.Errorf("not said that it is over:\n%.2000s", said.String())
	}
}

// A new identity that does not get to disk is none: what comes meanwhile is numbered under the one that is there, and the change
// is tried again though nothing else waits.
func TestMove_DiskDoesNotTakeTheIdentity(t *testing.T) {
	s := open(t, t.TempDir(), 1<<20)
	first := s.Identity()
	queueSome(t, s, LaneMeasurement, 3, 100)
	if err := s.flush(false); err != nil {
		t.Fatal(err)
	}
	writable := turnReadOnly(t, s)
	s.Conflict(first, 2)
	s.attempt()
	if got := s.Identity(); got != first {
		t.Errorf("identity %x, want %x until there is another one on disk", got, first)
	}
	if wait, waits := s.due(time.Now()); !waits || wait > time.Second {
		t.Errorf("tried again: %v, in %v", waits, wait)
	}
	queueSome(t, s, LaneMeasurement, 2, 100)
	writable()
	if err := s.flush(false); err != nil {
		t.Fatal(err)
	}
	if got := s.Identity(); got == first {
		t.Error("still the identity in conflict")
	}
	if got := s.Unacked().String(); got != "{[1,6)}" { // 2 to 5 moved, and their gap
		t.Errorf("under the new identity %s", got)
	}
}

// A segment file that cannot be read holds up nothing else, neither what is sent nor what is committed, and is tried again.
func TestNext_SegmentCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, dir, 1<<20)
		queueSome(t, s, LaneIQ, 2, 100)
		if err := s.flush(false); err != nil {
			t.Fatal(err)
		}
		segment := filepath.Join(dir, iqName, segmentName(1))
		if err := errors.Join(os.Rename(segment, segment+".away"), os.Symlink(segment, segment)); err != nil { // a link to itself
			t.Fatal(err)
		}
		if item, ok := s.find(); ok {
			t.Errorf("handed out %d", item.Seq)
		}
		queueSome(t, s, LaneSpectrum, 1, 100)
		if err := s.flush(false); err != nil {
			t.Errorf("a commit beside it: %v", err)
		}
		if item, ok := s.find(); !ok || item.Seq != 3 {
			t.Errorf("%d, %v: want the record beside it", item.Seq, ok)
		}
		if err := os.Rename(segment+".away", segment); err != nil {
			t.Fatal(err)
		}
		if item, ok := s.find(); ok {
			t.Errorf("%d at once", item.Seq)
		}
		time.Sleep(readAgainAfter)
		for want := uint64(1); want <= 2; want++ {
			if item, ok := s.find(); !ok || item.Seq != want {
				t.Errorf("%d, %v: want %d", item.Seq, ok, want)
			}
		}
		if got := s.Stats().Shed; got != 0 {
			t.Errorf("%d given up, want none", got)
		}
	})
}
