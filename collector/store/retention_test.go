package store_test

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/protocol"
)

// madeAt gives records new times, a second apart from a time on.
func madeAt(at time.Time, records ...*protocol.Record) []*protocol.Record {
	for i, r := range records {
		r.Time = new(at.Add(time.Duration(i) * time.Second).UnixNano())
	}
	return records
}

// removeAll removes all old rows of a kind and spool, in slices, and tells how many.
func removeAll(t *testing.T, l *store.Lease, kind protocol.Kind, stream protocol.Stream, keep time.Duration, most int) (total int) {
	t.Helper()
	for {
		n, err := l.RemoveRecords(t.Context(), kind, stream, keep, most)
		if err != nil {
			t.Fatal(err)
		}
		if n > most {
			t.Fatalf("a slice of %d, want at most %d", n, most)
		}
		total += n
		if n == 0 {
			return total
		}
	}
}

// hourly is what the hourly view says, one line an hour.
func hourly(t *testing.T, s *server) (lines []string) {
	t.Helper()
	rows, err := s.raw.QueryContext(t.Context(), `SELECT station, receiver, step, measurements, center_hz, power_dbfs, power_dbfs_min, power_dbfs_max,
		noise_floor_dbfs_hz, snr_db_max FROM measurement_1h ORDER BY time, station, receiver, step`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var station string
		var receiver, step *string
		var n int64
		var center, power, powerMin, powerMax, floor, snr *float64
		if err := rows.Scan(&station, &receiver, &step, &n, &center, &power, &powerMin, &powerMax, &floor, &snr); err != nil {
			t.Fatal(err)
		}
		line := fmt.Sprint(station, " ", n)
		for _, text := range []*string{receiver, step} {
			if text != nil {
				line += " " + *text
			}
		}
		for _, v := range []*float64{center, power, powerMin, powerMax, floor, snr} {
			if v == nil {
				line += " -"
			} else {
				line += fmt.Sprintf(" %.3f", math.Round(*v*1000)/1000)
			}
		}
		lines = append(lines, line)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return lines
}

// testRetention removes nine tenths of the rows and looks whether every number is accounted for.
func testRetention(t *testing.T, s *server) {
	db := s.open(t)
	stream := streamOf("torino", 1)
	now := time.Now()
	old := now.Add(-50 * time.Hour)
	var records []*protocol.Record
	for seq := uint64(1); seq <= 900; seq++ {
		r := measurement("torino", 1, seq)
		switch {
		case seq%10 == 0:
			r.Body = spectrumBody(t)
		case seq%9 == 0:
			r.GetMeasurement().PowerDbfs, r.Step = new(float32(-30-float32(seq%5))), nil
		case seq%7 == 0:
			r.GetMeasurement().PowerDbfs, r.GetMeasurement().SnrDb = nil, nil
		}
		records = append(records, r)
	}
	records[449] = gap("torino", 1, 450, 0)
	commitAt(t, db, old, madeAt(old.Add(-15*time.Minute), records...)...)
	// What was made long ago and came today stays, and so does what is new.
	commitAt(t, db, now, madeAt(old.Add(-time.Minute), measurements("torino", 1, 901, 950)...)...)
	commitAt(t, db, now, madeAt(now.Add(-time.Minute), measurements("torino", 1, 951, 1000)...)...)
	commitAt(t, db, old, madeAt(old, measurements("genova", 2, 1, 20)...)...)
	if s.hasTimescale(t) {
		s.exec(t, "SELECT compress_chunk(show_chunks('measurement'))")
		s.exec(t, "CALL refresh_continuous_aggregate('measurement_1h_present', NULL, NULL)")
	}
	before := hourly(t, s)

	l := takeLease(t, db, "one", time.Minute)
	if list, err := l.Spools(t.Context()); err != nil || len(list) != 2 {
		t.Errorf("spools %v, %v", list, err)
	}
	if n := removeAll(t, l, protocol.KindMeasurement, stream, 48*time.Hour, 300); n != 810 {
		t.Errorf("removed %d measurements, want 810", n)
	}
	if n := removeAll(t, l, protocol.KindSpectrum, stream, 51*time.Hour, 300); n != 0 {
		t.Errorf("removed %d spectra that are to be kept", n)
	}
	if n := removeAll(t, l, protocol.KindSpectrum, stream, 48*time.Hour, 30); n != 89 {
		t.Errorf("removed %d spectra, want 89", n)
	}
	v := verdict(t, db, stream, true)
	if !v.OK() || v.Released != 899 || v.Stored != 101 {
		t.Errorf("verdict %+v, want 899 released and 101 stored", v)
	}
	if n := removeAll(t, l, protocol.KindGap, stream, 48*time.Hour, 30); n != 1 || !verdict(t, db, stream, true).OK() {
		t.Errorf("removed %d gaps", n)
	}
	if after := hourly(t, s); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("the hourly view was\n%v\nand is\n%v", before, after)
	}
	if v := verdict(t, db, streamOf("genova", 2), true); !v.OK() || v.Stored != 20 {
		t.Errorf("another spool: %+v", v)
	}
	// What was released is settled for ever, and does not come back.
	if fresh, acks := commit(t, db, records[10]); fresh[0] || settled(acks[stream]) != "{[1,1001)}" {
		t.Errorf("a released record comes again: fresh %v, settled %s", fresh, settled(acks[stream]))
	}
	// The cast is for TimescaleDB, which finds nothing in a compressed chunk where an integer is compared with a bigint.
	s.exec(t, "DELETE FROM measurement WHERE station = 'torino' AND seq = CAST(960 AS bigint)")
	if v := verdict(t, db, stream, false); v.OK() || v.MissingRanges.String() != "{[960,961)}" {
		t.Errorf("a row deleted by hand: %+v", v)
	}
	if err := l.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.RemoveRecords(t.Context(), protocol.KindMeasurement, stream, time.Hour, 10); !errors.Is(err, store.ErrLeaseLost) {
		t.Errorf("without the lease: %v", err)
	}
	s.raw.SetMaxIdleConns(0) // or a cached statement keeps the views from being dropped
}

