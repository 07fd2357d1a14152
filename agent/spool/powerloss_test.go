package spool_test

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/fulgidus/heimdall/agent/spool"
	"github.com/fulgidus/heimdall/packaging/powerloss"
	"github.com/fulgidus/heimdall/protocol"
)

// writer uses a spool in every way that writes, from its creation on, and says on stdout what it was promised. What it
// is about to acknowledge it says before.
func writer(dir, seedText string) {
	seed, err := strconv.ParseUint(seedText, 10, 64)
	fail(err)
	random := rand.New(rand.NewPCG(seed, 1))
	keep := time.Duration(seed%2) * time.Hour // every other run
	s, err := spool.Open(dir, spool.Options{Station: "torino", LimitBytes: 256 << 10, Keep: keep})
	fail(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	say("open %x", s.Identity())
	var workers sync.WaitGroup
	for worker := range uint64(6) {
		workers.Go(func() { work(ctx, s, rand.New(rand.NewPCG(seed, worker))) })
	}
	workers.Wait()
	say("conflict")
	s.Conflict(s.Identity(), 1)
	work(ctx, s, random)
	cancel()
	fail(<-done)
	fail(s.Close())
}

// work is one of several goroutines that use a spool.
func work(ctx context.Context, s *spool.Spool, random *rand.Rand) {
	lanes := spool.Lanes()
	for i := range 40 {
		lane := lanes[random.IntN(len(lanes))]
		b := make([]byte, 20+random.IntN(2500))
		for j := range b {
			b[j] = byte(random.Uint32())
		}
		identity := s.Identity()
		for range random.IntN(3) { // more to come in the same commit
			_, err := s.Queue(ctx, lane, protocol.Kind(lane), fmt.Appendf(nil, "queued %d", i))
			fail(err)
		}
		seq, err := s.Put(ctx, lane, protocol.Kind(lane), b)
		fail(err)
		say("put %x %d %d", identity, seq, crc32.ChecksumIEEE(b))
		switch i % 20 {
		case 7:
			id := fmt.Sprintf("%x", b[:8])
			fail(s.Remember(ctx, id, b[:20]))
			say("remember %s %x", id, b[:20])
		case 3, 9, 15:
			acknowledge(s, random)
		}
	}
}

// acknowledge settles some of what is handed out now. Gap records stay: they are the witnesses.
func acknowledge(s *spool.Spool, random *rand.Rand) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	for {
		item, err := s.Next(ctx)
		if err != nil {
			return
		}
		if item.Kind != protocol.KindGap && random.IntN(3) > 0 {
			say("ack %x %d %d", item.Spool, item.Seq, crc32.ChecksumIEEE(item.Payload))
			s.Ack(item.Spool, ranges(item.Seq))
		}
	}
}

// syncless is a control: bbolt without its syncs.
func syncless(dir string) {
	db, err := bbolt.Open(filepath.Join(dir, "spool.db"), 0o600, &bbolt.Options{NoSync: true})
	fail(err)
	fail(db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket([]byte("b"))
		return err
	}))
	fail(db.Sync())
	say("open")
	for i := range uint32(60) {
		fail(db.Update(func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte("b")).Put(binary.BigEndian.AppendUint32(nil, i), make([]byte, 300))
		}))
		say("put %d", i)
	}
	fail(db.Close())
}

func say(format string, args ...any) { fmt.Printf(format+"\n", args...) }

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// powerlossImages is how many images to look at: HEIMDALL_POWERLOSS, or a share that is quick.
func powerlossImages(t *testing.T) int {
	t.Helper()
	setting := os.Getenv("HEIMDALL_POWERLOSS")
	if setting == "" {
		return spool.PowerCuts
	}
	n, err := strconv.Atoi(setting)
	if err != nil || n < 1 {
		t.Fatalf("HEIMDALL_POWERLOSS=%q: want the number of images", setting)
	}
	return n
}

// seeded is a source of chance; HEIMDALL_SEED repeats a run.
func seeded(t *testing.T) (uint64, *rand.Rand) {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if setting := os.Getenv("HEIMDALL_SEED"); setting != "" {
		var err error
		if seed, err = strconv.ParseUint(setting, 10, 64); err != nil {
			t.Fatalf("HEIMDALL_SEED=%q: %v", setting, err)
		}
	}
	t.Logf("HEIMDALL_SEED=%d", seed)
	return seed, rand.New(rand.NewPCG(seed, 2))
}

