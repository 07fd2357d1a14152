package protocol_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/protocol"
)

// realdata is the path of a real recording; the test is skipped where the recordings are absent.
func realdata(t *testing.T, name string) string {
	t.Helper()
	folder := os.Getenv("HEIMDALL_REALDATA")
	if folder == "" {
		folder = filepath.Join("..", "..", "shared", "realdata")
	}
	path := filepath.Join(folder, name)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		t.Skipf("the real recordings are not here: %s is missing; set HEIMDALL_REALDATA to their folder", path)
	}
	return path
}

func TestReadSigMF_RealRecording(t *testing.T) {
	original := read(t, realdata(t, "V16-beacon-NB-IoT-uplink.sigmf-meta"))
	meta, err := protocol.ReadSigMF(bytes.NewReader(original))
	if err != nil {
		t.Fatal(err)
	}
	if g := meta.Global; g.Datatype != "ci16_le" || *g.SampleRateHz != 640e3 || g.Version != "1.2.5" || *g.NumChannels != 1 ||
		g.Author != "Daniel Estévez" || g.Recorder != "Maia SDR v0.6.1" || !strings.HasPrefix(g.SHA512, "b993623fc647") {
		t.Errorf("global: %+v", g)
	}
	want := time.Date(2025, 11, 15, 17, 34, 32, 232_000_000, time.UTC)
	if len(meta.Captures) != 1 || *meta.Captures[0].FrequencyHz != 832344126 || !meta.Captures[0].Datetime.Equal(want) {
		t.Errorf("captures: %+v", meta.Captures)
	}
	if len(meta.Annotations) != 19 || meta.Annotations[0].SampleStart != 107103 || *meta.Annotations[0].SampleCount != 15360 ||
		*meta.Annotations[0].LowHz != 832325846.5 || meta.Annotations[2].Comment != "NPUSCH format 2\nPositive HARQ ACK = 1" {
		t.Errorf("%d annotations, the first %+v", len(meta.Annotations), meta.Annotations[0])
	}
	compareJSON(t, original, encodeSigMF(t, meta))
}

