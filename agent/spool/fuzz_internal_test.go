package spool

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/fulgidus/heimdall/protocol"
)

// memoryDir is a folder for one execution, in memory if there is such a place: each opens a file or two.
func memoryDir(t *testing.T) string {
	t.Helper()
	parent := "/dev/shm"
	if info, err := os.Stat(parent); err != nil || !info.IsDir() {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(parent, "spool-fuzz-") //nolint:usetesting // not on a disk
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// FuzzOpenFile writes any bytes over a spool file and cuts it off: it opens all the same, what it holds is what was put,
// and it goes on.
func FuzzOpenFile(f *testing.F) {
	sound := f.TempDir()
	s, err := Open(sound, Options{Station: "torino"})
	if err != nil {
		f.Fatal(err)
	}
	want := map[uint64][]byte{}
	for i := range byte(40) {
		lane := Lanes()[int(i)%laneCount]
		content := bytes.Repeat([]byte{i}, 200)
		seq, err := s.Queue(f.Context(), lane, protocol.Kind(lane), content)
		if err != nil {
			f.Fatal(err)
		}
		want[seq] = content
	}
	identity := s.Identity()
	if err := s.Close(); err != nil {
		f.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(sound, fileName))
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{1}, uint32(0), uint32(len(file)))
	f.Add(make([]byte, 64), uint32(os.Getpagesize()+16), uint32(len(file)))
	f.Add([]byte{0xff, 0xff}, uint32(3*os.Getpagesize()+8), uint32(len(file)))
	f.Add([]byte{}, uint32(0), uint32(5000))
	f.Fuzz(func(t *testing.T, over []byte, at, size uint32) {
		damaged := bytes.Clone(file[:min(int(size), len(file))])
		if int(at) < len(damaged) {
			copy(damaged[at:], over)
		}
		dir := memoryDir(t)
		if err := os.CopyFS(filepath.Join(dir, iqName), os.DirFS(filepath.Join(sound, iqName))); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, fileName), damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(dir, Options{Station: "torino"})
		if err != nil {
			t.Fatalf("it does not open: %v", err)
		}
		if _, err := s.Queue(t.Context(), LaneReply, protocol.KindReply, []byte("new")); err != nil {
			t.Fatalf("it does not go on: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Fatalf("it does not go on: %v", err)
		}
		err = List(dir, func(_ Lane, item Item, err error) error {
			if err == nil && item.Spool == identity && item.Kind != protocol.KindGap && !bytes.Equal(item.Payload, want[item.Seq]) && string(item.Payload) != "new" {
				t.Errorf("record %d is %.40q, want %.40q", item.Seq, item.Payload, want[item.Seq])
			}
			return nil
		})
		if err != nil {
			t.Errorf("it cannot be listed: %v", err)
		}
	})
}

// FuzzReadSegment reads any reference out of any segment file: the bytes have the checksum, or it is an error.
func FuzzReadSegment(f *testing.F) {
	good := segmentRef{file: 1, offset: 3, length: 5, sum: checksum([]byte("hello"))}
	f.Add([]byte("xx hello"), binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, 1), 3), 5), good.sum))
	f.Add([]byte{}, bytes.Repeat([]byte{0xff}, refBytes))
	f.Fuzz(func(t *testing.T, content, stored []byte) {
		if len(stored) != refBytes {
			return
		}
		dir := memoryDir(t)
		ref := readRef(stored)
		if err := os.WriteFile(filepath.Join(dir, segmentName(ref.file)), content, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := readSegment(dir, ref)
		if err == nil && (checksum(got) != ref.sum || !bytes.Contains(content, got) || uint32(len(got)) != ref.length) {
			t.Errorf("%+v gives %q of %q", ref, got, content)
		}
		if number, ok := segmentNumber(segmentName(ref.file)); !ok || number != ref.file {
			t.Errorf("the name of file %d is read as %d, %v", ref.file, number, ok)
		}
	})
}

// FuzzMemory reads any pair of entries as a remembered command.
func FuzzMemory(f *testing.F) {
	dir := f.TempDir()
	db, err := bbolt.Open(filepath.Join(dir, "memory.db"), 0o600, &bbolt.Options{NoSync: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { db.Close() })
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 1}, []byte("id"), append(binary.BigEndian.AppendUint32(nil, checksum([]byte("id"), []byte("reply"))), "reply"...))
	f.Add(bytes.Repeat([]byte{0xff}, 8), []byte("id"), []byte("abc"))
	f.Fuzz(func(t *testing.T, order, id, stored []byte) {
		if len(order) == 0 || len(id) == 0 || len(order) > 1000 || len(id) > 1000 {
			return // no keys
		}
		err := db.Update(func(tx *bbolt.Tx) error {
			for _, name := range [][]byte{bucketCommand, bucketCommandOrder} {
				if tx.Bucket(name) != nil {
					if err := tx.DeleteBucket(name); err != nil {
						return err
					}
				}
				if _, err := tx.CreateBucket(name); err != nil {
					return err
				}
			}
			if err := tx.Bucket(bucketCommandOrder).Put(order, id); err != nil {
				return err
			}
			if err := tx.Bucket(bucketCommand).Put(id, stored); err != nil {
				return err
			}
			m, err := loadMemory(tx)
			if err != nil {
				t.Fatalf("the memory does not load: %v", err)
			}
			memo, ok := m.replies[string(id)]
			if sound := len(order) == 8 && len(stored) >= 4 && checksum(id, stored[4:]) == binary.BigEndian.Uint32(stored); ok != sound || ok && !bytes.Equal(memo.reply, stored[4:]) {
				t.Errorf("remembered %q, %v", memo.reply, ok)
			}
			r := m.note("another", []byte("x"))
			if r.order == 0 || ok && r.order == memo.order {
				t.Errorf("the next command gets the place %d after %d", r.order, memo.order)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzIdentities reads any bytes as the copy of the identities: what is accepted is written as it was read.
func FuzzIdentities(f *testing.F) {
	f.Add(encodeIdentities([]*epoch{newEpoch(1), newEpoch(7)}))
	f.Add(encodeIdentities(nil))
	f.Add([]byte("short"))
	f.Fuzz(func(t *testing.T, b []byte) {
		epochs := decodeIdentities(b)
		if len(epochs) > 0 && !bytes.Equal(encodeIdentities(epochs), b) {
			t.Errorf("% x became %v", b, epochs)
		}
	})
}
