package store_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/fulgidus/heimdall/protocol"
)

func testMigrate(t *testing.T, s *server) {
	db := s.openUnmigrated(t)
	if d, err := db.Describe(t.Context()); err != nil || d.Migration != 0 {
		t.Fatalf("before: %+v, %v", d, err)
	}
	n, err := db.Migrate(t.Context())
	if err != nil || n != newestMigration {
		t.Fatalf("applied %d, %v; want %d", n, err, newestMigration)
	}
	if n, err = db.Migrate(t.Context()); err != nil || n != 0 {
		t.Fatalf("again: applied %d, %v; want 0", n, err)
	}
	d, err := db.Describe(t.Context())
	if err != nil || d.Migration != newestMigration {
		t.Fatalf("after: %+v, %v", d, err)
	}
	t.Log(d)
}

// records is one of each kind with every field set.
func records() []*protocol.Record {
	at := func(seq uint64, body *protocol.Record) *protocol.Record {
		rec := measurement("torino", 1, seq)
		rec.Body = body.Body
		return rec
	}
	m := measurement("torino", 1, 1)
	*m.GetMeasurement() = protocol.Measurement{
		DurationS: new(1.5), CenterHz: new(77500.25), SampleRateHz: new(12001.0625), Samples: new(uint64(1) << 62),
		LostSamples: new(uint64(3)), ClippedFraction: new(float32(0.1)), DcI: new(float32(-0.01)), DcQ: new(float32(0)),
		PowerDbfs: new(float32(-38.2)), NoiseFloorDbfsHz: new(float32(-104.1)), PeakHz: new(77499.9), PeakDbfs: new(float32(-40.7)),
		SnrDb: new(float32(27.9)), OccupiedBandwidthHz: new(11.2e3), OccupiedLowHz: new(70e3), OccupiedHighHz: new(81.2e3),
		Flags:    []protocol.Flag{protocol.Flag_FLAG_GAIN_TOO_LOW, protocol.Flag_FLAG_STAMPS_REFUSED},
		PowerDbm: new(float32(-70)), NoiseFloorDbmHz: new(float32(-150)), PeakDbm: new(float32(-71)), CalibrationUncertaintyDb: new(float32(1.5)),
	}
	return []*protocol.Record{
		m,
		at(2, &protocol.Record{Body: &protocol.Record_Spectrum{Spectrum: &protocol.Spectrum{
			StartHz: new(145e6), StepHz: new(1000.0), Averages: new(uint32(16)), EnbwBins: new(float32(1.5)), DurationS: new(10.0),
			OffsetDbfsHz: new(float32(-140)), ResolutionDb: new(float32(0.5)), Bins: new(uint32(4)),
			Codec: protocol.Spectrum_CODEC_RAW.Enum(), Levels: []byte{0, 1, 254, 255},
		}}}),
		at(3, &protocol.Record{Body: &protocol.Record_Detection{Detection: &protocol.Detection{
			DetectionId: new("torino-01ff002704050601-2"), DurationS: new(0.25), CenterHz: new(145.5e6), LowHz: new(145.494e6), HighHz: new(145.506e6),
			BandwidthHz: new(12e3), PowerDbfs: new(float32(-41)), SnrDb: new(float32(20)), Open: new(true),
			Flags: []protocol.Flag{protocol.Flag_FLAG_OVERLOAD}, PowerDbm: new(float32(-80)), CalibrationUncertaintyDb: new(float32(1)),
		}}}),
		at(4, &protocol.Record{Body: &protocol.Record_Health{Health: &protocol.Health{
			Now: new(t0.Truncate(time.Microsecond).UnixNano()), Unacked: protocol.NewRanges(protocol.Range{From: 3, To: 4}).Wire(), LastSeq: new(uint64(4)),
			SpoolBytes: new(uint64(1 << 20)), SpoolLimitBytes: new(uint64(2 << 30)), Oldest: new(t0.Truncate(time.Microsecond).UnixNano()),
			Receivers: []*protocol.ReceiverHealth{{
				Receiver: new("rx0"), Connected: new(true), SamplesTotal: new(uint64(1e9)),
				Lost: []*protocol.Loss{{Reason: new("overrun"), Samples: new(uint64(7))}}, HistoryS: new(27.5), RatePpm: new(-1.25),
			}, {Receiver: new("rx1"), Connected: new(false), Error: new("no \"answer\"\n")}},
			Clock:        &protocol.Clock{Quality: protocol.TimeQuality_TIME_QUALITY_PTP.Enum(), UncertaintyS: new(1e-6)},
			TemperatureC: new(float32(41.5)), Version: new("1.2.3"), UptimeS: new(3600.5),
		}}}),
		at(5, &protocol.Record{Body: &protocol.Record_Gap{Gap: &protocol.Gap{
			Spool: spoolOf(9), Ranges: protocol.NewRanges(protocol.Range{From: 1, To: 5}, protocol.Range{From: 8, To: 8}).Wire(), Lane: new("iq"),
			Records: new(uint64(6)), Bytes: new(uint64(60000)), From: new(t0.Truncate(time.Microsecond).UnixNano()),
			To: new(t0.Add(time.Hour).Truncate(time.Microsecond).UnixNano()), Reason: protocol.Gap_REASON_SPOOL_LOST.Enum(),
		}}}),
		at(6, &protocol.Record{Body: &protocol.Record_Reply{Reply: &protocol.Reply{
			CommandId: new("0193"), Acquisition: new("0192"), State: protocol.Reply_STATE_REFUSED.Enum(), ReasonCode: new("not_live"),
			Message: new("Übung: it's a \\file"), EarliestStart: new(t0.Truncate(time.Microsecond).UnixNano()), Progress: new(0.5),
			Capture: manifest("cap-1", 0),
		}}}),
	}
}

