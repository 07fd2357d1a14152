package api

import (
	"encoding/json"
	"net/http"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/protocol"
)

// The examples of the documentation. They are made with the types that the handlers send, so that they cannot differ
// from the answers.

const (
	exampleTime        = "2026-11-24T02:00:05.250000000Z"
	exampleAcquisition = "019b1c7e-5a00-7c3d-9f21-6f0a1b2c3d4e"
	exampleCapture     = "019b1c7e-5a10-7b11-8d02-2a3b4c5d6e7f"
	exampleDetection   = "giaveno-3f9a0017c451e208-4698"
)

func exampleRoot() Root {
	return Root{Service: "backend", Status: "running", Timestamp: exampleTime}
}

func exampleReadiness() Readiness {
	return Readiness{
		Reasons: []string{"archive: the bucket does not answer"},
		Conditions: []Condition{
			{Name: "broker", Ready: true},
			{Name: "database", Ready: true},
			{Name: "archive", Reason: "the bucket does not answer"},
		},
	}
}

func exampleStation() protocol.Station {
	return protocol.Station{
		ID: "giaveno", Number: 1, Name: "Aquila di Giaveno", Status: "online", State: "running", Since: "2026-11-23T18:00:00.000000000Z",
		Position: &protocol.Position{LatitudeDeg: 45.03, LongitudeDeg: 7.27, Precision: "10km"},
		LastSeen: exampleTime,
		Clock:    &protocol.StationClock{Quality: "ntp", UncertaintyS: 0.004},
		Delivery: &protocol.StationDelivery{Backlog: 3, BacklogAgeS: 1.5, SpoolUsedRatio: 0.002},
		Receivers: []protocol.ReceiverInfo{{
			ID: "vhf", Source: "rtlsdr", Hardware: "RTL2838 R820T", CenterHz: 145.5e6, SampleRateHz: 2.4e6, Live: true, HistoryFrom: "2026-11-24T01:59:47.000000000Z",
			Plan: []protocol.PlanStep{{Name: "2m", CenterHz: 145.5e6, RateHz: 2.4e6, DwellS: 1}},
		}},
		Capabilities: []string{"capture"}, Version: "1.4.0",
		Reception: []protocol.StationReception{{Receiver: "vhf", SamplesTotal: 69_120_000_000, LostSamplesTotal: 4096}},
	}
}

func exampleRequest() protocol.AcquisitionRequest {
	return protocol.AcquisitionRequest{FrequencyHz: 145.5e6, DurationS: 5, BandwidthHz: proto.Float64(12500), Stations: []string{"giaveno", "torino"}, IQ: true, Label: "beacon"}
}

func exampleAcquired() protocol.Acquisition {
	return protocol.Acquisition{
		ID: exampleAcquisition, State: protocol.AcquisitionDone, Progress: 100, Requested: "2026-11-24T02:00:05.000000000Z",
		StartTime: exampleTime, Request: exampleRequest(),
		Stations: []protocol.AcquisitionStation{
			{Station: "giaveno", State: protocol.StationDone, Measurement: json.RawMessage(`{"kind":"measurement","station":"giaveno","time":"2026-11-24T02:00:05.250000000Z","receiver":"vhf","peak_hz":145500700,"snr_db":21.4}`), Recording: exampleCapture},
			{Station: "torino", State: protocol.StationRefused, ReasonCode: "out_of_passband", Message: "no receiver of this station covers 145.5 MHz"},
		},
	}
}

func exampleCancelled() protocol.Acquisition {
	a := exampleAcquired()
	a.State, a.CancelRequested = protocol.AcquisitionRunning, "2026-11-24T02:00:06.000000000Z"
	a.Progress = 75
	a.Stations = []protocol.AcquisitionStation{
		{Station: "giaveno", State: protocol.StationUploading},
		{Station: "torino", State: protocol.StationCancelled, ReasonCode: "cancelled", Message: "the acquisition was cancelled before the station had begun"},
	}
	return a
}

func exampleRecording() protocol.Recording {
	return protocol.Recording{
		ID: exampleCapture, Acquisition: exampleAcquisition, Station: "giaveno", Receiver: "vhf", Start: exampleTime,
		AskedStart: exampleTime, DurationS: 5, CenterHz: 145.5e6, SampleRateHz: 15625.02, Datatype: "ci16_le", Samples: 78125,
		Bytes: 312500, TimeQuality: "ntp", TimeUncertaintyS: 0.004,
		SHA512: "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e",
		Key:    "recordings/" + exampleAcquisition + "/giaveno/" + exampleCapture,
		Stored: "2026-11-24T02:00:11.000000000Z",
	}
}

// exampleRecords is a page with one record of a kind.
func exampleRecords(kind protocol.Kind) any {
	at := time.Date(2026, 11, 24, 2, 0, 5, 250_000_000, time.UTC)
	record := &protocol.Record{
		Station: proto.String("giaveno"), Spool: []byte{0x3f, 0x9a, 0x00, 0x17, 0xc4, 0x51, 0xe2, 0x08}, Seq: proto.Uint64(4711),
		Time: proto.Int64(at.UnixNano()), Receiver: proto.String("vhf"), Step: proto.String("2m"),
		TimeQuality: protocol.TimeQuality_TIME_QUALITY_NTP.Enum(), TimeUncertaintyS: proto.Float64(0.004),
	}
	exampleBody(record, kind)
	item, err := recordItem(&protocol.StoredRecord{Record: record, Received: at.Add(400 * time.Millisecond)})
	if err != nil { // the page then shows none; a test looks at every example
		return list([]json.RawMessage{}, "")
	}
	return list([]json.RawMessage{item}, "b2xkZXI")
}

