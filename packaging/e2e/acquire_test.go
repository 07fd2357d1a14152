package e2e_test

import (
	"encoding/json"
	"testing"

	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

// TestAcquireWithoutIQ asks for measurements only, of a channel and of a whole passband, and of a frequency that no receiver covers.
func TestAcquireWithoutIQ(t *testing.T) {
	t.Parallel() // it waits most of the time
	n := newNetwork(t, servers.Postgres(t))
	n.agent(t, "north", simulated(t, "north"), "")
	n.waitOnline(1)
	for name, args := range map[string][]string{
		"channel":  {"145.5M", "1s", "--bandwidth", "12.5k"},
		"passband": {"145.5M", "1s"},
	} {
		t.Run(name, func(t *testing.T) {
			out := mustRun(t, "heimdall-collector", append(append([]string{"acquire"}, args...), "--wait", "--json", "--url", n.api)...)
			var a protocol.Acquisition
			if err := json.Unmarshal([]byte(out), &a); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			var m struct {
				PowerDBFS *float64 `json:"power_dbfs"`
			}
			if err := json.Unmarshal(a.Stations[0].Measurement, &m); err != nil || m.PowerDBFS == nil || a.Stations[0].Recording != "" {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	out, _, code := run(t, "heimdall-collector", "acquire", "433M", "1s", "--wait", "--json", "--url", n.api)
	var a protocol.Acquisition
	if err := json.Unmarshal([]byte(out), &a); err != nil || code != 1 || a.Stations[0].ReasonCode != "out_of_passband" {
		t.Errorf("out of the passband: ends with %d, %v: %s", code, err, out)
	}
	if lines, code := n.verify(false); code != 0 || lines[0].Rejected != 0 {
		t.Errorf("verify ends with %d: %+v", code, lines)
	}
}
