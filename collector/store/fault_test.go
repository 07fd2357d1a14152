package store_test

import (
	"context"
	"errors"
	"testing"

	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/protocol"
)

// testAway asks a database that is not there any more.
func testAway(t *testing.T, s *server) {
	db := s.open(t)
	if err := db.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, commitErr := db.Commit(ctx, received, measurements("torino", 1, 1, 2), nil)
	_, migrateErr := db.Migrate(ctx)
	_, describeErr := db.Describe(ctx)
	_, acksErr := db.Acks(ctx)
	_, _, recordsErr := db.Records(ctx, protocol.KindMeasurement, protocol.Filter{})
	_, stationsErr := db.Stations(ctx)
	_, stationErr := db.Station(ctx, "torino")
	_, verifyErr := db.Verify(ctx, "", false)
	_, _, acquisitionsErr := db.Acquisitions(ctx, 0, "")
	_, acquisitionErr := db.Acquisition(ctx, "a")
	_, cancelledErr := db.CancelledBy(ctx, "torino", "c")
	_, unsettledErr := db.UnsettledAcquisitions(ctx)
	_, capturesErr := db.CompleteCaptures(ctx)
	_, chunkErr := db.Chunk(ctx, "torino", "c", 0)
	_, _, recordingsErr := db.Recordings(ctx, protocol.Filter{})
	_, recordingErr := db.Recording(ctx, "r")
	for name, err := range map[string]error{
		"Ping": db.Ping(ctx), "Commit": commitErr, "Migrate": migrateErr, "Describe": describeErr, "Acks": acksErr, "Records": recordsErr,
		"Stations": stationsErr, "Station": stationErr, "Verify": verifyErr, "Acquisitions": acquisitionsErr, "Acquisition": acquisitionErr,
		"UnsettledAcquisitions": unsettledErr, "CompleteCaptures": capturesErr, "Chunk": chunkErr, "Recordings": recordingsErr, "Recording": recordingErr,
		"SaveStatus": db.SaveStatus(ctx, "torino", true, t0), "SaveInfo": db.SaveInfo(ctx, "torino", nil, t0), "SaveState": db.SaveState(ctx, "torino", nil, t0),
		"FailRecording": db.FailRecording(ctx, "torino", "c", ""), "UpdateAcquisitions": db.UpdateAcquisitions(ctx, []string{"a"}, nil), "CancelledBy": cancelledErr,
	} {
		var own *store.Error
		if !errors.As(err, &own) || !own.Transient() || own.Class.String() != "transient" {
			t.Errorf("%s: %v, want a transient error", name, err)
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v does not name its cause", name, err)
		}
	}
}

// testBroken asks a database without its tables, and one of a later version.
func testBroken(t *testing.T, s *server) {
	db := s.open(t)
	s.exec(t, "INSERT INTO migration (number, name, applied) SELECT 99, 'later', applied FROM migration WHERE number = 1")
	_, err := db.Migrate(t.Context())
	var own *store.Error
	var newer *store.NewerError
	if !errors.As(err, &own) || own.Class != store.ClassAll || !errors.As(err, &newer) || newer.Database != 99 || newer.Known < 1 || newer.Known > 98 {
		t.Errorf("later version: %v", err)
	}
	if _, err := db.Describe(t.Context()); !errors.As(err, &newer) {
		t.Errorf("asked what it is: %v", err)
	}
	s.exec(t, "ALTER TABLE spool RENAME TO spoon")
	_, _, err = db.Commit(t.Context(), received, measurements("torino", 1, 1, 2), nil)
	if !errors.As(err, &own) || own.Class != store.ClassAll || own.OneRecord() {
		t.Errorf("no table: %v", err)
	}
	s.exec(t, "ALTER TABLE spoon RENAME TO spool")
	s.raw.SetMaxIdleConns(0)
	// A damaged ledger is no fault of the records.
	commit(t, db, measurements("torino", 1, 1, 2)...)
	if s.sqlite() {
		s.exec(t, "UPDATE spool SET received = 'x'")
		_, _, err = db.Commit(t.Context(), received, measurements("torino", 1, 3, 4), nil)
		if !errors.As(err, &own) || own.OneRecord() {
			t.Errorf("damaged ledger: %v", err)
		}
	}
}

// TestPostgreSQL_Deadlock makes a commit and another transaction wait for one another, so that the server ends the
// commit's: it is run again and nobody notices.
func TestPostgreSQL_Deadlock(t *testing.T) {
	s := postgresServer(t)
	db := s.open(t)
	commit(t, db, measurement("torino", 1, 1), measurement("torino", 2, 1))
	tx, err := s.raw.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	lock := func(b byte) error {
		_, err := tx.ExecContext(t.Context(), "SELECT 1 FROM spool WHERE spool = $1 FOR UPDATE", spoolOf(b))
		return err
	}
	// The commit finds the deadlock first, because this one looks for none.
	if _, err := tx.ExecContext(t.Context(), "SET LOCAL deadlock_timeout = '1min'"); err != nil {
		t.Fatal(err)
	}
	if err := lock(2); err != nil {
		t.Fatal(err)
	}
	committed := make(chan error, 1) // the one result
	go func() {
		_, _, err := db.Commit(t.Context(), received, []*protocol.Record{measurement("torino", 1, 2), measurement("torino", 2, 2)}, nil)
		committed <- err
	}()
	for s.number(t, "SELECT count(*) FROM pg_locks WHERE NOT granted") == 0 {
		select {
		case err := <-committed:
			t.Fatalf("the commit did not wait: %v", err)
		default:
		}
	}
	if err := errors.Join(lock(1), tx.Commit(), <-committed); err != nil {
		t.Fatal(err)
	}
	for b := range byte(2) {
		if v := verdict(t, db, streamOf("torino", b+1), true); !v.OK() || v.Stored != 2 {
			t.Errorf("verdict %+v", v)
		}
	}
	if n := s.number(t, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"); n == 0 {
		t.Log("the server has not counted the deadlock yet")
	}
}
