package spool_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/fulgidus/heimdall/agent/spool"
	"github.com/fulgidus/heimdall/protocol"
)

// What is wrong with a damaged file is said in words, with the mend, and nothing of it is shown; when it is replaced the log says how
// much was saved.
func TestDamaged_IsSaidInWords(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, 20)
	whole, err := os.ReadFile(filepath.Join(dir, "spool.db"))
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	flipped := bytes.Clone(whole)
	for at := 2 * page; at+100 < len(flipped); at += page { // whichever of them are in use
		flipped[at+8] ^= 0x40 // what kind of page it is
	}
	headless := bytes.Clone(whole)
	clear(headless[:2*page])
	half := bytes.Clone(whole)
	clear(half[:page])
	for name, c := range map[string]struct {
		file        []byte
		want, saved string
	}{
		"cut":      {whole[:2*page+100], fmt.Sprintf("is cut short at %d of ", 2*page+100), "records_saved=0 records_lost=unknown"},
		"empty":    {nil, "is empty", "nothing in it could be read; look after the disk\" path="},
		"flipped":  {flipped, "is damaged: some of its pages are not as they were written", "records_saved="},
		"headless": {headless, "do not begin as a spool file does", "records_saved="},
		"half":     {half, "its beginning is not as it was written", "records_saved="},
	} {
		copyTo := t.TempDir()
		copySpool(t, dir, copyTo, c.file)
		beside, err := os.ReadFile(filepath.Join(dir, "spool.identity"))
		if err == nil {
			err = os.WriteFile(filepath.Join(copyTo, "spool.identity"), beside, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		_, statErr := spool.Stat(copyTo)
		for _, err := range []error{statErr, spool.Entries(copyTo, func(e spool.Entry) error {
			t.Errorf("%s: shown: %+v", name, e)
			return nil
		})} {
			if _, ok := errors.AsType[*spool.DamagedError](err); !ok || !strings.Contains(err.Error(), c.want) ||
				!strings.HasSuffix(err.Error(), "`heimdall-agent run` puts it aside and saves what can be read") {
				t.Errorf("%s: %v, want %q", name, err, c.want)
			}
		}
		var said bytes.Buffer
		start(t, copyTo, spool.Options{Log: slog.New(slog.NewTextHandler(&said, nil))}).stop()
		if log := said.String(); !strings.Contains(log, c.want) || !strings.Contains(log, c.saved) || strings.Contains(log, "runtime error") {
			t.Errorf("%s: the log says\n%s\nwant %q and %q", name, log, c.want, c.saved)
		}
	}
}

// Another damage saves all records there are, and the Gap of the first damage with them: it is not told twice.
func TestOpen_DamagedAgainDeclaresOnce(t *testing.T) {
	dir := t.TempDir()
	first := fill(t, dir, 2)
	if err := os.Truncate(filepath.Join(dir, "spool.db"), int64(os.Getpagesize())+700); err != nil {
		t.Fatal(err)
	}
	start(t, dir, spool.Options{}).stop()
	var said bytes.Buffer
	for range 3 {
		edit(t, dir, func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("lane/site")) })
		s := start(t, dir, spool.Options{Log: slog.New(slog.NewTextHandler(&said, nil))})
		put(t, s, spool.LaneReply, payload(t, 1, 1))
		s.stop()
	}
	if log := said.String(); !strings.Contains(log, "records_saved=1 records_lost=none") {
		t.Error(log)
	}
	s := start(t, dir, spool.Options{})
	defer s.stop()
	n := 0
	for _, gap := range gaps(t, drain(t, s)) {
		if bytes.Equal(gap.GetSpool(), first[:]) && gap.GetReason() == protocol.Gap_REASON_SPOOL_LOST {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d Gaps speak of the first spool, want 1", n)
	}
}
