package spool

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"github.com/fulgidus/heimdall/protocol"
)

func openKeeping(t *testing.T, dir string, options Options) *Spool {
	t.Helper()
	options.Station = "torino"
	s, err := Open(dir, options)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func flushed(t *testing.T, s *Spool) {
	t.Helper()
	if err := s.flush(false); err != nil {
		t.Fatal(err)
	}
}

func closed(t *testing.T, s *Spool) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// handOut takes all there is to send and returns the numbers.
func handOut(s *Spool) protocol.Ranges {
	var out protocol.Ranges
	for {
		item, ok := s.find()
		if !ok {
			return out
		}
		out.Add(item.Seq)
	}
}

// What is acknowledged stays, counts no longer, is not sent again, and all that over a restart; until somebody asks.
func TestKeep_AcknowledgedRecordsStay(t *testing.T) {
	dir := t.TempDir()
	s := openKeeping(t, dir, Options{Keep: time.Hour})
	for range 10 {
		queueSome(t, s, LaneMeasurement, 1, 200)
		queueSome(t, s, LaneIQ, 1, 5000)
	}
	flushed(t, s)
	handOut(s)
	before := s.Stats()
	s.Ack(s.Identity(), protocol.Ranges{{From: 1, To: 14}})
	if got := s.Unacked().String(); got != "{[15,21)}" {
		t.Errorf("unacknowledged %s", got)
	}
	flushed(t, s)
	for range 2 {
		st := s.Stats()
		if st.Records != 6 || st.Kept != 14 || st.Bytes+st.KeptBytes != before.Bytes || st.Bytes > before.Bytes/3 || st.Bytes < before.Bytes/4 {
			t.Fatalf("%+v, of %d bytes before", st, before.Bytes)
		}
		s.Rewind()
		if got := handOut(s).String(); got != "{[15,21)}" {
			t.Errorf("handed out %s", got)
		}
		closed(t, s)
		if st, err := Stat(dir); err != nil || st.Records != 6 || st.Kept != 14 {
			t.Errorf("closed: %+v, %v", st, err)
		}
		s = openKeeping(t, dir, Options{Keep: time.Hour})
	}
	handOut(s)

	again, gone := resendNow(t, s, protocol.Ranges{{From: 3, To: 4}, {From: 15, To: 15}, {From: 90, To: 99}})
	if again != 3 || gone != 0 {
		t.Errorf("%d again, %d gone; want 3 and 0", again, gone)
	}
	if got := handOut(s).String(); got != "{[3,5),[15,16)}" {
		t.Errorf("handed out %s", got)
	}
	if st := s.Stats(); st.Records != 8 || st.Kept != 12 {
		t.Errorf("after Resend: %+v", st)
	}
	s.Ack(s.Identity(), protocol.Ranges{{From: 1, To: 20}})
	flushed(t, s)
	if st := s.Stats(); st.Records != 0 || st.Bytes != 0 || st.Kept != 20 || !st.Oldest.IsZero() {
		t.Errorf("all acknowledged: %+v", st)
	}
	if again, _ := resendNow(t, s, nil); again != 20 {
		t.Errorf("%d again, want all 20", again)
	}
	if _, _, err := s.Resend(t.Context(), [8]byte{1}, nil); err == nil {
		t.Error("another spool's: no error")
	}
	closed(t, s)
	if st, err := Stat(dir); err != nil || st.Records != 20 || st.Kept != 0 {
		t.Errorf("asked for again and closed: %+v, %v", st, err)
	}
}

func resendNow(t *testing.T, s *Spool, ranges protocol.Ranges) (again, gone uint64) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		var err error
		again, gone, err = s.Resend(t.Context(), s.Identity(), ranges)
		done <- err
	}()
	for asked := false; !asked; {
		s.mu.Lock()
		asked = len(s.resends) > 0
		s.mu.Unlock()
	}
	flushed(t, s)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return again, gone
}

// Kept records make room before anything else does, and nobody is told.
func TestKeep_GoesFirst(t *testing.T) {
	s := openKeeping(t, t.TempDir(), Options{Keep: time.Hour, LimitBytes: 1 << 20})
	defer closed(t, s)
	queueSome(t, s, LaneReply, 1, 100)
	for range 40 {
		queueSome(t, s, LaneMeasurement, 50, 1000)
		flushed(t, s)
		s.Ack(s.Identity(), handOut(s))
		flushed(t, s)
		if st := s.Stats(); st.Bytes+st.KeptBytes > 1<<20 {
			t.Fatalf("over the limit: %+v", st)
		}
	}
	st := s.Stats()
	if st.Shed != 0 || st.Lanes[LaneGap].Records != 0 || st.Kept < 700 {
		t.Errorf("shed %d, kept %d; want 0 and most of what fits", st.Shed, st.Kept)
	}
	// A backlog takes the whole room.
	for range 17 {
		queueSome(t, s, LaneMeasurement, 50, 1000)
		flushed(t, s)
	}
	if st := s.Stats(); st.Shed != 0 || st.Records != 850 || st.Bytes+st.KeptBytes > 1<<20 {
		t.Errorf("with a backlog: %+v", st)
	}
	again, gone := resendNow(t, s, protocol.Ranges{{From: 1, To: 2001}})
	if kept := uint64(st.Kept); again > kept || again+gone != 2001 {
		t.Errorf("%d again, %d gone; %d were kept", again, gone, kept)
	}
}

