package radio_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/dsp"
)

func TestFile_NamesSayFormatCentreAndRate(t *testing.T) {
	type facts struct {
		Format       string
		CenterHz, Hz float64 // NaN centre as 0
		Start        string
	}
	for _, c := range []struct {
		name       string
		parameters string
		want       facts
	}{
		{"g001_433.92M_250k.cu8", "", facts{"cu8", 433.92e6, 250e3, ""}},
		{"skylink_g001_433.92M_250k.cu8", "", facts{"cu8", 433.92e6, 250e3, ""}},
		{"adsb_modes1_1090M_2M.cu8", "", facts{"cu8", 1090e6, 2e6, ""}},
		{"wmbus_issue48_868.625M_2400k.cu8", "", facts{"cu8", 868.625e6, 2.4e6, ""}},
		{"x_250k_433.92M.cs8", "", facts{"cs8", 433.92e6, 250e3, ""}},
		{"x_77.5k_12k.cs16", "", facts{"cs16", 77.5e3, 12e3, ""}},
		{"x_1.2G_20M.cf32", "", facts{"cf32", 1.2e9, 20e6, ""}},
		{"v2_x_433M_1M.cu8", "", facts{"cu8", 433e6, 1e6, ""}},
		{"x_2400000sps_868300000Hz.cu8", "", facts{"cu8", 868.3e6, 2.4e6, ""}},
		{"x_14074kHz_48k.cs16", "", facts{"cs16", 14.074e6, 48e3, ""}},
		{"x_250k.complex16u", "", facts{"cu8", 0, 250e3, ""}},
		{"x_250k.complex16s", "", facts{"cs8", 0, 250e3, ""}},
		{"x_250k.complex32s", "", facts{"cs16", 0, 250e3, ""}},
		{"x_250k.complex", "", facts{"cf32", 0, 250e3, ""}},
		{"x_433M.cu8", "rate=1M", facts{"cu8", 433e6, 1e6, ""}},
		{"plain.dat", "format=cs16&rate=48k&center=7.1M", facts{"cs16", 7.1e6, 48e3, ""}},
		{"g001_433.92M_250k.cu8", "rate=1M&center=100M&format=cs8", facts{"cs8", 100e6, 1e6, ""}},
		{"gqrx_20150501_120000_145500000_2000000_fc.raw", "", facts{"cf32", 145.5e6, 2e6, "2015-05-01T12:00:00Z"}},
		{"HDSDR_20171127_104156Z_14074kHz_48k.cs16", "", facts{"cs16", 14.074e6, 48e3, "2017-11-27T10:41:56Z"}},
	} {
		info, _ := play(t, write(t, c.name, make([]byte, 4000)), c.parameters)
		got := facts{Format: info.Format.String(), CenterHz: info.Tuning.CenterHz, Hz: info.Tuning.SampleRateHz}
		if math.IsNaN(got.CenterHz) {
			got.CenterHz = 0
		}
		if !info.Start.IsZero() {
			got.Start = info.Start.Format(time.RFC3339)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s?%s: want (-), got (+):\n%s", c.name, c.parameters, diff)
		}
		if !info.MaskDC {
			t.Errorf("%s: a raw recording's DC spike is not masked", c.name)
		}
	}
}

func TestFile_AwkwardPaths(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"50%_1M_250k.cu8", "what?_1M_250k.cu8", "a b&c=d+e#f_1M_250k.cu8"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, make([]byte, 10), 0o600); err != nil {
			t.Fatal(err)
		}
		if info, _ := play(t, path, ""); info.Samples != 5 {
			t.Errorf("%s: %d samples, want 5", name, info.Samples)
		}
		slashes := "file://" + strings.TrimPrefix(radio.FileSource(path), "file:")
		r := newSource(t, slashes)
		start(t, r)
	}
}

func TestFile_OddTailIsFlagged(t *testing.T) {
	r, err := radio.Open(radio.FileSource(write(t, "x_433M_250k.cs16", make([]byte, 4*3000+3))), radio.Options{BlockSamples: 1000})
	if err != nil {
		t.Fatal(err)
	}
	start(t, r)
	blocks := drain(t, r)
	for i, b := range blocks {
		if got, want := b.Flags&radio.OddTail != 0, i == len(blocks)-1; got != want {
			t.Errorf("block %d of %d: odd tail %v, want %v", i, len(blocks), got, want)
		}
	}
	if len(blocks) != 3 {
		t.Errorf("%d blocks of 1000 samples, want 3", len(blocks))
	}
}

