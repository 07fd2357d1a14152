package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// Arrivals lists at most limit records of one kind that arrived after a place in the order of arrival, in that order; without
// stations, of all. Transactions that are still going on may add records before the place where a list ends.
func (db *DB) Arrivals(ctx context.Context, kind protocol.Kind, after protocol.Arrival, stations []string, limit int) ([]protocol.StoredRecord, error) {
	t := db.tables[kind]
	if t == nil || !t.listed {
		return nil, protocol.FieldErrors{{Field: "kind", Value: string(kind), Message: "want measurement, spectrum, detection, health, gap or reply"}}
	}
	const widest = 7 * 24 * time.Hour
	for within := time.Minute; ; within *= 8 {
		before := after.Received.Add(within)
		last := within > widest || before.After(time.Now())
		if last {
			before = time.Time{}
		}
		list, err := db.arrivals(ctx, t, kind, after, before, stations, limitOf(limit))
		if err != nil || last || len(list) == limitOf(limit) {
			return list, wrap(err, "list %s records by their arrival", kind)
		}
	}
}

// arrivals lists what arrived before a time, if that is not zero. PostgreSQL finds what arrived between two times without an
// index that each record would cost an entry, but not the first of all that came after one.
func (db *DB) arrivals(ctx context.Context, t *table, kind protocol.Kind, after protocol.Arrival, before time.Time, stations []string, limit int) ([]protocol.StoredRecord, error) {
	var where conditions
	if err := where.filter(protocol.Filter{Stations: stations, Limit: limit}, "time", "", "", string(kind)); err != nil {
		return nil, err
	}
	from := after.Received.UTC().Truncate(time.Microsecond)
	switch {
	case kind > after.Kind:
		where.add("received >= %s", from)
	case kind < after.Kind:
		where.add("received > %s", from)
	default:
		where.add("received >= %s", from) // says again what the next one says, in a form that every database finds an index for
		where.add("(received, station, spool, seq) > (%s, %s, %s, %s)", from, after.Station, after.Spool, int64(after.Seq))
	}
	if !before.IsZero() {
		where.add("received < %s", before.UTC())
	}
	query := fmt.Sprintf("SELECT received, %s FROM %s%s ORDER BY received, station, spool, seq LIMIT %d",
		t.selected(), t.name, where.sql(), limit)
	var list []protocol.StoredRecord
	err := db.forEach(ctx, db.read, query, where.args, func(rows *sql.Rows) error {
		stored, err := t.scan(rows)
		list = append(list, stored)
		return err
	})
	return list, err
}
