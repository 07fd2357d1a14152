package spool

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"github.com/fulgidus/heimdall/protocol"
)

const (
	// liveAge is how long a durable record counts as live; after that newer ones go before it.
	liveAge = 10 * time.Second
	// markEvery is how often the age of records is noted.
	markEvery = time.Second
	// A search reads at most so many records, or bytes, of one lane.
	searchRecords = 64
	// searchRuns is in how many runs of numbers a search looks at most.
	searchRuns  = 32
	searchBytes = 128 << 10
	// readAgainAfter is how long a record is left alone whose samples could not be read: the disk may come back, and what
	// else there is does not wait for it.
	readAgainAfter = time.Minute
)

// lane is what is known of one lane. Records from live on are live and handed out first; below it, from back on, is
// the backlog.
type lane struct {
	held amount
	last place // the highest durable place
	live place // the next live one to read
	back place // the next of the backlog to read
	// What was read and not yet handed out.
	liveReady, backReady []found
}

// unread forgets what was read and not handed out, so that it is found again in the backlog.
func (l *lane) unread() {
	for _, ready := range [][]found{l.liveReady, l.backReady} {
		if len(ready) > 0 {
			l.back = earlier(l.back, ready[0].place)
		}
	}
	l.liveReady, l.backReady = nil, nil
}

type found struct {
	place place
	item  Item
}

// mark says that all records before place were durable at a time.
type mark struct {
	at    time.Time
	place place
}

// search is where to read for items: in runs, and nothing below until is of interest beside them.
type search struct {
	lane    int
	backlog bool
	runs    []run
	until   place
	turn    uint64
}

// run is the places from one up to another that is not part of it.
type run struct{ from, until place }

// Next waits for the next record to send and returns it: by lane, live before backlog, each once until Rewind or Retry.
// It fails only when ctx ends or the spool is closed.
func (s *Spool) Next(ctx context.Context) (Item, error) {
	for {
		s.mu.Lock()
		closed, fresh := s.closed, s.fresh
		s.mu.Unlock()
		if closed {
			return Item{}, ErrClosed
		}
		if item, ok := s.find(); ok {
			return item, nil
		}
		select {
		case <-fresh:
		case <-ctx.Done():
			return Item{}, ctx.Err()
		}
	}
}

// find is the next record to send, if there is one.
func (s *Spool) find() (Item, bool) {
	s.findMu.Lock()
	defer s.findMu.Unlock()
	for {
		s.mu.Lock()
		s.demoteOld(time.Now())
		s.readAgain(time.Now())
		item, where, ok := s.pick()
		s.mu.Unlock()
		if ok {
			return item, true
		}
		if where == nil {
			return Item{}, false
		}
		got, err := s.read(*where)
		s.mu.Lock()
		if err != nil {
			s.damage = err
			s.await(true)
			s.mu.Unlock()
			return Item{}, false // the writer repairs the file, or tries it again, and then wakes Next
		}
		if where.turn == s.turn {
			s.accept(*where, got)
		}
		s.mu.Unlock()
	}
}

// pick takes what is ready, or tells where to look for it. mu must be held.
func (s *Spool) pick() (Item, *search, bool) {
	for i := range s.lanes {
		l := &s.lanes[i]
		if item, ok := s.pop(&l.liveReady); ok {
			return item, nil, true
		}
		if !l.last.less(l.live) {
			until := l.last.after()
			return Item{}, &search{lane: i, runs: []run{{l.live, until}}, until: until, turn: s.turn}, false
		}
	}
	for i := range s.lanes {
		l := &s.lanes[i]
		if item, ok := s.pop(&l.backReady); ok {
			item.Backlog = true
			return item, nil, true
		}
		if l.back.less(l.live) && !l.last.less(l.back) {
			if where := s.backlog(i); len(where.runs) > 0 {
				return Item{}, &where, false
			}
		}
	}
	return Item{}, nil, false
}

// backlog tells where in a lane's backlog to read next: past what was handed out or acknowledged already, which may be
// much more than what is left.
func (s *Spool) backlog(lane int) search {
	l := &s.lanes[lane]
	where := search{lane: lane, backlog: true, turn: s.turn}
	for len(where.runs) < searchRuns {
		r, ok := s.nextRun(l.back, l.live)
		if !ok {
			l.back = l.live
			break
		}
		where.runs = append(where.runs, r)
		l.back = r.until
	}
	if n := len(where.runs); n > 0 {
		l.back, where.until = where.runs[0].from, l.back
	}
	return where
}

