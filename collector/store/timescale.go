package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// hypertables are the large tables and the span of time of one chunk, chosen so that a chunk and its indexes fit in
// memory at some dozen stations.
func hypertables() map[string]string {
	return map[string]string{"measurement": "7 days", "spectrum": "1 day", "detection": "7 days", "health": "30 days"}
}

// compressAfter is longer than most outages, since late records make a compressed chunk partly uncompressed again.
const compressAfter = "14 days"

// useTimescale makes hypertables where the extension is, and says in one line what is missing where it is not.
func (db *DB) useTimescale(ctx context.Context) error {
	db.createExtension(ctx)
	d, err := db.Describe(ctx)
	if err != nil {
		return err
	}
	if d.TimescaleVersion == "" {
		db.log.LogAttrs(ctx, slog.LevelWarn, "no TimescaleDB here: everything works but compression and continuous aggregates",
			slog.String("server", d.String()))
		return nil
	}
	return db.useEdition(ctx, d)
}

// useEdition makes hypertables, and compression and the continuous aggregate where the edition has them.
func (db *DB) useEdition(ctx context.Context, d Description) error {
	err := db.transact(ctx, func(tx *sql.Tx) error {
		if err := db.lockMigrations(ctx, tx); err != nil {
			return err
		}
		for table, chunk := range hypertables() {
			if err := makeHypertable(ctx, tx, table, chunk); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return wrap(err, "make hypertables")
	}
	if d.TimescaleEdition != "timescale" {
		db.log.LogAttrs(ctx, slog.LevelWarn, "TimescaleDB's Apache edition: everything works but compression and continuous aggregates",
			slog.String("server", d.String()))
		return nil
	}
	err = db.transact(ctx, func(tx *sql.Tx) error {
		if err := db.lockMigrations(ctx, tx); err != nil {
			return err
		}
		for table := range hypertables() {
			if err := compress(ctx, tx, table); err != nil {
				return wrap(err, "set up compression of %s", table)
			}
		}
		for _, up := range rollups() {
			if err := aggregate(ctx, tx, up); err != nil {
				return wrap(err, "make the hourly aggregate of %s", up.table)
			}
		}
		return nil
	})
	return wrap(err, "use TimescaleDB's own edition")
}

// createExtension adds the extension where the server is ready for it. Where it is not, or the account may not, the
// tables stay plain.
func (db *DB) createExtension(ctx context.Context) {
	var ready bool
	// Without the library preloaded the statement would end the connection. The setting is hidden from plain accounts.
	err := db.read.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb' AND installed_version IS NULL)
		AND EXISTS (SELECT FROM pg_settings WHERE name = 'shared_preload_libraries' AND setting LIKE '%timescaledb%')`).Scan(&ready)
	if err == nil && ready {
		_, err = db.write.ExecContext(ctx, "CREATE EXTENSION IF NOT EXISTS timescaledb")
	}
	if err != nil {
		db.log.LogAttrs(ctx, slog.LevelDebug, "extension not created", slog.Any("error", err))
	}
}

func makeHypertable(ctx context.Context, tx *sql.Tx, table, chunk string) error {
	var done bool
	err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM timescaledb_information.hypertables
		WHERE hypertable_schema = current_schema() AND hypertable_name = $1)`, table).Scan(&done)
	if err != nil || done {
		return err
	}
	_, err = tx.ExecContext(ctx, fmt.Sprintf(`SELECT create_hypertable('%s', 'time', chunk_time_interval => interval '%s',
		create_default_indexes => false, migrate_data => true)`, table, chunk))
	return err
}

func compress(ctx context.Context, tx *sql.Tx, table string) error {
	var done bool
	err := tx.QueryRowContext(ctx, `SELECT compression_enabled FROM timescaledb_information.hypertables
		WHERE hypertable_schema = current_schema() AND hypertable_name = $1`, table).Scan(&done)
	if err != nil || done {
		return err
	}
	_, err = tx.ExecContext(ctx, fmt.Sprintf(`ALTER TABLE %s SET (timescaledb.compress,
		timescaledb.compress_segmentby = 'station, spool', timescaledb.compress_orderby = 'seq, time')`, table))
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, fmt.Sprintf("SELECT add_compression_policy('%s', interval '%s', if_not_exists => true)", table, compressAfter))
	return err
}

