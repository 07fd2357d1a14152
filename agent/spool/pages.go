package spool

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"os"
)

// bbolt checks its pages in a goroutine of its own when it opens a file for writing, and a panic there ends the process,
// whoever guards the call. So the pages are checked here before: the layout is that of bbolt's file format 2, in the
// byte order of the machine.
const (
	pageHeader    = 16 // id (8), flags (2), count (2), overflow pages (4)
	pageElement   = 16
	bucketHeader  = 16 // root page (8), sequence (8)
	metaBytes     = 64
	metaMagic     = 0xED0CDAED
	metaVersion   = 2
	branchPage    = 1
	leafPage      = 2
	elementBucket = 1
	deepest       = 64 // levels of pages and buckets: far more than any file has
)

// pages walks over the tree of a bbolt file.
type pages struct {
	file     io.ReaderAt
	pageSize int64
	count    uint64 // pages that the file says to have
	seen     []uint64
}

// checkPages proves that every page that can be reached is what it should be. Every fault wraps errDamaged.
func checkPages(file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("look at the spool file: %w", err)
	}
	return checkTree(file, info.Size())
}

func checkTree(file io.ReaderAt, size int64) error {
	p := &pages{file: file}
	root, err := p.readMeta(size)
	if err != nil {
		return err
	}
	return p.walk(root, nil, nil, 0)
}

// readMeta finds the meta page of the last commit and returns the page of the root bucket.
func (p *pages) readMeta(size int64) (uint64, error) {
	var root, newest uint64
	found := false
	sizes := []int64{0, int64(os.Getpagesize())} // where the second meta page is depends on what the first says
	for i := range sizes {
		raw := make([]byte, metaBytes)
		if _, err := p.file.ReadAt(raw, sizes[i]+pageHeader); err != nil {
			continue
		}
		sum := fnv.New64a()
		sum.Write(raw[:metaBytes-8])
		order := binary.NativeEndian
		if order.Uint32(raw) != metaMagic || order.Uint32(raw[4:]) != metaVersion || order.Uint64(raw[56:]) != sum.Sum64() {
			continue
		}
		sizes[1] = int64(order.Uint32(raw[8:]))
		if tx := order.Uint64(raw[48:]); !found || tx > newest {
			found, newest = true, tx
			p.pageSize, root, p.count = int64(order.Uint32(raw[8:])), order.Uint64(raw[16:]), order.Uint64(raw[40:])
		}
	}
	if !found || p.pageSize < 512 || p.count > math.MaxInt32 || int64(p.count) > size/p.pageSize {
		return 0, fmt.Errorf("%w: no sound meta page", errDamaged)
	}
	p.seen = make([]uint64, p.count/64+1)
	return root, nil
}

// walk checks a page and all below it. All its keys must be from low on, and below high unless that is nil.
func (p *pages) walk(id uint64, low, high []byte, depth int) error {
	page, err := p.read(id)
	if err != nil {
		return err
	}
	if depth > deepest {
		return fmt.Errorf("%w: page %d: the tree has no end", errDamaged, id)
	}
	elements, err := readElements(page, low, high)
	if err != nil {
		return fmt.Errorf("%w: page %d: %w", errDamaged, id, err)
	}
	for i, e := range elements {
		if e.child {
			below := high
			if i+1 < len(elements) {
				below = elements[i+1].key
			}
			if err := p.walk(e.page, e.key, below, depth+1); err != nil {
				return err
			}
			continue
		}
		if e.bucket == nil {
			continue
		}
		if root := binary.NativeEndian.Uint64(e.bucket); root != 0 {
			if err := p.walk(root, nil, nil, depth+1); err != nil {
				return err
			}
		} else if _, err := readElements(e.bucket[bucketHeader:], nil, nil); err != nil {
			return fmt.Errorf("%w: page %d: bucket %q: %w", errDamaged, id, e.key, err)
		}
	}
	return nil
}

