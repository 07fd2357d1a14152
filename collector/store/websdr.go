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

// WebSDRs lists what clients of the former service said of stations, by id.
func (db *DB) WebSDRs(ctx context.Context) ([]protocol.WebSDR, error) {
	list, err := db.websdrs(ctx, db.read, "")
	return list, wrap(err, "list websdrs")
}

// websdrs reads one station's, or all when none is named.
func (db *DB) websdrs(ctx context.Context, q querier, station string) ([]protocol.WebSDR, error) {
	var list []protocol.WebSDR
	err := db.forEach(ctx, q, `SELECT station, CAST(said AS text), created, updated FROM websdr
		WHERE $1::text = '' OR station = $1::text ORDER BY station`, []any{station}, func(rows *sql.Rows) error {
		var w protocol.WebSDR
		var said string
		if err := rows.Scan(&w.Station, &said, scanTime{&w.Created}, scanTime{&w.Updated}); err != nil {
			return err
		}
		err := json.Unmarshal([]byte(said), &w.WebSDRFields)
		list = append(list, w)
		return err
	})
	return list, err
}

// CreateWebSDR makes a station that no agent is known of, and gives its id, which is made from the name: an agent that comes
// under it takes over the station with its number. A name or id that is taken is a fault of the field name, as
// [protocol.FieldErrors].
func (db *DB) CreateWebSDR(ctx context.Context, w protocol.WebSDRFields, now time.Time) (station string, err error) {
	if w.Name == nil {
		return "", refuse("create websdr: want a name")
	}
	now = now.UTC().Truncate(time.Microsecond)
	err = db.transact(ctx, func(tx *sql.Tx) error {
		last, err := db.lockStationNumbers(ctx, tx)
		if err != nil {
			return err
		}
		if err := db.nameIsFree(ctx, tx, *w.Name, ""); err != nil {
			return err
		}
		station = stationID(*w.Name, last+1)
		missing, err := db.missingStations(ctx, tx, []string{station})
		if err != nil {
			return err
		}
		if len(missing) == 0 {
			return nameTaken(*w.Name, "its station id would be "+station+", which another has")
		}
		if err := db.addStations(ctx, tx, now, missing); err != nil {
			return err
		}
		if err := db.nameStation(ctx, tx, station, *w.Name); err != nil {
			return err
		}
		return db.saveWebSDR(ctx, tx, station, w, now)
	})
	return station, wrapWebSDR(err, "create websdr %.60q", *w.Name)
}

// UpdateWebSDR changes what was said of a station. [ErrNotFound] says that there is no such station; a name that another one
// has is a fault as in CreateWebSDR.
func (db *DB) UpdateWebSDR(ctx context.Context, station string, now time.Time, change func(*protocol.WebSDRFields)) error {
	now = now.UTC().Truncate(time.Microsecond)
	err := db.transact(ctx, func(tx *sql.Tx) error {
		if _, err := db.lockStationNumbers(ctx, tx); err != nil {
			return err
		}
		missing, err := db.missingStations(ctx, tx, []string{station})
		if err != nil {
			return err
		}
		if len(missing) > 0 {
			return ErrNotFound
		}
		var w protocol.WebSDRFields
		list, err := db.websdrs(ctx, tx, station)
		if err != nil {
			return err
		}
		if len(list) > 0 {
			w = list[0].WebSDRFields
		}
		before := w.Name
		change(&w)
		if w.Name != nil && (before == nil || *before != *w.Name) {
			if err := db.nameIsFree(ctx, tx, *w.Name, station); err != nil {
				return err
			}
			if err := db.nameStation(ctx, tx, station, *w.Name); err != nil {
				return err
			}
		}
		return db.saveWebSDR(ctx, tx, station, w, now)
	})
	return wrapWebSDR(err, "change websdr %.40q", station)
}