func encodeSigMF(t testing.TB, meta *protocol.SigMF) []byte {
	t.Helper()
	b, err := meta.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// compareJSON compares what two documents say.
func compareJSON(t *testing.T, want, got []byte) {
	t.Helper()
	var w, g any
	if err := json.Unmarshal(want, &w); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(got, &g); err != nil {
		t.Fatalf("%v\n%s", err, got)
	}
	if diff := cmp.Diff(w, g); diff != "" {
		t.Errorf("documents differ (-want +got):\n%s", diff)
	}
}

const richSigMF = `{
	"global": {"core:datatype": "cf32_le", "core:version": "1.2.0", "core:sample_rate": 1e6, "core:hw": "a <b> & c", "core:author": null,
		"core:geolocation": {"type": "Point", "coordinates": [7.27, 45.03, 612.5]}, "antenna:gain": 2.15, "core:metadata_only": false,
		"core:extensions": [{"name": "antenna", "version": "1.0.0", "optional": true}], "heimdall:station": "giaveno"},
	"captures": [{"core:sample_start": 0, "core:header_bytes": 44, "core:datetime": "2026-11-24T01:26:32.5Z"},
		{"core:sample_start": 500, "core:global_index": 700, "core:frequency": 145.5e6, "maia:note": [1, {"big": 12345678901234567890}]}],
	"annotations": [{"core:sample_start": 90.0, "core:sample_count": 1e1, "core:freq_lower_edge": 1, "core:freq_upper_edge": 2, "core:uuid": "u"},
		{"core:sample_start": 5, "core:label": "x"}],
	"other": {"kept": "as it is"}
}`

func TestSigMF_KeepsUnknownMembers(t *testing.T) {
	meta, err := protocol.ReadSigMF(strings.NewReader("\ufeff" + richSigMF))
	if err != nil {
		t.Fatal(err)
	}
	if a := meta.Annotations[0]; a.SampleStart != 90 || *a.SampleCount != 10 {
		t.Errorf("counts written as floats: got %d and %d, want 90 and 10", a.SampleStart, *a.SampleCount)
	}
	written := encodeSigMF(t, meta)
	for _, want := range []string{
		`"antenna:gain": 2.15`, `"big": 12345678901234567890`, `"core:hw": "a <b> & c"`, `"kept": "as it is"`, `"core:metadata_only": false`,
		`"core:datetime": "2026-11-24T01:26:32.500000000Z"`, `"name": "heimdall"`, `"name": "antenna"`,
	} {
		if !bytes.Contains(written, []byte(want)) {
			t.Errorf("%s is missing in\n%s", want, written)
		}
	}
	again, err := protocol.ReadSigMF(bytes.NewReader(written))
	if err != nil {
		t.Fatal(err)
	}
	if again.Annotations[0].SampleStart != 5 || again.Annotations[1].SampleStart != 90 {
		t.Errorf("annotations are not in order: %+v", again.Annotations)
	}
	if diff := cmp.Diff(string(written), string(encodeSigMF(t, again))); diff != "" {
		t.Errorf("written again it differs (-first +second):\n%s", diff)
	}
}

func TestDecodeSigMF_RefusesNamingField(t *testing.T) {
	for text, field := range map[string]string{
		``:                                       "",
		`[]`:                                     "",
		`{"captures":[]}`:                        "global",
		`{"global":5}`:                           "global",
		`{"global":{},"captures":{}}`:            "captures",
		`{"global":{},"captures":[1]}`:           "captures[0]",
		`{"global":{"core:datatype":5}}`:         "global.core:datatype",
		`{"global":{"core:sample_rate":"fast"}}`: "global.core:sample_rate",
		`{"global":{"core:num_channels":"1"}}`:   "global.core:num_channels",
		`{"global":{"core:author":1}}`:           "global.core:author",
		`{"global":{"core:num_channels":-1}}`:    "global.core:num_channels",
		`{"global":{"core:metadata_only":1}}`:    "global.core:metadata_only",
		`{"global":{"core:geolocation":1}}`:      "global.core:geolocation",
		`{"global":{"core:extensions":1}}`:       "global.core:extensions",
		`{"global":{},"captures":[{},{"core:datetime":"noon"}]}`:  "captures[1].core:datetime",
		`{"global":{},"captures":[{},{"core:datetime":5}]}`:       "captures[1].core:datetime",
		`{"global":{},"annotations":[{"core:sample_start":1.5}]}`: "annotations[0].core:sample_start",
	} {
		_, err := protocol.DecodeSigMF([]byte(text))
		checkError(t, text, err, protocol.Error{Code: protocol.CodeMalformed, Field: field})
	}
	_, err := protocol.DecodeSigMF([]byte(`{"global":{},"captures":[{"core:datetime":"noon"}]}`))
	if want := `captures[0].core:datetime: "\"noon\"": want RFC 3339`; !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %q, want it to begin with %q", err, want)
	}
}

func TestReadSigMF_PassesOnTheReadersError(t *testing.T) {
	broken := errors.New("disk gone")
	if _, err := protocol.ReadSigMF(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
	endless := io.LimitReader(spaces{}, protocol.MaxSigMFBytes+10)
	if _, err := protocol.ReadSigMF(endless); code(err) != protocol.CodeTooLarge {
		t.Errorf("endless metadata: got %v, want code too_large", err)
	}
}

// spaces is an endless reader of white space.
type spaces struct{}

func (spaces) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}

