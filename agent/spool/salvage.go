package spool

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"go.etcd.io/bbolt"

	"github.com/fulgidus/heimdall/protocol"
)

const (
	// So many records, or bytes, go from a damaged file to a new one in one commit.
	salvageBatch = 1000
	salvageBytes = 1 << 20
	// mostOverflow is how many pages one record can take at most.
	mostOverflow = 64
)

// salvager reads what can be read of a damaged file, without bbolt. The tree of the last commit tells what belongs to the
// spool. Where it cannot be read, the tree of the commit before is looked at, and then every page that looks like a leaf:
// a record is believed for its own checksum, which covers the key. Pages that are no longer in use are among these, so
// that a record may come back that had been acknowledged; it has its number and content, and a collector drops it.
type salvager struct {
	file     *os.File // nil when it cannot be opened
	size     int64
	pageSize int64
	metas    []metaPage
	seen     []uint64 // pages of the last commit's tree that could be read

	to      *store
	highest map[uint32]uint64          // of each known identity: the highest number found, 0 for none
	wanted  map[uint32]protocol.Ranges // if not nil: the numbers that were in the file
	lost    map[string][]span          // keys that the last commit's tree does not show, by bucket
	all     bool                       // it shows nothing
	rows    []row
	bytes   int
	saved   int64 // records

	commands, order map[string][]byte
}

// span is the keys from one on and below another, if that is not nil.
type span struct{ low, high []byte }

func (s span) has(key []byte) bool {
	return bytes.Compare(key, s.low) >= 0 && (s.high == nil || bytes.Compare(key, s.high) < 0)
}

// row is a record on its way from one file to another.
type row struct {
	lane       int
	key, value []byte
}

func newSalvager(path string) (*salvager, error) {
	w := &salvager{pageSize: int64(os.Getpagesize()), lost: map[string][]span{}}
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the damaged spool: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("read the damaged spool: %w", err)
	}
	w.file, w.size = file, info.Size()
	if w.metas = readMetas(w.file); len(w.metas) > 0 {
		w.pageSize = w.metas[0].pageSize
	}
	return w, nil
}

func (w *salvager) close() { w.file.Close() }

// tree is a walk over what one meta page speaks of.
func (w *salvager) tree(meta metaPage) *pages {
	p := newPages(w.file, w.size, meta)
	p.lost = func(string, []byte, []byte) {}
	return p
}

// epochs reads the identities, as far as that is possible: of the trees, else from any page that holds them, else from the
// copy beside the file. Unless it is sure that their numbers are those of the last commit, they may have gone on to any.
func (w *salvager) epochs() []*epoch {
	found := identities{}
	sure := len(w.metas) == 2
	for i, meta := range w.metas {
		p := w.tree(meta)
		p.lost = func(string, []byte, []byte) { sure = sure && i > 0 }
		p.only = func(bucket string) bool { return strings.HasPrefix(bucket, string(bucketMeta)) }
		p.visit = found.visit
		p.sequences = map[string]uint64{}
		if p.walk("", meta.root, nil, nil, 0) == nil {
			sound := found.number(p.sequences)
			sure = sure && (sound || i > 0) // the commit before may have been another identity's
		}
	}
	if len(found) == 0 {
		sure = false
		w.eachPage(func(page []byte) {
			for _, e := range looseElements(page) {
				if string(e.key) == string(bucketEpochs) && len(e.value) > bucketHeader {
					for _, e := range looseElements(e.value[bucketHeader:]) {
						_ = found.visit(epochsPath, e.key, e.value) // never fails
					}
				}
			}
		})
	}
	if len(found) == 0 {
		return identitiesBeside(w.file.Name())
	}
	all := found.sorted()
	if !sure {
		unbound(all)
	}
	return all
}

// unbound says of identities that it is not known how far their numbers went.
func unbound(epochs []*epoch) {
	for _, e := range epochs {
		e.next, e.durable = unknownNext, unknownNext-1
	}
}

var (
	epochsPath = string(bucketMeta) + "/" + string(bucketEpochs)
	ackedPath  = string(bucketMeta) + "/" + string(bucketAcked)
)

// identities are those found in a damaged file.
type identities map[uint32]*epoch

