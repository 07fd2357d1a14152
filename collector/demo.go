package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/fulgidus/heimdall/packaging/demo"
	"github.com/fulgidus/heimdall/protocol"
)

// DemoCmd shows the whole system on one machine.
type DemoCmd struct {
	Exit bool   `help:"Leave when the acquisition is done: 0, or 1 if any station failed."`
	Keep string `help:"Keep the data in this directory." placeholder:"DIR" type:"path"`
}

// Help begins with the example.
func (DemoCmd) Help() string {
	return "Example:  heimdall-collector demo\n\nRuns a collector with its embedded broker, database and archive, and seven heimdall-agent processes whose simulated receivers hear the same hidden transmitter. Everything listens on loopback only."
}

const (
	demoFrequencyHz = 145.5e6
	demoBandwidthHz = 12500.0
	demoDurationS   = 5.0
)

// demoRun is one demo under way.
type demoRun struct {
	out       io.Writer
	dir       string
	agent     string // path of heimdall-agent
	collector *Collector
	remote    remote
	began     time.Time
}

// Run is called by the command line.
func (c DemoCmd) Run(ctx context.Context, s streams) error {
	agent, err := findAgent()
	if err != nil {
		return err
	}
	dir, remove, err := c.directory()
	if err != nil {
		return err
	}
	defer c.leave(ctx, s.out, dir, remove)
	log, closeLog, err := demoLog(dir)
	if err != nil {
		return err
	}
	defer closeLog()
	// What the agents end with is the thread that started them: this one, and it stays until they have ended.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	collector, err := openDemoCollector(ctx, dir, log)
	if err != nil {
		return err
	}
	d := &demoRun{out: s.out, dir: dir, agent: agent, collector: collector, remote: remote{URL: "http://" + collector.HTTPAddr()}, began: time.Now()}
	return d.run(ctx, c.Exit, c.Keep != "")
}

// leave cleans up, and after Ctrl-C says what became of everything.
func (c DemoCmd) leave(ctx context.Context, w io.Writer, dir string, remove func()) {
	remove()
	switch {
	case ctx.Err() == nil:
	case c.Keep != "":
		fmt.Fprintf(w, "Stopped; the data is kept in %s.\n", dir)
	default:
		fmt.Fprintln(w, "Stopped; the data is removed.")
	}
}

