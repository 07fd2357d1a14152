package store

import (
	"context"
	"database/sql"
	"time"
)

// Inventory is how large the database is, and how it came to be what it is.
type Inventory struct {
	Migrations []AppliedMigration
	Tables     []TableSize // the largest first
}

// AppliedMigration is a row of the table of migrations.
type AppliedMigration struct {
	Number  int
	Name    string
	Applied time.Time
}

// TableSize is how much a table takes with its indexes.
type TableSize struct {
	Name  string
	Bytes int64
	Rows  int64 // roughly; -1 when nobody knows
}

// Inventory looks at the database without reading its rows. With an error it says what it has.
func (db *DB) Inventory(ctx context.Context) (Inventory, error) {
	var v Inventory
	err := db.forEach(ctx, db.read, "SELECT number, name, applied FROM migration ORDER BY number", nil, func(rows *sql.Rows) error {
		var m AppliedMigration
		err := rows.Scan(&m.Number, &m.Name, scanTime{&m.Applied})
		v.Migrations = append(v.Migrations, m)
		return err
	})
	if err != nil {
		return v, wrap(err, "list migrations")
	}
	query, err := db.sizesQuery(ctx)
	if err != nil {
		return v, err
	}
	err = db.forEach(ctx, db.read, query, nil, func(rows *sql.Rows) error {
		var t TableSize
		err := rows.Scan(&t.Name, &t.Bytes, &t.Rows)
		v.Tables = append(v.Tables, t)
		return err
	})
	return v, wrap(err, "ask for the sizes of tables")
}

// sizesQuery asks for name, bytes and rows of each table of this database.
func (db *DB) sizesQuery(ctx context.Context) (string, error) {
	if _, ok := db.backend.(postgresBackend); !ok {
		// The pages of an index count for its table. All of the file is read for it.
		return `SELECT t.name, coalesce(sum(s.bytes), 0) AS bytes, -1
			FROM sqlite_schema AS t JOIN sqlite_schema AS part ON part.tbl_name = t.name
			LEFT JOIN (SELECT name, sum(pgsize) AS bytes FROM dbstat GROUP BY name) AS s ON s.name = part.name
			WHERE t.type = 'table' GROUP BY t.name ORDER BY bytes DESC, t.name`, nil
	}
	const plain = `SELECT relname::text AS name, pg_total_relation_size(oid) AS bytes, reltuples::bigint AS rows
		FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')`
	d, err := db.Describe(ctx)
	if err != nil || d.TimescaleVersion == "" {
		return plain + " ORDER BY bytes DESC, name", err
	}
	// What is in a hypertable is in its chunks.
	return `WITH hyper AS (SELECT hypertable_name::text AS name, format('%I.%I', hypertable_schema, hypertable_name)::regclass AS id
			FROM timescaledb_information.hypertables WHERE hypertable_schema = current_schema())
		SELECT name, bytes, rows FROM (` + plain + ` AND relname::text NOT IN (SELECT name FROM hyper)
			UNION ALL SELECT name, coalesce(hypertable_size(id), 0), approximate_row_count(id) FROM hyper) AS size
		ORDER BY bytes DESC, name`, nil
}
