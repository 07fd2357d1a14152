package spool_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/fulgidus/heimdall/agent/spool"
	"github.com/fulgidus/heimdall/protocol"
)

// fill makes a closed spool with n records in every lane and tells its identity.
func fill(t *testing.T, dir string, n int) [8]byte {
	t.Helper()
	s := start(t, dir, spool.Options{})
	for i := range n {
		for _, lane := range spool.Lanes() {
			queue(t, s, lane, payload(t, i, 300))
		}
	}
	if err := s.Remember(t.Context(), "known", []byte("reply")); err != nil {
		t.Fatal(err)
	}
	identity := s.Identity()
	s.stop()
	return identity
}

// reopened opens a spool that may be damaged, and proves what holds in any case: it opens, what it hands out is as it
// was put, all that is missing is declared, and it goes on working. It returns how many records came out.
func reopened(t *testing.T, dir string, identity [8]byte, total int) int {
	t.Helper()
	s := start(t, dir, spool.Options{})
	defer s.stop()
	fresh := payload(t, 1, 300)
	put(t, s, spool.LaneReply, fresh)
	var held, declared protocol.Ranges
	for {
		items := drain(t, s)
		if len(items) == 0 {
			break
		}
		for _, item := range items {
			if item.Kind == protocol.KindGap && item.Spool != identity {
				continue
			}
			if item.Spool != identity {
				if !bytes.Equal(item.Payload, fresh) {
					t.Errorf("an unknown record: %d", item.Seq)
				}
				continue
			}
			held.Add(item.Seq)
			if want := payload(t, (int(item.Seq)-1)/len(spool.Lanes()), 300); int(item.Seq) <= total && !bytes.Equal(item.Payload, want) {
				t.Errorf("record %d is not what was put", item.Seq)
			}
		}
		for _, g := range gaps(t, onlyNot(items, identity, total)) {
			if g.GetReason() == protocol.Gap_REASON_SPOOL_LOST && len(g.GetRanges()) == 0 {
				declared.AddRange(1, uint64(total)) // not even the identity could be read
			}
			if g.Spool == nil || [8]byte(g.GetSpool()) == identity {
				declared = declared.Union(protocol.RangesOf(g.GetRanges()))
			}
		}
		commit(t, s)
	}
	all := protocol.Ranges{{From: 1, To: uint64(total)}}
	all.AddRange(1, held.Last())
	if missing := all.Subtract(held).Subtract(declared); !missing.Empty() {
		t.Errorf("neither there nor declared: %v", missing)
	}
	return int(held.Intersect(protocol.Ranges{{From: 1, To: uint64(total)}}).Count())
}

// onlyNot leaves out the gap lane's records that the test itself put.
func onlyNot(items []spool.Item, identity [8]byte, total int) []spool.Item {
	var out []spool.Item
	for _, item := range items {
		if item.Spool != identity || int(item.Seq) > total {
			out = append(out, item)
		}
	}
	return out
}

func TestOpen_AnyZeroedPage(t *testing.T) {
	dir := t.TempDir()
	const n = 40
	total := n * len(spool.Lanes())
	identity := fill(t, dir, n)
	whole, err := os.ReadFile(filepath.Join(dir, "spool.db"))
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	recovered := 0
	for at := 2 * page; at < len(whole); at += page {
		damaged := bytes.Clone(whole)
		clear(damaged[at : at+page])
		copyTo := t.TempDir()
		copySpool(t, dir, copyTo, damaged)
		recovered += reopened(t, copyTo, identity, total)
	}
	if pages := len(whole)/page - 2; recovered < pages*total/2 {
		t.Errorf("%d of %d records recovered over %d damaged files", recovered, pages*total, pages)
	}
}

