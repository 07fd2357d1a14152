package archive_test

import (
	"bytes"
	"fmt"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/collector/archive"
	"github.com/fulgidus/heimdall/protocol"
)

// described assembles the only capture of a source in a folder and reads its metadata.
func described(t *testing.T, source *station) *protocol.SigMF {
	t.Helper()
	a := place{location: "file:" + t.TempDir()}.open(t, source)
	if err := a.Assemble(t.Context()); err != nil {
		t.Fatalf("assemble: %v", err)
	}
	if len(source.finished) != 1 {
		t.Fatalf("no recording: %v", source.failed)
	}
	for _, r := range source.finished {
		meta, err := protocol.ReadSigMF(bytes.NewReader(read(t, a.OpenMeta, r.Key)))
		if err != nil {
			t.Fatalf("metadata of %s: %v", r.Key, err)
		}
		return meta
	}
	return nil
}

// segment is what matters of a SigMF capture.
type segment struct {
	Sample, Global uint64
	Time           string
	Hz             float64
}

func segments(meta *protocol.SigMF) []segment {
	var all []segment
	for _, c := range meta.Captures {
		all = append(all, segment{c.SampleStart, *c.GlobalIndex, protocol.FormatTime(c.Datetime.Time), *c.FrequencyHz})
	}
	return all
}

func TestMetadata_OneSegmentAGap(t *testing.T) {
	source := newSource()
	m := source.add("torino", "capture-1", noise(1, 2000)) // 1000 samples at 10 kHz: 100 µs each
	m.Gaps = []*protocol.CaptureGap{
		{Sample: proto.Uint64(0), Lost: proto.Uint64(7), Exact: proto.Bool(true)}, // before the first sample: begins there
		{Sample: proto.Uint64(300), Lost: proto.Uint64(50), Exact: proto.Bool(true)},
		{Sample: proto.Uint64(600), Lost: proto.Uint64(1000), Time: proto.Int64(start.UnixNano() + 166_000_001)},
		{Sample: proto.Uint64(1000), Lost: proto.Uint64(9)}, // after the last sample: shows only in the count of lost ones
	}
	meta := described(t, source)
	want := []segment{
		{0, 7, "2026-11-24T02:00:05.250700123Z", 145.5e6},
		{300, 357, "2026-11-24T02:00:05.285700123Z", 145.5e6},
		{600, 1657, "2026-11-24T02:00:05.416000124Z", 145.5e6},
	}
	if diff := cmp.Diff(want, segments(meta)); diff != "" {
		t.Errorf("segments (-want +got):\n%s", diff)
	}
	if meta.Global.LostSamples == nil || *meta.Global.LostSamples != 1066 || source.finished[key("torino", "capture-1")].LostSamples != 1066 {
		t.Errorf("lost samples: metadata %v, recording %+v; want 1066", meta.Global.LostSamples, source.finished)
	}
	if d := source.finished[key("torino", "capture-1")].DurationS; math.Abs(d-0.2066) > 1e-12 {
		t.Errorf("duration %v s, want the 2066 samples at 10 kHz: 0.2066 s", d)
	}
}