func TestSigMF_ValidateFindsAllFaults(t *testing.T) {
	meta := &protocol.SigMF{
		Global: protocol.SigMFGlobal{
			Datatype: "ci16", Version: "1", SampleRateHz: new(-1.0), NumChannels: new(uint64(0)), SHA512: "abc",
			Offset: new(uint64(1 << 63)), Geolocation: &protocol.GeoPoint{Type: "Polygon"},
		},
		Captures: []protocol.SigMFCapture{
			{SampleStart: 9, Geolocation: protocol.NewGeoPoint(100, 0, nil)},
			{SampleStart: 5, FrequencyHz: &inf, HeaderBytes: new(uint64(1 << 63))},
		},
		Annotations: []protocol.SigMFAnnotation{
			{LowHz: new(1.0)}, {LowHz: new(2.0), HighHz: new(1.0)}, {SampleCount: new(uint64(1 << 63)), LowHz: &nan, HighHz: &nan},
		},
	}
	var faults protocol.FieldErrors
	if err := meta.Validate(); !errors.As(err, &faults) {
		t.Fatalf("got %v, want FieldErrors", err)
	}
	got := make([]string, len(faults))
	for i, f := range faults {
		got[i] = f.Field
	}
	want := []string{
		"global.core:datatype", "global.core:version", "global.core:sample_rate", "global.core:num_channels", "global.core:sha512",
		"global.core:offset", "global.core:geolocation", "captures[0].core:geolocation", "captures[1].core:sample_start",
		"captures[1].core:header_bytes", "captures[1].core:frequency", "annotations[0].core:freq_lower_edge",
		"annotations[1].core:freq_lower_edge", "annotations[2].core:sample_count", "annotations[2].core:freq_lower_edge",
		"annotations[2].core:freq_upper_edge",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
	if b, err := meta.Encode(); code(err) != protocol.CodeMalformed {
		t.Errorf("an infinite frequency was written: %s", b)
	}
}

func TestSigMF_EncodeRefusesWhatJSONCannotHold(t *testing.T) {
	broken := map[string]json.RawMessage{"x:y": json.RawMessage("{")}
	for name, meta := range map[string]*protocol.SigMF{
		"top":        {Extra: broken},
		"global":     {Global: protocol.SigMFGlobal{Extra: broken}},
		"capture":    {Captures: []protocol.SigMFCapture{{Extra: broken}}},
		"annotation": {Annotations: []protocol.SigMFAnnotation{{SNRDB: &nan}}},
	} {
		if b, err := meta.Encode(); code(err) != protocol.CodeMalformed {
			t.Errorf("%s: got %s, %v; want an error", name, b, err)
		}
	}
}

func TestCaptureManifest_SigMF(t *testing.T) {
	meta, err := manifest().SigMF("giaveno")
	if err != nil {
		t.Fatal(err)
	}
	meta.Global.Geolocation = protocol.NewGeoPoint(45.03, 7.27, new(612.0))
	meta.Global.Acquisition = acquisition
	meta.Annotations = []protocol.SigMFAnnotation{{SampleStart: 10, SampleCount: new(uint64(20)), Label: "fm", SNRDB: new(27.9), PowerDBFS: new(-40.5)}}
	if err := meta.Validate(); err != nil {
		t.Fatal(err)
	}
	const want = `{
		"global": {
			"core:datatype": "ci16_le", "core:sample_rate": 16000.0304, "core:version": "1.2.5", "core:num_channels": 1,
			"core:sha512": "abcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcd",
			"core:hw": "RTL-SDR Blog V4", "core:recorder": "heimdall-agent/1.0.0",
			"core:geolocation": {"type": "Point", "coordinates": [7.27, 45.03, 612]},
			"core:extensions": [{"name": "heimdall", "version": "1.0.0", "optional": true}],
			"heimdall:station": "giaveno", "heimdall:receiver": "r0", "heimdall:acquisition": "01936a2e-7b00-7000-8000-0000000000aa",
			"heimdall:capture_id": "01936a2e-7c40-7b1e-8f00-0a1b2c3d4e5f", "heimdall:time_quality": "ntp", "heimdall:time_uncertainty_s": 0.0018,
			"heimdall:asked_start": "2026-11-24T01:26:32.500000000Z", "heimdall:lost_samples": 160, "heimdall:gain_db": 32.8,
			"heimdall:tuned_center_hz": 145000000, "heimdall:tuned_sample_rate_hz": 2048000, "heimdall:scale": 0.25
		},
		"captures": [
			{"core:sample_start": 0, "core:global_index": 0, "core:frequency": 145500000, "core:datetime": "2026-11-24T01:26:32.500000041Z"},
			{"core:sample_start": 40000, "core:global_index": 40160, "core:frequency": 145500000, "core:datetime": "2026-11-24T01:26:35.010000000Z", "heimdall:lost_exact": true}
		],
		"annotations": [{"core:sample_start": 10, "core:sample_count": 20, "core:label": "fm", "heimdall:snr_db": 27.9, "heimdall:power_dbfs": -40.5}]
	}`
	compareJSON(t, []byte(want), encodeSigMF(t, meta))

	without := manifest()
	without.Gaps[0].Time = nil
	meta, err = without.SigMF("giaveno")
	if err != nil {
		t.Fatal(err)
	}
	// 40,160 samples of 1/16000.0304 s after the first.
	if got, want := protocol.FormatTime(meta.Captures[1].Datetime.Time), "2026-11-24T01:26:35.009995272Z"; got != want {
		t.Errorf("time of the capture after a gap without one: got %s, want %s", got, want)
	}
}

func TestCaptureManifest_SigMF_RefusesNamingField(t *testing.T) {
	for field, spoil := range map[string]func(*protocol.CaptureManifest){
		"capture.format":         func(m *protocol.CaptureManifest) { m.Format = nil },
		"capture.start":          func(m *protocol.CaptureManifest) { m.Start = nil },
		"capture.sample_rate_hz": func(m *protocol.CaptureManifest) { m.SampleRateHz = nil },
		"capture.gaps[0].sample": func(m *protocol.CaptureManifest) { m.Gaps[0].Sample = new(uint64(80001)) },
		"capture.gaps[1].sample": func(m *protocol.CaptureManifest) {
			m.Gaps = append(m.Gaps, &protocol.CaptureGap{Sample: new(uint64(39999))})
		},
	} {
		m := proto.CloneOf(manifest())
		spoil(m)
		_, err := m.SigMF("giaveno")
		checkError(t, field, err, protocol.Error{Code: protocol.CodeMalformed, Field: field})
	}
	if _, err := (*protocol.CaptureManifest)(nil).SigMF("giaveno"); code(err) != protocol.CodeMalformed {
		t.Errorf("no manifest: %v", err)
	}
}

func TestReadSigMFArchive_WholeOrCut(t *testing.T) {
	data := bytes.Repeat([]byte{1, 2, 3, 4, 5}, 1001)
	whole := tarOf(t, file("burst/burst.sigmf-meta", richSigMF), file("burst/burst.sigmf-data", string(data)))
	recordings, err := protocol.ReadSigMFArchive(bytes.NewReader(whole), int64(len(whole)))
	if err != nil {
		t.Fatal(err)
	}
	if len(recordings) != 1 || recordings[0].Name != "burst/burst" || recordings[0].Meta.Global.Datatype != "cf32_le" {
		t.Fatalf("got %+v", recordings)
	}
	got, err := io.ReadAll(recordings[0].Data)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("got %d bytes, %v; want the %d written", len(got), err, len(data))
	}
	for cut := 0; cut < len(whole)-2048; cut += 97 { // the last blocks are padding
		got, err := protocol.ReadSigMFArchive(bytes.NewReader(whole[:cut]), int64(cut))
		if err == nil && got[0].Data != nil { // cut between the files it looks like an archive of metadata only
			t.Fatalf("cut at %d of %d bytes: no error", cut, len(whole))
		}
	}
}

