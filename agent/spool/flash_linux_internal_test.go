//go:build linux

package spool

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// kernelBytes is how much this process has had written to disk.
func kernelBytes(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Skipf("the kernel does not tell: %v", err)
	}
	for line := range strings.Lines(string(text)) {
		var n int64
		if _, err := fmt.Sscanf(line, "write_bytes: %d", &n); err == nil {
			return n
		}
	}
	t.Skip("the kernel does not tell")
	return 0
}

// Small commits cost what is in them: the kernel, which may cache a file in pieces larger than a page, writes no more.
func TestFlash_KernelCountsNoMore(t *testing.T) {
	dir := t.TempDir()
	for _, state := range []string{"new", "opened again", "opened once more"} {
		s := openKeeping(t, dir, Options{Keep: time.Hour})
		queueSome(t, s, LaneMeasurement, 1, 130)
		flushed(t, s) // and the reserve is there
		kernel, pages := kernelBytes(t), writtenBytes(s)
		for range 100 {
			queueSome(t, s, LaneMeasurement, 2, 130)
			flushed(t, s)
			s.Ack(s.Identity(), handOut(s))
		}
		kernel, pages = kernelBytes(t)-kernel, writtenBytes(s)-pages
		closed(t, s)
		if kernel == 0 {
			t.Skip("the folder is not on a disk")
		}
		t.Logf("%s: %d KiB by the kernel's account, %d by the database's", state, kernel>>10, pages>>10)
		if kernel > pages+pages/10 {
			t.Errorf("%s: %d bytes were written for %d in pages", state, kernel, pages)
		}
	}
}
