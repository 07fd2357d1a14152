package store

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

const (
	defaultLimit = 100
	maxLimit     = 1000
	// lateAfter is how old a record is on arrival that others may already have drawn their conclusions without.
	lateAfter = time.Minute
)

// Records lists stored records of one kind, newest first, and gives the cursor of the next page; empty when this was
// the last. Pages neither repeat nor leave out a record because others come in between. Bad filters are
// [protocol.FieldErrors].
func (db *DB) Records(ctx context.Context, kind protocol.Kind, f protocol.Filter) ([]protocol.StoredRecord, string, error) {
	t := db.tables[kind]
	if t == nil || !t.listed {
		return nil, "", protocol.FieldErrors{{Field: "kind", Value: string(kind), Message: "want measurement, spectrum, detection, health, gap or reply"}}
	}
	var where conditions
	if err := where.filter(f, "time", t.low, t.high, string(kind)); err != nil {
		return nil, "", err
	}
	if f.Cursor != "" {
		var at recordCursor
		if err := decodeCursor(f.Cursor, &at); err != nil {
			return nil, "", err
		}
		from := time.UnixMicro(at.Micros).UTC()
		where.add("(time, station, spool, seq) < (%s, %s, %s, %s)", from, at.Station, at.Spool, at.Seq)
		where.add("time <= %s", from) // says the same again, in a form that leaves chunks of a hypertable out
	}
	limit := limitOf(f.Limit)
	query := fmt.Sprintf("SELECT received, %s FROM %s%s ORDER BY time DESC, station DESC, spool DESC, seq DESC LIMIT %d",
		t.selected(), t.name, where.sql(), limit+1)
	var list []protocol.StoredRecord
	err := db.forEach(ctx, db.read, query, where.args, func(rows *sql.Rows) error {
		stored, err := t.scan(rows)
		list = append(list, stored)
		return err
	})
	if err != nil {
		return nil, "", wrap(err, "list %s records", kind)
	}
	if len(list) <= limit {
		return list, "", nil
	}
	list = list[:limit]
	last := list[limit-1].Record
	t0, _ := micros(last.GetTime())
	next := encodeCursor(recordCursor{Micros: t0.UnixMicro(), Station: last.GetStation(), Spool: last.GetSpool(), Seq: int64(last.GetSeq())})
	return list, next, nil
}

func (t *table) scan(rows *sql.Rows) (protocol.StoredRecord, error) {
	rec, targets := t.targets()
	stored := protocol.StoredRecord{Record: rec}
	err := rows.Scan(append([]any{scanTime{&stored.Received}}, targets...)...)
	stored.Late = stored.Received.Sub(time.Unix(0, rec.GetTime())) > lateAfter
	return stored, err
}

func limitOf(limit int) int {
	if limit == 0 {
		return defaultLimit
	}
	return limit
}

// conditions is a growing WHERE clause.
type conditions struct {
	terms []string
	args  []any
}

// add appends a condition, in which each %s stands for one of the arguments.
func (c *conditions) add(term string, args ...any) {
	marks := make([]any, len(args))
	for i := range args {
		marks[i] = placeholder(len(c.args) + i + 1)
	}
	c.terms = append(c.terms, fmt.Sprintf(term, marks...))
	c.args = append(c.args, args...)
}

func (c *conditions) sql() string {
	if len(c.terms) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(c.terms, " AND ")
}

// filter adds the conditions of a filter on rows whose time is in the column at, and whose band lies between the SQL
// expressions low and high; these are empty where what has no band.
func (c *conditions) filter(f protocol.Filter, at, low, high, what string) error {
	if faults := checkFilter(f, low != "", what); len(faults) > 0 {
		return faults
	}
	if len(f.Stations) > 0 {
		c.add("station IN ("+strings.TrimSuffix(strings.Repeat("%s, ", len(f.Stations)), ", ")+")", anys(f.Stations)...)
	}
	if !f.From.IsZero() {
		c.add(at+" >= %s", f.From.UTC())
	}
	if !f.To.IsZero() {
		c.add(at+" < %s", f.To.UTC())
	}
	if f.MinHz > 0 {
		c.add(high+" >= %s", f.MinHz)
	}
	if f.MaxHz > 0 {
		c.add(low+" <= %s", f.MaxHz)
	}
	return nil
}

