package store

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fulgidus/heimdall/protocol"
)

func TestError_IsOneLine(t *testing.T) {
	err := wrap(errors.New("cannot connect:\n\t127.0.0.1:1: refused\n\t[::1]:1: refused\nend"), "migrate")
	if want := "migrate: cannot connect: 127.0.0.1:1: refused, [::1]:1: refused end"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

func TestClassify(t *testing.T) {
	for code, want := range map[string]struct{ statement, data Class }{
		"08006": {ClassTransient, ClassTransient}, // connection failure
		"40001": {ClassTransient, ClassTransient}, // serialization failure
		"53100": {ClassTransient, ClassTransient}, // disk full
		"57P01": {ClassTransient, ClassTransient}, // administrator's shutdown
		"25006": {ClassTransient, ClassTransient}, // read only, as after a failover
		"42P05": {ClassTransient, ClassTransient}, // a pooler's other session
		"XX000": {ClassTransient, ClassTransient}, // internal
		"22021": {ClassAll, ClassRecord},          // character not in repertoire
		"22003": {ClassAll, ClassRecord},          // numeric value out of range
		"23514": {ClassAll, ClassRecord},          // check violation
		"54000": {ClassAll, ClassRecord},          // program limit exceeded
		"42P01": {ClassAll, ClassAll},             // undefined table
		"42501": {ClassAll, ClassAll},             // insufficient privilege
		"28P01": {ClassAll, ClassAll},             // invalid password
		"3D000": {ClassAll, ClassAll},             // no such database
	} {
		cause := fmt.Errorf("somewhere: %w", &pgconn.PgError{Code: code})
		for what, err := range map[string]error{"statement": wrap(cause, "work"), "data": wrapData(cause, "work")} {
			own, ok := errors.AsType[*Error](err)
			expected := want.statement
			if what == "data" {
				expected = want.data
			}
			if !ok || own.Class != expected || own.Transient() != (expected == ClassTransient) || own.OneRecord() != (expected == ClassRecord) {
				t.Errorf("%s of %s: %v, want %v", code, what, own.Class, expected)
			}
			if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != code {
				t.Errorf("%s: the server's own error is lost", code)
			}
		}
	}
	if wrap(nil, "work") != nil || wrapData(nil, "work") != nil {
		t.Error("no error became one")
	}
	if err := wrap(ErrNotFound, "station %s", "x"); !errors.Is(err, fs.ErrNotExist) || classOf(err) != "" {
		t.Errorf("not found: %v", err)
	}
	for class, want := range map[Class]string{ClassRecord: "permanent for one record", ClassAll: "permanent for all", 7: "class 7"} {
		if class.String() != want {
			t.Errorf("class %d is %q, want %q", int(class), class, want)
		}
	}
}

// classOf is the class of an [Error]; empty when err is none.
func classOf(err error) string {
	if own, ok := errors.AsType[*Error](err); ok {
		return own.Class.String()
	}
	return ""
}

// TestClassify_SQLite asks a real SQLite for its errors.
func TestClassify_SQLite(t *testing.T) {
	db, err := Open(t.Context(), "sqlite:"+t.TempDir()+"/db", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	run := func(q querier, query string) error {
		_, err := q.ExecContext(t.Context(), query)
		return err
	}
	if err := run(db.write, "CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT NOT NULL) STRICT"); err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]Class{
		"INSERT INTO t VALUES (1, NULL)":  ClassRecord,
		"INSERT INTO t VALUES (1, x'00')": ClassRecord,
		"INSERT INTO nowhere VALUES (1)":  ClassAll,
		"SELECT FROM":                     ClassAll,
	} {
		if got := classify(wrapData(run(db.write, query), "work")); got != want {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
	if got := classify(wrap(run(db.read, "DELETE FROM t"), "work")); got != ClassTransient {
		t.Errorf("read only: %v, want transient", got)
	}
	// Another process that writes for too long.
	other, err := sql.Open("sqlite", "file:"+t.TempDir()+"/db2?_busy_timeout=1&_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	tx, err := other.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	if err := run(other, "CREATE TABLE t (a)"); !collided(err) || classify(err) != ClassTransient {
		t.Errorf("busy: %v, want a collision", err)
	}
	waiting := &DB{write: other}
	began := time.Now()
	if err := waiting.transact(t.Context(), func(*sql.Tx) error { return nil }); !collided(err) {
		t.Errorf("transact: %v, want a collision", err)
	}
	if took := time.Since(began); took < 8*time.Millisecond {
		t.Errorf("%d attempts took only %v", attempts, took)
	}
}

// TestScan_Refuses reads columns that hold what they never should.
func TestScan_Refuses(t *testing.T) {
	var at time.Time
	var ranges protocol.Ranges
	var ns *int64
	for name, err := range map[string]error{
		"time":        scanTime{&at}.Scan("x"),
		"nanoseconds": scanNanos{&ns}.Scan("x"),
		"rest":        addNanos{new(protocol.Record)}.Scan(int64(1)),
		"ranges":      scanRanges{&ranges}.Scan(1.5),
		"range text":  scanRanges{&ranges}.Scan([]byte("x")),
		"text":        scanText(nil).Scan(1.5),
		"levels":      scanLevels{new(protocol.Spectrum)}.Scan("x"),
		"flags":       flagsTarget().Scan("x"),
		"flag":        flagsTarget().Scan(`["no_such"]`),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for name, scan := range map[string]sql.Scanner{
		"time": scanTime{&at}, "nanoseconds": scanNanos{&ns}, "ranges": scanRanges{&ranges}, "text": scanText(nil), "levels": scanLevels{nil},
	} {
		if err := scan.Scan(nil); err != nil {
			t.Errorf("NULL in %s: %v", name, err)
		}
	}
}

func flagsTarget() sql.Scanner {
	rec, _ := measurementTable().targets()
	f := flagsField((*protocol.Record).GetMeasurement, func(m *protocol.Measurement) *[]protocol.Flag { return &m.Flags })
	scanner, _ := f.target(rec).(sql.Scanner)
	return scanner
}
