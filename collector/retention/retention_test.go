package retention_test

import (
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fulgidus/heimdall/collector/archive"
	"github.com/fulgidus/heimdall/collector/retention"
	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/protocol"
)

const day = 24 * time.Hour

// open makes a database and a lease in it.
func open(t *testing.T) (*store.DB, *store.Lease) {
	t.Helper()
	db, err := store.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if _, err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	lease, err := db.TakeLease(t.Context(), "jobs", "test", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return db, lease
}

// record makes a record of each kind in turn.
func record(seq uint64, at time.Time) *protocol.Record {
	r := &protocol.Record{Station: new("torino"), Spool: []byte("12345678"), Seq: &seq, Time: new(at.UnixNano())}
	switch seq % 6 {
	case 0:
		r.Body = &protocol.Record_Measurement{Measurement: &protocol.Measurement{PowerDbfs: new(float32(-40))}}
	case 1:
		r.Body = &protocol.Record_Detection{Detection: &protocol.Detection{DurationS: new(1.0)}}
	case 2:
		r.Body = &protocol.Record_Health{Health: &protocol.Health{LastSeq: &seq}}
	case 3:
		r.Body = &protocol.Record_Gap{Gap: &protocol.Gap{Reason: protocol.Gap_REASON_PAUSED.Enum()}}
	case 4:
		r.Body = &protocol.Record_Iq{Iq: &protocol.IqChunk{CaptureId: new("torn"), Index: new(uint32(seq)), Data: []byte{1}}}
	case 5:
		r.Body = &protocol.Record_Site{Site: &protocol.Site{LatitudeDeg: new(45.0), LongitudeDeg: new(7.0)}}
	}
	return r
}

func TestPass_KeepsEachKindAsLongAsItIsTold(t *testing.T) {
	db, lease := open(t)
	now := time.Now()
	for age := range 40 { // one of each kind a day
		var records []*protocol.Record
		at := now.Add(-time.Duration(age)*day - time.Hour)
		for i := range 6 {
			records = append(records, record(uint64((40-age)*6+i), at))
		}
		if _, _, err := db.Commit(t.Context(), at, records, nil); err != nil {
			t.Fatal(err)
		}
	}
	r := retention.New(retention.Keep{
		Records: map[protocol.Kind]time.Duration{protocol.KindMeasurement: 30 * day, protocol.KindDetection: 20 * day, protocol.KindHealth: 10 * day},
		// gaps for ever
		Recording: 5 * day,
	}, nil, slog.New(slog.DiscardHandler))
	n, err := r.Pass(t.Context(), lease)
	if want := 10 + 20 + 30 + 35; err != nil || n != want {
		t.Errorf("removed %d, %v; want %d", n, err, want)
	}
	if n, err := r.Pass(t.Context(), lease); n != 0 || err != nil {
		t.Errorf("again: removed %d, %v", n, err)
	}
	verdicts, err := db.Verify(t.Context(), "", true)
	if err != nil || len(verdicts) != 1 || verdicts[0].Released != 95 || verdicts[0].Stored != 240-95 || verdicts[0].MissingRanges.String() != "{[1,6)}" {
		t.Errorf("verdicts %+v, %v; want all but 1 to 5, which never were, accounted for", verdicts, err)
	}
}

// objects is an archive that may be away.
type objects struct {
	*archive.Archive
	broken error
	calls  int
}

func (o *objects) Remove(ctx context.Context, key string) error {
	if o.calls++; o.broken != nil {
		return o.broken
	}
	return o.Archive.Remove(ctx, key)
}

// captures is a database as the archive sees it.
type captures struct{ *store.DB }

func (c captures) CompleteCaptures(ctx context.Context) ([]archive.Capture, error) {
	list, err := c.DB.CompleteCaptures(ctx)
	out := make([]archive.Capture, len(list))
	for i, one := range list {
		out[i] = archive.Capture(one)
	}
	return out, err
}

func (c captures) FailRecording(_ context.Context, capture archive.Capture, reason string) error {
	return fmt.Errorf("capture %v: %s", capture, reason)
}

func TestPass_RemovesRecordingsWholly(t *testing.T) {
	db, lease := open(t)
	long := time.Now().Add(-100 * day)
	commitCapture(t, db, long)
	a, err := archive.Open(t.Context(), archive.Config{Location: "file:" + t.TempDir(), Source: captures{db}, Now: func() time.Time { return long }})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := a.Assemble(t.Context()); err != nil {
		t.Fatal(err)
	}
	list, _, err := db.Recordings(t.Context(), protocol.Filter{})
	if err != nil || len(list) != 1 {
		t.Fatalf("%d recordings, %v", len(list), err)
	}
	o := &objects{Archive: a, broken: errors.New("the object store is away")}
	r := retention.New(retention.Keep{Recording: 90 * day, Audit: day}, o, slog.New(slog.DiscardHandler))
	for range 2 {
		if _, err := r.Pass(t.Context(), lease); !errors.Is(err, o.broken) {
			t.Errorf("pass: %v, want %v", err, o.broken)
		}
	}
	// The row is gone before the object, so that it never points to nothing.
	if _, err := db.Recording(t.Context(), list[0].ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("its row: %v", err)
	}
	if !there(t, a, list[0].Key) {
		t.Error("its objects are gone")
	}
	o.broken, o.calls = nil, 0
	for range 2 {
		if _, err := r.Pass(t.Context(), lease); err != nil {
			t.Error(err)
		}
	}
	if there(t, a, list[0].Key) || o.calls != 1 {
		t.Errorf("its objects are there, or %d removals were tried", o.calls)
	}
	verdicts, err := db.Verify(t.Context(), "", true)
	if err != nil || !verdicts[0].OK() || verdicts[0].Released != 1 {
		t.Errorf("verdicts %+v, %v", verdicts, err)
	}
}

// commitCapture stores a capture of one chunk.
func commitCapture(t *testing.T, db *store.DB, at time.Time) {
	t.Helper()
	data := []byte("0123456789")
	chunk := record(1, at)
	chunk.Body = &protocol.Record_Iq{Iq: &protocol.IqChunk{CaptureId: new("c"), Index: new(uint32(0)), FirstSample: new(uint64(0)), Samples: new(uint32(5)), Data: data}}
	reply := record(2, at)
	sum := sha512.Sum512(data)
	reply.Body = &protocol.Record_Reply{Reply: &protocol.Reply{State: protocol.Reply_STATE_DONE.Enum(), Capture: &protocol.CaptureManifest{
		Id: new("c"), Start: new(at.UnixNano()), CenterHz: new(1e6), SampleRateHz: new(1e3), Format: new("cu8"),
		Chunks: new(uint32(1)), Bytes: new(uint64(len(data))), Sha512: sum[:],
	}}}
	if _, _, err := db.Commit(t.Context(), at, []*protocol.Record{chunk, reply}, nil); err != nil {
		t.Fatal(err)
	}
}

func there(t *testing.T, a *archive.Archive, key string) bool {
	t.Helper()
	f, err := a.OpenData(t.Context(), key)
	if err != nil {
		return false
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	return err == nil && string(data) == "0123456789"
}

// scripted is a store whose calls end as told.
type scripted struct {
	retention.Store
	errs   []error // of Spools, one after the other; then nil
	passes int
}

func (s *scripted) Spools(context.Context) ([]protocol.Stream, error) {
	s.passes++
	if len(s.errs) == 0 {
		return nil, nil
	}
	err := s.errs[0]
	s.errs = s.errs[1:]
	return nil, err
}

func TestRun_TriesAgainAndEndsWithTheLease(t *testing.T) {
	away := &store.Error{Class: store.ClassTransient, Err: errors.New("away")}
	broken := &store.Error{Class: store.ClassAll, Err: errors.New("no such table")}
	for name, c := range map[string]struct {
		errs   []error
		passes int // in an hour, with a pass each 6 minutes
		ends   error
	}{
		"all well":  {nil, 10, context.DeadlineExceeded},
		"away once": {[]error{away, away}, 12, context.DeadlineExceeded},
		"broken":    {[]error{broken}, 10, context.DeadlineExceeded},
		"lost":      {[]error{nil, store.ErrLeaseLost}, 2, store.ErrLeaseLost},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log strings.Builder
				r := retention.New(retention.Keep{Records: map[protocol.Kind]time.Duration{protocol.KindHealth: 5 * time.Hour, protocol.KindGap: math.MaxInt64}},
					nil, slog.New(slog.NewTextHandler(&log, nil)))
				s := &scripted{errs: c.errs}
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour-time.Second)
				defer cancel()
				if err := r.Run(ctx, s); !errors.Is(err, c.ends) || s.passes != c.passes {
					t.Errorf("ended with %v after %d passes, want %v after %d", err, s.passes, c.ends, c.passes)
				}
				if warned := strings.Count(log.String(), "cannot remove"); warned != min(1, len(c.errs)) && name != "lost" {
					t.Errorf("the log:\n%s", log.String())
				}
			})
		})
	}
}
