package store_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fulgidus/heimdall/protocol"
)

// selected is what SQL gives, with numbers of all kinds as float64, and times left out: they are of two kinds.
func (s *server) selected(t *testing.T, query string) (out [][]any) {
	t.Helper()
	rows, err := s.raw.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		row, to := make([]any, len(columns)), make([]any, len(columns))
		for i := range row {
			to[i] = &row[i]
		}
		if err := rows.Scan(to...); err != nil {
			t.Fatal(err)
		}
		for i := range row {
			switch v := row[i].(type) {
			case int64:
				row[i] = float64(v)
			case float32:
				row[i] = float64(v)
			}
		}
		out = append(out, row)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// hourViews are the views that outlive their rows, and what a test compares of them.
var hourViews = map[protocol.Kind]string{
	protocol.KindDetection: `SELECT station, receiver, step, detections, updates, duration_s, duration_s_max, low_hz, high_hz, power_dbfs, power_dbfs_max, snr_db_max
		FROM detection_1h ORDER BY station, time, receiver, step`,
	protocol.KindSpectrum: `SELECT station, receiver, step, step_hz, frequency_hz, spectra, dbfs_hz, dbfs_hz_max
		FROM spectrum_1h ORDER BY station, time, receiver, step, step_hz, frequency_hz`,
	protocol.KindHealth: `SELECT station, reports, uptime_s_min, time_uncertainty_s_max, backlog_age_s_max, spool_bytes_max, spool_limit_bytes, temperature_c, temperature_c_max
		FROM health_1h ORDER BY station, time`,
}

// hourRecords are 90 records a kind, one each two minutes: 29, 30 and 31 in three hours.
func hourRecords(t *testing.T, begin time.Time) []*protocol.Record {
	t.Helper()
	var records []*protocol.Record
	for i := range uint64(90) {
		at := begin.Add(time.Duration(i) * 2 * time.Minute)
		add := func(r *protocol.Record, seq uint64) *protocol.Record {
			r.Station, r.Spool, r.Seq, r.Time = new("torino"), spoolOf(1), new(3*i+seq), new(at.UnixNano())
			records = append(records, r)
			return r
		}
		d := &protocol.Detection{
			DurationS: new(float64(i)), CenterHz: new(145e6), Open: new(i%3 == 0), PowerDbfs: new(-40 - float32(i%7)), SnrDb: new(float32(i % 11)),
		}
		if i%2 == 0 {
			d.LowHz, d.HighHz = new(144.9e6-float64(i)), new(145.1e6)
		}
		if i%10 == 1 {
			d.PowerDbfs, d.Open = nil, nil
		}
		r := add(&protocol.Record{Body: &protocol.Record_Detection{Detection: d}}, 1)
		if i%4 > 0 {
			r.Receiver, r.Step = new("rx0"), new("2m")
		}
		sp, err := protocol.NewSpectrum([]float64{-110, -100 - float64(i%5), -90}, 145e6, 1e3)
		if err != nil {
			t.Fatal(err)
		}
		add(&protocol.Record{Receiver: new("rx0"), Body: &protocol.Record_Spectrum{Spectrum: sp}}, 2)
		h := &protocol.Health{
			Now: new(at.UnixNano()), UptimeS: new(float64(i * 120)), SpoolBytes: new(i), SpoolLimitBytes: new(uint64(1 << 20)), Clock: &protocol.Clock{UncertaintyS: new(float64(i))},
		}
		if i%2 == 0 {
			h.TemperatureC, h.Oldest = new(float32(40+i)), new(at.Add(-time.Duration(i)*time.Second).UnixNano())
		}
		add(&protocol.Record{Body: &protocol.Record_Health{Health: h}}, 3)
	}
	return records
}

// refresh does what TimescaleDB's policies do each hour.
func (s *server) refreshHours(t *testing.T) {
	t.Helper()
	if !s.hasTimescale(t) {
		return
	}
	for _, table := range []string{"measurement", "detection", "health"} {
		s.exec(t, "CALL refresh_continuous_aggregate('"+table+"_1h_present', NULL, NULL)")
	}
}

// testHours looks whether the hours of detections, spectra and health say the same after retention has removed their rows, and
// whether what comes late from an hour that was removed is in it, too.
func testHours(t *testing.T, s *server) {
	db := s.open(t)
	old := time.Now().Add(-50 * time.Hour)
	begin := old.Add(-5 * time.Hour).Truncate(time.Hour).Add(2 * time.Minute)
	commitAt(t, db, old, hourRecords(t, begin)...)
	if s.hasTimescale(t) {
		s.exec(t, "SELECT compress_chunk(show_chunks('detection'))")
	}
	s.refreshHours(t)
	before := map[protocol.Kind][][]any{}
	for kind, query := range hourViews {
		before[kind] = s.selected(t, query)
	}
	// By hand, of the first hour: rows 0 to 28.
	health := before[protocol.KindHealth]
	want := []any{"torino", 29.0, 0.0, 28.0, 28.0, 28.0, float64(1 << 20), 54.0, 68.0} // temperatures 40, 42 … 68
	if len(health) != 4 || cmp.Diff(want, health[0], cmpopts.EquateApprox(0, 1e-9)) != "" {
		t.Errorf("health_1h is %v, want four hours, the first %v", health, want)
	}
	spectra := before[protocol.KindSpectrum]
	if len(spectra) != 12 || fmt.Sprint(spectra[1][:4], spectra[1][5]) != "[torino rx0 <nil> 1000] 29" || math.Abs(spectra[1][6].(float64)+101.6) > 0.3 || spectra[1][7].(float64) != -100 {
		t.Errorf("spectrum_1h is %v", spectra)
	}
	var detections, updates, seconds float64
	for _, row := range before[protocol.KindDetection] {
		detections, updates, seconds = detections+row[3].(float64), updates+row[4].(float64), seconds+row[5].(float64)
	}
	if detections != 63 || updates != 27 { // 30 of a third, of which three have no word on it
		t.Errorf("detection_1h has %v detections and %v updates, want 63 and 27", detections, updates)
	}

	l := takeLease(t, db, "one", time.Minute)
	stream := streamOf("torino", 1)
	for kind, query := range hourViews {
		// Slices that end inside an hour, so that sums are added to sums.
		if n := removeAll(t, l, kind, stream, 48*time.Hour, 22); n != 90 {
			t.Errorf("removed %d rows of %s, want 90", n, kind)
		}
		if n := s.number(t, "SELECT count(*) FROM "+string(kind)); n != 0 {
			t.Errorf("%d rows of %s are left", n, kind)
		}
		// A spectrum's hour is kept in hundredths of a dB.
		if diff := cmp.Diff(before[kind], s.selected(t, query), cmpopts.EquateApprox(0, 0.02)); diff != "" {
			t.Errorf("%s without its rows (-before +after):\n%s", kind, diff)
		}
	}
	if v := verdict(t, db, stream, true); !v.OK() || v.Released != 270 {
		t.Errorf("verdict %+v", v)
	}
	late := hourRecords(t, begin)[:3]
	for i, r := range late { // from the backlog of another spool
		r.Spool, r.Seq = spoolOf(2), new(uint64(i+1))
	}
	commitAt(t, db, time.Now(), late...)
	s.refreshHours(t)
	checkLate(t, s, before)
	s.raw.SetMaxIdleConns(0) // or a cached statement keeps the views from being dropped
}

// checkLate wants one record more in the first hour of each view.
func checkLate(t *testing.T, s *server, before map[protocol.Kind][][]any) {
	t.Helper()
	for kind, column := range map[protocol.Kind]int{protocol.KindDetection: 4, protocol.KindSpectrum: 5, protocol.KindHealth: 1} {
		var was, is float64
		for _, row := range before[kind] {
			was += row[column].(float64)
		}
		for _, row := range s.selected(t, hourViews[kind]) {
			is += row[column].(float64)
		}
		more := 1.0
		if kind == protocol.KindSpectrum {
			more = 3 // bins
		}
		if is != was+more {
			t.Errorf("%s: %v in all hours with a late record, want %v", kind, is, was+more)
		}
	}
}
