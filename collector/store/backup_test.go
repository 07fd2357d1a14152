package store_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/protocol"
)

// testBackup backs a database up, goes on writing, and puts the copy back: everything is as it was at the backup.
func testBackup(t *testing.T, s *server) {
	db, ctx := s.open(t), t.Context()
	commit(t, db, append(records(), chunk("torino", 10, "c", 0))...)
	if err := db.SaveState(ctx, "torino", &protocol.State{State: "running", Reason: `"quoted" \ and 'so'`, Backlog: 3}, t0); err != nil {
		t.Fatal(err)
	}
	s.exec(t, "INSERT INTO account (account, kind, secret, created) VALUES ('torino', 'station', '\\x00ff', "+map[bool]string{true: "1", false: "now()"}[s.sqlite()]+")")
	lease, err := db.TakeLease(ctx, "jobs", "one", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	first := filepath.Join(t.TempDir(), "first")
	dump, err := db.Backup(ctx, first)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	restore := func(replace bool) error {
		return store.Restore(ctx, s.url, first, dump, replace, slog.New(slog.DiscardHandler))
	}
	if err := restore(false); !errors.Is(err, store.ErrNotEmpty) {
		t.Errorf("over what is there: %v", err)
	}
	if !s.sqlite() { // whose file a collector locks
		if err := restore(true); err == nil || !strings.Contains(err.Error(), "a collector works on this database") {
			t.Errorf("under a running collector: %v", err)
		}
	}
	db = s.open(t)
	later := measurement("genova", 3, 1)
	commit(t, db, later, measurement("torino", 1, 20))
	s.exec(t, "UPDATE lease SET until = until - "+map[bool]string{true: "7200000000", false: "interval '2 hours'"}[s.sqlite()])
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s.raw.SetMaxIdleConns(0) // or a cached statement keeps tables from being dropped, or reads the file that went
	if err := restore(true); err != nil {
		t.Fatal(err)
	}
	db = s.open(t)
	if err := lease.Renew(ctx); err == nil {
		t.Error("who worked before goes on working")
	}
	second := filepath.Join(t.TempDir(), "second")
	again, err := db.Backup(ctx, second)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(dump, again); diff != "" {
		t.Errorf("before and after (-want +got):\n%s", diff)
	}
	for _, table := range dump.Tables {
		if want, got := dumped(t, first, table.Name), dumped(t, second, table.Name); !slices.Equal(want, got) {
			t.Errorf("%s is\n%s\nand was\n%s", table.Name, got, want)
		}
	}
	if n := s.number(t, "SELECT count(*) FROM record WHERE station = 'genova' OR seq = 20"); n != 0 {
		t.Errorf("%d records from after the backup are there", n)
	}
	if n := s.number(t, "SELECT count(*) FROM account WHERE account = 'torino'"); n != 1 {
		t.Error("the account is not there")
	}
	if fresh, _ := commit(t, db, later); !slices.Equal(fresh, []bool{true}) {
		t.Errorf("what came after the backup is taken again: %v", fresh)
	}
}

// dumped are the lines of a table's file.
func dumped(t *testing.T, dir, table string) []string {
	t.Helper()
	packed, err := os.ReadFile(filepath.Join(dir, table+".jsonl.zst"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := zstd.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	slices.Sort(lines)
	return lines
}
