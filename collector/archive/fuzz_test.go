package archive_test

import (
	"bytes"
	"crypto/sha512"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/collector/archive"
	"github.com/fulgidus/heimdall/protocol"
)

// FuzzAssemble makes a recording of any manifest and any chunks: it fails with a reason, or the file has exactly the
// bytes that the manifest vouches for. Nothing is written outside the folder, and nothing half.
func FuzzAssemble(f *testing.F) {
	source := newSource()
	data := noise(1, 3000)
	good, err := proto.Marshal(&protocol.Reply{Acquisition: proto.String("a"), Capture: source.add("torino", "capture-1", data)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("torino", good, data, uint16(chunkBytes))
	f.Add("torino", good, data[:2999], uint16(7))
	f.Add("../etc", good, data, uint16(1000))
	f.Fuzz(func(t *testing.T, name string, reply, data []byte, size uint16) {
		r := new(protocol.Reply)
		if proto.Unmarshal(reply, r) != nil {
			return
		}
		m := r.GetCapture()
		if m != nil && len(data)%3 > 0 { // else nothing would ever fit
			sum := sha512.Sum512(data)
			m.Sha512, m.Bytes, m.Samples = sum[:], proto.Uint64(uint64(len(data))), proto.Uint64(uint64(len(data)/2))
			m.Chunks = proto.Uint32(uint32((len(data) + int(size)) / (int(size) + 1)))
		}
		source := newSource()
		for i := 0; i*(int(size)+1) < len(data); i++ {
			from := i * (int(size) + 1)
			source.chunks[key(name, m.GetId(), i)] = data[from:min(len(data), from+int(size)+1)]
		}
		source.captures = []archive.Capture{{Station: name, Reply: r}}
		parent := t.TempDir()
		a := place{location: "file:" + filepath.Join(parent, "in")}.open(t, source)
		if err := a.Assemble(t.Context()); err != nil && len(source.finished)+len(source.failed) > 0 {
			t.Errorf("settled, and an error: %v", err)
		}
		written := 0
		err := filepath.WalkDir(parent, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			written++
			if !strings.HasPrefix(path, filepath.Join(parent, "in")+string(filepath.Separator)) {
				t.Errorf("%s was written outside the folder", path)
			}
			if content, err := os.ReadFile(path); strings.HasSuffix(path, ".sigmf-data") && (err != nil || !bytes.Equal(content, data)) {
				t.Errorf("the recording has %d bytes, %v, want the %d that were sent", len(content), err, len(data))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, recording := range source.finished {
			if sum := sha512.Sum512(data); recording.SHA512 != hex.EncodeToString(sum[:]) || written != 2 {
				t.Errorf("finished with the digest %s and %d files", recording.SHA512, written)
			}
		}
	})
}
