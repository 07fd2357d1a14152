package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// CreateAcquisitions adds acquisitions with their stations: all of them, or none.
func (db *DB) CreateAcquisitions(ctx context.Context, list []*protocol.Acquisition) error {
	var acquisitions, stations [][]any
	for _, a := range list {
		row, err := encodeAcquisition(a)
		if err != nil {
			return wrap(err, "create acquisition %.40q", a.ID)
		}
		acquisitions = append(acquisitions, []any{
			a.ID, string(a.State), a.Progress, row.requested, row.start, row.cancelRequested, a.Request.Label, row.request,
		})
		for i, s := range a.Stations {
			row, err := encodeAcquisitionStation(s)
			if err != nil {
				return wrap(err, "create acquisition %.40q", a.ID)
			}
			stations = append(stations, append([]any{a.ID, int64(i), s.Station}, row...))
		}
	}
	err := db.insertBoth(ctx, insertion{
		into: `INSERT INTO acquisition (id, state, progress, requested, start_time, cancel_requested, label, request)
			SELECT c1, c2, c3, c4, c5, c6, c7, c8::jsonb FROM `,
		columns: []any{
			cellsOf[string](acquisitions, 0), cellsOf[string](acquisitions, 1), cellsOf[float64](acquisitions, 2),
			cellsOf[time.Time](acquisitions, 3), cellsOf[*time.Time](acquisitions, 4), cellsOf[*time.Time](acquisitions, 5),
			cellsOf[string](acquisitions, 6), cellsOf[string](acquisitions, 7),
		},
	}, insertion{
		into: `INSERT INTO acquisition_station (acquisition, ordinal, station, state, reason_code, message, command_id, measurement, recording,
				attempt, next_attempt, earliest_start, cancel_id)
			SELECT c1, c2, c3, c4, c5, c6, c7, c8::jsonb, c9, c10, c11, c12, c13 FROM `,
		columns: []any{
			cellsOf[string](stations, 0), cellsOf[int64](stations, 1), cellsOf[string](stations, 2), cellsOf[string](stations, 3),
			cellsOf[string](stations, 4), cellsOf[string](stations, 5), cellsOf[string](stations, 6), cellsOf[*string](stations, 7),
			cellsOf[string](stations, 8), cellsOf[int64](stations, 9), cellsOf[*time.Time](stations, 10),
			cellsOf[*time.Time](stations, 11), cellsOf[*string](stations, 12),
		},
	})
	return wrapData(err, "create acquisitions")
}

// insertion is an INSERT up to its FROM item, a list of these columns.
type insertion struct {
	into    string
	columns []any
}

// insertBoth adds all rows of both, or none: with one statement where that can be, for each way to the server and back counts
// where somebody waits for the answer.
func (db *DB) insertBoth(ctx context.Context, a, b insertion) error {
	if !db.chains {
		return db.transact(ctx, func(tx *sql.Tx) error {
			for _, i := range []insertion{a, b} {
				from, args := db.backend.list(1, i.columns...)
				if _, err := db.exec(ctx, tx, i.into+from, args...); err != nil {
					return err
				}
			}
			return nil
		})
	}
	from, args := db.backend.list(1, a.columns...)
	then, more := db.backend.list(len(args)+1, b.columns...)
	return again(ctx, func() error {
		_, err := db.exec(ctx, db.write, "WITH first AS ("+a.into+from+") "+b.into+then, slices.Concat(args, more)...)
		return err
	})
}

// cellsOf is one column of rows, all of one type.
func cellsOf[T any](rows [][]any, column int) []T {
	cells := make([]T, len(rows))
	for i, row := range rows {
		cells[i] = row[column].(T)
	}
	return cells
}

// acquisitionRow is what differs between an acquisition and its row.
type acquisitionRow struct {
	requested              time.Time
	start, cancelRequested *time.Time
	request                string
}

func encodeAcquisition(a *protocol.Acquisition) (acquisitionRow, error) {
	var row acquisitionRow
	var err error
	if a.ID == "" || !storable(a.ID) {
		return row, refuse("id: %.40q: want a text without NUL", a.ID)
	}
	if math.IsNaN(a.Progress) || math.IsInf(a.Progress, 0) {
		return row, refuse("progress: %v: want a number", a.Progress)
	}
	if row.requested, err = time.Parse(time.RFC3339Nano, a.Requested); err != nil {
		return row, refuse("requested: %w", err)
	}
	if row.start, err = optionalTime("start_time", a.StartTime); err != nil {
		return row, err
	}
	if row.cancelRequested, err = optionalTime("cancel_requested", a.CancelRequested); err != nil {
		return row, err
	}
	request, err := json.Marshal(a.Request)
	if err != nil {
		return row, refuse("request: %w", err)
	}
	if !storableJSON(request) {
		return row, refuse("request: text must be without NUL")
	}
	row.request = string(request)
	return row, nil
}

