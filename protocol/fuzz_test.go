package protocol_test

import (
	"bytes"
	"encoding/json"
	"io"
	"math"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/protocol"
)

// seed adds the golden messages in both forms, and mutations of them.
func seed(f *testing.F) {
	for _, m := range golden(f) {
		b := encode(f, m)
		f.Add(b)
		f.Add(b[:len(b)/2])
		f.Add(marshal(f, m))
	}
	f.Add([]byte(`{"measurement":{"flags":[77]},"spool":"nzxaHnewwhQ=","unknown":[{}]}`))
}

// checkForms proves of a decoded message that both forms give it back, and that what is valid stays valid.
func checkForms(t *testing.T, m proto.Message) {
	t.Helper()
	valid := validate(m) == nil
	fromProto, err := decodeAs(m, encode(t, m))
	if err != nil && proto.Size(m) > 0 && protocol.CodeOf(err) != protocol.CodeTooLarge {
		t.Fatalf("encoded again it does not decode: %v", err)
	}
	if err == nil && !proto.Equal(m, fromProto) && valid {
		t.Fatalf("encoded again it differs: %v, want %v", fromProto, m)
	}
	if !valid {
		_, _ = protocol.MarshalJSON(m)
		return
	}
	text := marshal(t, m)
	if !json.Valid(text) {
		t.Fatalf("not JSON: %s", text)
	}
	fromJSON := m.ProtoReflect().New().Interface()
	if err := protocol.UnmarshalJSON(text, fromJSON); err != nil {
		t.Fatalf("its JSON does not decode: %v\n%s", err, text)
	}
	if err := validate(fromJSON); err != nil {
		t.Fatalf("valid before JSON, refused after: %v\n%s", err, text)
	}
	again := marshal(t, fromJSON)
	if rec, ok := fromJSON.(*protocol.Record); ok && rec.GetSpectrum() != nil && !bytes.Equal(text, again) {
		checkRecoded(t, m.(*protocol.Record), rec)
		text, fromJSON = again, m.ProtoReflect().New().Interface()
		if err := protocol.UnmarshalJSON(text, fromJSON); err != nil {
			t.Fatalf("its JSON does not decode: %v\n%s", err, text)
		}
		again = marshal(t, fromJSON)
	}
	if !bytes.Equal(text, again) {
		t.Fatalf("JSON written again differs:\n%s\n%s", again, text)
	}
}

// checkRecoded allows a spectrum that was coded in steps which are none of ours to lose half of one of ours, once.
func checkRecoded(t *testing.T, before, after *protocol.Record) {
	t.Helper()
	want, got := levelsOf(t, before.GetSpectrum()), levelsOf(t, after.GetSpectrum())
	step := float64(after.GetSpectrum().GetResolutionDb())
	for i := range want {
		if math.Abs(got[i]-want[i]) > step/2+0.101 {
			t.Fatalf("bin %d was %v, came back from JSON as %v in steps of %v", i, want[i], got[i], step)
		}
	}
}

// whole adds what the other fields of a measurement tell, as the schema says.
func whole(rec *protocol.Record) *protocol.Record {
	m := rec.GetMeasurement()
	if m == nil {
		return rec
	}
	if d := (float64(m.GetSamples()) + float64(m.GetLostSamples())) / m.GetSampleRateHz(); m.DurationS == nil &&
		m.Samples != nil && m.LostSamples != nil && m.SampleRateHz != nil && !math.IsNaN(d) && !math.IsInf(d, 0) {
		m.DurationS = &d
	}
	if high := m.GetOccupiedLowHz() + m.GetOccupiedBandwidthHz(); m.OccupiedHighHz == nil &&
		m.OccupiedLowHz != nil && m.OccupiedBandwidthHz != nil && !math.IsNaN(high) && !math.IsInf(high, 0) {
		m.OccupiedHighHz = &high
	}
	return rec
}

func FuzzDecode(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		rec, err := protocol.Decode(b)
		if err != nil {
			return
		}
		checkForms(t, rec)
		if general := new(protocol.Record); b[0] != '{' && (proto.Unmarshal(b, general) != nil || !proto.Equal(rec, whole(general))) {
			t.Fatalf("decoded\n%v\nand by the general decoder\n%v", rec, general)
		}
		if rec.Kind() != "" {
			if flat, err := protocol.FlatJSON(rec); err != nil || !json.Valid(flat) {
				t.Fatalf("flat: %s, %v", flat, err)
			}
		}
		sealed, err := protocol.Decode(protocol.Seal(encode(t, rec), spool, 5))
		if err == nil && (sealed.GetSeq() != 5 || sealed.Stream().Spool != spool) {
			t.Fatalf("sealed: %v", sealed)
		}
	})
}