// A file that may not grow is no reason to give up records while kept ones are in it.
func TestKeep_GoesFirstWhenTheFileIsFull(t *testing.T) {
	s := openKeeping(t, t.TempDir(), Options{Keep: time.Hour, LimitBytes: 64 << 20})
	defer closed(t, s)
	for range 40 {
		s.store.db.MaxSize = 1 << 20
		queueSome(t, s, LaneSpectrum, 40, 1000)
		flushed(t, s)
		s.Ack(s.Identity(), handOut(s))
		flushed(t, s)
	}
	if st := s.Stats(); st.Shed != 0 || st.Kept == 0 {
		t.Errorf("%+v", st)
	}
}

func keepBubble(t *testing.T, test func(ctx context.Context, s *Spool)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := openKeeping(t, dir, Options{Keep: time.Hour})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		test(ctx, s)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		closed(t, s)
	})
}

// One acknowledged record a minute: an hour of them stays.
func TestKeep_LeavesWithAge(t *testing.T) {
	keepBubble(t, func(ctx context.Context, s *Spool) {
		s.SetLinkUp(true)
		for range 200 {
			if _, err := s.Put(ctx, LaneReply, "reply", []byte("x")); err != nil {
				t.Fatal(err)
			}
			s.Ack(s.Identity(), handOut(s))
			time.Sleep(time.Minute)
		}
		if st := s.Stats(); st.Kept < 60 || st.Kept > 63 || st.Records != 0 || st.Lanes[LaneGap].Records != 0 {
			t.Errorf("%+v", st)
		}
		if got := s.current().kept.Last(); got != 200 {
			t.Errorf("the last kept is %d", got)
		}
	})
}

// An acknowledgement alone writes nothing at once, and one page soon.
func TestKeep_IsNotedSoon(t *testing.T) {
	keepBubble(t, func(ctx context.Context, s *Spool) {
		s.SetLinkUp(true)
		if _, err := s.Put(ctx, LaneDetection, "x", []byte("a")); err != nil {
			t.Fatal(err)
		}
		s.Ack(s.Identity(), handOut(s))
		before := s.Stats().Commits
		time.Sleep(ackedEvery / 2)
		if st := s.Stats(); st.Commits != before || st.Kept != 1 {
			t.Errorf("%d commits, %d kept", st.Commits-before, st.Kept)
		}
		time.Sleep(ackedEvery)
		c, err := s.store.load()
		if err != nil || s.Stats().Commits != before+1 || !c.epochs[0].noted.Contains(1) {
			t.Errorf("%d commits, the file says %+v, %v", s.Stats().Commits-before, c, err)
		}
		time.Sleep(time.Hour / 2)
		if got := s.Stats().Commits; got != before+1 {
			t.Errorf("%d commits while nothing happened", got-before-1)
		}
	})
}

func TestAcked_Encoding(t *testing.T) {
	key := []byte{0, 0, 0, 1}
	s := open(t, t.TempDir(), 0)
	var want protocol.Ranges
	for i := range uint64(3000) {
		want.AddRange(10*i+1, 10*i+1+i%5)
	}
	want.AddRange(protocol.MaxSeq-3, protocol.MaxSeq)
	s.current().noted = widest(want, mostNoted)
	if err := s.store.update(func(tx *bbolt.Tx) error { return putAcked(tx, 1, s.current().noted) }); err != nil {
		t.Fatal(err)
	}
	err := s.store.view(func(tx *bbolt.Tx) error {
		value := tx.Bucket(bucketMeta).Bucket(bucketAcked).Get(key)
		got := readAcked(key, value)
		if len(got) != mostNoted || !got.Subtract(want).Empty() || got.Count() < 4*mostNoted/2 {
			t.Errorf("%d ranges, %d numbers", len(got), got.Count())
		}
		if diff := cmp.Diff(s.current().noted, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		for at := range value {
			damaged := append([]byte(nil), value...)
			damaged[at] ^= 4
			if got := readAcked(key, damaged); got != nil {
				t.Fatalf("byte %d changed: still read", at)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
