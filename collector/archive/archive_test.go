package archive_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/collector/archive"
	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

// start is the time of every capture's first sample.
var start = time.Date(2026, 11, 24, 2, 0, 5, 250_000_123, time.UTC)

const chunkBytes = protocol.MaxChunkBytes

// place is a location that a test may use.
type place struct {
	location string
	keys     archive.Credentials
}

func (p place) open(t testing.TB, source archive.Source) *archive.Archive {
	t.Helper()
	a, err := archive.Open(t.Context(), archive.Config{
		Location: p.location, Credentials: p.keys, Source: source, Interval: time.Millisecond, Now: func() time.Time { return start.Add(time.Minute) },
	})
	if err != nil {
		t.Fatalf("open archive: %v", err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Errorf("close archive: %v", err)
		}
	})
	return a
}

// read gives the whole of an object; nil when it is absent.
func read(t testing.TB, open func(context.Context, string) (io.ReadSeekCloser, error), key string) []byte {
	t.Helper()
	object, err := open(t.Context(), key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatalf("open %s: %v", key, err)
	}
	defer func() {
		if err := object.Close(); err != nil {
			t.Errorf("close %s: %v", key, err)
		}
	}()
	data, err := io.ReadAll(object)
	if err != nil {
		t.Fatalf("read %s: %v", key, err)
	}
	return data
}

func TestArchive_Folder(t *testing.T) {
	eachTest(t, func(t *testing.T) place { return place{location: "file:" + t.TempDir()} })
}

func TestArchive_MinIO(t *testing.T) {
	store := servers.MinIO(t)
	buckets := 0
	eachTest(t, func(*testing.T) place {
		buckets++
		return place{
			location: fmt.Sprintf("s3://heimdall-%d/below/this?endpoint=%s", buckets, store.Endpoint),
			keys:     archive.Credentials{AccessKey: store.AccessKey, SecretKey: store.SecretKey},
		}
	})
}

// eachTest runs what must hold for every kind of store.
func eachTest(t *testing.T, where func(*testing.T) place) {
	for _, c := range []struct {
		name string
		test func(*testing.T, place)
	}{
		{"RecordingIsWholeAndDescribed", recordingIsWholeAndDescribed},
		{"LongCaptureTakesLittleMemory", longCaptureTakesLittleMemory},
		{"WrongContentNeverAppears", wrongContentNeverAppears},
		{"FaultsOfTheSourceAreTriedAgain", faultsOfTheSourceAreTriedAgain},
		{"StationsDoNotMix", stationsDoNotMix},
		{"ObjectsCanBeReadFromAnywhere", objectsCanBeReadFromAnywhere},
		{"AbsentObjects", absentObjects},
		{"RemovedRecordings", removedRecordings},
		{"TrialLeavesNothing", trialLeavesNothing},
		{"RunWaitsToBeWoken", runWaitsToBeWoken},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, where(t)) })
	}
}

const recordingKey = "recordings/acquisition-1/torino/capture-1"

func recordingIsWholeAndDescribed(t *testing.T, p place) {
	source := newSource()
	data := noise(1, 2*chunkBytes+600)
	m := source.add("torino", "capture-1", data)
	m.DurationS = proto.Float64(3.4)
	a := p.open(t, source)
	if err := a.Assemble(t.Context()); err != nil {
		t.Fatalf("assemble: %v", err)
	}
	if got := read(t, a.OpenData, recordingKey); !bytes.Equal(got, data) {
		t.Errorf("data has %d bytes, want the %d of the capture", len(got), len(data))
	}
	sum := sha512.Sum512(data)
	want := &protocol.Recording{
		ID: "capture-1", Acquisition: "acquisition-1", Station: "torino", Receiver: "vhf",
		Start: "2026-11-24T02:00:05.250000123Z", AskedStart: "2026-11-24T02:00:05.250000083Z", DurationS: 3.4,
		CenterHz: 145.5e6, SampleRateHz: 10_000, Datatype: "cu8", Samples: uint64(len(data) / 2), Bytes: uint64(len(data)),
		SHA512: hex.EncodeToString(sum[:]), TimeQuality: "ntp", TimeUncertaintyS: 0.004, Key: recordingKey,
		Stored: "2026-11-24T02:01:05.250000123Z",
	}
	if diff := cmp.Diff(want, source.finished[key("torino", "capture-1")]); diff != "" {
		t.Errorf("recording (-want +got):\n%s", diff)
	}
	meta, err := protocol.ReadSigMF(bytes.NewReader(read(t, a.OpenMeta, recordingKey)))
	if err != nil {
		t.Fatalf("metadata: %v", err)
	}
	if meta.Global.SHA512 != want.SHA512 || meta.Global.Station != "torino" || meta.Global.Acquisition != "acquisition-1" {
		t.Errorf("metadata says %+v", meta.Global)
	}
	if s := a.Stats(); s.RecordingsTotal != 1 || s.BytesTotal != uint64(len(data)) || s.FailedTotal != 0 || s.RetriesTotal != 0 {
		t.Errorf("stats %+v", s)
	}
	if err := a.Assemble(t.Context()); err != nil || a.Stats().RecordingsTotal != 1 {
		t.Errorf("a second round: %v, stats %+v; want nothing to do", err, a.Stats())
	}
}

