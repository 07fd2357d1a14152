package e2e_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

// TestRetune asks two stations for a frequency that one hears and the other, on 433 MHz, has to tune to: both measure the beacon
// there, from one start.
func TestRetune(t *testing.T) {
	n := newNetwork(t, servers.Postgres(t))
	// The beacon stands some 15 dB over all of the noise that a station hears.
	scene := writeFile(t, "scene.yaml", strings.Replace(string(readFile(t, "scene.yaml")), "reference_dbfs: -30", "reference_dbfs: 40", 1))
	n.agent(t, "south", "sim:"+scene+"?station=south", "")
	config := writeFile(t, "north.yaml", fmt.Sprintf(`
station: {id: north}
mqtt: {url: %q}
receivers: [{id: r0, source: "sim:%s?station=north&center=433M", history: 16MiB}]
spool: {path: %q, limit: 64MiB}
control: {allow: [capture, tune], frequencies: [144M-146M]}
`, n.broker.URL, scene, t.TempDir()))
	start(t, "heimdall-agent", "run", "--config", config)
	n.waitOnline(2)
	for range 3 { // the second start is chosen by how long the stations took to answer the first
		out := mustRun(t, "heimdall-collector", "acquire", "145.5M", "1s", "--bandwidth", "12.5k", "--wait", "--json", "--url", n.api)
		var a protocol.Acquisition
		if err := json.Unmarshal([]byte(out), &a); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		for _, s := range a.Stations {
			var m struct {
				SNRDB     float64 `json:"snr_db"`
				DurationS float64 `json:"duration_s"`
			}
			if err := json.Unmarshal(s.Measurement, &m); err != nil || s.State != protocol.StationDone || m.SNRDB < 10 || m.DurationS < 0.999 {
				t.Errorf("%s: %v, %s (%s), %+v; want a second with the beacon in it", s.Station, err, s.State, s.ReasonCode, m)
			}
		}
	}
}