// tarOf packs files as other programs do.
func tarOf(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		content := []byte(h.Linkname)
		if h.Typeflag == tar.TypeReg {
			h.Linkname, h.Size = "", int64(len(content))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write(content); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// file is a tar entry; the content travels in Linkname until tarOf takes it.
func file(name, content string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Linkname: content, Mode: 0o644}
}

func TestReadSigMFArchive_OfOtherPrograms(t *testing.T) {
	archive := tarOf(t,
		tar.Header{Typeflag: tar.TypeDir, Name: "set/", Mode: 0o755},
		file("./set/b.sigmf-data", "bbbb"), file("set/readme.txt", "hello"),
		file("set/a.sigmf-meta", richSigMF), file("set/b.sigmf-meta", richSigMF),
		tar.Header{Typeflag: tar.TypeSymlink, Name: "set/a.sigmf-data", Linkname: "/etc/passwd"})
	recordings, err := protocol.ReadSigMFArchive(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		t.Fatal(err)
	}
	if len(recordings) != 2 || recordings[0].Name != "set/a" || recordings[0].Data != nil || recordings[1].Name != "set/b" {
		t.Fatalf("got %+v, want set/a without data and set/b", recordings)
	}
	if got, err := io.ReadAll(recordings[1].Data); err != nil || string(got) != "bbbb" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestReadSigMFArchive_Refuses(t *testing.T) {
	many := make([]tar.Header, 10001)
	for i := range many {
		many[i] = file("x", "")
	}
	// The tar writer refuses to write these records, so they are written under another name of the same length.
	holes := file("a.sigmf-data", "1234")
	holes.PAXRecords = map[string]string{"XXX.sparse.major": "9", "XXX.sparse.minor": "9"}
	sparse := bytes.ReplaceAll(tarOf(t, holes), []byte("XXX.sparse"), []byte("GNU.sparse"))
	whole := tarOf(t, file("a.sigmf-meta", richSigMF), file("a.sigmf-data", strings.Repeat("x", 2000)))
	for name, c := range map[string]struct {
		archive []byte
		want    protocol.Code
	}{
		"nothing":        {nil, protocol.CodeMalformed},
		"no tar":         {bytes.Repeat([]byte("x"), 2000), protocol.CodeMalformed},
		"no metadata":    {tarOf(t, file("a.sigmf-data", "1234")), protocol.CodeMalformed},
		"bad metadata":   {tarOf(t, file("a.sigmf-meta", "{}")), protocol.CodeMalformed},
		"too many files": {tarOf(t, many...), protocol.CodeTooMany},
		"sparse data":    {sparse, protocol.CodeMalformed},
		"cut data":       {whole[:len(whole)-3000], protocol.CodeMalformed},
	} {
		if _, err := protocol.ReadSigMFArchive(bytes.NewReader(c.archive), int64(len(c.archive))); code(err) != c.want {
			t.Errorf("%s: got %v, want code %q", name, err, c.want)
		}
	}
}

func TestSigMFCollection_Encode(t *testing.T) {
	written, err := protocol.SigMFCollection{
		Version: protocol.SigMFVersion, Description: "a & b", Acquisition: "a1", Streams: []protocol.SigMFStream{{Name: "torino_r1", Hash: "0a"}},
	}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	compareJSON(t, []byte(`{"collection": {
		"core:version": "1.2.5", "core:description": "a & b", "core:streams": [{"name": "torino_r1", "hash": "0a"}],
		"core:extensions": [{"name": "heimdall", "version": "1.0.0", "optional": true}], "heimdall:acquisition": "a1"
	}}`), written)
	if bytes.Contains(written, []byte(`\u0026`)) {
		t.Errorf("written for a web page: %s", written)
	}
	written, err = protocol.SigMFCollection{Version: protocol.SigMFVersion}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	compareJSON(t, []byte(`{"collection": {"core:version": "1.2.5", "core:streams": []}}`), written)
}
