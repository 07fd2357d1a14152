package ingest_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/collector/ingest"
	"github.com/fulgidus/heimdall/protocol"
)

// garbage sends messages that are no records, each another one.
func (r *rig) garbage(station string, n int) {
	for i := range n {
		r.send(station+"/measurement", fmt.Appendf(nil, "\xff%d %d", time.Now().UnixNano(), i))
	}
}

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) count(what string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Count(b.buf.String(), what)
}

// A clock that is wrong, or an agent that is newer than the collector, is no reason to keep the rest of a station's backlog waiting.
func TestIngest_DoesNotSuspendAStationWithAWrongClock(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		const many = 2000 // more than may be rejected in an hour
		for i := range uint64(many) {
			rec := measurement("skewed", i+1)
			switch i % 3 {
			case 0:
				rec.Time = new(int64(-1))
			case 1:
				rec.Time = new(time.Now().AddDate(10, 0, 0).UnixNano())
			case 2:
				rec.Body = nil // as of a kind that is not known here
			}
			r.send("skewed/measurement", encode(t, rec))
			rest(25 * time.Millisecond)
		}
		r.sendRecord(t, measurement("skewed", many+1))
		rest(time.Second)
		if n := len(r.db.reasons()); n != many {
			t.Errorf("%d records are rejected, want %d", n, many)
		}
		if n := r.db.stored("skewed"); n != 1 {
			t.Errorf("%d records are stored, want 1", n)
		}
		if n := r.Stats().Suspensions; n != 0 {
			t.Errorf("suspended %d times", n)
		}
	})
}

// A station of which too much is rejected is not read for a minute, then for two, at most for an hour. Nothing of it is
// acknowledged meanwhile, so that it keeps what it has; nobody else notices.
func TestIngest_SuspendsAStationThatSendsGarbage(t *testing.T) {
	var log lockedBuffer
	simulate(t, func(c *ingest.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) }, func(t *testing.T, r *rig) {
		for _, minutes := range []uint64{1, 2, 4, 8, 16, 32, 60, 60} {
			want := time.Duration(minutes) * time.Minute
			kept := len(r.db.reasons())
			r.garbage("liar", 300)
			rest(time.Second)
			if n := len(r.db.reasons()) - kept; n != 100 {
				t.Errorf("%d messages were kept as rejected before a suspension of %v, want 100", n, want)
			}
			r.sendRecord(t, measurement("liar", 1))
			r.sendRecord(t, measurement("honest", minutes))
			rest(time.Second)
			if n := r.db.stored("liar"); n != 0 {
				t.Fatalf("%d records of a suspended station were read", n)
			}
			if n := r.Stats().Suspended; n != 1 {
				t.Errorf("%d stations are suspended, want 1", n)
			}
			rest(want - 5*time.Second)
			r.sendRecord(t, measurement("liar", 1))
			rest(time.Second)
			if n := r.db.stored("liar"); n != 0 {
				t.Fatalf("read before %v were over", want)
			}
			rest(10 * time.Second)
		}
		if n := r.db.stored("honest"); n != 7 {
			t.Errorf("%d records of the honest station stored, want 7", n)
		}
		r.sendRecord(t, measurement("liar", 1))
		rest(time.Second)
		if n := r.db.stored("liar"); n != 1 {
			t.Error("it is not read again")
		}
		// After an hour of good behaviour it is for a minute again.
		rest(time.Hour)
		r.garbage("liar", 101)
		rest(65 * time.Second)
		r.sendRecord(t, measurement("liar", 2))
		rest(time.Second)
		if n := r.db.stored("liar"); n != 2 {
			t.Error("an hour of good behaviour counts for nothing")
		}
	})
	if told, again := log.count("a station is suspended"), log.count("a station is read again"); told != 9 || again != 9 {
		t.Errorf("%d suspensions in the log and %d ends, want 9 of each", told, again)
	}
	if n := log.count("station=honest"); n != 0 {
		t.Errorf("%d lines about the honest station", n)
	}
}

// Less than the limit of a minute may still be more than that of an hour.
func TestIngest_SuspendsAStationThatSendsSomeGarbageForLong(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		for minute := range 20 {
			r.garbage("liar", 80)
			rest(time.Minute)
			if got, want := r.Stats().Suspensions, minute >= 15; (got == 1) != want { // 1000 at once, and 16 2/3 each minute
				t.Fatalf("%d suspensions after %d minutes", got, minute+1)
			}
			if r.Stats().Suspensions == 1 {
				break
			}
		}
		reason := r.db.suspension("liar").Reason
		if !strings.HasPrefix(reason, "more than 1000 records an hour were rejected, the last one for malformed: ") {
			t.Errorf("reason %q", reason)
		}
		if r.garbage("few", 99); r.Stats().Suspended > 1 {
			t.Error("one below the limits is suspended, too")
		}
	})
}

