package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/packaging/proxy"
	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

// rounds is how often an acquisition is repeated: 5 times, or what HEIMDALL_ROUNDS says.
func rounds() int {
	if n, err := strconv.Atoi(os.Getenv("HEIMDALL_ROUNDS")); err == nil && n > 0 {
		return n
	}
	return 5
}

// quantile of times, the nearest rank.
func quantile(times []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

func millis(d time.Duration) float64 { return float64(d) / 1e6 }

// BenchmarkAcquisition shows how much longer than the capture itself an acquisition takes, from its answer to the last of seven
// recordings of 12.5 kHz, near by and at a round trip of 100 ms; and, as "past", how long one takes of a second that began ten
// seconds before the order. Beside that, what an agent takes of a processor meanwhile, on average, and the memory of the largest
// agent and of the collector.
func BenchmarkAcquisition(b *testing.B) {
	for name, delay := range map[string]time.Duration{"near": 0, "rtt=100ms": 50 * time.Millisecond} {
		b.Run(name, func(b *testing.B) {
			n := newNetwork(b, servers.Postgres(b))
			n.far(b, delay)
			agents := n.demoStations(b)
			for _, seconds := range []int{1, 5, 10} {
				b.Run(fmt.Sprintf("%ds", seconds), func(b *testing.B) {
					body := fmt.Sprintf(`{"frequency_hz": 145500000, "duration_s": %d, "bandwidth_hz": 12500, "iq": true}`, seconds)
					n.acquire(b, agents, "beyond", func() (string, time.Duration) { return body, time.Duration(seconds) * time.Second })
				})
			}
			b.Run("past", func(b *testing.B) {
				time.Sleep(retroAge()) // the history has to reach back as far
				n.acquire(b, agents, "response", func() (string, time.Duration) {
					start := time.Now().Add(-retroAge()).UTC().Format(time.RFC3339Nano)
					return fmt.Sprintf(`{"frequency_hz": 145500000, "start_time": %q, "duration_s": 1, "bandwidth_hz": 12500, "iq": true}`, start), 0
				})
			})
		})
	}
}

// acquire has the same acquisition made again and again, and shows how much longer than it must each took, to the last
// recording.
func (n *network) acquire(b *testing.B, agents map[string]*program, what string, order func() (body string, must time.Duration)) {
	var beyond, posts []time.Duration
	began, used := time.Now(), cpuOf(agents)
	for b.Loop() {
		for range rounds() {
			body, must := order()
			a, took, err := n.post(body)
			if err != nil {
				b.Fatal(err)
			}
			answered := time.Now()
			n.whole(b, n.ended(b, a.ID, time.Minute))
			beyond = append(beyond, time.Since(answered)-must)
			posts = append(posts, took)
		}
	}
	load := float64(cpuOf(agents)-used) / float64(time.Since(began)) / float64(len(agents))
	largest := int64(0)
	for _, p := range agents {
		largest = max(largest, p.memory())
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(millis(quantile(beyond, 0.5)), "ms-"+what+"-p50")
	b.ReportMetric(millis(quantile(beyond, 0.95)), "ms-"+what+"-p95")
	b.ReportMetric(millis(quantile(posts, 0.95)), "ms-post-p95")
	b.ReportMetric(100*load, "agent-cpu-%")
	b.ReportMetric(float64(largest)/1e6, "agent-MB")
	b.ReportMetric(float64(n.collector.memory())/1e6, "collector-MB")
}

// cpuOf is the processor time that programs have used.
func cpuOf(programs map[string]*program) time.Duration {
	sum := time.Duration(0)
	for _, p := range programs {
		sum += p.cpu()
	}
	return sum
}

// far puts a delay each way between the stations that start from now on and the broker.
func (n *network) far(t testing.TB, delay time.Duration) {
	t.Helper()
	if delay == 0 {
		return
	}
	p, err := proxy.New(n.broker.Addr, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	p.Set(proxy.Faults{Delay: delay})
	n.road = "mqtt://" + p.Addr()
}

// whole fails unless every station is done.
func (n *network) whole(t testing.TB, a protocol.Acquisition) {
	t.Helper()
	for _, s := range a.Stations {
		if s.State != protocol.StationDone {
			t.Fatalf("acquisition %s: station %s is %s: %s", a.ID, s.Station, s.State, s.Message)
		}
	}
}

// BenchmarkSubmit posts many acquisitions at once, and waits until each of them has ended.
func BenchmarkSubmit(b *testing.B) {
	for _, many := range []int{50, 500} {
		b.Run(strconv.Itoa(many), func(b *testing.B) {
			n := newNetwork(b, servers.Postgres(b))
			for _, agent := range n.demoStations(b) {
				elsewhere(b, agent)
			}
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: many}} // which keeps its connections
			n.orderAtOnce(b, client, many)                                                // the first finds everything cold
			var posts []time.Duration
			for b.Loop() {
				time.Sleep(2 * time.Second) // until what the last ones left to do is done
				posts = append(posts, n.orderAtOnce(b, client, many)...)
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(millis(quantile(posts, 0.5)), "ms-post-p50")
			b.ReportMetric(millis(quantile(posts, 0.99)), "ms-post-p99")
			b.ReportMetric(float64(n.collector.memory())/1e6, "MB-collector")
		})
	}
}

// elsewhere has a program give way to the others, as if it ran on a computer of its own.
func elsewhere(t testing.TB, p *program) {
	t.Helper()
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	renice := []string{"-n", "19", "-p"}
	for _, thread := range threads {
		renice = append(renice, thread.Name())
	}
	if out, err := exec.CommandContext(t.Context(), "renice", renice...).CombinedOutput(); err != nil {
		t.Logf("the stations run beside the collector: %v: %s", err, out)
	}
}

// orderAtOnce posts acquisitions of a second each, all at once, waits for their ends, and tells how long the answers took.
func (n *network) orderAtOnce(t testing.TB, client *http.Client, many int) []time.Duration {
	t.Helper()
	posts := make([]time.Duration, many)
	answers := make([][]byte, many)
	var sending sync.WaitGroup
	for i := range many {
		sending.Go(func() {
			body := fmt.Sprintf(`{"frequency_hz": %d, "duration_s": 1, "bandwidth_hz": 12500, "iq": true, "label": "%d"}`, 145_450_000+2_000*(i%50), i)
			var err error
			if answers[i], posts[i], err = n.send(client, body); err != nil {
				t.Error(err)
			}
		})
	}
	sending.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for _, answer := range answers {
		var a protocol.Acquisition
		if err := json.Unmarshal(answer, &a); err != nil {
			t.Fatal(err)
		}
		n.ended(t, a.ID, 5*time.Minute)
	}
	return posts
}