func FuzzDecodeAck(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if ack, err := protocol.DecodeAck(b); err == nil {
			checkForms(t, ack)
		}
	})
}

func FuzzDecodeCommand(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if cmd, err := protocol.DecodeCommand(b); err == nil {
			checkForms(t, cmd)
		}
	})
}

func FuzzUnmarshalJSON(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, m := range []proto.Message{new(protocol.Record), new(protocol.Ack), new(protocol.Command), new(protocol.Spectrum), new(protocol.SeqRange)} {
			if err := protocol.UnmarshalJSON(b, m); err == nil {
				checkForms(t, m)
			}
		}
	})
}

func FuzzDecodeBatch(f *testing.F) {
	var raw []byte
	for _, m := range golden(f) {
		if rec, ok := m.(*protocol.Record); ok {
			raw = append(raw, element(encode(f, rec))...)
		}
	}
	f.Add(compress(f, raw), true)
	f.Add(compress(f, raw)[:100], true)
	f.Add(raw, false)
	f.Add(append(bytes.Clone(raw), 0x0a, 0x7f), false)
	f.Fuzz(func(t *testing.T, b []byte, frame bool) {
		if !frame { // reach what lies behind the decompressor
			b = compress(t, b)
		}
		records, _ := protocol.DecodeBatch(b)
		if len(records) == 0 {
			return
		}
		payloads := make([][]byte, len(records))
		for i, rec := range records {
			payloads[i] = encode(t, rec)
		}
		batch, err := protocol.EncodeBatch(payloads)
		if err != nil {
			return // nearly too large before, too large now
		}
		if again, err := protocol.DecodeBatch(batch); len(again) != len(records) {
			t.Fatalf("%d records came back as %d: %v", len(records), len(again), err)
		}
	})
}

func FuzzTopics(f *testing.F) {
	for topic := range allTopics(protocol.Topics{}) {
		f.Add(topic)
	}
	f.Add("heimdall/v1/+/#")
	f.Fuzz(func(t *testing.T, topic string) {
		var topics protocol.Topics
		got, err := topics.Parse(topic)
		if err != nil {
			return
		}
		built := map[protocol.TopicClass]string{
			protocol.TopicStatus: topics.Status(got.Station), protocol.TopicInfo: topics.Info(got.Station), protocol.TopicState: topics.State(got.Station),
			protocol.TopicRecord: topics.Record(got.Station, got.Kind), protocol.TopicBatch: topics.Batch(got.Station),
			protocol.TopicAck: topics.Ack(got.Station, got.Spool), protocol.TopicCommand: topics.Command(got.Station),
			protocol.TopicJSON: topics.JSON(got.Station, got.Kind), protocol.TopicCollectorStatus: topics.CollectorStatus(got.Collector),
		}[got.Class]
		if built != topic {
			t.Fatalf("%q was read as %+v, which is %q", topic, got, built)
		}
	})
}

func FuzzParseMultirange(f *testing.F) {
	for _, s := range []string{"{}", "{[1,6),[8,9)}", "{(1,6]}", "{[5,18446744073709551615]}", " { [1,2) } ", "{[1,2),"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		set, err := protocol.ParseMultirange(s)
		if err != nil {
			return
		}
		again, err := protocol.ParseMultirange(set.String())
		if err != nil || !slices.Equal(set, again) {
			t.Fatalf("%q: %v became %v, %v", s, set, again, err)
		}
		for i, r := range set {
			if r.From > r.To || i > 0 && r.From <= set[i-1].To+1 {
				t.Fatalf("%q: %v is not in its form", s, set)
			}
		}
	})
}

