package retention_test

import (
	"cmp"
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"path/filepath"
	"slices"
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

// recorded puts one recording, made at an instant, into an archive of its own.
func recorded(t *testing.T, db *store.DB, at time.Time) (*archive.Archive, []protocol.Recording) {
	t.Helper()
	commitCapture(t, db, at)
	a, err := archive.Open(t.Context(), archive.Config{Location: "file:" + t.TempDir(), Source: captures{db}, Now: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	if err := a.Assemble(t.Context()); err != nil {
		t.Fatal(err)
	}
	list, _, err := db.Recordings(t.Context(), protocol.Filter{})
	if err != nil || len(list) != 1 {
		t.Fatalf("%d recordings, %v", len(list), err)
	}
	return a, list
}

func TestPass_RemovesRecordingsWholly(t *testing.T) {
	db, lease := open(t)
	long := time.Now().Add(-100 * day)
	a, list := recorded(t, db, long)
	o := &objects{Archive: a, broken: errors.New("the object store is away")}
	r := retention.New(retention.Keep{Recording: 90 * day, Audit: day}, o, slog.New(slog.DiscardHandler))
	for range 2 {
		if _, err := r.Pass(t.Context(), lease); err != nil {
			t.Error(err)
		}
	}
	if o.calls != 2 {
		t.Errorf("%d removals of objects were tried, want one a pass", o.calls)
	}
	// The row is gone before the object, so that it never points to nothing.
	if _, err := db.Recording(t.Context(), list[0].ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("its row: %v", err)
	}
	if !there(t, a, list[0].Key) {
		t.Error("its objects are gone")
	}
	o.broken, o.calls = nil, 0
	another := retention.New(retention.Keep{Recording: 90 * day}, o, slog.New(slog.DiscardHandler))
	for range 2 {
		if _, err := another.Pass(t.Context(), lease); err != nil {
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

// Where there are more recordings than there is room for, the oldest go, however long they are to be kept; none of the last hour.
func TestPass_MakesRoomForRecordings(t *testing.T) {
	for name, age := range map[string]time.Duration{"old": 2 * time.Hour, "of the last hour": 30 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			db, lease := open(t)
			at := time.Now().Add(-age)
			a, list := recorded(t, db, at)
			limit := int64(10) // its size
			excess := func(ctx context.Context) (int64, error) {
				n, err := db.RecordingBytes(ctx)
				return n - limit, err
			}
			r := retention.New(retention.Keep{Excess: excess}, a, slog.New(slog.DiscardHandler))
			if _, err := r.Pass(t.Context(), lease); err != nil || !there(t, a, list[0].Key) {
				t.Fatalf("removed although there was room, or %v", err)
			}
			limit--
			if _, err := r.Pass(t.Context(), lease); err != nil || there(t, a, list[0].Key) != (name != "old") {
				t.Errorf("there without room: %v, %v", there(t, a, list[0].Key), err)
			}
			if verdicts, err := db.Verify(t.Context(), "", true); err != nil || !verdicts[0].OK() {
				t.Errorf("verdicts %+v, %v", verdicts, err)
			}
		})
	}
}

// Objects that do not go make no room: no more recordings are taken for it.
func TestPass_TakesNoMoreThanGo(t *testing.T) {
	db, lease := open(t)
	at := time.Now().Add(-2 * time.Hour)
	commitCapture(t, db, at)
	a, err := archive.Open(t.Context(), archive.Config{Location: "file:" + t.TempDir(), Source: captures{db}, Now: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := a.Assemble(t.Context()); err != nil {
		t.Fatal(err)
	}
	looks := 0
	r := retention.New(retention.Keep{Excess: func(context.Context) (int64, error) { looks++; return 1, nil }},
		&objects{Archive: a, broken: errors.New("the object store is away")}, slog.New(slog.DiscardHandler))
	if _, err := r.Pass(t.Context(), lease); err != nil || looks != 1 {
		t.Errorf("%d looks, %v", looks, err)
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

// scripted is a store in memory whose calls end as told.
type scripted struct {
	retention.Store
	away   func() error // of Spools
	spools []protocol.Stream
	rows   map[string]int // of a station
	row    time.Duration  // that removing one takes
	bad    map[string]error
	keys   []string // of removed recordings
	passes int
	slices []int // rows asked for by each call of RemoveRecords
}

func (s *scripted) Length() time.Duration { return 32 * time.Second }

func (s *scripted) Spools(context.Context) ([]protocol.Stream, error) {
	s.passes++
	if s.away != nil {
		return nil, s.away()
	}
	return s.spools, nil
}

func (s *scripted) RemoveRecords(ctx context.Context, kind protocol.Kind, stream protocol.Stream, _ time.Duration, most int) (int, error) {
	if kind != protocol.KindHealth {
		return 0, nil
	}
	s.slices = append(s.slices, most)
	if err := s.bad[stream.Station]; err != nil {
		return 0, err
	}
	n := min(most, s.rows[stream.Station])
	select {
	case <-ctx.Done():
		return 0, &store.Error{Class: store.ClassTransient, Err: ctx.Err()}
	case <-time.After(time.Duration(n) * s.row):
	}
	s.rows[stream.Station] -= n
	return n, nil
}

func (s *scripted) OldRecordings(context.Context, time.Duration, string, int) ([]string, error) {
	return nil, nil
}

func (s *scripted) RemovedRecordings(_ context.Context, after string, most int) ([]string, error) {
	i, found := slices.BinarySearch(s.keys, after)
	if found {
		i++
	}
	return slices.Clone(s.keys[i:min(len(s.keys), i+most)]), nil
}

func (s *scripted) ForgetRecording(_ context.Context, key string) error {
	s.keys = slices.DeleteFunc(s.keys, func(k string) bool { return k == key })
	return nil
}

// healthAt keeps the health of stations for five hours, so that a pass comes each six minutes.
func healthAt(stations ...string) (*scripted, retention.Keep) {
	s := &scripted{rows: map[string]int{}, bad: map[string]error{}}
	for _, station := range stations {
		s.spools = append(s.spools, protocol.Stream{Station: station, Spool: [8]byte{1}})
	}
	return s, retention.Keep{Records: map[protocol.Kind]time.Duration{protocol.KindHealth: 5 * time.Hour, protocol.KindGap: math.MaxInt64}}
}

func TestRun_TriesAgainAndEndsWithTheLease(t *testing.T) {
	away := &store.Error{Class: store.ClassTransient, Err: errors.New("away")}
	broken := &store.Error{Class: store.ClassAll, Err: errors.New("no such table")}
	for name, c := range map[string]struct {
		errs   []error // of Spools, one after the other; then nil
		passes int     // in an hour, with a pass each 6 minutes
		ends   error
	}{
		"all well":   {nil, 10, context.DeadlineExceeded},
		"away twice": {[]error{away, away}, 12, context.DeadlineExceeded},
		"broken":     {[]error{broken}, 11, context.DeadlineExceeded},
		"lost":       {[]error{nil, store.ErrLeaseLost}, 2, store.ErrLeaseLost},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log strings.Builder
				s, keep := healthAt()
				errs := c.errs
				s.away = func() (err error) {
					if len(errs) > 0 {
						err, errs = errs[0], errs[1:]
					}
					return err
				}
				r := retention.New(keep, nil, slog.New(slog.NewTextHandler(&log, nil)))
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour-time.Second)
				defer cancel()
				if err := r.Run(ctx, s); !errors.Is(err, c.ends) || s.passes != c.passes {
					t.Errorf("ended with %v after %d passes, want %v after %d", err, s.passes, c.ends, c.passes)
				}
				want := min(1, len(c.errs))
				if name == "lost" {
					want = 0
				}
				told, ended := strings.Count(log.String(), "trying again later"), strings.Count(log.String(), "no trouble any more")
				if told != want || ended != want {
					t.Errorf("the log:\n%s", log.String())
				}
			})
		})
	}
}

// TestRun_RemovesFewerAtATimeWhereThatIsSlow has a database where all rows of a full slice would take longer than a lease.
func TestRun_RemovesFewerAtATimeWhereThatIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, keep := healthAt("torino")
		s.rows["torino"], s.row = 20_000, 10*time.Millisecond
		r := retention.New(keep, nil, slog.New(slog.DiscardHandler))
		if n, err := r.Pass(t.Context(), s); n != 20_000 || err != nil {
			t.Errorf("removed %d, %v; want all 20000", n, err)
		}
		if got := s.slices[:4]; !slices.Equal(got, []int{5000, 2500, 1250, 625}) {
			t.Errorf("slices of %v, want them halved until one is done in 8 s", got)
		}
		s.slices = nil
		s.rows["torino"], s.row = 100_000, time.Microsecond
		if n, err := r.Pass(t.Context(), s); n != 100_000 || err != nil || slices.Max(s.slices) != 5000 || s.slices[1] >= 2*s.slices[0] {
			t.Errorf("removed %d, %v in slices of %v; want them to grow slowly to 5000", n, err, s.slices)
		}
	})
}

