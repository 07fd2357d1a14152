package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/fulgidus/heimdall/packaging/failpoint"
)

// ErrLeaseHeld says that another process holds a lease.
var ErrLeaseHeld = errors.New("another collector holds the lease")

// ErrLeaseLost says that a lease ended: it ran out, or another process has it now. Nothing of the transaction was done.
var ErrLeaseLost = errors.New("the lease is lost")

// Lease is the right to do work that only one process of a group may do at a time. Its methods do that work: each of their
// transactions first locks the lease's row and is refused with [ErrLeaseLost] unless the lease is still this one. So a
// holder that was stopped for long, and goes on after another one took over, can write nothing.
//
// All times are the database's. Nothing here depends on a collector's clock.
type Lease struct {
	db     *DB
	name   string
	holder string
	epoch  int64
	length time.Duration
}

// leaseRow is a lease as it stands, locked, and what time it is for the database.
type leaseRow struct {
	holder     string
	epoch      int64
	until, now time.Time
}

// TakeLease takes a lease for a length of time; [ErrLeaseHeld] while somebody has it. Holder names the process, and no
// other one, not even the same program started again.
func (db *DB) TakeLease(ctx context.Context, name, holder string, length time.Duration) (*Lease, error) {
	l := &Lease{db: db, name: name, holder: holder, length: length}
	err := db.transact(ctx, func(tx *sql.Tx) error {
		_, err := db.exec(ctx, tx, `INSERT INTO lease (name, holder, epoch, until) VALUES ($1, '', 0, $2) ON CONFLICT DO NOTHING`,
			name, time.Unix(0, 0).UTC())
		if err != nil {
			return err
		}
		row, err := db.lockLease(ctx, tx, name)
		if err != nil {
			return err
		}
		if row.until.After(row.now) {
			return stopError{ErrLeaseHeld}
		}
		l.epoch = row.epoch + 1
		_, err = db.exec(ctx, tx, "UPDATE lease SET holder = $2, epoch = $3, until = $4 WHERE name = $1", name, holder, l.epoch, row.now.Add(length))
		return err
	})
	if err != nil {
		return nil, leaseError(err, "take lease %s", name)
	}
	return l, nil
}

// leaseError is wrap for transactions that end with one of the errors above.
func leaseError(err error, format string, args ...any) error {
	if stop, ok := errors.AsType[stopError](err); ok {
		return fmt.Errorf(format+": %w", append(args, stop.err)...)
	}
	return wrap(err, format, args...)
}

// lockLease keeps others from taking or extending a lease until the transaction ends. The time is asked for after the lock
// was got, for that may have taken long.
func (db *DB) lockLease(ctx context.Context, tx *sql.Tx, name string) (leaseRow, error) {
	var row leaseRow
	err := db.queryRow(ctx, tx, "SELECT holder, epoch, until FROM lease WHERE name = $1 FOR UPDATE", name).
		Scan(&row.holder, &row.epoch, scanTime{&row.until})
	if err != nil {
		return row, err
	}
	return row, db.queryRow(ctx, tx, "SELECT clock_timestamp()").Scan(scanTime{&row.now})
}

// Epoch tells the lease from all others of its name: it grows with each one given.
func (l *Lease) Epoch() int64 { return l.epoch }

// Length is how long the lease lasts when it is not renewed.
func (l *Lease) Length() time.Duration { return l.length }

// Renew extends the lease to its whole length from now on.
func (l *Lease) Renew(ctx context.Context) error {
	err := l.transact(ctx, func(tx *sql.Tx, now time.Time) error {
		failpoint.Hit("lease.renew")
		_, err := l.db.exec(ctx, tx, "UPDATE lease SET until = $2 WHERE name = $1", l.name, now.Add(l.length))
		return err
	})
	return leaseError(err, "renew lease %s", l.name)
}

// Release gives the lease back, so that another process need not wait for its end.
func (l *Lease) Release(ctx context.Context) error {
	err := l.transact(ctx, func(tx *sql.Tx, now time.Time) error {
		_, err := l.db.exec(ctx, tx, "UPDATE lease SET until = $2 WHERE name = $1", l.name, now)
		return err
	})
	return leaseError(err, "release lease %s", l.name)
}

// heldAtRest is how long a transaction under a lease may stand still, or wait for a lock, before the server ends it. That of a
// stopped collector would keep the lease from everybody; and so would one that waits for a row that the same collector holds.
const heldAtRest = "3s"

// transact runs work in a transaction that only the holder of this very lease can commit: until it ends, nobody else can
// take the lease. Now is the database's time.
func (l *Lease) transact(ctx context.Context, work func(tx *sql.Tx, now time.Time) error) error {
	return l.db.transact(ctx, func(tx *sql.Tx) error {
		if err := l.db.bound(ctx, tx, heldAtRest); err != nil {
			return err
		}
		row, err := l.db.lockLease(ctx, tx, l.name)
		if errors.Is(err, sql.ErrNoRows) {
			return stopError{ErrLeaseLost} // the database was restored to a time before the first lease
		}
		if err != nil {
			return err
		}
		if row.holder != l.holder || row.epoch != l.epoch || !row.until.After(row.now) {
			return stopError{ErrLeaseLost}
		}
		return work(tx, row.now)
	})
}
