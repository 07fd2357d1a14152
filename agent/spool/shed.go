package spool

import (
	"slices"

	"go.etcd.io/bbolt"

	"github.com/fulgidus/heimdall/protocol"
)

const (
	// shedShare: over the limit, one part in so many of it is made free, so that one Gap record speaks of many records.
	shedShare = 32
	// marginShare: shedding begins one part in so many below the limit, which leaves room for what tells of it.
	marginShare = 16
)

// highMark is from how many bytes on records are given up. On a disk that was found full it is below what was there then: a
// commit that deletes writes pages first, and needs some that are free in the file. Only the writer calls it.
func (s *Spool) highMark() int64 {
	most := s.limit
	if !s.room.fullAt.IsZero() {
		most = min(most, s.room.held)
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

// deletes tells whether the next commit deletes records. mu must be held.
func (s *Spool) deletes() bool {
	return slices.ContainsFunc(s.epochs, func(e *epoch) bool { return !e.dying.Empty() })
}

// waitingBound is how many bytes may wait in memory.
func (s *Spool) waitingBound() int64 { return min(mostWaiting, s.limit/2) }

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
