package spool

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"

	"github.com/fulgidus/heimdall/protocol"
)

// Stats is what a spool holds.
type Stats struct {
	Station   string // whose records it holds; empty in a file that does not say
	Identity  [protocol.SpoolBytes]byte
	Records   int64 // durable and neither acknowledged nor given up, but for those that the next commit deletes
	Bytes     int64 // of disk that they take
	Kept      int64 // records acknowledged and kept for a while
	KeptBytes int64
	Limit     int64 // bytes; 0 when a closed file was looked at
	UsedRatio float64
	Lanes     map[Lane]LaneStats
	Oldest    time.Time // of the records held, by what they state; zero when there is none
	// From and To are the earliest and the latest time that the first and last records of the lanes state, kept ones too:
	// with the bytes, this is how fast the spool fills.
	From, To time.Time
	LastSeq  uint64 // the highest number given under the current identity
	Waiting  int    // records not yet durable
	Commits  uint64 // since the spool was opened
	Shed     uint64 // records given up since the spool was opened
	// Acknowledged is how many records were since the spool was opened.
	Acknowledged uint64

	// What the disk does not take.
	ShedFull    uint64 // of Shed, for want of room on the disk
	ReserveUsed bool   // the disk was full, and has had no room for the reserve since
	Unwritten   int    // of Waiting, those that could not be written
	Fault       error  // why the disk takes no commit; nil: it does
}

// LaneStats is one lane of Stats.
type LaneStats struct {
	Records, Bytes int64
}

// Stats is what the spool holds now.
func (s *Spool) Stats() Stats {
	s.mu.Lock()
	c := s.current()
	st := Stats{
		Station: s.station, Identity: c.identity, LastSeq: c.next - 1, Limit: s.limit, Waiting: len(s.waiting), Shed: s.shed, Commits: s.commits, Acknowledged: s.acknowledged,
		Kept: s.kept.records, KeptBytes: s.kept.bytes, ShedFull: s.shedFull, ReserveUsed: s.reserveUsed, Fault: s.fault,
	}
	if s.fault != nil {
		st.Unwritten = len(s.waiting)
	}
	var lanes [laneCount]amount
	for i := range lanes {
		lanes[i] = s.lanes[i].held
	}
	held := heldOf(s.epochs)
	s.mu.Unlock()
	st.count(lanes)
	st.UsedRatio = float64(st.Bytes) / float64(st.Limit)
	err := s.view(func(tx *bbolt.Tx) error {
		st.date(tx, held)
		return nil
	})
	if err != nil {
		s.mu.Lock()
		s.damage = err
		s.await(true)
		s.mu.Unlock()
	}
	return st
}

// count takes account of what the lanes hold.
func (st *Stats) count(lanes [laneCount]amount) {
	st.Lanes = map[Lane]LaneStats{}
	for i, held := range lanes {
		st.Records += held.records
		st.Bytes += held.bytes
		st.Lanes[laneNames[i]] = LaneStats{held.records, held.bytes}
	}
}

// date takes account of the times that the records state.
func (st *Stats) date(tx *bbolt.Tx, held map[uint32]protocol.Ranges) {
	st.Oldest = oldestOf(tx, st.Lanes, held)
	st.From, st.To = spanOf(tx)
}

// heldOf is the numbers held of each epoch, for others to read.
func heldOf(epochs []*epoch) map[uint32]protocol.Ranges {
	held := map[uint32]protocol.Ranges{}
	for _, e := range epochs {
		held[e.number] = e.held.Clone()
	}
	return held
}

// oldestOf is the earliest time that the first held record of a lane states.
func oldestOf(tx *bbolt.Tx, lanes map[Lane]LaneStats, held map[uint32]protocol.Ranges) time.Time {
	var oldest int64
	for i, lane := range laneNames {
		if lanes[lane].Records == 0 {
			continue
		}
		if v := firstHeld(tx.Bucket(laneBucket(i)).Cursor(), held); v != nil {
			if at := statedTime(v); oldest == 0 || at < oldest {
				oldest = at
			}
		}
	}
	if oldest == 0 {
		return time.Time{}
	}
	return time.Unix(0, oldest).UTC()
}

// spanOf is the earliest and the latest time that first and last records of lanes state.
func spanOf(tx *bbolt.Tx) (from, to time.Time) {
	for i := range laneCount {
		cursor := tx.Bucket(laneBucket(i)).Cursor()
		if k, v := cursor.First(); k != nil {
			if at := time.Unix(0, statedTime(v)).UTC(); from.IsZero() || at.Before(from) {
				from = at
			}
		}
		if k, v := cursor.Last(); k != nil {
			if at := time.Unix(0, statedTime(v)).UTC(); at.After(to) {
				to = at
			}
		}
	}
	return from, to
}

// firstHeld is the first record of a lane that is held. It passes over kept ones by what is known of the numbers, and
// gives up after some steps, with a record that is older.
func firstHeld(cursor *bbolt.Cursor, held map[uint32]protocol.Ranges) []byte {
	const steps = 1000
	k, v := cursor.First()
	for range steps {
		p, ok := placeOf(k)
		if !ok {
			return nil
		}
		rest := numbersFrom(held[p.epoch], p.seq)
		switch {
		case rest.Empty():
			p = place{p.epoch + 1, 0}
		case rest[0].From <= p.seq:
			return v
		default:
			p.seq = rest[0].From
		}
		k, v = cursor.Seek(p.key())
	}
	return v
}

// Stat is what the spool in dir holds while no process has it open; *LockedError when one has, *DamagedError when the
// file is not sound.
func Stat(dir string) (Stats, error) {
	var st Stats
	err := inspect(dir, func(s *store) error {
		c, err := s.load()
		if err != nil {
			return err
		}
		current := c.epochs[len(c.epochs)-1]
		st = Stats{Station: c.station, Identity: current.identity, LastSeq: current.next - 1}
		var lanes [laneCount]amount
		for i, l := range c.lanes {
			lanes[i] = l.held
			st.Kept += l.kept.records
			st.KeptBytes += l.kept.bytes
		}
		st.count(lanes)
		_, err = os.Stat(filepath.Join(dir, reserved))
		free, known := FreeBytes(dir)
		// It comes with the first record, and where there is room now with the next.
		st.ReserveUsed = errors.Is(err, os.ErrNotExist) && st.LastSeq > 0 && (!known || free < mostReserveBytes+leastRoom)
		return s.view(func(tx *bbolt.Tx) error {
			st.date(tx, heldOf(c.epochs))
			return nil
		})
	})
	return st, err
}