// RemoveWebSDR removes a station that nothing was ever heard of; its number is not given again. Where there is or was an
// agent it is a fault of the field hard_delete, as [protocol.FieldErrors]: a station's data stays.
func (db *DB) RemoveWebSDR(ctx context.Context, station string) error {
	err := db.transact(ctx, func(tx *sql.Tx) error {
		// An agent may be coming at this moment: its status, info and state change the row.
		err := db.queryRow(ctx, tx, "SELECT 1 FROM station WHERE station = $1 FOR UPDATE", station).Scan(new(int))
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNotFound
		}
		if err != nil {
			return err
		}
		list, err := db.stations(ctx, tx, station)
		if err != nil {
			return err
		}
		if list[0].LastSeen != "" {
			return protocol.FieldErrors{{
				Field: "hard_delete", Value: "true", Message: "station " + station + " has or had an agent, and its data stays; leave hard_delete out to take it off the list",
			}}
		}
		for _, table := range []string{"websdr", "station"} {
			if _, err := db.exec(ctx, tx, "DELETE FROM "+table+" WHERE station = $1", station); err != nil {
				return err
			}
		}
		return nil
	})
	return wrapWebSDR(err, "remove websdr %.40q", station)
}

// wrapWebSDR leaves faults of a request as they are.
func wrapWebSDR(err error, what string, args ...any) error {
	if _, ok := errors.AsType[protocol.FieldErrors](err); ok {
		return err
	}
	return wrapData(err, what, args...)
}

// lockStationNumbers keeps others from adding stations until the transaction ends, and gives the last number.
func (db *DB) lockStationNumbers(ctx context.Context, tx *sql.Tx) (last int, err error) {
	err = db.queryRow(ctx, tx, "SELECT last FROM station_number FOR UPDATE").Scan(&last)
	return last, wrap(err, "lock the station numbers")
}

// nameIsFree finds fault with a name that a station other than the one excepted goes by.
func (db *DB) nameIsFree(ctx context.Context, tx *sql.Tx, name, except string) error {
	said, err := db.websdrs(ctx, tx, "")
	if err != nil {
		return err
	}
	names := make(map[string]string)
	err = db.forEach(ctx, tx, "SELECT station, coalesce(nullif(name, ''), station) FROM station", nil, func(rows *sql.Rows) error {
		var station, own string
		err := rows.Scan(&station, &own)
		names[station] = own
		return err
	})
	if err != nil {
		return err
	}
	for _, w := range said {
		if w.Name != nil {
			names[w.Station] = *w.Name
		}
	}
	for station, taken := range names {
		if taken == name && station != except {
			return nameTaken(name, "station "+station+" goes by it")
		}
	}
	return nil
}

func nameTaken(name, why string) error {
	return protocol.FieldErrors{{Field: "name", Value: name, Message: "choose another name: " + why}}
}

// nameStation names a station that does not say its own name.
func (db *DB) nameStation(ctx context.Context, tx *sql.Tx, station, name string) error {
	_, err := db.exec(ctx, tx, "UPDATE station SET name = $2 WHERE station = $1 AND info_at IS NULL", station, name)
	return err
}

func (db *DB) saveWebSDR(ctx context.Context, tx *sql.Tx, station string, w protocol.WebSDRFields, now time.Time) error {
	said, err := json.Marshal(w)
	if err != nil {
		return refuse("%w", err)
	}
	if !storableJSON(said) {
		return refuse("text must be without NUL")
	}
	_, err = db.exec(ctx, tx, `INSERT INTO websdr (station, said, created, updated) VALUES ($1, $2::jsonb, $3, $3)
		ON CONFLICT (station) DO UPDATE SET said = excluded.said, updated = excluded.updated`, station, string(said), now)
	return err
}

// longestStationID is as long as [protocol.ValidStation] lets an id be.
const longestStationID = 32

// stationID makes a station's id from its name: what is no letter of ASCII and no digit becomes a dash. A name that leaves
// nothing to go by gives one of the number.
func stationID(name string, number int) string {
	var b strings.Builder
	dash := false
	for _, r := range strings.ToLower(name) {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') {
			dash = true
			continue
		}
		if dash && b.Len() > 0 {
			b.WriteByte('-')
		}
		dash = false
		b.WriteRune(r)
	}
	id := strings.TrimRight(b.String()[:min(b.Len(), longestStationID)], "-")
	if protocol.ValidStation(id) != nil {
		return fmt.Sprintf("websdr-%d", number)
	}
	return id
}
