package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/agent/radio/radiotest"
	"github.com/fulgidus/heimdall/agent/survey"
)

// TestAgent_ReceiversOfManyKinds has one station listen to receivers of several kinds, some of which misbehave all the time.
func TestAgent_ReceiversOfManyKinds(t *testing.T) {
	t.Parallel()
	here := newSite(t, "")
	dir := filepath.Dir(here.config)
	hf := &radiotest.Kiwi{}
	sources := map[string]string{
		"sim":     "sim:" + filepath.Join(dir, "sky.yaml") + "?station=torino&center=145.5M",
		"hf":      "kiwi://" + hf.Start(t) + "?center=7.1M",
		"garbage": "kiwi://" + (&radiotest.Kiwi{Garbage: true}).Start(t),
		"mute":    "kiwi://" + (&radiotest.Kiwi{Mute: true}).Start(t),
		"drip":    "kiwi://" + (&radiotest.Kiwi{Trickle: true}).Start(t),
		"full":    "kiwi://" + (&radiotest.Kiwi{Refuse: "too_busy=8"}).Start(t),
		"gone":    "kiwi://127.0.0.1:1",
		"dies":    "kiwi://" + (&radiotest.Kiwi{CloseAfter: 30}).Start(t),
	}
	healthy := []string{"sim", "hf"}
	var receivers strings.Builder
	for id, source := range sources {
		fmt.Fprintf(&receivers, "  - {id: %s, source: %q, fft: 1024, history: 4MiB, measurement: {every: 500ms}}\n", id, source)
	}
	write(t, here.config, fmt.Sprintf("station: {id: torino}\nspool: {path: %q, limit: 16MiB}\nreceivers:\n%s", here.state, receivers.String()))
	a, stop := here.start(t)

	eventually(t, "every receiver has shown what it is", func() error {
		for _, id := range healthy {
			if s := a.status().State.Receivers[id]; !s.Connected || s.Steps[survey.WholePassband].PowerDBFS == nil {
				return fmt.Errorf("%s: %+v", id, s)
			}
		}
		for id, says := range map[string]string{"full": "too_busy", "gone": "connection refused", "garbage": "not a sound frame"} {
			if err := receiverOf(a, id).survey.Health().Err; err == nil || !strings.Contains(err.Error(), says) {
				return fmt.Errorf("%s: %w, want it to say %q", id, err, says)
			}
		}
		return nil
	})
	before := map[string]uint64{}
	for _, id := range healthy {
		before[id] = receiverOf(a, id).survey.Health().SamplesTotal
	}
	eventually(t, "the healthy receivers go on without a loss", func() error {
		for _, id := range healthy {
			if h := receiverOf(a, id).survey.Health(); h.SamplesTotal < before[id]+20_000 || len(h.Lost) > 0 {
				return fmt.Errorf("%s: %d samples after %d, lost %v", id, h.SamplesTotal, before[id], h.Lost)
			}
		}
		return nil
	})
	began := time.Now()
	stop()
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("stopping took %v", took)
	}
}

func receiverOf(a *Agent, id string) *receiver {
	for _, r := range a.receivers {
		if r.cfg.ID == id {
			return r
		}
	}
	return nil
}
