package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/agent/spool"
	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

// damageKinds are the ways to damage a spool's file.
var damageKinds = []struct {
	name   string
	damage func(*rand.Rand, []byte) []byte
}{
	{"bit", func(r *rand.Rand, file []byte) []byte {
		file[r.IntN(len(file))] ^= 1 << r.IntN(8)
		return file
	}},
	{"page", func(r *rand.Rand, file []byte) []byte {
		clear(file[r.IntN(len(file)/4096)*4096:][:4096])
		return file
	}},
	{"truncate", func(r *rand.Rand, file []byte) []byte { return file[:r.IntN(len(file))] }},
	{"metas", func(r *rand.Rand, file []byte) []byte {
		for _, page := range []int{0, os.Getpagesize()} {
			file[page+16+r.IntN(64)] ^= 1
		}
		return file
	}},
	{"garbage", func(*rand.Rand, []byte) []byte { return bytes.Repeat([]byte("garbage "), 5000) }},
}

// A real agent starts on a spool that is damaged in any way, and numbers new records within half a minute.
// HEIMDALL_DAMAGED_AGENTS is how many of each kind it is shown; go test -parallel is how many agents run at once.
func TestDamagedSpool_TheAgentRuns(t *testing.T) {
	copies := 1
	if setting := os.Getenv("HEIMDALL_DAMAGED_AGENTS"); setting != "" {
		var err error
		if copies, err = strconv.Atoi(setting); err != nil || copies < 1 {
			t.Fatalf("HEIMDALL_DAMAGED_AGENTS=%q: want the number of damaged spools of each kind", setting)
		}
	}
	if _, err := programs(); err != nil { // not while an agent is awaited
		t.Fatal(err)
	}
	whole := t.TempDir()
	fillSpool(t, whole, 2000)
	file := readFile(t, filepath.Join(whole, "spool.db"))
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for _, kind := range damageKinds {
		var mu sync.Mutex // guards took
		var took []time.Duration
		t.Run(kind.name, func(t *testing.T) {
			for i := range copies {
				t.Run(strconv.Itoa(i), func(t *testing.T) {
					t.Parallel()
					random := rand.New(rand.NewPCG(seed, uint64(i)))
					it := startOn(t, whole, kind.damage(random, bytes.Clone(file)))
					mu.Lock()
					defer mu.Unlock()
					took = append(took, it)
				})
			}
		})
		if slices.Sort(took); len(took) > 0 {
			t.Logf("%-8s %d agents run, median after %v, slowest after %v (asked each 100 ms)", kind.name, len(took),
				took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond))
		}
	}
}

// startOn starts an agent whose spool is that of whole with another file, kills it once it numbers new records, and tells how
// long that took.
func startOn(t *testing.T, whole string, file []byte) time.Duration {
	t.Helper()
	state := t.TempDir()
	if err := os.CopyFS(state, os.DirFS(whole)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(state, "spool.db"), file, 0o600); err != nil {
		t.Fatal(err)
	}
	config := writeFile(t, "north.yaml", fmt.Sprintf(`
station: {id: north, position: {lat: 47.1721, lon: 8.42683, publish: exact}}
mqtt: {url: "mqtt://%s"}
receivers: [{id: r0, source: %q, history: 1MiB, fft: 1024, measurement: {every: 20ms}}]
spool: {path: %q, limit: 64MiB}
`, servers.FreeAddress(t), simulated(t, "north"), state))
	began := time.Now()
	agent := start(t, "heimdall-agent", "run", "--config", config)
	first := uint64(0) // number that it told
	eventually(t, 30*time.Second, "the agent runs", func() error {
		state, last, err := askStatus(t.Context(), filepath.Join(state, "control.sock"))
		switch {
		case err != nil:
			return err
		case state != "running":
			return fmt.Errorf("it says it is %s", state)
		case first == 0:
			first = last
		}
		if last <= first {
			return fmt.Errorf("it has given no number after %d", last)
		}
		return nil
	})
	took := time.Since(began)
	agent.stop(syscall.SIGKILL)
	return took
}

// askStatus asks a running agent for its state and the last number that it gave.
func askStatus(ctx context.Context, socket string) (state string, last uint64, err error) {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent/status", nil)
	if err != nil {
		return "", 0, err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return "", 0, err
	}
	defer resp.Body.Close()
	var status struct {
		State struct{ State string }
		Spool struct {
			LastSeq uint64 `json:"last_seq"`
		}
	}
	err = json.NewDecoder(resp.Body).Decode(&status)
	return status.State.State, status.Spool.LastSeq, err
}

// fillSpool makes a spool with records in all lanes, as an agent that was not heard for a while leaves it.
func fillSpool(t *testing.T, dir string, records int) {
	t.Helper()
	s, err := spool.Open(dir, spool.Options{Station: "north"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	lanes := spool.Lanes()
	for i := range records {
		lane := lanes[i%len(lanes)]
		if _, err := s.Queue(t.Context(), lane, protocol.Kind(lane), fmt.Appendf(nil, "record %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
