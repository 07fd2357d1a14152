package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"go.etcd.io/bbolt"
)

// freelistOf is the page that lists the free pages of a file, given its content; nil when there is none.
func freelistOf(t *testing.T, file []byte) []byte {
	t.Helper()
	metas := readMetas(bytes.NewReader(file))
	if len(metas) == 0 {
		t.Fatal("no sound meta page")
	}
	if metas[0].freelist == noFreelist {
		return nil
	}
	return file[int64(metas[0].freelist)*metas[0].pageSize:][:metas[0].pageSize]
}

// withFreePages is a file that ended in good order and has free pages, and its content.
func withFreePages(t *testing.T) (path string, whole []byte) {
	t.Helper()
	dir := t.TempDir()
	s := open(t, dir, 0)
	queueSome(t, s, LaneMeasurement, 1000, 200)
	flushed(t, s)
	s.Ack(s.Identity(), handOut(s))
	queueSome(t, s, LaneMeasurement, 1000, 200)
	flushed(t, s)
	closed(t, s)
	path = filepath.Join(dir, fileName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, whole
}

// After an orderly end the file says which pages are free, and all of them. The next commit takes that back, so that it is
// never out of date: not after a crash either.
func TestFreelist_OnlyAfterAnOrderlyEnd(t *testing.T) {
	path, whole := withFreePages(t)
	list := freelistOf(t, whole)
	if list == nil || binary.NativeEndian.Uint16(list[10:]) < 10 {
		t.Fatal("the file says of too few pages that they are free to show anything")
	}
	for round := range 3 {
		st, err := openStore(path, 0, false)
		if err != nil {
			t.Fatal(err)
		}
		if err := st.view(func(tx *bbolt.Tx) error {
			for err := range tx.Check() {
				t.Errorf("round %d: %v", round, err)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if err := st.update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketMeta).Put([]byte("key"), []byte("value")) }); err != nil {
			t.Fatal(err)
		}
		file, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if freelistOf(t, file) != nil {
			t.Error("the file says which pages are free while it is in use")
		}
		if round > 0 { // a crash
			st.abandon()
			continue
		}
		if err := errors.Join(st.noteFree(), st.close()); err != nil {
			t.Fatal(err)
		}
	}
}

// A list that calls a page free which is not would have bbolt write over records.
func TestFreelist_PageInUse(t *testing.T) {
	_, whole := withFreePages(t)
	root := readMetas(bytes.NewReader(whole))[0].root
	put := binary.NativeEndian.PutUint64
	for name, damage := range map[string]func(page, list []byte){
		"a page of the tree":  func(_, list []byte) { put(list, root) },
		"a meta page":         func(_, list []byte) { put(list, 1) },
		"beyond the file":     func(_, list []byte) { put(list, 1<<40) },
		"twice the same":      func(_, list []byte) { copy(list, list[pageIDBytes:][:pageIDBytes]) },
		"the list itself":     func(page, list []byte) { copy(list, page[:pageIDBytes]) },
		"more than there are": func(page, _ []byte) { page[10]++ },
		"more than fit":       func(page, list []byte) { page[10], page[11] = 0xff, 0xff; put(list, 1<<63) },
		"no list":             func(page, _ []byte) { page[8] = leafPage },
	} {
		t.Run(name, func(t *testing.T) {
			file := slices.Clone(whole)
			page := freelistOf(t, file)
			damage(page, page[pageHeader:])
			if err := checkTree(bytes.NewReader(file), int64(len(file)), ignore); !errors.Is(err, errDamaged) {
				t.Errorf("got %v, want errDamaged", err)
			}
		})
	}
}
