package survey_test

import (
	"math"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/agent/survey"
	"github.com/fulgidus/heimdall/dsp"
	"github.com/fulgidus/heimdall/protocol"
)

// narrow is a receiver of 12 kHz whose filter passes 6 kHz: noise of -80 dBFS/Hz there, the 16-bit quantiser's beyond, and a
// carrier that is 40 dB over the noise of a second's bins. Its recording is played again and again, each time as a new segment:
// the carrier's phase jumps there.
const (
	narrowRate  = 12000
	narrowFloor = -80.0
)

func narrow(samples int) []byte {
	x := make([]complex128, samples)
	dsp.NoiseBand(dsp.FromDB(narrowFloor)*narrowRate/2, -0.25, 0.25, 7)(x, 0)
	dsp.Tone(0.05, 0.0123)(x, 0)
	return dsp.Quantise(nil, x, dsp.CS16)
}

func narrowBlock(raw []byte, segment uint32, index int) *radio.Block {
	return &radio.Block{
		Raw: raw, Format: dsp.CS16, Segment: segment, Index: uint64(index),
		Tuning: radio.Tuning{SampleRateHz: narrowRate, CenterHz: 77500},
	}
}

func TestAnalyzer_SeamsAndClicksLeaveTheFloorAlone(t *testing.T) {
	play := narrow(4*narrowRate + narrowRate/2)
	clicked := append([]byte(nil), play...)
	for i := range 40 { // 3.3 ms at half of full scale
		clicked[4*(2*narrowRate+100+i)+1] = 0x40
	}
	a := analyzer(t, survey.Config{MeasurementEvery: time.Second})
	var f found
	index := 0
	for segment, raw := range [][]byte{play, clicked, play} {
		f.add(a.Write(narrowBlock(raw, uint32(segment), index)))
		index += len(raw) / 4
	}
	f.add(a.Flush())
	if len(f.measurements) != 14 {
		t.Fatalf("%d measurements, want 14", len(f.measurements))
	}
	// The 20 % quantile of some 440 bins of 22 frames spreads by 0.1 dB; the click adds its own power to one second's bins:
	// 1/16 of full scale for 3.3 ms over 12 kHz is -73 dBFS/Hz there.
	for i, m := range f.measurements {
		floor, tolerance := float64(m.GetNoiseFloorDbfsHz()), 0.5
		if i == 6 {
			tolerance = 10
		}
		near(t, "floor dBFS/Hz", floor, narrowFloor, tolerance)
	}
	// All the same SNR as any other second, at the seams of the segments too.
	for _, i := range []int{4, 9} {
		near(t, "SNR at a seam dB", float64(f.measurements[i].GetSnrDb()), float64(f.measurements[1].GetSnrDb()), 3)
	}
	if len(f.detections) == 0 {
		t.Fatal("no detection of the carrier")
	}
	m := f.measurements[1]
	perHz := func(snr, widthHz float64) float64 { return snr + dsp.DB(widthHz) }
	for _, d := range f.detections {
		if math.Abs(d.GetCenterHz()-77500-0.0123*narrowRate) > 100 {
			continue // the click
		}
		// Both say how far the same carrier is over the noise of one hertz; a half is for the coarse bins' bandwidth.
		near(t, "S/N0 dBHz", perHz(float64(d.GetSnrDb()), d.GetBandwidthHz()), perHz(float64(m.GetSnrDb()), m.GetOccupiedBandwidthHz()), 1)
	}
}

// What is left at the end of a stretch may hold a single frame.
func TestAnalyzer_AFragmentHasTheSameFloor(t *testing.T) {
	for _, rest := range []int{300, 700, 2000, 5000} {
		a := analyzer(t, survey.Config{MeasurementEvery: time.Second})
		var f found
		f.add(a.Write(narrowBlock(narrow(2*narrowRate+rest), 0, 0)))
		f.add(a.Flush())
		if len(f.measurements) != 3 {
			t.Fatalf("%d measurements, want 3", len(f.measurements))
		}
		// The quantile of one frame's 440 bins spreads by 0.5 dB.
		near(t, "floor dBFS/Hz", float64(f.measurements[2].GetNoiseFloorDbfsHz()), narrowFloor, 1.5)
	}
}

func TestMeter_AcrossASeam(t *testing.T) {
	m, err := survey.NewMeter(survey.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Expect(3 * time.Second); err != nil {
		t.Fatal(err)
	}
	raw := narrow(2 * narrowRate)
	m.Write(narrowBlock(raw, 0, 0))
	m.Write(narrowBlock(raw[:4*narrowRate], 1, 2*narrowRate))
	got := m.Measurement()
	near(t, "floor dBFS/Hz", float64(got.GetNoiseFloorDbfsHz()), narrowFloor, 0.5)
	if got.GetSamples() != 3*narrowRate {
		t.Errorf("%d samples", got.GetSamples())
	}
}

func TestMeter_ChannelWithoutItsPassband(t *testing.T) {
	m, err := survey.NewMeter(survey.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []float64{0, -1, math.NaN()} {
		if m.Channel(bad) == nil {
			t.Errorf("a channel of %g Hz", bad)
		}
	}
	if err := m.Channel(6000); err != nil {
		t.Fatal(err)
	}
	m.Write(narrowBlock(narrow(narrowRate), 0, 0))
	got := m.Measurement()
	if got.NoiseFloorDbfsHz != nil || got.SnrDb != nil || !has(got.Flags, protocol.Flag_FLAG_FLOOR_UNRELIABLE) {
		t.Errorf("without the passband: %v, want no floor", got)
	}
}
