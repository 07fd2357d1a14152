package e2e_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

// pair is two collectors of one group, on one database.
type pair struct {
	*network
	database string
	second   *network // the same with another collector
}

// newPair starts both at the same moment on an empty database.
func newPair(t *testing.T, more string) *pair {
	t.Helper()
	return newPairAs(t, more, func(_, database string) string { return database })
}

// newPairAs is newPair with an address of the database for each collector.
func newPairAs(t *testing.T, more string, address func(id, database string) string) *pair {
	t.Helper()
	if _, err := faultyCollector(); err != nil {
		t.Fatal(err)
	}
	p := &pair{database: servers.Postgres(t)}
	broker, objects := servers.Mosquitto(t), servers.MinIO(t)
	collector := func(id string) *network {
		n := &network{t: t, broker: broker, objects: objects}
		listen := servers.FreeAddress(t)
		n.api = "http://" + listen
		n.config = writeFile(t, id+".yaml", fmt.Sprintf(`
id: %s
data: %s
mqtt: {url: %q}
store: {url: %q}
archive: {url: %q, access_key: %s, secret_key: %s}
http: {listen: %q}
%s`, id, t.TempDir(), broker.URL, address(id, p.database), objects.URL, objects.AccessKey, objects.SecretKey, listen, more))
		return n
	}
	p.network, p.second = collector("one"), collector("two")
	if _, err := programs(); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*network{p.network, p.second} {
		n.collector = start(t, "heimdall-collector", "run", "--config", n.config)
	}
	p.waitReady()
	p.second.waitReady()
	return p
}

// acquireIQ asks both stations for samples through one of the collectors, and wants a recording of each.
func acquireIQ(t *testing.T, api, label string) error {
	t.Helper()
	out, errOut, code := run(t, "heimdall-collector", "acquire", "145.5M", "500ms", "--bandwidth", "12.5k", "--iq", "--wait", "--json", "--label", label, "--url", api)
	var a protocol.Acquisition
	if err := json.Unmarshal([]byte(out), &a); err != nil || code != 0 || len(a.Stations) != 2 {
		return fmt.Errorf("acquire ends with %d, %w: %s%s", code, err, out, errOut)
	}
	for _, s := range a.Stations {
		if s.State != protocol.StationDone || s.Recording == "" {
			return fmt.Errorf("%s: %+v", s.Station, s)
		}
	}
	return nil
}

// TestTwoCollectors lets two collectors share the work from an empty database on: both serve acquisitions, one is killed at
// every place where that could hurt, one stands still for a while.
func TestTwoCollectors(t *testing.T) {
	t.Parallel() // it waits most of the time
	p := newPair(t, "")
	fast := ", measurement: {every: 50ms}, spectrum: {every: 500ms}"
	p.agent(t, "north", simulated(t, "north"), fast)
	p.agent(t, "south", simulated(t, "south"), fast)
	p.waitOnline(2)
	p.second.waitOnline(2)
	if got := strings.TrimSpace(mustSQL(t, p.database, "SELECT count(*) - count(DISTINCT number) FROM migration")); got != "0" {
		t.Errorf("%s migrations were applied twice", got)
	}
	var wg sync.WaitGroup
	for i := range 6 { // through both, at the same time
		api := []string{p.api, p.second.api}[i%2]
		wg.Go(func() {
			if err := acquireIQ(t, api, fmt.Sprint("the same at once ", i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := strings.TrimSpace(mustSQL(t, p.database, "SELECT count(*) FROM recording")); got != "12" {
		t.Errorf("%s recordings of 6 acquisitions by 2 stations", got)
	}
	if got := strings.TrimSpace(mustSQL(t, p.database, "SELECT count(DISTINCT station) FROM measurement")); got != "2" {
		t.Errorf("%s of 2 stations have delivered measurements", got)
	}

	// Standing still, a collector holds what it was handed and perhaps locks; it must do no harm when it goes on.
	servers.Pause(p.collector.cmd.Process)
	time.Sleep(10 * time.Second)
	servers.Resume(p.collector.cmd.Process)

	p.second.collector.stop(syscall.SIGTERM)
	for hit, place := range []string{
		"ingest.decoded", "store.begun", "store.inserted", "store.accounted", "ingest.committed", "ingest.acked", "ingest.ack_published",
	} {
		p.second.dieAt(t, fmt.Sprintf("%s:%d", place, hit+1))
	}
	if err := acquireIQ(t, p.api, "after the other died"); err != nil {
		t.Error("after the other collector died: ", err)
	}
	p.second.collector.start()
	p.second.waitReady()
	p.collector.stop(syscall.SIGKILL)
	if err := acquireIQ(t, p.second.api, "after this one died"); err != nil {
		t.Error("after this collector died: ", err)
	}
	for _, v := range p.waitVerified(3 * time.Minute) {
		if v.Gaps != 0 || v.Rejected != 0 || v.Duplicate != 0 {
			t.Errorf("%+v", v)
		}
	}
}

// TestDyingInJobs kills the collector that does the jobs of its group in the middle of each of them, while recordings are
// made and removed.
func TestDyingInJobs(t *testing.T) {
	t.Parallel() // it waits most of the time
	p := newPair(t, "retention: {spectrum: 2s, recording: 2s}\n")
	fast := ", measurement: {every: 50ms}, spectrum: {every: 500ms}"
	p.agent(t, "north", simulated(t, "north"), fast)
	p.agent(t, "south", simulated(t, "south"), fast)
	p.waitOnline(2)
	free := func() { mustSQL(t, p.database, "UPDATE lease SET until = now()") } // else it would last for some seconds
	p.collector.stop(syscall.SIGTERM)
	p.second.collector.stop(syscall.SIGTERM)
	for _, place := range []string{
		"lease.renew", "store.released", "archive.samples", "archive.stored", "retention.row_removed", "archive.removed", "retention.objects_removed",
	} {
		free()
		var asking sync.WaitGroup
		died := make(chan struct{}) // closed when it has
		if strings.HasPrefix(place, "archive.") || strings.HasPrefix(place, "retention.") {
			asking.Go(func() {
				for p.second.get("/readyz", nil) != nil {
					select {
					case <-died: // over what an earlier one left to do
						return
					case <-time.After(100 * time.Millisecond):
					}
				}
				// Who is asked dies over it, and whoever waited for the end would wait for its return.
				_, _, _ = p.second.post(`{"frequency_hz": 145500000, "duration_s": 0.5, "bandwidth_hz": 12500, "iq": true}`)
			})
		}
		p.second.dieAt(t, place+":1")
		close(died)
		asking.Wait()
	}
	free()
	p.collector.start()
	p.waitReady()
	eventually(t, time.Minute, "nothing is left of old recordings", func() error {
		left := strings.TrimSpace(mustSQL(t, p.database, "SELECT (SELECT count(*) FROM recording) + (SELECT count(*) FROM recording_removed)"))
		if left != "0" {
			return fmt.Errorf("%s rows are", left)
		}
		return nil
	})
	released := uint64(0)
	for _, v := range p.waitVerified(2 * time.Minute) {
		released += v.Released
		if v.Gaps != 0 || v.Rejected != 0 || v.Duplicate != 0 {
			t.Errorf("%+v", v)
		}
	}
	if released == 0 {
		t.Error("nothing was released: the test shows nothing")
	}
}
