package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/fulgidus/heimdall/protocol"
)

func open(t *testing.T, dir string, limit int64) *Spool {
	t.Helper()
	s, err := Open(dir, Options{Station: "torino", LimitBytes: limit})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func queueSome(t *testing.T, s *Spool, lane Lane, n, size int) {
	t.Helper()
	for range n {
		if _, err := s.Queue(t.Context(), lane, protocol.Kind(lane), make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
}

// account proves that every number is held or declared, once.
func account(t *testing.T, s *Spool) (held, declared protocol.Ranges) {
	t.Helper()
	held = s.Unacked()
	s.Rewind()
	for {
		item, ok := s.find()
		if !ok {
			break
		}
		if item.Kind != protocol.KindGap {
			continue
		}
		rec, err := protocol.Decode(item.Payload)
		if err != nil {
			t.Fatal(err)
		}
		named := protocol.RangesOf(rec.GetGap().GetRanges())
		if twice := named.Intersect(declared); !twice.Empty() {
			t.Errorf("declared twice: %v", twice)
		}
		declared = declared.Union(named)
	}
	var all protocol.Ranges
	all.AddRange(1, s.Stats().LastSeq)
	if missing := all.Subtract(held).Subtract(declared); !missing.Empty() {
		t.Errorf("neither held nor declared: %v", missing)
	}
	if both := held.Intersect(declared); !both.Empty() {
		t.Errorf("held and declared: %v", both)
	}
	return held, declared
}

// The bbolt file may not grow: what is least valuable makes room, and nothing else is lost.
func TestFlush_FileFull(t *testing.T) {
	s := open(t, t.TempDir(), 64<<20)
	s.store.db.MaxSize = 1 << 20
	queueSome(t, s, LaneReply, 20, 1000)
	for range 40 {
		queueSome(t, s, LaneSpectrum, 40, 1000)
		if err := s.flush(false); err != nil {
			t.Fatal(err)
		}
		s.store.db.MaxSize = 1 << 20 // shedding raises it for what tells of it
	}
	held, declared := account(t, s)
	if declared.Empty() || held.Count() < 100 {
		t.Errorf("%d held, %d declared", held.Count(), declared.Count())
	}
	if got := s.Stats().Lanes[LaneReply].Records; got != 20 {
		t.Errorf("%d replies, want all 20", got)
	}
}

// A limit far below what the file takes already: what is over it is given up, which needs room in the file first.
func TestOpen_LimitLowered(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 256<<20)
	for range 60 {
		queueSome(t, s, LaneMeasurement, 1000, 700)
		flushed(t, s)
	}
	closed(t, s)
	s = open(t, dir, SmallestLimit)
	defer closed(t, s)
	queueSome(t, s, LaneMeasurement, 1, 100)
	flushed(t, s)
	if st := s.Stats(); st.Bytes > SmallestLimit || st.Records < 1 {
		t.Errorf("%d records of %d bytes, want at most %d bytes", st.Records, st.Bytes, SmallestLimit)
	}
	account(t, s)
}

// The disk takes nothing: records wait in memory, bounded; then it works again.
func TestFlush_DiskGone(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 1<<20)
	queueSome(t, s, LaneReply, 3, 100)
	if err := s.flush(false); err != nil {
		t.Fatal(err)
	}
	good := s.store
	broken, err := openStore(filepath.Join(t.TempDir(), "other.db"), 0, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := broken.close(); err != nil {
		t.Fatal(err)
	}
	s.store = broken // every use fails with bbolt's "database not open"
	told := make(chan error, 1)
	go func() {
		_, err := s.Put(t.Context(), LaneSpectrum, "spectrum", make([]byte, 30000)) // the first to go when memory is full
		told <- err
	}()
	for s.Stats().Waiting == 0 {
		time.Sleep(time.Millisecond)
	}
	s.attempt()
	s.attempt()
	if s.outage.attempts != 2 || s.outage.retryAt.Before(time.Now()) {
		t.Errorf("outage %+v", s.outage)
	}
	if wait, waits := s.due(time.Now()); !waits || wait <= 0 || wait > time.Second {
		t.Errorf("next attempt in %v, %v", wait, waits)
	}
	queueSome(t, s, LaneIQ, 10, 30000)
	queueSome(t, s, LaneSpectrum, 40, 30000)
	if err := <-told; !errors.Is(err, ErrShed) {
		t.Errorf("the record that was given up: %v", err)
	}
	if s.waitingBytes > s.limit/2+1000 {
		t.Errorf("%d bytes wait in memory", s.waitingBytes)
	}
	if _, ok := s.find(); ok {
		t.Error("a record came from a disk that is gone")
	}
	if err := s.flush(false); err == nil {
		t.Error("no error from a disk that is gone")
	}
	s.GiveUp(s.Identity(), protocol.Ranges{{From: 1, To: 1}}, protocol.Gap_REASON_REFUSED)
	if err := s.surrenderGiven(); err == nil || len(s.given) != 1 {
		t.Errorf("giving up without a disk: %v, %d wait", err, len(s.given))
	}
	s.moves = []move{{s.current(), 1}}
	if _, err := s.tidy(); err == nil || len(s.moves) != 1 {
		t.Errorf("moving without a disk: %v, %d wait", err, len(s.moves))
	}
	s.moves = nil
	s.epochs = s.epochs[:1]
	if _, err := s.shedOldest(1, protocol.Gap_REASON_QUOTA); err == nil {
		t.Error("shedding without a disk: no error")
	}
	s.store, s.damage = good, nil
	s.attempt()
	if s.outage.attempts != 0 {
		t.Error("the disk is back, the outage is not over")
	}
	_, declared := account(t, s)
	if declared.Count() < 2 {
		t.Errorf("declared %v", declared)
	}
}

// The file is found damaged while it is in use: it is replaced, nothing that can be read is lost, and all that was
// queued is kept.
func TestFlush_DamageWhileRunning(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 0)
	first := s.Identity()
	queueSome(t, s, LaneMeasurement, 50, 300)
	queueSome(t, s, LaneIQ, 5, 3000)
	if err := s.flush(false); err != nil {
		t.Fatal(err)
	}
	s.memory.note("known", []byte("reply"))
	queueSome(t, s, LaneMeasurement, 5, 300)
	s.noteDamage(fmt.Errorf("no damage"))
	s.noteDamage(fmt.Errorf("%w: as the test says", errDamaged))
	if err := s.flush(false); err != nil {
		t.Fatal(err)
	}
	if s.Identity() == first {
		t.Error("the identity was kept")
	}
	if reply, ok := s.Recall("known"); !ok || string(reply) != "reply" {
		t.Error("the commands were lost")
	}
	if got := s.Stats().Records; got != 60 {
		t.Errorf("%d records, want all 60", got)
	}
	n := 0
	for {
		item, ok := s.find()
		if !ok {
			break
		}
		if n++; item.Spool != first {
			t.Errorf("record %d has another identity", item.Seq)
		}
	}
	if n != 60 {
		t.Errorf("%d handed out, want 60", n)
	}
	queueSome(t, s, LaneMeasurement, 1, 300)
	if got := s.Stats().LastSeq; got != 1 {
		t.Errorf("the new identity begins with %d", got)
	}
}

// What is in the file is overwritten while it is in use. bbolt meets that when it commits, and walking its tree to undo the
// commit would end the process.
func TestFlush_PagesOverwrittenWhileRunning(t *testing.T) {
	page := int64(os.Getpagesize())
	for first := int64(2); first < 10; first++ {
		dir := t.TempDir()
		s := open(t, dir, 0)
		for range 4 {
			for _, lane := range Lanes() {
				queueSome(t, s, lane, 10, 300)
			}
			if err := s.flush(false); err != nil {
				t.Fatal(err)
			}
		}
		given := s.Stats().LastSeq
		f, err := os.OpenFile(filepath.Join(dir, fileName), os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(bytes.Repeat([]byte("garbage "), int(6*page/8)), first*page); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		for _, lane := range Lanes() {
			queueSome(t, s, lane, 10, 300)
		}
		if err := s.flush(false); err != nil {
			t.Errorf("pages from %d on: %v", first, err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("pages from %d on: close: %v", first, err)
		}
		again := open(t, dir, 0)
		if st := again.Stats(); st.Records == 0 {
			t.Errorf("pages from %d on: nothing is left of %d records", first, given)
		}
	}
}

// A file that fails with a panic is recovered from; one that cannot even be replaced is tried again.
func TestFlush_PanicIsDamage(t *testing.T) {
	s := open(t, t.TempDir(), 0)
	err := s.store.update(func(*bbolt.Tx) error { panic("page torn") })
	if !errors.Is(err, errDamaged) {
		t.Fatalf("got %v, want errDamaged", err)
	}
	if err := os.Rename(filepath.Join(s.dir, fileName), filepath.Join(s.dir, "hidden")); err != nil {
		t.Fatal(err)
	}
	s.noteDamage(err)
	queueSome(t, s, LaneReply, 1, 10)
	if err := s.flush(false); err == nil {
		t.Error("a file that cannot be moved aside: no error")
	}
	if err := os.Rename(filepath.Join(s.dir, "hidden"), filepath.Join(s.dir, fileName)); err != nil {
		t.Fatal(err)
	}
	if err := s.flush(false); err != nil {
		t.Errorf("with the file back: %v", err)
	}
	if got := s.Stats().Records; got != 1 {
		t.Errorf("%d records, want 1", got)
	}
}

func TestSegments_Failures(t *testing.T) {
	dir := t.TempDir()
	segs, err := openSegments(dir, map[uint32]int{})
	if err != nil {
		t.Fatal(err)
	}
	ref, err := segs.add([]byte("chunk"))
	if err != nil {
		t.Fatal(err)
	}
	segs.current.Close()
	if _, err := segs.add([]byte("x")); err == nil || segs.current != nil {
		t.Error("write to a closed file: no error")
	}
	if _, err := segs.add([]byte("next")); err != nil || segs.number != 2 {
		t.Errorf("after a failed write: file %d, %v", segs.number, err)
	}
	segs.current.Close()
	if err := segs.sync(); err == nil || segs.current != nil {
		t.Error("sync of a closed file: no error")
	}
	if err := os.WriteFile(filepath.Join(dir, segmentName(3)), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := segs.add([]byte("x")); err == nil {
		t.Error("over a file that is there: no error")
	}
	if _, err := segs.add([]byte("x")); err != nil || segs.number != 4 {
		t.Errorf("after that: file %d, %v", segs.number, err)
	}
	segs.close()
	for name, bad := range map[string]*segmentRef{
		"length": {file: 1, length: maxPayload + 1}, "file": {file: 99, length: 1},
		"short": {file: 1, offset: 2, length: 5}, "sum": {file: 1, length: 5, sum: 1},
	} {
		if _, err := readSegment(dir, bad); !errors.Is(err, errCorrupt) {
			t.Errorf("%s: %v, want errCorrupt", name, err)
		}
	}
	if got, err := readSegment(dir, ref); err != nil || string(got) != "chunk" {
		t.Errorf("%q, %v", got, err)
	}
	if err := os.Mkdir(filepath.Join(dir, segmentName(50)), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := readSegment(dir, &segmentRef{file: 50, length: 1}); err == nil || errors.Is(err, errCorrupt) {
		t.Errorf("a file that cannot be read: %v", err)
	}
	if _, err := openSegments(filepath.Join(dir, segmentName(4)), nil); err == nil {
		t.Error("a folder that is a file: no error")
	}
	if err := syncDir(filepath.Join(dir, "nothing")); err == nil {
		t.Error("sync of a folder that is not there: no error")
	}
}

// When the IQ folder takes nothing, the rest waits with it, and all goes on when it is back.
func TestCommit_SegmentsFail(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 0)
	iq := filepath.Join(dir, iqName)
	if err := os.RemoveAll(iq); err != nil {
		t.Fatal(err)
	}
	queueSome(t, s, LaneIQ, 2, 1000)
	queueSome(t, s, LaneReply, 2, 1000)
	if err := s.flush(false); err == nil {
		t.Fatal("no error")
	}
	if st := s.Stats(); st.Waiting != 4 || st.Records != 0 {
		t.Errorf("%+v", st)
	}
	if err := os.Mkdir(iq, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.flush(false); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.Waiting != 0 || st.Records != 4 {
		t.Errorf("%+v", st)
	}
}

func TestPut_ContextEndsFirst(t *testing.T) {
	s := open(t, t.TempDir(), 0) // nobody runs it
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if seq, err := s.Put(ctx, LaneReply, "reply", []byte("x")); !errors.Is(err, context.DeadlineExceeded) || seq != 1 {
		t.Errorf("%d, %v", seq, err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := s.Remember(ctx, "id", []byte("x")); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// More ranges than one Gap may name go in several, and none is lost.
func TestLose_ManyRanges(t *testing.T) {
	s := open(t, t.TempDir(), 0)
	var odd protocol.Ranges
	const n = 2*maxGapRanges + 10
	for i := range uint64(n) {
		if _, err := s.Queue(t.Context(), LaneMeasurement, "measurement", []byte("x")); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			odd.Add(i + 1)
		}
	}
	if err := s.flush(false); err != nil {
		t.Fatal(err)
	}
	s.GiveUp(s.Identity(), odd, protocol.Gap_REASON_REFUSED)
	if err := s.flush(false); err != nil {
		t.Fatal(err)
	}
	_, declared := account(t, s)
	if declared.String() != odd.String() {
		t.Errorf("declared %d numbers, want %d", declared.Count(), odd.Count())
	}
	if got := s.Stats().Lanes[LaneGap].Records; got != 2 {
		t.Errorf("%d gaps, want 2", got)
	}
}

// Records that wait under the old identity when it changes get numbers of the new one.
func TestMove_Waiting(t *testing.T) {
	s := open(t, t.TempDir(), 0)
	queueSome(t, s, LaneMeasurement, 3, 10)
	if err := s.flush(false); err != nil {
		t.Fatal(err)
	}
	queueSome(t, s, LaneMeasurement, 2, 10)
	old := s.current()
	if err := s.move(move{old, 2}); err != nil {
		t.Fatal(err)
	}
	if err := s.flush(false); err != nil {
		t.Fatal(err)
	}
	if got := s.Unacked().String(); got != "{[1,7)}" { // 2 moved, their gap, 2 renumbered, their gap
		t.Errorf("under the new identity %s", got)
	}
	if got := old.held.String(); got != "{[1,2)}" {
		t.Errorf("under the old identity %s", got)
	}
}

// A tree without one of its parts is damage also when only the commit finds it.
func TestFlush_CommitFindsDamage(t *testing.T) {
	s := open(t, t.TempDir(), 0)
	queueSome(t, s, LaneReply, 3, 10)
	if err := s.flush(false); err != nil {
		t.Fatal(err)
	}
	first := s.Identity()
	if err := s.store.db.Update(func(tx *bbolt.Tx) error { return tx.DeleteBucket(laneBucket(LaneHealth.index())) }); err != nil {
		t.Fatal(err)
	}
	queueSome(t, s, LaneHealth, 2, 10)
	if err := s.flush(false); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.Records != 5 || s.Identity() == first {
		t.Errorf("%d records, want all five under the old identity; new identity %v", st.Records, s.Identity() != first)
	}
	// Without the lane of gaps the search for items finds it.
	if err := s.store.db.Update(func(tx *bbolt.Tx) error { return tx.DeleteBucket(laneBucket(LaneHealth.index())) }); err != nil {
		t.Fatal(err)
	}
	s.Rewind()
	for {
		if _, ok := s.find(); !ok {
			break
		}
	}
	if s.damage == nil {
		t.Fatal("the search found no damage")
	}
	if err := s.flush(false); err != nil {
		t.Fatal(err)
	}
	account(t, s)
}

func TestClose_WithoutDisk(t *testing.T) {
	s, err := Open(t.TempDir(), Options{Station: "torino"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.store.close(); err != nil {
		t.Fatal(err)
	}
	told := make(chan error, 2)
	go func() {
		_, err := s.Put(context.WithoutCancel(t.Context()), LaneReply, "reply", []byte("x"))
		told <- err
	}()
	go func() { told <- s.Remember(context.WithoutCancel(t.Context()), "id", []byte("x")) }()
	for ready := false; !ready; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		ready = len(s.waiting) == 1 && len(s.memoDone) == 1
		s.mu.Unlock()
	}
	if err := s.Close(); err == nil {
		t.Error("no error")
	}
	for range 2 {
		if err := <-told; !errors.Is(err, ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
	}
}