// longCaptureTakesLittleMemory writes two captures of several parts of an upload, one much longer than the other. What an
// upload needs anyhow, its buffer of 8 MiB and the client's own, is in both.
func longCaptureTakesLittleMemory(t *testing.T, p place) {
	const short, long = 12<<20 + 2, 40<<20 + 2
	source := newSource()
	a := p.open(t, source)
	allocated := func(capture string, data []byte) int64 {
		source.add("torino", capture, data)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := a.Assemble(t.Context()); err != nil {
			t.Fatalf("assemble: %v", err)
		}
		runtime.ReadMemStats(&after)
		if got := read(t, a.OpenData, "recordings/acquisition-1/torino/"+capture); !bytes.Equal(got, data) {
			t.Errorf("data has %d bytes, want the %d of the capture", len(got), len(data))
		}
		return int64(after.TotalAlloc - before.TotalAlloc) // all that was ever allocated, not only what was alive at once
	}
	base := allocated("short", noise(2, short))
	if grown := allocated("long", noise(3, long)) - base; grown > (long-short)/4 {
		t.Errorf("allocated %d KiB more than the %d KiB for a capture that is %d KiB longer, want at most a quarter of that",
			grown>>10, base>>10, (long-short)>>10)
	} else {
		t.Logf("%d KiB for %d MiB, %d KiB more for %d MiB", base>>10, short>>20, grown>>10, long>>20)
	}
}

func wrongContentNeverAppears(t *testing.T, p place) {
	for name, spoil := range map[string]func(*station, *protocol.CaptureManifest){
		"other bytes": func(s *station, m *protocol.CaptureManifest) {
			s.chunks[key("torino", m.GetId(), 1)] = noise(9, chunkBytes)
		},
		"other hash":  func(_ *station, m *protocol.CaptureManifest) { m.Sha512 = noise(9, sha512.Size) },
		"short chunk": func(s *station, m *protocol.CaptureManifest) { s.chunks[key("torino", m.GetId(), 1)] = noise(9, 100) },
		"long chunk": func(s *station, m *protocol.CaptureManifest) {
			s.chunks[key("torino", m.GetId(), 1)] = noise(9, 20<<20)
		},
		"chunks order": func(s *station, m *protocol.CaptureManifest) { s.swap(m.GetId()) },
	} {
		for _, length := range []int{3 * chunkBytes, 9 << 20} { // the second is more than one part of an upload
			capture := strings.ReplaceAll(fmt.Sprintf("%s-%d", name, length), " ", "-")
			source := newSource()
			spoil(source, source.add("torino", capture, noise(3, length)))
			source.add("torino", "good-"+capture, noise(4, chunkBytes))
			a := p.open(t, source)
			if err := a.Assemble(t.Context()); err != nil {
				t.Errorf("%s: assemble: %v", capture, err)
			}
			reason := source.failed[key("torino", capture)]
			if !strings.Contains(reason, "manifest") {
				t.Errorf("%s: reason %q, want one that names the manifest", capture, reason)
			}
			recording := "recordings/acquisition-1/torino/" + capture
			if read(t, a.OpenData, recording) != nil || read(t, a.OpenMeta, recording) != nil {
				t.Errorf("%s: the recording is there", capture)
			}
			if source.finished[key("torino", "good-"+capture)] == nil || a.Stats().FailedTotal != 1 {
				t.Errorf("%s: stats %+v, finished %v; want the good capture beside it done", capture, a.Stats(), source.finished)
			}
		}
	}
}