func copySpool(t *testing.T, from, to string, file []byte) {
	t.Helper()
	if err := os.CopyFS(filepath.Join(to, "iq"), os.DirFS(filepath.Join(from, "iq"))); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(to, "spool.db"), file, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestOpen_BitFlipsAndTruncation(t *testing.T) {
	dir := t.TempDir()
	const n = 20
	total := n * len(spool.Lanes())
	identity := fill(t, dir, n)
	whole, err := os.ReadFile(filepath.Join(dir, "spool.db"))
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 40 {
		damaged := bytes.Clone(whole)
		if round%4 == 0 {
			damaged = damaged[:random.IntN(len(damaged)-1)+1]
		} else {
			// A bit in the middle of a record's text; in a tree page a key may change, which no checksum of bbolt's tells.
			at := bytes.Index(damaged, bytes.Repeat([]byte("x"), 200))
			damaged[at+random.IntN(200)] ^= 1 << random.IntN(8)
		}
		to := t.TempDir()
		copySpool(t, dir, to, damaged)
		if round%4 == 0 {
			s := start(t, to, spool.Options{})
			put(t, s, spool.LaneReply, payload(t, 1, 1))
			s.stop()
			continue
		}
		if got := reopened(t, to, identity, total); got < total-1 {
			t.Errorf("one bit cost %d records", total-got)
		}
	}
}

func TestOpen_UnreadableFile(t *testing.T) {
	for name, content := range map[string][]byte{
		"garbage": bytes.Repeat([]byte("garbage "), 4096),
		"short":   []byte("x"),
		"empty":   {},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "spool.db"), content, 0o600); err != nil {
				t.Fatal(err)
			}
			s := start(t, dir, spool.Options{})
			if seq := put(t, s, spool.LaneReply, payload(t, 1, 1)); seq == 0 {
				t.Error("no number")
			}
			found := gaps(t, drain(t, s))
			if len(found) != 1 || found[0].GetReason() != protocol.Gap_REASON_SPOOL_LOST {
				t.Errorf("gaps %v, want one spool_lost", found)
			}
			bad, err := filepath.Glob(filepath.Join(dir, "spool.bad-*"))
			if err != nil || len(bad) != 1 {
				t.Errorf("moved aside: %v, %v", bad, err)
			}
		})
	}
}

// A file of the former format, written by the version that had it, is taken over whole.
func TestOpen_FormerFormat(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "iq"), os.DirFS("testdata/format-1/iq")); err != nil {
		t.Fatal(err)
	}
	packed, err := os.Open("testdata/format-1/spool.db.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	unpacked, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	file, err := io.ReadAll(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "spool.db"), file, 0o600); err != nil {
		t.Fatal(err)
	}
	// 320 records over all lanes, of which 1 to 100 and 311 to 320 were acknowledged.
	if st, err := spool.Stat(dir); err != nil || st.Records != 210 || st.LastSeq != 320 {
		t.Errorf("unopened: %+v, %v", st, err)
	}
	for range 2 {
		s := start(t, dir, spool.Options{Keep: time.Hour})
		var got protocol.Ranges
		for _, item := range drain(t, s) {
			lane := spool.Lanes()[(item.Seq-1)%uint64(len(spool.Lanes()))]
			if want := fmt.Sprintf("record %d of %s", (item.Seq-1)/uint64(len(spool.Lanes())), lane); string(item.Payload) != want {
				t.Errorf("record %d is %q, want %q", item.Seq, item.Payload, want)
			}
			got.Add(item.Seq)
		}
		if got.String() != "{[101,311)}" || s.Unacked().String() != got.String() {
			t.Errorf("handed out %v, unacknowledged %v", got, s.Unacked())
		}
		if reply, ok := s.Recall("known"); !ok || string(reply) != "reply" {
			t.Error("the command is not known")
		}
		if st := s.Stats(); st.LastSeq != 320 {
			t.Errorf("last number %d", st.LastSeq)
		}
		s.stop()
	}
	if bad, _ := filepath.Glob(filepath.Join(dir, "spool.bad-*")); len(bad) != 0 {
		t.Errorf("moved aside: %v", bad)
	}
}

