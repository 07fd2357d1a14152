package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// Capture is a capture whose chunks are all in.
type Capture struct {
	Station string
	// Reply is the reply with the manifest.
	Reply *protocol.Reply
	// Position is the station's place as published, nil when it is hidden or unknown.
	Position *protocol.Position
	// Detections are records of the same station and receiver that overlap the capture in time.
	Detections []*protocol.Record
}

const (
	// capturesAtOnce bounds the memory of one call.
	capturesAtOnce = 50
	// lastingDetection is the longest that a detection that overlaps a capture may have begun before it. A lasting one sends
	// a record each 10 s, but all with the time of its start.
	lastingDetection = time.Hour
)

// CompleteCaptures lists captures all of whose chunks are in and that have neither a recording nor a failure, oldest
// first and at most 50 at once.
func (db *DB) CompleteCaptures(ctx context.Context) ([]Capture, error) {
	t := db.tables[protocol.KindReply]
	query := fmt.Sprintf(`SELECT received, %s FROM reply AS r
		WHERE chunks > 0 AND state = 'done' AND archive_error IS NULL
			AND NOT EXISTS (SELECT 1 FROM recording WHERE recording.station = r.station AND recording.capture_id = r.capture_id)
			AND (SELECT count(DISTINCT c."index") FROM iq_chunk AS c WHERE c.station = r.station AND c.capture_id = r.capture_id
				AND c."index" < r.chunks AND c.data IS NOT NULL) = r.chunks
		ORDER BY time, seq LIMIT %d`, t.selected(), capturesAtOnce)
	var captures []Capture
	type identity struct{ station, capture string }
	seen := make(map[identity]bool) // a capture may be told of twice, by a reply that moved to a new spool
	err := db.forEach(ctx, db.read, query, nil, func(rows *sql.Rows) error {
		stored, err := t.scan(rows)
		reply := stored.Record.GetReply()
		c := Capture{Station: stored.Record.GetStation(), Reply: reply}
		if id := (identity{c.Station, reply.GetCapture().GetId()}); err == nil && !seen[id] {
			seen[id] = true
			captures = append(captures, c)
		}
		return err
	})
	if err != nil {
		return nil, wrap(err, "look for complete captures")
	}
	for i := range captures {
		if err := db.describeCapture(ctx, &captures[i]); err != nil {
			return nil, wrap(err, "describe capture %s", captures[i].Reply.GetCapture().GetId())
		}
	}
	return captures, nil
}

// describeCapture adds what else is known of a capture's place and content.
func (db *DB) describeCapture(ctx context.Context, c *Capture) error {
	stations, err := db.stations(ctx, db.read, c.Station)
	if err != nil {
		return err
	}
	if len(stations) > 0 {
		c.Position = stations[0].Position
	}
	m := c.Reply.GetCapture()
	if m.Start == nil {
		return nil
	}
	start, _ := micros(m.GetStart())
	length := time.Duration(min(max(m.GetDurationS(), 0), 86400) * float64(time.Second))
	detections, err := db.detectionsBetween(ctx, c.Station, m.GetReceiver(), start, start.Add(length))
	c.Detections = detections
	return err
}

// detectionsBetween are the newest records of the detections of a receiver that overlap a span of time.
func (db *DB) detectionsBetween(ctx context.Context, station, receiver string, from, to time.Time) ([]*protocol.Record, error) {
	t := db.tables[protocol.KindDetection]
	query := fmt.Sprintf(`SELECT received, %s FROM detection
		WHERE station = $1 AND time >= $2 AND time <= $3 AND ($4::text = '' OR receiver IS NULL OR receiver = $4::text)
		ORDER BY time, duration_s LIMIT %d`, t.selected(), maxLimit)
	var list []*protocol.Record
	place := make(map[string]int) // of a detection's id in list: later records replace earlier ones
	err := db.forEach(ctx, db.read, query, []any{station, from.Add(-lastingDetection), to, receiver}, func(rows *sql.Rows) error {
		stored, err := t.scan(rows)
		if err != nil {
			return err
		}
		d := stored.Record.GetDetection()
		if time.Unix(0, stored.Record.GetTime()).Add(time.Duration(d.GetDurationS() * float64(time.Second))).Before(from) {
			return nil
		}
		if i, ok := place[d.GetDetectionId()]; ok {
			list[i] = stored.Record
			return nil
		}
		place[d.GetDetectionId()] = len(list)
		list = append(list, stored.Record)
		return nil
	})
	return list, err
}

