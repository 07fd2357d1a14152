package history

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// margin is how much of the time before and after an emission is held with it: half a second, and as much more as stations may
// differ in when they say that the same emission began and ended.
const margin = 550 * time.Millisecond

// mostHolds bounds how many emissions are followed. Those at the same time share their pages.
const mostHolds = 256

// equalDB is how much louder an emission is than another of the same level: transmissions of one emitter differ by tenths.
const equalDB = 3

// hold is a stretch that stays when the ring moves past it: whole blocks, and the pages they lie in.
type hold struct {
	emission time.Time // when it began
	until    time.Time // the stretch is to reach so far
	snrDB    float64
	// part says that the stretch is not held to its end: it is more than all that may be held.
	part bool

	from, to    time.Time // of its first sample, and after the last one so far
	first, last uint64    // pages, both included
	next        uint64    // number of the block that would be added next
	growing     bool      // blocks are to be added still
	left        bool      // the ring has moved past its first page
}

// Held is a stretch that stays in memory around an emission.
type Held struct {
	From  time.Time // of its first sample
	To    time.Time // just after its last
	SNRDB float64   // of the emission
}

// Held lists the stretches that are held, also those that the ring has not moved past yet, by the begin of their emissions.
func (r *Ring) Held() []Held {
	r.mu.Lock()
	defer r.mu.Unlock()
	held := make([]Held, 0, len(r.holds))
	for _, h := range r.holds {
		held = append(held, Held{From: h.from, To: h.to, SNRDB: h.snrDB})
	}
	slices.SortFunc(held, func(a, b Held) int { return a.From.Compare(b.From) })
	return held
}

// Hold keeps the samples of an emission, and a margin around it, when the ring moves past them: also those that are still to
// come. It may be called again for an emission that lasts: the same start, a longer duration. Nothing is held when the
// emission's beginning is gone already.
//
// A stretch stays as long as the ring was made to hold. When more is to stay than may, the loudest emissions come first, and
// of those in one step of 3 dB the latest. Of a stretch that is more than all that may be held the beginning is, half as much as
// may be, after all those that are whole.
func (r *Ring) Hold(start time.Time, duration time.Duration, snrDB float64) {
	if r.size.held == 0 || start.IsZero() || duration < 0 || math.IsNaN(snrDB) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.holdOf(start)
	if h == nil {
		return
	}
	h.snrDB = max(h.snrDB, snrDB)
	if until := start.Add(duration + margin); until.After(h.until) {
		h.until = until
		if !h.growing {
			h.growing = true
			r.growing = append(r.growing, h)
		}
		r.grow(h)
	}
	if ends := h.to.Add(r.lasts); ends.Before(r.due) {
		r.due = ends
	}
	if h.to.IsZero() {
		r.drop(h) // its first block is larger than all that may be held
	}
	if len(r.holds) > mostHolds {
		r.drop(slices.MaxFunc(r.holds, rank))
	}
	if h.left {
		r.choose()
	}
}

// holdOf is the hold of an emission that began at start, a new one without blocks where there was none; nil when the
// emission's beginning is gone. The caller holds mu.
func (r *Ring) holdOf(start time.Time) *hold {
	for _, h := range r.holds {
		if h.emission.Equal(start) {
			return h
		}
	}
	h := &hold{emission: start, snrDB: math.Inf(-1)}
	if !r.begin(h) {
		return nil
	}
	r.holds = append(r.holds, h)
	return h
}

// begin finds the first block of a hold; it is false when the emission's beginning is gone. The caller holds mu.
func (r *Ring) begin(h *hold) bool {
	first, _, found, err := r.find(&search{start: h.emission})
	if err != nil || !found {
		return false
	}
	for first > 0 {
		before, _ := r.block(first - 1)
		if before == nil || !before.end().After(h.emission.Add(-margin)) {
			break
		}
		first--
	}
	e, at := r.block(first)
	h.from, h.first, h.next = e.timeOf(0), r.pages[at].number, first
	h.last = h.first
	h.left = at < r.kept
	return true
}

// grow adds the blocks that a hold lacks, as far as they are there and it may. It tells whether the hold has more pages. The
// caller holds mu.
func (r *Ring) grow(h *hold) bool {
	before := h.last
	for h.growing && h.next < r.next {
		e, _ := r.block(h.next)
		if e == nil || !e.timeOf(0).Before(h.until) {
			h.growing = false
			break
		}
		most := r.size.held
		if h.part = h.part || r.wants(h, e) > most; h.part {
			most /= 2
		}
		last := r.lastPage(e)
		if last-h.first >= uint64(most) {
			h.growing, h.part = false, true
			break
		}
		h.last, h.to, h.next = last, e.end(), h.next+1
	}
	return h.last > before
}