// findAgent looks beside this program, then in PATH.
func findAgent() (string, error) {
	name := "heimdall-agent"
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	if self, err := os.Executable(); err == nil {
		if path := filepath.Join(filepath.Dir(self), name); isFile(path) {
			return path, nil
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("the demo runs heimdall-agent, which is neither beside this program nor in PATH (`make build` makes both): %w", err)
	}
	return path, nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

func (c DemoCmd) directory() (dir string, remove func(), err error) {
	if c.Keep != "" {
		if err := os.MkdirAll(c.Keep, 0o700); err != nil {
			return "", nil, fmt.Errorf("--keep: %w", err)
		}
		return c.Keep, func() {}, nil
	}
	dir, err = os.MkdirTemp("", "heimdall-demo-")
	if err != nil {
		return "", nil, fmt.Errorf("make a directory for the demo: %w", err)
	}
	return dir, func() { os.RemoveAll(dir) }, nil
}

// demoLog keeps the collector's log out of the demo's own lines.
func demoLog(dir string) (*slog.Logger, func(), error) {
	f, err := os.Create(filepath.Join(dir, "collector.log"))
	if err != nil {
		return nil, nil, fmt.Errorf("write the collector's log: %w", err)
	}
	return slog.New(slog.NewTextHandler(f, nil)), func() { f.Close() }, nil
}

// openDemoCollector takes the documented ports, or any free ones where another demo or collector has those.
func openDemoCollector(ctx context.Context, dir string, log *slog.Logger) (*Collector, error) {
	cfg := DefaultConfig()
	cfg.Data = filepath.Join(dir, "heimdall-data")
	cfg.embed()
	c, err := Open(ctx, cfg, version, log)
	if !errors.Is(err, syscall.EADDRINUSE) {
		return c, err
	}
	cfg.MQTT.Embedded.Listen, cfg.HTTP.Listen = "127.0.0.1:0", "127.0.0.1:0"
	return Open(ctx, cfg, version, log)
}

func (d *demoRun) run(ctx context.Context, exit, keep bool) error {
	ctx, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	var collectorErr error
	running.Go(func() {
		defer stop() // a demo without its collector is over
		collectorErr = d.collector.Run(ctx)
	})
	d.greet(keep)
	err := d.show(ctx, exit, &running)
	stop()
	running.Wait()
	return errors.Join(err, collectorErr)
}

func (d *demoRun) greet(keep bool) {
	fate := "(removed at the end; --keep DIR keeps it)"
	if keep {
		fate = "(kept)"
	}
	fmt.Fprintf(d.out, `Heimdall demo: a collector and seven simulated stations on this machine, loopback only
  data        %s %s
  broker      %s      api  http://%s
  scene       hidden FM transmitter on 145.500 MHz, seed %d
`, d.dir, fate, d.collector.BrokerURL(), d.collector.HTTPAddr(), demo.Seed)
}

// ownCommand is how to start this program again: by the path it was started with, unless it was found in PATH.
func ownCommand(started string) string {
	if !strings.ContainsRune(started, os.PathSeparator) {
		return "heimdall-collector"
	}
	if strings.ContainsAny(started, " '\"") {
		return strconv.Quote(started)
	}
	return started
}

func (d *demoRun) say(format string, args ...any) {
	fmt.Fprintf(d.out, "[%2.0fs] %s\n", time.Since(d.began).Seconds(), fmt.Sprintf(format, args...))
}

// show starts the stations and does what the demo is for. When exit is not set it returns only once the context ends.
func (d *demoRun) show(ctx context.Context, exit bool, running *sync.WaitGroup) error {
	stations := demo.Stations()
	err := d.startAgents(ctx, stations, running)
	if err == nil {
		err = d.waitOnline(ctx, len(stations))
	}
	if err != nil {
		if ctx.Err() != nil {
			err = nil // Ctrl-C
		}
		return err
	}
	d.say("%d of %d stations online        (Aquila di Giaveno and Coazze share one published place)", len(stations), len(stations))
	failed := d.acquire(ctx)
	if ctx.Err() != nil {
		failed = nil // Ctrl-C
	}
	if exit || ctx.Err() != nil {
		return failed
	}
	if failed != nil {
		fmt.Fprintf(d.out, "failed: %v\n", failed)
	}
	host, port, err := net.SplitHostPort(strings.TrimPrefix(d.collector.BrokerURL(), "mqtt://"))
	if err != nil {
		return fmt.Errorf("read the broker's address: %w", err)
	}
	fmt.Fprintf(d.out, `Try:  curl -s '%[1]s/api/v1/measurements?limit=3'
      mosquitto_sub -h %[2]s -p %[3]s -t 'heimdall/v1/+/json/detection' | jq -c .detection
      %[4]s acquire 145.5M 2s --iq --wait --url %[1]s
Ctrl-C ends it.
`, d.remote.URL, host, port, ownCommand(os.Args[0]))
	<-ctx.Done()
	return failed
}

const demoAgentConfig = `station:
  id: %s
  name: %s
  position: {lat: %g, lon: %g, height_m: %g, publish: exact}
mqtt: {url: %q}
receivers:
  - {id: r0, source: %q, history: 16MiB, plan: [{name: 2m}]}
spool: {path: %q, limit: 256MiB}
control: {allow: [capture]}
log: {format: json}
metrics: {listen: ""}
`

func (d *demoRun) startAgents(ctx context.Context, stations []demo.Station, running *sync.WaitGroup) error {
	scene := filepath.Join(d.dir, "scene.yaml")
	if err := os.WriteFile(scene, demo.Scene(), 0o600); err != nil {
		return fmt.Errorf("write the scene: %w", err)
	}
	for _, s := range stations {
		dir := filepath.Join(d.dir, s.ID)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make a directory for station %s: %w", s.ID, err)
		}
		config := filepath.Join(dir, "agent.yaml")
		text := fmt.Sprintf(demoAgentConfig, s.ID, s.Name, s.LatitudeDeg, s.LongitudeDeg, s.HeightM, d.collector.BrokerURL(),
			"sim:"+scene+"?station="+s.ID, dir)
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			return fmt.Errorf("write the config of station %s: %w", s.ID, err)
		}
		if err := d.startAgent(ctx, s.ID, config, filepath.Join(dir, "agent.log"), running); err != nil {
			return err
		}
	}
	return nil
}

