package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// keepSuspension is how long one that is over stays, for the next one to be longer.
const keepSuspension = 24 * time.Hour

// Suspend notes that nothing is read of a station for a time. Where another collector has noted one that lasts longer, that one stays.
func (db *DB) Suspend(ctx context.Context, s protocol.Suspension) error {
	if err := protocol.ValidStation(s.Station); err != nil {
		return refuse("suspend: %w", err)
	}
	err := db.transact(ctx, func(tx *sql.Tx) error {
		if _, err := db.exec(ctx, tx, "DELETE FROM suspension WHERE until < $1", s.Since.UTC().Add(-keepSuspension)); err != nil {
			return err
		}
		if err := db.addStations(ctx, tx, s.Since.UTC(), []string{s.Station}); err != nil {
			return err
		}
		_, err := db.exec(ctx, tx, `INSERT INTO suspension (station, since, until, times, reason) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (station) DO UPDATE SET since = excluded.since, until = excluded.until, times = excluded.times, reason = excluded.reason
			WHERE excluded.until > suspension.until`, s.Station, s.Since.UTC(), s.Until.UTC(), s.Times, storableText(s.Reason))
		return err
	})
	return wrapData(err, "suspend %s", s.Station)
}

// Suspensions lists the latest one of each station, also where it is over.
func (db *DB) Suspensions(ctx context.Context) ([]protocol.Suspension, error) {
	var list []protocol.Suspension
	err := db.forEach(ctx, db.read, "SELECT station, since, until, times, reason FROM suspension ORDER BY station", nil, func(rows *sql.Rows) error {
		var s protocol.Suspension
		err := rows.Scan(&s.Station, scanTime{&s.Since}, scanTime{&s.Until}, &s.Times, &s.Reason)
		list = append(list, s)
		return err
	})
	return list, wrap(err, "list suspended stations")
}

// Resume ends a station's suspension, as if it had never been suspended before, and notes who did so in the audit. It tells what it
// ended; nil when the station was not suspended. [ErrNotFound] says that nothing is known of the station.
func (db *DB) Resume(ctx context.Context, station, actor string) (ended *protocol.Suspension, err error) {
	now := time.Now().UTC().Truncate(time.Microsecond)
	err = db.transact(ctx, func(tx *sql.Tx) error {
		ended = nil
		missing, err := db.missingStations(ctx, tx, []string{station})
		if err != nil {
			return err
		}
		if len(missing) > 0 {
			return ErrNotFound
		}
		err = db.forEach(ctx, tx, "SELECT station, since, until, times, reason FROM suspension WHERE station = $1 AND until > $2", []any{station, now},
			func(rows *sql.Rows) error {
				ended = new(protocol.Suspension)
				return rows.Scan(&ended.Station, scanTime{&ended.Since}, scanTime{&ended.Until}, &ended.Times, &ended.Reason)
			})
		if err != nil || ended == nil {
			return err
		}
		if _, err := db.exec(ctx, tx, "UPDATE suspension SET until = $2, times = 0 WHERE station = $1", station, now); err != nil {
			return err
		}
		return db.audit(ctx, tx, now, actor, "station-resume", station, map[string]any{"until": protocol.FormatTime(ended.Until), "reason": ended.Reason})
	})
	return ended, wrap(err, "resume %.40q", station)
}

// tellSuspension shows a suspension that lasts in place of what the station says of itself.
func tellSuspension(s *protocol.Station, since, until time.Time, reason string, now time.Time) {
	if !until.After(now) {
		return
	}
	s.State, s.Since = protocol.StateSuspended, protocol.FormatTime(since)
	s.Reason = fmt.Sprintf("nothing is read until %s: %s", until.UTC().Format("15:04:05 MST"), reason)
}
