package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fulgidus/heimdall/protocol"
)

// folderOf is the files of a folder and their sizes.
func folderOf(t *testing.T, dir string) map[string]int {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]int)
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = len(text)
	}
	return files
}

func TestExportRecordings_OfAnAcquisition(t *testing.T) {
	w, _ := played(t)
	a := recorded(t, w.remote)
	dir := filepath.Join(t.TempDir(), "burst")
	export := func(c ExportRecordingsCmd) (out, errs string, err error) {
		t.Helper()
		var o, e output
		c.remote = w.remote
		err = c.Run(t.Context(), streams{out: &o, err: &e})
		return o.String(), e.String(), err
	}
	out, errs, err := export(ExportRecordingsCmd{Acquisition: a.ID, Out: dir})
	if err != nil || errs != "" || strings.Count(out, " (32 B)\n") != 2 {
		t.Fatalf("%v\n%s%s", err, out, errs)
	}
	collection := readCollection(t, filepath.Join(dir, a.ID+".sigmf-collection"))
	if collection.Version != protocol.SigMFVersion || collection.Acquisition != a.ID || len(collection.Streams) != 2 {
		t.Errorf("collection %+v", collection)
	}
	files := folderOf(t, dir)
	for _, s := range a.Stations {
		base := s.Station + "_" + s.Recording
		meta, err := os.ReadFile(filepath.Join(dir, base+".sigmf-meta"))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha512.Sum512(meta)
		if !slices.Contains(collection.Streams, protocol.SigMFStream{Name: base, Hash: hex.EncodeToString(sum[:])}) || files[base+".sigmf-data"] != 32 {
			t.Errorf("%s: %+v, %v", base, collection.Streams, files)
		}
	}
	if len(files) != 5 {
		t.Errorf("the folder holds %v", files)
	}
	out, _, err = export(ExportRecordingsCmd{Acquisition: a.ID, Out: dir, JSON: true})
	var e exported
	if json.Unmarshal([]byte(strings.SplitN(out, "\n", 2)[0]), &e) != nil || err != nil || e.New || len(e.Files) != 2 || e.Bytes != 32 {
		t.Errorf("once more: %v, %s", err, out)
	}

	single := filepath.Join(t.TempDir(), "all.sigmf")
	if _, _, err := export(ExportRecordingsCmd{Acquisition: a.ID, Output: single}); err != nil {
		t.Fatal(err)
	}
	streamed, _, err := export(ExportRecordingsCmd{IDs: []string{e.Recording}, Output: "-"})
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(single)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]int{string(whole): 2, streamed: 1} {
		found, err := protocol.ReadSigMFArchive(strings.NewReader(text), int64(len(text)))
		if err != nil || len(found) != want {
			t.Fatalf("%d recordings in the archive (%v), want %d", len(found), err, want)
		}
		for _, r := range found {
			samples, err := io.ReadAll(r.Data)
			if sum := sha512.Sum512(samples); err != nil || hex.EncodeToString(sum[:]) != r.Meta.Global.SHA512 {
				t.Errorf("samples of %s: %v", r.Name, err)
			}
		}
	}
	names := tarNames(t, bytes.NewReader(whole))
	if len(names) != 5 || names[4] != a.ID+".sigmf-collection" || strings.Count(names[0], "/") != 1 {
		t.Errorf("the archive holds %q", names)
	}

	out, _, err = export(ExportRecordingsCmd{selection: selection{Stations: []string{"genova"}}, Out: dir, Archives: true})
	if packed := folderOf(t, dir); err != nil || len(packed) != 6 || !strings.Contains(out, "genova_") || !strings.Contains(out, ".sigmf (32 B)") {
		t.Errorf("%v, %s, %v", err, out, packed)
	}
	nowhere := filepath.Join(t.TempDir(), "none")
	out, errs, err = export(ExportRecordingsCmd{selection: selection{Stations: []string{"aosta"}}, Out: nowhere})
	if exitCode(err, io.Discard) != exitFailed || !strings.HasPrefix(fmt.Sprint(err), "--station aosta: no station of this id") || out+errs != "" || len(folderOf(t, nowhere)) != 0 {
		t.Errorf("of an unknown station: %v, %s%s, %v", err, out, errs, folderOf(t, nowhere))
	}
	if out, errs, err = export(ExportRecordingsCmd{selection: selection{Min: 146e6}, Out: nowhere}); err != nil || out != "" || errs != "no recording matches --min 146MHz\n" {
		t.Errorf("of another band: %v, %s%s", err, out, errs)
	}
	for _, c := range []struct {
		cmd  ExportRecordingsCmd
		want string
		code int
	}{
		{ExportRecordingsCmd{}, "say which recordings", exitUsage},
		{ExportRecordingsCmd{IDs: []string{"r"}, Output: "x", Out: "y"}, "-o puts all into one archive", exitUsage},
		{ExportRecordingsCmd{IDs: []string{"r"}, Acquisition: a.ID}, "one of these", exitUsage},
		{ExportRecordingsCmd{IDs: []string{"no-such"}, Out: dir}, "no such recording", exitFailed},
		{ExportRecordingsCmd{selection: selection{Min: 146e6}, Output: filepath.Join(dir, "none.sigmf")}, "no recording matches --min 146MHz; an archive holds at least one", exitFailed},
		{ExportRecordingsCmd{selection: selection{Stations: []string{"genova"}, From: "2020-01-01", To: "2020-01-02", Max: 1.5e6}, Output: filepath.Join(dir, "none.sigmf")}, "no recording matches --station genova --from 2020-01-01 --to 2020-01-02 --max 1.5MHz; an", exitFailed},
		{ExportRecordingsCmd{Acquisition: a.ID, Out: single}, "make the folder", exitFailed},
	} {
		if _, _, err := export(c.cmd); err == nil || !strings.Contains(err.Error(), c.want) || exitCode(err, io.Discard) != c.code {
			t.Errorf("%+v: got %v, want %q", c.cmd, err, c.want)
		}
	}
	if len(folderOf(t, dir)) != 6 {
		t.Errorf("what failed left something: %v", folderOf(t, dir))
	}
}

