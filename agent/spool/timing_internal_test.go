package spool

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// bubble runs a spool on fake time.
func bubble(t *testing.T, test func(t *testing.T, ctx context.Context, s *Spool)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(dir, Options{Station: "torino"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		test(t, ctx, s)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// The times of contract 4.4.
func TestRun_CommitsInTime(t *testing.T) {
	for _, test := range []struct {
		name  string
		up    bool
		lane  Lane
		count int
		bytes int
		want  time.Duration
	}{
		{"calm", true, LaneMeasurement, 1, 100, 2 * time.Second},
		{"link down", false, LaneMeasurement, 1, 100, 100 * time.Millisecond},
		{"much waits", true, LaneSpectrum, 3, 30000, 100 * time.Millisecond},
		{"many come", true, LaneMeasurement, 60, 100, 25 * time.Millisecond},
		{"IQ", true, LaneIQ, 1, 30000, 5 * time.Millisecond},
		{"detection", true, LaneDetection, 1, 100, 0},
		{"reply", true, LaneReply, 1, 100, 0},
		{"gap", false, LaneGap, 1, 100, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, ctx context.Context, s *Spool) {
				s.SetLinkUp(test.up)
				time.Sleep(10 * time.Second)
				began := time.Now()
				for range test.count - 1 {
					if _, err := s.Queue(ctx, test.lane, "x", make([]byte, test.bytes)); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := s.Put(ctx, test.lane, "x", make([]byte, test.bytes)); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took != test.want {
					t.Errorf("committed after %v, want %v", took, test.want)
				}
			})
		})
	}
}

// Acknowledgements cause no commit of their own while records come.
func TestRun_DeletesRideAlong(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context, s *Spool) {
		s.SetLinkUp(true)
		if _, err := s.Put(ctx, LaneDetection, "x", []byte("a")); err != nil {
			t.Fatal(err)
		}
		item, err := s.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		before := s.Stats().Commits
		if _, err := s.Queue(ctx, LaneMeasurement, "x", []byte("b")); err != nil {
			t.Fatal(err)
		}
		s.Ack(item.Spool, protocol.Ranges{{From: item.Seq, To: item.Seq}})
		time.Sleep(5 * time.Second)
		if st := s.Stats(); st.Commits != before+1 || st.Records != 1 {
			t.Errorf("%d commits, %d records; want 1 and 1", st.Commits-before, st.Records)
		}
		time.Sleep(time.Hour)
		if st := s.Stats(); st.Commits != before+1 {
			t.Errorf("%d commits while nothing happened", st.Commits-before-1)
		}
	})
}

// An acknowledgement that came before a record does not make its commit sooner: there would be one for every two records.
func TestRun_AcknowledgementsHurryNoRecord(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context, s *Spool) {
		s.SetLinkUp(true)
		if _, err := s.Put(ctx, LaneDetection, "x", []byte("a")); err != nil {
			t.Fatal(err)
		}
		s.Ack(s.Identity(), handOut(s))
		time.Sleep(time.Second)
		began := time.Now()
		if _, err := s.Put(ctx, LaneMeasurement, "x", []byte("b")); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != calmCommit {
			t.Errorf("committed after %v, want %v", took, calmCommit)
		}
	})
}

// While a backlog leaves fast, what is measured meanwhile does not wait for a calm commit before it goes ahead of it.
func TestRun_CommitsSoonerWhileABacklogLeaves(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context, s *Spool) {
		const backlog = 60
		for range backlog {
			if _, err := s.Queue(ctx, LaneMeasurement, "x", []byte("old")); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		s.SetLinkUp(true)
		for range backlog {
			if _, err := s.Next(ctx); err != nil {
				t.Fatal(err)
			}
		}
		s.Ack(s.Identity(), protocol.Ranges{{From: 1, To: backlog}})
		began := time.Now()
		if _, err := s.Put(ctx, LaneMeasurement, "x", []byte("new")); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != promptCommit {
			t.Errorf("committed after %v, want %v", took, promptCommit)
		}
	})
}

// What was not taken within ten seconds no longer goes before newer records.
func TestNext_LiveRecordsAge(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context, s *Spool) {
		s.SetLinkUp(true)
		put := func() {
			if _, err := s.Put(ctx, LaneDetection, "x", []byte("a")); err != nil {
				t.Fatal(err)
			}
		}
		next := func(seq uint64, backlog bool) {
			t.Helper()
			item, err := s.Next(ctx)
			if err != nil || item.Seq != seq || item.Backlog != backlog {
				t.Errorf("got %d, backlog %v, %v; want %d, %v", item.Seq, item.Backlog, err, seq, backlog)
			}
		}
		for range 4 {
			put()
		}
		next(1, false) // 2 to 4 are read ahead with it
		time.Sleep(2 * time.Second)
		put()
		time.Sleep(11 * time.Second)
		put()
		put()
		next(5, false) // 11 s ago only 1 to 4 were there for sure
		next(6, false)
		next(7, false)
		for seq := range uint64(3) {
			next(seq+2, true)
		}
	})
}

func TestPace_CountsOverSeconds(t *testing.T) {
	var p pace
	at := time.Unix(1000, 0)
	for range busyRate {
		p.count(at, 1)
	}
	if p.busy(at) {
		t.Errorf("%d a second is busy", busyRate)
	}
	p.count(at, 1)
	if !p.busy(at) || !p.busy(at.Add(time.Second)) || p.busy(at.Add(2*time.Second)) {
		t.Error("one more is busy, for this second and the next")
	}
	p.count(at.Add(time.Second), 1)
	if !p.busy(at.Add(time.Second)) || p.busy(at.Add(2*time.Second)) {
		t.Error("the second before counts, the one before that does not")
	}
}
