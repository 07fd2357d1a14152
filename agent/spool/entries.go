package spool

import (
	"errors"
	"fmt"
	"path/filepath"

	"go.etcd.io/bbolt"

	"github.com/fulgidus/heimdall/protocol"
)

// Entry is a record as it lies in a spool.
type Entry struct {
	Item
	Lane  Lane
	Kept  bool  // acknowledged, and kept for a while
	Bytes int64 // of disk that it takes
	Err   error // it is not as it was written; then only its number, lane and size are known
}

// So much of a spool is read in one go while it is listed: bbolt cannot use again what a long transaction may still read.
const (
	listRecords = 200
	listBytes   = 1 << 20
)

// lister goes over all records of a file.
type lister struct {
	dir        string
	view       func(func(*bbolt.Tx) error) error
	identities map[uint32][protocol.SpoolBytes]byte
	kept       map[uint32]protocol.Ranges
	lanes      []Lane
}

// Entries gives every record to visit, lane by lane; of some lanes only, if any are named. Records that come or go
// meanwhile may be among them or not.
func (s *Spool) Entries(visit func(Entry) error, lanes ...Lane) error {
	l := lister{dir: s.dir, view: s.view, lanes: lanes}
	s.mu.Lock()
	l.know(s.epochs)
	s.mu.Unlock()
	return l.list(visit)
}

// Entries is that of the spool in dir while no process has it open; *LockedError when one has, *DamagedError when the file
// is not sound.
func Entries(dir string, visit func(Entry) error, lanes ...Lane) error {
	return inspect(dir, func(s *store) error {
		c, err := s.load() // what is not proved to be a record is not shown as one
		if err != nil {
			return err
		}
		l := lister{dir: dir, view: s.view, lanes: lanes}
		l.know(c.epochs)
		return l.list(visit)
	})
}

func (l *lister) know(epochs []*epoch) {
	l.identities, l.kept = map[uint32][protocol.SpoolBytes]byte{}, map[uint32]protocol.Ranges{}
	for _, e := range epochs {
		l.identities[e.number], l.kept[e.number] = e.identity, e.kept.Clone()
	}
}

func (l *lister) list(visit func(Entry) error) error {
	lanes := l.lanes
	if len(lanes) == 0 {
		lanes = laneNames
	}
	for _, lane := range lanes {
		index, err := lane.check()
		if err != nil {
			return err
		}
		for from := (place{}); ; {
			rows, err := l.read(index, from)
			if err != nil {
				return err
			}
			if len(rows) == 0 {
				break
			}
			for _, r := range rows {
				if err := visit(l.entry(lane, r)); err != nil {
					return err
				}
			}
			from = rows[len(rows)-1].place.after()
		}
	}
	return nil
}

// listed is a record as read, or what is wrong with it.
type listed struct {
	stored
	bytes int64
	err   error
}

func (l *lister) read(lane int, from place) (rows []listed, err error) {
	err = l.view(func(tx *bbolt.Tx) error {
		rows = nil
		bytes := int64(0)
		cursor := tx.Bucket(laneBucket(lane)).Cursor()
		for k, v := cursor.Seek(from.key()); k != nil && len(rows) < listRecords && bytes < listBytes; k, v = cursor.Next() {
			p, ok := placeOf(k)
			if !ok {
				return fmt.Errorf("%w: a record under the key %x", errDamaged, k)
			}
			r, err := decodeRecord(k, v)
			size, _ := weigh(v)
			bytes += int64(len(v))
			rows = append(rows, listed{stored{p, r}, size, err})
		}
		return nil
	})
	return rows, err
}

func (l *lister) entry(lane Lane, r listed) Entry {
	e := Entry{Lane: lane, Kept: l.kept[r.place.epoch].Contains(r.place.seq), Bytes: r.bytes, Err: r.err}
	if r.err == nil {
		e.Item, e.Err = r.item(l.dir)
	}
	e.Spool, e.Seq = l.identities[r.place.epoch], r.place.seq
	return e
}

// List gives every record of the spool in dir that is not acknowledged to visit, lane by lane, while no process has it open.
// A record that is not as it was written comes with the error that says so, and List goes on.
func List(dir string, visit func(Lane, Item, error) error) error {
	return Entries(dir, func(e Entry) error {
		if e.Kept {
			return nil
		}
		return visit(e.Lane, e.Item, e.Err)
	})
}

func inspect(dir string, look func(*store) error) error {
	path := filepath.Join(dir, fileName)
	st, err := openStore(path, 0, true)
	if err == nil {
		err = errors.Join(look(st), st.close())
	}
	return damaged(path, err)
}
