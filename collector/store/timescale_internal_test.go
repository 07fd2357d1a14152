package store

import (
	"database/sql"
	"errors"
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
	db, list := emptyTimescale(t, log)
	applyAll(t, db, list)
	return db
}

// emptyTimescale is a database without tables, and the migrations that make them.
func emptyTimescale(t *testing.T, log *slog.Logger) (*DB, []migration) {
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
	return db, list
}

func applyAll(t *testing.T, db *DB, list []migration) {
	t.Helper()
	for _, m := range list {
		if err := db.transact(t.Context(), func(tx *sql.Tx) error { return db.apply(t.Context(), tx, m) }); err != nil {
			t.Fatal(err)
		}
	}
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

// oldAggregate is the hourly view as the migrations up to 4 and the program of their time made it.
const oldAggregate = `CREATE MATERIALIZED VIEW measurement_1h WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
	SELECT time_bucket('1 hour', time) AS time, station, receiver, step,
		count(*) AS measurements,
		min(center_hz) AS center_hz,
		10 * log(avg(power(10, least(greatest(power_dbfs::double precision, -300), 300) / 10))) AS power_dbfs,
		min(power_dbfs) AS power_dbfs_min,
		max(power_dbfs) AS power_dbfs_max,
		10 * log(avg(power(10, least(greatest(noise_floor_dbfs_hz::double precision, -300), 300) / 10))) AS noise_floor_dbfs_hz,
		max(snr_db) AS snr_db_max
	FROM measurement GROUP BY 1, 2, 3, 4 WITH NO DATA`

// hours are the rows of the hourly view as text, with levels in thousandths.
func hours(t *testing.T, db *DB) string {
	t.Helper()
	var text string
	err := db.read.QueryRowContext(t.Context(), `SELECT coalesce(string_agg(concat_ws(' ', extract(epoch FROM time)::bigint, station, receiver, step, measurements,
			center_hz, round(power_dbfs * 1000), power_dbfs_min, power_dbfs_max, round(noise_floor_dbfs_hz * 1000), snr_db_max), E'\n' ORDER BY time, station), '')
		FROM measurement_1h`).Scan(&text)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestMigrate_FromTheOldAggregate upgrades a database in which the hourly view was itself a continuous aggregate, partly
// refreshed, over chunks that are partly compressed.
func TestMigrate_FromTheOldAggregate(t *testing.T) {
	const old = 4 // migrations
	db, list := emptyTimescale(t, slog.New(slog.DiscardHandler))
	applyAll(t, db, list[:old])
	begin := time.Now().Add(-30 * 24 * time.Hour).Truncate(time.Hour)
	var batch []*protocol.Record
	for seq := range uint64(300) { // three an hour
		batch = append(batch, &protocol.Record{
			Station: new("torino"), Spool: make([]byte, 8), Seq: new(seq + 1), Receiver: new("rx0"),
			Time: new(begin.Add(time.Duration(seq) * 20 * time.Minute).UnixNano()),
			Body: &protocol.Record_Measurement{Measurement: &protocol.Measurement{
				CenterHz: new(145e6), PowerDbfs: new(-30 - float32(seq%7)), NoiseFloorDbfsHz: new(float32(-100)), SnrDb: new(float32(seq % 5)),
			}},
		})
	}
	err := db.transact(t.Context(), func(tx *sql.Tx) error {
		for table, chunk := range hypertables() {
			if err := errors.Join(makeHypertable(t.Context(), tx, table, chunk), compress(t.Context(), tx, table)); err != nil {
				return err
			}
		}
		for _, statement := range []string{
			"DROP VIEW measurement_1h", oldAggregate,
			`SELECT add_continuous_aggregate_policy('measurement_1h', start_offset => interval '60 days',
				end_offset => interval '1 hour', schedule_interval => interval '1 hour')`,
		} {
			if _, err := tx.ExecContext(t.Context(), statement); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	store := func(records []*protocol.Record) {
		t.Helper()
		if _, _, err := db.Commit(t.Context(), begin.Add(time.Hour), records, nil); err != nil {
			t.Fatal(err)
		}
	}
	store(batch[:150])
	for _, statement := range []string{
		"CALL refresh_continuous_aggregate('measurement_1h', NULL, NULL)", "SELECT compress_chunk(show_chunks('measurement'))",
	} {
		if _, err := db.write.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	store(batch[150:200])
	before := hours(t, db)
	for _, want := range []int{len(list) - old, 0} {
		if n, err := db.Migrate(t.Context()); err != nil || n != want {
			t.Fatalf("applied %d, %v; want %d", n, err, want)
		}
		if after := hours(t, db); after != before || strings.Count(after, "\n") != 66 {
			t.Errorf("the hourly view was\n%s\nand is\n%s", before, after)
		}
	}
	var aggregates int
	err = db.read.QueryRowContext(t.Context(), "SELECT count(*) FROM timescaledb_information.continuous_aggregates WHERE view_schema = current_schema()").Scan(&aggregates)
	if err != nil || aggregates != len(rollups()) {
		t.Errorf("%d continuous aggregates, %v; want %d", aggregates, err, len(rollups()))
	}
	// It goes on from there: new rows count, refreshed or not, and what retention removes still does.
	store(batch)
	whole := hours(t, db)
	if !strings.HasPrefix(whole, before[:strings.LastIndex(before, "\n")]) || strings.Count(whole, "\n") != 99 {
		t.Errorf("the hourly view with later rows is\n%s", whole)
	}
	lease, err := db.TakeLease(t.Context(), "jobs", "test", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	removed, err := lease.RemoveRecords(t.Context(), protocol.KindMeasurement, protocol.Stream{Station: "torino"}, time.Hour, 170)
	if err != nil || removed != 170 {
		t.Fatalf("removed %d, %v", removed, err)
	}
	if after := hours(t, db); after != whole {
		t.Errorf("the hourly view was\n%s\nand is, with rows removed,\n%s", whole, after)
	}
	verdicts, err := db.Verify(t.Context(), "", true)
	if err != nil || len(verdicts) != 1 || !verdicts[0].OK() || verdicts[0].Stored != 130 || verdicts[0].Released != 170 {
		t.Errorf("%+v, %v", verdicts, err)
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