func TestFile_UntimedBlocksCountFrom1970(t *testing.T) {
	_, blocks := play(t, write(t, "x_433M_250k.cu8", make([]byte, 200000)), "")
	for _, b := range blocks {
		want := time.Unix(0, 0).UTC().Add(time.Duration(b.Index) * 4 * time.Microsecond)
		if b.TimeQuality.Short() != "unset" || !b.Time.Equal(want) {
			t.Errorf("index %d: time %v of quality %s, want %v and unset", b.Index, b.Time, b.TimeQuality.Short(), want)
		}
	}
}

// extensible is a WAVE_FORMAT_EXTENSIBLE fmt chunk's content.
func extensible(code, rate, bits int) []byte {
	guid := cat(u16(code), []byte("\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71"))
	return cat(format(0xFFFE, 2, rate, bits), u16(22), u16(bits), u32(3), guid)
}

func auxi(at time.Time, hz int) []byte {
	b := make([]byte, 164)
	for i, v := range []int{at.Year(), int(at.Month()), int(at.Weekday()), at.Day(), at.Hour(), at.Minute(), at.Second(), at.Nanosecond() / 1e6} {
		binary.LittleEndian.PutUint16(b[2*i:], uint16(v))
	}
	binary.LittleEndian.PutUint32(b[32:], uint32(hz))
	return b
}

