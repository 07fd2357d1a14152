//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

const station = "torino"

// loadBegin is the time of the first record: fixed, so that record i is the same in every process.
var loadBegin = time.Date(2026, 1, 1, 0, 0, 0, 123456789, time.UTC)

// measurement is record i of the load: what a station measures each second on a band with one narrow signal, with values
// rounded as the agent rounds them. It is a function of i alone.
func measurement(i int) *protocol.Record {
	random := rand.New(rand.NewPCG(7, uint64(i)))
	about := func(v, spread float64) float64 { return v + spread*random.NormFloat64() }
	db := func(v float64) *float32 { return new(float32(math.Round(v*100) / 100)) }
	hz := func(v float64) *float64 { return new(math.Round(v*64) / 64) }
	dc := func(v float64) *float32 { return new(float32(math.Round(v*(1<<22)) / (1 << 22))) }
	low, width := about(145.4944e6, 30), about(11_200, 60)
	return &protocol.Record{
		Station: new(station), Time: new(loadBegin.Add(time.Duration(i)*time.Second + time.Duration(random.IntN(2000))).UnixNano()),
		Receiver: new("r0"), Step: new("2m"),
		TimeQuality: protocol.TimeQuality_TIME_QUALITY_NTP.Enum(), TimeUncertaintyS: new(0.0018),
		Body: &protocol.Record_Measurement{Measurement: &protocol.Measurement{
			DurationS: new(1.0), CenterHz: new(145e6), SampleRateHz: new(2.048e6), Samples: new(uint64(2_048_000)), LostSamples: new(uint64(0)),
			ClippedFraction: new(float32(0)), DcI: dc(about(0.0012, 1e-4)), DcQ: dc(about(-0.0007, 1e-4)),
			PowerDbfs: db(about(-38.2, 0.4)), NoiseFloorDbfsHz: db(about(-101.4, 0.05)),
			PeakHz: hz(about(145_500_012, 20)), PeakDbfs: db(about(-52.1, 0.4)), SnrDb: db(about(31.6, 0.4)),
			OccupiedBandwidthHz: hz(width), OccupiedLowHz: hz(low), OccupiedHighHz: hz(low + width),
		}},
	}
}

// payloads are records from..from+n-1 as a survey would hand them to the spool.
func payloads(from, n int) ([][]byte, error) {
	all := make([][]byte, n)
	for i := range all {
		var err error
		if all[i], err = protocol.Encode(measurement(from + i)); err != nil {
			return nil, fmt.Errorf("encode record %d: %w", from+i, err)
		}
	}
	return all, nil
}

// row is the same record for Telegraf: one flat object with all its fields and its number.
type row struct {
	Time                string  `json:"time"`
	Station             string  `json:"station"`
	Seq                 int     `json:"seq"`
	Receiver            string  `json:"receiver"`
	Step                string  `json:"step"`
	TimeQuality         string  `json:"time_quality"`
	TimeUncertaintyS    float64 `json:"time_uncertainty_s"`
	DurationS           float64 `json:"duration_s"`
	CenterHz            float64 `json:"center_hz"`
	SampleRateHz        float64 `json:"sample_rate_hz"`
	Samples             uint64  `json:"samples"`
	LostSamples         uint64  `json:"lost_samples"`
	ClippedFraction     float32 `json:"clipped_fraction"`
	DcI                 float32 `json:"dc_i"`
	DcQ                 float32 `json:"dc_q"`
	PowerDbfs           float32 `json:"power_dbfs"`
	NoiseFloorDbfsHz    float32 `json:"noise_floor_dbfs_hz"`
	PeakHz              float64 `json:"peak_hz"`
	PeakDbfs            float32 `json:"peak_dbfs"`
	SnrDB               float32 `json:"snr_db"`
	OccupiedBandwidthHz float64 `json:"occupied_bandwidth_hz"`
	OccupiedLowHz       float64 `json:"occupied_low_hz"`
	OccupiedHighHz      float64 `json:"occupied_high_hz"`
}

// jsonPayloads are n records for Telegraf, numbered from 1 as the spool numbers them.
func jsonPayloads(n int) ([][]byte, error) {
	all := make([][]byte, n)
	for i := range all {
		rec := measurement(i)
		m := rec.GetMeasurement()
		var err error
		all[i], err = json.Marshal(row{
			Time: time.Unix(0, rec.GetTime()).UTC().Format(time.RFC3339Nano), Station: rec.GetStation(), Seq: i + 1,
			Receiver: rec.GetReceiver(), Step: rec.GetStep(), TimeQuality: rec.GetTimeQuality().Short(), TimeUncertaintyS: rec.GetTimeUncertaintyS(),
			DurationS: m.GetDurationS(), CenterHz: m.GetCenterHz(), SampleRateHz: m.GetSampleRateHz(),
			Samples: m.GetSamples(), LostSamples: m.GetLostSamples(), ClippedFraction: m.GetClippedFraction(),
			DcI: m.GetDcI(), DcQ: m.GetDcQ(), PowerDbfs: m.GetPowerDbfs(), NoiseFloorDbfsHz: m.GetNoiseFloorDbfsHz(),
			PeakHz: m.GetPeakHz(), PeakDbfs: m.GetPeakDbfs(), SnrDB: m.GetSnrDb(),
			OccupiedBandwidthHz: m.GetOccupiedBandwidthHz(), OccupiedLowHz: m.GetOccupiedLowHz(), OccupiedHighHz: m.GetOccupiedHighHz(),
		})
		if err != nil {
			return nil, fmt.Errorf("encode record %d for Telegraf: %w", i, err)
		}
	}
	return all, nil
}
