package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// AddCode keeps an enrolment code by its hash, and revokes those that the station was given before and has not used.
func (db *DB) AddCode(ctx context.Context, hash []byte, code protocol.CodeState, actor string, now time.Time) error {
	now = now.UTC().Truncate(time.Microsecond)
	err := db.transact(ctx, func(tx *sql.Tx) error {
		_, err := db.exec(ctx, tx, "UPDATE enrolment_code SET revoked = $2 WHERE station = $1 AND used IS NULL AND revoked IS NULL", code.Station, now)
		if err != nil {
			return err
		}
		_, err = db.exec(ctx, tx, "INSERT INTO enrolment_code (hash, station, created, expires) VALUES ($1, $2, $3, $4)",
			hash, code.Station, now, code.Expires.UTC().Truncate(time.Microsecond))
		if err != nil {
			return err
		}
		return db.audit(ctx, tx, now, actor, "code", code.Station, map[string]any{"expires": protocol.FormatTime(code.Expires)})
	})
	return wrap(err, "keep a code for %s", code.Station)
}

// Code finds an enrolment code by its hash. [ErrNotFound] says that there is none.
func (db *DB) Code(ctx context.Context, hash []byte) (protocol.CodeState, error) {
	var c protocol.CodeState
	err := db.queryRow(ctx, db.read, "SELECT station, expires, used IS NOT NULL, revoked IS NOT NULL FROM enrolment_code WHERE hash = $1", hash).
		Scan(&c.Station, scanTime{&c.Expires}, &c.Used, &c.Revoked)
	if errors.Is(err, sql.ErrNoRows) {
		return c, ErrNotFound
	}
	return c, wrap(err, "find a code")
}

// UseCode uses a code up and notes the certificate given for it, both or neither; of many who try at once one is told that it
// could. Earlier certificates of the station are revoked; replaced tells whether there were any.
func (db *DB) UseCode(ctx context.Context, hash []byte, cert protocol.CertificateState, facts protocol.EnrolmentFacts, now time.Time) (used, replaced bool, err error) {
	now = now.UTC().Truncate(time.Microsecond)
	err = db.transact(ctx, func(tx *sql.Tx) error {
		replaced = false
		n, err := db.changed(ctx, tx, `UPDATE enrolment_code SET used = $3 WHERE hash = $1 AND station = $2
			AND used IS NULL AND revoked IS NULL AND expires > $3`, hash, cert.Station, now)
		if used = n == 1; err != nil || !used {
			return err
		}
		if err := db.lockStation(ctx, tx, cert.Station, now); err != nil {
			return err
		}
		n, err = db.changed(ctx, tx, "UPDATE certificate SET revoked = $2 WHERE station = $1 AND revoked IS NULL", cert.Station, now)
		if err != nil {
			return err
		}
		replaced = n > 0
		if err := db.addCertificate(ctx, tx, cert, now); err != nil {
			return err
		}
		return db.audit(ctx, tx, now, cert.Station, "enrol", cert.Station, map[string]any{
			"serial": cert.Serial, "version": storableText(facts.Version), "os": storableText(facts.OS), "arch": storableText(facts.Arch),
		})
	})
	return used && err == nil, replaced, wrap(err, "enrol %s", cert.Station)
}

// lockStation has whoever else changes what a station may wait until the end of the transaction: a certificate that is being added
// is one that a revocation does not see. A station that has none yet gets its row.
func (db *DB) lockStation(ctx context.Context, tx *sql.Tx, station string, now time.Time) error {
	if err := db.addStations(ctx, tx, now, []string{station}); err != nil {
		return err
	}
	return db.queryRow(ctx, tx, "SELECT 1 FROM station WHERE station = $1 FOR UPDATE", station).Scan(new(int))
}

// changed runs a statement and tells how many rows it changed.
func (db *DB) changed(ctx context.Context, q querier, query string, args ...any) (int, error) {
	result, err := db.exec(ctx, q, query, args...)
	if err != nil {
		return 0, err
	}
	n, err := result.RowsAffected()
	return int(n), err
}

func (db *DB) addCertificate(ctx context.Context, tx *sql.Tx, c protocol.CertificateState, now time.Time) error {
	_, err := db.exec(ctx, tx, "INSERT INTO certificate (serial, station, issued, expires) VALUES ($1, $2, $3, $4)",
		c.Serial, c.Station, now, c.Expires.UTC())
	return err
}

