//go:build linux

package spool

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// mappedBytes is how much of the files with this name counts as memory of this process.
func mappedBytes(t *testing.T, name string) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	total, inside := int64(0), false
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		switch {
		case strings.Contains(fields[0], "-"):
			inside = strings.HasSuffix(strings.TrimSpace(line), name)
		case inside && fields[0] == "Rss:":
			kb, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			total += kb << 10
		}
	}
	return total
}

// A backlog of 40 MB comes in, is opened, handed out, acknowledged and removed, and never more than some of it is memory
// of the agent.
func TestRelease_BacklogIsNoMemory(t *testing.T) {
	dir := t.TempDir()
	const most = 8 << 20
	look := func(when string) {
		t.Helper()
		if got := mappedBytes(t, dir+"/"+fileName); got > most {
			t.Fatalf("%s: %d bytes of the file are in memory, want at most %d", when, got, most)
		}
	}
	s := openKeeping(t, dir, Options{Keep: time.Hour})
	for range 80 {
		queueSome(t, s, LaneMeasurement, 250, 2000)
		flushed(t, s)
		look("filling")
	}
	closed(t, s)
	if info, err := os.Stat(dir + "/" + fileName); err != nil || info.Size() < 4*most {
		t.Fatalf("the file is too small to show anything: %v, %v", info, err)
	}
	st, err := openStore(dir+"/"+fileName, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	look("opening")
	if err := st.close(); err != nil {
		t.Fatal(err)
	}
	s = openKeeping(t, dir, Options{Keep: time.Hour})
	defer closed(t, s)
	look("opened")
	for s.Stats().Records > 0 {
		var out protocol.Ranges
		for range 250 {
			if item, ok := s.find(); ok {
				out.Add(item.Seq)
			}
		}
		s.Ack(s.Identity(), out)
		flushed(t, s)
		look("draining")
	}
	s.keep = 0
	for s.Stats().Kept > 0 {
		flushed(t, s)
		look("removing")
	}
}
