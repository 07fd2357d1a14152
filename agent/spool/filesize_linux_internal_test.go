//go:build linux

package spool

import (
	"testing"

	"golang.org/x/sys/unix"
)

// A limit on the size of files (ulimit -f, a file system's own) is a full disk, and one that no reserve helps: what is least
// valuable makes room, again and again.
func TestFlush_FileSizeLimited(t *testing.T) {
	s := open(t, t.TempDir(), 4<<20)
	queueSome(t, s, LaneReply, 20, 1000)
	if err := s.flush(false); err != nil {
		t.Fatal(err)
	}
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 1 << 20, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
			t.Error(err)
		}
	}()
	found, fullAt := 0, int64(0) // how often the disk was found full
	for range 200 {
		queueSome(t, s, LaneSpectrum, 40, 1000)
		if err := s.flush(false); err != nil {
			t.Fatal(err)
		}
		if s.fullAt != fullAt {
			found, fullAt = found+1, s.fullAt
		}
	}
	if found != 1 {
		t.Errorf("the disk was found full %d times, want once: from then on room is made before", found)
	}
	held, declared := account(t, s)
	if declared.Empty() || held.Count() < 100 {
		t.Errorf("%d held, %d declared", held.Count(), declared.Count())
	}
	if got := s.Stats().Lanes[LaneReply].Records; got != 20 {
		t.Errorf("%d replies, want all 20", got)
	}
}
