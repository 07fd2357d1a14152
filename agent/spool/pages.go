package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"os"
	"slices"
)

// bbolt checks its pages in a goroutine of its own when it opens a file for writing, and a panic there ends the process,
// whoever guards the call. So the pages are checked here before, and a damaged file is read here too: the layout is that
// of bbolt's file format 2, in the byte order of the machine.
const (
	pageHeader    = 16 // id (8), flags (2), count (2), overflow pages (4)
	pageElement   = 16
	bucketHeader  = 16 // root page (8), sequence (8)
	metaBytes     = 64
	metaMagic     = 0xED0CDAED
	metaVersion   = 2
	branchPage    = 1
	leafPage      = 2
	metaFlag      = 4
	freelistPage  = 16
	noFreelist    = math.MaxUint64 // instead of the page where it is
	manyFree      = math.MaxUint16 // instead of a count: that is before the list
	pageIDBytes   = 8
	elementBucket = 1
	deepest       = 64 // levels of pages and buckets: far more than any file has
	// A file is read ahead by as much as reading goes straight on, between these.
	leastAhead, mostAhead = 16 << 10, 1 << 20
)

// pages walks over the trees of a bbolt file.
type pages struct {
	file     io.ReaderAt
	size     int64 // bytes of the file
	pageSize int64
	count    uint64 // pages that the file says to have
	seen     []uint64
	// visit is given every entry that is no bucket, with the path of its bucket; key and value are valid until it returns.
	visit func(bucket string, key, value []byte) error
	// lost, if set, is told what cannot be read: keys of a bucket from low on, below high unless that is nil. The walk then
	// goes on. Without it the walk ends with the first fault.
	lost func(bucket string, low, high []byte)

	// only, if set, tells which buckets to read.
	only func(bucket string) bool
	// sequences, if set, takes the sequence of each bucket.
	sequences map[string]uint64

	scratch []element
	ahead   []byte // read ahead, from aheadAt on
	aheadAt int64
	step    int64 // how much to read ahead next
}

// metaPage is what one of the two meta pages says.
type metaPage struct {
	pageSize    int64
	root, count uint64
	freelist    uint64 // its page
	tx          uint64
	header      bool // it says what it is, as every page does
}

// checkPages proves that every page that can be reached is what it should be, and visits all entries. Every fault wraps
// errDamaged, but for those of visit.
func checkPages(file *os.File, visit func(bucket string, key, value []byte) error) error {
	size, err := sizeOf(file)
	if err != nil {
		return err
	}
	return checkTree(file, size, visit)
}

func sizeOf(file *os.File) (int64, error) {
	info, err := file.Stat()
	if err != nil {
		return 0, fmt.Errorf("look at the spool file: %w", err)
	}
	return info.Size(), nil
}

func checkTree(file io.ReaderAt, size int64, visit func(bucket string, key, value []byte) error) error {
	metas := readMetas(file)
	if len(metas) == 0 || metas[0].count > uint64(size/metas[0].pageSize) {
		return fmt.Errorf("%w: no sound meta page", errDamaged)
	}
	if len(metas) < 2 || metas[0].tx != metas[1].tx+1 || !metas[0].header || !metas[1].header {
		// bbolt would go on from the commit before the last: its records would be gone, and their numbers given again. A
		// power cut leaves no such page, as what is in one is less than a sector.
		return fmt.Errorf("%w: one of the meta pages is not sound", errDamaged)
	}
	p := newPages(file, size, metas[0])
	p.visit = visit
	if err := p.walk("", metas[0].root, nil, nil, 0); err != nil || metas[0].freelist == noFreelist {
		return err
	}
	return p.checkFreelist(metas[0].freelist)
}

func newPages(file io.ReaderAt, size int64, meta metaPage) *pages {
	return &pages{file: file, size: size, pageSize: meta.pageSize, count: meta.count, seen: make([]uint64, meta.count/64+1)}
}

// readMetas reads the sound meta pages, that of the last commit first.
func readMetas(file io.ReaderAt) []metaPage {
	var metas []metaPage
	at := []int64{0, int64(os.Getpagesize())} // where the second meta page is depends on what the first says
	for i := range at {
		page := make([]byte, pageHeader+metaBytes)
		if _, err := file.ReadAt(page, at[i]); err != nil {
			continue
		}
		raw := page[pageHeader:]
		sum := fnv.New64a()
		sum.Write(raw[:metaBytes-8])
		order := binary.NativeEndian
		if order.Uint32(raw) != metaMagic || order.Uint32(raw[4:]) != metaVersion || order.Uint64(raw[56:]) != sum.Sum64() {
			continue
		}
		m := metaPage{
			pageSize: int64(order.Uint32(raw[8:])), root: order.Uint64(raw[16:]), freelist: order.Uint64(raw[32:]),
			count: order.Uint64(raw[40:]), tx: order.Uint64(raw[48:]),
			header: order.Uint64(page) == uint64(i) && order.Uint16(page[8:]) == metaFlag,
		}
		if m.pageSize < 512 || m.count > math.MaxInt32 {
			continue
		}
		at[1] = m.pageSize
		metas = append(metas, m)
	}
	if len(metas) == 2 && metas[1].tx > metas[0].tx {
		metas[0], metas[1] = metas[1], metas[0]
	}
	return metas
}