func (f identities) visit(bucket string, k, v []byte) error {
	if len(k) != 4 {
		return nil
	}
	number := binary.BigEndian.Uint32(k)
	switch bucket {
	case epochsPath:
		e, err := readEpoch(k, v)
		if err != nil {
			return nil //nolint:nilerr // one that makes no sense is not found
		}
		if old := f[number]; old == nil || old.next < e.next {
			f[number] = e
		}
	case ackedPath:
		if e := f[number]; e != nil && e.noted.Empty() {
			e.noted = readAcked(k, v)
		}
	}
	return nil
}

// number takes the next number of the last identity from the lanes, and tells whether all of them are as they were written.
func (f identities) number(sequences map[string]uint64) (sure bool) {
	all := f.sorted()
	if len(all) == 0 {
		return false
	}
	last := all[len(all)-1]
	sure = true
	for bucket, sequence := range sequences {
		if laneOfBucket(bucket) < 0 {
			continue
		}
		next, sound := unseal(last.number, sequence)
		if sound {
			last.next = max(last.next, next)
		}
		sure = sure && sound
	}
	return sure
}

func (f identities) sorted() []*epoch {
	var all []*epoch
	for _, e := range f {
		e.durable = e.next - 1
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b *epoch) int { return cmp.Compare(a.number, b.number) })
	return all
}

// salvage copies every sound record of the known identities, and the commands; of wanted numbers only, unless that is nil. It
// raises what is known of the highest number of an identity when a record has a higher one.
func (w *salvager) salvage(to *store, known []*epoch, wanted map[uint32]protocol.Ranges) error {
	w.to, w.highest, w.wanted = to, map[uint32]uint64{}, wanted
	w.commands, w.order = map[string][]byte{}, map[string][]byte{}
	for _, e := range known {
		w.highest[e.number] = 0
	}
	w.all = len(w.metas) == 0
	for i, meta := range w.metas {
		if i > 0 && !w.all && len(w.lost) == 0 {
			break
		}
		p := w.tree(meta)
		if i == 0 {
			p.lost = w.lose
			p.visit = w.visit
		} else {
			p.visit = w.visitLost
		}
		if err := p.walk("", meta.root, nil, nil, 0); err != nil {
			return err
		}
		if i == 0 {
			w.seen = p.seen
		}
	}
	if len(w.metas) == 1 { // it may be that of the commit before the last
		w.all = true
	}
	if err := w.scan(); err != nil {
		return err
	}
	if err := w.store(); err != nil {
		return err
	}
	return to.update(func(tx *bbolt.Tx) (err error) {
		for _, e := range known {
			if highest := w.highest[e.number]; highest >= e.next {
				e.next, e.durable = highest+1, highest
			}
			err = errors.Join(err, putEpoch(tx, e))
		}
		return errors.Join(err, w.putCommands(tx))
	})
}

// lose notes keys that the last commit's tree does not show.
func (w *salvager) lose(bucket string, low, high []byte) {
	if bucket == "" {
		w.all = true
		return
	}
	w.lost[bucket] = append(w.lost[bucket], span{bytes.Clone(low), bytes.Clone(high)})
}

func (w *salvager) isLost(bucket string, key []byte) bool {
	return w.all || slices.ContainsFunc(w.lost[bucket], func(s span) bool { return s.has(key) })
}

// visit takes what the last commit's tree shows.
func (w *salvager) visit(bucket string, k, v []byte) error {
	switch lane := laneOfBucket(bucket); {
	case lane >= 0:
		sound, err := w.take(lane, k, v)
		if !sound {
			w.lose(bucket, k, append(bytes.Clone(k), 0))
		}
		return err
	case bucket == string(bucketCommand):
		w.commands[string(k)] = bytes.Clone(v)
	case bucket == string(bucketCommandOrder):
		w.order[string(k)] = bytes.Clone(v)
	}
	return nil
}

// visitLost takes what another tree shows and the last commit's does not.
func (w *salvager) visitLost(bucket string, k, v []byte) error {
	lane := laneOfBucket(bucket)
	if lane < 0 && w.all {
		return w.visit(bucket, k, v)
	}
	if lane < 0 || !w.isLost(bucket, k) {
		return nil
	}
	_, err := w.take(lane, k, v)
	return err
}

// scan looks for what is still missing in all pages that the last commit's tree did not lead to.
func (w *salvager) scan() error {
	if !w.all && len(w.lost) == 0 {
		return nil
	}
	var failed error
	w.eachPage(func(page []byte) {
		for _, e := range looseElements(page) {
			failed = errors.Join(failed, w.takeLoose(e))
			if len(e.bucket) > bucketHeader { // a small bucket is inside the page
				for _, e := range looseElements(e.bucket[bucketHeader:]) {
					failed = errors.Join(failed, w.takeLoose(e))
				}
			}
		}
	})
	return failed
}