func TestOpen_UnknownFormatIsMovedAsideUnread(t *testing.T) {
	dir := t.TempDir()
	identity := fill(t, dir, 2)
	edit(t, dir, func(tx *bbolt.Tx) error { return tx.Bucket([]byte("meta")).Put([]byte("format"), []byte{9}) })
	s := start(t, dir, spool.Options{})
	if s.Identity() == identity {
		t.Error("the identity was kept")
	}
	if _, ok := s.Recall("known"); ok {
		t.Error("the file was read")
	}
	declaresAll(t, s, identity)
}

// declaresAll demands a single Gap record, which gives up any number that the identity may ever have given.
func declaresAll(t *testing.T, s *running, identity [8]byte) {
	t.Helper()
	found := gaps(t, drain(t, s))
	if len(found) != 1 || found[0].GetReason() != protocol.Gap_REASON_SPOOL_LOST || !bytes.Equal(found[0].GetSpool(), identity[:]) ||
		fmt.Sprint(protocol.RangesOf(found[0].GetRanges())) != fmt.Sprint(protocol.Ranges{{From: 1, To: protocol.MaxSeq}}) {
		t.Errorf("gaps %v, want one spool_lost of all that %x may have given", found, identity)
	}
}

// A file that was removed is missed by what is noted beside it.
func TestOpen_FileIsGone(t *testing.T) {
	dir := t.TempDir()
	identity := fill(t, dir, 2)
	if err := os.Remove(filepath.Join(dir, "spool.db")); err != nil {
		t.Fatal(err)
	}
	s := start(t, dir, spool.Options{})
	defer s.stop()
	if s.Identity() == identity {
		t.Error("the identity was kept")
	}
	declaresAll(t, s, identity)
}

// Of a file cut short nothing is left but what is noted beside it: its identity, and not how far its numbers went.
func TestOpen_NothingButTheIdentityIsLeft(t *testing.T) {
	dir := t.TempDir()
	identity := fill(t, dir, 2)
	if err := os.Truncate(filepath.Join(dir, "spool.db"), int64(os.Getpagesize())+700); err != nil {
		t.Fatal(err)
	}
	s := start(t, dir, spool.Options{})
	declaresAll(t, s, identity)
	s.stop()

	s = start(t, dir, spool.Options{})
	defer s.stop()
	second := s.Identity()
	s.Ack(identity, protocol.Ranges{{From: 1, To: 1000}}) // it may have given them
	seq := put(t, s, spool.LaneReply, payload(t, 1, 1))
	if s.Identity() != second || seq != 2 {
		t.Errorf("%x goes on with %d, want %x with 2", s.Identity(), seq, second)
	}
}

// The next number is believed for its checksum: a flipped bit has none given twice, and none passed over in silence.
func TestOpen_FlippedBitInTheNextNumber(t *testing.T) {
	dir := t.TempDir()
	const n = 2
	identity := fill(t, dir, n)
	total := n * len(spool.Lanes())
	for bit := range 64 {
		damaged := t.TempDir()
		if err := os.CopyFS(damaged, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		edit(t, damaged, func(tx *bbolt.Tx) error {
			bucket := tx.Bucket([]byte("lane/iq"))
			return bucket.SetSequence(bucket.Sequence() ^ 1<<bit)
		})
		if back := reopened(t, damaged, identity, total); back != total {
			t.Errorf("bit %d: %d of %d records came back", bit, back, total)
		}
	}
}

// A file without one of its parts, or with parts that make no sense, is damaged too.
func TestOpen_MissingAndSenselessParts(t *testing.T) {
	for name, damage := range map[string]func(*bbolt.Tx) error{
		"lane":    func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("lane/iq")) },
		"command": func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("command")) },
		"acked":   func(tx *bbolt.Tx) error { return tx.Bucket([]byte("meta")).DeleteBucket([]byte("acked")) },
		"epochs":  func(tx *bbolt.Tx) error { return tx.Bucket([]byte("meta")).DeleteBucket([]byte("epochs")) },
		"meta":    func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("meta")) },
		"identity": func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte("meta")).Bucket([]byte("epochs")).Put([]byte{0, 0, 0, 1}, []byte("short"))
		},
		"next": func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte("meta")).Bucket([]byte("epochs")).Put([]byte{0, 0, 0, 1}, make([]byte, 16))
		},
		"key": func(tx *bbolt.Tx) error { return tx.Bucket([]byte("lane/gap")).Put([]byte("odd"), []byte("value")) },
		"high number": func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte("lane/gap")).Put([]byte{0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0}, []byte("value"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			identity := fill(t, dir, 3)
			edit(t, dir, damage)
			if _, err := spool.Stat(dir); err == nil {
				t.Error("Stat sees no damage")
			}
			s := start(t, dir, spool.Options{})
			if s.Identity() == identity {
				t.Error("the identity was kept")
			}
			put(t, s, spool.LaneReply, payload(t, 1, 1))
			if len(gaps(t, drain(t, s))) == 0 {
				t.Error("nothing was declared")
			}
		})
	}
}

