package spool_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/agent/spool"
	"github.com/fulgidus/heimdall/protocol"
)

// original is a spool of which damaged copies are made.
type original struct {
	identity [protocol.SpoolBytes]byte
	file     []byte
	segments map[string][]byte
	beside   []byte                     // the copy of the identity
	records  map[uint64]*originalRecord // by number; those acknowledged are not in it
	last     uint64
}

type originalRecord struct {
	payload []byte
	// spans are the places of the file with a whole copy of it: bbolt does not overwrite what is in use.
	spans   [][2]int
	segment string // of IQ, with the place in it
	at      int
}

// undamaged tells whether a copy of the record is left in the damaged files.
func (r *originalRecord) undamaged(file []byte, o *original, segments map[string][]byte) bool {
	same := func(was, is []byte, from, to int) bool {
		return to <= len(is) && bytes.Equal(was[from:to], is[from:to])
	}
	if r.segment != "" && !same(o.segments[r.segment], segments[r.segment], r.at, r.at+len(r.payload)) {
		return false
	}
	return slices.ContainsFunc(r.spans, func(s [2]int) bool { return same(o.file, file, s[0], s[1]) })
}

// makeOriginal fills a spool as a station does: lanes mixed, many commits, a third acknowledged.
func makeOriginal(t *testing.T, n int) *original {
	t.Helper()
	dir := t.TempDir()
	s := start(t, dir, spool.Options{})
	random := rand.New(rand.NewPCG(3, 4))
	o := &original{identity: s.Identity(), records: map[uint64]*originalRecord{}, segments: map[string][]byte{}}
	lanes := slices.DeleteFunc(spool.Lanes(), func(l spool.Lane) bool { return l == spool.LaneGap })
	iq := map[uint64]bool{}
	for i := range n {
		lane := lanes[random.IntN(len(lanes))]
		size := 20 + random.IntN(400)
		if lane == spool.LaneIQ {
			size = 2000 + random.IntN(3000)
		}
		r := &originalRecord{payload: payload(t, i, size)}
		o.last = queue(t, s, lane, r.payload)
		o.records[o.last], iq[o.last] = r, lane == spool.LaneIQ
		if i%100 == 99 {
			commit(t, s)
		}
		if i == n/2 {
			for _, item := range drain(t, s) {
				if random.IntN(3) == 0 {
					s.Ack(item.Spool, ranges(item.Seq))
					delete(o.records, item.Seq)
				}
			}
		}
	}
	s.stop()
	var err error
	if o.file, err = os.ReadFile(filepath.Join(dir, "spool.db")); err != nil {
		t.Fatal(err)
	}
	if o.beside, err = os.ReadFile(filepath.Join(dir, "spool.identity")); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "iq", "*.seg"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if o.segments[filepath.Base(name)], err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	for seq, r := range o.records {
		o.locate(t, seq, r, iq[seq])
	}
	return o
}

// locate finds where a record is. Its key is in front of the value in bbolt's pages, and bears its number.
func (o *original) locate(t *testing.T, seq uint64, r *originalRecord, iq bool) {
	t.Helper()
	tail := 4 + len(r.payload)
	if iq {
		tail = 4 + 4 + 8 + 4 + 4 // a reference instead
		for name, segment := range o.segments {
			if at := bytes.Index(segment, r.payload); at >= 0 {
				r.segment, r.at = name, at
			}
		}
	}
	key := []byte{0, 0, 0, 1, byte(seq >> 56), byte(seq >> 48), byte(seq >> 40), byte(seq >> 32), byte(seq >> 24), byte(seq >> 16), byte(seq >> 8), byte(seq)}
	for from := 0; ; {
		at := bytes.Index(o.file[from:], key)
		if at < 0 {
			break
		}
		at += from
		from = at + 1
		value := at + len(key)
		if value+3 > len(o.file) || o.file[value+1] > 1 {
			continue
		}
		end := value + 3 + int(o.file[value+2]) + 8 + tail
		if end <= len(o.file) && (iq || bytes.Contains(o.file[value:end], r.payload)) {
			r.spans = append(r.spans, [2]int{at, end})
		}
	}
	if len(r.spans) == 0 || iq && r.segment == "" {
		t.Fatalf("record %d is not in the file", seq)
	}
}

