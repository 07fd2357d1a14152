package store_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/collector/lease"
	"github.com/fulgidus/heimdall/collector/retention"
	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/protocol"
)

// TestPostgreSQL_RetentionOfASlowDatabase removes rows that go so slowly that the usual transaction would outlast the lease, which
// it keeps from being renewed. All of them go.
func TestPostgreSQL_RetentionOfASlowDatabase(t *testing.T) {
	t.Parallel() // it waits most of the time
	const length, rows, chunks = 2 * time.Second, 250, 60
	s := postgresServer(t)
	db := s.open(t)
	old := time.Now().Add(-50 * time.Hour)
	commitAt(t, db, old, madeAt(old.Add(-time.Hour), measurements("torino", 1, 1, rows)...)...)
	var capture []*protocol.Record
	for i := range uint64(chunks) {
		capture = append(capture, chunk("torino", rows+1+i, "long", uint32(i)))
	}
	commitAt(t, db, old, madeAt(old, capture...)...)
	if err := db.FinishRecording(t.Context(), recording("long", "torino", "recordings/none/torino/long", old)); err != nil {
		t.Fatal(err)
	}
	s.exec(t, `CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.01); RETURN OLD; END'`)
	for _, table := range []string{"measurement", "iq_chunk"} {
		s.exec(t, "CREATE TRIGGER slow BEFORE DELETE ON "+table+" FOR EACH ROW EXECUTE FUNCTION slow()")
	}
	r := retention.New(retention.Keep{
		Records: map[protocol.Kind]time.Duration{protocol.KindMeasurement: 48 * time.Hour}, Recording: 48 * time.Hour,
	}, noObjects{}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	keeper := &lease.Keeper[*store.Lease]{
		Take: func(ctx context.Context, length time.Duration) (*store.Lease, error) {
			return db.TakeLease(ctx, "jobs", "one", length)
		},
		Jobs:   []func(context.Context, *store.Lease) error{func(ctx context.Context, l *store.Lease) error { return r.Run(ctx, l) }},
		Length: length, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1) // the one result
	go func() { done <- keeper.Run(ctx) }()
	left := func() int64 {
		return s.number(t, "SELECT (SELECT count(*) FROM measurement) + (SELECT count(*) FROM recording) + (SELECT count(*) FROM recording_removed)")
	}
	for deadline := time.Now().Add(60 * time.Second); left() > 0; pause(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("%d rows are left after 60 s", left())
			break
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if v := verdict(t, db, streamOf("torino", 1), true); !v.OK() || v.Released != rows+chunks {
		t.Errorf("verdict %+v, want %d released", v, rows+chunks)
	}
}

// noObjects is an object store of which nothing is asked.
type noObjects struct{}

func (noObjects) Check(context.Context) error          { return nil }
func (noObjects) Remove(context.Context, string) error { return nil }

// recording is a recording as the archive stores it.
func recording(id, station, key string, stored time.Time) *protocol.Recording {
	return &protocol.Recording{
		ID: id, Station: station, Start: "2026-11-24T02:00:00Z", DurationS: 1, CenterHz: 1e6, SampleRateHz: 1e3,
		Datatype: "cu8", Samples: 4, Bytes: 8, SHA512: "ab", TimeQuality: "ntp", Key: key, Stored: protocol.FormatTime(stored),
	}
}
