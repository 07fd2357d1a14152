package radio_test

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/configs"
)

// wrong is a fault as a test wants it: the field and value exactly, and words of the mend.
type wrong struct{ field, value, mend string }

func TestOpen_BrokenRecordings(t *testing.T) {
	pcm := part("fmt ", format(1, 2, 48000, 16))
	data := part("data", ramp(0, 100))
	good := sigmf(sigmfGlobal, `{"core:sample_start": 0}`)
	with := func(global string) string { return sigmf(global, `{"core:sample_start": 0}`) }
	for _, c := range []struct {
		title, name string
		file        []byte
		data        []byte // of a SigMF pair
		parameters  string
		want        wrong
	}{
		{"zero length", "x_1M_250k.cu8", nil, nil, "", wrong{"file", "0 bytes", "record again"}},
		{"less than a sample", "x_1M_250k.cf32", make([]byte, 7), nil, "", wrong{"file", "", "no whole sample"}},
		{"no rate", "x.cu8", make([]byte, 100), nil, "", wrong{"sample rate", "", "--rate 250k"}},
		{"no rate but a centre", "x_433M.cu8", make([]byte, 100), nil, "", wrong{"sample rate", "", "rate=250k"}},
		{"no format", "x_433M_250k.bin", make([]byte, 100), nil, "", wrong{"format", ".bin", "--format cu8"}},
		{"absurd rate in the name", "x_433M_9000G.cu8", make([]byte, 100), nil, "", wrong{"sample rate", "9000 GHz", "absurd"}},
		{"tiny rate in the name", "x_1Hz_5sps.cu8", make([]byte, 100), nil, "", wrong{"sample rate", "5 Hz", "100 Hz to 1 GHz"}},
		{"gzip", "x_433M_250k.cu8.gz", []byte("\x1f\x8b\x08xxxxxx"), nil, "", wrong{"file", ".gz", "unpack"}},
		{"gzip by content", "recording", []byte("\x1f\x8b\x08xxxxxx"), nil, "", wrong{"file", "", "unpack"}},
		{"coco", "x.coco", []byte("BZh9xxxxxx"), nil, "", wrong{"file", ".coco", "unpack"}},
		{"not a WAV", "x.wav", []byte("ID3\x04 this is music"), nil, "", wrong{"header", "ID3. this is", "RIFF"}},
		{"big-endian WAV", "x.wav", cat([]byte("RIFX"), u32(4), []byte("WAVE")), nil, "", wrong{"byte order", "RIFX", "little-endian"}},
		{"WAV cut in the header", "x.wav", riff(pcm)[:20], nil, "", wrong{"fmt chunk", "0 bytes", "at least 16"}},
		{"WAV with nothing", "x.wav", riff(), nil, "", wrong{"fmt chunk", "", "missing"}},
		{"WAV without data", "x.wav", riff(pcm), nil, "", wrong{"data chunk", "", "missing"}},
		{"WAV with data first", "x.wav", riff(data, pcm), nil, "", wrong{"fmt chunk", "", "before the data chunk"}},
		{"WAV with empty data", "x.wav", riff(pcm, part("data", nil)), nil, "", wrong{"file", "", "no whole sample"}},
		{"WAV of rate 0", "x.wav", riff(part("fmt ", format(1, 2, 0, 16)), data), nil, "", wrong{"sample rate", "0 Hz", "--rate"}},
		{"WAV of 4 GHz", "x.wav", riff(part("fmt ", format(1, 2, -1, 16)), data), nil, "", wrong{"sample rate", "4.294967295 GHz", "absurd"}},
		{"mono WAV", "x.wav", riff(part("fmt ", format(1, 1, 48000, 16)), data), nil, "", wrong{"channels", "1", "left I and right Q"}},
		{"24-bit WAV", "x.wav", riff(part("fmt ", format(1, 2, 48000, 24)), data), nil, "", wrong{"encoding", "format 1 with 24 bits", "8 or 16"}},
		{"ADPCM WAV", "x.wav", riff(part("fmt ", format(2, 2, 48000, 4)), data), nil, "", wrong{"encoding", "format 2 with 4 bits", "save it"}},
		{"short extensible", "x.wav", riff(part("fmt ", format(0xFFFE, 2, 48000, 16)), data), nil, "", wrong{"fmt chunk", "16 bytes", "at least 40"}},
		{"short ds64", "x.wav", cat([]byte("RF64"), u32(-1), []byte("WAVE"), part("ds64", u64(1)), pcm, data), nil, "", wrong{"ds64 chunk", "8 bytes", "at least 28"}},
		{"Kiwi cut before samples", "x.wav", riff(pcm, part("kiwi", make([]byte, 10))), nil, "", wrong{"data chunk", "", "cut off"}},
		{"Kiwi with ragged frames", "x.wav", riff(pcm, part("kiwi", make([]byte, 10)), part("data", make([]byte, 2046)), part("kiwi", make([]byte, 10)), data), nil, "", wrong{"data chunk", "2046 bytes", "whole samples"}},
		{"Kiwi of another format", kiwiName, kiwiWAV(12001, kiwiFrames(9, kiwiTOW, kiwiRate)), nil, "format=cu8", wrong{"format", "cu8", "is cs16"}},
		{"Kiwi of rate 12", kiwiName, kiwiWAV(12, kiwiFrames(9, kiwiTOW, kiwiRate)), nil, "", wrong{"sample rate", "12 Hz", "absurd"}},
		{"SigMF without data", "x.sigmf-meta", []byte(good), nil, "", wrong{"data", "x.sigmf-data", "missing"}},
		{"SigMF without metadata", "x.sigmf-data", ramp(0, 100), nil, "", wrong{"metadata", "x.sigmf-meta", "missing"}},
		{"SigMF that is no JSON", "x.sigmf-meta", []byte("{"), ramp(0, 10), "", wrong{"metadata", "", ""}},
		{"SigMF without global", "x.sigmf-meta", []byte("{}"), ramp(0, 10), "", wrong{"global", "", "missing"}},
		{"SigMF without datatype", "x.sigmf-meta", []byte(with(`"core:sample_rate": 1e6`)), ramp(0, 10), "", wrong{"core:datatype", "", "cu8"}},
		{"SigMF of real samples", "x.sigmf-meta", []byte(with(`"core:datatype": "rf32_le", "core:sample_rate": 1e6`)), ramp(0, 10), "", wrong{"core:datatype", "rf32_le", "convert"}},
		{"SigMF big-endian", "x.sigmf-meta", []byte(with(`"core:datatype": "ci16_be", "core:sample_rate": 1e6`)), ramp(0, 10), "", wrong{"core:datatype", "ci16_be", "convert"}},
		{"SigMF without rate", "x.sigmf-meta", []byte(with(`"core:datatype": "cu8"`)), ramp(0, 10), "", wrong{"sample rate", "", "--rate"}},
		{"SigMF of rate 0", "x.sigmf-meta", []byte(with(`"core:datatype": "cu8", "core:sample_rate": 0`)), ramp(0, 10), "", wrong{"core:sample_rate", "0", "absurd"}},
		{"SigMF of negative rate", "x.sigmf-meta", []byte(with(`"core:datatype": "cu8", "core:sample_rate": -1e6`)), ramp(0, 10), "", wrong{"sample rate", "-1 MHz", "absurd"}},
		{"SigMF rate as text", "x.sigmf-meta", []byte(with(`"core:datatype": "cu8", "core:sample_rate": "1M"`)), ramp(0, 10), "", wrong{"global.core:sample_rate", `"1M"`, "want a number"}},
		{"SigMF of two channels", "x.sigmf-meta", []byte(with(sigmfGlobal + `, "core:num_channels": 2`)), ramp(0, 10), "", wrong{"core:num_channels", "2", "split"}},
		{"SigMF metadata only", "x.sigmf-meta", []byte(with(sigmfGlobal + `, "core:metadata_only": true`)), ramp(0, 10), "", wrong{"core:metadata_only", "true", "get the data"}},
		{"SigMF dataset elsewhere", "x.sigmf-meta", []byte(with(sigmfGlobal + `, "core:dataset": "../../etc/passwd"`)), ramp(0, 10), "", wrong{"core:dataset", "../../etc/passwd", "plain name"}},
		{"SigMF captures unsorted", "x.sigmf-meta", []byte(sigmf(sigmfGlobal, `{"core:sample_start": 5}, {"core:sample_start": 3}`)), ramp(0, 10), "", wrong{"captures[1].core:sample_start", "3", "sort"}},
		{"SigMF cut short", "x.sigmf-meta", []byte(sigmf(sigmfGlobal, `{"core:sample_start": 0}, {"core:sample_start": 30}`)), ramp(0, 10), "", wrong{"captures[1].core:sample_start", "30", "cut short"}},
		{"SigMF starts beyond the end", "x.sigmf-meta", []byte(sigmf(sigmfGlobal, `{"core:sample_start": 30}`)), ramp(0, 10), "", wrong{"captures[0].core:sample_start", "30", "holds 10"}},
		{"SigMF header beyond the end", "x.sigmf-meta", []byte(sigmf(sigmfGlobal, `{"core:sample_start": 0, "core:header_bytes": 99}`)), ramp(0, 10), "", wrong{"captures[0].core:header_bytes", "99", "holds 40"}},
		{"SigMF absurd frequency", "x.sigmf-meta", []byte(sigmf(sigmfGlobal, `{"core:sample_start": 0, "core:frequency": 1e300}`)), ramp(0, 10), "", wrong{"captures[0].core:frequency", "1e+300", "absurd"}},
		{"SigMF bad time", "x.sigmf-meta", []byte(sigmf(sigmfGlobal, `{"core:sample_start": 0, "core:datetime": "yesterday"}`)), ramp(0, 10), "", wrong{"captures[0].core:datetime", `"yesterday"`, ""}},
		{"SigMF empty data", "x.sigmf-meta", []byte(good), []byte{}, "", wrong{"file", "", "no whole sample"}},
		{"SigMF archive of nothing", "x.sigmf", archive(t, "readme", "hello"), nil, "", wrong{"archive", "", "no .sigmf-meta"}},
		{"SigMF archive that is no tar", "x.sigmf", []byte(strings.Repeat("x", 2000)), nil, "", wrong{"archive", "", "tar"}},
		{"SigMF archive cut off", "x.sigmf", archive(t, "x/x.sigmf-meta", good)[:530], nil, "", wrong{"archive", "", "cut off"}},
		{"SigMF archive without data", "x.sigmf", archive(t, "x/x.sigmf-meta", good), nil, "", wrong{"archive", "x/x", "no samples"}},
		{"SigMF archive with bad metadata", "x.sigmf", archive(t, "x/x.sigmf-meta", "{}", "x/x.sigmf-data", "xxxx"), nil, "", wrong{"global", "", "missing"}},
		{"SigMF archive with bad version", "x.sigmf", archive(t, "x/x.sigmf-meta", strings.Replace(good, "1.2.0", "new", 1), "x/x.sigmf-data", "xxxx"), nil, "", wrong{"global.core:version", "new", "want"}},
		{"SigMF collection", "x.sigmf-collection", []byte("{}"), nil, "", wrong{"file", ".sigmf-collection", "one of its"}},
		{"time given twice", kiwiName, kiwiWAV(12001, kiwiFrames(9, kiwiTOW, kiwiRate)), nil, "time=2020-01-01T00:00:00Z", wrong{"time", "2020-01-01T00:00:00Z", "leave it out"}},
		{"anchor without time", "x_1M_250k.cu8", make([]byte, 100), nil, "anchor=2020-01-01T00:00:00Z@2020-01-01T00:00:00Z", wrong{"anchor", "", "time=2026"}},
		{"every shorter than the recording", "x_1M_1k.cu8", make([]byte, 6000), nil, "time=2020-01-01T00:00:00Z&anchor=2020-01-01T00:00:00Z@2020-01-01T00:00:00Z&every=2.5s", wrong{"every", "2.5s", "at least 3s"}},
	} {
		t.Run(c.title, func(t *testing.T) {
			path := write(t, c.name, c.file)
			if c.data != nil {
				if err := os.WriteFile(strings.TrimSuffix(path, "meta")+"data", c.data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			source := radio.FileSource(path)
			if c.parameters != "" {
				source += "?" + c.parameters
			}
			err := openError(t.Context(), source, radio.Options{})
			faults := radio.Faults(err)
			if len(faults) != 1 {
				t.Fatalf("got %v, want one fault", err)
			}
			f := faults[0]
			value := f.Value
			if filepath.IsAbs(value) {
				value = filepath.Base(value)
			}
			if f.Field != c.want.field || c.want.value != "" && value != c.want.value || !strings.Contains(f.Mend, c.want.mend) {
				t.Errorf("got field %q, value %q, mend %q;\nwant %q, %q and a mend with %q", f.Field, value, f.Mend, c.want.field, c.want.value, c.want.mend)
			}
			if f.Where != "recording "+path {
				t.Errorf("the fault is of %q, want %q", f.Where, "recording "+path)
			}
		})
	}
}

func TestOpen_BrokenSources(t *testing.T) {
	for _, c := range []struct {
		source string
		want   []wrong
	}{
		{"", []wrong{{"scheme", "", "file:PATH"}}},
		{"recording.cu8", []wrong{{"scheme", "", "file:PATH"}}},
		{"ftp://x", []wrong{{"scheme", "ftp", "unknown"}}},
		{"kiwi:host:8073", []wrong{{"host", "host:8073", "//HOST:PORT"}}},
		{"kiwi://host:0?gain=121&center=-1&buffer=x&colour=red", []wrong{
			{"port", "0", "1 to 65535"}, {"center", "-1", "want a number of Hz"}, {"gain", "121", "0 to 120"}, {"buffer", "x", "time span"}, {"colour", "red", "unknown parameter"},
		}},
		{"file:", []wrong{{"path", "", "missing"}}},
		{"file://host/x.cu8", []wrong{{"path", "//host/x.cu8", "file:///"}}},
		{"file:50%.cu8", []wrong{{"path", "50%.cu8", "%25"}}},
		{"file:x.cu8?pace=slow", []wrong{{"pace", "slow", "real or fast"}}},
		{"file:x.cu8?rate=fast", []wrong{{"rate", "fast", "100 Hz to 1 GHz"}}},
		{"file:x.cu8?rate=5", []wrong{{"rate", "5", "100 Hz to 1 GHz"}}},
		{"file:x.cu8?rate=NaN", []wrong{{"rate", "NaN", "100 Hz to 1 GHz"}}},
		{"file:x.cu8?center=-1", []wrong{{"center", "-1", "145.5M"}}},
		{"file:x.cu8?format=u8", []wrong{{"format", "u8", "cu8"}}},
		{"file:x.cu8?time=noon", []wrong{{"time", "noon", "2026-11-24T02:00:00Z"}}},
		{"file:x.cu8?anchor=2026-11-24T02:00:00Z", []wrong{{"anchor", "2026-11-24T02:00:00Z", "RECORDED@LIVE"}}},
		{"file:x.cu8?anchor=then@now", []wrong{{"anchor", "now", "2026"}, {"anchor", "then", "2026"}}},
		{"file:x.cu8?every=30s", []wrong{{"every", "30s", "anchor=RECORDED@LIVE"}}},
		{"file:x.cu8?anchor=2026-11-24T02:00:00+01:00@2026-11-24T02:00:00Z&every=-1s", []wrong{{"every", "-1s", "30s"}}},
		{"file:x.cu8?pace=real&pace=fast", []wrong{{"pace", "fast", "given twice"}}},
		{"file:x.cu8?speed=2&sped=1", []wrong{{"sped", "1", "anchor, center, every, format, pace, rate, time"}, {"speed", "2", "unknown"}}},
		{"sim:", []wrong{{"path", "", "missing"}, {"station", "", "missing"}}},
		{"sim:x.yaml?station=a&start=2026-01-01T00:00:00Z", []wrong{{"start", "2026-01-01T00:00:00Z", "pace=fast"}}},
		{"sim:x.yaml?station=a&rate=1&settle=x&buffer=0", []wrong{{"rate", "1", "1 kHz to 100 MHz"}, {"buffer", "0", "above 0"}, {"settle", "x", "above 0"}}},
	} {
		_, err := radio.Open(c.source, radio.Options{})
		faults := radio.Faults(err)
		if len(faults) != len(c.want) {
			t.Errorf("%s: got %v, want %d faults", c.source, err, len(c.want))
			continue
		}
		for i, f := range faults {
			if w := c.want[i]; f.Field != w.field || f.Value != w.value || !strings.Contains(f.Mend, w.mend) || !strings.Contains(f.Error(), c.source) {
				t.Errorf("%s: got %v; want field %q, value %q and a mend with %q", c.source, f, w.field, w.value, w.mend)
			}
		}
	}
	if err := openError(t.Context(), "file:/no/such/file.cu8", radio.Options{}); err == nil || !strings.Contains(err.Error(), "/no/such/file.cu8") {
		t.Errorf("missing file: got %v, want its path", err)
	}
	if err := openError(t.Context(), "file:"+t.TempDir(), radio.Options{}); len(radio.Faults(err)) != 1 {
		t.Errorf("folder: got %v, want a fault", err)
	}
	if _, err := radio.Open("file:x.cu8", radio.Options{RateHz: 1e12}); len(radio.Faults(err)) != 1 {
		t.Errorf("absurd rate in the options: got %v, want a fault", err)
	}
}

func TestScene_Broken(t *testing.T) {
	const station = "stations: {aa: {position: [45, 7]}}\n"
	emitter := func(more string) string {
		return station + "emitters: [{id: e, position: [45, 7], center: 1M, power_dbm: 0, " + more + "}]\n"
	}
	const tone = "modulation: {kind: tone}"
	for _, c := range []struct {
		title, text string
		want        []wrong // field, value, words of the message
	}{
		{"nothing", "", []wrong{{"stations", "", "at least one"}}},
		{"no YAML", "seed: [", []wrong{{"", "", ""}}},
		{"unknown key", station + "sead: 7\n", []wrong{{"sead", "", "seed"}}},
		{"key twice", station + "seed: 1\nseed: 2\n", []wrong{{"seed", "seed", "already set"}}},
		{"seed", station + "seed: seven\n", []wrong{{"seed", "seven", "whole number"}}},
		{"epoch", station + "epoch: now\n", []wrong{{"epoch", "now", "2026-01-01T00:00:00Z"}}},
		{"ancient epoch", station + "epoch: 1900-01-01T00:00:00Z\n", []wrong{{"epoch", "1900-01-01T00:00:00Z", "1970"}}},
		{"floor", station + "noise: {floor_dbfs_hz: 20}\n", []wrong{{"noise.floor_dbfs_hz", "20", "-250 to 0"}}},
		{"station id", "stations: {Torino!: {position: [45, 7]}}\n", []wrong{{"stations.Torino!", "", ""}}},
		{"no position", "stations: {aa: {}}\n", []wrong{{"stations.aa.position", "", "latitude, longitude"}}},
		{"empty station", "stations: {aa: }\n", []wrong{{"stations.aa.position", "", "latitude, longitude"}}},
		{"latitude", "stations: {aa: {position: [145, 7]}}\n", []wrong{{"stations.aa.position[0]", "145", "-90 to 90"}}},
		{"longitude and height", "stations: {aa: {position: [45, 700, 1e9]}}\n", []wrong{{"stations.aa.position[1]", "700", "-180 to 180"}, {"stations.aa.position[2]", "1e9", "m"}}},
		{"rate", "stations: {aa: {position: [45, 7], rate: 1G}}\n", []wrong{{"stations.aa.rate", "1G", "Hz"}}},
		{"format", "stations: {aa: {position: [45, 7], format: mp3}}\n", []wrong{{"stations.aa.format", "mp3", "cu8"}}},
		{"clock", "stations: {aa: {position: [45, 7], clock: {ppm: 1e6, sigma_s: -1, quality: good, offset_s: 1e9}}}\n", []wrong{
			{"stations.aa.clock.ppm", "1e6", "1000"},
			{"stations.aa.clock.sigma_s", "-1", "0 to"},
			{"stations.aa.clock.quality", "good", "gnss"},
			{"stations.aa.clock.offset_s", "1e9", "86400"},
		}},
		{"no emitter id", station + "emitters: [{position: [45, 7], center: 1M, power_dbm: 0, " + tone + "}]\n", []wrong{{"emitters[0].id", "", "missing"}}},
		{"emitter id twice", strings.Replace(emitter(tone), "emitters: [", "emitters: [{id: e, position: [45, 7], center: 1M, power_dbm: 0, "+tone+"}, ", 1), []wrong{{"emitters[1].id", "e", "twice"}}},
		{"no centre, no power", station + "emitters: [{id: e, position: [45, 7], " + tone + "}]\n", []wrong{{"emitters[0].center", "", "missing"}, {"emitters[0].power_dbm", "", "missing"}}},
		{"power", strings.Replace(emitter(tone), "power_dbm: 0", "power_dbm: 1e9", 1), []wrong{{"emitters[0].power_dbm", "1e9", "150"}}},
		{"kind", emitter("modulation: {kind: am}"), []wrong{{"emitters[0].modulation.kind", "am", "tone, fm, ook"}}},
		{"no modulation", emitter("schedule: {}"), []wrong{{"emitters[0].modulation.kind", "", "tone, fm, ook"}}},
		{"fm without deviation", emitter("modulation: {kind: fm}"), []wrong{{"emitters[0].modulation.deviation_hz", "", "fm needs it"}}},
		{"fsk without baud", emitter("modulation: {kind: fsk, deviation_hz: 1k}"), []wrong{{"emitters[0].modulation.baud", "", "fsk needs it"}}},
		{"noise of negative width", emitter("modulation: {kind: noise, bandwidth_hz: -1k}"), []wrong{{"emitters[0].modulation.bandwidth_hz", "-1k", "0.1 Hz to 100 MHz"}}},
		{"schedule without duration", emitter(tone + ", schedule: {every: 1s}"), []wrong{{"emitters[0].schedule.duration", "", "how long"}}},
		{"duration beyond every", emitter(tone + ", schedule: {every: 1s, duration: 2s}"), []wrong{{"emitters[0].schedule.duration", "2s", "longer than every"}}},
		{"negative schedule", emitter(tone + ", schedule: {every: -1s, duration: -2s}"), []wrong{{"emitters[0].schedule.every", "-1s", "0 or more"}, {"emitters[0].schedule.duration", "-2s", "0 or more"}}},
		{"path", station + "path: {model: magic, exponent: 0, shadow_db: -1, reference_dbfs: 999}\n", []wrong{
			{"path.model", "magic", "free_space or log_distance"},
			{"path.exponent", "0", "1 to 8"},
			{"path.shadow_db", "-1", "0 to 40"},
			{"path.reference_dbfs", "999", "300"},
		}},
	} {
		t.Run(c.title, func(t *testing.T) {
			_, err := radio.DecodeScene("scene.yaml", []byte(c.text))
			faults, ok := errors.AsType[configs.Faults](err)
			if !ok || len(faults) != len(c.want) {
				t.Fatalf("got %v, want %d faults", err, len(c.want))
			}
			for i, f := range faults {
				if w := c.want[i]; f.Field != w.field || f.Value != w.value || !strings.Contains(f.Message, w.mend) {
					t.Errorf("got field %q, value %q, message %q;\nwant %q, %q and a message with %q", f.Field, f.Value, f.Message, w.field, w.value, w.mend)
				}
			}
		})
	}
}

func TestSim_WrongStationAndEpoch(t *testing.T) {
	path := write(t, "scene.yaml", []byte(testScene))
	for _, c := range []struct{ source, field, value, mend string }{
		{"sim:" + path + "?station=cc", "station", "cc", "aa, bb"},
		{"sim:" + path + "?station=aa&pace=fast&start=1999-01-01T00:00:00Z", "epoch", "2000-01-01T00:00:00Z", "earlier"},
	} {
		err := openError(t.Context(), c.source, radio.Options{})
		if f := radio.Faults(err); len(f) != 1 || f[0].Field != c.field || f[0].Value != c.value || !strings.Contains(f[0].Mend, c.mend) {
			t.Errorf("%s: got %v; want field %q, value %q and a mend with %q", c.source, err, c.field, c.value, c.mend)
		}
	}
	r := newSource(t, "sim:"+path+"?station=aa&pace=fast")
	start(t, r)
	for _, c := range []struct {
		tuning radio.Tuning
		field  string
	}{
		{radio.Tuning{CenterHz: -5}, "center"},
		{radio.Tuning{SampleRateHz: 1}, "rate"},
	} {
		if f := radio.Faults(r.Tune(t.Context(), c.tuning)); len(f) != 1 || f[0].Field != c.field {
			t.Errorf("Tune to %+v: got %v, want a fault of %s", c.tuning, f, c.field)
		}
	}
}

// FuzzOpen_Recordings feeds arbitrary bytes to every parser.
func FuzzOpen_Recordings(f *testing.F) {
	names := []string{
		"x_1M_250k.cu8", "x_1M_250k.cf32", "x.wav", kiwiName, "x.sigmf", "x.sigmf-meta", "noname",
		"HDSDR_20200904_204456Z_5650000kHz_RF.wav",
	}
	pcm := part("fmt ", format(1, 2, 48000, 16))
	frames := kiwiFrames(12, kiwiTOW, kiwiRate)
	frames[0].sec -= 500
	for i, b := range [][]byte{
		ramp(0, 20), ramp(0, 20),
		riff(pcm, part("auxi", make([]byte, 164)), part("data", ramp(0, 50))),
		kiwiWAV(12001, frames),
		archive(f, "x/x.sigmf-meta", sigmf(sigmfGlobal, `{"core:sample_start": 0}`), "x/x.sigmf-data", "xxxxxxxx"),
		[]byte(sigmf(sigmfGlobal, `{"core:sample_start": 1, "core:header_bytes": 3, "core:global_index": 18446744073709551615}, {"core:sample_start": 2}`)),
		{0x1f, 0x8b, 8},
		cat([]byte("RF64"), u32(-1), []byte("WAVE"), part("ds64", make([]byte, 28)), part("auxi", []byte("<Definition RadioCenterFreq='5' UTCSeconds='7'/>")), pcm, part("data", ramp(0, 9))),
	} {
		f.Add(uint8(i), b)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, which uint8, content []byte) {
		name := names[int(which)%len(names)]
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "-meta") {
			if err := os.WriteFile(strings.TrimSuffix(path, "meta")+"data", ramp(0, 100), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		r, err := radio.Open(radio.FileSource(path), radio.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		info, err := r.Open(t.Context())
		if err != nil {
			if len(radio.Faults(err)) == 0 {
				t.Fatalf("an error that names no field: %v", err)
			}
			return
		}
		total := uint64(0)
		for _, b := range drain(t, r) {
			total += uint64(b.Samples())
		}
		if total != info.Samples || total == 0 {
			t.Fatalf("%d samples were played of %d", total, info.Samples)
		}
	})
}

// FuzzOpen_Source feeds arbitrary text to the parser of source URLs.
func FuzzOpen_Source(f *testing.F) {
	for _, s := range []string{
		"file:x.cu8?rate=1M&anchor=2017-11-27T10:42:00Z@2026-11-24T02:00:00Z&every=30s&pace=real",
		"sim:s.yaml?station=a&start=2026-01-01T00:00:00Z&pace=fast&buffer=1s&settle=5ms", "kiwi://h", "file:%zz?%=%&&=", ":", "",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, source string) {
		r, err := radio.Open(source, radio.Options{})
		if (r == nil) == (err == nil) {
			t.Fatalf("%q gives receiver %v and error %v", source, r, err)
		}
		if err != nil && len(radio.Faults(err)) == 0 {
			t.Fatalf("an error that names no field: %v", err)
		}
	})
}

// FuzzDecodeScene feeds arbitrary text to the scene reader, and listens to what it accepts.
func FuzzDecodeScene(f *testing.F) {
	f.Add([]byte(testScene))
	f.Add([]byte("stations: {aa: {position: [0, 0], rate: 1k}}\nemitters: [{id: e, position: [0, 0], center: 1M, power_dbm: 150, " +
		"modulation: {kind: ook, baud: 100M}, schedule: {start: -1s, every: 1ns, duration: 1ns}}]"))
	path := filepath.Join(f.TempDir(), "scene.yaml")
	f.Fuzz(func(t *testing.T, text []byte) {
		scene, err := radio.DecodeScene("scene.yaml", text)
		if err != nil {
			return
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		for id := range scene.Stations {
			if scene.Stations[id].Rate > 1e6 || len(scene.Emitters) > 3 || len(scene.Stations) > 3 {
				return
			}
			r, err := radio.Open("sim:"+path+"?pace=fast&start=2026-01-01T00:00:00Z&station="+id, radio.Options{BlockSamples: 64})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.Open(t.Context()); err != nil {
				if f := radio.Faults(err); len(f) != 1 || f[0].Field != "epoch" {
					t.Fatal(err)
				}
				return
			}
			var b radio.Block
			if err := r.Read(t.Context(), &b); err != nil || len(b.Raw) == 0 || binary.Size(b.Raw)%b.Format.BytesPerSample() != 0 {
				t.Fatalf("%d bytes and error %v", len(b.Raw), err)
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