func exampleBody(record *protocol.Record, kind protocol.Kind) {
	switch kind {
	case protocol.KindMeasurement:
		record.Body = &protocol.Record_Measurement{Measurement: &protocol.Measurement{
			DurationS: proto.Float64(1), CenterHz: proto.Float64(145.5e6), SampleRateHz: proto.Float64(2.4e6), Samples: proto.Uint64(2_400_000),
			PowerDbfs: proto.Float32(-31.5), NoiseFloorDbfsHz: proto.Float32(-101.25), PeakHz: proto.Float64(145_512_500),
			PeakDbfs: proto.Float32(-38.5), SnrDb: proto.Float32(21.5), OccupiedBandwidthHz: proto.Float64(11_718.75),
		}}
	case protocol.KindSpectrum:
		levels, err := protocol.NewSpectrum([]float64{-101.2, -100.9, -84.3, -101.1}, 145.4e6, 50e3)
		if err == nil {
			levels.Averages, levels.EnbwBins, levels.DurationS = proto.Uint32(100), proto.Float32(1.5), proto.Float64(10)
			record.Body = &protocol.Record_Spectrum{Spectrum: levels}
		}
	case protocol.KindDetection:
		record.Body = &protocol.Record_Detection{Detection: &protocol.Detection{
			DetectionId: proto.String(exampleDetection), DurationS: proto.Float64(12.5), CenterHz: proto.Float64(145_512_500),
			LowHz: proto.Float64(145_506_640), HighHz: proto.Float64(145_518_360), BandwidthHz: proto.Float64(11_720),
			PowerDbfs: proto.Float32(-38.5), SnrDb: proto.Float32(21.5), Open: proto.Bool(true),
		}}
	case protocol.KindHealth:
		record.Body = &protocol.Record_Health{Health: &protocol.Health{
			LastSeq: proto.Uint64(4711), SpoolBytes: proto.Uint64(4 << 20), SpoolLimitBytes: proto.Uint64(2 << 30),
			Unacked: []*protocol.SeqRange{{From: proto.Uint64(4709), To: proto.Uint64(4711)}},
			Receivers: []*protocol.ReceiverHealth{{
				Receiver: proto.String("vhf"), Connected: proto.Bool(true), SamplesTotal: proto.Uint64(8_640_000_000), HistoryS: proto.Float64(27.9),
			}},
			Clock:   &protocol.Clock{Quality: protocol.TimeQuality_TIME_QUALITY_NTP.Enum(), UncertaintyS: proto.Float64(0.004)},
			Version: proto.String("1.0.0"), UptimeS: proto.Float64(28_800),
		}}
	case protocol.KindGap:
		record.Body = &protocol.Record_Gap{Gap: &protocol.Gap{
			Ranges: []*protocol.SeqRange{{From: proto.Uint64(4000), To: proto.Uint64(4099)}}, Lane: proto.String("spectrum"),
			Records: proto.Uint64(100), Bytes: proto.Uint64(52_400), Reason: protocol.Gap_REASON_QUOTA.Enum(),
		}}
	case protocol.KindIQ, protocol.KindReply, protocol.KindSite: // they have no list
	}
}

func exampleOldFields() protocol.WebSDRFields {
	return protocol.WebSDRFields{
		Name: new("Aquila di Giaveno"), URL: new("http://sdr1.ik1jns.it:8076/"), LatitudeDeg: new(45.03), LongitudeDeg: new(7.27),
		LocationDescription: new("Giaveno, Italy"), Country: new("Italy"), AltitudeM: new(600), TimeoutS: new(oldTimeoutS), RetryCount: new(oldRetryCount),
		Active: new(true),
	}
}

func exampleOldSaid() webSDR {
	at := time.Date(2026, 11, 24, 2, 0, 5, 0, time.UTC)
	return webSDR{exampleStation(), protocol.WebSDR{Station: exampleStation().ID, Created: at, Updated: at, WebSDRFields: exampleOldFields()}}
}

func exampleOldWebSDR() OldWebSDR { return exampleOldSaid().listed(new(http.Request)) }

func exampleOldDetail() OldWebSDRDetail { return exampleOldSaid().detail(new(http.Request)) }

func exampleOldWebSDRHealth() map[string]OldWebSDRHealth {
	health := exampleOldSaid().health(exampleTime)
	return map[string]OldWebSDRHealth{health.WebSDRID: health}
}

func exampleOldStatus() OldStatus {
	a, recording := exampleAcquired(), exampleRecording()
	status := oldStatus(&a, map[string]int{"giaveno": 1, "torino": 2})
	status.Result = &OldResult{
		TaskID: a.ID, Status: oldSuccess, Measurements: []OldMeasurement{oldMeasurement(&a, a.Stations[0], 1, &recording)}, MeasurementsCount: 1,
		Errors: status.Errors, StartTime: a.StartTime, EndTime: a.StartTime, FrequencyMHz: a.Request.FrequencyHz / 1e6, DurationSeconds: a.Request.DurationS,
	}
	return status
}