// fault is a page that is not what it should be.
func (p *pages) fault(bucket string, low, high []byte, err error) error {
	if p.lost == nil {
		return err
	}
	p.lost(bucket, low, high)
	return nil
}

// walk goes over a page and all below it. Its first key must be low, unless that is nil, and all below high, unless that is.
func (p *pages) walk(bucket string, id uint64, low, high []byte, depth int) error {
	page, err := p.read(id)
	if err == nil && depth > deepest {
		err = fmt.Errorf("%w: page %d: the tree has no end", errDamaged, id)
	}
	if err != nil {
		return p.fault(bucket, low, high, err)
	}
	if flags := binary.NativeEndian.Uint16(page[8:]); flags == branchPage {
		return p.walkBranch(bucket, id, bytes.Clone(page), low, high, depth)
	}
	return p.walkLeaf(bucket, id, page, low, high, depth)
}

func (p *pages) walkBranch(bucket string, id uint64, page, low, high []byte, depth int) error {
	children, err := readElements(nil, page, low, high)
	if err != nil {
		if err := p.fault(bucket, low, high, fmt.Errorf("%w: page %d: %w", errDamaged, id, err)); err != nil {
			return err
		}
	}
	for i, c := range children {
		from, below := c.key, high
		if i+1 < len(children) {
			below = children[i+1].key
		}
		if err != nil { // its keys are in doubt
			from, below = nil, nil
		}
		if err := p.walk(bucket, c.page, from, below, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (p *pages) walkLeaf(bucket string, id uint64, page, low, high []byte, depth int) error {
	var into []element
	if holdsBuckets(page) {
		page = bytes.Clone(page) // what is below is read while this page is needed
	} else {
		into, p.scratch = p.scratch, nil
	}
	elements, err := readElements(into, page, low, high)
	if err != nil {
		if err := p.fault(bucket, low, high, fmt.Errorf("%w: page %d: %w", errDamaged, id, err)); err != nil {
			return err
		}
	}
	for _, e := range elements {
		if e.bucket != nil {
			err = p.walkBucket(path(bucket, e.key), id, e.bucket, depth+1)
		} else {
			err = p.visit(bucket, e.key, e.value)
		}
		if err != nil {
			return err
		}
	}
	p.scratch = elements[:0]
	return nil
}

// walkBucket goes over a bucket: its own pages, or the only one that is inside the entry for it.
func (p *pages) walkBucket(bucket string, id uint64, content []byte, depth int) error {
	if p.sequences != nil {
		p.sequences[bucket] = binary.NativeEndian.Uint64(content[8:])
	}
	if p.only != nil && !p.only(bucket) {
		return nil
	}
	if root := binary.NativeEndian.Uint64(content); root != 0 {
		return p.walk(bucket, root, nil, nil, depth)
	}
	if inside := content[bucketHeader:]; len(inside) >= pageHeader && binary.NativeEndian.Uint16(inside[8:]) == leafPage && depth <= deepest {
		return p.walkLeaf(bucket, id, inside, nil, nil, depth)
	}
	return p.fault(bucket, nil, nil, fmt.Errorf("%w: page %d: bucket %q has no sound page", errDamaged, id, bucket))
}

// checkFreelist proves that what the file says is free is not in use: bbolt believes it, and would write there. The tree was
// walked before.
func (p *pages) checkFreelist(id uint64) error {
	page, err := p.read(id)
	if err != nil {
		return err
	}
	order := binary.NativeEndian
	flags, count, list := order.Uint16(page[8:]), uint64(order.Uint16(page[10:])), page[pageHeader:]
	if count == manyFree {
		count, list = order.Uint64(list), list[pageIDBytes:]
	}
	if flags != freelistPage || count > uint64(len(list)/pageIDBytes) {
		return fmt.Errorf("%w: page %d: flags %x with %d free pages", errDamaged, id, flags, count)
	}
	last := uint64(0)
	for i := range count {
		free := order.Uint64(list[i*pageIDBytes:])
		if free < 2 || free <= last || free >= p.count || p.wasSeen(free) {
			return fmt.Errorf("%w: page %d: page %d is not free", errDamaged, id, free)
		}
		last = free
	}
	return nil
}

func path(bucket string, key []byte) string {
	if bucket == "" {
		return string(key)
	}
	return bucket + "/" + string(key)
}

// read fetches a page with what overflows it, once. It is valid until the next one is read.
func (p *pages) read(id uint64) ([]byte, error) {
	if id < 2 || id >= p.count {
		return nil, fmt.Errorf("%w: page %d of %d", errDamaged, id, p.count)
	}
	header, err := p.bytes(int64(id)*p.pageSize, p.pageSize)
	if err != nil {
		return nil, fmt.Errorf("%w: page %d: %w", errDamaged, id, err)
	}
	overflow := uint64(binary.NativeEndian.Uint32(header[12:]))
	if binary.NativeEndian.Uint64(header) != id || overflow >= p.count-id {
		return nil, fmt.Errorf("%w: page %d says that it is page %d", errDamaged, id, binary.NativeEndian.Uint64(header))
	}
	for n := id; n <= id+overflow; n++ {
		if p.wasSeen(n) {
			return nil, fmt.Errorf("%w: page %d is used twice", errDamaged, n)
		}
		p.seen[n/64] |= 1 << (n % 64)
	}
	if overflow == 0 {
		return header, nil
	}
	page, err := p.bytes(int64(id)*p.pageSize, int64(overflow+1)*p.pageSize)
	if err != nil {
		return nil, fmt.Errorf("%w: page %d: %w", errDamaged, id, err)
	}
	return page, nil
}

func (p *pages) wasSeen(id uint64) bool { return p.seen[id/64]&(1<<(id%64)) != 0 }

// bytes reads n bytes at a place, and more while reading goes straight on.
func (p *pages) bytes(at, n int64) ([]byte, error) {
	if end := p.aheadAt + int64(len(p.ahead)); at >= p.aheadAt && at+n <= end {
		return p.ahead[at-p.aheadAt:][:n], nil
	} else if at >= p.aheadAt && at <= end+p.pageSize {
		p.step = min(max(p.step*2, leastAhead), mostAhead)
	} else {
		p.step = 0
	}
	want := min(max(n, p.step), p.size-at)
	if want < n {
		return nil, io.ErrUnexpectedEOF
	}
	if int64(cap(p.ahead)) < want {
		p.ahead = make([]byte, want)
	}
	p.ahead, p.aheadAt = p.ahead[:want], at
	if got, err := p.file.ReadAt(p.ahead, at); err != nil && (!errors.Is(err, io.EOF) || int64(got) < n) {
		p.ahead = p.ahead[:0]
		return nil, err
	}
	return p.ahead[:n], nil
}

// element is one entry of a page.
type element struct {
	key, value []byte
	page       uint64 // of a branch: what is below
	bucket     []byte // of a leaf: header of a bucket, and its only page when that is inside; nil for a value
}

// holdsBuckets tells whether a leaf has a bucket in it; it trusts no byte.
func holdsBuckets(page []byte) bool {
	count := int(binary.NativeEndian.Uint16(page[10:]))
	for i := range min(count, (len(page)-pageHeader)/pageElement) {
		if binary.NativeEndian.Uint32(page[pageHeader+i*pageElement:])&elementBucket != 0 {
			return true
		}
	}
	return false
}

// readElements reads a page, whose keys must be sorted and from low on below high. Beside an error are the entries that can
// be read all the same; into is used for them. The first key is low itself: were it not, bbolt would enter the page a second time
// when it writes it again, and the first entry would lead to a page that is free.
func readElements(into []element, page, low, high []byte) ([]element, error) {
	order := binary.NativeEndian
	flags, count := order.Uint16(page[8:]), int(order.Uint16(page[10:]))
	if flags != branchPage && flags != leafPage || flags == branchPage && count == 0 {
		return nil, fmt.Errorf("flags %x with %d entries", flags, count)
	}
	if pageHeader+count*pageElement > len(page) {
		return nil, fmt.Errorf("%d entries in %d bytes", count, len(page))
	}
	elements := slices.Grow(into[:0], count)
	var fault error
	for i := range count {
		e, err := readElement(page[pageHeader+i*pageElement:], flags)
		if err != nil {
			fault = fmt.Errorf("entry %d: %w", i, err)
			continue
		}
		if n := len(elements); n > 0 && bytes.Compare(e.key, elements[n-1].key) <= 0 ||
			i == 0 && low != nil && !bytes.Equal(e.key, low) || high != nil && bytes.Compare(e.key, high) >= 0 {
			fault = fmt.Errorf("entry %d: key %x is out of order", i, e.key)
		}
		elements = append(elements, e)
	}
	return elements, fault
}

// readElement reads the entry that rest begins with; its key and value are further on in rest.
func readElement(rest []byte, flags uint16) (element, error) {
	order := binary.NativeEndian
	if flags == branchPage {
		pos, keyBytes := uint64(order.Uint32(rest)), uint64(order.Uint32(rest[4:]))
		if pos+keyBytes > uint64(len(rest)) {
			return element{}, fmt.Errorf("key at %d of %d bytes", pos, keyBytes)
		}
		return element{key: rest[pos : pos+keyBytes], page: order.Uint64(rest[8:])}, nil
	}
	pos, keyBytes, valueBytes := uint64(order.Uint32(rest[4:])), uint64(order.Uint32(rest[8:])), uint64(order.Uint32(rest[12:]))
	if pos+keyBytes+valueBytes > uint64(len(rest)) {
		return element{}, fmt.Errorf("value at %d of %d bytes", pos, valueBytes)
	}
	e := element{key: rest[pos : pos+keyBytes], value: rest[pos+keyBytes : pos+keyBytes+valueBytes]}
	if order.Uint32(rest)&elementBucket != 0 {
		if valueBytes < bucketHeader {
			return element{}, fmt.Errorf("bucket of %d bytes", valueBytes)
		}
		e.bucket = e.value
	}
	return e, nil
}
