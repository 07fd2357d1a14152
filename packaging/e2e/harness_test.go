// Package e2e_test drives the two programs as their users do: real processes, real broker, database and object store.
package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

// programsDir is where programs builds them. TestMain sets it.
var programsDir string

// programs builds both programs once for all tests of the process. With HEIMDALL_COVER_DIR set they count coverage.
var programs = sync.OnceValues(func() (string, error) {
	dir := programsDir
	for _, name := range []string{"agent", "collector"} {
		args := []string{"build", "-o", filepath.Join(dir, "heimdall-"+name)}
		if os.Getenv("HEIMDALL_COVER_DIR") != "" {
			args = append(args, "-cover", "-coverpkg=github.com/fulgidus/heimdall/...")
		}
		cmd := exec.Command("go", append(args, "github.com/fulgidus/heimdall/"+name)...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build %s: %w: %s", name, err, out)
		}
	}
	return dir, nil
})

// atOnce is how many of the tests that wait most of the time run at once, unless -parallel says it: more than there are
// cores.
const atOnce = "6"

func TestMain(m *testing.M) {
	if address := os.Getenv(readSetting); address != "" {
		readSamples(address)
		return
	}
	dir, err := os.MkdirTemp("", "heimdall-programs-")
	if err != nil {
		panic(err)
	}
	programsDir = dir
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", atOnce); err != nil {
			panic(err)
		}
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// program is one started process of ours.
type program struct {
	t    testing.TB
	name string
	args []string
	log  string // path
	cmd  *exec.Cmd
	done chan struct{}
}

// start runs a program until the test ends. Its output goes to a file that is shown when the test fails.
func start(t testing.TB, name string, args ...string) *program {
	t.Helper()
	p := &program{t: t, name: name, args: args, log: filepath.Join(t.TempDir(), name+".log")}
	p.start()
	t.Cleanup(func() {
		p.stop(syscall.SIGTERM)
		if t.Failed() {
			text, _ := os.ReadFile(p.log)
			t.Logf("log of %s %s:\n%s", name, strings.Join(args, " "), tail(text, 40))
		}
	})
	return p
}

func tail(text []byte, n int) []byte {
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-n):], []byte("\n"))
}

func command(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(dir, name), args...)
	cmd.Env = os.Environ()
	if cover := os.Getenv("HEIMDALL_COVER_DIR"); cover != "" {
		cmd.Env = append(cmd.Env, "GOCOVERDIR="+cover)
	}
	return cmd
}

func (p *program) start() {
	p.t.Helper()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	p.cmd = command(p.t, p.name, p.args...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.done = make(chan struct{})
	go func() {
		p.cmd.Wait()
		close(p.done)
	}()
}

// stop sends a signal and waits for the end.
func (p *program) stop(sig syscall.Signal) {
	p.cmd.Process.Signal(sig)
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		p.t.Errorf("%s did not end within 20 s of %v", p.name, sig)
		p.cmd.Process.Kill()
		<-p.done
	}
}

// killAndStart is a power cut for this program, after which it starts again.
func (p *program) killAndStart() {
	p.t.Helper()
	p.stop(syscall.SIGKILL)
	p.start()
}

// memory is the resident memory in bytes.
func (p *program) memory() int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	var kib int64
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			fmt.Sscan(rest, &kib)
		}
	}
	return kib << 10
}

// cpu is the processor time used since the start.
func (p *program) cpu() time.Duration { return processCPU(p.t, p.cmd.Process.Pid) }

// processCPU is the time that a process has used since its start.
func processCPU(t testing.TB, pid int) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	const user, system, tick = 11, 12, 10 * time.Millisecond // fields after the name, and the unit on every Linux
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	var ticks int
	for _, i := range []int{user, system} {
		n, err := strconv.Atoi(fields[i])
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * tick
}

