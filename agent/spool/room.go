package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

const (
	// mostReserveBytes stand in a file that is removed when the disk is full, so that deletes and Gap records can still be
	// committed.
	mostReserveBytes = 4 << 20
	// reserveEvery is how often it is tried to make it where the free bytes do not tell whether there is room.
	reserveEvery = time.Minute
	// leastRoom is by how much the free bytes must have grown for a full disk to count as one with room.
	leastRoom = 128 << 10
	// roomEvery is how often the free bytes are asked for while the disk takes no commit.
	roomEvery = time.Second
	// sayEvery is how often the log says how many records were given up.
	sayEvery = time.Minute
)

// ReserveBytes is how much the reserve takes of the disk beside a spool of up to so many bytes.
func ReserveBytes(limit int64) int64 { return min(mostReserveBytes, limit/marginShare) }

// RoomBytes is how much of the disk a spool of up to so many bytes of records may take: bbolt's pages are never full, and the
// reserve stands beside them.
func RoomBytes(limit int64) int64 { return limit + limit/2 + ReserveBytes(limit) }

// room is what the writer knows of a disk that was found full.
type room struct {
	fullAt time.Time // since when it is full; zero: it has room, as far as is known
	held   int64     // bytes of records then, kept ones too
	// wanted is how many bytes must be free before it counts as one with room: what was free, the reserve, and some. Without the
	// last it would be made and let go of in turns, as the bytes that are free then are its own.
	wanted int64
	failed time.Time // when the reserve was last tried in vain
	said   bool      // in the log that it is full
}

// shortage is what was given up for want of room and the log has not said yet.
type shortage struct {
	unsaid map[protocol.Gap_Reason]*[laneCount]amount
	at     time.Time // when it was last said
}

// shedForRoom makes room when a commit failed for want of it: the reserve is let go, and records are given up. last tells that
// this did not help before: then what waits is given up too, as without it the commit that deletes needs less room.
func (s *Spool) shedForRoom(last bool) error {
	s.noteFull(time.Now())
	os.Remove(filepath.Join(s.dir, reserved))
	s.store.db.MaxSize = max(s.store.db.MaxSize, s.maxFileBytes()+mostReserveBytes)
	s.mu.Lock()
	kept := s.kept.records
	s.room.held = s.used + s.kept.bytes
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

// noteFull notes that the disk is full, before the reserve is let go. The caller holds writeMu.
func (s *Spool) noteFull(now time.Time) {
	s.noteReserve(true)
	if !s.room.fullAt.IsZero() {
		return
	}
	s.room.fullAt = now
	size := ReserveBytes(s.limit)
	free, known := FreeBytes(s.dir)
	if s.room.wanted = size + free + max(size/8, leastRoom); !known || free >= size+leastRoom {
		s.room.wanted, s.room.failed = 0, now // it is not the disk that is full, but what the account may take of it
	}
}

// sayFull says that the disk is full: once, and at most each minute where it is full and has room in turns.
func (s *Spool) sayFull(now time.Time) {
	if s.room.fullAt.IsZero() || s.room.said || now.Sub(s.fullSaid) < sayEvery {
		return
	}
	s.room.said, s.fullSaid = true, now
	s.mu.Lock()
	s.shortage.at = now // how many were given up follows after a minute
	s.mu.Unlock()
	free, _ := FreeBytes(s.dir)
	s.log.Error("the disk under spool.path is full: records are given up, and declared, until it has room; "+
		"free space there, lower spool.limit, or name a directory on a larger disk in spool.path", "path", s.dir, "free_bytes", free)
}

// noteRoom notes that the disk has room, and the reserve.
func (s *Spool) noteRoom(now time.Time) {
	s.noteReserve(false)
	if s.room.said {
		s.sayShed(now, true)
		s.log.Info("the disk under spool.path has room again", "path", s.dir, "after", now.Sub(s.room.fullAt).Round(time.Second))
	}
	s.room = room{}
}

// roomCame tells whether the disk has more room than when it last took no commit for want of it.
func (s *Spool) roomCame() bool {
	if !s.outage.full {
		return false
	}
	free, known := FreeBytes(s.dir)
	came := known && free >= s.outage.free+leastRoom
	s.outage.free = min(s.outage.free, free)
	return came
}

// countShed takes account of records that were given up. mu must be held.
func (s *Spool) countShed(l loss) {
	s.shed += l.ranges.Count()
	switch l.reason {
	case protocol.Gap_REASON_DISK_FULL:
		s.shedFull += l.ranges.Count()
	case protocol.Gap_REASON_QUOTA:
	default:
		return
	}
	lanes := s.shortage.unsaid[l.reason]
	if lanes == nil {
		lanes = new([laneCount]amount)
		if s.shortage.unsaid == nil {
			s.shortage.unsaid = map[protocol.Gap_Reason]*[laneCount]amount{}
		}
		s.shortage.unsaid[l.reason] = lanes
	}
	lanes[l.lane.index()].add(l.records, l.bytes)
}

// sayShed says what was given up since it was last said, each minute, or now.
func (s *Spool) sayShed(at time.Time, now bool) {
	s.mu.Lock()
	unsaid := s.shortage.unsaid
	if len(unsaid) == 0 || !now && at.Sub(s.shortage.at) < sayEvery {
		s.mu.Unlock()
		return
	}
	s.shortage = shortage{at: at}
	s.mu.Unlock()
	for reason, lanes := range unsaid {
		var sum amount
		var each []string
		for i, a := range lanes {
			if sum.add(a.records, a.bytes); a.records > 0 {
				each = append(each, fmt.Sprintf("%s %d", laneNames[i], a.records))
			}
		}
		s.log.Warn("records were given up for want of room, and declared", "records", sum.records, "bytes", sum.bytes,
			"lanes", strings.Join(each, ", "), "reason", reason.Short())
	}
}

// reserve makes the reserve file if it is missing and there is room for it: then the disk is no longer full.
func (s *Spool) reserve() {
	path := filepath.Join(s.dir, reserved)
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		return
	}
	now, size := time.Now(), ReserveBytes(s.limit)
	if now.Sub(s.room.failed) < reserveEvery {
		return
	}
	if free, known := FreeBytes(s.dir); known && free < max(size, s.room.wanted) {
		s.noteReserve(true)
		return
	}
	if err := writeReserve(path, size); err != nil {
		os.Remove(path)
		s.log.Debug("there is no room for the reserve", "error", err)
		s.room.failed = now
		s.noteReserve(IsFull(err))
		return
	}
	s.noteRoom(now)
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