// nextRun finds the first places from one on, below another, whose numbers are to be handed out.
func (s *Spool) nextRun(from, below place) (run, bool) {
	for _, e := range s.epochs {
		if e.number < from.epoch || e.number > below.epoch {
			continue
		}
		seq := uint64(1)
		if e.number == from.epoch {
			seq = max(from.seq, 1)
		}
		first, last, ok := e.wanted(seq)
		r := run{place{e.number, first}, place{e.number, last}.after()}
		if ok {
			r.until = earlier(r.until, below)
			return r, r.from.less(r.until)
		}
	}
	return run{}, false
}

// numbersFrom is the part of a set that begins with the range that n is in, or with the first above it.
func numbersFrom(r protocol.Ranges, n uint64) protocol.Ranges {
	i, _ := slices.BinarySearchFunc(r, n, func(r protocol.Range, n uint64) int { return cmp.Compare(r.To, n) })
	return r[i:]
}

// wanted finds the first run of numbers, from seq on, that are to be handed out.
func (e *epoch) wanted(seq uint64) (first, last uint64, ok bool) {
	for {
		held := numbersFrom(e.held, seq)
		if len(held) == 0 {
			return 0, 0, false
		}
		first, last = max(seq, held[0].From), held[0].To
		seq = first
		for _, not := range []protocol.Ranges{e.sent, e.dying, e.acked} {
			if not = numbersFrom(not, seq); len(not) == 0 || not[0].From > last {
				continue
			}
			if not[0].From <= seq {
				seq = not[0].To + 1
			} else {
				last = not[0].From - 1
			}
		}
		if seq == first {
			return first, last, true
		}
	}
}

// pop takes the first item that is still to be handed out.
func (s *Spool) pop(ready *[]found) (Item, bool) {
	for len(*ready) > 0 {
		f := (*ready)[0]
		*ready = (*ready)[1:]
		if e := s.epochNumber(f.place.epoch); s.wanted(e, f.place.seq) {
			e.sent.Add(f.place.seq)
			e.offered.Add(f.place.seq)
			return f.item, true
		}
	}
	return Item{}, false
}

func (s *Spool) wanted(e *epoch, seq uint64) bool {
	return e != nil && e.held.Contains(seq) && !e.sent.Contains(seq) && !e.dying.Contains(seq) && !e.acked.Contains(seq)
}

// accept makes the outcome of a search ready. mu must be held.
func (s *Spool) accept(where search, got catch) {
	l := &s.lanes[where.lane]
	ready := &l.liveReady
	if where.backlog {
		ready = &l.backReady
		l.back = got.end
	} else {
		l.live = got.end
	}
	for _, f := range got.rows {
		e := s.epochNumber(f.place.epoch)
		if !s.wanted(e, f.place.seq) || where.lane == LaneGap.index() && s.stillGrows(f.place) {
			continue
		}
		f.item.Spool = e.identity
		*ready = append(*ready, f)
	}
	for _, p := range got.corrupt {
		if e := s.epochNumber(p.epoch); s.wanted(e, p.seq) {
			e.sent.Add(p.seq)
			s.given = append(s.given, surrender{e, protocol.Ranges{{From: p.seq, To: p.seq}}, protocol.Gap_REASON_CORRUPT})
			s.await(true)
			s.declareStrayed(where.lane, got.strayed[p])
		}
	}
	for _, p := range got.unread {
		s.passOver(p, got.unreadErr)
	}
}

// passOver leaves a record alone for a while. mu must be held.
func (s *Spool) passOver(p place, why error) {
	e := s.epochNumber(p.epoch)
	if !s.wanted(e, p.seq) {
		return
	}
	e.sent.Add(p.seq)
	if len(s.unread) == 0 {
		s.log.Warn("records cannot be read just now; they are tried again", "error", why, "after", readAgainAfter)
		s.unread, s.unreadSince = map[uint32]protocol.Ranges{}, time.Now()
	}
	seqs := s.unread[p.epoch]
	seqs.Add(p.seq)
	s.unread[p.epoch] = seqs
}

// readAgain makes what was passed over be looked for again when it is time to. mu must be held.
func (s *Spool) readAgain(now time.Time) {
	if len(s.unread) == 0 || now.Sub(s.unreadSince) < readAgainAfter {
		return
	}
	for number, seqs := range s.unread {
		if e := s.epochNumber(number); e != nil {
			s.retry(e, seqs)
		}
	}
	s.unread = nil
}

// declareStrayed declares the number that a record had before its key was damaged: nothing else would speak of it. mu must
// be held.
func (s *Spool) declareStrayed(lane int, home place) {
	e := s.epochNumber(home.epoch)
	if e == nil || home.seq == 0 || home.seq >= e.next || e.held.Contains(home.seq) {
		return
	}
	var number protocol.Ranges
	number.Add(home.seq)
	s.declare(loss{reason: protocol.Gap_REASON_CORRUPT, epoch: e, lane: Lanes()[lane], ranges: number})
}