// run runs a command to its end and gives its output and exit code.
func run(t testing.TB, name string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := command(t, name, args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

// mustRun is run for a command that has to end with 0.
func mustRun(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, errOut, code := run(t, name, args...)
	if code != 0 {
		t.Fatalf("%s %s ended with %d\n%s%s", name, strings.Join(args, " "), code, out, errOut)
	}
	return out
}

// network is a collector with its servers.
type network struct {
	t         testing.TB
	broker    *servers.Broker
	road      string // URL at which stations reach the broker, where that is not the broker's own
	objects   *servers.ObjectStore
	config    string
	api       string // http://127.0.0.1:PORT
	collector *program
}

// newNetwork starts a collector on a real broker, the given database and a real object store.
func newNetwork(t testing.TB, database string) *network {
	t.Helper()
	return newNetworkOf(t, database, "")
}

// newNetworkOf is newNetwork with more settings of the collector.
func newNetworkOf(t testing.TB, database, more string) *network {
	t.Helper()
	n := &network{t: t, broker: servers.Mosquitto(t), objects: servers.MinIO(t)}
	listen := servers.FreeAddress(t)
	n.api = "http://" + listen
	n.config = writeFile(t, "collector.yaml", fmt.Sprintf(`
id: e2e
data: %s
mqtt: {url: %q, json_mirror: true}
store: {url: %q}
archive: {url: %q, access_key: %s, secret_key: %s}
http: {listen: %q}
%s
`, t.TempDir(), n.broker.URL, database, n.objects.URL, n.objects.AccessKey, n.objects.SecretKey, listen, more))
	n.collector = start(t, "heimdall-collector", "run", "--config", n.config)
	n.waitReady()
	return n
}

func (n *network) waitReady() {
	n.t.Helper()
	eventually(n.t, time.Minute, "the collector is ready", func() error {
		return n.get("/readyz", nil)
	})
}

// get asks the API and decodes its answer.
func (n *network) get(path string, into any) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.api+path, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", path, resp.Status)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

func (n *network) stations() []protocol.Station {
	var list struct{ Items []protocol.Station }
	if err := n.get("/api/v1/stations", &list); err != nil {
		return nil
	}
	return list.Items
}

// waitOnline waits until so many stations are online and their receivers deliver.
func (n *network) waitOnline(want int) {
	n.t.Helper()
	eventually(n.t, time.Minute, fmt.Sprintf("%d stations are online", want), func() error {
		online := 0
		for _, s := range n.stations() {
			if s.Status == "online" && len(s.Receivers) > 0 && s.Receivers[0].SampleRateHz > 0 {
				online++
			}
		}
		if online < want {
			return fmt.Errorf("%d are", online)
		}
		return nil
	})
}

// waitDelivered waits until a station's records are stored as soon as they are made.
func (n *network) waitDelivered(station string) {
	n.t.Helper()
	eventually(n.t, 3*time.Minute, station+" has delivered what it held back", func() error {
		var list struct{ Items []struct{ Time time.Time } }
		if err := n.get("/api/v1/measurements?limit=1&station="+station, &list); err != nil {
			return err
		}
		if len(list.Items) == 0 || time.Since(list.Items[0].Time) > 5*time.Second {
			return fmt.Errorf("the newest measurement: %+v", list.Items)
		}
		return nil
	})
	time.Sleep(2 * time.Second) // live goes before backlog
}

// verdict is a line of `verify --json`.
type verdict struct {
	Station                                                                    string
	Spool                                                                      string
	First, Last, Stored, Released, Gaps, Rejected, Pending, Missing, Duplicate uint64
}

// verify runs the proof and gives its lines.
func (n *network) verify(final bool) (lines []verdict, code int) {
	n.t.Helper()
	args := []string{"verify", "--json", "--config", n.config}
	if final {
		args = append(args, "--final")
	}
	out, errOut, code := run(n.t, "heimdall-collector", args...)
	decoder := json.NewDecoder(strings.NewReader(out))
	for decoder.More() {
		var v verdict
		if err := decoder.Decode(&v); err != nil {
			n.t.Fatalf("verify: %v in %s%s", err, out, errOut)
		}
		lines = append(lines, v)
	}
	return lines, code
}

// waitVerified waits until nothing is missing, with what agents hold counted as missing.
func (n *network) waitVerified(patience time.Duration) []verdict {
	n.t.Helper()
	var lines []verdict
	eventually(n.t, patience, "verify --final ends with 0", func() error {
		var code int
		lines, code = n.verify(true)
		if code != 0 || len(lines) == 0 {
			return fmt.Errorf("it ends with %d: %+v", code, lines)
		}
		return nil
	})
	return lines
}

// agent starts a station, whose receiver has more settings, and tells its state directory.
func (n *network) agent(t testing.TB, id, source, more string) (p *program, state string) {
	t.Helper()
	state = t.TempDir()
	if !strings.Contains(more, "history:") {
		more += ", history: 16MiB"
	}
	broker := n.broker.URL
	if n.road != "" {
		broker = n.road
	}
	config := writeFile(t, id+".yaml", fmt.Sprintf(`
station: {id: %s, position: {lat: 47.1721, lon: 8.42683, publish: exact}}
mqtt: {url: %q}
receivers: [{id: r0, source: %q%s}]
spool: {path: %q, limit: 64MiB}
control: {allow: [capture]}
`, id, broker, source, more, state))
	return start(t, "heimdall-agent", "run", "--config", config), state
}

func writeFile(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// eventually waits until a condition holds.
func eventually(t testing.TB, patience time.Duration, what string, holds func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := holds()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v it does not hold that %s: %v", patience, what, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// recordings is the folder of real recordings; the test is skipped where it is absent.
func recordings(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("HEIMDALL_REALDATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "realdata")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no real recordings: %v; set HEIMDALL_REALDATA", err)
	}
	return dir
}

// outage is how long a server is away in tests: a minute, or what HEIMDALL_OUTAGE says.
func outage() time.Duration {
	if d, err := time.ParseDuration(os.Getenv("HEIMDALL_OUTAGE")); err == nil {
		return d
	}
	return time.Minute
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// publish sends payloads to a topic over one connection of its own.
func publish(t testing.TB, broker, topic string, payloads [][]byte) {
	t.Helper()
	publishAs(t, broker, topic, false, payloads)
}

// retain publishes what the broker gives to everybody who comes later, too.
func retain(t testing.TB, broker, topic string, payload []byte) {
	t.Helper()
	publishAs(t, broker, topic, true, [][]byte{payload})
}

func publishAs(t testing.TB, broker, topic string, retained bool, payloads [][]byte) {
	t.Helper()
	options := mqtt.NewClientOptions().AddBroker("tcp://" + broker).SetClientID("vandal").SetAutoReconnect(false)
	client := mqtt.NewClient(options)
	if token := client.Connect(); !token.WaitTimeout(10*time.Second) || token.Error() != nil {
		t.Fatalf("connect: %v", token.Error())
	}
	defer client.Disconnect(250)
	var last mqtt.Token
	for _, p := range payloads {
		last = client.Publish(topic, 1, retained, p)
	}
	if !last.WaitTimeout(30*time.Second) || last.Error() != nil {
		t.Errorf("publish to %s: %v", topic, last.Error())
	}
}