// wants is how many pages a hold would have with all its samples, if they are like those of a block.
func (r *Ring) wants(h *hold, e *entry) int {
	bytes := h.until.Sub(h.from).Seconds() * e.tuning.SampleRateHz * float64(e.format.BytesPerSample())
	return int(min(bytes/float64(r.size.page), math.MaxInt32)) + 1
}

// tend follows the newest block: holds grow with it, and end when their time has passed. The caller holds mu.
func (r *Ring) tend() {
	crowded := false
	r.growing = slices.DeleteFunc(r.growing, func(h *hold) bool {
		crowded = r.grow(h) && h.left || crowded
		return !h.growing
	})
	if now := r.newest.end(); now.After(r.due) {
		r.due = now.Add(r.lasts)
		for i := len(r.holds) - 1; i >= 0; i-- {
			h := r.holds[i]
			if ends := h.to.Add(r.lasts); now.After(ends) {
				r.drop(h)
			} else if ends.Before(r.due) {
				r.due = ends
			}
		}
	}
	if crowded {
		r.choose()
	}
}

// leave notes that the ring moves past a page: the holds that begin in it now have to be among the loudest. The caller holds mu.
func (r *Ring) leave(number uint64) {
	more := false
	for _, h := range r.holds {
		if !h.left && h.first <= number {
			h.left, more = true, true
		}
	}
	if more {
		r.choose()
	}
}

// rank compares what is held first: whole stretches before parts, then the loudest, then the latest. Loudness is
// compared in steps of equalDB, not by differences, for these would give no order.
func rank(a, b *hold) int {
	if a.part != b.part {
		if a.part {
			return 1
		}
		return -1
	}
	return cmp.Or(cmp.Compare(b.level(), a.level()), b.emission.Compare(a.emission))
}

// level is how loud the emission is, in steps of equalDB.
func (h *hold) level() float64 { return math.Round(h.snrDB / equalDB) }

// choose drops the holds for which there is no room beside those that rank before them. Only those count that the ring has
// begun to move past, with all their pages: so that the pages outside of the ring are never too many. The caller holds mu.
func (r *Ring) choose() {
	slices.SortFunc(r.holds, rank) // which they mostly are since the last time
	leaving := make([]*hold, 0, len(r.holds))
	for _, h := range r.holds {
		if h.left {
			leaving = append(leaving, h)
		}
	}
	taken := make([]bool, len(r.pages))
	left := r.size.held
	losers := leaving[:0]
	for _, h := range leaving {
		of := taken[r.place(h.first):][:h.last-h.first+1] // its pages follow one another: none is gone
		more := len(of)
		for _, t := range of {
			if t {
				more--
			}
		}
		if more > left {
			losers = append(losers, h)
			continue
		}
		left -= more
		for i := range of {
			of[i] = true
		}
	}
	for _, h := range losers {
		r.drop(h)
	}
}

// drop ends a hold. The pages outside of the ring that no other wants are spare then. The caller holds mu.
func (r *Ring) drop(h *hold) {
	same := func(other *hold) bool { return other == h }
	r.holds, r.growing = slices.DeleteFunc(r.holds, same), slices.DeleteFunc(r.growing, same)
	if !h.left {
		return
	}
	kept := r.pages[:0]
	for _, p := range r.pages[:r.kept] {
		if h.first <= p.number && p.number <= h.last && !r.wanted(p.number) {
			r.release(p)
			continue
		}
		kept = append(kept, p)
	}
	r.pages = slices.Delete(r.pages, len(kept), r.kept)
	r.kept = len(kept)
}

// wanted tells whether a hold has a page. The caller holds mu.
func (r *Ring) wanted(number uint64) bool {
	return slices.ContainsFunc(r.holds, func(h *hold) bool { return h.first <= number && number <= h.last })
}

// exceeded says that a stretch that begins at start is not whole, and what there is. The caller holds mu.
func (r *Ring) exceeded(start time.Time) *ExceededError {
	e := &ExceededError{Asked: start}
	begin := r.oldest()
	var run Held // of blocks that follow one another
	var next uint64
	nearest := time.Duration(math.MaxInt64)
	consider := func() {
		if away := max(run.From.Sub(start), start.Sub(run.To), 0); away < nearest && !run.From.IsZero() {
			nearest, e.HeldFrom, e.HeldTo = away, run.From, run.To
		}
	}
	for n, b := range r.blocks(0) {
		if n == begin {
			e.From = b.timeOf(0)
			break
		}
		if n != next || run.From.IsZero() {
			consider()
			run.From = b.timeOf(0)
		}
		run.To, next = b.end(), n+1
	}
	consider()
	return e
}
