package protocol_test

import (
	"testing"

	"github.com/fulgidus/heimdall/protocol"
)

func BenchmarkEncode_Measurement(b *testing.B) {
	rec := record(measurement())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := protocol.Encode(rec); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(encode(b, rec))), "bytes/record")
}

func BenchmarkSeal_Measurement(b *testing.B) {
	payload := encode(b, record(measurement()))
	b.ReportAllocs()
	for b.Loop() {
		protocol.Seal(payload, spool, 118)
	}
}

func BenchmarkDecode_Measurement(b *testing.B) {
	payload := encode(b, record(measurement()))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := protocol.Decode(payload); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode_MeasurementJSON(b *testing.B) {
	payload := marshal(b, record(measurement()))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := protocol.Decode(payload); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMarshalJSON_Measurement(b *testing.B) {
	rec := record(measurement())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := protocol.MarshalJSON(rec); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkValidate_Measurement(b *testing.B) {
	rec := record(measurement())
	b.ReportAllocs()
	for b.Loop() {
		if err := protocol.Validate(rec, now); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDigest_Measurement(b *testing.B) {
	rec := record(measurement())
	b.ReportAllocs()
	for b.Loop() {
		protocol.Digest(rec)
	}
}

func BenchmarkNewSpectrum_1024Bins(b *testing.B) {
	levels := noise()
	b.ReportAllocs()
	var size int
	for b.Loop() {
		s, err := protocol.NewSpectrum(levels, 0, 1)
		if err != nil {
			b.Fatal(err)
		}
		size = len(s.GetLevels())
	}
	b.ReportMetric(float64(size), "bytes/spectrum")
}

func BenchmarkLevelsDBFSHz_1024Bins(b *testing.B) {
	s, err := protocol.NewSpectrum(noise(), 0, 1)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.LevelsDBFSHz(); err != nil {
			b.Fatal(err)
		}
	}
}

// batchPayloads are 500 measurements as a backlog holds them: values differ from one to the next.
func batchPayloads(b *testing.B) [][]byte {
	b.Helper()
	levels := noise()
	payloads := make([][]byte, 500)
	for i := range payloads {
		rec := record(measurement())
		m := rec.GetMeasurement()
		rec.Seq, rec.Time = new(uint64(i+1)), at(float64(i))
		m.PowerDbfs, m.NoiseFloorDbfsHz = new(float32(levels[i])), new(float32(levels[i+500]))
		m.DcI, m.DcQ, m.PeakHz = new(float32(levels[i]*1e-5)), new(float32(levels[i+1]*1e-5)), new(145.5e6+levels[i])
		payloads[i] = encode(b, rec)
	}
	return payloads
}

func BenchmarkEncodeBatch_500Measurements(b *testing.B) {
	payloads := batchPayloads(b)
	b.ReportAllocs()
	var size int
	for b.Loop() {
		batch, err := protocol.EncodeBatch(payloads)
		if err != nil {
			b.Fatal(err)
		}
		size = len(batch)
	}
	b.ReportMetric(float64(size)/float64(len(payloads)), "bytes/record")
}

func BenchmarkDecodeBatch_500Measurements(b *testing.B) {
	batch, err := protocol.EncodeBatch(batchPayloads(b))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := protocol.DecodeBatch(batch); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRanges_AddInOrder(b *testing.B) {
	b.ReportAllocs()
	var set protocol.Ranges
	n := uint64(0)
	for b.Loop() {
		n++
		set.Add(n)
	}
}

// Hot paths must not allocate: validation and membership run once a record.
func TestHotPaths_DoNotAllocate(t *testing.T) {
	rec := record(measurement())
	set := protocol.NewRanges(protocol.Range{From: 1, To: 1000}, protocol.Range{From: 2000, To: 3000})
	n := uint64(3000)
	for name, f := range map[string]func(){
		"Validate":        func() { _ = protocol.Validate(rec, now) },
		"Ranges.Contains": func() { _ = set.Contains(2500) },
		"Ranges.Add":      func() { n++; set.Add(n) },
	} {
		if got := testing.AllocsPerRun(100, f); got != 0 {
			t.Errorf("%s: %v allocations, want none", name, got)
		}
	}
}
