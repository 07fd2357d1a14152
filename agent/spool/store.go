package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/fulgidus/heimdall/protocol"
)

const (
	fileName   = "spool.db"
	ownerName  = "spool.owner"
	iqName     = "iq"
	reserved   = "reserve"
	fileFormat = 1
	// lockWait is how long to wait for another process to let go of the file.
	lockWait = time.Second
	// fillPercent of a page: keys only grow, so pages are filled once and then only emptied.
	fillPercent = 0.95
)

// errDamaged says that the file can no longer be trusted.
var errDamaged = errors.New("the spool file is damaged")

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
}

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
	return guard(s.db.Close)
}

func (s *store) view(fn func(*bbolt.Tx) error) error {
	return guard(func() error { return s.db.View(fn) })
}

func (s *store) update(fn func(*bbolt.Tx) error) error {
	return guard(func() error { return s.db.Update(fn) })
}

// Buckets: meta, one for each lane, command (id → order, last reply) and command-order (order → id).
var (
	bucketMeta         = []byte("meta")
	bucketEpochs       = []byte("epochs") // in meta: epoch → identity, next number
	bucketCommand      = []byte("command")
	bucketCommandOrder = []byte("command-order")
	keyFormat          = []byte("format")
)

func laneBucket(lane int) []byte { return []byte("lane/" + string(Lanes()[lane])) }

// epoch is one identity of the spool and what is known of its numbers.
type epoch struct {
	number   uint32 // counts the identities of this file
	identity [protocol.SpoolBytes]byte
	next     uint64          // the next number to give
	durable  uint64          // the highest number ever committed
	held     protocol.Ranges // committed and not deleted
	sent     protocol.Ranges // handed out since the last Rewind
	offered  protocol.Ranges // handed out since the spool was opened
	dying    protocol.Ranges // settled or given up: deleted with the next commit
}

// contents is what a file holds, without the records themselves.
type contents struct {
	epochs   []*epoch // in order; the last is the one that gives numbers
	lanes    [laneCount]laneContents
	segments map[uint32]int // records that refer to each segment file
	memory   *memory
}

type laneContents struct {
	records int64
	bytes   int64
	last    place
}

// prepare makes the buckets of a new file and its first epochs.
func prepare(tx *bbolt.Tx, epochs []*epoch) error {
	names := [][]byte{bucketMeta, bucketCommand, bucketCommandOrder}
	for i := range laneCount {
		names = append(names, laneBucket(i))
	}
	for _, name := range names {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return fmt.Errorf("make the bucket %s: %w", name, err)
		}
	}
	meta := tx.Bucket(bucketMeta)
	_, err := meta.CreateBucketIfNotExists(bucketEpochs)
	err = errors.Join(err, meta.Put(keyFormat, []byte{fileFormat}))
	for _, e := range epochs {
		err = errors.Join(err, putEpoch(tx, e))
	}
	return err
}

func putEpoch(tx *bbolt.Tx, e *epoch) error {
	key := binary.BigEndian.AppendUint32(nil, e.number)
	value := binary.BigEndian.AppendUint64(append([]byte(nil), e.identity[:]...), e.next)
	return tx.Bucket(bucketMeta).Bucket(bucketEpochs).Put(key, value)
}

// readEpochs reads the identities; none in a file that was never prepared.
func readEpochs(tx *bbolt.Tx) ([]*epoch, error) {
	meta := tx.Bucket(bucketMeta)
	if meta == nil {
		return nil, nil
	}
	if format := meta.Get(keyFormat); len(format) != 1 || format[0] != fileFormat {
		return nil, fmt.Errorf("%w: %w: %x, known is %d", errDamaged, errFormat, format, fileFormat)
	}
	bucket := meta.Bucket(bucketEpochs)
	if bucket == nil {
		return nil, fmt.Errorf("%w: no identities", errDamaged)
	}
	var epochs []*epoch
	err := bucket.ForEach(func(k, v []byte) error {
		if len(k) != 4 || len(v) != protocol.SpoolBytes+8 {
			return fmt.Errorf("%w: identity of %d bytes", errDamaged, len(v))
		}
		e := &epoch{number: binary.BigEndian.Uint32(k), identity: [protocol.SpoolBytes]byte(v[:protocol.SpoolBytes])}
		e.next = binary.BigEndian.Uint64(v[protocol.SpoolBytes:])
		if e.next == 0 || e.next > protocol.MaxSeq {
			return fmt.Errorf("%w: next number %d", errDamaged, e.next)
		}
		e.durable = e.next - 1
		epochs = append(epochs, e)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return epochs, nil
}

// load takes stock of a file: every key is visited, so that a torn tree shows here and not later.
func (s *store) load() (*contents, error) {
	c := &contents{segments: map[uint32]int{}}
	err := s.view(func(tx *bbolt.Tx) (err error) {
		if c.epochs, err = readEpochs(tx); err != nil || len(c.epochs) == 0 {
			return err
		}
		for i := range laneCount {
			if err := c.loadLane(tx, i); err != nil {
				return err
			}
		}
		c.memory, err = loadMemory(tx)
		return err
	})
	return c, err
}

func (c *contents) loadLane(tx *bbolt.Tx, lane int) error {
	bucket := tx.Bucket(laneBucket(lane))
	if bucket == nil {
		return fmt.Errorf("%w: no lane %s", errDamaged, Lanes()[lane])
	}
	totals := &c.lanes[lane]
	var current *epoch
	var run protocol.Ranges // of this lane in the current epoch: added at its upper end only, which is cheap
	join := func() {
		if current != nil {
			current.held = current.held.Union(run)
		}
		run = nil
	}
	defer join()
	return bucket.ForEach(func(k, v []byte) error {
		p, ok := placeOf(k)
		if ok && (current == nil || current.number != p.epoch) {
			join()
			current = c.epoch(p.epoch)
		}
		if !ok || current == nil || p.seq == 0 || p.seq >= current.next || p.less(totals.last) {
			return fmt.Errorf("%w: a record under the key %x", errDamaged, k)
		}
		size, ref := weigh(v)
		if ref != nil {
			c.segments[ref.file]++
		}
		totals.records++
		totals.bytes += size
		totals.last = p
		run.Add(p.seq)
		return nil
	})
}

func (c *contents) epoch(number uint32) *epoch {
	for _, e := range c.epochs {
		if e.number == number {
			return e
		}
	}
	return nil
}