func edit(t *testing.T, dir string, change func(*bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(dir, "spool.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Update(change); err != nil {
		t.Fatal(err)
	}
}

func TestNext_CorruptRecordsAreDeclared(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, spool.Options{})
	for i := range 6 {
		queue(t, s, spool.LaneMeasurement, payload(t, i, 100)) // 1, 3, 5, ...
		queue(t, s, spool.LaneIQ, payload(t, i, 20000))        // 2, 4, 6, ...
	}
	commit(t, s)
	s.stop()
	// Number 3 in the file, 4 in its segment.
	edit(t, dir, func(tx *bbolt.Tx) error {
		bucket := tx.Bucket([]byte("lane/measurement"))
		key := []byte{0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 3}
		value := bytes.Clone(bucket.Get(key))
		value[40] ^= 4
		return bucket.Put(key, value)
	})
	segment := filepath.Join(dir, "iq", "00000001.seg")
	iq, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	iq[20500] ^= 1
	if err := os.WriteFile(segment, iq, 0o600); err != nil {
		t.Fatal(err)
	}
	var listed []string
	err = spool.List(dir, func(lane spool.Lane, item spool.Item, err error) error {
		if err != nil {
			listed = append(listed, fmt.Sprint(lane, item.Seq))
		}
		return nil
	})
	if err != nil || fmt.Sprint(listed) != "[measurement3 iq4]" {
		t.Errorf("listed as corrupt: %v, %v", listed, err)
	}
	s = start(t, dir, spool.Options{})
	var items []spool.Item
	eventually(t, "both declared", func() bool {
		items = append(items, drain(t, s)...)
		return len(gaps(t, items)) == 2
	})
	var declared protocol.Ranges
	for _, g := range gaps(t, items) {
		if g.GetReason() != protocol.Gap_REASON_CORRUPT || g.GetRecords() != 1 {
			t.Errorf("gap %v", g)
		}
		declared = declared.Union(protocol.RangesOf(g.GetRanges()))
	}
	if declared.String() != "{[3,5)}" || len(items) != 12 {
		t.Errorf("declared %v, %d items handed out", declared, len(items))
	}
	if got := s.Unacked().Intersect(declared); !got.Empty() {
		t.Errorf("still held: %v", got)
	}
	s.stop()

	// Without the segment file all IQ in it is gone.
	os.Remove(segment)
	s = start(t, dir, spool.Options{})
	declared = nil
	eventually(t, "the rest declared", func() bool {
		for _, g := range gaps(t, drain(t, s)) {
			declared = declared.Union(protocol.RangesOf(g.GetRanges()))
		}
		return declared.Count() == 7
	})
}

