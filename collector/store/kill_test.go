package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/protocol"
)

// TestMain lets this program be the collector that is killed.
func TestMain(m *testing.M) {
	if url := os.Getenv("HEIMDALL_TEST_COMMIT_UNTIL_KILLED"); url != "" {
		if err := commitUntilKilled(context.Background(), url, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// commitUntilKilled commits records 1, 2, 3, ... in batches, each batch twice, and prints the last number of each
// commit that succeeded.
func commitUntilKilled(ctx context.Context, url string, out io.Writer) error {
	db, err := store.Open(ctx, url, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	if _, err := db.Migrate(ctx); err != nil {
		return err
	}
	for from := uint64(1); ; from += 20 {
		for range 2 {
			if _, _, err := db.Commit(ctx, received, measurements("torino", 1, from, from+19), nil); err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintln(out, from+19); err != nil {
			return err
		}
	}
}

// testKilled kills a collector with SIGKILL while it commits, and looks whether all that it called committed is there
// and nothing else. (The operating system goes on: that disks keep what was synced is not tested here.)
func testKilled(t *testing.T, s *server) {
	db := s.open(t)
	for range 5 {
		child := exec.CommandContext(t.Context(), os.Args[0])
		child.Env = append(os.Environ(), "HEIMDALL_TEST_COMMIT_UNTIL_KILLED="+s.url)
		child.Stderr = os.Stderr
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		commits := 3 + rand.IntN(20)
		var last uint64
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if _, err := fmt.Sscan(lines.Text(), &last); err != nil {
				t.Fatal(err)
			}
			if commits--; commits == 0 {
				if err := child.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = child.Wait() // it was killed
		if commits > 0 {
			t.Fatal("the collector ended by itself")
		}
		v := verdict(t, db, streamOf("torino", 1), true)
		if !v.OK() || v.Last < last {
			t.Errorf("committed %d, verdict %+v", last, v)
		}
	}
}

// testTerminated has the server end the connections of a collector while it commits, at moments that let about as many commits
// through as it stops.
func testTerminated(t *testing.T, s *server) {
	db := s.open(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1) // the one result
	go func() {
		for {
			_, err := s.raw.ExecContext(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'heimdall-collector'")
			if err != nil {
				ended <- err
				return
			}
			pause(time.Duration(1+rand.IntN(40)) * time.Millisecond)
		}
	}()
	failed, last := 0, uint64(0)
	for last < 2000 || failed < 20 {
		for {
			_, _, err := db.Commit(t.Context(), received, measurements("torino", 1, last+1, last+50), nil)
			if err == nil {
				last += 50
				break
			}
			failed++
			var own *store.Error
			if !errors.As(err, &own) || !own.Transient() {
				t.Fatalf("%v is not transient", err)
			}
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	t.Logf("%d records committed, %d commits failed", last, failed)
	var v store.Verdict
	for { // the last connections may have been ended, too
		all, err := db.Verify(t.Context(), "torino", true)
		if err == nil {
			v = all[0]
			break
		}
		var own *store.Error
		if !errors.As(err, &own) || !own.Transient() {
			t.Fatal(err)
		}
	}
	if !v.OK() || v.Stored != last {
		t.Errorf("verdict %+v", v)
	}
}

func TestSQLite_Killed(t *testing.T)         { testKilled(t, sqliteServer(t)) }
func TestPostgreSQL_Killed(t *testing.T)     { testKilled(t, postgresServer(t)) }
func TestPostgreSQL_Terminated(t *testing.T) { testTerminated(t, postgresServer(t)) }

// TestPostgreSQL_Readers looks through the eyes of the role for readers.
func TestPostgreSQL_Readers(t *testing.T) {
	s := postgresServer(t)
	s.open(t)
	s.raw.SetMaxOpenConns(1) // for SET ROLE
	s.exec(t, "SET ROLE heimdall_read")
	for _, view := range []string{"record", "spectrum_bin", "station_last", "measurement_1h", "detection_latest", "delivery"} {
		s.exec(t, "SELECT * FROM "+view)
	}
	for _, table := range []string{"site", "measurement", "account", "spool"} {
		if _, err := s.raw.ExecContext(t.Context(), "SELECT * FROM "+table); err == nil || !strings.Contains(err.Error(), "42501") {
			t.Errorf("%s: %v, want no permission", table, err)
		}
	}
}

// TestPostgreSQL_PlainAccount migrates with an account that may not make roles.
func TestPostgreSQL_PlainAccount(t *testing.T) {
	s := postgresServer(t)
	s.open(t) // makes the role heimdall_read, which belongs to the whole server
	name := fmt.Sprintf("plain%d", time.Now().UnixNano())
	s.exec(t, "CREATE ROLE "+name+" LOGIN")
	s.exec(t, "DROP SCHEMA public CASCADE")
	s.exec(t, "CREATE SCHEMA public AUTHORIZATION "+name)
	var log strings.Builder
	db, err := store.Open(t.Context(), strings.Replace(s.url, "heimdall@", name+"@", 1), slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	commit(t, db, measurements("torino", 1, 1, 3)...)
	if got := strings.Count(log.String(), "level=WARN"); got != 1 || !strings.Contains(log.String(), "no TimescaleDB here") {
		t.Errorf("log, want one warning:\n%s", log.String())
	}
}

// TestTimescaleDB_LateIntoCompressed stores late records, and repeats, in chunks that are compressed.
func TestTimescaleDB_LateIntoCompressed(t *testing.T) {
	s := timescaleServer(t)
	db := s.open(t)
	commit(t, db, measurements("torino", 1, 1, 100)...)
	if n := s.number(t, "SELECT count(*) FROM (SELECT compress_chunk(show_chunks('measurement'))) AS chunks"); n == 0 {
		t.Fatal("no chunk was compressed")
	}
	fresh, acks := commit(t, db, measurements("torino", 1, 51, 150)...)
	if fresh[0] || fresh[49] || !fresh[50] || !fresh[99] || acks[streamOf("torino", 1)].Conflict != nil {
		t.Errorf("fresh %v, ack %v", fresh, acks)
	}
	other := measurement("torino", 1, 30)
	other.Step = nil
	if _, acks := commit(t, db, other); acks[streamOf("torino", 1)].GetConflict().GetFrom() != 30 {
		t.Errorf("no conflict with a compressed row: %v", acks)
	}
	if v := verdict(t, db, streamOf("torino", 1), true); !v.OK() || v.Stored != 150 {
		t.Errorf("verdict %+v", v)
	}
	if n := s.number(t, "SELECT count(*) FROM timescaledb_information.hypertables WHERE compression_enabled"); n != 4 {
		t.Errorf("%d compressed hypertables, want 4", n)
	}
	s.exec(t, "CALL refresh_continuous_aggregate('measurement_1h_present', NULL, NULL)")
	if n := s.number(t, "SELECT sum(measurements) FROM measurement_1h"); n != 150 {
		t.Errorf("hourly view counts %d, want 150", n)
	}
}

func TestOpen_Refuses(t *testing.T) {
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, []byte(strings.Repeat("not a database, ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{
		"", "mysql://host/db", "heimdall.db", "sqlite:", "sqlite::memory:", "sqlite:" + file + "/below", "sqlite:" + file,
		"postgres://host:port/db", "postgres://host/db?sslmode=perhaps",
	} {
		db, err := store.Open(t.Context(), url, slog.New(slog.DiscardHandler))
		if err == nil {
			db.Close()
			t.Errorf("%q was opened", url)
		} else if !strings.HasPrefix(err.Error(), "open store") && !strings.Contains(err.Error(), "store.url") {
			t.Errorf("%q: %v", url, err)
		}
	}
}

// TestOpen_SecretsStay looks for the password in the error of a bad URL.
func TestOpen_SecretsStay(t *testing.T) {
	_, err := store.Open(t.Context(), "postgres://heimdall:hunter2@host:port/db", slog.New(slog.DiscardHandler))
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("err %v", err)
	}
}

func TestOpen_Private(t *testing.T) {
	s := sqliteServer(t)
	s.open(t)
	info, err := os.Stat(strings.TrimPrefix(s.url, "sqlite:"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	var mode string
	if err := s.raw.QueryRowContext(t.Context(), "PRAGMA journal_mode").Scan(&mode); err != nil || mode != "wal" {
		t.Errorf("journal mode %s, %v; want wal", mode, err)
	}
}

// TestOpen_ServerAway opens a store whose server is not there: an error only for the call that needs it.
func TestOpen_ServerAway(t *testing.T) {
	db, err := store.Open(t.Context(), "postgres://heimdall@127.0.0.1:1/db?sslmode=disable", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var own *store.Error
	if err := db.Ping(t.Context()); !errors.As(err, &own) || !own.Transient() {
		t.Errorf("ping: %v", err)
	}
	if _, err := db.Migrate(t.Context()); !errors.As(err, &own) || !own.Transient() {
		t.Errorf("migrate: %v", err)
	}
}

func FuzzRecords_Cursor(f *testing.F) {
	db := sqliteServer(f).open(f)
	commit(f, db, measurements("torino", 1, 1, 3)...)
	_, next, err := db.Records(f.Context(), protocol.KindMeasurement, protocol.Filter{Limit: 1})
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{next, "", "e30", "eyJ0IjoxfQ", "eyJ0IjoxLCJwIjoiQUFBQUFBQUFBQUE9In0", strings.Repeat("A", 1000)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, cursor string) {
		var faults protocol.FieldErrors
		if _, _, err := db.Records(t.Context(), protocol.KindMeasurement, protocol.Filter{Cursor: cursor}); err != nil && !errors.As(err, &faults) {
			t.Errorf("%q: %v", cursor, err)
		}
		if _, _, err := db.Recordings(t.Context(), protocol.Filter{Cursor: cursor}); err != nil && !errors.As(err, &faults) {
			t.Errorf("%q: %v", cursor, err)
		}
	})
}
