package store

import (
	"context"
	"database/sql"
	"time"
)

// Transact lets tests do work of their own under a lease.
func (l *Lease) Transact(ctx context.Context, work func(tx *sql.Tx, now time.Time) error) error {
	return leaseError(l.transact(ctx, work), "work")
}

// Transact runs work in a transaction like any other.
func (db *DB) Transact(ctx context.Context, work func(tx *sql.Tx, now time.Time) error) error {
	return db.transact(ctx, func(tx *sql.Tx) error { return work(tx, time.Time{}) })
}
