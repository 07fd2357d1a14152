package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/packaging/servers"
)

// restoreAge is how old the backup is that TestRestore puts back: 20 s, or what HEIMDALL_RESTORE_AGE says.
func restoreAge() time.Duration {
	if d, err := time.ParseDuration(os.Getenv("HEIMDALL_RESTORE_AGE")); err == nil {
		return d
	}
	return 20 * time.Second
}

// TestRestore backs up under load and puts that back later. Agents had everything acknowledged that came in between, and keep it a
// while: it is asked for, and nothing of them is missing in the end. Of the station "short", which keeps nothing, verify names what
// is missing.
func TestRestore(t *testing.T) {
	t.Parallel() // it waits most of the time
	database := servers.Postgres(t)
	n := newNetwork(t, database)
	fast := ", measurement: {every: 50ms}, spectrum: {every: 500ms}"
	n.agent(t, "north", simulated(t, "north"), fast)
	n.agent(t, "south", simulated(t, "south"), fast)
	n.waitOnline(2)
	n.waitDelivered("north")
	n.waitDelivered("south")

	if err := acquireIQ(t, n.api, "before the backup"); err != nil {
		t.Fatal(err)
	}
	n.forgetful(t, "short")
	backup := filepath.Join(t.TempDir(), "backup")
	if says := mustRun(t, "heimdall-collector", "backup", "--config", n.config, backup); !strings.Contains(says, "list of 2 recordings in the archive") {
		t.Error(says)
	}
	atBackup := lastOf(n)
	age := restoreAge()
	time.Sleep(age) // the load goes on
	n.waitVerified(time.Minute)
	atLoss := lastOf(n)
	if _, says, code := run(t, "heimdall-collector", "restore", "--replace", "--config", n.config, backup); code != 1 || !strings.Contains(says, "another collector uses this directory") {
		t.Errorf("under a running collector restore ends with %d: %s", code, says)
	}
	n.collector.stop(syscall.SIGTERM)
	if says := mustRun(t, "heimdall-collector", "restore", "--replace", "--config", n.config, backup); !strings.Contains(says, "\n2 of 2 recordings in the archive\n") {
		t.Error(says)
	}
	if got := lastOf(n); got["north"] > atBackup["north"] || got["south"] > atBackup["south"] {
		t.Fatalf("the restored database knows numbers up to %v, and the backup was made at %v", got, atBackup)
	}
	n.collector.start()
	n.waitReady()
	missed := false
	eventually(t, age+5*time.Minute, "nothing is missing", func() error {
		lines, code := n.verify(false)
		for _, v := range lines {
			if v.Station == "short" {
				continue
			}
			missed = missed || v.Missing > 0
			if v.Last < atLoss[v.Station] || v.Missing > 0 || v.Pending > 200 {
				return fmt.Errorf("verify ends with %d: %+v", code, lines)
			}
		}
		return nil
	})
	if !missed {
		t.Error("verify never missed what was undone: the test shows nothing")
	}
	lines, code := n.verify(false)
	if code != 1 || len(lines) != 3 {
		t.Errorf("verify ends with %d: %+v", code, lines)
	}
	for _, v := range lines {
		if v.Gaps != 0 || v.Rejected != 0 || v.Duplicate != 0 || (v.Missing != 0) != (v.Station == "short") {
			t.Errorf("%+v", v)
		}
	}
}

// forgetful starts a station that keeps nothing of what was acknowledged, and waits for its first records.
func (n *network) forgetful(t *testing.T, id string) {
	t.Helper()
	config := writeFile(t, id+".yaml", fmt.Sprintf(`
station: {id: %s}
mqtt: {url: %q}
receivers: [{id: r0, source: %q, history: 16MiB, measurement: {every: 50ms}}]
spool: {path: %q, limit: 64MiB}
delivery: {keep: 0s}
metrics: {listen: ""}
`, id, n.broker.URL, simulated(t, "north"), t.TempDir()))
	start(t, "heimdall-agent", "run", "--config", config)
	n.waitDelivered(id)
}

// lastOf is the highest number known of each station.
func lastOf(n *network) map[string]uint64 {
	n.t.Helper()
	last := make(map[string]uint64)
	lines, _ := n.verify(false)
	for _, v := range lines {
		last[v.Station] = max(last[v.Station], v.Last)
	}
	return last
}
