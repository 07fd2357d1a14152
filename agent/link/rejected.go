package link

import (
	"encoding/hex"
	"maps"
	"slices"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

const (
	// mostRejectedSpools bounds how many spools are remembered: one in use, and those before it.
	mostRejectedSpools = 16
	// mostRejectedRanges is how many ranges a line of the log names.
	mostRejectedRanges = 8
)

// rejections is what was said of the records that collectors refused: an Ack names all there ever were, again and again. What
// is held back now is said with the next. Only the session's goroutine uses it.
type rejections struct {
	lines seldom
	said  map[[protocol.SpoolBytes]byte]rejected
}

// rejected is what an Ack says of it: some of the numbers, and how many there are.
type rejected struct {
	seqs  protocol.Ranges
	count uint64
}

// news tells which numbers are new, and whether to say so now: there may be more than are named.
func (r *rejections) news(spool [protocol.SpoolBytes]byte, is rejected, now time.Time) (protocol.Ranges, bool) {
	was, known := r.said[spool]
	fresh := is.seqs.Subtract(was.seqs)
	if fresh.Empty() && is.count <= was.count {
		return nil, false
	}
	if _, ok := r.lines.say(now); !ok {
		return nil, false
	}
	if r.said == nil || !known && len(r.said) >= mostRejectedSpools {
		r.said = map[[protocol.SpoolBytes]byte]rejected{}
	}
	r.said[spool] = is
	return fresh, true
}

// sayRejected says which records a collector refused, while the window still knows what they are.
func (s *session) sayRejected(ack acknowledgement) {
	fresh, ok := s.link.rejections.news(ack.spool, ack.rejected, time.Now())
	if !ok {
		return
	}
	s.cfg.Log.Warn("the collector refused records; its table rejected says why", "collector", ack.collector, "spool", hex.EncodeToString(ack.spool[:]),
		"seqs", fresh.Head(mostRejectedRanges).String(), "kinds", s.window.kinds(ack.spool, fresh), "rejected_total", ack.rejected.count)
}

// kinds are those of the records on their way whose numbers are given.
func (w *window) kinds(spool [protocol.SpoolBytes]byte, seqs protocol.Ranges) []protocol.Kind {
	kinds := map[protocol.Kind]bool{}
	for _, m := range w.messages {
		for _, r := range m.records {
			if r.spool == spool && seqs.Contains(r.seq) {
				kinds[r.kind] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(kinds))
}
