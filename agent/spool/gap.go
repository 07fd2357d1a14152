package spool

import (
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// maxGapRanges is the most ranges of one Gap record, so that it fits a message.
const maxGapRanges = protocol.MaxElements

// loss is a run of records that will never come.
type loss struct {
	reason   protocol.Gap_Reason
	epoch    *epoch // whose numbers they are
	lane     Lane   // empty: of several lanes
	ranges   protocol.Ranges
	records  int64 // 0: unknown
	bytes    int64
	from, to int64 // record times, ns; 0: unknown
}

func (l *loss) add(seq uint64, bytes, at int64) {
	l.ranges.Add(seq)
	l.records++
	l.bytes += bytes
	if l.from == 0 || at < l.from {
		l.from = at
	}
	l.to = max(l.to, at)
}

// join adds a later loss of the same kind.
func (l *loss) join(o loss) {
	l.ranges = l.ranges.Union(o.ranges)
	l.records += o.records
	l.bytes += o.bytes
	if l.from == 0 || o.from != 0 && o.from < l.from {
		l.from = o.from
	}
	l.to = max(l.to, o.to)
}

// gapKey is what neighbouring losses must have in common to share a Gap record.
type gapKey struct {
	epoch  uint32
	lane   Lane
	reason protocol.Gap_Reason
}

// openGap is a Gap record that was never handed out, so that its content may still grow.
type openGap struct {
	place   place
	loss    loss
	version uint64 // of the content last put in line
	durable uint64 // version on disk
}

// declare puts a Gap record for l in line for the next commit, or lets the last one of its kind grow when nobody has
// seen that yet. mu must be held; what l names must leave in the same commit.
func (s *Spool) declare(l loss) {
	key := gapKey{l.epoch.number, l.lane, l.reason}
	gap := s.gaps[key]
	if gap != nil && gap.place.epoch == s.current().number {
		if joined := gap.loss.ranges.Union(l.ranges); len(joined) <= maxGapRanges {
			gap.loss.join(l)
			s.putGap(gap, gap.place)
			return
		}
	}
	gap = &openGap{loss: l}
	s.gaps[key] = gap
	e := &entry{}
	s.number(e)
	s.putGap(gap, e.place)
}

func (s *Spool) putGap(gap *openGap, at place) {
	gap.place = at
	gap.version++
	now := s.now()
	payload, err := s.encodeGap(gap.loss, at, now)
	if err != nil {
		// Cannot be: the only text in it, the station, was checked when the spool was opened.
		s.log.Error("a gap could not be encoded", "error", err)
		return
	}
	index := LaneGap.index()
	s.wait(&entry{place: at, lane: index, kind: protocol.KindGap, time: now.UnixNano(), payload: payload, version: gap.version})
	// A search under way may hold the former content.
	l := &s.lanes[index]
	l.unread()
	l.back = earlier(l.back, at)
	s.turn++
}

// encodeGap is the Gap record for l as it stands at a place.
func (s *Spool) encodeGap(l loss, at place, now time.Time) ([]byte, error) {
	gap := &protocol.Gap{Reason: l.reason.Enum(), Ranges: l.ranges.Wire()}
	if l.epoch.number != at.epoch {
		gap.Spool = l.epoch.identity[:]
	}
	if l.lane != "" {
		gap.Lane = new(string(l.lane))
	}
	if l.records > 0 {
		gap.Records, gap.Bytes = new(uint64(l.records)), new(uint64(l.bytes))
		gap.From, gap.To = new(l.from), new(l.to)
	}
	return protocol.Encode(&protocol.Record{
		Station: new(s.station), Time: new(now.UnixNano()), Body: &protocol.Record_Gap{Gap: gap},
	})
}

// ofSpool is the payload of a record that goes on under another identity: where a Gap names none, it speaks of the numbers of
// the identity that it had.
func ofSpool(payload []byte, identity [protocol.SpoolBytes]byte) []byte {
	rec, err := protocol.Decode(payload)
	gap := rec.GetGap()
	if err != nil || len(gap.GetRanges()) == 0 || len(gap.GetSpool()) > 0 {
		return payload
	}
	gap.Spool = identity[:]
	named, err := protocol.Encode(rec)
	if err != nil {
		return payload // cannot be: it was encoded before
	}
	return named
}