func TestMetadata_SaysWhereItComesFrom(t *testing.T) {
	source := newSource()
	m := source.add("torino", "capture-1", noise(1, 2000))
	m.Scale = proto.Float64(8)
	m.Tuning = &protocol.Tuning{CenterHz: proto.Float64(145e6), SampleRateHz: proto.Float64(2.4e6), GainDb: proto.Float64(28)}
	source.captures[0].Position = &protocol.Position{LatitudeDeg: 45.04, LongitudeDeg: 7.67, HeightM: 240, Precision: "10km"}
	meta := described(t, source)
	g := meta.Global
	if g.Version != protocol.SigMFVersion || g.Datatype != "cu8" || *g.SampleRateHz != 10_000 || g.Recorder != "heimdall-agent/1.0.0" || g.Hardware != "RTL2838" {
		t.Errorf("global: %+v", g)
	}
	if g.Station != "torino" || g.Receiver != "vhf" || g.CaptureID != "capture-1" || g.TimeQuality != "ntp" || *g.TimeUncertaintyS != 0.004 || *g.Scale != 8 ||
		*g.GainDB != 28 || *g.TunedCenterHz != 145e6 || *g.TunedRateHz != 2.4e6 || !g.AskedStart.Equal(start.Add(-40)) {
		t.Errorf("our own members: %+v", g.SigMFStation)
	}
	if diff := cmp.Diff([]protocol.SigMFExtension{{Name: "heimdall", Version: "1.0.0", Optional: true}}, g.Extensions); diff != "" {
		t.Errorf("extensions (-want +got):\n%s", diff)
	}
	want := &protocol.GeoPoint{Type: "Point", Coordinates: []float64{7.67, 45.04, 240}}
	if diff := cmp.Diff(want, g.Geolocation); diff != "" {
		t.Errorf("place (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, meta.Captures[0].Geolocation); diff != "" {
		t.Errorf("place of the segment (-want +got):\n%s", diff)
	}
	if g.GeolocationPrecision != "10km" || g.Collection != "acquisition-1" || g.Acquisition != "acquisition-1" {
		t.Errorf("precision of the place %q, collection %q, acquisition %q", g.GeolocationPrecision, g.Collection, g.Acquisition)
	}
}

func TestMetadata_HiddenPlaceIsAbsent(t *testing.T) {
	source := newSource()
	source.add("torino", "capture-1", noise(1, 2000))
	if meta := described(t, source); meta.Global.Geolocation != nil || meta.Captures[0].Geolocation != nil {
		t.Errorf("a place is told: %v", meta.Global.Geolocation)
	}
}

// detected is a detection record; times in seconds from the capture's start, frequencies in Hz from its centre.
func detected(id string, from, duration, low, high float64, power float32) *protocol.Record {
	return &protocol.Record{
		Station: proto.String("torino"), Spool: []byte{1, 2, 3, 4, 5, 6, 7, 8}, Seq: proto.Uint64(9), Receiver: proto.String("vhf"),
		Time: proto.Int64(start.UnixNano() + int64(math.Round(from*1e9))),
		Body: &protocol.Record_Detection{Detection: &protocol.Detection{
			DetectionId: &id, DurationS: &duration, LowHz: proto.Float64(145.5e6 + low), HighHz: proto.Float64(145.5e6 + high),
			CenterHz: proto.Float64(145.5e6 + (low+high)/2), PowerDbfs: &power, SnrDb: proto.Float32(12),
		}},
	}
}

// box is what matters of an annotation.
type box struct {
	First, Count uint64
	Low, High    float64 // Hz from the centre
	Label        string
	Comment      string
}

func boxes(meta *protocol.SigMF) []box {
	var all []box
	for _, a := range meta.Annotations {
		all = append(all, box{a.SampleStart, *a.SampleCount, *a.LowHz - 145.5e6, *a.HighHz - 145.5e6, a.Label, a.Comment})
	}
	return all
}

var uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

func TestMetadata_DetectionsBecomeAnnotations(t *testing.T) {
	source := newSource()
	m := source.add("torino", "capture-1", noise(1, 2000)) // 100 ms; passband ±5 kHz
	m.Gaps = []*protocol.CaptureGap{{Sample: proto.Uint64(500), Lost: proto.Uint64(1000), Exact: proto.Bool(true)}}
	other := detected("other-receiver", 0, 0.01, -100, 100, -20)
	other.Receiver = proto.String("uhf")
	first := detected("", 0.21, 0.001, -100, 100, -50) // a first record, which is its own id
	source.captures[0].Detections = []*protocol.Record{
		detected("inside", 0.01, 0.02, -1000, 1000, -30),
		detected("before", -1, 0.5, 0, 1000, -30),
		detected("after", 1, 0.5, 0, 1000, -30),
		detected("above", 0.01, 0.02, 5000, 6000, -30),
		detected("below", 0.01, 0.02, -6000, -5000, -30),
		detected("across the start and the edge", -1, 1.01, -9000, -4000, -30),
		detected("grows", 0.02, 0.005, 0, 10, -40),
		detected("grows", 0.02, 0.02, 0, 200, -40),
		detected("grows", 0.02, 0.01, 0, 20, -40),
		detected("inside the gap", 0.06, 0.02, -1000, 1000, -30),
		detected("across the gap", 0.04, 0.12, -1000, 1000, -30),
		detected("never ends", 0.19, 1e300, -1000, 1000, -30),
		detected("no length", 0.19, math.NaN(), -1000, 1000, -30),
		other, first,
		{Station: proto.String("torino"), Body: &protocol.Record_Health{}},
	}
	// The station's clock counts 50 ms before the gap, then 100 ms lost, then 50 ms.
	want := []box{
		{0, 100, -5000, -4000, "145.4935 MHz", "detection across the start and the edge"},
		{100, 200, -1000, 1000, "145.5000 MHz", "detection inside"},
		{200, 200, 0, 200, "145.5001 MHz", "detection grows"},
		{400, 200, -1000, 1000, "145.5000 MHz", "detection across the gap"},
		{900, 100, -1000, 1000, "145.5000 MHz", "detection never ends"},
	}
	meta := described(t, source)
	if diff := cmp.Diff(want, boxes(meta)); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
	a := meta.Annotations[0]
	if *a.SNRDB != 12 || *a.PowerDBFS != -30 || a.Generator != "heimdall-agent/1.0.0" || len(a.Label) >= 20 {
		t.Errorf("annotation: %+v", a)
	}
	ids := make(map[string]bool)
	for _, a := range meta.Annotations {
		if !uuid.MatchString(a.UUID) || ids[a.UUID] {
			t.Errorf("annotation %q has the UUID %q", a.Comment, a.UUID)
		}
		ids[a.UUID] = true
	}
	source = newSource()
	source.add("torino", "capture-1", noise(1, 4300))
	source.captures[0].Detections = []*protocol.Record{first}
	if diff := cmp.Diff([]box{{2100, 10, -100, 100, "145.5000 MHz", "detection torino-0102030405060708-9"}}, boxes(described(t, source))); diff != "" {
		t.Errorf("first record (-want +got):\n%s", diff)
	}
}

func TestMetadata_StrongestEmissionOfTheWhole(t *testing.T) {
	source := newSource()
	m := source.add("torino", "capture-1", noise(1, 2000))
	m.Measurement = &protocol.Measurement{
		OccupiedLowHz: proto.Float64(145.5e6 - 200), OccupiedHighHz: proto.Float64(145.5e6 + 300), SnrDb: proto.Float32(20.3), PeakDbfs: proto.Float32(-12.7),
	}
	meta := described(t, source)
	if a := meta.Annotations[0]; *a.SNRDB != 20.3 || *a.PowerDBFS != -12.7 {
		t.Errorf("levels %v dB and %v dBFS, want 20.3 and -12.7", *a.SNRDB, *a.PowerDBFS)
	}
	want := []box{{0, 1000, -200, 300, "strongest", "99 % occupied bandwidth of the averaged spectrum"}}
	if diff := cmp.Diff(want, boxes(meta)); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
}

func TestMetadata_OfManyDetectionsTheLoudestStay(t *testing.T) {
	source := newSource()
	source.add("torino", "capture-1", noise(1, 20_000))
	for i := range 3000 {
		source.captures[0].Detections = append(source.captures[0].Detections, detected(fmt.Sprint(i), float64(i)*1e-4, 1e-4, 0, 10, float32(-i)))
	}
	meta := described(t, source)
	if len(meta.Annotations) != 2000 {
		t.Fatalf("%d annotations, want 2000", len(meta.Annotations))
	}
	for i, a := range meta.Annotations {
		if a.SampleStart != uint64(i) {
			t.Fatalf("annotation %d begins at %d, want the loudest in the order of time", i, a.SampleStart)
		}
	}
}

func TestAssemble_WithoutAcquisitionTheDateIsTheFolder(t *testing.T) {
	source := newSource()
	source.add("torino", "capture-1", noise(1, 2000))
	source.captures[0].Reply.Acquisition = nil
	described(t, source)
	if got := source.finished[key("torino", "capture-1")].Key; got != "recordings/2026-11-24/torino/capture-1" {
		t.Errorf("key %q", got)
	}
}

func TestAssemble_BadManifestsFailForGood(t *testing.T) {
	type spoil func(*archive.Capture, *protocol.CaptureManifest)
	manifest := func(f func(*protocol.CaptureManifest)) spoil {
		return func(_ *archive.Capture, m *protocol.CaptureManifest) { f(m) }
	}
	for want, f := range map[string]spoil{
		"station":         func(c *archive.Capture, _ *protocol.CaptureManifest) { c.Station = "../etc" },
		"no manifest":     func(c *archive.Capture, _ *protocol.CaptureManifest) { c.Reply.Capture = nil },
		`"../../escape"`:  manifest(func(m *protocol.CaptureManifest) { m.Id = proto.String("../../escape") }),
		`".hidden"`:       manifest(func(m *protocol.CaptureManifest) { m.Id = proto.String(".hidden") }),
		`""`:              manifest(func(m *protocol.CaptureManifest) { m.Id = nil }),
		`"a/b"`:           func(c *archive.Capture, _ *protocol.CaptureManifest) { c.Reply.Acquisition = proto.String("a/b") },
		"up to 128":       manifest(func(m *protocol.CaptureManifest) { m.Id = proto.String(strings.Repeat("a", 129)) }),
		`"cf64_le"`:       manifest(func(m *protocol.CaptureManifest) { m.Format = proto.String("cf64_le") }),
		"chunks: 0":       manifest(func(m *protocol.CaptureManifest) { m.Chunks = nil }),
		"bytes: 0":        manifest(func(m *protocol.CaptureManifest) { m.Bytes = nil }),
		"bytes: 2001":     manifest(func(m *protocol.CaptureManifest) { m.Bytes = proto.Uint64(2001) }),
		"bytes: 18446744": manifest(func(m *protocol.CaptureManifest) { m.Bytes = proto.Uint64(math.MaxUint64 - 1) }),
		"samples: 7":      manifest(func(m *protocol.CaptureManifest) { m.Samples = proto.Uint64(7) }),
		"sha512: 20":      manifest(func(m *protocol.CaptureManifest) { m.Sha512 = make([]byte, 20) }),
		"sample_rate_hz":  manifest(func(m *protocol.CaptureManifest) { m.SampleRateHz = proto.Float64(math.NaN()) }),
		"center_hz":       manifest(func(m *protocol.CaptureManifest) { m.CenterHz = proto.Float64(math.Inf(1)) }),
		"core:frequency":  manifest(func(m *protocol.CaptureManifest) { m.CenterHz = proto.Float64(1e300) }),
		"start: absent":   manifest(func(m *protocol.CaptureManifest) { m.Start = nil }),
		"gaps[0].sample": manifest(func(m *protocol.CaptureManifest) {
			m.Gaps = []*protocol.CaptureGap{{Sample: proto.Uint64(1001)}}
		}),
		"gaps[1].sample": manifest(func(m *protocol.CaptureManifest) {
			m.Gaps = []*protocol.CaptureGap{{Sample: proto.Uint64(5)}, {Sample: proto.Uint64(4)}}
		}),
		"gaps[1].lost": manifest(func(m *protocol.CaptureManifest) {
			m.Gaps = []*protocol.CaptureGap{{Sample: proto.Uint64(5), Lost: proto.Uint64(9)}, {Sample: proto.Uint64(6), Lost: proto.Uint64(math.MaxUint64)}}
		}),
	} {
		source := newSource()
		m := source.add("torino", "capture-1", noise(1, 2000))
		f(&source.captures[0], m)
		a := place{location: "file:" + t.TempDir()}.open(t, source)
		if err := a.Assemble(t.Context()); err != nil {
			t.Errorf("%s: assemble: %v", want, err)
		}
		reason := strings.Join(values(source.failed), "")
		if len(source.failed) != 1 || !strings.Contains(reason, want) || len(source.finished) > 0 {
			t.Errorf("%s: failed %q, finished %v; want one failure that says %q", want, source.failed, source.finished, want)
		}
	}
}

func values(m map[string]string) []string {
	var all []string
	for _, v := range m {
		all = append(all, v)
	}
	return all
}

func TestOpen_WrongLocationsNameTheMend(t *testing.T) {
	for location, want := range map[string]string{
		"":                                  "file:PATH",
		"/var/lib/archive":                  "file:PATH",
		"file:":                             "path is missing",
		"ftp://host/bucket":                 "want s3://",
		"s3://":                             "bucket is missing",
		"s3://b":                            "no bucket's name",
		"s3://bucket?endpoint=host:9000":    "http://host:port",
		"s3://bucket?endpoint=ftp://host":   "http://host:port",
		"s3://bucket?endpoint=http://h/x":   "http://host:port",
		"s3://bucket?endpoint=":             "",
		"s3://bucket?style=path":            `"style" is not known`,
		"s3://bucket?region=a&region=b":     "given twice",
		"s3://key:secret@bucket":            "do not belong in the URL",
		"s3://bucket?%zz":                   "endpoint=",
		"s3://buck et":                      "s3://bucket",
		"file:/dev/null/below":              "archive folder",
		"s3://bucket?endpoint=http://-a-:1": "endpoint",
	} {
		_, err := archive.Open(t.Context(), archive.Config{Location: location})
		if want == "" {
			if err != nil {
				t.Errorf("%q: %v", location, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one that says %q", location, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret@") {
			t.Errorf("%q: the error tells the secret", location)
		}
	}
}

func FuzzOpen(f *testing.F) {
	f.Add("s3://bucket/prefix?endpoint=http://127.0.0.1:9000&region=eu")
	f.Add("s3://bucket")
	f.Add("s3://%zz?endpoint=%")
	f.Fuzz(func(t *testing.T, location string) {
		if !strings.HasPrefix(location, "s3:") { // a folder would be made
			return
		}
		a, err := archive.Open(t.Context(), archive.Config{Location: location})
		if err == nil && a.Close() != nil {
			t.Errorf("%q cannot be closed", location)
		}
	})
}

func TestRun_SaysOnceThatItWaitsAndGoesOn(t *testing.T) {
	source := newSource()
	data := noise(1, 2000)
	source.add("torino", "capture-1", data)
	failures := 0
	source.fault = func(call string) error {
		if call != "chunk" || failures == 3 {
			return nil
		}
		failures++
		return fmt.Errorf("the database is away")
	}
	a := place{location: "file:" + t.TempDir()}.open(t, source)
	ended := make(chan error, 1)
	ctx, stop := testContext(t)
	go func() { ended <- a.Run(ctx) }()
	select {
	case <-source.changed:
	case <-time.After(20 * time.Second):
		t.Fatal("no recording")
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}
	if s := a.Stats(); s.RetriesTotal != 3 || s.RecordingsTotal != 1 {
		t.Errorf("stats %+v, want 3 retries and 1 recording", s)
	}
}