// record runs this test binary as a child that writes to a spool.
func record(t *testing.T, what string, seed uint64) *powerloss.Recording {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has strace")
	}
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "SPOOL_TEST_WRITER="+what, "SPOOL_TEST_DIR="+dir, fmt.Sprintf("SPOOL_TEST_SEED=%d", seed))
	r, err := powerloss.Record(cmd, dir)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// image is an empty directory in memory, if there is one.
func image(t *testing.T) string {
	t.Helper()
	parent := "/dev/shm"
	if info, err := os.Stat(parent); err != nil || !info.IsDir() {
		parent = ""
	}
	dir, err := os.MkdirTemp(parent, "powerloss-") //nolint:usetesting // a faulty image stays, to be looked at
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// promises is what a writer was promised before the power went.
type promises struct {
	opened     bool
	identities map[string]uint64 // highest number promised under each
	puts       map[number]uint32 // checksum of each record
	acked      map[number]bool
	settled    map[uint32]bool // checksums of the acknowledged ones
	remembered map[string]string
	conflict   bool
}

// number is the name of a record.
type number struct {
	identity string
	seq      uint64
}

func promised(t *testing.T, said []string) promises {
	t.Helper()
	p := promises{
		identities: map[string]uint64{}, puts: map[number]uint32{}, acked: map[number]bool{}, settled: map[uint32]bool{}, remembered: map[string]string{},
	}
	for _, line := range said {
		var n number
		var sum uint32
		var id, reply string
		switch {
		case scan(line, "open %s", &n.identity):
			p.opened = true
			p.identities[n.identity] = 0
		case scan(line, "put %s %d %d", &n.identity, &n.seq, &sum):
			p.puts[n] = sum
			p.identities[n.identity] = max(p.identities[n.identity], n.seq)
		case scan(line, "ack %s %d %d", &n.identity, &n.seq, &sum):
			p.acked[n], p.settled[sum] = true, true
		case scan(line, "remember %s %s", &id, &reply):
			p.remembered[id] = reply
		case line == "conflict":
			p.conflict = true
		default:
			t.Fatalf("the writer says %q", line)
		}
	}
	return p
}

// found is what a spool holds.
type found struct {
	held     map[number]uint32
	sums     map[uint32]bool
	declared map[string]protocol.Ranges
	reasons  map[protocol.Gap_Reason]bool
}

func look(dir string) (found, error) {
	f := found{held: map[number]uint32{}, sums: map[uint32]bool{}, declared: map[string]protocol.Ranges{}, reasons: map[protocol.Gap_Reason]bool{}}
	err := spool.List(dir, func(lane spool.Lane, item spool.Item, err error) error {
		if err != nil {
			return fmt.Errorf("record %d in %s: %w", item.Seq, lane, err)
		}
		n := number{hex.EncodeToString(item.Spool[:]), item.Seq}
		if _, twice := f.held[n]; twice {
			return fmt.Errorf("number %d twice", item.Seq)
		}
		sum := crc32.ChecksumIEEE(item.Payload)
		f.held[n], f.sums[sum] = sum, true
		if item.Kind != protocol.KindGap {
			return nil
		}
		rec, _ := protocol.Decode(protocol.Seal(item.Payload, item.Spool, item.Seq))
		if rec.GetGap() == nil { // a record of the writer's own in the lane of gaps
			return nil
		}
		g := rec.GetGap()
		of := hex.EncodeToString(g.GetSpool())
		if of == "" {
			of = n.identity
		}
		f.declared[of] = f.declared[of].Union(protocol.RangesOf(g.GetRanges()))
		f.reasons[g.GetReason()] = true
		return nil
	})
	return f, err
}

// judge tells what is wrong with an image.
func judge(t *testing.T, dir string, p promises) (problem error) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(dir, "spool.db")); err != nil {
		if p.opened {
			return errors.New("the file is gone")
		}
		return reopen(t, dir, p)
	}
	f, err := look(dir)
	if err != nil {
		return err
	}
	for n, sum := range p.puts { // under its number, or after the conflict under another
		got, held := f.held[n]
		switch {
		case held && got != sum:
			return fmt.Errorf("record %v is not what was put", n)
		case !held && !p.acked[n] && !f.declared[n.identity].Contains(n.seq):
			return fmt.Errorf("record %v was promised and is lost", n)
		case !held && !p.settled[sum] && !f.reasons[protocol.Gap_REASON_QUOTA] && !f.sums[sum]:
			return fmt.Errorf("record %v got another number and is lost", n)
		}
	}
	for reason := range f.reasons {
		if reason != protocol.Gap_REASON_QUOTA && (reason != protocol.Gap_REASON_CONFLICT || !p.conflict) {
			return fmt.Errorf("a Gap with the reason %v is not justified", reason)
		}
	}
	return reopen(t, dir, p)
}

