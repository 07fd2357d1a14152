package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

//go:embed migrations
var migrationFiles embed.FS

// migration is one numbered file. A released one is never edited.
type migration struct {
	number int
	name   string
	sql    string
}

// migrationsFor reads the files of a back end, which must be numbered from 1 without holes.
func migrationsFor(folder string) ([]migration, error) {
	files, err := fs.Glob(migrationFiles, path.Join("migrations", folder, "*.sql"))
	if err != nil {
		return nil, err
	}
	list := make([]migration, 0, len(files))
	for _, file := range files { // sorted by name
		text, err := migrationFiles.ReadFile(file)
		if err != nil {
			return nil, err
		}
		name := strings.TrimSuffix(path.Base(file), ".sql")
		digits, _, _ := strings.Cut(name, "_")
		number, err := strconv.Atoi(digits)
		if err != nil || number != len(list)+1 {
			return nil, fmt.Errorf("migration %s: want number %d", file, len(list)+1)
		}
		list = append(list, migration{number: number, name: name, sql: string(text)})
	}
	return list, nil
}

// Migrate brings the tables up to date and tells how many migrations it applied. Any number of collectors may call it at
// once. On a server with TimescaleDB it makes the large tables hypertables, also when the extension came later than the
// tables. A database that a newer version has migrated gives a NewerError, one of
// another program an ErrForeign.
func (db *DB) Migrate(ctx context.Context) (applied int, err error) {
	list, err := db.migrations()
	if err != nil {
		return 0, fmt.Errorf("migrate: %w", err)
	}
	if err := db.prepareMigration(ctx); err != nil {
		return 0, wrap(err, "migrate")
	}
	err = db.transact(ctx, func(tx *sql.Tx) error {
		applied = 0
		if err := db.lockMigrations(ctx, tx); err != nil {
			return err
		}
		var newest int
		if err := db.queryRow(ctx, tx, "SELECT coalesce(max(number), 0) FROM migration").Scan(&newest); err != nil {
			return err
		}
		if err := known(newest, list); err != nil {
			return err
		}
		for _, m := range list[newest:] {
			if err := db.apply(ctx, tx, m); err != nil {
				return wrap(err, "apply %s", m.name)
			}
			applied++
		}
		return nil
	})
	if err != nil {
		return 0, wrap(err, "migrate")
	}
	if _, ok := db.backend.(postgresBackend); ok {
		if err := db.useTimescale(ctx); err != nil {
			return applied, wrap(err, "migrate")
		}
		db.grantReaders(ctx)
	}
	return applied, nil
}

// MayMigrate is the error, with the mend, of an account that may not make the tables that Migrate would make in a database
// of this description.
func (db *DB) MayMigrate(ctx context.Context, d Description) error {
	if _, ok := db.backend.(postgresBackend); !ok || d.Migration == d.Newest {
		return nil
	}
	return mayMakeTables(ctx, db.read)
}

// prepareMigration makes the table that records migrations where nothing has been migrated yet.
func (db *DB) prepareMigration(ctx context.Context) error {
	d, err := db.Describe(ctx)
	if err != nil {
		return err
	}
	if err := db.MayMigrate(ctx, d); err != nil || d.Migration > 0 {
		return err
	}
	return db.makeMigrationTable(ctx)
}

func (db *DB) apply(ctx context.Context, tx *sql.Tx, m migration) error {
	if _, err := tx.ExecContext(ctx, m.sql); tableThere(err) {
		return foreign(err)
	} else if err != nil {
		return err
	}
	_, err := db.exec(ctx, tx, "INSERT INTO migration (number, name, applied) VALUES ($1, $2, $3)", m.number, m.name, time.Now().UTC())
	return err
}

// lockMigrations keeps others out until the transaction ends.
func (db *DB) lockMigrations(ctx context.Context, tx *sql.Tx) error {
	if _, ok := db.backend.(postgresBackend); !ok {
		return nil // SQLite's transactions lock the file when they begin
	}
	_, err := tx.ExecContext(ctx, "LOCK TABLE migration IN EXCLUSIVE MODE")
	return err
}

// makeMigrationTable makes the table that records migrations.
func (db *DB) makeMigrationTable(ctx context.Context) error {
	_, err := db.write.ExecContext(ctx,
		"CREATE TABLE IF NOT EXISTS migration (number integer PRIMARY KEY, name text NOT NULL, applied timestamptz NOT NULL)")
	// Two that make it at once are not told apart by IF NOT EXISTS: one of them meets the other's row in PostgreSQL's own
	// tables, and then the table is there.
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && (pg.Code == "23505" || pg.Code == "42P07" || pg.Code == "42710") {
		return nil
	}
	return err
}

// migrations are those for the kind of database this is.
func (db *DB) migrations() ([]migration, error) {
	folder := "sqlite"
	if _, ok := db.backend.(postgresBackend); ok {
		folder = "postgres"
	}
	return migrationsFor(folder)
}

// NewerError says that a newer version has migrated the database: what this one would read of it need not be true. No
// number of attempts changes it.
type NewerError struct {
	Database int // number of the newest migration that was applied
	Known    int // number of the newest one that this version has
}

func (e *NewerError) Error() string {
	return fmt.Sprintf("the tables of this database are at migration %d, made by a newer heimdall-collector, and this one knows %d: "+
		"upgrade this collector, or restore the database from a backup made before", e.Database, e.Known)
}

// known refuses a database that a newer version has migrated, with a NewerError.
func known(newest int, list []migration) error {
	if newest > len(list) {
		return &Error{Class: ClassAll, Err: &NewerError{Database: newest, Known: len(list)}}
	}
	return nil
}

// migration is the number of the newest applied migration, which is one that is known; 0 in a database that has none.
func (db *DB) migration(ctx context.Context, list []migration) (int, error) {
	var n int
	err := db.queryRow(ctx, db.read, "SELECT coalesce(max(number), 0) FROM migration").Scan(&n)
	switch {
	case noColumn(err):
		return 0, foreign(err)
	case noTable(err):
		return 0, nil
	case err != nil:
		return 0, wrap(err, "ask for the newest migration")
	}
	return n, known(n, list)
}
