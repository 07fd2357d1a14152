package protocol_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/fulgidus/heimdall/protocol"
)

func TestDecode_ReadsWhatSealIdentified(t *testing.T) {
	want := record(measurement())
	bare := proto.CloneOf(want)
	bare.Spool, bare.Seq = nil, nil
	payload := encode(t, bare)
	before := bytes.Clone(payload)
	got, err := protocol.Decode(protocol.Seal(payload, spool, 118))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("sealed record differs (-want +got):\n%s", diff)
	}
	if !bytes.Equal(before, payload) {
		t.Error("Seal changed the payload it was given")
	}
	if protocol.Digest(want) != protocol.Digest(got) {
		t.Error("the digest of the sealed record differs from that of the whole one")
	}
}

func TestSeal_NewIdentityWins(t *testing.T) {
	other := [8]byte{8, 7, 6, 5, 4, 3, 2, 1}
	rec, err := protocol.Decode(protocol.Seal(encode(t, record(site())), other, 7))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := rec.Stream(), (protocol.Stream{Station: "giaveno", Spool: other}); got != want || rec.GetSeq() != 7 {
		t.Errorf("got %v, seq %d; want %v, seq 7", got, rec.GetSeq(), want)
	}
}

// A record is the same whether it came as protobuf or as JSON: a station may change its format between two
// attempts to deliver it.
func TestDigest_SameInBothForms(t *testing.T) {
	for name, m := range golden(t) {
		rec, ok := m.(*protocol.Record)
		if !ok {
			continue
		}
		fromJSON, err := protocol.Decode(marshal(t, rec))
		if err != nil {
			t.Fatal(err)
		}
		if protocol.Digest(rec) != protocol.Digest(fromJSON) {
			t.Errorf("%s: the digest after JSON differs", name)
		}
		changed := proto.CloneOf(rec)
		changed.Time = new(rec.GetTime() + 1)
		if protocol.Digest(rec) == protocol.Digest(changed) {
			t.Errorf("%s: a nanosecond does not change the digest", name)
		}
	}
}

func TestDecode_KeepsFieldsOfLaterVersions(t *testing.T) {
	payload := encode(t, record(site()))
	payload = protowire.AppendTag(payload, 999, protowire.BytesType)
	payload = protowire.AppendString(payload, "from the future")
	rec, err := protocol.Decode(payload)
	if err != nil {
		t.Fatal(err)
	}
	if err := protocol.Validate(rec, now); err != nil {
		t.Error(err)
	}
	if got := encode(t, rec); !bytes.Equal(got, payload) {
		t.Errorf("encoded again: %x, want %x", got, payload)
	}
}

func TestDecode_Refuses(t *testing.T) {
	elements := func(field protowire.Number, inner ...protowire.Number) []byte {
		b := bytes.Repeat(protowire.AppendBytes(protowire.AppendTag(nil, inner[0], protowire.BytesType), nil), protocol.MaxElements+1)
		for _, n := range inner[1:] {
			b = protowire.AppendBytes(protowire.AppendTag(nil, n, protowire.BytesType), b)
		}
		return protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), b)
	}
	for name, c := range map[string]struct {
		payload []byte
		want    protocol.Code
	}{
		"nothing":                   {nil, protocol.CodeMalformed},
		"too many bytes":            {make([]byte, protocol.MaxMessageBytes+1), protocol.CodeTooLarge},
		"a broken tag":              {[]byte{0xff}, protocol.CodeMalformed},
		"a broken value":            {[]byte{0x0a, 0x05, 'a'}, protocol.CodeMalformed},
		"text that is not UTF-8":    {[]byte{0x0a, 0x01, 0xff}, protocol.CodeMalformed},
		"a broken body":             {[]byte{0x82, 0x01, 0x01, 0xff}, protocol.CodeMalformed},
		"empty unacked ranges":      {elements(19, 2), protocol.CodeTooMany},
		"empty losses":              {elements(19, 4, 7), protocol.CodeTooMany},
		"empty gap ranges":          {elements(20, 2), protocol.CodeTooMany},
		"empty capture gaps":        {elements(22, 12, 7), protocol.CodeTooMany},
		"a health that is cut":      {append([]byte{0x9a, 0x01, 0x02}, 0x12, 0x7f), protocol.CodeMalformed},
		"very many fields":          {bytes.Repeat([]byte{0x0a, 0x00}, 300), protocol.CodeTooMany},
		"a JSON array in an object": {[]byte(`{"station":[1]}`), protocol.CodeMalformed},
	} {
		_, err := protocol.Decode(c.payload)
		if code(err) != c.want {
			t.Errorf("%s: got %v (code %q), want code %q", name, err, code(err), c.want)
		}
	}
	if _, err := protocol.DecodeAck([]byte{0xff}); code(err) != protocol.CodeMalformed {
		t.Errorf("a broken acknowledgement: %v", err)
	}
	if _, err := protocol.DecodeCommand([]byte{0xff}); code(err) != protocol.CodeMalformed {
		t.Errorf("a broken command: %v", err)
	}
}

func TestEncode_RefusesTextThatIsNotUTF8(t *testing.T) {
	rec := record(site())
	rec.Step = new("\xff")
	if b, err := protocol.Encode(rec); err == nil {
		t.Errorf("encoded to %x", b)
	}
}

func TestBatch_ReturnsTheSealedRecords(t *testing.T) {
	want := make([]*protocol.Record, protocol.MaxBatchRecords)
	payloads := make([][]byte, len(want))
	for i := range want {
		want[i] = record(measurement())
		want[i].Seq = new(uint64(i + 1))
		payloads[i] = encode(t, want[i])
	}
	batch, err := protocol.EncodeBatch(payloads)
	if err != nil {
		t.Fatal(err)
	}
	got, err := protocol.DecodeBatch(batch)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("records differ (-want +got):\n%s", diff)
	}
}

