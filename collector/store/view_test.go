package store_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fulgidus/heimdall/protocol"
)

func testViews(t *testing.T, s *server) {
	db := s.open(t)
	rows := func(query string) [][]any {
		t.Helper()
		r, err := s.raw.QueryContext(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		columns, err := r.Columns()
		if err != nil {
			t.Fatal(err)
		}
		var out [][]any
		for r.Next() {
			row, to := make([]any, len(columns)), make([]any, len(columns))
			for i := range row {
				to[i] = &row[i]
			}
			if err := r.Scan(to...); err != nil {
				t.Fatal(err)
			}
			out = append(out, row)
		}
		if err := r.Err(); err != nil {
			t.Fatal(err)
		}
		return out
	}
	site := measurement("torino", 1, 7)
	site.Body = &protocol.Record_Site{Site: &protocol.Site{LatitudeDeg: new(45.044), LongitudeDeg: new(7.672), HeightM: new(250.0), UncertaintyM: new(5.0)}}
	first := measurement("torino", 1, 8)
	first.Body = &protocol.Record_Detection{Detection: &protocol.Detection{DurationS: new(1.0), Open: new(true)}}
	second := measurement("torino", 1, 9)
	second.Body = &protocol.Record_Detection{Detection: &protocol.Detection{DurationS: new(11.0), Open: new(false), DetectionId: new("torino-01ff002704050601-8")}}
	quiet := measurement("torino", 1, 11)
	quiet.GetMeasurement().PowerDbfs = new(float32(-48.2))
	commit(t, db, append(records(), site, first, second, chunk("torino", 10, "c", 0), quiet)...)

	if got := rows("SELECT kind, count(*), sum(seq) FROM record WHERE station = 'torino' GROUP BY kind ORDER BY kind"); fmt.Sprint(got) !=
		"[[detection 3 20] [gap 1 5] [health 1 4] [iq 1 10] [measurement 2 12] [reply 1 6] [site 1 7] [spectrum 1 2]]" {
		t.Error("record:", got)
	}
	if got := rows("SELECT receiver, frequency_hz, dbfs_hz FROM spectrum_bin ORDER BY frequency_hz"); fmt.Sprint(got) !=
		"[[rx0 1.45e+08 -140] [rx0 1.45001e+08 -139.5] [rx0 1.45002e+08 -13] [rx0 1.45003e+08 -12.5]]" {
		t.Error("spectrum_bin:", got)
	}
	if got := rows("SELECT station, receiver, step, measurements, power_dbfs_min, snr_db_max FROM measurement_1h"); len(got) != 1 ||
		fmt.Sprint(got[0][:4]) != "[torino rx0 2m 2]" || math.Abs(got[0][4].(float64)+48.2) > 1e-5 {
		t.Error("measurement_1h:", got)
	}
	// Half of the sum of -38.2 dBFS and -48.2 dBFS: 10 log10((10^-3.82 + 10^-4.82) / 2) = -40.796; real has 7 digits.
	mean := rows("SELECT power_dbfs FROM measurement_1h")[0][0].(float64)
	if math.Abs(mean+40.7965) > 1e-3 {
		t.Errorf("mean power %v dBFS, want -40.7965", mean)
	}
	if got := rows("SELECT station, receiver, step, measurements, power_dbfs_min, power_dbfs FROM measurement_1d"); len(got) != 1 ||
		fmt.Sprint(got[0][:4]) != "[torino rx0 2m 2]" || math.Abs(got[0][4].(float64)+48.2) > 1e-5 || math.Abs(got[0][5].(float64)-mean) > 1e-9 {
		t.Error("measurement_1d:", got)
	}
	if got := rows("SELECT detection_id, seq, duration_s FROM detection_latest ORDER BY seq"); fmt.Sprint(got) !=
		"[[torino-01ff002704050601-2 3 0.25] [torino-01ff002704050601-8 9 11]]" {
		t.Error("detection_latest:", got)
	}
	if got := rows("SELECT last, received, rejected, gapped, released, pending FROM delivery WHERE received > 0"); fmt.Sprint(got) != "[[11 11 0 0 0 0]]" {
		t.Error("delivery:", got)
	}
	if got := rows("SELECT gapped, last FROM delivery WHERE received = 0"); fmt.Sprint(got) != "[[6 8]]" {
		t.Error("delivery of the lost spool:", got)
	}
	if err := db.SaveState(t.Context(), "torino", &protocol.State{State: "paused", Reason: "owner"}, t0); err != nil {
		t.Fatal(err)
	}
	if got := rows("SELECT station, number, status, state, reason FROM station_last"); fmt.Sprint(got) != "[[torino 1 offline paused owner]]" {
		t.Error("station_last:", got)
	}
	if got := rows("SELECT version, uptime_s, time_quality, time_uncertainty_s * 1e6, backlog, spool_used_ratio * 2048, CAST(samples_total AS text), CAST(lost_samples_total AS text) FROM station_health"); fmt.Sprint(got) !=
		"[[1.2.3 3600.5 ptp 1 2 1 1000000000 7]]" {
		t.Error("station_health:", got)
	}
	state := &protocol.State{State: "running", TimeQuality: "ntp", TimeUncertaintyS: 0.25, Backlog: math.MaxUint64, BacklogAgeS: 1.5, SpoolUsedRatio: 0.125}
	if err := db.SaveState(t.Context(), "torino", state, t0.Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if got := rows("SELECT time_quality, time_uncertainty_s, backlog / 1e19, backlog_age_s, spool_used_ratio, CAST(samples_total AS text), CAST(lost_samples_total AS text) FROM station_last"); fmt.Sprint(got) !=
		"[[ntp 0.25 1.8446744073709551 1.5 0.125 1000000000 7]]" {
		t.Error("station_last:", got)
	}
	if n := s.number(t, "SELECT count(*) FROM station_last WHERE last_seen IS NOT NULL AND last_measurement IS NOT NULL AND last_detection IS NOT NULL"); n != 1 {
		t.Error("station_last has no times")
	}
	if n := s.number(t, "SELECT count(*) FROM site WHERE valid_from = time AND lat = 45.044 AND lon = 7.672 AND height_m = 250 AND uncertainty_m = 5"); n != 1 {
		t.Error("the place is not as sent")
	}
	s.raw.SetMaxIdleConns(0) // or a cached statement keeps the views from being dropped
}

// testDeflated stores a spectrum whose levels came compressed.
func testDeflated(t *testing.T, s *server) {
	db := s.open(t)
	levels := make([]float64, 1024)
	for i := range levels {
		levels[i] = -110 + float64(i%40)/2
	}
	rec := measurement("torino", 1, 1)
	sp, err := protocol.NewSpectrum(levels, 145e6, 1e3)
	if err != nil {
		t.Fatal(err)
	}
	if sp.GetCodec() != protocol.Spectrum_CODEC_DEFLATE {
		t.Fatalf("codec %v: these levels should be worth compressing", sp.GetCodec())
	}
	rec.Body = &protocol.Record_Spectrum{Spectrum: sp}
	commit(t, db, rec)
	list, _, err := db.Records(t.Context(), protocol.KindSpectrum, protocol.Filter{})
	if err != nil || len(list) != 1 {
		t.Fatal(len(list), err)
	}
	got, err := list[0].Record.GetSpectrum().LevelsDBFSHz()
	if err != nil {
		t.Fatal(err)
	}
	want, err := sp.LevelsDBFSHz()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if n := s.number(t, "SELECT count(*) FROM spectrum_bin"); n != 1024 {
		t.Errorf("%d bins, want 1024", n)
	}
}
