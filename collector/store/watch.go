package store

import (
	"context"
	"database/sql"
)

// Account is how a station's records stand, over all of its spools.
type Account struct {
	Station                             string
	Received, Rejected, Gapped, Pending uint64 // numbers of records
}

// Accounts lists what is known of each station's records.
func (db *DB) Accounts(ctx context.Context) ([]Account, error) {
	var list []Account
	err := db.forEach(ctx, db.read, `SELECT station, CAST(sum(received) AS bigint), CAST(sum(rejected) AS bigint), CAST(sum(gapped) AS bigint),
		CAST(sum(pending) AS bigint) FROM delivery GROUP BY station ORDER BY station`, nil, func(rows *sql.Rows) error {
		var a Account
		err := rows.Scan(&a.Station, &a.Received, &a.Rejected, &a.Gapped, &a.Pending)
		list = append(list, a)
		return err
	})
	return list, wrap(err, "count each station's records")
}

// RecordingBytes is how many bytes of samples the recordings have.
func (db *DB) RecordingBytes(ctx context.Context) (n int64, err error) {
	err = db.queryRow(ctx, db.read, "SELECT CAST(coalesce(sum(bytes), 0) AS bigint) FROM recording").Scan(&n)
	return n, wrap(err, "add up the recordings")
}

// Bytes is how much room the database takes.
func (db *DB) Bytes(ctx context.Context) (n int64, err error) {
	query := "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
	if _, ok := db.backend.(postgresBackend); ok {
		query = "SELECT pg_database_size(current_database())"
	}
	if err := db.queryRow(ctx, db.read, query).Scan(&n); err != nil {
		return 0, wrap(err, "ask for the size of the database")
	}
	return n, nil
}
