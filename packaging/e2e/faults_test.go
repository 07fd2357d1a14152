package e2e_test

import (
	"database/sql"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/fulgidus/heimdall/agent/spool"
	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

func simulated(t *testing.T, station string) string {
	t.Helper()
	scene, err := filepath.Abs("scene.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return "sim:" + scene + "?station=" + station
}

// TestKills kills an agent and the collector, as a power cut would, at 20 random moments each. Whatever an agent gave a number
// is in the database once.
func TestKills(t *testing.T) {
	t.Parallel() // it waits most of the time
	n := newNetwork(t, servers.Postgres(t))
	fast := ", measurement: {every: 50ms}, spectrum: {every: 500ms}"
	victim, state := n.agent(t, "north", simulated(t, "north"), fast)
	n.agent(t, "south", simulated(t, "south"), fast)
	n.waitOnline(2)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 20 {
		time.Sleep(time.Duration(100+random.IntN(900)) * time.Millisecond)
		victim.killAndStart()
		time.Sleep(time.Duration(100+random.IntN(900)) * time.Millisecond)
		n.collector.killAndStart()
	}
	n.waitReady()
	time.Sleep(2 * time.Second)
	eventually(t, 2*time.Minute, "nothing is missing", func() error {
		lines, code := n.verify(false)
		if code != 0 {
			return fmt.Errorf("verify ends with %d: %+v", code, lines)
		}
		return nil
	})
	victim.stop(syscall.SIGTERM)
	for _, v := range n.waitVerified(time.Minute) {
		if v.Station == "north" && (v.Gaps != 0 || v.Rejected != 0 || v.Last < 20) {
			t.Errorf("%+v", v)
		}
	}
	if st, err := spool.Stat(state); err != nil || st.Records != 0 {
		t.Errorf("the killed agent's spool holds %d records, %v", st.Records, err)
	}
}

// TestGarbage sends a thousand random and mutated payloads on every topic of a station, and on those of another one that goes on
// delivering.
func TestGarbage(t *testing.T) {
	t.Parallel() // it waits most of the time
	const readAll = "limits: {rejected_per_minute: 1000000, rejected_per_hour: 1000000}"
	n := newNetworkOf(t, servers.Postgres(t), readAll)
	agent, _ := n.agent(t, "north", simulated(t, "north"), "")
	n.waitOnline(1)
	random := rand.New(rand.NewPCG(4, 2))
	golden := goldenPayloads(t)
	topics := []string{"status", "info", "state", "batch", "ack/0011223344556677", "command"}
	for _, k := range protocol.Kinds() {
		topics = append(topics, string(k))
	}
	for _, topic := range topics {
		for _, station := range []string{"north", "vandal"} {
			if station == "north" && (topic == "status" || topic == "info" || topic == "state") {
				continue // these belong to the living station, whose next word would only repair them
			}
			publish(t, n.broker.Addr, "heimdall/v1/"+station+"/"+topic, payloads(random, golden, 500))
		}
	}
	before := n.stored("north")
	eventually(t, 30*time.Second, "the other station's records keep arriving", func() error {
		if got := n.stored("north"); got <= before {
			return fmt.Errorf("%d records, %d before", got, before)
		}
		return nil
	})
	for _, p := range []*program{agent, n.collector} {
		select {
		case <-p.done:
			t.Errorf("%s has died", p.name)
		default:
		}
	}
	// What the vandal numbered at random has holes, and verify says so; what the other station stored is whole.
	lines, _ := n.verify(false)
	for _, v := range lines {
		if v.Station == "north" && v.Stored > 0 && (v.Missing != 0 || v.Duplicate != 0 || v.Gaps != 0) {
			t.Errorf("%+v", v)
		}
	}
}

// TestOversizedRetained has a station leave what no collector may read on the broker. It is refused by its size, whenever a
// collector comes, leaves one row that says why, and the others' records go on.
func TestOversizedRetained(t *testing.T) {
	t.Parallel() // it waits most of the time
	database := servers.Postgres(t)
	n := newNetwork(t, database)
	n.agent(t, "north", simulated(t, "north"), "")
	n.waitOnline(1)
	// Nearly all that the test's broker lets through. What is not of its size is the same for all that are too large: the test of the
	// collector's reader announces more than a broker would pass on.
	retain(t, n.broker.Addr, "heimdall/v1/vandal/state", make([]byte, 2<<20-1<<10))
	for round := range 2 {
		eventually(t, 30*time.Second, "the message is refused", func() error {
			text := string(readFile(t, n.collector.log))
			if got := strings.Count(text, "is far too large"); got <= round || !strings.Contains(text, "topic=heimdall/v1/vandal/state") {
				return fmt.Errorf("the log tells of %d", got)
			}
			return nil
		})
		before := n.stored("north")
		eventually(t, 30*time.Second, "the other station's records keep arriving", func() error {
			if got := n.stored("north"); got <= before+2 {
				return fmt.Errorf("%d records, %d before", got, before)
			}
			return nil
		})
		n.collector.killAndStart()
		n.waitReady()
	}
	db, err := sql.Open("pgx", database)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var rows, kept int
	var reason string
	err = db.QueryRowContext(t.Context(), "SELECT count(*), coalesce(min(reason), ''), coalesce(max(length(payload)), 0) FROM rejected WHERE station = 'vandal'").
		Scan(&rows, &reason, &kept)
	if err != nil || rows != 1 || !strings.HasPrefix(reason, "too_large: ") || kept == 0 || kept > 64<<10 {
		t.Errorf("%d rows, %q, %d bytes kept (%v): want one that says too_large and keeps at most 64 KiB", rows, reason, kept, err)
	}
}

// stored counts a station's records in the database.
func (n *network) stored(station string) (total uint64) {
	lines, _ := n.verify(false)
	for _, v := range lines {
		if v.Station == station {
			total += v.Stored
		}
	}
	return total
}

func goldenPayloads(t *testing.T) [][]byte {
	t.Helper()
	var all [][]byte
	err := filepath.WalkDir(filepath.Join("..", "..", "protocol", "testdata"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		if text := readFile(t, path); len(text) > 0 && len(text) < 64<<10 {
			all = append(all, text)
		}
		return nil
	})
	if err != nil || len(all) == 0 {
		t.Fatalf("golden payloads: %d, %v", len(all), err)
	}
	return all
}

// payloads makes n payloads, half of them random bytes, half golden ones with some bytes changed or cut off.
func payloads(random *rand.Rand, golden [][]byte, n int) [][]byte {
	all := make([][]byte, n)
	for i := range all {
		if i%2 == 0 {
			all[i] = make([]byte, random.IntN(300))
			for j := range all[i] {
				all[i][j] = byte(random.Uint32())
			}
			continue
		}
		p := append([]byte(nil), golden[random.IntN(len(golden))]...)
		for range 1 + random.IntN(4) {
			p[random.IntN(len(p))] = byte(random.Uint32())
		}
		all[i] = p[:random.IntN(len(p)+1)]
	}
	return all
}
