package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/fulgidus/heimdall/packaging/failpoint"
	"github.com/fulgidus/heimdall/protocol"
)

const (
	fileName  = "spool.db"
	ownerName = "spool.owner"
	iqName    = "iq"
	reserved  = "reserve"
	// fileFormat is what this version writes. It reads the one before too, and converts it when it opens the file.
	fileFormat   = 2
	formerFormat = 1
	// lockWait is how long to wait for another process to let go of the file.
	lockWait = time.Second
	// fillPercent of a page: keys only grow, so pages are filled once and then only emptied.
	fillPercent = 0.95
)

// errDamaged says that the file can no longer be trusted.
var errDamaged = errors.New("the spool file is damaged")

// StationError says that records of another station wait in the spool: under this one's name they would be refused.
type StationError struct {
	Path    string
	Station string // whose records they are
	Records int64
}

func (e *StationError) Error() string {
	return fmt.Sprintf("%s holds %d records of the station %s: run once more under that name until they are delivered, or use another folder",
		e.Path, e.Records, e.Station)
}

// errFormat says that another version wrote the file; it is moved aside unread.
var errFormat = errors.New("unknown format")

// LockedError says that another process has the spool open.
type LockedError struct {
	Path  string
	Owner string // what that process wrote of itself; empty when it wrote nothing
}

func (e *LockedError) Error() string {
	owner := e.Owner
	if owner == "" {
		owner = "another process"
	}
	return fmt.Sprintf("%s is in use by %s: stop it first, or ask it", e.Path, owner)
}

// guard runs fn so that what bbolt does on a damaged file, panics and page faults included, becomes an error.
func guard(fn func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", errDamaged, r)
		}
	}()
	return fn()
}

// store is the open bbolt file.
type store struct {
	db   *bbolt.DB
	file *os.File // bbolt's own: closing it frees the lock when bbolt itself can no longer be trusted to close

	broken  atomic.Bool  // a transaction met damage and was left open
	touched atomic.Int64 // bytes of the mapped file that were looked at since the last release, estimated
}

// About how much of the file is looked at in one transaction, and how much may be before it is released.
const (
	viewTouches   = 64 << 10
	updateTouches = 512 << 10
	mostTouched   = 2 << 20
)

// openStore opens or makes the bbolt file. maxBytes bounds it; zero means no bound.
func openStore(path string, maxBytes int, readOnly bool) (*store, error) {
	s := &store{}
	options := &bbolt.Options{
		Timeout:        lockWait,
		FreelistType:   bbolt.FreelistMapType,
		NoFreelistSync: true,
		MaxSize:        maxBytes,
		ReadOnly:       readOnly,
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			f, err := os.OpenFile(name, flag, mode)
			if err == nil {
				adviseCache(f, readOnly)
			}
			s.file = f
			return f, err
		},
	}
	err := guard(func() (err error) {
		s.db, err = bbolt.Open(path, 0o600, options)
		return err
	})
	switch {
	case err == nil:
		return s, nil
	case errors.Is(err, bolterrors.ErrTimeout):
		owner, readErr := os.ReadFile(filepath.Join(filepath.Dir(path), ownerName))
		if readErr != nil {
			owner = nil
		}
		return nil, &LockedError{Path: path, Owner: string(owner)}
	case errors.Is(err, os.ErrPermission), errors.Is(err, os.ErrNotExist), isFull(err):
		return nil, fmt.Errorf("open the spool: %w", err)
	}
	s.abandon()
	if !errors.Is(err, errDamaged) {
		err = fmt.Errorf("%w: %w", errDamaged, err)
	}
	return nil, err
}

// abandon gives up the file without trusting bbolt: its locks may be held by a transaction that ended in a panic.
func (s *store) abandon() {
	if s.file != nil {
		unlock(s.file)
		s.file.Close()
	}
}

func (s *store) close() error {
	if s.broken.Load() {
		s.abandon()
		return errDamaged
	}
	return guard(s.db.Close)
}

// noteFree writes which pages are free, so that bbolt need not look at all others at the next opening. It is of use until the
// next commit, which takes it back.
func (s *store) noteFree() error {
	s.db.NoFreelistSync = false
	defer func() { s.db.NoFreelistSync = true }()
	return s.update(func(*bbolt.Tx) error { return nil })
}

func (s *store) view(fn func(*bbolt.Tx) error) error {
	err := guard(func() error { return s.db.View(fn) })
	s.touch(viewTouches)
	return err
}

