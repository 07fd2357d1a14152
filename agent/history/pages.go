package history

import (
	"iter"
	"sort"
	"time"
)

const (
	// mostPages is how finely the memory is cut: held stretches begin and end at the pages' edges.
	mostPages = 1024
	// leastBytes and leastPage are the sizes of the smallest ring and of its pages.
	leastBytes, leastPage = 64, 16
	// heldShare of the pages may be held.
	heldShare = 4
	// A page lists the blocks that begin in it, one for each bytesAnEntry and a few more: with blocks that are smaller on
	// average, the ring reaches back less than its bytes would allow. A KiwiSDR's blocks, the smallest there are, have 2048 bytes.
	bytesAnEntry, moreEntries = 1024, 4
)

// sizes are fixed when a ring is made.
type sizes struct {
	page    uint64 // bytes
	pages   int
	entries int // at most in a page
	held    int // pages, at most
	block   int // bytes of the largest block that always fits
}

func sizesOf(limit int, holding bool) sizes {
	s := sizes{page: uint64(max(leastPage, limit/mostPages))}
	s.pages = limit / int(s.page)
	s.entries = int(s.page)/bytesAnEntry + moreEntries
	if holding {
		s.held = s.pages / heldShare
	}
	s.block = (s.pages - s.held - 1) * int(s.page) // wherever in a page it begins
	return s
}

// page is one piece of the memory, and what lies in it.
type page struct {
	number  uint64 // of its first byte's absolute position, over the size of a page
	first   uint64 // number of the first block that begins in it, or of the next one when none does
	entries []entry
	data    []byte
}

// reserve finds pages for a block of size bytes that begins at head. The caller holds mu.
func (r *Ring) reserve(size int) {
	if r.data == nil {
		r.allocate()
	}
	if n := len(r.pages); n > 0 && r.head < r.nextPage*r.size.page && len(r.pages[n-1].entries) == r.size.entries {
		r.head = r.nextPage * r.size.page
	}
	for last := (r.head + uint64(size) - 1) / r.size.page; r.nextPage <= last; r.nextPage++ {
		for len(r.spare) == 0 {
			r.retire()
		}
		p := r.spare[len(r.spare)-1]
		r.spare = r.spare[:len(r.spare)-1]
		p.number, p.first = r.nextPage, r.next
		if p.number*r.size.page > r.head {
			p.first++ // the block begins before it
		}
		if len(r.pages) == cap(r.pages) {
			r.pages = r.order[:copy(r.order, r.pages)]
		}
		r.pages = append(r.pages, p)
	}
}

func (r *Ring) allocate() {
	size := int(r.size.page)
	r.data = make([]byte, r.size.pages*size)
	r.order = make([]*page, 2*r.size.pages)
	r.pages = r.order[:0]
	all := make([]page, r.size.pages)
	for i := range all {
		p := &all[len(all)-1-i]
		p.data = r.data[(len(all)-1-i)*size:][:size:size]
		r.spare = append(r.spare, p)
	}
}

// retire takes the oldest page out of the ring. It is spare then, unless a hold wants it. The caller holds mu.
func (r *Ring) retire() {
	p := r.pages[r.kept]
	r.leave(p.number)
	if r.wanted(p.number) {
		r.kept++
		return
	}
	copy(r.pages[1:], r.pages[:r.kept])
	r.pages = r.pages[1:]
	r.release(p)
}

func (r *Ring) release(p *page) {
	p.entries = p.entries[:0]
	r.spare = append(r.spare, p)
}

// forget empties the ring and lets go of what is held. The caller holds mu.
func (r *Ring) forget() {
	for _, p := range r.pages {
		r.release(p)
	}
	r.pages, r.kept = r.order[:0], 0
	r.holds, r.growing, r.due = nil, nil, time.Time{}
	r.head = r.nextPage * r.size.page
}

// write copies a block's bytes to head, where reserve found room, and lists it as newest says. The caller holds mu.
func (r *Ring) write(raw []byte) {
	i := len(r.pages) - int(r.nextPage-r.head/r.size.page)
	r.pages[i].entries = append(r.pages[i].entries, r.newest)
	for ; len(raw) > 0; i++ {
		n := copy(r.pages[i].data[r.head%r.size.page:], raw)
		raw = raw[n:]
		r.head += uint64(n)
	}
}

// read appends n bytes from an absolute position, of a block that begins in page i. The caller holds mu.
func (r *Ring) read(dst []byte, i int, from uint64, n int) []byte {
	for i += int(from/r.size.page - r.pages[i].number); n > 0; i++ {
		part := r.pages[i].data[from%r.size.page:]
		part = part[:min(n, len(part))]
		dst = append(dst, part...)
		n -= len(part)
		from += uint64(len(part))
	}
	return dst
}

// block finds a block that is there, and the place of the page that it begins in; nil when it is gone or still to come.
// The caller holds mu.
func (r *Ring) block(number uint64) (e *entry, at int) {
	i := sort.Search(len(r.pages), func(i int) bool { return r.pages[i].first > number }) - 1
	if i < 0 {
		return nil, 0
	}
	p := r.pages[i]
	k := number - p.first
	if k >= uint64(len(p.entries)) || !r.whole(i, &p.entries[k]) {
		return nil, 0
	}
	return &p.entries[k], i
}

// whole tells whether all pages are there of a block that begins in page i. The caller holds mu.
func (r *Ring) whole(i int, e *entry) bool {
	last := r.lastPage(e)
	i += int(last - r.pages[i].number)
	return i < len(r.pages) && r.pages[i].number == last
}

// lastPage is the number of the page with the last byte of a block.
func (r *Ring) lastPage(e *entry) uint64 { return (e.at + e.bytes() - 1) / r.size.page }

// blocks are those that are there, with their numbers, oldest first, from one on. The caller holds mu.
func (r *Ring) blocks(from uint64) iter.Seq2[uint64, *entry] {
	return func(yield func(uint64, *entry) bool) {
		i := sort.Search(len(r.pages), func(i int) bool { return r.pages[i].first > from }) - 1
		for i = max(i, 0); i < len(r.pages); i++ {
			p := r.pages[i]
			for k := range p.entries {
				number := p.first + uint64(k)
				if number >= from && r.whole(i, &p.entries[k]) && !yield(number, &p.entries[k]) {
					return
				}
			}
		}
	}
}

// place is that of the page with a number, which is in use. The caller holds mu.
func (r *Ring) place(number uint64) int {
	return sort.Search(len(r.pages), func(i int) bool { return r.pages[i].number >= number })
}

// oldest is the number of the ring's oldest block. The caller holds mu.
func (r *Ring) oldest() uint64 {
	if r.kept == len(r.pages) {
		return r.next
	}
	return r.pages[r.kept].first
}
