//go:build linux

package spool

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// limit lowers what this process may use of something, until the function given back is called.
func limit(t *testing.T, resource int, most uint64) func() {
	t.Helper()
	var before unix.Rlimit
	if err := unix.Getrlimit(resource, &before); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: most, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := unix.Setrlimit(resource, &before); err != nil {
			t.Error(err)
		}
	}
}

// inOwnProcess runs the test that calls it in a process of its own, and tells whether this is that process: go test itself
// writes to a file meanwhile, which a limit on the size of files would hit.
func inOwnProcess(t *testing.T) bool {
	t.Helper()
	const mark = "HEIMDALL_OWN_PROCESS"
	if os.Getenv(mark) != "" {
		return true
	}
	command := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	command.Env = append(os.Environ(), mark+"=1")
	out, err := command.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// A limit on the size of files (ulimit -f, a file system's own) is a full disk, and one that no reserve helps: what is least
// valuable makes room, again and again.
func TestFlush_FileSizeLimited(t *testing.T) {
	if !inOwnProcess(t) {
		return
	}
	s := open(t, t.TempDir(), 4<<20)
	queueSome(t, s, LaneReply, 20, 1000)
	if err := s.flush(false); err != nil {
		t.Fatal(err)
	}
	defer limit(t, unix.RLIMIT_FSIZE, 1<<20)()
	found, fullAt := 0, int64(0) // how often the disk was found full
	for range 200 {
		queueSome(t, s, LaneSpectrum, 40, 1000)
		if err := s.flush(false); err != nil {
			t.Fatal(err)
		}
		if s.room.held != fullAt {
			found, fullAt = found+1, s.room.held
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

// A segment file whose name may not be on disk is not written to.
func TestSegments_NameNotOnDisk(t *testing.T) {
	segs, err := openSegments(t.TempDir(), map[uint32]int{})
	if err != nil {
		t.Fatal(err)
	}
	restore := limit(t, unix.RLIMIT_NOFILE, 100)
	var taken []*os.File
	for f, err := os.Open(os.DevNull); err == nil; f, err = os.Open(os.DevNull) {
		taken = append(taken, f)
	}
	taken[0].Close() // for the file; none is left for the folder
	_, failed := segs.add([]byte("x"))
	for _, f := range taken[1:] {
		f.Close()
	}
	restore()
	if !errors.Is(failed, unix.EMFILE) || segs.current != nil {
		t.Errorf("%v, want %v and no file", failed, unix.EMFILE)
	}
	if ref, err := segs.add([]byte("x")); err != nil || ref.file != 2 {
		t.Errorf("after that: %+v, %v; want another file", ref, err)
	}
	segs.close()
}

// A copy that does not fit is let go of: it is tried each minute.
func TestCompact_DoesNotFit(t *testing.T) {
	if !inOwnProcess(t) {
		return
	}
	s := openKeeping(t, t.TempDir(), Options{})
	held := backlogOf40MB(t, s)
	restore := limit(t, unix.RLIMIT_FSIZE, 20<<10) // two meta pages, and some
	s.compactNow(time.Now())
	restore()
	if s.retired.store != nil || s.Unacked().String() != held.String() {
		t.Error("something changed")
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(maps), filepath.Join(s.dir, fileName)+".new") {
		t.Error("the unfinished copy is still in memory")
	}
	closed(t, s)
}