// optionalTime reads a time that may be absent.
func optionalTime(name, text string) (*time.Time, error) {
	if text == "" {
		return nil, nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return nil, refuse("%s: %w", name, err)
	}
	return &t, nil
}

// storableJSON tells whether PostgreSQL's jsonb holds the text, which has no NUL in strings.
func storableJSON(b []byte) bool { return !protocol.JSONHoldsNUL(b) }

// encodeAcquisitionStation is the row of a station's part, from its state on.
func encodeAcquisitionStation(s protocol.AcquisitionStation) ([]any, error) {
	var measurement, cancelID *string
	if len(s.Measurement) > 0 {
		if !json.Valid(s.Measurement) || !storableJSON(s.Measurement) {
			return nil, refuse("measurement of %s: want JSON without NUL", s.Station)
		}
		measurement = new(string(s.Measurement))
	}
	if s.CancelID != "" {
		cancelID = &s.CancelID
	}
	next, err := optionalTime("next_attempt of "+s.Station, s.NextAttempt)
	if err != nil {
		return nil, err
	}
	earliest, err := optionalTime("earliest_start of "+s.Station, s.EarliestStart)
	if err != nil {
		return nil, err
	}
	return []any{
		string(s.State), storableText(s.ReasonCode), storableText(s.Message), s.CommandID, measurement, s.Recording, int64(s.Attempt), next, earliest, cancelID,
	}, nil
}

// Acquisition is one acquisition; [ErrNotFound] when there is none of that id.
func (db *DB) Acquisition(ctx context.Context, id string) (*protocol.Acquisition, error) {
	if !storable(id) {
		return nil, wrap(ErrNotFound, "acquisition %.40q", id)
	}
	list, err := db.acquisitions(ctx, db.read, " WHERE id = $1", id)
	if err == nil && len(list) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return nil, wrap(err, "acquisition %.40q", id)
	}
	return list[0], nil
}

// Acquisitions lists acquisitions, newest first, from after a cursor; a limit of 0 means 100.
func (db *DB) Acquisitions(ctx context.Context, limit int, cursor string) ([]*protocol.Acquisition, string, error) {
	if faults := checkFilter(protocol.Filter{Limit: limit}, false, ""); len(faults) > 0 {
		return nil, "", faults
	}
	var where conditions
	if cursor != "" {
		var at idCursor
		if err := decodeCursor(cursor, &at); err != nil {
			return nil, "", err
		}
		where.add("(requested, id) < (%s, %s)", time.UnixMicro(at.Micros).UTC(), at.ID)
	}
	limit = limitOf(limit)
	list, err := db.acquisitions(ctx, db.read, fmt.Sprintf("%s ORDER BY requested DESC, id DESC LIMIT %d", where.sql(), limit+1), where.args...)
	if err != nil {
		return nil, "", wrap(err, "list acquisitions")
	}
	if len(list) <= limit {
		return list, "", nil
	}
	list = list[:limit]
	last := list[limit-1]
	requested, err := time.Parse(time.RFC3339Nano, last.Requested)
	return list, encodeCursor(idCursor{Micros: requested.UnixMicro(), ID: last.ID}), err
}

// UnsettledAcquisitions lists those that are queued or running, and those of which a station has not yet confirmed that it
// was cancelled, oldest first.
func (db *DB) UnsettledAcquisitions(ctx context.Context) ([]*protocol.Acquisition, error) {
	list, err := db.acquisitions(ctx, db.read, ` WHERE state IN ('queued', 'running')
		OR id IN (SELECT acquisition FROM acquisition_station WHERE cancel_id IS NOT NULL) ORDER BY requested, id`)
	return list, wrap(err, "list unsettled acquisitions")
}

// CancelledBy is the id of the acquisition of which a station is told to stop by a command; [ErrNotFound] when there is none.
func (db *DB) CancelledBy(ctx context.Context, station, command string) (id string, err error) {
	if !storable(command) {
		return "", ErrNotFound
	}
	err = db.queryRow(ctx, db.read, "SELECT acquisition FROM acquisition_station WHERE cancel_id = $1 AND station = $2", command, station).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	return id, wrap(err, "look for what command %.40q cancels", command)
}

