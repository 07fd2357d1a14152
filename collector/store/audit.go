package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"
)

// Audit notes what somebody did: the name of a token, or [protocol.ActorLocal]. Detail is what else is worth knowing later; no
// secrets belong there.
func (db *DB) Audit(ctx context.Context, actor, action, subject string, detail map[string]any) error {
	now := time.Now().UTC().Truncate(time.Microsecond)
	err := db.transact(ctx, func(tx *sql.Tx) error { return db.audit(ctx, tx, now, actor, action, subject, detail) })
	return wrapData(err, "note %s by %.40q", action, actor)
}

// audit is Audit inside the transaction that does it.
func (db *DB) audit(ctx context.Context, tx *sql.Tx, at time.Time, actor, action, subject string, detail map[string]any) error {
	if detail == nil {
		detail = map[string]any{}
	}
	text, err := json.Marshal(detail)
	if err != nil {
		return refuse("detail: %w", err)
	}
	if !storableJSON(text) {
		return refuse("detail: text must be without NUL")
	}
	_, err = db.exec(ctx, tx, "INSERT INTO audit (time, actor, action, subject, detail) VALUES ($1, $2, $3, $4, $5::jsonb)",
		at, storableText(actor), action, storableText(subject), string(text))
	return wrap(err, "note in the audit")
}