func sdrConsole(text string, wide bool) []byte {
	if !wide {
		return []byte(text)
	}
	var b []byte
	for _, u := range utf16.Encode([]rune(text)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return append(b, 0, 0)
}

func TestFile_WAV(t *testing.T) {
	data := ramp(0, 3000)
	at := time.Date(2020, 9, 4, 20, 44, 56, 789e6, time.UTC)
	const xml = `<?xml version="1.0"?><SDR-XML-Root Created="x"><Definition RadioCenterFreq="5650000000" SampleRate="48000" ` +
		`CurrentTimeUTC="04-09-2020 20:44:56" UTCSeconds="1599252296"></Definition></SDR-XML-Root>`
	rf64 := func(id string) []byte {
		return cat([]byte(id), u32(-1), []byte("WAVE"), part("ds64", cat(u64(1<<33), u64(uint64(len(data))), u64(3000), u32(0))),
			part("fmt ", format(1, 2, 48000, 16)), []byte("data"), u32(-1), data, part("LIST", []byte("INFOxxxx")))
	}
	for _, c := range []struct {
		title, name string
		file        []byte
		format      dsp.Format
		centerHz    float64
		start       time.Time
	}{
		{"PCM 16", "x.wav", riff(part("fmt ", format(1, 2, 48000, 16)), part("data", data)), dsp.CS16, 0, time.Time{}},
		{"PCM 8", "x.wav", riff(part("fmt ", format(1, 2, 48000, 8)), part("data", data)), dsp.CU8, 0, time.Time{}},
		{"float 32", "x.wav", riff(part("fmt ", format(3, 2, 48000, 32)), part("data", data)), dsp.CF32, 0, time.Time{}},
		{"extensible PCM", "x.wav", riff(part("fmt ", extensible(1, 48000, 16)), part("data", data)), dsp.CS16, 0, time.Time{}},
		{"extensible float", "x.wav", riff(part("fmt ", extensible(3, 48000, 32)), part("data", data)), dsp.CF32, 0, time.Time{}},
		{"RF64", "x.wav", rf64("RF64"), dsp.CS16, 0, time.Time{}},
		{"BW64", "x.wav", rf64("BW64"), dsp.CS16, 0, time.Time{}},
		{"misnamed", "x.cu8", riff(part("fmt ", format(1, 2, 48000, 16)), part("data", data)), dsp.CS16, 0, time.Time{}},
		{"size 0 to the end", "x.wav", cat(riff(part("fmt ", format(1, 2, 48000, 16))), []byte("data"), u32(0), data), dsp.CS16, 0, time.Time{}},
		{"size -1 to the end", "x.wav", cat(riff(part("fmt ", format(1, 2, 48000, 16))), []byte("data"), u32(-1), data), dsp.CS16, 0, time.Time{}},
		{"odd chunk before", "x.wav", riff(part("fmt ", format(1, 2, 48000, 16)), part("note", []byte("odd")), part("data", data)), dsp.CS16, 0, time.Time{}},
		{"auxi", "x.wav", riff(part("fmt ", format(1, 2, 48000, 16)), part("auxi", auxi(at, 14074000)), part("data", data)), dsp.CS16, 14.074e6, at},
		{"auxi after the data", "x.wav", riff(part("fmt ", format(1, 2, 48000, 16)), part("data", data), part("auxi", auxi(at, 14074000))), dsp.CS16, 14.074e6, at},
		{"auxi against name", "SDRuno_20200904_204456Z_7150kHz.wav", riff(part("fmt ", format(1, 2, 48000, 16)), part("auxi", auxi(at, 14074000)), part("data", data)), dsp.CS16, 14.074e6, at},
		{"auxi overflow", "HDSDR_20200904_204456Z_5650000kHz_RF.wav", riff(part("fmt ", format(1, 2, 48000, 16)), part("auxi", auxi(at, 5650000000&0xffffffff)), part("data", data)), dsp.CS16, 5.65e9, at},
		{"name only", "HDSDR_20200904_204456Z_14074kHz_RF.wav", riff(part("fmt ", format(1, 2, 48000, 16)), part("data", data)), dsp.CS16, 14.074e6, at.Truncate(time.Second)},
		{"SDR Console", "x.wav", riff(part("fmt ", format(1, 2, 48000, 16)), part("auxi", sdrConsole(xml, true)), part("data", data)), dsp.CS16, 5.65e9, at.Truncate(time.Second)},
		{"SDR Console in bytes", "x.wav", riff(part("fmt ", format(1, 2, 48000, 16)), part("auxi", sdrConsole(xml, false)), part("data", data)), dsp.CS16, 5.65e9, at.Truncate(time.Second)},
		{"empty auxi", "x.wav", riff(part("fmt ", format(1, 2, 48000, 16)), part("auxi", make([]byte, 164)), part("data", data)), dsp.CS16, 0, time.Time{}},
	} {
		t.Run(c.title, func(t *testing.T) {
			info, blocks := play(t, write(t, c.name, c.file), "")
			if info.Format != c.format || info.Tuning.SampleRateHz != 48000 {
				t.Errorf("%v at %v Hz, want %v at 48000", info.Format, info.Tuning.SampleRateHz, c.format)
			}
			if got := info.Tuning.CenterHz; c.centerHz == 0 && !math.IsNaN(got) || c.centerHz != 0 && got != c.centerHz {
				t.Errorf("centre %v Hz, want %v (0: unknown)", got, c.centerHz)
			}
			if !info.Start.Equal(c.start) {
				t.Errorf("starts at %v, want %v", info.Start, c.start)
			}
			if !bytes.Equal(raw(blocks), data) {
				t.Errorf("%d bytes of samples, want the %d that were written", len(raw(blocks)), len(data))
			}
			if len(info.Notes) > 0 {
				t.Errorf("notes %q, want none", info.Notes)
			}
		})
	}
}

// TestFile_WAVBeyond4GiB is sparse: it takes no room on the disk.
func TestFile_WAVBeyond4GiB(t *testing.T) {
	const size = 1<<32 + 4000
	head := riff(part("fmt ", format(1, 2, 48000, 16)))
	path := write(t, "x.wav", cat(head, []byte("data"), u32(size&0xFFFFFFFF), ramp(0, 1000)))
	if err := os.Truncate(path, int64(len(head))+8+size); err != nil {
		t.Fatal(err)
	}
	r := newFile(t, path, "")
	if info := start(t, r); info.Samples != size/4 {
		t.Errorf("%d samples, want %d: 32 bits of size overflowed", info.Samples, size/4)
	}
}

func TestFile_CutShortWAVPlaysWhatThereIs(t *testing.T) {
	whole := riff(part("fmt ", format(1, 2, 48000, 16)), part("data", ramp(0, 3000)))
	info, blocks := play(t, write(t, "x.wav", whole[:len(whole)-2001]), "")
	if want := ramp(0, 2499); !bytes.Equal(raw(blocks), want) {
		t.Errorf("%d bytes, want %d", len(raw(blocks)), len(want))
	}
	if blocks[len(blocks)-1].Flags&radio.OddTail == 0 {
		t.Error("the last block is not marked as odd tail")
	}
	if len(info.Notes) != 1 || !strings.Contains(info.Notes[0], "cut short") {
		t.Errorf("notes %q, want one that says it was cut short", info.Notes)
	}
}

func sigmf(global, captures string) string {
	return fmt.Sprintf(`{"global": {"core:version": "1.2.0", %s}, "captures": [%s], "annotations": []}`, global, captures)
}

const sigmfGlobal = `"core:datatype": "ci16_le", "core:sample_rate": 48000`

// pair writes a SigMF pair and returns the path of its metadata.
func pair(t testing.TB, meta string, data []byte) string {
	t.Helper()
	path := write(t, "x.sigmf-meta", []byte(meta))
	if err := os.WriteFile(strings.TrimSuffix(path, "meta")+"data", data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func archive(t testing.TB, entries ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(entries); i += 2 {
		if err := w.WriteHeader(&tar.Header{Name: entries[i], Mode: 0o600, Size: int64(len(entries[i+1]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(entries[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestFile_SigMF(t *testing.T) {
	data := ramp(0, 3000)
	meta := sigmf(sigmfGlobal, `{"core:sample_start": 0, "core:frequency": 145500000, "core:datetime": "2025-11-15T17:34:32.232000001Z"}`)
	path := pair(t, meta, data)
	tarred := write(t, "x.sigmf", archive(t, "x/x.sigmf-meta", meta, "x/x.sigmf-data", string(data)))
	backwards := write(t, "y.sigmf", archive(t, "x/x.sigmf-data", string(data), "x/x.sigmf-meta", meta))
	dataset := write(t, "z.sigmf-meta", []byte(strings.Replace(meta, sigmfGlobal, sigmfGlobal+`, "core:dataset": "other.bin", "core:trailing_bytes": 5`, 1)))
	if err := os.WriteFile(filepath.Join(filepath.Dir(dataset), "other.bin"), append(append([]byte(nil), data...), "tail!"...), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, strings.TrimSuffix(path, "meta") + "data", tarred, backwards, dataset} {
		info, blocks := play(t, p, "")
		if info.Tuning.CenterHz != 145.5e6 || info.Tuning.SampleRateHz != 48000 || info.Format != dsp.CS16 || info.MaskDC {
			t.Errorf("%s: %+v", filepath.Base(p), info)
		}
		if want := time.Date(2025, 11, 15, 17, 34, 32, 232000001, time.UTC); !blocks[0].Time.Equal(want) || blocks[0].TimeQuality.Short() != "recorded" {
			t.Errorf("%s: first sample at %v (%s), want %v (recorded)", filepath.Base(p), blocks[0].Time, blocks[0].TimeQuality.Short(), want)
		}
		if !bytes.Equal(raw(blocks), data) {
			t.Errorf("%s: %d bytes of samples, want %d", filepath.Base(p), len(raw(blocks)), len(data))
		}
	}
}

func TestFile_SigMFScaleInWords(t *testing.T) {
	for scale, want := range map[string]string{"2": "6.0 dB below", "0.5": "6.0 dB above"} {
		meta := sigmf(sigmfGlobal+`, "heimdall:scale": `+scale, `{"core:sample_start": 0}`)
		info, _ := play(t, pair(t, meta, ramp(0, 100)), "")
		if len(info.Notes) != 1 || !strings.Contains(info.Notes[0], "levels read "+want) {
			t.Errorf("scale %s: notes %q, want one with %q", scale, info.Notes, want)
		}
	}
}

// The description's hash is that of all the data, also of what is no sample. What differs is told at the end, when all
// was played.
func TestFile_SigMFHash(t *testing.T) {
	data := cat(ramp(0, 2000), []byte("HEADER!"), ramp(2000, 1000), []byte("TAIL"))
	whole := sha512.Sum512(data)
	global := sigmfGlobal + fmt.Sprintf(`, "core:trailing_bytes": 4, "core:sha512": "%x"`, whole)
	meta := sigmf(global, `{"core:sample_start": 0}, {"core:sample_start": 2000, "core:header_bytes": 7}`)
	changed := bytes.Clone(data)
	changed[100]++
	for name, c := range map[string]struct {
		path string
		want string // of the fault
	}{
		"as recorded":         {pair(t, meta, data), ""},
		"as recorded, packed": {write(t, "x.sigmf", archive(t, "x/x.sigmf-meta", meta, "x/x.sigmf-data", string(data))), ""},
		"one byte changed":    {pair(t, meta, changed), "get the file again"},
		"cut short":           {pair(t, meta, data[:len(data)-1000]), "get the file again"},
	} {
		r := newSource(t, radio.FileSource(c.path))
		start(t, r)
		var b radio.Block
		var err error
		for err == nil {
			err = r.Read(t.Context(), &b)
		}
		if !errors.Is(err, io.EOF) {
			t.Fatalf("%s: %v", name, err)
		}
		switch faults := radio.Faults(err); {
		case c.want == "" && len(faults) > 0:
			t.Errorf("%s: %v", name, faults)
		case c.want != "" && (len(faults) != 1 || faults[0].Field != "core:sha512" || !strings.Contains(faults[0].Mend, c.want)):
			t.Errorf("%s: got %v, want one fault of core:sha512 with %q", name, faults, c.want)
		}
	}
}

// TestFile_SigMFCaptures plays a recording of several captures: an exact loss, an estimated one, a retune, bytes of
// headers between.
func TestFile_SigMFCaptures(t *testing.T) {
	meta := sigmf(sigmfGlobal, `
		{"core:sample_start": 0, "core:frequency": 1e6, "core:global_index": 100, "core:datetime": "2025-01-01T00:00:00Z"},
		{"core:sample_start": 1000, "core:frequency": 1e6, "core:global_index": 1150},
		{"core:sample_start": 2000, "core:frequency": 2e6, "core:header_bytes": 7, "core:datetime": "2025-01-01T00:00:01Z"},
		{"core:sample_start": 2500, "core:frequency": 2e6, "core:datetime": "2025-01-01T00:00:02Z"}`)
	data := cat(ramp(0, 2000), []byte("HEADER!"), ramp(2000, 1000))
	_, blocks := play(t, pair(t, meta, data), "")
	type seen struct {
		Segment     uint32
		Index, Lost uint64
		Exact       bool
		CenterHz    float64
		Time        string
	}
	var got []seen
	for _, b := range blocks {
		got = append(got, seen{b.Segment, b.Index, b.LostBefore, b.LostExact, b.Tuning.CenterHz, b.Time.Format("05.000000000")})
	}
	want := []seen{
		{0, 0, 0, true, 1e6, "00.000000000"},
		{0, 1050, 50, true, 1e6, "00.021875000"}, // 1050/48000
		// The first capture's clock puts sample 2050 at 0.0427 s: 45950 samples are missing until 1 s, by the clock.
		{1, 48000, 45950, false, 2e6, "01.000000000"},
		{2, 96000, 47500, false, 2e6, "02.000000000"},
	}
	// Blocks are 1024 samples at most, so each capture is one block.
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
	if !bytes.Equal(raw(blocks), ramp(0, 3000)) {
		t.Error("the samples are not those written, without the header bytes")
	}
}

// anchored is a file of 1 s at 1 kHz whose samples count, with a second anchor parameter.
func anchored(t *testing.T, more string) string {
	t.Helper()
	path := write(t, "x_1M_1k.cs16", ramp(0, 1000))
	return radio.FileSource(path) + "?time=2017-11-27T10:42:00Z" + more
}

func TestFile_AnchorPlaysInRealTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // begins at 2000-01-01T00:00:00Z
		r := newSource(t, anchored(t, "&anchor=2017-11-27T10:42:00Z@2000-01-01T00:00:10Z"))
		info := start(t, r)
		if !info.Timeline || info.Live {
			t.Errorf("Timeline %v, Live %v: want true and false", info.Timeline, info.Live)
		}
		live := time.Date(2000, 1, 1, 0, 0, 10, 0, time.UTC)
		if !info.Start.Equal(live) {
			t.Errorf("starts at %v, want %v", info.Start, live)
		}
		var b radio.Block
		if err := r.Read(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
		if !b.Time.Equal(live) || !time.Now().Equal(b.End()) {
			t.Errorf("first block is of %v and came at %v, want %v and %v", b.Time, time.Now().UTC(), live, b.End())
		}
	})
}

func TestFile_AnchorInThePastStartsInTheMiddle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newSource(t, anchored(t, "&anchor=2017-11-27T10:42:00Z@1999-12-31T23:59:59.7999Z"))
		start(t, r)
		var b radio.Block
		if err := r.Read(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
		// 200.1 ms have passed: the next sample is number 201, of 2000-01-01T00:00:00.0009Z.
		if got := binary.LittleEndian.Uint16(b.Raw); got != 201 || b.Index != 0 || b.LostBefore != 0 {
			t.Errorf("begins at sample %d with index %d, %d lost; want 201, 0, 0", got, b.Index, b.LostBefore)
		}
		if want := time.Date(2000, 1, 1, 0, 0, 0, 900e3, time.UTC); !b.Time.Equal(want) {
			t.Errorf("first sample at %v, want %v", b.Time, want)
		}
	})
}

func TestFile_AnchorOverIsTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newSource(t, anchored(t, "&anchor=2017-11-27T10:42:00Z@1999-01-01T00:00:00Z"))
		info := start(t, r)
		if blocks := drain(t, r); len(blocks) != 0 {
			t.Errorf("%d blocks of a recording that is over", len(blocks))
		}
		if len(info.Notes) != 1 || !strings.Contains(info.Notes[0], "over") {
			t.Errorf("notes %q, want one that says it is over", info.Notes)
		}
	})
}

// TestFile_EveryRepeats starts in the third repeat, 100 ms before its end.
func TestFile_EveryRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newSource(t, anchored(t, "&anchor=2017-11-27T10:42:00Z@1999-12-31T23:58:59.1Z&every=30s"))
		start(t, r)
		var b radio.Block
		index, segment, last := uint64(0), uint32(0), uint16(0)
		for i := range 1000 {
			if err := r.Read(t.Context(), &b); err != nil {
				t.Fatal(err)
			}
			first := binary.LittleEndian.Uint16(b.Raw)
			switch {
			case i == 0 && first != 900:
				t.Fatalf("begins at sample %d, want 900", first)
			case i > 0 && first == 0:
				segment++
				if last != 999 {
					t.Errorf("repeats after sample %d, want 999", last)
				}
			case i > 0 && first != last+1:
				t.Errorf("sample %d follows %d", first, last)
			}
			last = binary.LittleEndian.Uint16(b.Raw[len(b.Raw)-4:])
			want := time.Date(1999, 12, 31, 23, 59, 59, 100e6, time.UTC).Add(time.Duration(segment)*30*time.Second + time.Duration(first)*time.Millisecond)
			if !b.Time.Equal(want) || b.Segment != segment || b.Index != index || b.LostBefore != 0 {
				t.Fatalf("sample %d of repeat %d: time %v, segment %d, index %d, %d lost; want %v, %d, %d, 0",
					first, segment, b.Time, b.Segment, b.Index, b.LostBefore, want, segment, index)
			}
			if !time.Now().Equal(b.End()) {
				t.Errorf("block came at %v, want %v", time.Now(), b.End())
			}
			index += uint64(b.Samples())
			if segment == 3 {
				return
			}
		}
		t.Error("three repeats did not come")
	})
}

func TestFile_PaceRealWithoutAnchor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newSource(t, anchored(t, "&pace=real"))
		begin := time.Now()
		if info := start(t, r); info.Timeline {
			t.Error("a recording without an anchor has no timeline to compare with the clock")
		}
		drain(t, r)
		if got := time.Since(begin); got != time.Second {
			t.Errorf("one second of samples took %v", got)
		}
	})
}

// TestFile_SlowReaderLosesNothing: a recording waits for its reader, and catches up without waiting.
func TestFile_SlowReaderLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newSource(t, anchored(t, "&anchor=2017-11-27T10:42:00Z@2000-01-01T00:00:00Z"))
		start(t, r)
		time.Sleep(time.Minute)
		before := time.Now()
		if blocks := drain(t, r); !bytes.Equal(raw(blocks), ramp(0, 1000)) {
			t.Errorf("%d bytes, want all", len(raw(blocks)))
		}
		if waited := time.Since(before); waited != 0 {
			t.Errorf("waited %v although everything was due", waited)
		}
	})
}