// stillGrows tells whether a newer content of the Gap record at a place waits for its commit; if not, the record is
// about to be seen and grows no more.
func (s *Spool) stillGrows(at place) bool {
	for key, gap := range s.gaps {
		if gap.place == at {
			if gap.version != gap.durable {
				return true
			}
			delete(s.gaps, key)
		}
	}
	return false
}

// catch is what a search found.
type catch struct {
	rows      []found
	corrupt   []place         // not as they were written
	strayed   map[place]place // of those, the ones whose key is wrong in one bit: where they belong
	unread    []place         // in a segment file that cannot be read just now
	unreadErr error
	end       place // where to go on
}

// read reads records of one lane.
func (s *Spool) read(where search) (catch, error) {
	var rows []stored
	got := catch{}
	err := s.view(func(tx *bbolt.Tx) error {
		rows, got = nil, catch{end: where.until, strayed: map[place]place{}}
		bytes := 0
		cursor := tx.Bucket(laneBucket(where.lane)).Cursor()
		for _, run := range where.runs {
			for k, v := cursor.Seek(run.from.key()); k != nil; k, v = cursor.Next() {
				p, ok := placeOf(k)
				if !ok || !p.less(run.until) {
					break
				}
				if len(rows) >= searchRecords || bytes >= searchBytes {
					got.end = p
					return nil
				}
				r, err := decodeRecord(k, v)
				if err != nil {
					got.corrupt = append(got.corrupt, p)
					if home, ok := keyBefore(k, v); ok {
						got.strayed[p] = home
					}
					continue
				}
				bytes += r.size()
				rows = append(rows, stored{p, r})
			}
		}
		return nil
	})
	if err != nil {
		return catch{}, err
	}
	for _, r := range rows {
		item, err := r.item(s.dir)
		switch {
		case errors.Is(err, errCorrupt):
			got.corrupt = append(got.corrupt, r.place)
		case err != nil:
			got.unread, got.unreadErr = append(got.unread, r.place), err
		default:
			got.rows = append(got.rows, found{r.place, item})
		}
	}
	return got, nil
}

// stored is a record with its place.
type stored struct {
	place place
	record
}

// item is the record as handed out, but for the identity; its payload is read if it is in a segment file.
func (r stored) item(dir string) (Item, error) {
	payload := r.payload
	if r.ref != nil {
		var err error
		if payload, err = readSegment(filepath.Join(dir, iqName), r.ref); err != nil {
			return Item{}, err
		}
	}
	return Item{Seq: r.place.seq, Kind: r.kind, Time: time.Unix(0, r.time).UTC(), Payload: payload}, nil
}

// end is the place of the next record that will be durable.
func (s *Spool) end() place {
	c := s.current()
	return place{c.number, c.durable + 1}
}

// demote makes backlog of all live records below floor. mu must be held.
func (s *Spool) demote(floor place) {
	for i := range s.lanes {
		l := &s.lanes[i]
		if !l.live.less(floor) && (len(l.liveReady) == 0 || !l.liveReady[0].place.less(floor)) {
			continue
		}
		l.unread()
		l.back = earlier(l.back, l.live)
		l.live = floor // what was handed out from there on is not found again
		s.turn++
	}
}

// demoteOld makes backlog of what has been durable for too long.
func (s *Spool) demoteOld(now time.Time) {
	for len(s.marks) > 0 && now.Sub(s.marks[0].at) > liveAge {
		s.demote(s.marks[0].place)
		s.marks = s.marks[1:]
	}
}

// renew wakes every Next. mu must be held.
func (s *Spool) renew() {
	close(s.fresh)
	s.fresh = make(chan struct{})
}

// Rewind makes everything that is not acknowledged be handed out again, as backlog.
func (s *Spool) Rewind() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.epochs {
		e.sent = nil
	}
	s.reread()
}

// reread makes every record that is to be handed out be looked for again, as backlog. mu must be held.
func (s *Spool) reread() {
	s.demote(s.end())
	for i := range s.lanes {
		s.lanes[i].unread()
		s.lanes[i].back = place{}
	}
	s.turn++
	s.renew()
}

// Retry makes the given records be handed out again, as far as they are still held.
func (s *Spool) Retry(spool [protocol.SpoolBytes]byte, seqs protocol.Ranges) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.epochOf(spool); e != nil && !seqs.Empty() {
		s.retry(e, seqs)
	}
}

// retry is Retry with mu held.
func (s *Spool) retry(e *epoch, seqs protocol.Ranges) {
	if seqs.Empty() {
		return
	}
	e.sent = e.sent.Subtract(seqs)
	for i := range s.lanes {
		l := &s.lanes[i]
		l.unread()
		l.back = earlier(l.back, place{e.number, seqs.First()})
	}
	s.turn++
	s.renew()
}
