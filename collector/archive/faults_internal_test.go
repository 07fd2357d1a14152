package archive

import (
	"bytes"
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

// oneCapture is a source of a single capture of one chunk.
type oneCapture struct {
	data     []byte
	manifest *protocol.CaptureManifest
	finished int
	refuse   error // of FinishRecording
	failed   string
	failing  error // of FailRecording
}

func newCapture(data string) *oneCapture {
	sum := sha512.Sum512([]byte(data))
	return &oneCapture{data: []byte(data), manifest: &protocol.CaptureManifest{
		Id: proto.String("c"), Start: proto.Int64(1e18), CenterHz: proto.Float64(1e6), SampleRateHz: proto.Float64(1e3), Format: proto.String("cu8"),
		Chunks: proto.Uint32(1), Bytes: proto.Uint64(uint64(len(data))), Sha512: sum[:],
	}}
}

func (c *oneCapture) CompleteCaptures(context.Context) ([]Capture, error) {
	if c.finished > 0 || c.failed != "" {
		return nil, nil
	}
	return []Capture{{Station: "torino", Reply: &protocol.Reply{Acquisition: proto.String("a"), Capture: c.manifest}}}, nil
}

func (c *oneCapture) Chunk(context.Context, string, string, uint32) ([]byte, error) {
	return c.data, nil
}

func (c *oneCapture) FinishRecording(context.Context, *protocol.Recording) error {
	if c.refuse != nil {
		return c.refuse
	}
	c.finished++
	return nil
}

func (c *oneCapture) FailRecording(_ context.Context, _ Capture, reason string) error {
	if c.failing != nil {
		return c.failing
	}
	c.failed = reason
	return nil
}

// crashing is a store that stops working at one put, before or after its effect, as a killed collector does.
type crashing struct {
	objects
	puts    int // until the crash
	effects bool
}

var errCrash = errors.New("killed")

func (c *crashing) put(ctx context.Context, key, contentType string, size int64, r io.Reader) error {
	c.puts--
	if c.puts != 0 {
		return c.objects.put(ctx, key, contentType, size, r)
	}
	if c.effects {
		if err := c.objects.put(ctx, key, contentType, size, r); err != nil {
			return err
		}
	}
	return errCrash
}

func openTest(t *testing.T, source Source) (*Archive, string) {
	t.Helper()
	dir := t.TempDir()
	a, err := Open(t.Context(), Config{Location: "file:" + dir, Source: source})
	if err != nil {
		t.Fatal(err)
	}
	return a, dir
}

func TestAssemble_MayBeRepeatedAfterACrashAtAnyStep(t *testing.T) {
	for put := 1; put <= 2; put++ {
		for _, effects := range []bool{false, true} {
			source := newCapture("0123456789")
			a, dir := openTest(t, source)
			a.objects = &crashing{objects: a.objects, puts: put, effects: effects}
			if err := a.Assemble(t.Context()); !errors.Is(err, errCrash) || source.finished != 0 || source.failed != "" {
				t.Fatalf("put %d: %v, source %+v; want a crash", put, err, source)
			}
			base := filepath.Join(dir, "recordings", "a", "torino", "c")
			if _, err := os.Stat(base + ".sigmf-meta"); err == nil && put == 1 {
				t.Errorf("put %d: metadata is there before the samples", put)
			}
			if err := a.Assemble(t.Context()); err != nil || source.finished != 1 {
				t.Errorf("put %d, effects %v: second round: %v, finished %d times", put, effects, err, source.finished)
			}
			if data, err := os.ReadFile(base + ".sigmf-data"); err != nil || string(data) != "0123456789" {
				t.Errorf("put %d, effects %v: data %q, %v", put, effects, data, err)
			}
			if left, err := os.ReadDir(filepath.Join(dir, incoming)); err != nil || len(left) > 0 {
				t.Errorf("put %d, effects %v: left over: %v, %v", put, effects, left, err)
			}
		}
	}
}

// rowError is how a database says that a row is at fault.
type rowError struct{ one bool }

func (r rowError) Error() string   { return "numeric value out of range" }
func (r rowError) OneRecord() bool { return r.one }

func TestAssemble_ARowThatCannotBeStoredFailsForGood(t *testing.T) {
	source := newCapture("0123456789")
	source.refuse = fmt.Errorf("finish recording: %w", rowError{one: true})
	a, _ := openTest(t, source)
	if err := a.Assemble(t.Context()); err != nil || !strings.Contains(source.failed, "out of range") {
		t.Errorf("assemble: %v, failed %q", err, source.failed)
	}
	source = newCapture("0123456789")
	source.refuse = rowError{one: false}
	a, _ = openTest(t, source)
	if err := a.Assemble(t.Context()); err == nil || source.failed != "" {
		t.Errorf("assemble: %v, failed %q; want to try again", err, source.failed)
	}
}

func TestAssemble_AFailureThatCannotBeRecordedIsTriedAgain(t *testing.T) {
	source := newCapture("0123456789")
	source.manifest.Chunks = nil
	source.failing = errors.New("the database is away")
	a, _ := openTest(t, source)
	if err := a.Assemble(t.Context()); !errors.Is(err, source.failing) || a.Stats().FailedTotal != 0 {
		t.Errorf("assemble: %v, stats %+v", err, a.Stats())
	}
}

func TestAssemble_AnEmptyChunkIsOneThatIsGone(t *testing.T) {
	source := newCapture("0123456789")
	source.data = nil
	a, _ := openTest(t, source)
	if err := a.Assemble(t.Context()); err == nil || !strings.Contains(err.Error(), "gone") || source.failed != "" {
		t.Errorf("assemble: %v, failed %q; want to try again", err, source.failed)
	}
}

func TestAssemble_EndsWithTheContext(t *testing.T) {
	source := newCapture("0123456789")
	a, dir := openTest(t, source)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Assemble(ctx); err == nil || source.finished+len(source.failed) > 0 {
		t.Errorf("assemble: %v, source %+v", err, source)
	}
	if err := a.objects.put(ctx, "recordings/x", "", 3, strings.NewReader("abc")); !errors.Is(err, context.Canceled) {
		t.Errorf("put: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "recordings", "x")); err == nil {
		t.Error("the object is there")
	}
	if err := a.Run(ctx); err != nil {
		t.Errorf("run: %v", err)
	}
}

func TestFolder_ShortDataIsNoObject(t *testing.T) {
	a, dir := openTest(t, nil)
	for _, size := range []int64{2, 4} {
		if err := a.objects.put(t.Context(), "recordings/x", "", size, strings.NewReader("abc")); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("put of 3 bytes as %d: %v", size, err)
		}
	}
	if entries, err := os.ReadDir(filepath.Join(dir, incoming)); err != nil || len(entries) > 0 {
		t.Errorf("left over: %v, %v", entries, err)
	}
}

func TestFolder_SweepTakesWhatIsOld(t *testing.T) {
	a, dir := openTest(t, nil)
	if err := a.objects.sweep(t.Context(), time.Now()); err != nil {
		t.Errorf("sweep of nothing: %v", err)
	}
	if err := os.Mkdir(filepath.Join(dir, incoming), 0o750); err != nil {
		t.Fatal(err)
	}
	old, young := filepath.Join(dir, incoming, "old"), filepath.Join(dir, incoming, "young")
	for _, name := range []string{old, young} {
		if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	if err := os.Chtimes(old, now.Add(-25*time.Hour), now.Add(-25*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := a.objects.sweep(t.Context(), now.Add(-orphanAge)); err != nil {
		t.Errorf("sweep: %v", err)
	}
	if _, err := os.Stat(old); err == nil {
		t.Error("the old file is still there")
	}
	if _, err := os.Stat(young); err != nil {
		t.Errorf("the young file: %v", err)
	}
}

func TestFolder_ThatIsNoneAnyMore(t *testing.T) {
	a, dir := openTest(t, newCapture("0123456789"))
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := a.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "archive folder") {
		t.Errorf("check: %v", err)
	}
	if err := a.Assemble(t.Context()); err == nil {
		t.Error("assemble: no error")
	}
	if err := a.objects.put(t.Context(), "recordings/x", "", 1, strings.NewReader("a")); err == nil {
		t.Error("put: no error")
	}
}

func TestS3_SweepAbortsUploadsOfACrash(t *testing.T) {
	server := servers.MinIO(t)
	a, err := Open(t.Context(), Config{Location: server.URL + "&region=us-east-1", Credentials: Credentials{AccessKey: server.AccessKey, SecretKey: server.SecretKey}})
	if err != nil {
		t.Fatal(err)
	}
	b := a.objects.(*bucket)
	if err := b.sweep(t.Context(), time.Now()); err != nil {
		t.Errorf("sweep before there is a bucket: %v", err)
	}
	if err := a.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	// An upload whose data stops coming is what a killed collector leaves behind, but for the abort that follows here.
	const key = "recordings/x/torino/y.sigmf-data"
	torn := io.MultiReader(bytes.NewReader(make([]byte, partBytes)), errorReader{})
	if err := b.put(t.Context(), key, dataType, 2*partBytes, torn); !errors.Is(err, errCrash) {
		t.Errorf("put: %v, want %v", err, errCrash)
	}
	if _, err := b.open(t.Context(), key); err == nil {
		t.Error("the torn object is there")
	}
	upload, err := newUpload(t, b, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.abortUploads(t.Context(), key, time.Now().Add(-time.Hour)); err != nil || !uploadExists(t, b, key, upload) {
		t.Errorf("sweep of what is old: %v; want the young upload left alone", err)
	}
	if err := b.abortUploads(t.Context(), key, time.Now().Add(time.Hour)); err != nil || uploadExists(t, b, key, upload) {
		t.Errorf("sweep: %v; want the upload aborted", err)
	}
	if err := b.sweep(t.Context(), time.Now()); err != nil {
		t.Errorf("sweep of all: %v", err)
	}
}

type errorReader struct{}

func (errorReader) Read([]byte) (int, error) { return 0, errCrash }

func TestS3_RefusalsNameTheMend(t *testing.T) {
	server := servers.MinIO(t)
	for want, keys := range map[string]Credentials{
		"access key": {AccessKey: server.AccessKey, SecretKey: "wrong-wrong"},
		"permission": {},
	} {
		a, err := Open(t.Context(), Config{Location: server.URL, Credentials: keys})
		if err != nil {
			t.Fatal(err)
		}
		err = a.objects.put(t.Context(), "recordings/x", dataType, 1, strings.NewReader("a"))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), server.Bucket) {
			t.Errorf("put: %v, want an error that says %q and the bucket", err, want)
		}
		if err := a.Check(t.Context()); err == nil {
			t.Errorf("%s: check: no error", want)
		}
		if _, err := a.OpenData(t.Context(), "recordings/x"); err == nil {
			t.Errorf("%s: open: no error", want)
		}
		if err := a.objects.sweep(t.Context(), time.Now()); want == "permission" && err != nil {
			t.Errorf("sweep without permission: %v, want it left alone", err)
		}
	}
	a, err := Open(t.Context(), Config{Location: server.URL, Credentials: Credentials{AccessKey: server.AccessKey, SecretKey: server.SecretKey}})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.objects.put(t.Context(), "recordings/x", dataType, 1, strings.NewReader("a")); err == nil || !strings.Contains(err.Error(), "make the bucket") {
		t.Errorf("put without a bucket: %v", err)
	}
	server.Stop()
	if err := a.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "look for the bucket") {
		t.Errorf("check of a stopped server: %v", err)
	}
}
