package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

const accountColumns = "SELECT account, kind, secret, created, revoked FROM account WHERE kind <> 'token'"

// BrokerAccounts lists the broker's accounts by username, also revoked ones.
func (db *DB) BrokerAccounts(ctx context.Context) ([]protocol.Account, error) {
	list := []protocol.Account{}
	err := db.forEach(ctx, db.read, accountColumns+" ORDER BY account", nil, func(rows *sql.Rows) error {
		a, err := scanAccount(rows)
		list = append(list, a)
		return err
	})
	return list, wrap(err, "list accounts")
}

// BrokerAccount gives one of the broker's accounts, also a revoked one.
func (db *DB) BrokerAccount(ctx context.Context, username string) (*protocol.Account, error) {
	if !storable(username) {
		return nil, wrap(ErrNotFound, "account %.40q", username)
	}
	a, err := scanAccount(db.queryRow(ctx, db.read, accountColumns+" AND account = $1", username))
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return nil, wrap(err, "account %.40q", username)
	}
	return &a, nil
}

func scanAccount(row interface{ Scan(...any) error }) (protocol.Account, error) {
	var a protocol.Account
	var hash []byte
	var created, revoked time.Time
	err := row.Scan(&a.Username, &a.Kind, &hash, scanTime{&created}, scanTime{&revoked})
	a.Hash, a.Password, a.Created, a.Revoked = string(hash), len(hash) > 0, formatKnown(created), formatKnown(revoked)
	return a, err
}

// PutAccount adds an account, or makes one of the same kind valid again, with the given hash; one of another kind is an error.
func (db *DB) PutAccount(ctx context.Context, a protocol.Account, actor string) error {
	now := time.Now().UTC().Truncate(time.Microsecond)
	var hash []byte
	if a.Hash != "" {
		hash = []byte(a.Hash)
	}
	err := db.transact(ctx, func(tx *sql.Tx) error {
		result, err := db.exec(ctx, tx, `INSERT INTO account (account, kind, secret, created) VALUES ($1, $2, $3, $4)
			ON CONFLICT (account) DO UPDATE SET secret = excluded.secret, created = excluded.created, revoked = NULL
			WHERE account.kind = excluded.kind`, a.Username, string(a.Kind), hash, now)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, fmt.Errorf("%s is an account of another kind", a.Username))
		}
		return db.audit(ctx, tx, now, actor, string(a.Kind)+"-add", a.Username, map[string]any{"password": a.Hash != ""})
	})
	return wrapData(err, "add account %.40q", a.Username)
}

// RevokeAccount makes an account invalid and forgets its hash; one that is revoked already stays as it is.
func (db *DB) RevokeAccount(ctx context.Context, username, actor string) error {
	return db.endAccount(ctx, username, actor, "revoke", func(tx *sql.Tx, now time.Time, revoked bool) error {
		if revoked {
			return errStays
		}
		_, err := db.exec(ctx, tx, "UPDATE account SET revoked = $2, secret = NULL WHERE account = $1", username, now)
		return err
	})
}

// RemoveAccount forgets an account.
func (db *DB) RemoveAccount(ctx context.Context, username, actor string) error {
	return db.endAccount(ctx, username, actor, "remove", func(tx *sql.Tx, _ time.Time, _ bool) error {
		_, err := db.exec(ctx, tx, "DELETE FROM account WHERE account = $1", username)
		return err
	})
}

// errStays says that there was nothing to do.
var errStays = errors.New("it is so already")

// endAccount locks an account, ends it and notes that in the audit.
func (db *DB) endAccount(ctx context.Context, username, actor, action string, end func(tx *sql.Tx, now time.Time, revoked bool) error) error {
	if !storable(username) {
		return wrap(ErrNotFound, "account %.40q", username)
	}
	now := time.Now().UTC().Truncate(time.Microsecond)
	err := db.transact(ctx, func(tx *sql.Tx) error {
		a, err := scanAccount(db.queryRow(ctx, tx, accountColumns+" AND account = $1 FOR UPDATE", username))
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNotFound
		}
		if err != nil {
			return err
		}
		if err := end(tx, now, a.Revoked != ""); err != nil {
			return err
		}
		return db.audit(ctx, tx, now, actor, string(a.Kind)+"-"+action, username, nil)
	})
	if errors.Is(err, errStays) {
		return nil
	}
	return wrap(err, "%s account %.40q", action, username)
}