// Chunk is the data of one chunk of a capture, counted from 0; [ErrNotFound] when it is not in, or no longer.
func (db *DB) Chunk(ctx context.Context, station, captureID string, index uint32) ([]byte, error) {
	var data []byte
	err := db.queryRow(ctx, db.read, `SELECT data FROM iq_chunk WHERE station = $1 AND capture_id = $2 AND "index" = $3 AND data IS NOT NULL
		ORDER BY time, spool, seq LIMIT 1`, station, captureID, int64(index)).Scan(&data)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	return data, wrap(err, "chunk %d of capture %.40q", index, captureID)
}

// FinishRecording records a recording as complete, frees its chunks and names it in its acquisition, in one
// transaction. It may be repeated. The id is the capture's; where another station's recording already has it, the
// recording is stored, and r named, as CAPTURE@STATION.
func (db *DB) FinishRecording(ctx context.Context, r *protocol.Recording) error {
	row, err := encodeRecording(r)
	if err != nil {
		return wrap(err, "finish recording %.40q", r.ID)
	}
	capture, id := r.ID, ""
	err = db.transact(ctx, func(tx *sql.Tx) error {
		// Whoever changes an acquisition locks it first.
		var acquisition string
		err := db.queryRow(ctx, tx, "SELECT id FROM acquisition WHERE id = $1 FOR UPDATE", r.Acquisition).Scan(&acquisition)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if id, err = db.insertRecording(ctx, tx, r.Station, capture, row); err != nil {
			return err
		}
		_, err = db.exec(ctx, tx, "UPDATE iq_chunk SET data = NULL WHERE station = $1 AND capture_id = $2 AND data IS NOT NULL", r.Station, capture)
		if err != nil {
			return err
		}
		_, err = db.exec(ctx, tx, "UPDATE acquisition_station SET recording = $3 WHERE acquisition = $1 AND station = $2",
			r.Acquisition, r.Station, id)
		return err
	})
	if err != nil {
		return wrapData(err, "finish recording %s of %s", capture, r.Station)
	}
	r.ID = id
	return nil
}

// insertRecording adds a capture's recording unless it is there, and tells its id. No capture's id has an @, so the
// second choice is free.
func (db *DB) insertRecording(ctx context.Context, tx *sql.Tx, station, capture string, row []any) (id string, err error) {
	for _, choice := range []string{capture, capture + "@" + station} { // at most one goes in: a capture has one recording
		_, err := db.exec(ctx, tx, `INSERT INTO recording (acquisition, station, receiver, start, start_ns, asked_start, asked_start_ns,
				duration_s, center_hz, sample_rate_hz, datatype, samples, lost_samples, bytes, sha512, time_quality, time_uncertainty_s, key, stored,
				capture_id, id)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)
			ON CONFLICT DO NOTHING`, append(slices.Clip(row), capture, choice)...)
		if err != nil {
			return "", err
		}
	}
	err = db.queryRow(ctx, tx, "SELECT id FROM recording WHERE station = $1 AND capture_id = $2", station, capture).Scan(&id)
	return id, err
}

// encodeRecording is a recording's row without its id.
func encodeRecording(r *protocol.Recording) ([]any, error) {
	start, err := time.Parse(time.RFC3339Nano, r.Start)
	if err != nil {
		return nil, refuse("start: %w", err)
	}
	at, atNS := micros(start.UnixNano())
	var asked *time.Time
	var askedNS *int16
	if r.AskedStart != "" {
		t, err := time.Parse(time.RFC3339Nano, r.AskedStart)
		if err != nil {
			return nil, refuse("asked_start: %w", err)
		}
		us, ns := micros(t.UnixNano())
		asked, askedNS = &us, &ns
	}
	stored, err := time.Parse(time.RFC3339Nano, r.Stored)
	if err != nil {
		return nil, refuse("stored: %w", err)
	}
	for name, n := range map[string]uint64{"samples": r.Samples, "lost_samples": r.LostSamples, "bytes": r.Bytes} {
		if n > math.MaxInt64 {
			return nil, refuse("%s: %d: the most that can be stored is %d", name, n, int64(math.MaxInt64))
		}
	}
	return []any{
		r.Acquisition, r.Station, r.Receiver, at, atNS, asked, askedNS, r.DurationS, r.CenterHz, r.SampleRateHz, r.Datatype,
		int64(r.Samples), int64(r.LostSamples), int64(r.Bytes), r.SHA512, r.TimeQuality, r.TimeUncertaintyS, r.Key, stored.UTC(),
	}, nil
}

