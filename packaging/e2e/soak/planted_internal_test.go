package soak

import (
	"log/slog"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fulgidus/heimdall/packaging/e2e/invariant"
)

// TestPlanted does by hand to the database of a real run what must never happen, and demands that the judge finds each.
func TestPlanted(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes half a minute")
	}
	t.Parallel()
	dir, err := os.MkdirTemp("", "heimdall-planted-") //nolint:usetesting // PostgreSQL runs as another account, which cannot get into t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	w := &world{
		options: Options{For: 5 * time.Second, Seed: 1, Faults: []string{"kills"}, Module: "../../.."}, dir: dir,
		log: slog.New(slog.DiscardHandler), counts: map[string]int{},
	}
	if err := w.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer w.close()
	if err := w.torment(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.rest(t.Context()); err != nil {
		t.Fatal(err)
	}
	judge := func() *invariant.Report {
		known, err := w.known(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return invariant.Judge(known)
	}
	if report := judge(); len(report.Findings) > 0 || report.Stations["clean-1"].Stored < 20 {
		t.Fatalf("before: %v, %+v", report.Findings, report.Stations["clean-1"])
	}
	conn, err := pgx.Connect(t.Context(), w.databaseURL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	nth := func(n string) string {
		return "ctid = (SELECT ctid FROM measurement WHERE station = 'clean-1' ORDER BY seq LIMIT 1 OFFSET " + n + ")"
	}
	for _, c := range []struct {
		name    string
		want    invariant.Fault
		station string
		sql     string
	}{
		{"a number leaves the ledger", invariant.BadLedger, "clean-1", "UPDATE spool SET received = received - int8multirange(int8range(2, 3)) WHERE station = 'clean-1'"},
		{"a row is deleted", invariant.Missing, "clean-1", "DELETE FROM measurement WHERE " + nth("3")},
		{"a row is doubled", invariant.Duplicate, "clean-1", "CREATE TEMP TABLE x AS SELECT * FROM measurement WHERE " + nth("5") +
			"; UPDATE x SET time = time + interval '1 us'; INSERT INTO measurement SELECT * FROM x; DROP TABLE x"},
		{"a digest is changed", invariant.Forged, "clean-1", `UPDATE measurement SET digest = '\x0000000000000000' WHERE ` + nth("9")},
		{"a row is invented", invariant.Invented, "clean-1", "CREATE TEMP TABLE x AS SELECT * FROM measurement WHERE " + nth("11") +
			"; UPDATE x SET seq = 1000000; INSERT INTO measurement SELECT * FROM x; DROP TABLE x"},
		{"a row goes to another station", invariant.Invented, "clean-2", "UPDATE measurement SET station = 'clean-2' WHERE " + nth("13")},
		{"a loss is invented", invariant.Undeserved, "clean-1", "INSERT INTO gap (time, time_ns, station, spool, seq, digest, received, ranges, reason)" +
			" SELECT time, 0, station, spool, 1000001, digest, received, int8multirange(int8range(seq, seq + 1)), 'quota' FROM measurement WHERE " + nth("15")},
	} {
		if _, err := conn.Exec(t.Context(), c.sql); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		report := judge()
		if !slices.ContainsFunc(report.Findings, func(f invariant.Finding) bool { return f.Fault == c.want && f.Station == c.station }) {
			t.Errorf("%s: want %s at %s, found %v", c.name, c.want, c.station, report.Findings)
		}
	}
	if w.verify(t.Context()); len(w.violations) == 0 {
		t.Error("the collector's own verify finds nothing wrong with it")
	}
}
