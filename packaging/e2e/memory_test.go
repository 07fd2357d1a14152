package e2e_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/packaging/servers"
)

const mebi = 1 << 20

// TestMemory shows what the programs take: an agent on a 2.4 Msps receiver beside its 64 MiB of history, and a collector with
// seven stations.
func TestMemory(t *testing.T) {
	t.Parallel() // it waits most of the time
	n := newNetwork(t, servers.Postgres(t))
	wide := simulated(t, "north") + "&rate=2.4M"
	var agents []*program
	for i := range 6 {
		p, _ := n.agent(t, fmt.Sprintf("station-%d", i), simulated(t, "south"), "")
		agents = append(agents, p)
	}
	config := writeFile(t, "wide-agent.yaml", fmt.Sprintf(`
station: {id: wide}
mqtt: {url: %q}
receivers: [{id: r0, source: %q}]
spool: {path: %q, limit: 64MiB}
`, n.broker.URL, wide, t.TempDir()))
	agent := start(t, "heimdall-agent", "run", "--config", config)
	n.waitOnline(7)
	time.Sleep(20 * time.Second) // the history is full after 14 s
	beside := agent.memory() - 64*mebi
	collector := n.collector.memory()
	t.Logf("agent at 2.4 Msps: %.1f MB beside 64 MiB of history; collector with seven stations: %.1f MB", float64(beside)/1e6, float64(collector)/1e6)
	if beside > 40e6 {
		t.Errorf("the agent takes %.1f MB beside its history, want at most 40", float64(beside)/1e6)
	}
	if collector > 100e6 {
		t.Errorf("the collector takes %.1f MB, want at most 100", float64(collector)/1e6)
	}
	for _, p := range agents {
		select {
		case <-p.done:
			t.Error("an agent has ended")
		default:
		}
	}
}
