// Package store keeps what stations send, in TimescaleDB, in plain PostgreSQL or in an SQLite file.
//
// All three hold the same tables and views (see the numbered files in migrations) and pass the same tests. Writes may
// repeat: a record counts by its identity (station, spool, seq), which numbers of a spool are in is a row of the table
// spool, and that row is locked, read and updated in the transaction that adds the records. So any number of collectors
// may write at once and be killed at any moment.
//
// Times are UTC. A record's time is stored to the microsecond with the remaining nanoseconds beside it; other times are
// cut to microseconds. An absent field is NULL. NaN, which no valid record holds, is NULL on SQLite.
//
// On PostgreSQL nothing depends on a session: no LISTEN or advisory locks, and of settings only one that may be missing (a bound
// on idle transactions), so that poolers serve as well, and with
// default_query_exec_mode=exec in the URL those that share prepared statements and the WASM build of TimescaleDB. Many rows
// come by COPY, but not in that mode: the WASM build has none.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// DB is an open database. It is safe for concurrent use.
type DB struct {
	write   *sql.DB // SQLite: one connection, for SQLite has one writer
	read    *sql.DB
	backend backend
	tables  map[protocol.Kind]*table
	// chains tells that one statement may insert into several tables.
	chains bool
	log    *slog.Logger
	close  func()
}

// backend is what differs between the databases. SQL is written once, as PostgreSQL spells it.
type backend interface {
	// statement turns SQL and its arguments into the database's own.
	statement(query string, args []any) (string, []any)
	// list makes lists of equal length (of string, []byte, int64, float64 or time.Time, or pointers to string or time.Time, nil
	// for NULL) the rows of a table: a FROM item named list with the columns c1, c2, ..., whose parameters are numbered from first on.
	list(first int, columns ...any) (from string, args []any)
	// insert adds rows to a table unless they are there, and says nothing about those that are.
	insert(ctx context.Context, tx transaction, t *table, rows []*entry) error
	// snapshot opens a transaction that sees one state of all tables.
	snapshot() *sql.TxOptions
	// describe fills in what kind of server it is.
	describe(ctx context.Context, db *sql.DB, d *Description) error
}

// Open opens the database at a URL: postgres://user@host/database, with the parameters of pgx, or sqlite:PATH.
//
// A PostgreSQL server that does not answer is no error here but in the calls that need it. An SQLite file is made when
// it is missing, readable by its owner only.
func Open(ctx context.Context, url string, log *slog.Logger) (*DB, error) {
	scheme, rest, _ := strings.Cut(url, ":")
	switch scheme {
	case "postgres", "postgresql":
		return openPostgres(ctx, url, log)
	case "sqlite":
		return openSQLite(ctx, rest, log)
	}
	return nil, fmt.Errorf("open store: %w", errScheme)
}

var errScheme = errors.New("want postgres://user@host/database or sqlite:PATH")

// Valid is the error of a URL that Open can never open, whatever answers there. It shows no password.
func Valid(url string) error {
	scheme, rest, _ := strings.Cut(url, ":")
	switch scheme {
	case "postgres", "postgresql":
		_, err := parsePostgres(url)
		return err
	case "sqlite":
		return namesFile(rest)
	}
	return errScheme
}

// OpenExisting is Open for who only looks: it makes nothing. An SQLite file that is not there gives an error matching
// [fs.ErrNotExist].
func OpenExisting(ctx context.Context, url string, log *slog.Logger) (*DB, error) {
	if path, ok := strings.CutPrefix(url, "sqlite:"); ok {
		if _, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("open store: %w", err)
		}
	}
	return Open(ctx, url, log)
}

// Close waits for running calls and closes the connections.
func (db *DB) Close() error {
	err := errors.Join(db.read.Close(), db.write.Close())
	db.close()
	if err != nil {
		return fmt.Errorf("close store: %w", err)
	}
	return nil
}

// Ping asks the database for an answer.
func (db *DB) Ping(ctx context.Context) error {
	var one int
	return wrap(db.queryRow(ctx, db.read, "SELECT 1").Scan(&one), "ask the database")
}

// Description says what the database is.
type Description struct {
	Server           string // PostgreSQL or SQLite
	Version          string
	TimescaleVersion string // empty without the extension
	TimescaleEdition string // timescale, or apache, which has neither compression nor continuous aggregates
	Migration        int    // number of the newest applied migration
	Newest           int    // number of the newest one that this version has
}

