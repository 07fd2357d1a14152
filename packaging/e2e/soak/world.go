package soak

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/fulgidus/heimdall/packaging/e2e/invariant"
	"github.com/fulgidus/heimdall/packaging/proxy"
	"github.com/fulgidus/heimdall/packaging/servers"
)

// world is everything that runs.
type world struct {
	options    Options
	dir        string
	log        *slog.Logger
	broker     *servers.Broker
	database   *servers.Cluster
	objects    *servers.ObjectStore
	collectors []*collector
	stations   []*station
	mounted    []string
	acks       *ackWatcher

	agentPlaces, collectorPlaces []string

	mu         sync.Mutex // guards all below
	counts     map[string]int
	violations []string
}

// station is one that is judged, with its agents.
type station struct {
	id      string
	policy  invariant.Policy
	agents  []*agent
	damages []invariant.Damage // its one actor adds to them
}

// agent is one state directory, and the program that uses it.
type agent struct {
	child
	station *station
	state   string // its directory
	oracle  string
	clock   string // file with the offset of its clock
	link    *proxy.Proxy
	mu      sync.Mutex // held through each life: whoever has it finds the state directory unused
}

// collector is one of two that share the work.
type collector struct {
	child
	api string
}

func (w *world) count(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[what]++
}

// happened tells whether something was counted.
func (w *world) happened(what string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.counts[what] > 0
}

// violate notes a broken promise that only the run itself can see.
func (w *world) violate(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.log.Error("promise broken", "what", text)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.violations = append(w.violations, text)
}

func (w *world) sub(names ...string) (string, error) {
	dir := filepath.Join(append([]string{w.dir}, names...)...)
	return dir, os.MkdirAll(dir, 0o755) // PostgreSQL runs as another account
}

// open builds the programs and starts everything.
func (w *world) open(ctx context.Context) (err error) {
	if err := os.Chmod(w.dir, 0o755); err != nil {
		return err
	}
	if err := w.build(ctx); err != nil {
		return err
	}
	if err := w.openServers(ctx); err != nil {
		return err
	}
	for i := range 2 {
		if err := w.addCollector(i); err != nil {
			return err
		}
	}
	if err := w.addStations(); err != nil {
		return err
	}
	// The first collector makes the tables before anybody looks for them.
	if out, err := exec.CommandContext(ctx, w.collectors[0].path, "migrate", "--config", w.collectors[0].args[2]).CombinedOutput(); err != nil {
		return fmt.Errorf("migrate: %w: %s", err, out)
	}
	w.acks, err = watchAcks(w)
	return err
}

func (w *world) build(ctx context.Context) error {
	bin, err := w.sub("bin")
	if err != nil {
		return err
	}
	for _, name := range []string{"agent", "collector"} {
		cmd := exec.CommandContext(ctx, "go", "build", "-tags", "faults", "-o", filepath.Join(bin, "heimdall-"+name), "./"+name)
		cmd.Dir = w.options.Module
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build the %s: %w: %s", name, err, out)
		}
	}
	if w.agentPlaces, err = failpoints(filepath.Join(w.options.Module, "agent")); err != nil {
		return err
	}
	w.collectorPlaces, err = failpoints(filepath.Join(w.options.Module, "collector"))
	return err
}

func (w *world) openServers(ctx context.Context) error {
	mosquitto, err := w.sub("mosquitto")
	if err != nil {
		return err
	}
	if w.broker, err = servers.StartMosquitto(ctx, mosquitto); err != nil {
		return err
	}
	postgres, err := w.sub("postgres")
	if err != nil {
		return err
	}
	if w.database, err = servers.StartPostgres(ctx, postgres); err != nil {
		return err
	}
	if err := w.database.SQL(ctx, "create database soak"); err != nil {
		return err
	}
	minio, err := w.sub("minio")
	if err != nil {
		return err
	}
	w.objects, err = servers.StartMinIO(ctx, minio)
	return err
}

func (w *world) databaseURL() string { return w.database.URL("soak") }

