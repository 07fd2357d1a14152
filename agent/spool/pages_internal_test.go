package spool

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// Whatever single byte of the tree is wrong, it is found or does not matter: what passes here must open for writing,
// where bbolt's own check would end the process.
func TestCheckPages_EveryByteOfTheTree(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 0)
	for range 30 {
		for _, lane := range Lanes() {
			queueSome(t, s, lane, 2, 200)
		}
	}
	s.memory.note("id", []byte("reply"))
	if err := s.flush(false); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, fileName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkTree(bytes.NewReader(whole), int64(len(whole)), ignore); err != nil {
		t.Fatalf("the whole file: %v", err)
	}
	page := os.Getpagesize()
	passed := 0
	for at := 0; at < len(whole); at++ {
		if at%page >= 16+12*16 { // headers and the first entries of each page
			continue
		}
		for _, flip := range []byte{0x01, 0x80} {
			whole[at] ^= flip
			err := checkTree(bytes.NewReader(whole), int64(len(whole)), ignore)
			switch {
			case err == nil && passed%200 == 0:
				openable(t, whole)
				passed++
			case err == nil:
				passed++
			case !errors.Is(err, errDamaged):
				t.Errorf("byte %d: %v, want errDamaged", at, err)
			}
			whole[at] ^= flip
		}
	}
	for _, size := range []int{0, 10, page, 2 * page, len(whole) / 2} {
		if err := checkTree(bytes.NewReader(whole[:size]), int64(size), ignore); !errors.Is(err, errDamaged) {
			t.Errorf("cut to %d bytes: %v, want errDamaged", size, err)
		}
	}
}

// A branch whose key is lower than the first one below it would still lead to all keys, until bbolt writes that page again
// and enters it a second time.
func TestCheckPages_EveryKeyOfABranch(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 0)
	for range 20 {
		queueSome(t, s, LaneMeasurement, 100, 200)
	}
	if err := errors.Join(s.flush(false), s.Close()); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(dir, fileName))
	if err != nil {
		t.Fatal(err)
	}
	size := int64(len(whole))
	p := newPages(bytes.NewReader(whole), size, readMetas(bytes.NewReader(whole))[0])
	p.visit = ignore
	if err := p.walk("", readMetas(bytes.NewReader(whole))[0].root, nil, nil, 0); err != nil {
		t.Fatal(err)
	}
	keys := 0
	for id := range p.count {
		page := whole[int64(id)*p.pageSize:][:p.pageSize]
		if !p.wasSeen(id) || page[8] != branchPage {
			continue
		}
		elements, err := readElements(nil, page, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range elements {
			last := &e.key[len(e.key)-1]
			if *last == 0 {
				continue
			}
			keys++
			old := *last
			*last &= *last - 1
			if err := checkTree(bytes.NewReader(whole), size, ignore); !errors.Is(err, errDamaged) {
				t.Errorf("page %d: a key with one bit less: %v, want errDamaged", id, err)
			}
			*last = old
		}
	}
	if keys < 50 {
		t.Errorf("%d keys are too few to prove anything", keys)
	}
}

func openable(t *testing.T, file []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "copy.db")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	st, err := openStore(path, 0, false)
	if err != nil {
		return // refused, alive
	}
	if _, err := st.load(); err != nil {
		t.Logf("not loaded, and alive: %v", err)
	}
	st.abandon()
}

func FuzzCheckPages(f *testing.F) {
	dir := f.TempDir()
	s, err := Open(dir, Options{Station: "torino"})
	if err != nil {
		f.Fatal(err)
	}
	if err := s.Close(); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(dir, fileName))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole[:8*os.Getpagesize()])
	f.Fuzz(func(t *testing.T, file []byte) {
		if err := checkTree(bytes.NewReader(file), int64(len(file)), ignore); err != nil && !errors.Is(err, errDamaged) {
			t.Errorf("got %v, want errDamaged", err)
		}
	})
}

func ignore(string, []byte, []byte) error { return nil }