// touch notes how much of the mapped file was looked at, and has it released now and then.
func (s *store) touch(bytes int64) {
	if s.touched.Add(bytes) >= mostTouched {
		s.touched.Store(0)
		_ = guard(s.release) // it only saves memory
	}
}

// update makes one commit of what fn does. A transaction that met damage is not rolled back: for that bbolt walks the whole
// tree in a goroutine of its own, where a panic would end the process. Nothing is written to that file any more.
func (s *store) update(fn func(*bbolt.Tx) error) error {
	if s.broken.Load() {
		return errDamaged
	}
	err := guard(func() error {
		tx, err := s.db.Begin(true)
		if err != nil {
			return err
		}
		if err := fn(tx); err != nil {
			if errors.Is(err, errDamaged) {
				return err
			}
			return errors.Join(err, tx.Rollback())
		}
		return tx.Commit()
	})
	if errors.Is(err, errDamaged) {
		s.broken.Store(true)
		return err
	}
	s.touch(updateTouches)
	return err
}

// Buckets: meta, one for each lane, command (id → order, last reply) and command-order (order → id).
var (
	bucketMeta         = []byte("meta")
	bucketEpochs       = []byte("epochs") // in meta: epoch → identity, next number
	bucketAcked        = []byte("acked")  // in meta: epoch → numbers acknowledged
	bucketCommand      = []byte("command")
	bucketCommandOrder = []byte("command-order")
	keyFormat          = []byte("format")
	keyStation         = []byte("station") // CRC-32C, then whose records these are
)

var laneBuckets = func() (names [laneCount][]byte) {
	for i, lane := range Lanes() {
		names[i] = []byte("lane/" + string(lane))
	}
	return names
}()

// laneOfBucket is the lane that a bucket holds, -1 for none.
func laneOfBucket(name string) int {
	for i := range laneBuckets {
		if string(laneBuckets[i]) == name {
			return i
		}
	}
	return -1
}

func laneBucket(lane int) []byte { return laneBuckets[lane] }

// unknownNext is the next number of a former identity of which nobody knows how far its numbers went: any may have been given.
const unknownNext = protocol.MaxSeq + 1

// epoch is one identity of the spool and what is known of its numbers.
type epoch struct {
	number   uint32 // counts the identities of this file
	identity [protocol.SpoolBytes]byte
	next     uint64          // the next number to give
	durable  uint64          // the highest number ever committed
	held     protocol.Ranges // committed and neither acknowledged nor deleted
	kept     protocol.Ranges // acknowledged and not deleted yet
	sent     protocol.Ranges // of held: handed out since the last Rewind
	offered  protocol.Ranges // of held: handed out since the spool was opened
	acked    protocol.Ranges // of held: acknowledged, and kept as soon as the writer has weighed them
	dying    protocol.Ranges // of held: settled or given up, deleted with the next commit
	noted    protocol.Ranges // acknowledged, as the file says; only while a file is opened
}

// settled is every committed number that is no longer held.
func (e *epoch) settled() protocol.Ranges {
	var given protocol.Ranges
	given.AddRange(1, e.durable)
	return given.Subtract(e.held)
}

// contents is what a file holds, without the records themselves.
type contents struct {
	format   byte
	station  string   // whose records these are; empty when it does not say
	epochs   []*epoch // in order; the last is the one that gives numbers
	lanes    [laneCount]laneContents
	segments map[uint32]int // records that refer to each segment file
	memory   *memory

	// While the file is read: the bucket, its lane or -1, and what it holds of an epoch: in the order of keys, numbers are
	// added at the upper ends of these sets only, which is cheap.
	bucket     string
	lane       int
	current    *epoch
	held, kept protocol.Ranges
	noted      protocol.Ranges // of the epoch, from where reading is on
}

type laneContents struct {
	held, kept amount
	last       place
}

// prepare makes the buckets of a new file and its first epochs.
func prepare(tx *bbolt.Tx, station string, epochs []*epoch) error {
	names := [][]byte{bucketMeta, bucketCommand, bucketCommandOrder}
	for i := range laneCount {
		names = append(names, laneBucket(i))
	}
	for _, name := range names {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return fmt.Errorf("make the bucket %s: %w", name, err)
		}
	}
	_, err := tx.Bucket(bucketMeta).CreateBucketIfNotExists(bucketEpochs)
	err = errors.Join(err, upgrade(tx), putStation(tx, station))
	for _, e := range epochs {
		err = errors.Join(err, putEpoch(tx, e), putAcked(tx, e.number, e.noted))
	}
	return err
}