// maxFilterStations is more than a network has, and fewer than a statement has parameters.
const maxFilterStations = 1000

// checkFilter finds all faults of a filter.
func checkFilter(f protocol.Filter, banded bool, what string) protocol.FieldErrors {
	var faults protocol.FieldErrors
	fault := func(field, value, message string, args ...any) {
		faults = append(faults, protocol.FieldError{Field: field, Value: value, Message: fmt.Sprintf(message, args...)})
	}
	hertz := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
	if len(f.Stations) > maxFilterStations {
		fault("station", strconv.Itoa(len(f.Stations)), "want at most %d stations", maxFilterStations)
	}
	for _, s := range f.Stations {
		if err := protocol.ValidStation(s); err != nil {
			fault("station", s, "%v", err)
		}
	}
	for _, bound := range []struct {
		field string
		time  time.Time
	}{{"from", f.From}, {"to", f.To}} {
		if y := bound.time.Year(); !bound.time.IsZero() && (y < 0 || y > 9999) {
			fault(bound.field, bound.time.String(), "want a year from 0 to 9999")
		}
	}
	if !f.From.IsZero() && !f.To.IsZero() && !f.From.Before(f.To) {
		fault("to", protocol.FormatTime(f.To), "want a time after from, %s", protocol.FormatTime(f.From))
	}
	for _, bound := range []struct {
		field string
		hz    float64
	}{{"min_hz", f.MinHz}, {"max_hz", f.MaxHz}} {
		switch {
		case math.IsNaN(bound.hz) || math.IsInf(bound.hz, 0) || bound.hz < 0:
			fault(bound.field, hertz(bound.hz), "want a frequency in Hz, 0 or more")
		case bound.hz > 0 && !banded:
			fault(bound.field, hertz(bound.hz), "%s records have no frequency", what)
		}
	}
	if f.MinHz > 0 && f.MaxHz > 0 && f.MinHz > f.MaxHz {
		fault("max_hz", hertz(f.MaxHz), "want at least min_hz, %s", hertz(f.MinHz))
	}
	if f.Limit < 0 || f.Limit > maxLimit {
		fault("limit", strconv.Itoa(f.Limit), "want 1 to %d", maxLimit)
	}
	return faults
}

// recordCursor is the last record of a page.
type recordCursor struct {
	Micros  int64  `json:"t"`
	Station string `json:"s"`
	Spool   []byte `json:"p"`
	Seq     int64  `json:"n"`
}

// idCursor is the last entry of a page of things that have a time and an id.
type idCursor struct {
	Micros int64  `json:"t"`
	ID     string `json:"i"`
}

func encodeCursor(at any) string {
	b, err := json.Marshal(at)
	if err != nil { // text, bytes and whole numbers always have a JSON form
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// decodeCursor reads a cursor, which may be anything: it comes from outside.
func decodeCursor(cursor string, into any) error {
	fault := protocol.FieldErrors{{Field: "cursor", Value: cursor, Message: "want next_cursor of the page before, unchanged"}}
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || json.Unmarshal(b, into) != nil {
		return fault
	}
	switch at := into.(type) {
	case *recordCursor:
		if !storable(at.Station) || len(at.Spool) != protocol.SpoolBytes || !storableMicros(at.Micros) {
			return fault
		}
	case *auditCursor:
		if at.Given < 0 || at.Given > mostAtOnce || !storableMicros(at.Micros) {
			return fault
		}
	case *idCursor:
		if !storable(at.ID) || !storableMicros(at.Micros) {
			return fault
		}
	}
	return nil
}

// storableMicros tells whether a time is one that nanoseconds in 64 bits can name, as all that are stored are.
func storableMicros(us int64) bool { return us >= math.MinInt64/1000 && us <= math.MaxInt64/1000 }
