package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"github.com/fulgidus/heimdall/protocol"
)

const (
	// reserveBytes stand in a file that is removed when the disk is full, so that deletes and Gap records can still be
	// committed.
	reserveBytes = 4 << 20
	reserveEvery = time.Minute
	// shedShare: over the limit, one part in so many of it is made free, so that one Gap record speaks of many records.
	shedShare = 32
	// marginShare: shedding begins one part in so many below the limit, which leaves room for what tells of it.
	marginShare = 16
)

// highMark is from how many bytes on records are given up. On a disk that was found full it is below what was there then: a
// commit that deletes writes pages first, and needs some that are free in the file. Only the writer calls it.
func (s *Spool) highMark() int64 {
	most := s.limit
	if s.fullAt > 0 {
		most = min(most, s.fullAt)
	}
	return most - most/marginShare
}

// shedOldest gives up the oldest records of the least valuable class until so many bytes are free. It tells whether
// there was anything to give up.
func (s *Spool) shedOldest(bytes int64, reason protocol.Gap_Reason) (bool, error) {
	s.mu.Lock()
	dying := map[uint32]protocol.Ranges{}
	for _, e := range s.epochs {
		dying[e.number] = e.dying.Union(e.acked).Union(e.kept)
	}
	s.mu.Unlock()
	var losses []loss
	err := s.view(func(tx *bbolt.Tx) error {
		v := victims{free: bytes, reason: reason, dying: dying}
		for _, class := range shedClasses() {
			v.choose(tx, class)
		}
		losses = v.losses
		return nil
	})
	if err != nil || len(losses) == 0 {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range losses {
		l.epoch = s.epochNumber(l.epoch.number)
		s.log.Warn("records were given up for want of room", "lane", string(l.lane), "records", l.records,
			"bytes", l.bytes, "reason", reason.Short())
		s.lose(l)
	}
	return true, nil
}

// victims are the records chosen to be given up.
type victims struct {
	free   int64 // bytes still to be found
	reason protocol.Gap_Reason
	dying  map[uint32]protocol.Ranges
	losses []loss
}

// choose takes the oldest records of a class, over its lanes, until enough is found.
func (v *victims) choose(tx *bbolt.Tx, class []Lane) {
	type head struct {
		lane       Lane
		cursor     *bbolt.Cursor
		key, value []byte
	}
	heads := make([]*head, 0, len(class))
	for _, lane := range class {
		h := &head{lane: lane, cursor: tx.Bucket(laneBucket(lane.index())).Cursor()}
		if h.key, h.value = h.cursor.First(); h.key != nil {
			heads = append(heads, h)
		}
	}
	for v.free > 0 && len(heads) > 0 {
		oldest := slices.MinFunc(heads, func(a, b *head) int { return slices.Compare(a.key, b.key) })
		if p, ok := placeOf(oldest.key); ok && !v.dying[p.epoch].Contains(p.seq) {
			size, _ := weigh(oldest.value)
			v.of(p.epoch, oldest.lane).add(p.seq, size, statedTime(oldest.value))
			v.free -= size
		}
		if oldest.key, oldest.value = oldest.cursor.Next(); oldest.key == nil {
			heads = slices.DeleteFunc(heads, func(h *head) bool { return h == oldest })
		}
	}
}

func (v *victims) of(number uint32, lane Lane) *loss {
	for i := range v.losses {
		if v.losses[i].lane == lane && v.losses[i].epoch.number == number {
			return &v.losses[i]
		}
	}
	v.losses = append(v.losses, loss{reason: v.reason, epoch: &epoch{number: number}, lane: lane})
	return &v.losses[len(v.losses)-1]
}

// shedForRoom makes room when a commit failed for want of it: the reserve is let go, and records are given up. last tells that
// this did not help before: then what waits is given up too, as without it the commit that deletes needs less room.
func (s *Spool) shedForRoom(last bool) error {
	os.Remove(filepath.Join(s.dir, reserved))
	s.store.db.MaxSize = max(s.store.db.MaxSize, s.maxFileBytes()+reserveBytes)
	s.reserveTried = time.Now()
	s.mu.Lock()
	s.reserveUsed = true
	kept := s.kept.records
	s.fullAt = s.used + s.kept.bytes
	s.mu.Unlock()
	if kept > 0 && s.purge(purgeBatch, time.Now()) == nil {
		return nil
	}
	s.mu.Lock()
	need := max(s.waitingBytes, min(s.used, s.limit)/shedShare) // a small disk holds less than the limit
	s.mu.Unlock()
	if _, err := s.shedOldest(need, protocol.Gap_REASON_DISK_FULL); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch bound := s.waitingBound(); {
	case last && s.deletes():
		s.shedWaiting(0)
	case s.waitingBytes > bound:
		s.shedWaiting(bound / 4 * 3)
	}
	return nil
}

// deletes tells whether the next commit deletes records. mu must be held.
func (s *Spool) deletes() bool {
	return slices.ContainsFunc(s.epochs, func(e *epoch) bool { return !e.dying.Empty() })
}

// waitingBound is how many bytes may wait in memory.
func (s *Spool) waitingBound() int64 { return min(mostWaiting, s.limit/2) }

// reserve makes the reserve file if it is missing, now and then: on a full disk that costs as many writes as there is room.
func (s *Spool) reserve() {
	path := filepath.Join(s.dir, reserved)
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) || time.Since(s.reserveTried) < reserveEvery {
		return
	}
	s.reserveTried = time.Now()
	if err := writeReserve(path, min(reserveBytes, s.limit/marginShare)); err != nil {
		os.Remove(path)
		s.log.Debug("there is no room for the reserve", "error", err)
		s.noteReserve(isFull(err))
		return
	}
	s.fullAt = 0
	s.noteReserve(false)
}

// noteReserve notes whether the reserve is missing because the disk is full.
func (s *Spool) noteReserve(used bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reserveUsed = used
}

func writeReserve(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("make the reserve: %w", err)
	}
	defer f.Close()
	// Random enough that no file system stores it as a hole: position-dependent bytes.
	block := make([]byte, 64<<10)
	for at := int64(0); at < size; at += int64(len(block)) {
		for i := range block {
			block[i] = byte((at>>16)*31 + int64(i)*7)
		}
		if _, err := f.Write(block[:min(int64(len(block)), size-at)]); err != nil {
			return fmt.Errorf("fill the reserve: %w", err)
		}
	}
	return nil
}

// shedWaiting gives up records that wait in memory, the least valuable first, until no more than target bytes are left. mu
// must be held.
func (s *Spool) shedWaiting(target int64) {
	losses := map[gapKey]*loss{}
	for _, class := range shedClasses() {
		s.waiting = slices.DeleteFunc(s.waiting, func(e *entry) bool {
			lane := laneNames[e.lane]
			if s.waitingBytes <= target || !slices.Contains(class, lane) {
				return false
			}
			key := gapKey{e.place.epoch, lane, protocol.Gap_REASON_DISK_FULL}
			if losses[key] == nil {
				losses[key] = &loss{reason: key.reason, epoch: s.epochNumber(e.place.epoch), lane: lane}
			}
			losses[key].add(e.place.seq, int64(len(e.payload)), e.time)
			s.waitingBytes -= int64(len(e.payload))
			e.tell(ErrShed)
			return true
		})
	}
	for _, l := range losses {
		s.declareAll(*l)
	}
}
