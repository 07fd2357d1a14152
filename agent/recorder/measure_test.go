package recorder_test

import (
	"math"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/agent/recorder"
	"github.com/fulgidus/heimdall/agent/survey"
	"github.com/fulgidus/heimdall/dsp"
	"github.com/fulgidus/heimdall/protocol"
)

// A channel is measured as the whole passband is: an emission of 6.5 kHz that fills a channel of 12.5 kHz, among white noise
// and with a much stronger one just beyond the channel's edge, where its filter's slope is.
func TestCapture_ChannelIsMeasuredAsThePassband(t *testing.T) {
	const (
		samples = 500000
		floor   = -95.0 // dBFS/Hz
		level   = -25.0 // dBFS
		shiftHz = 31000.0
		widthHz = 6500.0
	)
	for _, v := range []struct {
		name   string
		level  float64
		beyond bool
	}{{"strong", level, false}, {"weak", level - 20, false}, {"beside a stronger one", level, true}} {
		t.Run(v.name, func(t *testing.T) {
			x := make([]complex128, samples)
			dsp.WhiteNoise(math.Sqrt(dsp.FromDB(floor)*rate/2), 3)(x, 0)
			dsp.NoiseBand(dsp.FromDB(v.level), (shiftHz-widthHz/2)/rate, (shiftHz+widthHz/2)/rate, 5)(x, 0)
			if v.beyond {
				dsp.Tone(0.2, (shiftHz+7000)/rate)(x, 0)
			}
			raw := dsp.Quantise(nil, x, dsp.CS16)
			s := newStation(t, func(s *station) {
				s.set.NewMeter = func(string, radio.Info) (recorder.Meter, error) { return survey.NewMeter(survey.Config{}) }
			})
			for at := 0; at < samples; at += 5000 {
				b := block(func(float64) complex128 { return 0 }, uint64(at), 0)
				b.Raw = raw[4*at : 4*(at+5000)]
				s.ring.Append(b)
			}
			measured := func(bandwidthHz float64) *protocol.Measurement {
				o := order(timeOf(50000), 1.5)
				if bandwidthHz > 0 {
					o.CenterHz, o.BandwidthHz = proto.Float64(center+shiftHz), proto.Float64(bandwidthHz)
				}
				r := s.capture(t, o)
				if r.last().GetState() != protocol.Reply_STATE_DONE {
					t.Fatalf("ended as %v", r.last())
				}
				return r.last().GetCapture().GetMeasurement()
			}
			wide, narrow := measured(0), measured(12500)
			near := func(what string, got float32, want, tolerance float64) {
				t.Helper()
				if !(math.Abs(float64(got)-want) <= tolerance) {
					t.Errorf("%s: got %.2f, want %.2f within %.1f", what, got, want, tolerance)
				}
			}
			near("floor of the channel dBFS/Hz", narrow.GetNoiseFloorDbfsHz(), floor, 0.3)
			near("floor of the passband dBFS/Hz", wide.GetNoiseFloorDbfsHz(), floor, 0.3)
			inside := dsp.DB(dsp.FromDB(v.level) + dsp.FromDB(floor)*12500)
			near("level of the channel dBFS", narrow.GetPowerDbfs(), inside, 0.5) // the receiver's full scale
			snr := v.level - floor - dsp.DB(widthHz)
			near("SNR in the channel dB", narrow.GetSnrDb(), snr, 0.5)
			if !v.beyond {
				near("SNR in the passband dB", wide.GetSnrDb(), snr, 0.5)
				if d := wide.GetOccupiedBandwidthHz() - narrow.GetOccupiedBandwidthHz(); math.Abs(d) > 0.05*widthHz {
					t.Errorf("bandwidth: %.0f Hz in the passband, %.0f Hz in the channel", wide.GetOccupiedBandwidthHz(), narrow.GetOccupiedBandwidthHz())
				}
			}
			for _, f := range narrow.GetFlags() {
				t.Errorf("flag %v on a channel whose passband is nearly empty", f)
			}
		})
	}
}
