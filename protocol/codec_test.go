package protocol_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/fulgidus/heimdall/protocol"
)

// now is the collector's clock in all tests: three seconds after the samples' time.
var now = time.Date(2026, 11, 24, 1, 26, 35, 0, time.UTC)

var spool = [8]byte{0x9f, 0x3c, 0x5a, 0x1e, 0x77, 0xb0, 0xc2, 0x14}

func record() *protocol.Record {
	return &protocol.Record{
		Station: new("giaveno"), Spool: spool[:], Seq: new(uint64(118)),
		Time:     new(time.Date(2026, 11, 24, 1, 26, 32, 500_000_000, time.UTC).UnixNano()),
		Receiver: new("r0"), Step: new("2m"),
		TimeQuality: protocol.TimeQuality_TIME_QUALITY_NTP.Enum(), TimeUncertaintyS: new(0.0018),
	}
}

func measurementRecord() *protocol.Record {
	rec := record()
	rec.Body = &protocol.Record_Measurement{Measurement: &protocol.Measurement{
		DurationS: new(1.0), CenterHz: new(145e6), SampleRateHz: new(2.048e6),
		Samples: new(uint64(2048000)), LostSamples: new(uint64(0)), ClippedFraction: new(float32(0)),
		DcI: new(float32(0.0012)), DcQ: new(float32(-0.0007)),
		PowerDbfs: new(float32(-38.2)), NoiseFloorDbfsHz: new(float32(-101.4)),
		PeakHz: new(145500012.0), PeakDbfs: new(float32(-52.1)), SnrDb: new(float32(31.6)),
		OccupiedBandwidthHz: new(11200.0), OccupiedLowHz: new(145494400.0), OccupiedHighHz: new(145505600.0),
	}}
	return rec
}

func TestDecode_ReadsWhatSealIdentified(t *testing.T) {
	want := measurementRecord()
	bare := proto.CloneOf(want)
	bare.Spool, bare.Seq = nil, nil
	payload, err := protocol.Encode(bare)
	if err != nil {
		t.Fatal(err)
	}
	before := bytes.Clone(payload)
	got, err := protocol.Decode(protocol.Seal(payload, spool, 118))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("decoded record differs (-want +got):\n%s", diff)
	}
	if !bytes.Equal(before, payload) {
		t.Error("Seal changed the payload it was given")
	}
	if protocol.Digest(want) != protocol.Digest(got) {
		t.Error("the digest of the sealed record differs from that of the whole one")
	}
}