// testRemoveRecordings removes recordings with their chunks, and chunks of captures that never became one.
func testRemoveRecordings(t *testing.T, s *server) {
	db := s.open(t)
	stream := streamOf("torino", 1)
	now := time.Now()
	old := now.Add(-50 * time.Hour)
	for i, id := range []string{"old", "new", "torn"} {
		base := uint64(10 * i)
		records := madeAt(old, chunk("torino", base+1, id, 0), chunk("torino", base+2, id, 1), done("torino", base+3, id, 2))
		if id == "torn" {
			records = records[:1]
		}
		commitAt(t, db, old, records...)
	}
	moved := chunk("torino", 1, "old", 1) // of a spool that was left, and in a recording twice
	moved.Spool = spoolOf(2)
	commitAt(t, db, old, madeAt(old, moved)...)
	err := db.CreateAcquisitions(t.Context(), []*protocol.Acquisition{{
		ID: "acq", State: protocol.AcquisitionDone, Requested: "2026-11-24T02:00:00Z",
		Stations: []protocol.AcquisitionStation{{Station: "torino", State: protocol.StationDone}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for id, stored := range map[string]time.Time{"old": old, "new": now} {
		r := protocol.Recording{
			ID: id, Acquisition: "acq", Station: "torino", Start: "2026-11-24T02:00:00Z", DurationS: 1, CenterHz: 1e6, SampleRateHz: 1e3,
			Datatype: "cu8", Samples: 4, Bytes: 8, SHA512: "ab", TimeQuality: "ntp", Key: "recordings/acq/torino/" + id, Stored: protocol.FormatTime(stored),
		}
		if err := db.FinishRecording(t.Context(), &r); err != nil {
			t.Fatal(err)
		}
	}
	s.exec(t, "UPDATE acquisition_station SET recording = 'old'")
	l := takeLease(t, db, "one", time.Minute)
	for after, want := range map[string]int{"": 1, "olc": 1, "old": 0} {
		if ids, err := l.OldRecordings(t.Context(), 48*time.Hour, after, 10); err != nil || len(ids) != want || want == 1 && ids[0] != "old" {
			t.Errorf("old recordings after %q are %v, %v; want %d", after, ids, err, want)
		}
	}
	for i, want := range []int{2, 2, 0} { // its chunks in two transactions, the second with its own row
		if n, err := l.RemoveRecording(t.Context(), "old", 2); err != nil || n != want {
			t.Errorf("removed %d rows, %v; want %d", n, err, want)
		}
		if _, err := db.Recording(t.Context(), "old"); (err == nil) != (i == 0) {
			t.Errorf("the recording after transaction %d: %v", i, err)
		}
	}
	if n := removeAll(t, l, protocol.KindIQ, stream, 48*time.Hour, 10); n != 1 {
		t.Errorf("removed %d chunks, want the one of no recording", n)
	}
	if _, err := db.Recording(t.Context(), "old"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the old recording: %v", err)
	}
	if _, err := db.Recording(t.Context(), "new"); err != nil {
		t.Errorf("the new recording: %v", err)
	}
	if a, err := db.Acquisition(t.Context(), "acq"); err != nil || a.Stations[0].Recording != "" || a.Stations[0].State != protocol.StationDone {
		t.Errorf("acquisition %+v, %v; want it without the removed recording", a, err)
	}
	if v := verdict(t, db, stream, false); v.MissingRanges.String() != "{[4,11),[14,21)}" || v.Released != 3 {
		t.Errorf("verdict %+v, want nothing missing but what was never there, and 3 released", v)
	}
	if v := verdict(t, db, streamOf("torino", 2), true); !v.OK() || v.Released != 1 {
		t.Errorf("verdict of the left spool %+v", v)
	}
	if keys, err := l.RemovedRecordings(t.Context(), "recordings/acq/torino/old", 10); err != nil || len(keys) != 0 {
		t.Errorf("removed after the last are %v, %v", keys, err)
	}
	keys, err := l.RemovedRecordings(t.Context(), "", 10)
	if err != nil || len(keys) != 1 || keys[0] != "recordings/acq/torino/old" {
		t.Fatalf("removed are %v, %v", keys, err)
	}
	if err := l.ForgetRecording(t.Context(), keys[0]); err != nil {
		t.Fatal(err)
	}
	if keys, err := l.RemovedRecordings(t.Context(), "", 10); err != nil || len(keys) != 0 {
		t.Errorf("removed are %v, %v after the last was forgotten", keys, err)
	}
	// It is not offered for a new recording.
	if list, err := db.CompleteCaptures(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("complete are %v, %v", list, err)
	}
}

// testRemoveRejected removes what was rejected, with and without a number, and looks whether it is accounted for.
func testRemoveRejected(t *testing.T, s *server) {
	db := s.open(t)
	old := time.Now().Add(-50 * time.Hour)
	reject := func(at time.Time, from, to uint64) {
		t.Helper()
		var list []protocol.Rejection
		for seq := from; seq <= to; seq++ {
			list = append(list,
				protocol.Rejection{Station: "torino", Spool: spoolOf(1), Seq: seq, Reason: "malformed", Payload: fmt.Append(nil, at, seq)},
				protocol.Rejection{Station: "genova", Spool: spoolOf(2), Seq: seq, Reason: "malformed"},
				protocol.Rejection{Station: "torino", Reason: "no record", Payload: fmt.Append(nil, "x", at, seq)})
		}
		if _, _, err := db.Commit(t.Context(), at, nil, list); err != nil {
			t.Fatal(err)
		}
	}
	reject(old, 1, 10)
	reject(time.Now(), 11, 15)
	l := takeLease(t, db, "one", time.Minute)
	total := 0
	for n := 1; n > 0; total += n {
		var err error
		if n, err = l.RemoveRejected(t.Context(), 48*time.Hour, 7); err != nil || n > 7 {
			t.Fatalf("removed %d, %v; want at most 7", n, err)
		}
	}
	if left := s.number(t, "SELECT count(*) FROM rejected"); total != 30 || left != 15 {
		t.Errorf("removed %d, %d are left; want 30 and 15", total, left)
	}
	for _, stream := range []protocol.Stream{streamOf("torino", 1), streamOf("genova", 2)} {
		if v := verdict(t, db, stream, true); !v.OK() || v.Rejected != 15 || v.Released != 0 {
			t.Errorf("verdict %+v, want 15 rejected and nothing missing", v)
		}
	}
	// It is settled for ever, whatever comes under its number.
	if fresh, acks := commit(t, db, measurement("torino", 1, 3)); fresh[0] || settled(acks[streamOf("torino", 1)]) != "{[1,16)}" {
		t.Errorf("fresh %v, settled %s", fresh, settled(acks[streamOf("torino", 1)]))
	}
	reject(time.Now(), 4, 4)
	s.exec(t, "DELETE FROM rejected WHERE station = 'torino' AND seq = 12")
	if v := verdict(t, db, streamOf("torino", 1), true); v.MissingRanges.String() != "{[12,13)}" {
		t.Errorf("a row deleted by hand: %+v", v)
	}
}

func testRemoveAudit(t *testing.T, s *server) {
	db := s.open(t)
	for i := range 20 {
		at := any(time.Now().Add(-time.Duration(i) * time.Hour))
		if s.sqlite() {
			at = at.(time.Time).UnixMicro()
		}
		s.exec(t, "INSERT INTO audit (time, actor, action) VALUES ($1, 'test', 'nothing')", at)
	}
	l := takeLease(t, db, "one", time.Minute)
	for _, want := range []int{6, 4, 0} {
		if n, err := l.RemoveAudit(t.Context(), 590*time.Minute, 6); err != nil || n != want {
			t.Errorf("removed %d, %v; want %d", n, err, want)
		}
	}
	if n := s.number(t, "SELECT count(*) FROM audit"); n != 10 {
		t.Errorf("%d entries are left, want 10", n)
	}
}

func spectrumBody(t *testing.T) *protocol.Record_Spectrum {
	t.Helper()
	sp, err := protocol.NewSpectrum([]float64{-110, -100, -90}, 145e6, 1e3)
	if err != nil {
		t.Fatal(err)
	}
	return &protocol.Record_Spectrum{Spectrum: sp}
}

// commitAt stores records as having arrived at a time.
func commitAt(t *testing.T, db *store.DB, at time.Time, records ...*protocol.Record) {
	t.Helper()
	if _, _, err := db.Commit(t.Context(), at, records, nil); err != nil {
		t.Fatal(err)
	}
}

// hasTimescale tells whether the server has TimescaleDB.
func (s *server) hasTimescale(t *testing.T) bool {
	return !s.sqlite() && s.number(t, "SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'") > 0
}
