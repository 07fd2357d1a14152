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
	case errors.Is(err, os.ErrPermission), errors.Is(err, os.ErrNotExist), IsFull(err):
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