// upgrade makes a file of the former format one of this format: that one had no acknowledged records in it, and wrote
// the next number with every commit.
func upgrade(tx *bbolt.Tx) error {
	meta := tx.Bucket(bucketMeta)
	_, err := meta.CreateBucketIfNotExists(bucketAcked)
	failpoint.Hit("spool.upgrade")
	return errors.Join(err, meta.Put(keyFormat, []byte{fileFormat}))
}

// putStation notes whose records are in the file.
func putStation(tx *bbolt.Tx, station string) error {
	value := binary.BigEndian.AppendUint32(nil, checksum(keyStation, []byte(station)))
	return tx.Bucket(bucketMeta).Put(keyStation, append(value, station...))
}

// readStation is what putStation noted; empty when that is not there, or not as it was written.
func readStation(tx *bbolt.Tx) string {
	meta := tx.Bucket(bucketMeta)
	if meta == nil {
		return ""
	}
	value := meta.Get(keyStation)
	if len(value) < 4 || checksum(keyStation, value[4:]) != binary.BigEndian.Uint32(value) {
		return ""
	}
	return string(value[4:])
}

func putEpoch(tx *bbolt.Tx, e *epoch) error {
	key := binary.BigEndian.AppendUint32(nil, e.number)
	value := binary.BigEndian.AppendUint64(append([]byte(nil), e.identity[:]...), e.next)
	value = binary.BigEndian.AppendUint32(value, checksum(key, value))
	return tx.Bucket(bucketMeta).Bucket(bucketEpochs).Put(key, value)
}

// putNext notes the next number of the current identity at the lanes that a commit writes to anyway: in their bucket's
// sequence, which costs no page of its own. putEpoch is needed only when a record is deleted that may be the last.
func putNext(tx *bbolt.Tx, lanes [laneCount]bool, current *epoch) (err error) {
	sealed := seal(current.number, current.next)
	for lane, written := range lanes {
		if written {
			err = errors.Join(err, tx.Bucket(laneBucket(lane)).SetSequence(sealed))
		}
	}
	return err
}

// sealBits is how many of a sequence are a checksum: one flipped bit would have numbers given twice, or never.
const sealBits = 16

// seal is the sequence that says the next number of an identity.
func seal(epoch uint32, next uint64) uint64 {
	text := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, epoch), next)
	return next<<sealBits | uint64(uint16(checksum(text)))
}

// unseal is the next number that a sequence says; 0 when it says none, false when it is not as it was written.
func unseal(epoch uint32, sequence uint64) (next uint64, sound bool) {
	next = sequence >> sealBits
	return next, sequence == 0 || next > 0 && seal(epoch, next) == sequence
}

// putIdentities writes all identities when there is a new one, which the numbers at the lanes do not speak of.
func putIdentities(tx *bbolt.Tx, epochs []*epoch) (err error) {
	for _, e := range epochs {
		err = errors.Join(err, putEpoch(tx, &epoch{number: e.number, identity: e.identity, next: e.durable + 1}))
	}
	for lane := range laneCount {
		err = errors.Join(err, tx.Bucket(laneBucket(lane)).SetSequence(0))
	}
	return err
}

// readFormat is the file's format; 0 for a file that was never prepared.
func readFormat(tx *bbolt.Tx) (byte, error) {
	meta := tx.Bucket(bucketMeta)
	if meta == nil {
		return 0, nil
	}
	format := meta.Get(keyFormat)
	if len(format) != 1 || format[0] != fileFormat && format[0] != formerFormat {
		return 0, fmt.Errorf("%w: %w: %x, known are %d and %d", errDamaged, errFormat, format, formerFormat, fileFormat)
	}
	return format[0], nil
}

func readEpoch(k, v []byte) (*epoch, error) {
	const plain = protocol.SpoolBytes + 8 // without a checksum: as it was written before there was one
	if len(k) != 4 || len(v) != plain && len(v) != plain+4 {
		return nil, fmt.Errorf("%w: identity of %d bytes", errDamaged, len(v))
	}
	if len(v) > plain && checksum(k, v[:plain]) != binary.BigEndian.Uint32(v[plain:]) {
		return nil, fmt.Errorf("%w: an identity is not as it was written", errDamaged)
	}
	e := &epoch{number: binary.BigEndian.Uint32(k), identity: [protocol.SpoolBytes]byte(v[:protocol.SpoolBytes])}
	e.next = binary.BigEndian.Uint64(v[protocol.SpoolBytes:])
	if e.next == 0 || e.next > unknownNext {
		return nil, fmt.Errorf("%w: next number %d", errDamaged, e.next)
	}
	return e, nil
}