// damageKinds are the ways to damage a copy.
var damageKinds = []struct {
	name   string
	damage func(*rand.Rand, []byte, map[string][]byte) []byte
}{
	{"one bit anywhere", func(r *rand.Rand, file []byte, _ map[string][]byte) []byte {
		file[r.IntN(len(file))] ^= 1 << r.IntN(8)
		return file
	}},
	{"one page zeroed", func(r *rand.Rand, file []byte, _ map[string][]byte) []byte {
		at := r.IntN(len(file)/4096) * 4096
		clear(file[at : at+4096])
		return file
	}},
	{"truncated", func(r *rand.Rand, file []byte, _ map[string][]byte) []byte { return file[:r.IntN(len(file))] }},
	{"one bit in each meta page", func(r *rand.Rand, file []byte, _ map[string][]byte) []byte {
		for _, page := range []int{0, os.Getpagesize()} {
			file[page+r.IntN(os.Getpagesize())] ^= 1 << r.IntN(8)
		}
		return file
	}},
	{"both meta pages unusable", func(r *rand.Rand, file []byte, _ map[string][]byte) []byte {
		for _, page := range []int{0, os.Getpagesize()} {
			file[page+16+r.IntN(64)] ^= 1 << r.IntN(8)
		}
		return file
	}},
	{"two pages swapped", func(r *rand.Rand, file []byte, _ map[string][]byte) []byte {
		a, b := r.IntN(len(file)/4096)*4096, r.IntN(len(file)/4096)*4096
		page := bytes.Clone(file[a : a+4096])
		copy(file[a:a+4096], file[b:b+4096])
		copy(file[b:b+4096], page)
		return file
	}},
	{"IQ file: one bit", func(r *rand.Rand, file []byte, segments map[string][]byte) []byte {
		for _, s := range segments {
			s[r.IntN(len(s))] ^= 1 << r.IntN(8)
		}
		return file
	}},
	{"IQ file truncated", func(r *rand.Rand, file []byte, segments map[string][]byte) []byte {
		for name, s := range segments {
			segments[name] = s[:r.IntN(len(s))]
		}
		return file
	}},
}

// outcome is how the opening of a damaged copy went.
type outcome struct {
	replaced, clean      bool
	undamaged, recovered int
	took                 time.Duration
}

// open opens a damaged copy as an agent does and takes everything out of it.
func (o *original) open(t *testing.T, dir string, undamaged map[uint64]bool) outcome {
	t.Helper()
	began := time.Now()
	s := start(t, dir, spool.Options{})
	defer s.stop()
	fresh := payload(t, 1<<20, 5)
	freshSeq := put(t, s, spool.LaneReply, fresh)
	out := outcome{replaced: s.Identity() != o.identity, took: time.Since(began)}
	if !out.replaced && freshSeq <= o.last {
		t.Errorf("number %d is given again", freshSeq)
	}
	var held, declared protocol.Ranges
	all := protocol.Ranges{}
	for seq := range o.records {
		all.Add(seq)
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		for _, item := range drain(t, s) {
			switch {
			case item.Kind == protocol.KindGap:
				for _, g := range gaps(t, []spool.Item{item}) {
					of := item.Spool
					if g.Spool != nil {
						of = [protocol.SpoolBytes]byte(g.GetSpool())
					}
					if len(g.GetRanges()) == 0 { // not even the identity could be read
						declared.AddRange(1, o.last)
					}
					if of == o.identity {
						declared = declared.Union(protocol.RangesOf(g.GetRanges()))
					}
				}
			case item.Spool == s.Identity() && item.Seq == freshSeq:
				if !bytes.Equal(item.Payload, fresh) {
					t.Errorf("the new record is not what was put")
				}
			case item.Spool != o.identity:
				t.Errorf("an invented record: %x %d", item.Spool, item.Seq)
			default:
				if r := o.records[item.Seq]; r != nil {
					if !bytes.Equal(item.Payload, r.payload) {
						t.Errorf("record %d is not what was put", item.Seq)
					}
					held.Add(item.Seq)
				}
				if declared.Contains(item.Seq) && len(held) > 0 && !out.replaced {
					t.Errorf("record %d was declared lost and is handed out", item.Seq)
				}
			}
		}
		missing := all.Subtract(held).Subtract(declared)
		if missing.Empty() {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("neither there nor declared: %v", missing)
			break
		}
	}
	for seq := range undamaged {
		out.undamaged++
		if held.Contains(seq) {
			out.recovered++
		}
	}
	out.clean = !out.replaced && declared.Empty()
	return out
}

