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
