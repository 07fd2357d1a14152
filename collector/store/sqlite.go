package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	_ "modernc.org/sqlite" // registers the driver
)

// busyTimeout is how long a statement waits for another process's transaction.
const busyTimeout = 10 * time.Second

// sqliteReaders is how many queries run at once.
const sqliteReaders = 4

func openSQLite(ctx context.Context, path string, log *slog.Logger) (*DB, error) {
	if err := namesFile(path); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err := makePrivate(path); err != nil {
		return nil, fmt.Errorf("store.url: %w; name a file that this account may make", err)
	}
	db := &DB{backend: sqliteBackend{}, tables: tables(), log: log, close: func() {}}
	pragmas := url.Values{
		"_busy_timeout": {fmt.Sprint(busyTimeout.Milliseconds())},
		"_journal_mode": {"WAL"},
		"_synchronous":  {"FULL"},
		"_txlock":       {"immediate"},
		"_dqs":          {"false"},
	}
	if db.write, err = sql.Open("sqlite", sqliteURI(path, pragmas)); err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	db.write.SetMaxOpenConns(1)
	pragmas.Set("_query_only", "true")
	pragmas.Set("_txlock", "deferred")
	if db.read, err = sql.Open("sqlite", sqliteURI(path, pragmas)); err != nil {
		return nil, errors.Join(fmt.Errorf("open store %s: %w", path, err), db.write.Close())
	}
	db.read.SetMaxOpenConns(sqliteReaders)
	// The writer goes first: it makes the file a database in WAL mode.
	if err := errors.Join(pingPatiently(ctx, db.write), pingPatiently(ctx, db.read)); err != nil {
		return nil, errors.Join(wrap(err, "open %s, the file in store.url", path), db.Close())
	}
	return db, nil
}

// namesFile refuses a path that SQLite would take for something else than a file.
func namesFile(path string) error {
	if path == "" || strings.HasPrefix(path, ":") {
		return fmt.Errorf("sqlite:%s: name a file, as in sqlite:heimdall.db", path)
	}
	return nil
}

// pingPatiently opens a connection. Changing a file to WAL mode does not wait for others that do the same, so it is
// tried until the time for waiting is over.
func pingPatiently(ctx context.Context, db *sql.DB) error {
	ctx, cancel := context.WithTimeout(ctx, busyTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := db.PingContext(ctx)
		if !collided(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// makePrivate makes the file and its folder, for their owner only: the database holds where stations truly are.
func makePrivate(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// sqliteURI is the file as a URI, because a path may hold what SQLite would take for parameters.
func sqliteURI(path string, parameters url.Values) string {
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // C:/… on Windows
	}
	u := url.URL{Scheme: "file", Path: path, RawQuery: parameters.Encode()}
	return u.String()
}

// sqliteBackend speaks SQLite.
type sqliteBackend struct{}

var (
	parameter = regexp.MustCompile(`\$(\d+)`)
	typeCast  = regexp.MustCompile(`::[a-z0-9]+(\[\])?`)
)

func (sqliteBackend) statement(query string, args []any) (string, []any) {
	query = parameter.ReplaceAllString(query, "?$1")
	query = typeCast.ReplaceAllString(query, "")
	query = strings.ReplaceAll(query, " FOR UPDATE", "") // one writer at a time needs no lock on rows
	query = strings.ReplaceAll(query, "clock_timestamp()", "CAST(unixepoch('subsec') * 1000000 AS INTEGER)")
	out := make([]any, len(args))
	for i, a := range args {
		out[i] = sqliteValue(a)
	}
	return query, out
}

// sqliteValue is a value as SQLite holds it: times are microseconds.
func sqliteValue(v any) any {
	switch v := v.(type) {
	case time.Time:
		return v.UnixMicro()
	case *time.Time:
		if v == nil {
			return nil
		}
		return v.UnixMicro()
	}
	return v
}

func (sqliteBackend) list(first int, columns ...any) (from string, args []any) {
	var rows [][]any
	selected := make([]string, len(columns))
	for i, c := range columns {
		extract := fmt.Sprintf("json_extract(value, '$[%d]')", i)
		var cells []any
		switch c := c.(type) {
		case []string:
			cells = anys(c)
		case []*string:
			cells = anys(c)
		case []int64:
			cells = anys(c)
		case []float64:
			cells = anys(c)
		case []time.Time:
			cells = anys(c)
		case []*time.Time:
			cells = anys(c)
		case [][]byte:
			extract = "unhex(" + extract + ")"
			for _, b := range c {
				cells = append(cells, hex.EncodeToString(b))
			}
		}
		selected[i] = fmt.Sprintf("%s AS c%d", extract, i+1)
		if rows == nil {
			rows = make([][]any, len(cells))
		}
		for j, cell := range cells {
			rows[j] = append(rows[j], sqliteValue(cell))
		}
	}
	if rows == nil {
		rows = [][]any{}
	}
	text, err := json.Marshal(rows)
	if err != nil { // strings and whole numbers always have a JSON form
		panic(err)
	}
	return fmt.Sprintf("(SELECT %s FROM json_each($%d)) AS list", strings.Join(selected, ", "), first), []any{string(text)}
}

func anys[T any](s []T) []any {
	out := make([]any, len(s))
	for i, v := range s {
		out[i] = v
	}
	return out
}

func (sqliteBackend) insert(ctx context.Context, tx transaction, t *table, rows []*entry) error {
	columns, err := t.columns(rows)
	if err != nil {
		return err
	}
	names, marks := make([]string, len(columns)), make([]string, len(columns))
	for i, c := range columns {
		names[i], marks[i] = `"`+c.name+`"`, "?"
	}
	statement, err := tx.PrepareContext(ctx, fmt.Sprintf("INSERT INTO %s (%s) VALUES (%s) ON CONFLICT DO NOTHING",
		t.name, strings.Join(names, ", "), strings.Join(marks, ", ")))
	if err != nil {
		return err
	}
	defer func() { _ = statement.Close() }() // the transaction's own errors say more
	args := make([]any, len(columns))
	for row := range columns[0].values.len() {
		for i, c := range columns {
			args[i] = sqliteValue(c.values.at(row))
		}
		if _, err := statement.ExecContext(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// Every transaction of SQLite sees one state.
func (sqliteBackend) snapshot() *sql.TxOptions { return nil }

func (sqliteBackend) describe(ctx context.Context, db *sql.DB, d *Description) error {
	d.Server = "SQLite"
	return db.QueryRowContext(ctx, "SELECT sqlite_version()").Scan(&d.Version)
}
