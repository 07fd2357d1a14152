package store

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// Dump says what a backup of a database holds. Its rows are lines of JSON, one file a table, so that they outlive versions of
// servers; an SQLite database is one file as it is.
type Dump struct {
	Server    string        `json:"server"`    // PostgreSQL or SQLite
	Migration int           `json:"migration"` // of the tables
	Tables    []DumpedTable `json:"tables,omitempty"`
	Objects   int           `json:"objects"` // named in the list
}

// DumpedTable is one table of a Dump.
type DumpedTable struct {
	Name    string   `json:"name"`
	Columns []string `json:"columns"`
	Rows    int64    `json:"rows"`
}

const (
	sqliteName  = "heimdall.db"
	objectsName = "objects.jsonl"
	tableSuffix = ".jsonl.zst"
)

// DumpedObject is a line of the list of objects: what the archive held when the backup was made.
type DumpedObject struct {
	Key    string `json:"key"` // name without extension
	Bytes  int64  `json:"bytes"`
	SHA512 string `json:"sha512"` // of the samples
}

// Backup writes all that the database holds into files of a new folder, as it is at one moment. Collectors go on meanwhile.
func (db *DB) Backup(ctx context.Context, dir string) (Dump, error) {
	d, err := db.Describe(ctx)
	if err != nil {
		return Dump{}, err
	}
	dump := Dump{Server: d.Server, Migration: d.Migration}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return dump, fmt.Errorf("make the folder of a backup: %w", err)
	}
	if _, ok := db.backend.(postgresBackend); !ok {
		err := db.copyFile(ctx, dir, &dump)
		return dump, wrap(err, "back the database up")
	}
	tx, err := db.read.BeginTx(ctx, db.backend.snapshot())
	if err != nil {
		return dump, wrap(err, "back the database up")
	}
	defer func() { _ = tx.Rollback() }() // it only read
	if err := mayRest(ctx, tx); err != nil {
		return dump, wrap(err, "back the database up")
	}
	list, err := db.migrations()
	if err != nil {
		return dump, err
	}
	for _, name := range tablesOf(list[:d.Migration]) {
		t, err := db.dumpTable(ctx, tx, dir, name)
		if err != nil {
			return dump, wrap(err, "back table %s up", name)
		}
		dump.Tables = append(dump.Tables, t)
	}
	dump.Objects, err = db.dumpObjects(ctx, tx, dir)
	return dump, wrap(err, "list the objects")
}

// mayRest lets a transaction stand still, as it does while a disk takes a large file.
func mayRest(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, "SET LOCAL idle_in_transaction_session_timeout = 0")
	return err
}

// copyFile copies an SQLite database.
func (db *DB) copyFile(ctx context.Context, dir string, dump *Dump) error {
	path := filepath.Join(dir, sqliteName)
	if _, err := db.write.ExecContext(ctx, "VACUUM INTO ?", path); err != nil {
		return err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return err
	}
	copied, err := openSQLite(ctx, path, db.log)
	if err != nil {
		return err
	}
	dump.Objects, err = copied.dumpObjects(ctx, copied.read, dir)
	return errors.Join(err, copied.Close())
}

var (
	tableMade = regexp.MustCompile(`(?m)^CREATE TABLE (?:IF NOT EXISTS )?(\w+)`)
	viewMade  = regexp.MustCompile(`(?m)^CREATE (?:OR REPLACE )?VIEW (\w+)`)
)

// tablesOf are the tables that migrations make and a backup holds. Who has the lease is of the moment only.
func tablesOf(list []migration) []string { return slices.DeleteFunc(made(tableMade, list), isLease) }

func isLease(table string) bool { return table == "lease" }

// made lists the names that migrations make, in order.
func made(what *regexp.Regexp, list []migration) []string {
	var names []string
	for _, m := range list {
		for _, found := range what.FindAllStringSubmatch(m.sql, -1) {
			if !slices.Contains(names, found[1]) {
				names = append(names, found[1])
			}
		}
	}
	return names
}

// dumpTable writes the rows of a table as lines of JSON.
func (db *DB) dumpTable(ctx context.Context, tx *sql.Tx, dir, name string) (DumpedTable, error) {
	t := DumpedTable{Name: name}
	err := db.forEach(ctx, tx, `SELECT attname FROM pg_attribute WHERE attrelid = to_regclass($1::text) AND attnum > 0 AND NOT attisdropped ORDER BY attnum`,
		[]any{quoted(name)}, func(rows *sql.Rows) error {
			var column string
			err := rows.Scan(&column)
			t.Columns = append(t.Columns, column)
			return err
		})
	if err != nil {
		return t, err
	}
	err = writeFile(filepath.Join(dir, name+tableSuffix), func(w io.Writer) error {
		packed, err := zstd.NewWriter(w)
		if err != nil {
			return err
		}
		err = db.forEach(ctx, tx, "SELECT row_to_json(t)::text FROM "+quoted(name)+" AS t", nil, func(rows *sql.Rows) error {
			var line sql.RawBytes
			if err := rows.Scan(&line); err != nil {
				return err
			}
			t.Rows++
			_, err := packed.Write(append(line, '\n'))
			return err
		})
		return errors.Join(err, packed.Close())
	})
	return t, err
}

func (db *DB) dumpObjects(ctx context.Context, q querier, dir string) (n int, err error) {
	err = writeFile(filepath.Join(dir, objectsName), func(w io.Writer) error {
		encode := json.NewEncoder(w)
		return db.forEach(ctx, q, "SELECT key, bytes, sha512 FROM recording ORDER BY key", nil, func(rows *sql.Rows) error {
			var o DumpedObject
			if err := rows.Scan(&o.Key, &o.Bytes, &o.SHA512); err != nil {
				return err
			}
			n++
			return encode.Encode(o)
		})
	})
	return n, err
}

// writeFile makes a file, for its owner only, that is on disk when this returns.
func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	buffered := bufio.NewWriterSize(f, 1<<20)
	err = write(buffered)
	return errors.Join(err, buffered.Flush(), f.Sync(), f.Close())
}

// ReadObjects hands over the list of objects of a backup.
func ReadObjects(dir string, each func(DumpedObject) error) error {
	f, err := os.Open(filepath.Join(dir, objectsName))
	if err != nil {
		return fmt.Errorf("read the list of objects: %w", err)
	}
	defer f.Close()
	decode := json.NewDecoder(f)
	for {
		var o DumpedObject
		if err := decode.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read the list of objects: %w", err)
		}
		if err := each(o); err != nil {
			return err
		}
	}
}

func quoted(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

func (d Dump) String() string {
	if len(d.Tables) == 0 {
		return "an SQLite database"
	}
	var rows int64
	for _, t := range d.Tables {
		rows += t.Rows
	}
	return fmt.Sprintf("%d rows of %d tables", rows, len(d.Tables))
}
