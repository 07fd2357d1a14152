package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// CreateAcquisition adds an acquisition with its stations.
func (db *DB) CreateAcquisition(ctx context.Context, a *protocol.Acquisition) error {
	row, err := encodeAcquisition(a)
	if err != nil {
		return wrap(err, "create acquisition %.40q", a.ID)
	}
	err = db.transact(ctx, func(tx *sql.Tx) error {
		_, err := db.exec(ctx, tx, `INSERT INTO acquisition (id, state, progress, requested, start_time, label, request)
			VALUES ($1, $2, $3, $4, $5, $6, $7::jsonb)`,
			a.ID, string(a.State), a.Progress, row.requested, row.start, a.Request.Label, row.request)
		if err != nil {
			return err
		}
		return db.insertAcquisitionStations(ctx, tx, a)
	})
	return wrapData(err, "create acquisition %s", a.ID)
}

// acquisitionRow is what differs between an acquisition and its row.
type acquisitionRow struct {
	requested time.Time
	start     *time.Time
	request   string
}

func encodeAcquisition(a *protocol.Acquisition) (acquisitionRow, error) {
	var row acquisitionRow
	var err error
	if a.ID == "" || !storable(a.ID) {
		return row, refuse("id: %.40q: want a text without NUL", a.ID)
	}
	if row.requested, err = time.Parse(time.RFC3339Nano, a.Requested); err != nil {
		return row, refuse("requested: %w", err)
	}
	if a.StartTime != "" {
		start, err := time.Parse(time.RFC3339Nano, a.StartTime)
		if err != nil {
			return row, refuse("start_time: %w", err)
		}
		row.start = &start
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

// storableJSON tells whether PostgreSQL's jsonb holds the text, which has no NUL in strings.
func storableJSON(b []byte) bool { return !strings.Contains(string(b), `\u0000`) }

func (db *DB) insertAcquisitionStations(ctx context.Context, tx *sql.Tx, a *protocol.Acquisition) error {
	for i, s := range a.Stations {
		var measurement *string
		if len(s.Measurement) > 0 {
			if !json.Valid(s.Measurement) || !storableJSON(s.Measurement) {
				return refuse("measurement of %s: want JSON without NUL", s.Station)
			}
			measurement = new(string(s.Measurement))
		}
		_, err := db.exec(ctx, tx, `INSERT INTO acquisition_station
				(acquisition, ordinal, station, state, reason_code, message, command_id, measurement, recording)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8::jsonb, $9)`, a.ID, i, s.Station, string(s.State),
			storableText(s.ReasonCode), storableText(s.Message), s.CommandID, measurement, s.Recording)
		if err != nil {
			return err
		}
	}
	return nil
}

// Acquisition is one acquisition; [ErrNotFound] when there is none of that id.
func (db *DB) Acquisition(ctx context.Context, id string) (*protocol.Acquisition, error) {
	a, err := db.acquisition(ctx, db.read, id, "")
	return a, wrap(err, "acquisition %.40q", id)
}

// acquisition reads one acquisition; lock is empty or " FOR UPDATE".
func (db *DB) acquisition(ctx context.Context, q querier, id, lock string) (*protocol.Acquisition, error) {
	if !storable(id) {
		return nil, ErrNotFound
	}
	list, err := db.acquisitions(ctx, q, " WHERE id = $1"+lock, id)
	if err == nil && len(list) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return nil, err
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

// UnsettledAcquisitions lists those that are queued or running, oldest first.
func (db *DB) UnsettledAcquisitions(ctx context.Context) ([]*protocol.Acquisition, error) {
	list, err := db.acquisitions(ctx, db.read, " WHERE state IN ('queued', 'running') ORDER BY requested, id")
	return list, wrap(err, "list unsettled acquisitions")
}

// acquisitions reads acquisitions and their stations; clause is all after the table.
func (db *DB) acquisitions(ctx context.Context, q querier, clause string, args ...any) ([]*protocol.Acquisition, error) {
	list := []*protocol.Acquisition{}
	byID := make(map[string]*protocol.Acquisition)
	var ids []string
	err := db.forEach(ctx, q, "SELECT id, state, progress, requested, start_time, CAST(request AS text) FROM acquisition"+clause, args,
		func(rows *sql.Rows) error {
			a := &protocol.Acquisition{Stations: []protocol.AcquisitionStation{}}
			var requested, start time.Time
			var request string
			if err := rows.Scan(&a.ID, &a.State, &a.Progress, scanTime{&requested}, scanTime{&start}, &request); err != nil {
				return err
			}
			a.Requested = protocol.FormatTime(requested)
			if !start.IsZero() {
				a.StartTime = protocol.FormatTime(start)
			}
			list, byID[a.ID], ids = append(list, a), a, append(ids, a.ID)
			return json.Unmarshal([]byte(request), &a.Request)
		})
	if err != nil || len(ids) == 0 {
		return list, err
	}
	from, in := db.backend.list(1, ids)
	err = db.forEach(ctx, q, `SELECT acquisition, station, state, reason_code, message, command_id, coalesce(CAST(measurement AS text), ''), recording
		FROM acquisition_station WHERE acquisition IN (SELECT c1 FROM `+from+`) ORDER BY acquisition, ordinal`, in, func(rows *sql.Rows) error {
		var id, measurement string
		var s protocol.AcquisitionStation
		if err := rows.Scan(&id, &s.Station, &s.State, &s.ReasonCode, &s.Message, &s.CommandID, &measurement, &s.Recording); err != nil {
			return err
		}
		if measurement != "" {
			s.Measurement = json.RawMessage(measurement)
		}
		byID[id].Stations = append(byID[id].Stations, s)
		return nil
	})
	return list, err
}

// stopError carries a caller's own error through a transaction.
type stopError struct{ err error }

func (e stopError) Error() string { return e.err.Error() }

// UpdateAcquisition reads an acquisition, lets change alter it, and writes it back, so that nobody else's change in
// between is lost. Change may be called more than once; its error ends the update and comes back as it is. The id,
// the time of the request and the request itself stay as they were.
func (db *DB) UpdateAcquisition(ctx context.Context, id string, change func(*protocol.Acquisition) error) error {
	err := db.transact(ctx, func(tx *sql.Tx) error {
		a, err := db.acquisition(ctx, tx, id, " FOR UPDATE")
		if err != nil {
			return err
		}
		if err := change(a); err != nil {
			return stopError{err}
		}
		a.ID = id
		row, err := encodeAcquisition(a)
		if err != nil {
			return err
		}
		_, err = db.exec(ctx, tx, "UPDATE acquisition SET state = $2, progress = $3, start_time = $4 WHERE id = $1",
			id, string(a.State), a.Progress, row.start)
		if err != nil {
			return err
		}
		if _, err := db.exec(ctx, tx, "DELETE FROM acquisition_station WHERE acquisition = $1", id); err != nil {
			return err
		}
		return db.insertAcquisitionStations(ctx, tx, a)
	})
	if stop, ok := errors.AsType[stopError](err); ok {
		return stop.err
	}
	return wrapData(err, "update acquisition %.40q", id)
}
