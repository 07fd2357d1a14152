package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/fulgidus/heimdall/protocol"
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

// mostAtOnce is more than anybody does in one microsecond.
const mostAtOnce = 1_000_000

// auditCursor is the last entry of a page: entries have no id, so of those of one moment it counts how many were given.
type auditCursor struct {
	Micros int64 `json:"t"`
	Given  int   `json:"n"`
}

// AuditEntries lists what was noted, newest first, and gives the cursor of the next page; empty when this was the last. Bad filters
// are [protocol.FieldErrors].
func (db *DB) AuditEntries(ctx context.Context, f protocol.AuditFilter) ([]protocol.AuditEntry, string, error) {
	if faults := checkFilter(protocol.Filter{From: f.From, To: f.To, Limit: f.Limit}, false, ""); len(faults) > 0 {
		return nil, "", faults
	}
	var where conditions
	var at auditCursor
	if f.Cursor != "" {
		if err := decodeCursor(f.Cursor, &at); err != nil {
			return nil, "", err
		}
		where.add("time <= %s", time.UnixMicro(at.Micros).UTC())
	}
	for column, value := range map[string]string{"actor": f.Actor, "action": f.Action} {
		if value != "" {
			where.add(column+" = %s", storableText(value))
		}
	}
	if !f.From.IsZero() {
		where.add("time >= %s", f.From.UTC())
	}
	if !f.To.IsZero() {
		where.add("time < %s", f.To.UTC())
	}
	limit := limitOf(f.Limit)
	list := []protocol.AuditEntry{}
	var times []int64
	query := fmt.Sprintf(`SELECT time, actor, action, coalesce(subject, ''), coalesce(CAST(detail AS text), '') FROM audit%s
		ORDER BY time DESC, actor, action, coalesce(subject, ''), CAST(detail AS text) LIMIT %d OFFSET %d`, where.sql(), limit+1, at.Given)
	err := db.forEach(ctx, db.read, query, where.args, func(rows *sql.Rows) error {
		var e protocol.AuditEntry
		var noted time.Time
		var detail string
		if err := rows.Scan(scanTime{&noted}, &e.Actor, &e.Action, &e.Subject, &detail); err != nil {
			return err
		}
		if detail != "" {
			e.Detail = json.RawMessage(detail)
		}
		e.Time = protocol.FormatTime(noted)
		list, times = append(list, e), append(times, noted.UnixMicro())
		return nil
	})
	if err != nil {
		return nil, "", wrap(err, "list the audit")
	}
	if len(list) <= limit {
		return list, "", nil
	}
	next := auditCursor{Micros: times[limit-1]}
	for i := limit - 1; i >= 0 && times[i] == next.Micros; i-- {
		next.Given++
	}
	if next.Micros == at.Micros { // a moment that fills more than a page
		next.Given += at.Given
	}
	return list[:limit], encodeCursor(next), nil
}