// aggregate replaces the view of the hours of present rows by a continuous aggregate with the same columns. It computes what is
// not materialised yet, so it is as fresh as the view. What retention removes is added up elsewhere, so a refresh over all of time
// is right: it looks only at hours that changed.
func aggregate(ctx context.Context, tx *sql.Tx, up rollup) error {
	done, err := aggregated(ctx, tx, up)
	if err != nil || done {
		return err
	}
	var statements []string
	for _, view := range up.views { // over this one and over what was removed
		var text string
		if err := tx.QueryRowContext(ctx, "SELECT pg_get_viewdef('"+view+"'::regclass)").Scan(&text); err != nil {
			return err
		}
		statements = append(statements, "CREATE VIEW "+view+" AS "+text)
	}
	statements = append([]string{
		fmt.Sprintf(`CREATE MATERIALIZED VIEW %s WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
			SELECT time_bucket('1 hour', time) AS time, station, receiver, step, %s FROM %s GROUP BY 1, 2, 3, 4 WITH NO DATA`, up.present(), up.selected(), up.table),
		fmt.Sprintf(`SELECT add_continuous_aggregate_policy('%s', start_offset => NULL,
			end_offset => interval '1 hour', schedule_interval => interval '1 hour')`, up.present()),
	}, statements...)
	for _, view := range append([]string{up.present()}, up.views...) {
		statements = append([]string{"DROP VIEW " + view}, statements...)
	}
	for _, statement := range statements {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// aggregated tells whether the hours of present rows are a continuous aggregate already.
func aggregated(ctx context.Context, q querier, up rollup) (is bool, err error) {
	err = q.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM timescaledb_information.continuous_aggregates
		WHERE view_schema = current_schema() AND view_name = '`+up.present()+`')`).Scan(&is)
	return is, err
}

// refreshHours brings the continuous aggregate up to date where rows of a table were removed; until then it counts them still.
// Its failure is told and no more: the policy does the same each hour.
func (db *DB) refreshHours(ctx context.Context, table string, from, to time.Time) {
	all := rollups()
	i := slices.IndexFunc(all, func(up rollup) bool { return up.table == table })
	if _, ok := db.backend.(postgresBackend); !ok || i < 0 {
		return
	}
	var there bool
	err := db.read.QueryRowContext(ctx, "SELECT to_regclass('timescaledb_information.continuous_aggregates') IS NOT NULL").Scan(&there)
	if err == nil && there {
		there, err = aggregated(ctx, db.read, all[i])
	}
	if err == nil && there {
		// Without parameters: a procedure that ends its own transactions cannot be prepared everywhere.
		_, err = db.write.ExecContext(ctx, fmt.Sprintf("CALL refresh_continuous_aggregate('%s', timestamptz '%s', timestamptz '%s')", all[i].present(),
			from.Truncate(time.Hour).Format(time.RFC3339), to.Truncate(time.Hour).Add(time.Hour).Format(time.RFC3339)))
	}
	if err != nil {
		db.log.LogAttrs(ctx, slog.LevelWarn, "hours of removed rows are counted twice until the next refresh", slog.String("table", table), slog.Any("error", err))
	}
}

// readerViews are what the role heimdall_read may see.
const readerViews = "record, spectrum_bin, station_last, station_health, measurement_1h, measurement_1d, detection_1h, spectrum_1h, health_1h, detection_latest, delivery"

// grantReaders makes the role heimdall_read, which may see the views and nothing else. It needs privileges that a
// careful installation keeps from the collector, so it is tried and its failure is told, unless an administrator has done it.
func (db *DB) grantReaders(ctx context.Context) {
	if may, err := db.readersMay(ctx); err == nil && may {
		return
	}
	err := db.tryGrantReaders(ctx)
	if err == nil {
		var may bool
		if may, err = db.readersMay(ctx); err == nil && !may { // the server only warns whoever may use a view and not share it
			err = errors.New("no privileges were granted")
		}
	}
	if err != nil {
		db.log.LogAttrs(ctx, slog.LevelWarn, "role heimdall_read not made: an administrator may do it",
			slog.String("statements", db.readersMend(ctx)), slog.Any("error", err))
	}
}

func (db *DB) tryGrantReaders(ctx context.Context) error {
	for _, statement := range []string{
		`DO $$ BEGIN
			IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'heimdall_read') THEN
				CREATE ROLE heimdall_read NOLOGIN;
			END IF;
		EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; -- another collector was first
		END $$`,
		`DO $$ BEGIN EXECUTE format('GRANT USAGE ON SCHEMA %I TO heimdall_read', current_schema()); END $$`,
		"GRANT SELECT ON " + readerViews + " TO heimdall_read",
	} {
		err := db.transact(ctx, func(tx *sql.Tx) error {
			if err := db.lockMigrations(ctx, tx); err != nil {
				return err
			}
			_, err := tx.ExecContext(ctx, statement)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// readersMay tells whether the role heimdall_read may see all that it is to see.
func (db *DB) readersMay(ctx context.Context) (may bool, err error) {
	err = db.read.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'heimdall_read'
		AND has_schema_privilege(oid, current_schema(), 'USAGE')
		AND (SELECT bool_and(has_table_privilege(pg_roles.oid, name, 'SELECT')) FROM unnest(string_to_array('`+readerViews+`', ', ')) AS name))`).Scan(&may)
	return may, err
}

// readersMend is what an administrator may run, in one line.
func (db *DB) readersMend(ctx context.Context) string {
	schema := "public"
	_ = db.read.QueryRowContext(ctx, "SELECT quote_ident(current_schema())").Scan(&schema) // else the usual one is a good guess
	return "CREATE ROLE heimdall_read NOLOGIN; GRANT USAGE ON SCHEMA " + schema + " TO heimdall_read; GRANT SELECT ON " + readerViews + " TO heimdall_read"
}