func (d Description) String() string {
	s := d.Server + " " + d.Version
	if d.TimescaleVersion != "" {
		s += fmt.Sprintf(" with TimescaleDB %s (%s edition)", d.TimescaleVersion, d.TimescaleEdition)
	}
	return s
}

// Describe asks the database what it is. It works before Migrate.
func (db *DB) Describe(ctx context.Context) (Description, error) {
	var d Description
	if err := db.backend.describe(ctx, db.read, &d); err != nil {
		return d, wrap(err, "ask for the version of the database")
	}
	list, err := db.migrations()
	if err != nil {
		return d, err
	}
	d.Newest = len(list)
	d.Migration, err = db.migration(ctx, list)
	return d, err
}

// querier is a connection pool or a transaction.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func (db *DB) exec(ctx context.Context, q querier, query string, args ...any) (sql.Result, error) {
	query, args = db.backend.statement(query, args)
	return q.ExecContext(ctx, query, args...)
}

func (db *DB) queryRow(ctx context.Context, q querier, query string, args ...any) *sql.Row {
	query, args = db.backend.statement(query, args)
	return q.QueryRowContext(ctx, query, args...)
}

// forEach runs a query and calls scan for each row.
func (db *DB) forEach(ctx context.Context, q querier, query string, args []any, scan func(rows *sql.Rows) error) error {
	query, args = db.backend.statement(query, args)
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // rows.Err tells what went wrong
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// attempts is how often a transaction is run that others stood in the way of.
const attempts = 8

// transaction is a transaction with its connection, for what database/sql has no words for.
type transaction struct {
	*sql.Tx
	conn *sql.Conn
	// copies tells that rows known to be new may come by COPY, which fails where one of them is there after all.
	copies bool
}

// stopError carries a caller's own error through a transaction.
type stopError struct{ err error }

func (e stopError) Error() string { return e.err.Error() }

// transact runs work in a transaction, and again after a pause when it collided with another one.
func (db *DB) transact(ctx context.Context, work func(tx *sql.Tx) error) error {
	return db.transactOn(ctx, func(tx transaction) error { return work(tx.Tx) })
}

func (db *DB) transactOn(ctx context.Context, work func(tx transaction) error) error {
	return again(ctx, func() error { return db.once(ctx, work) })
}

// again runs a transaction, and again after a pause when it collided with another one.
func again(ctx context.Context, transaction func() error) error {
	for attempt := 1; ; attempt++ {
		err := transaction()
		if err == nil || !collided(err) || attempt == attempts {
			return err
		}
		pause := time.NewTimer(rand.N(10 * time.Millisecond << attempt))
		select {
		case <-ctx.Done():
			pause.Stop()
			return ctx.Err()
		case <-pause.C:
		}
	}
}

func (db *DB) once(ctx context.Context, work func(tx transaction) error) error {
	conn, err := db.write.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // gives it back to the pool
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := work(transaction{Tx: tx, conn: conn}); err != nil {
		// The connection may be what failed; then the server rolls back by itself.
		_ = tx.Rollback()
		return err
	}
	return tx.Commit()
}

// micros is the part of a time that a database keeps, and the nanoseconds beyond it (0 to 999).
func micros(ns int64) (t time.Time, rest int16) {
	us, rest64 := ns/1000, ns%1000
	if rest64 < 0 {
		us, rest64 = us-1, rest64+1000
	}
	return time.UnixMicro(us).UTC(), int16(rest64)
}

// scanTime reads a time from either database; NULL leaves it zero.
type scanTime struct{ to *time.Time }

func (s scanTime) Scan(v any) error {
	switch v := v.(type) {
	case nil:
		*s.to = time.Time{}
	case time.Time:
		*s.to = v.UTC()
	case int64:
		*s.to = time.UnixMicro(v).UTC()
	default:
		return fmt.Errorf("a time comes as %T", v)
	}
	return nil
}

// scanRanges reads a set of numbers from its text; NULL is the empty set.
type scanRanges struct{ to *protocol.Ranges }

func (s scanRanges) Scan(v any) error {
	var text string
	switch v := v.(type) {
	case nil:
		*s.to = nil
		return nil
	case string:
		text = v
	case []byte:
		text = string(v)
	default:
		return fmt.Errorf("a set of numbers comes as %T", v)
	}
	var err error
	*s.to, err = protocol.ParseMultirange(text)
	return err
}

// placeholder is the mark of parameter n, from 1.
func placeholder(n int) string { return "$" + strconv.Itoa(n) }