func TestEncodeBatch_Refuses(t *testing.T) {
	noise := make([]byte, 100<<10) // does not compress
	for i, x := 0, uint32(1); i < len(noise); i++ {
		x = x*1664525 + 1013904223
		noise[i] = byte(x >> 24)
	}
	for name, c := range map[string]struct {
		payloads [][]byte
		want     protocol.Code
	}{
		"no records":         {nil, protocol.CodeMalformed},
		"too many records":   {make([][]byte, protocol.MaxBatchRecords+1), protocol.CodeTooMany},
		"a record too large": {[][]byte{make([]byte, protocol.MaxMessageBytes+1)}, protocol.CodeTooLarge},
		"too many bytes":     {slicesOf(make([]byte, protocol.MaxMessageBytes), 64), protocol.CodeTooLarge},
		"two of noise":       {[][]byte{noise, reversed(noise)}, protocol.CodeTooLarge},
	} {
		if _, err := protocol.EncodeBatch(c.payloads); code(err) != c.want {
			t.Errorf("%s: got %v (code %q), want code %q", name, err, code(err), c.want)
		}
	}
}

func slicesOf(b []byte, n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = b
	}
	return out
}

func reversed(b []byte) []byte {
	out := make([]byte, len(b))
	for i, c := range b {
		out[len(b)-1-i] = c ^ byte(i*i>>7)
	}
	return out
}

// compress makes a zstd frame of anything, as a hostile station would.
func compress(t testing.TB, raw []byte, options ...zstd.EOption) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil, options...)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(raw, nil)
}

// element is one record of an uncompressed batch.
func element(payload []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), payload)
}

func TestDecodeBatch_Refuses(t *testing.T) {
	frame := func(raw []byte) []byte { return compress(t, raw) }
	good := frame(element(encode(t, record(site()))))
	// A stream whose window is larger than anything a batch may hold.
	var wide bytes.Buffer
	w, err := zstd.NewWriter(&wide, zstd.WithWindowSize(64<<20))
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if _, err := w.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		payload []byte
		want    protocol.Code
	}{
		"nothing":            {nil, protocol.CodeMalformed},
		"no frame":           {[]byte("{}"), protocol.CodeMalformed},
		"a frame cut short":  {good[:len(good)-5], protocol.CodeMalformed},
		"an empty frame":     {frame(nil), protocol.CodeMalformed},
		"only other fields":  {frame([]byte{0x12, 0x00}), protocol.CodeMalformed},
		"a bomb":             {frame(make([]byte, protocol.MaxBatchBytes+1)), protocol.CodeTooLarge},
		"a bomb in a stream": {wide.Bytes(), protocol.CodeTooLarge},
		"two frames in one":  {append(bytes.Clone(frame(make([]byte, 5<<20))), frame(make([]byte, 5<<20))...), protocol.CodeTooLarge},
		"too many records":   {frame(bytes.Repeat(element(nil), protocol.MaxBatchRecords+1)), protocol.CodeTooMany},
		"too many bytes":     {make([]byte, protocol.MaxMessageBytes+1), protocol.CodeTooLarge},
	} {
		records, err := protocol.DecodeBatch(c.payload)
		if code(err) != c.want || len(records) > 0 {
			t.Errorf("%s: got %d records, %v (code %q); want code %q", name, len(records), err, code(err), c.want)
		}
	}
}

func TestDecodeBatch_OneBadRecordBlocksNoOther(t *testing.T) {
	raw := element(encode(t, record(site())))
	raw = append(raw, element([]byte{0xff, 0xff})...)
	raw = append(raw, element(encode(t, record(gap())))...)
	raw = append(raw, 0x0a, 0x7f, 'x') // announces more than there is
	records, err := protocol.DecodeBatch(compress(t, raw))
	bad, ok := err.(*protocol.BatchError) //nolint:errorlint // returned as it is, by contract
	if !ok {
		t.Fatalf("got %v, want a *BatchError", err)
	}
	if len(records) != 2 || records[0].Kind() != protocol.KindSite || records[1].Kind() != protocol.KindGap {
		t.Errorf("good records: got %v, want a site and a gap", records)
	}
	if len(bad.Bad) != 2 || bad.Bad[0].Index != 1 || !bytes.Equal(bad.Bad[0].Payload, []byte{0xff, 0xff}) || bad.Bad[1].Index != 3 {
		t.Errorf("bad records: got %+v, want numbers 1 and 3", bad.Bad)
	}
	if code(err) != protocol.CodeMalformed || !strings.Contains(err.Error(), "2 records of the batch are bad; the first is number 1") {
		t.Errorf("got %q, code %q", err, code(err))
	}
}

// Two bytes on the wire must not become 72 in memory eight million times.
func TestDecodeBatch_NeedsLittleMemory(t *testing.T) {
	inner := bytes.Repeat([]byte{0x12, 0x00}, 32<<10) // empty ranges
	one := element(protowire.AppendBytes(protowire.AppendTag(nil, 20, protowire.BytesType), inner))
	payload := compress(t, bytes.Repeat(one, protocol.MaxBatchBytes/len(one)), zstd.WithEncoderLevel(zstd.SpeedBestCompression))
	result := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if records, _ := protocol.DecodeBatch(payload); len(records) > 0 {
				b.Fatal("a record of more elements than allowed was decoded")
			}
		}
	})
	// The decompressed bytes themselves, and as much again for the decompressor.
	if got, most := result.AllocedBytesPerOp(), int64(2*protocol.MaxBatchBytes); got > most {
		t.Errorf("decoding took %d bytes, want at most %d", got, most)
	}
}
