package protocol_test

import (
	"bytes"
	"math"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/protocol"
)

// now is the reader's clock in all tests: two and a half seconds after the samples' time.
var now = time.Date(2026, 11, 24, 1, 26, 35, 0, time.UTC)

var spool = [8]byte{0x9f, 0x3c, 0x5a, 0x1e, 0x77, 0xb0, 0xc2, 0x14}

const (
	captureID   = "01936a2e-7c40-7b1e-8f00-0a1b2c3d4e5f"
	commandID   = "01936a2e-7b10-7000-8000-000000000001"
	acquisition = "01936a2e-7b00-7000-8000-0000000000aa"
)

func ns(t time.Time) *int64 { return new(t.UnixNano()) }

// at is a time a number of seconds after the samples' time.
func at(s float64) *int64 {
	return ns(time.Date(2026, 11, 24, 1, 26, 32, 500_000_000, time.UTC).Add(time.Duration(s * 1e9)))
}

// record is a record of the station giaveno with the given body.
func record(body any) *protocol.Record {
	rec := &protocol.Record{
		Station: new("giaveno"), Spool: spool[:], Seq: new(uint64(118)), Time: at(0), Receiver: new("r0"), Step: new("2m"),
		TimeQuality: protocol.TimeQuality_TIME_QUALITY_NTP.Enum(), TimeUncertaintyS: new(0.0018),
	}
	switch b := body.(type) {
	case *protocol.Measurement:
		rec.Body = &protocol.Record_Measurement{Measurement: b}
	case *protocol.Spectrum:
		rec.Body = &protocol.Record_Spectrum{Spectrum: b}
	case *protocol.Detection:
		rec.Body = &protocol.Record_Detection{Detection: b}
	case *protocol.Health:
		rec.Body = &protocol.Record_Health{Health: b}
	case *protocol.Gap:
		rec.Body = &protocol.Record_Gap{Gap: b}
	case *protocol.IqChunk:
		rec.Body = &protocol.Record_Iq{Iq: b}
	case *protocol.Reply:
		rec.Body = &protocol.Record_Reply{Reply: b}
	case *protocol.Site:
		rec.Body = &protocol.Record_Site{Site: b}
	}
	return rec
}

func measurement() *protocol.Measurement {
	return &protocol.Measurement{
		DurationS: new(1.0), CenterHz: new(145e6), SampleRateHz: new(2.048e6),
		Samples: new(uint64(2048000)), LostSamples: new(uint64(0)), ClippedFraction: new(float32(0)),
		DcI: new(float32(0.0012)), DcQ: new(float32(-0.0007)),
		PowerDbfs: new(float32(-38.2)), NoiseFloorDbfsHz: new(float32(-101.4)),
		PeakHz: new(145500012.0), PeakDbfs: new(float32(-52.1)), SnrDb: new(float32(31.6)),
		OccupiedBandwidthHz: new(11200.0), OccupiedLowHz: new(145494400.0), OccupiedHighHz: new(145505600.0),
		Flags:    []protocol.Flag{protocol.Flag_FLAG_GAIN_TOO_LOW},
		PowerDbm: new(float32(-91.2)), NoiseFloorDbmHz: new(float32(-154.4)), PeakDbm: new(float32(-105.1)),
		CalibrationUncertaintyDb: new(float32(1.5)),
	}
}

// spectrum has 16 bins of noise at -101.4 dBFS/Hz and above, with one emission.
func spectrum(t testing.TB) *protocol.Spectrum {
	t.Helper()
	levels := []float64{-101.2, -101.4, -100.9, -100.6, -101.1, -100.8, -89.3, -62.2, -61.9, -90.1, -101.0, -100.7, -101.3, -100.4, -101.2, -100.9}
	s, err := protocol.NewSpectrum(levels, 145.4e6, 12.5e3)
	if err != nil {
		t.Fatal(err)
	}
	s.Averages, s.EnbwBins, s.DurationS = new(uint32(16)), new(float32(1.5)), new(10.0)
	return s
}