// runFor lets a Retention run for a time.
func runFor(t *testing.T, r *retention.Retention, s retention.Store, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := r.Run(ctx, s); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// TestRun_GoesOnBehindWhatCannotBeRemoved lets some spools fail, for ever and for a while.
func TestRun_GoesOnBehindWhatCannotBeRemoved(t *testing.T) {
	for name, cause := range map[string]error{
		"permanent": &store.Error{Class: store.ClassAll, Err: errors.New("no room in released")},
		"transient": &store.Error{Class: store.ClassTransient, Err: errors.New("invalid page in block 7")},
		"slow":      nil, // each row takes longer than a transaction may
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log strings.Builder
				s, keep := healthAt("a", "b", "c", "d", "e", "f")
				r := retention.New(keep, nil, slog.New(slog.NewTextHandler(&log, nil)))
				for _, station := range []string{"a", "b", "c", "d"} { // more in a row than a pass puts up with
					s.bad[station] = cause
				}
				for _, q := range s.spools {
					s.rows[q.Station] = 30
				}
				if name == "slow" {
					s.row = 2 * time.Second
				}
				runFor(t, r, s, time.Hour)
				got := log.String()
				if name == "slow" {
					if s.rows["a"] != 30 || strings.Count(got, "too slow: 10 rows") != len(s.spools) {
						t.Errorf("the log, with %v left:\n%s", s.rows, got)
					}
				} else if s.rows["a"] != 30 || s.rows["e"] != 0 || s.rows["f"] != 0 {
					t.Errorf("%v are left, want only those that cannot be removed", s.rows)
				} else if strings.Count(got, "trying again later") != 4 || !strings.Contains(got, `what="health of d, spool 0100000000000000" error="`+cause.Error()) {
					t.Errorf("the log:\n%s", got)
				}
				if tries := len(s.slices); tries > 400 {
					t.Errorf("%d tries in an hour", tries)
				}
				s.bad, s.row = nil, 0
				runFor(t, r, s, 20*time.Minute)
				for station, n := range s.rows {
					if n != 0 {
						t.Errorf("%d rows of %s are left when they can be removed", n, station)
					}
				}
				if begun, ended := strings.Count(log.String(), "trying again later"), strings.Count(log.String(), "no trouble any more"); begun != ended {
					t.Errorf("%d times trouble began and %d times it ended:\n%s", begun, ended, log.String())
				}
			})
		})
	}
}