func readCollection(t *testing.T, path string) protocol.SigMFCollection {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var c struct{ Collection protocol.SigMFCollection }
	if err := json.Unmarshal(text, &c); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return c.Collection
}

func tarNames(t *testing.T, r io.Reader) []string {
	t.Helper()
	var names []string
	for entries := tar.NewReader(r); ; {
		h, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
}

// shelf is a collector with one recording, whose connections break.
type shelf struct {
	*httptest.Server
	recording protocol.Recording
	samples   []byte
	breakAt   int // bytes of samples after which each answer breaks off; 0: none does

	mu     sync.Mutex // guards ranges
	ranges []string   // asked for of the samples
}

func newShelf(t *testing.T, samples []byte) *shelf {
	t.Helper()
	sum := sha512.Sum512(samples)
	s := &shelf{samples: samples, recording: protocol.Recording{ID: "r1", Station: "torino", Bytes: uint64(len(samples)), SHA512: hex.EncodeToString(sum[:])}}
	meta := fmt.Sprintf(`{"global":{"core:datatype":"cu8","core:version":"1.2.5","core:sha512":%q},"captures":[],"annotations":[]}`, s.recording.SHA512)
	mux := http.NewServeMux()
	mux.HandleFunc("/api/v1/recordings/r1", func(w http.ResponseWriter, _ *http.Request) { json.NewEncoder(w).Encode(s.recording) })
	mux.HandleFunc("/api/v1/recordings/r1.sigmf-meta", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, meta) })
	mux.HandleFunc("/api/v1/recordings/r1.sigmf-data", s.data)
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func (s *shelf) data(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.ranges = append(s.ranges, r.Header.Get("Range"))
	s.mu.Unlock()
	if s.breakAt > 0 {
		w = &breaking{w, s.breakAt}
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(s.samples))
}

// breaking is an answer that breaks off.
type breaking struct {
	http.ResponseWriter
	left int
}

func (b *breaking) Write(p []byte) (int, error) {
	n := min(len(p), b.left)
	b.left -= n
	if _, err := b.ResponseWriter.Write(p[:n]); err != nil {
		return 0, err
	}
	if n < len(p) {
		panic(http.ErrAbortHandler)
	}
	return n, nil
}

func (s *shelf) export(t *testing.T, c ExportRecordingsCmd) (string, error) {
	t.Helper()
	s.ranges = nil
	c.remote, c.IDs = remote{URL: s.URL}, []string{"r1"}
	var errs output
	err := c.Run(t.Context(), streams{out: io.Discard, err: &errs})
	return errs.String(), err
}

func TestExportRecordings_GoesOnWhereTheConnectionBreaks(t *testing.T) {
	s := newShelf(t, bytes.Repeat([]byte("Heimdall"), 1<<14)) // 128 KiB
	s.breakAt = 50_000
	dir := t.TempDir()
	if errs, err := s.export(t, ExportRecordingsCmd{Out: dir}); err != nil {
		t.Fatalf("%v: %s", err, errs)
	}
	if diff := cmp.Diff([]string{"", "bytes=50000-", "bytes=100000-"}, s.ranges); diff != "" {
		t.Errorf("asked for (-want +got):\n%s", diff)
	}
	got, err := os.ReadFile(filepath.Join(dir, "torino_r1.sigmf-data"))
	if err != nil || !bytes.Equal(got, s.samples) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := s.export(t, ExportRecordingsCmd{Output: filepath.Join(dir, "one.sigmf")}); err != nil || len(s.ranges) != 3 {
		t.Errorf("an archive: %v, %q", err, s.ranges)
	}
}

func TestExportRecordings_BrokenOffSaysHowToGoOn(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		cmd  ExportRecordingsCmd
		want string
	}{
		{ExportRecordingsCmd{Out: dir}, "export broken off; the same command goes on where it stopped"},
		{ExportRecordingsCmd{Output: filepath.Join(dir, "one.sigmf")}, "export broken off; the archive is not whole, and the same command begins it anew"},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			cancel()
			panic(http.ErrAbortHandler)
		}))
		c.cmd.remote, c.cmd.IDs = remote{URL: server.URL}, []string{"r1"}
		err := c.cmd.Run(ctx, streams{out: io.Discard, err: io.Discard})
		if !errors.Is(err, context.Canceled) || err.Error() != c.want || exitCode(err, io.Discard) != exitFailed {
			t.Errorf("got %v, want %s", err, c.want)
		}
		server.Close()
		cancel()
	}
}