// FailRecording records that a capture can never become a recording, so that it is not offered again.
func (db *DB) FailRecording(ctx context.Context, station, captureID, reason string) error {
	_, err := db.exec(ctx, db.write, "UPDATE reply SET archive_error = $3 WHERE station = $1 AND capture_id = $2 AND chunks > 0",
		station, captureID, storableText(reason))
	return wrap(err, "fail recording %.40q", captureID)
}

// Recordings lists recordings, newest first, and gives the cursor of the next page.
func (db *DB) Recordings(ctx context.Context, f protocol.Filter) ([]protocol.Recording, string, error) {
	var where conditions
	err := where.filter(f, "start", "center_hz - sample_rate_hz / 2", "center_hz + sample_rate_hz / 2", "recording")
	if err != nil {
		return nil, "", err
	}
	if f.Cursor != "" {
		var at idCursor
		if err := decodeCursor(f.Cursor, &at); err != nil {
			return nil, "", err
		}
		where.add("(start, id) < (%s, %s)", time.UnixMicro(at.Micros).UTC(), at.ID)
	}
	limit := limitOf(f.Limit)
	list, err := db.recordings(ctx, fmt.Sprintf("%s ORDER BY start DESC, id DESC LIMIT %d", where.sql(), limit+1), where.args...)
	if err != nil {
		return nil, "", wrap(err, "list recordings")
	}
	if len(list) <= limit {
		return list, "", nil
	}
	list = list[:limit]
	last := list[limit-1]
	start, err := time.Parse(time.RFC3339Nano, last.Start)
	return list, encodeCursor(idCursor{Micros: start.UnixMicro(), ID: last.ID}), err
}

// Recording is one recording; [ErrNotFound] when there is none of that id.
func (db *DB) Recording(ctx context.Context, id string) (*protocol.Recording, error) {
	if !storable(id) {
		return nil, wrap(ErrNotFound, "recording %.40q", id)
	}
	list, err := db.recordings(ctx, " WHERE id = $1", id)
	if err == nil && len(list) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return nil, wrap(err, "recording %.40q", id)
	}
	return &list[0], nil
}

// recordings reads recordings; clause is all after the table.
func (db *DB) recordings(ctx context.Context, clause string, args ...any) ([]protocol.Recording, error) {
	list := []protocol.Recording{}
	err := db.forEach(ctx, db.read, `SELECT id, acquisition, station, receiver, start, start_ns, asked_start, coalesce(asked_start_ns, 0),
		duration_s, center_hz, sample_rate_hz, datatype, samples, lost_samples, bytes, sha512, time_quality, time_uncertainty_s, key, stored
		FROM recording`+clause, args, func(rows *sql.Rows) error {
		var r protocol.Recording
		var start, asked, stored time.Time
		var startNS, askedNS int64
		err := rows.Scan(&r.ID, &r.Acquisition, &r.Station, &r.Receiver, scanTime{&start}, &startNS, scanTime{&asked}, &askedNS,
			&r.DurationS, &r.CenterHz, &r.SampleRateHz, &r.Datatype, &r.Samples, &r.LostSamples, &r.Bytes, &r.SHA512,
			&r.TimeQuality, &r.TimeUncertaintyS, &r.Key, scanTime{&stored})
		r.Start, r.Stored = protocol.FormatTime(start.Add(time.Duration(startNS))), protocol.FormatTime(stored)
		if !asked.IsZero() {
			r.AskedStart = protocol.FormatTime(asked.Add(time.Duration(askedNS)))
		}
		list = append(list, r)
		return err
	})
	return list, err
}