// RenewCertificate notes a certificate that was given for another one, unless that one is revoked, and tells whether it did. One
// that is not known, as after a restored backup, is not revoked.
func (db *DB) RenewCertificate(ctx context.Context, before string, cert protocol.CertificateState, now time.Time) (renewed bool, err error) {
	now = now.UTC().Truncate(time.Microsecond)
	err = db.transact(ctx, func(tx *sql.Tx) error {
		renewed = false
		if err := db.lockStation(ctx, tx, cert.Station, now); err != nil {
			return err
		}
		var revoked bool
		err := db.queryRow(ctx, tx, "SELECT revoked IS NOT NULL FROM certificate WHERE serial = $1", before).Scan(&revoked)
		if err != nil && !errors.Is(err, sql.ErrNoRows) || revoked {
			return err
		}
		renewed = true
		if err := db.addCertificate(ctx, tx, cert, now); err != nil {
			return err
		}
		return db.audit(ctx, tx, now, cert.Station, "renew", cert.Station, map[string]any{"serial": cert.Serial, "before": before})
	})
	return renewed && err == nil, wrap(err, "renew the certificate of %s", cert.Station)
}

// EnrolledStation tells whether a station has a certificate that is not revoked and did not end before a time, and whether it ever had
// one.
func (db *DB) EnrolledStation(ctx context.Context, station string, since time.Time) (enrolled, ever bool, err error) {
	err = db.queryRow(ctx, db.read, "SELECT count(CASE WHEN revoked IS NULL AND expires >= $2 THEN 1 END) > 0, count(*) > 0 FROM certificate WHERE station = $1",
		station, since.UTC()).Scan(&enrolled, &ever)
	return enrolled, ever, wrap(err, "look for certificates of %s", station)
}

// actionRemove is the action of a revocation that leaves nothing of a station at the broker.
const actionRemove = "remove"

// RevokeStation revokes all codes and certificates of a station, and tells how many. Action is what the audit calls it: revoke, or
// remove for a station that is to be shown as removed. [ErrNotFound] says that nothing is known of the station.
func (db *DB) RevokeStation(ctx context.Context, station, action, actor string, now time.Time) (total int, err error) {
	now = now.UTC().Truncate(time.Microsecond)
	err = db.transact(ctx, func(tx *sql.Tx) error {
		var codes, others int
		err := db.queryRow(ctx, tx, `SELECT (SELECT count(*) FROM enrolment_code WHERE station = $1), (SELECT count(*) FROM station WHERE station = $1) +
			(SELECT count(*) FROM certificate WHERE station = $1) + (SELECT count(*) FROM account WHERE account = $1 AND kind = 'station')`, station).Scan(&codes, &others)
		if err != nil {
			return err
		}
		if codes+others == 0 {
			return ErrNotFound
		}
		total, err = db.changed(ctx, tx, "UPDATE enrolment_code SET revoked = $2 WHERE station = $1 AND used IS NULL AND revoked IS NULL", station, now)
		if err != nil {
			return err
		}
		if others > 0 { // one that has only been given a code is none yet
			if err := db.lockStation(ctx, tx, station, now); err != nil {
				return err
			}
		}
		n, err := db.changed(ctx, tx, "UPDATE certificate SET revoked = $2 WHERE station = $1 AND revoked IS NULL", station, now)
		if err != nil {
			return err
		}
		total += n
		if action == actionRemove {
			if _, err := db.exec(ctx, tx, "UPDATE station SET removed = $2 WHERE station = $1", station, now); err != nil {
				return err
			}
		}
		return db.audit(ctx, tx, now, actor, action, station, map[string]any{"revoked": total})
	})
	return total, wrap(err, "revoke %s", station)
}

// RevokedCertificates lists those that did not end before a time.
func (db *DB) RevokedCertificates(ctx context.Context, since time.Time) ([]protocol.CertificateState, error) {
	var list []protocol.CertificateState
	err := db.forEach(ctx, db.read, "SELECT serial, station, expires FROM certificate WHERE revoked IS NOT NULL AND expires >= $1", []any{since.UTC()}, func(rows *sql.Rows) error {
		c := protocol.CertificateState{Revoked: true}
		err := rows.Scan(&c.Serial, &c.Station, scanTime{&c.Expires})
		list = append(list, c)
		return err
	})
	return list, wrap(err, "list revoked certificates")
}

// Spools lists the spools that a station ever had.
func (db *DB) Spools(ctx context.Context, station string) ([][protocol.SpoolBytes]byte, error) {
	var list [][protocol.SpoolBytes]byte
	err := db.forEach(ctx, db.read, "SELECT spool FROM spool WHERE station = $1 ORDER BY spool", []any{station}, func(rows *sql.Rows) error {
		var raw []byte
		if err := rows.Scan(&raw); err != nil || len(raw) != protocol.SpoolBytes {
			return err
		}
		list = append(list, [protocol.SpoolBytes]byte(raw))
		return nil
	})
	return list, wrap(err, "list spools of %s", station)
}
