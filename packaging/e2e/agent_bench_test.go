package e2e_test

import (
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/agent/radio/radiotest"
	"github.com/fulgidus/heimdall/packaging/servers"
)

// readSetting has the test's own program do nothing but read the samples of a server at this address.
const readSetting = "HEIMDALL_E2E_READ"

const (
	agentBenchHz      = 2_400_000
	agentBenchWarm    = 25 * time.Second // the history is full after 14 s
	agentBenchLasting = time.Minute
)

// readSamples is what any client of rtl_tcp must do at least.
func readSamples(address string) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte{0x02, 0, 0x24, 0x9f, 0}); err != nil { // 2.4 Msps
		panic(err)
	}
	io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{conn}, make([]byte, 512<<10)) // until it is killed
}

// unitSlack is the timer slack of the agent's unit.
func unitSlack(b *testing.B) time.Duration {
	unit, err := os.ReadFile(filepath.Join("..", "service", "units", "heimdall-agent.service"))
	if err != nil {
		b.Fatal(err)
	}
	_, value, _ := strings.Cut(string(unit), "\nTimerSlackNSec=")
	value, _, _ = strings.Cut(value, "\n")
	slack, err := time.ParseDuration(value)
	if err != nil {
		b.Fatal(err)
	}
	return slack
}

// BenchmarkAgent shows what a station with one stick takes of a core, and of memory beside its history, and how much of that is
// for reading the samples alone: 2.4 Msps of noise, 4096 bins, detection, 64 MiB of history. The agent is started as its unit starts it.
func BenchmarkAgent(b *testing.B) {
	noise := make([]byte, 8<<20)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = byte(127.5 + 10*random.NormFloat64())
	}
	stick := func() *radiotest.RTLTCP {
		places := rand.New(rand.NewPCG(3, 4)) // each its own: they serve at the same time
		return radiotest.StartRTLTCP(b, radiotest.RTLSettings{Source: func(iq []byte, _ radiotest.RTLTuning) {
			copy(iq, noise[places.IntN(len(noise)-len(iq))&^1:])
		}})
	}
	for b.Loop() {
		n := newNetwork(b, servers.Postgres(b))
		var p *program
		withSlack(b, unitSlack(b), func() {
			p, _ = n.agent(b, "stick", "rtltcp://"+stick().Address()+"?center=145M&rate=2.4M", ", history: 64MiB")
		})
		n.waitOnline(1)
		reader := exec.Command(os.Args[0])
		reader.Env = append(os.Environ(), readSetting+"="+stick().Address())
		if err := reader.Start(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			reader.Process.Kill()
			reader.Wait()
		})
		time.Sleep(agentBenchWarm)
		began, whole, alone := time.Now(), p.cpu(), processCPU(b, reader.Process.Pid)
		time.Sleep(agentBenchLasting)
		share := func(spent time.Duration) float64 { return 100 * spent.Seconds() / time.Since(began).Seconds() }
		agent, read := share(p.cpu()-whole), share(processCPU(b, reader.Process.Pid)-alone)
		b.ReportMetric(agent-read, "%core-beyond-reading")
		b.ReportMetric(agent, "%core")
		b.ReportMetric(read, "%core-reading")
		b.ReportMetric(float64(p.memory()-64*mebi)/1e6, "MB-beside-history")
	}
}
