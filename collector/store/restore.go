package store

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// ErrNotEmpty says that a database to restore into has tables already.
var ErrNotEmpty = errors.New("there are tables already")

// Restore fills the database at a URL from the files of a folder that Backup wrote. What is there goes first when replace says
// so, else it is refused with [ErrNotEmpty]. Restoring is done whole or not at all; newer migrations are applied afterwards.
func Restore(ctx context.Context, url, dir string, dump Dump, replace bool, log *slog.Logger) error {
	if path, ok := strings.CutPrefix(url, "sqlite:"); ok {
		if err := placeFile(path, filepath.Join(dir, sqliteName), dump, replace); err != nil {
			return fmt.Errorf("restore the database: %w", err)
		}
	}
	db, err := Open(ctx, url, log)
	if err != nil {
		return err
	}
	if _, ok := db.backend.(postgresBackend); ok {
		err = db.restore(ctx, dir, dump, replace)
	}
	if err == nil {
		_, err = db.Migrate(ctx)
	}
	return errors.Join(err, db.Close())
}

var errOtherServer = errors.New("the backup is of another kind of database")

// placeFile puts a copy of an SQLite database in its place.
func placeFile(path, from string, dump Dump, replace bool) error {
	if dump.Server != "SQLite" {
		return fmt.Errorf("%w: %s, and store.url names SQLite", errOtherServer, dump.Server)
	}
	if _, err := os.Stat(path); err == nil && !replace {
		return fmt.Errorf("%s: %w", path, ErrNotEmpty)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	if err := os.Remove(path + ".new"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	err = writeFile(path+".new", func(w io.Writer) error {
		_, err := io.Copy(w, source)
		return err
	})
	if err != nil {
		return err
	}
	for _, rest := range []string{"-wal", "-shm"} { // of the one that goes: they would be taken for the new one's
		if err := os.Remove(path + rest); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return os.Rename(path+".new", path)
}

// restore does all of it in one transaction.
func (db *DB) restore(ctx context.Context, dir string, dump Dump, replace bool) error {
	if dump.Server != "PostgreSQL" {
		return fmt.Errorf("restore the database: %w: %s, and store.url names PostgreSQL", errOtherServer, dump.Server)
	}
	list, err := db.migrations()
	if err == nil {
		err = known(dump.Migration, list)
	}
	if err != nil {
		return err
	}
	if err := db.prepareMigration(ctx); err != nil {
		return wrap(err, "restore the database")
	}
	db.createExtension(ctx)
	d, err := db.Describe(ctx)
	if err != nil {
		return err
	}
	if d.Migration > 0 && !replace {
		return fmt.Errorf("restore the database: %w", ErrNotEmpty)
	}
	err = db.transact(ctx, func(tx *sql.Tx) error {
		if err := mayRest(ctx, tx); err != nil {
			return err
		}
		if err := db.lockMigrations(ctx, tx); err != nil {
			return err
		}
		if err := db.dropAll(ctx, tx, d, list); err != nil {
			return err
		}
		for _, m := range list[:dump.Migration] {
			if err := db.apply(ctx, tx, m); err != nil {
				return wrap(err, "apply %s", m.name)
			}
		}
		return db.loadAll(ctx, tx, dir, dump, d.TimescaleVersion != "")
	})
	return wrap(err, "restore the database")
}

// dropAll removes the tables of a database that has some.
func (db *DB) dropAll(ctx context.Context, tx *sql.Tx, d Description, list []migration) error {
	if d.Migration == 0 {
		return nil
	}
	var working bool
	err := tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT FROM lease WHERE until > clock_timestamp())").Scan(&working)
	if err != nil && !noTable(err) {
		return err
	}
	if working {
		return stopError{errors.New("a collector works on this database: stop all that use it, and wait ten seconds after one that was killed")}
	}
	if err := dropAggregates(ctx, tx, d); err != nil {
		return err
	}
	for _, view := range made(viewMade, list) {
		if _, err := tx.ExecContext(ctx, "DROP VIEW IF EXISTS "+quoted(view)+" CASCADE"); err != nil {
			return err
		}
	}
	for _, table := range made(tableMade, list) {
		if _, err := tx.ExecContext(ctx, "DROP TABLE IF EXISTS "+quoted(table)); err != nil {
			return err
		}
	}
	_, err = tx.ExecContext(ctx, "DELETE FROM migration")
	return err
}

// dropAggregates removes the views that TimescaleDB makes something else of, and those over them.
func dropAggregates(ctx context.Context, tx *sql.Tx, d Description) error {
	if d.TimescaleVersion == "" {
		return nil
	}
	for _, up := range rollups() {
		there, err := aggregated(ctx, tx, up)
		if err != nil {
			return err
		}
		if !there {
			continue
		}
		for _, statement := range []string{"DROP VIEW " + up.views[0] + " CASCADE", "DROP MATERIALIZED VIEW " + up.present()} {
			if _, err := tx.ExecContext(ctx, statement); err != nil {
				return err
			}
		}
	}
	return nil
}

// loadAll fills the tables. What migrations put into them goes first.
func (db *DB) loadAll(ctx context.Context, tx *sql.Tx, dir string, dump Dump, timescale bool) error {
	for _, t := range dump.Tables {
		if chunk, ok := hypertables()[t.Name]; ok && timescale {
			if err := makeHypertable(ctx, tx, t.Name, chunk); err != nil {
				return wrap(err, "make %s a hypertable", t.Name)
			}
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM "+quoted(t.Name)); err != nil {
			return err
		}
		rows, err := loadTable(ctx, tx, filepath.Join(dir, t.Name+tableSuffix), t)
		if err != nil {
			return wrap(err, "fill table %s", t.Name)
		}
		if rows != t.Rows {
			return fmt.Errorf("fill table %s: the file has %d rows, and had %d", t.Name, rows, t.Rows)
		}
	}
	return nil
}

const (
	loadRows  = 1000
	loadBytes = 4 << 20
)

func loadTable(ctx context.Context, tx *sql.Tx, path string, t DumpedTable) (rows int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	unpacked, err := zstd.NewReader(f)
	if err != nil {
		return 0, err
	}
	defer unpacked.Close()
	columns := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		columns[i] = quoted(c)
	}
	names := strings.Join(columns, ", ")
	insert := fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM json_populate_recordset(NULL::%s, $1::json)", quoted(t.Name), names, names, quoted(t.Name))
	lines := bufio.NewReaderSize(unpacked, 1<<20)
	batch, count := []byte{}, int64(0)
	flush := func() error {
		if count == 0 {
			return nil
		}
		if _, err := tx.ExecContext(ctx, insert, "["+string(batch)+"]"); err != nil {
			return err
		}
		rows, count, batch = rows+count, 0, batch[:0]
		return nil
	}
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = flush()
			}
			return rows, err
		}
		if count > 0 {
			batch = append(batch, ',')
		}
		batch, count = append(batch, line[:len(line)-1]...), count+1
		if count == loadRows || len(batch) > loadBytes {
			if err := flush(); err != nil {
				return rows, err
			}
		}
	}
}
