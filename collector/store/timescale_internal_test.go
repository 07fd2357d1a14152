package store

import (
	"database/sql"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

// plainTables makes the tables in a TimescaleDB as they are before the extension comes.
func plainTables(t *testing.T, log *slog.Logger) *DB {
	t.Helper()
	db, err := Open(t.Context(), servers.TimescaleDB(t), log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	list, err := migrationsFor("postgres")
	if err != nil {
		t.Fatal(err)
	}
	if err := db.makeMigrationTable(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, m := range list {
		if err := db.transact(t.Context(), func(tx *sql.Tx) error { return db.apply(t.Context(), tx, m) }); err != nil {
			t.Fatal(err)
		}
	}
	return db
}

// hypertablesOf counts the hypertables, and those with compression.
func hypertablesOf(t *testing.T, db *DB) (all, compressed int) {
	t.Helper()
	err := db.read.QueryRowContext(t.Context(), `SELECT count(*), count(*) FILTER (WHERE compression_enabled)
		FROM timescaledb_information.hypertables WHERE hypertable_schema = current_schema()`).Scan(&all, &compressed)
	if err != nil {
		t.Fatal(err)
	}
	return all, compressed
}

// TestMigrate_TimescaleComesLater migrates tables that had rows before there was the extension.
func TestMigrate_TimescaleComesLater(t *testing.T) {
	db := plainTables(t, slog.New(slog.DiscardHandler))
	var batch []*protocol.Record
	for seq := range uint64(100) {
		batch = append(batch, &protocol.Record{
			Station: new("torino"), Spool: make([]byte, 8), Seq: new(seq + 1), Time: new(int64(seq) * int64(24*time.Hour)),
			Body: &protocol.Record_Measurement{Measurement: &protocol.Measurement{PowerDbfs: new(float32(-30))}},
		})
	}
	if _, _, err := db.Commit(t.Context(), time.Now(), batch[:60], nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if n, err := db.Migrate(t.Context()); err != nil || n != 0 {
			t.Fatal(n, err)
		}
	}
	if all, compressed := hypertablesOf(t, db); all != 4 || compressed != 4 {
		t.Errorf("%d hypertables, %d compressed; want 4 and 4", all, compressed)
	}
	fresh, _, err := db.Commit(t.Context(), time.Now(), batch, nil)
	if err != nil || fresh[0] || fresh[59] || !fresh[60] || !fresh[99] {
		t.Errorf("fresh %v, %v", fresh, err)
	}
	verdicts, err := db.Verify(t.Context(), "", true)
	if err != nil || len(verdicts) != 1 || !verdicts[0].OK() || verdicts[0].Stored != 100 {
		t.Errorf("%+v, %v", verdicts, err)
	}
	var hourly int
	if err := db.read.QueryRowContext(t.Context(), "SELECT sum(measurements) FROM measurement_1h").Scan(&hourly); err != nil || hourly != 100 {
		t.Errorf("hourly view counts %d, %v; want 100", hourly, err)
	}
}

// TestUseEdition_Apache takes a real TimescaleDB for its Apache edition, which that build cannot be switched to: what
// the edition lacks must not be asked for.
func TestUseEdition_Apache(t *testing.T) {
	var log strings.Builder
	db := plainTables(t, slog.New(slog.NewTextHandler(&log, nil)))
	for range 2 {
		log.Reset()
		if err := db.useEdition(t.Context(), Description{Server: "PostgreSQL", TimescaleVersion: "2", TimescaleEdition: "apache"}); err != nil {
			t.Fatal(err)
		}
		if strings.Count(log.String(), "\n") != 1 || !strings.Contains(log.String(), "Apache edition") {
			t.Errorf("log, want one line:\n%s", log.String())
		}
	}
	if all, compressed := hypertablesOf(t, db); all != 4 || compressed != 0 {
		t.Errorf("%d hypertables, %d compressed; want 4 and 0", all, compressed)
	}
}

func TestDescription_String(t *testing.T) {
	d := Description{Server: "PostgreSQL", Version: "17.5", TimescaleVersion: "2.23", TimescaleEdition: "apache"}
	if got, want := d.String(), "PostgreSQL 17.5 with TimescaleDB 2.23 (apache edition)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
