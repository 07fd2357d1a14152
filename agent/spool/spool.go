package spool

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/fulgidus/heimdall/packaging/failpoint"
	"github.com/fulgidus/heimdall/protocol"
)

const (
	defaultLimit = 2 << 30
	// SmallestLimit is the least of Options.LimitBytes: it leaves room for one burst and the records that tell of what was given up.
	SmallestLimit = 256 << 10
	// maxPayload is the most bytes of one record: it must fit a message with its identity and headers.
	maxPayload = protocol.MaxMessageBytes - 64
	// mostWaiting is how many bytes may wait in memory for a disk that does not take them.
	mostWaiting = 16 << 20
)

// ErrClosed says that the spool was closed.
var ErrClosed = errors.New("the spool is closed")

// ErrShed says that a record was given up before it reached the disk; a Gap record names it.
var ErrShed = errors.New("given up: the disk takes no more and memory is full")

// Options configure a Spool.
type Options struct {
	Station    string           // whose records these are: the Gap records made here carry it
	LimitBytes int64            // of disk for records; zero means 2 GiB, at least 256 KiB
	Keep       time.Duration    // how long acknowledged records stay, room permitting; zero: not at all
	Log        *slog.Logger     // nil: silent
	Now        func() time.Time // nil: time.Now
}

// Item is a record as handed out: durable, and without its identity inside the payload.
type Item struct {
	Spool   [protocol.SpoolBytes]byte
	Seq     uint64
	Kind    protocol.Kind
	Time    time.Time
	Backlog bool // it waited: newer records went before it
	Payload []byte
}

// Spool is an open disk queue. All methods may be called from any goroutine.
type Spool struct {
	dir     string
	station string
	limit   int64 // bytes
	keep    time.Duration
	log     *slog.Logger
	now     func() time.Time

	// kick wakes Run. Capacity 1: a wake-up that waits already will see what the next one is about.
	kick chan struct{}

	// fileMu guards the pointer store: the writer replaces a damaged file while others may be reading.
	fileMu sync.RWMutex
	store  *store

	// findMu lets one Next at a time look for items.
	findMu sync.Mutex

	// writeMu is held by whoever writes: Run's goroutine, or Close after it.
	writeMu  sync.Mutex
	segments *segments
	outage   outage
	retired  retired
	unnamed  bool // the file in use is a copy whose name may not be on disk yet
	room     room
	fullSaid time.Time // when the log last said that the disk is full
	// compactedAt is when it was last looked whether the file is to be copied.
	compactedAt time.Time

	// mu guards all fields below.
	mu           sync.Mutex
	closed       bool
	epochs       []*epoch // in order; the last gives numbers
	lanes        [laneCount]lane
	used         int64 // bytes on disk that are held, by our own account
	kept         amount
	keptSince    []keptSince // the longest first
	ackedDirty   time.Time   // since when what is acknowledged differs from what the file says; zero: it does not
	resends      []resend
	waiting      []*entry
	waitingBytes int64
	since        time.Time // when the oldest of what waits for a commit began to wait; zero: nothing waits
	urgent       bool      // something that waits is to be committed at once
	hasty        bool      // or soon
	coming       pace      // of records queued
	leaving      pace      // of records acknowledged
	linkUp       bool
	memory       *memory
	memos        []recollection // to be written with the next commit
	memoDone     []chan error   // told when the commit with the memos so far is done; each of capacity 1
	given        []surrender    // records to give up, by number
	moves        []move         // records to move to another identity
	gaps         map[gapKey]*openGap
	damage       error                      // what a reader found; the writer repairs it
	unread       map[uint32]protocol.Ranges // of each epoch: passed over, as they could not be read
	unreadSince  time.Time
	turn         uint64        // counts what makes a search for items that is under way worthless
	fresh        chan struct{} // closed when there may be something new to hand out
	marks        []mark
	commits      uint64
	acknowledged uint64 // records, since the start
	shed         uint64 // records given up since the start
	shedFull     uint64 // of those, for want of room on the disk
	shortage     shortage
	reserveUsed  bool      // the disk was full, and has had no room for the reserve since
	fault        error     // why the disk takes no commit; nil: it does
	working      time.Time // since when the writer is at a commit; zero: it waits
}

// entry is a record that waits for its commit.
type entry struct {
	place   place
	lane    int
	kind    protocol.Kind
	time    int64 // ns
	payload []byte
	ref     *segmentRef // set once the payload is in a segment file
	version uint64      // of an open gap
	done    chan error  // told the outcome, if not nil; capacity 1, told once
}

