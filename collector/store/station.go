package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// stationsOf are the stations of entries in order of first sight.
func stationsOf(entries []*entry) []string {
	var stations []string
	seen := make(map[string]bool)
	for _, e := range entries {
		if !seen[e.stream.Station] {
			seen[e.stream.Station] = true
			stations = append(stations, e.stream.Station)
		}
	}
	return stations
}

// addStations gives stations that are seen for the first time their row and number.
func (db *DB) addStations(ctx context.Context, tx *sql.Tx, now time.Time, stations []string) error {
	missing, err := db.missingStations(ctx, tx, stations)
	if err != nil || len(missing) == 0 {
		return err
	}
	// Another collector may be doing the same: whoever holds this row looks again.
	last, err := db.lockStationNumbers(ctx, tx)
	if err != nil {
		return err
	}
	if missing, err = db.missingStations(ctx, tx, missing); err != nil {
		return err
	}
	for _, station := range missing {
		last++
		_, err := db.exec(ctx, tx, "INSERT INTO station (station, number, first_seen, last_seen) VALUES ($1, $2, $3, $3)", station, last, now)
		if err != nil {
			return wrap(err, "add station %s", station)
		}
	}
	_, err = db.exec(ctx, tx, "UPDATE station_number SET last = $1", last)
	return wrap(err, "save the station numbers")
}

// missingStations are those without a row, in the given order.
func (db *DB) missingStations(ctx context.Context, tx *sql.Tx, stations []string) ([]string, error) {
	if len(stations) == 0 {
		return nil, nil
	}
	known := make(map[string]bool)
	from, args := db.backend.list(1, stations)
	err := db.forEach(ctx, tx, "SELECT station FROM station WHERE station IN (SELECT c1 FROM "+from+")", args, func(rows *sql.Rows) error {
		var s string
		err := rows.Scan(&s)
		known[s] = true
		return err
	})
	if err != nil {
		return nil, wrap(err, "look for stations")
	}
	var missing []string
	for _, s := range stations {
		if !known[s] {
			missing = append(missing, s)
		}
	}
	return missing, nil
}

// SaveStatus keeps whether a station was online at a time. What is older than what is kept changes nothing, here as in
// SaveInfo and SaveState.
func (db *DB) SaveStatus(ctx context.Context, station string, online bool, at time.Time) error {
	status := "offline"
	if online {
		status = "online"
	}
	err := db.saveStation(ctx, station, at, func(tx *sql.Tx, at time.Time) error {
		_, err := db.exec(ctx, tx, `UPDATE station SET status = $2, status_at = $3 WHERE station = $1
			AND (status_at IS NULL OR status_at <= $3)`, station, status, at)
		if err != nil || !online {
			return err
		}
		_, err = db.exec(ctx, tx, "UPDATE station SET removed = NULL WHERE station = $1 AND removed < $2", station, at.Add(-stillOnline))
		return err
	})
	return wrapData(err, "save status of %s", station)
}

// stillOnline is how long after its removal a station may still be said to be online, until its session has ended.
const stillOnline = time.Minute

// MissStations notes as offline every station that was online and has not been heard to be so since a time, and gives their ids.
func (db *DB) MissStations(ctx context.Context, since time.Time) ([]string, error) {
	var missed []string
	err := db.transact(ctx, func(tx *sql.Tx) error {
		missed = nil
		return db.forEach(ctx, tx, `UPDATE station SET status = 'offline', status_at = $1 WHERE status = 'online' AND status_at < $1 RETURNING station`,
			[]any{since}, func(rows *sql.Rows) error {
				var id string
				err := rows.Scan(&id)
				missed = append(missed, id)
				return err
			})
	})
	return missed, wrap(err, "miss stations")
}

// SaveInfo keeps what a station said of itself at a time; nil when it took that back.
func (db *DB) SaveInfo(ctx context.Context, station string, info *protocol.Info, at time.Time) error {
	text, name, err := encodeInfo(info)
	if err != nil {
		return refuse("save info of %s: %w", station, err)
	}
	err = db.saveStation(ctx, station, at, func(tx *sql.Tx, at time.Time) error {
		result, err := db.exec(ctx, tx, `UPDATE station SET info = $2::jsonb, info_at = $3, name = $4 WHERE station = $1
			AND (info_at IS NULL OR info_at <= $3)`, station, text, at, name)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return err // a newer one is in
		}
		return db.saveReceivers(ctx, tx, station, info, at)
	})
	return wrapData(err, "save info of %s", station)
}

func encodeInfo(info *protocol.Info) (text, name *string, err error) {
	if info == nil {
		return nil, nil, nil
	}
	b, err := json.Marshal(info)
	if err != nil {
		return nil, nil, err
	}
	if !storableJSON(b) {
		return nil, nil, errors.New("text must be without NUL")
	}
	s := string(b)
	return &s, &info.Name, nil
}

