package protocol_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/fulgidus/heimdall/protocol"
)

// What follows from the other fields is not on the wire and is there again after decoding; what does not follow stays.
func TestEncode_LeavesOutWhatFollows(t *testing.T) {
	for _, test := range []struct {
		name  string
		m     *protocol.Measurement
		saved int // bytes
	}{
		{"both", &protocol.Measurement{
			DurationS: new(1.0), SampleRateHz: new(240e3), Samples: new(uint64(239000)), LostSamples: new(uint64(1000)),
			OccupiedLowHz: new(145.4e6), OccupiedHighHz: new(145.4e6 + 6702.875), OccupiedBandwidthHz: new(6702.875),
		}, 19},
		{"another duration", &protocol.Measurement{
			DurationS: new(1.5), SampleRateHz: new(240e3), Samples: new(uint64(240000)), LostSamples: new(uint64(0)),
		}, 0},
		{"another width", &protocol.Measurement{
			OccupiedLowHz: new(145.4e6), OccupiedHighHz: new(145.5e6), OccupiedBandwidthHz: new(6702.875),
		}, 0},
		{"without what it follows from", &protocol.Measurement{DurationS: new(1.0), SampleRateHz: new(240e3), OccupiedHighHz: new(145.5e6)}, 0},
		{"no rate to divide by", &protocol.Measurement{SampleRateHz: new(0.0), Samples: new(uint64(1)), LostSamples: new(uint64(0))}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			rec := &protocol.Record{Station: new("torino"), Body: &protocol.Record_Measurement{Measurement: test.m}}
			given := proto.CloneOf(rec)
			b := encode(t, rec)
			if diff := cmp.Diff(given, rec, protocmp.Transform()); diff != "" {
				t.Errorf("encoding changed the record:\n%s", diff)
			}
			if saved := proto.Size(rec) - len(b); saved != test.saved {
				t.Errorf("%d bytes saved, want %d", saved, test.saved)
			}
			back, err := protocol.Decode(b)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(rec, back, protocmp.Transform()); diff != "" {
				t.Errorf("decoded (-want +got):\n%s", diff)
			}
			if protocol.Digest(back) != protocol.Digest(rec) {
				t.Error("another digest")
			}
		})
	}
}

func TestWithoutStation(t *testing.T) {
	record := encode(t, &protocol.Record{Station: new("torino"), Receiver: new("r0")})
	rest := encode(t, &protocol.Record{Receiver: new("r0")})
	if got := protocol.WithoutStation(record, "torino"); !bytes.Equal(got, rest) {
		t.Errorf("got %x, want %x", got, rest)
	}
	for _, other := range []string{"tori", "torino2", "milano", ""} {
		if got := protocol.WithoutStation(record, other); !bytes.Equal(got, record) {
			t.Errorf("without %q: %x, want it as it was", other, got)
		}
	}
}