// shelf is an object store in memory.
type shelf struct {
	away    error
	bad     map[string]error
	removed []string
}

func (o *shelf) Check(context.Context) error { return o.away }

func (o *shelf) Remove(_ context.Context, key string) error {
	if err := cmp.Or(o.away, o.bad[key]); err != nil {
		return err
	}
	o.removed = append(o.removed, key)
	return nil
}

// TestRun_GoesOnBehindObjectsThatStay lets some objects, and then the whole store, refuse to go.
func TestRun_GoesOnBehindObjectsThatStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		s, keep := healthAt("torino")
		keep.Recording = 5 * time.Hour
		o := &shelf{bad: map[string]error{}}
		for i := range 200 {
			s.keys = append(s.keys, fmt.Sprintf("recordings/%03d", i))
		}
		for _, key := range s.keys[:60] {
			o.bad[key] = errors.New("locked by a rule of the bucket")
		}
		r := retention.New(keep, o, slog.New(slog.NewTextHandler(&log, nil)))
		runFor(t, r, s, 10*time.Hour)
		if len(s.keys) != 60 || len(o.removed) != 140 {
			t.Errorf("%d recordings still have objects, %d were removed; want the 60 that refuse and 140", len(s.keys), len(o.removed))
		}
		if n := strings.Count(log.String(), "level=WARN"); n != 60 || !strings.Contains(log.String(), `what="objects of recordings/007" error="the object store: locked by a rule of the bucket"`) {
			t.Errorf("%d warnings, want one for each that refuses:\n%s", n, log.String())
		}
		log.Reset()
		s.keys = append(s.keys, "recordings/900", "recordings/901")
		o.away, o.bad = errors.New("connection refused"), nil
		s.rows["torino"] = 100
		runFor(t, r, s, time.Hour)
		if n := strings.Count(log.String(), "level=WARN"); n != 1 || s.rows["torino"] != 0 {
			t.Errorf("%d warnings and %d rows while the object store is away:\n%s", n, s.rows["torino"], log.String())
		}
		log.Reset()
		o.away = nil
		runFor(t, r, s, time.Hour)
		if n := strings.Count(log.String(), "no trouble any more"); n != 61 || len(s.keys) != 0 {
			t.Errorf("%d recordings still have objects, and %d troubles ended:\n%s", len(s.keys), n, log.String())
		}
	})
}
