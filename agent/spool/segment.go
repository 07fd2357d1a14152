package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/fulgidus/heimdall/packaging/failpoint"
)

// segmentBytes is the size from which on a new segment file is begun: a whole file is removed when nothing in it is
// needed any more, so this is also about how much disk a single held chunk can keep.
const segmentBytes = 8 << 20

// segments are the append-only files that hold IQ chunks. One goroutine writes; any may read.
type segments struct {
	dir     string
	current *os.File // nil until the first append of this process: old files are never appended to
	number  uint32   // of the current file, else of the highest there is
	size    uint64   // of the current file
	held    map[uint32]int
	dirty   bool // written since the last sync
}

// openSegments takes stock of dir. held counts the records that refer to each file; files without any are removed.
func openSegments(dir string, held map[uint32]int) (*segments, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder for IQ: %w", err)
	}
	if err := syncDir(filepath.Dir(dir)); err != nil { // or the folder goes with the power, and all that is in it
		return nil, err
	}
	s := &segments{dir: dir, held: held}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list the segment files: %w", err)
	}
	for _, e := range entries {
		number, ok := segmentNumber(e.Name())
		if !ok {
			continue
		}
		s.number = max(s.number, number)
		if held[number] == 0 {
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
	for number := range held {
		s.number = max(s.number, number)
	}
	return s, nil
}

func segmentName(number uint32) string { return fmt.Sprintf("%08x.seg", number) }

func segmentNumber(name string) (uint32, bool) {
	var number uint32
	hex, ok := strings.CutSuffix(name, ".seg")
	if !ok || len(hex) != 8 {
		return 0, false
	}
	if _, err := fmt.Sscanf(hex, "%08x", &number); err != nil {
		return 0, false
	}
	return number, true
}

// add appends a payload. It is durable only after sync.
func (s *segments) add(payload []byte) (*segmentRef, error) {
	if s.current != nil && s.size >= segmentBytes {
		if err := s.finish(); err != nil {
			return nil, err
		}
	}
	if s.current == nil {
		if err := s.begin(); err != nil {
			return nil, err
		}
	}
	s.dirty = true
	failpoint.Hit("spool.segment_write")
	if _, err := s.current.Write(payload); err != nil {
		// What a failed write left behind is unknown: go on in a new file.
		s.current.Close()
		s.current = nil
		return nil, fmt.Errorf("write IQ: %w", err)
	}
	ref := &segmentRef{file: s.number, offset: s.size, length: uint32(len(payload)), sum: checksum(payload)}
	s.size += uint64(len(payload))
	s.held[s.number]++
	return ref, nil
}

func (s *segments) begin() error {
	number := s.number + 1
	f, err := os.OpenFile(filepath.Join(s.dir, segmentName(number)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil || errors.Is(err, fs.ErrExist) {
		s.number = number // whatever comes of it, it is taken
	}
	if err == nil {
		if err = syncDir(s.dir); err != nil { // without it the power takes the file, and all that is in it
			f.Close()
		}
	}
	if err != nil {
		return fmt.Errorf("begin a segment file: %w", err)
	}
	s.current, s.size = f, 0
	return nil
}

// finish closes the current file, whole and on disk.
func (s *segments) finish() error {
	err := s.sync()
	s.current.Close()
	s.current = nil
	if s.held[s.number] == 0 {
		s.remove(s.number)
	}
	return err
}

func (s *segments) sync() error {
	if !s.dirty || s.current == nil {
		return nil
	}
	if err := s.current.Sync(); err != nil {
		// After a failed sync the pages may be gone though a second sync succeeds.
		s.current.Close()
		s.current = nil
		return fmt.Errorf("sync IQ: %w", err)
	}
	s.dirty = false
	return nil
}

// release notes that one record no longer refers to a file.
func (s *segments) release(number uint32) {
	s.held[number]--
	if s.held[number] <= 0 && (s.current == nil || number != s.number) {
		s.remove(number)
	}
}

func (s *segments) remove(number uint32) {
	delete(s.held, number)
	os.Remove(filepath.Join(s.dir, segmentName(number))) // what stays is removed at the next opening
}

// readSegment fetches a payload. What is not as written wraps errCorrupt; other failures are the disk's.
func readSegment(dir string, ref *segmentRef) ([]byte, error) {
	if ref.length > maxPayload {
		return nil, fmt.Errorf("%w: chunk of %d bytes", errCorrupt, ref.length)
	}
	f, err := os.Open(filepath.Join(dir, segmentName(ref.file)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", errCorrupt, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open a segment file: %w", err)
	}
	defer f.Close()
	payload := make([]byte, ref.length)
	if _, err := f.ReadAt(payload, int64(ref.offset)); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%w: segment file %08x is short", errCorrupt, ref.file)
		}
		return nil, fmt.Errorf("read IQ: %w", err)
	}
	if got := checksum(payload); got != ref.sum {
		return nil, fmt.Errorf("%w: checksum %08x, stored %08x", errCorrupt, got, ref.sum)
	}
	return payload, nil
}

func (s *segments) close() {
	if s.current != nil {
		s.current.Close()
		s.current = nil
	}
}

// syncDir makes new and removed names in dir durable. Windows has no such thing and needs none.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("open %s to sync it: %w", dir, err)
	}
	defer d.Close()
	failpoint.Hit("spool.sync_dir")
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}
