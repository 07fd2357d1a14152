package soak

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/fulgidus/heimdall/packaging/e2e/invariant"
	"github.com/fulgidus/heimdall/packaging/oracle"
	"github.com/fulgidus/heimdall/packaging/proxy"
)

const (
	// restWithin is how long everything may take to come to rest once the faults have ended.
	restWithin = 2 * time.Minute
	// calm is how long an agent runs before it is asked to end; ending, it delivers for 5 s more.
	calm = 4 * time.Second
)

// rest ends all faults and waits until every spool is empty, or is not going to be.
func (w *world) rest(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, restWithin)
	defer cancel()
	for _, a := range w.agents() {
		a.kill()
		a.link.Set(proxy.Faults{})
		if a.station.policy.Skewed {
			if err := os.WriteFile(a.clock, []byte("0s"), 0o600); err != nil {
				return err
			}
		}
	}
	for _, c := range w.collectors {
		c.kill()
		if err := w.startCollector(ctx, c); err != nil {
			return err
		}
	}
	var stations sync.WaitGroup
	errs := make([]error, len(w.stations))
	for i, s := range w.stations {
		stations.Go(func() {
			for _, a := range s.agents { // one after another: two of one identity throw each other out
				errs[i] = errors.Join(errs[i], w.drain(ctx, a))
			}
			for _, a := range s.agents {
				errs[i] = errors.Join(errs[i], w.drain(ctx, a))
			}
		})
	}
	stations.Wait()
	return errors.Join(errs...)
}

// startCollector starts a collector and waits until it is ready.
func (w *world) startCollector(ctx context.Context, c *collector) error {
	if err := c.start(); err != nil {
		return err
	}
	for {
		unready := get(ctx, c.api+"/readyz", func(io.Reader) error { return nil })
		if unready == nil {
			return nil
		}
		if !c.running() {
			if err := c.start(); err != nil {
				return err
			}
		}
		if !wait(ctx, 100*time.Millisecond) {
			return fmt.Errorf("%s is not ready though nothing ails it: %w", c.name, unready)
		}
	}
}

// ran tells whether an agent ever had a spool.
func (a *agent) ran() bool {
	_, err := os.Stat(filepath.Join(a.state, "spool.db"))
	return err == nil
}

// drain lets an agent run until its spool is empty.
func (w *world) drain(ctx context.Context, a *agent) error {
	if !a.ran() {
		return nil
	}
	for {
		if err := a.start(); err != nil {
			return err
		}
		wait(ctx, calm)
		if !a.running() {
			w.violate("%s ended by itself though nothing ailed it: %s", a.name, a.lastWords())
			return nil
		}
		if !a.stop(30 * time.Second) {
			w.violate("%s did not end within 30 s of SIGTERM: %s", a.name, a.lastWords())
		}
		held, err := invariant.LoadSpool(a.state)
		if err != nil {
			return err
		}
		end, _ := ctx.Deadline() // which rest has set
		late := time.Now().After(end)
		if late && len(held) > 0 {
			w.violate("%s still holds %d records %v after the last fault", a.name, len(held), restWithin)
		}
		if late || len(held) == 0 {
			return nil
		}
	}
}

// known gathers all that the judge needs.
func (w *world) known(ctx context.Context) (invariant.World, error) {
	var known invariant.World
	var err error
	if known.Database, err = invariant.LoadDatabase(ctx, w.databaseURL()); err != nil {
		return known, err
	}
	known.Acks = w.acks.all()
	for _, s := range w.stations {
		judged := invariant.Station{ID: s.id, Policy: s.policy, Damages: s.damages}
		for _, a := range s.agents {
			log, err := oracle.ReadFile(a.oracle)
			if err != nil {
				return known, err
			}
			agent := invariant.Agent{Log: log}
			if a.ran() {
				if agent.Held, err = invariant.LoadSpool(a.state); err != nil {
					return known, err
				}
			}
			judged.Agents = append(judged.Agents, agent)
		}
		known.Stations = append(known.Stations, judged)
	}
	return known, nil
}

// verify asks the collector's own proof.
func (w *world) verify(ctx context.Context) {
	c := w.collectors[0]
	out, err := exec.CommandContext(ctx, c.path, "verify", "--final", "--json", "--config", c.args[2]).Output()
	judged := map[string]bool{}
	for _, s := range w.stations {
		judged[s.id] = true
	}
	lines := 0
	for decoder := json.NewDecoder(bytes.NewReader(out)); decoder.More(); {
		var v struct {
			Station            string
			Missing, Duplicate uint64
		}
		if err := decoder.Decode(&v); err != nil {
			w.violate("verify: %v", err)
			return
		}
		lines++
		if judged[v.Station] && v.Missing+v.Duplicate > 0 {
			w.violate("verify: %s: missing %d, duplicate %d", v.Station, v.Missing, v.Duplicate)
		}
	}
	if lines == 0 {
		w.violate("verify proves nothing: %v", err)
	}
}

// checkLogs looks for what no log may hold.
func (w *world) checkLogs() {
	children := map[string]string{}
	for _, a := range w.agents() {
		children[a.name] = a.log
	}
	for _, c := range w.collectors {
		children[c.name] = c.log
	}
	for name, path := range children {
		f, err := os.Open(path)
		if err != nil {
			continue // it never ran
		}
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			line := lines.Text()
			for _, bad := range []string{"panic:", "fatal error:", "DATA RACE"} {
				if strings.HasPrefix(line, bad) || bad == "DATA RACE" && strings.Contains(line, bad) {
					w.violate("%s: %s", name, fmt.Sprintf("%.200s", line))
				}
			}
		}
		f.Close()
	}
}
