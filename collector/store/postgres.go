package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
)

func openPostgres(ctx context.Context, address string, log *slog.Logger) (*DB, error) {
	config, err := parsePostgres(address)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	config.ConnConfig.RuntimeParams["application_name"] = "heimdall-collector"
	config.AfterConnect = boundIdleTransactions
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	db := stdlib.OpenDBFromPool(pool)
	readers := stdlib.OpenDBFromPool(pool)
	readers.SetMaxOpenConns(max(1, int(config.MaxConns)-1)) // slow queries leave a connection for records
	return &DB{
		write: db, read: readers, backend: postgresBackend{copies: canCopy(config.ConnConfig)}, tables: tables(), chains: true, log: log, close: pool.Close,
	}, nil
}

// parsePostgres reads an address; its error shows no password.
func parsePostgres(address string) (*pgxpool.Config, error) {
	if err := readable(address); err != nil {
		return nil, err
	}
	return pgxpool.ParseConfig(address) // pgx leaves the password out
}

// readable refuses an address whose password would be taken for another part of it, and shows nothing of it.
func readable(address string) error {
	u, err := url.Parse(address)
	if err != nil || strings.Contains(u.Path+u.Fragment, "@") { // in a query it may be of a user's name
		return errors.New("it cannot be read: want postgres://user:password@host/database, " +
			"in user and password %40 for @, %3A for :, %2F for /, %3F for ?, %23 for #, %25 for %")
	}
	return nil
}

// boundIdleTransactions has the server end a session that stands still inside a transaction, as that of a stopped collector
// does: it would hold its spools' rows for as long. The URL may set another time. It is a setting of the session, the one thing
// here that a pooler may hand to somebody else, whom it does no harm; a server that does not know it does without.
func boundIdleTransactions(ctx context.Context, conn *pgx.Conn) error {
	const name = "idle_in_transaction_session_timeout"
	if _, ok := conn.Config().RuntimeParams[name]; ok {
		return nil
	}
	_, err := conn.Exec(ctx, "SET "+name+" = '5s'")
	if _, refused := errors.AsType[*pgconn.PgError](err); refused {
		return nil
	}
	return err
}

// bound has the server end this transaction when it stands still, or waits for a lock, for so long. SQLite is one process's own.
func (db *DB) bound(ctx context.Context, tx *sql.Tx, limit string) error {
	if _, ok := db.backend.(postgresBackend); !ok {
		return nil
	}
	_, err := tx.ExecContext(ctx, "SELECT set_config('idle_in_transaction_session_timeout', '"+limit+"', true), set_config('lock_timeout', '"+limit+"', true)")
	return err
}

// postgresBackend speaks PostgreSQL, with or without TimescaleDB.
type postgresBackend struct {
	copies bool // the server has COPY
}

// canCopy tells whether the server behind a URL has COPY, which only what needs the mode exec may lack.
func canCopy(config *pgx.ConnConfig) bool {
	mode := config.DefaultQueryExecMode
	return mode != pgx.QueryExecModeExec && mode != pgx.QueryExecModeSimpleProtocol
}

func (postgresBackend) statement(query string, args []any) (string, []any) { return query, args }

func (postgresBackend) list(first int, columns ...any) (from string, args []any) {
	arrays, names := make([]string, len(columns)), make([]string, len(columns))
	for i, c := range columns {
		var kind string
		switch c.(type) {
		case []string, []*string:
			kind = "text"
		case [][]byte:
			kind = "bytea"
		case []int64:
			kind = "bigint"
		case []float64:
			kind = "double precision"
		case []time.Time, []*time.Time:
			kind = "timestamptz"
		}
		arrays[i] = fmt.Sprintf("$%d::%s[]", first+i, kind)
		names[i] = fmt.Sprintf("c%d", i+1)
	}
	return fmt.Sprintf("unnest(%s) AS list(%s)", strings.Join(arrays, ", "), strings.Join(names, ", ")), columns
}

func (p postgresBackend) insert(ctx context.Context, tx transaction, t *table, rows []*entry) error {
	if p.copies && tx.copies && len(rows) >= copyRows && t.copyable() {
		return copyIn(ctx, tx, t, rows)
	}
	columns, err := t.columns(rows)
	if err != nil {
		return err
	}
	return insertArrays(ctx, tx, t.name, columns)
}

// insertArrays sends each column as one array: measured at least as fast as anything but COPY, at every size of batch.
func insertArrays(ctx context.Context, tx transaction, table string, columns []column) error {
	n := len(columns)
	names, aliases, arrays, selected, args := make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]any, n)
	for i, c := range columns {
		names[i] = `"` + c.name + `"`
		aliases[i] = fmt.Sprintf("c%d", i+1)
		array, cast := c.values.sqlType()
		arrays[i] = fmt.Sprintf("$%d::%s[]", i+1, array)
		selected[i] = aliases[i] + cast
		args[i] = c.values.array()
	}
	_, err := tx.ExecContext(ctx, fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM unnest(%s) AS list(%s) ON CONFLICT DO NOTHING",
		table, strings.Join(names, ", "), strings.Join(selected, ", "), strings.Join(arrays, ", "), strings.Join(aliases, ", ")),
		args...)
	return err
}

func (postgresBackend) snapshot() *sql.TxOptions {
	return &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}
}

func (postgresBackend) describe(ctx context.Context, db *sql.DB, d *Description) error {
	d.Server = "PostgreSQL"
	if err := db.QueryRowContext(ctx, "SELECT current_setting('server_version')").Scan(&d.Version); err != nil {
		return err
	}
	err := db.QueryRowContext(ctx, "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'").Scan(&d.TimescaleVersion)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return db.QueryRowContext(ctx, "SELECT coalesce(current_setting('timescaledb.license', true), 'apache')").Scan(&d.TimescaleEdition)
}

// mayMakeTables is the error, with the mend, of an account that may not.
func mayMakeTables(ctx context.Context, db *sql.DB) error {
	var account, database, schema string
	var may bool
	err := db.QueryRowContext(ctx, `SELECT quote_ident(current_user), quote_ident(current_database()),
		coalesce(quote_ident(current_schema()), ''), coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)`).
		Scan(&account, &database, &schema, &may)
	switch {
	case err != nil || may:
		return wrap(err, "ask whether this account may make tables")
	case schema == "":
		err = fmt.Errorf("database %s has no schema in the search path of %s: CREATE SCHEMA %s AUTHORIZATION %s", database, account, account, account)
	default:
		err = fmt.Errorf("%s may not make tables in schema %s of database %s: GRANT CREATE ON SCHEMA %s TO %s", account, schema, database, schema, account)
	}
	return &Error{Class: ClassAll, Err: err}
}