func (e *entry) tell(err error) {
	if e.done != nil {
		e.done <- err
		e.done = nil
	}
}

// Open opens the spool in dir, or makes it. A file that is damaged or of an unknown format is moved aside, what can be
// read of it is taken over, and a Gap record tells what was lost; only a directory that cannot be used, or a process
// that uses it already (*LockedError), is an error.
func Open(dir string, options Options) (*Spool, error) {
	if err := protocol.ValidStation(options.Station); err != nil {
		return nil, fmt.Errorf("open the spool: %w", err)
	}
	s := &Spool{
		dir: dir, station: options.Station, limit: options.LimitBytes, keep: options.Keep, log: options.Log, now: options.Now,
		kick:  make(chan struct{}, 1),
		gaps:  map[gapKey]*openGap{},
		fresh: make(chan struct{}),
	}
	if s.limit == 0 {
		s.limit = defaultLimit
	}
	if s.limit < SmallestLimit {
		return nil, fmt.Errorf("spool limit: %d bytes: want at least %d", s.limit, SmallestLimit)
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the spool: %w", err)
	}
	if err := s.openFile(); err != nil {
		return nil, err
	}
	s.own()
	return s, nil
}

// own writes who has the file, for the message of a process that finds it locked.
func (s *Spool) own() {
	text := fmt.Sprintf("process %d (%s)", os.Getpid(), filepath.Base(os.Args[0]))
	if err := os.WriteFile(filepath.Join(s.dir, ownerName), []byte(text), 0o600); err != nil {
		s.log.Debug("the owner of the spool could not be noted", "error", err)
	}
}

// newEpoch makes the identity after the last one.
func newEpoch(number uint32) *epoch {
	e := &epoch{number: number, next: 1}
	rand.Read(e.identity[:])
	return e
}

// epochAfter makes the identity after those that are known.
func epochAfter(known []*epoch) *epoch {
	number := uint32(1)
	for _, e := range known {
		number = max(number, e.number+1)
	}
	return newEpoch(number)
}

func (s *Spool) current() *epoch { return s.epochs[len(s.epochs)-1] }

func (s *Spool) epochNumber(number uint32) *epoch {
	for _, e := range s.epochs {
		if e.number == number {
			return e
		}
	}
	return nil
}

func (s *Spool) epochOf(identity [protocol.SpoolBytes]byte) *epoch {
	for _, e := range s.epochs {
		if e.identity == identity {
			return e
		}
	}
	return nil
}

// Identity is the identity under which numbers are given now.
func (s *Spool) Identity() [protocol.SpoolBytes]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current().identity
}

// Put queues a record and returns its number after the commit that made it durable. When ctx ends first the record
// stays queued; its number is returned beside the error. ErrShed means that it was given up and declared. The payload
// belongs to the spool from here on.
func (s *Spool) Put(ctx context.Context, lane Lane, kind protocol.Kind, payload []byte) (uint64, error) {
	done := make(chan error, 1) // the writer tells once and never waits
	e, seq, err := s.enqueue(ctx, lane, kind, payload, done)
	if err != nil {
		return 0, err
	}
	select {
	case err := <-done:
		return e.place.seq, err // another number when the identity changed meanwhile
	case <-ctx.Done():
		return seq, fmt.Errorf("wait for the commit of record %d: %w", seq, ctx.Err())
	}
}

// Queue numbers a record and returns at once; the record joins the next commit. Commits keep the order of numbers, so a
// number that a later durable record mentions is durable too. The payload belongs to the spool from here on.
func (s *Spool) Queue(ctx context.Context, lane Lane, kind protocol.Kind, payload []byte) (uint64, error) {
	_, seq, err := s.enqueue(ctx, lane, kind, payload, nil)
	return seq, err
}

func (s *Spool) enqueue(ctx context.Context, lane Lane, kind protocol.Kind, payload []byte, done chan error) (*entry, uint64, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, fmt.Errorf("queue a record: %w", err)
	}
	index, err := lane.check()
	if err != nil {
		return nil, 0, err
	}
	if len(payload) == 0 || len(payload) > maxPayload {
		return nil, 0, fmt.Errorf("%s record of %d bytes: want 1 to %d", kind, len(payload), maxPayload)
	}
	if kind == "" || len(kind) > 64 {
		return nil, 0, fmt.Errorf("kind %q: want 1 to 64 letters", string(kind))
	}
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, 0, ErrClosed
	}
	e := &entry{lane: index, kind: kind, time: recordTime(payload, now), payload: payload, done: done}
	s.number(e)
	seq := e.place.seq
	s.wait(e)
	s.coming.count(time.Now(), 1)
	if bound := s.waitingBound(); s.waitingBytes > bound {
		s.shedWaiting(bound / 4 * 3)
	}
	return e, seq, nil
}