func detection() *protocol.Detection {
	return &protocol.Detection{
		DetectionId: new("giaveno-9f3c5a1e77b0c214-97"), DurationS: new(20.25), CenterHz: new(145.5e6),
		LowHz: new(145494400.0), HighHz: new(145505600.0), BandwidthHz: new(11200.0),
		PowerDbfs: new(float32(-52.1)), SnrDb: new(float32(31.6)), Open: new(true),
		Flags:    []protocol.Flag{protocol.Flag_FLAG_OVERLOAD, protocol.Flag_FLAG_CLIPPED},
		PowerDbm: new(float32(-105.1)), CalibrationUncertaintyDb: new(float32(1.5)),
	}
}

func health() *protocol.Health {
	return &protocol.Health{
		Now: at(0), Unacked: protocol.NewRanges(protocol.Range{From: 101, To: 104}, protocol.Range{From: 109, To: 118}).Wire(),
		LastSeq: new(uint64(118)), SpoolBytes: new(uint64(1 << 20)), SpoolLimitBytes: new(uint64(2 << 30)), Oldest: at(-60),
		Receivers: []*protocol.ReceiverHealth{
			{
				Receiver: new("r0"), Connected: new(true), SamplesTotal: new(uint64(7372800000)),
				Lost:     []*protocol.Loss{{Reason: new("overrun"), Samples: new(uint64(8192))}},
				HistoryS: new(16.4), RatePpm: new(1.9),
			},
			{Receiver: new("r1"), Connected: new(false), Error: new("rtl_tcp at 10.0.0.7:1234: connection refused")},
		},
		Clock:        &protocol.Clock{Quality: protocol.TimeQuality_TIME_QUALITY_NTP.Enum(), UncertaintyS: new(0.0018)},
		TemperatureC: new(float32(51.5)), Version: new("1.0.0"), UptimeS: new(3600.0),
	}
}

func gap() *protocol.Gap {
	return &protocol.Gap{
		Spool: []byte{1, 2, 3, 4, 5, 6, 7, 8}, Ranges: protocol.NewRanges(protocol.Range{From: 5, To: 90}).Wire(), Lane: new("iq"),
		Records: new(uint64(86)), Bytes: new(uint64(2818048)), From: at(-86400), To: at(-3600), Reason: protocol.Gap_REASON_QUOTA.Enum(),
	}
}

func chunk() *protocol.IqChunk {
	return &protocol.IqChunk{
		CaptureId: new(captureID), Index: new(uint32(3)), FirstSample: new(uint64(24576)), Samples: new(uint32(8)),
		Data: []byte{0x00, 0x01, 0xff, 0xff, 0x02, 0x00, 0xfd, 0xff, 0x04, 0x00, 0xfb, 0xff, 0x06, 0x00, 0xf9, 0xff, 0x08, 0x00, 0xf7, 0xff, 0x0a, 0x00, 0xf5, 0xff, 0x0c, 0x00, 0xf3, 0xff, 0x0e, 0x00, 0xf1, 0xff},
	}
}

func manifest() *protocol.CaptureManifest {
	return &protocol.CaptureManifest{
		Id: new(captureID), Start: at(0.000000041), AskedStart: at(0), DurationS: new(5.0), CenterHz: new(145.5e6),
		SampleRateHz: new(16000.0304), Format: new("ci16_le"), Scale: new(0.25), Chunks: new(uint32(10)), Bytes: new(uint64(320000)),
		Sha512:  bytes.Repeat([]byte{0xab, 0xcd}, 32),
		Gaps:    []*protocol.CaptureGap{{Sample: new(uint64(40000)), Lost: new(uint64(160)), Time: at(2.51), Exact: new(true)}},
		Tuning:  &protocol.Tuning{CenterHz: new(145e6), SampleRateHz: new(2.048e6), GainDb: new(32.8)},
		Samples: new(uint64(80000)), TimeQuality: protocol.TimeQuality_TIME_QUALITY_NTP.Enum(), TimeUncertaintyS: new(0.0018),
		Receiver: new("r0"), Measurement: &protocol.Measurement{PowerDbfs: new(float32(-40.5)), SnrDb: new(float32(27.9))},
		Recorder: new("heimdall-agent/1.0.0"), Hardware: new("RTL-SDR Blog V4"),
	}
}