func (w *world) addCollector(i int) error {
	name := fmt.Sprintf("collector-%d", i)
	dir, err := w.sub(name)
	if err != nil {
		return err
	}
	listen, err := freeAddress()
	if err != nil {
		return err
	}
	config := filepath.Join(dir, "collector.yaml")
	text := fmt.Sprintf(`
id: soak-%d
data: %s
mqtt: {url: %q}
store: {url: %q}
archive: {url: %q, access_key: %s, secret_key: %s}
http: {listen: %q}
`, i, dir, w.broker.URL, w.databaseURL(), w.objects.URL, w.objects.AccessKey, w.objects.SecretKey, listen)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	w.collectors = append(w.collectors, &collector{
		child: child{
			name: name, path: filepath.Join(w.dir, "bin", "heimdall-collector"), args: []string{"run", "--config", config},
			log: filepath.Join(dir, "log"),
		},
		api: "http://" + listen,
	})
	return nil
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// addStations makes the stations that the chosen faults need. Each has its own name for what may befall it.
func (w *world) addStations() error {
	type plan struct {
		id     string
		policy invariant.Policy
		more   string // configuration
		limit  string
		agents int
		radios int // 0: one
		tmpfs  bool
		wanted bool
	}
	o := w.options
	const usual = "fft: 1024, measurement: {every: 20ms}, spectrum: {every: 300ms, bins: 256}"
	// Two receivers of this kind fill a small spool in 15 s.
	const dense = "fft: 1024, measurement: {every: 10ms}, spectrum: {every: 10ms, bins: 1024}"
	for _, p := range []plan{
		{id: "clean-1", more: usual, limit: "64MiB", agents: 1, wanted: true},
		{id: "clean-2", more: usual, limit: "64MiB", agents: 1, wanted: true},
		{id: "captures", more: usual, limit: "64MiB", agents: 1, wanted: o.has("captures")},
		{id: "skewed", policy: invariant.Policy{Skewed: true}, more: usual, limit: "64MiB", agents: 1, wanted: o.has("clock")},
		{id: "quota", policy: invariant.Policy{Full: true}, more: dense, limit: "1MiB", agents: 1, radios: 2, wanted: o.has("full")},
		{id: "disk", policy: invariant.Policy{Full: true}, more: usual, limit: "3MiB", agents: 1, tmpfs: true, wanted: o.has("full") && canMount()},
		{id: "damaged", policy: invariant.Policy{Damaged: true}, more: usual, limit: "64MiB", agents: 1, wanted: o.has("damage")},
		{id: "cloned", policy: invariant.Policy{Cloned: true}, more: usual, limit: "64MiB", agents: 2, wanted: o.has("clone")},
	} {
		if !p.wanted {
			continue
		}
		s := &station{id: p.id, policy: p.policy}
		w.stations = append(w.stations, s)
		for i := range p.agents {
			if err := w.addAgent(s, i, max(p.radios, 1), p.more, p.limit, p.tmpfs); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *world) addAgent(s *station, i, radios int, more, limit string, tmpfs bool) error {
	name := fmt.Sprintf("%s-%d", s.id, i)
	dir, err := w.sub(name)
	if err != nil {
		return err
	}
	state, err := w.sub(name, "state")
	if err != nil {
		return err
	}
	if tmpfs {
		if err := mountDisk(state, diskBytes); err != nil {
			return fmt.Errorf("mount a small disk: %w", err)
		}
		w.mounted = append(w.mounted, state)
	}
	a := &agent{station: s, state: state, oracle: filepath.Join(dir, "oracle"), clock: filepath.Join(dir, "clock")}
	if a.link, err = proxy.New(w.broker.Addr, w.options.Seed); err != nil {
		return err
	}
	config := filepath.Join(dir, "agent.yaml")
	keep := "0s" // what a spool still holds is then what it owes
	switch {
	case s.id == "clean-2" || s.policy.Cloned:
		keep = "1h"
	case s.id == "captures":
		keep = "1s"
	}
	scene, err := filepath.Abs(filepath.Join(w.options.Module, "packaging", "e2e", "scene.yaml"))
	if err != nil {
		return err
	}
	var receivers []string
	for r := range radios {
		receivers = append(receivers, fmt.Sprintf(`{id: r%d, source: "sim:%s?station=%s", history: 1MiB, %s}`,
			r, scene, []string{"north", "south"}[(i+r)%2], more))
	}
	text := fmt.Sprintf(`
station: {id: %s, position: {lat: 47.1721, lon: 8.42683, publish: exact}}
mqtt: {url: "mqtt://%s"}
receivers: [%s]
spool: {path: %q, limit: %s}
delivery: {timeout: 1s, keep: %s}
control: {allow: [capture]}
`, s.id, a.link.Addr(), strings.Join(receivers, ", "), state, limit, keep)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	a.child = child{
		name: name, path: filepath.Join(w.dir, "bin", "heimdall-agent"), args: []string{"run", "--config", config},
		env: []string{"HEIMDALL_ORACLE=" + a.oracle, "HEIMDALL_CLOCK_OFFSET_FILE=" + a.clock}, log: filepath.Join(dir, "log"),
	}
	s.agents = append(s.agents, a)
	return nil
}

// diskBytes is the size of the small disk.
const diskBytes = 16 << 20

// agents are those of all stations.
func (w *world) agents() []*agent {
	var all []*agent
	for _, s := range w.stations {
		all = append(all, s.agents...)
	}
	return all
}

// close ends everything.
func (w *world) close() error {
	for _, a := range w.agents() {
		a.kill()
		a.link.Close()
	}
	for _, c := range w.collectors {
		c.kill()
	}
	if w.acks != nil {
		w.acks.close()
	}
	var errs []error
	for _, path := range w.mounted {
		errs = append(errs, w.keepMounted(path))
	}
	if w.broker != nil {
		w.broker.Stop()
	}
	if w.database != nil {
		w.database.Stop()
	}
	if w.objects != nil {
		w.objects.Stop()
	}
	return errors.Join(errs...)
}

// keepMounted copies what a small disk holds to where it was mounted.
func (w *world) keepMounted(path string) error {
	kept := path + ".kept"
	err := copyState(path, kept)
	err = errors.Join(err, unmountDisk(path))
	return errors.Join(err, os.RemoveAll(path), os.Rename(kept, path))
}