func (s *station) swap(capture string) {
	one, two := key("torino", capture, 0), key("torino", capture, 1)
	s.chunks[one], s.chunks[two] = s.chunks[two], s.chunks[one]
}

func faultsOfTheSourceAreTriedAgain(t *testing.T, p place) {
	for _, call := range []string{"list", "chunk", "finish"} {
		source := newSource()
		data := noise(5, chunkBytes+2)
		source.add("torino", "after-"+call, data)
		broken := errors.New("the database is away")
		source.fault = func(c string) error {
			if c == call {
				return broken
			}
			return nil
		}
		a := p.open(t, source)
		for range 2 {
			if err := a.Assemble(t.Context()); !errors.Is(err, broken) {
				t.Errorf("%s: assemble: %v, want %v", call, err, broken)
			}
		}
		source.fault = nil
		if err := a.Assemble(t.Context()); err != nil {
			t.Errorf("%s: assemble afterwards: %v", call, err)
		}
		if got := read(t, a.OpenData, "recordings/acquisition-1/torino/after-"+call); !bytes.Equal(got, data) || len(source.failed) > 0 {
			t.Errorf("%s: %d bytes, failed %v; want the whole recording", call, len(got), source.failed)
		}
	}
}

func stationsDoNotMix(t *testing.T, p place) {
	source := newSource()
	one, two := noise(6, chunkBytes), noise(7, chunkBytes)
	source.add("torino", "capture-1", one)
	source.add("genova", "capture-1", two)
	a := p.open(t, source)
	if err := a.Assemble(t.Context()); err != nil {
		t.Fatalf("assemble: %v", err)
	}
	for name, want := range map[string][]byte{"torino": one, "genova": two} {
		if got := read(t, a.OpenData, "recordings/acquisition-1/"+name+"/capture-1"); !bytes.Equal(got, want) {
			t.Errorf("%s has the data of another station", name)
		}
	}
}

// openArchive opens recordings as archives of torino's first.
func openArchive(a *archive.Archive) func(context.Context, string) (io.ReadSeekCloser, error) {
	return func(ctx context.Context, key string) (io.ReadSeekCloser, error) {
		return a.OpenArchive(ctx, key, "torino_capture-1")
	}
}

func objectsCanBeReadFromAnywhere(t *testing.T, p place) {
	source := newSource()
	data := noise(8, chunkBytes+700)
	source.add("torino", "capture-1", data)
	a := p.open(t, source)
	if err := a.Assemble(t.Context()); err != nil {
		t.Fatalf("assemble: %v", err)
	}
	meta := read(t, a.OpenMeta, recordingKey)
	packed := read(t, openArchive(a), recordingKey)
	for name, c := range map[string]struct {
		open func(context.Context, string) (io.ReadSeekCloser, error)
		want []byte
	}{"data": {a.OpenData, data}, "meta": {a.OpenMeta, meta}, "archive": {openArchive(a), packed}} {
		object, err := c.open(t.Context(), recordingKey)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, offset := range []int64{0, 1, 511, 512, 513, int64(len(c.want)) - 1, int64(len(c.want)), 700, 0} {
			if _, err := object.Seek(offset, io.SeekStart); err != nil {
				t.Fatalf("%s: seek to %d: %v", name, offset, err)
			}
			want := c.want[offset:min(offset+900, int64(len(c.want)))]
			got := make([]byte, len(want))
			if _, err := io.ReadFull(object, got); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %d bytes from %d differ (%v)", name, len(want), offset, err)
			}
		}
		if length, err := object.Seek(0, io.SeekEnd); err != nil || length != int64(len(c.want)) {
			t.Errorf("%s: length %d, %v; want %d", name, length, err, len(c.want))
		}
		if at, err := object.Seek(-5, io.SeekCurrent); err != nil || at != int64(len(c.want))-5 {
			t.Errorf("%s: five before the end is %d, %v", name, at, err)
		}
		if n, err := object.Read(make([]byte, 100)); n == 0 || n > 5 {
			t.Errorf("%s: read %d, %v at five before the end", name, n, err)
		}
		if _, err := object.Seek(-1, io.SeekStart); err == nil {
			t.Errorf("%s: no error before the start", name)
		}
		if _, err := object.Seek(0, 9); err == nil {
			t.Errorf("%s: no error for an unknown whence", name)
		}
		if _, err := object.Seek(0, io.SeekStart); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if name == "meta" { // small enough to try every way of reading
			if err := iotest.TestReader(object, c.want); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := object.Close(); err != nil {
			t.Errorf("%s: close: %v", name, err)
		}
	}
	checkTar(t, packed, meta, data)
}