// Records with numbers count like any that no honest station sends, and are accounted for.
func TestIngest_SuspendsAStationOfForeignRecords(t *testing.T) {
	for name, spoil := range map[string]func(rec *protocol.Record){
		"no frequency":    func(rec *protocol.Record) { rec.GetMeasurement().CenterHz = new(math.NaN()) },
		"another station": func(rec *protocol.Record) { rec.Station = new("honest") },
		"no number":       func(rec *protocol.Record) { rec.Seq = nil },
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, nil, func(t *testing.T, r *rig) {
				for seq := range uint64(250) {
					rec := measurement("liar", seq+1)
					spoil(rec)
					r.send("liar/measurement", encode(t, rec))
				}
				rest(time.Second)
				if n := len(r.db.reasons()); n < 100 || n > 101 {
					t.Errorf("%d kept as rejected, want 100, and the one after that if it has a number", n)
				}
				if s := r.Stats(); s.Unread != 149 || s.Suspended != 1 {
					t.Errorf("%+v, want 149 unread of 1 suspended", s)
				}
				if n := r.db.stored("liar") + r.db.stored("honest"); n != 0 {
					t.Errorf("%d records stored", n)
				}
				if n := r.acked.Load(); n != 250 {
					t.Errorf("%d messages acknowledged to the broker, want all 250: its window is everybody's", n)
				}
			})
		})
	}
}

// What another collector decided, or an operator, counts within seconds.
func TestIngest_TakesOverSuspensions(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		now := time.Now()
		r.db.set(func(m *memory) {
			m.held["liar"] = protocol.Suspension{Station: "liar", Since: now, Until: now.Add(time.Hour), Times: 3, Reason: "another collector's"}
		})
		rest(6 * time.Second)
		r.sendRecord(t, measurement("liar", 1))
		rest(time.Second)
		if n := r.db.stored("liar"); n != 0 {
			t.Error("read, though another collector suspended it")
		}
		r.db.set(func(m *memory) {
			s := m.held["liar"]
			s.Until, s.Times = time.Now(), 0
			m.held["liar"] = s
		})
		rest(6 * time.Second)
		r.sendRecord(t, measurement("liar", 1))
		rest(time.Second)
		if n := r.db.stored("liar"); n != 1 {
			t.Error("not read, though an operator resumed it")
		}
		r.garbage("liar", 101)
		rest(time.Second)
		if s := r.db.suspension("liar"); s.Times != 1 || s.Until.Sub(s.Since) != time.Minute {
			t.Errorf("after an operator's word it counts on: %+v", s)
		}
	})
}

// Suspensions are made and kept also while the database is away.
func TestIngest_SuspendsWithoutDatabase(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		r.db.set(func(m *memory) { m.down = errDown })
		r.garbage("liar", 300)
		rest(10 * time.Second)
		if s := r.Stats(); s.Suspended != 1 {
			t.Errorf("%+v", s)
		}
		r.db.set(func(m *memory) { m.down = nil })
		rest(20 * time.Second)
		if s := r.db.suspension("liar"); s.Times != 1 {
			t.Errorf("not saved once the database is back: %+v", s)
		}
	})
}

// A station that gives each record a spool of its own costs a row and a retained Ack each time.
func TestIngest_BoundsTheSpoolsOfAStation(t *testing.T) {
	simulate(t, patient, func(t *testing.T, r *rig) {
		spool := func(i int) []byte { return fmt.Appendf(nil, "%08d", i) }
		send := func(i int) {
			rec := measurement("liar", 1)
			rec.Spool = spool(i)
			r.sendRecord(t, rec)
		}
		for i := range 200 {
			send(i)
		}
		gap := measurement("liar", 2)
		gap.Spool = spool(0)
		gap.Body = &protocol.Record_Gap{Gap: &protocol.Gap{Spool: spool(1000), Ranges: []*protocol.SeqRange{{From: new(uint64(1)), To: new(uint64(1))}}, Reason: protocol.Gap_REASON_QUOTA.Enum()}}
		r.sendRecord(t, gap)
		rest(time.Second)
		if n := r.db.stored("liar"); n != 64 {
			t.Errorf("%d spools were begun, want 64", n)
		}
		reasons := r.db.reasons()
		if len(reasons) != 137 || !strings.HasPrefix(reasons[136], "too_many: spool: 3030303031303030: a station may begin 64 spools a day") {
			t.Errorf("%d reasons, the last: %q", len(reasons), reasons[len(reasons)-1])
		}
		rec := measurement("liar", 2)
		rec.Spool = spool(63)
		r.sendRecord(t, rec)
		rest(24 * time.Hour)
		send(100)
		rest(time.Second)
		if n := r.db.stored("liar"); n != 66 {
			t.Errorf("%d records, want one more of a known spool, and of a new one a day later", n)
		}
	})
}