// damagedCopies is how many copies of each kind to look at: HEIMDALL_DAMAGED, or a share that is quick.
func damagedCopies(t *testing.T) int {
	t.Helper()
	setting := os.Getenv("HEIMDALL_DAMAGED")
	if setting == "" {
		return spool.DamagedCopies
	}
	n, err := strconv.Atoi(setting)
	if err != nil || n < 1 {
		t.Fatalf("HEIMDALL_DAMAGED=%q: want the number of copies of each kind", setting)
	}
	return n
}

// A spool that is damaged in any way opens, hands out nothing wrong, declares what is missing, and gives back nearly
// all that is still whole.
func TestOpen_DamagedCopies(t *testing.T) {
	for name, records := range map[string]int{"large": 1500, "small": 24} { // a small one has buckets inside the pages of others
		t.Run(name, func(t *testing.T) { testDamagedCopies(t, records) })
	}
}

func testDamagedCopies(t *testing.T, records int) {
	o := makeOriginal(t, records)
	copies := damagedCopies(t)
	_, random := seeded(t)
	table := fmt.Sprintf("%d copies a kind, %d records, %d KiB\n%-26s %6s %9s %8s %7s %7s %9s", copies, len(o.records), len(o.file)>>10,
		"damage", "clean", "replaced", "median", "mean", "least", "slowest")
	defer func() { t.Log("\n" + table) }()
	for _, kind := range damageKinds {
		var shares []float64 // of what was undamaged: what came back
		var beyond []float64 // records that did not, beyond one in twenty; of few, beyond one
		var slowest time.Duration
		clean, replaced := 0, 0
		for range copies {
			segments := map[string][]byte{}
			for name, s := range o.segments {
				segments[name] = bytes.Clone(s)
			}
			file := kind.damage(random, bytes.Clone(o.file), segments)
			undamaged := map[uint64]bool{}
			for seq, r := range o.records {
				if r.undamaged(file, o, segments) {
					undamaged[seq] = true
				}
			}
			dir := image(t)
			o.writeCopy(t, dir, file, segments)
			out := o.open(t, dir, undamaged)
			if t.Failed() {
				t.Fatalf("%s: see %s", kind.name, dir)
			}
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			slowest = max(slowest, out.took)
			if out.clean {
				clean++
			}
			if out.replaced {
				replaced++
			}
			if out.undamaged > 0 {
				shares = append(shares, float64(out.recovered)/float64(out.undamaged))
				beyond = append(beyond, float64(out.undamaged-out.recovered)-max(1, 0.05*float64(out.undamaged)))
			}
		}
		slices.Sort(shares)
		sum := 0.0
		for _, s := range shares {
			sum += s
		}
		median := shares[len(shares)/2]
		table += fmt.Sprintf("\n%-26s %6d %9d %7.1f%% %6.1f%% %6.1f%% %9v", kind.name, clean, replaced,
			100*median, 100*sum/float64(len(shares)), 100*shares[0], slowest.Round(time.Millisecond))
		slices.Sort(beyond)
		if beyond[len(beyond)/2] > 0 {
			t.Errorf("%s: the median of the undamaged records that came back is %.1f %%, want at least 95, or all but one", kind.name, 100*median)
		}
		if slowest > 30*time.Second {
			t.Errorf("%s: one took %v to open", kind.name, slowest)
		}
	}
}

func (o *original) writeCopy(t *testing.T, dir string, file []byte, segments map[string][]byte) {
	t.Helper()
	if err := os.Mkdir(filepath.Join(dir, "iq"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, s := range segments {
		if err := os.WriteFile(filepath.Join(dir, "iq", name), s, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "spool.identity"), o.beside, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "spool.db"), file, 0o600); err != nil {
		t.Fatal(err)
	}
}