func FuzzLevels(f *testing.F) {
	f.Add(spectrum(f).GetLevels(), float32(-101.4), float32(0.5), uint32(16), int32(protocol.Spectrum_CODEC_DEFLATE))
	f.Add([]byte{1, 2, 3}, float32(-1), float32(0.1), uint32(3), int32(protocol.Spectrum_CODEC_RAW))
	f.Fuzz(func(t *testing.T, levels []byte, offset, resolution float32, bins uint32, codec int32) {
		s := &protocol.Spectrum{
			OffsetDbfsHz: &offset, ResolutionDb: &resolution, Bins: &bins, Codec: protocol.Spectrum_Codec(codec).Enum(), Levels: levels,
		}
		got, err := s.LevelsDBFSHz()
		if err == nil && len(got) != int(bins) {
			t.Fatalf("%d levels of %d bins", len(got), bins)
		}
		if protocol.Validate(record(s), now) != nil {
			return
		}
		// A byte a bin cannot hold every grid of others, but it comes within half a step of tenths.
		back := new(protocol.Spectrum)
		if err := protocol.UnmarshalJSON(marshal(t, s), back); err != nil {
			t.Fatalf("its JSON does not decode: %v", err)
		}
		for i, v := range levelsOf(t, back) {
			if math.Abs(v-got[i]) > float64(back.GetResolutionDb())/2+0.101 {
				t.Fatalf("bin %d was %v, came back as %v in steps of %v", i, got[i], v, back.GetResolutionDb())
			}
		}
	})
}

func FuzzNewSpectrum(f *testing.F) {
	f.Add([]byte{1, 2, 3, 200}, -101.4, 0.37)
	f.Add([]byte{0, 255}, -400.0, 4.0)
	f.Fuzz(func(t *testing.T, codes []byte, offset, step float64) {
		levels := make([]float64, len(codes))
		for i, c := range codes {
			levels[i] = offset + step*float64(c)
		}
		s, err := protocol.NewSpectrum(levels, 0, 1)
		if err != nil {
			return
		}
		got := levelsOf(t, s)
		for i := range got {
			if levels[i] >= -400 && math.Abs(got[i]-levels[i]) > float64(s.GetResolutionDb())/2+0.051 {
				t.Fatalf("bin %d is %v, want %v, in steps of %v", i, got[i], levels[i], s.GetResolutionDb())
			}
		}
		again, err := protocol.NewSpectrum(got, 0, 1)
		if err != nil || !proto.Equal(s, again) {
			t.Fatalf("coded again: %v, %v; want %v", again, err, s)
		}
	})
}

func FuzzDecodeSigMF(f *testing.F) {
	f.Add([]byte(richSigMF))
	f.Add([]byte(`{"global":{"core:datatype":"cu8","core:version":"1.2.5"},"captures":[{"core:sample_start":0}],"annotations":[]}`))
	f.Add([]byte(`{"global":{"":"\ud800"},"captures":[{"core:datetime":"2026-11-24T01:26:32,5Z"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		meta, err := protocol.DecodeSigMF(b)
		if err != nil {
			return
		}
		_ = meta.Validate()
		written := encodeSigMF(t, meta)
		again, err := protocol.DecodeSigMF(written)
		if err != nil {
			t.Fatalf("written it does not read: %v\n%s", err, written)
		}
		if second := encodeSigMF(t, again); !bytes.Equal(written, second) {
			t.Fatalf("written again it differs:\n%s\n%s", written, second)
		}
	})
}

func FuzzReadSigMFArchive(f *testing.F) {
	f.Add(tarOf(f, file("a.sigmf-meta", richSigMF), file("a.sigmf-data", "1234")))
	f.Add(tarOf(f, file("a/b.sigmf-data", "1234"), file("a/b.sigmf-meta", richSigMF)))
	f.Fuzz(func(t *testing.T, b []byte) {
		recordings, err := protocol.ReadSigMFArchive(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		for _, r := range recordings {
			if r.Data == nil {
				continue
			}
			if n, err := io.Copy(io.Discard, r.Data); err != nil || n != r.Data.Size() {
				t.Fatalf("%s: %d of %d bytes, %v", r.Name, n, r.Data.Size(), err)
			}
		}
	})
}

func FuzzParseTime(f *testing.F) {
	f.Add("2026-11-24T01:26:32.500000000Z")
	f.Add("2026-11-24T01:26:32+14:00")
	f.Fuzz(func(t *testing.T, s string) {
		at, err := protocol.ParseTime(s)
		if err != nil {
			return
		}
		again, err := protocol.ParseTime(protocol.FormatTime(at))
		if err != nil || !again.Equal(at) {
			t.Fatalf("%q is %v, came back as %v, %v", s, at, again, err)
		}
	})
}