// startAgent starts one station's process; it ends with the demo, on Linux also when that is killed.
func (d *demoRun) startAgent(ctx context.Context, id, config, logPath string, running *sync.WaitGroup) error {
	log, err := os.Create(logPath)
	if err != nil {
		return fmt.Errorf("write the log of station %s: %w", id, err)
	}
	cmd := exec.CommandContext(ctx, d.agent, "run", "--config", config)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = endsWithParent()
	cmd.Cancel = func() error {
		if runtime.GOOS == "windows" {
			return cmd.Process.Kill()
		}
		return cmd.Process.Signal(syscall.SIGTERM)
	}
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		log.Close()
		return fmt.Errorf("start the agent of station %s: %w", id, err)
	}
	running.Go(func() {
		defer log.Close()
		if err := cmd.Wait(); err != nil && ctx.Err() == nil {
			text, _ := os.ReadFile(logPath) // the error itself is already worth a line
			d.say("station %s ended: %v\n%s", id, err, lastLines(text, 5))
		}
	})
	return nil
}

func lastLines(text []byte, n int) []byte {
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-n):], []byte("\n"))
}

func (d *demoRun) waitOnline(ctx context.Context, want int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		var list struct{ Items []protocol.Station }
		online := 0
		err := d.remote.call(ctx, "GET", "/api/v1/stations", nil, &list) // fails until the database is ready
		for _, s := range list.Items {
			if s.Status == "online" && len(s.Receivers) > 0 && s.Receivers[0].CenterHz > 0 {
				online++
			}
		}
		if online >= want {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d stations are online: %w; their logs are in %s", online, want, errors.Join(err, ctx.Err()), d.dir)
		case <-tick.C:
		}
	}
}

// acquire records five seconds at every station and prints what each one heard. The error says who failed.
func (d *demoRun) acquire(ctx context.Context) error {
	bandwidth := demoBandwidthHz
	d.say("acquisition 145.500 MHz, 5 s, with IQ: capturing")
	a, err := d.remote.acquire(ctx, protocol.AcquisitionRequest{FrequencyHz: demoFrequencyHz, DurationS: demoDurationS, BandwidthHz: &bandwidth, IQ: true, Label: "demo"})
	if err != nil {
		return err
	}
	a, err = d.remote.watch(ctx, a.ID, func(*protocol.Acquisition) {})
	if err != nil {
		return err
	}
	done := 0
	for _, s := range a.Stations {
		if s.State == protocol.StationDone {
			done++
		}
	}
	d.say("%s: %d of %d", a.State, done, len(a.Stations))
	if err := printAcquisition(ctx, d.out, d.remote, a); err != nil {
		return err
	}
	if done < len(demo.Stations()) {
		return fmt.Errorf("%d of %d stations are done", done, len(demo.Stations()))
	}
	return d.judge(ctx, a)
}

// judge holds the result against what the demo promises: a SNR and a recording from every station, and starts that agree
// within what the stations say of their clocks.
func (d *demoRun) judge(ctx context.Context, a *protocol.Acquisition) error {
	var starts []time.Time
	var uncertainties []time.Duration
	for _, s := range a.Stations {
		h, err := measurementOf(s)
		if err != nil {
			return err
		}
		if h.SNRDB == nil {
			return fmt.Errorf("station %s heard nothing above its floor", s.Station)
		}
		rec := new(protocol.Recording)
		if err := d.remote.call(ctx, "GET", "/api/v1/recordings/"+s.Recording, nil, rec); err != nil {
			return err
		}
		at, err := time.Parse(time.RFC3339Nano, rec.Start)
		if err != nil {
			return fmt.Errorf("start of station %s: %w", s.Station, err)
		}
		starts = append(starts, at)
		uncertainties = append(uncertainties, time.Duration(math.Ceil(rec.TimeUncertaintyS*1e9)))
	}
	for i := range starts {
		for j := range i {
			if apart := starts[i].Sub(starts[j]).Abs(); apart > uncertainties[i]+uncertainties[j] {
				return fmt.Errorf("%s and %s started %s apart, more than the %s and %s they state", a.Stations[i].Station, a.Stations[j].Station, apart, uncertainties[i], uncertainties[j])
			}
		}
	}
	return nil
}