// takeLoose takes what is found outside the tree, if it is a record that is missing.
func (w *salvager) takeLoose(e element) error {
	r, err := decodeRecord(e.key, e.value)
	if err != nil {
		return nil //nolint:nilerr // it is none
	}
	lane := LaneOf(r.kind).index()
	if !w.isLost(string(laneBucket(lane)), e.key) {
		return nil
	}
	_, err = w.take(lane, e.key, e.value)
	return err
}

// take copies a record if it is sound and of a known identity.
func (w *salvager) take(lane int, key, value []byte) (sound bool, err error) {
	p, ok := placeOf(key)
	_, known := w.highest[p.epoch]
	if !ok || !known || p.seq == 0 || p.seq >= protocol.MaxSeq || w.wanted != nil && !w.wanted[p.epoch].Contains(p.seq) {
		return true, nil
	}
	if _, err := decodeRecord(key, value); err != nil {
		return false, nil //nolint:nilerr // that is what is asked
	}
	w.highest[p.epoch] = max(w.highest[p.epoch], p.seq)
	w.rows = append(w.rows, row{lane, bytes.Clone(key), bytes.Clone(value)})
	w.bytes += len(value)
	if len(w.rows) < salvageBatch && w.bytes < salvageBytes {
		return true, nil
	}
	return true, w.store()
}

// store commits what was taken. What is there already stays: it was found in a better place.
func (w *salvager) store() error {
	if len(w.rows) == 0 {
		return nil
	}
	err := w.to.update(func(tx *bbolt.Tx) (err error) {
		for _, r := range w.rows {
			bucket := tx.Bucket(laneBucket(r.lane))
			bucket.FillPercent = fillPercent
			if bucket.Get(r.key) == nil {
				err = errors.Join(err, bucket.Put(r.key, r.value))
				w.saved++
			}
		}
		return err
	})
	w.rows, w.bytes = nil, 0
	if err != nil {
		return fmt.Errorf("take over records of the damaged spool: %w", err)
	}
	return nil
}

// putCommands writes the commands that have both their parts. An agent executes one that is lost again, once.
func (w *salvager) putCommands(tx *bbolt.Tx) (err error) {
	for n, id := range w.order {
		reply := w.commands[string(id)]
		if len(n) != 8 || len(id) == 0 || len(reply) < 4 || checksum(id, reply[4:]) != binary.BigEndian.Uint32(reply) {
			continue
		}
		err = errors.Join(err, tx.Bucket(bucketCommand).Put(id, reply), tx.Bucket(bucketCommandOrder).Put([]byte(n), id))
	}
	return err
}

// eachPage reads every page of the file that the last commit's tree did not lead to, with what may overflow it; of one that was
// cut short, what is left.
func (w *salvager) eachPage(visit func(page []byte)) {
	p := newPages(w.file, w.size, metaPage{pageSize: w.pageSize})
	for n := int64(2); n*w.pageSize+pageHeader < w.size; n++ {
		if i := uint64(n); i/64 < uint64(len(w.seen)) && w.seen[i/64]&(1<<(i%64)) != 0 {
			continue
		}
		page, err := p.bytes(n*w.pageSize, min(w.pageSize, w.size-n*w.pageSize))
		if err != nil {
			continue
		}
		if more := int64(binary.NativeEndian.Uint32(page[12:])); more > 0 && more <= mostOverflow {
			if whole, err := p.bytes(n*w.pageSize, min((more+1)*w.pageSize, w.size-n*w.pageSize)); err == nil {
				page = whole
			}
		}
		visit(page)
	}
}

// looseElements reads what may be the entries of a leaf, whatever its header says: how many there are shows where the first
// one's key is, too.
func looseElements(page []byte) []element {
	if len(page) < pageHeader+pageElement {
		return nil
	}
	count := int(binary.NativeEndian.Uint16(page[10:]))
	count = max(count, int(binary.NativeEndian.Uint32(page[pageHeader+4:])/pageElement))
	var elements []element
	for i := range min(count, (len(page)-pageHeader)/pageElement) {
		if e, err := readElement(page[pageHeader+i*pageElement:], leafPage); err == nil {
			elements = append(elements, e)
		}
	}
	return elements
}
