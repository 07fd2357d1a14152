package spool_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"github.com/fulgidus/heimdall/agent/spool"
	"github.com/fulgidus/heimdall/protocol"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("SPOOL_TEST_CHILD"); dir != "" {
		child(dir)
		return
	}
	switch dir := os.Getenv("SPOOL_TEST_DIR"); os.Getenv("SPOOL_TEST_WRITER") {
	case "spool":
		writer(dir, os.Getenv("SPOOL_TEST_SEED"))
		return
	case "syncless":
		syncless(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// running is a spool whose Run is under way.
type running struct {
	*spool.Spool
	dir  string
	stop func()
}

func start(t *testing.T, dir string, options spool.Options) *running {
	t.Helper()
	if options.Station == "" {
		options.Station = "torino"
	}
	s, err := spool.Open(dir, options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	r := &running{Spool: s, dir: dir}
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		check(t, dir)
	}
	t.Cleanup(r.stop)
	return r
}

// check has bbolt look over its own file.
func check(t *testing.T, dir string) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(dir, "spool.db"), 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	if err != nil {
		t.Errorf("open the file to check it: %v", err)
		return
	}
	defer db.Close()
	err = db.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			t.Errorf("bbolt's own check: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// payload is an encoded record that says n, with a time n seconds into 2026.
func payload(t testing.TB, n, size int) []byte {
	t.Helper()
	rec := &protocol.Record{
		Station: new("torino"), Time: new(stamp(n).UnixNano()), Step: new(strings.Repeat("x", size)),
		Body: &protocol.Record_Measurement{Measurement: &protocol.Measurement{Samples: new(uint64(n))}},
	}
	b, err := protocol.Encode(rec)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func stamp(n int) time.Time { return time.Date(2026, 1, 1, 0, 0, n, 0, time.UTC) }

func put(t *testing.T, s *running, lane spool.Lane, payload []byte) uint64 {
	t.Helper()
	seq, err := s.Put(t.Context(), lane, protocol.Kind(lane), payload)
	if err != nil {
		t.Fatalf("Put: %v", err)
	}
	return seq
}

// queue puts without waiting; commit makes all queued durable.
func queue(t *testing.T, s *running, lane spool.Lane, payload []byte) uint64 {
	t.Helper()
	seq, err := s.Queue(t.Context(), lane, protocol.Kind(lane), payload)
	if err != nil {
		t.Fatalf("Queue: %v", err)
	}
	return seq
}

func commit(t *testing.T, s *running) {
	t.Helper()
	if err := s.Remember(t.Context(), "flush", []byte("x")); err != nil {
		t.Fatalf("Remember: %v", err)
	}
}

// drain takes all there is to hand out.
func drain(t *testing.T, s *running) []spool.Item {
	t.Helper()
	var items []spool.Item
	for {
		item, ok := next(t, s, 30*time.Millisecond)
		if !ok {
			return items
		}
		items = append(items, item)
	}
}

func next(t *testing.T, s *running, within time.Duration) (spool.Item, bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	item, err := s.Next(ctx)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Next: %v", err)
	}
	return item, err == nil
}

func seqs(items []spool.Item) []uint64 {
	out := make([]uint64, len(items))
	for i, item := range items {
		out[i] = item.Seq
	}
	return out
}

func ranges(seqs ...uint64) protocol.Ranges {
	var r protocol.Ranges
	for _, n := range seqs {
		r.Add(n)
	}
	return r
}

// gaps are the Gap records among items.
func gaps(t *testing.T, items []spool.Item) []*protocol.Gap {
	t.Helper()
	var out []*protocol.Gap
	for _, item := range items {
		if item.Kind != protocol.KindGap {
			continue
		}
		rec, err := protocol.Decode(item.Payload)
		if err != nil {
			t.Fatal(err)
		}
		if rec.GetStation() != "torino" {
			t.Errorf("gap of station %q", rec.GetStation())
		}
		out = append(out, rec.GetGap())
	}
	return out
}

// eventually waits for a condition with a deadline.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func TestPut_HandsOutWhatWasPut(t *testing.T) {
	s := start(t, t.TempDir(), spool.Options{})
	want := payload(t, 7, 100)
	seq := put(t, s, spool.LaneDetection, want)
	if seq != 1 {
		t.Errorf("first number %d, want 1", seq)
	}
	item, ok := next(t, s, time.Second)
	if !ok {
		t.Fatal("nothing handed out")
	}
	wantItem := spool.Item{Spool: s.Identity(), Seq: 1, Kind: "detection", Time: stamp(7), Payload: want}
	if diff := cmp.Diff(wantItem, item); diff != "" {
		t.Errorf("item (-want +got):\n%s", diff)
	}
	if more := drain(t, s); len(more) != 0 {
		t.Errorf("handed out again without Rewind: %d items", len(more))
	}
}

func TestNext_LanesInOrderLiveBeforeBacklog(t *testing.T) {
	s := start(t, t.TempDir(), spool.Options{})
	for i, lane := range []spool.Lane{spool.LaneIQ, spool.LaneSpectrum, spool.LaneMeasurement, spool.LaneReply} {
		queue(t, s, lane, payload(t, i, 10))
	}
	commit(t, s)
	s.SetLinkUp(true) // 1 to 4 waited for the link: backlog
	for i, lane := range []spool.Lane{spool.LaneIQ, spool.LaneSpectrum, spool.LaneMeasurement, spool.LaneDetection, spool.LaneReply} {
		queue(t, s, lane, payload(t, i, 10))
	}
	commit(t, s)
	items := drain(t, s)
	if diff := cmp.Diff([]uint64{9, 8, 7, 6, 5, 4, 3, 2, 1}, seqs(items)); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	for _, item := range items {
		if item.Backlog != (item.Seq <= 4) {
			t.Errorf("record %d: backlog %v", item.Seq, item.Backlog)
		}
	}
}

func TestAck_DeletesAndIsNotHandedOutAgain(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, spool.Options{})
	for i := range 10 {
		queue(t, s, spool.LaneMeasurement, payload(t, i, 10))
		queue(t, s, spool.LaneIQ, payload(t, i, 1000))
	}
	commit(t, s)
	if got := len(drain(t, s)); got != 20 {
		t.Fatalf("%d handed out, want 20", got)
	}
	s.Ack(s.Identity(), protocol.Ranges{{From: 1, To: 17}})
	s.Ack([8]byte{1}, protocol.Ranges{{From: 18, To: 20}}) // another spool's: ignored
	s.Rewind()
	if diff := cmp.Diff([]uint64{19, 18, 20}, seqs(drain(t, s))); diff != "" {
		t.Errorf("after the acknowledgement (-want +got):\n%s", diff)
	}
	if got := s.Unacked().String(); got != "{[18,21)}" {
		t.Errorf("unacknowledged %s", got)
	}
	commit(t, s)
	if got := s.Stats().Records; got != 3 {
		t.Errorf("%d records held, want 3", got)
	}
	s.stop()
	if st, err := spool.Stat(dir); err != nil || st.Records != 3 || st.LastSeq != 20 {
		t.Errorf("closed file: %+v, %v", st, err)
	}
}

func TestRetry_HandsOutOnlyThose(t *testing.T) {
	s := start(t, t.TempDir(), spool.Options{})
	for i := range 200 {
		queue(t, s, spool.LaneMeasurement, payload(t, i, 10))
	}
	commit(t, s)
	drain(t, s)
	s.Retry(s.Identity(), ranges(3, 150, 151, 999))
	if diff := cmp.Diff([]uint64{3, 150, 151}, seqs(drain(t, s))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	s.Retry([8]byte{}, ranges(3))
	s.Retry(s.Identity(), nil)
	if more := drain(t, s); len(more) != 0 {
		t.Errorf("%v handed out for another spool", seqs(more))
	}
}

func TestOpen_ContinuesNumbersAndIdentity(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, spool.Options{})
	identity := s.Identity()
	iq := payload(t, 2, 30000)
	put(t, s, spool.LaneReply, payload(t, 1, 10))
	put(t, s, spool.LaneIQ, iq)
	s.stop()
	s = start(t, dir, spool.Options{})
	if s.Identity() != identity {
		t.Error("another identity after opening again")
	}
	if seq := put(t, s, spool.LaneReply, payload(t, 3, 10)); seq != 3 {
		t.Errorf("number %d after opening again, want 3", seq)
	}
	items := drain(t, s)
	if diff := cmp.Diff([]uint64{3, 1, 2}, seqs(items)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(iq, items[2].Payload); diff != "" {
		t.Errorf("IQ after opening again differs")
	}
}

func TestPut_RefusesBadInput(t *testing.T) {
	s := start(t, t.TempDir(), spool.Options{})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, try := range map[string]func() error{
		"lane":    func() error { _, err := s.Put(t.Context(), "fast", "gap", []byte{1}); return err },
		"empty":   func() error { _, err := s.Put(t.Context(), spool.LaneGap, "gap", nil); return err },
		"large":   func() error { _, err := s.Put(t.Context(), spool.LaneGap, "gap", make([]byte, 128<<10)); return err },
		"kind":    func() error { _, err := s.Queue(t.Context(), spool.LaneGap, "", []byte{1}); return err },
		"ended":   func() error { _, err := s.Queue(ended, spool.LaneGap, "gap", []byte{1}); return err },
		"command": func() error { return s.Remember(t.Context(), "", nil) },
	} {
		if err := try(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if s.Stats().LastSeq != 0 {
		t.Error("a refused record got a number")
	}
}

func TestRemember_KeepsTheLastThousand(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, spool.Options{})
	ctx := t.Context()
	for i := range 1010 {
		done := make(chan error, 1)
		go func() { done <- s.Remember(ctx, fmt.Sprint("command-", i), []byte{byte(i), 1}) }()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Remember(ctx, "command-500", []byte("changed")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for i := range 1010 {
			reply, ok := s.Recall(fmt.Sprint("command-", i))
			want := string([]byte{byte(i), 1})
			if i == 500 {
				want = "changed"
			}
			if ok != (i >= 10) || ok && string(reply) != want {
				t.Fatalf("command %d: %v %q, want %q", i, ok, reply, want)
			}
		}
		s.stop()
		s = start(t, dir, spool.Options{})
	}
}

func TestLimit_ShedsInOrderAndDeclares(t *testing.T) {
	dir := t.TempDir()
	const limit = 1 << 20
	s := start(t, dir, spool.Options{LimitBytes: limit})
	lanes := []spool.Lane{spool.LaneIQ, spool.LaneSpectrum, spool.LaneMeasurement, spool.LaneReply}
	numbers := map[spool.Lane]protocol.Ranges{}
	add := func(lane spool.Lane, n int) {
		for i := range n {
			r := numbers[lane]
			r.Add(queue(t, s, lane, payload(t, i, 1000)))
			numbers[lane] = r
			if i%50 == 49 {
				commit(t, s)
			}
		}
		commit(t, s)
	}
	for _, lane := range lanes {
		add(lane, 200)
	}
	if st := s.Stats(); st.Shed != 0 || st.Bytes > limit {
		t.Fatalf("shed %d below the limit, %d bytes", st.Shed, st.Bytes)
	}
	add(spool.LaneMeasurement, 250) // over the limit by about 0.25 MB: IQ goes
	st := s.Stats()
	if st.Bytes > limit || st.Shed == 0 || st.Lanes[spool.LaneIQ].Records == 200 || st.Lanes[spool.LaneSpectrum].Records != 200 {
		t.Fatalf("after a little overload: %+v", st)
	}
	add(spool.LaneMeasurement, 1000)
	st = s.Stats()
	if st.Bytes > limit || st.Lanes[spool.LaneIQ].Records != 0 || st.Lanes[spool.LaneSpectrum].Records != 0 || st.Lanes[spool.LaneReply].Records != 200 {
		t.Fatalf("after much overload: %+v", st)
	}
	for range 2 {
		s.Rewind()
		items := drain(t, s)
		var held, declared protocol.Ranges
		for _, item := range items {
			held.Add(item.Seq)
		}
		found := gaps(t, items)
		for _, g := range found {
			if g.GetReason() != protocol.Gap_REASON_QUOTA || g.Spool != nil {
				t.Errorf("gap %v", g)
			}
			named := protocol.RangesOf(g.GetRanges())
			if g.GetRecords() != named.Count() || g.GetBytes() < 1000*named.Count() || g.GetFrom() > g.GetTo() {
				t.Errorf("gap says %d records, %d bytes, %d to %d; names %d", g.GetRecords(), g.GetBytes(), g.GetFrom(), g.GetTo(), named.Count())
			}
			if !declared.Intersect(named).Empty() {
				t.Errorf("named twice: %v", declared.Intersect(named))
			}
			declared = declared.Union(named)
			if rest := named.Subtract(numbers[spool.Lane(g.GetLane())]); !rest.Empty() {
				t.Errorf("gap of lane %s names others: %v", g.GetLane(), rest)
			}
		}
		if len(found) != 3 {
			t.Errorf("%d gaps, want one a lane", len(found))
		}
		if both := held.Intersect(declared); !both.Empty() {
			t.Errorf("held and declared: %v", both)
		}
		if got, want := held.Union(declared).String(), fmt.Sprintf("{[1,%d)}", s.Stats().LastSeq+1); got != want {
			t.Errorf("held and declared together %s, want %s", got, want)
		}
		s.stop()
		s = start(t, dir, spool.Options{LimitBytes: limit})
	}
}

func TestOpen_LockedSaysWho(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, spool.Options{})
	_, err := spool.Open(dir, spool.Options{Station: "torino"})
	locked, ok := errors.AsType[*spool.LockedError](err)
	if !ok || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("got %v, want a LockedError that names process %d", err, os.Getpid())
	}
	if _, err := spool.Stat(dir); !errors.As(err, &locked) {
		t.Errorf("Stat of an open spool: %v", err)
	}
	s.stop()
	if _, err := spool.Stat(dir); err != nil {
		t.Error(err)
	}
	if got := (&spool.LockedError{Path: "x"}).Error(); !strings.Contains(got, "another process") {
		t.Error(got)
	}
}

func TestOpen_RefusesBadOptions(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, try := range []struct {
		dir     string
		options spool.Options
	}{
		{t.TempDir(), spool.Options{Station: "A b"}},
		{t.TempDir(), spool.Options{Station: "torino", LimitBytes: 1000}},
		{file, spool.Options{Station: "torino"}},
	} {
		if s, err := spool.Open(try.dir, try.options); err == nil {
			s.Close()
			t.Errorf("%+v: no error", try)
		}
	}
}

// A station that gets another name delivers what it has under the former one; then it begins anew.
func TestOpen_AnotherStation(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, spool.Options{})
	identity := s.Identity()
	seq := put(t, s, spool.LaneReply, payload(t, 1, 10))
	s.stop()
	_, err := spool.Open(dir, spool.Options{Station: "another"})
	other, ok := errors.AsType[*spool.StationError](err)
	if !ok || other.Station != "torino" || other.Records != 1 {
		t.Fatalf("got %v, want a StationError about one record of torino", err)
	}
	s = start(t, dir, spool.Options{})
	if s.Identity() != identity {
		t.Error("under its own name the identity changed")
	}
	drain(t, s)
	s.Ack(identity, ranges(seq))
	commit(t, s)
	s.stop()
	for range 2 {
		s = start(t, dir, spool.Options{Station: "another"})
		if s.Identity() == identity {
			t.Error("the identity is still the other station's")
		}
		if n := s.Stats().LastSeq; n != 0 {
			t.Errorf("the last number is %d", n)
		}
		s.stop()
	}
	check(t, dir)
}