// checkTar reads a SigMF archive with the standard library and with protocol's own reader.
func checkTar(t *testing.T, packed, meta, data []byte) {
	t.Helper()
	if len(packed)%512 != 0 {
		t.Errorf("archive of %d bytes, want whole blocks of 512", len(packed))
	}
	entries := tar.NewReader(bytes.NewReader(packed))
	for _, want := range []struct {
		name string
		data []byte
	}{{"torino_capture-1/torino_capture-1.sigmf-meta", meta}, {"torino_capture-1/torino_capture-1.sigmf-data", data}} {
		header, err := entries.Next()
		if err != nil {
			t.Fatalf("archive: %v", err)
		}
		got, err := io.ReadAll(entries)
		if err != nil || header.Name != want.name || header.Mode != 0o644 || !bytes.Equal(got, want.data) {
			t.Errorf("archive has %s, mode %o, %d bytes, %v; want %s with %d bytes", header.Name, header.Mode, len(got), err, want.name, len(want.data))
		}
	}
	if _, err := entries.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("archive goes on after both files: %v", err)
	}
	recordings, err := protocol.ReadSigMFArchive(bytes.NewReader(packed), int64(len(packed)))
	if err != nil || len(recordings) != 1 || recordings[0].Data == nil {
		t.Fatalf("archive holds %d recordings, %v", len(recordings), err)
	}
	if recordings[0].Name != "torino_capture-1/torino_capture-1" {
		t.Errorf("name %q", recordings[0].Name)
	}
	got, err := io.ReadAll(recordings[0].Data)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("archive's data: %d bytes, %v", len(got), err)
	}
}

func absentObjects(t *testing.T, p place) {
	a := p.open(t, newSource())
	if err := a.Check(t.Context()); err != nil {
		t.Fatalf("check: %v", err)
	}
	for _, open := range []func(context.Context, string) (io.ReadSeekCloser, error){a.OpenData, a.OpenMeta, openArchive(a)} {
		for _, name := range []string{"recordings/none", "recordings"} {
			if _, err := open(t.Context(), name); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %v, want fs.ErrNotExist", name, err)
			}
		}
	}
}

func removedRecordings(t *testing.T, p place) {
	source := newSource()
	data := noise(8, chunkBytes)
	source.add("torino", "capture-1", data)
	source.add("torino", "capture-2", data)
	a := p.open(t, source)
	if err := a.Assemble(t.Context()); err != nil {
		t.Fatalf("assemble: %v", err)
	}
	for range 2 { // the second time there is nothing
		if err := a.Remove(t.Context(), recordingKey); err != nil {
			t.Errorf("remove: %v", err)
		}
		if read(t, a.OpenData, recordingKey) != nil || read(t, a.OpenMeta, recordingKey) != nil {
			t.Error("the removed recording is there")
		}
	}
	other := "recordings/acquisition-1/torino/capture-2"
	if !bytes.Equal(read(t, a.OpenData, other), data) || read(t, a.OpenMeta, other) == nil {
		t.Error("another recording went, too")
	}
	if err := errors.Join(a.Remove(t.Context(), other), a.Remove(t.Context(), "recordings/none/torino/capture-9")); err != nil {
		t.Errorf("remove: %v", err)
	}
}

func runWaitsToBeWoken(t *testing.T, p place) {
	source := newSource()
	a, err := archive.Open(t.Context(), archive.Config{Location: p.location, Credentials: p.keys, Source: source, Interval: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	for i := range 3 {
		source.mu.Lock()
		source.add("torino", fmt.Sprintf("capture-%d", i), noise(9, 1000))
		source.mu.Unlock()
		a.Wake()
		a.Wake() // waking twice is as good as once
		select {
		case <-source.changed:
		case <-time.After(20 * time.Second):
			t.Fatalf("recording %d is not there: %+v", i, a.Stats())
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}
}

func testContext(t *testing.T) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	return ctx, cancel
}