// acquisitions reads acquisitions and their stations; clause is all after the table.
func (db *DB) acquisitions(ctx context.Context, q querier, clause string, args ...any) ([]*protocol.Acquisition, error) {
	list := []*protocol.Acquisition{}
	byID := make(map[string]*protocol.Acquisition)
	var ids []string
	err := db.forEach(ctx, q, "SELECT id, state, progress, requested, start_time, cancel_requested, CAST(request AS text) FROM acquisition"+clause, args,
		func(rows *sql.Rows) error {
			a := &protocol.Acquisition{Stations: []protocol.AcquisitionStation{}}
			var requested, start, cancelRequested time.Time
			var request string
			if err := rows.Scan(&a.ID, &a.State, &a.Progress, scanTime{&requested}, scanTime{&start}, scanTime{&cancelRequested}, &request); err != nil {
				return err
			}
			a.Requested = protocol.FormatTime(requested)
			a.StartTime, a.CancelRequested = formatKnown(start), formatKnown(cancelRequested)
			list, byID[a.ID], ids = append(list, a), a, append(ids, a.ID)
			return json.Unmarshal([]byte(request), &a.Request)
		})
	if err != nil || len(ids) == 0 {
		return list, err
	}
	from, in := db.backend.list(1, ids)
	err = db.forEach(ctx, q, `SELECT acquisition, station, state, reason_code, message, command_id, coalesce(CAST(measurement AS text), ''), recording,
		attempt, next_attempt, earliest_start, coalesce(cancel_id, '')
		FROM acquisition_station WHERE acquisition IN (SELECT c1 FROM `+from+`) ORDER BY acquisition, ordinal`, in, func(rows *sql.Rows) error {
		var id, measurement string
		var next, earliest time.Time
		var s protocol.AcquisitionStation
		if err := rows.Scan(&id, &s.Station, &s.State, &s.ReasonCode, &s.Message, &s.CommandID, &measurement, &s.Recording,
			&s.Attempt, scanTime{&next}, scanTime{&earliest}, &s.CancelID); err != nil {
			return err
		}
		if measurement != "" {
			s.Measurement = json.RawMessage(measurement)
		}
		s.NextAttempt, s.EarliestStart = formatKnown(next), formatKnown(earliest)
		byID[id].Stations = append(byID[id].Stations, s)
		return nil
	})
	return list, err
}

// formatKnown writes a time; the zero one is unknown.
func formatKnown(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return protocol.FormatTime(t)
}

// UpdateAcquisitions reads acquisitions, lets change alter each, and writes them back, so that nobody else's change in
// between is lost. Change tells whether it altered anything, and may be called more than once. All is one transaction: on an
// error nothing is written. Ids that are not there are passed over. The id, the time of the request, the request itself and
// the list of stations stay as they were.
func (db *DB) UpdateAcquisitions(ctx context.Context, ids []string, change func(*protocol.Acquisition) bool) error {
	ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !storable(id) })
	if len(ids) == 0 {
		return nil
	}
	err := db.transact(ctx, func(tx *sql.Tx) error {
		from, in := db.backend.list(1, ids)
		// Whoever locks several does it in the same order.
		list, err := db.acquisitions(ctx, tx, " WHERE id IN (SELECT c1 FROM "+from+") ORDER BY id FOR UPDATE", in...)
		if err != nil {
			return err
		}
		for _, a := range list {
			before := copyAcquisition(a)
			if !change(a) {
				continue
			}
			if err := db.rewrite(ctx, tx, before, a); err != nil {
				return err
			}
		}
		return nil
	})
	return wrapData(err, "update %d acquisitions, %.40q first", len(ids), ids[0])
}

func copyAcquisition(a *protocol.Acquisition) *protocol.Acquisition {
	kept := *a
	kept.Stations = slices.Clone(a.Stations)
	return &kept
}

// rewrite writes what differs between an acquisition as it was read and as it is now. The caller holds the lock on its row.
func (db *DB) rewrite(ctx context.Context, tx *sql.Tx, before, a *protocol.Acquisition) error {
	a.ID = before.ID
	row, err := encodeAcquisition(a)
	if err != nil {
		return err
	}
	if len(a.Stations) != len(before.Stations) {
		return refuse("stations: %d, were %d", len(a.Stations), len(before.Stations))
	}
	if a.State != before.State || a.Progress != before.Progress || a.StartTime != before.StartTime || a.CancelRequested != before.CancelRequested {
		_, err = db.exec(ctx, tx, "UPDATE acquisition SET state = $2, progress = $3, start_time = $4, cancel_requested = $5 WHERE id = $1",
			a.ID, string(a.State), a.Progress, row.start, row.cancelRequested)
		if err != nil {
			return err
		}
	}
	for i, s := range a.Stations {
		if reflect.DeepEqual(s, before.Stations[i]) {
			continue
		}
		row, err := encodeAcquisitionStation(s)
		if err != nil {
			return err
		}
		_, err = db.exec(ctx, tx, `UPDATE acquisition_station SET state = $3, reason_code = $4, message = $5, command_id = $6,
				measurement = $7::jsonb, recording = $8, attempt = $9, next_attempt = $10, earliest_start = $11, cancel_id = $12
			WHERE acquisition = $1 AND ordinal = $2`, append([]any{a.ID, i}, row...)...)
		if err != nil {
			return err
		}
	}
	return nil
}
