package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/protocol"
)

// testMigrateTogether lets several collectors migrate an empty database at the same moment.
func testMigrateTogether(t *testing.T, s *server) {
	var collectors []*store.DB
	for range 4 {
		collectors = append(collectors, s.openUnmigrated(t))
	}
	var wg sync.WaitGroup
	applied := make([]int, len(collectors))
	for i, db := range collectors {
		wg.Go(func() {
			var err error
			if applied[i], err = db.Migrate(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	sum := 0
	for _, n := range applied {
		sum += n
	}
	if sum != newestMigration {
		t.Errorf("applied %v, want %d in all", applied, newestMigration)
	}
}

func testRepeats(t *testing.T, s *server) {
	db := s.open(t)
	for round := range 3 {
		fresh, acks := commit(t, db, measurements("torino", 1, 1, 50)...)
		if got := slices.Contains(fresh, true); got != (round == 0) {
			t.Errorf("round %d: fresh %v", round, got)
		}
		ack := acks[streamOf("torino", 1)]
		if settled(ack) != "{[1,51)}" || ack.Conflict != nil || ack.RejectedCount != nil {
			t.Errorf("round %d: ack %v", round, ack)
		}
	}
	if n := s.number(t, "SELECT count(*) FROM measurement"); n != 50 {
		t.Errorf("%d rows, want 50", n)
	}
	// Twice in one batch, and a repeat beside a new one.
	fresh, _ := commit(t, db, measurement("torino", 1, 51), measurement("torino", 1, 51), measurement("torino", 1, 1))
	if diff := cmp.Diff([]bool{true, false, false}, fresh); diff != "" {
		t.Error(diff)
	}
	if v := verdict(t, db, streamOf("torino", 1), true); !v.OK() || v.Stored != 51 || v.First != 1 || v.Last != 51 {
		t.Errorf("verdict %+v", v)
	}
}

// testShuffled delivers records of two stations three times each, in random order and batches of random size.
func testShuffled(t *testing.T, s *server) {
	db := s.open(t)
	random := rand.New(rand.NewPCG(7, 7))
	var all []*protocol.Record
	for range 3 {
		all = append(all, measurements("torino", 1, 1, 300)...)
		all = append(all, measurements("genova", 2, 1, 200)...)
	}
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	fresh := 0
	for len(all) > 0 {
		n := min(1+random.IntN(200), len(all))
		flags, _ := commit(t, db, all[:n]...)
		for _, f := range flags {
			if f {
				fresh++
			}
		}
		all = all[n:]
	}
	if fresh != 500 {
		t.Errorf("%d were fresh, want 500", fresh)
	}
	for stream, want := range map[protocol.Stream]uint64{streamOf("torino", 1): 300, streamOf("genova", 2): 200} {
		if v := verdict(t, db, stream, true); !v.OK() || v.Stored != want || v.Last != want {
			t.Errorf("verdict %+v, want %d stored", v, want)
		}
	}
}

// testConflicts sends other content under numbers that are in.
func testConflicts(t *testing.T, s *server) {
	db := s.open(t)
	stream := streamOf("torino", 1)
	commit(t, db, measurements("torino", 1, 1, 20)...)

	sameTime := measurement("torino", 1, 7)
	sameTime.GetMeasurement().SnrDb = new(float32(1))
	otherTime := measurement("torino", 1, 9)
	*otherTime.Time += int64(90 * 24 * time.Hour)
	otherKind := measurement("torino", 1, 5)
	otherKind.Body = &protocol.Record_Site{Site: &protocol.Site{LatitudeDeg: new(45.0)}}
	fresh, acks := commit(t, db, sameTime, measurement("torino", 1, 8), otherTime, otherKind)
	if slices.Contains(fresh, true) {
		t.Errorf("fresh %v, want none", fresh)
	}
	ack := acks[stream]
	if c := ack.GetConflict(); c.GetFrom() != 5 || c.GetTo() != 9 {
		t.Errorf("conflict %v, want 5 to 9", c)
	}
	if settled(ack) != "{[1,21)}" {
		t.Errorf("settled %s", settled(ack))
	}
	if n := s.number(t, "SELECT count(*) FROM record WHERE station = 'torino'"); n != 20 {
		t.Errorf("%d rows, want 20", n)
	}
	list, _, err := db.Records(t.Context(), protocol.KindMeasurement, protocol.Filter{Limit: 1000})
	if err != nil || len(list) != 20 || list[13].Record.GetSeq() != 7 || list[13].Record.GetMeasurement().GetSnrDb() != 27.9 {
		t.Errorf("the first did not stay: %v, %v", list[13], err)
	}
	// Who missed it is told again.
	_, acks = commit(t, db, measurement("torino", 1, 21))
	if c := acks[stream].GetConflict(); c.GetFrom() != 5 || c.GetTo() != 9 {
		t.Errorf("later conflict %v, want 5 to 9", c)
	}
	// Two in one batch.
	a, b := measurement("torino", 2, 1), measurement("torino", 2, 1)
	b.GetMeasurement().SnrDb = nil
	fresh, acks = commit(t, db, a, b)
	if c := acks[streamOf("torino", 2)].GetConflict(); c.GetFrom() != 1 || c.GetTo() != 1 || !fresh[0] || fresh[1] {
		t.Errorf("conflict %v, fresh %v", c, fresh)
	}
}

// gap makes a gap record about spool `about`; 0 is its own.
func gap(station string, b byte, seq uint64, about byte, lost ...protocol.Range) *protocol.Record {
	rec := measurement(station, b, seq)
	g := &protocol.Gap{Ranges: protocol.NewRanges(lost...).Wire(), Reason: protocol.Gap_REASON_QUOTA.Enum()}
	if about != 0 {
		g.Spool = spoolOf(about)
	}
	rec.Body = &protocol.Record_Gap{Gap: g}
	return rec
}

func testGaps(t *testing.T, s *server) {
	db := s.open(t)
	own, other := streamOf("torino", 1), streamOf("torino", 2)
	commit(t, db, measurement("torino", 1, 3), measurement("torino", 1, 5))
	_, acks := commit(t, db, gap("torino", 1, 11, 0, protocol.Range{From: 1, To: 8}), gap("torino", 1, 12, 2, protocol.Range{From: 4, To: 6}),
		gap("torino", 1, 13, 0))
	if got := settled(acks[own]); got != "{[1,9),[11,14)}" {
		t.Errorf("settled %s", got)
	}
	if got := settled(acks[other]); got != "{[4,7)}" {
		t.Errorf("settled of the other spool %s", got)
	}
	v := verdict(t, db, own, false)
	if v.Gaps != 6 || v.Stored != 5 || v.MissingRanges.String() != "{[9,11)}" || v.Last != 13 {
		t.Errorf("verdict %+v", v)
	}
	// Declared lost, and there after all: stored wins.
	fresh, acks := commit(t, db, measurement("torino", 1, 4))
	if !fresh[0] || settled(acks[own]) != "{[1,9),[11,14)}" {
		t.Errorf("fresh %v, settled %s", fresh, settled(acks[own]))
	}
	if v = verdict(t, db, own, false); v.Gaps != 5 || v.Stored != 6 || v.Duplicate != 0 {
		t.Errorf("verdict %+v", v)
	}
	if v = verdict(t, db, other, true); v.Gaps != 3 || v.MissingRanges.String() != "{[1,4)}" || v.First != 4 || v.OK() {
		t.Errorf("verdict of the other spool %+v", v)
	}
	if n := s.number(t, `SELECT gapped FROM delivery WHERE last = 13`); n != 5 {
		t.Errorf("view delivery says %d, want 5", n)
	}
}

// testOpenGap has a station say that nobody knows how far the numbers of a spool went: all there may have been are given up,
// and those that are known count.
func testOpenGap(t *testing.T, s *server) {
	db := s.open(t)
	open := protocol.Range{From: 1, To: protocol.MaxSeq}
	lost := streamOf("torino", 1)
	commit(t, db, measurement("torino", 1, 3), measurement("torino", 1, 5))
	_, acks := commit(t, db, gap("torino", 2, 1, 1, open), gap("torino", 2, 2, 3, open))
	if got := settled(acks[lost]) + settled(acks[streamOf("torino", 3)]); got != "{[1,6)}{}" {
		t.Errorf("settled %s", got)
	}
	judge := func(last, gaps uint64) {
		t.Helper()
		if v := verdict(t, db, lost, true); !v.OK() || v.Last != last || v.Gaps != gaps {
			t.Errorf("verdict %+v, want last %d and %d gaps", v, last, gaps)
		}
		if n := s.number(t, `SELECT count(*) FROM delivery WHERE last = `+fmt.Sprint(last)+` AND gapped = `+fmt.Sprint(gaps)); n != 1 {
			t.Error("view delivery says something else")
		}
	}
	judge(5, 3)
	// What was under way still comes, with a hole in it.
	_, acks = commit(t, db, measurement("torino", 1, 9))
	if got := settled(acks[lost]); got != "{[1,10)}" {
		t.Errorf("settled %s", got)
	}
	judge(9, 6)
	if all, err := db.Verify(t.Context(), "torino", true); err != nil || len(all) != 2 {
		t.Errorf("%+v, %v: want nothing of the spool that is known by its loss only", all, err)
	}
	if n := s.number(t, `SELECT count(*) FROM delivery WHERE last IS NULL AND gapped = 0`); n != 1 {
		t.Error("view delivery says something else of it")
	}
	if found, err := db.Holes(t.Context()); err != nil || len(found) != 0 {
		t.Errorf("holes %v, %v", found, err)
	}
}

// health makes a health record that still holds some numbers.
func health(station string, b byte, seq, lastSeq uint64, held ...protocol.Range) *protocol.Record {
	rec := measurement(station, b, seq)
	rec.Body = &protocol.Record_Health{Health: &protocol.Health{Unacked: protocol.NewRanges(held...).Wire(), LastSeq: new(lastSeq)}}
	return rec
}

func testPending(t *testing.T, s *server) {
	db := s.open(t)
	stream := streamOf("torino", 1)
	commit(t, db, measurement("torino", 1, 1), measurement("torino", 1, 4))
	if v := verdict(t, db, stream, false); v.MissingRanges.String() != "{[2,4)}" || v.Pending != 0 {
		t.Errorf("without health: %+v", v)
	}
	commit(t, db, health("torino", 1, 10, 12, protocol.Range{From: 2, To: 2}, protocol.Range{From: 4, To: 12}))
	// An older one that comes later says nothing new.
	commit(t, db, health("torino", 1, 6, 6, protocol.Range{From: 1, To: 6}))
	v := verdict(t, db, stream, false)
	if v.Pending != 7 || v.MissingRanges.String() != "{[3,4)}" || v.Last != 12 || v.OK() { // 2, 5, 7, 8, 9, 11, 12
		t.Errorf("with health: %+v", v)
	}
	if v = verdict(t, db, stream, true); v.Missing != 8 || v.Pending != 7 {
		t.Errorf("final: %+v", v)
	}
	// 13 was made after that health record, so that the agent may still have it.
	commit(t, db, measurement("torino", 1, 3), measurement("torino", 1, 14))
	if v = verdict(t, db, stream, false); !v.OK() || v.Pending != 8 || v.Last != 14 {
		t.Errorf("overtaken: %+v", v)
	}
	commit(t, db, health("torino", 1, 15, 15))
	if v = verdict(t, db, stream, false); v.Missing != 8 || v.Pending != 0 || v.Last != 15 {
		t.Errorf("the agent has none of them: %+v", v)
	}
	// A record made under an earlier identity and moved here speaks of other numbers.
	moved := health("torino", 1, 16, 500, protocol.Range{From: 400, To: 500})
	moved.GetHealth().Spool = spoolOf(2)
	commit(t, db, moved)
	if v = verdict(t, db, stream, false); v.Missing != 8 || v.Pending != 0 || v.Last != 16 {
		t.Errorf("after a health record of another identity: %+v", v)
	}
}

func testRejections(t *testing.T, s *server) {
	db := s.open(t)
	stream := streamOf("torino", 1)
	numbered := func(seq uint64, text string) protocol.Rejection {
		return protocol.Rejection{
			Station: "torino", Spool: spoolOf(1), Seq: seq, Kind: protocol.KindMeasurement, Time: t0.UnixNano(),
			Reason: "absurd_time", Payload: []byte(text),
		}
	}
	commit(t, db, measurement("torino", 1, 1), measurement("torino", 1, 2))
	reject := func(rejected ...protocol.Rejection) map[protocol.Stream]*protocol.Ack {
		t.Helper()
		_, acks, err := db.Commit(t.Context(), received, nil, rejected)
		if err != nil {
			t.Fatal(err)
		}
		return acks
	}
	acks := reject(numbered(2, "is in"), numbered(3, "bad"), numbered(3, "bad again"), numbered(5, "worse"))
	if a := acks[stream]; settled(a) != "{[1,4),[5,6)}" || a.GetRejectedCount() != 2 || protocol.RangesOf(a.GetRejected()).String() != "{[3,4),[5,6)}" {
		t.Errorf("ack %v", a)
	}
	// A number that was refused stays so.
	fresh, _ := commit(t, db, measurement("torino", 1, 3), measurement("torino", 1, 4))
	if diff := cmp.Diff([]bool{false, true}, fresh); diff != "" {
		t.Error(diff)
	}
	if v := verdict(t, db, stream, true); !v.OK() || v.Rejected != 2 || v.Stored != 3 {
		t.Errorf("verdict %+v", v)
	}
	s.exec(t, "DELETE FROM rejected WHERE seq = 5")
	if v := verdict(t, db, stream, false); v.MissingRanges.String() != "{[5,6)}" {
		t.Errorf("a lost rejection: %+v", v)
	}
	// Undecodable bytes are kept once; hostile text does not stop them; numbers that cannot be do not count.
	odd := []protocol.Rejection{
		{Station: "torino", Reason: "malformed", Payload: []byte("junk")},
		{Station: "torino", Reason: "malformed", Payload: []byte("junk")},
		{Station: "tor\x00ino\xff", Kind: "k\x00", Reason: "b\xffad\x00", Payload: nil},
		{Station: "torino", Spool: []byte{1}, Seq: 7, Reason: "malformed", Payload: make([]byte, 100_000)},
		{Station: "torino", Spool: spoolOf(1), Seq: 1 << 63, Reason: "malformed", Payload: []byte("far")},
	}
	if acks := reject(odd...); len(acks) != 0 {
		t.Errorf("acks %v for what has no number", acks)
	}
	reject(odd...)
	if n := s.number(t, "SELECT count(*) FROM rejected WHERE seq IS NULL"); n != 4 {
		t.Errorf("%d undecodable, want 4", n)
	}
	if n := s.number(t, "SELECT max(length(payload)) FROM rejected"); n != 64<<10 {
		t.Errorf("%d bytes kept, want 64 KiB", n)
	}
	if n := s.number(t, "SELECT max(bytes) FROM rejected"); n != 100_000 {
		t.Errorf("size %d, want 100000", n)
	}
}

// testRejectionLimit floods the table of rejections.
func testRejectionLimit(t *testing.T, s *server) {
	db := s.open(t)
	var flood []protocol.Rejection
	for i := range 1005 {
		flood = append(flood, protocol.Rejection{Station: "torino", Reason: "malformed", Payload: fmt.Append(nil, i)})
	}
	flood = append(flood, protocol.Rejection{Station: "torino", Spool: spoolOf(1), Seq: 1, Reason: "malformed", Payload: []byte("numbered")},
		protocol.Rejection{Station: "genova", Reason: "malformed", Payload: []byte("another station")})
	for range 2 {
		if _, _, err := db.Commit(t.Context(), received, nil, flood); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.number(t, "SELECT count(*) FROM rejected WHERE station = 'torino' AND seq IS NULL"); n != 1000 {
		t.Errorf("%d kept, want 1000", n)
	}
	if n := s.number(t, "SELECT count(*) FROM rejected WHERE station = 'torino' AND seq = 1 AND payload IS NULL"); n != 1 {
		t.Error("the numbered one is not accounted for, or kept its payload")
	}
	if n := s.number(t, "SELECT count(*) FROM rejected WHERE station = 'genova'"); n != 1 {
		t.Error("one station's flood took another's place")
	}
	// Room again the next day.
	if _, _, err := db.Commit(t.Context(), received.Add(25*time.Hour), nil, flood[1004:1005]); err != nil {
		t.Fatal(err)
	}
	if n := s.number(t, "SELECT count(*) FROM rejected WHERE station = 'torino' AND seq IS NULL"); n != 1001 {
		t.Errorf("%d kept after a day, want 1001", n)
	}
}

// testVerifyLooksAtRows damages tables beside the store.
func testVerifyLooksAtRows(t *testing.T, s *server) {
	db := s.open(t)
	stream := streamOf("torino", 1)
	commit(t, db, measurements("torino", 1, 1, 10)...)
	commit(t, db, health("torino", 1, 11, 11), gap("torino", 1, 12, 0))
	s.exec(t, "DELETE FROM measurement WHERE seq IN (3, 4, 8)")
	if v := verdict(t, db, stream, false); v.MissingRanges.String() != "{[3,5),[8,9)}" || v.Stored != 9 || v.OK() {
		t.Errorf("rows lost: %+v", v)
	}
	s.exec(t, "UPDATE spool SET released = '{[3,5),[8,9)}'")
	if v := verdict(t, db, stream, false); !v.OK() || v.Released != 3 {
		t.Errorf("rows released: %+v", v)
	}
	// What retention removed cannot be compared, and is not taken in again.
	other := measurement("torino", 1, 4)
	other.Step = nil
	if fresh, acks := commit(t, db, other); fresh[0] || acks[stream].Conflict != nil {
		t.Errorf("released: fresh %v, conflict %v", fresh, acks[stream].Conflict)
	}
	s.exec(t, "INSERT INTO gap (time, time_ns, station, spool, seq, digest, received) SELECT time, time_ns, station, spool, seq, digest, received FROM measurement WHERE seq = 9")
	if v := verdict(t, db, stream, false); v.Duplicate != 1 || v.DuplicateRanges.String() != "{[9,10)}" || v.OK() {
		t.Errorf("twice: %+v", v)
	}
}

// testTwoCollectors lets several collectors commit the same records at once, in different orders.
func testTwoCollectors(t *testing.T, s *server) {
	const each, workers = 200, 4
	names := []string{"torino", "genova", "milano", "coazze", "aosta"}
	var mu sync.Mutex // guards first
	first := make(map[string]int)
	var wg sync.WaitGroup
	for w := range workers {
		db := s.open(t)
		wg.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(w)))
			var all []*protocol.Record
			for i, name := range names {
				all = append(all, measurements(name, byte(i), 1, each)...)
			}
			random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			for len(all) > 0 {
				n := min(100, len(all))
				fresh, _, err := db.Commit(t.Context(), received, all[:n], nil)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				for i, f := range fresh {
					if f {
						first[fmt.Sprint(all[i].GetStation(), all[i].GetSeq())]++
					}
				}
				mu.Unlock()
				all = all[n:]
			}
		})
	}
	wg.Wait()
	if len(first) != each*len(names) {
		t.Errorf("%d records were fresh once, want %d", len(first), each*len(names))
	}
	for id, n := range first {
		if n != 1 {
			t.Errorf("%s was fresh %d times", id, n)
		}
	}
	db := s.open(t)
	for i, name := range names {
		if v := verdict(t, db, streamOf(name, byte(i)), true); !v.OK() || v.Stored != each {
			t.Errorf("verdict %+v", v)
		}
	}
	stations, err := db.Stations(t.Context())
	if err != nil || len(stations) != len(names) {
		t.Fatalf("%d stations, %v", len(stations), err)
	}
	for i, station := range stations {
		if station.Number != i+1 {
			t.Errorf("station %s has number %d, want %d", station.ID, station.Number, i+1)
		}
	}
}

// testInterrupted ends commits at random moments, and repeats them as ingest does.
func testInterrupted(t *testing.T, s *server) {
	db := s.open(t)
	random := rand.New(rand.NewPCG(3, 3))
	interrupted := 0
	for from := uint64(1); from <= 1000; from += 50 {
		batch := measurements("torino", 1, from, from+49)
		for {
			ctx, cancel := context.WithTimeout(t.Context(), rand.N(8*time.Millisecond))
			if random.IntN(4) == 0 {
				cancel()
				ctx, cancel = context.WithCancel(t.Context())
			}
			_, _, err := db.Commit(ctx, received, batch, nil)
			cancel()
			if err == nil {
				break
			}
			interrupted++
			var own *store.Error
			if !errors.As(err, &own) || !own.Transient() {
				t.Fatalf("%v is not transient", err)
			}
		}
	}
	t.Logf("%d commits were interrupted", interrupted)
	if v := verdict(t, db, streamOf("torino", 1), true); !v.OK() || v.Stored != 1000 {
		t.Errorf("verdict %+v", v)
	}
}

// testAllOrNothing commits a batch in which one record cannot be stored.
func testAllOrNothing(t *testing.T, s *server) {
	db := s.open(t)
	batch := measurements("torino", 1, 1, 10)
	batch[6].Step = new("2\x00m")
	_, _, err := db.Commit(t.Context(), received, batch, nil)
	var own *store.Error
	if !errors.As(err, &own) || !own.OneRecord() || own.Transient() {
		t.Fatalf("err %v", err)
	}
	if n := s.number(t, "SELECT count(*) FROM measurement") + s.number(t, "SELECT count(*) FROM spool"); n != 0 {
		t.Errorf("%d rows of a failed commit", n)
	}
	if fresh, acks := commit(t, db, append(batch[:6:6], batch[7:]...)...); len(fresh) != 9 || settled(acks[streamOf("torino", 1)]) != "{[1,7),[8,11)}" {
		t.Errorf("without it: %v", acks)
	}
	if _, acks, err := db.Commit(t.Context(), received, nil, nil); err != nil || len(acks) != 0 {
		t.Errorf("nothing: %v, %v", acks, err)
	}
}

func testBigBatch(t *testing.T, s *server) {
	db := s.open(t)
	batch := measurements("torino", 1, 1, 5000)
	began := time.Now()
	commit(t, db, batch...)
	t.Logf("5000 records in %v", time.Since(began).Round(time.Millisecond))
	began = time.Now()
	if fresh, _ := commit(t, db, batch...); slices.Contains(fresh, true) {
		t.Error("a repeat was fresh")
	}
	t.Logf("again in %v", time.Since(began).Round(time.Millisecond))
	if v := verdict(t, db, streamOf("torino", 1), true); !v.OK() || v.Stored != 5000 {
		t.Errorf("verdict %+v", v)
	}
	// More holes than an acknowledgement has room for: the lowest, and the highest of those that were sent.
	var odd []*protocol.Record
	for seq := uint64(1); seq <= 1401; seq += 2 {
		odd = append(odd, measurement("torino", 2, seq))
	}
	_, acks := commit(t, db, odd...)
	set := protocol.RangesOf(acks[streamOf("torino", 2)].GetSettled())
	if len(set) != protocol.MaxAckRanges || set.First() != 1 || set.Last() != 1401 {
		t.Errorf("%d ranges from %d to %d", len(set), set.First(), set.Last())
	}
	// But whoever sends a number waits for it, however high it is, for the first time or again.
	_, acks = commit(t, db, measurement("torino", 2, 9000), measurement("torino", 2, 1301))
	set = protocol.RangesOf(acks[streamOf("torino", 2)].GetSettled())
	if len(set) != protocol.MaxAckRanges || set.First() != 1 || !set.Contains(1301) || !set.Contains(9000) || set.Contains(1302) {
		t.Errorf("%d ranges from %d to %d: what was sent is not acknowledged", len(set), set.First(), set.Last())
	}
}

// testLateData stores records of long ago.
func testLateData(t *testing.T, s *server) {
	db := s.open(t)
	old := measurement("torino", 1, 1)
	old.Time = new(time.Date(2000, 1, 1, 0, 0, 0, 999, time.UTC).UnixNano())
	ancient := measurement("torino", 1, 2)
	ancient.Time = new(int64(-1)) // a nanosecond before 1970: rounds down, not towards zero
	want := []int64{ancient.GetTime(), old.GetTime()}
	commit(t, db, old, ancient, measurement("torino", 1, 3))
	list, _, err := db.Records(t.Context(), protocol.KindMeasurement, protocol.Filter{})
	if err != nil || len(list) != 3 {
		t.Fatal(len(list), err)
	}
	if got := []int64{list[2].Record.GetTime(), list[1].Record.GetTime()}; !cmp.Equal(got, want) || !list[1].Late || list[0].Late {
		t.Errorf("times %v, want %v", got, want)
	}
	if fresh, acks := commit(t, db, old, ancient); slices.Contains(fresh, true) || acks[streamOf("torino", 1)].Conflict != nil {
		t.Error("a late repeat was taken for something new")
	}
}

func testAcks(t *testing.T, s *server) {
	db := s.open(t)
	now := time.Now()
	for i, days := range []int{1, 40, 100} {
		rec := measurement("torino", byte(i), 1)
		if _, _, err := db.Commit(t.Context(), now.AddDate(0, 0, -days), []*protocol.Record{rec}, nil); err != nil {
			t.Fatal(err)
		}
	}
	acks, err := db.Acks(t.Context())
	if err != nil || len(acks) != 2 {
		t.Fatalf("%d acks, %v; want 2", len(acks), err)
	}
	if a := acks[streamOf("torino", 0)]; settled(a) != "{[1,2)}" || string(a.GetSpool()) != string(spoolOf(0)) {
		t.Errorf("ack %v", a)
	}
	if a, ok := acks[streamOf("torino", 1)]; !ok || a != nil {
		t.Errorf("ack of a spool 40 days old: %v, %v; want nil", a, ok)
	}
}
