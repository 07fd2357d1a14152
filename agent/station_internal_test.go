package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/agent/clock"
	"github.com/fulgidus/heimdall/protocol"
)

// sky has one receiver and one carrier 20 kHz beside the middle of what it hears: 37 dBm, less 20·log10(4π·1.5 km·145.5 MHz/c)
// = 79.2 dB, plus 20, is -22 dBFS. The noise of 240 kHz is at -95 + 53.8 = -41 dBFS.
const sky = `
seed: 3
epoch: 2020-01-01T00:00:00Z
noise: {floor_dbfs_hz: -95}
path: {model: free_space, reference_dbfs: 20}
stations:
  torino: {position: [45, 7, 250], clock: {sigma_s: 40e-9}, rate: 240k}
emitters:
  - {id: carrier, position: [45.0135, 7, 250], center: 145.52M, modulation: {kind: tone}, power_dbm: 37}
`

const (
	skyCenterHz = 145.5e6
	skyRateHz   = 240e3
)

// site is a configuration on disk with a scene beside it.
type site struct {
	config string
	state  string
}

// newSite writes a configuration with a simulated receiver; more are further lines of it.
func newSite(t *testing.T, more string) site {
	t.Helper()
	dir := t.TempDir()
	s := site{config: filepath.Join(dir, "agent.yaml"), state: filepath.Join(dir, "state")}
	write(t, filepath.Join(dir, "sky.yaml"), sky)
	write(t, s.config, fmt.Sprintf(`station: {id: torino, name: Torino, position: {lat: 45, lon: 7, publish: exact}}
receivers: [{id: r0, source: "sim:%s?station=torino&center=145.5M", fft: 1024, history: 4MiB, measurement: {every: 100ms}, spectrum: {every: 200ms}}]
spool: {path: %q, limit: 16MiB}
%s`, filepath.Join(dir, "sky.yaml"), s.state, more))
	return s
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s site) load(t *testing.T) Config {
	t.Helper()
	cfg, err := LoadConfig(s.config)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// open makes an agent that does not run yet.
func (s site) open(t *testing.T) *Agent {
	t.Helper()
	return s.openWith(t, clock.New(clock.Config{}))
}

// openWith makes one with a clock as given.
func (s site) openWith(t *testing.T, c *clock.Clock) *Agent {
	t.Helper()
	a, err := openAgent(t.Context(), s.load(t), "test", c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// start runs an agent until the test, or an earlier call of stop, ends it.
func (s site) start(t *testing.T) (a *Agent, stop func()) {
	t.Helper()
	return s.startWith(t, clock.New(clock.Config{}))
}

func (s site) startWith(t *testing.T, c *clock.Clock) (a *Agent, stop func()) {
	t.Helper()
	a = s.openWith(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1) // one value
	go func() { ended <- a.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(stop)
	return a, stop
}

// hears waits until the station's receiver is connected and measured.
func (s site) hears(t *testing.T) status {
	t.Helper()
	var st status
	eventually(t, "the receiver is measured", func() error {
		var err error
		if st, err = askStatus(t.Context(), s.state); err != nil {
			return err
		}
		if st.State.Receivers["r0"].Steps["all"].SNRDB == nil {
			return fmt.Errorf("state %+v", st.State)
		}
		return nil
	})
	return st
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() error) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := holds()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("it does not come to hold that %s: %v", what, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// records takes every record that waits in the spool of a stopped agent, by kind.
func (s site) records(t *testing.T) map[protocol.Kind][]*protocol.Record {
	t.Helper()
	a := s.open(t)
	defer a.Close()
	byKind := map[protocol.Kind][]*protocol.Record{}
	for range a.spool.Stats().Records {
		item, err := a.spool.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		r, err := protocol.Decode(protocol.Seal(item.Payload, item.Spool, item.Seq))
		if err != nil {
			t.Fatal(err)
		}
		byKind[item.Kind] = append(byKind[item.Kind], r)
	}
	return byKind
}

// command is what every command's Run looks like.
type command interface {
	Run(ctx context.Context, s streams) error
}

// output runs a command to its end and gives what it wrote to standard output.
func output(t *testing.T, c command) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := c.Run(t.Context(), streams{out: &out, err: io.Discard})
	return out.String(), err
}

// linesOf decodes JSON lines.
func linesOf[T any](t *testing.T, text string) []T {
	t.Helper()
	var all []T
	for line := range strings.Lines(text) {
		var v T
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		all = append(all, v)
	}
	return all
}