func TestExportRecordings_HoldsNoRecordingInMemory(t *testing.T) {
	s := newShelf(t, make([]byte, 64<<20))
	dir := t.TempDir()
	for _, c := range []ExportRecordingsCmd{{Out: dir}, {Output: filepath.Join(dir, "one.sigmf")}} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if errs, err := s.export(t, c); err != nil {
			t.Fatalf("%v: %s", err, errs)
		}
		runtime.ReadMemStats(&after)
		if took := (after.TotalAlloc - before.TotalAlloc) >> 20; took > 8 { // of which most is the server's
			t.Errorf("%+v: %d MiB are allocated for a recording of 64 MiB", c, took)
		}
	}
}

func TestExportRecordings_GoesOnWithWhatIsThere(t *testing.T) {
	s := newShelf(t, bytes.Repeat([]byte("Heimdall"), 1000))
	foreign := slices.Clone(s.samples[:3000])
	foreign[7]++
	for _, c := range []struct {
		name, file string
		there      []byte
		ranges     []string // that are asked for
	}{
		{"half of it", ".part", s.samples[:3000], []string{"bytes=3000-"}},
		{"all of it, not yet named", ".part", s.samples, []string{"bytes=8000-"}},
		{"half of something else", ".part", foreign, []string{"bytes=3000-", ""}},
		{"more than all", ".part", append(slices.Clone(s.samples), 1, 2, 3), []string{"bytes=8003-", ""}},
		{"the whole", "", s.samples, nil},
		{"a damaged whole", "", foreign, []string{""}},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "torino_r1.sigmf-data")
		if err := os.WriteFile(path+c.file, c.there, 0o600); err != nil {
			t.Fatal(err)
		}
		errs, err := s.export(t, ExportRecordingsCmd{Out: dir})
		got, readErr := os.ReadFile(path)
		if err != nil || readErr != nil || !bytes.Equal(got, s.samples) || len(folderOf(t, dir)) != 2 {
			t.Errorf("%s: %v, %v, %s: %v", c.name, err, readErr, errs, folderOf(t, dir))
		}
		if diff := cmp.Diff(c.ranges, s.ranges); diff != "" {
			t.Errorf("%s: asked for (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestExportRecordings_RefusesOtherSamples(t *testing.T) {
	s := newShelf(t, bytes.Repeat([]byte("Heimdall"), 1000))
	s.samples[7]++
	dir := t.TempDir()
	errs, err := s.export(t, ExportRecordingsCmd{Out: dir})
	if !errors.Is(err, errReported) || !strings.Contains(errs, "recording r1 of torino: the SHA-512 of its samples is ") || len(folderOf(t, dir)) != 0 {
		t.Errorf("%v, %s, %v", err, errs, folderOf(t, dir))
	}
	if _, err := s.export(t, ExportRecordingsCmd{Output: filepath.Join(dir, "one.sigmf")}); err == nil || len(folderOf(t, dir)) != 0 {
		t.Errorf("an archive: %v, %v", err, folderOf(t, dir))
	}
	s.samples = s.samples[:4000] // an archive that lost its end
	if errs, err := s.export(t, ExportRecordingsCmd{Out: dir}); !errors.Is(err, errReported) || !strings.Contains(errs, "its samples are 4000 bytes and not 8000") {
		t.Errorf("%v, %s", err, errs)
	}
	for _, id := range []string{"../../etc", "a/b", `a\b`, "", "a:b", "a b"} {
		if name, err := baseName(&protocol.Recording{ID: id, Station: "torino"}); err == nil {
			t.Errorf("recording %q becomes the file %s", id, name)
		}
	}
}

func TestTransfer_GivesUpOnWhatDoesNotPass(t *testing.T) {
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if r.URL.Path == "/whole" {
			io.WriteString(w, "no ranges here")
			return
		}
		http.NotFound(w, r)
	}))
	defer server.Close()
	r := remote{URL: server.URL}
	if err := (transfer{remote: r, path: "/none"}).copy(t.Context(), io.Discard, 0); !gone(err) || asked != 1 {
		t.Errorf("nothing there: %v after %d", err, asked)
	}
	if err := (transfer{remote: r, path: "/whole"}).copy(t.Context(), io.Discard, 5); err == nil || !strings.Contains(err.Error(), "removes ranges") || asked != 2 {
		t.Errorf("no ranges: %v after %d", err, asked)
	}
	full := errors.New("no space left")
	err := transfer{remote: r, path: "/whole"}.copy(t.Context(), writerFunc(func([]byte) (int, error) { return 0, full }), 0)
	if !errors.Is(err, full) || asked != 3 {
		t.Errorf("a full disk: %v after %d", err, asked)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