// number gives e the next number.
func (s *Spool) number(e *entry) {
	failpoint.Hit("spool.number")
	c := s.current()
	e.place = place{c.number, c.next}
	c.next++
	failpoint.Hit("spool.numbered")
}

// wait puts e in line for the next commit.
func (s *Spool) wait(e *entry) {
	if len(s.waiting) == 0 && !s.urgent {
		s.since = time.Time{} // acknowledgements that wait alone hurry no record: they come with each and ride along
	}
	s.waiting = append(s.waiting, e)
	s.waitingBytes += int64(len(e.payload))
	lane := laneNames[e.lane]
	s.hasty = s.hasty || lane == LaneIQ // somebody waits for a capture
	s.await(lane.urgent())
}

// await notes that something waits for a commit.
func (s *Spool) await(urgent bool) {
	if s.since.IsZero() {
		s.since = time.Now()
	}
	s.urgent = s.urgent || urgent
	select {
	case s.kick <- struct{}{}:
	default: // one wake-up waits already
	}
}

// SetLinkUp tells whether there is a way out now. Without one, records are committed sooner; when it comes back, all
// that waited is backlog.
func (s *Spool) SetLinkUp(up bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if up && !s.linkUp {
		s.demote(s.end())
	}
	s.linkUp = up
	s.await(false)
}

// Remember keeps the last reply to a command, for the last 1,000 commands, and returns after the commit.
func (s *Spool) Remember(ctx context.Context, commandID string, reply []byte) error {
	if commandID == "" || len(commandID) > protocol.MaxTextBytes {
		return fmt.Errorf("command id %.40q: want 1 to %d bytes", commandID, protocol.MaxTextBytes)
	}
	done := make(chan error, 1) // the writer tells once and never waits
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	s.memos = append(s.memos, s.memory.note(commandID, reply))
	s.memoDone = append(s.memoDone, done)
	s.await(true)
	s.mu.Unlock()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("wait for the commit of command %s: %w", commandID, ctx.Err())
	}
}

// Recall is the last reply to a command; false when the command is not among the last 1,000.
func (s *Spool) Recall(commandID string) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.memory.replies[commandID]
	return m.reply, ok
}

// Commands are the ids of the commands that Recall knows, oldest first.
func (s *Spool) Commands() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.memory.order)
}

// Unacked is every number of the current identity that is neither acknowledged nor given up.
func (s *Spool) Unacked() protocol.Ranges {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.current()
	all := c.held.Clone()
	all.AddRange(c.durable+1, c.next-1)
	return all.Subtract(c.dying).Subtract(c.acked)
}

// Close commits what waits and closes the file. Run must have returned.
func (s *Spool) Close() error {
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	err := s.flush(true)
	s.mu.Lock()
	for _, e := range s.waiting {
		e.tell(ErrClosed)
	}
	for _, done := range s.memoDone {
		done <- ErrClosed
	}
	s.memoDone = nil
	for _, r := range s.resends {
		r.done <- resent{err: ErrClosed}
	}
	s.resends = nil
	s.renew()
	s.mu.Unlock()
	s.fileMu.Lock()
	defer s.fileMu.Unlock()
	s.segments.close()
	s.retire()
	if err == nil {
		if freeErr := s.store.noteFree(); errors.Is(freeErr, errDamaged) {
			err = freeErr
		} else if freeErr != nil { // a full disk: all is there, and the next opening takes longer
			s.log.Debug("which pages are free could not be written", "error", freeErr)
		}
	}
	if errors.Is(err, errDamaged) {
		s.store.abandon()
		return err
	}
	os.Remove(filepath.Join(s.dir, ownerName))
	return errors.Join(err, s.store.close())
}

// view reads the file, whichever it is at the moment.
func (s *Spool) view(fn func(*bbolt.Tx) error) error {
	s.fileMu.RLock()
	defer s.fileMu.RUnlock()
	return s.store.view(fn)
}

// touch notes how much of the file was looked at in one go.
func (s *Spool) touch(bytes int64) {
	s.fileMu.RLock()
	defer s.fileMu.RUnlock()
	s.store.touch(bytes)
}
