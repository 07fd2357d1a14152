package store_test

import (
	"database/sql"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

// newestMigration is the number of the last file in migrations.
const newestMigration = 16

// server is one database that a case of the suite has for itself.
type server struct {
	url string
	raw *sql.DB // beside the store, to look at and to damage the tables
}

// sqlite tells whether the server is SQLite: its types differ.
func (s *server) sqlite() bool { return strings.HasPrefix(s.url, "sqlite:") }

// open opens the database as one more collector would, and migrates it.
func (s *server) open(t testing.TB) *store.DB {
	t.Helper()
	db := s.openUnmigrated(t)
	if _, err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return db
}

func (s *server) openUnmigrated(t testing.TB) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), s.url, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// exec runs SQL beside the store.
func (s *server) exec(t testing.TB, query string, args ...any) {
	t.Helper()
	if _, err := s.raw.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// number is the single number that SQL gives.
func (s *server) number(t testing.TB, query string, args ...any) int64 {
	t.Helper()
	var n sql.NullInt64
	if err := s.raw.QueryRowContext(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n.Int64
}

func newServer(t testing.TB, driver, dsn, url string) *server {
	t.Helper()
	raw, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	return &server{url: url, raw: raw}
}

// migrated makes the tables in a database, and leaves it.
func migrated(t testing.TB, s *server) *server {
	t.Helper()
	db, err := store.Open(t.Context(), s.url, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.Migrate(t.Context())
	if err := errors.Join(err, db.Close(), s.raw.Close()); err != nil {
		t.Fatal(err)
	}
	return s
}

func sqliteServer(t testing.TB) *server {
	t.Helper()
	// A name with all that a URI gives a meaning to.
	path := filepath.Join(t.TempDir(), "höhle 100%?a=b#c", "heimdall.db")
	s := newServer(t, "sqlite", "file:"+strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(path)+"?_busy_timeout=10000", "sqlite:"+path)
	return s
}

// path is the file of a SQLite database.
func (s *server) path() string { return strings.TrimPrefix(s.url, "sqlite:") }

// migratedSQLite is the file of a database with the tables and without rows, to make others from it.
func migratedSQLite(t testing.TB) []byte {
	t.Helper()
	file, err := os.ReadFile(migrated(t, sqliteServer(t)).path())
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// begin makes the file of a SQLite database that is not there yet.
func (s *server) begin(t testing.TB, file []byte) *server {
	t.Helper()
	if err := errors.Join(os.Mkdir(filepath.Dir(s.path()), 0o700), os.WriteFile(s.path(), file, 0o600)); err != nil {
		t.Fatal(err)
	}
	return s
}

func postgresServer(t testing.TB) *server {
	t.Helper()
	url := servers.Postgres(t)
	return newServer(t, "pgx", url, url)
}

func timescaleServer(t testing.TB) *server {
	t.Helper()
	url := servers.TimescaleDB(t)
	return newServer(t, "pgx", url, url)
}

// suite is what every database must do.
func suite() map[string]func(t *testing.T, s *server) {
	return map[string]func(t *testing.T, s *server){
		"Migrate":           testMigrate,
		"MigrateTogether":   testMigrateTogether,
		"RoundTrip":         testRoundTrip,
		"Repeats":           testRepeats,
		"Shuffled":          testShuffled,
		"Conflicts":         testConflicts,
		"Gaps":              testGaps,
		"OpenGap":           testOpenGap,
		"Pending":           testPending,
		"Rejections":        testRejections,
		"RejectionLimit":    testRejectionLimit,
		"VerifyLooksAtRows": testVerifyLooksAtRows,
		"TwoCollectors":     testTwoCollectors,
		"Interrupted":       testInterrupted,
		"AllOrNothing":      testAllOrNothing,
		"BigBatch":          testBigBatch,
		"ManyRoundTrip":     testManyRoundTrip,
		"UnknownRows":       testUnknownRows,
		"LateData":          testLateData,
		"Acks":              testAcks,
		"Hostile":           testHostile,
		"Filters":           testFilters,
		"BadFilters":        testBadFilters,
		"Pages":             testPages,
		"Arrivals":          testArrivals,
		"Detection":         testDetection,
		"Stations":          testStations,
		"MissStations":      testMissStations,
		"WebSDRs":           testWebSDRs,
		"Acquisitions":      testAcquisitions,
		"ConcurrentUpdates": testConcurrentUpdates,
		"UpdatesTogether":   testUpdatesTogether,
		"Captures":          testCaptures,
		"Views":             testViews,
		"Backup":            testBackup,
		"Deflated":          testDeflated,
		"Away":              testAway,
		"Broken":            testBroken,
		"Lease":             testLease,
		"LeaseOfOne":        testLeaseOfOne,
		"Retention":         testRetention,
		"RemoveRecordings":  testRemoveRecordings,
		"RemoveRejected":    testRemoveRejected,
		"RemoveAudit":       testRemoveAudit,
		"Audit":             testAudit,
		"AuditPages":        testAuditPages,
		"Tokens":            testTokens,
		"Enrolment":         testEnrolment,
		"RevokeRace":        testRevokeRace,
		"ShownRevoked":      testShownRevoked,
		"Accounts":          testAccounts,
		"BadTokens":         testBadTokens,
		"Suspensions":       testSuspensions,
		"RetireSpool":       testRetireSpool,
		"Holes":             testHoles,
		"Inventory":         testInventory,
		"Hours":             testHours,
	}
}

// makesTables tells whether a case begins with a database without tables. The others do not care, and making them takes long.
func makesTables(name string) bool { return strings.HasPrefix(name, "Migrate") }

func TestSQLite(t *testing.T) {
	t.Parallel()
	tables := migratedSQLite(t)
	for name, test := range suite() {
		t.Run(name, func(t *testing.T) {
			s := sqliteServer(t)
			if !makesTables(name) {
				s.begin(t, tables)
			}
			test(t, s)
		})
	}
}

func TestPostgreSQL(t *testing.T) {
	t.Parallel()
	tables := migrated(t, postgresServer(t)).url
	for name, test := range suite() {
		t.Run(name, func(t *testing.T) {
			if makesTables(name) {
				test(t, postgresServer(t))
				return
			}
			url := servers.PostgresLike(t, tables)
			test(t, newServer(t, "pgx", url, url))
		})
	}
}

func TestTimescaleDB(t *testing.T) {
	t.Parallel() // the database is another process, and works for one client at a time
	s := timescaleServer(t)
	for name, test := range suite() {
		t.Run(name, func(t *testing.T) {
			s.empty(t)
			test(t, s)
		})
	}
}

// empty removes all tables and views of the database but those of extensions.
func (s *server) empty(t *testing.T) {
	t.Helper()
	s.exec(t, `DO $$ DECLARE r record; BEGIN
		FOR r IN SELECT view_name AS name FROM timescaledb_information.continuous_aggregates LOOP
			EXECUTE format('DROP MATERIALIZED VIEW %I CASCADE', r.name);
		END LOOP;
		FOR r IN SELECT viewname AS name FROM pg_views WHERE schemaname = current_schema() LOOP
			EXECUTE format('DROP VIEW IF EXISTS %I CASCADE', r.name);
		END LOOP;
		FOR r IN SELECT tablename AS name FROM pg_tables WHERE schemaname = current_schema() LOOP
			EXECUTE format('DROP TABLE IF EXISTS %I CASCADE', r.name);
		END LOOP;
	END $$`)
}

// t0 is when the records of these tests begin: a time with nanoseconds.
var t0 = time.Date(2026, 11, 24, 2, 0, 0, 123456789, time.UTC)

// received is when they arrive.
var received = t0.Add(2 * time.Second)

func spoolOf(b byte) []byte { return []byte{b, 0xff, 0, 0x27, 4, 5, 6, b} }

func streamOf(station string, b byte) protocol.Stream {
	return protocol.Stream{Station: station, Spool: [8]byte(spoolOf(b))}
}

// measurement makes record seq of spool b of a station, a second after the one before it.
func measurement(station string, b byte, seq uint64) *protocol.Record {
	return &protocol.Record{
		Station: new(station), Spool: spoolOf(b), Seq: new(seq), Time: new(t0.Add(time.Duration(seq) * time.Second).UnixNano()),
		Receiver: new("rx0"), Step: new("2m"), TimeQuality: protocol.TimeQuality_TIME_QUALITY_NTP.Enum(), TimeUncertaintyS: new(0.001),
		Body: &protocol.Record_Measurement{Measurement: &protocol.Measurement{
			DurationS: new(1.0), CenterHz: new(145.5e6), SampleRateHz: new(2.4e6), Samples: new(uint64(2400000)),
			PowerDbfs: new(float32(-38.2)), NoiseFloorDbfsHz: new(float32(-104.1)), SnrDb: new(float32(27.9)),
			Flags: []protocol.Flag{protocol.Flag_FLAG_CLIPPED, protocol.Flag_FLAG_OVERLOAD},
		}},
	}
}

// measurements makes records from..to of spool b of a station.
func measurements(station string, b byte, from, to uint64) []*protocol.Record {
	var list []*protocol.Record
	for seq := from; seq <= to; seq++ {
		list = append(list, measurement(station, b, seq))
	}
	return list
}

// commit stores records and fails the test when it cannot.
func commit(t testing.TB, db *store.DB, records ...*protocol.Record) ([]bool, map[protocol.Stream]*protocol.Ack) {
	t.Helper()
	fresh, acks, err := db.Commit(t.Context(), received, records, nil)
	if err != nil {
		t.Fatal(err)
	}
	return fresh, acks
}

// settled is what an acknowledgement says as text.
func settled(a *protocol.Ack) string { return protocol.RangesOf(a.GetSettled()).String() }

// verdict is the one of a stream.
func verdict(t testing.TB, db *store.DB, stream protocol.Stream, final bool) store.Verdict {
	t.Helper()
	all, err := db.Verify(t.Context(), stream.Station, final)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range all {
		if v.Station == stream.Station && v.Spool == stream.Spool {
			return v
		}
	}
	t.Fatalf("no verdict on %v", stream)
	return store.Verdict{}
}