func (db *DB) saveReceivers(ctx context.Context, tx *sql.Tx, station string, info *protocol.Info, at time.Time) error {
	if _, err := db.exec(ctx, tx, "DELETE FROM receiver WHERE station = $1", station); err != nil || info == nil {
		return err
	}
	for _, r := range info.Receivers {
		plan, err := json.Marshal(r.Plan)
		if err != nil {
			return refuse("receiver %s: plan: %w", r.ID, err)
		}
		_, err = db.exec(ctx, tx, `INSERT INTO receiver (station, receiver, name, source, hardware, center_hz, sample_rate_hz, live, plan, updated)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::jsonb, $10) ON CONFLICT DO NOTHING`,
			station, r.ID, r.Name, r.Source, r.Hardware, r.CenterHz, r.SampleRateHz, r.Live, string(plan), at)
		if err != nil {
			return err
		}
	}
	return nil
}

// SaveState keeps a station's condition at a time; nil when it took that back.
func (db *DB) SaveState(ctx context.Context, station string, state *protocol.State, at time.Time) error {
	var text *string
	if state != nil {
		b, err := json.Marshal(state)
		if err != nil {
			return refuse("save state of %s: %w", station, err)
		}
		if !storableJSON(b) {
			return refuse("save state of %s: text must be without NUL", station)
		}
		text = new(string(b))
	}
	err := db.saveStation(ctx, station, at, func(tx *sql.Tx, at time.Time) error {
		_, err := db.exec(ctx, tx, `UPDATE station SET state = $2::jsonb, state_at = $3 WHERE station = $1
			AND (state_at IS NULL OR state_at <= $3)`, station, text, at)
		return err
	})
	return wrapData(err, "save state of %s", station)
}

// saveStation changes a station's row, which it makes if there is none.
func (db *DB) saveStation(ctx context.Context, station string, at time.Time, change func(tx *sql.Tx, at time.Time) error) error {
	if err := protocol.ValidStation(station); err != nil {
		return refuse("%w", err)
	}
	at = at.UTC().Truncate(time.Microsecond)
	return db.transact(ctx, func(tx *sql.Tx) error {
		if err := db.addStations(ctx, tx, at, []string{station}); err != nil {
			return err
		}
		if err := change(tx, at); err != nil {
			return err
		}
		_, err := db.exec(ctx, tx, "UPDATE station SET last_seen = $2 WHERE station = $1 AND last_seen < $2", station, at)
		return err
	})
}

// Stations lists all stations by number.
func (db *DB) Stations(ctx context.Context) ([]protocol.Station, error) {
	stations, err := db.stations(ctx, db.read, "")
	return stations, wrap(err, "list stations")
}

// Station is one station; [ErrNotFound] when it was never seen.
func (db *DB) Station(ctx context.Context, id string) (*protocol.Station, error) {
	if protocol.ValidStation(id) != nil {
		return nil, wrap(ErrNotFound, "station %.40q", id)
	}
	stations, err := db.stations(ctx, db.read, id)
	if err == nil && len(stations) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return nil, wrap(err, "station %s", id)
	}
	return &stations[0], nil
}

// stations reads one station, or all when none is named. One that nothing was ever heard of has no LastSeen.
func (db *DB) stations(ctx context.Context, q querier, id string) ([]protocol.Station, error) {
	var stations []protocol.Station
	err := db.forEach(ctx, q, `SELECT s.station, s.number, coalesce(s.name, ''), s.status, coalesce(CAST(s.info AS text), ''),
			coalesce(CAST(s.state AS text), ''), 
			CASE WHEN coalesce(s.status_at, s.info_at, s.state_at) IS NOT NULL THEN s.last_seen END, (SELECT max(p.last_received) FROM spool p WHERE p.station = s.station),
			coalesce((SELECT CAST(h.receivers AS text) FROM health h WHERE h.station = s.station ORDER BY h.time DESC LIMIT 1), ''),
			x.since, x.until, coalesce(x.reason, ''), a.account IS NOT NULL, a.revoked,
			(SELECT count(*) FROM certificate c WHERE c.station = s.station AND c.revoked IS NULL), (SELECT max(c.revoked) FROM certificate c WHERE c.station = s.station),
			s.removed, CASE WHEN s.status = 'offline' AND s.info IS NULL AND s.info_at IS NOT NULL AND s.state IS NULL THEN s.state_at END
		FROM station s LEFT JOIN suspension x ON x.station = s.station LEFT JOIN account a ON a.account = s.station AND a.kind = 'station' WHERE $1::text = '' OR s.station = $1::text ORDER BY s.number`, []any{id}, func(rows *sql.Rows) error {
		s, err := scanStation(rows)
		stations = append(stations, s)
		return err
	})
	return stations, err
}