// reopen opens the image for writing: nothing is thought damaged, the identity stays, and numbers go on above.
func reopen(t *testing.T, dir string, p promises) error {
	t.Helper()
	s, err := spool.Open(dir, spool.Options{Station: "torino", LimitBytes: 256 << 10})
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer s.Close()
	if aside, _ := filepath.Glob(filepath.Join(dir, "spool.bad-*")); len(aside) > 0 {
		return errors.New("the file was thought damaged")
	}
	identity := fmt.Sprintf("%x", s.Identity())
	highest, known := p.identities[identity]
	if p.opened && !known && !p.conflict {
		return errors.New("the identity changed")
	}
	seq, err := s.Queue(t.Context(), spool.LaneReply, protocol.KindReply, []byte("after"))
	if err != nil {
		return fmt.Errorf("go on: %w", err)
	}
	if seq <= highest {
		return fmt.Errorf("number %d is given again, %d was promised", seq, highest)
	}
	for id, want := range p.remembered {
		if reply, ok := s.Recall(id); !ok || hex.EncodeToString(reply) != want {
			return fmt.Errorf("the reply to %q is lost", id)
		}
	}
	return nil
}

// What the disk may hold after a power cut, at any point, is a whole spool with everything in it that was promised.
func TestPowerLoss_NothingPromisedIsLost(t *testing.T) {
	seed, random := seeded(t)
	r := record(t, "spool", seed)
	images := powerlossImages(t)
	promises := 0
	for i := range images {
		point := random.IntN(r.Points())
		if i%8 == 0 { // creation is short
			if opened, ok := r.After("open"); ok {
				point = random.IntN(opened + 1)
			}
		}
		dir := image(t)
		if err := r.Image(random, point, dir); err != nil {
			t.Fatal(err)
		}
		p := promised(t, r.Said(point))
		promises += len(p.puts)
		if err := judge(t, dir, p); err != nil {
			t.Errorf("image %d, the power went at point %d of %d: %v (kept in %s)", i, point, r.Points(), err, dir)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d images of %d points, %d records promised and looked for", images, r.Points(), promises)
	if promises < images*10 {
		t.Error("too little was promised: the test tests nothing")
	}
}

// The same images of a writer that does not sync must be found faulty, or the test above proves nothing.
func TestPowerLoss_FindsAWriterThatDoesNotSync(t *testing.T) {
	_, random := seeded(t)
	r := record(t, "syncless", 0)
	opened, ok := r.After("open")
	if !ok {
		t.Fatal("the writer did not begin")
	}
	images, faulty := powerlossImages(t), 0
	for range images {
		point := opened + random.IntN(r.Points()-opened)
		dir := image(t)
		if err := r.Image(random, point, dir); err != nil {
			t.Fatal(err)
		}
		if err := judgeSyncless(filepath.Join(dir, "spool.db"), len(r.Said(point))-1); err != nil {
			faulty++
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d of %d images are faulty", faulty, images)
	if faulty < images/4 {
		t.Errorf("%d of %d images are faulty, want many", faulty, images)
	}
}

func judgeSyncless(path string, promised int) (err error) {
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return err
	}
	defer db.Close()
	return db.View(func(tx *bbolt.Tx) error {
		for i := range uint32(promised) {
			if tx.Bucket([]byte("b")).Get(binary.BigEndian.AppendUint32(nil, i)) == nil {
				return fmt.Errorf("record %d is lost", i)
			}
		}
		return nil
	})
}
