package acquisition_test

import (
	"testing"
	"time"

	"github.com/fulgidus/heimdall/collector/acquisition"
	"github.com/fulgidus/heimdall/protocol"
)

// Where a station has to tune a receiver for what is asked, the start leaves it the time to.
func TestConductor_LeavesTimeToTune(t *testing.T) {
	wide := 200e3
	plan := []protocol.PlanStep{{Name: "a", CenterHz: 145.5e6}, {Name: "b", CenterHz: 433e6}}
	for name, tc := range map[string]struct {
		receiver protocol.ReceiverInfo
		req      protocol.AcquisitionRequest
		want     time.Duration
	}{
		"heard anyway":       {protocol.ReceiverInfo{CenterHz: 145.5e6, SampleRateHz: 240e3, RetuneS: 0.3}, fiveSeconds, 500 * time.Millisecond},
		"beside":             {protocol.ReceiverInfo{CenterHz: 433e6, SampleRateHz: 240e3, RetuneS: 0.3}, fiveSeconds, 800 * time.Millisecond},
		"over the edge":      {protocol.ReceiverInfo{CenterHz: 145.45e6, SampleRateHz: 240e3, RetuneS: 0.3}, protocol.AcquisitionRequest{FrequencyHz: 145.5e6, DurationS: 5, BandwidthHz: &wide}, 800 * time.Millisecond},
		"in turn":            {protocol.ReceiverInfo{CenterHz: 145.5e6, SampleRateHz: 240e3, RetuneS: 0.3, Plan: plan}, fiveSeconds, 800 * time.Millisecond},
		"cannot be tuned":    {protocol.ReceiverInfo{CenterHz: 433e6, SampleRateHz: 240e3}, fiveSeconds, 500 * time.Millisecond},
		"says it takes days": {protocol.ReceiverInfo{CenterHz: 433e6, SampleRateHz: 240e3, RetuneS: 1e9}, fiveSeconds, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(c *acquisition.Config) { c.Stations = stations{online("north", tc.receiver)} }, func(t *testing.T, r *rig) {
				a := r.create(t, tc.req)
				start, err := time.Parse(time.RFC3339Nano, a.StartTime)
				if lead := start.Sub(r.began); err != nil || lead != tc.want {
					t.Errorf("starts %v ahead, want %v (%v)", lead, tc.want, err)
				}
			})
		})
	}
}