func reply() *protocol.Reply {
	return &protocol.Reply{
		CommandId: new(commandID), Acquisition: new(acquisition), State: protocol.Reply_STATE_DONE.Enum(),
		Capture: manifest(), Progress: new(1.0),
	}
}

func refusal() *protocol.Reply {
	return &protocol.Reply{
		CommandId: new(commandID), Acquisition: new(acquisition), State: protocol.Reply_STATE_REFUSED.Enum(),
		ReasonCode: new("history_exceeded"), Message: new("the history of r0 begins at 01:26:16: ask for a later start\n\"soon\""), EarliestStart: at(-16.5),
	}
}

func site() *protocol.Site {
	return &protocol.Site{LatitudeDeg: new(45.03411), LongitudeDeg: new(7.2931), HeightM: new(612.0), UncertaintyM: new(5.0)}
}

// golden lists one message of each sort under the name of its files.
func golden(t testing.TB) map[string]proto.Message {
	t.Helper()
	command := func(c *protocol.Command) *protocol.Command {
		c.Id, c.Issued, c.Expires = new(commandID), at(0), at(30)
		return c
	}
	return map[string]proto.Message{
		"measurement":   record(measurement()),
		"spectrum":      record(spectrum(t)),
		"detection":     record(detection()),
		"health":        record(health()),
		"gap":           record(gap()),
		"iq":            record(chunk()),
		"reply":         record(reply()),
		"reply-refused": record(refusal()),
		"site":          record(site()),
		"ack": &protocol.Ack{
			Spool: spool[:], Settled: protocol.NewRanges(protocol.Range{From: 1, To: 117}, protocol.Range{From: 119, To: 119}).Wire(),
			RejectedCount: new(uint64(1)), Rejected: protocol.NewRanges(protocol.Range{From: 12, To: 12}).Wire(), Collector: new("main"),
		},
		"ack-conflict": &protocol.Ack{Spool: spool[:], Conflict: &protocol.SeqRange{From: new(uint64(40)), To: new(uint64(118))}},
		"command-capture": command(&protocol.Command{Order: &protocol.Command_Capture{Capture: &protocol.Capture{
			Acquisition: new(acquisition), Receiver: new("r0"), Start: at(2), DurationS: new(5.0), CenterHz: new(145.5e6),
			BandwidthHz: new(12500.0), Iq: new(true), Priority: new(int32(-1)),
		}}}),
		"command-tune": command(&protocol.Command{Order: &protocol.Command_Tune{Tune: &protocol.Tune{
			Receiver: new("r0"), CenterHz: new(433.92e6), SampleRateHz: new(2.048e6), DurationS: new(600.0),
		}}}),
		"command-cancel": command(&protocol.Command{Order: &protocol.Command_Cancel{Cancel: &protocol.Cancel{Id: new(commandID)}}}),
		"command-resend": command(&protocol.Command{Order: &protocol.Command_Resend{Resend: &protocol.Resend{
			Spool: spool[:], Ranges: protocol.NewRanges(protocol.Range{From: 1, To: 40}).Wire(),
		}}}),
	}
}

// encode is protocol.Encode for messages that can be encoded.
func encode(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := protocol.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// marshal is protocol.MarshalJSON for messages that can be.
func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := protocol.MarshalJSON(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// decodeAs reads a payload as the sort of message that m is.
func decodeAs(m proto.Message, payload []byte) (proto.Message, error) {
	switch m.(type) {
	case *protocol.Ack:
		return protocol.DecodeAck(payload)
	case *protocol.Command:
		return protocol.DecodeCommand(payload)
	default:
		return protocol.Decode(payload)
	}
}

// validate checks a message as its receiver does.
func validate(m proto.Message) error {
	switch m := m.(type) {
	case *protocol.Ack:
		return protocol.ValidateAck(m)
	case *protocol.Command:
		return protocol.ValidateCommand(m)
	case *protocol.Record:
		return protocol.Validate(m, now)
	}
	return nil
}

// code is the code of an error, empty for none.
func code(err error) protocol.Code {
	if err == nil {
		return ""
	}
	return protocol.CodeOf(err)
}

var nan, inf = math.NaN(), math.Inf(1)