// manifest describes a capture of n chunks.
func manifest(id string, n uint32) *protocol.CaptureManifest {
	return &protocol.CaptureManifest{
		Id: new(id), Start: new(t0.UnixNano()), AskedStart: new(t0.Add(-time.Nanosecond).UnixNano()), DurationS: new(5.0), CenterHz: new(145.5e6),
		SampleRateHz: new(15625.001), Format: new("ci16_le"), Scale: new(0.5), Chunks: new(n), Bytes: new(uint64(n) * 8), Sha512: make([]byte, 64),
		Gaps:   []*protocol.CaptureGap{{Sample: new(uint64(10)), Lost: new(uint64(4)), Time: new(t0.UnixNano()), Exact: new(true)}},
		Tuning: &protocol.Tuning{CenterHz: new(145.5e6), SampleRateHz: new(2.4e6), GainDb: new(30.0)}, Samples: new(uint64(n) * 2),
		TimeQuality: protocol.TimeQuality_TIME_QUALITY_NTP.Enum(), TimeUncertaintyS: new(0.001), Receiver: new("rx0"),
		Recorder: new("heimdall-agent 1"), Hardware: new("sim"),
	}
}

func testRoundTrip(t *testing.T, s *server) {
	db := s.open(t)
	want := records()
	originals := make([]*protocol.Record, len(want))
	for i, rec := range want {
		originals[i] = proto.Clone(rec).(*protocol.Record)
	}
	fresh, acks := commit(t, db, originals...)
	if diff := cmp.Diff([]bool{true, true, true, true, true, true}, fresh); diff != "" {
		t.Error("fresh:", diff)
	}
	if got := settled(acks[streamOf("torino", 1)]); got != "{[1,7)}" {
		t.Errorf("settled %s, want {[1,7)}", got)
	}
	for i, rec := range want {
		if diff := cmp.Diff(rec, originals[i], protocmp.Transform()); diff != "" {
			t.Error("commit changed its argument:", diff)
		}
		list, next, err := db.Records(t.Context(), rec.Kind(), protocol.Filter{})
		if err != nil || next != "" || len(list) != 1 {
			t.Fatalf("%s: %d records, next %q, %v", rec.Kind(), len(list), next, err)
		}
		if diff := cmp.Diff(rec, list[0].Record, protocmp.Transform()); diff != "" {
			t.Errorf("%s: %s", rec.Kind(), diff)
		}
		if want := received.Truncate(time.Microsecond); !list[0].Received.Equal(want) || list[0].Late {
			t.Errorf("%s: received %v, late %v; want %v, false", rec.Kind(), list[0].Received, list[0].Late, want)
		}
	}
}
