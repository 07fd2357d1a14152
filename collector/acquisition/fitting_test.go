package acquisition_test

import (
	"testing"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

func TestCreateFitting_ShortensToWhatFits(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		for _, c := range []struct {
			name  string
			asked protocol.AcquisitionRequest
			want  float64 // seconds
		}{
			{"what fits stays", protocol.AcquisitionRequest{FrequencyHz: 145.5e6, DurationS: 1.2, IQ: true}, 1.2},
			// 240 kHz of 4 bytes: 256 MiB are 279.620 s.
			{"as much IQ as fits", protocol.AcquisitionRequest{FrequencyHz: 145.5e6, DurationS: 300, IQ: true}, 279.62},
			{"an hour without IQ", protocol.AcquisitionRequest{FrequencyHz: 145.5e6, DurationS: 9000}, 3600},
			{"of the stations asked", protocol.AcquisitionRequest{FrequencyHz: 145.5e6, DurationS: 9000, IQ: true, BandwidthHz: new(50e3), Stations: []string{"north"}}, 838.86},
		} {
			asked := c.asked
			asked.StartTime = time.Now().Add(-time.Minute).Format(time.RFC3339Nano)
			a, err := r.CreateFitting(t.Context(), asked)
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
				continue
			}
			if got := a.Request.DurationS; got != c.want {
				t.Errorf("%s: %v s, want %v s", c.name, got, c.want)
			}
		}
		if _, err := r.CreateFitting(t.Context(), protocol.AcquisitionRequest{FrequencyHz: 145.5e6, DurationS: -1, IQ: true}); err == nil {
			t.Error("a duration below 0 is taken")
		}
	})
}