// readEpochs reads the identities; none in a file that was never prepared.
func readEpochs(tx *bbolt.Tx) ([]*epoch, error) {
	format, err := readFormat(tx)
	if format == 0 || err != nil {
		return nil, err
	}
	meta := tx.Bucket(bucketMeta)
	bucket, acked := meta.Bucket(bucketEpochs), meta.Bucket(bucketAcked)
	if bucket == nil || acked == nil && format != formerFormat {
		return nil, fmt.Errorf("%w: no identities", errDamaged)
	}
	var epochs []*epoch
	err = bucket.ForEach(func(k, v []byte) error {
		e, err := readEpoch(k, v)
		if err != nil {
			return err
		}
		if acked != nil {
			e.noted = readAcked(k, acked.Get(k))
		}
		epochs = append(epochs, e)
		return nil
	})
	if err != nil || len(epochs) == 0 {
		return nil, err
	}
	current := epochs[len(epochs)-1]
	for lane := range laneCount {
		b := tx.Bucket(laneBucket(lane))
		if b == nil {
			continue // which is found out when all of the file is looked at
		}
		next, sound := unseal(current.number, b.Sequence())
		if !sound {
			return nil, fmt.Errorf("%w: the next number at lane %s is not as it was written", errDamaged, laneNames[lane])
		}
		current.next = max(current.next, next)
	}
	for _, e := range epochs {
		e.durable = e.next - 1
	}
	return epochs, nil
}

// load takes stock of a file. Every page is read, past bbolt, and proved to be what it should be.
func (s *store) load() (*contents, error) {
	c := &contents{segments: map[uint32]int{}, lane: -1}
	err := s.view(func(tx *bbolt.Tx) (err error) {
		if c.epochs, err = readEpochs(tx); err == nil {
			c.format, err = readFormat(tx)
			c.station = readStation(tx)
		}
		return err
	})
	if err != nil {
		return c, err
	}
	if len(c.epochs) == 0 {
		return c, fmt.Errorf("%w: it has no identity", errDamaged)
	}
	if err := checkPages(s.file, c.visit); err != nil {
		return c, err
	}
	c.join()
	err = s.view(func(tx *bbolt.Tx) (err error) {
		for i := range laneCount {
			if tx.Bucket(laneBucket(i)) == nil {
				return fmt.Errorf("%w: no lane %s", errDamaged, laneNames[i])
			}
		}
		c.memory, err = loadMemory(tx)
		return err
	})
	return c, err
}

// visit takes account of one entry of the file.
func (c *contents) visit(bucket string, k, v []byte) error {
	if bucket != c.bucket {
		c.join()
		c.bucket, c.lane = bucket, laneOfBucket(bucket)
	}
	if c.lane < 0 {
		return nil
	}
	p, ok := placeOf(k)
	if ok && (c.current == nil || c.current.number != p.epoch) {
		c.join()
		if c.current = c.epoch(p.epoch); c.current != nil {
			c.noted = c.current.noted
		}
	}
	totals := &c.lanes[c.lane]
	if !ok || c.current == nil || p.seq == 0 || p.seq >= c.current.next || p.less(totals.last) {
		return fmt.Errorf("%w: a record under the key %x", errDamaged, k)
	}
	size, ref := weigh(v)
	if ref != nil {
		c.segments[ref.file]++
	}
	totals.last = p
	for len(c.noted) > 0 && c.noted[0].To < p.seq {
		c.noted = c.noted[1:]
	}
	if len(c.noted) > 0 && c.noted[0].From <= p.seq {
		totals.kept.add(1, size)
		c.kept.Add(p.seq)
	} else {
		totals.held.add(1, size)
		c.held.Add(p.seq)
	}
	return nil
}

// join ends a run of records of one lane and epoch.
func (c *contents) join() {
	if e := c.current; e != nil {
		e.held, e.kept = e.held.Union(c.held), e.kept.Union(c.kept)
	}
	c.current, c.held, c.kept = nil, nil, nil
}

// records is how many wait.
func (c *contents) records() (n int64) {
	for _, l := range c.lanes {
		n += l.held.records
	}
	return n
}

func (c *contents) epoch(number uint32) *epoch {
	for _, e := range c.epochs {
		if e.number == number {
			return e
		}
	}
	return nil
}