func scanStation(rows *sql.Rows) (protocol.Station, error) {
	var s protocol.Station
	var info, state, receivers string
	var seen, recorded, since, until, left time.Time
	var reason string
	var m membership
	err := rows.Scan(&s.ID, &s.Number, &s.Name, &s.Status, &info, &state, scanTime{&seen}, scanTime{&recorded}, &receivers, scanTime{&since}, scanTime{&until}, &reason,
		&m.account, scanTime{&m.accountEnded}, &m.good, scanTime{&m.ended}, scanTime{&m.removed}, scanTime{&left})
	if err != nil {
		return s, err
	}
	if recorded.After(seen) {
		seen = recorded
	}
	if !seen.IsZero() {
		s.LastSeen = protocol.FormatTime(seen)
	}
	s.Receivers, s.Capabilities = []protocol.ReceiverInfo{}, []string{}
	if info != "" {
		var i protocol.Info
		if err := json.Unmarshal([]byte(info), &i); err != nil {
			return s, err
		}
		s.Position, s.Version = i.Position, i.Version
		s.Receivers, s.Capabilities = append(s.Receivers, i.Receivers...), append(s.Capabilities, i.Capabilities...)
	}
	if err := tellReception(&s, receivers); err != nil {
		return s, err
	}
	var st protocol.State
	if state != "" {
		if err := json.Unmarshal([]byte(state), &st); err != nil {
			return s, err
		}
	}
	now := time.Now()
	tellHistories(&s, &st, now)
	s.State, s.Reason, s.Since = st.State, st.Reason, st.Since
	tellLeft(&s, left)
	tellSuspension(&s, since, until, reason, now)
	m.tell(&s)
	if state == "" {
		return s, nil
	}
	s.Clock = &protocol.StationClock{Quality: st.TimeQuality, UncertaintyS: st.TimeUncertaintyS}
	s.Delivery = &protocol.StationDelivery{Backlog: st.Backlog, BacklogAgeS: st.BacklogAgeS, SpoolUsedRatio: st.SpoolUsedRatio}
	steps, err := json.Marshal(st.Receivers)
	s.Steps = steps
	return s, err
}

// membership is by what a station may come.
type membership struct {
	account      bool      // it has one at the broker, or had one that is revoked
	accountEnded time.Time // zero: it did not
	good         int       // certificates that are not revoked
	ended        time.Time // when the last of the others was revoked; zero: none was
	removed      time.Time // when it was removed; zero: it was not, or has come again
}

// tell shows that a station may come no longer, in place of what it said of itself.
func (m membership) tell(s *protocol.Station) {
	switch {
	case m.good > 0 || m.account && m.accountEnded.IsZero():
		return
	case m.account:
		s.State, s.Since = protocol.StateRevoked, protocol.FormatTime(m.accountEnded)
	case !m.removed.IsZero():
		s.State, s.Since = protocol.StateRemoved, protocol.FormatTime(m.removed)
	case m.ended.IsZero():
		return
	default:
		s.State, s.Since = protocol.StateRemoved, protocol.FormatTime(m.ended)
	}
	comes := "code"
	if m.ended.IsZero() { // it never enrolled
		comes = "add"
	}
	s.Reason = fmt.Sprintf("%s on %s; `heimdall-collector station %s %s` lets it in again", s.State, s.Since[:len(time.DateOnly)], comes, s.ID)
}

// tellLeft says of a station that took back all that it said of itself that it left; at is when, zero: it did not.
func tellLeft(s *protocol.Station, at time.Time) {
	if at.IsZero() {
		return
	}
	s.State, s.Since = protocol.StateLeft, protocol.FormatTime(at)
	s.Reason = fmt.Sprintf("%s on %s; it is back once its agent runs again", s.State, s.Since[:len(time.DateOnly)])
}

// tellReception says what each receiver delivered, from the receivers of a health record.
func tellReception(s *protocol.Station, receivers string) error {
	if receivers == "" {
		return nil
	}
	var list []struct {
		Receiver     string `json:"receiver"`
		SamplesTotal uint64 `json:"samples_total"`
		Lost         []struct {
			Samples uint64 `json:"samples"`
		} `json:"lost"`
	}
	if err := json.Unmarshal([]byte(receivers), &list); err != nil {
		return fmt.Errorf("read the receivers of a health record: %w", err)
	}
	for _, r := range list {
		of := protocol.StationReception{Receiver: r.Receiver, SamplesTotal: r.SamplesTotal}
		for _, l := range r.Lost {
			of.LostSamplesTotal += l.Samples
		}
		s.Reception = append(s.Reception, of)
	}
	return nil
}

// staleState is how old a station's last state may be for its histories to be what it says: it comes each minute.
const staleState = 3 * time.Minute

// tellHistories says of each receiver how far back its history reaches now. A history moves on with the time: what the state
// said when it was made is over when it is read. To the next whole second, so that it does not promise too much.
func tellHistories(s *protocol.Station, st *protocol.State, now time.Time) {
	for i := range s.Receivers {
		r := &s.Receivers[i]
		r.HistoryFrom = ""
		at, err := protocol.ParseTime(st.Time)
		of := st.Receivers[r.ID]
		if err != nil || now.Sub(at).Abs() > staleState || s.Status != protocol.Online || !r.Live || !of.Connected || !(of.HistoryS > 0 && of.HistoryS < maxHistoryS) {
			continue
		}
		from := now.Add(-time.Duration(of.HistoryS * float64(time.Second)))
		r.HistoryFrom = protocol.FormatTime(from.Truncate(time.Second).Add(time.Second))
	}
}

// maxHistoryS is more than any memory holds.
const maxHistoryS = 365 * 86400.0