// read fetches a page with what overflows it, once.
func (p *pages) read(id uint64) ([]byte, error) {
	header := make([]byte, pageHeader)
	if id < 2 || id >= p.count {
		return nil, fmt.Errorf("%w: page %d of %d", errDamaged, id, p.count)
	}
	if _, err := p.file.ReadAt(header, int64(id)*p.pageSize); err != nil {
		return nil, fmt.Errorf("%w: page %d: %w", errDamaged, id, err)
	}
	overflow := uint64(binary.NativeEndian.Uint32(header[12:]))
	if binary.NativeEndian.Uint64(header) != id || overflow >= p.count-id {
		return nil, fmt.Errorf("%w: page %d says that it is page %d", errDamaged, id, binary.NativeEndian.Uint64(header))
	}
	for n := id; n <= id+overflow; n++ {
		if p.seen[n/64]&(1<<(n%64)) != 0 {
			return nil, fmt.Errorf("%w: page %d is used twice", errDamaged, n)
		}
		p.seen[n/64] |= 1 << (n % 64)
	}
	page := make([]byte, int64(overflow+1)*p.pageSize)
	if _, err := p.file.ReadAt(page, int64(id)*p.pageSize); err != nil {
		return nil, fmt.Errorf("%w: page %d: %w", errDamaged, id, err)
	}
	return page, nil
}

// element is one entry of a page.
type element struct {
	key    []byte
	child  bool   // of a branch: page is below
	page   uint64 // of a branch
	bucket []byte // of a leaf: header of a bucket, and its only page when that is inside; nil for a value
}

// readElements reads a page, whose keys must be sorted and from low on below high.
func readElements(page, low, high []byte) ([]element, error) {
	if len(page) < pageHeader {
		return nil, fmt.Errorf("%d bytes", len(page))
	}
	order := binary.NativeEndian
	flags, count := order.Uint16(page[8:]), int(order.Uint16(page[10:]))
	if flags != branchPage && flags != leafPage || flags == branchPage && count == 0 {
		return nil, fmt.Errorf("flags %x with %d entries", flags, count)
	}
	if pageHeader+count*pageElement > len(page) {
		return nil, fmt.Errorf("%d entries in %d bytes", count, len(page))
	}
	elements := make([]element, count)
	for i := range elements {
		at := pageHeader + i*pageElement
		e, err := readElement(page[at:], flags)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", i, err)
		}
		if i > 0 && bytes.Compare(e.key, elements[i-1].key) <= 0 || bytes.Compare(e.key, low) < 0 || high != nil && bytes.Compare(e.key, high) >= 0 {
			return nil, fmt.Errorf("entry %d: key %x is out of order", i, e.key)
		}
		elements[i] = e
	}
	return elements, nil
}

// readElement reads the entry that rest begins with; its key and value are further on in rest.
func readElement(rest []byte, flags uint16) (element, error) {
	order := binary.NativeEndian
	if flags == branchPage {
		pos, keyBytes := uint64(order.Uint32(rest)), uint64(order.Uint32(rest[4:]))
		if pos+keyBytes > uint64(len(rest)) {
			return element{}, fmt.Errorf("key at %d of %d bytes", pos, keyBytes)
		}
		return element{key: rest[pos : pos+keyBytes], child: true, page: order.Uint64(rest[8:])}, nil
	}
	pos, keyBytes, valueBytes := uint64(order.Uint32(rest[4:])), uint64(order.Uint32(rest[8:])), uint64(order.Uint32(rest[12:]))
	if pos+keyBytes+valueBytes > uint64(len(rest)) {
		return element{}, fmt.Errorf("value at %d of %d bytes", pos, valueBytes)
	}
	e := element{key: rest[pos : pos+keyBytes]}
	if order.Uint32(rest)&elementBucket != 0 {
		if valueBytes < bucketHeader {
			return element{}, fmt.Errorf("bucket of %d bytes", valueBytes)
		}
		e.bucket = rest[pos+keyBytes : pos+keyBytes+valueBytes]
	}
	return e, nil
}