func TestSegments_AreRemovedWhenNothingNeedsThem(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, spool.Options{})
	files := func() int {
		names, err := filepath.Glob(filepath.Join(dir, "iq", "*.seg"))
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	for i := range 300 { // 18 MB: three files
		queue(t, s, spool.LaneIQ, payload(t, i, 60000))
		if i%100 == 99 {
			commit(t, s)
		}
	}
	commit(t, s)
	if got := files(); got != 3 {
		t.Errorf("%d segment files, want 3", got)
	}
	for {
		items := drain(t, s)
		if len(items) == 0 {
			break
		}
		for _, item := range items {
			s.Ack(item.Spool, ranges(item.Seq))
		}
	}
	commit(t, s)
	if got := files(); got != 1 {
		t.Errorf("%d segment files after everything was acknowledged, want the current one", got)
	}
	s.stop()
	for _, name := range []string{"000000ff.seg", "zz.seg", "zzzzzzzz.seg"} { // left over, and not ours
		if err := os.WriteFile(filepath.Join(dir, "iq", name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s = start(t, dir, spool.Options{})
	if got := files(); got != 2 {
		t.Errorf("%d segment files after opening again, want the two that are not ours", got)
	}
	put(t, s, spool.LaneIQ, payload(t, 1, 1))
	if _, err := os.Stat(filepath.Join(dir, "iq", "00000100.seg")); err != nil {
		t.Errorf("numbers of files go on: %v", err)
	}
}

func TestOpen_DamagedAgainKeepsOnlyTheLast(t *testing.T) {
	dir := t.TempDir()
	for range 3 {
		fill(t, dir, 2)
		edit(t, dir, func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("lane/site")) })
	}
	start(t, dir, spool.Options{}).stop()
	bad, err := filepath.Glob(filepath.Join(dir, "spool.bad-*"))
	if err != nil || len(bad) != 1 {
		t.Errorf("moved aside: %v, %v; want the last one", bad, err)
	}
}

func TestOpen_CorruptCommandsAreForgotten(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, 1)
	edit(t, dir, func(tx *bbolt.Tx) error {
		return errors.Join(
			tx.Bucket([]byte("command")).Put([]byte("known"), []byte("no checksum here")),
			tx.Bucket([]byte("command-order")).Put([]byte("odd"), []byte("known")),
		)
	})
	s := start(t, dir, spool.Options{})
	if _, ok := s.Recall("known"); ok {
		t.Error("a corrupt reply was recalled")
	}
	if err := s.Remember(t.Context(), "known", []byte("again")); err != nil {
		t.Fatal(err)
	}
}

func TestList_EndsWithTheVisitorsError(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, 2)
	enough := errors.New("enough")
	n := 0
	err := spool.List(dir, func(spool.Lane, spool.Item, error) error {
		n++
		return enough
	})
	if !errors.Is(err, enough) || n != 1 {
		t.Errorf("%v after %d records", err, n)
	}
	edit(t, dir, func(tx *bbolt.Tx) error { return tx.Bucket([]byte("meta")).Put([]byte("format"), []byte{9}) })
	if err := spool.List(dir, nil); err == nil {
		t.Error("List of an unknown format: no error")
	}
}

// TestReplace_Killed shows that a kill at any moment of a replacement loses nothing: what is lost is declared in the new file
// before that has the spool's name, and one that was ready when its agent was killed is gone on with.
func TestReplace_Killed(t *testing.T) {
	dir := t.TempDir()
	identity := fill(t, dir, 40)
	path := filepath.Join(dir, "spool.db")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text[:len(text)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := spool.Open(dir, spool.Options{Station: "torino"}) // and nothing runs: it is killed here
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for name, as := range map[string]string{"renamed": "spool.db", "not renamed yet": "spool.db.ready"} {
		t.Run(name, func(t *testing.T) {
			killed := t.TempDir()
			image, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(killed, as), image, 0o600); err != nil {
				t.Fatal(err)
			}
			reopened(t, killed, identity, 40*len(spool.Lanes()))
		})
	}
}
